"""The one look of every page and picture: colours for light and dark, type, space, print.

Text has a contrast of at least 4.5 : 1 on what it stands on (WCAG 2 AA); a test checks it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

LIGHT: dict[str, str] = {
    "paper": "#f5f6f4",
    "card": "#ffffff",
    "ink": "#17211f",
    "soft": "#52605d",
    "line": "#d9dedb",
    "grid": "#e8ebe9",
    "local": "#0a6b5e",
    "hub": "#a8500b",
    "refused": "#a3243b",
    "raw": "#5b5f97",
    "other": "#66706d",
    "cooling": "#1f6f9f",
    "ups": "#80631a",
    "good": "#11643a",
    "warn": "#7d4e00",
    "bad": "#a3243b",
    "good-wash": "#e4f2e9",
    "warn-wash": "#fdf0d7",
    "bad-wash": "#fbe6e8",
    "code": "#eef1ef",
}
DARK: dict[str, str] = {
    "paper": "#101615",
    "card": "#19211f",
    "ink": "#e9efec",
    "soft": "#a4b2ad",
    "line": "#33403c",
    "grid": "#26302d",
    "local": "#4cc3ae",
    "hub": "#f0a050",
    "refused": "#f58a99",
    "raw": "#aab0f0",
    "other": "#98a5a0",
    "cooling": "#6ab7e6",
    "ups": "#d9b64e",
    "good": "#6fd39c",
    "warn": "#f1be64",
    "bad": "#f58a99",
    "good-wash": "#15301f",
    "warn-wash": "#36290f",
    "bad-wash": "#3d1a20",
    "code": "#222c29",
}


def style() -> str:
    """The style sheet, whole."""
    light, dark = _variables(LIGHT, "light"), _variables(DARK, "dark")
    colours = (
        f":root{{{light}}}\n"
        f"@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
        # A dark page on paper wastes ink and loses its pale lines.
        f"@media print{{:root,:root[data-theme=dark],:root:not([data-theme=light]){{{light}}}}}\n"
    )
    return colours + shipped("look.css")


def theme_script() -> str:
    """JavaScript: the toggle, and Bokeh's pictures in the colours of the page."""
    return f"const NEARHALL_COLOURS = {json.dumps({'light': LIGHT, 'dark': DARK})};\n{shipped('look.js')}"


@cache
def shipped(name: str) -> str:
    """A file of this room's `static` folder."""
    return (files("nearhall.report") / "static" / name).read_text(encoding="utf-8")


def contrast(one: str, other: str) -> float:
    """The WCAG 2 contrast ratio of two `#rrggbb` colours, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _variables(colours: dict[str, str], scheme: str) -> str:
    return f"color-scheme:{scheme};" + "".join(f"--{name}:{value};" for name, value in colours.items())
