"""Managed policies that hold one user's rights: from one packing to another, never wider than either.

Everything that the user is to lose goes first, from every policy. New policies are filled before they are
attached, and what only moves from one policy to another leaves the old one last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from djops.compile.packing import atoms, compact, limited_to, whole
from djops.compile.s3 import POLICY_NAME, Document, IamUser, ManagedPolicy, S3State
from djops.plan.change import Change, Phase, Risk, Told
from djops.plan.operations import AwsCall, Operation
from djops.plan.s3_changes import (
    Attach,
    Detach,
    PutPolicy,
    S3Change,
    canonical,
    policy_risk,
    policy_summary,
    taken_out,
)

Step = Literal["narrow", "prepare", "widen"]

ONE_POLICY = ("djops gives each user its own policies only",)


def policy_name(arn: str) -> str:
    """Return the name of a managed policy."""
    return arn.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class PutManagedPolicy(S3Change):
    """Make a managed policy, or put another version of it in force, in one atomic request.

    Attributes:
        name: The user whose rights it holds.
        arn: The policy's.
        found: What it says now; ``None`` when it is to be made.
        wanted: What it shall say.
        step: ``prepare`` while nobody has it attached; else whether this only takes away.
        versions: Versions that are not in force, which make room: the server keeps five.
    """

    name: str
    arn: str
    found: Document | None
    wanted: Document
    step: Step
    versions: tuple[str, ...] = ()

    def _tell(self) -> Told:
        before, after = policy_summary(self.found), policy_summary(self.wanted)
        after += " (its text was changed)" if after == before else ""
        # What a widening step takes away has moved to another policy of the same user.
        opens = policy_risk(self.found, self.wanted) is Risk.WIDENS
        told = {
            "narrow": (Risk.NARROWS, Phase.NARROW),
            "prepare": (Risk.KEEPS, Phase.PREPARE),
            "widen": (Risk.WIDENS if opens else Risk.KEEPS, Phase.WIDEN),
        }
        return Told(f"managed policy {policy_name(self.arn)} of {self.name}", before, after, *told[self.step])

    def operations(self) -> tuple[Operation, ...]:
        """Return one request, after the ones that make room for it."""
        text = canonical(self.wanted)
        if self.found is None:
            path = self.arn.partition(":policy")[2].removesuffix(policy_name(self.arn))
            names = {"PolicyName": policy_name(self.arn), "Path": path}
            return (AwsCall("iam", "CreatePolicy", {**names, "PolicyDocument": text}),)
        put = {"PolicyArn": self.arn, "PolicyDocument": text, "SetAsDefault": True}
        return (
            *_forget_versions(self.arn, self.versions),
            AwsCall("iam", "CreatePolicyVersion", put),
        )

    def reverse(self) -> Change:
        """Return the opposite; a policy that was made is removed."""
        if self.found is None:
            return DropManagedPolicy(arn=self.arn, found=self.wanted, why=self.why)
        steps: Mapping[Step, Step] = {"narrow": "widen", "prepare": "prepare", "widen": "narrow"}
        return PutManagedPolicy(
            name=self.name,
            arn=self.arn,
            found=self.wanted,
            wanted=self.found,
            step=steps[self.step],
            why=self.why,
        )


def _forget_versions(arn: str, versions: Iterable[str]) -> Iterable[AwsCall]:
    for version in versions:
        gone = {"PolicyArn": arn, "VersionId": version}
        yield AwsCall("iam", "DeletePolicyVersion", gone, missing_is_done=True)


@dataclass(frozen=True, kw_only=True)
class DropManagedPolicy(S3Change):
    """Remove a managed policy that holds nobody's rights any more, or what other policies hold by now.

    Attributes:
        arn: The policy's.
        found: What it says.
        members: Users of the project who have it attached.
        versions: Its versions that are not in force.
    """

    arn: str
    found: Document
    members: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()

    def _tell(self) -> Told:
        name = f"managed policy {policy_name(self.arn)}"
        return Told(name, policy_summary(self.found), "", Risk.KEEPS, Phase.CLEAN)

    def operations(self) -> tuple[Operation, ...]:
        """Return the detachments and deletions, each of which may find its work done."""
        arn = {"PolicyArn": self.arn}
        return (
            *(
                AwsCall("iam", "DetachUserPolicy", {"UserName": name, **arn}, missing_is_done=True)
                for name in self.members
            ),
            *_forget_versions(self.arn, self.versions),
            AwsCall("iam", "DeletePolicy", arn, missing_is_done=True),
        )

    def reverse(self) -> Change:
        """Return its making; attaching it is another change."""
        owner = self.members[0] if self.members else ""
        return PutManagedPolicy(
            name=owner, arn=self.arn, found=None, wanted=self.found, step="prepare", why=self.why
        )


@dataclass
class _Holding:
    """What a user's policies say while the changes are worked out.

    Attributes:
        inline: The policy inside the user, if any.
        managed: Managed policies in force.
    """

    inline: Document | None
    managed: dict[str, Document] = field(default_factory=dict)

    def others(self, arn: str) -> frozenset[object]:
        """Return what is allowed by all policies except one."""
        documents = [document for other, document in self.managed.items() if other != arn]
        return atoms(whole([*documents, *([self.inline] if self.inline else [])]), "Allow")


def repack(name: str, wanted: S3State, found: S3State, why: tuple[str, ...]) -> Iterable[Change]:
    """List what brings one user's policies to what they should be, where managed ones play a part.

    Args:
        name: The user's name.
        wanted: What should be there.
        found: What is there; managed policies below the project's path only.
        why: Reasons for the user's rights.
    """
    user, there = wanted.users[name], found.users.get(name, IamUser())
    # What is another user's is taken away as it is.
    foreign = [arn for arn in there.attached if arn in wanted.managed and arn not in user.attached]
    attached = {a: found.managed[a] for a in there.attached if a in found.managed and a not in foreign}
    held = _Holding(there.policies.get(POLICY_NAME), {arn: one.document for arn, one in attached.items()})
    yield from _narrowing(name, wanted, found, held, why)
    for arn in user.attached:
        should, one = wanted.managed[arn].document, found.managed.get(arn)
        if arn not in attached:
            if one is None or canonical(one.document) != canonical(should):
                yield _put(name, arn, one, one.document if one else None, should, "prepare", why)
            yield Attach(name=name, policy_arn=arn, why=why)
            held.managed[arn] = should
    yield from _widening(name, wanted, found, held, why)
    own = user.policies.get(POLICY_NAME)
    if canonical(held.inline) != canonical(own):
        moved = held.inline is not None and not atoms(own, "Allow") - atoms(held.inline, "Allow")
        yield PutPolicy(name=name, policy=POLICY_NAME, found=held.inline, wanted=own, moved=moved, why=why)
    for policy in sorted(there.policies.keys() - {POLICY_NAME}):
        document = there.policies[policy]
        yield PutPolicy(name=name, policy=policy, found=document, wanted=None, why=ONE_POLICY)
    for arn in there.attached:
        if arn not in attached:
            yield Detach(name=name, policy_arn=arn, why=ONE_POLICY)


def _put(
    name: str,
    arn: str,
    there: ManagedPolicy | None,
    before: Document | None,
    after: Document,
    step: Step,
    why: tuple[str, ...],
) -> Change:
    versions = there.versions if there else ()
    return PutManagedPolicy(
        name=name, arn=arn, found=before, wanted=after, step=step, versions=versions, why=why
    )


def _narrowing(
    name: str, wanted: S3State, found: S3State, held: _Holding, why: tuple[str, ...]
) -> Iterable[Change]:
    """Take out of every policy what the user is to lose, before anything is given."""
    for arn, document in held.managed.items():
        less = _less(document, wanted, name)
        if less is not document:
            yield _put(name, arn, found.managed[arn], document, less, "narrow", why)
            held.managed[arn] = less
    own = wanted.users[name].policies.get(POLICY_NAME)
    if held.inline is not None and (own is None or held.managed):
        less = _less(held.inline, wanted, name)
        if less is not held.inline:
            yield PutPolicy(name=name, policy=POLICY_NAME, found=held.inline, wanted=less, why=why)
            held.inline = less


def _widening(
    name: str, wanted: S3State, found: S3State, held: _Holding, why: tuple[str, ...]
) -> Iterable[Change]:
    """Put the wanted versions in force, first those whose losses other policies hold already."""
    todo = {
        arn: wanted.managed[arn].document
        for arn in wanted.users[name].attached
        if canonical(held.managed[arn]) != canonical(wanted.managed[arn].document)
    }
    while todo:
        arn = next((one for one in todo if _is_held_elsewhere(held, one, todo[one])), next(iter(todo)))
        before, after = held.managed[arn], todo.pop(arn)
        there = found.managed.get(arn)
        fresh = there is not None and canonical(there.document) == canonical(before)
        yield _put(name, arn, there if fresh else None, before, after, "widen", why)
        held.managed[arn] = after


def _is_held_elsewhere(held: _Holding, arn: str, after: Document) -> bool:
    lost = atoms(held.managed[arn], "Allow") - atoms(after, "Allow")
    return lost <= held.others(arn)


def narrow_managed(
    name: str, user: IamUser, found: S3State, ended: tuple[Document, Document], why: tuple[str, ...]
) -> Iterable[Change]:
    """List what takes out of a user's managed policies what ended, and nothing else.

    Args:
        name: The user's name.
        user: The user as it is.
        found: What is there.
        ended: What the user's policies say together with what ended, and without.
        why: The reasons.
    """
    for arn in user.attached:
        there = found.managed.get(arn)
        less = taken_out(there.document, *ended) if there else None
        if there is not None and less is not None and canonical(less) != canonical(there.document):
            yield _put(name, arn, there, there.document, less, "narrow", why)


def orphans(wanted: S3State, found: S3State) -> Iterable[Change]:
    """List the removal of the project's managed policies that are not wanted any more.

    Args:
        wanted: What should be there.
        found: What is there.
    """
    for arn, policy in sorted(found.managed.items()):
        if arn in wanted.managed:
            continue
        members = tuple(n for n, user in found.users.items() if arn in user.attached and n in wanted.users)
        document, versions = policy.document, policy.versions
        if members:
            document = _less(document, wanted, members[0])
            # Narrowing leaves the version behind that was in force.
            versions += (policy.version,) if document is not policy.document else ()
        yield DropManagedPolicy(arn=arn, found=document, members=members, versions=versions, why=ONE_POLICY)


def _less(document: Document, wanted: S3State, name: str) -> Document:
    """Return what stays of a policy once the user lost what it is to lose; a policy says something."""
    opens = wanted.opens(name)
    less = limited_to(document, atoms(opens, "Allow"))
    return less if less["Statement"] else compact((), atoms(opens, "Deny"))
