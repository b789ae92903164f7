"""A reference model from labelled cells: what types look like, and how far that holds in another study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import InputError
from ..matrix import Features
from ..ontology import Ontology
from ..parallel import single_threaded
from .fusion import KNOTS, OF_ONE_AVERAGE, START, Fusion, PanelCurves, learn_curves, learn_fusion
from .genes import telling
from .labels import NONE, Levels, Nodes, call_cells
from .linear import DEPTH_SPREAD, LinearModel, learn_linear, spread_rows
from .novelty import learn_novelty
from .profiles import restricted_profiles, type_profiles
from .query import adapt, row_totals
from .stored import ReferenceModel
from .strangers import strangers
from .training import ReferenceType, TrainingSet

N_FOLDS = 3
STRANGER_UMIS = (8000.0, 2500.0, 1000.0, 400.0, 150.0, 60.0, 25.0)
PANEL_SIZES = (32, 128, 512, 2048)  # genes
PANEL_CHOICE = 4  # times as many genes are those that a panel is drawn from
MOST_OF_PANEL = 1000  # held-out cells of a fold that panels are tried on
SEVERAL_AVERAGES = 0.5  # of the types have averages of several tissues or studies
MOST_SCORES = 12_000_000  # strangers x types that are kept
LISTED_CONFUSIONS, SMALLEST_CONFUSION = 20, 0.02
DEEP = 400.0  # UMIs from which confusions are told
NEARLY = 0.9
N_BINS = 15  # of the expected calibration error


@dataclass(frozen=True)
class Strangers:
    """Held-out cells as another study might see them, scored by a model that has not seen them."""

    profile_scores: np.ndarray  # (n, K) float32
    linear_scores: np.ndarray  # (n, K) float32
    totals: np.ndarray  # (n,) UMIs
    codes: np.ndarray  # (n,) true type
    depths: np.ndarray  # (n,) the entry of STRANGER_UMIS


def learn_reference(training: TrainingSet, ontology: Ontology, *, seed: int = 0) -> ReferenceModel:
    """The model of these cells; the same cells give the same model, whatever the order of their genes.

    Raises InputError if fewer than two types have cells, or no gene is left.
    """
    if len(np.unique(training.type_codes)) < 2:
        raise InputError("The reference has cells of fewer than two types: there is nothing to tell apart.")
    with single_threaded("sklearn.linear_model"):
        genes, counts = _telling_counts(training)
        parents = parent_groups(training.types)
        codes = training.type_codes
        profiles = type_profiles(counts, codes, parents)
        linear = learn_linear(counts, codes, len(parents), np.random.default_rng([seed, 0]))
        folds = learn_folds(counts, codes, parents, seed)
        known = score_strangers(counts, codes, folds, [seed, 5])
        trust = trust_of(training)
        fusion = learn_fusion(known.profile_scores, known.linear_scores, known.totals, known.codes, trust)
        panels = learn_panels(counts, codes, folds, fusion, seed)
        novelty = learn_novelty(known.profile_scores, known.totals, known.codes)
    nodes = Nodes.of(training.types, ontology)
    posterior = fusion.posterior(known.profile_scores, known.linear_scores, known.totals)
    expected = expected_figures(posterior, known, training.types, nodes)
    return ReferenceModel(
        species=training.species,
        genes=genes,
        types=training.types,
        nodes=nodes,
        profiles=profiles.astype(np.float32),
        linear=linear,
        fusion=fusion,
        panels=panels,
        novelty=novelty,
        enough_umis=_enough_umis(expected),
        expected=expected,
        confusions=_confusions(posterior, known, training.types),
        seed=seed,
    )


def parent_groups(types: tuple[ReferenceType, ...]) -> np.ndarray:
    """(K,) code of the coarse type that each type belongs to, or else of the broad one; without either all are one."""
    names = [kind.coarse or kind.broad for kind in types]
    return np.unique(names, return_inverse=True)[1].astype(np.int32)


def trust_of(training: TrainingSet) -> float:
    """How far scores of strangers can be believed: less where the types are drawn from one average each."""
    if not training.drawn:
        return 1.0
    averages = np.unique(training.group_codes * len(training.types) + training.type_codes)
    several = np.bincount(averages % len(training.types), minlength=len(training.types)) > 1
    return 1.0 if several.mean() >= SEVERAL_AVERAGES else OF_ONE_AVERAGE


@dataclass(frozen=True)
class Fold:
    """What two thirds of the cells say of types, and the cells that are held out."""

    profiles: np.ndarray  # (K, G) float64
    linear: LinearModel
    rows: np.ndarray


def learn_folds(counts: sp.csr_matrix, codes: np.ndarray, parents: np.ndarray, seed: int) -> list[Fold]:
    """Each cell is held out once, of a large reference some cells of each type."""
    folds = _folds(codes, np.random.default_rng([seed, 1]))
    most = MOST_SCORES // (len(parents) * len(STRANGER_UMIS)) // N_FOLDS
    found = []
    for fold in range(N_FOLDS):
        seen, of_seen = counts[folds != fold], codes[folds != fold]
        linear = learn_linear(seen, of_seen, len(parents), np.random.default_rng([seed, 2, fold]))
        rows = np.flatnonzero((folds == fold) & np.isin(codes, of_seen))
        found.append(Fold(type_profiles(seen, of_seen, parents), linear, rows[spread_rows(codes[rows], most)]))
    return found


def score_strangers(counts: sp.csr_matrix, codes: np.ndarray, folds: Sequence[Fold], seed: Sequence[int]) -> Strangers:
    """The held-out cells of each fold at each depth."""
    parts = [
        part
        for i, fold in enumerate(folds)
        for part in _score_fold(counts[fold.rows], codes[fold.rows], fold, np.random.default_rng([*seed, i]))
    ]
    return Strangers(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _score_fold(
    counts: sp.csr_matrix, codes: np.ndarray, fold: Fold, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    for umis in STRANGER_UMIS:
        cells = strangers(counts, codes, umis, DEPTH_SPREAD, rng)
        adapted = adapt(fold.profiles, fold.linear, _unlearnt(len(fold.profiles)), cells, gated=False, passes=1)
        totals = row_totals(cells)
        scores = adapted.profiles.score(cells, totals), fold.linear.score(cells, adapted.platform)
        yield *scores, totals, codes, np.full(len(codes), umis)


def learn_panels(
    counts: sp.csr_matrix, codes: np.ndarray, folds: Sequence[Fold], fusion: Fusion, seed: int
) -> PanelCurves:
    """Curves for samples with few of the genes: panels are drawn from those that vary most between types."""
    n_genes = counts.shape[1]
    by_spread = np.argsort(-_spread_between_types(folds[0].profiles), kind="stable")
    sizes, log_a, log_b = [], [], []
    for size in (s for s in PANEL_SIZES if 2 * s <= n_genes):
        drawn = np.random.default_rng([seed, 3, size]).permutation(by_spread[: PANEL_CHOICE * size])[:size]
        genes = np.sort(drawn)
        of_panel = [_restricted_fold(fold, genes, n_genes) for fold in folds]
        known = score_strangers(counts[:, genes], codes, of_panel, [seed, 4, size])
        a, b = learn_curves(known.profile_scores, known.linear_scores, known.totals, known.codes)
        sizes.append(size)
        log_a.append(a)
        log_b.append(b)
    return PanelCurves(
        np.array([*sizes, n_genes], dtype=np.float64),
        np.array([*log_a, fusion.log_a]),
        np.array([*log_b, fusion.log_b]),
    )


def _spread_between_types(profiles: np.ndarray) -> np.ndarray:
    """(G,) variance of a gene's shares over types, in units of what sampling gives."""
    mean = profiles.mean(axis=0)
    return np.asarray(profiles.var(axis=0) / np.maximum(mean, np.finfo(np.float64).tiny))


