"""A real MySQL server as the judge of who may do what: random accounts, and questions put as each of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pymysql

from djops.compile.mysql_state import AccountId
from djops.compile.sql import quote_account, quote_identifier, quote_string
from djops.errors import ApplyError
from djops.services.site import open_site
from djops.systems.mysql import Mysql

SCHEMAS = ("mr_lab", "mrXlab", "mr%lab", "mr_lab_x", "MR_LAB", "mrlab", "mrülab", r"mr\lab")
"""Near-twins of each other, to case, to wildcards and to bytes."""

SCRATCH = "mr-scratch"
PASSWORD = "a Password, 4 tests"
LOCAL = ("localhost", "127.0.0.1")
STRANGER = "mr_stranger"
"""A name that only an anonymous account fits."""

DENIED = {1044, 1142, 1143, 1227, 1370}
ALLOWED = {1050, 1051, 1072, 1091, 1304, 1305, 1347, 1359, 1360, 1396, 1539, 3730}
"""Errors that only somebody who is allowed to try gets to see."""

USERS = (
    AccountId("mr_a"),
    AccountId("mr_a", "localhost"),
    AccountId("mr_a", "127.0.0.%"),
    AccountId("mr_b"),
    AccountId("mr_c"),
    AccountId("mr_d", "127.0.0.0/8"),
    AccountId("", "%"),
)
ROLES = (
    AccountId("mr_r0"),
    AccountId("mr_r1"),
    AccountId("mr_r2"),
    AccountId("mr_r3", "localhost"),
    AccountId("mr:r4'`"),
)
ON_TABLE = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "INDEX",
    "REFERENCES",
    "TRIGGER",
    "CREATE VIEW",
)
ON_SCHEMA = (*ON_TABLE, "CREATE ROUTINE", "ALTER ROUTINE", "EXECUTE", "EVENT", "CREATE TEMPORARY TABLES")
ON_COLUMN = ("SELECT", "INSERT", "UPDATE")
REVOKED = ("SELECT", "INSERT", "UPDATE", "DELETE", "DROP")
"""What partial revokes are made of."""

ON_SERVER = ("RELOAD", "PROCESS", "SYSTEM_VARIABLES_ADMIN")


class Cell(NamedTuple):
    """A question to the server."""

    privilege: str
    schema: str
    table: str
    column: str
    statement: str


def cells() -> Iterator[Cell]:
    """Yield every question; none of the statements changes anything, allowed or not."""
    for schema in SCHEMAS:
        name = quote_identifier(schema)
        for column in ("x", "y"):
            yield Cell("SELECT", schema, "t", column, f"SELECT {column} FROM {name}.t LIMIT 0")
            insert = f"INSERT INTO {name}.t ({column}) SELECT 1 FROM DUAL WHERE FALSE"
            yield Cell("INSERT", schema, "t", column, insert)
            yield Cell("UPDATE", schema, "t", column, f"UPDATE {name}.t SET {column} = 1 WHERE FALSE")
        yield Cell("DELETE", schema, "t", "", f"DELETE FROM {name}.t WHERE FALSE")
        yield Cell("CREATE", schema, "t", "", f"CREATE TABLE {name}.t (x INT)")
        yield Cell("ALTER", schema, "t", "", f"ALTER TABLE {name}.t DROP COLUMN missing")
        yield Cell("DROP", schema, "t", "", f"DROP TABLE {name}.t")  # refused: t is referenced
        yield Cell("INDEX", schema, "t", "", f"CREATE INDEX i ON {name}.t (missing)")
        key = f"CREATE TABLE `{SCRATCH}`.child (x INT, FOREIGN KEY (x) REFERENCES {name}.t (x))"
        yield Cell("REFERENCES", schema, "t", "", key)
        trigger = f"CREATE TRIGGER {name}.there BEFORE INSERT ON {name}.t FOR EACH ROW SET @a = 1"
        yield Cell("TRIGGER", schema, "t", "", trigger)
        yield Cell("CREATE VIEW", schema, "t", "", f"CREATE VIEW {name}.t AS SELECT 1")
        yield Cell("CREATE ROUTINE", schema, "", "", f"CREATE PROCEDURE {name}.p() SELECT 1")
        yield Cell("ALTER ROUTINE", schema, "", "", f"DROP PROCEDURE {name}.missing")
        yield Cell("EXECUTE", schema, "", "", f"CALL {name}.p()")
        yield Cell("EVENT", schema, "", "", f"DROP EVENT {name}.missing")
        yield Cell("CREATE TEMPORARY TABLES", schema, "", "", f"CREATE TEMPORARY TABLE {name}.tt (x INT)")
    yield Cell("RELOAD", "", "", "", "FLUSH STATUS")
    yield Cell("PROCESS", "", "", "", "SHOW ENGINE INNODB STATUS")
    size = "SET GLOBAL net_buffer_length = @@GLOBAL.net_buffer_length"
    yield Cell("SYSTEM_VARIABLES_ADMIN", "", "", "", size)


CELLS = tuple(cells())


@contextmanager
def worlds(project_file: Path) -> Iterator[World]:
    """Give a lab's server the schemas for cases, and leave it as it was."""
    connection = open_site(project_file).mysql_root
    assert connection is not None
    with Mysql(connection) as root:
        made = World(root)
        made.remove()
        try:
            made.make_schemas()
            yield made
        finally:
            made.remove()


