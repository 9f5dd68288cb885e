"""The budget alarm: a mail when the month gets dearer than was meant."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws


@dataclass(frozen=True)
class BudgetArgs:
    """The alarm.

    Attributes:
        name: Name of the budget.
        monthly_usd: What a month may cost.
        emails: Who is told, at 80 % spent and when more than all is forecast.
        tags: Only what carries these tags is counted; they must be activated as cost allocation tags.
    """

    name: str
    monthly_usd: int
    emails: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()


class Budget(pulumi.ComponentResource):
    """An AWS budget with two notifications."""

    def __init__(self, name: str, args: BudgetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("djops:cloud:Budget", name, None, opts)
        aws.budgets.Budget(
            "month",
            name=args.name,
            budget_type="COST",
            time_unit="MONTHLY",
            limit_amount=str(args.monthly_usd),
            limit_unit="USD",
            cost_filters=[
                {"name": "TagKeyValue", "values": [f"user:{key}${value}" for key, value in args.tags]}
            ],
            notifications=[
                {
                    "comparison_operator": "GREATER_THAN",
                    "threshold": threshold,
                    "threshold_type": "PERCENTAGE",
                    "notification_type": kind,
                    "subscriber_email_addresses": list(args.emails),
                }
                for threshold, kind in ((80, "ACTUAL"), (100, "FORECASTED"))
            ],
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})
