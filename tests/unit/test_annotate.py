"""The main job: files where Space Ranger puts them, the same bytes for any split, and runs that go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cytonym
from cytonym import AnnotateRequest, CytonymError, annotate
from cytonym.cli import main
from cytonym.demo import make_tissue
from cytonym.errors import InputError
from cytonym.inputs import locate_matrix
from cytonym.io.cell_types_csv import read_cell_types
from cytonym.io.tenx_h5 import TenxH5Writer, open_tenx_h5
from cytonym.run import check_folder

TABLES = ("cell_types/Markers/cell_types.csv", "cell_types/Markers/cell_annotation_differential_expression.csv")

EVIDENCE = "cell_types/Markers/evidence.csv"


@pytest.fixture(scope="module")
def tissue(tmp_path_factory) -> Path:
    """A made sample that spans more than one block of cells."""
    path = tmp_path_factory.mktemp("tissue") / "filtered_feature_cell_matrix.h5"
    make_tissue(path, n_cells=4500, n_genes=6000, seed=3)
    return path


@pytest.fixture(scope="module")
def finished(tissue) -> Path:
    """The sample, annotated once; tests must not change it."""
    return annotate(AnnotateRequest("s", tissue, output_dir=tissue.parent / "run", localcores=1)).outs


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_leaves_the_documented_files_and_no_others(finished):
    """outs/ holds what docs/outputs.md lists; the run's own files stand beside it."""
    assert sorted(files_of(finished)) == sorted(
        [
            *(*TABLES, EVIDENCE, "loupe_cell_types.csv", "metrics.json", "provenance.json"),
            *("s_cytonym_mqc.json", "s_cytonym_Markers_mqc.json", "s_cytonym_Markers_general_mqc.json"),
            *("s_cytonym_mqc_versions.yml", "web_summary_cell_types.html"),
        ]
    )
    assert sorted(path.name for path in finished.parent.iterdir()) == [
        "_cmdline",
        "_invocation",
        "_log",
        "_versions",
        "outs",
    ]


def test_every_barcode_appears_once_with_a_label_or_a_reason(tissue, finished):
    """No field of a label is empty, and a cell without a fine label says why."""
    table = read_cell_types(finished / TABLES[0])
    assert table["barcode"].tolist() == open_tenx_h5(tissue).read_barcodes(0, 4500).tolist()
    levels = table[["broad_cell_type", "coarse_cell_type", "fine_cell_type"]]
    assert (levels != "").all(axis=None)
    assert (table.loc[table["fine_cell_type"] == "Unassigned", "reason"] != "").all()
    assert ((table["cell_type_ontology_term_id"] == "") == (table["broad_cell_type"] == "Unassigned")).all()


def test_partitions_and_threads_never_change_a_byte(tissue, finished, tmp_path):
    """One partition or seven, one thread or three: every published table is the same."""
    request = AnnotateRequest("s", tissue, output_dir=tmp_path / "run", partition_size=700, localcores=3)
    again = annotate(request)
    assert len(again.plan.partitions) == 7
    for name in (*TABLES, EVIDENCE, "loupe_cell_types.csv", "metrics.json"):
        assert (again.outs / name).read_bytes() == (finished / name).read_bytes()


def test_results_are_typed(tissue, finished, tmp_path):
    """Tables come as pandas tables, by model name; an AnnData on request."""
    result = annotate(AnnotateRequest("s", tissue, output_dir=tmp_path / "run", skip=("diffexp", "report")))
    model = result.models["markers"]
    assert model.cell_types.table["barcode"].is_unique
    assert model.diffexp is None
    assert not (result.outs / "web_summary_cell_types.html").exists()
    assert (result.outs / TABLES[0]).read_bytes() == (finished / TABLES[0]).read_bytes()
    anndata = pytest.importorskip("anndata", reason="the extra cytonym[anndata] is not installed")
    assert isinstance(model.cell_types.to_anndata(), anndata.AnnData)
    assert cytonym.__version__ == result.plan.versions["cytonym"]


