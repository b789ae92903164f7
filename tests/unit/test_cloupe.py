"""The .cloupe with types in it, by stand-ins for 10x Genomics' programs: how they are called, and how they fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import CARD, made_plan

from cytonym import AnnotateRequest, annotate
from cytonym.cli import main
from cytonym.cloupe import CLOUPE_NAME, PROJECTION_NAME, annotate_cloupe, find_programs
from cytonym.demo import make_tissue
from cytonym.errors import LoupeProgramError
from cytonym.io.loupe_csv import confidence_classes
from cytonym.io.places_h5 import read_places
from cytonym.io.tenx_h5 import open_tenx_h5
from cytonym.matrix import in_memory
from cytonym.place import place
from cytonym.stages import ALERTS_NAME, CELL_TYPES_NAME, METRICS_NAME, cloupe_stage
from cytonym.types import Alert, BesideFile, Job
from loupe_programs import make_cloupe, make_programs

BARCODES = [f"cellid_{number:09d}-1" for number in range(1, 5)]
TYPES = ["T cell", "Low UMI Barcode", "T cell", "B cell"]
BY_TYPE = {"B cell": BARCODES[3:], "Low UMI Barcode": BARCODES[1:2], "T cell": [BARCODES[0], BARCODES[2]]}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = make_programs(tmp_path / "programs")
    (folder / "calls.jsonl").touch()
    return folder


@pytest.fixture
def cloupe(tmp_path: Path) -> Path:
    return make_cloupe(tmp_path / "sample.cloupe", BARCODES)


def annotated(cloupe: Path, programs: Path, folder: Path, **changes: Any) -> tuple[Alert, ...]:
    groups = {"Cell Types (beta)": pd.Series(TYPES, index=BARCODES)}
    given: dict[str, Any] = {"groups": groups, "projection": True} | changes
    folder.mkdir(exist_ok=True)
    return annotate_cloupe(cloupe, programs=find_programs(programs), folder=folder, **given)


def calls(programs: Path) -> list[tuple[str, list[str], list[str]]]:
    return [json.loads(line) for line in (programs / "calls.jsonl").read_text().splitlines()]


def tracks(path: Path) -> dict[str, dict[str, list[str]]]:
    return json.loads(path.read_text())["tracks"]


def test_types_are_added_and_the_umap_taken(cloupe, programs, tmp_path, monkeypatch):
    """Barcodes by type, as they are called after the low-UMI rule; nothing to warn of; no token for strangers."""
    monkeypatch.setenv("TENX_CLOUD_TOKEN", "secret")
    folder = tmp_path / "out"
    assert annotated(cloupe, programs, folder) == ()
    assert tracks(folder / CLOUPE_NAME) == {"Cell Types (beta)": BY_TYPE}
    assert (folder / PROJECTION_NAME).read_text().split("\n")[:2] == [
        "Barcode,X Coordinate,Y Coordinate",
        "cellid_000000001-1,0.5,0",
    ]
    assert [name for name, _, _ in calls(programs)] == ["getbarcodes", "exportprojectioncsv", "appendtracks"]
    assert all(seen == [] for _, _, seen in calls(programs))
    assert sorted(path.name for path in folder.iterdir()) == [CLOUPE_NAME, PROJECTION_NAME]
    assert tracks(cloupe) == {}


def test_other_barcodes_are_a_warning_with_three_numbers(cloupe, programs, tmp_path):
    """Three in both, one only in the matrix, two only in the Loupe file: 3 of 6. The types are added all the same."""
    make_cloupe(cloupe, [*BARCODES[:3], "x-1", "y-1"])
    (alert,) = annotated(cloupe, programs, tmp_path / "out")
    assert (alert.level, alert.title) == ("WARN", "Loupe file and matrix differ")
    assert alert.message.startswith("3 of 6 barcodes are in both; 1 are only in the matrix, 2 only in the Loupe file.")
    assert (tmp_path / "out" / CLOUPE_NAME).is_file()


@pytest.mark.parametrize("code", [3, 0])
@pytest.mark.parametrize("name", ["getbarcodes", "exportprojectioncsv"])
def test_a_failed_check_or_export_is_an_alert(name, code, cloupe, programs, tmp_path):
    """Types are added; what the program said, which may hold a path, is not in the alert. 0: it wrote no file."""
    (programs / "fail").write_text(json.dumps({name: code}))
    (alert,) = annotated(cloupe, programs, tmp_path / "out")
    assert alert.level == "WARN"
    assert alert.message == (
        f"10x Genomics' program {name} {'failed with exit code 3' if code else 'went well and wrote no file'}."
    )
    assert (tmp_path / "out" / CLOUPE_NAME).is_file()
    assert (tmp_path / "out" / PROJECTION_NAME).exists() == (name == "getbarcodes")


@pytest.mark.parametrize("text", ["", "Barcode,X,Y\na,1,2\n", "Barcode,X Coordinate,Y Coordinate\na,b,2\n"])
def test_a_garbled_projection_is_an_alert(text, cloupe, programs, tmp_path):
    (programs / "exportprojectioncsv").write_text(f"#!/bin/sh\nprintf '{text}' > \"$2\"\n")
    (programs / "exportprojectioncsv").chmod(0o755)
    (alert,) = annotated(cloupe, programs, tmp_path / "out")
    assert alert.title == "No UMAP from the Loupe file"
    assert not (tmp_path / "out" / PROJECTION_NAME).exists()


@pytest.mark.parametrize(("script", "words"), [
    ("#!/bin/sh\necho no such track >&2; exit 4\n", "failed with exit code 4. It said: no such track"),
    ("#!/bin/sh\nexit 0\n", "went well and wrote no file"),
    ("#!/bin/sh\nkill -9 $$\n", "was ended by SIGKILL"),
    ("#!/no/such/shell\n", "cannot be started"),
])  # fmt: skip
def test_types_that_cannot_be_added_are_an_error(script, words, cloupe, programs, tmp_path):
    """Exit code 1, as in Space Ranger, and nothing half-written."""
    (programs / "appendtracks").write_text(script)
    with pytest.raises(LoupeProgramError, match=words) as failed:
        annotated(cloupe, programs, tmp_path / "out", projection=False)
    assert failed.value.exit_code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_without_programs_one_alert_says_what_is_left_out(cloupe, tmp_path):
    """The import table is named; a program that nobody wants is not."""
    (tmp_path / "empty").mkdir()
    (alert,) = annotated(cloupe, tmp_path / "empty", tmp_path / "out", projection=False)
    assert (alert.level, alert.title) == ("WARN", "The Loupe file is not annotated")
    assert "loupe_cell_types.csv" in alert.message and "getbarcodes" in alert.message
    assert "exportprojectioncsv" not in alert.message
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_check_is_a_note(cloupe, tmp_path):
    programs = make_programs(tmp_path / "programs", ("appendtracks", "exportprojectioncsv"))
    (alert,) = annotated(cloupe, programs, tmp_path / "out")
    assert (alert.level, "appendtracks" in alert.message) == ("INFO", False)
    assert (tmp_path / "out" / CLOUPE_NAME).is_file()


def run_stage(tmp_path: Path, cloupe: Path, programs: Path, folders: dict[str, dict[str, Any]], **changes: Any) -> Path:
    """The stage on the tables of these models, with their metrics; its output folder."""
    for folder in folders:
        (tmp_path / "tables" / folder).mkdir(parents=True)
        table = pd.DataFrame({"barcode": BARCODES, "coarse_cell_type": TYPES, "umi_count": [100, 1, 100, 100]})
        table.to_csv(tmp_path / "tables" / folder / CELL_TYPES_NAME, index=False)
        (tmp_path / "tables" / folder / METRICS_NAME).write_text(json.dumps(folders[folder]))
    jobs = tuple(Job(replace(CARD, name=folder.lower(), folder=folder)) for folder in folders)
    output = tmp_path / "out"
    output.mkdir()
    cloupe_stage(made_plan(jobs=jobs, **changes), tmp_path / "tables", cloupe, programs, output)
    return output


@pytest.mark.parametrize(("metrics", "named", "names"), [
    ({}, None, ["Cell Types (beta)", "Second Cell Types (beta)"]),
    ({"is_beta_model": False}, None, ["Cell Types", "Second Cell Types (beta)"]),
    ({}, "My 1st-group_x", ["My 1st-group_x", "Second Cell Types (beta)"]),
    ({}, "", ["Cell Types (beta)", "Second Cell Types (beta)"]),
])  # fmt: skip
def test_group_names(metrics, named, names, cloupe, programs, tmp_path):
    """The user's, else beta unless the model says that it is none; each further model has a group of its own."""
    output = run_stage(tmp_path, cloupe, programs, {"First": metrics, "Second": {}}, cloupe_group_name=named)
    assert tracks(output / CLOUPE_NAME) == dict.fromkeys(names, BY_TYPE)
    assert json.loads((output / ALERTS_NAME).read_text()) == []