def _restricted_fold(fold: Fold, genes: np.ndarray, n_genes: int) -> Fold:
    rows = fold.rows[:: max(1, len(fold.rows) // MOST_OF_PANEL)]
    return Fold(restricted_profiles(fold.profiles, genes), fold.linear.restricted(genes, n_genes), rows)


def _unlearnt(n_types: int) -> Fusion:
    a, b = np.log(START)
    knots, types = np.ones(len(KNOTS)), np.zeros(n_types)
    return Fusion(a * knots, b * knots, types, types, np.ones(()))


def _telling_counts(training: TrainingSet) -> tuple[Features, sp.csr_matrix]:
    """Genes that a model looks at and the reference shows, sorted by id, and the cells' counts of them, float32."""
    seen = np.asarray(training.counts.sum(axis=0)).ravel() > 0
    kept = np.flatnonzero(seen & telling(training.features.names))
    if not len(kept):
        raise InputError("The reference has no gene that tells types apart: give all genes, not ribosomal ones alone.")
    kept = kept[np.argsort(training.features.ids[kept], kind="stable")]
    counts = training.counts[:, kept].astype(np.float32)
    counts.sort_indices()
    return Features(training.features.ids[kept], training.features.names[kept]), counts


def _folds(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) fold of each cell; each type's cells are spread evenly."""
    folds = np.empty(len(codes), dtype=np.int32)
    for code in np.unique(codes).tolist():
        rows = rng.permutation(np.flatnonzero(codes == code))
        folds[rows] = (np.arange(len(rows)) + rng.integers(N_FOLDS)) % N_FOLDS
    return folds


def expected_figures(
    posterior: np.ndarray, known: Strangers, types: tuple[ReferenceType, ...], nodes: Nodes
) -> tuple[dict[str, Any], ...]:
    """Accuracy, calibration error and coverage by depth: of each level's likeliest name, and of the label reported."""
    coarse, broad = Levels.of(types, "coarse"), Levels.of(types, "broad")
    members = {"fine": np.eye(len(types), dtype=bool), "coarse": coarse.members, "broad": broad.members}
    rows = []
    calls = call_cells(posterior, np.ones(len(posterior)), known.totals, nodes, coarse, broad, enough_umis=0)
    accepted = np.hstack([members["fine"], nodes.members])
    for umis in STRANGER_UMIS:
        of_depth = known.depths == umis
        for level, sets in members.items():
            if sets.shape[1]:
                sums = posterior[of_depth] @ sets
                right = sets[known.codes[of_depth], np.argmax(sums, axis=1)]
                rows.append(_figures(umis, level, sums.max(axis=1), right, sums.max(axis=1) >= 0.7))
        named = of_depth & (calls.fine != NONE)
        right = accepted[known.codes[named], calls.fine[named]]
        figures = _figures(umis, "reported", calls.probability[named], right, np.ones(len(right)))
        rows.append(figures | {"coverage": round(float(named.sum() / max(of_depth.sum(), 1)), 4)})
    return tuple(rows)


def _figures(umis: float, level: str, confidence: np.ndarray, right: np.ndarray, covered: np.ndarray) -> dict[str, Any]:
    if not len(right):
        return {"umis": umis, "level": level, "accuracy": 0.0, "ece": 0.0, "coverage": 0.0}
    return {
        "umis": umis,
        "level": level,
        "accuracy": round(float(right.mean()), 4),
        "ece": round(calibration_error(confidence, right), 4),
        "coverage": round(float(covered.mean()), 4),
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over 15 equal bins of confidence, by their cells (ECE)."""
    bins = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=N_BINS)
    return float(np.abs(gaps).sum() / max(len(right), 1))


def _enough_umis(expected: tuple[dict[str, Any], ...]) -> float:
    """The least depth from which on strangers get a label nearly as often as at any depth."""
    coverage = {row["umis"]: row["coverage"] for row in expected if row["level"] == "reported"}
    most = max(coverage.values())
    return min(umis for umis, share in coverage.items() if share >= NEARLY * most)


def _confusions(
    posterior: np.ndarray, known: Strangers, types: tuple[ReferenceType, ...]
) -> tuple[dict[str, Any], ...]:
    deep = known.depths >= DEEP
    n_types = len(types)
    pairs = known.codes[deep].astype(np.int64) * n_types + np.argmax(posterior[deep], axis=1)
    table = np.bincount(pairs, minlength=n_types**2).reshape(n_types, n_types)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:LISTED_CONFUSIONS]
    return tuple(
        {"type": types[i // n_types].label, "taken_for": types[i % n_types].label, "share": round(float(share), 4)}
        for i, share in zip(order.tolist(), shares.ravel()[order].tolist(), strict=True)
        if share >= SMALLEST_CONFUSION
    )
