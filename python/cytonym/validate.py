"""Parameters and sample sheet of a pipeline run, checked against their schemas: in go strings, out come samples.

Only what can be told from the texts: whether files exist is asked where they can be seen, in the workflow.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from .beside import IN_SPATIAL, NUCLEI, ROLES, SPACE_RANGER_NAMES
from .errors import InputError
from .inputs import BINS_IN_OUTS, CELLS_IN_OUTS
from .progress import LOGGER
from .schemas import load_schema

# a parameter that the sheet may set for one sample, or the run for all
SAMPLE_OPTIONS = (
    "description",
    "cell_annotation_model",
    "genome",
    "low_umi_threshold",
    "models_dir",
    "markers",
    "tissue",
    "cloupe",
    "cloupe_group_name",
    "cell_segmentations",
    "spatial",
)
RUN_OPTIONS = (
    "skip",
    "embeddings",
    "evidence",
    "scoring",
    "h5ad",
    "spatialdata",
    "figures",
    "markers_only",
    "partition_size",
    "tenx_cloud_token_path",
    "loupe_tools",
)
IN_SPACERANGER_DIR = tuple(f"{folder}{name}" for folder in ("", "outs/") for name in (CELLS_IN_OUTS, BINS_IN_OUTS))
BESIDE = {  # where files beside a matrix are looked for; as `locate_beside` does it
    "matrices": list(SPACE_RANGER_NAMES),
    "roles": {role: list(names) for role, names in ROLES.items()},
    "in_spatial": {role: list(names) for role, names in IN_SPATIAL.items()},
    "nuclei": NUCLEI,
}
MISTYPED = 0.8  # similarity from which on an unknown name is taken for a slip of the pen


@dataclass(frozen=True)
class Row:
    """One sample of the sheet: where it stands, for messages, and its cells, empty ones left out."""

    place: str  # "line 3" or "item 2"
    cells: dict[str, Any]


def run(params: Mapping[str, Any], sheet: Path | None, sheet_name: str) -> list[dict[str, Any]]:
    """The samples, one dict each: `id`, `matrix` and the options of `cytonym annotate` that are set for it.

    A `spaceranger_dir` is given as `matrix`, with `inside`: the matrices to look for in it, in order.
    Raises InputError with one problem a line. Unknown columns are logged as warnings and left out.
    """
    settings, problems = _check_params(params)
    if sheet is None:
        if not problems and not ("id" in settings and "matrix" in settings):
            problems = ["Give a sample sheet with --input, or one sample with --id and --matrix."]
        if "cloupe_group_name" in settings and "cloupe" not in settings:
            problems.append("--cloupe_group_name: needs --cloupe too.")
        samples = [{"id": settings.get("id"), "matrix": settings.get("matrix")}]
    else:
        if "id" in settings or "matrix" in settings:
            problems.append("Give --input, or --id and --matrix, not both.")
        for name in ("cloupe", "cell_segmentations", "spatial"):
            if name in settings:
                problems.append(f"--{name} is of one sample: give it in a column of {sheet_name} instead.")
        rows, sheet_problems = _check_sheet(_read_rows(sheet, sheet_name), sheet_name)
        problems += sheet_problems
        samples = [_sample(row.cells) for row in rows] if not problems else []
    if problems:
        raise InputError("\n".join(problems))
    common = {name: settings[name] for name in (*SAMPLE_OPTIONS, *RUN_OPTIONS) if name in settings}
    return [_joined(common, sample) for sample in samples]


def _joined(common: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """The sample's own values before the run's; empty texts are as good as none."""
    joined = {name: value for name, value in {**sample, **common, **sample}.items() if value != ""}
    if "cloupe" not in joined:  # what the run says of Loupe files is for the samples that have one
        for name in ("cloupe_group_name", "loupe_tools"):
            joined.pop(name, None)
    return joined


def _sample(cells: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: cells[name] for name in SAMPLE_OPTIONS if name in cells}
    if "matrix" in cells:
        return {"id": cells["sample"], "matrix": cells["matrix"], **options}
    return {"id": cells["sample"], "matrix": cells["spaceranger_dir"], "inside": list(IN_SPACERANGER_DIR), **options}


# ---- parameters


def parameters_schema() -> dict[str, Any]:
    """nextflow_schema.json: next to the package's schemas, or in the checkout's root, where nf-core's tools want it."""
    try:
        return load_schema("nextflow_schema.json")
    except FileNotFoundError:
        path = Path(__file__).parents[2] / "nextflow_schema.json"
        return json.loads(path.read_text(encoding="utf-8"))


