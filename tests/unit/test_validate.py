"""Parameters and sample sheets: what is taken, and the one clear line that each mistake gets."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from cytonym import validate
from cytonym.cli import main
from cytonym.errors import InputError
from cytonym.progress import LOGGER
from cytonym.validate import BESIDE

PARAMS = {"outdir": "results"}


@pytest.fixture
def samples(tmp_path):
    """The samples of a sheet with that text."""

    def read(text: str | bytes, name: str = "sheet.csv", **params: object) -> list[dict]:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return validate.run({**PARAMS, **params}, path, path.name)

    return read


@pytest.fixture
def problems(samples):
    """The lines of the error that a sheet gets."""

    def read(*args: object, **kwargs: object) -> list[str]:
        with pytest.raises(InputError) as refused:
            samples(*args, **kwargs)
        assert refused.value.exit_code == 3
        return str(refused.value).splitlines()

    return read


@pytest.fixture
def warnings(caplog):
    """What the log says at that level."""
    LOGGER.propagate = True
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_cells_become_typed_options(samples):
    """Whole numbers are numbers; empty cells are no options; the run's options fill the gaps."""
    sheet = "sample,matrix,description,low_umi_threshold\nS1,a.h5,one,50\nS2,b c.h5,,\n"
    assert samples(sheet, low_umi_threshold=100, description="run") == [
        {"id": "S1", "matrix": "a.h5", "description": "one", "low_umi_threshold": 50},
        {"id": "S2", "matrix": "b c.h5", "low_umi_threshold": 100, "description": "run"},
    ]


def test_one_sample_without_a_sheet():
    """--id and --matrix make the one sample; Nextflow's numbers are names again; unset parameters are no options."""
    params = {**PARAMS, "id": 7, "matrix": "a.h5", "skip": "diffexp", "partition_size": "4096", "genome": None}
    assert validate.run(params, None, "") == [
        {"id": "7", "matrix": "a.h5", "skip": "diffexp", "partition_size": 4096},
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "BOM and CRLF": ("sheet.csv", b"\xef\xbb\xbfsample,matrix\r\nS1,a.h5\r\n\r\nS2,b.h5\r\n"),
        "CR LF in part, blanks": ("sheet.csv", b"sample , matrix\nS1, a.h5\r\n ,\nS2 ,b.h5"),
        "TSV": ("sheet.tsv", b"sample\tmatrix\nS1\ta.h5\nS2\tb.h5\n"),
        "tabs in a .csv": ("sheet.csv", b"sample\tmatrix\nS1\ta.h5\nS2\tb.h5\n"),
        "JSON": (
            "sheet.json",
            b'[{"sample": "S1", "matrix": "a.h5"}, {"sample": "S2", "matrix": "b.h5", "genome": ""}]',
        ),
        "a short row": ("sheet.csv", b"sample,matrix,description\nS1,a.h5\nS2,b.h5,\n"),
    }.values(),
)
def test_ways_to_write_a_sheet(samples, name, text):
    """Byte order mark, line ends, tabs, blanks and JSON make no difference."""
    assert samples(text, name) == [{"id": "S1", "matrix": "a.h5"}, {"id": "S2", "matrix": "b.h5"}]


def test_quoted_cells_may_hold_commas(samples):
    assert samples('sample,matrix,cell_annotation_model\nS1,"a,b.h5","markers,auto"\n') == [
        {"id": "S1", "matrix": "a,b.h5", "cell_annotation_model": "markers,auto"}
    ]


def test_spatialvi_sheet(samples, warnings):
    """nf-core/spatialvi's columns work as they are; its folder comes with the matrices to look for, cells first."""
    (sample,) = samples("sample,spaceranger_dir,slide,area\nS1,runs/S1,V1,A1\n")
    assert (sample["id"], sample["matrix"]) == ("S1", "runs/S1")
    assert sample["inside"] == [
        "segmented_outputs/filtered_feature_cell_matrix.h5",
        "binned_outputs/square_008um/filtered_feature_bc_matrix.h5",
        "outs/segmented_outputs/filtered_feature_cell_matrix.h5",
        "outs/binned_outputs/square_008um/filtered_feature_bc_matrix.h5",
    ]
    assert warnings() == [
        "sheet.csv: the column 'slide' has no meaning here and is left out.",
        "sheet.csv: the column 'area' has no meaning here and is left out.",
    ]


