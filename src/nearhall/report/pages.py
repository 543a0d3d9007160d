"""A template and its parts as one HTML page that stands alone: style, scripts and pictures inside, no request to any host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nearhall.report.evidence_marks import MARKS
from nearhall.report.figures import bokeh_script, pictures_json
from nearhall.report.look import style, theme_script


def render(template: str, *, pictures: Mapping[str, Any], connect: str = "'none'", **parts: Any) -> str:
    """The page; its template marks style, scripts and pictures, which are ours, as safe, and nothing else.

    A picture that is None has the height 0, by which the template knows.
    `connect` is what its scripts may reach (Content-Security-Policy's connect-src).
    """
    drawn = {name: picture for name, picture in pictures.items() if picture is not None}
    return (
        _environment()
        .get_template(template)
        .render(
            csp=(
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
                f"connect-src {connect}; base-uri 'none'; form-action 'none'"
            ),
            style=style(),
            theme_script=theme_script(),
            bokeh=bokeh_script() if drawn else "",
            pictures=pictures_json(drawn),
            heights={name: picture.height if picture is not None else 0 for name, picture in pictures.items()},
            marks=list(MARKS.values()),
            **parts,
        )
    )


@cache
def _environment() -> Environment:
    """Everything is escaped unless it is marked as safe above; a misspelt name fails instead of leaving a blank."""
    return Environment(
        loader=PackageLoader("nearhall.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
