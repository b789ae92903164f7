"""The reference model as a backend: what its table says, and what it warns of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cytonym.backends import BACKENDS
from cytonym.matrix import CountMatrix, in_memory
from cytonym.types import LABEL_COLUMNS, UNASSIGNED, Model, Predictions
from made_reference import blood_training, install_blood_reference


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return install_blood_reference(tmp_path_factory.mktemp("models"))


def table(predictions: Predictions) -> pd.DataFrame:
    labels = predictions.labels.take(predictions.label_codes).reset_index(drop=True)
    return labels.assign(**predictions.values)


def matrix_of(n_genes: int | None = None) -> CountMatrix:
    training = blood_training()
    features = training.features
    return in_memory(training.counts[:, :n_genes], features.names[:n_genes], ids=features.ids[:n_genes])


def test_labels_of_all_levels_come_with_their_term_and_probability(model):
    """The user's word is the fine type; coarse and broad are its names at these levels."""
    matrix = matrix_of()
    found = table(BACKENDS["reference"].classify(matrix, BACKENDS["reference"].fit(matrix, model)))
    of_b = found.iloc[:40]
    named = of_b[of_b["fine_cell_type"] == "B cells"]
    assert len(named) > 30
    assert set(named["broad_cell_type"]) == {"lymphoid"}
    assert set(named["coarse_cell_type"]) == {"B cell"}
    assert set(named["cell_type_ontology_term_id"]) == {"CL:0000236"}
    assert named["confidence"].between(0.7, 1).all()
    assert (named["broad_confidence"] >= named["confidence"] - 1e-4).all()
    assert set(named["reason"]) == {""}


def test_few_common_genes_alert_and_give_names_of_groups_only(model):
    """150 genes are not enough for a type of its own."""
    matrix = matrix_of(150)
    fitted = BACKENDS["reference"].fit(matrix, model)
    (alert,) = fitted.alerts
    assert (alert.level, alert.title) == ("WARN", "Few genes in common with the reference")
    found = table(BACKENDS["reference"].classify(matrix, fitted))
    assert not set(found["fine_cell_type"]) & {"B cells", "Monocytes", "NK cells"}


def test_cells_without_counts_say_so(model):
    """No label, and why."""
    matrix = matrix_of()
    counts = matrix.counts().tolil()
    counts[5] = 0
    empty = in_memory(counts.tocsr(), matrix.features.names, ids=matrix.features.ids)
    found = table(BACKENDS["reference"].classify(empty, BACKENDS["reference"].fit(empty, model))).iloc[5]
    assert found[list(LABEL_COLUMNS)].tolist() == [UNASSIGNED] * 3
    assert found["reason"] == "no counts"
    assert np.isnan(found["confidence"])
