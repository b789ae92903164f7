"""What a cell's neighbours are, summed up by type and data set, as Cellarium's summary statistics have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 500  # of each cell, or all reference cells where there are fewer
NO_ROW = -1
STEPS = 10_000  # of a distance of 1: distances are kept to four decimals
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Neighbours:
    """The nearest reference cells of n cells, nearest first; ties in the order of the reference, if found exactly."""

    distances: np.ndarray  # (n, k) float32, 1 - cosine
    rows: np.ndarray  # (n, k) int32, rows of the reference


@dataclass(frozen=True)
class Evidence:
    """The neighbours of n cells: of each cell M matches, one for each type, and of each match D data sets.

    Matches of a cell, and data sets of a match, with the most neighbours come first; on a tie, with the nearest.
    Distances are in steps of 0.0001.
    """

    n_matches: np.ndarray  # (n,) int32
    type_codes: np.ndarray  # (M,) int32
    counts: np.ndarray  # (M,) int32
    distances: np.ndarray  # (M, 5) uint16: smallest, quartiles, largest
    n_datasets: np.ndarray  # (M,) int32
    dataset_codes: np.ndarray  # (D,) int32
    dataset_counts: np.ndarray  # (D,) int32
    dataset_distances: np.ndarray  # (D, 4) uint16: smallest, largest, median, mean
    rows: np.ndarray | None = None  # (n, k) int32 of the neighbours themselves, if wanted; NO_ROW in a cell without
    row_distances: np.ndarray | None = None  # (n, k) float32; NaN in a cell without

    @property
    def n_cells(self) -> int:
        return len(self.n_matches)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def concatenate(cls, parts: Sequence[Evidence]) -> Evidence:
        """The evidence on the cells of all parts, in their order."""
        return cls(**{name: np.concatenate([part.arrays()[name] for part in parts]) for name in parts[0].arrays()})


@dataclass(frozen=True)
class _Groups:
    """Neighbours of one key of one cell, in the order that Evidence has."""

    cells: np.ndarray
    keys: np.ndarray
    counts: np.ndarray
    first_places: np.ndarray  # of the nearest, among the cell's neighbours
    starts: np.ndarray  # in `distances`
    distances: np.ndarray  # all distances, those of a group side by side, rising

    def quantile(self, share: float) -> np.ndarray:
        """By linear interpolation, as numpy's percentiles."""
        place = share * (self.counts - 1)
        below = np.floor(place).astype(np.int64)
        low = self.distances[self.starts + below]
        high = self.distances[self.starts + np.minimum(below + 1, self.counts - 1)]
        return np.asarray(low + (place - below) * (high - low))

    def mean(self) -> np.ndarray:
        return np.add.reduceat(self.distances, self.starts) / self.counts if len(self.starts) else self.distances


def summarise(
    neighbours: Neighbours,
    type_codes: np.ndarray,
    dataset_codes: np.ndarray,
    *,
    known: np.ndarray | None = None,
    keep_neighbours: bool = False,
) -> Evidence:
    """The evidence on each cell; none on cells that are not `known` (bool), whose neighbours mean nothing.

    `type_codes` and `dataset_codes` are those of the reference cells.
    """
    is_known = np.ones(len(neighbours.rows), dtype=bool) if known is None else known
    cells = np.flatnonzero(is_known)
    rows, distances = neighbours.rows[cells], neighbours.distances[cells].astype(np.float64)
    n_datasets = int(dataset_codes.max()) + 1
    types = type_codes[rows].astype(np.int64)
    by_type = _grouped(types, distances)
    by_both = _grouped(types * n_datasets + dataset_codes[rows], distances)
    order = np.lexsort((by_type.first_places, -by_type.counts, by_type.cells))
    n_types = int(type_codes.max()) + 1
    rank = np.empty((len(cells), n_types), dtype=np.int64)
    rank[by_type.cells[order], by_type.keys[order]] = np.arange(len(order))
    match = rank[by_both.cells, by_both.keys // n_datasets]
    order_of_both = np.lexsort((by_both.first_places, -by_both.counts, match))
    of_types = [by_type.quantile(share) for share in (0.0, *QUARTILES, 1.0)]
    of_both = [by_both.quantile(0.0), by_both.quantile(1.0), by_both.quantile(0.5), by_both.mean()]
    n_matches = np.zeros(len(neighbours.rows), dtype=np.int32)
    n_matches[cells] = np.bincount(by_type.cells, minlength=len(cells))
    return Evidence(
        n_matches=n_matches,
        type_codes=by_type.keys[order].astype(np.int32),
        counts=by_type.counts[order].astype(np.int32),
        distances=_steps(of_types)[order],
        n_datasets=np.bincount(match, minlength=len(order)).astype(np.int32),
        dataset_codes=(by_both.keys % n_datasets)[order_of_both].astype(np.int32),
        dataset_counts=by_both.counts[order_of_both].astype(np.int32),
        dataset_distances=_steps(of_both)[order_of_both],
        rows=_where(is_known, neighbours.rows, NO_ROW) if keep_neighbours else None,
        row_distances=_where(is_known, neighbours.distances, np.nan) if keep_neighbours else None,
    )


def _grouped(keys: np.ndarray, distances: np.ndarray) -> _Groups:
    """Neighbours with the same key, by cell and key."""
    n, k = keys.shape
    narrow = keys.astype(np.int16) if keys.max(initial=0) < 2**15 else keys  # sorted by radix, many times faster
    order = np.argsort(narrow, axis=1, kind="stable")
    in_order = np.take_along_axis(keys, order, axis=1)
    begins = np.ones((n, k), dtype=bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    starts = np.flatnonzero(begins)
    return _Groups(
        cells=starts // k,
        keys=in_order.ravel()[starts],
        counts=np.diff(starts, append=n * k),
        first_places=order.ravel()[starts],
        starts=starts,
        distances=np.take_along_axis(distances, order, axis=1).ravel(),
    )


def _where(known: np.ndarray, values: np.ndarray, otherwise: float) -> np.ndarray:
    return np.where(known[:, None], values, values.dtype.type(otherwise))


def _steps(distances: Sequence[np.ndarray]) -> np.ndarray:
    return np.rint(np.clip(np.stack(distances, axis=1), 0, 2) * STEPS).astype(np.uint16)
