"""annotated.h5ad: cells x genes with their labels, written block by block in AnnData's format, without anndata.

Format: anndata's on-disk specification (0.1.0 of the file, 0.2.0 of tables and columns).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from ..matrix import CountMatrix
from .hdf5 import Disk, written_h5

CHUNK = 65_536
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
NAMES_AT_A_TIME = 100_000


def write_h5ad(
    path: Path,
    matrix: CountMatrix,
    obs: pd.DataFrame,
    *,
    obsm: Mapping[str, np.ndarray],
    colours: Mapping[str, Iterable[str]],
) -> None:
    """`obs` has a row per cell in matrix order: categories, numbers. `colours`: texts under their names in `uns`."""
    with written_h5(path) as (file, disk):
        _tag(file, "anndata", "0.1.0")
        _write_counts(file, matrix, disk)
        _write_table(file, "obs", matrix.barcodes(), obs)
        features = pd.DataFrame({"gene_symbols": pd.Categorical(matrix.features.names)})
        _write_table(file, "var", matrix.features.ids, features)
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            _tag(file.create_group(name), "dict", "0.1.0")
        for name, array in obsm.items():
            _tag(file.create_dataset(f"obsm/{name}", data=array, **PACKED), "array", "0.2.0")
        for name, values in colours.items():
            _write_texts(file["uns"], name, np.array(list(values), dtype=object))


def _write_counts(file: h5py.File, matrix: CountMatrix, disk: Disk) -> None:
    group = file.create_group("X")
    _tag(group, "csr_matrix", "0.1.0")
    group.attrs["shape"] = np.array([matrix.n_cells, matrix.n_features], dtype=np.int64)
    storage = {"chunks": (CHUNK,), "maxshape": (None,), **PACKED}
    data = group.create_dataset("data", (0,), np.float32, **storage)
    indices = group.create_dataset("indices", (0,), np.int32, **storage)
    ends, last = [np.zeros(1, dtype=np.int64)], 0
    for block in matrix.blocks():
        cells = block.counts()
        first, last = last, last + cells.nnz
        for dataset, values in ((data, cells.data), (indices, cells.indices)):
            dataset.resize((last,))
            dataset[first:last] = values
        disk.check()
        ends.append(cells.indptr[1:].astype(np.int64) + first)
    indptr = np.concatenate(ends)
    small = last <= np.iinfo(np.int32).max  # scipy wants both index arrays of one type
    group.create_dataset("indptr", data=indptr.astype(np.int32) if small else indptr, **PACKED)


def _write_table(file: h5py.File, name: str, index: np.ndarray, table: pd.DataFrame) -> None:
    group = file.create_group(name)
    _tag(group, "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", list(table.columns), dtype=h5py.string_dtype())
    _write_texts(group, "_index", index)
    for column in table.columns:
        values = table[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            _write_categories(group, column, values.cat.codes.to_numpy(), values.cat.categories.to_numpy(dtype=object))
        else:
            _tag(group.create_dataset(column, data=values.to_numpy(), **PACKED), "array", "0.2.0")


def _write_categories(group: h5py.Group, name: str, codes: np.ndarray, categories: np.ndarray) -> None:
    made = group.create_group(name)
    _tag(made, "categorical", "0.2.0")
    made.attrs["ordered"] = False
    _tag(made.create_dataset("codes", data=codes, **PACKED), "array", "0.2.0")
    _write_texts(made, "categories", categories)


def _write_texts(group: h5py.Group, name: str, texts: np.ndarray) -> None:
    dataset = group.create_dataset(name, (len(texts),), h5py.string_dtype())
    for start in range(0, len(texts), NAMES_AT_A_TIME):
        dataset[start : start + NAMES_AT_A_TIME] = texts[start : start + NAMES_AT_A_TIME].astype(object)
    _tag(dataset, "string-array", "0.2.0")


def _tag(item: h5py.Group | h5py.Dataset, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
