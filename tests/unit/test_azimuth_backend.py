"""Pan-Human Azimuth on a small network made by hand: genes, normalisation, columns, warnings, whole runs."""

from __future__ import annotations

import itertools
import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from azimuth_files import GENES, PANEL, write_bundle
from cytonym import AnnotateRequest, annotate
from cytonym.azimuth.genes import fill_block, holds_integers, panel_places
from cytonym.backends.azimuth import AzimuthBackend
from cytonym.cli import main
from cytonym.errors import InputError, ModelError
from cytonym.install import InstallRequest, install
from cytonym.io.cell_types_csv import read_cell_types
from cytonym.matrix import CountMatrix, Features, InMemoryCounts, in_memory
from cytonym.types import Model, Predictions

LABELS = list(GENES)
NAMES = [*sorted(PANEL), "XIST", "ACTB"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp("models")
    return install(InstallRequest("pan_human_azimuth", folder, *write_bundle(tmp_path_factory.mktemp("bundle"))))


def cells_of(rows: list[int], count: int = 20) -> np.ndarray:
    """Cells x NAMES: each cell has `count` UMIs of every gene of its type, by number, and 20 of ACTB."""
    counts = np.zeros((len(rows), len(NAMES)), dtype=int)
    counts[:, NAMES.index("ACTB")] = 20
    for cell, row in enumerate(rows):
        counts[cell, [NAMES.index(gene) for gene in GENES[LABELS[row]]]] = count
    return counts


def classified(model: Model, matrix: CountMatrix) -> Predictions:
    return AzimuthBackend().classify(matrix, AzimuthBackend().fit(matrix, model))


def texts(predictions: Predictions) -> pd.DataFrame:
    labels = predictions.labels.take(predictions.label_codes).reset_index(drop=True)
    return labels.assign(**predictions.values)


def of_values(values: np.ndarray, names: list[str]) -> CountMatrix:
    """A matrix of values that need not be whole numbers."""
    barcodes = np.array([f"cell{i}" for i in range(len(values))])
    source = InMemoryCounts(Features(np.array(names), np.array(names)), sp.csr_matrix(values, dtype="f4"), barcodes)
    return CountMatrix.of(source, species="human")


# ---- genes and values


def test_the_last_of_features_with_one_symbol_counts():
    """Two features are called B: the second one is the gene; letter case matters, and order is the panel's."""
    assert panel_places(["B", "a", "C", "B"], ["A", "B", "C"]).tolist() == [-1, -1, 2, 1]


def test_values_by_hand():
    """Totals run over all genes: 3 of 10 UMIs is log(1 + 3,000); a cell without counts is all zeros."""
    counts = sp.csr_matrix(np.array([[3, 7], [0, 0]], dtype=np.int32))
    block = np.zeros((2, 1), dtype=np.float32)
    fill_block(block, counts, np.array([0, -1], dtype=np.int32), normalise=True)
    assert block.ravel() == pytest.approx([np.log(3001), 0])
    as_it_is = np.zeros((2, 1), dtype=np.float32)
    fill_block(as_it_is, counts, np.array([0, -1], dtype=np.int32), normalise=False)
    assert as_it_is.ravel().tolist() == [3, 0]


def test_counts_are_told_from_other_values():
    """Whole numbers, whatever their type; nothing at all counts as whole."""
    assert holds_integers(sp.csr_matrix(np.array([[1.0, 2.0]])))
    assert not holds_integers(sp.csr_matrix(np.array([[1.0, 2.5]])))
    assert holds_integers(sp.csr_matrix((2, 2)))


# ---- labels


def test_each_type_is_named_at_three_levels(model):
    """A B cell, an NK cell, a monocyte; and a cell that has no gene of the panel is Unassigned at all levels."""
    table = texts(classified(model, in_memory(cells_of([0, 1, 2, 3]), NAMES)))
    assert table[["broad_cell_type", "coarse_cell_type", "fine_cell_type"]].to_numpy().tolist() == [
        ["Immune cell", "Lymphoid cell", "B cell"],
        ["Immune cell", "Lymphoid cell", "NK cell"],
        ["Immune cell", "Myeloid cell", "Monocyte"],
        ["Unassigned", "Unassigned", "Unassigned"],
    ]
    assert table["full_hierarchical_labels"].tolist() == LABELS
    # the crosswalk has neither Monocyte nor Myeloid cell
    assert table["cell_type_ontology_term_id"].tolist() == ["CL:0000236", "CL:0000623", "CL:0000738", ""]


def test_the_confidence_by_hand(model):
    """An empty cell's path ends at level 1, where Unassigned scores 1 and Immune cell 0.

    p = e / (e + 1) = .7311, entropy .5822, T = ln(1 + e^(.1 + .2 * .5822)) = .8072; e^(1 / T) = 3.4516, of 4.4516.
    """
    table = texts(classified(model, in_memory(np.zeros((1, len(NAMES)), dtype=int), NAMES)))
    assert table["final_level_softmax_prob"][0] == pytest.approx(0.7754, abs=1e-4)


def test_any_split_across_blocks_gives_the_same_bytes(model, rng):
    """2,500 cells are more than two blocks of 1,024 rows; numbers and embeddings are equal to the last bit."""
    matrix = in_memory(rng.poisson(3, size=(2500, len(NAMES))), NAMES)
    fitted = AzimuthBackend().fit(matrix, model)
    whole = AzimuthBackend().classify(matrix, fitted)
    edges = [0, 1, 1000, 1024, 1025, 2050, 2499, 2500]
    parts = [AzimuthBackend().classify(matrix.rows(a, b), fitted) for a, b in itertools.pairwise(edges)]
    joined = Predictions.concatenate(parts)
    pd.testing.assert_frame_equal(texts(joined), texts(whole), check_exact=True)
    assert joined.embeddings.tobytes() == whole.embeddings.tobytes()


# ---- what a sample may lack


def test_few_genes_of_the_panel_give_a_warning(model):
    """2 of 11 are under 20 %; 3 are not."""
    few = in_memory(np.ones((3, 3), dtype=int), ["MS4A1", "LYZ", "ACTB"])
    (alert,) = AzimuthBackend().fit(few, model).alerts
    assert alert.title == "Few genes of the model found"
    assert "2 of the 11 genes that the model reads (18.2%)" in alert.message
    enough = in_memory(np.ones((3, 3), dtype=int), ["MS4A1", "LYZ", "NKG7"])
    assert AzimuthBackend().fit(enough, model).alerts == ()


def test_no_gene_of_the_panel_is_an_error(model):
    """Ensembl ids are no symbols, and letter case matters."""
    matrix = in_memory(np.ones((3, 2), dtype=int), ["ENSG00000156738", "Ms4a1"])
    with pytest.raises(InputError, match=r"none of the 11 genes .* its first feature is ENSG00000156738"):
        AzimuthBackend().fit(matrix, model)


def test_the_first_hundred_cells_decide_whether_values_are_counts(model):
    """Fractions later on change nothing; fractions early leave all values as they are, with a warning."""
    values = cells_of([0] * 150).astype(float)
    late, early = values.copy(), values.copy()
    late[100:] += 0.5
    early[99] += 0.5
    fitted = AzimuthBackend().fit(of_values(late, NAMES), model)
    assert fitted.meta["normalise"] is True
    assert fitted.alerts == ()
    fitted = AzimuthBackend().fit(of_values(early, NAMES), model)
    assert fitted.meta["normalise"] is False
    assert [alert.title for alert in fitted.alerts] == ["Values are not counts"]


def test_normalised_values_give_what_their_counts_give(model):
    """log(1 + counts per 10,000) in the file is what the counts become."""
    counts = cells_of([0, 1, 2, 3] * 30)
    logs = np.log1p(counts * (10_000 / counts.sum(axis=1, keepdims=True)))
    table = texts(classified(model, in_memory(counts, NAMES)))
    again = texts(classified(model, of_values(logs, NAMES)))
    pd.testing.assert_frame_equal(again, table, check_exact=False, atol=1e-6, rtol=0)


# ---- whole runs


def request(model: Model, matrix, folder, **options) -> AnnotateRequest:
    return AnnotateRequest("s", matrix, models_dir=model.folder.parent, output_dir=folder, **options)


def test_a_run_writes_the_documented_columns(model, write_h5, tmp_path):
    """Azimuth runs unnamed; low-UMI cells lose their coarse type alone; confidences are the shortest float32 texts."""
    counts = cells_of([0] * 100 + [1] * 20)
    counts[3] = cells_of([0], count=1)[0]
    result = annotate(request(model, write_h5(counts, NAMES), tmp_path / "run"))
    folder = result.outs / "cell_types" / "Azimuth"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cell_annotation_differential_expression.csv",
        "cell_types.csv",
    ]
    lines = (folder / "cell_types.csv").read_text().splitlines()
    assert lines[0] == (
        "barcode,broad_cell_type,coarse_cell_type,fine_cell_type,full_hierarchical_labels,final_level_softmax_prob,"
        "cell_type_ontology_term_id,coarse_cell_type_unfiltered,umi_count"
    )
    low = dict(zip(lines[0].split(","), lines[4].split(","), strict=True))
    assert (low["coarse_cell_type"], low["coarse_cell_type_unfiltered"]) == ("Low UMI Barcode", "Lymphoid cell")
    assert (low["fine_cell_type"], low["umi_count"]) == ("B cell", "24")
    for line in lines[1:]:
        text = line.split(",")[5]
        assert text == np.format_float_positional(np.float32(text), trim="-")


