"""Cells as points: principal components of log counts per 10,000, as Cellarium makes them, for cells of any depth.

Sparse cells lie elsewhere than deep ones of the same type. So each reference cell has several points, one as it is and
one for each of a few depths that its counts are thinned to, and a cell is compared with those of its own depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from ..errors import InputError
from ..matrix import Features
from ..parallel import single_threaded
from ..reference_model.genes import ELSEWHERE, join_genes, telling
from ..reference_model.training import TrainingSet

TARGET_UMIS = 1e4
EPSILON = 1e-6  # in divisions, as Cellarium has it
MOST_COMPONENTS = 512
MOST_GENES = 4000  # the most variable ones; rarer genes add noise and no agreement
MOST_CELLS = 20_000  # that axes are learnt from
BLOCK_CELLS = 1024
JUDGES = 5  # every fifth cell judges axes learnt from the others
RELIABLE = 0.4  # correlation of a component between two halves of the judges' counts
FEWEST_JUDGES = 30
AS_IS = np.inf  # the depth that stands for cells with all their counts
DEPTHS = (AS_IS, 1000.0, 400.0, 150.0, 60.0)  # UMIs that reference cells are thinned to
DEPTH_SPREAD = 0.4  # log-normal sd
CLEARLY_LESS = 0.7  # of the reference's median depth, or else a depth is left out


@dataclass(frozen=True)
class Embedding:
    """Principal axes over some genes of a reference."""

    genes: Features  # (P,) sorted by id
    shares: np.ndarray  # (P,) mean share of a reference cell's UMIs
    mean: np.ndarray  # (P,) of log1p counts per 10,000
    sd: np.ndarray  # (P,)
    components: np.ndarray  # (P, d)
    depths: np.ndarray  # (L,) UMIs that reference cells are thinned to, AS_IS first
    median_umis: float  # of reference cells

    @property
    def size(self) -> int:
        """Numbers a point."""
        return int(self.components.shape[1])

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "embedding/ids": self.genes.ids,
            "embedding/names": self.genes.names,
            "embedding/shares": self.shares,
            "embedding/mean": self.mean,
            "embedding/sd": self.sd,
            "embedding/components": self.components,
            "embedding/depths": self.depths,
        }

    def meta(self) -> dict[str, Any]:
        return {"embedding": {"size": self.size, "median_umis": self.median_umis}}

    @classmethod
    def of(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Embedding:
        """The embedding that `meta` and `arrays` came from; other entries are let be."""
        named = {name: arrays[f"embedding/{name}"] for name in ("shares", "mean", "sd", "components", "depths")}
        genes = Features(arrays["embedding/ids"], arrays["embedding/names"])
        return cls(genes=genes, median_umis=meta["embedding"]["median_umis"], **named)

    def level(self, umis: np.ndarray) -> np.ndarray:
        """(n,) row of `depths` that is nearest to each cell's UMIs, on a log scale."""
        depths = np.where(np.isinf(self.depths), self.median_umis, self.depths)
        distance = np.abs(np.log(np.maximum(umis, 1))[:, None] - np.log(depths)[None, :])
        return np.argmin(distance, axis=1)


