"""A real browser: Debian's headless Chromium in a private prefix, driven through its own pipe."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from djops.systems import apt, debian
from djops.systems.debian import Prefix

PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core", "fontconfig-config")
PROGRAM = "usr/lib/chromium/chromium-headless-shell"

_LOADED = """\
new Promise(done => document.readyState === 'complete' ? done(1) : addEventListener('load', () => done(1)))
"""
_FONTS = """\
<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{prefix}/usr/share/fonts</dir><cachedir>{state}/fonts</cachedir></fontconfig>
"""
_GLIBC = (
    "libc.",
    "libm.",
    "libdl.",
    "libpthread.",
    "librt.",
    "libresolv.",
    "libnss_",
    "libutil.",
    "ld-linux",
)


class Browser:
    """One page of a running browser.

    Args:
        process: The browser; its file descriptors 3 and 4 are ours.
        reading: Where it answers.
        writing: Where it listens.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._numbers, self._rest = itertools.count(1), b""
        self.log: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the browser's protocol about the page."""
        return self._ask(method, self._session, **parameters)

    def _ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": parameters}
        text = json.dumps({**told, "sessionId": session} if session else told)
        os.write(self._writing, text.encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._reading], [], [], 120)[0], "the browser does not answer"
            got = os.read(self._reading, 1 << 20)
            assert got, "the browser ended"
            self._rest += got
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        event, told = message.get("method", ""), message.get("params", {})
        if event == "Network.requestWillBeSent":
            self.log.append(f"request {told['request']['url'][:200]}")
        elif event in ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening"):
            self.log.append(f"{event} {json.dumps(told)[:500]}")
        return message

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of a size."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.ask("Page.navigate", url=page.as_uri())
        self.run(_LOADED)

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, *, whole: bool = False) -> bytes:
        """Return the page as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """Return the page as PDF."""
        answer = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(answer["data"])


@contextlib.contextmanager
def browser(state: Path) -> Iterator[Browser]:
    """Run a browser, fetched when it is not there yet.

    Args:
        state: A directory of its own.

    Raises:
        InstallError: This machine cannot get it.
    """
    suite = apt.distribution().codename  # it runs on the machine's own C library
    prefix = debian.install("chromium", PACKAGES, (suite,), _Quiet())
    (state / "fonts.conf").write_text(_FONTS.format(prefix=prefix.path, state=state))
    libraries = _libraries(prefix, state / "lib")
    options = [
        "--headless", "--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-pipe", "--hide-scrollbars", f"--user-data-dir={state}/profile",
        "--disable-background-networking", "--no-first-run",
    ]  # fmt: skip
    own = {"FONTCONFIG_FILE": state / "fonts.conf", "HOME": state, "LD_LIBRARY_PATH": libraries}
    environment = {**os.environ, **{name: str(path) for name, path in own.items()}}
    to_read, to_write = os.pipe(), os.pipe()
    # A shell puts the pipe's ends where the browser expects them.
    script = f'exec "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", str(prefix.path / PROGRAM), *options],
            pass_fds=(to_read[0], to_write[1]), env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(to_read[0])
    os.close(to_write[1])
    try:
        yield Browser(to_write[0], to_read[1])
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        os.close(to_write[0])
        os.close(to_read[1])


def _libraries(prefix: Prefix, directory: Path) -> Path:
    """Name all libraries but those of the C library in one directory."""
    directory.mkdir()
    folders = [prefix.path / base / prefix.libraries.name for base in ("lib", "usr/lib")]
    for folder in (*folders, folders[1] / "pulseaudio"):
        for library in folder.glob("*.so*") if folder.is_dir() else ():
            link = directory / library.name
            if not library.name.startswith(_GLIBC) and not link.exists():
                link.symlink_to(library)
    return directory


class _Quiet:
    def note(self, text: str) -> None:
        """Say nothing."""
