"""One level of types learnt from a sample of cells, and each cell's posterior over them (steps 4 to 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..markers import MarkerType
from .embedding import Embedding, cluster_centres, learn_embedding, nearest_centres
from .evidence import FEWEST_COUNTS, TELLING_UMIS, nearest_enough, share_on
from .panel import Panel, defining_weights, type_weights
from .rare import NO_GROUPS, RareGroups, learn_groups
from .scores import Cells, Moments, absolute_scores, learn_moments, relative_scores, row_product

NO_ORGAN = frozenset({"any", "blood", "immune"})
ABSENT = -1e9
RAISED, MOST = 1.2, 0.7
RAISED_SHARE = 0.5
HINT = 0.6
ROUNDS = 12
SUPPORT = 0.28  # of a type's measurable defining genes must be on
MIDDLE = 1  # the scale on which support is tested
TEMPER = 0.25
FAR = 1.0  # sd of own scores: by more than this a cell speaks for its cluster's type, not for its group's


@dataclass(frozen=True)
class LevelModel:
    """What was learnt about T competing types; enough to compare them in any one cell."""

    rows: np.ndarray  # (T,) rows of the marker table
    weights: np.ndarray  # (G, T)
    moments: Moments
    spreads: np.ndarray  # (2,) sd of the relative and of the absolute score over cells and types
    embedding: Embedding
    component_sd: np.ndarray  # (C,)
    centres: tuple[np.ndarray, ...]  # (K, C) at each scale
    cluster_scores: tuple[np.ndarray, ...]  # (K + R, T) mean scores at each scale, groups of rare cells last
    penalty: np.ndarray  # (T,) tissue coherence; ABSENT for types that the sample does not hold
    regression: np.ndarray  # (C + 1, T) self-trained logistic regression, intercepts last
    support: np.ndarray  # (K of the middle scale + R, T) share of the type's measurable defining genes that are on
    coherence: np.ndarray  # (T,) the penalty without ABSENT
    groups: RareGroups
    group_kin: np.ndarray  # (R, T) whether the type is of the broad type that the group is most like
    hosts: np.ndarray  # (K of the finest scale,) the type that each cluster is most like
    group_penalty: np.ndarray  # (R, T) the same as penalty for the cells of each group
    group_regression: np.ndarray  # (R, T) log of the posterior that stands in for the regression's

    @property
    def present(self) -> np.ndarray:
        return self.penalty > ABSENT / 2

    @property
    def n_middle(self) -> int:
        """How many clusters the middle scale has, with the groups of rare cells."""
        return len(self.centres[MIDDLE]) + len(self.group_penalty)


@dataclass(frozen=True)
class Match:
    """How each of n cells compares with the level's T types."""

    smooth: np.ndarray  # (n, T) scores, without the sample's penalty
    penalised: np.ndarray  # (n, T) with it
    regression: np.ndarray  # (n, T) log of the regression's posterior
    posterior: np.ndarray  # (n, T)
    cluster: np.ndarray  # (n,) middle cluster, or its number plus that of the group of rare cells
    support: np.ndarray  # (n, T) of the cell's middle cluster


def match_cells(level: LevelModel, cells: Cells) -> Match:
    """Each cell's posterior over the level's types, from its own counts and the clusters it lies in."""
    components = level.embedding.components(cells)
    scores = _own_scores(cells, level.moments, level.weights, level.spreads)
    clusters = [nearest_centres(components, centres) for centres in level.centres]
    group = _content(level.groups.of_cells(cells), scores, level.group_kin, level.hosts[clusters[0]])
    clusters = _with_groups(clusters, level.centres, group)
    smooth = _smooth(scores, cells, clusters, level.cluster_scores)
    regression = np.log(_regression_posterior(level, components) + 1e-3)
    regression[group >= 0] = level.group_regression[group[group >= 0]]
    penalised = smooth + np.vstack([level.group_penalty, level.penalty])[group]
    posterior = softmax(TEMPER * (3 * penalised + 2 * regression))
    middle = clusters[MIDDLE]
    return Match(smooth, penalised, regression, posterior, middle, level.support[middle])


def _with_groups(clusters: Sequence[np.ndarray], centres: Sequence[np.ndarray], group: np.ndarray) -> list[np.ndarray]:
    """(n,) each cell's cluster at each scale; the groups of rare cells come after the clusters."""
    return [np.where(group < 0, own, len(c) + group) for own, c in zip(clusters, centres, strict=True)]


