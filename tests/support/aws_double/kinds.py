"""What one type of resource is: how it is made, read, changed and removed through boto3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

Props = dict[str, Any]
KINDS: dict[str, type[Kind]] = {}

_GONE = ("NotFound", "NoSuch", "DoesNotExist", "NotFoundFault", "DBInstanceNotFound", "ResourceNotFound")


class Kind:
    """One type of resource.

    Attributes:
        token: Its type for Pulumi.
        named: The input that gets a made-up name when there is none.
        replace: Inputs whose change makes a new resource necessary.
        delete_first: Whether the old one must go before the new one comes.
    """

    token: ClassVar[str]
    named: ClassVar[str | None] = None
    replace: ClassVar[frozenset[str]] = frozenset()
    delete_first: ClassVar[bool] = False

    def __init__(self, client: Callable[[str], Any], tags: Mapping[str, str]) -> None:
        self.client, self.default_tags = client, tags

    def create(self, p: Props) -> str:
        """Make it and return its id."""
        raise NotImplementedError

    def read(self, id_: str, p: Props) -> Props | None:
        """Return what the server says of it, ``None`` when it is gone."""
        raise NotImplementedError

    def update(self, id_: str, p: Props, old: Props) -> None:
        """Make it as it is asked for now."""
        raise NotImplementedError(f"the double cannot change {self.token}")

    def delete(self, id_: str, p: Props) -> None:
        """Remove it."""
        raise NotImplementedError

    def find(self, id_: str, p: Props) -> Props | None:
        """Read it, where an error that says so means that it is gone."""
        try:
            return self.read(id_, p)
        except ClientError as error:
            if any(one in error.response["Error"]["Code"] for one in _GONE):
                return None
            raise

    def tags(self, p: Props) -> dict[str, str]:
        return {**self.default_tags, **(p.get("tags") or {})}

    def tag_list(self, p: Props) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in sorted(self.tags(p).items())]

    def specification(self, kind: str, p: Props) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": self.tag_list(p)}]


def kind(
    token: str, *, named: str | None = None, replace: str = "", delete_first: bool = False
) -> Callable[[type[Kind]], type[Kind]]:
    """Register a type; ``replace`` names inputs with spaces between them."""

    def register(cls: type[Kind]) -> type[Kind]:
        cls.token, cls.named, cls.delete_first = token, named, delete_first
        cls.replace = frozenset(replace.split()) | ({named} if named else set())
        KINDS[token] = cls
        return cls

    return register


def pascal(value: Any) -> Any:
    """``{"fromPort": 1}`` is ``{"FromPort": 1}`` for boto3, at every depth."""
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: pascal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [pascal(one) for one in value]
    return value
