"""Services as they are themselves: logged in to the secrets server, with what they were given there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from djops.compile.machines import credentials_path
from djops.compile.vault import MOUNT, secret_path
from djops.errors import DjopsError
from djops.model.project import Project
from djops.services.access import Servers
from djops.services.machines import another_login
from djops.systems.connections import SecretsConnection
from djops.systems.vault import Secrets


@dataclass(frozen=True)
class Machine:
    """A service that has logged in.

    Attributes:
        login: The role id and secret id it has.
        session: Its session; what is leased to it ends with it.
        opens: API paths that were its own when it logged in.
        user: Its account in MySQL: the lease's, or its own; empty where djops keeps its password.
        password: The password that the secrets server made for it.
    """

    login: SecretsConnection
    session: Secrets
    opens: tuple[str, ...]
    user: str = ""
    password: str = ""

    def may_log_in(self) -> bool:
        """Tell whether its role id and secret id are good."""
        try:
            with Secrets(self.login) as session:
                session.login()
        except DjopsError:
            return False
        return True

    def still_opens(self) -> tuple[str, ...]:
        """Return which of the paths the token that it has opens."""
        token = self.session.token()
        return tuple(path for path in self.opens if self.session.opens(token, path))


Machines = Mapping[str, Machine]


def start(servers: Servers, project: Project, name: str) -> Machine:
    """Give a service another secret id, and let it log in and fetch its database credentials.

    Args:
        servers: The servers.
        project: The project, which has the service.
        name: Its name.

    Raises:
        DjopsError: It cannot log in, or gets no credentials.
    """
    login = another_login(servers, name)
    if login is None:
        raise DjopsError(f"{name} has no log-in", code="E_NO_CREDENTIALS")
    session, kept = Secrets(login), f"{MOUNT}/data/{secret_path(project, name)}"
    session.login()
    own = credentials_path(project, name)
    if own is None:
        return Machine(login, session, (kept,))
    given = session.request("GET", own)
    if given is None:
        raise DjopsError(f"there are no credentials for {name}", code="E_NO_CREDENTIALS")
    opens = (kept, own) if project.stores else (own,)
    return Machine(login, session, opens, given["data"]["username"], given["data"]["password"])
