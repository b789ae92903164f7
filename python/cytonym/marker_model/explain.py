"""Which markers carried the call of each type in each cluster: the rows of evidence.csv."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..markers import MarkerType
from .chain import MIDDLE, match_cells
from .evidence import FEWEST_COUNTS, FEWEST_RATE, RATIO
from .labels import NONE, Calls
from .model import MarkerModel
from .panel import Panel
from .scores import Cells

FEWEST_CELLS = 3
N_SHOWN = 8


def explain(
    model: MarkerModel, cells: Cells, calls: Calls, table: Sequence[MarkerType], panel: Panel
) -> list[dict[str, Any]]:
    """One row for each type named in at least three of a cluster's cells; clusters are those of the learnt sample.

    `markers_up` are the type's markers with the largest gain over all other cells of the sample, with log2 ratios;
    `defining_on` and `defining_off` divide its measured defining genes by the rule of the support test.
    """
    cluster = match_cells(model.coarse, cells).cluster
    named = np.where(calls.coarse != NONE, calls.coarse, calls.broad_row)
    confidence = np.where(calls.coarse != NONE, calls.coarse_probability, calls.broad_probability)
    everything = np.asarray(cells.markers.sum(axis=0)).ravel()
    umis = float(cells.totals.sum())
    sizes = np.bincount(cluster, minlength=len(model.coarse.centres[MIDDLE]))
    rows = []
    for k, row in sorted({pair for pair in zip(cluster.tolist(), named.tolist(), strict=True) if pair[1] != NONE}):
        members = np.flatnonzero((cluster == k) & (named == row))
        if len(members) < FEWEST_CELLS:
            continue
        of_type = np.flatnonzero(named == row)
        inside, own_umis = np.asarray(cells.markers[members].sum(axis=0)).ravel(), float(cells.totals[members].sum())
        others = umis - float(cells.totals[of_type].sum())
        rest = (everything - np.asarray(cells.markers[of_type].sum(axis=0)).ravel()) / max(others, 1)
        rows.append(
            {
                "cluster": k,
                "cell_type": table[row].name,
                "cell_type_ontology_term_id": table[row].ontology_id,
                "n_cells": len(members),
                "share_of_cluster": round(len(members) / int(sizes[k]), 4),
                "mean_confidence": round(float(confidence[members].mean()), 4),
                **_genes(table[row], panel, inside, own_umis, rest),
            }
        )
    return rows


def _genes(
    marker_type: MarkerType, panel: Panel, counts: np.ndarray, umis: float, background: np.ndarray
) -> dict[str, str]:
    """The gene columns of one row, genes with blanks between them."""
    position = panel.position
    rate = counts / max(umis, 1)
    on = (rate > RATIO * background) & (rate > FEWEST_RATE) & (counts >= FEWEST_COUNTS)
    log2_ratio = np.log2((counts + 1) / (background * umis + 1))
    markers = [position[g] for g in (*marker_type.defining, *marker_type.supporting) if g in position]
    up = sorted((g for g in markers if log2_ratio[g] > 0), key=lambda g: (-float(log2_ratio[g]), panel.genes[g]))
    defining = [position[g] for g in marker_type.defining if g in position]
    return {
        "markers_up": " ".join(f"{panel.genes[g]}:{log2_ratio[g]:.1f}" for g in up[:N_SHOWN]),
        "defining_on": " ".join(panel.genes[g] for g in defining if on[g]),
        "defining_off": " ".join(panel.genes[g] for g in defining if not on[g]),
    }
