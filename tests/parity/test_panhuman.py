"""The same answers as panhumanpy 1.0.0 on the shared fixture: every class and label, numbers to 1e-5.

The fixture's weights are random and its labels mean nothing; its tables, edge cases and odd labels are the real ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import shared_path
from cytonym.annotate import annotate
from cytonym.azimuth import model as azimuth_model
from cytonym.azimuth.genes import panel_places
from cytonym.azimuth.labels import Decoder
from cytonym.azimuth.model import score_block
from cytonym.azimuth.stored import AzimuthModel
from cytonym.backends import BACKENDS
from cytonym.inputs import as_tenx_h5, locate_matrix
from cytonym.install import InstallRequest, install
from cytonym.io.azimuth_tables import find_tables, read_tables
from cytonym.io.cell_types_csv import read_cell_types
from cytonym.io.keras_zip import read_keras_graph
from cytonym.io.tenx_h5 import TenxH5Source
from cytonym.matrix import CountMatrix
from cytonym.types import COARSE_NOT_CONFIDENT, FINE_NOT_CONFIDENT, AnnotateRequest, Model, Predictions

TOLERANCE = 1e-5
N_CELLS = 600
NONE = "\0None"  # how the fixture writes a missing label
REFINED = ("azimuth_broad", "azimuth_medium", "azimuth_fine")


@pytest.fixture(scope="module")
def bundle() -> Path:
    return shared_path("panhuman_parity", "bundle")


@pytest.fixture(scope="module")
def model(bundle) -> AzimuthModel:
    weights = bundle / "inference_model.keras"
    (folder,) = find_tables(bundle / "tables")
    return AzimuthModel(read_keras_graph(weights.read_bytes(), str(weights)), read_tables(folder))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TenxH5Source:
    """The fixture's counts as the stages read them."""
    converted = tmp_path_factory.mktemp("counts") / "matrix.h5"
    return as_tenx_h5(locate_matrix(shared_path("panhuman_parity", "counts.h5ad")), converted)[0]


