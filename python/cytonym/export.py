"""The sample for scanpy, SpatialData and their kin: counts, each model's columns, and where cells lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .colours import COLOURED_LEVELS, run_colours
from .io.h5ad_writer import write_h5ad
from .io.spatialdata_zarr import CELLS, Shapes, read_outlines, write_spatialdata
from .io.tissue_image import read_image
from .matrix import CountMatrix
from .page.views import Views
from .place import point_side, rows_by_number
from .types import ModelCard, Places


@dataclass(frozen=True)
class LabelledCells:
    """All models' columns of the cells, in matrix order; the first model's keep their names.

    Those of others start with their folder's name. A missing text is a missing value. `colours` are those of each
    column's categories, as on the run's page, under the names that scanpy reads.
    """

    obs: pd.DataFrame
    colours: dict[str, list[str]]

    @classmethod
    def of(cls, models: Sequence[tuple[ModelCard, pd.DataFrame]]) -> LabelledCells:
        columns, colours = {}, run_colours([table for _, table in models])
        for index, (card, table) in enumerate(models):
            prefix = f"{card.folder}_" if index else ""
            for name in table.columns:
                if name != "umi_count" or index == 0:
                    columns[prefix + name] = _without_empty(table[name])
        obs = pd.DataFrame(columns)
        of_types = [name for name in obs.columns if name.endswith(COLOURED_LEVELS)]
        return cls(obs, {f"{name}_colors": [colours[label] for label in obs[name].cat.categories] for name in of_types})


def export_h5ad(path: Path, matrix: CountMatrix, cells: LabelledCells, places: Places) -> None:
    write_h5ad(path, matrix, cells.obs, obsm=_obsm(places), colours=cells.colours)


def export_spatialdata(
    path: Path,
    matrix: CountMatrix,
    cells: LabelledCells,
    views: Views,
    *,
    outlines: Mapping[str, Path],
    spot_diameter: float | None,
) -> None:
    """The table, shapes and the tissue image, all in full-resolution pixels, as a SpatialData zarr.

    `outlines`: GeoJSON files by the name of their shapes, of which `cells` go with the table. Without any, cells are
    circles of that diameter (None: so large that they show) where they lie.
    """
    places, barcodes = views.places, matrix.barcodes()
    shapes = {name: read_outlines(file, rows_by_number(barcodes), len(barcodes)) for name, file in outlines.items()}
    if not outlines and places.xy is not None:
        rows = np.flatnonzero(np.isfinite(places.xy).all(axis=1))
        centres = places.xy[rows].astype(np.float64)
        shapes[CELLS] = Shapes(rows, centres=centres, radius=(spot_diameter or point_side(centres)) / 2)
    write_spatialdata(
        path,
        matrix,
        cells.obs,
        obsm=_obsm(places),
        colours=cells.colours,
        shapes=shapes,
        image=None if views.image is None else np.asarray(read_image(views.image)),
        image_scale=views.image_scale,
    )


def _obsm(places: Places) -> dict[str, np.ndarray]:
    return {} if places.xy is None else {"spatial": places.xy.astype("float64")}


def _without_empty(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype) and "" in column.cat.categories:
        return column.cat.remove_categories([""])
    return column
