"""MySQL in the lab: ``mysqld`` 8.0 or newer from PATH, else the distribution's package in a private prefix.

MariaDB is refused: DataJoint 2 does not support it, and it judges rights differently (it asks no
REFERENCES on the parent of a foreign key), so that what works there fails on MySQL.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from djops.compile.mysql_manager import grant_events, grant_journal, grant_schemas, grant_server, grant_tables
from djops.compile.s3_manager import SCRATCH
from djops.compile.sql import quote_account, quote_string
from djops.errors import AccessDeniedError, DjopsError, InstallError, StartError
from djops.systems import debian, passwords, process
from djops.systems.connections import MysqlConnection, Secret
from djops.systems.files import read_json, write_json, write_private
from djops.systems.local.kept import secret_in
from djops.systems.local.server import Lab
from djops.systems.mysql import Mysql
from djops.systems.paths import private_directory
from djops.systems.ports import HOST
from djops.systems.progress import Step

MANAGER = "djops"
"""The account djops works as: it makes accounts and roles, and has rights on the project's schemas only."""

_PATIENCE = 30.0
"""Seconds that the secrets server, which starts at the same time, has until root's password is needed."""

_OLDEST = (8, 0)
_PACKAGES = tuple(
    f"mysql-{part}-core|mysql-{part}-core-8.4|mysql-{part}-core-8.0" for part in ("server", "client")
)
_SUITES = ("sid", "forky")
_CLIENTS = ("mysql", "mysqldump", "mysqladmin", "mysqlshow")
_APPARMOR = Path("/etc/apparmor.d/usr.sbin.mysqld")

_CONFIGURATION = """\
# Written by djops at every start: changes are lost.
[mysqld]
{programs}\
datadir = "{data}"
tmpdir = "{state}/tmp"
socket = "mysqld.sock"
pid_file = "mysqld.pid"
bind_address = {host}
port = {port}
mysqlx = OFF
secure_file_priv = NULL
local_infile = OFF

# An encrypted connection, always, with the lab's certificate, which names the address.
require_secure_transport = ON
tls_version = "TLSv1.2,TLSv1.3"
ssl_ca = "{ca}"
ssl_cert = "{certificate}"
ssl_key = "{key}"
auto_generate_certs = OFF
caching_sha2_password_auto_generate_rsa_keys = OFF

# What DataJoint asks of a server: strict mode, large blobs, and the patience of long make() calls.
sql_mode = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
character_set_server = utf8mb4
max_allowed_packet = 512M
wait_timeout = 86400
interactive_timeout = 86400
net_read_timeout = 3600
net_write_timeout = 3600
lock_wait_timeout = 600
innodb_lock_wait_timeout = 600

# From 9.6 on the server's own foreign keys lose rows in cascades over several levels; InnoDB's do not.
loose_innodb_native_foreign_keys = ON

# Ends grants with a date where nobody runs djops in time.
event_scheduler = ON

# One person's machine: memory is for the pipeline.
performance_schema = OFF
skip_log_bin
innodb_buffer_pool_size = 128M
innodb_redo_log_capacity = 128M
innodb_log_buffer_size = 8M
table_open_cache = 1000
table_definition_cache = 1000
max_connections = 200
temptable_max_ram = 64M
"""


@dataclass(frozen=True)
class _Program:
    """What to start.

    Attributes:
        command: Beginning of the argv.
        version: For example ``9.7.4``.
        settings: Lines of the configuration that tell where its own files are.
    """

    command: tuple[str, ...]
    version: str
    settings: str


