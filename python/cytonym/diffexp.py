"""Each group of cells against all other cells, gene by gene: mean counts, fold changes and sSeq p-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import sseq
from .errors import InputError
from .matrix import CountMatrix
from .parallel import map_in_order
from .progress import track
from .types import DiffExp


def groups_by_barcode(barcodes: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """The coarse label of each barcode; None for a barcode that the table lacks.

    Raises InputError if the table cannot be joined: no such column, a repeated barcode, or none in common.
    """
    missing = [name for name in ("barcode", "coarse_cell_type") if name not in table]
    if missing:
        raise InputError(f"cell_types.csv lacks the column {', '.join(missing)}.")
    labels = pd.Series(table["coarse_cell_type"].to_numpy(dtype=object), index=table["barcode"].to_numpy(dtype=object))
    if not labels.index.is_unique:
        repeated = labels.index[labels.index.duplicated()][0]
        raise InputError(f"cell_types.csv names the barcode {repeated} more than once.")
    rows = labels.index.get_indexer(pd.Index(barcodes.astype(object)))
    if len(barcodes) and (rows < 0).all():
        raise InputError("cell_types.csv names none of the matrix's barcodes: it belongs to another matrix.")
    groups = np.full(len(barcodes), None, dtype=object)
    groups[rows >= 0] = labels.to_numpy()[rows[rows >= 0]]
    return groups


def diffexp(matrix: CountMatrix, groups: np.ndarray, umi_counts: np.ndarray, *, threads: int = 1) -> DiffExp | None:
    """Every group against the cells of all other groups; None with fewer than two groups.

    `groups` holds a label for each row. Cells with "" or None take no part in anything, the sample's parameters
    included. `umi_counts` are the rows' sums. The counts are read once, block by block; threads change no bit.
    """
    codes, names = _group_codes(groups)
    if len(names) < 2:
        return None
    taking_part = codes >= 0
    median = _median_umis(umi_counts[taking_part])
    sums = _sum_up(matrix, codes, len(names), np.where(taking_part, umi_counts, 0) / median, threads)
    parameters = sseq.gene_parameters(sums.moments)
    inside = sums.counts.astype(np.float64)
    outside = inside.sum(axis=0) - inside
    group_umis = np.bincount(codes[taking_part], weights=umi_counts[taking_part])  # whole numbers: exact in any order
    group_sizes, others = group_umis / median, (group_umis.sum() - group_umis) / median

    def adjusted_p(code: int) -> np.ndarray:
        p = sseq.p_values(inside[code], outside[code], group_sizes[code], others[code], parameters)
        return sseq.adjusted(p, parameters.used)

    fold_changes = np.log2((1 + inside.T) / (1 + group_sizes)) - np.log2((1 + outside.T) / (1 + others))
    return DiffExp(
        feature_ids=matrix.features.ids,
        feature_names=matrix.features.names,
        groups=names,
        mean_counts=np.divide(inside.T, group_sizes, out=np.zeros(inside.T.shape), where=group_sizes > 0),
        log2_fold_changes=fold_changes,
        adjusted_p_values=np.stack(list(map_in_order(adjusted_p, range(len(names)), threads)), axis=1),
    )


def _group_codes(groups: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each cell's position among the sorted labels, -1 for a cell without one, and the labels."""
    codes, found = pd.factorize(np.asarray(groups, dtype=object))
    names = tuple(sorted({str(name) for name in found} - {""}, key=str.encode))
    position = {name: i for i, name in enumerate(names)}
    renumbered = np.array([*(position.get(str(name), -1) for name in found), -1])
    return renumbered[codes], names


def _median_umis(umi_counts: np.ndarray) -> float:
    """What a cell's UMIs are divided by to give its size factor; where over half the cells are empty, of the others."""
    counted = umi_counts[umi_counts > 0]
    return float(np.median(umi_counts)) or (float(np.median(counted)) if len(counted) else 1.0)


@dataclass(frozen=True)
class _Sums:
    moments: sseq.Moments
    counts: np.ndarray  # groups x genes, int64


def _sum_up(matrix: CountMatrix, codes: np.ndarray, n_groups: int, sizes: np.ndarray, threads: int) -> _Sums:
    """One pass over the counts; blocks are added in their order, so that the sums are the same for any threads."""
    inverse = np.divide(1.0, sizes, out=np.zeros(len(sizes)), where=sizes > 0)

    def block_sums(block: CountMatrix) -> tuple[int, np.ndarray, np.ndarray, sp.csr_matrix]:
        cells = block.counts()
        rows = slice(block.start - matrix.start, block.stop - matrix.start)
        of_block, factors = codes[rows], inverse[rows]
        grouped = np.flatnonzero(of_block >= 0)
        ones, shape = np.ones(len(grouped), dtype=np.int64), (n_groups, block.n_cells)
        membership = sp.csr_matrix((ones, (of_block[grouped], grouped)), shape=shape)
        values = cells.data.astype(np.float64)
        squares = sp.csr_matrix((values**2, cells.indices, cells.indptr), shape=cells.shape)
        values_of = sp.csr_matrix((values, cells.indices, cells.indptr), shape=cells.shape)
        return block.n_cells, values_of.T @ factors, squares.T @ factors**2, membership @ cells

    counts = np.zeros((n_groups, matrix.n_features), dtype=np.int64)
    sum_y, sum_y2 = np.zeros(matrix.n_features), np.zeros(matrix.n_features)
    parts = map_in_order(block_sums, matrix.blocks(), threads)
    for y, y2, of_groups in track(((part[1:], part[0]) for part in parts), total=matrix.n_cells, label="diffexp"):
        sum_y += y
        sum_y2 += y2
        counts += of_groups.toarray()
    n_cells = int(np.count_nonzero(codes >= 0))
    return _Sums(sseq.Moments(n_cells, sum_y, sum_y2, float(inverse.sum())), counts)
