"""What Ceph reads at its start: one configuration for all three daemons, and a key for each.

Every path in it is relative to the state directory, which the daemons run in: Ceph's configuration has
its own ideas about ``$``, ``#``, ``;`` and blanks, and a home directory may hold any of them.
"""

from __future__ import annotations

import base64
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from djops.systems.ports import HOST

ACCOUNT_ID = "RGW00000000000000001"
"""The one account of the lab's object store; part of every IAM ARN in it."""

PROGRAMS = "programs"
"""In the state directory: a symbolic link to where the packages are unpacked."""

# Below the range that djops promises ports from: the block store takes four free ones at each start.
_OSD_PORTS = (10000, 14999)

_CONFIGURATION = """\
# Written by djops at every start: changes are lost.
[global]
mon_host = v2:{host}:{mon}
public_addr = {host}
cluster_addr = {host}
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_port_min = {osd_first}
ms_bind_port_max = {osd_last}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = data/$name.keyring
mon_data = data/mon
osd_data = data/osd
run_dir = run
crash_dir = run
log_file =
admin_socket =
pid_file =
plugin_dir = {programs}/ceph
erasure_code_dir = {programs}/ceph/erasure-code
osd_class_dir = {programs}/rados-classes
osd_erasure_code_plugins =

# The key-value store would write 600 kB of its settings at each start.
debug_rocksdb = 0/0
debug_mon = 0/5
debug_rgw = 0/5
debug_rgw_access = 0/0
debug_bluestore = 0/1
debug_bdev = 0/1
debug_bluefs = 0/1
mon_cluster_log_to_file = false

# One copy of everything, on one block store: this is one person's machine.
osd_objectstore = bluestore
# The catalogue's room is taken beforehand and the journal kept small, so that neither leaves it.
bluestore_volume_selection_policy = fit_to_fast
bluestore_rocksdb_options_annex = max_total_wal_size=134217728
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 1
mon_data_avail_crit = 1
osd_memory_target = 939524096
osd_crush_update_on_start = true
osd_class_update_on_start = false
osd_numa_auto_affinity = false
# The other scheduler writes 400 MB at its first start to find out how fast the disk is.
osd_op_queue = wpq

# Decisions that a cluster takes its time for are taken at once.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_client_hunt_interval = 0.3
mon_client_ping_interval = 2
osd_mon_report_interval = 1
# A gateway that was killed holds up the next change of a user or policy for this long, instead of 30 s.
osd_client_watch_timeout = 4
objecter_tick_interval = 1

[client.rgw]
rgw_frontends = beast endpoint={host}:{http} ssl_endpoint={host}:{https} \
ssl_certificate=../tls/server.pem ssl_private_key=../tls/server.key tcp_nodelay=1
rgw_enable_apis = s3, iam
rgw_data = run
rgw_dns_name = localhost
rgw_thread_pool_size = 32
# Without it a background thread of no use here keeps the gateway from ending for 20 to 30 s.
rgw_exit_timeout_secs = 1
"""

# Types and lengths of keys as Ceph 20 makes them: AES-256.
_KEY_TYPE, _KEY_BYTES = 2, 32
_RIGHTS: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
}


OPS_LOG = "log/ops.log"
"""The gateway's record of requests, below the state directory; kept once it was switched on."""

_OPS = f"""
# Who asked for what, and what came of it: one JSON object for each request.
rgw_enable_ops_log = true
rgw_ops_log_rados = false
rgw_ops_log_file_path = {OPS_LOG}
"""


def configuration(ports: Mapping[str, int], libraries: Path, *, ops_log: bool = False) -> str:
    """Return the text of ``ceph.conf``.

    Args:
        ports: Ports of the monitor (``s3_mon``) and of the gateway (``s3``, ``s3_tls``).
        libraries: The library directory of the programs, relative to the state directory.
        ops_log: Whether the gateway writes down every request.
    """
    text = _CONFIGURATION.format(
        host=HOST,
        mon=ports["s3_mon"],
        http=ports["s3"],
        https=ports["s3_tls"],
        osd_first=_OSD_PORTS[0],
        osd_last=_OSD_PORTS[1],
        programs=libraries,
    )
    return text + _OPS if ops_log else text


def keyrings() -> dict[str, str]:
    """Make a new key for every daemon.

    Returns:
        The text of each keyring by the name of its file; ``first.keyring`` tells the monitor of them all.
    """
    rings = {name: _ring(name, rights) for name, rights in _RIGHTS.items()}
    return {
        "first.keyring": "".join(rings.values()),
        **{f"{name}.keyring": ring for name, ring in rings.items() if name != "mon."},
    }


def _ring(name: str, rights: Mapping[str, str]) -> str:
    key = struct.pack("<HIIH", _KEY_TYPE, int(time.time()), 0, _KEY_BYTES) + os.urandom(_KEY_BYTES)
    lines = [f"[{name}]", f"\tkey = {base64.b64encode(key).decode()}"]
    lines += [f'\tcaps {service} = "{right}"' for service, right in rights.items()]
    return "\n".join(lines) + "\n"
