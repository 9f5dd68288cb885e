"""``djops secrets``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from djops.services.machines import AppRoleLogin
    from djops.services.secrets_audit import SecretsAudit
    from djops.systems.connections import Secret

_COLOURS = {"high": "red", "medium": "yellow", "low": "yellow", "note": "dim"}


@click.group(cls=common.Group)
def command() -> None:
    """Judge, mend, save and restore what the secrets server keeps."""


@command.command("audit")
@click.option(
    "--max-age",
    type=click.IntRange(min=1),
    metavar="DAYS",
    help="Days after which a password or key is stale; otherwise those of audit.yaml, or 365.",
)
@common.options
def audit(out: common.Output, max_age: int | None) -> None:
    """Find secrets that are missing, stale, shared, weak, unused, or open to more than their owner.

    Each finding comes with the command that mends it. Secrets are compared in memory; none is shown. What
    the servers do not tell is listed, so that silence is not taken for an answer.

    Exit status: 0 nothing asks for attention, 1 error, 2 findings.
    """
    from djops.services import access, project, secrets_audit

    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        out.progress.step("Looking at secrets"),
    ):
        found = secrets_audit.audit(servers, wanted, max_age=max_age)
    data = {"findings": found.findings, "looked_at": found.looked_at, "not_told": found.not_told}
    out.emit(data, lambda: _audit_text(out, found), findings=found.asks_attention)


def _audit_text(out: common.Output, found: SecretsAudit) -> str:
    from djops.report.table import colour

    lines = [
        colour(one.severity, _COLOURS[one.severity], on=out.coloured)
        + f" [{one.kind}] {one.who}: {one.text}\n  -> {one.mend}"
        for one in found.findings
    ]
    lines.append(f"{found.looked_at} secrets were looked at; {len(found.findings)} findings.")
    lines += [f"not known: {one}" for one in found.not_told]
    return "\n".join(lines)


@command.command("login")
@click.argument("who")
@click.argument("source", required=False, metavar="[-|FILE]")
@common.changing
def login(out: common.Output, who: str, source: str | None) -> None:
    """Let WHO log in to the secrets server, with a password that WHO chooses.

    For secrets servers of djops' own, a local lab's or in the cloud, with `login: {method: userpass}`:
    WHO fetches her own secrets with it, and nothing else, by `djops welcome --login`, whenever they were
    replaced. The password is asked for twice on the terminal, or read from standard input (-) or from a FILE;
    it cannot stand in the command line. Who leaves the project loses the log-in.

    Exit status: 0 done, 1 error.
    """
    from djops.services import access, people_logins, project

    password = _typed(source)
    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        servers.changing("secrets login", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        people_logins.set_login(servers, wanted, who, password, out.reason)
    out.emit({"who": who}, f"{who} may log in: `djops welcome --login`")


def _typed(source: str | None) -> Secret:
    from djops.systems.connections import Secret

    if source is not None and source != "-":
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise UsageError(f"the password cannot be read: {reason}") from None
    elif source == "-" or not sys.stdin.isatty():
        text = sys.stdin.readline()
    else:
        text = click.prompt(
            "New password (it is not shown)", hide_input=True, confirmation_prompt=True, err=True
        )
    return Secret(text.strip())


@command.command("sync")
@common.changing
def sync(out: common.Output) -> None:
    """Bring the secrets server and the servers together: passwords, keys and policies, and nothing else.

    It is the part of `djops plan` that is about secrets; rights, and accounts that are not there at all, are
    left to `djops apply`.

    Exit status: 0 done, 1 error.
    """
    from djops.report import changes
    from djops.services import access, project, secrets_sync

    with (
        access.opened(project.load(out.project_file), out.environment) as (servers, wanted),
        servers.changing("secrets sync", out.lock_wait, reason=out.reason, progress=out.progress),
    ):
        found = secrets_sync.make_plan(servers, wanted)
        plan = found.plan
        text = (
            changes.plan_text(plan, coloured=out.coloured)
            if plan.changes
            else "Nothing about secrets differs."
        )
        out.emit({**changes.plan_data(plan), "left": found.left}, text)
        if plan.changes:
            out.confirm("Carry this out?", action="the sync")
        applied = access.apply(servers, plan, out.progress)
        done = f"Done: {changes.summary(applied.done)}" if applied.done else ""
        out.emit({"applied": len(applied.done)}, done)
    if found.left:
        out.remark(f"{found.left} other changes are left to `djops apply`")


@command.command("approle")
@click.argument("service")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write role-id and secret-id there, readable by their owner only.",
)
@click.option(
    "--wrap-ttl",
    "seconds",
    type=click.IntRange(min=1, max=86400),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Without --to: how long the token is good for.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; stands in the journal.")
@common.options
def approle(out: common.Output, service: str, directory: Path | None, seconds: int, reason: str) -> None:
    """Hand out what SERVICE logs in to the secrets server with.

    Its role id, and a new secret id: in files, or behind a token that gives it out once. Secret ids that were
    handed out before stay good until their time is over. How long that is, how often one may be used, and
    from where, stands in djops.yaml, at `services: SERVICE: approle:`.

    Exit status: 0 done, 1 error.
    """
    from djops.services import machines
    from djops.services.site import open_site

    site = open_site(out.project_file, out.environment)
    found = machines.hand_out(site, service, directory=directory, seconds=seconds, reason=reason)
    token = found.wrapped.token.reveal() if found.wrapped else None
    data = {
        "service": found.service,
        "address": found.address,
        "role_id": found.role_id,
        "reads": found.reads,
        "wrapped_secret_id": token,
        "files": [str(path) for path in found.files],
    }
    out.emit(data, _approle_text(found, token, seconds))


def _approle_text(found: AppRoleLogin, token: str | None, seconds: int) -> str:
    if token is None:
        lines = [str(path) for path in found.files]
    else:
        lines = [f"role id:            {found.role_id}", f"wrapped secret id:  {token}"]
        lines.append(f"The token gives the secret id out once, within {seconds} s:")
        lines.append("  bao unwrap -field=secret_id    # with the token in BAO_TOKEN")
    lines.append(f"After its log-in at {found.address} {found.service} reads:")
    return "\n".join([*lines, *(f"  {path}" for path in found.reads)])


@command.command("export")
@click.option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The file to write; it must not exist.",
)
@click.option("--age", metavar="RECIPIENT", help="Encrypt for this age key: age1..., or an SSH public key.")
@click.option(
    "--gpg", metavar="KEY", help="Encrypt for this key of your GnuPG keyring; best its fingerprint."
)
@common.changing
def export(out: common.Output, file: Path, age: str | None, gpg: str | None) -> None:
    """Save everything the project has on the secrets server in one file, encrypted for a named key.

    People's and services' secrets, the roots that `djops rotate --root` moved there, and the policies.
    Nothing plain is written anywhere. Keep the file, and the private key, elsewhere than the secrets server's
    disk.

    Exit status: 0 done, 1 error.
    """
    from djops.services import project, secrets_export
    from djops.services.site import open_site

    if (age is None) == (gpg is None):
        raise UsageError("an export is encrypted for one key", hint="give --age RECIPIENT or --gpg KEY")
    project.load(out.project_file)
    site = open_site(out.project_file, out.environment)
    method: secrets_export.Method = "age" if age is not None else "gpg"
    key = age or gpg or ""
    out.confirm(
        f"Write all secrets of {site.project.project!r}, for {method} key {key}?", action="the export"
    )
    done = secrets_export.export(site, file, method, key, lock_wait=out.lock_wait, reason=out.reason)
    out.emit({"exported": done}, f"{done.file}: {done.secrets} secrets and {done.policies} policies")
    if done.beside_data:
        out.remark("that file lies beside the data whose loss it is for: take it to another disk")


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--identity",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File of the age or SSH private key; GnuPG finds its own.",
)
@click.option("--overwrite", is_flag=True, help="Replace other secrets that are there.")
@common.changing
def restore(out: common.Output, file: Path, identity: Path | None, overwrite: bool) -> None:
    """Bring an export back, to a fresh secrets server for one; afterwards `djops plan` is empty.

    What was renewed after the export is not in it: `djops plan` then makes those anew.

    Exit status: 0 done, 1 error.
    """
    from djops.services import project, secrets_export
    from djops.services.site import open_site

    project.load(out.project_file)
    site = open_site(out.project_file, out.environment)
    found = secrets_export.open_export(site, file, identity)
    out.emit(
        {"made": found.made, "environment": found.environment, "secrets": sorted(found.secrets)},
        f"{len(found.secrets)} secrets and {len(found.policies)} policies of {found.project!r}, "
        f"environment {found.environment!r}, from {found.made}",
    )
    out.confirm("Write them to the secrets server?", action="the import")
    done = secrets_export.restore(
        site, found, overwrite=overwrite, lock_wait=out.lock_wait, reason=out.reason
    )
    wrote = f"{len(done.written)} secrets and {len(done.policies)} policies written"
    out.emit({"imported": done}, f"Done: {wrote}, {len(done.same)} secrets as before")
