"""The lab's secrets server: OpenBao with raft storage, TLS, an audit log, and no root token.

The server unseals itself with a key in a file (*static seal*). As that file lies on the same disk as
the data, the seal protects nothing against somebody who can read the disk: file permissions do.

It initialises itself at its first start from the ``initialize`` blocks of its configuration: mount,
policies and djops' AppRole. The root token it does that with is revoked before it answers the first
request, and nobody ever sees it. Measured with OpenBao 2.7.2: a server killed in the middle of that
refuses to start, or starts healthy and empty, and nobody has rights on it. Hence:

* until djops has logged in once, its credentials are called ``secrets-approle.pending.json``, where no
  command looks for them: nothing can have been stored, and an unfinished server is made anew;
* after that they are ``secrets-approle.json``, a marker lies beside the data, and nothing here removes
  anything any more.
"""

from __future__ import annotations

import http.client
import secrets
import shutil
import ssl
from pathlib import Path
from typing import Any, ClassVar

from djops.compile.vault_manager import AUDIT, first_requests
from djops.errors import DjopsError
from djops.systems import process
from djops.systems.connections import Secret, SecretsConnection
from djops.systems.files import disk_errors, read_json, sync_directory, write_json, write_private
from djops.systems.local import openbao_program
from djops.systems.local.openbao_program import Program
from djops.systems.local.server import Lab
from djops.systems.paths import private_directory
from djops.systems.progress import Step

HOST = "127.0.0.1"
_NODE = "lab"
_LOOPBACK = ["127.0.0.1/32"]
_ROLE_ID, _SECRET_ID = "role-id", "secret-id"


