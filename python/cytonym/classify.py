"""Labels the cells of one partition, block by block."""

from __future__ import annotations

from .backends import BACKENDS
from .matrix import CountMatrix
from .parallel import map_in_order
from .progress import track
from .types import Fitted, Job, Partition, Predictions


def classify(matrix: CountMatrix, job: Job, fitted: Fitted, partition: Partition, *, threads: int = 1) -> Predictions:
    """The labels of that range of cells; the same whatever the ranges and the threads."""
    backend = BACKENDS[job.card.backend]
    blocks = matrix.rows(partition.start, partition.stop).blocks()
    parts = map_in_order(lambda block: backend.classify(block, fitted), blocks, threads)
    counted = ((part, part.n_cells) for part in parts)
    total = partition.stop - partition.start
    return Predictions.concatenate(list(track(counted, total=total, label=f"classify {job.card.name}")))
