"""AnnData files (`.h5ad`) by h5py alone: csr, csc and dense counts, layouts of anndata 0.6 to today."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.sparse as sp

from .. import matrix
from ..errors import InputError
from ..types import GENE_EXPRESSION
from .coded import CodedColumn
from .entries import COUNTS_WANTED, FRACTIONS, as_counts, as_values, blocks_of, check_no_repeats, count_problem, tidy
from .header import MatrixHeader

SLOTS = {  # where counts may be -> where its features are described; the first that holds counts is read
    "X": "var",
    "raw/X": "raw/var",
    "raw.X": "raw.var",  # anndata before 0.7
    "layers/counts": "var",
    "layers/raw_counts": "var",
}
NAME_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "symbol")
ID_COLUMNS = ("gene_ids", "gene_id", "feature_id", "ensembl_id")
TYPE_COLUMNS = ("feature_types", "feature_type")
TENX_FEATURE_TYPES = {  # only a column with one of these speaks of feature types; others hold biotypes and the like
    GENE_EXPRESSION,
    "Antibody Capture",
    "Antigen Capture",
    "CRISPR Guide Capture",
    "Multiplexing Capture",
    "Custom",
    "Peaks",
    "Negative Control Probe",
    "Negative Control Codeword",
    "Unassigned Codeword",
    "Deprecated Codeword",
    "Blank Codeword",
    "Genomic Control",
}
SAMPLED_VALUES = 1 << 16  # looked at in each of three places to tell counts from other values
READ_ENTRIES = 1 << 20  # of a csc matrix at a time
READ_ROWS = 1 << 20  # of a column of texts at a time
READ_VALUES = 1 << 22  # of a dense matrix at a time, rounded up to whole HDF5 chunks ...
MOST_VALUES = 1 << 26  # ... up to that

_AGAIN = "Copy or make the file again."
_WANTED = "An .h5ad file with obs, var and raw counts is wanted."


@dataclass(frozen=True)
class H5adSource:
    """An h5ad file whose features and barcodes are read; `blocks` reads the counts in one pass."""

    path: Path
    slot: str  # where the counts are, e.g. "raw/X"
    header: MatrixHeader
    barcodes: np.ndarray  # (n_cells,) str; empty where they were not wanted
    notes: tuple[str, ...] = ()
    fractional: bool = False  # the slot holds other values than counts

    def blocks(self) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        """BLOCK_ROWS cells x all features at a time (int32, or float32) and their barcodes, in file order."""
        start = 0
        for cells in self.cells():
            yield cells, self.barcodes[start : start + cells.shape[0]]
            start += cells.shape[0]

    def cells(self, wanted: Callable[[int, int], bool] = lambda start, stop: True) -> Iterator[sp.csr_matrix]:
        """The blocks without barcodes. One whose rows are not `wanted` may come empty, where that saves its reading."""
        n_cells, n_features = self.header.n_cells, len(self.header.ids)
        with _readable(self.path), h5py.File(self.path, "r") as file:
            item = file[self.slot]
            if _encoding(item) == "csc":
                blocks = blocks_of(self._csc_entries(item), n_cells, n_features, self._where, by_feature=True)
                yield from map(_as_float32, blocks) if self.fractional else blocks
                return
            read_rows = self._csr_rows(item) if _encoding(item) == "csr" else self._dense_rows(item)
            for start in range(0, n_cells, matrix.BLOCK_ROWS):
                stop = min(start + matrix.BLOCK_ROWS, n_cells)
                if wanted(start, stop):
                    yield tidy(read_rows(start, stop), self._where)
                else:
                    yield sp.csr_matrix((stop - start, n_features), dtype=np.float32 if self.fractional else np.int32)

    @property
    def _where(self) -> str:
        return f"{self.path} ({self.slot})"

    def _indptr(self, group: h5py.Group, n_lines: int) -> np.ndarray:
        indptr, n_entries = group["indptr"][()].astype(np.int64), len(group["indices"])
        if len(group["data"]) != n_entries:
            raise InputError(
                f"{self._where} is damaged: {len(group['data'])} values, but {n_entries} indices. {_AGAIN}"
            )
        if len(indptr) != n_lines + 1 or indptr[0] != 0 or indptr[-1] != n_entries or (np.diff(indptr) < 0).any():
            raise InputError(
                f"{self._where} is damaged: indptr does not rise from 0 to {n_entries} in {n_lines} steps. {_AGAIN}"
            )
        return indptr

    def _entries(self, group: h5py.Group, first: int, last: int, n_minor: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices (int32) and counts (int32, or float32) of a range of stored entries."""
        indices = group["indices"][first:last]
        if len(indices) and (indices.min() < 0 or indices.max() >= n_minor):
            raise InputError(f"{self._where} is damaged: an index lies outside 0 to {n_minor - 1}. {_AGAIN}")
        return indices.astype(np.int32, copy=False), self._checked(group["data"][first:last])

    def _checked(self, values: np.ndarray) -> np.ndarray:
        return as_values(values, self._where) if self.fractional else as_counts(values, self._where)

    def _csr_rows(self, group: h5py.Group) -> Callable[[int, int], sp.csr_matrix]:
        n_features = len(self.header.ids)
        indptr = self._indptr(group, self.header.n_cells)

        def read(start: int, stop: int) -> sp.csr_matrix:
            first, last = int(indptr[start]), int(indptr[stop])
            indices, counts = self._entries(group, first, last, n_features)
            shape = (stop - start, n_features)
            return sp.csr_matrix((counts, indices, indptr[start : stop + 1] - first), shape=shape, copy=False)

        return read

    def _dense_rows(self, dataset: h5py.Dataset) -> Callable[[int, int], sp.csr_matrix]:
        width = max(1, dataset.shape[1])
        chunk = dataset.chunks[0] if dataset.chunks else 1
        step = min(-(-max(1, READ_VALUES // width) // chunk) * chunk, max(1, MOST_VALUES // width))

        def read(start: int, stop: int) -> sp.csr_matrix:
            lots = (dataset[row : min(row + step, stop)] for row in range(start, stop, step))
            return sp.vstack([sp.csr_matrix(self._checked(lot)) for lot in lots], format="csr")

        return read

    def _csc_entries(self, group: h5py.Group) -> Iterator[np.ndarray]:
        """Entries (cell, feature, count) in the order of a matrix by columns; the bits of a float32 as an int32."""
        with _readable(self.path):
            indptr = self._indptr(group, len(self.header.ids))
            for first in range(0, int(indptr[-1]), READ_ENTRIES):
                last = min(first + READ_ENTRIES, int(indptr[-1]))
                cells, counts = self._entries(group, first, last, self.header.n_cells)
                per_feature = np.diff(np.clip(indptr, first, last))
                features = np.repeat(np.arange(len(per_feature), dtype=np.int32), per_feature)
                yield np.stack([cells, features, counts.view(np.int32)])


def _as_float32(block: sp.csr_matrix) -> sp.csr_matrix:
    block.data = block.data.view(np.float32)
    return block


def open_h5ad(path: Path, *, fractions: bool = False, with_barcodes: bool = True) -> H5adSource:
    """The counts in that file, from the first of SLOTS that holds counts; InputError if there are none.

    With `fractions`, a file without counts gives the values of X, if these are finite. Barcodes take much memory in
    a file of millions of cells; without them, they may repeat.
    """
    with _readable(path), h5py.File(path, "r") as file:
        missing = [name for name in ("obs", "var") if name not in file]
        if missing:
            raise InputError(f"{path} lacks {' and '.join(missing)}: it is no AnnData file. {_WANTED}")
        slot, others, fractional = _slot_with_counts(file, path, fractions)
        shape = _shape(file[slot])
        barcodes = _index(file["obs"]) if with_barcodes else np.array([], dtype=str)
        n_cells = len(barcodes) if with_barcodes else shape[0]
        header = _header(file.get(SLOTS[slot]), n_cells, f"{path} ({SLOTS[slot]})")
    if shape != (n_cells, len(header.ids)):
        raise InputError(
            f"{path} is damaged: {slot} is of {' x '.join(map(str, shape))}, but there are {n_cells} cells in "
            f"obs and {len(header.ids)} features in {SLOTS[slot]}. {_AGAIN}"
        )
    check_no_repeats(header.ids, "feature id", str(path))
    check_no_repeats(barcodes, "barcode", str(path))
    note = f"{path.name}: counts are taken from {slot}, because {_and(others)}."
    return H5adSource(path, slot, header, barcodes, (note,) if others and not fractional else (), fractional)


def obs_columns(path: Path) -> tuple[str, ...]:
    """The names of the columns of obs, sorted, without that of the row names."""
    with _readable(path), h5py.File(path, "r") as file:
        frame = file["obs"]
        names = frame.dtype.names or () if isinstance(frame, h5py.Dataset) else frame.keys()
        return tuple(sorted(set(names) - {"__categories", "_index", "index", _text(frame.attrs.get("_index", ""))}))


def read_obs(path: Path, name: str) -> CodedColumn | None:
    """A column of obs as codes, which stay small for millions of cells; None if there is no such column."""
    with _readable(path), h5py.File(path, "r") as file:
        return _coded(file["obs"], name)


def read_row_names(path: Path) -> np.ndarray:
    """(n_cells,) bytes: the row names of obs, which may repeat."""
    with _readable(path), h5py.File(path, "r") as file:
        frame = file["obs"]
        if isinstance(frame, h5py.Dataset):
            return np.char.encode(_index(frame), "utf-8")
        name = next(name for name in _index_names(frame) if name in frame)
        item = frame[name]
        if not isinstance(item, h5py.Dataset):
            return np.char.encode(_index(frame), "utf-8")
        lots = [
            np.char.encode(_texts(item[start : start + READ_ROWS]), "utf-8") for start in range(0, len(item), READ_ROWS)
        ]
        return np.concatenate(lots) if lots else np.array([], dtype="S1")


def _coded(frame: h5py.Group | h5py.Dataset, name: str) -> CodedColumn | None:
    if isinstance(frame, h5py.Group) and name in frame:
        item = frame[name]
        if isinstance(item, h5py.Group) and "codes" in item:
            return CodedColumn(item["codes"][()].astype(np.int32), _plain(item["categories"]))
        if f"__categories/{name}" in frame:
            return CodedColumn(item[()].astype(np.int32), _plain(frame[f"__categories/{name}"]))
        if isinstance(item, h5py.Dataset):
            lots = (item[start : start + READ_ROWS] for start in range(0, len(item), READ_ROWS))
            return CodedColumn.of(_texts(lot) for lot in lots)
    column = _column(frame, name)
    return None if column is None else CodedColumn.of([column])


def _slot_with_counts(file: h5py.File, path: Path, fractions: bool) -> tuple[str, list[str], bool]:
    """The first slot that holds counts as far as a sample tells, and what those before it hold.

    Last, whether there is none and X is taken instead, with its fractions.
    """
    others: list[str] = []
    for slot in SLOTS:
        item = file.get(slot)
        if item is None:
            continue
        if isinstance(item, h5py.Dataset) and item.shape is None:  # anndata's way to write None
            others.append(f"{slot} is empty")
            continue
        if not _encoding(item):
            raise InputError(f"{path} cannot be read: {slot} is neither a csr, csc nor dense matrix. {_WANTED}")
        problem = next(filter(None, map(count_problem, _samples(item))), "")
        if not problem:
            return slot, others, False
        others.append(f"{slot} holds {problem}")
    if not others:
        raise InputError(f"{path} has no X, and no other place with counts. {_WANTED}")
    if fractions and f"X holds {FRACTIONS}" in others:
        return "X", others, True
    raise InputError(f"{path} holds no UMI counts: {_and(others)}. {COUNTS_WANTED} Save them in X or layers/counts.")


def _samples(item: h5py.Group | h5py.Dataset) -> Iterator[np.ndarray]:
    """Values from the start, the middle and the end."""
    values = item["data"] if isinstance(item, h5py.Group) else item
    n = max(1, SAMPLED_VALUES // max(1, int(np.prod(values.shape[1:]))))
    for start in sorted({0, max(0, (len(values) - n) // 2), max(0, len(values) - n)}):
        yield values[start : start + n]


def _encoding(item: h5py.Group | h5py.Dataset) -> str:
    """ "csr", "csc", "dense", or "" for anything else."""
    if isinstance(item, h5py.Dataset):
        return "dense" if len(item.shape) == 2 else ""
    named = _text(item.attrs.get("encoding-type", item.attrs.get("h5sparse_format", "")))
    kind = named.removesuffix("_matrix")
    return kind if kind in ("csr", "csc") and all(name in item for name in ("data", "indices", "indptr")) else ""


def _shape(item: h5py.Group | h5py.Dataset) -> tuple[int, ...]:
    if isinstance(item, h5py.Dataset):
        return tuple(item.shape)
    shape = item.attrs["shape"] if "shape" in item.attrs else item.attrs["h5sparse_shape"]
    return tuple(int(n) for n in shape)


def _header(var: h5py.Group | h5py.Dataset | None, n_cells: int, where: str) -> MatrixHeader:
    if var is None:
        raise InputError(f"{where} does not exist, so the features have no names. {_WANTED}")
    index = _index(var)

    def first_of(names: tuple[str, ...], instead: np.ndarray) -> np.ndarray:
        """The first column that exists, with gaps filled from `instead`; `instead` if none does."""
        found = next((column for name in names if (column := _column(var, name)) is not None), instead)
        if len(found) != len(index):
            raise InputError(f"{where} is damaged: its columns differ in length. {_AGAIN}")
        return np.where((found == "") | (found == "nan"), instead, found)

    all_genes = np.full(len(index), GENE_EXPRESSION)
    types = first_of(TYPE_COLUMNS, all_genes)
    return MatrixHeader(
        ids=first_of(ID_COLUMNS, index),
        names=first_of(NAME_COLUMNS, index),
        feature_types=types if TENX_FEATURE_TYPES.intersection(types) else all_genes,
        genomes=first_of(("genome",), np.full(len(index), "", dtype="U1")),
        n_cells=n_cells,
    )


def _index(frame: h5py.Group | h5py.Dataset) -> np.ndarray:
    """The row names of obs or var."""
    found = next((column for name in _index_names(frame) if (column := _column(frame, name)) is not None), None)
    if found is None:
        raise InputError(f"{frame.file.filename} has no row names in {frame.name.strip('/')}. {_WANTED}")
    return found


def _index_names(frame: h5py.Group | h5py.Dataset) -> list[str]:
    """Where row names may be, in order."""
    names = [_text(frame.attrs["_index"])] if "_index" in frame.attrs else []
    names += ["_index", "index"]
    names += (frame.dtype.names or ())[:1] if isinstance(frame, h5py.Dataset) else ()
    return names


def _column(frame: h5py.Group | h5py.Dataset, name: str) -> np.ndarray | None:
    """A column as str, "" where a value is missing; None if there is no such column."""
    if isinstance(frame, h5py.Dataset):  # anndata before 0.7: one compound table, categories in uns
        if name not in (frame.dtype.names or ()):
            return None
        values, categories = frame[name], frame.file.get(f"uns/{name}_categories")
        return _texts(values) if categories is None else _looked_up(_texts(categories[()]), values)
    item = frame.get(name)
    if item is None:
        return None
    if isinstance(item, h5py.Group) and "codes" in item:
        return _looked_up(_plain(item["categories"]), item["codes"][()])
    if f"__categories/{name}" in frame:  # anndata 0.7
        return _looked_up(_plain(frame[f"__categories/{name}"]), item[()])
    return _plain(item)


def _plain(item: h5py.Group | h5py.Dataset) -> np.ndarray:
    """A dataset, or a pair of values and mask, as str."""
    if isinstance(item, h5py.Dataset):
        return _texts(item[()])
    return np.where(item["mask"][()], "", _texts(item["values"][()]))


def _looked_up(categories: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The category of each code, "" for the code -1."""
    return np.append(categories, "")[codes]


def _texts(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    return np.array([v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values], dtype=str)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _and(phrases: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(phrases[:-1]), *phrases[-1:]]))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what h5py raises while reading `path` into an InputError."""
    try:
        yield
    except PermissionError as exc:
        raise InputError(f"{path} cannot be read: no permission.") from exc
    except (OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        reason = str(exc)
        if "truncated file" in reason:
            raise InputError(f"{path} is cut off: part of the file is missing. {_AGAIN}") from exc
        if "file signature not found" in reason:
            raise InputError(f"{path} is not an HDF5 file. {_WANTED}") from exc
        raise InputError(f"{path} cannot be read: {reason.splitlines()[0] if reason else exc!r}. {_AGAIN}") from exc
