"""The report: numbers worked out by hand, a page that no name can break, and the same bytes each time."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytonym.colours import NO_TYPE_COLOURS, PALETTE, type_colours
from cytonym.errors import CytonymError
from cytonym.io.evidence_csv import EVIDENCE_COLUMNS
from cytonym.io.loupe_csv import loupe_table
from cytonym.page import render_page
from cytonym.page.data import box, evidence_view, level_view, top_features
from cytonym.report import Report, ReportInput, report, write_report
from cytonym.types import LOW_UMI_BARCODE, Alert, DiffExp, Job, MatrixInfo, ModelCard, Partition, Plan

CARD = ModelCard("markers", "markers", "Markers", "Embedded marker model", ("human",), "1", "MIT", "Curated.", ())
NASTY = "</script><script>alert('x')</script>\u2028&{{data}}"


def made_plan(**changes: Any) -> Plan:
    info = MatrixInfo(
        "m.h5", "10x HDF5", "ab" * 32, 30, 3, 90, {"Gene Expression": 3}, "GRCh38", "human", "Visium HD v1", "cell", 9.0
    )
    plan = Plan("s1", "a sample", info, (Job(CARD),), (Partition(0, 0, 30),), versions={"cytonym": "0.1.0"})
    return replace(plan, **changes)


def made_table(**changes: Any) -> pd.DataFrame:
    """12 T cells (9 naive, 3 memory), 11 B cells, 5 low-UMI cells of which 4 are naive T, 2 unassigned."""
    coarse = ["T cell"] * 12 + ["B cell"] * 11 + [LOW_UMI_BARCODE] * 5 + ["Unassigned"] * 2
    fine = ["naive T cell"] * 9 + ["memory T cell"] * 3 + ["B cell"] * 11 + ["naive T cell"] * 4 + ["B cell"]
    table = pd.DataFrame(
        {
            "barcode": [f"cellid_{i:09d}-1" for i in range(30)],
            "broad_cell_type": ["lymphoid"] * 28 + ["Unassigned"] * 2,
            "coarse_cell_type": coarse,
            "fine_cell_type": [*fine, "Unassigned", "Unassigned"],
            "confidence": [0.9] * 6 + [0.4] * 6 + [0.8] * 16 + [np.nan] * 2,
            "reason": [""] * 28 + ["no marker", "no marker"],
            "umi_count": np.arange(30),
        }
    )
    return table.assign(**changes)


def made_diffexp(groups: tuple[str, ...] = ("B cell", LOW_UMI_BARCODE, "T cell")) -> DiffExp:
    """CD3E marks T cells, MS4A1 B cells; ACTB differs nowhere and is too rare in B cells to count there."""
    return DiffExp(
        np.array(["g1", "g2", "g3"]),
        np.array(["CD3E", "MS4A1", "ACTB"]),
        groups,
        mean_counts=np.array([[0.05, 1.0, 2.0], [3.0, 1.0, 0.09], [0.01, 9.0, 0.5]]),
        log2_fold_changes=np.array([[-3.0, 0.0, 3.123456], [4.0, 0.0, -5.0], [0.5, 8.0, 0.25]]),
        adjusted_p_values=np.array([[1e-9, 1.0, 1.23456e-12], [0.001, 1.0, 0.2], [0.5, 0.0, 0.1]]),
    )


def made_report(plan: Plan | None = None, **changes: Any) -> Report:
    plan = plan or made_plan()
    given: dict[str, Any] = {"cell_types": made_table(), "metrics": {"n_types": 2}, "diffexp": made_diffexp()} | changes
    return report(plan, [ReportInput(job, **given) for job in plan.jobs], command_line="cytonym annotate --id s1")


def data_of(page: str | None) -> dict[str, Any]:
    assert page is not None
    found = re.search(r"^const data = (.*);$", page, re.MULTILINE)
    assert found is not None
    return json.loads(found[1])


def test_types_are_counted_with_low_umi_last():
    """Most frequent first; `Low UMI Barcode` last though it is not the rarest; 10 cells or fewer are only counted."""
    grown = pd.concat([made_table()] * 3, ignore_index=True)
    view = level_view(grown, "coarse")
    shares = [(group["name"], group["cells"], group["share"]) for group in view["groups"]]
    assert shares == [("T cell", 36, 0.4), ("B cell", 33, 0.3667), (LOW_UMI_BARCODE, 15, 0.1667)]
    assert view["left_out"] == {"types": 1, "cells": 6}


def test_a_tiny_sample_shows_all_its_types():
    """Where no type has more than 10 cells, none is left out."""
    view = level_view(made_table().iloc[20:], "coarse")
    assert [group["name"] for group in view["groups"]] == ["B cell", "Unassigned", LOW_UMI_BARCODE]
    assert view["left_out"] == {"types": 0, "cells": 0}


def test_a_sub_type_counts_under_each_of_its_types():
    """Naive T cells below the UMI threshold stay sub-types of `Low UMI Barcode`, not of T cell."""
    groups = {group["name"]: group for group in level_view(made_table().iloc[12:], "coarse")["groups"]}
    assert set(groups) == {"B cell"}
    groups = {group["name"]: group for group in level_view(made_table().iloc[15:], "coarse")["groups"]}
    assert groups[LOW_UMI_BARCODE]["subtypes"] == [("naive T cell", 0.8), ("B cell", 0.2)]
    groups = {group["name"]: group for group in level_view(made_table(), "coarse")["groups"]}
    assert groups["T cell"]["subtypes"] == [("naive T cell", 0.75), ("memory T cell", 0.25)]


def test_box_numbers_are_exact():
    """Quartiles of 1, 2, 3, 4, 10 by linear interpolation, over all cells."""
    assert box(np.array([10, 1, 3, 2, 4])) == {"min": 1, "q1": 2, "mean": 4, "median": 3, "q3": 4, "max": 10}
    assert box(np.array([7])) == {"min": 7, "q1": 7, "mean": 7, "median": 7, "q3": 7, "max": 7}


def test_confidence_is_of_the_cells_that_have_one():
    """Six of twelve T cells at .9, six at .4: median .65, half at .5 or more."""
    groups = {group["name"]: group for group in level_view(made_table(), "coarse")["groups"]}
    assert groups["T cell"]["confidence"] == {"median": 0.65, "confident": 0.5, "very_confident": 0.5}
    unsure = level_view(made_table(confidence=np.nan), "coarse")
    assert [group["confidence"] for group in unsure["groups"]] == [None, None]


def test_top_features_follow_the_rule():
    """Enough mean counts, best of the first type first, grey when not higher or not significant, low UMI hidden."""
    assert top_features(made_diffexp(), 0.1) == {
        "types": ["B cell", "T cell"],
        "left_out": 0,
        "mean_counts": 0.1,
        "best": [["MS4A1"], ["CD3E"]],
        "rows": [
            ["g2", "MS4A1", [4.0, 0.001], [-5.0, 0.2, 1]],
            ["g3", "ACTB", [0.5, 0.5, 1], [0.25, 0.1, 1]],
            ["g1", "CD3E", [-3.0, 1e-9, 1], [3.123, 1.235e-12]],
        ],
    }


def test_many_types_get_few_features_each():
    """With 50 types, 4 features of each: 10,000 / 50^2."""
    n_types, n_features = 50, 500
    values = np.arange(n_features * n_types, dtype=float).reshape(n_features, n_types) % 997
    names = np.array([f"g{i}" for i in range(n_features)])
    groups = tuple(f"t{i:02d}" for i in range(n_types))
    found = top_features(DiffExp(names, names, groups, np.ones_like(values), values, np.zeros_like(values)), 0.1)
    best = {f"g{i}" for column in values.T for i in np.argsort(-column, kind="stable")[:4]}
    assert {row[0] for row in found["rows"]} == best


def test_no_name_can_leave_its_place_in_the_page():
    """Markup in the description, a type or a model's words stays text, and the data reads back unchanged."""
    card = replace(CARD, banner=NASTY)
    plan = made_plan(description=NASTY, jobs=(Job(card),), alerts=(Alert("WARN", NASTY, NASTY),))
    page = made_report(plan, cell_types=made_table(coarse_cell_type=NASTY)).page_html
    assert page is not None
    assert page.count("<script>") == page.count("</script>") == 1
    assert "\u2028" not in page.split("const data")[1]
    assert html.escape(NASTY) in page
    data = data_of(page)
    assert data["sample"]["description"] == data["models"][0]["levels"][1]["groups"][0]["name"] == NASTY


