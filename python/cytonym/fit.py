"""Learns what a model must learn from the sample, once, before cells are split."""

from __future__ import annotations

from .backends import BACKENDS
from .matrix import CountMatrix
from .types import Fitted, Model


def fit(matrix: CountMatrix, model: Model) -> Fitted:
    """What `classify` needs besides the cells; the same for any number of partitions and threads."""
    return BACKENDS[model.card.backend].fit(matrix, model)
