"""What every command shares: options, output, questions, and the one place where errors become text.

A command looks like this::

    @click.command()
    @common.options
    def command(out: common.Output) -> None:
        \"\"\"Show the health of every server.\"\"\"
        from djops.services import lab

        report = lab.status(out.project_file, out.environment)
        out.emit({"servers": report.servers}, lambda: table(...), findings=not report.healthy)
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import importlib
import importlib.util
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, TextIO

import click

from djops.cli.main import COMMANDS, USAGE, overview
from djops.errors import ConfigError, DjopsError, UsageError
from djops.report.envelope import envelope, to_json
from djops.report.table import colour, printable_lines

if TYPE_CHECKING:
    from djops.systems.progress import Progress

PROJECT_FILE = "djops.yaml"
DONE, FAILED, FINDINGS = 0, 1, 2
LOCK_WAIT = 30.0
"""Seconds that a changing command waits for another djops to finish, unless told otherwise."""

P = ParamSpec("P")


class ConfirmError(DjopsError):
    """A question could not be asked, or was answered with no."""

    code = "E_CONFIRM"


class StoppedError(DjopsError):
    """Somebody stopped djops."""

    code = "E_INTERRUPTED"


class Stopped(KeyboardInterrupt):
    """A signal asked djops to end.

    Args:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class OutputLost(Exception):  # noqa: N818  # no error where the reader has just seen enough
    """Standard output takes nothing any more.

    Args:
        reason: Why, or nothing where its reader went away.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Output:
    """One run of the command line: the shared options, and what is to be shown.

    Attributes:
        json: One JSON object is wanted instead of text.
        quiet: No progress and no remarks.
        command: The command's name, with its subcommand.
        directory: What ``-C`` named, or the working directory.
        environment: What ``--env`` named.
        yes: Questions are answered with yes.
        lock_wait: Seconds to wait for another djops.
        reason: Why, for the journal.
        data: What was emitted so far, for the JSON object.
        findings: Whether anything emitted asks for attention.
    """

    json: bool = False
    quiet: bool = False
    command: str = ""
    directory: Path = field(default_factory=lambda: Path())
    directory_given: bool = False
    environment: str | None = None
    yes: bool = False
    lock_wait: float = LOCK_WAIT
    reason: str = ""
    data: dict[str, object] = field(default_factory=dict)
    findings: bool = False

    @functools.cached_property
    def project_file(self) -> Path:
        """The ``djops.yaml`` to work with: in the directory ``-C`` names, else here or in a folder above.

        Raises:
            ConfigError: ``E_NO_PROJECT`` when there is none.
        """
        start = _absolute(self.directory)
        for folder in (start,) if self.directory_given else (start, *start.parents):
            if (folder / PROJECT_FILE).is_file():
                return folder / PROJECT_FILE
        if self.directory_given:
            raise ConfigError(
                f"there is no {PROJECT_FILE} in this directory",
                where=str(self.directory),
                code="E_NO_PROJECT",
                hint=f"name the directory that holds {PROJECT_FILE}, or write one with `djops init`",
            )
        raise ConfigError(
            f"there is no {PROJECT_FILE} here or in a folder above",
            where=str(start),
            code="E_NO_PROJECT",
            hint="name the project's directory with -C; `djops init` writes it, `djops demo` an example",
        )

    @functools.cached_property
    def progress(self) -> Progress:
        """Where long work tells what it is doing."""
        if self.json or self.quiet:
            from djops.systems.progress import Silent

            return Silent()
        from djops.cli.progress import StepLog

        return StepLog(sys.stderr, live=sys.stderr.isatty() and os.environ.get("TERM") != "dumb")

    @property
    def coloured(self) -> bool:
        """Whether text on standard output may carry colours."""
        return takes_colour(sys.stdout)

    def emit(
        self, data: Mapping[str, object], text: str | Callable[[], str] = "", *, findings: bool = False
    ) -> None:
        """Show a result.

        Args:
            data: What goes into ``data`` of the JSON answer; several calls add up.
            text: What is shown at once otherwise, or a function that makes it; empty shows nothing.
            findings: Whether the result asks for attention: exit status 2.
        """
        self.data.update(data)
        self.findings = self.findings or findings
        if not self.json:
            self._show(text if isinstance(text, str) else text())

    def remark(self, text: str) -> None:
        """Say something beside the result, on standard error; not with ``--json`` or ``--quiet``."""
        if not (self.json or self.quiet):
            click.echo(printable_lines(text), err=True)

    def confirm(self, question: str, *, action: str = "this") -> None:
        """Ask before something that cannot be taken back; ``--yes`` answers.

        Args:
            question: A question that yes or no answers.
            action: What is refused without an answer, for the error's message.

        Raises:
            ConfirmError: The answer is no, or nobody can be asked.
        """
        if self.yes:
            return
        self._must_be_able_to_ask(action, "--yes")
        if not click.confirm(printable_lines(question), err=True):
            raise ConfirmError(f"{action} was not confirmed; nothing was changed")

    def confirm_by_name(self, question: str, name: str, *, action: str = "this", hint: str = "--yes") -> None:
        """Ask for a name to be typed before something that destroys.

        Args:
            question: What to ask for.
            name: The only right answer.
            action: What is refused otherwise.
            hint: The options that stand for the answer.

        Raises:
            ConfirmError: The answer differs, or nobody can be asked.
        """
        self._must_be_able_to_ask(action, hint)
        if click.prompt(printable_lines(question), err=True, default="", show_default=False) != name:
            raise ConfirmError(f"{action} was not confirmed: the name is {name!r}; nothing was changed")

    def _must_be_able_to_ask(self, action: str, hint: str) -> None:
        if self.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfirmError(
                f"{action} needs a confirmation, and nobody can be asked; nothing was changed",
                hint=f"give {hint} when you are sure",
            )

    def _show(self, text: str) -> None:
        if text:
            try:
                sys.stdout.write(text if text.endswith("\n") else text + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                raise OutputLost from None
            except OSError as error:
                raise OutputLost(error.strerror or type(error).__name__) from None

    def finish(self, errors: Sequence[DjopsError] = ()) -> int:
        """Show the errors, or the JSON object, and return the exit status."""
        if self.json:
            self._show(to_json(envelope(self.command, self.data, errors, findings=self.findings)))
        else:
            for error in (single for many in errors for single in many.flatten()):
                click.echo(describe(error, coloured=takes_colour(sys.stderr)), err=True)
        return FAILED if errors else FINDINGS if self.findings else DONE


def _absolute(directory: Path) -> Path:
    try:
        return directory.absolute()
    except FileNotFoundError:
        raise ConfigError(
            "the working directory does not exist any more",
            code="E_NO_PROJECT",
            hint="change to another directory",
        ) from None


def takes_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not refused colours (NO_COLOR, TERM=dumb)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def describe(error: DjopsError, *, coloured: bool = False) -> str:
    """Return one error as its reader sees it.

    Args:
        error: A single error.
        coloured: Whether the terminal takes colours.

    Returns:
        ``error [CODE] where: message`` and, on a line of its own, what to do.
    """
    place = f"{error.where}: " if error.where else ""
    text = f"{colour('error', 'red', on=coloured)} [{error.code}] {printable_lines(place + error.message)}"
    return f"{text}\n  -> {printable_lines(error.hint)}" if error.hint else text


def options(function: Callable[Concatenate[Output, P], None]) -> Callable[P, None]:
    """Give a command ``-C``, ``--env``, ``--json`` and ``-q``; it gets an :class:`Output`, first."""

    @click.option(
        "-C",
        "--project-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Directory of djops.yaml; otherwise here or the nearest folder above.",
    )
    @click.option("--env", "environment", metavar="NAME", help="Environment of the project.")
    @click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress.")
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        context = click.get_current_context()
        out = context.ensure_object(Output)
        directory = kwargs.pop("project_dir")
        if isinstance(directory, Path):
            out.directory, out.directory_given = directory, True
        environment = kwargs.pop("environment")
        out.environment = environment if isinstance(environment, str) else None
        out.json, out.quiet = bool(kwargs.pop("as_json")), bool(kwargs.pop("quiet"))
        out.command = _command_name(context)
        function(out, *args, **kwargs)

    return wrapped


def changing(function: Callable[Concatenate[Output, P], None]) -> Callable[P, None]:
    """Give a command the options of :func:`options`, and ``-y``, ``--lock-wait`` and ``--reason``.

    A command that has a parameter ``reason`` of its own keeps it, and tells :attr:`Output.reason` itself.
    """
    own_reason = "reason" in inspect.signature(function).parameters

    @functools.wraps(function)
    def with_answers(out: Output, /, *args: P.args, **kwargs: P.kwargs) -> None:
        out.yes = bool(kwargs.pop("yes"))
        wait = kwargs.pop("lock_wait")
        out.lock_wait = wait if isinstance(wait, float) else LOCK_WAIT
        if not own_reason:
            out.reason = str(kwargs.pop("reason") or "")
        function(out, *args, **kwargs)

    shared = options(with_answers)
    shared = click.option(
        "--lock-wait",
        type=click.FloatRange(min=0),
        default=LOCK_WAIT,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for another djops.",
    )(shared)
    if not own_reason:
        shared = click.option("--reason", metavar="TEXT", help="Why; stands in the journal.")(shared)
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(shared)


def _command_name(context: click.Context) -> str:
    names: list[str] = []
    step: click.Context | None = context
    while step is not None and step.parent is not None:
        names.insert(0, step.info_name or "")
        step = step.parent
    return " ".join(names)


class Group(click.Group):
    """A group of commands that names the nearest one when it does not know a name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], names, n=1)
            advice = f"the nearest name is `{near[0]}`" if near else f"there are: {', '.join(names)}"
            path = ctx.command_path
            raise UsageError(
                f"{path} has no command {args[0]!r}", hint=f"{advice}; see `{path} --help`", code="E_USAGE"
            )
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """The group of all commands, which imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the overview that the table gives."""
        formatter.write(overview())

    def get_usage(self, ctx: click.Context) -> str:
        """Return the line of usage."""
        return USAGE


