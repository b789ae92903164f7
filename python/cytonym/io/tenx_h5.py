"""10x HDF5 matrices: versions 1 (legacy, a group per genome) and 2, read by ranges of cells; version 2 written.

Layout and rules: Cell Ranger's own reader (`cellranger/matrix.py`). On disk features are rows; here cells are.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np
import scipy.sparse as sp

from ..errors import GenomeMismatch, InputError
from ..matrix import Features
from ..types import GENE_EXPRESSION
from .hdf5 import written_h5

NEWEST_VERSION = 2
READ_NONZEROS = 1 << 20  # entries checked at a time
WRITE_CHUNK = 65_536


class TenxH5Source:
    """Cells x Gene Expression features of an open 10x HDF5 file.

    Opening checks the layout; `check_counts` reads every entry once. All problems are InputErrors that name the file.
    With `fractions`, values that are not whole are let through, and read as float32.
    """

    def __init__(self, path: Path, *, fractions: bool = False) -> None:
        self.path, self.fractional = path, False
        with _readable(path):
            self._file = h5py.File(path, "r")
            self.version = self._check_root()
            group = self._group()
            self.chemistry = _text(self._file.attrs.get("chemistry_description", ""))
            self.format = "10x HDF5" if self.version == NEWEST_VERSION else "10x HDF5 (version 1)"
            self._data, self._indices = group["data"], group["indices"]
            self._dtype = np.float32 if fractions and self._data.dtype.kind == "f" else np.int32
            self._indptr = group["indptr"][()].astype(np.int64)
            self._barcodes = group["barcodes"]
            self.all_features, self.feature_types, self.genomes = self._read_features(group)
            shape = group["shape"][()]
        self.n_cells = len(self._barcodes)
        self._check_layout(shape)
        self._gene_rows = np.flatnonzero(self.feature_types == GENE_EXPRESSION)
        self._column_of = np.full(len(self.feature_types), -1, dtype=np.int32)
        self._column_of[self._gene_rows] = np.arange(len(self._gene_rows), dtype=np.int32)
        self.features = Features(self.all_features.ids[self._gene_rows], self.all_features.names[self._gene_rows])

    def close(self) -> None:
        self._file.close()

    def _check_root(self) -> int:
        filetype = _text(self._file.attrs.get("filetype", ""))
        if filetype != "matrix":
            found = f"its filetype is '{filetype}'" if filetype else "it has no filetype attribute"
            raise InputError(f"{self.path} is not a 10x matrix file: {found}, not 'matrix'. {_WANTED}")
        version = int(self._file.attrs.get("version", 1))
        if version > NEWEST_VERSION:
            raise InputError(
                f"{self.path} is a 10x matrix of version {version}; this cytonym reads up to version {NEWEST_VERSION}. "
                "Install a newer cytonym."
            )
        return version

    def _group(self) -> h5py.Group:
        if self.version == NEWEST_VERSION:
            group = self._file.get("matrix")
            if not isinstance(group, h5py.Group):
                raise InputError(f"{self.path} has no group 'matrix'. {_WANTED}")
            names: tuple[str, ...] = ("barcodes", "data", "indices", "indptr", "shape", "features")
        else:
            groups = [name for name, item in self._file.items() if isinstance(item, h5py.Group) and "barcodes" in item]
            if not groups:
                raise InputError(f"{self.path} has no matrix group. {_WANTED}")
            if len(groups) > 1:
                raise GenomeMismatch(
                    f"{self.path} holds more than one genome ({', '.join(sorted(groups))}). Multi-genome samples are "
                    "not supported: give the matrix of one genome."
                )
            group = self._file[groups[0]]
            names = ("barcodes", "data", "indices", "indptr", "shape", "genes", "gene_names")
        missing = [name for name in names if name not in group]
        if missing:
            raise InputError(f"{self.path} lacks {', '.join(missing)} in group '{group.name}'. {_WANTED}")
        return group

    def _read_features(self, group: h5py.Group) -> tuple[Features, np.ndarray, tuple[str, ...]]:
        if self.version == 1:
            ids, names = _texts(group["genes"]), _texts(group["gene_names"])
            self._same_length(ids=ids, names=names)
            return Features(ids, names), np.full(len(ids), GENE_EXPRESSION), (group.name.strip("/"),)
        table = group["features"]
        missing = [name for name in ("id", "name", "feature_type") if name not in table]
        if missing:
            raise InputError(f"{self.path} lacks {', '.join(missing)} in group 'matrix/features'. {_WANTED}")
        ids, names, types = (_texts(table[name]) for name in ("id", "name", "feature_type"))
        genomes = _texts(table["genome"]) if "genome" in table else np.full(len(ids), "")
        self._same_length(ids=ids, names=names, types=types, genomes=genomes)
        found = sorted({str(genome) for genome in genomes[types == GENE_EXPRESSION] if genome})
        return Features(ids, names), types, tuple(found)

    def _same_length(self, **columns: np.ndarray) -> None:
        if len({len(column) for column in columns.values()}) > 1:
            raise InputError(f"{self.path} is damaged: its feature columns differ in length. {_AGAIN}")

    def _check_layout(self, shape: np.ndarray) -> None:
        indptr, n_entries = self._indptr, len(self._indices)
        if len(self._data) != n_entries:
            raise InputError(
                f"{self.path} is damaged: {len(self._data)} counts, but {n_entries} feature indices. {_AGAIN}"
            )
        if tuple(int(n) for n in shape) != (len(self.feature_types), self.n_cells):
            raise InputError(
                f"{self.path} is damaged: its shape says {int(shape[0])} features and {int(shape[1])} barcodes, but it "
                f"lists {len(self.feature_types)} and {self.n_cells}. {_AGAIN}"
            )
        if len(indptr) != self.n_cells + 1:
            raise InputError(
                f"{self.path} is damaged: indptr has {len(indptr)} entries for {self.n_cells} barcodes, "
                f"{self.n_cells + 1} are needed. {_AGAIN}"
            )
        if len(indptr) and (indptr[0] != 0 or indptr[-1] != n_entries or (np.diff(indptr) < 0).any()):
            raise InputError(f"{self.path} is damaged: indptr does not rise from 0 to {n_entries}. {_AGAIN}")

    def feature_type_counts(self) -> dict[str, int]:
        """Number of features of each type, in order of first appearance."""
        kinds, first, counts = np.unique(self.feature_types, return_index=True, return_counts=True)
        return {str(kinds[i]): int(counts[i]) for i in np.argsort(first)}

    def read_barcodes(self, start: int, stop: int) -> np.ndarray:
        with _readable(self.path):
            return _texts(self._barcodes, start, stop)

    def read_rows(self, start: int, stop: int) -> sp.csr_matrix:
        first, last = int(self._indptr[start]), int(self._indptr[stop])
        with _readable(self.path):
            data = self._data[first:last].astype(self._dtype, copy=False)
            indices = self._indices[first:last].astype(np.int32, copy=False)
        indptr = self._indptr[start : stop + 1] - first
        shape = (stop - start, len(self.feature_types))
        cells = sp.csr_matrix((data, indices, indptr), shape=shape, copy=False)
        cells.sort_indices()
        if len(self._gene_rows) == len(self.feature_types):
            return cells
        columns = self._column_of[cells.indices]
        kept = columns >= 0
        before = np.concatenate(([0], np.cumsum(kept)))
        shape = (stop - start, len(self._gene_rows))
        return sp.csr_matrix((cells.data[kept], columns[kept], before[indptr]), shape=shape, copy=False)

    def check_counts(self) -> tuple[np.ndarray, int]:
        """Gene Expression UMIs of each cell (int64) and the number of non-zero Gene Expression entries.

        Sums of fractions are rounded down; from then on `fractional` says whether there are any.
        Reads every entry, a million at a time, and raises InputError for a count that is negative, fractional or
        not a number, and for feature indices that are out of range, unsorted or repeated within a cell.
        """
        totals = np.zeros(self.n_cells, dtype=np.int64)
        n_nonzeros = 0
        for start, stop in self._ranges(READ_NONZEROS):
            first, last = int(self._indptr[start]), int(self._indptr[stop])
            with _readable(self.path):
                data, indices = self._data[first:last], self._indices[first:last]
            self._check_values(data)
            self._check_indices(indices, self._indptr[start : stop + 1] - first)
            genes = (self._column_of[indices] >= 0) & (data != 0)
            n_nonzeros += int(np.count_nonzero(genes))
            exact = np.float64 if self.fractional else np.int64
            sums = np.concatenate(([0], np.cumsum(np.where(genes, data, 0), dtype=exact)))
            totals[start:stop] = np.diff(sums[self._indptr[start : stop + 1] - first])
        return totals, n_nonzeros

    def _ranges(self, n_entries: int) -> Iterator[tuple[int, int]]:
        """Ranges of cells with about that many entries each, at least one cell."""
        start = 0
        while start < self.n_cells:
            stop = int(np.searchsorted(self._indptr, self._indptr[start] + n_entries, side="right")) - 1
            stop = min(max(stop, start + 1), self.n_cells)
            yield start, stop
            start = stop

    def _check_values(self, data: np.ndarray) -> None:
        if data.dtype.kind == "f":
            if not np.isfinite(data).all():
                raise InputError(f"{self.path} holds counts that are not numbers (NaN or infinite). {_COUNTS}")
            self.fractional |= bool((data != np.floor(data)).any())
            if self.fractional and self._dtype == np.int32:
                raise InputError(f"{self.path} holds fractional values, not UMI counts. {_COUNTS}")
        elif data.dtype.kind not in "iu":
            raise InputError(f"{self.path} holds values of type {data.dtype}, not UMI counts. {_COUNTS}")
        if len(data) and data.min() < 0:
            raise InputError(f"{self.path} holds negative values, not UMI counts. {_COUNTS}")
        if len(data) and data.max() > np.iinfo(np.int32).max:
            raise InputError(f"{self.path} holds counts above {np.iinfo(np.int32).max}. {_COUNTS}")

    def _check_indices(self, indices: np.ndarray, indptr: np.ndarray) -> None:
        if len(indices) == 0:
            return
        if indices.min() < 0 or indices.max() >= len(self.feature_types):
            raise InputError(
                f"{self.path} is damaged: a feature index lies outside 0 to {len(self.feature_types) - 1}. {_AGAIN}"
            )
        steps = np.diff(indices)
        starts = indptr[1:-1]  # of the second cell, the third, ...
        within = np.ones(len(steps), dtype=bool)
        within[starts[(starts > 0) & (starts < len(indices))] - 1] = False
        steps = steps[within]
        if not ((steps > 0).all() or (steps < 0).all()):  # Cell Ranger 3 wrote them falling
            raise InputError(
                f"{self.path} is damaged: feature indices are not sorted within a barcode, or repeat. {_AGAIN}"
            )


def open_tenx_h5(path: Path, *, fractions: bool = False) -> TenxH5Source:
    """The matrix in that file; InputError if it is not a readable 10x HDF5 matrix."""
    return TenxH5Source(path, fractions=fractions)


class TenxH5Writer:
    """Writes a version 2 file cell block by cell block, whole or not at all; use it in a `with` statement."""

    def __init__(
        self,
        path: Path,
        *,
        ids: np.ndarray,
        names: np.ndarray,
        feature_types: np.ndarray,
        genomes: np.ndarray,
        chemistry: str = "",
        library_id: str = "sample",
        fractions: bool = False,
    ) -> None:
        self._stack = ExitStack()
        self._path = path
        self._columns = {"id": ids, "name": names, "feature_type": feature_types, "genome": genomes}
        self._attributes = {"chemistry_description": chemistry, "filetype": "matrix", "software_version": "cytonym"}
        self._library_id = library_id
        self._dtype = np.float32 if fractions else np.int32
        self._barcodes: list[np.ndarray] = []
        self._indptr: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        self._n_entries = 0

    def __enter__(self) -> TenxH5Writer:
        self._file, self._disk = self._stack.enter_context(written_h5(self._path))
        group = self._file.create_group("matrix")
        storage = {"chunks": (WRITE_CHUNK,), "compression": "gzip", "compression_opts": 1, "shuffle": True}
        self._data = group.create_dataset("data", (0,), self._dtype, maxshape=(None,), **storage)
        self._indices = group.create_dataset("indices", (0,), np.int64, maxshape=(None,), **storage)
        return self

    def append(self, cells: sp.csr_matrix, barcodes: np.ndarray) -> None:
        """More cells: counts, cells x all features with sorted indices, and their barcodes."""
        first, last = self._n_entries, self._n_entries + cells.nnz
        for dataset, values in ((self._data, cells.data), (self._indices, cells.indices)):
            dataset.resize((last,))
            dataset[first:last] = values
        self._disk.check()
        self._indptr.append(cells.indptr[1:].astype(np.int64) + first)
        self._barcodes.append(np.asarray(barcodes))
        self._n_entries = last

    def _finish(self) -> None:
        for name, value in self._attributes.items():
            self._file.attrs[name] = value
        self._file.attrs["version"] = NEWEST_VERSION
        self._file.attrs["library_ids"] = np.array([self._library_id.encode("ascii", "xmlcharrefreplace")])
        self._file.attrs["original_gem_groups"] = np.array([1])
        barcodes = np.concatenate(self._barcodes) if self._barcodes else np.array([], dtype=str)
        group = self._file["matrix"]
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        group.create_dataset("barcodes", data=_ascii(barcodes), **(packed if len(barcodes) else {}))
        group.create_dataset("indptr", data=np.concatenate(self._indptr), **packed)
        shape = np.array([len(self._columns["id"]), len(barcodes)], dtype=np.int32)
        group.create_dataset("shape", data=shape)
        for name, column in self._columns.items():
            group.create_dataset(f"features/{name}", data=_ascii(column))
        group.create_dataset("features/_all_tag_keys", data=np.array([b"genome"]))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._stack:
            if exc is not None:
                raise exc
            self._finish()


_WANTED = "A filtered_feature_cell_matrix.h5 or filtered_feature_bc_matrix.h5 of Space Ranger or Cell Ranger is wanted."
_AGAIN = "Copy or make the file again."
_COUNTS = "Raw UMI counts are wanted."


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what h5py raises while reading `path` into an InputError."""
    try:
        yield
    except FileNotFoundError as exc:
        raise InputError(f"{path} does not exist.") from exc
    except PermissionError as exc:
        raise InputError(f"{path} cannot be read: no permission.") from exc
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as exc:
        reason = str(exc)
        if "truncated file" in reason:
            raise InputError(f"{path} is cut off: part of the file is missing. {_AGAIN}") from exc
        if "file signature not found" in reason:
            raise InputError(f"{path} is not an HDF5 file. {_WANTED}") from exc
        raise InputError(f"{path} cannot be read: {reason.splitlines()[0] if reason else exc!r}. {_AGAIN}") from exc


def _text(value: str | bytes | np.ndarray) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return html.unescape(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _texts(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Strings of a dataset, fixed-length or not, with 10x's character references resolved."""
    values = dataset[start:stop]
    if values.dtype.kind == "S":
        texts = np.char.decode(values, "utf-8")
    else:
        texts = np.array([v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values], dtype=str)
    if texts.dtype.itemsize == 0:
        texts = texts.astype("U1")
    escaped = np.flatnonzero(np.char.find(texts, "&") >= 0)
    if len(escaped):
        texts = texts.astype(object)
        texts[escaped] = [html.unescape(text) for text in texts[escaped]]
        texts = texts.astype(str)
    return texts


def _ascii(values: np.ndarray) -> np.ndarray:
    """Fixed-length bytes; characters beyond 7 bits become character references."""
    encoded = np.char.encode(np.asarray(values, dtype=str), "ascii", "xmlcharrefreplace")
    return encoded if encoded.dtype.itemsize else encoded.astype("S1")
