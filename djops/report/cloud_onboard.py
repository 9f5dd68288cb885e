"""An environment that is about to be written, as text."""

from __future__ import annotations

import yaml

from djops.services.cloud_onboard import Onboarding


def onboarding_text(found: Onboarding) -> str:
    """Show what would be written into the project file, and what it costs.

    Args:
        found: The environment.
    """
    written = yaml.safe_dump({found.environment: dict(found.settings)}, sort_keys=False)
    cost = found.cost.sizes[found.cost.size]
    lines = ["environments:", *(f"  {line}" for line in written.splitlines()), ""]
    lines.append(
        f"Estimated: ${cost.without_use:,.0f} a month without use, ${cost.in_use:,.0f} in use (`djops cost`)."
    )
    if found.account is None:
        lines.append(
            "No valid AWS credentials were found, so `account:` is left out; log in before going on."
        )
    return "\n".join(lines)