@dataclass(frozen=True)
class Projector:
    """An embedding for the features of one matrix."""

    embedding: Embedding
    places: np.ndarray  # (n_features,) int32 gene of each feature, or ELSEWHERE
    counted: np.ndarray  # (n_features,) bool: in a cell's total
    measured: np.ndarray  # (P,) bool

    @classmethod
    def of(cls, embedding: Embedding, features: Features, genes: Features | None = None) -> Projector:
        """Genes join by id or by symbol, whichever finds more.

        `genes`: all of the reference, which may be a choice of genes; only they count in a cell's total.
        """
        places = join_genes(embedding.genes, features).places
        measured = np.zeros(len(embedding.genes), dtype=bool)
        measured[places[places != ELSEWHERE]] = True
        shared = telling(features.names)
        if genes is not None:
            shared &= join_genes(genes, features).places != ELSEWHERE
        return cls(embedding, places, shared, measured)

    def take(self, counts: sp.csr_matrix) -> tuple[sp.csr_matrix, np.ndarray]:
        """Cells x the embedding's genes, and each cell's UMIs over all genes of the reference.

        What a matrix without some genes would show in them is added to its UMIs, as the reference has it.
        """
        found = np.flatnonzero(self.places != ELSEWHERE)
        shape = (counts.shape[1], len(self.measured))
        chosen = sp.csr_matrix((np.ones(len(found)), (found, self.places[found])), shape=shape)
        seen = self.embedding.shares[self.measured].sum() / self.embedding.shares.sum()
        return sp.csr_matrix(counts @ chosen), (counts @ self.counted.astype(np.float64)) / max(seen, EPSILON)

    def project(self, counts: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        """(n, d) float32 points of unit length, and (n,) UMIs, of cells x features; each cell by itself."""
        cells, umis = self.take(counts)
        return project(self.embedding, cells, umis, self.measured), umis


def project(embedding: Embedding, cells: sp.csr_matrix, umis: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """(n, d) float32 points of unit length; a gene that was not measured is taken for its mean."""
    weights = embedding.components / (embedding.sd + EPSILON)[:, None]
    origin = (embedding.mean * measured) @ weights
    points = log_counts(cells, umis) @ weights - origin
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
    return (points / np.maximum(lengths, EPSILON)[:, None]).astype(np.float32)


def log_counts(cells: sp.csr_matrix, umis: np.ndarray) -> sp.csr_matrix:
    """log(1 + counts per 10,000 UMIs), float64."""
    scale = TARGET_UMIS / (umis + EPSILON)
    data = np.log1p(cells.data * np.repeat(scale, np.diff(cells.indptr)))
    return sp.csr_matrix((data, cells.indices, cells.indptr), shape=cells.shape)


def learn_embedding(training: TrainingSet, n_components: int = MOST_COMPONENTS, *, seed: int = 0) -> Embedding:
    """The axes that hold in cells which had no part in finding them, at most `n_components`.

    Raises InputError if no gene varies.
    """
    n = len(training.type_codes)
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_CELLS)).astype(np.int64))
    counts = training.counts[rows].astype(np.float64)
    looked_at = telling(training.features.names)
    umis = counts @ looked_at.astype(np.float64)
    genes, shares = _variable_genes(counts, umis, looked_at, training.features.ids)
    if not len(genes):
        raise InputError("No gene of the reference varies between its cells: there is nothing to compare cells by.")
    cells = sp.csr_matrix(counts[:, genes])
    logs = log_counts(cells, umis)
    mean, sd = _moments(logs)
    is_judge = _judges(len(rows))
    with single_threaded():
        axes = _principal_axes(logs[~is_judge], mean, sd, n_components)
    median = float(np.median(umis))
    embedding = Embedding(
        genes=Features(training.features.ids[genes], training.features.names[genes]),
        shares=shares[genes],
        mean=mean,
        sd=sd,
        components=axes,
        depths=np.array([d for d in DEPTHS if d == AS_IS or d < CLEARLY_LESS * median]),
        median_umis=median,
    )
    return _reliable(embedding, cells[is_judge], umis[is_judge], np.random.default_rng([seed, 0]))


