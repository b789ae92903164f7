"""Types meet the tissue: where each cell lies, and Space Ranger's own tissue files with the types in them."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from .beside import cell_number, read_scalefactors
from .colours import run_colours
from .errors import InputError
from .io.cell_types_csv import confidence_column
from .io.segmentations import TypeProperties, annotate_segmentations, outer_rings, type_texts
from .io.tissue_tables import mapping_parts, parts, read_positions, write_parts
from .matrix import CountMatrix
from .outlines import Outlines
from .projection import computed_projection, given_projection
from .types import LABEL_COLUMNS, Places, Projection

PREFIX = "celltype_annotated_"
BARCODES_AT_A_TIME = 100_000
MOST_NUMBERS_PER_CELL = 20
SMALLEST_BIN = "square_002um"
POINT_SHARE = 0.5  # of the area around them that points without an outline fill on the map


@dataclass(frozen=True)
class CellLabels:
    """The labels of one model by row of the matrix: combinations of level names, and a code per cell."""

    levels: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    codes: np.ndarray  # (n_cells,) int32
    confidence: np.ndarray | None

    @classmethod
    def of(cls, table: pd.DataFrame) -> CellLabels:
        """Of a cell_types.csv."""
        levels = tuple(name for name in LABEL_COLUMNS if name in table)
        grouped = table.groupby(list(levels), sort=True, observed=True)
        names = tuple(key if isinstance(key, tuple) else (key,) for key in grouped.groups)
        measured = confidence_column(table, "coarse")
        confidence = table[measured].to_numpy(dtype=np.float64) if measured else None
        return cls(levels, names, grouped.ngroup().to_numpy(dtype=np.int32), confidence)

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The label columns for those rows, None for row -1; and the confidence."""
        table = np.array([*self.names, (None,) * len(self.levels)], dtype=object)
        found = table[np.where(rows >= 0, self.codes[rows], len(self.names))]
        columns = {level: found[:, place] for place, level in enumerate(self.levels)}
        if self.confidence is not None:
            columns["confidence"] = np.where(rows >= 0, self.confidence[rows], np.nan)
        return columns


def place(matrix: CountMatrix, models: Mapping[Path, CellLabels], beside: Mapping[str, Path], folder: Path) -> Places:
    """Where the cells lie; on the way, each model's folder gets the tissue files with its types in them."""
    barcodes = matrix.barcodes()
    colours = run_colours([pd.DataFrame(labels.names, columns=list(labels.levels)) for labels in models.values()])
    with Outlines(len(barcodes), folder) as outlines:
        _annotate_outlines(barcodes, models, beside, colours, outlines)
        if "tissue_positions" in beside:
            _annotate_positions(barcodes, models, beside, outlines)
        elif "cell_segmentations" not in beside and "h5ad" in beside:
            _add_points(outlines, _h5ad_coordinates(beside["h5ad"], "spatial", len(barcodes)))
        tissue_map = outlines.tissue_map()
        xy = None if tissue_map is None else outlines.xy
    if "barcode_mappings" in beside:
        for model_folder, labels in models.items():
            _annotate_mappings(beside["barcode_mappings"], barcodes, labels, model_folder)
    return Places(xy, tissue_map, _projection(matrix, barcodes, beside))


def _annotate_outlines(
    barcodes: np.ndarray,
    models: Mapping[Path, CellLabels],
    beside: Mapping[str, Path],
    colours: Mapping[str, str],
    outlines: Outlines,
) -> None:
    wanted = [role for role in ("cell_segmentations", "nucleus_segmentations") if role in beside]
    if not wanted:
        return
    row_of = rows_by_number(barcodes)
    properties = {
        model_folder: TypeProperties(type_texts(labels.names, labels.levels, colours), labels.codes, labels.confidence)
        for model_folder, labels in models.items()
    }
    for role in wanted:
        outputs = {model_folder / f"{PREFIX}{role}.geojson": types for model_folder, types in properties.items()}
        for row, feature in annotate_segmentations(beside[role], outputs, row_of):
            if row >= 0 and role == wanted[0]:
                for ring in outer_rings(feature):
                    outlines.add(row, ring)


def rows_by_number(barcodes: np.ndarray) -> Callable[[int], int]:
    """Looks up the row of a cell by the number in its barcode, -1 for none.

    A table of 4 bytes a number, as Space Ranger counts cells from 1 on; a dictionary where numbers lie far apart.
    """
    numbers = np.full(len(barcodes), -1, dtype=np.int64)
    for start in range(0, len(barcodes), BARCODES_AT_A_TIME):
        some = barcodes[start : start + BARCODES_AT_A_TIME].tolist()
        numbers[start : start + len(some)] = [-1 if (n := cell_number(b)) is None else n for b in some]
    rows = np.flatnonzero(numbers >= 0)
    most = int(numbers.max(initial=-1))
    if most > MOST_NUMBERS_PER_CELL * len(barcodes) + BARCODES_AT_A_TIME:
        found = dict(zip(numbers[rows].tolist(), rows.tolist(), strict=True))
        return lambda number: found.get(number, -1)
    table = array("i", [-1]) * max(most + 1, 1)
    np.frombuffer(table, dtype=np.int32)[numbers[rows]] = rows
    return lambda number: table[number] if 0 <= number <= most else -1