def parameters() -> dict[str, dict[str, Any]]:
    """All parameters, each with its part of the schema."""
    groups = parameters_schema()["$defs"].values()
    return {name: rule for group in groups for name, rule in group["properties"].items()}


def _check_params(params: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parameters that are set, as the schema types them, and what is wrong with them."""
    if not isinstance(params, Mapping):
        return {}, ["The parameters are not a JSON object."]
    schema, rules = parameters_schema(), parameters()
    foreign = re.compile("|".join(schema.get("patternProperties", {})) or r"(?!)")
    problems, settings = [], {}
    for name, value in params.items():
        if name in rules:
            if value is not None:
                settings[name] = _typed(value, rules[name])
        elif not foreign.match(name):
            problems.append(f"Unknown parameter --{name}.{_did_you_mean(name, rules, '--')}")
    for error in _errors(schema, settings):
        name = str(error.absolute_path[0]) if error.absolute_path else ""
        problems.append(f"--{name}: {_reason(error, rules[name])}" if name else _missing(error, "--", "parameter"))
    return settings, problems


# ---- sample sheet


def _read_rows(sheet: Path, sheet_name: str) -> list[Row]:
    try:
        text = sheet.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise InputError(f"{sheet_name} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise InputError(f"{sheet_name} line {line} is not UTF-8 text. Save the sheet as CSV (UTF-8).") from exc
    if sheet_name.endswith(".json"):
        return _json_rows(text, sheet_name)
    return list(_csv_rows(text, sheet_name))


def _json_rows(text: str, sheet_name: str) -> list[Row]:
    try:
        items = json.loads(text)
    except ValueError as exc:
        raise InputError(f"{sheet_name} is not JSON: {exc}.") from exc
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{sheet_name} must be a JSON array of objects, one a sample.")
    return [
        Row(f"item {number}", {name: value for name, value in item.items() if value not in (None, "")})
        for number, item in enumerate(items, 1)
    ]


def _csv_rows(text: str, sheet_name: str) -> Iterator[Row]:
    """Cells without the blanks around them; empty lines are left out."""
    first = text.lstrip().split("\n", 1)[0]
    tab = sheet_name.endswith(".tsv") or ("\t" in first and "," not in first)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tab else ",", strict=True)
    columns: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            place, line = f"line {line}", reader.line_num + 1
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(cells, sheet_name)
                continue
            if len(cells) > len(columns):
                raise InputError(
                    f"{sheet_name} {place} has {len(cells)} cells, but the header has {len(columns)} columns. "
                    "Put a cell that holds a comma in double quotes."
                )
            yield Row(place, {name: cell for name, cell in zip(columns, cells, strict=False) if name and cell})
    except csv.Error as exc:
        raise InputError(f"{sheet_name} line {line} cannot be read as a table: {exc}.") from exc


def _columns(header: list[str], sheet_name: str) -> list[str]:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    if repeated:
        raise InputError(f"{sheet_name} line 1 has the column '{repeated[0]}' more than once.")
    schema = load_schema("samplesheet.schema.json")["items"]
    problems = _unknown_columns(header, schema["properties"], sheet_name)
    if problems:
        raise InputError("\n".join(problems))
    missing = [f"'{name}'" for name in schema["required"] if name not in header]
    sources = [name for choice in schema["anyOf"] for name in choice["required"]]
    if not set(sources) & set(header):
        missing.append(" or ".join(f"'{name}'" for name in sources))
    if missing:
        raise InputError(f"{sheet_name} line 1: there is no column {', and no column '.join(missing)}.")
    return header


def _unknown_columns(names: Iterable[str], known: Mapping[str, Any], sheet_name: str) -> list[str]:
    """Problems for names that look like a slip of the pen; a warning in the log for the others."""
    names, problems = list(names), []
    absent = [name for name in known if name not in names]
    for name in names:
        if name in known or not name:
            continue
        meant = _did_you_mean(name, absent, "")
        if meant:
            problems.append(f"{sheet_name}: unknown column '{name}'.{meant}")
        else:
            LOGGER.warning("%s: the column '%s' has no meaning here and is left out.", sheet_name, name)
    return problems


def _check_sheet(rows: list[Row], sheet_name: str) -> tuple[list[Row], list[str]]:
    """The rows with typed cells, and what is wrong with them."""
    schema = load_schema("samplesheet.schema.json")
    rules = schema["items"]["properties"]
    problems: list[str] = []
    if not rows:
        problems.append(f"{sheet_name} has no samples.")
    if rows and rows[0].place.startswith("item"):
        names = dict.fromkeys(name for row in rows for name in row.cells)
        problems += _unknown_columns(names, rules, sheet_name)
    typed = [
        Row(row.place, {name: _typed(value, rules[name]) for name, value in row.cells.items() if name in rules})
        for row in rows
    ]
    first: dict[tuple[str, Any], str] = {}
    for row in typed:
        for error in _errors(schema["items"], row.cells):
            where = f"{sheet_name} {row.place}"
            name = str(error.absolute_path[0]) if error.absolute_path else ""
            if name:
                problems.append(f"{where}, column '{name}': {_reason(error, rules[name])}")
            else:
                problems.append(f"{where}, {_missing(error, '', 'column')}")
        for name in schema["uniqueEntries"]:
            value = row.cells.get(name)
            earlier = first.setdefault((name, value), row.place)
            if value is not None and earlier != row.place:
                problems.append(f"{sheet_name} {row.place}, column '{name}': '{value}' is already on {earlier}")
    return typed, problems


# ---- schemas


def _errors(schema: Mapping[str, Any], value: Any) -> Iterator[jsonschema.ValidationError]:
    errors = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return iter(sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]))


def _typed(value: Any, rule: Mapping[str, Any]) -> Any:
    """The value as the schema types it, as far as it can be read so.

    Sheets hold texts only, and Nextflow makes a number of everything on the command line that looks like one.
    """
    if rule["type"] == "integer" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if rule["type"] == "boolean" and value in ("true", "false"):
        return value == "true"
    if rule["type"] == "string" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _reason(error: jsonschema.ValidationError, rule: Mapping[str, Any]) -> str:
    return f"'{error.instance}' {rule['errorMessage']}" if "errorMessage" in rule else error.message


def _missing(error: jsonschema.ValidationError, prefix: str, what: str) -> str:
    """A sentence on a value that is not there."""
    if error.validator == "dependentRequired":
        asking, needed = next((a, n) for a, ns in error.validator_value.items() for n in ns if a in error.instance)
        return f"{what} '{prefix}{asking}': needs {prefix}{needed} too"
    if error.validator == "anyOf":
        names = [name for choice in error.validator_value for name in choice["required"]]
        return f"{what} '{names[0]}': the cell is empty, and there is no {' or '.join(names[1:])} either"
    name = next(name for name in error.validator_value if name not in error.instance)
    return f"{what} '{prefix}{name}': {'the cell is empty' if what == 'column' else 'must be given'}"


def _did_you_mean(name: str, known: Iterable[str], prefix: str) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_").replace(" ", "_"), list(known), 1, MISTYPED)
    return f" Did you mean '{prefix}{close[0]}'?" if close else ""
