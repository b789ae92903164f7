"""annotated.zarr: table, shapes and tissue image, written by the library SpatialData (the extra `spatialdata`).

Its imports stand in the functions, so that nobody else waits for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..matrix import CountMatrix
from .files import written_folder
from .segmentations import cell_id, features, outer_rings

CELLS = "cells"  # the shapes that the table's rows belong to
TABLE, IMAGE = "table", "tissue"
SHORTEST_RING = 4  # points, the first one again at the end
GLOBAL = "global"  # coordinate system: full-resolution pixels


@dataclass(frozen=True)
class Shapes:
    """Some cells' outlines, or circles where their places are all that is known."""

    rows: np.ndarray  # (n,) rows of the matrix
    outlines: np.ndarray | None = None  # (n,) shapely polygons
    centres: np.ndarray | None = None  # (n, 2)
    radius: float = 1.0


def read_outlines(path: Path, row_of: Callable[[int], int], n_cells: int) -> Shapes:
    """The polygons of the cells that have a row, in the order of the matrix; a cell's first one."""
    from shapely.geometry import shape

    found = np.full(n_cells, None, dtype=object)
    for feature in features(path):
        number, rings = cell_id(feature), outer_rings(feature)
        row = -1 if number is None else row_of(number)
        if row >= 0 and found[row] is None and rings and min(map(len, rings)) >= SHORTEST_RING:
            found[row] = shape(feature["geometry"])
    rows = np.flatnonzero(found != None)  # noqa: E711 - element by element
    return Shapes(rows, outlines=found[rows])


def write_spatialdata(
    path: Path,
    matrix: CountMatrix,
    obs: pd.DataFrame,
    *,
    obsm: Mapping[str, np.ndarray],
    colours: Mapping[str, list[str]],
    shapes: Mapping[str, Shapes],
    image: np.ndarray | None,
    image_scale: float,
) -> None:
    """Writes the folder, whole or not at all.

    `image`: (height, width, 3), `image_scale` of its pixels a full-resolution one. Counts pass block by block; shapes
    and image are held in memory, as the library writes each at once.
    """
    with _quiet():
        from spatialdata import SpatialData
        from spatialdata.models import Image2DModel
        from spatialdata.transformations import Scale

        barcodes = matrix.barcodes()
        images = {}
        if image is not None:
            scale = Scale([1 / image_scale] * 2, axes=("x", "y"))
            images[IMAGE] = Image2DModel.parse(
                image, dims=("y", "x", "c"), c_coords=["r", "g", "b"], transformations={GLOBAL: scale}
            )
        data = SpatialData(
            images=images,
            shapes={name: _shapes(found, barcodes) for name, found in shapes.items()},
            tables={TABLE: _table(matrix, barcodes, obs, obsm, colours, annotates=CELLS in shapes)},
        )
        with written_folder(path) as aside:
            data.write(aside)


def _shapes(shapes: Shapes, barcodes: np.ndarray) -> Any:
    from geopandas import GeoDataFrame
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    index, placed = pd.Index(barcodes[shapes.rows].astype(object)), {GLOBAL: Identity()}
    if shapes.outlines is not None:
        return ShapesModel.parse(GeoDataFrame(geometry=shapes.outlines, index=index), transformations=placed)
    return ShapesModel.parse(shapes.centres, geometry=0, radius=shapes.radius, index=index, transformations=placed)


def _table(
    matrix: CountMatrix,
    barcodes: np.ndarray,
    obs: pd.DataFrame,
    obsm: Mapping[str, np.ndarray],
    colours: Mapping[str, list[str]],
    *,
    annotates: bool,
) -> Any:
    from anndata import AnnData
    from spatialdata.models import TableModel

    if annotates:
        obs = obs.assign(region=pd.Categorical([CELLS] * len(obs)), cell_id=barcodes.astype(object))
    features = matrix.features
    table = AnnData(
        _lazy_counts(matrix),
        obs=obs.set_index(barcodes.astype(object)),
        var=pd.DataFrame({"gene_symbols": pd.Categorical(features.names)}, index=features.ids.astype(object)),
        obsm=dict(obsm),
        uns={name: np.array(values, dtype=object) for name, values in colours.items()},
    )
    if annotates:
        return TableModel.parse(table, region=CELLS, region_key="region", instance_key="cell_id")
    return TableModel.parse(table)


def _lazy_counts(matrix: CountMatrix) -> Any:
    """A dask array of sparse blocks, each read when it is written."""
    import dask.array as da
    from dask import delayed

    def read(start: int, stop: int) -> sp.csr_matrix:
        return matrix.rows(start, stop).counts().astype(np.float32)

    empty = sp.csr_matrix((0, 0), dtype=np.float32)
    blocks = [
        da.from_delayed(
            delayed(read)(block.start, block.stop), (block.n_cells, matrix.n_features), dtype=np.float32, meta=empty
        )
        for block in matrix.blocks()
    ]
    return da.concatenate(blocks, axis=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' warnings to programmers, on what is theirs to change; in one thread, in order."""
    import dask

    with warnings.catch_warnings(), dask.config.set(scheduler="synchronous"):
        warnings.simplefilter("ignore")
        yield
