"""The script that sets up log-ins: everything quoted, nothing secret in it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from djops.compile.login import login_script
from djops.model.project import Login

LDAP = {
    "method": "ldap",
    "url": "ldap://ldap.example.org",
    "ca": "my ca.pem",
    "bind_dn": "cn=the reader,dc=example,dc=org",
    "bind_password": {"env": "LDAP_PASSWORD"},
    "user_dn": "ou=people,dc=example,dc=org",
    "group_dn": "ou=groups,dc=example,dc=org; rm -rf /",
}


def test_ldap() -> None:
    script = login_script("lab", Login.model_validate(LDAP))
    assert 'path "djops/data/lab/people/{{identity.entity.aliases.$ACCESSOR.name}}"' in script
    for line in (
        "bao auth enable -path=ldap ldap\n",
        "starttls=true", "certificate=@'my ca.pem'", "binddn='cn=the reader,dc=example,dc=org'",
        'bindpass="$LDAP_PASSWORD"', "groupdn='ou=groups,dc=example,dc=org; rm -rf /'",
        "case_sensitive_names=true", "token_policies=login-lab", "token_max_ttl=1h",
    ):  # fmt: skip
        assert line in script


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "kerberos"},
        {"method": "ldap"},
        {"method": "oidc", "client_id": "x"},
        {**LDAP, "url": "http://x"},
        {**LDAP, "user_attr": "uid)(x=*"},
        {"method": "userpass", "path": "a b"},
    ],
)
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Login.model_validate(wrong)
