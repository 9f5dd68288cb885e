"""The entry point and the table of commands.

Nothing heavy is imported here, not even click: the overview is written from the table alone, so that
``djops --help`` answers at once, and a command's module is imported when the command is called.
"""

from __future__ import annotations

import sys

from djops import __version__

TOPICS = (
    (
        "The lab",
        (
            ("up", "djops.cli.up", "Start the environment's servers and make them ready."),
            ("status", "djops.cli.status", "Show the health of every server."),
            ("down", "djops.cli.down", "Stop what `up` started; data stays unless --purge."),
            ("demo", "djops.cli.demo", "Make a complete example lab with data and people in it."),
        ),
    ),
    (
        "The cloud",
        (
            ("cloud", "djops.cli.cloud", "Get ready for the cloud: check, init, onboard."),
            ("cost", "djops.cli.cost", "Estimate what an environment in the cloud costs in a month."),
            ("tunnel", "djops.cli.tunnel", "Forward a port to a private server in the cloud."),
        ),
    ),
    (
        "The project",
        (
            ("init", "djops.cli.init", "Write djops.yaml for an existing pipeline package."),
            ("validate", "djops.cli.validate", "Check djops.yaml and the pipeline's source."),
            ("config", "djops.cli.config", "Show the project file's JSON Schema."),
            ("graph", "djops.cli.graph", "Show the pipeline's schemas and what they depend on."),
            ("schemas", "djops.cli.schemas", "List schemas; give tables declared later what they lack."),
        ),
    ),
    (
        "Rights",
        (
            ("plan", "djops.cli.plan", "List what differs between djops.yaml and the servers."),
            ("apply", "djops.cli.apply", "Carry out the plan."),
            ("grant", "djops.cli.grant", "Give somebody a role on schemas, everywhere at once."),
            ("revoke", "djops.cli.revoke", "Take a role back, everywhere at once."),
            ("users", "djops.cli.users", "Add, list, show and remove people and services."),
            ("onboard", "djops.cli.onboard", "Bring somebody in: account, rights, welcome page, link."),
            ("offboard", "djops.cli.offboard", "Close every way in that somebody has, with a certificate."),
            ("adopt", "djops.cli.adopt", "Bring accounts that are there already under management."),
            ("drift", "djops.cli.drift", "Name what somebody changed on the servers, and what mends it."),
            ("expire", "djops.cli.expire", "Revoke what grants that are over left behind; for cron."),
            ("can", "djops.cli.can", "Tell whether somebody may do something, and why."),
            ("who", "djops.cli.who", "Tell who may do something, by djops.yaml and on the servers."),
            ("verify", "djops.cli.verify", "Prove that the servers do what djops.yaml says, and no more."),
            ("audit", "djops.cli.audit", "Report who can do what, what asks for attention, what changed."),
            ("explain", "djops.cli.explain", "Show the whole chain behind a right, or what an error means."),
        ),
    ),
    (
        "At work",
        (
            ("connect", "djops.cli.connect", "Run a client or a command as the administrator."),
            ("credentials", "djops.cli.credentials", "Write the files a person's DataJoint client reads."),
            ("rotate", "djops.cli.rotate", "Renew passwords and keys while everything that runs goes on."),
            ("secrets", "djops.cli.secrets", "Judge, mend, save and restore what the secrets server keeps."),
            ("welcome", "djops.cli.welcome", "Turn a welcome page's link into the client's files."),
            ("log", "djops.cli.log", "Show who changed what, when and why; prove that nothing was altered."),
            ("whoami", "djops.cli.whoami", "Tell who you are to the servers, from your own directory."),
            ("doctor", "djops.cli.doctor", "Look for what is wrong with your own set-up."),
            ("smoke", "djops.cli.smoke", "Try every role through the real client, on a scratch schema."),
        ),
    ),
)
"""Topic, then for each command its name, the module that exposes it as ``command``, and one line of help."""

COMMANDS = {name: (module, line) for _, rows in TOPICS for name, module, line in rows}
"""The module and the line of help of every command."""

USAGE = "Usage: djops COMMAND [OPTIONS] [ARGUMENTS]"


def overview() -> str:
    """Return what ``djops --help`` shows."""
    width = max(len(name) for name in COMMANDS)
    lines = [USAGE, "", "  Provision and administer DataJoint pipelines."]
    for topic, rows in TOPICS:
        lines += ["", f"{topic}:"]
        lines += [f"  {name:<{width}}  {line}" for name, _, line in rows]
    lines += [
        "",
        "`djops COMMAND --help` tells the options of a command.",
        "`djops --version` tells the version.",
    ]
    return "\n".join([*lines, "", "Exit status: 0 done, 1 error, 2 drift or findings.", ""])


def main() -> None:
    """Run the command line and exit with its status."""
    arguments = sys.argv[1:]
    if arguments in ([], ["-h"], ["--help"]):
        _write(overview())
    elif arguments == ["--version"]:
        _write(f"djops {__version__}\n")
    else:
        from djops.cli.common import run

        sys.exit(run(arguments))


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # nobody reads; the interpreter must not flush again
    except (OSError, AttributeError):
        sys.stdout = None
        sys.exit("error [E_OUTPUT] the answer cannot be written")


if __name__ == "__main__":
    main()
