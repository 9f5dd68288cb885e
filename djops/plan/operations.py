"""What a change does to a server, as data: the very thing that is shown, exported and executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from djops.compile.mysql_state import AccountId
from djops.compile.sql import quote_string


@dataclass(frozen=True)
class SecretRef:
    """A secret by where it is kept; its value is looked up when it is sent, and never shown.

    Attributes:
        path: Path below the mount of the secrets server.
        field: Name of the field.
    """

    path: str
    field: str

    def __str__(self) -> str:
        return f"<secret {self.path}#{self.field}>"


@dataclass(frozen=True)
class Sql:
    """One SQL statement.

    Attributes:
        parts: Text, with references where a secret belongs.
        instead: A MySQL error number, and what to send when the server answers with it.
        frame: What stands before and after the parts, where they are about one account of several that the
            server would take in the same place; it then carries out all of the statement or nothing.
        whole: Whether such statements are only ever sent as one, since it is not safe to stop between two.
    """

    parts: tuple[str | SecretRef, ...]
    instead: tuple[int, Sql] | None = None
    frame: tuple[str, str] | None = None
    whole: bool = False

    def render(self, reveal: Callable[[SecretRef], str]) -> str:
        """Return the statement as it is sent.

        Args:
            reveal: Looks a secret up.
        """
        before, after = self.frame or ("", "")
        parts = (part if isinstance(part, str) else quote_string(reveal(part)) for part in self.parts)
        return before + "".join(parts) + after

    def __str__(self) -> str:
        return self.render(str)


def joined(statements: Sequence[Sql]) -> Sql:
    """Say statements about one account each in one that the server carries out as a whole or not at all.

    Args:
        statements: Statements with the same frame.
    """
    first, *others = statements
    parts = [*first.parts]
    for other in others:
        parts += (", ", *other.parts)
    return Sql(tuple(parts), frame=first.frame, whole=first.whole)


@dataclass(frozen=True)
class AwsCall:
    """One request to the S3 or IAM API.

    Attributes:
        service: Which of the two.
        action: Name of the action as AWS documents it.
        parameters: Its parameters.
        keep_key: Where the access key in the answer is to be kept, and for which stores.
        missing_is_done: Whether "no such entity" means that there is nothing left to do.
        as_administrator: Whether it takes more than djops' own key may, where there is such a key.
    """

    service: Literal["iam", "s3"]
    action: str
    parameters: Mapping[str, Any]
    keep_key: KeepKey | None = None
    missing_is_done: bool = False
    as_administrator: bool = False

    def __str__(self) -> str:
        return f"{self.service}:{self.action} {json.dumps(self.parameters, sort_keys=True)}"


@dataclass(frozen=True)
class KeepKey:
    """Where a new access key goes.

    Attributes:
        path: Path below the mount of the secrets server.
        stores: Names of the stores that the client shall use it for.
    """

    path: str
    stores: tuple[str, ...]


@dataclass(frozen=True)
class StorePassword:
    """Make a password and keep it, unless one is kept already.

    Attributes:
        path: Path below the mount of the secrets server.
        user: The database account it is for.
        field: Name of the field.
    """

    path: str
    user: str
    field: str = "database.password"

    def __str__(self) -> str:
        return f"secrets: keep a new password for {self.user} at {self.path}#{self.field} unless there is one"


@dataclass(frozen=True)
class KeepNextPassword:
    """Hand out the password that was kept beside, if there is one, in the place of the present one.

    Attributes:
        path: Path below the mount of the secrets server.
    """

    path: str

    def __str__(self) -> str:
        return f"secrets: hand out the new password at {self.path}"


@dataclass(frozen=True)
class MarkSecret:
    """Record facts beside a secret that are not secret.

    Attributes:
        path: Path below the mount of the secrets server.
        facts: The facts.
    """

    path: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"secrets: note {json.dumps(self.facts, sort_keys=True)} at {self.path}"


@dataclass(frozen=True)
class NotePassword:
    """Record beside a secret that its password is in force, and since when by the database's own clock.

    Attributes:
        path: Path below the mount of the secrets server.
        account: The account whose password it is.
    """

    path: str
    account: AccountId

    def __str__(self) -> str:
        return f"secrets: note at {self.path} that its password is in force for {self.account}"


@dataclass(frozen=True)
class VaultCall:
    """One request to the secrets server.

    Attributes:
        method: HTTP method.
        path: API path below ``/v1/``.
        body: JSON body.
    """

    method: Literal["POST", "PUT", "DELETE"]
    path: str
    body: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        body = "" if self.body is None else " " + json.dumps(self.body, sort_keys=True)
        return f"secrets: {self.method} {self.path}{body}"


@dataclass(frozen=True)
class ForgetFields:
    """Take fields out of a secret, and facts that stood beside it for them.

    Attributes:
        path: Path below the mount of the secrets server.
        fields: Names of the fields.
        facts: Names of the facts.
    """

    path: str
    fields: tuple[str, ...]
    facts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"secrets: forget {', '.join(self.fields)} at {self.path}"


@dataclass(frozen=True)
class ConnectEngine:
    """Give the database engine's account a new password, and have the engine renew that at once.

    So nobody but the secrets server knows it afterwards.

    Attributes:
        name: Under which the engine knows the database.
        account: The engine's account.
        settings: How it reaches the database, but for the password.
    """

    name: str
    account: AccountId
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        shown = json.dumps(self.settings, sort_keys=True)
        return f"secrets: connect the database engine as {self.account}, with a new password: {shown}"


@dataclass(frozen=True)
class EndSession:
    """End every open database session of an account.

    Attributes:
        user: The account's user name.
    """

    user: str

    def __str__(self) -> str:
        return f"mysql: KILL every session of {self.user}"


Operation = (
    Sql
    | AwsCall
    | StorePassword
    | KeepNextPassword
    | MarkSecret
    | NotePassword
    | VaultCall
    | ForgetFields
    | ConnectEngine
    | EndSession
)
