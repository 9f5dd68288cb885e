"""The three sizes: what each means in machines, and what use its monthly price assumes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """What a month's use is taken to be, for the estimate of what it costs.

    Attributes:
        objects_gb: Objects stored.
        worker_hours: Hours of a worker with one core and 4 GB, on spare capacity.
        gpu_hours: Hours of a GPU machine, on spare capacity.
        traffic_gb: Through the NAT gateway; S3 does not go there.
        logs_gb: Logs taken in.
    """

    objects_gb: int
    worker_hours: int
    gpu_hours: int
    traffic_gb: int
    logs_gb: int


@dataclass(frozen=True)
class Size:
    """One size.

    Attributes:
        name: ``small``, ``medium`` or ``large``.
        database_class: RDS instance class.
        storage_gib: Storage at first.
        max_storage_gib: What it may grow to.
        multi_az: A standby in another zone.
        read_replica: A second server for reading.
        backup_days: How far back a point in time can be restored.
        secrets_type: Instance type of the secrets server.
        max_workers: Most workers of a class.
        use: What the price assumes.
    """

    name: str
    database_class: str
    storage_gib: int
    max_storage_gib: int
    multi_az: bool
    read_replica: bool
    backup_days: int
    secrets_type: str
    max_workers: int
    use: Use


GATE_TYPE = "t4g.nano"

SIZES = {
    size.name: size
    for size in (
        # One lab, a few people: the database may be away for minutes when AWS moves it.
        Size("small", "db.t4g.medium", 50, 500, False, False, 7, "t4g.small", 4, Use(500, 200, 0, 50, 5)),
        # A lab that works on it every day: a standby takes over within a minute or two.
        Size(
            "medium",
            "db.m7g.large",
            200,
            2000,
            True,
            False,
            14,
            "t4g.small",
            16,
            Use(5000, 2000, 100, 200, 20),
        ),
        # A consortium: more memory, and a replica for those who only read.
        Size(
            "large",
            "db.r7g.xlarge",
            500,
            8000,
            True,
            True,
            35,
            "t4g.medium",
            64,
            Use(50000, 10000, 500, 1000, 100),
        ),
    )
}
