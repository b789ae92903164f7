"""loupe_cell_types.csv: the categories that Loupe Browser imports, first the barcode, then one column a group set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..types import UNASSIGNED, ModelCard
from .files import written_whole

GROUP_NAME = "Cell Types"


def loupe_table(models: Sequence[tuple[ModelCard, pd.DataFrame]], group_name: str | None = None) -> pd.DataFrame:
    """Coarse and fine types of each model, in the barcode order of the first.

    `group_name` replaces "Cell Types"; columns of further models start with their folder's name. A barcode that a
    further model lacks is Unassigned there.
    """
    barcodes = models[0][1]["barcode"]
    columns = {"Barcode": barcodes.to_numpy()}
    for index, (card, table) in enumerate(models):
        name = (group_name or GROUP_NAME) if index == 0 else f"{card.folder} {GROUP_NAME}"
        for level, title in (("coarse_cell_type", name), ("fine_cell_type", f"{name} (fine)")):
            if level in table:
                labels = (
                    table.set_index("barcode")[level].reindex(barcodes, fill_value=UNASSIGNED)
                    if index
                    else table[level]
                )
                columns[title] = labels.to_numpy()
    return pd.DataFrame(columns)


def write_loupe_csv(path: Path, table: pd.DataFrame) -> None:
    """Comma separated, `\\n` line ends; names with a comma are quoted."""
    with written_whole(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