def _content(group: np.ndarray, scores: np.ndarray, kin: np.ndarray, host: np.ndarray) -> np.ndarray:
    """The groups without the cells whose own markers speak for their cluster's type instead.

    A group takes in cells of another rare type, too, if those have no coarse cluster of their own.
    """
    inside = np.flatnonzero(group >= 0)
    of_group = np.where(kin[group[inside]], scores[inside], -np.inf).max(axis=1, initial=-np.inf)
    left = inside[scores[inside, host[inside]] - of_group > FAR]
    content = group.copy()
    content[left] = -1
    return content


def learn_level(
    cells: Cells,
    table: Sequence[MarkerType],
    rows: Sequence[int],
    panel: Panel,
    tissue: str = "",
    gene_of_marker: np.ndarray | None = None,
) -> LevelModel:
    """The level's model, learnt from these cells with all types of `rows` offered; `tissue` is the user's hint.

    Rare cells are looked for where `gene_of_marker` tells where the panel's genes stand among those of the embedding.
    """
    types = [table[row] for row in rows]
    weights = type_weights(types, panel)
    moments = learn_moments(cells)
    spreads = np.array([_spread(relative_scores(cells, moments, weights)), _spread(absolute_scores(cells, weights))])
    scores = _own_scores(cells, moments, weights, spreads)
    embedding = learn_embedding(cells)
    components = embedding.components(cells)
    centres = cluster_centres(components)
    clusters = [nearest_centres(components, c) for c in centres]
    hosts = np.argmax(_group_means(scores, clusters[0], len(centres[0])), axis=1)
    groups = _rare_groups(cells, weights, gene_of_marker, clusters)
    group = groups.of_cells(cells)
    likest = np.argmax(_group_means(scores[group >= 0], group[group >= 0], len(groups.types)), axis=1)
    broad = np.array([t.broad for t in types])
    group_kin = broad == broad[likest][:, None]
    group = _content(group, scores, group_kin, hosts[clusters[0]])
    clusters = _with_groups(clusters, centres, group)
    sizes = [len(c) + len(groups.types) for c in centres]
    cluster_scores = [_group_means(scores, cluster, k) for cluster, k in zip(clusters, sizes, strict=True)]
    smooth = _smooth(scores, cells, clusters, cluster_scores)
    defining = defining_weights(types, panel)
    many = np.flatnonzero(group < 0)  # the others have their groups to speak for their types
    vouched = np.isin(np.arange(len(types)), likest)
    penalty = _sample_penalty(cells.take(many), smooth[many], types, weights, defining, vouched, tissue)
    coherence = _coherence(np.where(penalty < ABSENT / 2, ABSENT, smooth), types, tissue)
    akin = broad == broad[groups.types][:, None]  # to the type that led to the group: they compete for it, too
    group_penalty = np.where(akin | (penalty > ABSENT / 2), coherence, ABSENT)
    component_sd = np.maximum(components.std(axis=0), 1e-9)
    regression = _self_train(components[many] / component_sd, smooth[many] + penalty, penalty > ABSENT / 2)
    smooth = smooth + np.vstack([group_penalty, penalty])[group]
    middle = clusters[MIDDLE], centres[MIDDLE]
    return LevelModel(
        rows=np.asarray(rows, dtype=np.int64),
        weights=weights,
        moments=moments,
        spreads=spreads,
        embedding=embedding,
        component_sd=component_sd,
        centres=tuple(centres),
        cluster_scores=tuple(cluster_scores),
        penalty=penalty,
        regression=regression,
        support=_support(cells, smooth, *middle, defining),
        coherence=coherence,
        groups=groups,
        group_kin=group_kin,
        hosts=hosts,
        group_penalty=group_penalty,
        group_regression=np.log(softmax(3 * (cluster_scores[0][len(centres[0]) :] + group_penalty)) + 1e-3),
    )


def _rare_groups(
    cells: Cells, weights: np.ndarray, gene_of_marker: np.ndarray | None, clusters: Sequence[np.ndarray]
) -> RareGroups:
    """The groups of rare cells; none where they are not looked for, or where they would be the whole sample."""
    if gene_of_marker is None:
        return NO_GROUPS
    groups = learn_groups(cells, weights, gene_of_marker, clusters[0], clusters[-1])
    return groups if (groups.of_cells(cells) < 0).any() else NO_GROUPS


def _spread(scores: np.ndarray) -> float:
    return max(float(scores.std()), 1e-6)


