"""Turns a model's predictions into the table of cell_types.csv, and says in numbers how it went."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .types import (
    LABEL_COLUMNS,
    LOW_UMI_BARCODE,
    NO_TYPE,
    UNASSIGNED,
    Alert,
    CellTypes,
    Fitted,
    Job,
    Plan,
    Predictions,
)

# what a model may tell people of its fit
TOLD_BY_MODELS = (
    "genes_wanted",
    "genes_found",
    "joined_by",
    "n_types_offered",
    "n_sampled",
    "top_markers",
    "model_used",
    "banner",
    "is_beta_model",
    "frac_returned_bcs",
    "tree_version_used",
    "display_map_version_used",
    "session_statistics",
)
MANY_LOW_UMI = 0.5
FEW_LABELLED = 0.5


def assign(plan: Plan, job: Job, predictions: Predictions) -> CellTypes:
    """One row a barcode, in matrix order; coarse labels of low-UMI cells replaced.

    Raises ValueError if the predictions do not cover each cell of the plan once.
    """
    if (predictions.start, predictions.stop) != (0, plan.matrix.n_cells):
        raise ValueError(f"predictions cover cells {predictions.start} to {predictions.stop} of {plan.matrix.n_cells}")
    labels = predictions.labels.take(predictions.label_codes).reset_index(drop=True)
    table = labels.assign(barcode=predictions.barcodes, **predictions.values)
    levels = [name for name in LABEL_COLUMNS if name in table]
    own = [name for name in job.card.columns or labels.columns if name in table and name not in levels]
    table = table[["barcode", *levels, *own]]
    return relabel_low_umi(CellTypes(job.card, table), predictions.umi_counts, plan.low_umi_threshold)


def relabel_low_umi(cell_types: CellTypes, umi_counts: np.ndarray, minimum: int) -> CellTypes:
    """Replace the coarse label of cells with fewer than `minimum` UMIs; keep the old one as unfiltered."""
    table = cell_types.table.assign(
        coarse_cell_type_unfiltered=cell_types.table["coarse_cell_type"], umi_count=umi_counts
    )
    table["coarse_cell_type"] = table["coarse_cell_type"].where(umi_counts >= minimum, LOW_UMI_BARCODE)
    return replace(cell_types, table=table)


def model_metrics(plan: Plan, job: Job, fitted: Fitted, cell_types: CellTypes) -> dict[str, Any]:
    """Counts and shares of one model's labels, its alerts, and what the model says of its fit."""
    table = cell_types.table
    n_cells = len(table)
    broadest = "broad_cell_type" if "broad_cell_type" in table else "coarse_cell_type_unfiltered"
    n_labelled = int((table[broadest] != UNASSIGNED).sum())
    n_low_umi = int((table["coarse_cell_type"] == LOW_UMI_BARCODE).sum())
    composition = table["coarse_cell_type"].value_counts()
    ordered = sorted(composition.items(), key=lambda item: (-item[1], item[0]))
    alerts = [*fitted.alerts, *_alerts(n_labelled / n_cells, n_low_umi / n_cells, plan.low_umi_threshold)]
    return {
        "model": job.card.name,
        "folder": job.card.folder,
        "title": job.card.title,
        "version": job.card.version,
        "n_cells": n_cells,
        "n_labelled": n_labelled,
        "labelled_share": round(n_labelled / n_cells, 4),
        "n_low_umi": n_low_umi,
        "low_umi_share": round(n_low_umi / n_cells, 4),
        "median_umis": float(np.median(table["umi_count"])),
        "n_types": len(composition.index.difference(NO_TYPE)),
        "composition": {str(name): int(count) for name, count in ordered},
        **{name: fitted.meta[name] for name in TOLD_BY_MODELS if name in fitted.meta},
        "alerts": [asdict(alert) for alert in alerts],
    }


def _alerts(labelled_share: float, low_umi_share: float, threshold: int) -> list[Alert]:
    alerts = []
    if low_umi_share > MANY_LOW_UMI:
        message = f"{low_umi_share:.0%} of the cells have fewer than {threshold} UMIs; their coarse type is not given."
        alerts.append(Alert("WARN", "Many low-UMI cells", message))
    if labelled_share < FEW_LABELLED:
        message = f"Only {labelled_share:.0%} of the cells got a label. The model may not know this tissue."
        alerts.append(Alert("WARN", "Few cells labelled", message))
    return alerts
