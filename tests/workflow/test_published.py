"""What Nextflow publishes is what the shell writes: same files, same bytes in every table."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = {  # sample -> matrix and options of the shell's command
    "seven": (
        "in put/seven parts.h5",
        *("--cell-annotation-model", "markers,pan_human_azimuth,in put/our reference"),
        *("--markers", "in put/own types.tsv", "--tissue", "Lymph-Node"),
        *("--cloupe", "in put/its.cloupe", "--loupe-tools", "in put/loupe tools"),
    ),
    "hd": ("in put/runs/hd",),  # no model named: the installed one
    "tiny": ("tests/data/tiny/filtered_feature_bc_matrix", "--genome", "GRCh38", "--cell-annotation-model", "markers"),
}
FOLDERS = {"seven": {"Markers", "Azimuth", "ours", "Consensus"}, "hd": {"Azimuth"}, "tiny": {"Markers"}}
RUN = ("--models-dir", "in put/models", "--embeddings", "--h5ad", "--figures")


def shell_outs(folder: Path, sample: str, matrix: str, *options: str) -> Path:
    """outs/ of `cytonym annotate`, in one partition, run in `folder`."""
    command = [sys.executable, "-m", "cytonym", "annotate", "--id", sample, "--matrix", matrix, *options]
    subprocess.run([*command, "--output-dir", f"shell/{sample}"], cwd=folder, check=True, capture_output=True)
    return folder / "shell" / sample / "outs"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def tables(folder: Path) -> dict[str, bytes]:
    kinds = (".csv", ".npz", ".geojson", ".parquet", ".cloupe", ".gz", ".svg", ".png")
    found = (path for path in folder.rglob("*") if path.suffix in kinds)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.workflow("sample sheet")
@pytest.mark.parametrize("sample", SAMPLES)
def test_same_tree_and_tables_as_the_shell(workflow_dir, sample):
    """Seven partitions in Nextflow and one in the shell; an installed model; text files: no table differs."""
    (workflow_dir / "shell").mkdir(exist_ok=True)
    shell = shell_outs(workflow_dir, sample, *SAMPLES[sample], *RUN)
    published = workflow_dir / "out put" / sample / "outs"
    assert files(published) == files(shell)
    assert {path.name for path in (published / "cell_types").iterdir()} == FOLDERS[sample]
    assert (published / "cell_types/Azimuth/embeddings.npz").exists() == ("Azimuth" in FOLDERS[sample])
    assert (published / "cell_types/Markers/evidence.csv").exists() == ("Markers" in FOLDERS[sample])
    assert (published / "cell_types/Azimuth/celltype_annotated_cell_segmentations.geojson").exists() == (sample == "hd")
    assert tables(published) == tables(shell)


@pytest.mark.workflow("sample sheet")
def test_the_next_pipelines_sheet_names_the_published_files(workflow_dir):
    """A row a sample; every path is absolute and leads to a file."""
    with (workflow_dir / "out put/samplesheet_annotated.csv").open(newline="") as handle:
        rows = {row.pop("sample"): row for row in csv.DictReader(handle)}
    assert {name: row.pop("model") for name, row in rows.items()} == {
        "seven": "Markers",
        "hd": "Azimuth",
        "tiny": "Markers",
    }
    assert not any(row.pop("spatialdata") for row in rows.values())
    assert all(Path(path).is_absolute() and Path(path).exists() for row in rows.values() for path in row.values())
    assert list(rows["hd"]) == ["matrix", "cell_types", "differential_expression", "h5ad", "web_summary", "metrics"]


@pytest.mark.workflow("sample sheet")
def test_the_cohort_is_the_shells(workflow_dir):
    """The command on the published folders gives the same two files."""
    outs = sorted((workflow_dir / "out put").glob("*/outs"))
    command = [sys.executable, "-m", "cytonym", "cohort", *map(str, outs), "--output", str(workflow_dir / "cohort")]
    subprocess.run(command, check=True, capture_output=True)
    for path in (workflow_dir / "out put/cohort").iterdir():
        assert (workflow_dir / "cohort" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.workflow("sample sheet")
def test_resume_runs_nothing_again(workflow_dir):
    """The second run takes every task, the check of the sheet too, from the first."""
    first = (workflow_dir / "first.log").read_text().count("Submitted process")
    resumed = (workflow_dir / "resumed.log").read_text()
    assert "Submitted process" not in resumed
    # with the consensus of the sample with several models, its differential expression, and the page of all samples
    assert resumed.count("Cached process") == first == 1 + 3 * 7 + 9 + 2 * (3 + 7) + 2 + 1 + 1


@pytest.mark.workflow("sample sheet")
def test_nothing_is_kept_in_the_home_folder(workflow_dir):
    """Tasks neither need nor make anything under HOME."""
    assert not [path for path in (workflow_dir / "home").rglob("*") if "cytonym" in path.name]


@pytest.mark.workflow("count then annotate")
def test_module_picks_the_cells_out_of_counts_files(workflow_dir):
    """Of four matrices that lie side by side, the segmented one is annotated; the tables are the shell's."""
    chain = workflow_dir / "chain"
    (chain / "shell").mkdir(exist_ok=True)
    assert tables(chain / "results/S.1/outs") == tables(shell_outs(chain, "S_1", "in put/the cells.h5"))


@pytest.mark.workflow("cloud models")
def test_the_token_is_in_its_own_file_alone(workflow_dir):
    """Neither a task's script, log or folder, nor a report, nor a result holds it."""
    token = (workflow_dir / "in put/token.txt").read_bytes().strip()
    plain = [path for path in workflow_dir.rglob("*") if path.is_file() and not path.is_symlink()]
    holders = {str(path.relative_to(workflow_dir)) for path in plain if token in path.read_bytes()}
    assert holders == {"in put/token.txt", "tests/workflow/make_inputs.py"}


@pytest.mark.workflow("cloud models")
def test_a_matrix_is_sent_once_however_often_it_is_tried(workflow_dir):
    """Three tasks with three tries each for the sample that fails, and one upload; one for the other sample."""
    seen = json.loads((workflow_dir / "seen.json").read_text())
    assert seen["complaints"] == []
    assert (seen["steps"]["register"], seen["steps"]["start"]) == (2, 1 + 3 * 3)
