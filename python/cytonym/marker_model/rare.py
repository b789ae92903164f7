"""Groups of cells too few for clusters of their own: pointed out by a type's markers, told apart by all genes.

A handful of cells is lost in its neighbours' clusters, however clear its markers. So each type's markers point out the
cells that show most of them. These grow into a group of the cells that are more like each other than like any cluster;
each is compared with the others alone, so that no cell vouches for itself. A group must hold without the markers that
led to it, too: chance alone makes a few cells in thousands show two or three of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .evidence import membership
from .scores import Cells, row_product, with_data

MARKER_RATE = 3e-4  # by which a type's best gene is taken to be higher in it, to begin with
MOST_RATIO, MOST_COUNT = 30.0, 3.0
FELLOWS = 4.0  # weight of the mean of the cell's finest cluster, beside its own markers
SEED_SHARE, SEED_ODDS = 0.01, 2.0
FEWEST_CELLS, MOST_OF_SAMPLE = 3, 0.03
PSEUDO_COUNTS = 1.0
FULL_UMIS = 1000.0  # molecules count as far as those of a cell of so many: genes vary more than chance lets them
MEMBER_ODDS = 1.0  # about the logarithm of how much more probable the group must be than any cluster
OTHER_ODDS = 0.5  # the median member's, without the markers
FEWEST_ODDS, MEAN_ODDS = 8.0, 0.5  # of the markers, over all members and a member
ROUNDS = 4
MOST_GROUPS = 24
MOST_SHARED = 0.3  # of a group's cells with groups that are surer


@dataclass(frozen=True)
class Profiles:
    """What K sets of cells express, next to the sample's average; sums of logs give a cell's likelihood."""

    log_ratios: np.ndarray  # (P, K) of each gene's rate to its rate in the sample
    offsets: np.ndarray  # (K,) logs of what the shares of all genes sum to

    def scores(self, cells: Cells) -> np.ndarray:
        """(n, K) log likelihood ratio of each cell's counts under each profile to the sample's average."""
        scores = row_product(cells.genes, self.log_ratios) - cells.totals[:, None] * self.offsets
        return np.asarray(scores * _discount(cells.totals)[:, None])

    def beside(self, others: Profiles) -> Profiles:
        """These profiles and the others, in this order."""
        return Profiles(np.hstack([self.log_ratios, others.log_ratios]), np.concatenate([self.offsets, others.offsets]))


@dataclass(frozen=True)
class RareGroups:
    """R groups beside the clusters that they are told apart from."""

    profiles: Profiles  # of the clusters, without the groups' cells, then of the groups; none without groups
    types: np.ndarray  # (R,) the type whose markers pointed each group out

    def of_cells(self, cells: Cells) -> np.ndarray:
        """(n,) the group of each cell, -1 for most."""
        if not len(self.types):
            return np.full(cells.n_cells, -1)
        scores = self.profiles.scores(cells)
        n_clusters = scores.shape[1] - len(self.types)
        best = np.argmax(scores[:, n_clusters:], axis=1)
        lead = scores[:, n_clusters:].max(axis=1) - scores[:, :n_clusters].max(axis=1)
        return np.where(lead > MEMBER_ODDS, best, -1)


NO_GROUPS = RareGroups(Profiles(np.zeros((0, 0)), np.zeros(0)), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class _Clusters:
    """The sample's clusters, to be seen without some of their cells."""

    cells: Cells
    of_cell: np.ndarray  # (n,)
    counts: np.ndarray  # (K, P)
    umis: np.ndarray  # (K,)
    rates: np.ndarray  # (P,) of the whole sample

    @classmethod
    def of(cls, cells: Cells, cluster: np.ndarray) -> _Clusters:
        counts = np.asarray((membership(cluster, int(cluster.max()) + 1) @ cells.genes).todense())
        rates = np.maximum(counts.sum(axis=0), 1) / max(int(cells.totals.sum()), 1)
        return cls(cells, cluster, counts, np.bincount(cluster, weights=cells.totals), rates)

    def without(self, members: np.ndarray) -> Profiles:
        counts, umis = self.counts.copy(), self.umis.copy()
        for k in np.unique(self.of_cell[members]):
            gone = members[self.of_cell[members] == k]
            counts[k] -= np.asarray(self.cells.genes[gone].sum(axis=0)).ravel()
            umis[k] -= self.cells.totals[gone].sum()
        return self._profiles(counts, umis)

    def pooled(self, groups: Sequence[np.ndarray]) -> Profiles:
        counts = np.vstack([np.asarray(self.cells.genes[members].sum(axis=0)) for members in groups])
        return self._profiles(counts, np.array([self.cells.totals[members].sum() for members in groups]))

    def _profiles(self, counts: np.ndarray, umis: np.ndarray) -> Profiles:
        """Shrunk by PSEUDO_COUNTS counts of the average."""
        ratios = (counts + PSEUDO_COUNTS) / (umis[:, None] * self.rates + PSEUDO_COUNTS)
        return Profiles(np.log(ratios).T, np.log(ratios @ self.rates + _rest(self.rates)))


def _rest(rates: np.ndarray) -> float:
    """The share of the genes that are left out of account: it is the same everywhere."""
    return max(0.0, 1 - float(rates.sum()))


def _discount(totals: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(1.0, FULL_UMIS / np.maximum(totals, 1)))