def test_all_columns_of_spatialvi_pass(samples, warnings):
    """None of them is taken for a misspelt column of ours."""
    columns = "sample,spaceranger_dir,fastq_dir,image,cytaimage,darkimage,colorizedimage,alignment,slidefile,slide,area"
    assert len(samples(f"{columns}\nS1,runs/S1{',' * 9}\n")) == 1
    assert len(warnings()) == 9


def test_the_matrix_column_wins_over_spaceranger_dir(samples):
    assert samples("sample,matrix,spaceranger_dir\nS1,a.h5,runs/S1\n") == [{"id": "S1", "matrix": "a.h5"}]


def test_group_name_of_the_run_is_for_samples_with_a_loupe_file(samples):
    options = {"cloupe_group_name": "Types", "loupe_tools": "bin"}
    first, second = samples("sample,matrix,cloupe\nS1,a.h5,a.cloupe\nS2,b.h5,\n", **options)
    assert (first["cloupe_group_name"], first["loupe_tools"]) == ("Types", "bin")
    assert not set(options) & set(second)


SHEETS = {
    "misspelt column": ("sample,matrx\nS1,a.h5\n", "sheet.csv: unknown column 'matrx'. Did you mean 'matrix'?"),
    "no sample column": ("name,matrix\nS1,a.h5\n", "sheet.csv line 1: there is no column 'sample'."),
    "no matrix column": (
        "sample,genome\nS1,GRCh38\n",
        "sheet.csv line 1: there is no column 'matrix' or 'spaceranger_dir'.",
    ),
    "no header": (
        "S1,a.h5\n",
        "sheet.csv line 1: there is no column 'sample', and no column 'matrix' or 'spaceranger_dir'.",
    ),
    "column twice": ("sample,matrix,matrix\nS1,a,b\n", "sheet.csv line 1 has the column 'matrix' more than once."),
    "duplicate sample": (
        "sample,matrix\nS1,a.h5\n\nS1,b.h5\n",
        "sheet.csv line 4, column 'sample': 'S1' is already on line 2",
    ),
    "empty sample": ("sample,matrix\n,a.h5\n", "sheet.csv line 2, column 'sample': the cell is empty"),
    "empty matrix": (
        "sample,matrix\nS1,\n",
        "sheet.csv line 2, column 'matrix': the cell is empty, and there is no spaceranger_dir either",
    ),
    "wrong type": (
        "sample,matrix,low_umi_threshold\nS1,a.h5,many\n",
        "sheet.csv line 2, column 'low_umi_threshold': 'many' must be a whole number, 0 or more",
    ),
    "negative": (
        "sample,matrix,low_umi_threshold\nS1,a.h5,-1\n",
        "sheet.csv line 2, column 'low_umi_threshold': '-1' must be a whole number, 0 or more",
    ),
    "bad name": (
        "sample,matrix\nS 1,a.h5\n",
        "sheet.csv line 2, column 'sample': 'S 1' must be 1 to 64 letters, digits, _ or -",
    ),
    "archive": (
        "sample,spaceranger_dir\nS1,outs.tar.gz\n",
        "sheet.csv line 2, column 'spaceranger_dir': 'outs.tar.gz' is an archive: unpack it and give the folder",
    ),
    "cloupe": (
        "sample,matrix,cloupe\nS1,a.h5,a.loupe\n",
        "sheet.csv line 2, column 'cloupe': 'a.loupe' must end in .cloupe",
    ),
    "group name alone": (
        "sample,matrix,cloupe,cloupe_group_name\nS1,a.h5,,Types\n",
        "sheet.csv line 2, column 'cloupe_group_name': needs cloupe too",
    ),
    "too many cells": (
        "sample,matrix\nS1,a,b.h5\n",
        "sheet.csv line 2 has 3 cells, but the header has 2 columns. Put a cell that holds a comma in double quotes.",
    ),
    "no samples": ("sample,matrix\n", "sheet.csv has no samples."),
    "empty file": ("", "sheet.csv has no samples."),
    "open quote": ('sample,matrix\nS1,"a.h5\n', "sheet.csv line 2 cannot be read as a table: unexpected end of data."),
    "a workbook": (b"PK\x03\x04\n\xff\xfe", "sheet.csv line 2 is not UTF-8 text. Save the sheet as CSV (UTF-8)."),
}


@pytest.mark.parametrize("case", SHEETS)
def test_sheets_that_are_refused(problems, case):
    """One line, with the sheet's line and column."""
    text, message = SHEETS[case]
    assert problems(text) == [message]


