"""The cells that a model learns from: at most 16,384, spread evenly, chosen by their row alone."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..matrix import CountMatrix
from .scores import row_totals

SAMPLE_CELLS = 16_384


def read_sample(matrix: CountMatrix, most: int = SAMPLE_CELLS) -> sp.csr_matrix:
    """Counts of the first cell with any counts of each of `most` equal stretches of rows; of all such cells if fewer.

    One pass over the blocks; only the chosen rows are kept.
    """
    taken = -1
    parts = []
    for block in matrix.blocks():
        counts = block.counts()
        rows = np.arange(block.start, block.stop, dtype=np.int64) - matrix.start
        stretch = rows * most // matrix.n_cells if matrix.n_cells > most else rows
        counted = np.flatnonzero((row_totals(counts) > 0) & (stretch > taken))
        first = counted[np.unique(stretch[counted], return_index=True)[1]]
        if len(first):
            taken = int(stretch[first[-1]])
            parts.append(counts[first])
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((0, matrix.n_features), dtype=np.int32)
