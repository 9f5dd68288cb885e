"""What a MySQL server's own tables mean: who may do what, and by which row.

The reader knows nothing of djops' roles. What it says was compared cell by cell with what a server does.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from djops.compile.mysql_state import AccountId, MysqlCatalog
from djops.proof.decision import Decision
from djops.proof.mysql_matching import Client, host_admits, host_order, rank
from djops.proof.mysql_session import ANY, SCHEMA_PRIVILEGES, Counted, Path, Row, Rows, Session
from djops.proof.mysql_texts import name_of, path_of, quote, text_of
from djops.proof.mysql_traps import Trap, find_traps

ANYWHERE = ""
"""In the place of a schema: the privilege on the server as a whole."""

_FOR_ALL = "information_schema"
"""Readable by everybody; it shows what the reader may see."""


class MysqlReader:
    """Answers questions about access from a server's catalog.

    Args:
        catalog: The catalog, as :meth:`djops.systems.mysql.Mysql.read_catalog` reads it.
    """

    def __init__(self, catalog: MysqlCatalog) -> None:
        self.catalog = catalog
        self.rows = Rows.of(
            Row(held.grantee, self._folded(held.scope.pattern), self._folded(held.scope.table), column, names)
            for held, names in catalog.privileges.items()
            for column in (held.scope.column.lower(),)
        )
        self._granted: dict[AccountId, list[AccountId]] = {}
        self._default: dict[AccountId, list[AccountId]] = {}
        for edge in sorted(catalog.edges):
            self._granted.setdefault(edge.member, []).append(edge.role)
        for edge in sorted(catalog.defaults):
            self._default.setdefault(edge.member, []).append(edge.role)
        self._sessions: dict[tuple[AccountId, Client], Session] = {}
        self._holders: dict[AccountId, Mapping[str, frozenset[AccountId]]] = {}

    def accounts(self, *, all_of_them: bool = False) -> tuple[AccountId, ...]:
        """Return the accounts that can log in.

        Args:
            all_of_them: Roles and locked accounts too.
        """
        everybody = sorted(self.catalog.accounts)
        return tuple(one for one in everybody if all_of_them or self.may_log_in(one).allowed)

    def may_log_in(self, account: AccountId) -> Decision:
        """Tell whether an account can log in at all, given its password.

        Args:
            account: The account.
        """
        if account not in self.catalog.accounts:
            return Decision(False, (f"there is no account {name_of(account)}",))
        login = self.catalog.logins.get(account)
        locked = login.locked if login else self.catalog.accounts[account].locked
        if locked:
            return Decision(False, (f"{name_of(account)} is locked",))
        if login and login.plugin == "mysql_no_login":
            return Decision(False, (f"{name_of(account)} has the plugin mysql_no_login",))
        return Decision(True, (f"{name_of(account)} is not locked",))

    def account_for(self, user: str, client: Client) -> AccountId | None:
        """Return the account that a log-in picks, the first by host and then by name that fits.

        Args:
            user: The name given.
            client: Where the log-in comes from.

        Returns:
            The account, anonymous maybe; ``None`` when no account fits.
        """
        fitting = [
            one for one in self.catalog.accounts if one.user in (user, "") and host_admits(one.host, client)
        ]
        return min(fitting, key=lambda one: (host_order(one.host), -rank(one.user), one), default=None)

    def session(self, account: AccountId, client: Client | None = None) -> Session:
        """Return what a session of an account holds.

        Args:
            account: The account, or a role, as if it could log in.
            client: Where it comes from; by default somewhere that the account's host is for and no
                narrower host of an account of the same name.
        """
        client = client or Client.of(account.host)
        key = (account, client)
        if key not in self._sessions:
            roles = self._active_roles(account)
            self._sessions[key] = Session(
                account,
                client,
                self._reached(account, roles if account.user else []),
                self.rows,
                has_roles=bool(roles),
                literal=self.catalog.partial_revokes,
                restrictions=self.catalog.restrictions,
            )
        return self._sessions[key]

    def privileges(
        self,
        account: AccountId,
        schema: str,
        table: str = "",
        column: str = "",
        *,
        client: Client | None = None,
    ) -> frozenset[str]:
        """Return all privileges of a session on something; the fast way when reasons are not wanted.

        Args:
            account: The account.
            schema: The schema; :data:`ANYWHERE` for the server as a whole.
            table: The table; empty for the whole schema.
            column: The column; empty for the whole table.
            client: Where the session comes from.

        Returns:
            Their names. Where the catalog leaves open which row counts, those of all rows that may.
        """
        session = self.session(account, client)
        schema, table, column = self._folded(schema), self._folded(table), column.lower()
        if schema == ANYWHERE:
            return session.everywhere
        if schema.lower() == _FOR_ALL:
            return frozenset({"SELECT"})
        held = session.rights(schema)
        if table:
            found = [row.names for row in session.on_table(schema, table) if row.column in ("", column)]
            held = held.union(*found) if found else held
        return held

    def alike(self, account: AccountId, schema: str) -> Hashable:
        """Return what is equal for accounts that have the same privileges on a schema and all in it.

        Args:
            account: The account.
            schema: The schema.
        """
        session = self.session(account)
        if not session.has_roles or self.catalog.partial_revokes:
            return account
        # With a role active, the rows of the account and its roles unite, in whatever order.
        if account not in self._holders:
            self._holders[account] = self._holders_by_schema(session)
        holders = self._holders[account]
        return session.everywhere, holders.get(self._folded(schema), holders[ANY])

    def _holders_by_schema(self, session: Session) -> Mapping[str, frozenset[AccountId]]:
        """Return who of an account and its roles has rows about each schema; under :data:`ANY`, about any."""
        found: dict[str, set[AccountId]] = {ANY: set()}
        for one in session.paths:
            for name in self.rows.touched(one):
                found.setdefault(name, set()).add(one)
        return {name: frozenset(holders | found[ANY]) for name, holders in found.items()}

    def decide(
        self,
        account: AccountId,
        privilege: str,
        schema: str,
        table: str = "",
        column: str = "",
        *,
        client: Client | None = None,
    ) -> Decision:
        """Tell whether a session of an account has a privilege, and by which rows.

        Whether the account can log in is another question: :meth:`may_log_in`.

        Args:
            account: The account, or a role, as if it could log in.
            privilege: The privilege as GRANT calls it.
            schema: The schema; :data:`ANYWHERE` for the server as a whole.
            table: The table; empty for the whole schema.
            column: The column; empty for the whole table.
            client: Where the session comes from.

        Returns:
            The answer; for a refusal with the rows that come close. ``certain`` is not set where the
            server goes by the order of its memory; then ``allowed`` says that it may be so.
        """
        privilege = privilege.upper()
        session = self.session(account, client)
        schema, table, column = self._folded(schema), self._folded(table), column.lower()
        if schema.lower() == _FOR_ALL and privilege == "SELECT":
            return Decision(True, ("everybody may read information_schema, as far as it shows anything",))
        if privilege not in self.privileges(account, schema, table, column, client=client):
            return Decision(False, tuple(self._against(session, privilege, schema, table)))
        rows = tuple(_granting(session, privilege, schema, table, column))
        certain = _is_certain(session, privilege, schema, rows)
        because = tuple(text_of(row, session, privilege) for row in rows)
        if not certain:
            because += (_UNCERTAIN,)
        return Decision(True, because, certain)

    def holders(self, privilege: str, schema: str, table: str = "") -> Mapping[AccountId, Decision]:
        """Return the accounts that can log in and have a privilege.

        Args:
            privilege: The privilege as GRANT calls it.
            schema: The schema.
            table: The table; empty for the whole schema.

        Returns:
            The decision for each.
        """
        found = {one: self.decide(one, privilege, schema, table) for one in self.accounts()}
        return {one: decision for one, decision in found.items() if decision.allowed}

    def schemas_reached(self, account: AccountId) -> Mapping[str, frozenset[str]]:
        """Return the existing schemas where an account has any privilege, with what it has somewhere in each.

        Args:
            account: The account.
        """
        session = self.session(account)
        reached: dict[str, frozenset[str]] = {}
        parts: dict[str, frozenset[str]] = {}
        for grantee, schema, table in self.rows.tables:
            if grantee in session.paths or grantee.user == account.user:
                rows = session.on_table(schema, table)
                parts[schema] = parts.get(schema, frozenset()).union(*(row.names for row in rows))
        for schema in sorted(self.catalog.schemas):
            names = self.privileges(account, schema) | parts.get(self._folded(schema), frozenset())
            if names and schema.lower() != _FOR_ALL:
                reached[schema] = names
        return reached

    def traps(self) -> list[Trap]:
        """Return what is dangerous or surprising on the server, whoever made it."""
        return find_traps(self.catalog, self.rows, {one: self.session(one) for one in self.accounts()})

    def _active_roles(self, account: AccountId) -> list[AccountId]:
        """Return the roles that are active after log-in; what they have been granted is active as well."""
        catalog = self.catalog
        chosen = self._granted if catalog.activate_all_roles else self._default
        granted = self._granted.get(account, [])
        first = [role for role in chosen.get(account, []) if role in granted]
        return first + [role for role in catalog.mandatory_roles if role in catalog.accounts]

    def _reached(self, account: AccountId, first: list[AccountId]) -> dict[AccountId, Path]:
        """Return an account and its roles, breadth first, with the way to each."""
        paths: dict[AccountId, Path] = {account: (account,)}
        todo = [(role, paths[account]) for role in first]
        for role, before in todo:
            if role not in paths:
                paths[role] = (*before, role)
                todo += [(further, paths[role]) for further in self._granted.get(role, [])]
        return paths

    def _against(self, session: Session, privilege: str, schema: str, table: str) -> Iterator[str]:
        """Yield what comes close to allowing something: hidden rows, partial revokes, inactive roles."""
        if schema == ANYWHERE:
            return
        counted = session.on_schema(schema)
        for row in counted.hidden:
            if privilege in row.names:
                first = text_of(counted.rows[0], session)
                yield f"{text_of(row, session, privilege)} does not count: the server goes by {first}"
        for grantee, held in session.on_server().items():
            if privilege in held & session.taken(schema)[0]:
                what = f"{privilege} on *.*, less {privilege} on {quote(schema)}.* (partial revoke)"
                yield f"{path_of(session, grantee)}: {what}"
        for row in session.on_table(schema, table):
            if row.column and privilege in row.names:
                yield f"{text_of(row, session, privilege)}: that column only"
        granted = self._reached(session.account, self._granted.get(session.account, []))
        inactive = Session(session.account, session.client, granted, self.rows, True, session.literal)
        for row in _granting(inactive, privilege, schema, table, ""):
            if row.grantee not in session.paths:
                yield f"{text_of(row, inactive, privilege)}: not active after log-in"

    def _folded(self, name: str) -> str:
        return name.lower() if self.catalog.fold_names else name


_UNCERTAIN = "only one of these rows counts, or a partial revoke does: the catalog does not say which"


def _granting(session: Session, privilege: str, schema: str, table: str, column: str) -> Iterator[Row]:
    """Yield the rows that give a privilege."""
    taken = session.taken(schema)[0] if schema else frozenset[str]()
    for grantee, names in session.on_server().items():
        if privilege in names and privilege not in taken and (not schema or privilege in SCHEMA_PRIVILEGES):
            yield Row(grantee, "*", "", "", names)
    if schema and not (session.has_roles and privilege in taken):
        yield from (row for row in session.on_schema(schema).rows if privilege in row.names)
    if table:
        for row in session.on_table(schema, table):
            if row.column in ("", column) and privilege in row.names:
                yield row


def _is_certain(session: Session, privilege: str, schema: str, rows: tuple[Row, ...]) -> bool:
    if not schema or any(row.table for row in rows):
        return True
    settled = session.taken(schema)[1]
    if settled and any(row.schema == "*" for row in rows):
        return True
    counted: Counted = session.on_schema(schema)
    return settled and (counted.certain or all(privilege in row.names for row in counted.rows))
