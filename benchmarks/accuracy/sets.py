"""Labelled samples: real ones from files, made ones from average profiles, and what can be done to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytonym.io.tenx_h5 import TenxH5Source
from cytonym.matrix import CountMatrix, in_memory

REAL = (
    "human_pbmc3k_filtered_feature_bc_matrix.h5:human_pbmc3k_labels.csv",
    "human_pbmc_zheng2017_facs.h5ad",
    "human_immune_lymph_ref330.h5ad",
    "mouse_gut_mca1871.h5ad",
    "mouse_bonemarrow_paul15.h5ad",
    "mouse_cerebellum_ref.h5ad",
)
UNLABELLED = (
    "human_lymphnode_visium1000.h5ad",
    "human_pdac_st428.h5ad",
    "mouse_brain_xenium_cell_feature_matrix.h5",
)
PROFILES = {  # the first word is the species
    "human": "human_tissue_profiles.h5ad",
    "mouse": "mouse_tissue_profiles.h5ad",
    "human landscape": "human_hcl_ref_profiles.h5ad",
}
FEWEST_PROFILES = 5
GENE_NOISE, DEPTH_NOISE = 0.7, 0.4  # log-normal sd over genes of a cell, and of the depth over cells


@dataclass(frozen=True)
class LabelledSet:
    name: str
    matrix: CountMatrix
    labels: np.ndarray | None  # of each cell, "" without one
    terms: np.ndarray | None  # Cell Ontology ids of the labels, "" without one

    @property
    def median_umis(self) -> float:
        return float(np.median(np.asarray(self.matrix.counts().sum(axis=1))))

    def take(self, cells: np.ndarray) -> LabelledSet:
        """Some of the cells."""
        return self.with_counts(self.matrix.counts()[cells], cells)

    def with_counts(self, counts: sp.csr_matrix, cells: np.ndarray | None = None) -> LabelledSet:
        """The same cells, or the chosen ones, with other counts."""
        features = self.matrix.features
        matrix = in_memory(counts, features.names, ids=features.ids, species=self.matrix.species)
        kept = slice(None) if cells is None else cells
        labels, terms = (None if x is None else x[kept] for x in (self.labels, self.terms))
        return replace(self, matrix=matrix, labels=labels, terms=terms)


def read_set(data: Path, text: str) -> LabelledSet:
    """`FILE` or `FILE:LABELS`: a 10x HDF5 file with a table `barcode,label`, or an h5ad file with obs/cell_type."""
    file, _, labels_file = text.partition(":")
    species = "mouse" if Path(file).name.startswith("mouse") else "human"
    labels = None
    if file.endswith(".h5"):
        matrix = CountMatrix.of(TenxH5Source(data / file), species=species, path=data / file)
        name = re.sub(r"_(filtered|cell)_feature.*", "", file)
        if labels_file:
            by_barcode = pd.read_csv(data / labels_file).set_index("barcode")["label"]
            labels = by_barcode.reindex(matrix.barcodes()).fillna("").to_numpy(dtype=str)
    else:
        name = file.removesuffix(".h5ad")
        with h5py.File(data / file, "r") as opened:
            matrix, labels = _read_h5ad(opened, species)
    return LabelledSet(name, matrix, labels, None if labels is None else terms_of(data, name, labels))


def terms_of(data: Path, name: str, labels: np.ndarray) -> np.ndarray:
    """The Cell Ontology id of each label, "" where the data folder's table has none."""
    term_of = label_table(data, name)["cl_id"].to_dict()
    return np.array([term_of.get(label, "") for label in labels])


@cache
def label_table(data: Path, name: str) -> pd.DataFrame:
    """The rows of the data folder's table of labels of one set, by label."""
    table = pd.read_csv(data / "labels_cl.tsv", sep="\t", keep_default_na=False)
    return table[table["dataset"] == name].set_index("label")


def _read_h5ad(file: h5py.File, species: str) -> tuple[CountMatrix, np.ndarray | None]:
    names = text_column(file["var"])
    ids = text_column(file["var"], "gene_id") if "gene_id" in file["var"] else names
    labels = text_column(file["obs"], "cell_type") if "cell_type" in file["obs"] else None
    matrix = in_memory(read_matrix(file), names, ids=ids, barcodes=text_column(file["obs"]), species=species)
    return matrix, labels


def read_matrix(file: h5py.File) -> sp.csr_matrix:
    """X of an h5ad file, dense or sparse."""
    stored = file["X"]
    if isinstance(stored, h5py.Dataset):
        return sp.csr_matrix(stored[()])
    return sp.csr_matrix(tuple(stored[key][()] for key in ("data", "indices", "indptr")), stored.attrs["shape"])


def text_column(table: h5py.Group, key: str = "") -> np.ndarray:
    """A column of `obs` or `var`; without a key the index."""
    return _text(table[key or table.attrs["_index"]])


def _text(stored: h5py.Dataset | h5py.Group) -> np.ndarray:
    if isinstance(stored, h5py.Group):
        return _text(stored["categories"])[stored["codes"][()]]
    return np.asarray(stored.asstr()[()], dtype=str)