def _annotate_positions(
    barcodes: np.ndarray, models: Mapping[Path, CellLabels], beside: Mapping[str, Path], outlines: Outlines
) -> None:
    path, index = beside["tissue_positions"], pd.Index(barcodes)
    for model_folder, labels in models.items():
        write_parts(
            model_folder / f"{PREFIX}tissue_positions{path.suffix}",
            (frame.assign(**labels.columns(index.get_indexer(frame["barcode"].astype(str)))) for frame in parts(path)),
        )
    xy = read_positions(path, barcodes)
    factors = read_scalefactors(beside["scalefactors"]) if "scalefactors" in beside else {}
    rows = np.flatnonzero(~np.isnan(xy[:, 0]))
    if "spot_diameter_fullres" in factors:
        outlines.add_squares(rows, xy[rows], factors["spot_diameter_fullres"])
    else:
        _add_points(outlines, xy)


def _add_points(outlines: Outlines, xy: np.ndarray | None) -> None:
    """Points as squares that can be seen."""
    if xy is None:
        return
    rows = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if len(rows):
        outlines.add_squares(rows, xy[rows], point_side(xy[rows]))


def point_side(xy: np.ndarray) -> float:
    """The side of squares that, one at each point, fill about half of the area that they lie in."""
    return max(float(np.sqrt(POINT_SHARE * np.prod(np.ptp(xy, axis=0)) / len(xy))), 1e-6)


def _annotate_mappings(path: Path, barcodes: np.ndarray, labels: CellLabels, folder: Path) -> None:
    """The 2 µm squares with the type of their cell or bin; and what that makes of the other units.

    A bin has the type of most of its squares that have one, so has a cell where bins were annotated; ties go to the
    type that sorts first. `share` is of all squares of the unit.
    """
    index = pd.Index(barcodes)
    own = _own_column(path, index)
    if own is None:
        return
    counted: dict[str, list[pd.Series]] = {}

    def annotated() -> Iterator[pd.DataFrame]:
        for frame in mapping_parts(path):
            rows = index.get_indexer(frame[own].fillna(""))
            codes = pd.Series(np.where(rows >= 0, labels.codes[rows], -1), name="code")
            for unit in frame.columns:
                if unit not in (own, SMALLEST_BIN) and (unit == "cell_id" or unit.startswith("square_")):
                    counted.setdefault(unit, []).append(codes.groupby([frame[unit], codes]).size())
            yield frame.assign(**labels.columns(rows))

    write_parts(folder / f"{PREFIX}barcode_mappings.parquet", annotated())
    for unit, counts in counted.items():
        write_parts(folder / f"carried_cell_types_{unit.removesuffix('_id')}.csv", [_most_frequent(counts, labels)])


def _own_column(path: Path, index: pd.Index) -> str | None:
    """The column that holds this matrix's barcodes; None where none does."""
    for frame in mapping_parts(path):
        for name in ("cell_id", *(column for column in frame.columns if column.startswith("square_"))):
            if (index.get_indexer(pd.Index(frame[name].dropna().unique())) >= 0).any():
                return name
    return None


def _most_frequent(counts: list[pd.Series], labels: CellLabels) -> pd.DataFrame:
    squares = (
        pd.concat(counts).groupby(level=[0, 1]).sum().rename_axis(["barcode", "code"]).rename("squares").reset_index()
    )
    total = squares.groupby("barcode")["squares"].sum()
    typed = squares[squares["code"] >= 0].sort_values(["barcode", "squares", "code"], ascending=[True, False, True])
    best = typed.drop_duplicates("barcode")
    names = np.array(labels.names, dtype=object)[best["code"].to_numpy()]
    columns = {level: names[:, place] for place, level in enumerate(labels.levels)}
    share = best["squares"].to_numpy() / total.reindex(best["barcode"]).to_numpy()
    return pd.DataFrame({"barcode": best["barcode"].to_numpy(), **columns, "share": np.round(share, 4)})


def _projection(matrix: CountMatrix, barcodes: np.ndarray, beside: Mapping[str, Path]) -> Projection | None:
    sources = {"projection": "of the run's own secondary analysis", "loupe_projection": "of the Loupe file"}
    for role, source in sources.items():
        if role in beside:
            found = given_projection(pd.concat(parts(beside[role]), ignore_index=True), barcodes, source)
            if found is not None:
                return found
    if "h5ad" in beside:
        xy = _h5ad_coordinates(beside["h5ad"], "X_umap", len(barcodes))
        if xy is not None:
            table = pd.DataFrame({"barcode": barcodes, "x": xy[:, 0], "y": xy[:, 1]})
            return given_projection(table[np.isfinite(xy).all(axis=1)], barcodes, "of the file's obsm")
    return computed_projection(matrix)


def _h5ad_coordinates(path: Path, name: str, n_cells: int) -> np.ndarray | None:
    """(n, 2) of obsm; None where the file has no such array."""
    try:
        with h5py.File(path, "r") as file:
            item = file.get(f"obsm/{name}")
            with contextlib.suppress(AttributeError):  # a group, e.g. a table or a sparse matrix
                if item is not None and item.shape[0] == n_cells and item.shape[1] >= 2:
                    return np.asarray(item[:, :2], dtype=np.float32)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc
    return None