def _own_scores(cells: Cells, moments: Moments, weights: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """(n, T) F = .5 A / sd(A) + .5 B / sd(B) (step 4)."""
    relative = relative_scores(cells, moments, weights) / spreads[0]
    return 0.5 * relative + 0.5 * absolute_scores(cells, weights) / spreads[1]


def _group_means(values: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """(K, T) mean of the rows of each group, 0 for an empty one."""
    sums = np.zeros((n_groups, values.shape[1]))
    np.add.at(sums, group, values)
    return np.asarray(sums / np.maximum(np.bincount(group, minlength=n_groups), 1)[:, None])


def _smooth(
    scores: np.ndarray, cells: Cells, clusters: Sequence[np.ndarray], cluster_scores: Sequence[np.ndarray]
) -> np.ndarray:
    """(n, T) S = mean of cluster means over scales + v (F - finest cluster mean), v by marker UMIs (step 6)."""
    means = [table[cluster] for table, cluster in zip(cluster_scores, clusters, strict=True)]
    umis = row_product(cells.markers, np.ones((cells.markers.shape[1], 1)))
    own_share = 0.5 * umis / (umis + 300)
    return np.asarray(sum(means) / len(means) + own_share * (scores - means[0]))


def _winners(smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each cell's best type and its lead over the second."""
    best = np.argmax(smooth, axis=1)
    if smooth.shape[1] == 1:
        return best, np.full(len(best), -ABSENT)
    second, first = np.partition(smooth, -2, axis=1)[:, -2:].T
    return best, first - second


def _sample_penalty(
    cells: Cells,
    smooth: np.ndarray,
    types: Sequence[MarkerType],
    weights: np.ndarray,
    defining: np.ndarray,
    vouched: np.ndarray,
    tissue: str,
) -> np.ndarray:
    """(T,) what each type loses in every cell, by what the whole sample shows; ABSENT for types it does not hold."""
    absent = np.zeros(len(types), dtype=bool)
    one_group = np.zeros(len(smooth), dtype=np.int64), np.zeros((1, 1))
    for _ in range(ROUNDS):
        masked = np.where(absent, ABSENT, smooth)
        best, _ = _winners(masked)
        supported = _support(cells, masked, *one_group, defining)[0] >= SUPPORT
        failed = np.isin(np.arange(len(types)), best) & ~(supported & _raised(cells, best, weights))
        if not failed.any() or (absent | failed).all():
            break
        absent |= failed
    penalty = _coherence(np.where(absent, ABSENT, smooth), types, tissue)
    return _absent_types(smooth, np.where(absent, ABSENT, penalty), vouched)


def _raised(cells: Cells, best: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T,) whether the cells a type wins have more of its markers than the sample at large, or most of them.

    A type can win cells that show nothing, because nobody shows its markers: it is not there. Genes are asked one by
    one and vote by weight, so that one loud gene that others share does not speak for all. Types without cells pass.
    """
    overall = np.asarray(cells.markers.sum(axis=0)).ravel()
    n_umis = max(int(cells.totals.sum()), 1)
    raised = np.ones(weights.shape[1], dtype=bool)
    for t in np.unique(best):
        own = best == t
        genes = np.flatnonzero(weights[:, t] > 0)
        found = np.asarray(cells.markers[own].sum(axis=0)).ravel()[genes]
        everywhere = overall[genes]
        expected = everywhere * (cells.totals[own].sum() / n_umis)
        higher = (found > RAISED * expected) | (found > MOST * everywhere)
        votes = weights[genes, t] * (everywhere >= FEWEST_COUNTS)
        raised[t] = votes @ higher >= RAISED_SHARE * votes.sum() and bool(votes @ higher > 0)
    return raised


def _coherence(smooth: np.ndarray, types: Sequence[MarkerType], tissue: str) -> np.ndarray:
    """(T,) penalty of types whose organs the sample does not show, in two rounds (step 7).

    Types of a tissue that the user names lose nothing, those of other organs alone at least HINT.
    """
    organs = sorted({o for t in types for o in t.tissues} - NO_ORGAN)
    tagged = np.array([[o in t.tissues and not NO_ORGAN & set(t.tissues) for t in types] for o in organs], dtype=bool)
    penalty = np.zeros(len(types))
    for _ in range(2):
        best, lead = _winners(smooth + penalty)
        won = np.bincount(best, weights=np.minimum(1, lead), minlength=len(types))
        share = tagged @ won if organs else np.zeros(0)
        if not len(share) or share.max() <= 0:
            break
        own = np.array([share[tagged[:, t]].max(initial=0) for t in range(len(types))])
        seen = np.sqrt(own / share.max()) * np.minimum(1, own / (0.03 * len(smooth) + 1))
        penalty = np.where(tagged.any(axis=0), -1.2 * (1 - seen), 0)
    if tissue:
        there = np.array([tissue in t.tissues for t in types])
        penalty = np.where(there, 0, np.where(tagged.any(axis=0), np.minimum(penalty, -HINT), penalty))
    return penalty


def _absent_types(smooth: np.ndarray, penalty: np.ndarray, vouched: np.ndarray) -> np.ndarray:
    """The penalty with ABSENT for types that win too few cells or win them by too little (step 7).

    Of types that have a group of rare cells already (`vouched`) few are enough.
    """
    n = len(smooth)
    fewest = max(6, 0.002 * n) if n >= 300 else max(1, n // 50)
    best, lead = _winners(smooth + penalty)
    absent = np.ones(len(penalty), dtype=bool)
    for t in np.unique(best):
        leads = lead[best == t]
        absent[t] = (len(leads) < fewest and not vouched[t]) or np.median(leads) < 0.05 or np.quantile(leads, 0.8) < 0.1
    if absent.all():
        absent[best] = False
    return np.where(absent, ABSENT, penalty)


def _self_train(components: np.ndarray, smooth: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(C + 1, T) multinomial logistic regression on the cells whose type is clearest (step 9)."""
    best, lead = _winners(smooth)
    weights = np.zeros((components.shape[1] + 1, len(present)))
    weights[-1, ~present] = ABSENT
    seeds = np.concatenate([_seeds(np.flatnonzero(best == t), lead) for t in np.flatnonzero(present)])
    known = np.unique(best[seeds])
    if len(known) < 2 or not components.shape[1]:
        return weights
    from sklearn.linear_model import LogisticRegression  # a second to import, and only fit needs it

    fitted = LogisticRegression(C=0.3, max_iter=500).fit(components[seeds], best[seeds])
    solution = np.column_stack([fitted.coef_, fitted.intercept_]).T
    weights[:, known] = solution if len(known) > 2 else np.column_stack([0 * solution, solution])
    return weights


def _seeds(cells: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """The top 60 % of these cells by lead, 8 to 300."""
    wanted = int(np.clip(0.6 * len(cells), 8, 300))
    return cells[np.argsort(-lead[cells], kind="stable")][:wanted]


def _regression_posterior(level: LevelModel, components: np.ndarray) -> np.ndarray:
    scaled = components / level.component_sd
    return softmax(row_product(scaled, level.regression[:-1]) + level.regression[-1])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _support(
    cells: Cells, smooth: np.ndarray, cluster: np.ndarray, centres: np.ndarray, defining: np.ndarray
) -> np.ndarray:
    """(K, T) weighted share of the defining genes that are on in the pooled cells of a cluster and type (step 8).

    Where a cluster's cells of a type are too shallow to tell, those of the nearest clusters are pooled with them.
    """
    best, _ = _winners(smooth)
    n_clusters = max(len(centres), int(cluster.max(initial=0)) + 1)  # with the groups of rare cells
    support = np.zeros((n_clusters, defining.shape[1]))
    sums, n_umis = np.asarray(cells.markers.sum(axis=0)).ravel(), int(cells.totals.sum())
    for t in np.unique(best):
        genes = np.flatnonzero(defining[:, t])
        of_type = np.flatnonzero(best == t)
        background = _rate_of_others(sums, n_umis, cells.take(of_type))
        counts = np.zeros((n_clusters, len(genes)))
        np.add.at(counts, cluster[of_type], cells.markers[of_type][:, genes].toarray())
        totals = np.bincount(cluster[of_type], weights=cells.totals[of_type], minlength=n_clusters)
        near = nearest_enough(centres, totals, TELLING_UMIS)
        support[:, t] = share_on(near @ counts, near @ totals, background[genes], defining[genes, t])
    return support


def _rate_of_others(sums: np.ndarray, n_umis: int, own: Cells) -> np.ndarray:
    """(G,) share of each gene in the UMIs of all other cells; 0 where those are too few to tell (a pure sample)."""
    others = n_umis - int(own.totals.sum())
    if others < TELLING_UMIS:
        return np.zeros(len(sums))
    return np.asarray((sums - np.asarray(own.markers.sum(axis=0)).ravel()) / others)
