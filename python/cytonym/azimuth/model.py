"""A block of cells through the network: classes, calibrated probabilities and embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .calibration import calibrate
from .genes import fill_block
from .stored import AzimuthModel
from .tables import EMBEDDING_LAYER

BLOCK_ROWS = 1024  # rows of every matrix product, whatever the number of cells


@dataclass(frozen=True)
class Scored:
    """What the network says of some cells."""

    class_ids: np.ndarray  # cells x levels, int64: the first of the most probable classes, before calibration
    probabilities: tuple[np.ndarray, ...]  # by level: cells x classes, float32, calibrated if the model can
    embeddings: np.ndarray  # cells x size, float32


def score_block(
    model: AzimuthModel,
    counts: sp.csr_matrix,
    places: np.ndarray,
    *,
    row: int,
    normalise: bool,
    calibrated: bool = True,
) -> Scored:
    """Scores of at most BLOCK_ROWS cells that stand at `row` and after in a block of that size, zeros elsewhere.

    A product of matrices in float32 depends on their shape and on the row's place: with both fixed, a cell's numbers
    do not depend on the cells that it is computed with.
    """
    network, rows = model.network, slice(row, row + counts.shape[0])
    block = np.zeros((BLOCK_ROWS, network.width), dtype=np.float32)
    fill_block(block[rows], counts, places, normalise=normalise)
    values = network.run(block, [*network.outputs, EMBEDDING_LAYER])
    levels = [values[name] for name in network.outputs]
    class_ids = np.column_stack([level.argmax(axis=1) for level in levels])
    if calibrated and model.tables.temperatures:
        levels = [calibrate(level, *pair) for level, pair in zip(levels, model.tables.temperatures, strict=True)]
    return Scored(class_ids[rows], tuple(level[rows] for level in levels), values[EMBEDDING_LAYER][rows])
