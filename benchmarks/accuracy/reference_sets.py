"""Pairs of a labelled reference and a labelled sample of another study, and what is done to the sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from sets import (
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

from cytonym.levels import with_shared_terms
from cytonym.matrix import Features, in_memory
from cytonym.ontology_data import load_levels, load_ontology
from cytonym.reference_model.drawn import drawn_training_set
from cytonym.reference_model.training import ReferenceType, TrainingSet

DEPTHS = (None, 400, 150, 60)
SPILLED = ((400, 0.15), (400, 0.3), (150, 0.15), (150, 0.3))  # depth, share of another cell
LEFT_OUT_DEPTHS = ("full", "150")
MOST_CELLS = 250  # of a type of the reference

PBMC = "human_pbmc3k_filtered_feature_bc_matrix.h5:human_pbmc3k_labels.csv"
ZHENG, LYMPH = "human_pbmc_zheng2017_facs.h5ad", "human_immune_lymph_ref330.h5ad"
CEREBELLUM, MARROW, CORTEX = "mouse_cerebellum_ref.h5ad", "mouse_bonemarrow_paul15.h5ad", "mouse_cortex_osmfish33.h5ad"
WANG, BARON = "human_pancreas_wang_query219g.h5ad", "human_pancreas_baron_avg14.h5ad"
SORTED = "mouse_rnaseq_sorted28_ref.h5ad"
HUMAN_TISSUES, MOUSE_TISSUES = "human_tissue_profiles.h5ad", "mouse_tissue_profiles.h5ad"

CHOOSE = (  # settings may be chosen on these, and on nothing else here
    (ZHENG, PBMC),
    (PBMC, ZHENG),
    (BARON, WANG),
    (HUMAN_TISSUES, PBMC),
)
REPORT = (
    (LYMPH, PBMC),
    (LYMPH, ZHENG),
    (ZHENG, LYMPH),
    (SORTED, CEREBELLUM),
    (SORTED, MARROW),
    (SORTED, CORTEX),
    (HUMAN_TISSUES, ZHENG),
    (HUMAN_TISSUES, LYMPH),
    (MOUSE_TISSUES, CEREBELLUM),
    (MOUSE_TISSUES, MARROW),
    (MOUSE_TISSUES, CORTEX),
)
LEFT_OUT = (
    (ZHENG, PBMC),
    (PBMC, ZHENG),
    (BARON, WANG),
    (LYMPH, PBMC),
    (LYMPH, ZHENG),
    (ZHENG, LYMPH),
    (SORTED, CEREBELLUM),
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
    labels, codes = np.unique(found.labels, return_inverse=True)
    cells = _spread(codes, found.labels != "")
    labels, codes = np.unique(found.labels[cells], return_inverse=True)
    training = TrainingSet(
        found.matrix.features,
        found.matrix.counts()[cells],
        _types(labels, terms_of(data, found.name, labels)),
        codes.astype(np.int32),
        np.zeros(len(cells), dtype=np.int32),
        found.matrix.species,
    )
    return Reference(found.name, training, broad_classes(data, found.name, labels))


def _spread(codes: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Rows of at most MOST_CELLS of each type, in order: what a builder keeps to learn from."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(labelled))
    ranks = pd.Series(codes[order]).groupby(codes[order]).cumcount().to_numpy()
    return np.sort(order[ranks < MOST_CELLS])


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
    return _drawn(name, values, genes, names, terms_of(data, name, names), broad_classes(data, name, names), codes)


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
) -> Reference:
    """A reference of cells drawn from averages (n, G); `codes` are the types of the averages."""
    species = "mouse" if name.startswith("mouse") else "human"
    training = drawn_training_set(values, codes, Features(genes, genes), _types(labels, terms), species=species)
    return Reference(name, training, broad, Averages(values / values.sum(axis=1, keepdims=True), codes))


def _types(labels: np.ndarray, terms: np.ndarray) -> tuple[ReferenceType, ...]:
    """With the packaged names above them; a label without a term stands for itself alone."""
    ontology = load_ontology()
    above = with_shared_terms([load_levels().of(term, ontology) for term in terms.tolist()], ontology)
    return tuple(
        ReferenceType(label, term or label, names.broad, names.coarse, names.broad_id, names.coarse_id)
        for label, term, names in zip(labels.tolist(), terms.tolist(), above, strict=True)
    )


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
