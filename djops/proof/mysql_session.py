r"""What a session on a MySQL server holds: the rows that count for it, and those that another row hides.

A server with two minds. Without an active role it takes one row of ``mysql.db``, the narrowest by host,
schema and user that matches; rows of other accounts of the same name and of anonymous accounts match too.
With an active role it puts the rows of the account and its roles together by the spelling of the schema,
takes those spelled exactly like the schema, and else the first spelling in byte order that matches: ``%``
hides ``lab\_ephys``. Only rows of one spelling unite.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from djops.compile.mysql_state import AccountId
from djops.compile.sql import unescape_pattern
from djops.proof.mysql_matching import Client, host_admits, host_order, opens, rank

SCHEMA_PRIVILEGES = frozenset(
    {
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "CREATE",
        "DROP",
        "GRANT OPTION",
        "REFERENCES",
        "INDEX",
        "ALTER",
        "CREATE TEMPORARY TABLES",
        "LOCK TABLES",
        "CREATE VIEW",
        "SHOW VIEW",
        "CREATE ROUTINE",
        "ALTER ROUTINE",
        "EXECUTE",
        "EVENT",
        "TRIGGER",
    }
)
"""Privileges that can be held on a schema, and that partial revokes can take away there."""

_ORDERS = 24
"""How many orders of roles are tried where partial revokes make the order matter."""

_FOLDED = "\0"
"""Marks names that are compared without regard to case."""

ANY = ""
"""In the place of a schema that rows are about: any that fits a wildcard."""

Path = tuple[AccountId, ...]
"""An account, the role it has active, the role granted to that, and so on."""


class Row(NamedTuple):
    """A grant as the server keeps it.

    Attributes:
        grantee: The account or role that holds it.
        schema: The schema's pattern or name; ``*`` for all of the server.
        table: The table, empty for the whole schema.
        column: The column, empty for the whole table.
        names: The privileges.
    """

    grantee: AccountId
    schema: str
    table: str
    column: str
    names: frozenset[str]


class Counted(NamedTuple):
    """The rows on schemas that count for one schema, and those that do not.

    Attributes:
        rows: Rows that count; where ``certain`` is not set only one of them does.
        hidden: Rows that match, and do not count because of the others.
        certain: Whether the catalog says which row counts.
    """

    rows: tuple[Row, ...] = ()
    hidden: tuple[Row, ...] = ()
    certain: bool = True


@dataclass(frozen=True)
class Rows:
    """All grants of a server, found by who holds them.

    Attributes:
        everywhere: Privileges on all of the server, by grantee.
        schemas: Rows on schemas, by grantee.
        tables: Rows on tables and columns, by grantee, schema and table.
        by_user: Grantees with rows, by the name without the host.
    """

    everywhere: Mapping[AccountId, frozenset[str]]
    schemas: Mapping[AccountId, Sequence[Row]]
    tables: Mapping[tuple[AccountId, str, str], Sequence[Row]]
    by_user: Mapping[str, Sequence[AccountId]]

    def touched(self, grantee: AccountId) -> frozenset[str]:
        """Return the schemas that rows of an account or role are about, :data:`ANY` among them for wildcards.

        Args:
            grantee: The account or role.
        """
        return self._touched.get(grantee, frozenset())

    @functools.cached_property
    def _touched(self) -> Mapping[AccountId, frozenset[str]]:
        found: dict[AccountId, set[str]] = {}
        for grantee, rows in self.schemas.items():
            names = (_looked_up(row.schema) for row in rows)
            found.setdefault(grantee, set()).update(ANY if name is None else name for name in names)
        for grantee, schema, _ in self.tables:
            found.setdefault(grantee, set()).add(schema)
        return {grantee: frozenset(names) for grantee, names in found.items()}

    @staticmethod
    def of(rows: Iterable[Row]) -> Rows:
        """Sort grants by who holds them.

        Args:
            rows: All grants of a server.
        """
        everywhere: dict[AccountId, frozenset[str]] = {}
        schemas: dict[AccountId, list[Row]] = {}
        tables: dict[tuple[AccountId, str, str], list[Row]] = {}
        users: dict[str, set[AccountId]] = {}
        for row in rows:
            users.setdefault(row.grantee.user, set()).add(row.grantee)
            if row.table:
                tables.setdefault((row.grantee, row.schema, row.table), []).append(row)
            elif row.schema == "*":
                everywhere[row.grantee] = everywhere.get(row.grantee, frozenset()) | row.names
            else:
                schemas.setdefault(row.grantee, []).append(row)
        return Rows(everywhere, schemas, tables, {user: sorted(found) for user, found in users.items()})


@dataclass(frozen=True)
class _Index:
    """Rows on schemas in the order in which the server tries them, found by the schema they mean.

    Attributes:
        named: Rows that mean one schema, with their places, by what the schema's name is compared as.
        wild: Rows with live wildcards, with their places.
    """

    named: Mapping[str, Sequence[tuple[int, Row]]]
    wild: Sequence[tuple[int, Row]]

    @staticmethod
    def of(rows: Iterable[Row], meaning: Callable[[str], str | None]) -> _Index:
        """Sort rows in.

        Args:
            rows: The rows in the server's order.
            meaning: Turns a pattern into the one name it matches, ``None`` for live wildcards.
        """
        named: dict[str, list[tuple[int, Row]]] = {}
        wild: list[tuple[int, Row]] = []
        for place, row in enumerate(rows):
            name = meaning(row.schema)
            (wild if name is None else named.setdefault(name, [])).append((place, row))
        return _Index(named, wild)

    def matching(self, schema: str) -> list[Row]:
        """Return the rows that match a schema, in the server's order."""
        found = [*self.named.get(schema, ()), *self.named.get(_FOLDED + schema.upper(), ())]
        found += [(place, row) for place, row in self.wild if opens(row.schema, schema)]
        return [row for _, row in sorted(found, key=lambda one: one[0])]


