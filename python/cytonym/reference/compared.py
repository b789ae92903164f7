"""The reference cells that a sample's cells are compared with: all labelled ones, or as many as keep a bundle small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from .gather import Learnt
from .sample import read_rows


def compared_cells(learnt: Learnt) -> Iterator[sp.csr_matrix]:
    """Their counts over the reference's genes, block by block; of averages the drawn cells."""
    if learnt.averages:
        yield learnt.training.counts
        return
    for number, (one, rows) in enumerate(zip(learnt.inputs, learnt.compared, strict=True)):
        for _, cells in read_rows(one, number, rows, learnt.genes):
            yield cells


def compared_table(learnt: Learnt) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Texts, and of each cell its type, its data set and its name in its file."""
    place_of: dict[str, int] = {}
    datasets, ids = [], []
    for one, rows in zip(learnt.inputs, learnt.compared, strict=True):
        names = np.append(one.datasets.values, one.dataset)  # a cell without a data set is of its file
        place = np.array([place_of.setdefault(str(name), len(place_of)) for name in names], dtype=np.int32)
        datasets.append(place[one.datasets.codes[rows]])
        ids.append(one.row_names()[rows])
    meta = {"types": [kind.label for kind in learnt.table.types], "datasets": list(place_of)}
    arrays = {
        "type_codes": np.concatenate(
            [learnt.table.codes(learnt.inputs, number)[rows] for number, rows in enumerate(learnt.compared)]
        ),
        "dataset_codes": np.concatenate(datasets),
        "ids": np.char.decode(np.concatenate(ids), "utf-8"),
    }
    return meta, arrays
