"""Neighbours as evidence: summed up by hand, written as 10x Cloud writes it, and in runs with a reference."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cytonym.annotate import annotate
from cytonym.cli import main
from cytonym.errors import InputError, ModelError
from cytonym.io.arrays import read_neighbours, read_predictions, write_predictions
from cytonym.io.cloud_results import read_evidence as read_results
from cytonym.io.evidence_json import write_evidence_json
from cytonym.reference.build import build_reference
from cytonym.reference.request import BuildRequest
from cytonym.search.evidence import Evidence, Neighbours, summarise
from cytonym.types import AnnotateRequest, Predictions
from made_labelled import LABELS, TERMS, blood_cells, write_blood
from made_reference import blood_averages

TYPES = np.array([0, 1, 1, 0, 1, 2], dtype=np.int32)  # of six reference cells
DATASETS = np.array([0, 0, 1, 1, 1, 0], dtype=np.int32)
NAMES = [("A", "CL:1"), ("B", ""), ('C "c" é', "CL:3")]


@pytest.fixture
def two_cells() -> Evidence:
    """Five neighbours each."""
    rows = np.array([[1, 0, 2, 4, 3], [5, 0, 1, 2, 3]], dtype=np.int32)
    distances = np.array([[0.1, 0.2, 0.3, 0.5, 0.6], [0.0, 0.1, 0.25, 0.25, 2.0]], dtype=np.float32)
    return summarise(Neighbours(distances, rows), TYPES, DATASETS)


def test_matches_by_hand(two_cells):
    """Cell 0: type 1 at .1 .3 .5, type 0 at .2 .6. Cell 1: a tie of types 0 and 1, whose nearest are at .1 and .25."""
    assert two_cells.n_matches.tolist() == [2, 3]
    assert two_cells.type_codes.tolist() == [1, 0, 0, 1, 2]
    assert two_cells.counts.tolist() == [3, 2, 2, 2, 1]
    assert two_cells.distances.tolist() == [
        [1000, 2000, 3000, 4000, 5000],
        [2000, 3000, 4000, 5000, 6000],
        [1000, 5750, 10500, 15250, 20000],
        [2500, 2500, 2500, 2500, 2500],
        [0, 0, 0, 0, 0],
    ]


def test_data_sets_by_hand(two_cells):
    """Of cell 0's type 1, data set 1 has two neighbours (.3, .5), data set 0 one (.1)."""
    assert two_cells.n_datasets.tolist() == [2, 2, 2, 2, 1]
    assert two_cells.dataset_codes.tolist() == [1, 0, 0, 1, 0, 1, 0, 1, 0]
    assert two_cells.dataset_counts.tolist() == [2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert two_cells.dataset_distances[:3].tolist() == [
        [3000, 5000, 4000, 4000],  # smallest, largest, median, mean
        [1000, 1000, 1000, 1000],
        [2000, 2000, 2000, 2000],
    ]


def test_a_cell_without_counts_has_no_evidence():
    rows, distances = np.zeros((3, 2), dtype=np.int32), np.zeros((3, 2), dtype=np.float32)
    known = np.array([False, True, False])
    found = summarise(Neighbours(distances, rows), TYPES, DATASETS, known=known, keep_neighbours=True)
    assert found.n_matches.tolist() == [0, 1, 0]
    assert found.rows is not None and found.row_distances is not None
    assert found.rows.tolist() == [[-1, -1], [0, 0], [-1, -1]]
    assert np.isnan(found.row_distances).tolist() == [[True, True], [False, False], [True, True]]


@pytest.fixture
def many(rng) -> tuple[Neighbours, np.ndarray, np.ndarray]:
    distances = np.sort(rng.random((200, 60)), axis=1).astype(np.float32)
    types, datasets = rng.integers(0, 7, 500).astype(np.int32), rng.integers(0, 4, 500).astype(np.int32)
    return Neighbours(distances, rng.integers(0, 500, (200, 60)).astype(np.int32)), types, datasets


def test_numbers_are_those_of_numpy(many):
    neighbours, types, _ = many
    found = summarise(*many)
    cell, at = 17, int(found.n_matches[:17].sum())
    for match in range(at, at + int(found.n_matches[cell])):
        inside = neighbours.distances[cell][types[neighbours.rows[cell]] == found.type_codes[match]].astype(float)
        assert found.counts[match] == len(inside)
        expected = np.percentile(inside, [0, 25, 50, 75, 100]) * 10_000
        assert found.distances[match] == pytest.approx(expected, abs=0.51)
    assert found.counts.sum() == found.dataset_counts.sum() == 200 * 60


def part_of(many, start: int, stop: int) -> Predictions:
    neighbours, *codes = many
    found = Neighbours(neighbours.distances[start:stop], neighbours.rows[start:stop])
    return Predictions(
        start=start,
        barcodes=np.array([f"b{i}" for i in range(start, stop)]),
        umi_counts=np.ones(stop - start, dtype=np.int64),
        labels=pd.DataFrame({"coarse_cell_type": ["T cell"]}),
        label_codes=np.zeros(stop - start, dtype=np.int32),
        values={},
        evidence=summarise(found, *codes),
    )


def test_evidence_travels_with_the_predictions(many, tmp_path):
    """Joined parts are the whole; it is read by itself, for it is large."""
    joined = Predictions.concatenate([part_of(many, a, b) for a, b in pairwise([0, 1, 90, 200])])
    write_predictions(tmp_path / "p.h5", joined)
    assert read_predictions(tmp_path / "p.h5").evidence is None
    found, whole = read_neighbours(tmp_path / "p.h5").arrays(), summarise(*many).arrays()
    assert found.keys() == whole.keys()
    assert all(found[name].tobytes() == value.tobytes() for name, value in whole.items())


def test_predictions_without_evidence_are_a_clear_error(many, tmp_path):
    write_predictions(tmp_path / "p.h5", replace(part_of(many, 0, 5), evidence=None))
    with pytest.raises(InputError, match=r"p\.h5 holds no evidence"):
        read_neighbours(tmp_path / "p.h5")


# ---- the file


def test_the_file_by_hand(two_cells, tmp_path):
    """One object a barcode, one a line, distances to four decimals, names escaped."""
    path = tmp_path / "results.json.gz"
    write_evidence_json(path, [(np.array(["AAA-1", "CCC-1"]), two_cells)], NAMES, ["one", "two"])
    first, second = json.loads(gzip.decompress(path.read_bytes()))
    assert first["barcode"] == "AAA-1"
    assert first["matches"][0] == {
        "cell_type": "B",
        "cell_type_ontology_term_id": "",
        "cell_count": 3,
        "min_distance": 0.1,
        "p25_distance": 0.2,
        "median_distance": 0.3,
        "p75_distance": 0.4,
        "max_distance": 0.5,
        "dataset_ids_with_counts": [
            {
                "dataset_id": "two",
                "count_per_dataset": 2,
                "min_distance": 0.3,
                "max_distance": 0.5,
                "median_distance": 0.4,
                "mean_distance": 0.4,
            },
            {
                "dataset_id": "one",
                "count_per_dataset": 1,
                "min_distance": 0.1,
                "max_distance": 0.1,
                "median_distance": 0.1,
                "mean_distance": 0.1,
            },
        ],
    }
    assert [match["cell_type"] for match in second["matches"]] == ["A", "B", 'C "c" é']
    assert list(read_results(path)) == [first, second]
    assert path.read_bytes()[4:8] == b"\0\0\0\0"  # gzip's time


def test_no_cells_give_an_empty_array(tmp_path):
    write_evidence_json(tmp_path / "none.json.gz", [], NAMES, [])
    assert json.loads(gzip.decompress((tmp_path / "none.json.gz").read_bytes())) == []


def test_parts_never_change_a_byte(many, tmp_path, monkeypatch):
    monkeypatch.setattr("cytonym.io.evidence_json.WRITTEN_AT_ONCE", 1000)
    names, datasets = [(f"t{i}", "") for i in range(7)], list("abcd")

    def written(cuts: list[int]) -> bytes:
        parts = [part_of(many, a, b) for a, b in pairwise(cuts)]
        of_cells = [(part.barcodes, part.evidence) for part in parts]
        write_evidence_json(tmp_path / "x.json.gz", of_cells, names, datasets)
        return (tmp_path / "x.json.gz").read_bytes()

    assert written([0, 200]) == written([0, 7, 8, 199, 200])


# ---- runs


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blood")
    build_reference(BuildRequest(name="blood", output=folder / "bundle", inputs=(write_blood(folder / "blood.h5ad"),)))
    return folder / "bundle"


@pytest.fixture
def run(bundle, write_h5, tmp_path):
    """A run on 120 cells of the reference's types, thinned to about a third, and the last without counts."""
    cells, _ = blood_cells(seed=3)
    counts = np.random.default_rng(4).binomial(cells.toarray(), 0.3)
    counts[-1] = 0
    features = blood_averages()[1]
    matrix = write_h5(counts, list(features.names), ids=list(features.ids))

    def annotated(name: str = "run", **options):
        request = {"cell_annotation_model": str(bundle), "genome": "GRCh38", "skip": ("diffexp", "report")} | options
        return annotate(AnnotateRequest(id="s", matrix=matrix, output_dir=tmp_path / name, **request))

    return annotated


def results_of(result) -> list[dict]:
    folder = result.models["blood"].folder
    return json.loads(gzip.decompress((folder / "cell_annotation_results.json.gz").read_bytes()))


def test_a_reference_tells_each_cells_neighbours(run):
    """All 120 reference cells are neighbours, for there are no more; those nearest are of the cell's type."""
    result = run()
    found = results_of(result)
    assert [entry["barcode"] for entry in found] == result.models["blood"].cell_types.table["barcode"].tolist()
    assert found[-1]["matches"] == []
    _, codes = blood_cells(seed=3)
    nearest = [min(entry["matches"], key=lambda m: m["min_distance"])["cell_type"] for entry in found[:-1]]
    assert np.mean(LABELS[codes[:-1]] == nearest) > 0.9
    assert {sum(match["cell_count"] for match in entry["matches"]) for entry in found[:-1]} == {120}
    assert {d["dataset_id"] for d in found[0]["matches"][0]["dataset_ids_with_counts"]} == {"one", "two"}
    assert dict(zip(LABELS, TERMS, strict=True)).items() >= {
        (match["cell_type"], match["cell_type_ontology_term_id"]) for match in found[0]["matches"]
    }


@pytest.mark.parametrize(
    "options", [{"evidence": "neighbors", "embeddings": True}, {"scoring": "cas"}], ids=["fused", "cas"]
)
def test_partitions_and_threads_never_change_a_byte(run, options):
    whole = run("whole", localcores=1, **options).outs
    parts = run("parts", localcores=3, partition_size=50, **options).outs
    names = sorted(path.relative_to(whole) for path in whole.glob("cell_types/*/*"))
    assert [name.name for name in names].count("cell_annotation_results.json.gz") == 1
    assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in names)


