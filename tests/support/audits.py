"""A report made by hand, with names that mean harm."""

from __future__ import annotations

from dataclasses import replace

from djops.model.audit import AuditFinding
from djops.model.journal import Checked, Draft, Head, seal
from djops.services.audit import Audit, GrantLine, LiveRun
from djops.services.audit_records import Records, Seen, Source
from djops.services.log import Deed, Step, Verified
from djops.services.verify import Count, Verdict
from djops.services.who import Holding
from djops.systems.server_logs import Event

HOSTILE = "</td><script>document.title='owned'</script>\"'|`${7*7}{{7*7}}=cmd\u202e"
"""A name, a reason, a path: whatever somebody else may choose."""

AT = "2030-01-31T12:00:00Z"


def holding(who: str, schema: str, level: str, *capabilities: str, kind: str = "person") -> Holding:
    extents = dict.fromkeys(capabilities, "yes")
    because = f"people.{who}.grants[0]: {level} on {schema}"
    return Holding(who, kind, schema, level, extents, extents, extents, (because,), True)  # type: ignore[arg-type]


def audit(*, people: int = 12) -> Audit:
    """Return a report with everything in it that can be."""
    names = [f"person{number:02}" for number in range(people)]
    holdings = [holding(name, schema, "viewer", "read") for name in names for schema in ("alpha", "beta")]
    holdings += [holding("zoe", "alpha", "admin", "read", "insert", "grant"), holding("zoe", "beta", "")]
    stranger = holding(HOSTILE, "alpha", HOSTILE, "read", "insert", kind="unmanaged")
    holdings += [replace(stranger, origins=(HOSTILE,), agrees=False)]
    entry = Draft(id="0" * 32, at=AT, who="ada", host=HOSTILE, command="apply", event="begin", run="1" * 32,
                  change=HOSTILE, reason=HOSTILE)  # fmt: skip
    (sealed,) = seal([entry], Head(), "lab", "local")
    verdict = Verdict(
        principals=tuple(names), schemas=("alpha", "beta"), capabilities={}, disagreements=(), violations=(),
        counts={"mysql": Count(40, 80), "s3": Count(20, 40)}, unknown=(), notes=(), removed=(),
        theorems={"T_TLS": "TLS is required everywhere"},
    )  # fmt: skip
    return Audit(
        project="lab",
        environment="local",
        made_at=AT,
        made_by=f"ada@{HOSTILE}",
        version="0.1.0",
        since="2030-01-01T00:00:00Z",
        since_why="since the last report",
        schemas=("alpha", "beta"),
        holdings=tuple(holdings),
        grants=(
            GrantLine("people.zoe.grants[0]", "zoe", "person", "admin", ("all",), "", HOSTILE, (), AT),
            GrantLine("teams.t.grants[0]", "t", "team", "viewer", ("a", "b"), "2030-12-31", "", ("zoe",), ""),
        ),
        verdict=verdict,
        live=LiveRun(AT, "ada@ws", "all agree"),
        findings=(
            AuditFinding("high", "T_TLS", "TLS not required", HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),
            AuditFinding(
                "medium", "UNMANAGED", "unmanaged account", "zoe", "made by hand", "djops adopt zoe"
            ),
            AuditFinding("low", "EXPIRED", "expired grant", "person01", "=1+1", "djops revoke"),
            AuditFinding("note", "SOON", "grant about to end", "person02", "soon", "djops grant"),
        ),
        verified=Verified(HOSTILE, Checked(1, Head(1, sealed.hash), (), 1), 0, True),
        deeds=(Deed(sealed, (Step(sealed, "failed", HOSTILE),), "failed"),),
        records=Records(
            sources=(Source("mysql", "refused log-ins", True, AT), Source("s3", "requests", False, HOSTILE)),
            seen=(Seen(HOSTILE, "mysql", "now", 3, 1, AT), Seen("zoe", "secrets", AT, 1, 0, AT)),
            events=(Event(AT, "mysql", "refused", HOSTILE, HOSTILE),),
            left_out=2,
        ),
    )
