"""MultiQC's custom content: documented keys, the numbers of metrics.json, nothing of one sample beside `data`."""

from __future__ import annotations

from typing import Any

import pytest
from test_report import made_plan, made_report

from cytonym.multiqc import multiqc_files
from cytonym.report import write_report

# https://docs.seqera.io/multiqc/custom_content
COMMON = {"id", "plot_type", "data"}
SECTION = {"parent_id", "parent_name", "parent_description", "section_name", "description", "pconfig"}
PLOT = {"id", "title", "ylab"}
COLUMN = {"title", "description", "namespace", "suffix", "min", "max", "format"}
MODEL = {"folder": "Markers", "title": "M", "labelled_share": 0.93336, "n_types": 2, "composition": {"T": 12, "B": 11}}


def files(sample: str = "s1", *, models: tuple[str, ...] = ("Markers",)) -> dict[str, dict[str, Any]]:
    matrix = {"n_cells": 30, "median_umis": 9.5}
    alerts = [{"level": level, "title": "", "message": ""} for level in ("WARN", "INFO", "ERROR")]
    told = {name.lower(): MODEL | {"folder": name} for name in models}
    return multiqc_files({"id": sample, "matrix": matrix, "alerts": alerts, "models": told}, {"cytonym": "0.1.0"})


def test_keys_are_the_documented_ones():
    """A bar graph with its section, and general statistics with headers; MultiQC finds files by their names' ends."""
    for name, content in files().items():
        if name.endswith("_mqc_versions.yml"):
            assert content == {"cytonym": {"cytonym": "0.1.0"}}
            continue
        assert name.endswith("_mqc.json")
        if content["plot_type"] == "bargraph":
            assert set(content) == COMMON | SECTION
            assert set(content["pconfig"]) == PLOT
        else:
            assert content["plot_type"] == "generalstats"
            assert set(content) == COMMON | {"headers"}
            assert all(set(header) <= COLUMN for header in content["headers"].values())
            assert set(content["headers"]) == set(content["data"]["s1"])


def test_numbers_are_those_of_the_metrics():
    """Shares as percent; notes are no alerts."""
    found = files()
    assert found["s1_cytonym_mqc.json"]["data"] == {"s1": {"cells": 30, "median_umis": 9.5, "alerts": 2}}
    assert found["s1_cytonym_Markers_mqc.json"]["data"] == {"s1": {"T": 12, "B": 11}}
    assert found["s1_cytonym_Markers_general_mqc.json"]["data"]["s1"] == {"Markers_labelled": 93.34, "Markers_types": 2}


def test_what_samples_share_is_the_same_in_each():
    """MultiQC takes all but `data` from the last file of an id; ids are of one model."""
    one, two = (list(files(sample).values()) for sample in ("a", "b"))
    assert [{**content, "data": {}} for content in one] == [{**content, "data": {}} for content in two]
    both = files(models=("Markers", "Azimuth"))
    ids = [content["id"] for content in both.values() if "id" in content]
    assert len(set(ids)) == len(ids) == 5


def test_the_report_writes_them(tmp_path):
    """With the real metrics of a report."""
    metrics = {"folder": "Markers", "title": "M", "labelled_share": 0.5, "n_types": 1, "composition": {"T cell": 12}}
    write_report(tmp_path, made_report(made_plan(), metrics=metrics))
    assert sorted(path.name for path in tmp_path.glob("*mqc*")) == [
        "s1_cytonym_Markers_general_mqc.json",
        "s1_cytonym_Markers_mqc.json",
        "s1_cytonym_mqc.json",
        "s1_cytonym_mqc_versions.yml",
    ]


@pytest.mark.parametrize("name", ["s1_cytonym_mqc.json", "s1_cytonym_Markers_mqc.json"])
def test_samples_are_told_apart(name):
    """The data of a file is of its sample alone."""
    assert list(files()[name]["data"]) == ["s1"]
