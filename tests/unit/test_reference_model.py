"""The reference model: what is drawn, joined, learnt and scored."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cytonym.matrix import Features
from cytonym.reference_model.drawn import drawn_cells, drawn_training_set
from cytonym.reference_model.genes import join_genes, take_genes, telling
from cytonym.reference_model.training import ReferenceType


def features(names: list[str], ids: list[str] | None = None) -> Features:
    return Features(np.array(ids or names), np.array(names))


def test_drawn_cells_have_the_shares_of_their_average():
    """Many cells add up to their average, whatever its scale, and genes that it lacks stay at zero."""
    averages = np.array([[5.0, 3.0, 2.0, 0.0], [0.0, 0.0, 10.0, 30.0]])
    counts = drawn_cells(averages, np.array([400, 100]), seed=1)
    assert counts.shape == (500, 4)
    assert counts.dtype == np.int32
    shares = counts[:400].sum(axis=0) / counts[:400].sum()
    np.testing.assert_allclose(shares, [[0.5, 0.3, 0.2, 0.0]], atol=0.04)
    assert counts[400:, :2].nnz == 0
    assert 2500 < np.median(np.asarray(counts.sum(axis=1))) < 3500


def test_types_with_several_averages_get_cells_of_each():
    """Forty cells a type: twenty of each of its two averages, and forty of the one of the other type."""
    types = (ReferenceType("T"), ReferenceType("B"))
    training = drawn_training_set(np.eye(3), [0, 1, 0], features(["A", "B", "C"]), types)
    assert np.bincount(training.type_codes).tolist() == [40, 40]
    assert np.bincount(training.group_codes).tolist() == [20, 40, 20]
    assert training.drawn


def test_ribosomal_and_mitochondrial_genes_are_not_looked_at():
    """In the letters of either species; genes that only look like them stay."""
    names = np.array(["MT-CO1", "mt-Nd1", "RPL13A", "Rps6", "Mrpl2", "MALAT1", "RPLP0", "MTOR", "CD3E", "RPRM"])
    assert names[telling(names)].tolist() == ["MTOR", "CD3E", "RPRM"]


def test_genes_join_by_what_finds_more():
    """Ids with versions count as ids; the filter goes by the sample's symbols, too."""
    genes = features(["CD3E", "MS4A1", "LYZ"], ["ENSG01", "ENSG02", "ENSG03"])
    by_id = join_genes(genes, features(["x", "y", "RPL3"], ["ENSG03.7", "ENSG01.12", "ENSG02.1"]))
    assert (by_id.places.tolist(), by_id.joined_by, by_id.n_found, by_id.n_telling) == ([2, 0, -1], "gene ids", 2, 2)
    by_symbol = join_genes(genes, features(["LYZ", "CD3E", "LYZ"]))
    assert (by_symbol.places.tolist(), by_symbol.joined_by, by_symbol.n_found) == ([2, 0, 2], "gene symbols", 2)


def test_taken_genes_stand_in_the_models_order():
    """Two features of one gene are added up; a feature that is no gene of the model is left out."""
    counts = sp.csr_matrix(np.array([[1, 2, 3, 4], [0, 5, 0, 6]], dtype=np.int32))
    taken = take_genes(counts, np.array([2, 0, 2, -1], dtype=np.int32), 3)
    assert taken.toarray().tolist() == [[2, 0, 4], [5, 0, 0]]
