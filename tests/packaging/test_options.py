"""The options are the same everywhere: command line, Nextflow parameters, sample sheet and README."""

from __future__ import annotations

import json
import re
from dataclasses import fields

from conftest import PROJECT
from cytonym.cli import IGNORED_FLAGS, IGNORED_VALUES, parser
from cytonym.types import AnnotateRequest

# what Nextflow itself decides: where results go, how many cores and how much memory
RUNNER_OPTIONS = {"output_dir", "localcores", "localmem", "dry", "help"}


def command_options(name: str) -> set[str]:
    commands = next(action for action in parser()._actions if action.choices)
    return {action.dest for action in commands.choices[name]._actions}


def annotate_options() -> set[str]:
    """The options that describe a sample or a result."""
    ignored = {name.replace("-", "_") for name in (*IGNORED_VALUES, *IGNORED_FLAGS)}
    return command_options("annotate") - RUNNER_OPTIONS - ignored


def schema_params() -> set[str]:
    schema = json.loads((PROJECT / "nextflow_schema.json").read_text())
    return {name for group in schema["$defs"].values() for name in group["properties"]}


def test_the_request_has_every_option():
    """The Python call takes what the command line takes."""
    assert {field.name for field in fields(AnnotateRequest)} == annotate_options() | {
        "output_dir",
        "localcores",
        "localmem",
    }


def test_preflight_takes_the_same_options():
    """Nextflow hands the options of a sample to preflight; files beside the matrix it has found itself."""
    assert command_options("preflight") - {"help", "output_dir", "beside"} == annotate_options()


def test_every_option_is_a_nextflow_parameter():
    """With underscores for hyphens."""
    assert annotate_options() <= schema_params()


def test_the_readme_lists_every_option():
    """With its Nextflow name beside it."""
    rows = re.findall(r"^\| `--([a-z0-9-]+)` \| `--([a-z0-9_]+)` \|", (PROJECT / "README.md").read_text(), re.MULTILINE)
    assert {parameter for _, parameter in rows} == annotate_options()
    assert all(option.replace("-", "_") == parameter for option, parameter in rows)


def test_sheet_columns_are_options():
    """A column of the sample sheet sets the option of that name for one sample."""
    sheet = json.loads((PROJECT / "schemas" / "samplesheet.schema.json").read_text())
    columns = set(sheet["items"]["properties"]) - {"sample", "spaceranger_dir"}
    assert columns <= annotate_options()


def test_help_shows_every_option():
    """Each option has a line of help, and the exit codes stand at the end."""
    commands = next(action for action in parser()._actions if action.choices)
    text = commands.choices["annotate"].format_help()
    for option in annotate_options():
        assert f"--{option.replace('_', '-')}" in text
    assert "exit codes:" in text
