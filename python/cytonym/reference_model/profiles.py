"""Negative binomial likelihood of a cell under each type's profile, as a ratio to the sample's background (1.4, A).

Counts of gene g in a cell of n UMIs have mean n mu_g and variance mean + mean^2 (dispersion 1). n is rounded to half
octaves, so that each depth needs one sparse product with one matrix, which is built for the genes at hand and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

PRIOR_UMIS = 1e4  # of a parent's profile in each type's
SMALLEST_SHARE = 1e-9
AMBIENT = 0.1  # of each cell comes from the background
MEAN_IN_BACKGROUND = 0.1
PLATFORM_TRUST, LARGEST_PLATFORM, PLATFORM_UMIS = 0.7, 3.0, 5.0
BACKGROUND_UMIS = 1e4  # of the model's own mean in a sample's background
N_DEPTHS = 41  # half octaves, up to 2^20 UMIs


def type_profiles(counts: sp.csr_matrix, codes: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """(K, G) float64 shares of each type's UMIs, shrunk to those of its parent, and these to the mean of all types.

    `parents[k]` is the code of the group of types that k belongs to. Types weigh alike in a mean.
    """
    n_types = len(parents)
    sums = group_sums(counts, codes, n_types)
    totals = sums.sum(axis=1, keepdims=True)
    shares = sums / np.maximum(totals, 1)
    overall = shares.mean(axis=0) + SMALLEST_SHARE
    overall /= overall.sum()
    groups = np.unique(parents, return_inverse=True)[1]
    of_groups = np.zeros((groups.max() + 1, counts.shape[1]))
    np.add.at(of_groups, groups, shares)
    umis = np.bincount(groups, weights=totals[:, 0])[:, None]
    of_groups /= np.bincount(groups)[:, None]
    of_groups = (umis * of_groups + PRIOR_UMIS * overall) / (umis + PRIOR_UMIS)
    return (sums + PRIOR_UMIS * of_groups[groups]) / (totals + PRIOR_UMIS)


def restricted_profiles(profiles: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """(K, G') of these genes alone; rows sum to 1 again."""
    kept = profiles[:, genes]
    return np.asarray(kept / np.maximum(kept.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny))


def group_sums(counts: sp.csr_matrix, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """(n_groups, G) float64 sums of the rows of each group."""
    n = counts.shape[0]
    member = sp.csr_matrix((np.ones(n), (codes, np.arange(n))), shape=(n_groups, n))
    return np.asarray((member @ counts.astype(np.float64)).todense())


def platform_effect(profiles: np.ndarray, gene_totals: np.ndarray, composition: np.ndarray) -> np.ndarray:
    """(G,) log of how much more of each gene the sample shows than types in that composition would.

    A gene of a single type is left alone: its surplus cannot be told from more cells of that type.
    """
    total = gene_totals.sum()
    expected = total * (composition @ profiles)
    surplus = np.log((gene_totals + PLATFORM_UMIS) / (expected + PLATFORM_UMIS))
    shares = profiles / profiles.sum(axis=0)
    breadth = (1 - (shares**2).sum(axis=0)) / (1 - 1 / len(profiles))
    return np.clip(surplus, -LARGEST_PLATFORM, LARGEST_PLATFORM) * PLATFORM_TRUST * breadth


@dataclass(frozen=True)
class ProfileScorer:
    """The likelihood ratios' matrix in parts; genes come first, so that those of a block are taken in one go."""

    profiles: np.ndarray  # (G, K) float32, shares of a type's UMIs in this sample, ambient ones among them
    background: np.ndarray  # (G,) float32
    log_ratios: np.ndarray  # (G, K) float32, log of profile / background
    constants: np.ndarray  # (N_DEPTHS, K) float32

    @classmethod
    def of(cls, profiles: np.ndarray, platform: np.ndarray, gene_totals: np.ndarray) -> ProfileScorer:
        """For a sample with these UMIs of each gene; `profiles` are (K, G) shares of the reference."""
        shifted = profiles * np.exp(platform)
        shifted /= shifted.sum(axis=1, keepdims=True)
        mean = shifted.mean(axis=0)
        background = (gene_totals + BACKGROUND_UMIS * mean) / (gene_totals.sum() + BACKGROUND_UMIS)
        background = (1 - MEAN_IN_BACKGROUND) * background + MEAN_IN_BACKGROUND * mean
        of_types = np.ascontiguousarray(((1 - AMBIENT) * shifted + AMBIENT * background).T, dtype=np.float32)
        log_ratios = np.log(of_types / background[:, None]).astype(np.float32)
        constants = [-_saturation(of_types, background, _umis(depth)).sum(axis=0) for depth in range(N_DEPTHS)]
        return cls(of_types, background.astype(np.float32), log_ratios, np.array(constants, dtype=np.float32))

    def score(self, counts: sp.csr_matrix, totals: np.ndarray) -> np.ndarray:
        """(n, K) float32 log likelihood ratios; each row by itself, and 0 without counts."""
        scores = np.zeros((counts.shape[0], self.profiles.shape[1]), dtype=np.float32)
        for depth, rows in by_depth(totals):
            cells = counts[rows]
            met = np.zeros(counts.shape[1], dtype=bool)
            met[cells.indices] = True
            genes, places = np.flatnonzero(met), np.cumsum(met, dtype=np.int32) - 1
            narrow = sp.csr_matrix((cells.data, places[cells.indices], cells.indptr), shape=(len(rows), len(genes)))
            weights = self.log_ratios[genes] - _saturation(self.profiles[genes], self.background[genes], _umis(depth))
            scores[rows] = narrow @ weights + self.constants[depth]
        return scores


def by_depth(totals: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each half octave that any cells lie in, and their rows; none for cells without counts."""
    depths = np.clip(np.rint(2 * np.log2(np.maximum(totals, 1))), 0, N_DEPTHS - 1).astype(np.int64)
    depths[totals <= 0] = -1
    for depth in np.unique(depths[depths >= 0]).tolist():
        yield depth, np.flatnonzero(depths == depth)


def _umis(depth: int) -> np.float32:
    return np.float32(2 ** (depth / 2))


def _saturation(profiles: np.ndarray, background: np.ndarray, umis: np.float32) -> np.ndarray:
    """(G, K) log((1 + n mu) / (1 + n b)): what overdispersion takes off the likelihood of a count."""
    return np.log(1 + umis * profiles) - np.log(1 + umis * background.astype(np.float32))[:, None]
