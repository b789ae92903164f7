"""Labels the cells of one partition, block by block."""

from __future__ import annotations

from dataclasses import replace

from .backends import BACKENDS
from .matrix import CountMatrix
from .parallel import map_in_order
from .progress import track
from .types import Fitted, Job, Partition, Predictions


def classify(
    matrix: CountMatrix, job: Job, fitted: Fitted, partition: Partition, *, embeddings: bool = False, threads: int = 1
) -> Predictions:
    """The labels of that range of cells, and their embeddings if wanted; the same for any ranges and threads."""
    backend = BACKENDS[job.card.backend]
    blocks = matrix.rows(partition.start, partition.stop).blocks()

    def work(block: CountMatrix) -> Predictions:
        found = backend.classify(block, fitted)
        return found if embeddings else replace(found, embeddings=None)

    parts = map_in_order(work, blocks, threads)
    counted = ((part, part.n_cells) for part in parts)
    total = partition.stop - partition.start
    return Predictions.concatenate(list(track(counted, total=total, label=f"classify {job.card.name}")))
