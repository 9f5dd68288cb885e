"""Permissions boundaries of users, which moto's IAM neither keeps nor shows; it judges none either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.models import Role, User
from moto.iam.responses import IamResponse

_make = IamResponse.create_user


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Have moto keep them while the context is open, as it keeps those of roles."""
    with (
        mock.patch.object(User, "permissions_boundary_arn", None, create=True),
        mock.patch.object(User, "permissions_boundary", Role.permissions_boundary, create=True),
        mock.patch.object(IamResponse, "create_user", _create),
        mock.patch.object(IamResponse, "put_user_permissions_boundary", _put, create=True),
        mock.patch.object(IamResponse, "delete_user_permissions_boundary", _delete, create=True),
    ):
        yield


def _create(self: Any) -> ActionResult:
    made = _make(self)
    self.backend.get_user(self._get_param("UserName")).permissions_boundary_arn = _asked(self)
    return made


def _put(self: Any) -> ActionResult:
    self.backend.get_user(self._get_param("UserName")).permissions_boundary_arn = _asked(self)
    return EmptyResult()


def _delete(self: Any) -> ActionResult:
    self.backend.get_user(self._get_param("UserName")).permissions_boundary_arn = None
    return EmptyResult()


def _asked(response: Any) -> str | None:
    arn: str | None = response._get_param("PermissionsBoundary")
    if arn is not None:
        response.backend.get_policy(arn)  # AWS refuses one that is not there
    return arn
