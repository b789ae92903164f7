"""A made Visium HD `outs/` folder, laid out as Space Ranger 4 writes it: cells with outlines, 8 µm bins, tissue image.

Cells stand on a grid of 10 µm, each a few 2 µm squares within its own 5 x 5; made and written in bands of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from PIL import Image, ImageDraw

from .colours import type_colours
from .demo import CHEMISTRY, GENOME, make_tissue
from .inputs import BINS_IN_OUTS, CELLS_IN_OUTS
from .io.files import write_json, written_whole
from .io.tenx_h5 import TenxH5Writer, open_tenx_h5
from .io.tissue_tables import write_parts
from .types import GENE_EXPRESSION

MICRONS_PER_PIXEL = 0.2738
SQUARE, BIN, CELL = 2, 8, 10  # µm
SQUARES = CELL // SQUARE  # along a cell's place
BAND = 4  # rows of cells that end together with a row of bins
MARGIN = 300  # full-resolution pixels around the tissue
TILT = 0.004  # of the slide in the image, radians
HIRES, LOWRES = 6000, 600  # longest sides of the two images
EOSIN, NUCLEUS, GLASS = (226, 170, 200), (96, 60, 130), (243, 241, 244)


class _Cells:
    """Where each cell lies, in 2 µm squares: rows of (top, left, height, width)."""

    def __init__(self, truth: pd.DataFrame, rng: np.random.Generator) -> None:
        self.row, self.column = truth["row"].to_numpy(), truth["column"].to_numpy()
        self.side = int(self.column.max()) + 1
        size = rng.integers(3, SQUARES + 1, (len(truth), 2))
        offset = rng.integers(0, SQUARES - size + 1)
        corner = np.stack([self.row, self.column], axis=1) * SQUARES + offset
        self.box = np.hstack([corner, size])

    def __len__(self) -> int:
        return len(self.row)


def make_outs(outs: Path, *, n_cells: int = 3000, n_genes: int = 15_000, seed: int = 0) -> pd.DataFrame:
    """Writes the folder and returns the truth of its cells, as `make_tissue` does; same arguments, same bytes."""
    cells_path, bins_path = outs / CELLS_IN_OUTS, outs / BINS_IN_OUTS
    cells_spatial, bins_spatial = cells_path.parent / "spatial", bins_path.parent / "spatial"
    for folder in (cells_spatial, bins_spatial):
        folder.mkdir(parents=True, exist_ok=True)
    truth = make_tissue(cells_path, n_cells=n_cells, n_genes=n_genes, seed=seed)
    rng = np.random.default_rng(seed)
    cells = _Cells(truth, rng)
    for name, shrink in (("cell", 0), ("nucleus", 1)):
        _write_outlines(cells_path.parent / f"{name}_segmentations.geojson", cells, shrink)
    factors = _write_images((outs / "spatial", cells_spatial, bins_spatial), truth, cells)
    write_json(cells_spatial / "scalefactors_json.json", factors)
    sized = {"spot_diameter_fullres": BIN / MICRONS_PER_PIXEL, "bin_size_um": float(BIN), **factors}
    for folder in (outs / "spatial", bins_spatial):
        write_json(folder / "scalefactors_json.json", sized)
    _write_bins(bins_path, cells_path, cells, rng)
    parquet = find_spec("pyarrow") is not None
    write_parts(bins_spatial / f"tissue_positions.{'parquet' if parquet else 'csv'}", _positions(cells))
    if parquet:
        write_parts(outs / "barcode_mappings.parquet", _mappings(cells))
    return truth


def _pixels(squares: np.ndarray) -> np.ndarray:
    """(..., 2) rows and columns of the 2 µm grid as x and y of the full-resolution image."""
    flat = squares[..., ::-1] * (SQUARE / MICRONS_PER_PIXEL)
    turned = np.array([[np.cos(TILT), np.sin(TILT)], [-np.sin(TILT), np.cos(TILT)]])
    return flat @ turned + MARGIN


def _write_outlines(path: Path, cells: _Cells, shrink: int) -> None:
    """Outlines along the grid, without the four corner squares where there is room, as one ring a cell."""
    top, left, height, width = (cells.box + np.array([shrink, shrink, -2 * shrink, -2 * shrink])).T
    cut = np.minimum(np.minimum(height, width) // 3, 1)
    rows, columns = (
        (top, top + cut, top + height - cut, top + height),
        (left, left + cut, left + width - cut, left + width),
    )
    steps = ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 2), (3, 2), (3, 1), (2, 1), (2, 0), (1, 0), (1, 1), (0, 1))
    corners = np.stack([np.stack([rows[r], columns[c]], axis=1) for r, c in steps], axis=1)
    with written_whole(path) as aside, aside.open("w", encoding="utf-8") as handle:
        handle.write('{"type": "FeatureCollection", "features": [')
        for start in range(0, len(cells), 10_000):
            rings = np.round(_pixels(corners[start : start + 10_000]), 1).tolist()
            for number, ring in enumerate(rings, start + 1):
                points = [point for i, point in enumerate(ring) if i == 0 or point != ring[i - 1]]
                shape = {"type": "Polygon", "coordinates": [points]}
                feature = {"type": "Feature", "geometry": shape, "properties": {"cell_id": number}}
                handle.write(("" if number == 1 else ", ") + json.dumps(feature))
        handle.write("]}")


def _write_images(folders: tuple[Path, ...], truth: pd.DataFrame, cells: _Cells) -> dict[str, float]:
    """A stained section, a little tinted by cell type, in two sizes; returns the scale factors."""
    last = _pixels(np.array([[int(cells.row.max()) + 1, cells.side]]) * SQUARES)[0]
    full = np.ceil(last + MARGIN)
    scale = min(1.0, HIRES / float(full.max()))
    width, height = (max(1, int(length * scale)) for length in full.tolist())
    colours = type_colours(truth["coarse_cell_type"])
    tints = {name: [int(text[place : place + 2], 16) for place in (1, 3, 5)] for name, text in colours.items()}
    stain = np.array([tints[name] for name in truth["coarse_cell_type"]]) * 0.12 + np.array(EOSIN) * 0.88
    grid = np.empty((int(cells.row.max()) + 1, cells.side, 3), dtype=np.uint8)
    grid[:] = GLASS
    grid[cells.row, cells.column] = stain
    image = Image.new("RGB", (width, height), GLASS)
    tissue = Image.fromarray(grid).resize(
        (max(1, int((last[0] - MARGIN) * scale)), max(1, int((last[1] - MARGIN) * scale))), Image.Resampling.BICUBIC
    )
    image.paste(tissue, (int(MARGIN * scale), int(MARGIN * scale)))
    drawn = ImageDraw.Draw(image)
    centres = _pixels(cells.box[:, :2] + cells.box[:, 2:] / 2) * scale
    radius = max(0.6, 1.6 / MICRONS_PER_PIXEL * scale)
    for x, y in centres.tolist():
        drawn.ellipse((x - radius, y - radius, x + radius, y + radius), fill=NUCLEUS)
    small = image.copy()
    small.thumbnail((LOWRES, LOWRES))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, made in (("hires", image), ("lowres", small)):
            made.save(folder / f"tissue_{name}_image.png", compress_level=1)
    return {
        "microns_per_pixel": MICRONS_PER_PIXEL,
        "regist_target_img_scalef": scale,
        "tissue_lowres_scalef": scale * small.width / image.width,
        "fiducial_diameter_fullres": 330 / MICRONS_PER_PIXEL,
        "tissue_hires_scalef": scale,
    }


def _bin_names(rows: np.ndarray, columns: np.ndarray, size: int) -> np.ndarray:
    return np.array([f"s_{size:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(rows.tolist(), columns.tolist(), strict=True)])


def _write_bins(path: Path, cells_path: Path, cells: _Cells, rng: np.random.Generator) -> None:
    """Each UMI of a cell falls on one of its squares, and so into a bin; bins without any are left out."""
    source = open_tenx_h5(cells_path)
    per_bin, n_genes = BIN // SQUARE, len(source.features)
    wide = -(-cells.side * SQUARES // per_bin)
    with TenxH5Writer(
        path,
        ids=source.features.ids,
        names=source.features.names,
        feature_types=np.full(n_genes, GENE_EXPRESSION),
        genomes=np.full(n_genes, GENOME),
        chemistry=CHEMISTRY,
    ) as writer:
        for first_row in range(0, int(cells.row.max()) + 1, BAND):
            start, stop = first_row * cells.side, min((first_row + BAND) * cells.side, len(cells))
            counts = source.read_rows(start, stop).tocoo()
            of_cell, genes = np.repeat(counts.row + start, counts.data), np.repeat(counts.col, counts.data)
            top, left, height, width = cells.box[of_cell].T
            rows = (top + rng.integers(0, height)) // per_bin - first_row * SQUARES // per_bin
            columns = (left + rng.integers(0, width)) // per_bin
            shape = (BAND * SQUARES // per_bin * wide, n_genes)
            summed = sp.coo_matrix((np.ones(len(genes), np.int32), (rows * wide + columns, genes)), shape).tocsr()
            filled = np.flatnonzero(np.diff(summed.indptr))
            summed.sort_indices()
            names = _bin_names(filled // wide + first_row * SQUARES // per_bin, filled % wide, BIN)
            writer.append(summed[filled], names)
    source.close()


def _positions(cells: _Cells) -> Iterator[pd.DataFrame]:
    """All 8 µm bins, a few rows of them at a time."""
    per_bin = BIN // SQUARE
    high, wide = -(-(int(cells.row.max()) + 1) * SQUARES // per_bin), -(-cells.side * SQUARES // per_bin)
    last_column = int(cells.column[-1]) + 1  # the last row of cells may end early
    for start in range(0, high, 64):
        rows, columns = (grid.ravel() for grid in np.mgrid[start : min(start + 64, high), 0:wide])
        pixels = _pixels(np.stack([rows + 0.5, columns + 0.5], axis=1) * per_bin)
        early = (rows * per_bin >= int(cells.row.max()) * SQUARES) & (columns * per_bin >= last_column * SQUARES)
        yield pd.DataFrame(
            {
                "barcode": _bin_names(rows, columns, BIN),
                "in_tissue": (~early).astype(np.uint8),
                "array_row": rows.astype(np.uint32),
                "array_col": columns.astype(np.uint32),
                "pxl_row_in_fullres": pixels[:, 1],
                "pxl_col_in_fullres": pixels[:, 0],
            }
        )


def _mappings(cells: _Cells) -> Iterator[pd.DataFrame]:
    """Each 2 µm square with its bins and its cell, a row of cells at a time."""
    wide = cells.side * SQUARES
    for cell_row in range(int(cells.row.max()) + 1):
        start, stop = cell_row * cells.side, min((cell_row + 1) * cells.side, len(cells))
        owner, nucleus = np.zeros((SQUARES, wide), dtype=np.int64), np.zeros((SQUARES, wide), dtype=bool)
        for number, (top, left, height, width) in enumerate(cells.box[start:stop].tolist(), start + 1):
            top -= cell_row * SQUARES
            owner[top : top + height, left : left + width] = number
            nucleus[top + 1 : top + height - 1, left + 1 : left + width - 1] = True
            owner[[top, top, top + height - 1, top + height - 1], [left, left + width - 1] * 2] = 0
        rows, columns = (grid.ravel() for grid in np.mgrid[0:SQUARES, 0:wide])
        rows = rows + cell_row * SQUARES
        squares = {size: _bin_names(rows * SQUARE // size, columns * SQUARE // size, size) for size in (2, 8, 16)}
        names = [f"cellid_{number:09d}-1" if number else None for number in owner.ravel().tolist()]
        yield pd.DataFrame(
            {
                **{f"square_{size:03d}um": texts for size, texts in squares.items()},
                "cell_id": pd.Series(names, dtype=object),
                "in_nucleus": nucleus.ravel(),
                "in_cell": owner.ravel() > 0,
            }
        )
