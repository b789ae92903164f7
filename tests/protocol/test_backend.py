"""What every backend keeps to; a new one passes these tests unchanged, with a model to run in MODELS."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from azimuth_files import write_bundle
from cytonym.backends import BACKENDS
from cytonym.install import InstallRequest, install
from cytonym.io.arrays import read_fitted, write_fitted
from cytonym.matrix import CountMatrix, in_memory
from cytonym.types import LABEL_COLUMNS, UNASSIGNED, Model, Predictions
from made_reference import blood_averages, install_blood_reference

N_CELLS = 300
MODELS = {  # backend -> makes a model of it, in an empty folder
    "azimuth": lambda folder: install(InstallRequest("pan_human_azimuth", folder, *write_bundle(folder / "files"))),
    "markers": lambda folder: Model(BACKENDS["markers"].models()[0]),
    "reference": install_blood_reference,
}


def test_every_backend_is_tested():
    """A new backend brings a model to test it with; that of 10x Cloud, a server's, is in test_cloud_annotate.py."""
    assert {*MODELS, "tenx_cloud"} == set(BACKENDS)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request, tmp_path_factory) -> Model:
    return MODELS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def backend(model):
    return BACKENDS[model.card.backend]


@pytest.fixture(scope="module")
def matrix() -> CountMatrix:
    """Three blood types at about 200 UMIs a cell, and one cell without counts."""
    rng = np.random.default_rng(5)
    rates, features = blood_averages()
    counts = rng.poisson(rates[np.arange(N_CELLS) % 3])
    counts[7] = 0
    return in_memory(counts, features.names, ids=features.ids)


@pytest.fixture(scope="module")
def fitted(backend, matrix, model):
    return backend.fit(matrix, model)


@pytest.fixture(scope="module")
def whole(backend, matrix, fitted) -> Predictions:
    return backend.classify(matrix, fitted)


def texts(predictions: Predictions) -> pd.DataFrame:
    """Every label and number of every cell, as one table."""
    labels = predictions.labels.take(predictions.label_codes).reset_index(drop=True)
    return labels.assign(**predictions.values, barcode=predictions.barcodes, umi_count=predictions.umi_counts)


def test_every_cell_has_labels_and_every_number(model, matrix, whole):
    """No label is empty, columns are those of the card, barcodes and UMIs are the matrix's."""
    table, card = texts(whole), model.card
    assert set(card.columns) == set(table.columns) - {*LABEL_COLUMNS, "barcode", "umi_count"}
    assert (table[list(LABEL_COLUMNS)] != "").all(axis=None)
    assert table["barcode"].tolist() == matrix.barcodes().tolist()
    assert table["umi_count"].tolist() == np.asarray(matrix.counts().sum(axis=1)).ravel().tolist()


def test_a_cell_without_counts_has_no_label(whole):
    """Nothing is guessed from nothing."""
    assert texts(whole).loc[7, list(LABEL_COLUMNS)].tolist() == [UNASSIGNED] * 3


@pytest.mark.parametrize("cuts", [(150,), (1, 2, 3), (7, 8, 100, 299), tuple(range(43, 300, 43))])
def test_any_split_gives_the_same_answer(backend, matrix, fitted, whole, cuts):
    """Cells are classified each by itself."""
    edges = [0, *cuts, N_CELLS]
    parts = [backend.classify(matrix.rows(a, b), fitted) for a, b in itertools.pairwise(edges)]
    joined = Predictions.concatenate(parts)
    pd.testing.assert_frame_equal(texts(joined), texts(whole), check_exact=True)
    np.testing.assert_array_equal(joined.embeddings, whole.embeddings)


def test_fitted_survives_its_file(backend, matrix, fitted, whole, tmp_path):
    """What is stored is all that classify needs, to the last bit."""
    write_fitted(tmp_path / "fitted.h5", fitted)
    again = backend.classify(matrix, read_fitted(tmp_path / "fitted.h5"))
    pd.testing.assert_frame_equal(texts(again), texts(whole), check_exact=True)


def test_fitting_twice_gives_the_same_bytes(backend, model, matrix, fitted, tmp_path):
    """Nothing random is left to chance."""
    write_fitted(tmp_path / "1.h5", fitted)
    write_fitted(tmp_path / "2.h5", backend.fit(matrix, model))
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_the_order_of_features_does_not_matter(backend, model, matrix, whole, rng):
    """A file with its genes in another order gives the same labels."""
    order = rng.permutation(matrix.n_features)
    names, ids = matrix.features.names[order], matrix.features.ids[order]
    shuffled = in_memory(matrix.counts()[:, order], names, ids=ids)
    again = texts(backend.classify(shuffled, backend.fit(shuffled, model)))
    pd.testing.assert_frame_equal(again[list(LABEL_COLUMNS)], texts(whole)[list(LABEL_COLUMNS)])
