"""Where cells lie among each other: principal components and clusters at three scales (step 5)."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..matrix import Features
from .scores import Cells, row_of_entry, row_product, with_data

N_COMPONENTS = 30
N_DISPERSED_GENES = 2000
N_POWER_ITERATIONS = 6
MIN_CELLS_OF_GENE = 5
SCALES = ((12, 40, 250), (40, 30, 120), (120, 20, 40))  # K = clip(n / first, second, third), at most n / 4
TECHNICAL_GENE = re.compile(r"^(MT-|MRP[LS]\d|RP[LS]\d|RPSA|RPLP\d|MALAT1|MTRNR)")
MOST_RESIDUAL = 10.0
SHORTEST = 1e-9
SEED = 20250101


@dataclass(frozen=True)
class Embedding:
    """Principal axes of Pearson residuals: a cell's components are its direction along them, of length 1."""

    rates: np.ndarray  # (P,) share of each gene in the UMIs of the sample
    axes: np.ndarray  # (P, C), each shrunk by how far it stands out of the noise
    centre: np.ndarray  # (C,)

    def components(self, cells: Cells) -> np.ndarray:
        """(n, C) principal components of each cell, on the unit sphere."""
        components = row_product(residuals(cells, self.rates), self.axes) - self.centre
        return components / np.maximum(np.sqrt(np.sum(components**2, axis=1, keepdims=True)), SHORTEST)


def residuals(cells: Cells, rates: np.ndarray) -> sp.csr_matrix:
    """(n, P) x / sqrt(N rate), at most MOST_RESIDUAL: Pearson residuals (Lause 2021) before they are centred.

    A rare gene's single count would have them all by itself without the limit.
    """
    genes = cells.genes
    expected = rates[genes.indices] * cells.totals[row_of_entry(genes)]
    return with_data(genes, np.minimum(genes.data / np.sqrt(expected), MOST_RESIDUAL))


def choose_genes(
    counts: sp.csr_matrix, totals: np.ndarray, features: Features, panel_columns: np.ndarray
) -> np.ndarray:
    """Columns of the genes that span the embedding, in order of feature id.

    The genes most dispersed for their mean, and all panel genes, seen in at least five cells (in any, below 50 cells).
    """
    depth = np.median(totals) / np.maximum(totals, 1)
    scaled = counts.data * depth[row_of_entry(counts)]
    n_genes, n = counts.shape[1], max(counts.shape[0], 1)
    n_seen = np.bincount(counts.indices, minlength=n_genes)
    mean = np.bincount(counts.indices, weights=scaled, minlength=n_genes) / n
    variance = np.bincount(counts.indices, weights=scaled**2, minlength=n_genes) / n - mean**2
    seen = n_seen >= (MIN_CELLS_OF_GENE if n >= 50 else 1)
    biological = np.array([TECHNICAL_GENE.match(str(name).upper()) is None for name in features.names])
    usable = np.flatnonzero(seen & biological)
    excess = _excess_dispersion(mean[usable], variance[usable])
    by_excess = np.lexsort((features.ids[usable], -excess))
    chosen = np.zeros(n_genes, dtype=bool)
    chosen[usable[by_excess[:N_DISPERSED_GENES]]] = True
    chosen[panel_columns[seen[panel_columns]]] = True
    columns = np.flatnonzero(chosen)
    return columns[np.argsort(features.ids[columns], kind="stable")]


def _excess_dispersion(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """log(variance / mean) less the median over genes of similar mean (20 bins of equal size)."""
    log_ratio = np.log(np.maximum(variance, 1e-12) / np.maximum(mean, 1e-12))
    rank = np.argsort(np.argsort(mean, kind="stable"), kind="stable")
    bins = rank * 20 // max(len(mean), 1)
    medians = np.array([np.median(log_ratio[bins == b]) if np.any(bins == b) else 0.0 for b in range(20)])
    return np.asarray(log_ratio - medians[bins])


def learn_embedding(cells: Cells) -> Embedding:
    """Leading principal axes by subspace iteration (Halko 2011, algorithm 4.4), without making the data dense.

    Component c is scaled by sqrt(1 - (s_noise / s_c)^2), with s_noise the first singular value that is left out: in
    sparse cells most components are little but noise.
    """
    sums = np.asarray(cells.genes.sum(axis=0)).ravel()
    rates = np.maximum(sums, 1) / max(int(cells.totals.sum()), 1)
    data = residuals(cells, rates)
    n, n_genes = data.shape
    width = min(n, n_genes, N_COMPONENTS + 10)
    mean = np.asarray(data.sum(axis=0)).ravel() / max(n, 1)
    transposed = data.T.tocsr()
    basis = np.random.default_rng(SEED).standard_normal((n_genes, width))
    for _ in range(N_POWER_ITERATIONS):
        left = row_product(data, basis) - mean @ basis
        left = np.linalg.qr(left)[0]
        basis = np.linalg.qr(row_product(transposed, left) - np.outer(mean, left.sum(axis=0)))[0]
    projected = row_product(data, basis) - mean @ basis
    _, sizes, rotation = np.linalg.svd(projected, full_matrices=False)
    kept = min(N_COMPONENTS, int(np.sum(sizes > 1e-6 * max(float(sizes[0]), 1e-6)))) if len(sizes) else 0
    axes = basis @ rotation[:kept].T
    axes *= np.where(axes[np.argmax(np.abs(axes), axis=0), np.arange(kept)] < 0, -1.0, 1.0)
    noise = sizes[kept] if len(sizes) > kept else 0.0
    axes *= np.sqrt(1 - (noise / sizes[:kept]) ** 2)
    return Embedding(rates, axes, mean @ axes)


def cluster_centres(components: np.ndarray) -> list[np.ndarray]:
    """k-means centres of the cells at three scales, finest first; one centre where there are few cells."""
    n = len(components)
    centres = []
    from sklearn.cluster import KMeans  # a second to import, and only fit needs it
    from sklearn.exceptions import ConvergenceWarning

    for cells_each, fewest, most in SCALES:
        k = max(1, min(int(np.clip(n // cells_each, fewest, most)), n // 4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct cells than clusters: copies
            means = KMeans(k, n_init=1, max_iter=60, random_state=SEED).fit(_not_empty(components))
        centres.append(means.cluster_centers_.astype(np.float64))
    return centres


def _not_empty(components: np.ndarray) -> np.ndarray:
    return components if components.shape[1] else np.zeros((len(components), 1))


def nearest_centres(components: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n,) index of the nearest centre; the first on a tie."""
    distance = np.sum(centres**2, axis=1) - 2 * row_product(_not_empty(components), centres.T)
    return np.argmin(distance, axis=1)
