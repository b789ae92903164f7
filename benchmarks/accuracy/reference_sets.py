"""Pairs of a labelled reference and a labelled sample of another study, and what is done to the sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sets import (
    DEPTH_NOISE,
    GENE_NOISE,
    LabelledSet,
    label_table,
    read_matrix,
    read_profiles,
    read_set,
    spill_over,
    terms_of,
    text_column,
    thin,
)

from cytonym.matrix import Features, in_memory
from cytonym.reference_model.training import ReferenceType, TrainingSet

DEPTHS = (None, 400, 150, 60)
SPILLED = ((400, 0.15), (400, 0.3), (150, 0.15), (150, 0.3))  # depth, share of another cell
LEFT_OUT_DEPTHS = (None, 150)
DRAWN_UMIS = 2000
MOST_DRAWN = 40  # cells drawn from one average; fewer where there are hundreds of averages
DRAWN_CELLS = 5000

PBMC = "human_pbmc3k_filtered_feature_bc_matrix.h5:human_pbmc3k_labels.csv"
ZHENG, LYMPH = "human_pbmc_zheng2017_facs.h5ad", "human_immune_lymph_ref330.h5ad"
CEREBELLUM, MARROW, CORTEX = "mouse_cerebellum_ref.h5ad", "mouse_bonemarrow_paul15.h5ad", "mouse_cortex_osmfish33.h5ad"
GUT = "mouse_gut_mca1871.h5ad"
WANG, BARON = "human_pancreas_wang_query219g.h5ad", "human_pancreas_baron_avg14.h5ad"
SORTED = "mouse_rnaseq_sorted28_ref.h5ad"
HUMAN_TISSUES, MOUSE_TISSUES = "human_tissue_profiles.h5ad", "mouse_tissue_profiles.h5ad"

CHOOSE = ((ZHENG, PBMC), (BARON, WANG))  # settings may be chosen on these, and on nothing else here
REPORT = (
    (LYMPH, PBMC),
    (LYMPH, ZHENG),
    (ZHENG, LYMPH),
    (SORTED, CEREBELLUM),
    (SORTED, MARROW),
    (SORTED, CORTEX),
    (SORTED, GUT),
    (HUMAN_TISSUES, PBMC),
    (HUMAN_TISSUES, ZHENG),
    (HUMAN_TISSUES, LYMPH),
    (MOUSE_TISSUES, CEREBELLUM),
    (MOUSE_TISSUES, MARROW),
    (MOUSE_TISSUES, CORTEX),
)


@dataclass(frozen=True)
class Averages:
    """A reference of averages, as the peers that take averages take them."""

    shares: np.ndarray  # (n, G) of each gene
    type_codes: np.ndarray  # (n,)


@dataclass(frozen=True)
class Reference:
    name: str
    training: TrainingSet
    broad: tuple[str, ...]  # of each type: the class to score across studies at, "" where unknown
    averages: Averages | None = None  # where the cells are drawn from averages

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(kind.ontology_id for kind in self.training.types)

    def without(self, gone: frozenset[int]) -> Reference:
        """The reference with some types left out."""
        kept = [k for k in range(len(self.training.types)) if k not in gone]
        row_of = np.full(len(self.training.types), -1, dtype=np.int32)
        row_of[kept] = np.arange(len(kept))
        cells = np.flatnonzero(row_of[self.training.type_codes] >= 0)
        training = replace(
            self.training,
            counts=self.training.counts[cells],
            types=tuple(self.training.types[k] for k in kept),
            type_codes=row_of[self.training.type_codes[cells]],
            group_codes=self.training.group_codes[cells],
        )
        return Reference(self.name, training, tuple(self.broad[k] for k in kept))


@dataclass(frozen=True)
class Variant:
    """The sample at one depth, perhaps with spilled counts."""

    name: str  # "full", "150", "150 with 30 % spilled"
    depth: str
    spilled: float
    sample: LabelledSet


# references


@cache
def read_reference(data: Path, text: str) -> Reference:
    """Labelled cells with raw counts, or one of the files of averages, with cells drawn from each."""
    if text in AVERAGES:
        return AVERAGES[text](data, text)
    found = read_set(data, text)
    if found.labels is None:
        raise SystemExit(f"{text} has no labels")
    cells = np.flatnonzero(found.labels != "")
    labels, codes = np.unique(found.labels[cells], return_inverse=True)
    training = _training(
        found.matrix.features,
        found.matrix.counts()[cells],
        labels,
        terms_of(data, found.name, labels),
        codes,
        np.zeros(len(cells)),
        found.matrix.species,
    )
    return Reference(found.name, training, broad_classes(data, found.name, labels))


def broad_classes(data: Path, name: str, labels: np.ndarray) -> tuple[str, ...]:
    """The class of each label to score across studies at, "" where the data folder's table has none."""
    broad_of = label_table(data, name)["broad"].to_dict()
    return tuple(broad_of.get(label, "") for label in labels.tolist())


def _averages_by_label(data: Path, text: str, linear: Callable[[np.ndarray], np.ndarray]) -> Reference:
    """A type for each row."""
    name = text.removesuffix(".h5ad")
    with h5py.File(data / text, "r") as file:
        values, genes = linear(read_matrix(file).toarray()), text_column(file["var"])
        names, codes = np.unique(text_column(file["obs"], "cell_type"), return_inverse=True)
    one_group = np.zeros(len(codes), dtype=int)
    return _drawn(
        name, values, genes, names, terms_of(data, name, names), broad_classes(data, name, names), codes, one_group
    )


