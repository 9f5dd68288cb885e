"""What ``pulumi up`` runs: the settings of the stack, and everything that they ask for."""

import pulumi
from cloud.program import provision
from cloud.settings import settings_from

provision(settings_from(pulumi.Config(), pulumi.get_stack()))