def test_the_page_fetches_nothing():
    """No address, no import, and a policy that forbids any."""
    page = made_report().page_html
    assert page is not None
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\s\"']+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=\"(?!data:)|@import|url\(|fetch\(|XMLHttpRequest", page)


def test_the_page_grows_with_types_and_not_with_cells():
    """A hundred times the cells give a page of about the same size."""
    once = made_report().page_html
    often = made_report(cell_types=pd.concat([made_table()] * 100, ignore_index=True)).page_html
    assert once is not None and often is not None
    assert len(often) < len(once) + 1500


def test_evidence_is_gathered_by_type():
    """Largest ratio of each marker over the clusters; a defining gene that is on anywhere is on; most cells first."""
    rows = [
        (0, "T cell", "CL:1", 5, 0.5, 0.8, "CD3E:2.0 CD2:1.0", "CD3E", "CD3D CD2"),
        (1, "T cell", "CL:1", 9, 1.0, 0.9, "CD2:3.5", "CD2", "CD3D CD3E"),
    ]
    view = evidence_view(pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS)))
    assert view["types"] == {"T cell": [14, [("CD2", 3.5), ("CD3E", 2.0)], ["CD3E", "CD2"], ["CD3D"]]}
    assert [row[view["columns"].index("cluster")] for row in view["rows"]] == [1, 0]


