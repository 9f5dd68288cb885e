"""The templates of pages, all read in one way: what is missing is an error, what is shown is escaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2

from djops.systems.resources import shipped


def templates(finalize: Callable[..., Any] | None = None) -> jinja2.Environment:
    """Return the environment all pages are rendered in.

    Args:
        finalize: What every value goes through before it is shown.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("policies/templates")),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