def _variable_genes(
    counts: sp.csr_matrix, umis: np.ndarray, looked_at: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the genes whose logs vary most, in order of id, and (G,) the mean share of every gene."""
    _, sd = _moments(log_counts(counts, umis))
    varying = np.flatnonzero(looked_at & (sd > EPSILON))
    chosen = varying[np.lexsort((ids[varying], -sd[varying]))[:MOST_GENES]]
    shares = np.asarray((1 / np.maximum(umis, 1)) @ counts).ravel() / len(umis)
    return chosen[np.argsort(ids[chosen], kind="stable")], shares


def _moments(values: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, zeros counted."""
    n, width = values.shape
    mean = np.bincount(values.indices, weights=values.data, minlength=width) / n
    squares = np.bincount(values.indices, weights=values.data**2, minlength=width) / n
    return mean, np.sqrt(np.maximum(squares - mean**2, 0))


def _judges(n: int) -> np.ndarray:
    """(n,) bool: the cells that judge axes; all of them, and the axes learnt from all, where there are few."""
    if n < FEWEST_JUDGES * JUDGES:
        return np.zeros(n, dtype=bool)
    return np.arange(n) % JUDGES == JUDGES - 1


def _principal_axes(logs: sp.csr_matrix, mean: np.ndarray, sd: np.ndarray, most: int) -> np.ndarray:
    """(P, d) leading eigenvectors of the genes' correlations, each with its largest entry positive."""
    n, width = logs.shape
    products = np.zeros((width, width))
    for start in range(0, n, BLOCK_CELLS):
        block = ((logs[start : start + BLOCK_CELLS].toarray() - mean) / (sd + EPSILON)).astype(np.float32)
        products += block.T @ block
    kept = min(most, width, n - 1)
    values, axes = scipy.linalg.eigh(products, subset_by_index=(width - kept, width - 1))
    axes = axes[:, ::-1][:, values[::-1] > EPSILON * n]
    largest = axes[np.argmax(np.abs(axes), axis=0), np.arange(axes.shape[1])]
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))


def _reliable(embedding: Embedding, cells: sp.csr_matrix, umis: np.ndarray, rng: np.random.Generator) -> Embedding:
    """The embedding with the components that two halves of these cells' counts agree on; the first, if none do."""
    if not cells.shape[0]:
        return embedding
    half, umis_of_half = thinned(cells, umis, np.full(len(umis), 0.5), rng)
    other = sp.csr_matrix(cells - half)
    first, second = (
        _unscaled(embedding, part, total) for part, total in ((half, umis_of_half), (other, umis - umis_of_half))
    )
    agreement = (first * second).sum(axis=0) / np.maximum(
        np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0)), EPSILON
    )
    kept = np.flatnonzero(agreement >= RELIABLE)
    return replace(embedding, components=embedding.components[:, kept if len(kept) else [0]])


def _unscaled(embedding: Embedding, cells: sp.csr_matrix, umis: np.ndarray) -> np.ndarray:
    """(n, d) components about their means."""
    points = log_counts(cells, umis) @ (embedding.components / (embedding.sd + EPSILON)[:, None])
    return np.asarray(points - points.mean(axis=0))


def thinned(
    cells: sp.csr_matrix, umis: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> tuple[sp.csr_matrix, np.ndarray]:
    """A random part of each cell's counts, each UMI kept with the cell's probability, and the UMIs of that part."""
    inside = np.asarray(cells.sum(axis=1), dtype=np.float64).ravel()
    kept = rng.binomial(np.rint(cells.data).astype(np.int64), np.repeat(shares, np.diff(cells.indptr)))
    part = sp.csr_matrix((kept.astype(np.float64), cells.indices.copy(), cells.indptr.copy()), shape=cells.shape)
    part.eliminate_zeros()
    outside = rng.binomial(np.rint(np.maximum(umis - inside, 0)).astype(np.int64), shares)
    return part, np.asarray(part.sum(axis=1)).ravel() + outside


def reference_points(
    embedding: Embedding, cells: sp.csr_matrix, umis: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(L, n, d) float32 points of reference cells at each depth; a cell that is sparser already stays as it is."""
    everything = np.ones(len(embedding.genes), dtype=bool)
    points = []
    for depth in embedding.depths:
        wanted = depth * np.exp(rng.normal(0, DEPTH_SPREAD, len(umis)))
        shares = np.minimum(1, wanted / np.maximum(umis, 1))
        part, total = (cells, umis) if depth == AS_IS else thinned(cells, umis, shares, rng)
        points.append(project(embedding, part, total, everything))
    return np.stack(points)