@dataclass
class World:
    """Schemas, and accounts that are made anew for every case.

    Attributes:
        root: A connection that may do everything.
        chance: Where the cases come from.
        done: The statements that made the case at hand.
    """

    root: Mysql
    chance: random.Random = field(default_factory=random.Random)
    done: list[str] = field(default_factory=list)

    def run(self, statement: str) -> None:
        self.done.append(statement)
        self.root.query(statement)

    def make_schemas(self) -> None:
        for schema in SCHEMAS:
            name = quote_identifier(schema)
            self.root.query(f"CREATE DATABASE {name}")
            self.root.query(f"CREATE TABLE {name}.t (x INT PRIMARY KEY, y INT)")
            self.root.query(f"CREATE TABLE {name}.kid (x INT PRIMARY KEY, FOREIGN KEY (x) REFERENCES t (x))")
            self.root.query(f"CREATE PROCEDURE {name}.p() BEGIN END")
            self.root.query(f"CREATE TRIGGER {name}.there BEFORE INSERT ON {name}.t FOR EACH ROW SET @a = 1")
        self.root.query(f"CREATE DATABASE `{SCRATCH}`")
        self.root.query(f"CREATE TABLE `{SCRATCH}`.child (x INT)")

    def clear(self) -> None:
        """Remove the accounts of the last case, and what it set."""
        self.root.query("SET GLOBAL mandatory_roles = ''")
        self.root.query("SET GLOBAL activate_all_roles_on_login = OFF")
        names = ", ".join(quote_account(*account) for account in (*USERS, *ROLES))
        self.root.query(f"DROP USER IF EXISTS {names}")
        self.done.clear()

    def remove(self) -> None:
        self.clear()
        self.root.query("SET GLOBAL partial_revokes = OFF")
        for schema in (*SCHEMAS, SCRATCH):
            self.root.query(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}")

    def make_case(self, *, literal: bool) -> list[AccountId]:
        """Make accounts, roles and grants at random.

        Args:
            literal: Whether the server is to have partial revokes on.

        Returns:
            The accounts.
        """
        self.clear()
        self.root.query(f"SET GLOBAL partial_revokes = {'ON' if literal else 'OFF'}")
        chance = self.chance
        roles = chance.sample(ROLES, chance.randint(0, len(ROLES)))
        users = chance.sample(USERS, chance.randint(2, 5))
        for role in roles:
            self.run(f"CREATE ROLE {quote_account(*role)}")
        for user in users:
            self.run(f"CREATE USER {quote_account(*user)} IDENTIFIED BY '{PASSWORD}' REQUIRE SSL")
            self.run(f"GRANT CREATE ON `{SCRATCH}`.child TO {quote_account(*user)}")
        self._memberships(users, roles)
        for grantee in (*users, *roles):
            for _ in range(chance.choice((0, 1, 1, 2, 3, 5))):
                self._grant(grantee, literal)
        if literal:
            self._partial_revokes((*users, *roles))
        if chance.random() < 0.2:
            self.run("FLUSH PRIVILEGES")
        return users

    def _memberships(self, users: list[AccountId], roles: list[AccountId]) -> None:
        chance = self.chance
        for member in (one for one in (*users, *roles) if one.user):  # anonymous ones can have no roles
            below = roles[roles.index(member) + 1 :] if member in roles else roles
            granted = [role for role in below if chance.random() < 0.4]
            if member in users and chance.random() < 0.1:
                granted += [user for user in users[users.index(member) + 1 :] if user.user][:1]
            for role in granted:
                self.run(f"GRANT {quote_account(*role)} TO {quote_account(*member)}")
            active = [role for role in granted if chance.random() < 0.8]
            if active:
                names = ", ".join(quote_account(*role) for role in active)
                self.run(f"SET DEFAULT ROLE {names} TO {quote_account(*member)}")
        if roles and chance.random() < 0.15:
            mandatory = chance.choice(roles)
            # No quote can be written inside the same quotes here.
            names = f'"{mandatory.user}"@`{mandatory.host}`'
            self.run(f"SET GLOBAL mandatory_roles = {quote_string(names)}")
        if chance.random() < 0.15:
            self.run("SET GLOBAL activate_all_roles_on_login = ON")

    def _some(self, names: tuple[str, ...], most: int = 4) -> list[str]:
        return self.chance.sample(names, self.chance.randint(1, min(most, len(names))))

    def _grant(self, grantee: AccountId, literal: bool) -> None:
        chance, to = self.chance, quote_account(*grantee)
        schema = chance.choice(SCHEMAS)
        kind = chance.choices(("schema", "table", "column", "server"), (10, 3, 3, 8 if literal else 1))[0]
        match kind:
            case "schema":
                on = quote_identifier(self.spelling(schema, literal))
                self.run(f"GRANT {', '.join(self._some(ON_SCHEMA, 6))} ON {on}.* TO {to}")
            case "table":
                on = quote_identifier(schema)
                self.run(f"GRANT {', '.join(self._some(ON_TABLE))} ON {on}.t TO {to}")
            case "column":
                columns = self._some(ON_COLUMN)
                what = ", ".join(f"{name} ({chance.choice(('x', 'y'))})" for name in columns)
                self.run(f"GRANT {what} ON {quote_identifier(schema)}.t TO {to}")
            case _:
                names = REVOKED if literal and chance.random() < 0.7 else (*ON_SCHEMA, *ON_SERVER)
                what = ", ".join(self._some(names))
                self.run(f"GRANT {what} ON *.* TO {to}")

    def spelling(self, schema: str, literal: bool) -> str:
        """Return one of the ways to write a grant that means, or also means, a schema."""
        chance = self.chance
        escaped = "".join("\\" + letter if letter in "_%\\" else letter for letter in schema)
        at = chance.randrange(len(schema))
        ways = [
            escaped,
            schema,
            schema[:at] + "%",
            schema[:at] + "_" + schema[at + 1 :],
            schema[:at] + "%" + schema[at + 1 :],
            escaped.replace("lab", "%"),
            schema[:at] + "_" * (len(schema) - at),
            schema.upper(),
            "%",
        ]
        weights = [1, 8, 1, 1, 1, 1, 1, 2, 1] if literal else [8, 4, 2, 2, 2, 2, 2, 1, 1]
        return chance.choices(ways, weights)[0]

    def _partial_revokes(self, grantees: tuple[AccountId, ...]) -> None:
        held = self.root.query(
            "SELECT User, Host, Select_priv, Insert_priv, Update_priv, Delete_priv, Drop_priv FROM mysql.user"
        )
        for user, host, *flags in held:
            if AccountId(user, host) not in grantees:
                continue
            for name, flag in zip(REVOKED, flags, strict=True):
                if flag == "Y" and self.chance.random() < 0.7:
                    for schema in self.chance.sample(SCHEMAS, 2):
                        on = quote_identifier(schema)
                        with suppress(ApplyError):  # a row on that schema that lacks it is in the way
                            self.run(f"REVOKE {name} ON {on}.* FROM {quote_account(user, host)}")

    @contextmanager
    def session(self, user: str) -> Iterator[pymysql.Connection[Any]]:
        """Log in from this machine."""
        there = self.root.connection
        link = pymysql.connect(
            host=there.host,
            port=there.port,
            user=user,
            password=PASSWORD,
            ssl={"ca": str(there.ca)},
            autocommit=True,
        )
        try:
            yield link
        finally:
            link.close()


def answer(link: pymysql.Connection[Any], statement: str) -> bool:
    """Tell whether the server lets a session do something."""
    with link.cursor() as cursor:
        try:
            cursor.execute(statement)
        except pymysql.MySQLError as error:
            assert error.args[0] in DENIED | ALLOWED, (statement, error)
            return error.args[0] in ALLOWED
    return True


def current_account(link: pymysql.Connection[Any]) -> AccountId:
    """Return which account the server took a session for."""
    with link.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        row = cursor.fetchone()
    assert row is not None
    return AccountId(*str(row[0]).rsplit("@", 1))