def test_the_page_says_what_confidence_is_worth():
    """Mean of twelve T cells at .65 and eleven B cells at .8."""
    told = made_report(made_plan(jobs=(Job(replace(CARD, reliability="It may err.")),)))
    assert data_of(told.page_html)["models"][0]["reliability"] == [
        "It may err.",
        "The mean confidence of the 23 cells with a coarse type is 0.72: were it exact, about 28% of these names would "
        "be wrong.",
    ]


def test_metrics_tell_the_sample():
    """Features of every type are counted, though only Gene Expression is used."""
    matrix = replace(made_plan().matrix, feature_types={"Gene Expression": 3, "Antibody Capture": 2})
    told = made_report(made_plan(matrix=matrix)).metrics["matrix"]
    assert (told["n_cells"], told["n_features"], told["median_umis"]) == (30, 3, 9.0)
    assert told["feature_types"] == {"Gene Expression": 3, "Antibody Capture": 2}


def test_a_run_without_differential_expression_says_so():
    """Too few groups is a warning about that model; a stage that the user left out is none."""
    alerts = made_report(diffexp=None).metrics["alerts"]
    assert [(a["level"], a["title"], a["model"]) for a in alerts] == [("WARN", "No differential expression", "markers")]
    skipped = made_report(made_plan(skip=("diffexp",)), diffexp=None)
    assert skipped.metrics["alerts"] == []
    assert data_of(skipped.page_html)["models"][0]["features"] is None


def test_unlabelled_against_low_umi_cells_is_not_shown():
    """A panel without coarse types has a test of two groups, and no type in it."""
    groups = (LOW_UMI_BARCODE, "Unassigned", "Unassigned")
    assert data_of(made_report(diffexp=made_diffexp(groups)).page_html)["models"][0]["features"] is None


def test_deep_chemistries_ask_for_more_counts():
    """Space Ranger's two cut-offs: 0.1 for Visium HD and where the file names none, 1 elsewhere."""
    for chemistry, wanted in (("Visium HD v1", 0.1), ("", 0.1), ("Single Cell 3' v3", 1.0)):
        plan = made_plan(matrix=replace(made_plan().matrix, chemistry=chemistry))
        assert data_of(made_report(plan).page_html)["models"][0]["features"]["mean_counts"] == wanted


