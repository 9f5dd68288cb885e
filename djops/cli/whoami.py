"""``djops whoami``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common

if TYPE_CHECKING:
    from djops.services.checkup import Identity


@click.command()
@common.options
def command(out: common.Output) -> None:
    """Tell who you are to the servers, from the directory in which you start your DataJoint client.

    It starts the installed client here (or where -C says) and shows which files it reads, the account and
    roles that the server takes it for, and what the server itself says that they may do. It needs no
    djops.yaml.

    Exit status: 0 done, 1 error, 2 the database or a store cannot be used.
    """
    from djops.services import checkup

    identity = checkup.identify(out.directory)
    view = identity.view
    works = view.failure is None and not view.store_failures
    out.emit(_data(identity), lambda: _text(identity), findings=not works)


def _data(identity: Identity) -> dict[str, object]:
    view = identity.view
    return {
        "directory": Path(identity.directory).resolve(),
        "settings": identity.settings,
        "client": view.version,
        "account": view.account or None,
        "server": view.server or None,
        "tls": view.tls or None,
        "roles": list(view.roles),
        "may": {schema: sorted(held) for schema, held in identity.may.items()},
        "powers": sorted(identity.powers),
        "stores": {name: dict(place) for name, place in view.stores.items()},
        "failure": view.failure,
        "store_failures": dict(view.store_failures),
    }


def _text(identity: Identity) -> str:
    from djops.report.table import table

    view = identity.view
    rows: list[tuple[str, str | None]] = [
        ("client", f"DataJoint {view.version}" if view.version else "cannot be started"),
        (
            "settings",
            str(identity.settings) if identity.settings else "none: no datajoint.json here or above",
        ),
    ]
    if view.failure is not None:
        rows.append(("database", f"cannot be used: {view.failure.text}"))
    else:
        rows += [("account", view.account), ("server", f"MySQL on {view.server}")]
        rows += [("encrypted", view.tls or "NO"), ("roles", ", ".join(view.roles) or "none")]
    rows += [
        ("store", f"{name}: {place['bucket']} at {place['endpoint']}") for name, place in view.stores.items()
    ]
    rows += [("store", f"{name}: cannot be used: {one.kind}") for name, one in view.store_failures.items()]
    may = [(schema, ", ".join(sorted(held))) for schema, held in sorted(identity.may.items())]
    told = f"\n\n{table(('schema', 'you may'), may)}" if may else ""
    return table((), rows) + told
