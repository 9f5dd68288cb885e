"""``djops up`` with programs fetched and fresh data, against the servers' own initialisation and start.

The floor does by hand what the servers cannot do without: the same programs with the same configuration
make their data and start, all three at once, until each answers. It makes no certificates, accounts,
buckets or passwords, checks nothing, and needs no Python to start.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.timing import Pair, timed
from djops.systems.local.ceph_config import keyrings
from djops.systems.paths import server_account

ROUNDS = 7
PATIENCE = 120.0
PROJECT = "djops_bench"
PROJECT_FILE = f"""\
version: 1
project: {PROJECT}
pipeline: {{package: nothing}}
environments: {{local: {{target: local}}}}
stores: {{main: {{protocol: s3, bucket: djops-bench, location: x}}}}
"""


@dataclass(frozen=True)
class Daemon:
    """A server process of a running lab: how to start such a one."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path


def measure(place: Path) -> Pair:
    """Time both, in turns.

    Args:
        place: An empty directory on the disk that labs live on.
    """
    project = place / "project"
    (project / "src" / "nothing").mkdir(parents=True)
    (project / "src" / "nothing" / "__init__.py").touch()
    (project / "djops.yaml").write_text(PROJECT_FILE)
    environment = {**os.environ, "DJOPS_DATA_HOME": str(place / "data")}
    djops(project, environment, "up")  # fetches what is missing
    lab = Path(djops(project, environment, "status")["directory"])
    template = Template.of(lab)
    seconds, floor = [], []
    purge(project, environment)
    for _ in range(ROUNDS):
        seconds.append(timed(lambda: djops(project, environment, "up")))
        purge(project, environment)
        floor.append(by_hand(template, lab))
    return Pair("djops up, fresh data", "the servers' own init and start", seconds, floor, 1.3)