def _averages_by_term(data: Path, text: str) -> Reference:
    """A type for each Cell Ontology term, from its averages in all tissues; genes that every study measured."""
    values, genes, obs = read_profiles(data / text)
    studies = [values[(obs["study"] == study).to_numpy()].sum(axis=0) > 0 for study in sorted(set(obs["study"]))]
    measured = np.logical_and.reduce(studies)
    rows = np.flatnonzero(obs["cl_id"] != "")
    obs = obs.iloc[rows]
    of_label = obs.drop_duplicates("cl_label").set_index("cl_label").sort_index()
    codes = of_label.index.get_indexer(obs["cl_label"])
    return _drawn(
        text.removesuffix(".h5ad"),
        values[rows][:, measured],
        genes[measured],
        of_label.index.to_numpy(dtype=str),
        of_label["cl_id"].to_numpy(dtype=str),
        tuple(of_label["broad"]),
        codes,
        pd.factorize(obs["tissue"], sort=True)[0],
    )


def _above_floor(values: np.ndarray) -> np.ndarray:
    """Log2 values as linear ones; the smallest, a fifth of the table, is what a gene that is off has."""
    return np.exp2(values) - np.exp2(values.min())


AVERAGES: dict[str, Callable[[Path, str], Reference]] = {
    BARON: lambda data, text: _averages_by_label(data, text, lambda values: values),
    SORTED: lambda data, text: _averages_by_label(data, text, _above_floor),
    HUMAN_TISSUES: _averages_by_term,
    MOUSE_TISSUES: _averages_by_term,
}


def _drawn(
    name: str,
    values: np.ndarray,
    genes: np.ndarray,
    labels: np.ndarray,
    terms: np.ndarray,
    broad: tuple[str, ...],
    codes: np.ndarray,
    groups: np.ndarray,
) -> Reference:
    """A reference of cells drawn from averages (n, G); `codes` and `groups` are those of the averages."""
    shares = values / values.sum(axis=1, keepdims=True)
    each = int(np.clip(DRAWN_CELLS // len(shares), 10, MOST_DRAWN))
    rows = np.repeat(np.arange(len(shares)), each)
    species = "mouse" if name.startswith("mouse") else "human"
    counts = draw_cells(shares, each)
    training = _training(Features(genes, genes), counts, labels, terms, codes[rows], groups[rows], species)
    return Reference(name, training, broad, Averages(shares, codes))


def draw_cells(shares: np.ndarray, each: int, *, seed: int = 0) -> sp.csr_matrix:
    """So many cells of each average, one average after the other: Poisson, log-normal noise of genes and of depth."""
    rng = np.random.default_rng(seed)
    blocks = []
    for average in shares:
        noisy = average * rng.lognormal(0, GENE_NOISE, (each, len(average)))
        umis = DRAWN_UMIS * rng.lognormal(0, DEPTH_NOISE, (each, 1))
        blocks.append(sp.csr_matrix(rng.poisson(noisy / noisy.sum(axis=1, keepdims=True) * umis).astype(np.int32)))
    return sp.csr_matrix(sp.vstack(blocks))


def _training(
    features: Features,
    counts: sp.csr_matrix,
    labels: np.ndarray,
    terms: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    species: str,
) -> TrainingSet:
    sizes = np.bincount(codes, minlength=len(labels))
    types = tuple(
        ReferenceType(label, term or label, n_cells=size)
        for label, term, size in zip(labels.tolist(), terms.tolist(), sizes.tolist(), strict=True)
    )
    return TrainingSet(features, counts, types, codes.astype(np.int32), groups.astype(np.int32), species)


# samples


@cache
def read_query(data: Path, text: str) -> LabelledSet:
    """The labelled cells of the sample; log2 values of the file that holds such as whole numbers."""
    sample = _unlogged(data, text) if text == WANG else read_set(data, text)
    if sample.labels is None:
        raise SystemExit(f"{text} has no labels")
    return sample.take(np.flatnonzero(sample.labels != ""))


def _unlogged(data: Path, text: str) -> LabelledSet:
    name = text.removesuffix(".h5ad")
    with h5py.File(data / text, "r") as file:
        values, genes = read_matrix(file), text_column(file["var"])
        labels = text_column(file["obs"], "cell_type")
    values.data = np.rint(np.exp2(values.data) - 1)
    return LabelledSet(name, in_memory(values, genes), labels, terms_of(data, name, labels))


@cache
def variants(data: Path, text: str, depths: tuple[int | None, ...] = DEPTHS, spill: bool = True) -> tuple[Variant, ...]:
    """The sample at each depth below its own, and with spilled counts; the same for every method."""
    return tuple(_variants(read_query(data, text), depths, spill))


def _variants(sample: LabelledSet, depths: tuple[int | None, ...], spill: bool) -> Iterator[Variant]:
    for depth in depths:
        if depth is None:
            yield Variant("full", "full", 0.0, sample)
            continue
        if depth >= sample.median_umis:
            continue
        thinned = thin(sample, depth)
        yield Variant(str(depth), str(depth), 0.0, thinned)
        for at, share in SPILLED:
            if spill and at == depth:
                yield Variant(f"{depth} with {share:.0%} spilled", str(depth), share, spill_over(thinned, share))
