"""The gate: the one instance that administrators tunnel through, by SSM and without an open port."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from cloud.machine import MachineArgs, machine


@dataclass(frozen=True)
class GateArgs:
    """The gate.

    Attributes:
        machine: Its instance.
    """

    machine: MachineArgs


class Gate(pulumi.ComponentResource):
    """An instance that forwards ports to the database and the secrets server.

    Outputs: ``instance_id``, ``arn``.
    """

    def __init__(self, name: str, args: GateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Gate", name, None, opts)
        instance = machine("gate", args.machine, self)
        self.instance_id, self.arn = instance.id, instance.arn
        self.register_outputs({"instance_id": self.instance_id})