@dataclass
class Session:
    """A session right after log-in.

    Attributes:
        account: The account it was let in as.
        client: Where it comes from.
        paths: The account and its active roles, in the order the server visits them, with the way to each.
        rows: All grants of the server.
        has_roles: Whether any role is active; an anonymous account has mandatory ones active, and is none the
            richer for them.
        literal: Whether ``_`` and ``%`` in grants are plain characters (``@@partial_revokes``).
        restrictions: What partial revokes take, by account and schema.
    """

    account: AccountId
    client: Client
    paths: Mapping[AccountId, Path]
    rows: Rows
    has_roles: bool
    literal: bool = False
    restrictions: Mapping[AccountId, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    _known: dict[str, Counted] = field(default_factory=dict, repr=False)
    _rights: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def on_server(self) -> Mapping[AccountId, frozenset[str]]:
        """Return the privileges on all of the server, by who holds them."""
        everywhere = self.rows.everywhere
        return {grantee: everywhere[grantee] for grantee in self.paths if grantee in everywhere}

    def on_schema(self, schema: str) -> Counted:
        """Return the rows on schemas that match a schema, those that count apart from the others.

        Args:
            schema: The schema's name.
        """
        if schema not in self._known:
            matching = self._index.matching(schema)
            choose = _first_spelling if self.has_roles else _narrowest
            self._known[schema] = choose(matching) if matching else Counted()
        return self._known[schema]

    @functools.cached_property
    def everywhere(self) -> frozenset[str]:
        """Privileges on all of the server, partial revokes aside."""
        return frozenset[str]().union(*self.on_server().values())

    def rights(self, schema: str) -> frozenset[str]:
        """Return the privileges on a schema as a whole; those of all rows where it is open which counts.

        Args:
            schema: The schema's name.
        """
        if schema not in self._rights:
            taken = self.taken(schema)[0]
            on_schema = frozenset[str]().union(*(row.names for row in self.on_schema(schema).rows))
            held = (self.everywhere & SCHEMA_PRIVILEGES) - taken
            self._rights[schema] = held | (on_schema - taken if self.has_roles else on_schema)
        return self._rights[schema]

    def on_table(self, schema: str, table: str) -> Sequence[Row]:
        """Return the rows on a table and its columns that count.

        Args:
            schema: The schema's name.
            table: The table's name.
        """
        tables = self.rows.tables
        if self.has_roles:
            return [row for grantee in self.paths for row in tables.get((grantee, schema, table), ())]
        for grantee in self._namesakes():
            if (grantee, schema, table) in tables:
                return tables[grantee, schema, table]
        return ()

    def taken(self, schema: str) -> tuple[frozenset[str], bool]:
        """Return the privileges that partial revokes take on a schema, and whether that is certain.

        Only privileges on schemas and on all of the server are taken, not those on tables. Where roles
        meet partial revokes the outcome can depend on the order in which the server visits the roles,
        which is not in the catalog; then it is what the server takes in every order.

        Args:
            schema: The schema's name.
        """
        found = [outcome.get(schema, frozenset()) for outcome in self._outcomes]
        return frozenset.intersection(*found), len(set(found)) == 1

    def _namesakes(self) -> list[AccountId]:
        """Return the accounts of this name whose rows count without roles, narrowest host first."""
        users = self.rows.by_user.get(self.account.user, ())
        admitted = [one for one in users if one == self.account or host_admits(one.host, self.client)]
        return sorted(admitted, key=lambda one: (-rank(one.host), host_order(one.host)))

    @functools.cached_property
    def _index(self) -> _Index:
        if not self.has_roles:
            everybody = self.rows.by_user.get("", ()) if self.account.user else ()
            anonymous = [one for one in everybody if host_admits(one.host, self.client)]
            rows = [row for one in (*self._namesakes(), *anonymous) for row in self.rows.schemas.get(one, ())]
            # Sorting keeps the order of rows of one rank; which of them counts is not certain anyway.
            return _Index.of(sorted(rows, key=_rank_of, reverse=True), _as_is if self.literal else _meant)
        rows = [row for one in self.paths for row in self.rows.schemas.get(one, ()) if row.names]
        # The server looks a spelling without wildcards up as it is, and compares the others one by one.
        rows.sort(key=lambda row: (_has_wildcard(row.schema), row.schema.encode()))
        return _Index.of(rows, _looked_up_literally if self.literal else _looked_up)

    @functools.cached_property
    def _outcomes(self) -> list[Mapping[str, frozenset[str]]]:
        if not self.has_roles:
            return [self.restrictions.get(self.account, {})]
        if not self.literal or not any(self.restrictions.get(grantee) for grantee in self.paths):
            return [{}]
        levels: dict[int, list[AccountId]] = {}
        for grantee, path in self.paths.items():
            levels.setdefault(len(path), []).append(grantee)
        ways = itertools.product(*(itertools.permutations(level) for level in levels.values()))
        orders = itertools.islice(ways, _ORDERS)
        return [self._restricted([one for level in order for one in level]) for order in orders]

    def _restricted(self, order: Iterable[AccountId]) -> Mapping[str, frozenset[str]]:
        """Add up partial revokes over an account and its roles as the server does, visited in an order."""
        held: frozenset[str] = frozenset()
        taken: dict[str, frozenset[str]] = {}
        exact: dict[str, frozenset[str]] = {}
        for grantee in order:
            for row in self.rows.schemas.get(grantee, ()):
                if not _has_wildcard(row.schema):
                    exact[row.schema] = exact.get(row.schema, frozenset()) | row.names
            brings = self.rows.everywhere.get(grantee, frozenset()) & SCHEMA_PRIVILEGES
            taken = _aggregate(held, taken, brings, self.restrictions.get(grantee, {}), exact)
            held |= brings
        return taken


def _aggregate(
    held: frozenset[str],
    taken: Mapping[str, frozenset[str]],
    brings: frozenset[str],
    without: Mapping[str, frozenset[str]],
    exact: dict[str, frozenset[str]],
) -> dict[str, frozenset[str]]:
    """Add one grantee's partial revokes to those of the grantees before it.

    Args:
        held: Global privileges so far.
        taken: What is taken from them so far, by schema.
        brings: The grantee's global privileges.
        without: What partial revokes take from those, by schema.
        exact: Privileges on schemas whose names have no wildcard; changed as the server changes it.
    """
    left = dict(taken)
    if left:
        for schema, names in list(exact.items()):
            if schema in left:
                exact[schema] = names - left[schema]
                left[schema] -= names
    if not without:
        return _without_empty({schema: names - brings for schema, names in left.items()})
    if held >= brings and not _without_empty(left):
        return {}
    result: dict[str, frozenset[str]] = {}
    for schema, names in without.items():
        if left.get(schema):
            both = names & held & left[schema] & brings
            result[schema] = (names & brings - held) | both
            left[schema] -= brings
        else:
            result[schema] = names & brings - exact.get(schema, frozenset()) - held
    for schema, names in left.items():
        result[schema] = result.get(schema, frozenset()) | (names - brings)
    return _without_empty(result)


def _without_empty(restrictions: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    return {schema: names for schema, names in restrictions.items() if names}


def _narrowest(rows: Sequence[Row]) -> Counted:
    best = [row for row in rows if _rank_of(row) == _rank_of(rows[0])]
    return Counted(tuple(best), tuple(rows[len(best) :]), len(best) < 2)


def _first_spelling(rows: Sequence[Row]) -> Counted:
    counted = [row for row in rows if row.schema == rows[0].schema]
    return Counted(tuple(counted), tuple(rows[len(counted) :]))


def _as_is(pattern: str) -> str | None:
    return pattern


def _meant(pattern: str) -> str | None:
    return unescape_pattern(pattern)


def _looked_up(pattern: str) -> str | None:
    return unescape_pattern(pattern) if _has_wildcard(pattern) else pattern


def _looked_up_literally(pattern: str) -> str | None:
    # Only names with wildcards in them are compared without regard to case.
    return _FOLDED + pattern.upper() if _has_wildcard(pattern) else pattern


def _rank_of(row: Row) -> tuple[int, int, int]:
    return rank(row.grantee.host), rank(row.schema), rank(row.grantee.user)


def _has_wildcard(text: str) -> bool:
    return "_" in text or "%" in text
