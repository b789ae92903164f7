"""Types on the tissue: outlines, bins and mappings keep what they hold and get the cells' types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import numpy as np
import pandas as pd
import pytest

import cytonym.beside
from cytonym.annotate import annotate
from cytonym.beside import check_beside, locate_beside
from cytonym.colours import type_colours
from cytonym.demo_outs import make_outs
from cytonym.errors import InputError
from cytonym.inputs import locate_matrix
from cytonym.io.places_h5 import read_places, write_places
from cytonym.io.segmentations import check_segmentations
from cytonym.matrix import CountMatrix, in_memory
from cytonym.outlines import Outlines, ring_centroids
from cytonym.place import CellLabels, place, rows_by_number
from cytonym.projection import computed_projection, given_projection, shown_rows
from cytonym.schemas import load_schema
from cytonym.types import AnnotateRequest

SQUARE = [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0], [0.0, 0.0]]


def moved(ring: list[list[float]], x: float, y: float) -> list[list[float]]:
    return [[a + x, b + y] for a, b in ring]


def feature(number: Any, geometry: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"cell_id": number, **properties}}


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def write_geojson(path: Path, features: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def three_cells() -> CountMatrix:
    return in_memory(np.ones((3, 4)), ["A", "B", "C", "D"])  # cellid_000000001-1 to 3


def labels(coarse: tuple[str, ...] = ("T cell", "B cell", "T cell"), **columns: Any) -> CellLabels:
    confidence = {"confidence": [0.25, 1.0, np.nan]}
    return CellLabels.of(
        pd.DataFrame(
            {"coarse_cell_type": coarse, "fine_cell_type": ["naive", "B cell", "memory"], **confidence} | columns
        )
    )


def placed(tmp_path: Path, features: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
    """The annotated features, and the places."""
    beside = {"cell_segmentations": write_geojson(tmp_path / "cell_segmentations.geojson", features)}
    found = place(three_cells(), {tmp_path: labels()}, beside, tmp_path)
    written = json.loads((tmp_path / "celltype_annotated_cell_segmentations.geojson").read_text())
    jsonschema.validate(written, load_schema("annotated_segmentations.schema.json"))
    return written["features"], found


def test_outlines_get_the_type_of_their_cell(tmp_path: Path) -> None:
    """In file order, known by number or by barcode; geometry and other properties stay; a class is replaced."""
    parts = {"type": "MultiPolygon", "coordinates": [[SQUARE], [moved(SQUARE, 30.5, 0)]]}
    old_class = {"name": "Cluster-1", "color": [1, 2, 3]}
    given = [feature("cellid_000000002-1", polygon(SQUARE), nice=True), feature(1, parts, classification=old_class)]
    features, _ = placed(tmp_path, given)
    assert [f["geometry"] for f in features] == [polygon(SQUARE), parts]
    red, green, blue = (int(type_colours(["B cell", "T cell"])["B cell"][i : i + 2], 16) for i in (1, 3, 5))
    assert features[0]["properties"] == {
        "cell_id": "cellid_000000002-1",
        "nice": True,
        "classification": {"name": "B cell", "color": [red, green, blue]},
        "coarse_cell_type": "B cell",
        "fine_cell_type": "B cell",
        "confidence": 1,
    }
    assert features[1]["properties"]["classification"]["name"] == "T cell"
    assert features[1]["properties"]["confidence"] == 0.25


def test_a_cell_without_a_row_keeps_its_outline(tmp_path: Path) -> None:
    """Without a class; a missing confidence is left out, and no number is invented."""
    features, _ = placed(
        tmp_path, [feature(9, polygon(SQUARE)), feature(3, polygon(SQUARE)), feature(None, polygon(SQUARE))]
    )
    assert [f["properties"] for f in features[::2]] == [{"cell_id": 9}, {"cell_id": None}]
    assert "confidence" not in features[1]["properties"]


@pytest.mark.parametrize("far", [4, 999_999_999])
def test_cells_are_found_by_their_number(far: int) -> None:
    """In any order, near each other or far apart; other barcodes have no number."""
    row_of = rows_by_number(np.array([f"cellid_{far:09d}-1", "ACGTACGT-1", "cellid_000000001-1"]))
    assert [row_of(number) for number in (far, 1, 0, 2, far + 1)] == [0, 2, -1, -1, -1]


def test_places_are_centroids(tmp_path: Path) -> None:
    """Of the largest part; no place for a cell without outline. The map shows each cell where it is."""
    parts = {"type": "MultiPolygon", "coordinates": [[moved(SQUARE, 100, 50)], [[[0, 0], [2, 0], [2, 2], [0, 0]]]]}
    _, places = placed(tmp_path, [feature(1, polygon(SQUARE)), feature(2, parts)])
    assert places.xy[:2].tolist() == [[5, 5], [105, 55]]
    assert np.isnan(places.xy[2]).all()
    raster = places.tissue_map
    for row, (x, y) in enumerate(places.xy[:2].tolist()):
        across, down = ((x - raster.left) * raster.scale, (y - raster.top) * raster.scale)
        assert raster.cells[int(down), int(across)] == row
    assert set(np.unique(raster.cells)) == {-1, 0, 1}


def test_places_read_back(tmp_path: Path) -> None:
    _, places = placed(tmp_path, [feature(1, polygon(SQUARE))])
    write_places(tmp_path / "p.h5", places)
    back = read_places(tmp_path / "p.h5")
    assert back.tissue_map is not None and places.tissue_map is not None
    assert np.array_equal(back.tissue_map.cells, places.tissue_map.cells)
    assert (back.tissue_map.left, back.tissue_map.scale) == (places.tissue_map.left, places.tissue_map.scale)
    assert back.projection is None


def test_centroids_by_hand() -> None:
    """An L of three unit squares: area 3, centroid (5/6, 5/6); a line has its middle; direction does not matter."""
    ell = [[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]
    points = np.array([*ell, *ell[::-1], [4, 4], [6, 4]], dtype=float)
    centres, areas = ring_centroids(points, np.array([6, 6, 2]))
    assert np.allclose(centres, [[5 / 6, 5 / 6], [5 / 6, 5 / 6], [5, 4]])
    assert areas.tolist() == [3, 3, 0]


def test_points_become_squares_that_show(tmp_path: Path) -> None:
    """Where a file has places and no outlines, each cell fills some pixels."""
    with Outlines(3, tmp_path) as outlines:
        outlines.add_squares(np.arange(3), np.array([[0, 0], [10, 0], [0, 10]]), 4)
        raster = outlines.tissue_map()
    assert raster is not None
    assert (np.bincount(raster.cells[raster.cells >= 0]) > 1000).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"type": "FeatureCollection", "features": []}', "holds no features"),
        ('{"type": "FeatureCollection", "features": [{"type"', "is damaged or no GeoJSON"),
        ("no JSON", "is damaged or no GeoJSON"),
        (json.dumps({"features": [feature(1, {"type": "Point", "coordinates": [1, 2]})]}), "holds a Point first"),
        (json.dumps({"features": [{"type": "Feature", "geometry": polygon(SQUARE)}]}), "without the property cell_id"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    """With the file's name and the reason, before work starts."""
    path = tmp_path / "cells.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path.name} .*{reason}"):
        check_segmentations(path)


