"""Counts out of values that were scaled per cell, and perhaps logged, afterwards: exact, or not at all.

Counts times a factor of the cell, f, have the smallest value m f with a small count m, nearly always 1. So all values
of a cell over its smallest are whole numbers, or become so times m. Values that were changed in any other way
(corrected for ambient RNA, rounded, z-scored) do not pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..errors import InputError

SMALLEST_COUNTS = (1, 2, 3, 4)  # tried for the smallest value of a cell
TOLERANCE, RELATIVE_TOLERANCE = 2e-3, 2e-5  # of a whole number; float32 logs lose about 1e-6 of a value
LARGEST_LOG = 30.0


def _exponential(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.expm1(values))


def _power_of_two(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp2(values) - 1)


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


@dataclass(frozen=True)
class Unlog:
    """One way back to counts."""

    name: str  # what the values are, for people
    inverse: Callable[[np.ndarray], np.ndarray]

    def counts(self, cells: sp.csr_matrix, where: str, rows: np.ndarray) -> sp.csr_matrix:
        """The cells' counts, int32; InputError that names the first cell whose values do not go back to counts."""
        found, exact = _counts(self.inverse, cells)
        if not exact.all():
            row = int(rows[np.argmin(exact)]) + 1
            raise InputError(f"{where}: the values of cell {row} are no {self.name}, unlike those before it. {HOW}")
        return found


HOW = "Save the raw counts in X, raw/X or layers/counts and build again."
WAYS = (
    Unlog("scaled counts", _unchanged),
    Unlog("log1p of scaled counts", _exponential),
    Unlog("log2(1 + scaled counts)", _power_of_two),
)


def unlog_of(cells: sp.csr_matrix | None) -> Unlog | None:
    """The way back to counts that all cells of this block take; None if there is none, or nothing to tell it by."""
    if cells is None or not cells.nnz:
        return None
    for way in WAYS:
        if way.inverse is not _unchanged and cells.data.max() > LARGEST_LOG:
            continue
        counts, exact = _counts(way.inverse, cells)
        if exact.all() and counts.data.max() > 1:
            return way
    return None


def _counts(inverse: Callable[[np.ndarray], np.ndarray], cells: sp.csr_matrix) -> tuple[sp.csr_matrix, np.ndarray]:
    """Counts, and of each cell whether they are exact."""
    per_cell = np.diff(cells.indptr)
    filled = np.flatnonzero(per_cell)
    values = inverse(cells.data.astype(np.float64))
    smallest = np.minimum.reduceat(values, cells.indptr[filled]) if len(filled) else np.empty(0)
    ratios = values / np.repeat(smallest, per_cell[filled])
    counts = np.zeros(len(values), dtype=np.int32)
    exact = np.ones(cells.shape[0], dtype=bool)
    exact[filled] = False
    for smallest_count in SMALLEST_COUNTS:
        scaled = ratios * smallest_count
        whole = np.rint(scaled)
        off = np.abs(scaled - whole) > TOLERANCE + RELATIVE_TOLERANCE * scaled
        good = np.zeros(cells.shape[0], dtype=bool)
        good[filled] = ~np.logical_or.reduceat(off, cells.indptr[filled])
        good &= ~exact
        entries = np.repeat(good, per_cell)
        counts[entries] = whole[entries].astype(np.int32)
        exact |= good
    return sp.csr_matrix((counts, cells.indices, cells.indptr), shape=cells.shape), exact