def test_no_evidence_if_none_is_wanted(run):
    assert not (run(evidence="none").models["blood"].folder / "cell_annotation_results.json.gz").exists()


def test_the_points_without_their_neighbours(run):
    """Unit vectors, those of one type nearer to each other than to others'."""
    result = run(evidence="none", embeddings=True)
    folder = result.models["blood"].folder
    assert not (folder / "cell_annotation_results.json.gz").exists()
    with np.load(folder / "embeddings.npz") as stored:
        barcodes, points = stored["barcodes"], stored["embeddings"][:-1]
    assert barcodes.tolist() == result.models["blood"].cell_types.table["barcode"].tolist()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)
    codes = blood_cells(seed=3)[1][:-1]
    alike = codes[:, None] == codes
    assert (points @ points.T)[alike].mean() > (points @ points.T)[~alike].mean() + 0.1


def test_the_neighbours_themselves_if_wanted(run):
    """By row of the reference's cells, with their ids and distances; -1 and NaN in the cell without counts."""
    result = run(evidence="neighbors")
    with h5py.File(result.models["blood"].folder / "neighbors.h5") as file:
        rows, distances = file["rows"][()], file["distances"][()]
        ids, barcodes = file["reference_ids"].asstr()[()], file["barcodes"].asstr()[()]
    assert barcodes.tolist() == result.models["blood"].cell_types.table["barcode"].tolist()
    assert rows.shape == distances.shape == (120, 120)
    assert sorted(ids[rows[0]]) == sorted(f"c{i}" for i in range(120))
    assert (np.diff(distances[:-1], axis=1) >= 0).all()
    assert (rows[-1] == -1).all() and np.isnan(distances[-1]).all()


def test_labels_in_cellariums_manner(run):
    """The most granular call has at least .2 of the weight; the cell without counts none."""
    result = run(scoring="cas")
    table = result.models["blood"].cell_types.table
    assert table["fine_cell_type"].iloc[:-1].isin(LABELS).all()
    assert table["confidence"].iloc[:-1].between(0.2, 1).all()
    assert table["cell_type_ontology_term_id"].iloc[:-1].isin(TERMS).all()
    assert table.iloc[-1][["fine_cell_type", "reason"]].tolist() == ["Unassigned", "no counts"]
    assert "novelty_z" not in table
    assert len(results_of(result)) == 120


def test_cas_needs_a_reference(run):
    with pytest.raises(ModelError, match="--scoring cas is for references"):
        run(cell_annotation_model="markers", scoring="cas")


def test_an_unknown_kind_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["annotate", "--id", "s", "--matrix", "m.h5", "--evidence", "all"])
    assert stopped.value.code == 2
    assert "--evidence" in capsys.readouterr().err
