"""annotated.zarr is opened by the real SpatialData; without the extra, the option is refused before anything runs."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cytonym.preflight
from cytonym.annotate import annotate
from cytonym.errors import CytonymError
from cytonym.export import LabelledCells, export_spatialdata
from cytonym.matrix import in_memory
from cytonym.page.views import Views
from cytonym.types import AnnotateRequest, ModelCard, Places

CARD = ModelCard("markers", "markers", "Markers", "Marker model", ("human",), "1", "MIT", "", ())
COUNTS = np.array([[0, 3, 1], [2, 0, 0], [0, 0, 5]])
XY = np.array([[5, 5], [25, 5], [np.nan, np.nan]], dtype=np.float32)
needs_spatialdata = pytest.mark.skipif(
    find_spec("spatialdata") is None,
    reason="needs the extra spatialdata (over 1 GB and minutes to install, so not in `dev`)",
)


def square(left: float, top: float) -> list[list[float]]:
    return [[left, top], [left + 10, top], [left + 10, top + 10], [left, top + 10], [left, top]]


def written(folder: Path, views: Views, outlines: dict[str, Path], spot_diameter: float | None = None) -> Any:
    import spatialdata

    matrix = in_memory(COUNTS, ["CD3E", "MS4A1", "ACTB"], ids=["g1", "g2", "g3"])
    coarse = pd.Categorical(["T cell", "B cell", "T cell"])
    cells = LabelledCells.of([(CARD, pd.DataFrame({"coarse_cell_type": coarse, "umi_count": [4, 2, 5]}))])
    export_spatialdata(folder / "annotated.zarr", matrix, cells, views, outlines=outlines, spot_diameter=spot_diameter)
    return spatialdata.read_zarr(folder / "annotated.zarr")


def outlines_of(folder: Path) -> dict[str, Path]:
    """Cell 2 before cell 1, a cell that is not in the matrix, and a line for cell 3."""
    shapes = [(2, square(20, 0)), (1, square(0, 0)), (9, square(50, 50)), (3, [[0, 0], [1, 1], [0, 0]])]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"cell_id": number}}
        for number, ring in shapes
    ]
    path = folder / "cell_segmentations.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {"cells": path}


@needs_spatialdata
def test_spatialdata_reads_what_was_written(tmp_path: Path) -> None:
    """Counts, labels with colours, places, polygons by barcode, and the image at its place under them."""
    from spatialdata import get_extent, match_table_to_element

    Image.new("RGB", (20, 10), (200, 120, 160)).save(tmp_path / "hires.png")
    views = Views(Places(XY), tmp_path / "hires.png", image_scale=0.5)
    found = written(tmp_path, views, outlines_of(tmp_path))
    table = found["table"]
    assert table.X.toarray().tolist() == COUNTS.tolist()
    assert table.obs_names.tolist() == [f"cellid_{i:09d}-1" for i in (1, 2, 3)]
    assert table.var_names.tolist() == ["g1", "g2", "g3"]
    assert table.var["gene_symbols"].tolist() == ["CD3E", "MS4A1", "ACTB"]
    assert table.obs["coarse_cell_type"].tolist() == ["T cell", "B cell", "T cell"]
    assert len(table.uns["coarse_cell_type_colors"]) == 2
    assert np.array_equal(table.obsm["spatial"], XY, equal_nan=True)
    assert found["cells"].index.tolist() == table.obs_names[:2].tolist()
    assert found["cells"].geometry.iloc[1].bounds == (20, 0, 30, 10)
    assert get_extent(found["tissue"]) == {"x": (0, 40), "y": (0, 20)}
    assert found["tissue"].values[:, 0, 0].tolist() == [200, 120, 160]
    assert match_table_to_element(found, "cells").obs["umi_count"].tolist() == [4, 2]


@needs_spatialdata
def test_cells_without_outlines_are_circles(tmp_path: Path) -> None:
    """Where they lie, with the diameter of the spots; a sample without any place is a table alone."""
    found = written(tmp_path, Views(Places(XY)), {}, spot_diameter=8.0)
    assert [(point.x, point.y) for point in found["cells"].geometry] == [(5, 5), (25, 5)]
    assert found["cells"]["radius"].tolist() == [4, 4]
    alone = written(tmp_path, Views(), {})
    assert list(alone.tables) == ["table"] and not alone.shapes and not alone.images


@needs_spatialdata
def test_the_same_sample_gives_the_same_files(tmp_path: Path) -> None:
    """Byte for byte, under the same names; nothing is left aside."""
    trees = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        written(folder, Views(Places(XY)), outlines_of(folder))
        trees.append({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]
    assert {name.split("/")[0] for name in trees[0]} == {"annotated.zarr", "cell_segmentations.geojson"}


@pytest.mark.parametrize("extra", ["spatialdata", "figures"])
def test_a_missing_extra_is_told_before_anything_runs(tmp_path: Path, monkeypatch, write_h5, extra: str) -> None:
    """With the command that installs it, and no folder is made."""
    monkeypatch.setattr(cytonym.preflight, "find_spec", lambda _: None)
    request = AnnotateRequest("s", write_h5(COUNTS, ["CD3E", "MS4A1", "ACTB"]), output_dir=tmp_path / "run")
    request = AnnotateRequest(**{**vars(request), extra: True})
    with pytest.raises(CytonymError, match=rf"--{extra} needs .*pip install 'cytonym\[{extra}\]'"):
        annotate(request)
    assert not (tmp_path / "run").exists()
