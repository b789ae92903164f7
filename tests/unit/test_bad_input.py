"""Bad input gets one clear error with the exit code of its class, and leaves no file behind."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cytonym.cli import main
from cytonym.demo import make_tissue

COUNTS = np.tile(np.array([[1, 0, 2], [0, 5, 1], [3, 0, 0]]), (40, 1))
NAMES = ["CD3E", "MS4A1", "LYZ"]
DATA = np.tile([1, 2, 5, 1, 3], 40)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs `cytonym annotate` in an empty folder; gives code and message, and sees that the folder stays empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["annotate", *arguments])
        assert list(folder.iterdir()) == []
        assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []
        message = "\n".join(line for line in capsys.readouterr().err.splitlines() if line.lower().startswith("error"))
        return stopped.value.code, message

    return run


MATRICES = {
    "version 3": ({"attributes": {"version": 3}}, "version 3"),
    "wrong filetype": ({"attributes": {"filetype": "molecule"}}, "'molecule'"),
    "indptr falls": ({"indptr": np.r_[0, 5, 3, np.linspace(5, 200, 118).astype(int)]}, "indptr does not rise"),
    "indptr too short": ({"indptr": np.array([0, 200])}, "indptr has 2 entries"),
    "indices out of range": ({"indices": np.full(200, 9)}, "outside 0 to 2"),
    "indices unsorted": ({"indices": np.tile([2, 0, 1, 2, 0], 40)}, "not sorted within a barcode"),
    "negative": ({"data": -DATA}, "negative values"),
    "fractional": ({"data": DATA + 0.5}, "fractional values"),
    "nan": ({"data": np.where(DATA == 5, np.nan, DATA)}, "NaN"),
    "all zeros": ({"data": 0 * DATA}, "every value is zero"),
    "duplicate barcodes": ({"barcodes": ["AAACCCAA-1"] * 120}, "barcode 'AAACCCAA-1' more than once"),
    "duplicate ids": ({"ids": ["E1", "E2", "E1"]}, "feature id 'E1' more than once"),
    "no gene expression": ({"feature_type": "Antibody Capture"}, "no Gene Expression features (it holds Antibody"),
    "two genomes": ({"genome": ["GRCh38", "mm10", "mm10"]}, "more than one genome (GRCh38, mm10)"),
    "unknown species": ({"genome": "", "ids": ["x1", "x2", "x3"]}, "The species of"),
}


@pytest.mark.parametrize("case", MATRICES)
def test_matrices_that_cannot_be_used(refused, write_h5, case):
    """Exit code 3, the file's name in the message."""
    changes, words = MATRICES[case]
    names = ["q1", "q2", "q3"] if case == "unknown species" else NAMES
    code, message = refused("--id=s", f"--matrix={write_h5(COUNTS, names, **changes)}")
    assert code == 3
    assert message.startswith("ERROR: ")
    assert words in message
    assert "matrix.h5" in message


def test_a_matrix_without_cells(refused, write_h5):
    """Zero cells are said to be none."""
    code, message = refused("--id=s", f"--matrix={write_h5(np.zeros((0, 3), dtype=int), NAMES, barcodes=None)}")
    assert (code, "holds no cells" in message) == (3, True)


def test_files_that_are_no_matrix(refused, tmp_path, write_h5):
    """Not HDF5; cut off; HDF5 of something else; a folder of nothing."""
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    cut = write_h5(COUNTS, NAMES, file="cut.h5")
    cut.write_bytes(cut.read_bytes()[:-500])
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, words in (
        (text, "is not an HDF5 file"),
        (cut, "is cut off"),
        (other, "has no group 'matrix'"),
        (empty, "is neither a MEX folder"),
    ):
        code, message = refused("--id=s", f"--matrix={path}")
        assert (code, words in message, str(path) in message) == (3, True, True), message