@cache
def read_profiles(path: Path) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """(n, G) linear values, the genes, and what is known of each profile."""
    with h5py.File(path, "r") as file:
        values, names = read_matrix(file).toarray(), text_column(file["var"])
        keys = ("cell_type", "cl_id", "cl_label", "broad", "tissue")
        obs = pd.DataFrame({key: text_column(file["obs"], key) for key in keys})
        obs["study"] = text_column(file["obs"], "study") if "study" in file["obs"] else obs["tissue"]
    return np.expm1(values), names, obs


def made_tissues(data: Path, library: str) -> list[str]:
    """Tissues of a library of average profiles with at least five types that have a Cell Ontology id."""
    obs = read_profiles(data / PROFILES[library])[2]
    sizes = obs[obs["cl_id"] != ""].groupby("tissue").size()
    return sorted(sizes.index[sizes >= FEWEST_PROFILES])


def make_tissue(
    data: Path, library: str, tissue: str, umis: int, *, spill: float = 0.1, n_cells: int = 1000, seed: int = 0
) -> LabelledSet:
    """Noisy cells of a tissue's average profiles, in random proportions.

    A cell's gene shares are its profile's times log-normal noise, mixed with a Beta-distributed share (mean `spill`)
    of another cell's profile; its counts are Poisson at a log-normal depth around `umis`. Genes that the study never
    saw are left out.
    """
    rng = np.random.default_rng(seed)
    shares, names, obs = read_profiles(data / PROFILES[library])
    rows = np.flatnonzero((obs["tissue"] == tissue) & (obs["cl_id"] != ""))
    measured = shares[obs["study"] == obs["study"].iloc[rows[0]]].sum(axis=0) > 0
    profiles = shares[rows][:, measured]
    profiles /= profiles.sum(axis=1, keepdims=True)
    proportions = 0.5 * rng.dirichlet(np.ones(len(rows))) + 0.5 / len(rows)
    kind = rng.choice(len(rows), n_cells, p=proportions)
    neighbour = rng.permutation(kind)
    foreign = rng.beta(1, 1 / spill - 1, n_cells) if spill else np.zeros(n_cells)
    drawn = []
    for cells in np.array_split(np.arange(n_cells), max(1, n_cells // 100)):
        noise = GENE_NOISE * rng.standard_normal((len(cells), profiles.shape[1]), dtype=np.float32)
        own = profiles[kind[cells]] * np.exp(noise)
        own /= own.sum(axis=1, keepdims=True)
        mixed = (1 - foreign[cells, None]) * own + foreign[cells, None] * profiles[neighbour[cells]]
        totals = rng.poisson(umis * rng.lognormal(0, DEPTH_NOISE, len(cells)))
        drawn += [_draw(shares, total, rng) for shares, total in zip(np.cumsum(mixed, axis=1), totals, strict=True)]
    ends = np.cumsum([0] + [len(genes) for genes in drawn])
    genes = np.concatenate(drawn)
    counts = sp.csr_matrix((np.ones(len(genes), np.int32), genes, ends), shape=(n_cells, profiles.shape[1]))
    counts.sum_duplicates()
    matrix = in_memory(counts, names[measured], species=library.split()[0])
    of_row = obs.iloc[rows]
    return LabelledSet(
        f"made {library} {tissue}",
        matrix,
        of_row["cell_type"].to_numpy(dtype=str)[kind],
        of_row["cl_id"].to_numpy(dtype=str)[kind],
    )


def _draw(cumulative: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """The genes of `total` molecules."""
    drawn = np.searchsorted(cumulative, rng.random(total) * cumulative[-1], side="right")
    return np.minimum(drawn, len(cumulative) - 1)


def thin(sample: LabelledSet, median: int) -> LabelledSet:
    """The same cells with each count kept with one probability, so that the median total becomes `median`."""
    counts = sp.csr_matrix(sample.matrix.counts(), copy=True)
    kept = min(1.0, median / max(sample.median_umis, 1))
    counts.data = np.random.default_rng(1).binomial(counts.data, kept).astype(np.int32)
    counts.eliminate_zeros()
    return sample.with_counts(counts)


def spill_over(sample: LabelledSet, share: float) -> LabelledSet:
    """Each cell with a share of its counts replaced by as large a share of another cell's."""
    rng = np.random.default_rng(2)
    counts = sample.matrix.counts()
    parts = []
    for part, kept in ((counts, 1 - share), (counts[rng.permutation(counts.shape[0])], share)):
        drawn = sp.csr_matrix(part, copy=True)
        drawn.data = rng.binomial(drawn.data, kept).astype(np.int32)
        parts.append(drawn)
    return sample.with_counts(sp.csr_matrix(parts[0] + parts[1]))


def dilute(sample: LabelledSet, member: np.ndarray, share: float) -> LabelledSet:
    """The sample with only so many of the `member` cells that they make `share` of it; at least three."""
    rng = np.random.default_rng(3)
    others = np.flatnonzero(~member)
    wanted = max(3, round(share / (1 - share) * len(others)))
    kept = rng.permutation(np.flatnonzero(member))[:wanted]
    return sample.take(np.sort(np.concatenate([others, kept])))