def test_a_panel_opens_at_the_broad_level():
    """Where most labelled cells have no coarse type, coarse bars would show nothing but `Unassigned`."""
    panel = data_of(made_report(cell_types=made_table(coarse_cell_type="Unassigned")).page_html)
    assert panel["models"][0]["level"] == "broad"
    assert data_of(made_report().page_html)["models"][0]["level"] == "coarse"


def test_a_model_without_broad_types_or_confidence_has_a_page():
    """The cloud's table has only coarse and fine types."""
    table = made_table().drop(columns=["broad_cell_type", "confidence", "reason"])
    view = data_of(made_report(cell_types=table, metrics={}).page_html)["models"][0]
    assert [level["key"] for level in view["levels"]] == ["coarse"]
    assert view["levels"][0]["confidence"] is None
    assert view["reasons"] == []


def test_loupe_columns_carry_each_model_by_barcode():
    """The first model's order; further models joined by barcode and named after their folder."""
    first = made_table().iloc[:3]
    second = made_table(coarse_cell_type=[f"c{i}" for i in range(30)]).iloc[[2, 0]].drop(columns="fine_cell_type")
    table = loupe_table([(CARD, first), (replace(CARD, folder="Azimuth"), second)], "My group")
    assert list(table.columns) == [
        *("Barcode", "My group", "My group (fine)", "My group (confidence)"),
        *("Azimuth Cell Types", "Azimuth Cell Types (confidence)"),
    ]
    assert table["Azimuth Cell Types (confidence)"].tolist() == [
        "high (0.9 and more)",
        "none given",
        "high (0.9 and more)",
    ]
    assert table["Azimuth Cell Types"].tolist() == ["c0", "Unassigned", "c2"]
    assert table["Barcode"].tolist() == first["barcode"].tolist()


def test_loupe_names_with_commas_are_quoted(tmp_path):
    """A CSV reader gets the name back."""
    write_report(tmp_path, made_report(cell_types=made_table(coarse_cell_type="CD4+, alpha-beta T cell")))
    text = (tmp_path / "loupe_cell_types.csv").read_text()
    assert text.startswith("Barcode,Cell Types,Cell Types (fine),Cell Types (confidence)\n")
    assert '\ncellid_000000000-1,"CD4+, alpha-beta T cell",naive T cell,high (0.9 and more)\n' in text
    assert text.count("\n") == 31


FILES = [
    "loupe_cell_types.csv",
    "metrics.json",
    "provenance.json",
    "s1_cytonym_mqc.json",
    "s1_cytonym_mqc_versions.yml",
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_run_gives_the_same_bytes(tmp_path):
    """Nothing in the files changes from time to time."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, made_report())
    assert list(files_of(tmp_path / "a")) == sorted([*FILES, "web_summary_cell_types.html"])
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_skipped_page_leaves_the_other_files(tmp_path):
    """--skip report leaves out the page alone."""
    write_report(tmp_path, made_report(made_plan(skip=("report",))))
    assert list(files_of(tmp_path)) == FILES


def test_what_breaks_the_schema_is_not_written(tmp_path):
    """A share of 2 is refused by name, and no file appears."""
    with pytest.raises(CytonymError, match=r"metrics.schema.json: at 'models/markers/labelled_share': 2 is greater"):
        write_report(tmp_path, made_report(metrics={"labelled_share": 2}))
    assert files_of(tmp_path) == {}


def test_colours_are_stable_and_differ():
    """A type keeps its colour when another one joins; up to 24 types have colours of their own."""
    names = [f"type {i}" for i in range(24)]
    colours = type_colours(reversed(names))
    assert list(colours) == sorted(names)
    assert set(colours.values()) == set(PALETTE)
    assert type_colours(["B cell"])["B cell"] == type_colours(["B cell", "Unassigned"])["B cell"] != "#8c8c8c"
    assert type_colours(NO_TYPE_COLOURS) == NO_TYPE_COLOURS
    assert len(type_colours([*names, "one more"])) == 25


def test_places_in_data_are_not_filled():
    """Text like {{style}} in the data stays as it is."""
    page = render_page({"sample": {"id": "{{style}}", "description": ""}, "models": []})
    assert "<title>{{style}}</title>" in page