def load(name: str) -> click.Command:
    """Import one command of the table.

    Args:
        name: A name of the table.

    Returns:
        The command; one that only fails, with ``E_NOT_YET``, where its module does not exist.
    """
    module = COMMANDS[name][0]
    if importlib.util.find_spec(module) is None:
        return _not_yet(name)
    command = importlib.import_module(module).command
    if not isinstance(command, click.Command):
        raise TypeError(f"{module}.command is no command")
    command.name = name
    return command


def _not_yet(name: str) -> click.Command:
    @click.command(name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    @options
    def command(out: Output) -> None:
        """Not part of this version."""
        raise UsageError(f"`djops {name}` is not part of this version", code="E_NOT_YET")

    return command


group = LazyGroup("djops", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: What stands after ``djops``.

    Returns:
        The exit status: 0 done, 1 error, 2 findings, 128 and the signal's number when interrupted; a
        command that runs another program returns that program's.
    """
    _mind_streams()
    _mind_signals()
    collect_seldom()
    out = Output(json=_wants_json(arguments), command=_named_command(arguments))
    try:
        with _ways_closed():
            return _run(list(arguments), out)
    except OutputLost as lost:
        # Python flushes standard output once more when it ends: let that go nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not lost.reason:
            return 128 + signal.SIGPIPE
        error = DjopsError(f"the answer cannot be written: {lost.reason.lower()}", code="E_OUTPUT")
        click.echo(describe(error, coloured=takes_colour(sys.stderr)), err=True)
        return FAILED


@contextlib.contextmanager
def _ways_closed() -> Iterator[None]:
    """Close in the end the tunnels that the run opened for itself, if it opened any."""
    try:
        yield
    finally:
        if (opened := sys.modules.get("djops.services.tunnel")) is not None:
            opened.let_go()


def collect_seldom() -> None:
    """Have Python look for circular garbage seldom: a run is short, makes hardly any, and holds much else.

    With a thousand people a plan took 1.7 times the work otherwise, to find nothing.
    """
    gc.set_threshold(100_000, 20, 100)


def _run(arguments: list[str], out: Output) -> int:
    try:
        with group.make_context("djops", arguments, obj=out) as context:
            group.invoke(context)
        return out.finish()
    except OutputLost:
        raise
    except click.exceptions.Exit as end:
        return end.exit_code
    except DjopsError as error:
        return out.finish([error])
    except click.exceptions.NoArgsIsHelpError as error:
        return _help_instead(error, out)
    except click.ClickException as error:
        return out.finish([_usage_error(error)])
    except (KeyboardInterrupt, click.Abort) as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        hint = "what is done stands; the same command continues from there"
        told = "; ".join(["djops was interrupted", *getattr(stop, "__notes__", ())])
        out.finish([StoppedError(told, hint=hint)])
        # One that came through the exec() of a text, as dataclasses are made, ends `python -m` by SIGINT:
        # the interpreter forgets it with the next text.
        exec("")  # noqa: S102
        return 128 + number
    except Exception as error:
        _raise_if_output_is_lost(error)
        from djops.cli.crash import explain

        return out.finish([explain(error)])


def _raise_if_output_is_lost(error: Exception) -> None:
    """Tell trouble with standard output, where click writes help, from trouble elsewhere.

    Raises:
        OutputLost: It was click that could not write.
    """
    step = error.__traceback__ if isinstance(error, OSError) else None
    while step is not None:
        if step.tb_frame.f_code is click.echo.__code__:
            gone = isinstance(error, BrokenPipeError)
            raise OutputLost("" if gone else getattr(error, "strerror", "") or str(error)) from error
        step = step.tb_next


def _usage_error(error: click.ClickException) -> DjopsError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "djops"
    message = error.format_message().strip().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint=f"see `{path} --help`")


def _help_instead(error: click.exceptions.NoArgsIsHelpError, out: Output) -> int:
    if out.json:
        return out.finish([_usage_error(error)])
    click.echo(error.format_message(), err=True)
    return FAILED


def _own_arguments(arguments: Sequence[str]) -> Sequence[str]:
    """Return what is meant for djops itself: `djops connect mysql -- PROGRAM --json` is not."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _wants_json(arguments: Sequence[str]) -> bool:
    return "--json" in _own_arguments(arguments)


def _named_command(arguments: Sequence[str]) -> str:
    return next((word for word in _own_arguments(arguments) if word in COMMANDS), "")


def _mind_streams() -> None:
    """Open what the caller closed, lest a data file become standard output; take any character."""
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # stays open to the end
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _mind_signals() -> None:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that what was begun is cleaned up."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)
