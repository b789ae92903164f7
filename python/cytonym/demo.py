"""A made tissue in a 10x HDF5 file: a colon-like grid of cells with known types, for demonstrations and speed.

Counts are drawn from the marker table itself, so nothing here says how well real cells are labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .io.tenx_h5 import TenxH5Writer
from .markers import MarkerTable, MarkerType, load_markers
from .matrix import BLOCK_ROWS
from .types import GENE_EXPRESSION

CHEMISTRY, GENOME = "Visium HD v1", "GRCh38"
TISSUE = "colon"
ZONES = {  # neighbourhoods with their coarse types and shares
    "crypt": {
        "enterocyte": 0.5,
        "intestinal goblet cell": 0.22,
        "intestinal stem cell": 0.1,
        "enteroendocrine cell": 0.04,
        "tuft cell": 0.03,
        "CD8 T cell": 0.06,
        "fibroblast": 0.05,
    },
    "lamina propria": {
        "plasma cell": 0.28,
        "fibroblast": 0.26,
        "macrophage": 0.17,
        "CD4 T cell": 0.1,
        "blood vessel endothelial cell": 0.12,
        "lymphatic endothelial cell": 0.03,
        "mast cell": 0.04,
    },
    "follicle": {"B cell": 0.65, "CD4 T cell": 0.25, "conventional dendritic cell": 0.05, "CD8 T cell": 0.05},
    "muscle": {
        "smooth muscle cell": 0.72,
        "enteric glial cell": 0.1,
        "fibroblast": 0.1,
        "blood vessel endothelial cell": 0.08,
    },
}
NEST = {"fibroblast": 0.15, "macrophage": 0.15, "blood vessel endothelial cell": 0.05}  # the rest is a hidden type
HIDDEN_PROGRAM_GENES = 40
DEFINING_WEIGHT = 3.0  # against 1 for a supporting marker
PROGRAM_SHARE = (4.0, 21.0)  # Beta: the share of a cell's own UMIs that its type's genes get, mean 0.16
DEPTH_SPREAD = 0.6  # sigma of the log-normal sizes
WAVELENGTH = 40.0  # cells; the size of neighbourhoods


@dataclass(frozen=True)
class _Kind:
    """A cell type of the tissue, at its finest level, and the positions of its genes with their weights."""

    zone_name: str  # the coarse name that zones know it by
    labels: tuple[str, str, str]  # broad, coarse, fine
    in_table: bool
    genes: np.ndarray
    weights: np.ndarray


def make_tissue(
    path: Path,
    *,
    n_cells: int = 3000,
    n_genes: int = 15_000,
    median_umis: int = 250,
    spill_over: float = 0.15,
    seed: int = 0,
    hidden_types: int = 2,
) -> pd.DataFrame:
    """Writes the sample block by block and returns its truth, a row a cell: barcode, row, column, zone, labels.

    Each UMI comes with probability `spill_over` from one of the four neighbours. `hidden_types` types have genes that
    no marker table knows; their `in_table` is False. The same arguments give the same bytes.
    """
    rng = np.random.default_rng(seed)
    table = load_markers("human")
    ids, names = _features(table, n_genes, rng)
    kinds = _kinds(table, names, hidden_types, rng)
    background = _background(table, names, kinds, rng)
    zones = {**ZONES, **{f"nest {i + 1}": {**NEST, _hidden(i): 1 - sum(NEST.values())} for i in range(hidden_types)}}
    side = int(np.ceil(np.sqrt(n_cells)))
    row, column = np.divmod(np.arange(n_cells), side)
    zone = _neighbourhoods(row, column, len(zones), rng)
    kind = _draw_kinds(zone, list(zones.values()), kinds, rng)
    share = rng.beta(*PROGRAM_SHARE, n_cells)
    barcodes = np.array([f"cellid_{i + 1:09d}-1" for i in range(n_cells)])

    with TenxH5Writer(
        path,
        ids=ids,
        names=names,
        feature_types=np.full(n_genes, GENE_EXPRESSION),
        genomes=np.full(n_genes, GENOME),
        chemistry=CHEMISTRY,
        library_id=path.stem,
    ) as writer:
        programs = _Programs(background, kinds)
        for start in range(0, n_cells, BLOCK_ROWS):
            cells = np.arange(start, min(start + BLOCK_ROWS, n_cells))
            umis = rng.poisson(median_umis * rng.lognormal(0, DEPTH_SPREAD, len(cells)))
            of_umi = np.repeat(cells, umis)
            source = _spill(of_umi, side, n_cells, spill_over, rng)
            genes = programs.draw(kind[source], share[source], rng)
            counted = sp.coo_matrix((np.ones(len(genes), np.int32), (of_umi - start, genes)), (len(cells), n_genes))
            writer.append(counted.tocsr(), barcodes[cells])

    labels = np.array([k.labels for k in kinds], dtype=object)[kind]
    return pd.DataFrame(
        {
            "barcode": barcodes,
            "row": row,
            "column": column,
            "zone": np.array(list(zones), dtype=object)[zone],
            **{f"{level}_cell_type": labels[:, i] for i, level in enumerate(("broad", "coarse", "fine"))},
            "in_table": np.array([k.in_table for k in kinds])[kind],
        }
    )


def _features(table: MarkerTable, n_genes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ids and symbols: all genes of the table with their true ids, and made-up ones, in random order."""
    markers = [gene for gene in table.genes if gene in table.gene_ids]
    n_fillers = n_genes - len(markers)
    if n_fillers < len(markers):
        raise ValueError(f"a tissue needs at least {2 * len(markers)} genes")
    ids = [table.gene_ids[gene] for gene in markers] + [f"ENSG9{i:010d}" for i in range(n_fillers)]
    names = markers + [f"GENE{i + 1:05d}" for i in range(n_fillers)]
    order = rng.permutation(n_genes)
    return np.array(ids)[order], np.array(names)[order]


