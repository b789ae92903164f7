"""Maps and projections for the page: a byte a pixel or point, packed, so that a million cells stay small."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..colours import COLOURED_LEVELS
from ..io.tissue_image import read_image
from ..types import Places, TissueMap

NO_CELL, OTHER = 255, 254  # codes of a pixel without a cell, and of types beyond the most frequent
GRID = 65_535  # steps of a projection's axes
IMAGE_QUALITY = 60
PAPER = (255, 255, 255)
MOST_COMPARED = 25  # types of a model in the table of agreement


@dataclass(frozen=True)
class Views:
    """What the page shows besides numbers: where cells lie, and the tissue image with its scale."""

    places: Places = field(default_factory=Places)
    image: Path | None = None
    image_scale: float = 1.0  # image pixels a full-resolution pixel
    microns_per_pixel: float | None = None  # of the full resolution


def shared_views(views: Views) -> dict[str, Any]:
    """What all models have in common: the projection's points and the tissue's picture."""
    return {"projection": _projection(views.places), "tissue": _tissue(views)}


def model_views(table: pd.DataFrame, places: Places) -> dict[str, Any]:
    """The model's types by pixel of the map and by point of the projection, as codes of `kinds`."""
    kinds, codes = type_codes(table)
    by_row = np.append(codes, np.uint8(NO_CELL))
    raster, projection = places.tissue_map, places.projection
    return {
        "kinds": kinds,
        "pixels": None if raster is None else _packed(by_row[raster.cells]),
        "points": None if projection is None else _packed(codes[projection.rows]),
    }


def type_codes(table: pd.DataFrame) -> tuple[list[dict[str, str]], np.ndarray]:
    """Combinations of broad and coarse types, most frequent first, and each cell's place in them (uint8)."""
    levels = [level for level in COLOURED_LEVELS if level in table]
    grouped = table.groupby(levels, sort=True, observed=True)
    sizes, numbers = grouped.size(), grouped.ngroup().to_numpy()
    order = np.argsort(-sizes.to_numpy(), kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    names = [key if isinstance(key, tuple) else (key,) for key in sizes.index]
    keys = [level.removesuffix("_cell_type") for level in levels]
    kinds = [dict(zip(keys, map(str, names[i]), strict=True)) for i in order[:OTHER]]
    return kinds, np.minimum(rank[numbers], OTHER).astype(np.uint8)


def agreement(models: Sequence[tuple[str, pd.DataFrame]]) -> list[dict[str, Any]]:
    """The first model's coarse types against each other model's: cells in each pair of types."""
    found = []
    for title, table in models[1:]:
        first_title, first = models[0]
        other = table.set_index("barcode")["coarse_cell_type"].reindex(first["barcode"], fill_value="").to_numpy()
        mine = first["coarse_cell_type"].to_numpy()
        counts = pd.crosstab(mine, other)
        rows = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index[:MOST_COMPARED]
        columns = counts.sum(axis=0).sort_values(ascending=False, kind="stable").index[:MOST_COMPARED]
        found.append(
            {
                "models": [first_title, title],
                "same": float(f"{np.mean(mine == other):.4g}"),
                "rows": list(rows),
                "columns": list(columns),
                "cells": counts.loc[rows, columns].to_numpy().tolist(),
                "left_out": [len(counts.index) - len(rows), len(counts.columns) - len(columns)],
            }
        )
    return found


def _projection(places: Places) -> dict[str, Any] | None:
    projection = places.projection
    if projection is None or not len(projection.rows):
        return None
    low = projection.xy.min(axis=0)
    size = float(np.ptp(projection.xy, axis=0).max()) or 1.0
    steps = np.round((projection.xy - low) / size * GRID).astype("<u2")
    return {
        "name": projection.name,
        "source": projection.source,
        "cells": len(projection.rows),
        "points": _packed(np.ascontiguousarray(steps)),
    }


def _tissue(views: Views) -> dict[str, Any] | None:
    raster = views.places.tissue_map
    if raster is None:
        return None
    height, width = raster.cells.shape
    microns = views.microns_per_pixel
    return {
        "width": width,
        "height": height,
        "image": _image_address(views, raster),
        "pixels_per_micron": None if not microns else float(f"{raster.scale / microns:.6g}"),
    }


def _image_address(views: Views, raster: TissueMap) -> str | None:
    if views.image is None:
        return None
    packed = io.BytesIO()
    image_under(raster, views.image, views.image_scale).save(packed, "WEBP", quality=IMAGE_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"


def image_under(raster: TissueMap, path: Path, scale: float) -> Image.Image:
    """The part of the image that lies under the map, at the map's size; `scale`: image pixels a full-resolution one."""
    height, width = raster.cells.shape
    left, top = raster.left * scale, raster.top * scale
    box = (left, top, left + width / raster.scale * scale, top + height / raster.scale * scale)
    whole = tuple(round(edge) for edge in box)
    part = Image.new("RGB", (max(1, whole[2] - whole[0]), max(1, whole[3] - whole[1])), PAPER)
    part.paste(read_image(path), (-whole[0], -whole[1]))
    return part.resize((width, height), Image.Resampling.LANCZOS)


def _packed(values: np.ndarray) -> str:
    """The array's bytes, deflated, in base 64."""
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")