def test_a_run_with_a_umap_exports_none(cloupe, programs, tmp_path):
    """The run's own analysis comes first."""
    output = run_stage(tmp_path, cloupe, programs, {"M": {}}, beside={"projection": BesideFile("projection.csv", "")})
    assert not (output / PROJECTION_NAME).exists()
    assert "exportprojectioncsv" not in [name for name, _, _ in calls(programs)]


def test_the_loupe_files_umap_is_placed(tmp_path):
    """It comes after the run's own analysis and before a layout that is computed here; cells join by barcode."""
    for name, x in (("loupe.csv", 1.5), ("own.csv", 9)):
        (tmp_path / name).write_text(f"Barcode,X Coordinate,Y Coordinate\n{BARCODES[1]},{x},2\nother-1,0,0\n")
    matrix = in_memory(np.ones((3, 4)), ["A", "B", "C", "D"])
    found = place(matrix, {}, {"loupe_projection": tmp_path / "loupe.csv"}, tmp_path).projection
    assert found is not None
    assert (found.source, found.rows.tolist(), found.xy.tolist()) == ("of the Loupe file", [1], [[1.5, 2.0]])
    both = {"loupe_projection": tmp_path / "loupe.csv", "projection": tmp_path / "own.csv"}
    found = place(matrix, {}, both, tmp_path).projection
    assert found is not None and found.xy.tolist() == [[9.0, 2.0]]


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tissue") / "cells.h5"
    make_tissue(path, n_cells=200, n_genes=6000, seed=3)
    make_cloupe(path.with_suffix(".cloupe"), open_tenx_h5(path).read_barcodes(0, 200).tolist())
    return path


