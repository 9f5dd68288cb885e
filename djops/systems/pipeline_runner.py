"""Imports a pipeline, and runs one of its modules, in a process of its own.

The pipeline's code is its authors': it never runs inside djops. This file is started by path with the
pipeline's Python, so it imports nothing of djops; what to do, secrets included, comes as JSON on standard
input, and what happened goes to standard output, one JSON object a line. Whatever the pipeline prints goes
to standard error.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # the directory of this file, where a module is called datajoint too

import ctypes
import importlib
import json
import os
import runpy
import signal
import time
import traceback
from typing import Any


def main() -> int:
    """Do the job on standard input.

    Returns:
        The exit status: 0 when everything was done.
    """
    _end_with_parent()
    job = json.loads(sys.stdin.read())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path.insert(0, job["path"])

    def tell(event: str, **facts: object) -> None:
        answers.write(json.dumps({"event": event, **facts}) + "\n")

    doing = "connecting to the database"
    try:
        _connect(job)
        for module in job["modules"]:
            doing = f"importing {module}"
            begun = time.monotonic()
            importlib.import_module(module)
            tell("module", module=module, seconds=time.monotonic() - begun)
        if job["run"]:
            doing = f"running {job['run']}"
            runpy.run_module(job["run"], run_name="__main__", alter_sys=True)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            return 0
        tell("error", doing=doing, **_describe(error, job["path"]))
        return 1
    return 0


def _end_with_parent() -> None:
    """Have the kernel kill this process when djops is gone, so that two never work on the same rows."""
    set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _connect(job: dict[str, Any]) -> None:
    import datajoint as dj

    database = job["database"]
    dj.config.database.host = database["host"]
    dj.config.database.port = database["port"]
    dj.config.database.user = database["user"]
    dj.config.database.password = database["password"]
    dj.config.safemode = False
    dj.config.stores = job["stores"]
    dj.conn(database["host"], database["user"], database["password"], use_tls=database["tls"])


def _describe(error: BaseException, path: str) -> dict[str, Any]:
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    args = [argument if isinstance(argument, int) else str(argument) for argument in error.args]
    found: dict[str, Any] = {"kinds": kinds, "args": args, "text": str(error), "file": None, "line": None}
    if isinstance(error, SyntaxError):
        return {**found, "file": error.filename, "line": error.lineno}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(path + os.sep):
            return {**found, "file": frame.filename, "line": frame.lineno}
    return found


if __name__ == "__main__":
    sys.exit(main())
