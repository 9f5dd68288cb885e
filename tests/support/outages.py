"""A site of which one server does not answer."""

from __future__ import annotations

from dataclasses import replace

from djops.services.site import Site, local_lab
from djops.systems.local import ceph, mysql
from djops.systems.ports import free_ports


def site_without(site: Site, system: str) -> Site:
    """Return a local lab's site with a port on which nobody listens, also for what is kept there.

    Args:
        site: The site.
        system: ``mysql``, ``s3`` or ``secrets``.
    """
    lab, port = local_lab(site.project, site.environment), free_ports(1)[0]
    assert lab is not None
    if system == "s3":
        gone = f"https://127.0.0.1:{port}"
        return replace(site, s3=replace(site.s3, admin_endpoint=gone, endpoint=gone))
    lame = replace(lab, ports={**lab.ports, system: port})
    root = mysql.root_connection(lame)
    if system == "mysql":
        return replace(site, mysql=replace(site.mysql, port=port), mysql_root=root)
    secrets = replace(site.secrets, address=f"https://127.0.0.1:{port}")
    return replace(site, secrets=secrets, mysql_root=root, s3_root=ceph.root_connection(lame))
