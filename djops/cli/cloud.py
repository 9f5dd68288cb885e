"""``djops cloud``."""

from __future__ import annotations

import click

from djops.cli import cloud_onboard, common


@click.group(cls=common.Group)
def command() -> None:
    """Get ready for the cloud: look whether all is there, make what Pulumi's state needs, begin."""


@command.command("check")
@common.options
def check(out: common.Output) -> None:
    """Look for all that would keep `djops up` from making an environment in AWS; change nothing.

    Credentials, account, region, every permission that the stacks need (simulated by AWS), quotas, names,
    the place of Pulumi's state, and the programs on this machine. Each failure comes with what to do.

    Exit status: 0 nothing is wrong, 1 error, 2 something is wrong.
    """
    from djops.report.cloud_check import check_text
    from djops.services import cloud_check
    from djops.services.project import load_project

    project = load_project(out.project_file)
    with out.progress.step("Asking AWS"):
        found = cloud_check.check(project, out.environment)
    data = {
        "environment": found.environment,
        "region": found.region,
        "rows": found.rows,
        "not_asked": cloud_check.NOT_ASKED,
    }
    out.emit(data, lambda: check_text(found, coloured=out.coloured), findings=not found.passed)


@command.command("init")
@click.option("--bucket", metavar="NAME", help="The bucket; otherwise djops-state-ACCOUNT-REGION.")
@common.changing
def init(out: common.Output, bucket: str | None) -> None:
    """Make the bucket and the key that keep Pulumi's state, and write them into djops.yaml.

    Versioned, encrypted, closed to the public, TLS only, and nobody deletes an old version or the bucket.
    What is there is left as it is or mended, never deleted; after a failure the next run goes on. One bucket
    and key serve all projects of an account in a region.

    Exit status: 0 done, 1 error.
    """
    from djops.report.table import table
    from djops.services import cloud_setup

    with out.progress.step("Asking AWS"):
        setup = cloud_setup.prepare(out.project_file, out.environment, bucket)
    data = {
        "environment": setup.environment,
        "account": setup.account,
        "region": setup.region,
        "bucket": setup.bucket,
        "key": setup.key,
        "plan": setup.steps,
        "edited": setup.edited.changed,
    }
    rows = [(one.what, one.does, "done before" if one.there else "to do") for one in setup.steps]
    change = "to do" if setup.edited.changed else "done before"
    rows.append(("djops.yaml", f"state of {setup.environment}: s3://{setup.bucket}", change))
    out.emit(data, table(("what", "step", ""), rows))
    if setup.is_done:
        out.emit({"done": 0}, "Nothing to do.")
        return
    out.confirm(f"Do this in account {setup.account}, {setup.region}?", action="the set-up")
    done = cloud_setup.carry_out(setup, out.project_file, out.progress)
    out.emit(
        {"done": done}, f"Done: {done} step{'s' * (done != 1)}. Next: `djops cloud check`, then `djops up`."
    )


command.add_command(cloud_onboard.command)
