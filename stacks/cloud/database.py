"""The database: RDS for MySQL 8.4, set up as DataJoint needs it, encrypted, backed up, never public."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

ENGINE_VERSION = "8.4"
"""AWS takes the newest 8.4.x, and minor upgrades by itself in the maintenance window."""

_GIB, _MIB = 1024**3, 1024**2

PARAMETERS = {
    # Without TLS no log-in, whatever the account says.
    "require_secure_transport": "1",
    "tls_version": "TLSv1.2,TLSv1.3",
    # An inline blob is one packet, and escaping doubles it: the default of 64 MiB is soon too little.
    "max_allowed_packet": str(512 * _MIB),
    # A populate may compute for hours between two statements.
    "wait_timeout": "86400",
    "interactive_timeout": "86400",
    "net_read_timeout": "3600",
    "net_write_timeout": "3600",
    "lock_wait_timeout": "600",
    "innodb_lock_wait_timeout": "600",
    "sql_mode": (
        "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
    ),
    "character_set_server": "utf8mb4",
    "time_zone": "UTC",
    # Ends grants with a date where nobody runs djops in time.
    "event_scheduler": "ON",
    "local_infile": "0",
    "binlog_format": "ROW",
    # Logs go to files, from where they are exported.
    "log_output": "FILE",
    "slow_query_log": "1",
    "long_query_time": "10",
}
_NEEDS_RESTART = frozenset({"tls_version"})


@dataclass(frozen=True)
class ExistingDatabase:
    """A MySQL server that is already there.

    Attributes:
        host: Where it listens.
        port: TCP port.
        admin_secret: ARN of the secret with ``username`` and ``password`` of its administrator.
    """

    host: str
    port: int = 3306
    admin_secret: str = ""


@dataclass(frozen=True)
class DatabaseArgs:
    """What the database looks like.

    Attributes:
        identifier: Its name in RDS, and of its final snapshot.
        instance_class: For example ``db.t4g.medium``.
        storage_gib: What it starts with.
        max_storage_gib: What it may grow to by itself.
        subnet_ids: Private subnets in two zones.
        security_group_id: The group of role ``database``.
        key_arn: KMS key for storage, backups and logs.
        backup_days: How far back a point in time can be restored.
        multi_az: A standby in the second zone.
        read_replica: A second server for reading.
        audit: Record log-ins and statements.
        log_days: How long exported logs are kept.
    """

    identifier: str
    instance_class: str
    storage_gib: int
    max_storage_gib: int
    subnet_ids: Sequence[pulumi.Input[str]]
    security_group_id: pulumi.Input[str]
    key_arn: pulumi.Input[str]
    backup_days: int = 14
    multi_az: bool = False
    read_replica: bool = False
    audit: bool = False
    log_days: int = 90


class Database(pulumi.ComponentResource):
    """An RDS instance that Pulumi refuses to delete or replace, and leaves alone on ``destroy``.

    Outputs: ``host``, ``port``, ``admin_secret`` (ARN; AWS makes and rotates the password, so that it is in
    no state file), ``replica_host``.
    """

    def __init__(self, name: str, args: DatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Database", name, None, opts)
        self.mine = pulumi.ResourceOptions(parent=self)
        # AWS does not give up a group that a database uses, and a database may outlive its stack.
        self.lent = pulumi.ResourceOptions(parent=self, retain_on_delete=True)
        self.args = args
        kept = pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True)
        self.logs = ["error", "slowquery", *(["audit"] if args.audit else [])]
        exported = [self._log_group(kind) for kind in self.logs]
        common = self._common()
        subnets = aws.rds.SubnetGroup("database", subnet_ids=list(args.subnet_ids), opts=kept)
        instance = aws.rds.Instance(
            "database",
            identifier=args.identifier,
            engine="mysql",
            engine_version=ENGINE_VERSION,
            instance_class=args.instance_class,
            storage_type="gp3",
            allocated_storage=args.storage_gib,
            max_allocated_storage=args.max_storage_gib,
            db_subnet_group_name=subnets.name,
            username="djops_master",
            manage_master_user_password=True,
            multi_az=args.multi_az,
            backup_retention_period=args.backup_days,
            backup_window="03:00-04:00",
            maintenance_window="sun:04:30-sun:05:30",
            delete_automated_backups=False,
            skip_final_snapshot=False,
            final_snapshot_identifier=f"{args.identifier}-final",
            **common,
            opts=pulumi.ResourceOptions.merge(kept, pulumi.ResourceOptions(depends_on=exported)),
        )
        self.host, self.port = instance.address, instance.port
        self.admin_secret = instance.master_user_secrets.apply(_arn)
        self.replica_host = self._replica(instance, common) if args.read_replica else None
        self.register_outputs({"host": self.host, "port": self.port, "admin_secret": self.admin_secret})

    def _common(self) -> dict[str, Any]:
        """Return what the instance and its replica share."""
        args = self.args
        return {
            "parameter_group_name": self._parameter_group().name,
            "option_group_name": self._option_group().name if args.audit else None,
            "vpc_security_group_ids": [args.security_group_id],
            "publicly_accessible": False,
            "storage_encrypted": True,
            "kms_key_id": args.key_arn,
            "deletion_protection": True,
            "copy_tags_to_snapshot": True,
            "auto_minor_version_upgrade": True,
            "enabled_cloudwatch_logs_exports": self.logs,
            "performance_insights_enabled": not args.instance_class.startswith("db.t"),
            "ca_cert_identifier": "rds-ca-rsa2048-g1",
            "apply_immediately": False,
        }

    def _parameter_group(self) -> aws.rds.ParameterGroup:
        return aws.rds.ParameterGroup(
            "datajoint",
            family=f"mysql{ENGINE_VERSION}",
            description="What DataJoint needs of MySQL",
            parameters=[
                aws.rds.ParameterGroupParameterArgs(
                    name=key,
                    value=value,
                    apply_method="pending-reboot" if key in _NEEDS_RESTART else "immediate",
                )
                for key, value in sorted(PARAMETERS.items())
            ],
            opts=self.lent,
        )

    def _option_group(self) -> aws.rds.OptionGroup:
        """Switch on the audit plugin, which RDS has for all 8.4 versions; reading is not recorded."""
        events = aws.rds.OptionGroupOptionOptionSettingArgs(
            name="SERVER_AUDIT_EVENTS", value="CONNECT,QUERY_DDL,QUERY_DML_NO_SELECT,QUERY_DCL"
        )
        return aws.rds.OptionGroup(
            "audit",
            engine_name="mysql",
            major_engine_version=ENGINE_VERSION,
            options=[
                aws.rds.OptionGroupOptionArgs(option_name="MARIADB_AUDIT_PLUGIN", option_settings=[events])
            ],
            opts=self.lent,
        )

    def _log_group(self, kind: str) -> aws.cloudwatch.LogGroup:
        # Made here, before RDS makes it by itself without encryption and for ever.
        return aws.cloudwatch.LogGroup(
            f"database-{kind}",
            name=f"/aws/rds/instance/{self.args.identifier}/{kind}",
            retention_in_days=self.args.log_days,
            kms_key_id=self.args.key_arn,
            opts=self.mine,
        )

    def _replica(self, source: aws.rds.Instance, common: dict[str, Any]) -> pulumi.Output[str]:
        replica = aws.rds.Instance(
            "replica",
            identifier=f"{self.args.identifier}-replica",
            replicate_source_db=source.arn,
            instance_class=self.args.instance_class,
            storage_type="gp3",
            max_allocated_storage=self.args.max_storage_gib,
            skip_final_snapshot=True,
            **(common | {"deletion_protection": False, "enabled_cloudwatch_logs_exports": []}),
            opts=self.mine,
        )
        return replica.address


def _arn(secrets: Sequence[Any] | None) -> str:
    """Return the ARN of the administrator's secret, which is not known before the instance is there."""
    return str(secrets[0].secret_arn) if secrets else ""
