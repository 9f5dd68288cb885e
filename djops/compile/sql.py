"""The one place where names and values become SQL text."""

from __future__ import annotations

from djops.errors import NameRefusedError
from djops.model.names import is_sandbox, sandbox_stem

MAX_IDENTIFIER = 64
"""Characters MySQL allows in a schema, table or column name (MySQL manual, Identifier Length Limits)."""

MAX_ACCOUNT = 32
"""Characters MySQL allows in an account or role name (MySQL manual, Identifier Length Limits)."""


def quote_identifier(name: str) -> str:
    """Quote a schema, table or column name.

    Args:
        name: The name as it is.

    Returns:
        The name between backticks, with backticks doubled.

    Raises:
        NameRefusedError: ``E_NAME`` for names MySQL cannot hold.
    """
    if not name or "\0" in name or any(ord(character) > 0xFFFF for character in name):
        raise NameRefusedError(
            f"{name!r} cannot be a MySQL name: empty, or with characters outside of the basic plane",
            hint="choose another name",
        )
    return "`" + name.replace("`", "``") + "`"


def quote_string(text: str) -> str:
    """Quote a string literal.

    Backslashes and quotes are both doubled, which is right in the default SQL mode; every connection
    djops opens sets a mode without ``NO_BACKSLASH_ESCAPES``.

    Args:
        text: The value as it is.

    Returns:
        The literal between single quotes.

    Raises:
        NameRefusedError: ``E_NAME`` for a NUL character, which no name or password of djops has.
    """
    if "\0" in text:
        raise NameRefusedError("a NUL character cannot stand in a MySQL string", hint="remove it")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def schema_pattern(schema: str, *, escape: bool = True) -> str:
    r"""Turn a schema name into what ``GRANT ... ON pattern.*`` must say to mean that schema alone.

    ``_`` and ``%`` are wildcards there: a grant on ``lab_ephys`` also opens ``labXephys``. With
    ``@@partial_revokes`` on, wildcards are off and an escaped name no longer matches.

    A sandbox is the one thing that is granted with a wildcard, and always in this one spelling.

    Args:
        schema: The schema's name, or a sandbox.
        escape: ``False`` when the server has ``partial_revokes`` on.

    Returns:
        The pattern as ``mysql.db`` stores it, not yet quoted.

    Raises:
        NameRefusedError: ``E_NAME`` when the pattern is longer than a name may be: MySQL counts the
            escapes (error 1059, seen on 9.7), so such a schema cannot be granted without opening others.
            Also for a sandbox on a server without wildcards.
    """
    if is_sandbox(schema):
        return _sandbox_pattern(schema, escape=escape)
    if not escape:
        return schema
    return _checked(_escaped(schema), schema)


def _sandbox_pattern(sandbox: str, *, escape: bool) -> str:
    if not escape:
        raise NameRefusedError(
            f"the sandbox {sandbox} cannot be granted: this server has partial_revokes on, which switches "
            "wildcards in grants off",
            hint="switch partial_revokes off, or remove `sandboxes:`",
        )
    return _checked(f"{_escaped(sandbox_stem(sandbox))}%", sandbox)


def _escaped(name: str) -> str:
    return "".join("\\" + character if character in "_%\\" else character for character in name)


def _checked(pattern: str, schema: str) -> str:
    if len(pattern) > MAX_IDENTIFIER:
        raise NameRefusedError(
            f"rights on schema {schema!r} cannot be granted: with _, % and \\ escaped its name has "
            f"{len(pattern)} characters, and MySQL takes {MAX_IDENTIFIER}",
            hint="shorten the schema's name",
        )
    return pattern


def unescape_pattern(pattern: str, *, escape: bool = True) -> str | None:
    """Tell which single schema a stored grant pattern means.

    Args:
        pattern: The pattern as ``mysql.db`` stores it.
        escape: ``False`` when the server has ``partial_revokes`` on.

    Returns:
        The schema's name, or ``None`` when the pattern has live wildcards.
    """
    if not escape:
        return pattern
    name: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character in "_%":
            return None
        name.append(next(characters, character) if character == "\\" else character)
    return "".join(name)


def quote_account(user: str, host: str) -> str:
    """Quote an account or role for use in account statements.

    Args:
        user: The account's user name.
        host: The account's host pattern.

    Returns:
        ``'user'@'host'``.
    """
    return f"{quote_string(user)}@{quote_string(host)}"
