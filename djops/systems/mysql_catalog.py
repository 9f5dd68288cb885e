"""Reading all that a MySQL server's own tables say about access, in a constant number of queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from djops.compile.mysql_state import AccountId, Login, MysqlCatalog, Proxy, Routine
from djops.errors import AccessDeniedError

if TYPE_CHECKING:
    from djops.systems.mysql import Mysql

_SETTINGS = (
    "SELECT @@mandatory_roles, @@activate_all_roles_on_login, @@partial_revokes, "
    "@@require_secure_transport, @@lower_case_table_names, CURRENT_USER()"
)
_QUOTED = r"`[^`]*`|'[^']*'|\"[^\"]*\""
_SCHEMAS = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA"
_TABLES = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"


def read_catalog(server: Mysql) -> MysqlCatalog:
    """Read the catalog: what :meth:`Mysql.read_state` reads, and six queries more.

    Args:
        server: The server, as an account that may read the grant tables.

    Returns:
        The catalog. Schemas and tables are those that account sees: all schemas with ``SHOW DATABASES``,
        tables where it has a privilege.

    Raises:
        AccessDeniedError: ``E_DENIED`` when it may not read one of the grant tables.
    """
    state = server.read_state()
    mandatory, all_roles, partial, tls, case, me = server.query(_SETTINGS)[0]
    rows = server.query(
        "SELECT User, Host, ssl_type, account_locked, password_expired, plugin, "
        "JSON_EXTRACT(User_attributes, '$.Restrictions') FROM mysql.user"
    )
    logins, restrictions = {}, {}
    for user, host, ssl_type, locked, expired, plugin, revoked in rows:
        account = AccountId(user, host)
        logins[account] = Login(ssl_type, locked == "Y", expired == "Y", plugin)
        if revoked:
            restrictions[account] = _restrictions(revoked)
    return MysqlCatalog(
        accounts=state.accounts,
        privileges=state.privileges,
        edges=state.edges,
        defaults=state.defaults,
        logins=logins,
        restrictions=restrictions,
        routines=state.routines,
        events=state.events,
        leases=state.leases,
        proxies=_proxies(server),
        passed_on=frozenset(
            (AccountId(user, host), privilege)
            for user, host, privilege in server.query(
                "SELECT USER, HOST, PRIV FROM mysql.global_grants WHERE WITH_GRANT_OPTION = 'Y'"
            )
        ),
        mandatory_roles=tuple(parse_accounts(mandatory or "")),
        activate_all_roles=bool(all_roles),
        partial_revokes=bool(partial),
        require_tls=bool(tls),
        fold_names=bool(case),
        schemas=frozenset(name for (name,) in server.query(_SCHEMAS)),
        tables=frozenset((schema, table) for schema, table in server.query(_TABLES)),
        read_by=AccountId(*me.rsplit("@", 1)),
    )


def parse_accounts(text: str) -> Iterator[AccountId]:
    """Read a list of accounts as ``@@mandatory_roles`` has it: ``role1@%, `role2`@`host` ``.

    Any of three quotes may stand around a name; there is no way to write the same quote inside.

    Args:
        text: The setting.

    Yields:
        The accounts; the host is ``%`` where none stands.
    """
    for part in re.findall(rf"(?:{_QUOTED}|[^,])+", text):
        match = re.fullmatch(rf"\s*({_QUOTED}|[^@]+?)\s*(?:@\s*({_QUOTED}|.+?)\s*)?", part, re.DOTALL)
        if match:
            user, host = (_unquoted(group) for group in match.groups(default="%"))
            yield AccountId(user, host)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "`'\"" else text


def _restrictions(document: str) -> Mapping[str, frozenset[str]]:
    return {
        entry["Database"]: frozenset(name.upper() for name in entry["Privileges"])
        for entry in json.loads(document)
    }


def read_routines(server: Mysql) -> Iterator[tuple[Routine, frozenset[str]]]:
    """Read who holds which stored routines.

    Args:
        server: The server, as an account that may read the grant tables.
    """
    for user, host, schema, name, kind, names in server.query(
        "SELECT User, Host, Db, Routine_name, Routine_type, Proc_priv FROM mysql.procs_priv"
    ):
        held = (part.strip().upper() for part in names.split(",") if part)
        yield (
            Routine(AccountId(user, host), schema, name, kind),
            frozenset("GRANT OPTION" if part == "GRANT" else part for part in held),
        )


def _proxies(server: Mysql) -> frozenset[Proxy] | None:
    try:
        rows = server.query("SELECT User, Host, Proxied_user, Proxied_host FROM mysql.proxies_priv")
    except AccessDeniedError:
        return None  # an account made before djops looked there, or by somebody else
    return frozenset(
        Proxy(AccountId(user, host), AccountId(proxied, proxied_host))
        for user, host, proxied, proxied_host in rows
    )
