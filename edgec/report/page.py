"""Rendering: templates, style and script into one file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import BuildError
from edgec.report.units import FILTERS

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page of a template. Everything in `context` is escaped.

    Its content policy forbids every request, and every script and style but its own, by hash.
    Raises BuildError without jinja2.
    """
    style, script = (_asset(name) for name in ("style.css", "tables.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(context, style=style, script=script, policy=policy)


@cache
def _environment() -> Environment:
    """Templates, parsed once in a process."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        do = "pip install 'edgec[report]'"
        raise BuildError("report", "no jinja2", "it for report.html", do) from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, breakable=breakable)
    return environment


def breakable(name: str) -> Any:
    """A dotted name, escaped, that a browser may break after its dots and underscores."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
