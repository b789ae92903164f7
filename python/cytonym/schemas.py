"""The JSON schemas that parameters, sheets, plans and tables are checked against (draft 2020-12)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

_PACKAGED = Path(__file__).parent / "data" / "schemas"
_CHECKOUT = Path(__file__).parents[2] / "schemas"


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema of that file name, from the installed package, or from the checkout it is imported from."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return json.loads((folder / name).read_text(encoding="utf-8"))


def first_problem(value: Any, name: str) -> str | None:
    """Where and why `value` breaks the schema, in one sentence; None if it holds."""
    validator = jsonschema.Draft202012Validator(load_schema(name))
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is None:
        return None
    where = "/".join(str(part) for part in error.absolute_path)
    return f"at '{where}': {error.message}" if where else error.message
