"""The count matrix as everything here sees it: cells x Gene Expression features, read in blocks of cells.

A `CountMatrix` is a range of cells of some source. A narrower range is again a CountMatrix, so a model that is
handed a block, a partition or a whole sample is handed the same kind of thing. Nothing is read before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp

BLOCK_ROWS = 4096  # the unit in which cells are read


@dataclass(frozen=True)
class Features:
    """The Gene Expression features, in file order."""

    ids: np.ndarray  # (n,) str, unique; Ensembl ids or symbols
    names: np.ndarray  # (n,) str; symbols, may repeat

    def __len__(self) -> int:
        return len(self.ids)


class MatrixSource(Protocol):
    """Where counts come from. `read_rows` returns cells x Gene Expression features, int32, column indices sorted.

    A source of other values than counts, for models that take them, gives float32.
    """

    @property
    def features(self) -> Features: ...

    @property
    def n_cells(self) -> int: ...

    def read_rows(self, start: int, stop: int) -> sp.csr_matrix: ...

    def read_barcodes(self, start: int, stop: int) -> np.ndarray: ...


@dataclass(frozen=True)
class CountMatrix:
    """Cells `start <= row < stop` of a source."""

    source: MatrixSource
    start: int
    stop: int
    genome: str = ""
    species: str = ""
    path: Path | None = None

    @classmethod
    def of(cls, source: MatrixSource, *, genome: str = "", species: str = "", path: Path | None = None) -> CountMatrix:
        """All cells of the source."""
        return cls(source, 0, source.n_cells, genome, species, path)

    @property
    def features(self) -> Features:
        return self.source.features

    @property
    def n_features(self) -> int:
        return len(self.source.features)

    @property
    def n_cells(self) -> int:
        return self.stop - self.start

    def barcodes(self) -> np.ndarray:
        """(n_cells,) str, in file order."""
        return self.source.read_barcodes(self.start, self.stop)

    def counts(self) -> sp.csr_matrix:
        """UMI counts, cells x features, int32; all of this range at once."""
        return self.source.read_rows(self.start, self.stop)

    def rows(self, start: int, stop: int) -> CountMatrix:
        """A narrower range; rows are numbered as in the file, from 0."""
        if not self.start <= start <= stop <= self.stop:
            raise ValueError(f"rows {start}:{stop} lie outside {self.start}:{self.stop}")
        return replace(self, start=start, stop=stop)

    def blocks(self) -> Iterator[CountMatrix]:
        """This range cut at absolute multiples of BLOCK_ROWS, so that any two ranges are cut at the same rows."""
        start = self.start
        while start < self.stop:
            stop = min(start - start % BLOCK_ROWS + BLOCK_ROWS, self.stop)
            yield self.rows(start, stop)
            start = stop


@dataclass(frozen=True)
class InMemoryCounts:
    """A source for counts that are in memory already: made data, tests, a sample of cells."""

    features: Features
    cells: sp.csr_matrix
    cell_barcodes: np.ndarray

    @property
    def n_cells(self) -> int:
        return self.cells.shape[0]

    def read_rows(self, start: int, stop: int) -> sp.csr_matrix:
        return self.cells[start:stop]

    def read_barcodes(self, start: int, stop: int) -> np.ndarray:
        return self.cell_barcodes[start:stop]


def in_memory(
    cells: sp.spmatrix | np.ndarray,
    names: list[str] | np.ndarray,
    *,
    ids: list[str] | np.ndarray | None = None,
    barcodes: list[str] | np.ndarray | None = None,
    species: str = "human",
) -> CountMatrix:
    """A CountMatrix of counts in memory (cells x features); ids default to the names."""
    counts = sp.csr_matrix(cells, dtype=np.int32)
    counts.sort_indices()
    if barcodes is None:
        barcodes = [f"cellid_{i + 1:09d}-1" for i in range(counts.shape[0])]
    features = Features(np.asarray(names if ids is None else ids, dtype=str), np.asarray(names, dtype=str))
    return CountMatrix.of(InMemoryCounts(features, counts, np.asarray(barcodes, dtype=str)), species=species)
