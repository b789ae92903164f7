"""neighbors.h5: the reference cells nearest to each cell, by id and distance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..search.evidence import Evidence
from .hdf5 import written_h5


def write_neighbours(path: Path, barcodes: np.ndarray, parts: Iterable[Evidence], ids: np.ndarray) -> None:
    """`ids` are those of the reference cells. The file has `barcodes` (n,), `reference_ids` (r,), and of the k nearest
    `rows` (n, k), which point into `reference_ids`, and `distances` (n, k), 1 - cosine.
    """
    with written_h5(path) as (file, disk):
        for name, texts in (("barcodes", barcodes), ("reference_ids", ids)):
            file.create_dataset(name, data=np.char.encode(texts.astype(str), "utf-8"))
        done = 0
        for part in parts:
            assert part.rows is not None and part.row_distances is not None
            shape = (len(barcodes), part.rows.shape[1])
            for name, values in (("rows", part.rows), ("distances", part.row_distances)):
                dataset = file.require_dataset(name, shape=shape, dtype=values.dtype, exact=True)
                dataset[done : done + len(values)] = values
            done += part.n_cells
            disk.check()
