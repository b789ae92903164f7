"""The web summary: one HTML file with style, data and script inside, and nothing fetched from elsewhere."""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files
from typing import Any

# "<" could close the script element, the line separators would end a JavaScript line
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render_page(data: dict[str, Any]) -> str:
    """The page of `page_data`."""
    sample = data["sample"]
    title = " - ".join(filter(None, [sample["id"], sample["description"]]))
    return _render(title, data, "page.js", "metrics.json and cell_types.csv")


def render_cohort(data: dict[str, Any]) -> str:
    """The page of `cohort_data`."""
    return _render(data["title"], data, "cohort.js", "cohort_composition.csv")


def _render(title: str, data: dict[str, Any], script: str, numbers: str) -> str:
    """The template with its `{{name}}` places filled, once, so that no data is taken for a place."""
    parts = {
        "title": html.escape(title),
        "style": _read("page.css"),
        "data": script_json(data),
        "shared": _read("shared.js"),
        "script": _read(script),
        "numbers": numbers,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read("page.html"))


def script_json(value: Any) -> str:
    """JSON on one line that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
