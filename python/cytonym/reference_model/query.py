"""A reference model meets a sample: its genes, its platform, its background; then each cell is scored by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from ..errors import InputError
from ..marker_model.sample import read_sample
from ..matrix import CountMatrix
from .fusion import Fusion
from .genes import ELSEWHERE, join_genes, take_genes
from .linear import LinearModel
from .profiles import ProfileScorer, platform_effect
from .stored import Query, ReferenceModel

FEWEST_GENES, FEWEST_SHARE = 200, 0.2  # in common; and of the sample's genes: below, labels back off
FEWEST_CELLS, FEWEST_TYPES, LARGE_TYPE = 100, 3, 0.05  # of a sample whose platform effect can be learnt
EVEN = 0.05  # of the composition is even, so that no type is impossible
COUNTS, READS, NORMALISED, LOGGED = "counts", "reads", "normalised values", "log-normalised values"
FEWEST_ONES = 0.15  # of the counts of UMIs are ones; of reads hardly any
PSEUDO_COUNTS = 400.0  # at most, of a cell without UMI counts
LARGEST_LOG = 20.0  # values above are no logarithms of counts per 10,000


@dataclass(frozen=True)
class Scores:
    """What a model says of n cells."""

    posterior: np.ndarray  # (n, K) float32, rows sum to 1
    novelty_z: np.ndarray  # (n,) evidence for the most probable type, standardised at the cell's depth
    novelty_tail: np.ndarray  # (n,) how rare so low a z is among cells of known types
    totals: np.ndarray  # (n,) float64, counts of the genes that the model looked at


@dataclass(frozen=True)
class Adapted:
    """A model's scores made ready for a sample's platform and background."""

    platform: np.ndarray  # (G,) log effect on each gene
    profiles: ProfileScorer
    composition: np.ndarray  # (K,) share of each type's UMIs


def fit_query(model: ReferenceModel, matrix: CountMatrix) -> Query:
    """The model for this sample, learnt from its genes and from a bounded number of its cells.

    Raises InputError if they have no gene in common.
    """
    join = join_genes(model.genes, matrix.features)
    if not join.n_found:
        raise InputError(_nothing_in_common(model, matrix))
    genes = np.unique(join.places[join.places != ELSEWHERE])
    places = np.where(join.places == ELSEWHERE, ELSEWHERE, np.searchsorted(genes, join.places)).astype(np.int32)
    restricted = model.restricted(genes)
    sample = read_sample(matrix)
    values = _kind_of_values(sample)
    counts = as_pseudo_counts(take_genes(as_linear(sample, values), places, len(genes)), values)
    fusion = model.panels.fusion_for(model.fusion, join.n_found)
    adapted = adapt(restricted.profiles, restricted.linear, fusion, counts, gated=True)
    told = {
        "genes_wanted": len(model.genes),
        "genes_found": join.n_found,
        "genes_of_sample": join.n_telling,
        "joined_by": join.joined_by,
        "n_sampled": sample.shape[0],
        "platform_corrected": bool(adapted.platform.any()),
        "composition": {
            kind.label: round(float(c), 4) for kind, c in zip(model.types, adapted.composition, strict=True)
        },
    }
    query = Query(
        types=model.types,
        nodes=model.nodes,
        places=places,
        platform=adapted.platform,
        profiles=adapted.profiles,
        linear=restricted.linear,
        fusion=fusion,
        novelty=model.novelty,
        enough_umis=model.enough_umis,
        values=values,
        own_labels=join.n_found >= FEWEST_GENES and join.n_found >= FEWEST_SHARE * join.n_telling,
        told=told,
    )
    seen = score_cells(query, sample)
    if not (seen.totals > 0).any():
        return query
    novelty = model.novelty.for_sample(seen.novelty_z[seen.totals > 0])
    return replace(query, novelty=novelty, told=told | {"novelty_shift": round(float(novelty.shift), 2)})


def score_cells(query: Query, counts: sp.csr_matrix) -> Scores:
    """Posterior and novelty of cells x the sample's features, each cell by itself."""
    n_genes = len(query.platform)
    cells = as_pseudo_counts(take_genes(as_linear(counts, query.values), query.places, n_genes), query.values)
    totals = row_totals(cells)
    profile_scores = query.profiles.score(cells, totals)
    linear_scores = query.linear.score(cells, query.platform)
    posterior = query.fusion.posterior(profile_scores, linear_scores, totals)
    z = query.novelty.z(profile_scores, totals, np.argmax(posterior, axis=1))
    return Scores(posterior.astype(np.float32), z, query.novelty.tail(z), totals)