def learn_groups(
    cells: Cells, weights: np.ndarray, gene_of_marker: np.ndarray, finest: np.ndarray, coarsest: np.ndarray
) -> RareGroups:
    """The groups of this sample, whose cells lie in these finest and coarsest clusters.

    `weights` (G, T) are those of the types' markers, positive ones count; `gene_of_marker` (G,) tells where each
    stands among the embedding's genes, -1 where it does not.
    """
    clusters = _Clusters.of(cells, coarsest)
    in_cluster = clusters.without(np.zeros(0, dtype=np.int64)).scores(cells).max(axis=1)
    odds = marker_odds(cells, np.maximum(weights, 0))
    member = membership(finest, int(finest.max()) + 1)
    fellows = (member @ odds) / np.maximum(np.asarray(member.sum(axis=1)), 1)
    first = odds + FELLOWS * fellows[finest]
    found: list[tuple[float, int, np.ndarray]] = []
    for t in range(weights.shape[1]):
        markers = gene_of_marker[weights[:, t] > 0]
        others = np.ones(len(clusters.rates), dtype=bool)
        others[markers[markers >= 0]] = False
        members = _grow(clusters, in_cluster, _seeds(first[:, t]), others)
        total = float(odds[members, t].sum())
        if len(members) and total >= max(FEWEST_ODDS, MEAN_ODDS * len(members)):
            found.append((total, t, members))
    return _without_doubles(clusters, found)


def marker_odds(cells: Cells, weights: np.ndarray) -> np.ndarray:
    """(n, T) log likelihood ratio of the cell's markers, if they are higher than in the sample by MARKER_RATE."""
    rates = np.maximum(np.asarray(cells.markers.sum(axis=0)).ravel(), 0.5) / max(int(cells.totals.sum()), 1)
    higher = MARKER_RATE * weights / np.maximum(weights.max(axis=0), 1e-9)
    log_ratios = np.log(np.minimum(1 + higher / rates[:, None], MOST_RATIO))
    capped = with_data(cells.markers, np.minimum(cells.markers.data, MOST_COUNT))
    umis = np.minimum(cells.totals, FULL_UMIS)
    return np.asarray(row_product(capped, log_ratios) - umis[:, None] * higher.sum(axis=0))


def _seeds(odds: np.ndarray) -> np.ndarray:
    """The cells that show the type most."""
    best = np.argsort(-odds, kind="stable")[: max(2 * FEWEST_CELLS, int(SEED_SHARE * len(odds)))]
    return best[odds[best] > SEED_ODDS]


def _grow(clusters: _Clusters, in_cluster: np.ndarray, seeds: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The cells that are more like each other than like any cluster; none if that is no small group."""
    cells = clusters.cells
    none = np.zeros(0, dtype=np.int64)
    most = max(2 * FEWEST_CELLS, int(MOST_OF_SAMPLE * cells.n_cells))
    every = np.ones(len(others), dtype=bool)
    members = seeds
    for _ in range(ROUNDS):
        if not FEWEST_CELLS <= len(members) <= most:
            return none
        profiles = clusters.without(members)
        own = clusters.pooled([members]).scores(cells)[:, 0]
        near = np.union1d(members, np.argsort(in_cluster - own, kind="stable")[: 3 * most])
        lead = own[near] - profiles.scores(cells.take(near)).max(axis=1)
        lead[np.searchsorted(near, members)] = _left_out(clusters, profiles, members, every)
        members = near[lead > MEMBER_ODDS]
    if not FEWEST_CELLS <= len(members) <= most:
        return none
    left_out = _left_out(clusters, clusters.without(members), members, others)
    return members if np.median(left_out) >= OTHER_ODDS else none


def _left_out(clusters: _Clusters, profiles: Profiles, members: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """(m,) by how much each member is more like the other members than like any cluster, by these genes."""
    totals = clusters.cells.totals[members]
    counts = clusters.cells.genes[members].toarray()[:, genes]
    rates = clusters.rates[genes]
    umis = totals.sum() - totals
    ratios = (counts.sum(axis=0) - counts + PSEUDO_COUNTS) / (umis[:, None] * rates + PSEUDO_COUNTS)
    own = (counts * np.log(ratios)).sum(axis=1) - totals * np.log(ratios @ rates + _rest(rates))
    log_ratios = profiles.log_ratios[genes]
    offsets = np.log(rates @ np.exp(log_ratios) + _rest(rates))
    best = (row_product(counts, log_ratios) - totals[:, None] * offsets).max(axis=1)
    return np.asarray((own - best) * _discount(totals))


def _without_doubles(clusters: _Clusters, found: list[tuple[float, int, np.ndarray]]) -> RareGroups:
    """Of groups with the same cells that of the type whose markers say most."""
    taken = np.zeros(len(clusters.of_cell), dtype=bool)
    kept: list[tuple[int, np.ndarray]] = []
    for _, t, members in sorted(found, key=lambda group: (-group[0], group[1])):
        if len(kept) < MOST_GROUPS and taken[members].mean() <= MOST_SHARED:
            taken[members] = True
            kept.append((t, members))
    if not kept:
        return NO_GROUPS
    profiles = clusters.without(np.flatnonzero(taken)).beside(clusters.pooled([members for _, members in kept]))
    return RareGroups(profiles, np.array([t for t, _ in kept], dtype=np.int64))
