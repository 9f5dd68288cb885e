"""Pulumi's command line where there is none: its own installer runs, on a download of the tests' making."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from djops.errors import InstallError
from djops.systems import pulumi_cli, tls
from djops.systems.paths import server_account
from tests.support.bad_servers import listening
from tests.support.cli import invoke
from tests.support.cloud_projects import PRODUCTION, demo_in

PROGRAM = "#!/bin/sh\necho v{version}\n"
SCRIPT = """\
#!/bin/sh
echo "$@" >> {log}
mkdir -p "$3/bin"
cat > "$3/bin/pulumi" <<'END'
{program}END
chmod 755 "$3/bin/pulumi"
"""


@dataclass
class Download:
    """Where Pulumi is downloaded from, as far as a program on this machine can see: a proxy leads here.

    Attributes:
        home: Where programs are installed.
        log: The options that the installer was given.
        script: What is downloaded; ``None`` answers nothing.
        asked: Names of the hosts that were asked for.
    """

    home: Path
    log: Path
    script: str | None
    asked: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.home / "programs" / f"pulumi-{pulumi_cli.VERSION}"

    def serve(self, client: socket.socket, context: ssl.SSLContext) -> None:
        self.asked.append(client.recv(4096).split()[1].decode())
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(client, server_side=True) as inside:
            inside.recv(4096)
            if self.script is None:
                # Until the other side gives up.
                inside.recv(4096)
                return
            body = self.script.encode()
            inside.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Download]:
    """No Pulumi on PATH, and a host that gives one."""
    authority = tmp_path / "tls"
    authority.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tls, "_NAMES", ("get.pulumi.com",))
        tls.ensure(authority, "get.pulumi.com", server_account())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem", authority / "server.key")
    log = tmp_path / "log"
    program = PROGRAM.format(version=pulumi_cli.VERSION)
    made = Download(tmp_path / "cache", log, SCRIPT.format(log=log, program=program))
    with listening(lambda client: made.serve(client, context)) as port:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        monkeypatch.setenv("DJOPS_CACHE_HOME", str(made.home))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield made


def test_the_pinned_version_is_installed_once(download: Download) -> None:
    found = pulumi_cli.command_line()
    assert found.command == str(download.root / "bin" / "pulumi") and str(found.version) == pulumi_cli.VERSION
    assert download.asked == ["get.pulumi.com:443"]
    (options,) = download.log.read_text().splitlines()
    assert options.split()[:2] == ["--no-edit-path", "--install-root"]
    assert options.split()[3:] == ["--version", pulumi_cli.VERSION]
    assert pulumi_cli.command_line().command == found.command and len(download.asked) == 1
    assert {one.name for one in download.root.parent.iterdir()} == {download.root.name, "pulumi.lock"}


def test_one_on_path_is_taken_unless_it_is_too_old(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pulumi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program.write_text(PROGRAM.format(version="3.200.0"))
    program.chmod(0o755)
    assert pulumi_cli.command_line().command == "pulumi" and not download.asked
    program.write_text(PROGRAM.format(version="3.99.0"))
    assert pulumi_cli.command_line().command == str(download.root / "bin" / "pulumi")


def _failed(download: Download) -> str:
    with pytest.raises(InstallError) as told:
        pulumi_cli.command_line()
    assert told.value.code == "E_PULUMI_CLI" and "docs/install" in str(told.value.hint)
    left = {one.name for one in download.root.parent.iterdir()}
    assert left <= {"pulumi.lock"}, "nothing half-made is left"
    return told.value.message


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho one; echo no room left >&2; exit 3\n", "no room left"),
        ("#!/bin/sh\nexit 3\n", "status 3"),
        ("#!/bin/sh\nexit 0\n", "No such file"),
    ],
    ids=["it says why", "it says nothing", "it did nothing"],
)
def test_an_installer_that_fails_is_told_of(script: str, why: str, download: Download) -> None:
    download.script = script
    assert why in _failed(download)


def test_a_download_that_never_ends_is_given_up(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    download.script = None
    monkeypatch.setattr(pulumi_cli, "INSTALL_SECONDS", 2.5)
    assert "did not end within 2 s" in _failed(download)


def test_offline_it_says_what_is_missing_and_what_mends_it(
    download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DJOPS_DATA_HOME", str(tmp_path / "data"))
    folder = demo_in(tmp_path, PRODUCTION).parent
    run = invoke("up", "--env", "production", "--yes", "--json", "-C", folder)
    (error,) = run.answer["errors"]
    assert run.status == 1 and error["code"] == "E_PULUMI_CLI" and "docs/install" in error["hint"]
    assert "get.pulumi.com does not answer" in error["message"] and not download.asked