def _kinds(table: MarkerTable, names: np.ndarray, hidden_types: int, rng: np.random.Generator) -> list[_Kind]:
    position = {name: i for i, name in enumerate(names)}
    by_name = {node.name: node for node in table.types}
    kinds = []
    for coarse in sorted({name for zone in (*ZONES.values(), NEST) for name in zone}):
        for leaf in _leaves(table, by_name[coarse]):
            genes: dict[str, float] = {}
            for node in (by_name[name] for name in leaf.path):
                genes |= dict.fromkeys(node.supporting, 1.0) | dict.fromkeys(node.defining, DEFINING_WEIGHT)
            known = [gene for gene in genes if gene in position]
            weights = np.array([genes[gene] for gene in known]) * rng.lognormal(0, 0.7, len(known))
            labels = (leaf.broad, coarse, leaf.fine or coarse)
            kinds.append(_Kind(coarse, labels, True, np.array([position[gene] for gene in known]), weights))
    unknown = np.flatnonzero(np.char.startswith(names, "GENE"))
    for i in range(hidden_types):
        genes_of = rng.choice(unknown, HIDDEN_PROGRAM_GENES, replace=False)
        weights = rng.lognormal(0, 0.7, HIDDEN_PROGRAM_GENES)
        kinds.append(_Kind(_hidden(i), (_hidden(i),) * 3, False, genes_of, weights))
    return kinds


def _leaves(table: MarkerTable, coarse: MarkerType) -> list[MarkerType]:
    """The fine types that occur in the tissue; the coarse type itself if it has none."""
    return [fine for fine in table.children(coarse.name) if {"any", TISSUE} & set(fine.tissues)] or [coarse]


def _hidden(i: int) -> str:
    return f"made-up type {i + 1}"


def _background(table: MarkerTable, names: np.ndarray, kinds: list[_Kind], rng: np.random.Generator) -> np.ndarray:
    """What all cells express: few genes much, most little, genes of types least."""
    weights = rng.lognormal(0, 2, len(names))
    of_types = np.isin(names, table.genes)
    of_types[np.concatenate([kind.genes for kind in kinds])] = True
    weights[of_types] = rng.lognormal(-2, 1, int(of_types.sum()))
    return weights


def _neighbourhoods(row: np.ndarray, column: np.ndarray, n_zones: int, rng: np.random.Generator) -> np.ndarray:
    """The zone of each place: that of the highest of some smooth random fields."""
    highest, zone = np.full(len(row), -np.inf), np.zeros(len(row), dtype=np.int8)
    for i in range(n_zones):
        angles, phases = rng.uniform(0, np.pi, 4), rng.uniform(0, 2 * np.pi, 4)
        lengths = WAVELENGTH * rng.uniform(0.5, 2, 4)
        field = np.zeros(len(row))
        for angle, phase, length in zip(angles, phases, lengths, strict=True):
            field += np.cos(2 * np.pi * (np.cos(angle) * row + np.sin(angle) * column) / length + phase)
        zone[field > highest] = i
        highest = np.maximum(highest, field)
    return zone


def _draw_kinds(
    zone: np.ndarray, shares: list[dict[str, float]], kinds: list[_Kind], rng: np.random.Generator
) -> np.ndarray:
    """The kind of each cell by the shares of its zone; a coarse type's leaves are equally frequent."""
    names = [kind.zone_name for kind in kinds]
    chances = np.array([[zone_shares.get(name, 0) / names.count(name) for name in names] for zone_shares in shares])
    ladder = np.cumsum(chances, axis=1)
    kind = np.empty(len(zone), dtype=np.int16)
    for i in range(len(shares)):
        here = np.flatnonzero(zone == i)
        kind[here] = np.searchsorted(ladder[i] / ladder[i, -1], rng.random(len(here)), side="right")
    return kind


def _spill(of_umi: np.ndarray, side: int, n_cells: int, spill_over: float, rng: np.random.Generator) -> np.ndarray:
    """The cell that each UMI comes from: the cell itself or, now and then, one of its four neighbours."""
    steps = np.array([-side, -1, 1, side])[rng.integers(0, 4, len(of_umi))]
    neighbour = of_umi + steps
    beside = (np.abs(neighbour % side - of_umi % side) <= 1) & (neighbour >= 0) & (neighbour < n_cells)
    return np.where(beside & (rng.random(len(of_umi)) < spill_over), neighbour, of_umi)


class _Programs:
    """Draws genes: of the background, or of a kind's own program."""

    def __init__(self, background: np.ndarray, kinds: list[_Kind]) -> None:
        self._background = np.cumsum(background / background.sum())
        self._genes = np.concatenate([kind.genes for kind in kinds])
        self._ladder = np.concatenate([i + _ladder(kind.weights) for i, kind in enumerate(kinds)])

    def draw(self, kind: np.ndarray, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        own = rng.random(len(kind)) < share
        genes = np.minimum(np.searchsorted(self._background, rng.random(len(kind))), len(self._background) - 1)
        step = np.searchsorted(self._ladder, kind[own] + rng.random(int(own.sum())), side="right")
        genes[own] = self._genes[np.minimum(step, len(self._genes) - 1)]
        return genes


def _ladder(weights: np.ndarray) -> np.ndarray:
    """Rising steps that end at 1 exactly."""
    steps = np.cumsum(weights)
    return steps / steps[-1]
