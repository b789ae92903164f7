"""How far a cell's best type can be trusted: the probability that its broad, and that its coarse name is right.

A logistic model over the evidence of the cell's cluster (`evidence`) and the cell's own scores. Its weights are few and
the same for every sample; `benchmarks/accuracy/learn.py` fits them on made tissues, from whose table types were taken
out, so that it knows how a type looks whose cells are of a type that the table lacks. Targeted panels have their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from scipy.special import expit

from ..markers import MarkerType
from .chain import MIDDLE, LevelModel, Match, match_cells
from .evidence import FEATURES, SampleFacts, cluster_features, pool_clusters, rates_of_others
from .panel import Panel
from .scores import Cells, row_product

REFERENCE_UMIS, FEWEST_UMIS, MOST_UMIS = 400.0, 30.0, 4000.0
CELL_FEATURES = ("constant", "broad_odds", "coarse_odds", "score", "regression")
LEVELS = ("broad", "coarse")
MOST_ODDS = 7.0


@dataclass(frozen=True)
class Trust:
    """What was learnt of a sample: log odds of T types in K clusters at 400 UMIs, and their change with a decade."""

    broad_of_type: np.ndarray  # (T,) index into the broad types
    broad_rows: np.ndarray  # (B,) their rows of the table
    log_odds: np.ndarray  # (2, K, T) that the broad name is right, and that the coarse is if the broad is
    slopes: np.ndarray  # (2, K, T)
    own_weights: np.ndarray  # (2, 2, C) of the cell's own features, and their change with a decade


@dataclass(frozen=True)
class Pick:
    """The best type of each of n cells, and how probable its broad and its coarse name are."""

    broad: np.ndarray  # (n,) index into the broad types
    best: np.ndarray  # (n,) index into the types
    broad_probability: np.ndarray
    coarse_probability: np.ndarray


@cache
def packaged_weights(kind: str) -> np.ndarray:
    """(2, F + C, 2) for "whole" transcriptomes or a "panel": weights of each level at 400 UMIs, and their slopes."""
    stored = json.loads((files("cytonym") / "data" / "markers" / "trust.json").read_text(encoding="utf-8"))[kind]
    return np.array([[stored[level][name] for name in (*FEATURES, *CELL_FEATURES)] for level in LEVELS], dtype=float)


def broad_rows_of(table: Sequence[MarkerType], rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(T,) the broad type of each row, as an index, and (B,) the rows of the broad types."""
    of_name = {t.broad: i for i, t in reversed(list(enumerate(table))) if not t.coarse}
    distinct, of_type = np.unique([of_name.get(table[row].broad, row) for row in rows], return_inverse=True)
    return of_type, distinct


def sample_features(
    cells: Cells, level: LevelModel, table: Sequence[MarkerType], panel: Panel, gene_of_marker: np.ndarray
) -> tuple[np.ndarray, Match]:
    """(K, T, F) the evidence for each type in each middle cluster, and how the cells match the types."""
    rows = level.rows.tolist()
    broad_of_type, broad_rows = broad_rows_of(table, rows)
    match = match_cells(level, cells)
    best = np.argmax(match.penalised, axis=1)
    facts = SampleFacts(
        rates_of_others(cells, best, len(rows)),
        rates_of_others(cells, broad_of_type[best], len(broad_rows)),
        level.coherence,
        np.bincount(best, minlength=len(rows)) / len(best),
        int(level.present.sum()),
    )
    features = cluster_features(
        pool_clusters(cells, match.cluster, level.centres[MIDDLE], level.n_middle),
        [table[row] for row in rows],
        [table[row] for row in broad_rows.tolist()],
        broad_of_type,
        panel,
        gene_of_marker,
        facts,
        np.bincount(match.cluster, minlength=level.n_middle) / len(best),
        _agreement(match.cluster, broad_of_type[best], (level.n_middle, len(broad_rows))),
    )
    return features, match


def _agreement(cluster: np.ndarray, broad: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(K, B) share of each cluster's cells whose best type is of each broad type."""
    votes = np.zeros(shape)
    np.add.at(votes, (cluster, broad), 1)
    return np.asarray(votes / np.maximum(votes.sum(axis=1, keepdims=True), 1))


def learn_trust(
    cells: Cells,
    level: LevelModel,
    table: Sequence[MarkerType],
    panel: Panel,
    gene_of_marker: np.ndarray,
    *,
    kind: str,
) -> Trust:
    """What the sample's clusters say of each type, weighed by the weights of that kind."""
    features, _ = sample_features(cells, level, table, panel, gene_of_marker)
    weights = packaged_weights(kind)
    of_clusters, own = weights[:, : len(FEATURES)], weights[:, len(FEATURES) :]
    log_odds, slopes = (np.stack([features @ w[:, i] for w in of_clusters]) for i in (0, 1))
    if kind == "panel" and level.present.sum() < 2:
        log_odds -= MOST_ODDS  # the only type left may be one of many that the panel does not measure
    return Trust(*broad_rows_of(table, level.rows.tolist()), log_odds, slopes, own.transpose(0, 2, 1))


def decades(totals: np.ndarray) -> np.ndarray:
    return np.asarray(np.log10(np.clip(totals, FEWEST_UMIS, MOST_UMIS) / REFERENCE_UMIS))


def best_types(match: Match, broad_of_type: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each cell's most probable broad type, the best type within it, and (n, C) the cell's own features of that."""
    cell = np.arange(len(match.posterior))
    summed = row_product(match.posterior, np.eye(int(broad_of_type.max()) + 1)[broad_of_type])
    group = np.argmax(summed, axis=1)
    best = np.argmax(np.where(broad_of_type == group[:, None], match.posterior, -1.0), axis=1)
    own = [
        np.ones(len(cell)),
        _log_odds(summed[cell, group]),
        _log_odds(match.posterior[cell, best]),
        match.smooth[cell, best],
        match.regression[cell, best],
    ]
    return group, best, np.column_stack(own)


def _log_odds(probability: np.ndarray) -> np.ndarray:
    return np.clip(np.log((probability + 1e-4) / (1 - probability + 1e-4)), -MOST_ODDS, MOST_ODDS)


def pick_types(trust: Trust, match: Match, totals: np.ndarray) -> Pick:
    """The best type of each cell and its calibrated probabilities.

    The coarse one is that of the broad name times that of the coarse name where the broad one is right.
    """
    group, best, own = best_types(match, trust.broad_of_type)
    depth = decades(totals)
    probabilities = []
    for log_odds, slopes, (weight, slope) in zip(trust.log_odds, trust.slopes, trust.own_weights, strict=True):
        logits = log_odds[match.cluster, best] + depth * slopes[match.cluster, best]
        own_terms = row_product(own, np.column_stack([weight, slope]))
        probabilities.append(expit(logits + own_terms[:, 0] + depth * own_terms[:, 1]))
    return Pick(group, best, probabilities[0], probabilities[0] * probabilities[1])
