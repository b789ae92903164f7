"""Multinomial logistic regression on log counts of unit length, learnt at several depths (1.4, D).

The unit length is what makes the features of a shallow cell comparable with those of a deep one.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .genes import ELSEWHERE, take_genes
from .strangers import thinned

SCALED_TOTAL = 1e4
N_VARIABLE_GENES = 4000
THINNED_UMIS = (1000.0, 400.0, 150.0, 60.0)
DEPTH_SPREAD = 0.4  # sd of the log of a copy's UMIs
MOST_ROWS, MOST_WORK = 40_000, 6_000_000  # cells and their thinned copies; and these times types
MOST_STEPS = 60
STRENGTH = 1.0  # C: inverse of the penalty on squared weights


@dataclass(frozen=True)
class LinearModel:
    """Weights of some of a model's genes."""

    genes: np.ndarray  # (V,) int32, rising: genes of the model
    weights: np.ndarray  # (V, K) float32
    intercepts: np.ndarray  # (K,) float32

    def score(self, counts: sp.csr_matrix, platform: np.ndarray) -> np.ndarray:
        """(n, K) float32 scores of cells x genes; each row by itself, the intercepts without counts."""
        return linear_features(counts, self.genes, platform) @ self.weights + self.intercepts

    def restricted(self, genes: np.ndarray, n_genes: int) -> LinearModel:
        """For a model that has these of its `n_genes` genes alone, rising."""
        places = np.full(n_genes, ELSEWHERE, dtype=np.int32)
        places[genes] = np.arange(len(genes), dtype=np.int32)
        kept = np.flatnonzero(places[self.genes] != ELSEWHERE)
        return LinearModel(places[self.genes[kept]], self.weights[kept], self.intercepts)


def linear_features(counts: sp.csr_matrix, genes: np.ndarray, platform: np.ndarray) -> sp.csr_matrix:
    """(n, V) float32 of unit length: log(1 + counts per 10,000) of these genes, the platform effect divided out."""
    corrected = sp.csr_matrix(
        (counts.data * np.exp(-platform).astype(np.float32)[counts.indices], counts.indices, counts.indptr),
        shape=counts.shape,
    )
    totals = corrected @ np.ones(counts.shape[1], dtype=np.float32)
    places = np.full(counts.shape[1], ELSEWHERE, dtype=np.int32)
    places[genes] = np.arange(len(genes), dtype=np.int32)
    features = take_genes(corrected, places, len(genes))
    per_row = np.diff(features.indptr)
    features.data = np.log1p(features.data * np.repeat(_inverse(totals) * np.float32(SCALED_TOTAL), per_row))
    squares = sp.csr_matrix((features.data**2, features.indices, features.indptr), shape=features.shape)
    lengths = np.sqrt(squares @ np.ones(len(genes), dtype=np.float32))
    features.data *= np.repeat(_inverse(lengths), per_row)
    return features


def variable_genes(counts: sp.csr_matrix, most: int = N_VARIABLE_GENES) -> np.ndarray:
    """(V,) int32, rising: the genes whose log counts vary most between cells, the first on a tie."""
    everything = np.arange(counts.shape[1], dtype=np.int32)
    values = linear_features(counts, everything, np.zeros(counts.shape[1])).astype(np.float64)
    squares = values.copy()
    squares.data **= 2
    n = max(counts.shape[0], 1)
    variance = np.asarray(squares.sum(axis=0)).ravel() / n - (np.asarray(values.sum(axis=0)).ravel() / n) ** 2
    return np.sort(np.argsort(-variance, kind="stable")[:most]).astype(np.int32)


def learn_linear(counts: sp.csr_matrix, codes: np.ndarray, n_types: int, rng: np.random.Generator) -> LinearModel:
    """Types weigh alike; of a large reference as many cells of each type as bound the work."""
    from sklearn.linear_model import LogisticRegression

    genes = variable_genes(counts)
    rows = spread_rows(codes, min(MOST_ROWS, MOST_WORK // n_types) // (1 + len(THINNED_UMIS)))
    cells, of_cells = counts[rows], codes[rows]
    copies = [cells, *(thinned(cells, umis, DEPTH_SPREAD, rng) for umis in THINNED_UMIS)]
    no_platform = np.zeros(counts.shape[1])
    values = sp.vstack([linear_features(copy, genes, no_platform) for copy in copies], format="csr")
    labels = np.tile(of_cells, len(copies))
    present, sizes = np.unique(labels, return_counts=True)
    balance = len(labels) / (len(present) * sizes)
    fit = LogisticRegression(C=STRENGTH, max_iter=MOST_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the steps are bounded on purpose
        fit.fit(values, labels, sample_weight=balance[np.searchsorted(present, labels)].astype(np.float32))
    coefficients, intercepts = fit.coef_, fit.intercept_
    if len(present) == 2:  # scikit-learn then gives the second class's alone
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights = np.zeros((len(genes), n_types), dtype=np.float32)
    weights[:, present] = coefficients.T
    offsets = np.full(n_types, intercepts.min(), dtype=np.float32)
    offsets[present] = intercepts
    return LinearModel(genes, weights, offsets)


def spread_rows(codes: np.ndarray, most: int) -> np.ndarray:
    """Rows, rising, of at most `most` cells: of each type the same number where it has as many, evenly spaced."""
    sizes = np.bincount(codes)
    limit = int(sizes.max())
    while limit > 5 and np.minimum(sizes, limit).sum() > most:
        limit = max(5, limit * 9 // 10)
    taken = []
    for code in np.flatnonzero(sizes).tolist():
        rows = np.flatnonzero(codes == code)
        taken.append(rows[np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(np.int64)])
    return np.sort(np.concatenate(taken))


def _inverse(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, 1 / np.where(values > 0, values, 1), 0).astype(np.float32)
