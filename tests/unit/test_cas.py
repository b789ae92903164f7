"""Cellarium's scores, against numbers worked out by hand and the published ones."""

from __future__ import annotations

import numpy as np
import pytest

from cytonym.ontology import Ontology, Term
from cytonym.ontology_data import load_ontology
from cytonym.search.cas import (
    NO_CALL,
    TermTable,
    majority_votes,
    most_granular_calls,
    neighbour_weights,
    ontology_scores,
    pruned,
)
from cytonym.search.evidence import Neighbours

ALPHA_BETA, T_CELL = "CL:0000789", "CL:0000084"


def neighbours(distances, rows=None) -> Neighbours:
    values = np.array([distances], dtype=np.float64)
    return Neighbours(values, np.arange(values.shape[1])[None, :] if rows is None else np.array([rows]))


def test_weights_of_four_distances():
    """The published vector: median .25, so exp(-.4), exp(-.8), exp(-1.2), exp(-1.6)."""
    weights = neighbour_weights(np.array([[0.1, 0.2, 0.3, 0.4]]))[0]
    assert weights == pytest.approx([0.670320046036, 0.449328964117, 0.301194211912, 0.201896517995], abs=1e-12)
    assert weights.sum() == pytest.approx(1.62273974006, abs=1e-11)


def test_a_prefactor_sharpens_the_weights():
    assert neighbour_weights(np.array([[1.0, 1.0, 2.0]]), 2.0)[0] == pytest.approx(np.exp([-2, -2, -4]))


def test_cells_of_the_reference_itself_get_equal_weights():
    assert neighbour_weights(np.array([[0.0, 0.0, 0.0, 0.3]])).tolist() == [[1, 1, 1, 0]]


def test_the_published_scores_of_two_t_cells():
    """Distances .9 and .87: the ancestors of both have all the weight, the finer term its own share."""
    ontology = load_ontology()
    terms = TermTable.of([ALPHA_BETA, T_CELL], ontology)
    found = ontology_scores(neighbours([0.9, 0.87]), np.array([0, 1]), terms)
    assert found.total_weight[0] == pytest.approx(0.7358645669875553, abs=1e-15)
    of_term = dict(zip(terms.ids, found.scores[0].tolist(), strict=True))
    assert of_term.pop(ALPHA_BETA) == pytest.approx(0.4915262351434047, abs=1e-15)
    assert T_CELL in of_term and "CL:0000000" in of_term
    assert list(of_term.values()) == pytest.approx([1] * len(of_term), abs=1e-15)
    assert found.n_neighbours == 2 and found.n_unrecognised.tolist() == [0]


def test_a_neighbour_without_a_term_counts_in_the_total_alone():
    terms = TermTable.of([T_CELL, "", "CL:9999999"], load_ontology())
    found = ontology_scores(neighbours([0.5, 0.5, 0.5, 0.5]), np.array([0, 0, 1, 2]), terms)
    assert found.scores[0] == pytest.approx([0.5] * len(terms.ids))
    assert found.n_unrecognised.tolist() == [2]


@pytest.fixture
def ladder() -> Ontology:
    """The root, a and b below it, c below both."""
    return Ontology(
        [
            Term("CL:0000000", "cell"),
            Term("a", "A", ("CL:0000000",)),
            Term("b", "B", ("CL:0000000",)),
            Term("c", "C", ("a", "b")),
            Term("x", "apart"),
        ]
    )


def test_each_ancestor_gets_a_vote_once_and_terms_apart_from_the_root_none(ladder):
    terms = TermTable.of(["c", "a", "x"], ladder)
    assert terms.ids == ("CL:0000000", "a", "b", "c")
    assert terms.depths.tolist() == [0, 1, 1, 2]
    assert terms.votes.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_pruning_keeps_scores_at_the_threshold():
    scores = np.array([[1.0, 0.05, 0.049, 0.0]])
    assert pruned(scores, 0.05).toarray().tolist() == [[1, 0.05, 0, 0]]
    assert pruned(scores, 0.05).nnz == 2
    assert pruned(scores, 0.0).nnz == 4


def test_the_deepest_accepted_term_is_called_first():
    """.21 at depth 2 goes before .95 at depth 1; .19 is not accepted; the root fills what is left."""
    depths = np.array([0, 1, 1, 2, 3])
    calls = most_granular_calls(np.array([[1.0, 0.4, 0.95, 0.21, 0.19], [1.0, 0.1, 0.1, 0.1, 0.1]]), depths)
    assert calls.terms.tolist() == [[3, 2, 1], [0, NO_CALL, NO_CALL]]
    assert calls.scores.tolist() == [[0.21, 0.95, 0.4], [1, 1, 1]]


def test_equal_terms_keep_the_order_of_the_terms():
    calls = most_granular_calls(np.array([[0.5, 0.5, 0.5]]), np.array([1, 1, 1]), top_k=2)
    assert calls.terms.tolist() == [[0, 1]]


def test_few_terms_are_padded():
    calls = most_granular_calls(np.array([[0.1]]), np.array([0]))
    assert (calls.terms.tolist(), calls.scores.tolist()) == ([[NO_CALL] * 3], [[1.0] * 3])


def test_the_majority_wins_and_the_nearest_on_a_tie():
    types = np.array([2, 1, 1, 2, 0])
    winner, share = majority_votes(neighbours([0.1, 0.2, 0.3, 0.4, 0.5], [0, 1, 2, 3, 4]), types, 3)
    assert (winner.tolist(), share.tolist()) == ([2], [0.4])
    winner, share = majority_votes(neighbours([0.1, 0.2, 0.3], [0, 1, 2]), types, 3)
    assert (winner.tolist(), share.tolist()) == ([1], [pytest.approx(2 / 3)])
