"""The policy pack: `pulumi preview --policy-pack policies/pack` refuses what breaks a rule."""

from cloud_rules import RULES
from pulumi_policy import EnforcementLevel, PolicyPack

PolicyPack(name="djops-cloud", enforcement_level=EnforcementLevel.MANDATORY, policies=list(RULES))