def djops(project: Path, environment: Mapping[str, str], *arguments: str) -> dict[str, str]:
    """Run djops and return its answer's data."""
    command = [str(Path(sys.executable).parent / "djops"), *arguments, "--json", "-C", str(project)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    if answer["errors"]:
        raise SystemExit(f"djops {arguments[0]} failed: {answer['errors']}")
    data: dict[str, str] = answer["data"]
    return data


def purge(project: Path, environment: Mapping[str, str]) -> None:
    """Remove the lab."""
    djops(project, environment, "down", "--purge", "--yes", "--project", PROJECT)


@dataclass(frozen=True)
class Template:
    """What a lab is made of: its configuration and certificates, and its processes.

    Attributes:
        files: Content by path in the lab.
        links: Targets of symbolic links by path in the lab.
        daemons: Processes by the name of the program.
        ports: Ports by name.
    """

    files: Mapping[Path, bytes]
    links: Mapping[Path, Path]
    daemons: Mapping[str, Daemon]
    ports: Mapping[str, int]

    @classmethod
    def of(cls, lab: Path) -> Template:
        """Read a running lab."""
        names = ["mysql/my.cnf", "ceph/ceph.conf", "openbao/config.json"]
        kept = [lab / name for name in names] + sorted((lab / "tls").iterdir())
        return cls(
            {path.relative_to(lab): path.read_bytes() for path in kept if path.is_file()},
            {Path("ceph/programs"): (lab / "ceph" / "programs").readlink()},
            dict(daemons_of(lab)),
            json.loads((lab / "lab.json").read_text())["ports"],
        )


def daemons_of(lab: Path) -> Iterator[tuple[str, Daemon]]:
    """Find the processes that work in a lab."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            directory = (process / "cwd").readlink()
            if process.name.isdigit() and directory.is_relative_to(lab):
                argv = tuple(part.decode() for part in (process / "cmdline").read_bytes().split(b"\0")[:-1])
                pairs = [
                    part.decode() for part in (process / "environ").read_bytes().split(b"\0") if b"=" in part
                ]
                environment = dict(pair.split("=", 1) for pair in pairs)
                # mysqld moves into its data directory, which a fresh one does not have yet.
                home = lab / directory.relative_to(lab).parts[0]
                yield program_of(argv), Daemon(argv, environment, home)


def program_of(argv: Sequence[str]) -> str:
    """Return the name of the program that an argument list starts, also through the loader."""
    known = ("mysqld", "ceph-mon", "ceph-osd", "radosgw", "bao", "vault")
    return next(Path(part).name for part in argv if Path(part).name in known)


class Hand:
    """Starts the servers without djops, in the directory of a lab that is gone.

    Args:
        template: What to start.
        lab: Where.
    """

    def __init__(self, template: Template, lab: Path) -> None:
        self.template, self.lab = template, lab
        self.account = server_account()
        self.identity = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}
        self.identity = self.identity if os.geteuid() == 0 else {}
        self.running: list[subprocess.Popen[bytes]] = []

    def prepare(self) -> None:
        """Lay out configuration, certificates and keys: nothing that takes a server."""
        for folder in (
            "mysql/tmp",
            "ceph/run",
            "ceph/log",
            "ceph/data/mon",
            "ceph/data/osd",
            "openbao/raft",
            "openbao/first-start",
        ):
            (self.lab / folder).mkdir(parents=True)
        for path, content in self.template.files.items():
            (self.lab / path).parent.mkdir(parents=True, exist_ok=True)
            (self.lab / path).write_bytes(content)
        for path, target in self.template.links.items():
            (self.lab / path).symlink_to(target)
        for name, text in keyrings().items():
            (self.lab / "ceph" / "data" / name).write_text(text)
        (self.lab / "openbao" / "seal.key").write_bytes(secrets.token_bytes(32))
        for name in ("role-id", "secret-id"):
            (self.lab / "openbao" / "first-start" / name).write_text(secrets.token_hex(16))
        for path in (self.lab, *self.lab.rglob("*")):
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    def start(self) -> None:
        """Make the data and start, all three at once, until each answers."""
        with ThreadPoolExecutor(3) as pool:
            for work in [pool.submit(self.mysql), pool.submit(self.ceph), pool.submit(self.openbao)]:
                work.result(600)

    def stop(self) -> None:
        """Kill everything."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGKILL)
            process.wait(60)

    def mysql(self) -> None:
        """MySQL, until it greets."""
        daemon = self.template.daemons["mysqld"]
        self.run(daemon, [*daemon.argv, "--initialize-insecure"])
        self.spawn(daemon)
        wait(lambda: greets(self.template.ports["mysql"]))

    def openbao(self) -> None:
        """The secrets server, until it is initialised and unsealed."""
        self.spawn(self.template.daemons.get("bao") or self.template.daemons["vault"])
        context = ssl.create_default_context(cafile=str(self.lab / "tls" / "ca.pem"))
        port = self.template.ports["secrets"]
        wait(
            lambda: status(http.client.HTTPSConnection("127.0.0.1", port, timeout=1, context=context)) == 200
        )

    def ceph(self) -> None:
        """Ceph, until its gateway has asked the block store something."""
        mon, osd = self.template.daemons["ceph-mon"], self.template.daemons["ceph-osd"]
        self.tool(
            "monmaptool", "--create", "--fsid", str(UUIDS[0]), "--addv", "a", self.mon_address, "data/monmap"
        )
        self.tool("osdmaptool", "--createsimple", "1", "data/osdmap")
        maps = ["--monmap", "data/monmap", "--osdmap", "data/osdmap", "--keyring", "data/first.keyring"]
        self.tool("ceph-mon", "--mkfs", "-i", "a", *maps)
        size = f"--bluestore-block-size={shutil.disk_usage(self.lab).free // 10 * 8 // (1 << 30) * (1 << 30)}"
        fresh = ["--no-mon-config", f"--fsid={UUIDS[0]}", size, "--osd-uuid", str(UUIDS[1])]
        self.tool("ceph-osd", "--mkfs", "-i", "0", *fresh, "--keyring", "data/osd.0.keyring")
        self.spawn(mon)
        wait(lambda: connects(self.template.ports["s3_mon"]))
        log = self.lab / "ceph" / "log" / "osd.log"
        self.spawn(osd)
        wait(lambda: b"booting -> active" in log.read_bytes())
        self.spawn(self.template.daemons["radosgw"])
        port = self.template.ports["s3"]
        wait(lambda: status(http.client.HTTPConnection("127.0.0.1", port, timeout=1), "/djops-health") == 404)

    @property
    def mon_address(self) -> str:
        """Where the monitor listens."""
        return f"v2:127.0.0.1:{self.template.ports['s3_mon']}"

    def tool(self, program: str, *arguments: str) -> None:
        """Run one of Ceph's programs as its monitor is run."""
        daemon = self.template.daemons["ceph-mon"]
        command = daemon.argv[: daemon.argv.index("-f")]
        renamed = [
            part.replace("ceph-mon", program) if part.endswith("/ceph-mon") else part for part in command
        ]
        self.run(daemon, [*renamed, *arguments])

    def run(self, daemon: Daemon, command: Sequence[str]) -> None:
        """Run a program to its end."""
        options = {"cwd": daemon.directory, "env": daemon.environment, **self.identity}
        subprocess.run(command, check=True, capture_output=True, umask=0o077, **options)  # type: ignore[call-overload]

    def spawn(self, daemon: Daemon) -> None:
        """Start a server, which writes a log of its own."""
        options = {"cwd": daemon.directory, "env": daemon.environment, **self.identity}
        nowhere = subprocess.DEVNULL
        process = subprocess.Popen(  # type: ignore[call-overload]
            daemon.argv, stdin=nowhere, stdout=nowhere, stderr=nowhere, umask=0o077, **options
        )
        self.running.append(process)


UUIDS = ("7f0b5c0e-0000-4000-8000-00000000be01", "7f0b5c0e-0000-4000-8000-00000000be02")


def by_hand(template: Template, lab: Path) -> float:
    """Return the seconds that the servers take by themselves."""
    hand = Hand(template, lab)
    hand.prepare()
    try:
        return timed(hand.start)
    finally:
        hand.stop()
        shutil.rmtree(lab)


def wait(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if done():
                return
        time.sleep(0.02)
    raise SystemExit("a server did not come up by hand")


def connects(port: int) -> bool:
    """Whether somebody listens."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def greets(port: int) -> bool:
    """Whether MySQL sends its greeting."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        return bool(connection.recv(1))


def status(client: http.client.HTTPConnection, path: str = "/v1/sys/health") -> int:
    """Return the status of an answer."""
    try:
        client.request("HEAD" if path != "/v1/sys/health" else "GET", path)
        return client.getresponse().status
    finally:
        client.close()
