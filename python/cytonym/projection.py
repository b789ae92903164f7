"""Cells in two dimensions: a UMAP that there is already, else a t-SNE of a bounded sample of the cells.

The sample is chosen by row number and the computation is single-threaded, so the same matrix gives the same picture.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from .matrix import CountMatrix
from .types import Projection

MOST_SHOWN = 10_000  # cells, as in Space Ranger's page
SAMPLED = 2000  # cells that are laid out where there is no UMAP
RUN_OF_CELLS = 50  # sampled cells that follow each other, for quick reading
VARIABLE_GENES = 1000
COMPONENTS = 20
STEPS = 500  # of the layout
FEWEST = 16  # cells; below, a layout says nothing


def shown_rows(n_cells: int, most: int = MOST_SHOWN) -> np.ndarray:
    """At most so many rows, evenly spread."""
    return np.unique(np.linspace(0, n_cells - 1, min(n_cells, most)).astype(np.int64))


def given_projection(table: pd.DataFrame, barcodes: np.ndarray, source: str) -> Projection | None:
    """Of Space Ranger's projection.csv (barcode, x, y); None where no barcode is of this sample."""
    rows = pd.Index(barcodes).get_indexer(table.iloc[:, 0].astype(str))
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        return None
    known = known[np.argsort(rows[known], kind="stable")][shown_rows(len(known))]
    return Projection("UMAP", source, rows[known].astype(np.int64), table.iloc[known, 1:3].to_numpy(np.float32))


def computed_projection(matrix: CountMatrix) -> Projection | None:
    """t-SNE over principal components of log-normalised counts of the most variable genes, of sampled cells."""
    rows, counts = _sample(matrix)
    sums = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    kept = sums > 0
    rows, counts, sums = rows[kept], counts[kept].astype(np.float64), sums[kept]
    if len(rows) < FEWEST:
        return None
    scaled = sp.diags(np.median(sums) / sums) @ counts
    scaled.data = np.log1p(scaled.data)
    means = np.asarray(scaled.mean(axis=0)).ravel()
    variances = np.asarray(scaled.power(2).mean(axis=0)).ravel() - means**2
    genes = np.sort(np.argsort(-variances, kind="stable")[:VARIABLE_GENES])
    values = scaled.tocsc()[:, genes].toarray() - means[genes]
    from sklearn.manifold import TSNE  # heavy to import

    with threadpool_limits(1):
        _, vectors = np.linalg.eigh(values.T @ values)
        components = values @ vectors[:, ::-1][:, : min(COMPONENTS, len(rows) - 1)]
        spread = components[:, :2].std()
        start = components[:, :2] / (spread or 1.0) * 1e-4
        perplexity = min(30.0, (len(rows) - 1) / 3)
        layout = TSNE(
            init=start.astype(np.float32),
            perplexity=perplexity,
            learning_rate="auto",
            max_iter=STEPS,
            n_jobs=1,
            random_state=0,
        )
        xy = layout.fit_transform(components.astype(np.float32))
    some = "" if len(rows) == matrix.n_cells else f" of {len(rows):,} of {matrix.n_cells:,} cells"
    return Projection("t-SNE", f"computed here{some}, from {components.shape[1]} principal components", rows, xy)


def _sample(matrix: CountMatrix) -> tuple[np.ndarray, sp.csr_matrix]:
    """Short runs of cells, evenly spread over the file; all cells where there are few."""
    if matrix.n_cells <= SAMPLED:
        starts, length = np.array([0]), matrix.n_cells
    else:
        length = RUN_OF_CELLS
        starts = np.linspace(0, matrix.n_cells - length, SAMPLED // length).astype(np.int64)
    parts, rows = [], []
    last = 0
    for start in starts.tolist():
        first = max(start, last)
        last = start + length
        parts.append(matrix.rows(matrix.start + first, matrix.start + last).counts())
        rows.append(np.arange(first, last))
    return np.concatenate(rows), sp.vstack(parts, format="csr")