@pytest.fixture(scope="module")
def installed(bundle, tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp("models")
    return install(InstallRequest("pan_human_azimuth", folder, bundle / "inference_model.keras", bundle / "tables"))


def expected(case: str) -> dict[str, np.ndarray]:
    with np.load(shared_path("panhuman_parity", f"expected_{case}.npz"), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def all_cells(model: AzimuthModel, source: TenxH5Source, block_rows: int, monkeypatch, **options: bool):
    """Classes, probabilities by level, embeddings and labels of the 600 cells, computed so many rows at a time."""
    monkeypatch.setattr(azimuth_model, "BLOCK_ROWS", block_rows)
    places = panel_places(source.features.names, model.tables.panel)
    cells = (source.read_rows(row, min(row + block_rows, N_CELLS)) for row in range(0, N_CELLS, block_rows))
    parts = [score_block(model, block, places, row=0, **options) for block in cells]
    class_ids = np.concatenate([part.class_ids for part in parts])
    levels = [np.concatenate(level) for level in zip(*(part.probabilities for part in parts), strict=True)]
    return class_ids, levels, np.concatenate([part.embeddings for part in parts])


def text_columns(
    model: AzimuthModel, class_ids: np.ndarray, levels: list[np.ndarray]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The original's columns, and the confidence."""
    labels, codes, confidence = Decoder(model.tables).label(class_ids, levels)
    rows = []
    for label in labels:
        gap = label.path.final_level + 1
        by_level = [part if depth < gap else "NA" for depth, part in enumerate(label.path.parts)]
        refined = [NONE if part is None else part for part in label.refined]
        rows.append((label.path.full, label.path.final, label.path.consistent, *refined, *by_level))
    names = ["full_hierarchical_labels", "final_level_labels", "full_consistent_hierarchy", *REFINED]
    names += [f"level_{level}_labels" for level in range(1, 9)]
    return pd.DataFrame(rows, columns=names).take(codes).reset_index(drop=True), confidence


def assert_same_columns(
    found: pd.DataFrame, confidence: np.ndarray, wanted: dict[str, np.ndarray], atol: float
) -> None:
    compared = [name for name in found if f"obs/{name}" in wanted]
    assert {"full_hierarchical_labels", "final_level_labels", "full_consistent_hierarchy", *REFINED} <= set(compared)
    for name in compared:
        assert found[name].tolist() == wanted[f"obs/{name}"].tolist(), name
    np.testing.assert_allclose(confidence, wanted["obs/final_level_confidence"], rtol=0, atol=atol)


@pytest.mark.parametrize("block_rows", [1, 7, 1024, N_CELLS])
def test_counts(model, source, block_rows, monkeypatch):
    """Classes and labels equal, probabilities and embeddings within 1e-5, for blocks of any size."""
    wanted = expected("counts")
    class_ids, levels, embeddings = all_cells(model, source, block_rows, monkeypatch, normalise=True)
    np.testing.assert_array_equal(class_ids, wanted["class_preds"])
    names = [[classes[i] for i in ids] for classes, ids in zip(model.tables.classes, class_ids.T, strict=True)]
    assert np.array(names).T.tolist() == wanted["level_labels_raw"].tolist()
    highest = np.column_stack([level.max(axis=1) for level in levels])
    np.testing.assert_allclose(highest, wanted["prob"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(embeddings, wanted["embeddings"], rtol=0, atol=TOLERANCE)
    for level, probabilities in enumerate(levels, 1):
        head = wanted[f"softmax_head/L{level}"]
        np.testing.assert_allclose(probabilities[: len(head)], head, rtol=0, atol=TOLERANCE)
    assert_same_columns(*text_columns(model, class_ids, levels), wanted, TOLERANCE)


def test_each_level_in_detail(model, source, monkeypatch):
    """The label of each of the eight levels, and its probability."""
    wanted = expected("detailed")
    class_ids, levels, _ = all_cells(model, source, 1024, monkeypatch, normalise=True)
    highest = np.column_stack([level.max(axis=1) for level in levels])
    np.testing.assert_allclose(highest, wanted["prob"], rtol=0, atol=TOLERANCE)
    assert_same_columns(*text_columns(model, class_ids, levels), wanted, TOLERANCE)


def test_without_calibration(model, source, monkeypatch):
    """What the network itself says, as for models of version v0."""
    wanted = expected("uncalibrated")
    class_ids, levels, _ = all_cells(model, source, 1024, monkeypatch, normalise=True, calibrated=False)
    highest = np.column_stack([level.max(axis=1) for level in levels])
    np.testing.assert_allclose(highest, wanted["prob"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(highest, expected("counts")["prob_raw"], rtol=0, atol=TOLERANCE)
    assert_same_columns(*text_columns(model, class_ids, levels), wanted, TOLERANCE)


def test_values_that_are_used_as_they_are(model, source, monkeypatch):
    """Without normalisation the network meets large numbers: embeddings to 1e-5 of their scale."""
    wanted = expected("override")
    class_ids, levels, embeddings = all_cells(model, source, 1024, monkeypatch, normalise=False)
    np.testing.assert_array_equal(class_ids, wanted["class_preds"])
    highest = np.column_stack([level.max(axis=1) for level in levels])
    np.testing.assert_allclose(highest, wanted["prob"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(embeddings, wanted["embeddings"], rtol=0, atol=TOLERANCE * np.abs(embeddings).max())
    assert_same_columns(*text_columns(model, class_ids, levels), wanted, 1e-4)


def table_of(predictions: Predictions) -> pd.DataFrame:
    return predictions.labels.take(predictions.label_codes).reset_index(drop=True).assign(**predictions.values)


def test_the_installed_model_writes_the_columns_of_space_ranger(installed, source):
    """Broad is the first part of the full label; a missing or refused label becomes the not-confident one."""
    wanted, matrix = expected("counts"), CountMatrix.of(source, species="human")
    table = table_of(BACKENDS["azimuth"].classify(matrix, BACKENDS["azimuth"].fit(matrix, installed)))
    full = wanted["obs/full_hierarchical_labels"].tolist()
    assert table["full_hierarchical_labels"].tolist() == full
    assert table["broad_cell_type"].tolist() == [label.split("|")[0] for label in full]
    for column, name, missing in (
        ("coarse_cell_type", "azimuth_medium", COARSE_NOT_CONFIDENT),
        ("fine_cell_type", "azimuth_fine", FINE_NOT_CONFIDENT),
    ):
        labels = [missing if text in (NONE, "False") else text for text in wanted[f"obs/{name}"].tolist()]
        assert table[column].tolist() == labels
    np.testing.assert_allclose(
        table["final_level_softmax_prob"], wanted["obs/final_level_confidence"], rtol=0, atol=TOLERANCE
    )


def test_ontology_ids_are_those_of_the_label(model, installed, source):
    """The fine label's, as the original maps it; where that has none, the broad label's."""
    wanted, matrix = expected("counts"), CountMatrix.of(source, species="human")
    table = table_of(BACKENDS["azimuth"].classify(matrix, BACKENDS["azimuth"].fit(matrix, installed)))
    fine, medium = wanted["obs/azimuth_fine_CL_ID"], wanted["obs/azimuth_medium_CL_ID"]
    found, mapped = table["cell_type_ontology_term_id"].to_numpy(), fine != "unmapped"
    assert found[mapped].tolist() == fine[mapped].tolist()
    unnamed = ~mapped & (medium == "unmapped")
    broad = table["broad_cell_type"][unnamed].map(model.tables.ontology).fillna("")
    assert 0 < unnamed.sum() < N_CELLS
    assert found[unnamed].tolist() == broad.tolist()


def test_one_file_as_h5ad_and_as_10x_gives_the_same_output(installed, source, tmp_path):
    """Duplicate symbols and all: the same bytes whatever the format."""
    tenx, h5ad = tmp_path / "counts.h5", shared_path("panhuman_parity", "counts.h5ad")
    shutil.copy(source.path, tenx)
    outs = [
        annotate(
            AnnotateRequest(
                id="s",
                matrix=matrix,
                cell_annotation_model="pan_human_azimuth",
                genome="GRCh38",
                models_dir=installed.folder.parent,
                embeddings=True,
                output_dir=tmp_path / name,
            )
        ).outs
        for name, matrix in (("tenx", tenx), ("h5ad", h5ad))
    ]
    tables = sorted(path.relative_to(outs[0]) for path in outs[0].rglob("*") if path.suffix in (".csv", ".npz"))
    assert [path.name for path in tables] == [
        "cell_annotation_differential_expression.csv",
        "cell_types.csv",
        "embeddings.npz",
        "loupe_cell_types.csv",
    ]
    assert all((outs[0] / path).read_bytes() == (outs[1] / path).read_bytes() for path in tables)
    with np.load(outs[0] / tables[2], allow_pickle=False) as stored:
        np.testing.assert_allclose(stored["embeddings"], expected("counts")["embeddings"], rtol=0, atol=TOLERANCE)
        assert stored["barcodes"].tolist() == expected("counts")["cells"].tolist()
    confidences = read_cell_types(outs[0] / tables[1])["final_level_softmax_prob"]
    assert confidences.notna().all()
