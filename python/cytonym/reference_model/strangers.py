"""Cells of the reference made to look as if another study had measured them (1.4, step 6)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

SPILL_OVER = 0.1  # mean share of a cell's UMIs that come from another cell
GENE_EFFECT = 0.5  # sd of the log, of genes between studies
TYPE_EFFECT = 0.3  # the same, of genes within a type
LOST_GENES = 0.1  # share of genes that another study does not measure


def thinned(counts: sp.csr_matrix, umis: float, spread: float, rng: np.random.Generator) -> sp.csr_matrix:
    """The cells thinned to about that many UMIs (log-normal); a cell that has fewer stays as it is."""
    wanted = umis * np.exp(rng.normal(0, spread, counts.shape[0]))
    return _kept(counts, np.repeat(_rates(counts, wanted), np.diff(counts.indptr)), rng)


def strangers(
    counts: sp.csr_matrix, codes: np.ndarray, umis: float, spread: float, rng: np.random.Generator
) -> sp.csr_matrix:
    """The cells as another study might see them at that depth: spill-over, gene effects, lost genes, fewer UMIs."""
    n, n_genes = counts.shape
    share, others, totals = rng.beta(1, 1 / SPILL_OVER - 1, n), rng.permutation(n), _totals(counts)
    foreign = np.minimum(share * totals / np.maximum(totals[others], 1), 1)
    own = _kept(counts, np.repeat(1 - share, np.diff(counts.indptr)), rng)
    mixed = (own + _kept(counts[others], np.repeat(foreign, np.diff(counts.indptr)[others]), rng)).tocsr()
    effects = np.exp(rng.normal(0, GENE_EFFECT, n_genes)) * (rng.random(n_genes) >= LOST_GENES)
    of_types = np.exp(rng.normal(0, TYPE_EFFECT, (int(codes.max()) + 1, n_genes)).astype(np.float32))
    rows = np.repeat(np.arange(n), np.diff(mixed.indptr))
    factors = effects[mixed.indices] * of_types[codes[rows], mixed.indices]
    wanted = umis * np.exp(rng.normal(0, spread, n))
    return _kept(mixed, factors * _rates(mixed, wanted)[rows], rng)


def _kept(counts: sp.csr_matrix, rates: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
    """Each count times its rate, in the mean: every UMI is kept or not, or doubled where the rate is above 1."""
    data = counts.data.astype(np.int64)
    whole = np.floor(rates).astype(np.int64)
    kept = data * whole + rng.binomial(data, rates - whole)
    result = sp.csr_matrix((kept.astype(np.float32), counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
    result.eliminate_zeros()
    return result


def _rates(counts: sp.csr_matrix, wanted: np.ndarray) -> np.ndarray:
    return np.minimum(1, wanted / np.maximum(_totals(counts), 1))


def _totals(counts: sp.csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
