"""How well each cell, by itself, matches each type: a relative and an absolute score (steps 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

CLIP_LOW, CLIP_HIGH = -5.0, 10.0
SMALLEST_SD = 1e-3
RANK_SPREAD = 0.8
LARGEST_RANKED_COUNT = 127  # larger counts of a cell tie


@dataclass(frozen=True)
class Cells:
    """What the model sees of some cells; columns are the panel's genes and the embedding's genes."""

    totals: np.ndarray  # (n,) int64, UMIs over all features
    markers: sp.csr_matrix  # (n, G) counts, float64
    ranks: sp.csr_matrix  # (n, G) rank scores r of detected markers, same pattern
    genes: sp.csr_matrix  # (n, P) counts, float64

    @property
    def n_cells(self) -> int:
        return len(self.totals)

    def take(self, rows: np.ndarray) -> Cells:
        """Some of the cells."""
        return Cells(self.totals[rows], self.markers[rows], self.ranks[rows], self.genes[rows])


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of y = ln(1 + 1e4 x / N) of each panel gene over a set of cells."""

    mean: np.ndarray
    sd: np.ndarray

    @property
    def zero(self) -> np.ndarray:
        """The clipped z of a gene that the cell has not detected."""
        return np.clip(-self.mean / self.sd, CLIP_LOW, CLIP_HIGH)


def view_cells(counts: sp.csr_matrix, marker_columns: np.ndarray, gene_columns: np.ndarray) -> Cells:
    """The parts of a count block that the model needs."""
    of_markers, of_genes = _entries(counts, marker_columns), _entries(counts, gene_columns)
    markers = with_data(of_markers, counts.data[of_markers.data].astype(np.float64))
    ranks = with_data(of_markers, _rank_scores(counts)[of_markers.data])
    genes = with_data(of_genes, counts.data[of_genes.data].astype(np.float64))
    return Cells(row_totals(counts), markers, ranks, genes)


def row_totals(counts: sp.csr_matrix) -> np.ndarray:
    """(n,) int64 sums of each row."""
    sums = np.concatenate([[0], np.cumsum(counts.data, dtype=np.int64)])
    return np.asarray(sums[counts.indptr[1:]] - sums[counts.indptr[:-1]])


def row_of_entry(matrix: sp.csr_matrix) -> np.ndarray:
    """(nnz,) the row of each stored entry."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def with_data(matrix: sp.csr_matrix, data: np.ndarray) -> sp.csr_matrix:
    """The same pattern with other values."""
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def row_product(rows: sp.csr_matrix | np.ndarray, dense: np.ndarray) -> np.ndarray:
    """rows @ dense, each row summed in the order of its columns, whatever rows are beside it.

    BLAS picks its kernels by shape; scipy's sparse product is a plain loop over rows, so a dense left side goes
    through it as well.
    """
    if not sp.issparse(rows):
        n, width = rows.shape
        indices = np.tile(np.arange(width, dtype=np.int32), n)
        rows = sp.csr_matrix((np.ascontiguousarray(rows).ravel(), indices, np.arange(n + 1) * width), shape=(n, width))
    return np.asarray(rows @ np.ascontiguousarray(dense))


def _entries(counts: sp.csr_matrix, columns: np.ndarray) -> sp.csr_matrix:
    """Where the entries of the chosen columns stand in `counts.data`; columns in that order, with sorted indices."""
    new_column = np.full(counts.shape[1], -1, dtype=np.int32)
    new_column[columns] = np.arange(len(columns), dtype=np.int32)
    indices = new_column[counts.indices]
    kept = np.flatnonzero(indices >= 0)
    starts = np.searchsorted(kept, counts.indptr)
    chosen = sp.csr_matrix((kept, indices[kept], starts), shape=(counts.shape[0], len(columns)))
    chosen.sort_indices()
    return chosen


def _rank_scores(counts: sp.csr_matrix) -> np.ndarray:
    """(nnz,) r = 1 - .8 (mid-rank among the cell's detected genes, highest first, from 0) / n_detected (step 3)."""
    row = row_of_entry(counts)
    value = np.minimum(counts.data, LARGEST_RANKED_COUNT).astype(np.int64)
    width = LARGEST_RANKED_COUNT + 1
    n_with = np.bincount(row * width + value, minlength=counts.shape[0] * width).reshape(-1, width)
    n_with[:, 0] = 0
    n_detected = n_with.sum(axis=1)
    n_above = n_detected[:, None] - np.cumsum(n_with, axis=1)
    mid_rank = n_above + (n_with - 1) / 2
    score = 1 - RANK_SPREAD * mid_rank / np.maximum(n_detected, 1)[:, None]
    return np.asarray(score[row, value])


def learn_moments(cells: Cells) -> Moments:
    """Mean and sd of each panel gene over the cells."""
    y = _log_rates(cells)
    n = max(cells.n_cells, 1)
    mean = np.bincount(y.indices, weights=y.data, minlength=y.shape[1]) / n
    square = np.bincount(y.indices, weights=y.data**2, minlength=y.shape[1]) / n
    return Moments(mean, np.maximum(np.sqrt(np.maximum(square - mean**2, 0)), SMALLEST_SD))


def _log_rates(cells: Cells) -> sp.csr_matrix:
    rate = cells.markers.data * (1e4 / np.maximum(cells.totals, 1))[row_of_entry(cells.markers)]
    return with_data(cells.markers, np.log1p(rate))


def relative_scores(cells: Cells, moments: Moments, weights: np.ndarray) -> np.ndarray:
    """(n, T) A = sum of clipped z over a type's markers, as a constant plus a sum over detected genes (step 2)."""
    y = _log_rates(cells)
    zero = moments.zero
    z = np.clip((y.data - moments.mean[y.indices]) / moments.sd[y.indices], CLIP_LOW, CLIP_HIGH)
    constant = np.sum(zero[:, None] * weights, axis=0)
    return constant + row_product(with_data(y, z - zero[y.indices]), weights)


def absolute_scores(cells: Cells, weights: np.ndarray) -> np.ndarray:
    """(n, T) B = sum of rank scores over a type's detected markers, less the cell's mean over types (step 3)."""
    scores = row_product(cells.ranks, weights)
    return scores - scores.mean(axis=1, keepdims=True)