def request(tissue: Path, folder: Path, **changes: Any) -> AnnotateRequest:
    return AnnotateRequest("s", tissue, cloupe=tissue.with_suffix(".cloupe"), output_dir=folder, **changes)


def test_a_run_goes_on_after_the_programs_failure(tissue, programs, tmp_path, monkeypatch):
    """The models' stages are not done again; then outs/ has the file, and the page the UMAP."""
    asked = request(tissue, tmp_path / "run", loupe_tools=programs, cloupe_group_name="Ours")
    (programs / "fail").write_text('{"appendtracks": 1}')
    with pytest.raises(LoupeProgramError):
        annotate(asked)
    assert not (tmp_path / "run" / "outs").exists()
    (programs / "fail").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("cytonym.stages.fit", lambda *args: 1 / 0)
        result = annotate(asked)
    table = result.models["markers"].cell_types.table
    by_type = {str(name): rows["barcode"].tolist() for name, rows in table.groupby("coarse_cell_type")}
    assert tracks(result.outs / CLOUPE_NAME) == {"Ours": by_type}
    assert "of the Loupe file" in (result.outs / "web_summary_cell_types.html").read_text()
    loupe = pd.read_csv(result.outs / "loupe_cell_types.csv")
    assert list(loupe.columns) == ["Barcode", "Ours", "Ours (fine)", "Ours (confidence)"]
    assert [alert["title"] for alert in result.metrics["alerts"] if "Loupe" in alert["title"]] == []


def test_a_finished_stage_of_showing_is_not_done_again(tissue, tmp_path, monkeypatch):
    """The report fails once: places are kept."""
    asked = request(tissue, tmp_path / "run", h5ad=True)
    with monkeypatch.context() as patch:
        patch.setattr("cytonym.stages.report", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            annotate(asked)
    assert read_places(tmp_path / "run/_stages/place/places.h5").projection is not None
    with monkeypatch.context() as patch:
        for name in ("annotate_cloupe", "place", "export_h5ad"):
            patch.setattr(f"cytonym.stages.{name}", lambda *args, **kwargs: 1 / 0)
        result = annotate(asked)
    assert [alert["title"] for alert in result.metrics["alerts"]] == ["The Loupe file is not annotated"]
    assert not (result.outs / CLOUPE_NAME).exists()
    assert (result.outs / "annotated.h5ad").is_file()


def test_a_folder_without_the_programs_is_refused(tissue, tmp_path, capsys):
    """Before any work; named without --cloupe, too."""
    with pytest.raises(SystemExit) as stopped:
        main(
            ["annotate", "--id=s", f"--matrix={tissue}", f"--loupe-tools={tmp_path}", f"--output-dir={tmp_path / 'r'}"]
        )
    assert stopped.value.code == 1
    assert f"--loupe-tools {tmp_path} holds no program appendtracks" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_confidence_classes_by_hand():
    """A bound belongs to the higher class; a cell without a probability has none."""
    assert confidence_classes(np.array([1, 0.9, 0.89, 0.5, 0.49, np.nan])).tolist() == [
        *["high (0.9 and more)"] * 2,
        *["medium (0.5 to 0.9)"] * 2,
        "low (below 0.5)",
        "none given",
    ]