class OpenBaoServer:
    """The lab's secrets server.

    Args:
        lab: The lab it belongs to.
    """

    name: ClassVar[str] = "secrets"
    title: ClassVar[str] = "OpenBao"
    port_names: ClassVar[tuple[str, ...]] = ("secrets", "secrets_cluster")
    public_ports: ClassVar[tuple[str, ...]] = ("secrets",)

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._directory = lab.state("openbao")
        self._program: Program | None = None

    @property
    def log(self) -> Path:
        """The log a user should look at."""
        return self._directory / "openbao.log"

    @property
    def audit_log(self) -> Path:
        """Every request and answer, one JSON object a line, with secrets as keyed hashes."""
        return self._directory / "audit.log"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "openbao.pid"

    @property
    def _raft(self) -> Path:
        return self._directory / "raft"

    @property
    def _seal_key(self) -> Path:
        return self._directory / "seal.key"

    @property
    def _first_start(self) -> Path:
        """What the first start reads and no later one: the AppRole's ids, each in a file of its own."""
        return self._directory / "first-start"

    @property
    def _usable(self) -> Path:
        """Marks a server that djops has logged in to: it may hold secrets and is never removed."""
        return self._directory / "usable"

    @property
    def _credentials(self) -> Path:
        return credentials_file(self.lab)

    @property
    def _pending(self) -> Path:
        return self._credentials.with_suffix(".pending.json")

    def install(self, step: Step) -> str:
        """Make sure the program is there and the servers' account can run it.

        Args:
            step: Hears where it was found.

        Returns:
            The server's version.

        Raises:
            InstallError: ``E_INSTALL`` when there is none; the hint names what to install.
        """
        self._program = openbao_program.runnable_by(openbao_program.find(), self.lab.account)
        step.note(f"OpenBao {self._program.version}")
        return self._program.version

    def initialise(self) -> None:
        """Prepare the first start, unless there was one that led to a usable server.

        Raises:
            DjopsError: ``E_DATA_LOST`` when a part of a usable server has gone.
        """
        private_directory(self._directory, self.lab.account)
        if not self._unfinished():
            self._require_complete()
        elif not self.running():
            self._prepare_first_start()

    def running(self) -> bool:
        """Whether the process that djops started is alive."""
        return process.running_pid(self._pid_file, self.lab.account) is not None

    def start(self) -> None:
        """Start the server when it does not run; it answers when it is initialised and unsealed.

        Raises:
            InstallError: ``E_INSTALL`` when there is no program.
            DjopsError: ``E_START`` when it cannot be started at all.
        """
        if self.running():
            return
        if self._program is None:
            self._program = openbao_program.runnable_by(openbao_program.find(), self.lab.account)
        configuration = self._directory / "config.json"
        write_json(configuration, self._configuration(), owner=self.lab.account)
        process.spawn(
            [self._program.path, "server", f"-config={configuration}"],
            directory=self._directory,
            pid_file=self._pid_file,
            log=self.log,
            account=self.lab.account,
        )

    def ready(self) -> bool:
        """Whether it is initialised, unsealed and active.

        It opens its port at once but speaks TLS only after its own initialisation: an answer means that
        this is complete and the root token is gone.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.lab.ca))
            client = http.client.HTTPSConnection(HOST, self._port, timeout=1, context=context)
            try:
                client.request("GET", "/v1/sys/health")
                return client.getresponse().status == http.HTTPStatus.OK
            finally:
                client.close()
        except (OSError, http.client.HTTPException, DjopsError):
            return False

    def stop(self) -> None:
        """Stop the server that djops started."""
        process.terminate(self._pid_file, self.lab.account, grace=10)

    def endpoint(self) -> str:
        """Return the server's URL."""
        return f"https://{HOST}:{self._port}"

    def bootstrap(self) -> None:
        """After the first start: log in, and from then on keep the server for good.

        Raises:
            AccessDeniedError: ``E_DENIED`` when the server does not know djops.
        """
        if not self._credentials.exists():
            self._try_credentials()
            self._pending.rename(self._credentials)
            sync_directory(self._credentials.parent)
        if not self._usable.exists():
            write_private(self._usable, "djops has logged in here; do not remove\n", owner=self.lab.account)
        shutil.rmtree(self._first_start, ignore_errors=True)

    @property
    def _port(self) -> int:
        return self.lab.ports["secrets"]

    def _try_credentials(self) -> None:
        from djops.systems.vault import Secrets  # slow to import, and needed once in a lab's life

        with Secrets(_connection(self.lab, self._pending)) as session:
            session.login()

    def _require_complete(self) -> None:
        needed = (self._credentials, self._seal_key, self._raft / "vault.db")
        missing = [path for path in needed if not path.exists()]
        if missing:
            raise DjopsError(
                "the secrets server was in use, and this part of it is gone",
                where=str(missing[0]),
                code="E_DATA_LOST",
                hint="restore it from a backup, or begin anew with `djops down --purge`",
            )

    def _prepare_first_start(self) -> None:
        account = self.lab.account
        with disk_errors(self._directory):
            for remains in (self._raft, self._first_start):
                if remains.exists():
                    shutil.rmtree(remains)
        private_directory(self._raft, account)
        private_directory(self._first_start, account)
        ids = {_ROLE_ID: secrets.token_hex(16), _SECRET_ID: secrets.token_urlsafe(32)}
        write_json(self._pending, {"role_id": ids[_ROLE_ID], "secret_id": ids[_SECRET_ID]})
        for file, value in ids.items():
            write_private(self._first_start / file, value, owner=account)
        write_private(self._seal_key, secrets.token_bytes(32), owner=account)

    def _configuration(self) -> dict[str, Any]:
        lab = self.lab
        address, cluster = f"{HOST}:{self._port}", f"{HOST}:{lab.ports['secrets_cluster']}"
        seal = {"current_key_id": "lab-1", "current_key": f"file://{self._seal_key}"}
        audit = {"file_path": str(self.audit_log), **AUDIT}
        listener = {
            "address": address,
            "cluster_address": cluster,
            "tls_cert_file": str(lab.certificate),
            "tls_key_file": str(lab.key),
        }
        first = {"initialize": [{"djops": {"request": self._first_requests()}}]}
        return {
            "storage": {"raft": {"path": str(self._raft), "node_id": _NODE, "performance_multiplier": 1}},
            "seal": {"static": seal},
            "listener": [{"tcp": listener}],
            "api_addr": f"https://{address}",
            "cluster_addr": f"https://{cluster}",
            "audit": [{"type": "file", "path": "main", "options": audit}],
            **(first if self._unfinished() else {}),
        }

    def _unfinished(self) -> bool:
        return not (self._credentials.exists() or self._usable.exists())

    def _first_requests(self) -> list[dict[str, Any]]:
        """Return the requests of the first start, in order; what the AppRole may do comes before it."""
        bound = {"secret_id_bound_cidrs": _LOOPBACK, "token_bound_cidrs": _LOOPBACK}
        role_id, secret_id = (_from_file(self._first_start / name) for name in (_ROLE_ID, _SECRET_ID))
        requests = dict(first_requests())
        role, settings = requests["role"]
        requests["role"] = role, {**settings, **bound, "role_id": role_id}
        requests["secret-id"] = f"{role}/custom-secret-id", {"secret_id": secret_id}
        return [
            {name: {"operation": "update", "path": path, "data": data}}
            for name, (path, data) in requests.items()
        ]


def credentials_file(lab: Lab) -> Path:
    """Return where djops' own credentials for the lab's secrets server are, once it is usable."""
    return lab.secrets / "secrets-approle.json"


def connection(lab: Lab) -> SecretsConnection:
    """Say how djops reaches the lab's secrets server.

    Args:
        lab: The lab, with its ports.

    Returns:
        The connection.

    Raises:
        DjopsError: ``E_NOT_UP`` when the lab was never brought up.
    """
    return _connection(lab, credentials_file(lab))


def _connection(lab: Lab, file: Path) -> SecretsConnection:
    ids = read_json(file)
    if ids is None:
        raise DjopsError(
            "the lab's secrets server was never brought up",
            where=str(file),
            code="E_NOT_UP",
            hint="bring it up with `djops up`",
        )
    return SecretsConnection(
        address=f"https://{HOST}:{lab.ports['secrets']}",
        role_id=str(ids["role_id"]),
        secret_id=Secret(str(ids["secret_id"])),
        ca=lab.ca,
    )


def _from_file(path: Path) -> dict[str, str]:
    return {"eval_type": "string", "eval_source": "file", "path": str(path)}
