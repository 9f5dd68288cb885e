#!/bin/bash
# Sets up OpenBao when its instance is made. $$ is a dollar for the shell; one alone is filled in by Pulumi.
set -euo pipefail
umask 077
export AWS_DEFAULT_REGION=$region

# The data disk: attached a little later than the instance starts; formatted once, mounted ever after.
for _ in $$(seq 120); do [[ -b /dev/sdf ]] && break; sleep 2; done
blkid /dev/sdf || mkfs.xfs -L openbao /dev/sdf
mkdir -p /var/lib/openbao
grep -q LABEL=openbao /etc/fstab || echo 'LABEL=openbao /var/lib/openbao xfs defaults,nofail 0 2' >>/etc/fstab
mount -a

# The program, if it is the one that was meant.
curl -fsSL --retry 5 -o /root/openbao.rpm '$url'
echo '$sha256  /root/openbao.rpm' | sha256sum --check --quiet
dnf install -y -q /root/openbao.rpm

# A certificate of its own authority, kept on the disk so that clients need not learn a new one.
tls=/var/lib/openbao/tls
name=$$(hostname -f)
if [[ ! -e $$tls/server.pem ]]; then
    mkdir -p $$tls
    openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj '/CN=djops secrets CA' \
        -keyout $$tls/ca.key -out $$tls/ca.pem
fi
openssl req -newkey rsa:3072 -nodes -subj "/CN=$$name" -keyout $$tls/server.key -out /root/server.csr
openssl x509 -req -in /root/server.csr -CA $$tls/ca.pem -CAkey $$tls/ca.key -CAcreateserial -days 825 \
    -extfile <(echo "subjectAltName=DNS:$$name,DNS:localhost,IP:127.0.0.1") -out $$tls/server.pem
mkdir -p /var/lib/openbao/raft
cat >/etc/openbao/openbao.hcl <<HCL
storage "raft" {
  path    = "/var/lib/openbao/raft"
  node_id = "one"
}
listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "$$tls/server.pem"
  tls_key_file  = "$$tls/server.key"
}
seal "awskms" {
  region     = "$region"
  kms_key_id = "$key"
}
audit "file" "main" {
  options {
    file_path = "/var/lib/openbao/audit.log"
    mode      = "0600"
    # Lists of all policies and people would fill the disk without telling who did what.
    elide_list_responses = "true"
  }
}
api_addr     = "https://$$name:8200"
cluster_addr = "https://127.0.0.1:8201"
HCL
chown -R openbao:openbao /var/lib/openbao /etc/openbao
systemctl enable --now openbao

# First start ever: make the root token and the recovery key, and hand them to Secrets Manager.
export BAO_ADDR=https://127.0.0.1:8200 BAO_CACERT=$$tls/ca.pem
for _ in $$(seq 60); do code=0; bao operator init -status || code=$$?; [[ $$code -ne 1 ]] && break; sleep 2; done
if [[ $$code -eq 2 ]]; then
    bao operator init -recovery-shares=1 -recovery-threshold=1 -format=json >/root/init.json
    aws secretsmanager put-secret-value --secret-id '$secret' --secret-string file:///root/init.json >/dev/null
    shred -u /root/init.json
fi
aws ssm put-parameter --name '$parameter' --type String --overwrite --value "$$(cat $$tls/ca.pem)" >/dev/null
