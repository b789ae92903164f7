"""What speaks for each type in each cluster, next to what its kin and all other types have: input of `trust`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from scipy.special import gammainc

from ..markers import MarkerType
from .panel import Panel, defining_weights, type_weights
from .scores import Cells

FEWEST_COUNTS = 3
TELLING_UMIS = 50_000.0  # pooled UMIs that show a gene of one count in 10,000
ELEVATION_UMIS = 10_000.0  # pooled UMIs that show which genes stand out
RATIO, FEWEST_RATE = 2.0, 3e-5  # of a gene that is on: against other types' cells, and at all
DOUBT = 0.15  # where nothing can be measured support is DOUBT / .5: just enough
N_TOP_GENES = 20
N_RATE_BINS = 10
CLIP_Z = 4.0
ENRICHMENT_UNIT, MOST_ENRICHED = 5.0, 3.0
LITTLE_SUPPORT, LITTLE_ENRICHED = 0.35, 0.6
FEATURES = (
    "support",  # share of the type's defining genes that are on
    "unsupported",
    "enrichment",  # of the type's markers among the genes that stand out in the cluster
    "not_enriched",
    "weaker_half",  # enrichment of the weaker one of two halves of its markers
    "coverage",  # share of the genes that stand out most that are the type's markers
    "coherence",  # the penalty for its organ
    "sample_share",  # log of the share of the sample that the type wins
    "n_defining",
    "broad_support",  # the same for the broad type's own markers
    "broad_unsupported",
    "broad_enrichment",
    "broad_coverage",
    "any_coverage",  # share of the genes that stand out most that are markers of any type
    "foreign_support",  # the best of another broad type, less the type's own
    "foreign_enrichment",
    "kin_support",  # the best of the same broad type, less the type's own
    "kin_enrichment",
    "agreement",  # share of the cluster's cells whose best type is of the same broad type
    "panel_share",
    "pooled_umis",
    "n_present",
    "cluster_share",
)


@dataclass(frozen=True)
class ClusterCounts:
    """Pooled counts of K clusters, each with as many of its nearest ones as make TELLING_UMIS; groups by themselves."""

    markers: np.ndarray  # (K, G)
    totals: np.ndarray  # (K,)
    genes: np.ndarray  # (K, P) of the embedding's genes, pooled until ELEVATION_UMIS
    gene_totals: np.ndarray  # (K,)
    all_genes: np.ndarray  # (P,) of the whole sample
    all_umis: float


def pool_clusters(cells: Cells, cluster: np.ndarray, centres: np.ndarray, n_clusters: int) -> ClusterCounts:
    """The counts of these clusters, and of groups of rare cells, which have no centres and come last."""
    member = membership(cluster, n_clusters)
    totals = np.bincount(cluster, weights=cells.totals, minlength=n_clusters)
    near, nearer = (nearest_enough(centres, totals, umis) for umis in (TELLING_UMIS, ELEVATION_UMIS))
    of_cluster = np.asarray((member @ cells.genes).todense())
    return ClusterCounts(
        near @ np.asarray((member @ cells.markers).todense()),
        near @ totals,
        nearer @ of_cluster,
        nearer @ totals,
        of_cluster.sum(axis=0),
        float(totals.sum()),
    )


def membership(group: np.ndarray, n_groups: int) -> sp.csr_matrix:
    """(K, n) 1 where a cell belongs to the group."""
    return sp.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group)))


def nearest_enough(centres: np.ndarray, totals: np.ndarray, umis: float) -> sp.csr_matrix:
    """(K, K) 1 where a cluster is pooled with another: itself and its nearest until they have so many UMIs.

    Sets of cells without a centre, the last ones of `totals`, are pooled with none.
    """
    alone = list(range(len(centres), len(totals)))
    rows, columns = list(alone), list(alone)
    totals = totals[: len(centres)]
    for k, centre in enumerate(centres):
        nearest = np.argsort(np.sum((centres - centre) ** 2, axis=1), kind="stable")
        so_far = np.cumsum(totals[nearest])
        members = nearest[: np.searchsorted(so_far, min(umis, so_far[-1])) + 1]
        rows += [k] * len(members)
        columns += members.tolist()
    n_sets = len(centres) + len(alone)
    return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n_sets, n_sets))


def cluster_support(counts: ClusterCounts, background: np.ndarray, defining: np.ndarray) -> np.ndarray:
    """(K, T) share of the weight of each type's defining genes that are on in the cluster; background is (G, T)."""
    support = np.zeros((len(counts.totals), defining.shape[1]))
    for t in range(defining.shape[1]):
        genes = np.flatnonzero(defining[:, t])
        weight = defining[genes, t]
        support[:, t] = share_on(counts.markers[:, genes], counts.totals, background[genes, t], weight)
    return support


