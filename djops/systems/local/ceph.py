"""The lab's object store: Ceph's RADOS gateway with one monitor and one block store, no manager.

Ceph is the one free S3 server known to judge IAM users, policies and their conditions as AWS does, and
to survive ``kill -9`` without losing an acknowledged object. Its gateway can also run without the rest
of Ceph, and must not: in that mode it returned wrong bytes for ranged reads of large objects, and it
knows no IAM users.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import math
import os
import secrets
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from djops.errors import DjopsError, InstallError, StartError
from djops.systems import debian, ports, process
from djops.systems.connections import S3Connection, Secret
from djops.systems.files import disk_errors, read_json, require_space, write_private
from djops.systems.local.ceph_config import OPS_LOG, PROGRAMS, configuration, keyrings
from djops.systems.local.kept import secret_in
from djops.systems.local.server import Lab
from djops.systems.paths import private_directory
from djops.systems.progress import Step

_WANTED = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common", "ceph-base")
# Asked for by what we use, for programs beside those we run: a sixth of the download.
_UNUSED = (
    "-libbabeltrace1",
    "-libcephfs2",
    "-libcryptsetup12",
    "-libdw1t64",
    "-libglib2.0-0t64",
    "-libnbd0",
    "-libncurses6",
    "-libradosstriper1",
    "-librbd1",
    "-librgw2",
)
_SUITES = ("sid", "forky")
_RUN = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "osdmaptool")

_GIB = 1 << 30
_CATALOGUE = _GIB  # 6,000 objects were seen to take 3 MB of it, the journal 140 MB
_LEAST_SPACE = 3 * _GIB
_MOST_SPACE = 1024 * _GIB  # a larger one takes longer to make
_SHARE_OF_FREE = 0.8

_DAEMONS = ("mon", "osd", "rgw")
_TITLES = {"mon": "monitor", "osd": "block store", "rgw": "gateway"}
_PATIENCE = 60.0
_GONE = 0.5  # one look that finds no process is believed by a second one only
_NO_BUCKET = "djops-health"
_UP = b"booting -> active"


class CephServer:
    """The lab's S3 server.

    Args:
        lab: The lab it belongs to.
    """

    name: ClassVar[str] = "s3"
    title: ClassVar[str] = "Ceph S3"
    port_names: ClassVar[tuple[str, ...]] = ("s3", "s3_tls", "s3_mon")
    public_ports: ClassVar[tuple[str, ...]] = ("s3", "s3_tls")

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._state = lab.state("ceph")
        self._data = self._state / "data"
        self._prefix: debian.Prefix | None = None

    @property
    def log(self) -> Path:
        """The log of the first daemon that does not run, or of the gateway."""
        down = [daemon for daemon in _DAEMONS if not self._alive(daemon)]
        return self._log_of(down[0] if down else "rgw")

    @property
    def ops_log(self) -> Path:
        """The record of requests, where :meth:`record_requests` was called before the last start."""
        return self._state / OPS_LOG

    @property
    def _ops_log_mark(self) -> Path:
        return self._state / "ops-log.on"

    @property
    def records_requests(self) -> bool:
        """Whether requests are written down from the next start on."""
        return self._ops_log_mark.exists()

    def record_requests(self) -> None:
        """Have requests written down from the next start on."""
        write_private(self._ops_log_mark, "", owner=self._lab.account)

    def endpoint(self) -> str:
        """Return the URL that clients use."""
        return _endpoint(self._lab)

    def install(self, step: Step) -> str:
        """Fetch Ceph, unless it is there.

        Args:
            step: Hears about what is fetched.

        Returns:
            Its version.

        Raises:
            InstallError: ``E_INSTALL`` when this machine cannot get it.
        """
        instead = "name an S3 server that you have: `target: existing` with `s3:` in djops.yaml"
        prefix = debian.install("ceph", (*_WANTED, *_UNUSED), _SUITES, step, instead=instead)
        # A coming version may use what this one does not.
        if not _complete(prefix):
            prefix = debian.install("ceph", _WANTED, _SUITES, step, instead=instead)
            if not _complete(prefix):
                raise InstallError("Ceph's programs lack libraries", where=str(prefix.path), hint=instead)
        self._prefix = prefix
        return prefix.versions["radosgw"].split(":")[-1].split("+")[0].split("-")[0]

    def initialise(self) -> None:
        """Make the cluster's data when there is none.

        Raises:
            StartError: ``E_START`` with the last lines of what the program said.
            DiskFullError: ``E_DISK`` when there is no room.
        """
        threading.Thread(target=_import_s3_client, daemon=True).start()
        account = self._lab.account
        with disk_errors(self._state):
            for directory in (self._state, self._state / "run", self._state / "log"):
                private_directory(directory, account)
        if self._data.exists():
            return
        self._end_helpers()
        self._configure()
        beside = self._state / "data.new"
        with disk_errors(beside):
            if beside.exists():
                shutil.rmtree(beside)
            require_space(self._state, _LEAST_SPACE)
            for directory in (beside, beside / "mon", beside / "osd"):
                private_directory(directory, account)
        for name, text in keyrings().items():
            write_private(beside / name, text, owner=account)
        self._make_cluster(beside)
        (beside / "first.keyring").unlink()
        beside.rename(self._data)

    def running(self) -> bool:
        """Whether all three daemons are alive."""
        return all(self._alive(daemon) for daemon in _DAEMONS)

    def start(self) -> None:
        """Start what does not run; returns when the gateway is under way.

        The gateway comes last: started before the block store is up, it sleeps ten seconds.

        Raises:
            StartError: ``E_START`` when a daemon ends at once, ``E_PORT`` when its port is taken.
        """
        if self.running():
            return
        self._configure()
        mon_port = self._lab.ports["s3_mon"]
        if self._spawn("mon", ["ceph-mon", "-f", "-i", "a"], mon_port):
            self._wait("mon", lambda: ports.answers(mon_port))
        self._spawn("osd", ["ceph-osd", "-f", "-i", "0"])
        if not self._alive("rgw"):
            self._wait("osd", lambda: _UP in self._log_of("osd").read_bytes())
        self._spawn("rgw", ["radosgw", "-f", "-n", "client.rgw"])

    def ready(self) -> bool:
        """Whether the gateway answers a question that it must ask the block store for."""
        client = http.client.HTTPConnection(ports.HOST, self._lab.ports["s3"], timeout=1)
        try:
            # Always another name: an answer from the gateway's memory would say nothing.
            client.request("HEAD", f"/{_NO_BUCKET}-{secrets.token_hex(8)}")
            return client.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Stop the daemons, each before the ones it needs."""
        self._end_helpers()
        for daemon in reversed(_DAEMONS):
            process.terminate(self._pid_file(daemon), self._lab.account, grace=15)

    def bootstrap(self) -> None:
        """Make djops' own users, and the project's buckets.

        Raises:
            DjopsError: When the gateway refuses.
        """
        from djops.systems.buckets import ensure_bucket
        from djops.systems.local import ceph_access

        lab = self._lab
        root = ceph_access.ensure_root(lab.secrets / "s3-root.json", self._connection, self._admin, lab)
        for bucket in lab.buckets:
            ensure_bucket(root, bucket)
        manager_file = lab.secrets / "s3-manager.json"
        ceph_access.ensure_manager(manager_file, root, lab.project, lab.buckets)

    @property
    def administration(self) -> Callable[..., subprocess.CompletedProcess[str]]:
        """Runs ``radosgw-admin`` with arguments; what it prints may hold secrets."""
        return self._admin

    def _connection(self, access_key: str, secret_key: Secret) -> S3Connection:
        return _connection(self._lab, access_key, secret_key)

    def _configure(self) -> None:
        prefix = self._require_prefix()
        link, beside = self._state / PROGRAMS, self._state / f".{PROGRAMS}"
        libraries = Path(PROGRAMS) / prefix.libraries.relative_to(prefix.path)
        with disk_errors(self._state):
            beside.unlink(missing_ok=True)
            beside.symlink_to(prefix.path)
            beside.replace(link)
        text = configuration(self._lab.ports, libraries, ops_log=self.records_requests)
        write_private(self._state / "ceph.conf", text, owner=self._lab.account)

    def _make_cluster(self, beside: Path) -> None:
        """Make the data of monitor and block store in a directory beside the final one."""
        here, cluster = beside.name, str(uuid.uuid4())
        address = f"v2:{ports.HOST}:{self._lab.ports['s3_mon']}"
        self._run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, f"{here}/monmap")
        self._run("osdmaptool", "--createsimple", "1", f"{here}/osdmap")
        maps = ["--monmap", f"{here}/monmap", "--osdmap", f"{here}/osdmap"]
        ring = ["--keyring", f"{here}/first.keyring"]
        self._run("ceph-mon", "--mkfs", "-i", "a", *maps, *ring, f"--mon-data={here}/mon")
        self._reserve(beside / "osd" / "block.db")
        free = shutil.disk_usage(self._state).free
        # Sparse; its size is the limit that keeps the object store from filling the disk.
        size = max(_GIB, min(_MOST_SPACE, int(free * _SHARE_OF_FREE)) // _GIB * _GIB)
        options = [f"--fsid={cluster}", f"--bluestore-block-size={size}"]
        options += ["--bluestore-block-db-create=true", f"--bluestore-block-db-size={_CATALOGUE}"]
        # It would look for the monitor, which does not run yet.
        options += ["--no-mon-config"]
        ring = ["--keyring", f"{here}/osd.0.keyring", f"--osd-data={here}/osd"]
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", str(uuid.uuid4()), *options, *ring)

    def _reserve(self, catalogue: Path) -> None:
        """Take the room for the block store's catalogue and journal from the disk now.

        Measured with 20.2.4 in a sparse file on a full disk: failed writes to the journal are ignored
        and what they should keep is acknowledged, so that 95 of 95 objects were gone after a restart.
        Failed writes of objects themselves end the block store, which loses nothing.
        """
        handle = os.open(catalogue, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with disk_errors(catalogue):
                os.posix_fallocate(handle, 0, _CATALOGUE)
            if os.geteuid() == 0:
                os.fchown(handle, self._lab.account.uid, self._lab.account.gid)
        finally:
            os.close(handle)

    def _spawn(self, daemon: str, program: Sequence[str], port: int | None = None) -> bool:
        """Start a daemon unless it runs; tell whether it was started."""
        if self._alive(daemon):
            return False
        if port is not None and not ports.is_free(port):
            raise StartError(
                f"port {port}, which Ceph's {_TITLES[daemon]} needs, is held by {ports.holder(port)}",
                code="E_PORT",
                hint="end that program, then run `djops up` again",
            )
        log = self._log_of(daemon)
        # One file for each life of the daemon: what it says in it is about this life only.
        with disk_errors(log), contextlib.suppress(FileNotFoundError):
            log.replace(log.with_suffix(".log.1"))
        process.spawn(
            [*self._command(program[0]), *program[1:], f"--log-file={log}"],
            directory=self._state,
            pid_file=self._pid_file(daemon),
            log=log,
            account=self._lab.account,
        )
        return True

    def _wait(self, daemon: str, done: Callable[[], bool]) -> None:
        began, lost = time.monotonic(), math.inf
        while True:
            alive, now = self._alive(daemon), time.monotonic()
            # Counted from the first look that finds none: on a busy machine a single one may come late.
            waited, lost = now - began, math.inf if alive else min(lost, now)
            with contextlib.suppress(FileNotFoundError):
                if done():
                    return
            if now - lost > _GONE or waited > _PATIENCE:
                break
            time.sleep(0.02)
        log = self._log_of(daemon)
        ended = f"ended {process.fate(self._pid_file(daemon))}".rstrip()
        fate, last = "did not come up" if alive else ended, "\n".join(process.tail(log))
        raise StartError(
            f"Ceph's {_TITLES[daemon]} {fate} within {waited:.1f} s:\n{last}",
            where=str(log),
            hint=f"see more with `tail -n 100 {log}`",
        )

    def _admin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``radosgw-admin``; what it prints may hold secrets."""
        return self._process("radosgw-admin", "-n", "client.rgw", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        done = self._process(program, *arguments)
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise StartError(f"{program} could not make Ceph's data:\n{last}", where=str(self._state))

    def _process(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return process.run(
            [*self._command(program), *arguments],
            directory=self._state,
            pid_file=self._pid_file(program),
            account=self._lab.account,
        )

    def _end_helpers(self) -> None:
        """End what a killed djops left behind of programs that only it waits for."""
        for program in _RUN:
            process.terminate(self._pid_file(program), self._lab.account, grace=0)

    def _command(self, program: str) -> list[str]:
        prefix = self._require_prefix()
        return [*_command(prefix, program, PROGRAMS), "-c", "ceph.conf"]

    def _require_prefix(self) -> debian.Prefix:
        if self._prefix is None:
            raise DjopsError("Ceph must be installed before it starts", code="E_STATE")
        return self._prefix

    def _alive(self, daemon: str) -> bool:
        return process.running_pid(self._pid_file(daemon), self._lab.account) is not None

    def _pid_file(self, name: str) -> Path:
        return self._state / "run" / f"{name}.pid"

    def _log_of(self, daemon: str) -> Path:
        return self._state / "log" / f"{daemon}.log"


def connection(lab: Lab) -> S3Connection:
    """Say how djops reaches the lab's object store.

    Args:
        lab: The lab, with its ports.

    Returns:
        The connection, as the IAM user that djops works as.

    Raises:
        DjopsError: ``E_NOT_UP`` when the lab was never brought up.
    """
    file = lab.secrets / "s3-manager.json"
    kept = read_json(file)
    if kept is None:
        raise DjopsError(
            "the lab's object store was never brought up",
            where=str(file),
            code="E_NOT_UP",
            hint="bring it up with `djops up`",
        )
    return _connection(lab, str(kept["access_key"]), Secret(str(kept["secret_key"])))


def root_connection(lab: Lab) -> S3Connection | None:
    """Say how to reach the lab's object store as its account's root, or ``None`` before there is one.

    Args:
        lab: The lab.
    """
    kept = read_json(lab.secrets / "s3-root.json")
    if kept is None:
        return None
    return _connection(lab, str(kept["access_key"]), secret_in(lab, kept, "secret_key"))


def _connection(lab: Lab, access_key: str, secret_key: Secret) -> S3Connection:
    return S3Connection(
        endpoint=_endpoint(lab),
        admin_endpoint=f"https://{ports.HOST}:{lab.ports['s3_tls']}",
        access_key=access_key,
        secret_key=secret_key,
        ca=lab.ca,
    )


def _import_s3_client() -> None:
    """Import what :meth:`CephServer.bootstrap` needs while Ceph's own programs are at work."""
    importlib.import_module("djops.systems.local.ceph_access")


def _endpoint(lab: Lab) -> str:
    return f"http://{ports.HOST}:{lab.ports['s3']}"


def _command(prefix: debian.Prefix, program: str, link: str) -> list[str]:
    """Return the beginning of an argv, with ``link`` for the prefix, whose name loaders might expand."""
    command = debian.loader_command(prefix.path, f"usr/bin/{program}", libraries=("ceph",))
    return [part.replace(str(prefix.path), link) for part in command]


def _complete(prefix: debian.Prefix) -> bool:
    """Tell whether every program finds its libraries; asked once for each prefix."""
    mark = prefix.path / ".djops-complete"
    if mark.exists():
        return True
    for program in _RUN:
        asked = [*_command(prefix, program, "."), "--version"]
        try:
            done = subprocess.run(
                asked,
                cwd=prefix.path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=process.environment(Path("/")),
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            raise InstallError(
                f"{program} did not tell its version within {_PATIENCE:.0f} s",
                where=str(prefix.path),
                hint="is the disk there, and is the machine not overloaded?",
            ) from error
        # 127 is the loader's own: a library was not found.
        if done.returncode == 127:
            return False
    mark.touch()
    return True
