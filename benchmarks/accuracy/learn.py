"""Fits the weights of `cytonym.marker_model.trust` on made tissues, whose table lacks some of their types.

    python benchmarks/accuracy/learn.py [--data DIR] [--output trust.json]

One number a level comes from a real set, cells sorted by antibodies: see `real_shift`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ontology import TrueClasses, cell_ontology
from scipy.optimize import brentq
from scipy.special import expit
from sets import PROFILES, LabelledSet, made_tissues, make_tissue, read_set, thin
from sklearn.linear_model import LogisticRegression

from cytonym.marker_model.chain import learn_level
from cytonym.marker_model.embedding import choose_genes
from cytonym.marker_model.evidence import FEATURES
from cytonym.marker_model.model import gene_positions
from cytonym.marker_model.panel import broad_candidates, broad_types, candidates, join_features
from cytonym.marker_model.scores import row_totals, view_cells
from cytonym.marker_model.trust import CELL_FEATURES, LEVELS, best_types, broad_rows_of, decades, sample_features
from cytonym.markers import MarkerType, load_markers
from cytonym.matrix import in_memory
from cytonym.parallel import single_threaded

CELLS_EACH = 200
FEWEST_CELLS = 30
STRENGTH = 0.001  # C of the logistic regression, on standardised features
VARIANTS = {  # with weights: missing types count most; the first three also with much spill-over, and nearly pure
    "whole": 0.9,
    "no broad": 1.5,
    "no coarse": 0.15,
    "panel": 1.0,
    "panel, no broad": 0.5,
    "plain": 1.0,
}
DEPTHS = (2000, 400, 150, 60)
SORTED = "human_pbmc_zheng2017_facs.h5ad"  # sorted by antibodies: the truth does not rest on markers
OF_REPORT = ("Stomach", "SmallIntestine")  # of the same study as a report set
SPILLS = (0.03, 0.1, 0.2, 0.35)
PANEL_SIZES = (300, 600, 1200)
KINDS = {"whole": False, "panel": True}
NAMES = (*FEATURES, *CELL_FEATURES)


@dataclass(frozen=True)
class Example:
    """Some cells of one made sample: features of their best type, and whether its names are right."""

    features: np.ndarray  # (n, F + C)
    decades: np.ndarray  # (n,)
    right: np.ndarray  # (2, n) broad, coarse
    missing: np.ndarray  # (n,) whether the table lacks the cell's broad type
    weight: np.ndarray  # (n,)
    variant: str
    tissue: str

    @property
    def panel(self) -> bool:
        return self.variant.startswith("panel")


def example(data: Path, library: str, tissue: str, umis: int, variant: str, seed: int) -> Example | None:
    """Cells of one made sample, named by a table that may lack a third of its types; nothing if too little is left."""
    rng = np.random.default_rng([seed, umis, sum(map(ord, tissue + variant))])
    if variant == "plain":
        sample = make_tissue(data, library, tissue, umis, seed=seed)
    else:
        sample = _made(data, library, tissue, umis, seed, rng)
    if variant.startswith("panel"):
        sample = _panel_of(sample, int(rng.choice(PANEL_SIZES)), rng)
    return _example_of(sample, data, variant, tissue, rng)


def real_example(data: Path, depth: int | None) -> Example:
    """Cells of the sorted set, thinned, named by the whole table."""
    sample = read_set(data, SORTED)
    found = _example_of(
        sample if depth is None else thin(sample, depth),
        data,
        "plain",
        SORTED,
        np.random.default_rng(0),
        sample.matrix.n_cells,
    )
    assert found is not None
    return found


def _example_of(
    sample: LabelledSet, data: Path, variant: str, tissue: str, rng: np.random.Generator, most: int = CELLS_EACH
) -> Example | None:
    """At most so many of the sample's cells, as they look to a table without the types that the variant leaves out."""
    counted = np.asarray(sample.matrix.counts().sum(axis=1)).ravel() > 0
    sample = sample.take(np.flatnonzero(counted))
    table = load_markers(sample.matrix.species)
    broad, coarse = (TrueClasses(table, cell_ontology(data), level) for level in LEVELS)
    types = _some_types(table.types, sample, variant, {"no broad": broad, "no coarse": coarse}, rng)
    panel = join_features(types, table.gene_ids, sample.matrix.features)
    types = broad_types(types) if variant.startswith("panel") else types
    offered = broad_candidates(types, panel) if variant.startswith("panel") else candidates(types, panel)
    if not offered or sample.matrix.n_cells < FEWEST_CELLS:
        return None
    counts = sample.matrix.counts()
    totals = row_totals(counts)
    genes = choose_genes(counts, totals, sample.matrix.features, panel.columns)
    cells = view_cells(counts, panel.columns, genes)
    with single_threaded("sklearn.cluster", "sklearn.linear_model"):
        positions = gene_positions(panel.columns, genes)
        level = learn_level(cells, types, offered, panel, gene_of_marker=positions)
        features, match = sample_features(cells, level, types, panel, positions)
    broad_of_type, broad_rows = broad_rows_of(types, offered)
    group, best, own = best_types(match, broad_of_type)
    accepted = [broad.of(term) for term in sample.terms.tolist()]
    right = np.array(
        [
            (types[b].broad in a, types[b].broad in a and types[offered[t]].coarse in coarse.of(term))
            for b, t, a, term in zip(broad_rows[group], best, accepted, sample.terms.tolist(), strict=True)
        ]
    ).T
    chosen = rng.permutation(np.flatnonzero([bool(a) for a in accepted]))[:most]
    if not len(chosen):
        return None
    _, of_term, sizes = np.unique(sample.terms[chosen], return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(sizes[of_term])
    there = {types[row].broad for row in offered}
    return Example(
        np.column_stack([features[match.cluster, best], own])[chosen],
        decades(totals[chosen]),
        right[:, chosen],
        np.array([not a & there for a in accepted])[chosen],
        VARIANTS[variant] * weight / weight.sum(),
        variant,
        tissue,
    )


def _made(data: Path, library: str, tissue: str, umis: int, seed: int, rng: np.random.Generator) -> LabelledSet:
    """A made tissue of random size and spill-over, three in ten with only one to three of its types."""
    spill, n_cells = float(rng.choice(SPILLS)), int(rng.choice([300, 600, 1200]))
    sample = make_tissue(data, library, tissue, umis, spill=spill, n_cells=n_cells, seed=seed + 1)
    if rng.random() < 0.3:
        kept = rng.permutation(np.unique(sample.terms))[: int(rng.integers(1, 4))]
        sample = sample.take(np.flatnonzero(np.isin(sample.terms, kept)))
    return sample


def _panel_of(sample: LabelledSet, n_genes: int, rng: np.random.Generator) -> LabelledSet:
    """The sample with a random choice of genes, abundant ones preferred."""
    counts, features = sample.matrix.counts(), sample.matrix.features
    chance = np.sqrt(np.asarray(counts.sum(axis=0)).ravel().astype(float))
    n_genes = min(n_genes, np.count_nonzero(chance))
    columns = np.sort(rng.choice(len(chance), n_genes, replace=False, p=chance / chance.sum()))
    return replace(sample, matrix=in_memory(counts[:, columns], features.names[columns], species=sample.matrix.species))


def _some_types(
    types: Sequence[MarkerType],
    sample: LabelledSet,
    variant: str,
    classes: dict[str, TrueClasses],
    rng: np.random.Generator,
) -> list[MarkerType]:
    """The table without a third of the sample's broad or coarse types, as the variant says."""
    gone: set[str] = set()
    for name, of_level in classes.items():
        if variant.endswith(name):
            found = sorted({c for term in sample.terms.tolist() for c in of_level.of(term)})
            gone = set(rng.permutation(found)[: max(1, len(found) // 3)].tolist())
    return [t for t in types if t.broad not in gone and t.coarse not in gone]


def design(examples: Sequence[Example]) -> np.ndarray:
    """(n, 2 (F + C)) features, and features times depth."""
    plain = np.concatenate([e.features for e in examples])
    return np.hstack([plain, plain * np.concatenate([e.decades for e in examples])[:, None]])


def fit_weights(examples: Sequence[Example]) -> dict[str, dict[str, list[float]]]:
    """level -> feature -> its weight at 400 UMIs and its change with a decade.

    The coarse name is asked of cells whose broad name is right.
    """
    every, all_weights = design(examples), np.concatenate([e.weight for e in examples])
    broad, coarse = np.concatenate([e.right for e in examples], axis=1)
    told = {}
    for level, answer, asked in zip(LEVELS, (broad, coarse), (np.ones_like(broad), broad), strict=True):
        x, right, weight = every[asked], answer[asked], all_weights[asked]
        scale = np.maximum(x.std(axis=0), 1e-3)
        if right.all() or not right.any():  # a panel has no coarse names
            told[level] = {name: [0.0, 0.0] for name in NAMES}
            continue
        model = LogisticRegression(C=STRENGTH, max_iter=3000)
        model.fit(x / scale, right, sample_weight=weight / weight.mean())
        found = (model.coef_[0] / scale).reshape(2, -1)
        found[0, NAMES.index("constant")] += model.intercept_[0]
        told[level] = dict(zip(NAMES, found.T.round(3).tolist(), strict=True))
    return told


def real_shift(told: dict[str, dict[str, list[float]]], examples: Sequence[Example]) -> list[float]:
    """What must be added to the log odds of each level so that they are right on average for real cells.

    Made tissues are harder than real ones: their atlases hold ambient RNA and wrong labels.
    """
    features, depth = np.concatenate([e.features for e in examples]), np.concatenate([e.decades for e in examples])
    broad, coarse = np.concatenate([e.right for e in examples], axis=1)
    shifts = []
    for level, answer, asked in zip(LEVELS, (broad, coarse), (np.ones_like(broad), broad), strict=True):
        weights = np.array([told[level][name] for name in NAMES])
        logits = (features @ weights[:, 0] + depth * (features @ weights[:, 1]))[asked]
        gap = partial(_gap, logits, float(answer[asked].mean()))
        shifts.append(float(brentq(gap, -5, 5)))
    return shifts


def _gap(logits: np.ndarray, share: float, shift: float) -> float:
    return float(expit(logits + shift).mean()) - share


def add_shift(told: dict[str, dict[str, list[float]]], shifts: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """The weights with the shift of each level in their constants."""
    shifted = {level: dict(weights) for level, weights in told.items()}
    for level, shift in zip(LEVELS, shifts, strict=True):
        at_reference, slope = told[level]["constant"]
        shifted[level]["constant"] = [round(at_reference + shift, 3), slope]
    return shifted


def jobs_of(data: Path) -> list[tuple[Any, ...]]:
    """Samples to make: each tissue at each depth in half of the variants, so that each variant meets each depth."""
    made = [(library, tissue) for library in PROFILES for tissue in made_tissues(data, library)]
    kinds = [(i + j, (*kind, umis)) for i, kind in enumerate(made) for j, umis in enumerate(DEPTHS)]
    return [
        (data, *kind, variant, seed)
        for turn, kind in kinds
        for seed, variant in enumerate(VARIANTS)
        if (turn + seed) % 2 == 0 and kind[1] not in OF_REPORT and (kind[2] >= 150 or not variant.startswith("panel"))
    ]


def as_text(told: dict[str, Any]) -> str:
    """JSON with one feature a line."""
    return re.sub(r"\[\s+(\S+)\s+(\S+)\s+\]", r"[\1 \2]", json.dumps(told, indent=1)) + "\n"


def _example(job: tuple[Any, ...]) -> Example | None:
    return example(*job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        found = pool.map(_example, jobs_of(options.data), chunksize=4)
        examples = [e for e in found if e is not None]
    told = {kind: fit_weights([e for e in examples if e.panel == panel]) for kind, panel in KINDS.items()}
    shifts = real_shift(told["whole"], [real_example(options.data, depth) for depth in (None, 400, 150, 60)])
    text = as_text({kind: add_shift(of_kind, shifts) for kind, of_kind in told.items()})
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