def adapt(
    profiles: np.ndarray, linear: LinearModel, fusion: Fusion, counts: sp.csr_matrix, *, gated: bool, passes: int = 2
) -> Adapted:
    """Platform effect after composition, `passes` times; gated: only where there is enough to tell them apart."""
    profiles = profiles.astype(np.float64)
    gene_totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
    totals = row_totals(counts)
    platform = np.zeros(len(gene_totals))
    adapted = Adapted(platform, ProfileScorer.of(profiles, platform, gene_totals), _even(len(profiles)))
    for last in range(passes + 1):
        posterior = fusion.posterior(
            adapted.profiles.score(counts, totals), linear.score(counts, adapted.platform), totals
        )
        composition = (1 - EVEN) * totals @ posterior / max(totals.sum(), 1) + EVEN / len(profiles)
        enough = counts.shape[0] >= FEWEST_CELLS and (composition > LARGE_TYPE).sum() >= FEWEST_TYPES
        if last == passes or (gated and not enough):
            return Adapted(adapted.platform, adapted.profiles, composition)
        platform = platform_effect(profiles, gene_totals, composition)
        adapted = Adapted(platform, ProfileScorer.of(profiles, platform, gene_totals), composition)
    raise AssertionError("unreachable")


def row_totals(counts: sp.csr_matrix) -> np.ndarray:
    """(n,) float64 sums of each row."""
    return np.asarray(counts @ np.ones(counts.shape[1]))


def as_linear(values: sp.csr_matrix, kind: str) -> sp.csr_matrix:
    """Counts as they are; logarithms undone."""
    if kind != LOGGED:
        return values
    return sp.csr_matrix((np.expm1(values.data.astype(np.float64)), values.indices, values.indptr), shape=values.shape)


def as_pseudo_counts(values: sp.csr_matrix, kind: str) -> sp.csr_matrix:
    """Counts as they are; other values of a cell scaled down to PSEUDO_COUNTS in all, where they are more."""
    if kind == COUNTS:
        return values
    factors = np.minimum(1, PSEUDO_COUNTS / np.maximum(row_totals(values), 1)).astype(np.float32)
    scaled = values.data * np.repeat(factors, np.diff(values.indptr))
    return sp.csr_matrix((scaled, values.indices, values.indptr), shape=values.shape)


def _kind_of_values(sample: sp.csr_matrix) -> str:
    if (sample.data == np.floor(sample.data)).all():
        return READS if sample.nnz and (sample.data == 1).mean() < FEWEST_ONES else COUNTS
    return LOGGED if sample.data.max() < LARGEST_LOG else NORMALISED


def _even(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


def _nothing_in_common(model: ReferenceModel, matrix: CountMatrix) -> str:
    example = f"{matrix.features.ids[0]} ({matrix.features.names[0]})" if matrix.n_features else "none"
    return (
        f"{matrix.path or 'The matrix'} has none of the reference's {len(model.genes)} genes; its first feature is "
        f"{example}, the reference's is {model.genes.ids[0]} ({model.genes.names[0]}). Check that both are "
        f"{model.species} genes with Ensembl ids or gene symbols, or choose another model with --cell-annotation-model."
    )