def test_a_run_says_what_made_it(model, write_h5, tmp_path):
    """Metrics hold the genes found; provenance the version, DOI and checksums of the model."""
    matrix = write_h5(cells_of([0, 1] * 60, count=40), NAMES)
    result = annotate(request(model, matrix, tmp_path / "run"))
    metrics = result.metrics["models"]["pan_human_azimuth"]
    assert (metrics["genes_wanted"], metrics["genes_found"], metrics["joined_by"]) == (11, 11, "gene symbols")
    assert metrics["composition"] == {"Lymphoid cell": 120}
    (told,) = json.loads((result.outs / "provenance.json").read_text())["models"]
    assert (told["version"], told["doi"], len(told["sha256"])) == ("v1", "10.5281/zenodo.20401417", 64)
    assert {source["name"] for source in told["sources"]} > {"model.keras"}
    assert "Pan-Human Azimuth, version v1" in (result.outs / "web_summary_cell_types.html").read_text()


def test_several_models_each_in_its_folder(model, tmp_path):
    """Embeddings come from the one that has them; the other is named in a calm line."""
    from cytonym.demo import make_tissue

    make_tissue(tmp_path / "m.h5", n_cells=200, n_genes=6000, seed=4)
    named = "markers,pan_human_azimuth"
    wanted = request(model, tmp_path / "m.h5", tmp_path / "run", cell_annotation_model=named, embeddings=True)
    result = annotate(wanted)
    assert sorted(path.name for path in (result.outs / "cell_types").iterdir()) == ["Azimuth", "Consensus", "Markers"]
    assert any(note.startswith("markers makes no embeddings") for note in result.plan.notes)
    with np.load(result.outs / "cell_types/Azimuth/embeddings.npz", allow_pickle=False) as stored:
        assert stored["embeddings"].shape == (200, 4)
        assert stored["embeddings"].dtype == np.float32
        table = read_cell_types(result.outs / "cell_types/Azimuth/cell_types.csv")
        assert stored["barcodes"].tolist() == table["barcode"].tolist()
    assert [path.name for path in (result.outs / "cell_types/Markers").iterdir() if path.suffix == ".npz"] == []
    agreed = result.models["consensus"].cell_types.table
    assert agreed["barcode"].tolist() == table["barcode"].tolist()
    assert {"cell_type_in_Markers", "cell_type_in_Azimuth", "agreement", "umi_count"} <= set(agreed.columns)
    assert list(result.metrics["models"]) == ["markers", "pan_human_azimuth", "consensus"]
    assert "Consensus of the models" in (result.outs / "web_summary_cell_types.html").read_text()