def test_a_crashed_run_goes_on_from_its_finished_stages(tissue, finished, tmp_path, monkeypatch):
    """What was done is not done again, and the result is what it would have been."""
    request = AnnotateRequest("s", tissue, output_dir=tmp_path / "run", localcores=1)
    with monkeypatch.context() as patch:
        patch.setattr("cytonym.stages.diffexp", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            annotate(request)
    assert not (tmp_path / "run" / "outs").exists()
    assert (tmp_path / "run" / "_log").is_file()
    with monkeypatch.context() as patch:
        patch.setattr("cytonym.stages.fit", lambda *args: 1 / 0)
        patch.setattr("cytonym.stages.classify", lambda *args, **kwargs: 1 / 0)
        result = annotate(request)
    assert files_of(result.outs) == files_of(finished)
    assert "done by an earlier run" in (tmp_path / "run" / "_log").read_text()


def test_a_run_does_not_go_on_with_another_matrix(tissue, tmp_path, monkeypatch):
    """The file was replaced since the run began: stages of two samples must not meet."""
    matrix = tmp_path / "m.h5"
    shutil.copy(tissue, matrix)
    request = AnnotateRequest("s", matrix, output_dir=tmp_path / "run", localcores=1)
    with monkeypatch.context() as patch:
        patch.setattr("cytonym.stages.fit", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            annotate(request)
    make_tissue(matrix, n_cells=4500, n_genes=6000, seed=4)
    with pytest.raises(InputError, match="has changed since this run began"):
        annotate(request)
    assert not (tmp_path / "run" / "outs").exists()


def test_another_command_in_the_folder_is_refused(tissue, finished, tmp_path, monkeypatch):
    """An unfinished run waits for its own command; cores and memory are not part of it."""
    request = AnnotateRequest("s", tissue, output_dir=tmp_path / "run", localcores=1)
    monkeypatch.setattr("cytonym.stages.fit", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        annotate(request)
    before = files_of(tmp_path / "run")
    with pytest.raises(CytonymError, match="an unfinished run of another command"):
        annotate(AnnotateRequest("s", tissue, output_dir=tmp_path / "run", low_umi_threshold=50))
    assert files_of(tmp_path / "run") == before
    check_folder(AnnotateRequest("s", tissue, output_dir=tmp_path / "run", localcores=2, localmem=8))


def test_a_finished_run_is_refused_untouched(tissue, finished):
    """The same command on a finished run changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in finished.parent.rglob("*")}
    with pytest.raises(CytonymError, match="already holds a finished run"):
        annotate(AnnotateRequest("s", tissue, output_dir=finished.parent))
    assert {path: path.stat().st_mtime_ns for path in finished.parent.rglob("*")} == before


def test_a_folder_of_something_else_is_refused(tissue, tmp_path):
    """Nothing is written among files that are not ours; an empty folder is taken."""
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CytonymError, match="is no run of cytonym"):
        annotate(AnnotateRequest("s", tissue, output_dir=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    check_folder(AnnotateRequest("s", tissue, output_dir=tmp_path / "empty"))


def test_the_command_line_does_the_same(tissue, finished, tmp_path, monkeypatch, capsys):
    """`--x v` and `--x=v` alike; `--id` makes the folder; options of the Martian runner are named once as ignored."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tissue, tmp_path / "m.h5")
    with pytest.raises(SystemExit) as stopped:
        main(["annotate", "--id", "mine", "--matrix=m.h5", "--jobmode=local", "--disable-ui", "--localcores", "1"])
    assert stopped.value.code == 0
    said = capsys.readouterr()
    assert said.err.count("No meaning here, ignored: --jobmode, --disable-ui") == 1
    assert "No model was named: the embedded marker model runs" in said.err
    assert "outs/cell_types/Markers/cell_types.csv" in said.out
    assert (tmp_path / "mine" / "outs" / TABLES[0]).read_bytes() == (finished / TABLES[0]).read_bytes()
    assert (tmp_path / "mine" / "_cmdline").read_text().startswith("cytonym annotate --id mine --matrix=m.h5")
    provenance = json.loads((tmp_path / "mine" / "outs" / "provenance.json").read_text())
    assert provenance["command_line"].startswith("cytonym annotate --id mine")


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tissue, tmp_path, monkeypatch, capsys):
    """Checks are made, the command is shown, no folder appears."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["annotate", "--id=mine", f"--matrix={tissue}", "--dry"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("Dry Run Mode\n\ncytonym annotate --id=mine")
    assert "Model: markers" in said
    assert list(tmp_path.iterdir()) == []


def test_a_space_ranger_folder_is_searched_for_cells_first(tissue, tmp_path, capsys):
    """Segmented cells win over 8 um bins; bins come with a warning."""
    bins = tmp_path / "outs" / "binned_outputs" / "square_008um" / "filtered_feature_bc_matrix.h5"
    bins.parent.mkdir(parents=True)
    bins.touch()
    assert [alert.title for alert in locate_matrix(tmp_path).alerts] == ["Bins instead of cells"]
    cells = tmp_path / "outs" / "segmented_outputs" / "filtered_feature_cell_matrix.h5"
    cells.parent.mkdir(parents=True)
    cells.touch()
    assert locate_matrix(tmp_path).path == cells
    assert locate_matrix(tmp_path / "outs").alerts == ()


def test_a_sample_of_low_umi_cells_alone_is_a_good_run(tissue, tmp_path):
    """One group cannot be compared: no differential expression, no error."""
    result = annotate(AnnotateRequest("s", tissue, output_dir=tmp_path / "run", low_umi_threshold=1_000_000))
    assert set(result.models["markers"].cell_types.table["coarse_cell_type"]) == {"Low UMI Barcode"}
    assert result.models["markers"].diffexp is None
    assert not (result.outs / TABLES[1]).exists()


def test_one_cell_is_enough(tissue, tmp_path):
    """Local models have no lower limit; under 100 cells there is a warning."""
    source, one = open_tenx_h5(tissue), tmp_path / "one.h5"
    names, ids = source.features.names, source.features.ids
    kinds, genomes = np.full(len(ids), "Gene Expression"), np.full(len(ids), "GRCh38")
    with TenxH5Writer(one, ids=ids, names=names, feature_types=kinds, genomes=genomes) as out:
        out.append(source.read_rows(0, 1), source.read_barcodes(0, 1))
    result = annotate(AnnotateRequest("s", one, output_dir=tmp_path / "run"))
    assert len(result.models["markers"].cell_types.table) == 1
    assert "Few cells" in [alert["title"] for alert in result.metrics["alerts"]]
