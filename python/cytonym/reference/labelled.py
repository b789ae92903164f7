"""Labelled files of every format as one kind of value: genes, codes of labels, and counts in blocks of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..errors import InputError
from ..inputs import H5AD, TENX, LocatedMatrix, as_tenx_h5, locate_matrix
from ..io.coded import CodedColumn
from ..io.h5ad import H5adSource, obs_columns, open_h5ad, read_obs, read_row_names
from ..io.tenx_h5 import TenxH5Source
from ..matrix import BLOCK_ROWS, Features
from ..types import COARSE_NOT_CONFIDENT, FINE_NOT_CONFIDENT, GENE_EXPRESSION, LOW_UMI_BARCODE, UNASSIGNED
from .request import LABEL_KEY, BuildRequest
from .unlog import Unlog, unlog_of

# labels that name no type
UNLABELLED = ("", "nan", "na", "none", "unknown", UNASSIGNED, LOW_UMI_BARCODE, COARSE_NOT_CONFIDENT, FINE_NOT_CONFIDENT)
ONTOLOGY_KEY, DATASET_KEY, DONOR_KEY = "cell_type_ontology_term_id", "dataset_id", "donor_id"  # of the CELLxGENE schema
BARCODE_COLUMN, LABEL_COLUMN = "barcode", "label"

Wanted = Callable[[int, int], bool]


class Cells(Protocol):
    """Cells x features in blocks of BLOCK_ROWS, in file order; a block that is not wanted may come empty."""

    def __call__(self, wanted: Wanted) -> Iterator[sp.csr_matrix]: ...


@dataclass(frozen=True)
class LabelledInput:
    """One file whose genes and labels are read; `cells` reads its counts, as often as it is called."""

    path: Path
    dataset: str  # what a map's column of that name calls the file: its stem
    features: Features  # Gene Expression alone
    labels: CodedColumn
    ontology_ids: CodedColumn | None
    datasets: CodedColumn
    donors: CodedColumn
    cells: Cells = field(repr=False)
    row_names: Callable[[], np.ndarray] = field(repr=False)  # (n_cells,) bytes
    files: tuple[Path, ...] = ()
    format: str = H5AD
    notes: tuple[str, ...] = ()
    unlog: Unlog | None = None  # how its values become counts; None: they are counts
    fractional: bool = False  # its values are no counts and cannot be made counts

    @property
    def n_cells(self) -> int:
        return len(self.labels.codes)


def open_labelled(request: BuildRequest, folder: Path) -> list[LabelledInput]:
    """All inputs, in order; a MEX folder becomes an HDF5 file in `folder` first."""
    located = [locate_matrix(path) for path in request.inputs]
    tables = _tables_of(request, located)
    found = []
    for number, (place, table) in enumerate(zip(located, tables, strict=True)):
        if place.format == H5AD and table is None:
            found.append(_open_h5ad(place.path, request))
        else:
            found.append(_open_with_table(place, table, request, folder / f"input-{number}.h5"))
    return _with_own_names(found)


def _tables_of(request: BuildRequest, located: Sequence[LocatedMatrix]) -> list[Path | None]:
    """The label table of each input: one for all that need one, or one each in order."""
    needing = [place for place in located if place.format != H5AD]
    if not request.labels:
        if needing:
            raise InputError(
                f"{needing[0].path} holds no labels. Give a table with the columns {BARCODE_COLUMN} and "
                f"{LABEL_COLUMN}: --labels FILE.csv."
            )
        return [None] * len(located)
    with_table = needing or list(located)
    if len(request.labels) not in (1, len(with_table)):
        raise InputError(
            f"{len(request.labels)} label tables for {len(with_table)} inputs: give one for all, or one each, in order."
        )
    tables = iter(request.labels if len(request.labels) > 1 else request.labels * len(with_table))
    return [next(tables) if place in with_table else None for place in located]


def _open_h5ad(path: Path, request: BuildRequest) -> LabelledInput:
    source = _with_counts_or_values(path)
    key = request.label_key or LABEL_KEY
    labels = _column(path, key, wanted="labels", option="--label-key", needed=request.averages is None)
    if labels is None:  # a table of averages whose rows are named after their types
        labels = CodedColumn.of([np.char.decode(read_row_names(path), "utf-8")])
    columns = {
        name: _column(path, given or usual, wanted=name, option=f"--{name}-key", needed=given is not None)
        for name, given, usual in (
            ("ontology", request.ontology_key, ONTOLOGY_KEY),
            ("dataset", request.dataset_key, DATASET_KEY),
            ("donor", request.donor_key, DONOR_KEY),
        )
    }
    n_cells = source.header.n_cells
    genes = np.flatnonzero(source.header.feature_types == GENE_EXPRESSION)
    everything = len(genes) == len(source.header.ids)
    features = Features(source.header.ids[genes], source.header.names[genes])

    def cells(wanted: Wanted) -> Iterator[sp.csr_matrix]:
        blocks = source.cells(wanted)
        return blocks if everything else (block[:, genes] for block in blocks)

    return LabelledInput(
        path=path,
        dataset=path.stem,
        features=features,
        labels=labels.without(UNLABELLED),
        ontology_ids=columns["ontology"],
        datasets=columns["dataset"] or CodedColumn.constant(path.stem, n_cells),
        donors=columns["donor"] or CodedColumn.constant("", n_cells),
        cells=cells,
        row_names=lambda: read_row_names(path),
        files=(path,),
        notes=source.notes,
        unlog=unlog_of(next(cells(lambda start, stop: start == 0), None)) if source.fractional else None,
        fractional=source.fractional,
    )


def _with_counts_or_values(path: Path) -> H5adSource:
    return open_h5ad(path, fractions=True, with_barcodes=False)


def _column(path: Path, name: str, *, wanted: str, option: str, needed: bool) -> CodedColumn | None:
    found = read_obs(path, name)
    if found is None and needed:
        listed = ", ".join(obs_columns(path)) or "none"
        raise InputError(
            f"{path} has no column '{name}' in obs for {wanted}. Name one with {option}; it has: {listed}."
        )
    return found


def _open_with_table(place: LocatedMatrix, table: Path | None, request: BuildRequest, converted: Path) -> LabelledInput:
    """A matrix whose labels stand in a table beside it; the format does not matter."""
    if table is None:
        raise InputError(f"{place.path} holds no labels: give --labels FILE.csv.")
    source, named, notes = as_tenx_h5(place, converted)
    source.check_counts()
    barcodes = source.read_barcodes(0, source.n_cells)
    columns = _read_table(table, barcodes, place.path, request)

    def cells(wanted: Wanted) -> Iterator[sp.csr_matrix]:
        return _tenx_cells(source, wanted)

    n_cells = source.n_cells
    dataset = _stem_of(place.path)
    return LabelledInput(
        path=place.path,
        dataset=dataset,
        features=source.features,
        labels=columns["labels"].without(UNLABELLED),
        ontology_ids=columns.get("ontology"),
        datasets=columns.get("dataset") or CodedColumn.constant(dataset, n_cells),
        donors=columns.get("donor") or CodedColumn.constant("", n_cells),
        cells=cells,
        row_names=lambda: np.char.encode(barcodes, "utf-8"),
        files=(*place.files, table),
        format=named if place.format == TENX else place.format,
        notes=notes,
    )


def _tenx_cells(source: TenxH5Source, wanted: Wanted) -> Iterator[sp.csr_matrix]:
    for start in range(0, source.n_cells, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, source.n_cells)
        if wanted(start, stop):
            yield source.read_rows(start, stop)
        else:
            yield sp.csr_matrix((stop - start, len(source.features)), dtype=np.int32)


def _read_table(table: Path, barcodes: np.ndarray, matrix: Path, request: BuildRequest) -> dict[str, CodedColumn]:
    """The table's columns in the order of the matrix; cells that it does not list are unlabelled."""
    try:
        read = pd.read_csv(table, dtype=str, keep_default_na=False, sep=None, engine="python", encoding="utf-8-sig")
    except (OSError, ValueError, pd.errors.ParserError) as exc:
        raise InputError(f"The label table {table} cannot be read: {exc}. Give a CSV or TSV file.") from exc
    keys = [request.label_key] if request.label_key else [LABEL_COLUMN, LABEL_KEY]
    label_key = next((key for key in keys if key in read), None)
    if BARCODE_COLUMN not in read or label_key is None:
        raise InputError(
            f"The label table {table} has the columns {', '.join(map(str, read.columns))}; wanted are {BARCODE_COLUMN} "
            f"and {keys[0]}. Name the labels' column with --label-key."
        )
    repeated = read[BARCODE_COLUMN][read[BARCODE_COLUMN].duplicated()]
    if len(repeated):
        raise InputError(f"The label table {table} lists the barcode '{repeated.iloc[0]}' more than once.")
    rows = pd.Index(read[BARCODE_COLUMN]).get_indexer(pd.Index(barcodes))
    if not (rows >= 0).any():
        raise InputError(
            f"None of the barcodes of {table} is in {matrix}: it lists '{read[BARCODE_COLUMN].iloc[0]}', the matrix "
            f"holds '{barcodes[0]}'."
            if len(read)
            else f"The label table {table} is empty."
        )
    wanted = {
        "labels": label_key,
        "ontology": request.ontology_key or ONTOLOGY_KEY,
        "dataset": request.dataset_key or DATASET_KEY,
        "donor": request.donor_key or DONOR_KEY,
    }
    return {
        name: CodedColumn.of([np.where(rows >= 0, read[key].to_numpy(dtype=str)[rows], "")])
        for name, key in wanted.items()
        if key in read
    }


def _stem_of(path: Path) -> str:
    """A file's stem; of a matrix in a Space Ranger folder the name of the folder around outs."""
    if "outs" in path.parts:
        return path.parts[path.parts.index("outs") - 1]
    return path.stem


def _with_own_names(found: Sequence[LabelledInput]) -> list[LabelledInput]:
    """Data sets that are files of one name get the file's number, so that they stay apart."""
    stems = [one.dataset for one in found]
    named = []
    for number, one in enumerate(found, start=1):
        if stems.count(one.dataset) > 1 and one.datasets.values.tolist() == [one.dataset]:
            one = replace(one, datasets=CodedColumn.constant(f"{one.dataset}.{number}", one.n_cells))
        named.append(one)
    return named
