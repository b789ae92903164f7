"""A reference of averages as cells drawn from them, so that learning need not know what it was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from ..matrix import Features
from .training import ReferenceType, TrainingSet

CELLS_PER_TYPE = 40
GENE_NOISE = 0.7  # sd of the log of a cell's rate of a gene around its type's average
MEDIAN_UMIS, SPREAD_UMIS = 3000.0, 0.5  # of a drawn cell; the spread is the sd of the log


def drawn_cells(averages: np.ndarray, n_cells: np.ndarray, *, seed: int = 0) -> sp.csr_matrix:
    """`n_cells[i]` cells of each row of `averages` (linear, any scale), one row after the other; int32 counts.

    Poisson counts around log-normal rates, so that no gene is as steady as in an average.
    """
    parts = []
    for row, average in enumerate(np.asarray(averages, dtype=np.float64)):
        rng = np.random.default_rng([seed, row])
        genes = np.flatnonzero(average > 0)
        shape = (int(n_cells[row]), len(genes))
        rates = average[genes] * np.exp(rng.normal(0, GENE_NOISE, shape))
        umis = MEDIAN_UMIS * np.exp(rng.normal(0, SPREAD_UMIS, (shape[0], 1)))
        drawn = sp.csr_matrix(rng.poisson(rates / np.maximum(rates.sum(axis=1, keepdims=True), 1e-300) * umis))
        cells = (drawn.data.astype(np.int32), genes[drawn.indices], drawn.indptr)
        parts.append(sp.csr_matrix(cells, shape=(shape[0], len(average))))
    return sp.vstack(parts, format="csr")


def drawn_training_set(
    averages: np.ndarray,
    row_types: Sequence[int] | np.ndarray,
    features: Features,
    types: Sequence[ReferenceType],
    *,
    species: str = "human",
    cells_per_type: int = CELLS_PER_TYPE,
    seed: int = 0,
) -> TrainingSet:
    """Cells drawn from averages, rows x genes; `row_types` says which of `types` each row is an average of.

    A type with several rows (of several tissues) gets its cells from all of them, evenly, and at least five of each.
    """
    of_row = np.asarray(row_types, dtype=np.int32)
    rows_of_type = np.bincount(of_row, minlength=len(types))
    n_cells = np.maximum(-(-cells_per_type // rows_of_type[of_row]), 5)
    rows = np.repeat(np.arange(len(of_row), dtype=np.int32), n_cells)
    counts = drawn_cells(averages, n_cells, seed=seed)
    return TrainingSet(features, counts, tuple(types), of_row[rows], rows, species, drawn=True)