def test_json_sheets_that_are_refused(problems):
    assert problems("{", "sheet.json")[0].startswith("sheet.json is not JSON: ")
    assert problems("{}", "sheet.json") == ["sheet.json must be a JSON array of objects, one a sample."]
    misspelt = json.dumps([{"sample": "S1", "matrx": "a.h5"}])
    assert problems(misspelt, "sheet.json")[0] == "sheet.json: unknown column 'matrx'. Did you mean 'matrix'?"
    items = [{"sample": "S1", "matrix": "a.h5", "low_umi_threshold": 1.5}, {"sample": "S1", "genome": "GRCh38"}]
    assert problems(json.dumps(items), "sheet.json") == [
        "sheet.json item 1, column 'low_umi_threshold': '1.5' must be a whole number, 0 or more",
        "sheet.json item 2, column 'matrix': the cell is empty, and there is no spaceranger_dir either",
        "sheet.json item 2, column 'sample': 'S1' is already on item 1",
    ]


def test_all_problems_come_at_once(problems):
    """A sheet is corrected in one go: parameters and every line are named, in order."""
    lines = problems("sample,matrix\nS 1,a.h5\nS2,\n", skip="fit", low_umi_threshold="x")
    assert [line.split(":")[0] for line in lines] == [
        "--low_umi_threshold",
        "--skip",
        "sheet.csv line 2, column 'sample'",
        "sheet.csv line 3, column 'matrix'",
    ]


PARAMETERS = {
    "unknown": ({"partition_sise": 5}, "Unknown parameter --partition_sise. Did you mean '--partition_size'?"),
    "hyphens": ({"models-dir": "m"}, "Unknown parameter --models-dir. Did you mean '--models_dir'?"),
    "wrong type": ({"partition_size": "all"}, "--partition_size: 'all' must be a whole number, 1 or more"),
    "zero": ({"partition_size": 0}, "--partition_size: '0' must be a whole number, 1 or more"),
    "no outdir": ({"outdir": None}, "parameter '--outdir': must be given"),
    "no matrix": ({"matrix": None}, "Give a sample sheet with --input, or one sample with --id and --matrix."),
    "bad id": ({"id": "a/b"}, "--id: 'a/b' must be 1 to 64 letters, digits, _ or -"),
    "group name alone": ({"cloupe_group_name": "Types"}, "--cloupe_group_name: needs --cloupe too."),
    "sheet's ending": ({"input": "sheet.xlsx"}, "--input: 'sheet.xlsx' must be a .csv, .tsv or .json file"),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_that_are_refused(case):
    changes, message = PARAMETERS[case]
    with pytest.raises(InputError) as refused:
        validate.run({**PARAMS, "id": "S1", "matrix": "a.h5", **changes}, None, "")
    assert str(refused.value) == message


def test_sheet_and_single_sample_exclude_each_other(problems):
    assert problems("sample,matrix\nS1,a.h5\n", id="S2", cloupe="a.cloupe") == [
        "Give --input, or --id and --matrix, not both.",
        "--cloupe is of one sample: give it in a column of sheet.csv instead.",
    ]


def test_parameters_of_institutes_are_left_alone(samples):
    """Shared configuration files set parameters of their own."""
    assert len(samples("sample,matrix\nS1,a.h5\n", config_profile_name="site", max_cpus=64)) == 1


def test_command_writes_samples_or_nothing(tmp_path, monkeypatch, capsys):
    """`cytonym validate` reads the parameters from a pipe; a bad sheet is exit code 3 and leaves no file."""
    sheet, output = tmp_path / "sheet.csv", tmp_path / "samples.valid.json"

    def command(text: str) -> int | str | None:
        sheet.write_text(text)
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(PARAMS)))
        with pytest.raises(SystemExit) as stopped:
            main(["validate", "--params", "-", "--sheet", str(sheet), "--output", str(output)])
        return stopped.value.code

    assert command("sample,matrix\nS1,\n") == 3
    assert capsys.readouterr().err.startswith("ERROR: sheet.csv line 2, column 'matrix': the cell is empty")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["sheet.csv"]
    assert command("sample,matrix\nS1,a.h5\n") == 0
    (sample,) = json.loads(output.read_text())
    assert (sample["id"], sample["matrix"], sample["beside"]) == ("S1", "a.h5", BESIDE)
