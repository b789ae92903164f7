"""The reference cells nearest to each cell: exactly, or by faiss where there are many.

`vectors.npy` holds (n, L, d) points of unit length, of each reference cell one for each depth of the embedding. From
LARGE cells on they are half precision, and `index-<depth>.faiss` finds neighbours without looking at all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import InputError, ModelError
from ..io.files import written_whole
from ..matrix import Features
from ..parallel import single_threaded
from ..progress import LOGGER
from .embedding import Embedding, Projector, reference_points
from .evidence import Neighbours

VECTORS_NAME = "vectors.npy"
FAISS_NAME = "index-{}.faiss"
LARGE = 50_000  # reference cells, from which on faiss is worth it
PROJECTED_CELLS = 1024  # reference cells projected at a time
QUERY_ROWS, REFERENCE_ROWS = 256, 65_536  # of a block of cosines; the first at absolute rows
SAMPLED, MORE = 2048, 1.5  # reference cells from which the cosine of rank MORE * k is guessed
# of faiss: lists per sqrt(n), points to learn each list from, lists searched (4,900 cells/s, 99.85 % of votes as exact)
# of faiss: lists per sqrt(n), points to learn each list from, lists searched (99.8 % of votes as by an exact search)
LISTS_PER_ROOT, TRAINED_PER_LIST, PROBES = 4, 64, 112
WITHOUT_FAISS = (
    "This reference has %s cells to compare with, and each cell is compared with all of them. With faiss that is ten "
    "times faster, and approximate: pip install 'cytonym[faiss]'"
)


@dataclass(frozen=True)
class Index:
    """Where reference cells lie."""

    vectors: np.ndarray  # (n, L, d), memory-mapped
    approximate: tuple[Any, ...] = ()  # a faiss index for each depth; none: exact

    @property
    def n_cells(self) -> int:
        return int(self.vectors.shape[0])

    def search(self, points: np.ndarray, levels: np.ndarray, k: int, *, start: int = 0) -> Neighbours:
        """The `k` nearest of each point (n, d) among the reference's points of its level; all, if there are fewer.

        `start` is the row of the first point in its matrix: blocks of a dense product are cut and padded at absolute
        rows, so that a point's neighbours never depend on those that are searched with it.
        """
        k = min(k, self.n_cells)
        cosines = np.full((len(points), k), -np.inf, dtype=np.float32)
        rows = np.zeros((len(points), k), dtype=np.int32)
        for level in np.unique(levels).tolist():
            wanted = np.flatnonzero(levels == level)
            if self.approximate:
                cosines[wanted], rows[wanted] = self.approximate[level].search(np.ascontiguousarray(points[wanted]), k)
                wanted = wanted[rows[wanted].min(axis=1) < 0]  # the lists searched held too few
                cosines[wanted] = -np.inf
            self._exactly(points, wanted, level, start, cosines, rows)
        return Neighbours(1 - cosines, rows)

    def _exactly(
        self, points: np.ndarray, wanted: np.ndarray, level: int, start: int, cosines: np.ndarray, rows: np.ndarray
    ) -> None:
        """Fills the wanted rows of `cosines` and `rows`, which hold no better than -inf."""
        block_of, place_of = np.divmod(wanted + start, QUERY_ROWS)
        for first in range(0, self.n_cells if len(wanted) else 0, REFERENCE_ROWS):
            reference = np.array(self.vectors[first : first + REFERENCE_ROWS, level], dtype=np.float32, order="C")
            for block in np.unique(block_of).tolist():
                inside = block_of == block
                padded = np.zeros((QUERY_ROWS, points.shape[1]), dtype=np.float32)
                padded[place_of[inside]] = points[wanted[inside]]
                with single_threaded():
                    products = padded @ reference.T
                for row, place in zip(wanted[inside].tolist(), place_of[inside].tolist(), strict=True):
                    found = _largest(products[place], cosines.shape[1])
                    both = np.concatenate([cosines[row], products[place, found]])
                    best = np.argsort(-both, kind="stable")[: cosines.shape[1]]
                    rows[row] = np.concatenate([rows[row], found + first])[best]
                    cosines[row] = both[best]


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` largest, largest first, the earlier on a tie; all, if there are fewer.

    A sample tells where the k-th is likely to be, so that few values are left to sort.
    """
    n = len(values)
    if n > k:
        sampled = values[:: max(1, n // SAMPLED)]
        rank = min(len(sampled), int(MORE * k / n * len(sampled)) + 8)
        left = np.flatnonzero(values >= np.partition(sampled, len(sampled) - rank)[len(sampled) - rank])
        if len(left) < k:
            left = np.flatnonzero(values >= np.partition(values, n - k)[n - k])
    else:
        left = np.arange(n)
    return np.asarray(left[np.argsort(-values[left], kind="stable")[:k]])


def open_index(folder: Path) -> Index:
    """The index in a bundle's folder; ModelError if it is damaged. Vectors are read when they are needed."""
    path = folder / VECTORS_NAME
    try:
        vectors = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} is damaged: {exc}. Build the reference again, or copy it again.") from exc
    n, depths = vectors.shape[:2]
    if n < LARGE:
        return Index(vectors)
    faiss = _faiss()
    paths = [folder / FAISS_NAME.format(level) for level in range(depths)]
    if faiss is None or not all(path.is_file() for path in paths):
        LOGGER.warning(WITHOUT_FAISS, f"{n:,}")
        return Index(vectors)
    return Index(vectors, tuple(_opened(faiss, path) for path in paths))


def _opened(faiss: Any, path: Path) -> Any:
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as exc:
        raise ModelError(f"{path} is damaged. Build the reference again, or copy it again.") from exc
    index.nprobe = PROBES
    return index


def _faiss() -> Any:
    """The library, made to treat each point by itself; None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 2**30  # a product of a whole block would depend on its size
    return faiss


def write_vectors(
    folder: Path, embedding: Embedding, features: Features, blocks: Iterable[sp.csr_matrix], n_cells: int, *, seed: int
) -> None:
    """Writes `vectors.npy`, and faiss's files for a large reference, of the cells x features in `blocks`, in order.

    The files are the same however the cells are cut into blocks. Raises InputError if there are not `n_cells`.
    """
    projector = Projector.of(embedding, features)
    shape = (n_cells, len(embedding.depths), embedding.size)
    kind = np.float16 if n_cells >= LARGE else np.float32
    with written_whole(folder / VECTORS_NAME) as aside:
        vectors = np.lib.format.open_memmap(aside, mode="w+", dtype=kind, shape=shape)
        done = 0
        for number, cells in enumerate(_recut(blocks, PROJECTED_CELLS)):
            taken, umis = projector.take(cells)
            points = reference_points(embedding, taken, umis, np.random.default_rng([seed, number]))
            if done + len(umis) > n_cells:
                raise InputError(f"There are more than the {n_cells} reference cells that were announced.")
            vectors[done : done + len(umis)] = points.transpose(1, 0, 2)
            done += len(umis)
        if done != n_cells:
            raise InputError(f"There are {done} reference cells, and {n_cells} were announced.")
        vectors.flush()
    if n_cells >= LARGE:
        write_faiss(folder, vectors)


def write_part(source: Path, folder: Path, rows: np.ndarray) -> None:
    """Writes the files of some of the reference cells in the bundle `source`, in the order of `rows`."""
    whole = np.load(source / VECTORS_NAME, mmap_mode="r")
    with written_whole(folder / VECTORS_NAME) as aside:
        part = np.lib.format.open_memmap(aside, mode="w+", dtype=whole.dtype, shape=(len(rows), *whole.shape[1:]))
        for first in range(0, len(rows), REFERENCE_ROWS):
            part[first : first + REFERENCE_ROWS] = whole[rows[first : first + REFERENCE_ROWS]]
        part.flush()
    if len(rows) >= LARGE:
        write_faiss(folder, part)


def write_faiss(folder: Path, vectors: np.ndarray) -> None:
    """Writes the files by which many vectors are searched; none without faiss, and then says so."""
    faiss = _faiss()
    if faiss is None:
        LOGGER.warning(WITHOUT_FAISS, f"{len(vectors):,}")
        return
    n, depths, size = vectors.shape
    n_lists = int(LISTS_PER_ROOT * np.sqrt(n))
    trained = np.unique(np.linspace(0, n - 1, min(n, n_lists * TRAINED_PER_LIST)).astype(np.int64))
    for level in range(depths):
        index = faiss.index_factory(size, f"IVF{n_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        index.train(np.array(vectors[trained, level], dtype=np.float32))
        for first in range(0, n, REFERENCE_ROWS):
            index.add(np.array(vectors[first : first + REFERENCE_ROWS, level], dtype=np.float32))
        with written_whole(folder / FAISS_NAME.format(level)) as aside:
            faiss.write_index(index, str(aside))


def _recut(blocks: Iterable[sp.csr_matrix], size: int) -> Iterator[sp.csr_matrix]:
    """The same rows in blocks of `size`, the last one of what is left."""
    waiting: list[sp.csr_matrix] = []
    n_waiting = 0
    for block in blocks:
        waiting.append(block)
        n_waiting += block.shape[0]
        if n_waiting >= size:
            joined = sp.vstack(waiting, format="csr")
            for first in range(0, n_waiting - size + 1, size):
                yield joined[first : first + size]
            waiting, n_waiting = [joined[n_waiting - n_waiting % size :]], n_waiting % size
    if n_waiting:
        yield sp.vstack(waiting, format="csr")