def test_a_file_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    """The annotated file appears whole or not at all."""
    path = write_geojson(tmp_path / "cell_segmentations.geojson", [feature(i, polygon(SQUARE)) for i in (1, 2, 3)])
    path.write_text(path.read_text()[:-80])
    with pytest.raises(InputError, match="damaged"):
        place(three_cells(), {tmp_path: labels()}, {"cell_segmentations": path}, tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["cell_segmentations.geojson"]


# ---- a whole outs folder


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "outs"
    make_outs(folder, n_cells=300, n_genes=6000, seed=3)
    return folder


@pytest.fixture(scope="module")
def result(outs: Path) -> Any:
    return annotate(AnnotateRequest("cells", outs, output_dir=outs.parent / "cells", skip=("diffexp",)))


def test_an_outs_folder_gives_tissue_files(outs: Path, result: Any) -> None:
    """Cells and nuclei with the types of cell_types.csv, all of them valid."""
    table = result.models["markers"].cell_types.table.set_index("barcode")
    for name in ("cell", "nucleus"):
        path = result.models["markers"].folder / f"celltype_annotated_{name}_segmentations.geojson"
        found = json.loads(path.read_text())
        jsonschema.validate(found, load_schema("annotated_segmentations.schema.json"))
        given = json.loads((outs / f"segmented_outputs/{name}_segmentations.geojson").read_text())
        assert [f["geometry"] for f in found["features"]] == [f["geometry"] for f in given["features"]]
        types = {f"cellid_{f['properties']['cell_id']:09d}-1": f["properties"] for f in found["features"]}
        assert {barcode: types[barcode]["coarse_cell_type"] for barcode in table.index} == dict(
            table["coarse_cell_type"]
        )


def test_cell_types_are_carried_to_bins(outs: Path, result: Any) -> None:
    """Each 2 µm square has the type of its cell; a bin that of most of its squares, counted here again."""
    table = result.models["markers"].cell_types.table.set_index("barcode")
    squares = pd.read_parquet(result.models["markers"].folder / "celltype_annotated_barcode_mappings.parquet")
    given = pd.read_parquet(outs / "barcode_mappings.parquet")
    assert squares["square_002um"].tolist() == given["square_002um"].tolist()
    inside = squares[squares["cell_id"].notna()]
    assert (inside["fine_cell_type"].to_numpy() == table["fine_cell_type"].loc[inside["cell_id"]].to_numpy()).all()
    assert squares["coarse_cell_type"][squares["cell_id"].isna()].isna().all()
    bins = pd.read_csv(result.models["markers"].folder / "carried_cell_types_square_008um.csv").set_index("barcode")
    name = bins.index[0]
    here = squares[squares["square_008um"] == name]
    counts = here.groupby(["coarse_cell_type", "fine_cell_type"]).size()
    assert bins.loc[name, "share"] == round(counts.max() / 16, 4)
    assert counts[(bins.loc[name, "coarse_cell_type"], bins.loc[name, "fine_cell_type"])] == counts.max()


def test_bins_have_positions_and_give_their_types_to_cells(outs: Path) -> None:
    """The binned matrix of the same folder: positions of all bins, typed where the bin is in the matrix."""
    matrix = outs / "binned_outputs/square_008um/filtered_feature_bc_matrix.h5"
    found = annotate(AnnotateRequest("bins", matrix, output_dir=outs.parent / "bins", skip=("diffexp", "report")))
    folder, table = found.models["markers"].folder, found.models["markers"].cell_types.table
    positions = pd.read_parquet(folder / "celltype_annotated_tissue_positions.parquet")
    given = pd.read_parquet(matrix.parent / "spatial/tissue_positions.parquet")
    pd.testing.assert_frame_equal(positions[given.columns], given)
    typed = positions.set_index("barcode")["coarse_cell_type"]
    assert typed.loc[table["barcode"]].tolist() == table["coarse_cell_type"].tolist()
    assert typed.notna().sum() == len(table)
    cells = pd.read_csv(folder / "carried_cell_types_cell.csv")
    assert cells["barcode"].str.match(r"cellid_\d{9}-1").all()
    assert len(cells) > 250
    assert not (folder / "celltype_annotated_cell_segmentations.geojson").exists()


def test_named_files_win(outs: Path, tmp_path: Path) -> None:
    """--cell-segmentations and --spatial replace what lies beside the matrix, nuclei and images too."""
    (tmp_path / "spatial").mkdir()
    for name in ("mine.geojson", "spatial/scalefactors_json.json", "spatial/tissue_lowres_image.png"):
        (tmp_path / name).write_text("{}")
    request = AnnotateRequest("s", outs, cell_segmentations=tmp_path / "mine.geojson", spatial=tmp_path / "spatial")
    found = locate_beside(request, locate_matrix(outs))
    assert {role: path.name for role, path in found.items() if tmp_path in path.parents} == {
        "cell_segmentations": "mine.geojson",
        "scalefactors": "scalefactors_json.json",
        "lowres_image": "tissue_lowres_image.png",
    }
    assert set(found) == {"cell_segmentations", "scalefactors", "lowres_image", "barcode_mappings"}
    with pytest.raises(InputError, match="holds no scalefactors_json"):
        locate_beside(AnnotateRequest("s", outs, spatial=tmp_path), locate_matrix(outs))


def test_parquet_without_pyarrow_is_left_out_aloud(outs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is used; the note says how to get it."""
    monkeypatch.setattr(cytonym.beside, "find_spec", lambda _: None)
    used, notes = check_beside(locate_beside(AnnotateRequest("s", outs), locate_matrix(outs)), "cell")
    assert "barcode_mappings" not in used and "cell_segmentations" in used
    assert notes == (
        "barcode_mappings.parquet is left out: reading it needs pyarrow (pip install 'cytonym[parquet]').",
    )


# ---- projections


def test_the_runs_own_umap_is_used(tmp_path: Path) -> None:
    """Joined by barcode, in the order of the matrix; a file of another sample is not used."""
    table = pd.DataFrame({"Barcode": ["c", "x", "a"], "UMAP-1": [3.0, 9, 1], "UMAP-2": [4.0, 9, 2]})
    found = given_projection(table, np.array(["a", "b", "c"]), "")
    assert found is not None
    assert (found.name, found.rows.tolist(), found.xy.tolist()) == ("UMAP", [0, 2], [[1, 2], [3, 4]])
    assert given_projection(table, np.array(["q"]), "") is None
    assert shown_rows(5, 3).tolist() == [0, 2, 4]


def test_a_layout_parts_what_differs(rng: np.random.Generator) -> None:
    """Two kinds of cells without a common gene: no cell lies nearer to the other kind's middle. Twice the same."""
    counts = rng.poisson(1, (120, 60))
    counts[:60, 30:] = counts[60:, :30] = 0
    matrix = in_memory(counts, [f"g{i}" for i in range(60)])
    found, again = computed_projection(matrix), computed_projection(matrix)
    assert found is not None and again is not None
    assert found.name == "t-SNE" and np.array_equal(found.xy, again.xy)
    first = found.rows < 60
    middles = np.stack([found.xy[first].mean(axis=0), found.xy[~first].mean(axis=0)])
    nearer = np.linalg.norm(found.xy[:, None] - middles, axis=2).argmin(axis=1)
    assert (nearer == ~first).all()


def test_coordinates_of_an_h5ad_are_used(tmp_path: Path) -> None:
    """obsm/X_umap and obsm/spatial; an array of another length is not."""
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        file["obsm/X_umap"] = np.array([[1, 2], [3, 4], [5, 6]], dtype=float)
        file["obsm/spatial"] = np.array([[0, 0], [10, 0], [0, 10]], dtype=float)
    places = place(three_cells(), {tmp_path: labels()}, {"h5ad": path}, tmp_path)
    assert places.projection is not None and places.xy is not None
    assert places.projection.xy.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.allclose(places.xy, [[0, 0], [10, 0], [0, 10]])


# ---- memory

PLACE = """
import numpy as np, sys
from pathlib import Path
from cytonym.matrix import in_memory
from cytonym.place import CellLabels, place
import pandas as pd
folder = Path(sys.argv[1])
matrix = in_memory(np.ones((3, 4)), list("ABCD"))
labels = CellLabels.of(pd.DataFrame({"coarse_cell_type": list("abc"), "fine_cell_type": list("abc")}))
place(matrix, {folder: labels}, {"cell_segmentations": Path(sys.argv[2])}, folder)
print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])
"""


def test_a_long_file_takes_no_more_memory(tmp_path: Path) -> None:
    """Sixteen times the features, within 10 %."""
    ring = [[i / 10, (i * 7 % 90) / 10] for i in range(400)]
    peaks = []
    for times in (500, 8000):
        path = write_geojson(tmp_path / f"{times}.geojson", [feature(i % 3 + 1, polygon(ring)) for i in range(20)])
        text = path.read_text()
        start, stop = text.index("[") + 1, text.rindex("]")
        one = text[start:stop]
        with path.open("w") as handle:
            handle.write(text[:start])
            for i in range(times // 20):
                handle.write(("," if i else "") + one)
            handle.write(text[stop:])
        command = [sys.executable, "-c", PLACE, str(tmp_path), str(path)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0], peaks
