"""``djops cloud onboard``: the questions; what comes of the answers is in djops.services.cloud_onboard."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from djops.cli import common
from djops.errors import UsageError
from djops.model.cloud import SIZES

if TYPE_CHECKING:
    from djops.services.cloud_onboard import Onboarding


class Questions:
    """Asks where somebody can answer; elsewhere what is not given is as usual, or refused.

    Args:
        out: The run.
    """

    def __init__(self, out: common.Output) -> None:
        streams = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
        self.can_ask = streams and not out.json and not out.yes

    def text(self, given: str | None, question: str, option: str, usual: str | None = None) -> str:
        """Return what was given, what is answered, or what is usual.

        Args:
            given: The option's value.
            question: What to ask.
            option: The option's name.
            usual: What holds when nothing is said; ``None`` where something must be. Empty is an answer.

        Raises:
            UsageError: ``E_USAGE`` when it must be said and nobody can be asked.
        """
        if given is not None:
            return given
        if self.can_ask:
            answer = click.prompt(question, default=usual, err=True, show_default=bool(usual))
            return str(answer).strip()
        if usual is None:
            raise UsageError(f"{option} is not given, and nobody can be asked", hint=f"give {option}")
        return usual

    def choice(self, given: str | None, question: str, usual: str) -> str:
        """Return one of the sizes, likewise."""
        if given is None and self.can_ask:
            return str(click.prompt(question, default=usual, type=click.Choice(SIZES), err=True))
        return given or usual

    def yes(self, question: str) -> bool:
        """Return whether the answer is yes; no where nobody can be asked."""
        return self.can_ask and click.confirm(question, err=True)


@click.command("onboard")
@click.option("--name", metavar="NAME", help="Name of the new environment, otherwise production.")
@click.option("--region", metavar="REGION", help="AWS region, such as eu-central-1.")
@click.option("--size", type=click.Choice(SIZES), help="small, medium or large; `djops cost` explains them.")
@click.option("--profile", metavar="NAME", help="Profile of the AWS configuration.")
@click.option("--vpc", metavar="ID", help="Use this VPC instead of making one.")
@click.option(
    "--subnet", "subnets", metavar="ID", multiple=True, help="A private subnet of it; at least two."
)
@click.option("--database", metavar="HOST", help="Use this MySQL instead of making one.")
@click.option("--database-secret", metavar="ARN", help="Its administrator's secret in Secrets Manager.")
@click.option("--existing-bucket", "there", metavar="NAME", multiple=True, help="A bucket that is there.")
@click.option("--openbao", metavar="URL", help="The OpenBao to install: an rpm package for arm64.")
@click.option("--openbao-sha256", metavar="DIGEST", help="Its checksum.")
@click.option("--vault", metavar="URL", help="Use this OpenBao or Vault instead of installing one.")
@click.option("--budget", metavar="USD", type=click.IntRange(min=1), help="Alarm when a month costs more.")
@click.option("--email", metavar="ADDRESS", help="Whom the alarm tells.")
@common.changing
def command(
    out: common.Output,
    name: str | None,
    region: str | None,
    size: str | None,
    profile: str | None,
    vpc: str | None,
    subnets: tuple[str, ...],
    database: str | None,
    database_secret: str | None,
    there: tuple[str, ...],
    openbao: str | None,
    openbao_sha256: str | None,
    vault: str | None,
    budget: int | None,
    email: str | None,
) -> None:
    """Write an environment in the cloud into djops.yaml, by questions or by options; make nothing yet.

    On a terminal it asks for what no option gives: region, size with what it costs, what is there already.
    Elsewhere it asks nothing: what must be said and is not is an error. What is written is shown first.

    Exit status: 0 done, 1 error.
    """
    from djops.services import cloud_onboard as service
    from djops.services.project import load_project, save

    ask, project = Questions(out), load_project(out.project_file)
    named = ask.text(name, "Name of the environment", "--name", "production")
    where = ask.text(region, "AWS region", "--region", service.usual_region())
    if ask.can_ask and size is None:
        out.remark(_sizes_text())
    chosen = ask.choice(size, "Size", "small")
    package, address = _secrets(ask, openbao, openbao_sha256, vault)
    found = service.put_together(
        out.project_file,
        service.Answers(
            environment=named,
            region=where,
            size=chosen,
            profile=profile,
            network=_network(ask, vpc, subnets),
            database=_database(ask, database, database_secret),
            buckets=there or _there(ask, service.buckets(project)),
            openbao=package,
            secrets=address,
            budget=_budget(ask, budget, email),
        ),
    )
    _show(out, found)
    out.confirm(f"Write this into {out.project_file.name}?", action="writing the environment")
    save(found.edited, out.project_file)
    again = f"--env {named}"
    steps = "\n".join(f"  djops {step} {again}" for step in ("cloud init", "cloud check", "cost", "up"))
    out.emit({"written": True}, f"Written. Next, in this order:\n{steps}")


def _sizes_text() -> str:
    from djops.report.table import table
    from djops.services.cloud_onboard import size_costs

    rows = [(name, f"${one.without_use:,.0f}", f"${one.in_use:,.0f}") for name, one in size_costs().items()]
    return table(("size", "a month without use", "in use, estimated"), rows, right=(1, 2))


def _network(ask: Questions, vpc: str | None, subnets: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    known = ask.text(vpc, "Id of a VPC that is to be used (nothing to make one)", "--vpc", "")
    if not known:
        return None
    if not subnets:
        told = ask.text(None, "Ids of two private subnets in different zones", "--subnet")
        subnets = tuple(told.replace(",", " ").split())
    return known, subnets


def _database(ask: Questions, host: str | None, secret: str | None) -> tuple[str, str] | None:
    known = ask.text(host, "Host of a MySQL that is to be used (nothing to make one)", "--database", "")
    if not known:
        return None
    return known, ask.text(secret, "ARN of its administrator's secret", "--database-secret")


def _there(ask: Questions, buckets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in buckets if ask.yes(f"Is the bucket {name} there already?"))


def _secrets(
    ask: Questions, openbao: str | None, digest: str | None, vault: str | None
) -> tuple[tuple[str, str] | None, str | None]:
    if openbao is None:
        question = "URL of a Vault or OpenBao that is to be used (nothing to install one)"
        known = ask.text(vault, question, "--vault", "")
        if known:
            return None, known
    url = ask.text(openbao, "URL of OpenBao's rpm package for arm64", "--openbao")
    return (url, ask.text(digest, "Its SHA-256", "--openbao-sha256")), None


def _budget(ask: Questions, usd: int | None, email: str | None) -> tuple[int, str] | None:
    told = ask.text(
        None if usd is None else str(usd), "Dollars a month above which somebody is told", "--budget", ""
    )
    if not told:
        return None
    if not told.isdecimal() or int(told) < 1:
        raise UsageError(f"{told!r} is no amount of dollars", hint="give a whole number, such as 300")
    return int(told), ask.text(email, "E-mail address of whoever is told", "--email")


def _show(out: common.Output, found: Onboarding) -> None:
    from djops.report.cloud_onboard import onboarding_text

    data = {
        "environment": found.environment,
        "account": found.account,
        "settings": found.settings,
        "cost": {
            "without_use": f"{found.cost.sizes[found.cost.size].without_use:.2f}",
            "in_use": f"{found.cost.sizes[found.cost.size].in_use:.2f}",
        },
    }
    out.emit(data, lambda: onboarding_text(found))
