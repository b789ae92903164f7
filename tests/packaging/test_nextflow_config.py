"""What each profile sets, field by field, and the rules that nf-core's tools ask of the parameter schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from conftest import PROJECT

LIMITS = {"process.resourceLimits.cpus": 64, "process.resourceLimits.memory.giga": 512}
RETRY = "{ task.exitStatus in ((130..145) + [104, 175, 247]%s) ? 'retry' : 'finish' }"
PROFILES: dict[str, dict[str, object]] = {  # what differs from -profile standard
    "docker": {"docker.enabled": True, "docker.runOptions": "-u $(id -u):$(id -g)"},
    "podman": {"podman.enabled": True},
    "singularity": {"singularity.enabled": True, "singularity.autoMounts": True},
    "apptainer": {"apptainer.enabled": True, "apptainer.autoMounts": True},
    "conda": {
        "conda.enabled": True,
        "process.conda": f"{PROJECT}/conf/environment.yml",
        "env.PYTHONPATH": f"{PROJECT}/python",
    },
    "test": {
        "params.input": f"{PROJECT}/tests/data/tiny/samplesheet.csv",
        "process.resourceLimits.cpus": 1,
        "process.resourceLimits.memory.giga": 4,
        "process.resourceLimits.time.hours": 1,
    },
    "slurm": {
        **LIMITS,
        "process.resourceLimits.time.hours": 168,
        "process.executor": "slurm",
        "process.queue": None,
        "process.clusterOptions": None,
        "executor.queueSize": 200,
        "executor.submitRateLimit": "10/1sec",
    },
    "awsbatch": {
        **LIMITS,
        "process.executor": "awsbatch",
        "process.queue": None,
        "aws.region": "eu-west-1",
        "aws.batch.cliPath": None,
        "aws.batch.maxSpotAttempts": 5,
    },
    "google_batch": {
        **LIMITS,
        "process.executor": "google-batch",
        "process.errorStrategy": RETRY % " + (50001..50006)",
        "google.project": None,
        "google.location": "europe-west2",
        "google.batch.spot": False,
        "google.batch.maxSpotAttempts": 5,
    },
    "k8s": {
        **LIMITS,
        "process.executor": "k8s",
        "k8s.namespace": "default",
        "k8s.storageClaimName": None,
        "k8s.storageMountPath": "/workspace",
        "k8s.serviceAccount": None,
    },
}
CONTAINER_ENGINES = ("docker", "podman", "singularity", "apptainer")


@cache
def config(profile: str) -> dict[str, Any]:
    """`nextflow config`; memory and time keep one unit each."""
    command = [str(PROJECT / "tools" / "nextflow"), "config", str(PROJECT), "-profile", profile, "-o", "json"]
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def flat(value: Any, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix[1:]: value}
    kept = {name: value[name] for name in ("giga", "hours") if name in value} or value
    return {key: leaf for name, child in kept.items() for key, leaf in flat(child, f"{prefix}.{name}").items()}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_sets_these_fields_and_no_other(profile):
    """The difference to the standard profile is known to the last field."""
    standard, found = flat(config("standard")), flat(config(profile))
    wanted = PROFILES[profile]
    changed = {name for name, value in found.items() if standard.get(name, "absent") != value}
    assert {name: found.get(name, "absent") for name in changed | set(wanted)} == wanted
    assert set(standard) <= set(found)


def test_standard_profile():
    """No engine, the machine's own cores, the project's image for whoever switches an engine on."""
    found = config("standard")
    assert not {*CONTAINER_ENGINES, "conda", "executor", "plugins"} & set(found)
    assert list(found["process"]["resourceLimits"]) == ["cpus"]
    assert 1 <= found["process"]["resourceLimits"]["cpus"] <= (os.cpu_count() or 1)
    assert found["process"]["container"] == found["params"]["container"] == "cytonym/cytonym:0.1.0"
    assert found["process"]["errorStrategy"] == RETRY % ""
    assert found["process"]["maxRetries"] == 2
    assert found["process"]["publishDir"] == {"enabled": False}
    assert found["manifest"]["nextflowVersion"] == "!>=24.10.0"


def test_labels_grow_with_each_attempt():
    """The four labels that the processes carry, each with more memory and time on a retry."""
    process = config("standard")["process"]
    for label in ("single", "low", "medium", "high"):
        resources = process[f"withLabel:process_{label}"]
        assert resources["memory"].endswith("* task.attempt }")
        assert resources["time"].endswith("* task.attempt }")
    used = {
        found for path in PROJECT.glob("modules/**/main.nf") for found in re.findall(r"process_\w+", path.read_text())
    }
    assert used <= {"process_single", "process_low", "process_medium", "process_high"}


# ---- nf-core's `pipelines schema lint`, which is too heavy to install here: its rules


@cache
def schema() -> dict[str, Any]:
    return json.loads((PROJECT / "nextflow_schema.json").read_text())


def parameters() -> dict[str, dict[str, Any]]:
    return {name: rule for group in schema()["$defs"].values() for name, rule in group["properties"].items()}


@pytest.mark.parametrize("path", ["nextflow_schema.json", "schemas/samplesheet.schema.json"])
def test_schema_is_of_the_draft(path):
    """Draft 2020-12, and valid by it."""
    found = json.loads((PROJECT / path).read_text())
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(found)


def test_schema_is_named_after_the_manifest():
    manifest = config("standard")["manifest"]
    assert schema()["title"] == f"{manifest['name']} pipeline parameters"
    assert schema()["description"] == manifest["description"]
    assert schema()["$id"] == (
        f"https://raw.githubusercontent.com/{manifest['name']}/{manifest['defaultBranch']}/nextflow_schema.json"
    )


def test_every_group_is_joined():
    """allOf names each group of $defs once; no parameter is in two groups, each is described."""
    assert [part["$ref"] for part in schema()["allOf"]] == [f"#/$defs/{name}" for name in schema()["$defs"]]
    names = [name for group in schema()["$defs"].values() for name in group["properties"]]
    assert len(names) == len(set(names))
    assert all(rule["description"] and rule["type"] for rule in parameters().values())


def test_schema_and_config_have_the_same_parameters():
    assert set(parameters()) == set(config("standard")["params"])


def test_schema_and_config_have_the_same_defaults():
    """A default that is empty, null or false stands in the configuration alone."""
    written = {name: value for name, value in config("standard")["params"].items() if value not in (None, "", False)}
    assert written == {name: rule["default"] for name, rule in parameters().items() if "default" in rule}
    assert all(jsonschema.Draft202012Validator(parameters()[name]).is_valid(value) for name, value in written.items())


def test_input_points_to_the_sheet_schema():
    assert (PROJECT / parameters()["input"]["schema"]).is_file()
    assert parameters()["input"]["mimetype"] == "text/csv"


# ---- the module for other pipelines, and the environments


def test_module_description_names_its_channels():
    """meta.yml lists the inputs and outputs of the process under their names, in order."""
    folder = PROJECT / "modules" / "local" / "spaceranger" / "annotate"
    meta, code = yaml.safe_load((folder / "meta.yml").read_text()), (folder / "main.nf").read_text()
    outputs = code[code.index("    output:") : code.index("    when:")]
    assert list(meta["output"]) == re.findall(r"emit: (\w+)", outputs)
    assert [next(iter(element)) for element in meta["input"][0]] == ["meta", "outs"]
    assert next(iter(meta["input"][1])) == "models_dir"
    (versions,) = meta["topics"]["versions"]
    assert [next(iter(element)) for element in versions] == [
        "${task.process}",
        "cytonym",
        re.search(r'eval\("(.+?)"\)', outputs)[1],  # type: ignore[index]
    ]


def test_conda_environment_has_every_dependency():
    """Each pinned, from conda-forge; those of the extras that the image has, too."""
    wanted = re.search(r"^dependencies = \[\n((?:.+\n)*?)\]", (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert wanted is not None
    names = set(re.findall(r'^  "([\w-]+)', wanted[1], re.MULTILINE))
    listed = yaml.safe_load((PROJECT / "conf" / "environment.yml").read_text())["dependencies"]
    pins = dict(re.fullmatch(r"conda-forge::([\w-]+)=([\d.]+)", line).groups() for line in listed)  # type: ignore[union-attr]
    assert set(pins) == names | {"python", "pyarrow", "matplotlib-base", "faiss-cpu"}
