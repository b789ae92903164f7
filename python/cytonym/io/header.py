"""What the readers of other formats offer to preflight, which turns them into a 10x HDF5 file once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class MatrixHeader:
    """All features of a matrix, of every type, in file order, and the number of its cells."""

    ids: np.ndarray  # (n_features,) str, unique
    names: np.ndarray  # (n_features,) str; symbols, may repeat
    feature_types: np.ndarray  # (n_features,) str, e.g. "Gene Expression"
    genomes: np.ndarray  # (n_features,) str; "" where the file says nothing
    n_cells: int
    chemistry: str = ""


class ForeignSource(Protocol):
    """A matrix that is read once, front to back."""

    @property
    def header(self) -> MatrixHeader: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the log, e.g. which part of the file the counts come from."""
        ...

    @property
    def fractional(self) -> bool:
        """Whether the blocks hold other values than counts, as float32."""
        ...

    def blocks(self) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        """BLOCK_ROWS cells x all features at a time (int32, indices sorted, no stored zeros) and their barcodes."""
        ...