class MysqlServer:
    """The lab's MySQL.

    Args:
        lab: The lab it belongs to.
    """

    name: ClassVar[str] = "mysql"
    title: ClassVar[str] = "MySQL"
    port_names: ClassVar[tuple[str, ...]] = ("mysql",)
    public_ports: ClassVar[tuple[str, ...]] = ("mysql",)

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._state = lab.state("mysql")
        self._data = self._state / "data"
        self._pid_file = self._state / "djops.pid"
        self._program: _Program | None = None

    @property
    def log(self) -> Path:
        """The error log."""
        return self._state / "mysqld.log"

    def endpoint(self) -> str:
        """Return ``host:port``."""
        return f"{HOST}:{self._lab.ports['mysql']}"

    def install(self, step: Step) -> str:
        """Find MySQL on PATH, or fetch it.

        Args:
            step: Hears about what is fetched.

        Returns:
            Its version.

        Raises:
            InstallError: ``E_INSTALL`` when this machine has none and can get none.
        """
        on_path, refused = _on_path()
        if on_path is not None:
            self._program = on_path
            return on_path.version
        instead = "install MySQL 8.0 or newer so that `mysqld` is on PATH"
        try:
            prefix = debian.install("mysql", _PACKAGES, _SUITES, step, instead=instead)
        except InstallError as error:
            if refused is None:
                raise
            raise InstallError(f"{refused}; {error.message}", hint=error.hint) from error
        self._program = _in_prefix(prefix)
        return self._program.version

    def initialise(self) -> None:
        """Make the data directory, with a random password for root from its first moment on.

        Raises:
            StartError: ``E_START`` with the last lines of the log when ``mysqld`` refuses.
        """
        account = self._lab.account
        private_directory(self._state, account)
        private_directory(self._state / "tmp", account)
        self._write_configuration()
        statements = self._state / "initialise.sql"
        if self._data.exists():
            statements.unlink(missing_ok=True)
            return
        beside = self._state / "data.new"
        process.terminate(self._state / "initialise.pid", account, grace=0)
        shutil.rmtree(beside, ignore_errors=True)
        password = quote_string(_kept_password(self._lab.secrets / "mysql-root.json", "root"))
        write_private(
            statements,
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY {password} REQUIRE SSL;\n",
            owner=account,
        )
        options = ["--initialize-insecure", f"--init-file={statements}", f"--datadir={beside}"]
        try:
            done = process.run(
                [*self._command(), *options],
                directory=self._state,
                pid_file=self._state / "initialise.pid",
                account=account,
                timeout=300,
            )
        finally:
            statements.unlink(missing_ok=True)
        if done.returncode != 0:
            last = "\n".join(done.stderr.strip().splitlines()[-10:])
            raise StartError(f"MySQL could not make its data directory:\n{last}", where=str(self._state))
        beside.rename(self._data)

    def running(self) -> bool:
        """Whether ``mysqld`` is alive."""
        return process.running_pid(self._pid_file, self._lab.account) is not None

    def start(self) -> None:
        """Start ``mysqld`` unless it runs."""
        if self.running():
            return
        self._write_configuration()
        process.spawn(
            self._command(),
            directory=self._state,
            pid_file=self._pid_file,
            log=self.log,
            account=self._lab.account,
        )

    def ready(self) -> bool:
        """Whether it takes log-ins; a refused one is an answer too."""
        # A log-in waits without end for a server that is stopped, or for a stranger on its port.
        if not _greets(self._lab.ports["mysql"]):
            return False
        try:
            with Mysql(self._best_connection()):
                return True
        except AccessDeniedError:
            return True
        except (DjopsError, OSError, KeyError):
            return False

    def stop(self) -> None:
        """Shut ``mysqld`` down, and whatever a killed initialisation left running."""
        process.terminate(self._state / "initialise.pid", self._lab.account, grace=0)
        process.terminate(self._pid_file, self._lab.account, grace=60)

    def bootstrap(self) -> None:
        """Make the manager account, or mend it.

        Raises:
            AccessDeniedError: ``E_DENIED`` when root's password is not the recorded one.
        """
        root = root_connection(self._lab, patience=_PATIENCE)
        if root is None:
            raise DjopsError(
                "root's password is missing",
                where=str(self._lab.secrets / "mysql-root.json"),
                code="E_STATE",
                hint="restore the file from a backup",
            )
        if not can_be_had(root.password) and _logs_in(manager_connection(self._lab)):
            return  # what was lost with the secrets server is not needed while the manager gets in
        file = self._lab.secrets / "mysql-manager.json"
        password = quote_string(_kept_password(file, MANAGER))
        with Mysql(root) as server:
            account = f"{quote_string(MANAGER)}@'%'"
            server.query(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {password} REQUIRE SSL")
            if not _logs_in(manager_connection(self._lab)):
                server.query(f"ALTER USER {account} IDENTIFIED BY {password} REQUIRE SSL ACCOUNT UNLOCK")
            for statement in (
                grant_server(account),
                *grant_tables(account).values(),
                *grant_schemas(account, [SCRATCH]),
                *grant_events(account),
                *grant_journal(account),
            ):
                server.query(statement)

    def _best_connection(self) -> MysqlConnection:
        connection = manager_connection(self._lab) or root_connection(self._lab)
        if connection is None:
            raise DjopsError("there is no account yet", code="E_STATE")
        return connection

    def _write_configuration(self) -> None:
        program = self._program
        if program is None:
            raise DjopsError("MySQL must be installed before it starts", code="E_STATE")
        content = _CONFIGURATION.format(
            programs=program.settings,
            data=self._data,
            state=self._state,
            host=HOST,
            port=self._lab.ports["mysql"],
            ca=self._lab.ca,
            certificate=self._lab.certificate,
            key=self._lab.key,
        )
        write_private(self._state / "my.cnf", content, owner=self._lab.account)

    def _command(self) -> list[str]:
        if self._program is None:
            raise DjopsError("MySQL must be installed before it starts", code="E_STATE")
        return [*self._program.command, f"--defaults-file={self._state / 'my.cnf'}"]


def guard_statements(root: MysqlConnection, statement: str) -> None:
    """Have the server run a statement for each new session of people and services, from now on.

    Args:
        root: How to log in as root.
        statement: The statement; empty for none.

    Raises:
        ServerUnavailableError: The server does not answer.
    """
    with Mysql(root) as server:
        if server.query("SELECT @@GLOBAL.init_connect")[0][0] != statement:
            server.query(f"SET PERSIST init_connect = {quote_string(statement)}")


def root_connection(lab: Lab, patience: float = 0) -> MysqlConnection | None:
    """Return how to log in as root, or ``None`` before the lab was first brought up.

    Args:
        lab: The lab.
        patience: Seconds to wait for the secrets server, when the password is kept there and it is starting.
    """
    return _connection(lab, "mysql-root.json", patience)


def manager_connection(lab: Lab) -> MysqlConnection | None:
    """Return how to log in as the account djops works as, or ``None`` before there is one.

    Args:
        lab: The lab.
    """
    return _connection(lab, "mysql-manager.json")


def can_be_had(password: Secret) -> bool:
    """Tell whether a password that may be kept in the secrets server can be had.

    Args:
        password: The password.
    """
    try:
        password.reveal()
    except DjopsError:
        return False
    return True


def clients() -> dict[str, list[str]]:
    """Find MySQL's client programs, on PATH or beside the lab's server.

    Returns:
        The beginning of each one's argv, by its name; MariaDB's only where there are no others.
    """
    prefix = debian.installed("mysql", _PACKAGES)
    found: dict[str, list[str]] = {}
    for name in _CLIENTS:
        on_path = shutil.which(name)
        if prefix is not None and (prefix.path / "usr" / "bin" / name).exists():
            found[name] = debian.loader_command(prefix.path, f"usr/bin/{name}")
        elif on_path is not None:
            found[name] = [on_path]
    return found


def grant_manager(root: MysqlConnection, schemas: Iterable[str]) -> None:
    """Give the manager the rights on schemas that it may then pass on. Idempotent.

    Args:
        root: Root's connection; the manager cannot give itself anything.
        schemas: The project's schemas; they need not exist yet.

    Raises:
        ServerUnavailableError: ``E_SERVER`` when MySQL does not answer.
        AccessDeniedError: ``E_DENIED`` when root's password is not the recorded one.
        NameRefusedError: ``E_NAME`` for a name MySQL cannot hold.
    """
    with Mysql(root) as server:
        escape = server.escapes_patterns()
        for statement in grant_schemas(quote_account(MANAGER, "%"), schemas, escape=escape):
            server.query(statement)


def _connection(lab: Lab, file: str, patience: float = 0) -> MysqlConnection | None:
    kept = read_json(lab.secrets / file)
    if kept is None:
        return None
    password = secret_in(lab, kept, "password", patience)
    return MysqlConnection(HOST, lab.ports["mysql"], str(kept["user"]), password, lab.ca)


def _kept_password(file: Path, user: str) -> str:
    """Return the password in a file, made and written first when there is none."""
    kept: dict[str, Any] | None = read_json(file)
    if kept is None or "password" not in kept:
        kept = {"user": user, "password": passwords.generate()}
        write_json(file, kept)
    return str(kept["password"])


def _greets(port: int) -> bool:
    """Whether somebody on a port begins to speak MySQL's protocol, version 10, within a second."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as client:
            return client.recv(5)[4:] == b"\x0a"
    except OSError:
        return False


def _logs_in(connection: MysqlConnection | None) -> bool:
    if connection is None:
        return False
    try:
        with Mysql(connection):
            return True
    except DjopsError:
        return False


def _on_path() -> tuple[_Program | None, str | None]:
    """Return the ``mysqld`` on PATH, or why it will not do."""
    found = shutil.which("mysqld") or shutil.which("mysqld", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        maria = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")
        return None, _maria(maria) if maria else None
    try:
        asked = [found, "--version"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout
    except subprocess.TimeoutExpired:
        return None, f"{found} does not tell its version"
    if "mariadb" in answer.lower():
        return None, _maria(found)
    match = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", answer)
    if match is None or (int(match[1]), int(match[2])) < _OLDEST:
        return None, f"{found} is older than MySQL 8.0"
    if found == "/usr/sbin/mysqld" and _APPARMOR.exists() and Path("/sys/kernel/security/apparmor").exists():
        # Ubuntu's profile lets it write the system's own data directory only.
        return None, f"{found} is confined to the system's own database"
    return _Program((found,), ".".join(match.groups()), ""), None


def _maria(path: str) -> str:
    return f"{path} is MariaDB, which DataJoint 2 does not support and whose rights differ from MySQL's"


def _in_prefix(prefix: debian.Prefix) -> _Program:
    package = next(name for name in prefix.versions if name.startswith("mysql-server-core"))
    version = prefix.versions[package].split(":")[-1].split("-")[0]
    shared = prefix.path / "usr" / "share" / "mysql"
    settings = {
        "basedir": prefix.path / "usr",
        "plugin_dir": prefix.path / "usr" / "lib" / "mysql" / "plugin",
        "lc_messages_dir": shared,
        "character_sets_dir": shared / "charsets",
    }
    lines = "".join(f'{key} = "{path}"\n' for key, path in settings.items())
    return _Program(tuple(debian.loader_command(prefix.path, "usr/sbin/mysqld")), version, lines)
