"""``djops onboard``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djops.plan.change import Plan
    from djops.services.onboarding import Newcomer
    from djops.services.welcome import Issued


@click.command()
@click.argument("who", required=False)
@click.argument("role", required=False)
@click.argument("on", nargs=-1)
@click.option("--email", metavar="ADDRESS", help="How to reach the person.")
@click.option(
    "--until", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="Last day on which it holds."
)
@click.option("--reason", metavar="TEXT", help="Why; stands in djops.yaml.")
@click.option(
    "--csv",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="People from a list instead of WHO.",
)
@click.option("--group", metavar="NAME", help="Everybody in a group of the lab's LDAP directory, for WHO.")
@click.option(
    "--valid", default="72h", show_default=True, metavar="TIME", help="How long a link is good for."
)
@click.option(
    "--pages",
    type=click.Path(path_type=Path, file_okay=False),
    default="welcome",
    show_default=True,
    metavar="DIR",
    help="Where the pages go, a directory for each person.",
)
@click.option(
    "--to",
    "links",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each link to DIR/NAME.link, for its owner only, instead of showing it.",
)
@click.option("--check", is_flag=True, help="Tell what became of the links that were given out.")
@common.changing
def command(
    out: common.Output,
    who: str | None,
    role: str | None,
    on: tuple[str, ...],
    email: str | None,
    until: dt.datetime | None,
    reason: str | None,
    file: Path | None,
    group: str | None,
    valid: str,
    pages: Path,
    links: Path | None,
    check: bool,
) -> None:
    """Bring WHO in: account, rights, secrets, and a welcome page with a link that gives the secrets once.

    ROLE and ON are as in `djops grant`; without them WHO gets a new page and a new link only, and links
    from before end. The page holds nothing secret; the link is shown here, or written with --to, and has
    to reach WHO another way than the page. With --csv, people come from a list with the columns name,
    role, on, email, until, reason: all of it is checked first, and carried out as one change. With --group,
    ROLE and ON stand alone, and people come from the directory that the environment's `login:` names.

    Exit status: 0 done, 1 error, 2 with --check: a link was tried after it had been used.
    """
    from djops.services import onboarding

    if check:
        return _check(out)
    if out.json and links is None:
        raise UsageError("with --json the links are not shown", hint="have them written with --to DIR")
    seconds = onboarding.parse_duration(valid)
    if group is not None:
        words = tuple(word for word in (who, role, *on) if word is not None)
        newcomers = _of_group(out, group, words, until, reason, alone=not (file or email))
    else:
        newcomers = _newcomers(who, role, on, email, until, reason, file)
    edited = onboarding.onboarding(out.project_file, newcomers)
    names = [one.name for one in newcomers]
    done = onboarding.carry_out(
        edited,
        out.environment,
        names,
        seconds,
        out.lock_wait,
        lambda plan: _ask(out, plan, edited.changed, names),
        out.progress,
        reason or "",
    )
    _hand_over(out, done.issued, pages, links)
    out.emit({"applied": len(done.applied.done)})
    return None


def _newcomers(
    who: str | None,
    role: str | None,
    on: tuple[str, ...],
    email: str | None,
    until: dt.datetime | None,
    reason: str | None,
    file: Path | None,
) -> Sequence[Newcomer]:
    from djops.model.project import Grant
    from djops.services.onboarding import Newcomer, read_list

    if file is not None:
        if who or email or until or reason:
            raise UsageError("with --csv everything about people stands in the list")
        return read_list(file)
    if who is None:
        raise UsageError("nobody is named", hint="name WHO, or a list with --csv")
    if role is None:
        if until or reason:
            raise UsageError("--until and --reason are of a role, and none is named")
        return (Newcomer(who, email),)
    if not on:
        raise UsageError(f"{role} on what?", hint="name schemas, globs such as 'dev_*', or all")
    day = until.date() if until else None
    return (Newcomer(who, email, (Grant(role=role, on=on, until=day, reason=reason),)),)


def _of_group(
    out: common.Output,
    group: str,
    words: tuple[str, ...],
    until: dt.datetime | None,
    reason: str | None,
    *,
    alone: bool,
) -> Sequence[Newcomer]:
    from djops.model.project import Grant
    from djops.services.onboarding import from_group

    if len(words) < 2 or not alone:
        hint = "djops onboard --group NAME ROLE SCHEMA..."
        raise UsageError("with --group there are a role and schemas, and nothing else", hint=hint)
    grant = Grant(role=words[0], on=words[1:], until=until.date() if until else None, reason=reason)
    return from_group(out.project_file, out.environment, group, (grant,))


def _ask(out: common.Output, plan: Plan, edited: bool, names: Sequence[str]) -> None:
    from djops.report import changes

    out.emit({"edited": edited, **changes.plan_data(plan)})
    if not plan.is_empty:
        out.emit({}, changes.plan_text(plan, coloured=out.coloured))
    people = names[0] if len(names) == 1 else f"{len(names)} people"
    out.confirm(f"Carry this out and make a link for {people}?", action=f"bringing in {people}")


def _hand_over(out: common.Output, issued: Sequence[Issued], pages: Path, links: Path | None) -> None:
    """Write the pages and hand over the links; each exactly once."""
    from djops.report import welcome as report
    from djops.systems.files import write_private

    data, lines = [], []
    if links is not None:
        links.mkdir(parents=True, exist_ok=True, mode=0o700)
    for one in issued:
        name, folder = one.welcome.who, pages / one.welcome.who
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in report.pages(one.welcome).items():
            write_private(folder / file, text, mode=0o644)
        kept = None if links is None else links / f"{name}.link"
        if kept is not None:
            write_private(kept, one.link.token.reveal() + "\n")
        shown = str(kept) if kept else one.link.token.reveal()
        lines += [
            f"{name}",
            f"  page  {folder / 'welcome.html'} (send the whole directory)",
            f"  link  {shown}",
        ]
        lines += [f"        good once, until {one.welcome.until:%Y-%m-%d %H:%M} UTC; send it another way"]
        data.append(report.issued_data(one, str(folder), str(kept) if kept else None))
    out.emit({"welcomes": data}, "\n".join(lines))


def _check(out: common.Output) -> None:
    from djops.report.table import table
    from djops.report.welcome import link_data
    from djops.services import onboarding, project

    states = onboarding.links(project.load(out.project_file), out.environment)
    rows = [(one.who, one.state, one.until, "; ".join(one.opened), "; ".join(one.refused)) for one in states]
    alarming = [one for one in states if one.alarming]
    heads = ("who", "link", "good until", "used", "tried afterwards")
    text = table(heads, rows) if rows else "no links were given out"
    for one in alarming:
        text += (
            f"\n{one.who}: two came with one link. Unless it was {one.who} both times, somebody else has the "
            f"secrets: `djops rotate {one.who}`, then `djops onboard {one.who}`"
        )
    out.emit({"links": [link_data(one) for one in states]}, text, findings=bool(alarming))