def test_partitions_and_threads_never_change_a_byte(model, write_h5, tmp_path, rng):
    """One partition or seven, one thread or three: tables and embeddings are the same."""
    matrix = write_h5(rng.poisson(cells_of([*range(4)] * 1100)), NAMES)
    whole = annotate(request(model, matrix, tmp_path / "1", embeddings=True, localcores=1)).outs
    parts = annotate(request(model, matrix, tmp_path / "7", embeddings=True, localcores=3, partition_size=700)).outs
    found = [path.relative_to(whole) for path in whole.rglob("*") if path.suffix in (".csv", ".npz")]
    assert len(found) == 4
    assert all((whole / path).read_bytes() == (parts / path).read_bytes() for path in found)


@pytest.mark.parametrize("kind", ["h5ad", "h5ad by gene", "h5ad dense", "10x"])
def test_a_run_on_normalised_values(model, tmp_path, write_h5, kind):
    """Labels as from counts; what needs counts is left out, and said."""
    counts = cells_of([0, 1, 2, 3] * 30)
    logs = np.log1p(counts * (10_000 / counts.sum(axis=1, keepdims=True))).astype(np.float32)
    if kind == "10x":
        matrix = write_h5(logs, NAMES)
    else:
        matrix = tmp_path / "logs.h5ad"
        x = {"h5ad": sp.csr_matrix, "h5ad by gene": sp.csc_matrix, "h5ad dense": np.asarray}[kind](logs)
        anndata.AnnData(x, var=pd.DataFrame(index=NAMES)).write_h5ad(matrix)
    result = annotate(request(model, matrix, tmp_path / "run", genome="GRCh38"))
    table = result.models["pan_human_azimuth"].cell_types.table
    assert table["fine_cell_type"].tolist() == ["B cell", "NK cell", "Monocyte", "Unassigned"] * 30
    assert table["umi_count"].tolist() == np.floor(logs.sum(axis=1)).astype(int).tolist()
    assert "Low UMI Barcode" not in set(table["coarse_cell_type"])
    assert result.models["pan_human_azimuth"].diffexp is None
    assert {"No UMI counts", "Values are not counts"} <= {alert["title"] for alert in result.metrics["alerts"]}


