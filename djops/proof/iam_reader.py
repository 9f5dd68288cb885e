"""What the policies on an S3 server mean, worked out from the server's own catalog alone.

The order of evaluation is AWS's documented one for requests within one account, which Ceph shares: any
``Deny`` that applies refuses, else any ``Allow`` of the user's, of a group's or of the bucket's policy
allows, else nothing does. Policies of an AWS organisation and of sessions are out of sight.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from djops.compile.s3 import Document
from djops.errors import UndecidedError, UsageError
from djops.proof.decision import Decision
from djops.proof.iam_buckets import acl_readings, block_readings
from djops.proof.iam_environment import TRANSPORT, Context, Who
from djops.proof.iam_managed import CEPH_MANAGED
from djops.proof.iam_patterns import Dialect
from djops.proof.iam_state import CatalogUser, IamCatalog
from djops.proof.iam_statements import Reading, Request, Statement, statements
from djops.proof.iam_warnings import IamWarning, warnings

ANONYMOUS = "*"
"""In the place of a user: somebody without a key."""

NOTHING: Context = MappingProxyType({})
"""Of a request nothing is known besides."""

_S3_ARN = "arn:aws:s3:::"
_REFUSED = Decision(False)


class IamReader:
    """Tells what principals of an S3 server may do, and by which statement.

    Args:
        catalog: What the server holds.
        dialect: Whose reading of policies applies; found out from the catalog when not given.
        tls: Whether users come over TLS. What hangs on that alone counts as allowed when it is allowed so;
            a request without TLS is not taken for refused where it might be allowed.
    """

    def __init__(self, catalog: IamCatalog, dialect: Dialect | None = None, *, tls: bool = False) -> None:
        self.catalog = catalog
        self.tls = tls
        self.dialect: Dialect = dialect or dialect_of(catalog)
        dialect = self.dialect
        self._policies: dict[str, tuple[Statement, ...]] = {}
        self._taken_apart: dict[str, tuple[Statement, ...]] = {}
        self._people: dict[str, Who] = {}
        self._by_action: dict[tuple[str, str], tuple[Statement, ...]] = {}
        self._bucket_by_action: dict[tuple[str, str], tuple[Statement, ...]] = {}
        self._impersonal: dict[Hashable, bool] = {}
        self._alike: dict[str, str] = {}
        self._first_alike: dict[Hashable, str] = {}
        self._boundaries: dict[str, tuple[Statement, ...]] = {}
        self._bucket_policies = {
            name: statements(bucket.policy, f"policy of bucket {name}", dialect)
            for name, bucket in catalog.buckets.items()
            if bucket.policy is not None
        }

    def decide(self, user: str, action: str, resource: str, context: Context = NOTHING) -> Decision:
        """Tell whether a user may do something, as far as policies go.

        Whether the user has a key to do it with is another question: see :meth:`usable`. Access control
        lists of single objects are taken to open nothing to users; see :meth:`warnings`.

        Args:
            user: Name of an IAM user, or :data:`ANONYMOUS`.
            action: The action, such as ``s3:GetObject``.
            resource: ARN of the bucket, object or IAM resource.
            context: Condition keys of the request with their values, an empty list for a key that is
                known to be absent. Keys of the request itself, such as ``s3:prefix``, are absent when they
                are not named; circumstances, such as ``aws:SourceIp``, cannot be told then.

        Returns:
            The answer, with every statement that allows, or every one that denies.

        Raises:
            UsageError: ``E_USAGE`` when there is no such user.
            UndecidedError: ``E_UNDECIDED`` when it hangs on something that cannot be told.
        """
        try:
            return self._decide(user, action, resource, context)
        except UndecidedError:
            if not self.tls or TRANSPORT in context:
                raise
            found = self._decide(user, action, resource, {**context, TRANSPORT: "true"})
            if not found.allowed:
                raise
            return found

    def _decide(self, user: str, action: str, resource: str, context: Context) -> Decision:
        who = self._who(user)
        request = Request(action, resource, who, self.dialect, context)
        mine = [one.read(request) for one in self._concerned(user, action)] if who.name else []
        buckets = list(self._bucket_readings(who, request))
        everything = [*mine, *buckets, *self._bounds(user, request)]
        if all(one.applies is False for one in everything):  # as it is with most
            return _REFUSED
        denied = [one for one in everything if one.effect != "Allow" and one.applies is not False]
        certain = tuple(one.text for one in denied if one.applies)
        if certain:
            return Decision(False, certain)
        allowing = self._allowing(user, mine, buckets, request)
        if not allowing:
            return Decision(False)
        open_ = [one.text for one in denied] or (
            [] if any(one.applies for one in allowing) else [one.text for one in allowing]
        )
        if open_:
            raise UndecidedError(
                f"it cannot be told whether {user} may {action} on {resource}: it hangs on {open_[0]}",
                hint="say what the request carries, or mend the statement",
            )
        return Decision(True, tuple(one.text for one in allowing if one.applies))

    def usable(self, user: str) -> Decision:
        """Tell whether a user has an active access key, and which.

        Args:
            user: Name of an IAM user.

        Raises:
            UsageError: ``E_USAGE`` when there is no such user.
        """
        keys = self._user(user).keys
        active = tuple(f"access key {key} of {user} is active" for key, works in keys.items() if works)
        inactive = tuple(f"access key {key} of {user} is inactive" for key in keys) or (f"{user} has no key",)
        return Decision(bool(active), active or inactive)

    def alike(self, user: str) -> Hashable:
        """Return what is equal for users of whom every question has the same answer, the names in it aside.

        Args:
            user: Name of an IAM user.

        Returns:
            The name of one of them.

        Raises:
            UsageError: ``E_USAGE`` when there is no such user.
        """
        if user not in self._alike:
            # A name is compared faster than policies are.
            self._alike[user] = self._first_alike.setdefault(self._alike_to(user, self._user(user)), user)
        return self._alike[user]

    def _alike_to(self, user: str, found: CatalogUser) -> Hashable:
        documents = json.dumps(list(found.policies.values()), sort_keys=True, default=str)
        shared = (documents, found.attached, found.groups, found.boundary, found.unread)
        if shared not in self._impersonal:
            everything = (*self._of(user), *(self._boundary(user) or ()))
            self._impersonal[shared] = all(statement.impersonal for statement in everything)
        if not self._impersonal[shared]:
            return user
        who = self._who(user)
        of_buckets = list(chain.from_iterable(self._bucket_policies.values()))
        if not all(statement.impersonal for statement in of_buckets):
            return user
        return shared, tuple(statement.names(who) for statement in of_buckets)

    def users(self) -> tuple[str, ...]:
        """Return the names of all users, sorted."""
        return tuple(sorted(self.catalog.users))

    def policies(self, user: str) -> tuple[Statement, ...]:
        """Return all statements that are a user's own or its groups'.

        Args:
            user: Name of an IAM user.

        Raises:
            UsageError: ``E_USAGE`` when there is no such user.
        """
        self._user(user)
        return self._of(user)

    def warnings(self) -> tuple[IamWarning, ...]:
        """Return the statements that Ceph reads otherwise than AWS, and what nobody looked into."""
        own = {statement.name: statement for user in self.users() for statement in self._of(user)}
        shared = chain.from_iterable(self._bucket_policies.values())
        return tuple(warnings(self.catalog, self.dialect, own.values(), shared))

    def _user(self, name: str) -> CatalogUser:
        try:
            return self.catalog.users[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.catalog.users, 1)
            raise UsageError(
                f"the S3 server has no user {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            ) from None

    def _who(self, name: str) -> Who:
        if name == ANONYMOUS:
            return Who()
        if name not in self._people:
            user = self._user(name)
            self._people[name] = Who(name, user.arn, user.user_id)
        return self._people[name]

    def _of(self, name: str) -> tuple[Statement, ...]:
        """Return a user's statements, taken apart once."""
        if name not in self._policies:
            self._policies[name] = tuple(self._statements_of(name))
        return self._policies[name]

    def _concerned(self, name: str, action: str) -> tuple[Statement, ...]:
        """Return the statements of a user that may say anything about an action."""
        key = name, action
        if key not in self._by_action:
            self._by_action[key] = tuple(one for one in self._of(name) if one.concerns(action))
        return self._by_action[key]

    def _statements_of(self, name: str) -> Iterable[Statement]:
        user = self.catalog.users[name]
        for policy, document in user.policies.items():
            yield from self._inline(document, f"policy {policy} of {name}")
        yield from self._managed(user.attached, name)
        for group_name in user.groups:
            label = f"group {group_name}"
            group = self.catalog.groups.get(group_name)
            if group is None:
                yield Statement(f"policies of {label}", 1, puzzle="they cannot be read", dialect=self.dialect)
                continue
            for policy, document in group.policies.items():
                yield from statements(document, f"policy {policy} of {label}", self.dialect)
            yield from self._managed(group.attached, label)
            yield from self._unread(group.unread, label)
        yield from self._unread(user.unread, name)

    def _inline(self, document: Document | None, source: str) -> Iterable[Statement]:
        """Take a policy apart; of equal ones, only the first."""
        text = json.dumps(document)
        if text not in self._taken_apart:
            self._taken_apart[text] = statements(document, source, self.dialect)
        return (replace(one, source=source) for one in self._taken_apart[text])

    def _managed(self, arns: Sequence[str], whose: str) -> Iterable[Statement]:
        for arn in arns:
            document = self.catalog.managed.get(arn)
            if document is None and self.dialect == "ceph":
                document = CEPH_MANAGED.get(arn)
            yield from statements(document, f"policy {arn} attached to {whose}", self.dialect)

    def _unread(self, what: Sequence[str], whose: str) -> Iterable[Statement]:
        for one in what:
            yield Statement(f"{one} of {whose}", 1, puzzle="it cannot be read", dialect=self.dialect)

    def _bucket_readings(self, who: Who, request: Request) -> Iterable[Reading]:
        if not request.resource.startswith(_S3_ARN):
            return
        name = request.resource.removeprefix(_S3_ARN).partition("/")[0]
        if name in ("", "*") or request.action.lower() == "s3:createbucket":
            return
        bucket = self.catalog.buckets.get(name)
        if bucket is None:
            yield Reading("Unknown", None, f"bucket {name}, which was not looked at")
            return
        policy = self._bucket_policies.get(name, ())
        if policy:
            yield from (one.read(request, who) for one in self._of_bucket(name, request.action))
        yield from acl_readings(name, bucket, who, request)
        if bucket.blocks:
            yield from block_readings(name, bucket, who, request, policy)
        # Of a user of the account that owns the bucket, Ceph asks the bucket policy only; and it has one
        # rule for ownership.
        closed = {"versioning"} | ({"rule for ownership"} if self.dialect == "ceph" else set())
        policy_only = self.dialect == "ceph" and bool(who.name)
        for one in bucket.unread:
            if one == "policy" or (one not in closed and not policy_only):
                yield Reading("Unknown", None, f"{one} of bucket {name}, which cannot be read")

    def _of_bucket(self, name: str, action: str) -> tuple[Statement, ...]:
        """Return the statements of a bucket's policy that may say anything about an action."""
        key = name, action
        if key not in self._bucket_by_action:
            found = self._bucket_policies[name]
            self._bucket_by_action[key] = tuple(one for one in found if one.concerns(action))
        return self._bucket_by_action[key]

    def _boundary(self, name: str) -> tuple[Statement, ...] | None:
        """Return the statements of a user's permissions boundary, ``None`` without one."""
        arn = self.catalog.users[name].boundary if name != ANONYMOUS else ""
        if not arn:
            return None
        if name not in self._boundaries:
            document = self.catalog.managed.get(arn)
            self._boundaries[name] = statements(document, f"boundary {arn} of {name}", self.dialect)
        return self._boundaries[name]

    def _bounds(self, name: str, request: Request) -> Iterable[Reading]:
        return [one.read(request) for one in self._boundary(name) or ()]

    def _allowing(
        self, name: str, mine: Sequence[Reading], buckets: Sequence[Reading], request: Request
    ) -> list[Reading]:
        """Return what allows, or may allow; a boundary holds back what the user's own policies allow."""
        own = [one for one in mine if one.effect != "Deny" and one.applies is not False]
        bounds = self._boundary(name)
        if bounds is not None:
            inside = [one for one in self._bounds(name, request) if one.effect != "Deny"]
            if not any(one.applies for one in inside):
                doubt = any(one.applies is None for one in inside)
                own = [Reading(one.effect, None, one.text) for one in own] if doubt else []
        return own + [one for one in buckets if one.effect != "Deny" and one.applies is not False]


def dialect_of(catalog: IamCatalog) -> Dialect:
    """Find out whose reading of policies applies: the accounts of a Ceph gateway have names of their own."""
    accounts = {user.arn.split(":")[4] for user in catalog.users.values()}
    return "ceph" if any(account.startswith("RGW") for account in accounts) else "aws"
