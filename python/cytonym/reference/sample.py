"""Which cells of the inputs are taken: a fixed choice that spreads over data sets and donors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse as sp

from ..matrix import BLOCK_ROWS
from .genes import CommonGenes
from .labelled import LabelledInput

CELLS_PER_TYPE = 300  # to learn from, at most
MOST_CELLS = 60_000  # of all types; with more types fewer of each ...
FEWEST_PER_TYPE = 50  # ... but not fewer than that
MOST_VECTORS = 1_000_000  # cells that a sample's cells are compared with
FILE_SHIFT = np.uint64(40)  # bits for a row's number in its file


def cells_per_type(n_types: int) -> int:
    return max(FEWEST_PER_TYPE, min(CELLS_PER_TYPE, MOST_CELLS // max(n_types, 1)))


def row_keys(n_rows: int, file_number: int, seed: int) -> np.ndarray:
    """(n_rows,) uint64, a scrambled number of each row: splitmix64 of the file's place and the row's."""
    with np.errstate(over="ignore"):
        z = np.arange(n_rows, dtype=np.uint64) + (np.uint64(file_number) << FILE_SHIFT)
        z += np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def spread_rows(types: np.ndarray, groups: np.ndarray, keys: np.ndarray, most: int) -> np.ndarray:
    """Rows, rising, of at most `most` cells of each type, the same number from each group while it has any left.

    Within a group the lowest keys come first. A negative type is not taken.
    """
    rows = np.flatnonzero(types >= 0)
    order = rows[np.lexsort((keys[rows], groups[rows], types[rows]))]
    turn = _places_within(np.column_stack([types[order], groups[order]]))
    by_turn = order[np.lexsort((keys[order], turn, types[order]))]
    return np.sort(by_turn[_places_within(types[by_turn, None]) < most])


def _places_within(sorted_runs: np.ndarray) -> np.ndarray:
    """(n,) of each row its place, from 0, in its run of equal rows."""
    n = len(sorted_runs)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    starts = np.concatenate(([True], (sorted_runs[1:] != sorted_runs[:-1]).any(axis=1)))
    first = np.flatnonzero(starts)
    return np.arange(n) - first[np.cumsum(starts) - 1]


def with_lowest_keys(chosen: np.ndarray, types: np.ndarray, keys: np.ndarray, most: int) -> np.ndarray:
    """Rows, rising: the chosen ones and, up to `most` in all, other cells with a type, those of the lowest keys."""
    more = types >= 0
    more[chosen] = False
    others, n_more = np.flatnonzero(more), max(0, most - len(chosen))
    if n_more < len(others):
        others = others[np.argpartition(keys[others], n_more)[:n_more]]
    return np.sort(np.concatenate([chosen, others]))


def read_rows(
    found: LabelledInput, number: int, rows: np.ndarray, genes: CommonGenes
) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
    """Those rows (rising) over the common genes, block by block, with their numbers; other blocks are not read."""
    bounds = np.searchsorted(rows, np.arange(0, found.n_cells + BLOCK_ROWS, BLOCK_ROWS))

    def wanted(start: int, stop: int) -> bool:
        block = start // BLOCK_ROWS
        return bool(bounds[block + 1] > bounds[block])

    for block, cells in enumerate(found.cells(wanted)):
        chosen = rows[bounds[block] : bounds[block + 1]]
        if not len(chosen):
            continue
        start = block * BLOCK_ROWS
        taken = cells[chosen - start]
        if found.unlog is not None:
            taken = found.unlog.counts(taken, str(found.path), chosen)
        yield chosen, genes.take(taken, number)


def gathered(inputs: Sequence[LabelledInput], rows: Sequence[np.ndarray], genes: CommonGenes) -> sp.csr_matrix:
    """The chosen rows of all inputs, one input after the other; int32."""
    parts = [
        cells
        for number, (one, chosen) in enumerate(zip(inputs, rows, strict=True))
        for _, cells in read_rows(one, number, chosen, genes)
    ]
    return sp.vstack([sp.csr_matrix((0, len(genes.features)), dtype=np.int32), *parts], format="csr", dtype=np.int32)
