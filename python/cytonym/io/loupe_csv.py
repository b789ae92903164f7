"""loupe_cell_types.csv: the categories that Loupe Browser imports, first the barcode, then one column a group set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..types import CONFIDENT, UNASSIGNED, VERY_CONFIDENT, ModelCard
from .cell_types_csv import confidence_column
from .files import written_whole

GROUP_NAME = "Cell Types"
CLASSES = (f"high ({VERY_CONFIDENT} and more)", f"medium ({CONFIDENT} to {VERY_CONFIDENT})", f"low (below {CONFIDENT})")
NO_CLASS = "none given"


def loupe_table(models: Sequence[tuple[ModelCard, pd.DataFrame]], group_name: str | None = None) -> pd.DataFrame:
    """Coarse and fine types of each model, and how sure it is of the coarse one, in the barcode order of the first.

    `group_name` replaces "Cell Types"; columns of further models start with their folder's name. A barcode that a
    further model lacks is Unassigned there. A model that does not tell its confidence has no such column.
    """
    barcodes = models[0][1]["barcode"]
    columns = {"Barcode": barcodes.to_numpy()}
    for index, (card, table) in enumerate(models):
        name = (group_name or GROUP_NAME) if index == 0 else f"{card.folder} {GROUP_NAME}"
        aligned = table.set_index("barcode").reindex(barcodes) if index else table
        for level, title in (("coarse_cell_type", name), ("fine_cell_type", f"{name} (fine)")):
            if level in table:
                columns[title] = aligned[level].fillna(UNASSIGNED).to_numpy()
        measured = confidence_column(table, "coarse")
        if measured:
            columns[f"{name} (confidence)"] = confidence_classes(aligned[measured].to_numpy(dtype=float))
    return pd.DataFrame(columns)


def confidence_classes(values: np.ndarray) -> np.ndarray:
    """High, medium or low in words, for Loupe Browser has no numbers there; a bound belongs to the higher class."""
    bounds = [values >= VERY_CONFIDENT, values >= CONFIDENT, values < CONFIDENT]
    return np.select(bounds, CLASSES, NO_CLASS)


def write_loupe_csv(path: Path, table: pd.DataFrame) -> None:
    """Comma separated, `\\n` line ends; names with a comma are quoted."""
    with written_whole(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