def share_on(pooled: np.ndarray, totals: np.ndarray, background: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(K,) share of the weight of genes that are on.

    On is a rate twice that of the cells of other types (`background`), with three counts. A gene that is off counts as
    far as it could have been seen: by the chance of three counts at one in 10,000.
    """
    rate = pooled / np.maximum(totals, 1)[:, None]
    on = (rate > RATIO * background) & (rate > FEWEST_RATE) & (pooled >= FEWEST_COUNTS)
    measurable = np.where(on, 1.0, gammainc(3, totals * 1e-4)[:, None])
    return np.asarray(((on * weight).sum(axis=1) + DOUBT) / ((measurable * weight).sum(axis=1) + 0.5))


def rates_of_others(cells: Cells, best: np.ndarray, n_types: int) -> np.ndarray:
    """(G, T) share of each gene in the UMIs of the cells that each type does not win; 0 where those are too few."""
    member = membership(best, n_types)
    own = np.asarray((member @ cells.markers).todense())
    umis = np.bincount(best, weights=cells.totals, minlength=n_types)
    others = umis.sum() - umis
    rates = (own.sum(axis=0) - own) / np.maximum(others, 1)[:, None]
    rates[others < TELLING_UMIS] = 0
    return rates.T


def elevation(counts: ClusterCounts) -> np.ndarray:
    """(K, P) log of each gene's count over that expected from the rest of the sample, shrunk by one count."""
    rest = counts.all_umis - counts.gene_totals
    rest_rate = (counts.all_genes - counts.genes) / np.maximum(rest, 1)[:, None]
    logs = np.log((counts.genes + 1) / (rest_rate * counts.gene_totals[:, None] + 1))
    logs[rest < ELEVATION_UMIS] = 0
    return np.asarray(logs)


def standardised(logs: np.ndarray, all_genes: np.ndarray) -> np.ndarray:
    """(K, P) z of each gene's elevation among genes of similar abundance.

    So the sum over a set of genes, over the root of their number, has mean 0 and sd 1 if the set is drawn at random.
    """
    rank = np.argsort(np.argsort(all_genes, kind="stable"), kind="stable")
    bins = rank * N_RATE_BINS // max(len(all_genes), 1)
    z = np.zeros_like(logs)
    for b in np.unique(bins):
        own = logs[:, bins == b]
        z[:, bins == b] = (own - own.mean(axis=1, keepdims=True)) / np.maximum(own.std(axis=1, keepdims=True), 0.05)
    return np.clip(z, -CLIP_Z, CLIP_Z)


def coverage(logs: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, T) share of a cluster's most elevated genes that are markers of the type, and (K,) of any type."""
    top = np.argsort(-logs, axis=1, kind="stable")[:, :N_TOP_GENES]
    any_type = np.asarray(positive.any(axis=1))
    return positive[top].mean(axis=1), any_type[top].mean(axis=1)


@dataclass(frozen=True)
class SampleFacts:
    """What the whole sample says of each of the T types."""

    background: np.ndarray  # (G, T) rates of genes in the cells that the type does not win
    broad_background: np.ndarray  # (G, B) the same for broad types
    coherence: np.ndarray  # (T,)
    share: np.ndarray  # (T,) of the cells that the type wins
    n_present: int


def cluster_features(
    counts: ClusterCounts,
    types: Sequence[MarkerType],
    broad: Sequence[MarkerType],
    broad_of_type: np.ndarray,
    panel: Panel,
    gene_of_marker: np.ndarray,
    facts: SampleFacts,
    cluster_share: np.ndarray,
    agreement: np.ndarray,
) -> np.ndarray:
    """(K, T, F) the features of each type in each cluster; see FEATURES."""
    every = [*types, *broad]
    n_types, n_clusters = len(types), len(counts.totals)
    defining = defining_weights(every, panel)
    support = cluster_support(counts, np.column_stack([facts.background, facts.broad_background]), defining)
    logs = elevation(counts)
    weights = gene_weights(every, panel, gene_of_marker, logs.shape[1])
    z = standardised(logs, counts.all_genes)
    enrichment = np.minimum(z @ weights / ENRICHMENT_UNIT, MOST_ENRICHED)
    halves = [z @ gene_weights(half, panel, gene_of_marker, z.shape[1]) for half in marker_halves(types)]
    covered, any_covered = coverage(logs, weights > 0)
    of_broad = n_types + broad_of_type
    foreign, kin = _leads(support[:, :n_types], broad_of_type), _leads(enrichment[:, :n_types], broad_of_type)
    values: dict[str, np.ndarray | float] = {
        "support": support[:, :n_types],
        "unsupported": np.maximum(LITTLE_SUPPORT - support[:, :n_types], 0),
        "enrichment": enrichment[:, :n_types],
        "not_enriched": np.maximum(LITTLE_ENRICHED - enrichment[:, :n_types], 0),
        "weaker_half": np.minimum(np.minimum(*halves) / ENRICHMENT_UNIT, MOST_ENRICHED),
        "coverage": covered[:, :n_types],
        "coherence": facts.coherence,
        "sample_share": np.log10(1e-3 + facts.share) + 2,
        "n_defining": np.log(((defining[:, :n_types] > 0).sum(axis=0) + 1) / 6),
        "broad_support": support[:, of_broad],
        "broad_unsupported": np.maximum(LITTLE_SUPPORT - support[:, of_broad], 0),
        "broad_enrichment": enrichment[:, of_broad],
        "broad_coverage": covered[:, of_broad],
        "any_coverage": any_covered[:, None],
        "foreign_support": foreign[0],
        "kin_support": foreign[1],
        "foreign_enrichment": kin[0],
        "kin_enrichment": kin[1],
        "agreement": agreement[:, broad_of_type],
        "panel_share": np.log10(max(len(panel.genes), 1) / max(panel.n_wanted, 1)),
        "pooled_umis": np.log10(np.maximum(counts.totals, 100) / TELLING_UMIS)[:, None],
        "n_present": np.log10(max(facts.n_present, 1)),
        "cluster_share": np.log10(cluster_share + 1e-3)[:, None],
    }
    shape = (n_clusters, n_types)
    return np.stack([np.broadcast_to(values[name], shape) for name in FEATURES], axis=2)


def marker_halves(types: Sequence[MarkerType]) -> tuple[list[MarkerType], list[MarkerType]]:
    """The types with every second of their markers, and with the others: two witnesses that share no gene."""
    halves = []
    for start in (0, 1):
        kept = [replace(t, defining=t.defining[start::2], supporting=t.supporting[1 - start :: 2]) for t in types]
        halves.append(kept)
    return halves[0], halves[1]


def gene_weights(types: Sequence[MarkerType], panel: Panel, gene_of_marker: np.ndarray, n_genes: int) -> np.ndarray:
    """(P, T) unit-length positive weights over the embedding's genes."""
    positive = np.maximum(type_weights(types, panel), 0)
    seen = gene_of_marker >= 0
    weights = np.zeros((n_genes, len(types)))
    weights[gene_of_marker[seen]] = positive[seen]
    return weights / np.maximum(np.sqrt((weights**2).sum(axis=0)), 1e-9)


def _leads(values: np.ndarray, broad_of_type: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, T) how far the best type of other broad types, and the best other one of its own, is ahead; 0 without any."""
    same = broad_of_type[:, None] == broad_of_type
    leads = []
    for rivals in (~same, same & ~np.eye(len(same), dtype=bool)):
        ahead = np.zeros_like(values)
        for t, others in enumerate(rivals):
            if others.any():
                ahead[:, t] = values[:, others].max(axis=1) - values[:, t]
        leads.append(ahead)
    return leads[0], leads[1]
