"""Single counts (cell, feature, count) made into blocks of cells, in bounded memory and whatever their order.

Entries are int32 arrays of shape (3, n): cell, feature, count; cells and features are numbered from 0.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .. import matrix
from ..errors import InputError
from .files import output_error

FRACTIONS = "fractional values"
COUNTS_WANTED = "Raw UMI counts are wanted."
NAMED_REPEATS = 3
ENTRY_BYTES = 12
IN_MEMORY_BYTES = 1 << 25  # a temporary file up to that size needs no disk


def count_problem(values: np.ndarray) -> str:
    """What the values hold that UMI counts do not, e.g. "fractional values"; "" if they can be counts."""
    if values.dtype.kind not in "iuf":
        return f"values of type {values.dtype}"
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "values that are not numbers (NaN or infinite)"
        if (values != np.floor(values)).any():
            return FRACTIONS
    if values.size and values.min() < 0:
        return "negative values"
    if values.size and float(values.max()) > np.iinfo(np.int32).max:
        return f"values above {np.iinfo(np.int32).max}"
    return ""


def as_counts(values: np.ndarray, where: str) -> np.ndarray:
    """The values as int32; InputError if they are not counts. `where` names the file, and the place in it."""
    problem = count_problem(values)
    if problem:
        raise InputError(f"{where} holds {problem}, not UMI counts. {COUNTS_WANTED}")
    return values.astype(np.int32, copy=False)


def as_values(values: np.ndarray, where: str) -> np.ndarray:
    """The values as float32, whole numbers or not; InputError if one is negative or no finite number."""
    problem = count_problem(np.floor(values) if values.dtype.kind == "f" else values)
    if problem:
        raise InputError(f"{where} holds {problem}. Raw or normalised counts are wanted, not scaled ones.")
    return values.astype(np.float32)


def check_no_repeats(values: np.ndarray, what: str, where: str) -> None:
    """InputError that names the first few values that stand more than once."""
    repeated = pd.unique(values[pd.Index(values).duplicated()])
    if len(repeated):
        named = ", ".join(f"'{value}'" for value in repeated[:NAMED_REPEATS])
        more = f" and {len(repeated) - NAMED_REPEATS} others" if len(repeated) > NAMED_REPEATS else ""
        raise InputError(f"{where} lists the {what} {named}{more} more than once. Each may stand once.")


def tidy(block: sp.csr_matrix, where: str) -> sp.csr_matrix:
    """The block with sorted indices and without stored zeros; InputError if a cell has two counts of one feature."""
    block.sort_indices()
    if not block.has_canonical_format:
        raise InputError(f"{where} holds two counts of one feature in one cell. Make the file again.")
    block.eliminate_zeros()
    return block


def blocks_of(
    entries: Iterator[np.ndarray], n_cells: int, n_features: int, where: str, *, by_feature: bool = False
) -> Iterator[sp.csr_matrix]:
    """Blocks of BLOCK_ROWS cells in order, made from lots of entries that come in any order.

    Entries sorted by cell pass through. All entries go to a temporary file first if they are known to come by feature,
    or if the first lot is not sorted by cell.
    """
    first = next(entries, np.empty((3, 0), dtype=np.int32))
    rest = itertools.chain([first], entries)
    in_order = not by_feature and bool((np.diff(first[0]) >= 0).all())
    pieces = _passed_through(rest, n_cells, where) if in_order else _by_temporary_file(rest, n_cells)
    for number, found in enumerate(pieces):
        start = number * matrix.BLOCK_ROWS
        cells, features, counts = np.concatenate(found, axis=1) if found else first[:, :0]
        shape = (min(matrix.BLOCK_ROWS, n_cells - start), n_features)
        indptr = np.concatenate(([0], np.cumsum(np.bincount(cells - start, minlength=shape[0]))))
        if (np.diff(cells) < 0).any():
            order = np.argsort(cells, kind="stable")
            features, counts = features[order], counts[order]
        block = sp.csr_matrix((counts, features, indptr), shape=shape, copy=False)
        yield tidy(block, where)


def _n_blocks(n_cells: int) -> int:
    return -(-n_cells // matrix.BLOCK_ROWS)


def _split(entries: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The entries of each block that occurs, by block number."""
    cells = entries[0]
    if (np.diff(cells) < 0).any():
        entries = entries[:, np.argsort(cells, kind="stable")]
        cells = entries[0]
    start = 0
    while start < len(cells):
        number = int(cells[start]) // matrix.BLOCK_ROWS
        stop = int(np.searchsorted(cells, (number + 1) * matrix.BLOCK_ROWS))
        yield number, entries[:, start:stop]
        start = stop


def _passed_through(entries: Iterator[np.ndarray], n_cells: int, where: str) -> Iterator[list[np.ndarray]]:
    """The pieces of each block, while only those of one block are kept."""
    current = 0
    waiting: list[np.ndarray] = []
    for lot in entries:
        for number, piece in _split(lot):
            if number < current:
                raise InputError(
                    f"{where} is sorted by cell at first, but not throughout: cell {int(piece[0, 0]) + 1} comes late. "
                    "Sort its entries by cell."
                )
            while current < number:
                yield waiting
                current, waiting = current + 1, []
            waiting.append(piece)
    for _ in range(current, _n_blocks(n_cells)):
        yield waiting
        waiting = []


def _by_temporary_file(entries: Iterator[np.ndarray], n_cells: int) -> Iterator[list[np.ndarray]]:
    """The same for entries in any order: each lot is cut by block and set down, then each block is gathered.

    `entries` must turn its own reading errors into ours: an OSError here means the temporary file.
    """
    try:
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
            places: list[list[tuple[int, int]]] = [[] for _ in range(_n_blocks(n_cells))]
            for lot in entries:
                for number, piece in _split(lot):
                    places[number].append((file.tell(), piece.shape[1]))
                    file.write(piece.tobytes())
            for found in places:
                pieces = []
                for offset, n in found:
                    file.seek(offset)
                    pieces.append(np.frombuffer(file.read(ENTRY_BYTES * n), dtype=np.int32).reshape(3, n))
                yield pieces
    except OSError as exc:
        raise output_error(Path(tempfile.gettempdir()) / "entries sorted by cell", exc) from exc