@pytest.mark.parametrize(
    ("change", "message"), [(-1.0, "negative values"), (np.nan, "not numbers"), (np.inf, "not numbers")]
)
def test_values_that_no_model_takes(model, tmp_path, change, message):
    """Scaled values and missing ones are refused, whichever the model."""
    logs = cells_of([0, 1] * 60).astype(np.float32) + 0.5
    logs[1, 1] = change
    anndata.AnnData(logs, var=pd.DataFrame(index=NAMES)).write_h5ad(tmp_path / "m.h5ad")
    with pytest.raises(InputError, match=message):
        annotate(request(model, tmp_path / "m.h5ad", tmp_path / "run", genome="GRCh38"))
    assert not (tmp_path / "run").exists()


def test_the_marker_model_still_needs_counts(model, write_h5, tmp_path):
    """Named beside Azimuth or alone, with Azimuth installed or not."""
    matrix = write_h5(cells_of([0] * 120) + 0.5, NAMES)
    for named in ("markers", "markers,pan_human_azimuth"):
        with pytest.raises(InputError, match="fractional values, not UMI counts"):
            annotate(request(model, matrix, tmp_path / "run", cell_annotation_model=named))


def test_a_mouse_matrix_is_refused(model, write_h5, tmp_path, capsys):
    """By name: with the way out, exit code 4, and nothing written."""
    matrix = write_h5(cells_of([0] * 120), NAMES, genome="GRCm39")
    folder, models = tmp_path / "run", str(model.folder.parent)
    arguments = ["annotate", "--id=s", f"--matrix={matrix}", f"--output-dir={folder}", "--models-dir", models]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--cell-annotation-model=pan_human_azimuth"])
    assert stopped.value.code == 4
    assert "was made for human, but the sample is mouse. Choose another model" in capsys.readouterr().err
    assert not folder.exists()


def test_without_weights_the_ways_to_install_are_told(write_h5, tmp_path):
    """Both of them, with and without a network."""
    matrix = write_h5(cells_of([0] * 120), NAMES)
    wanted = AnnotateRequest("s", matrix, models_dir=tmp_path, cell_annotation_model="pan_human_azimuth")
    with pytest.raises(ModelError, match=r"'cytonym models install pan_human_azimuth', which .* --tables"):
        annotate(wanted)


def test_a_model_that_is_damaged_under_way_is_an_error(model, tmp_path):
    """HDF5's own message does not reach the user."""
    folder = tmp_path / "pan_human_azimuth"
    folder.mkdir()
    with h5py.File(folder / "model.h5", "w") as file:
        file.attrs["kind"] = "model"
    with pytest.raises(ModelError, match=r"model.h5 is damaged. Install the model again: cytonym models install"):
        AzimuthBackend().fit(in_memory(cells_of([0]), NAMES), Model(model.card, folder))