def test_command_lines_that_do_not_parse(refused, write_h5, tmp_path):
    """Exit code 2, as the argument parser's."""
    matrix = f"--matrix={write_h5(COUNTS, NAMES)}"
    for arguments, words in (
        ((matrix,), "--id"),
        (("--id=s",), "--matrix"),
        (("--id=a b", matrix), "invalid value 'a b' for '--id <ID>'"),
        (("--id=" + "x" * 65, matrix), "at most 64"),
        (("--id=", matrix), "invalid value ''"),
        (("--id=s", f"--matrix={tmp_path / 'absent.h5'}"), "no such file"),
        (("--id=s", matrix, f"--cloupe={tmp_path / 'absent.cloupe'}"), "no such file"),
        (("--id=s", matrix, "--cloupe-group-name=Types"), "needs '--cloupe <CLOUPE>'"),
        (("--id=s", matrix, "--localcores=many"), "not an unsigned whole number"),
        (("--id=s", matrix, "--maxjobs=-1"), "not an unsigned whole number"),
        (("--id=s", matrix, "--skip=fit"), "diffexp and report can be left out"),
        (("--id=s", matrix, "--nonsense"), "--nonsense"),
    ):
        code, message = refused(*arguments)
        assert (code, words in message) == (2, True), message


def test_requests_that_preflight_refuses(refused, write_h5, tmp_path):
    """Space Ranger's own checks, in its order, with exit code 1; models with 4."""
    matrix = f"--matrix={write_h5(COUNTS, NAMES)}"
    image, loupe = tmp_path / "image.png", tmp_path / "sample.cloupe"
    image.touch()
    loupe.touch()
    for code, arguments, words in (
        (4, ("--cell-annotation-model=nonsense",), "'nonsense' is not a model"),
        (1, ("--cell-annotation-model=auto",), "There is no 10x Cloud token"),
        (1, (f"--cloupe={image}",), "its name must end in .cloupe"),
        (1, (f"--cloupe={loupe}", "--cloupe-group-name=a/b"), "has invalid characters"),
        (1, (f"--tenx-cloud-token-path={tmp_path / 'absent'}",), "There is no token file"),
        (1, (f"--tenx-cloud-token-path={image}",), "is empty"),
    ):
        assert (refused("--id=s", matrix, *arguments)[0]) == code
        assert words in refused("--id=s", matrix, *arguments)[1]


def test_a_relative_token_path_is_resolved_against_the_callers_folder(refused, write_h5):
    """The message shows where it was looked for."""
    code, message = refused("--id=s", f"--matrix={write_h5(COUNTS, NAMES)}", "--tenx-cloud-token-path=token.json")
    assert (code, str(Path.cwd() / "token.json") in message) == (1, True)


def test_outputs_that_cannot_be_written(write_h5, tmp_path, capsys):
    """A file in the way of a folder, and a disk that is full."""
    matrix, in_the_way = write_h5(COUNTS, NAMES), tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(SystemExit) as stopped:
        main(["annotate", "--id=s", f"--matrix={matrix}", f"--output-dir={in_the_way / 'run'}"])
    assert stopped.value.code == 5
    assert f"Cannot write {in_the_way}" in capsys.readouterr().err


def test_a_full_disk_leaves_the_log_and_no_outs(tmp_path):
    """The run stops with exit code 5, leaves no part of a file, and goes on once there is space."""
    matrix, folder = tmp_path / "m.h5", tmp_path / "run"
    make_tissue(matrix, n_cells=200, n_genes=6000)
    command = [sys.executable, "-m", "cytonym", "annotate", "--id=s", f"--matrix={matrix}", f"--output-dir={folder}"]

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = subprocess.run(command, preexec_fn=small_files_only, capture_output=True, text=True, check=False)
    assert full.returncode == 5, full.stderr
    assert "No space is left to write" in full.stderr
    assert "Traceback" not in full.stderr
    assert not (folder / "outs").exists()
    assert "stopped: No space is left" in (folder / "_log").read_text()
    assert list(tmp_path.rglob("*.part")) == []
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / "outs" / "cell_types" / "Markers" / "cell_types.csv").is_file()
