"""Outlines of cells become centroids and a raster, however many there are: they wait on disk, not in memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .types import TissueMap

MAP_PIXELS = 1600  # longer side of the raster
MARGIN = 0.01  # of the longer side
RINGS_AT_A_TIME = 20_000
POINTS_IN_MEMORY = 200_000


class Outlines:
    """Rings of cells, added in any order, a cell's largest ring giving its centroid; use it in a `with` statement."""

    def __init__(self, n_cells: int, folder: Path) -> None:
        self.xy = np.full((n_cells, 2), np.nan, dtype=np.float32)
        self._area = np.zeros(n_cells, dtype=np.float32)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self._rows, self._sizes = array("i"), array("i")
        self._n_waiting = 0  # points
        self._waiting: list[tuple[int, Sequence[Sequence[float]]]] = []

    def __enter__(self) -> Outlines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: int, ring: Sequence[Sequence[float]]) -> None:
        """A closed or open ring of [x, y] points."""
        self._waiting.append((row, ring))
        self._n_waiting += len(ring)
        if self._n_waiting >= POINTS_IN_MEMORY:
            self._flush()

    def add_squares(self, rows: np.ndarray, centres: np.ndarray, side: float) -> None:
        """Squares of that side, e.g. bins, or points that shall be seen."""
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], dtype=np.float32) * side
        for start in range(0, len(rows), RINGS_AT_A_TIME):
            some = slice(start, start + RINGS_AT_A_TIME)
            rings = centres[some, None, :].astype(np.float32) + corners
            self._keep(rows[some], np.full(len(rings), 4), rings.reshape(-1, 2))

    def _flush(self) -> None:
        if self._waiting:
            rows = np.array([row for row, _ in self._waiting])
            sizes = np.array([len(ring) for _, ring in self._waiting])
            points = np.array([point[:2] for _, ring in self._waiting for point in ring], dtype=np.float32)
            self._waiting.clear()
            self._n_waiting = 0
            self._keep(rows, sizes, points)

    def _keep(self, rows: np.ndarray, sizes: np.ndarray, points: np.ndarray) -> None:
        self._file.write(points.tobytes())
        self._rows.extend(rows.tolist())
        self._sizes.extend(sizes.tolist())
        centres, areas = ring_centroids(points.astype(np.float64), sizes)
        order = np.argsort(areas, kind="stable")  # the largest part of a cell comes last and stays
        rows, centres, areas = rows[order], centres[order], areas[order]
        better = areas >= self._area[rows]
        self.xy[rows[better]], self._area[rows[better]] = centres[better], areas[better]

    def _rings(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, sizes and points of some rings at a time, in the order of adding."""
        self._flush()
        self._file.seek(0)
        rows, sizes = np.frombuffer(self._rows, dtype=np.int32), np.frombuffer(self._sizes, dtype=np.int32)
        stops = np.cumsum(sizes, dtype=np.int64)
        start = 0
        while start < len(rows):
            before = int(stops[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(stops, before + POINTS_IN_MEMORY, side="right")))
            some, start = slice(start, stop), stop
            wanted = int(sizes[some].sum()) * 8
            yield rows[some], sizes[some], np.frombuffer(self._file.read(wanted), dtype=np.float32).reshape(-1, 2)

    def tissue_map(self) -> TissueMap | None:
        """All rings on a raster just around them, later ones over earlier ones; None where there are none."""
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for _, _, points in self._rings():
            low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
        size = float((high - low).max())
        if not np.isfinite(size) or size <= 0:
            return None
        low, high = low - MARGIN * size, high + MARGIN * size
        scale = MAP_PIXELS / float((high - low).max())
        width, height = (max(1, round(side * scale)) for side in (high - low).tolist())
        raster = Image.new("I", (width, height), -1)
        drawn = ImageDraw.Draw(raster)
        for rows, sizes, points in self._rings():
            # the middle of a pixel stands for it
            places = ((points - low) * scale - 0.5).tolist()
            stop = 0
            for row, size_of_ring in zip(rows.tolist(), sizes.tolist(), strict=True):
                start, stop = stop, stop + size_of_ring
                drawn.polygon([(x, y) for x, y in places[start:stop]], fill=row)
        return TissueMap(np.asarray(raster, dtype=np.int32), float(low[0]), float(low[1]), scale)


def ring_centroids(points: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area-weighted centroid and area of each ring (shoelace formula); a ring without area gives its mean point."""
    stops = np.cumsum(sizes)
    starts = stops - sizes
    origin = np.repeat(points[starts], sizes, axis=0)  # small numbers keep their digits
    here = points - origin
    following = np.arange(1, len(points) + 1)
    following[stops - 1] = starts
    there = here[following]
    cross = here[:, 0] * there[:, 1] - there[:, 0] * here[:, 1]
    doubled = np.add.reduceat(cross, starts)
    weighted = np.add.reduceat((here + there) * cross[:, None], starts)
    means = np.add.reduceat(here, starts) / sizes[:, None]
    flat = np.abs(doubled) < 1e-9
    centres = np.where(flat[:, None], means, weighted / (3 * np.where(flat, 1, doubled))[:, None])
    return (centres + points[starts]).astype(np.float32), (np.abs(doubled) / 2).astype(np.float32)
