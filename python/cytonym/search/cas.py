"""Cell types from neighbours in Cellarium's manner: ontology-aware scores, most granular calls, majority votes.

The formulas are those of the public Cellarium CAS server and client 1.8 (BSD-3), from a description; no code is theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..ontology import Ontology
from .evidence import Neighbours

FUSED, CAS = SCORINGS = ("fused", "cas")
ROOT = "CL:0000000"  # cell
PREFACTOR = 1.0
PRUNE_THRESHOLD = 0.05
ACCEPTED = 0.2  # least score of a call
TOP_K = 3


@dataclass(frozen=True)
class TermTable:
    """The terms that reference cells can vote for: those of their types and all above them."""

    ids: tuple[str, ...]  # sorted
    names: tuple[str, ...]
    depths: np.ndarray  # (T,) fewest steps from the root
    votes: np.ndarray  # (K, T) float64: 1 where the type is the term or below it; all 0 for a type without a known term

    @classmethod
    def of(cls, type_terms: Sequence[str], ontology: Ontology) -> TermTable:
        """`type_terms` are the types' ontology ids, "" where there is none. A term apart from the root has no votes."""
        depths = depths_from_root(ontology)
        lineages = [ontology.lineage(term) if term in ontology else frozenset() for term in type_terms]
        ids = sorted(term for term in frozenset().union(*lineages) if term in depths)
        votes = np.array([[term in lineage for term in ids] for lineage in lineages], dtype=np.float64)
        return cls(
            ids=tuple(ids),
            names=tuple(ontology[term].name for term in ids),
            depths=np.array([depths[term] for term in ids], dtype=np.int64),
            votes=votes.reshape(len(type_terms), len(ids)),
        )

    def meta(self) -> dict[str, Any]:
        return {"cas": {"ids": list(self.ids), "names": list(self.names)}}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"cas/depths": self.depths, "cas/votes": self.votes}

    @classmethod
    def restored(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TermTable:
        """The table that `meta` and `arrays` came from; other entries are let be."""
        ids, names = (tuple(meta["cas"][name]) for name in ("ids", "names"))
        return cls(ids, names, arrays["cas/depths"], arrays["cas/votes"])


@dataclass(frozen=True)
class OntologyScores:
    """Of n cells the share of their neighbours' weight at or below each term."""

    scores: np.ndarray  # (n, T) float64
    total_weight: np.ndarray  # (n,)
    n_neighbours: int
    n_unrecognised: np.ndarray  # (n,) neighbours whose term the ontology does not know


@dataclass(frozen=True)
class Calls:
    """The k most granular terms of n cells, the deepest first."""

    terms: np.ndarray  # (n, k) int64, column of the scores; NO_CALL where there are fewer
    scores: np.ndarray  # (n, k)


NO_CALL = -1  # shown as the root, with a score of 1


def neighbour_weights(distances: np.ndarray, prefactor: float = PREFACTOR) -> np.ndarray:
    """(n, k) exp(-prefactor x distance / median of the cell's distances).

    Where the median is 0 (the reference itself was asked), neighbours at distance 0 weigh 1 and others nothing.
    """
    distances = distances.astype(np.float64)
    median = np.median(distances, axis=1, keepdims=True)
    weights = np.exp(-prefactor * distances / np.where(median > 0, median, 1))
    return np.where(median > 0, weights, distances == 0)


def ontology_scores(
    neighbours: Neighbours, type_codes: np.ndarray, terms: TermTable, prefactor: float = PREFACTOR
) -> OntologyScores:
    """Each neighbour votes with its whole weight for its term and, once, for each term above it.

    Neighbours without a known term count in the total weight and vote for nothing.
    """
    types = type_codes[neighbours.rows]
    recognised = np.any(terms.votes, axis=1)
    return OntologyScores(
        scores=np.asarray(weights_by_type(neighbours, type_codes, len(terms.votes), prefactor) @ terms.votes),
        total_weight=neighbour_weights(neighbours.distances, prefactor).sum(axis=1),
        n_neighbours=types.shape[1],
        n_unrecognised=types.shape[1] - recognised[types].sum(axis=1),
    )


def weights_by_type(
    neighbours: Neighbours, type_codes: np.ndarray, n_types: int, prefactor: float = PREFACTOR
) -> sp.csr_matrix:
    """(n, K) share of each cell's weight that neighbours of each type have."""
    weights = neighbour_weights(neighbours.distances, prefactor)
    weights /= weights.sum(axis=1, keepdims=True)
    n, k = weights.shape
    types = type_codes[neighbours.rows].ravel()
    return sp.csr_matrix((weights.ravel(), types, np.arange(n + 1) * k), shape=(n, n_types))


def pruned(scores: np.ndarray, threshold: float = PRUNE_THRESHOLD) -> sp.csr_matrix:
    """The scores of at least the threshold, in the order of the terms; all of them, zeros too, for one of 0 or less."""
    kept = scores >= threshold
    rows, columns = np.nonzero(kept)
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return sp.csr_matrix((scores[rows, columns], columns, indptr), shape=scores.shape)


def most_granular_calls(
    scores: np.ndarray, depths: np.ndarray, *, accepted: float = ACCEPTED, top_k: int = TOP_K
) -> Calls:
    """The deepest terms with a score of at least `accepted`; of equal depth the higher score, then the earlier term.

    So a deep term with little support wins over a shallow one with much.
    """
    rank = np.where(scores >= accepted, -depths, 1)
    chosen = np.lexsort((-scores, rank), axis=1)[:, :top_k]
    found = np.take_along_axis(scores, chosen, axis=1)
    missing = found < accepted
    terms, values = np.where(missing, NO_CALL, chosen), np.where(missing, 1.0, found)
    padding = ((0, 0), (0, top_k - chosen.shape[1]))
    return Calls(np.pad(terms, padding, constant_values=NO_CALL), np.pad(values, padding, constant_values=1.0))


def majority_votes(neighbours: Neighbours, type_codes: np.ndarray, n_types: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each cell the type that most neighbours have, on a tie that of the nearest, and their share."""
    types = type_codes[neighbours.rows]
    n, k = types.shape
    flat = (np.arange(n)[:, None] * n_types + types).ravel()
    counts = np.bincount(flat, minlength=n * n_types).reshape(n, n_types)
    of_neighbours = np.take_along_axis(counts, types, axis=1)
    nearest = np.argmax(of_neighbours, axis=1)[:, None]
    winner = np.take_along_axis(types, nearest, axis=1)[:, 0]
    return winner, np.take_along_axis(of_neighbours, nearest, axis=1)[:, 0] / k


def depths_from_root(ontology: Ontology) -> dict[str, int]:
    """The fewest steps from the root down to each term below it."""
    children: dict[str, list[str]] = {}
    for term in ontology:
        for parent in term.parents:
            children.setdefault(parent, []).append(term.id)
    depths, waiting = {ROOT: 0} if ROOT in ontology else {}, deque([ROOT])
    while waiting:
        now = waiting.popleft()
        for child in children.get(now, ()):
            if child not in depths:
                depths[child] = depths[now] + 1
                waiting.append(child)
    return depths
