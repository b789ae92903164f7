"""The sample for scanpy and its kin: counts, each model's columns, and where cells lie, in one .h5ad file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .colours import COLOURED_LEVELS, run_colours
from .io.h5ad_writer import write_h5ad
from .matrix import CountMatrix
from .types import ModelCard, Places


def export(path: Path, matrix: CountMatrix, models: Sequence[tuple[ModelCard, pd.DataFrame]], places: Places) -> None:
    """Writes the file. The first model's columns keep their names, those of others start with their folder's name.

    A missing text is a missing value. The colours are those of the run's page, under the names that scanpy reads.
    """
    columns, colours = {}, run_colours([table for _, table in models])
    for index, (card, table) in enumerate(models):
        prefix = f"{card.folder}_" if index else ""
        for name in table.columns:
            if name != "umi_count" or index == 0:
                columns[prefix + name] = _without_empty(table[name])
    obs = pd.DataFrame(columns)
    of_types = [name for name in obs.columns if name.endswith(COLOURED_LEVELS)]
    write_h5ad(
        path,
        matrix,
        obs,
        obsm={} if places.xy is None else {"spatial": places.xy.astype("float64")},
        colours={name: [colours[label] for label in obs[name].cat.categories] for name in of_types},
    )


def _without_empty(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype) and "" in column.cat.categories:
        return column.cat.remove_categories([""])
    return column
