"""The whole cloud side, read from top to bottom: what is made, from what, and what is told afterwards."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from cloud import policies
from cloud.budget import Budget, BudgetArgs
from cloud.database import Database, DatabaseArgs
from cloud.gate import Gate, GateArgs
from cloud.keys import Keys, KeysArgs
from cloud.machine import MachineArgs
from cloud.network import Network, NetworkArgs
from cloud.object_store import ObjectStore, ObjectStoreArgs
from cloud.people import People, PeopleArgs
from cloud.secrets_server import SecretsServer, SecretsServerArgs
from cloud.settings import Settings
from cloud.sizes import GATE_TYPE
from cloud.workers import Workers, WorkersArgs


def provision(settings: Settings) -> None:
    """Declare everything that a stack consists of, and export where it is."""
    _Program(settings).declare()


class _Program:
    """The components in the order in which they need each other."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.prefix = settings, f"djops/{settings.project}/{settings.environment}"
        self.tags = {"djops:project": settings.project, "djops:environment": settings.environment}
        provider = aws.Provider(
            "aws", region=settings.region, default_tags={"tags": self.tags | {"djops:managed-by": "pulumi"}}
        )
        self.ours = pulumi.ResourceOptions(providers=[provider])
        asked = pulumi.InvokeOptions(provider=provider)
        self.account = aws.get_caller_identity(opts=asked).account_id

    def declare(self) -> None:
        settings = self.settings
        self.keys = Keys("keys", KeysArgs(self.account, settings.region), self.ours)
        self.network = Network(
            "network",
            NetworkArgs(settings.region, settings.cidr, settings.existing.network),
            self.ours,
        )
        self.gate = Gate("gate", GateArgs(self._machine("gate", GATE_TYPE)), self.ours)
        self._database()
        self._object_store()
        self._secrets()
        self._workers()
        self._people()
        self._budget()

    def _machine(self, role: str, instance_type: str) -> MachineArgs:
        return MachineArgs(
            self.account,
            instance_type,
            self.network.subnet_ids[0],
            self.network.groups[role].id,
            self.keys.data_arn,
        )

    def _database(self) -> None:
        settings, size, existing = self.settings, self.settings.size, self.settings.existing.database
        self.initial_secrets: list[pulumi.Input[str]] = []
        if existing is not None:
            self.host: pulumi.Input[str] = existing.host
            pulumi.export(
                "database",
                {"host": existing.host, "port": existing.port, "adminSecret": existing.admin_secret},
            )
            return
        args = DatabaseArgs(
            identifier=settings.name,
            instance_class=size.database_class,
            storage_gib=size.storage_gib,
            max_storage_gib=size.max_storage_gib,
            subnet_ids=self.network.subnet_ids,
            security_group_id=self.network.groups["database"].id,
            key_arn=self.keys.data_arn,
            backup_days=size.backup_days,
            multi_az=size.multi_az,
            read_replica=size.read_replica,
            audit=settings.audit,
        )
        made = Database("database", args, self.ours)
        self.host = made.host
        self.initial_secrets.append(made.admin_secret)
        found = {"host": made.host, "port": made.port, "adminSecret": made.admin_secret}
        pulumi.export("database", found | ({"replica": made.replica_host} if made.replica_host else {}))

    def _object_store(self) -> None:
        settings = self.settings
        args = ObjectStoreArgs(
            account=self.account,
            region=settings.region,
            project=settings.project,
            environment=settings.environment,
            buckets=settings.buckets,
            key_arn=self.keys.data_arn,
            log_bucket=f"{settings.name}-{self.account}-logs",
            audit=settings.audit,
        )
        made = ObjectStore("object-store", args, self.ours)
        pulumi.export("buckets", made.names)
        pulumi.export("accessManager", made.manager.name)
        pulumi.export("peopleBoundary", made.boundary.arn)

    def _secrets(self) -> None:
        settings = self.settings
        if settings.existing.secrets_address is not None or settings.openbao is None:
            pulumi.export("secrets", {"address": settings.existing.secrets_address})
            return
        zone = aws.ec2.get_subnet_output(
            id=self.network.subnet_ids[0], opts=pulumi.InvokeOutputOptions(parent=self.network)
        ).availability_zone
        args = SecretsServerArgs(
            machine=self._machine("secrets", settings.size.secrets_type),
            release=settings.openbao,
            prefix=self.prefix,
            region=settings.region,
            zone=zone,
            unseal_key_arn=self.keys.unseal_arn,
        )
        made = SecretsServer("secrets", args, self.ours)
        self.initial_secrets.append(made.init_secret)
        pulumi.export(
            "secrets",
            {"address": made.address, "initSecret": made.init_secret, "caParameter": made.ca_parameter},
        )

    def _workers(self) -> None:
        settings = self.settings
        self.workers: Workers | None = None
        if settings.image is None:
            return
        args = WorkersArgs(
            account=self.account,
            region=settings.region,
            prefix=self.prefix,
            image=settings.image,
            classes=settings.workers,
            subnet_ids=self.network.subnet_ids,
            security_group_id=self.network.groups["workers"].id,
            key_arn=self.keys.data_arn,
            environment={"DJ_HOST": self.host, "DJ_USE_TLS": "true", **settings.worker_environment},
            meter_command=settings.meter_command,
        )
        self.workers = Workers("workers", args, self.ours)
        pulumi.export("workers", {"cluster": self.workers.cluster_arn, "loginSecret": self.workers.secret})

    def _people(self) -> None:
        settings, account, region = self.settings, self.account, self.settings.region
        may: dict[str, pulumi.Input[policies.Document]] = {
            "administrators": pulumi.Output.all(self.gate.arn, *self.initial_secrets).apply(
                lambda known: policies.administrators(known[0], region, account, known[1:])
            )
        }
        if self.workers is not None:
            made = self.workers
            known = pulumi.Output.all(made.cluster_arn, made.log_group_arn, *made.service_arns)
            may["operators"] = known.apply(lambda arns: policies.operators(arns[2:], arns[0], [arns[1]]))
        People("people", PeopleArgs(settings.project, settings.environment, may), self.ours)
        pulumi.export("gate", self.gate.instance_id)

    def _budget(self) -> None:
        settings = self.settings
        if settings.budget_usd:
            args = BudgetArgs(
                settings.name, settings.budget_usd, settings.budget_emails, tuple(self.tags.items())
            )
            Budget("budget", args, self.ours)
