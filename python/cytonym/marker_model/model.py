"""The whole model of a sample: one level of coarse types, and a level of fine types within each coarse type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..markers import MarkerType
from ..matrix import Features
from .chain import LevelModel, learn_level, match_cells
from .embedding import choose_genes
from .labels import Calls, TypeNames, call_cells, call_fine
from .panel import Panel, fine_candidates
from .scores import Cells, row_totals, view_cells
from .trust import Trust, learn_trust, pick_types

FEWEST_CELLS_TO_SPLIT = 24
N_TOP_MARKERS = 5


@dataclass(frozen=True)
class MarkerModel:
    """All that is needed to name a cell of the sample."""

    names: TypeNames
    marker_columns: np.ndarray  # (G,) columns of the count matrix
    gene_columns: np.ndarray  # (P,)
    coarse: LevelModel
    trust: Trust  # in the coarse types
    fine: dict[int, LevelModel]  # by the table row of the coarse type
    broad_only: bool


def learn_model(
    counts: sp.csr_matrix,
    features: Features,
    table: Sequence[MarkerType],
    rows: Sequence[int],
    panel: Panel,
    *,
    broad_only: bool,
    tissue: str = "",
) -> MarkerModel:
    """The model learnt from these cells (no empty ones among them), with the coarse types `rows` offered."""
    totals = row_totals(counts)
    gene_columns = choose_genes(counts, totals, features, panel.columns)
    cells = view_cells(counts, panel.columns, gene_columns)
    genes = gene_positions(panel.columns, gene_columns)
    coarse = learn_level(cells, table, rows, panel, tissue, genes)
    trust = learn_trust(cells, coarse, table, panel, genes, kind="panel" if broad_only else "whole")
    model = MarkerModel(TypeNames.of(table), panel.columns, gene_columns, coarse, trust, {}, broad_only)
    if broad_only:
        return model
    called = name_cells(model, cells).coarse
    for row in np.unique(called[called >= 0]).tolist():
        finer = fine_candidates(table, table[row], panel)
        members = np.flatnonzero(called == row)
        if len(finer) >= 2 and len(members) >= FEWEST_CELLS_TO_SPLIT:
            model.fine[row] = learn_level(cells.take(members), table, finer, panel, tissue)
    return model


def gene_positions(marker_columns: np.ndarray, gene_columns: np.ndarray) -> np.ndarray:
    """(G,) where each panel gene stands among the embedding's genes, -1 where it does not."""
    positions = {column: i for i, column in enumerate(gene_columns.tolist())}
    return np.array([positions.get(column, -1) for column in marker_columns.tolist()], dtype=np.int64)


def name_cells(model: MarkerModel, cells: Cells) -> Calls:
    """Labels of the cells at all levels, each cell by itself."""
    match = match_cells(model.coarse, cells)
    pick = pick_types(model.trust, match, cells.totals)
    calls = call_cells(pick, model.coarse.rows, model.trust.broad_rows, model.names, cells, broad_only=model.broad_only)
    for row, level in model.fine.items():
        members = np.flatnonzero(calls.coarse == row)
        if len(members):
            call_fine(calls, members, match_cells(level, cells.take(members)), level.rows)
    return calls


def top_markers(model: MarkerModel, cells: Cells, calls: Calls, genes: Sequence[str]) -> dict[str, list[str]]:
    """For each coarse type called, its positive markers that stand out most in its cells (mean count rate x weight)."""
    scale = sp.diags(1e4 / np.maximum(cells.totals, 1))
    rates = (scale @ cells.markers).tocsr()
    overall = np.asarray(rates.mean(axis=0)).ravel()
    found: dict[str, list[str]] = {}
    for t, row in enumerate(model.coarse.rows.tolist()):
        members = np.flatnonzero((calls.coarse == row) | ((calls.coarse < 0) & (calls.broad_row == row)))
        if not len(members):
            continue
        inside = np.asarray(rates[members].mean(axis=0)).ravel()
        gain = np.log1p(inside) * np.maximum(model.coarse.weights[:, t], 0) * (inside + 0.1) / (overall + 0.1)
        best = [g for g in np.argsort(-gain, kind="stable")[:N_TOP_MARKERS] if gain[g] > 0]
        found[model.names.most_specific(row)] = [genes[g] for g in best]
    return dict(sorted(found.items()))
