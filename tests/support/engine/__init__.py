"""A stand-in for Pulumi's engine, which is a Go program of its own.

What is real: the programs and the SDK's runtime, which register their resources over the engine's own
protocol; the provider protocol; and the form of the state file. What is written here, after Pulumi's
documentation: how steps are worked out, in which order they are taken, and what is kept when one fails.
"""

from tests.support.engine.deployment import Step
from tests.support.engine.engine import DeploymentError, Engine, Result

__all__ = ["DeploymentError", "Engine", "Result", "Step"]
