"""places.h5: where cells lie, as the stage `place` found it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ..errors import InputError
from ..types import Places, Projection, TissueMap
from .hdf5 import written_h5

PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_places(path: Path, places: Places) -> None:
    with written_h5(path) as (file, _):
        if places.xy is not None:
            file.create_dataset("xy", data=places.xy, **PACKED)
        if places.tissue_map is not None:
            raster = file.create_dataset("map", data=places.tissue_map.cells, chunks=True, **PACKED)
            for name in ("left", "top", "scale"):
                raster.attrs[name] = getattr(places.tissue_map, name)
        if places.projection is not None:
            group = file.create_group("projection")
            group.attrs["name"], group.attrs["source"] = places.projection.name, places.projection.source
            group.create_dataset("rows", data=places.projection.rows)
            group.create_dataset("xy", data=places.projection.xy)


def read_places(path: Path) -> Places:
    try:
        with h5py.File(path, "r") as file:
            xy, raster, projection = (file.get(name) for name in ("xy", "map", "projection"))
            return Places(
                xy=None if xy is None else xy[()],
                tissue_map=None
                if raster is None
                else TissueMap(raster[()], **{k: float(v) for k, v in raster.attrs.items()}),
                projection=None
                if projection is None
                else Projection(
                    str(projection.attrs["name"]),
                    str(projection.attrs["source"]),
                    np.asarray(projection["rows"]),
                    np.asarray(projection["xy"]),
                ),
            )
    except (OSError, KeyError, TypeError) as exc:
        raise InputError(f"{path} cannot be read as places of cells: {exc}") from exc
