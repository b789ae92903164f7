"""References of averages: one row a cell type (of one tissue, of one study) instead of one a cell."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..errors import InputError
from ..genomes import infer_species
from ..io.coded import CodedColumn
from ..io.entries import check_no_repeats
from ..matrix import BLOCK_ROWS, Features
from .labelled import UNLABELLED, LabelledInput, Wanted

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
ID_COLUMNS, NAME_COLUMNS = ("gene_id", "gene_ids", "ensembl_id"), ("gene", "gene_symbol", "gene_name", "symbol")
MOST_ROWS = 20_000
EVEN = 0.02  # relative spread of row sums that betrays the scale they were made on
LARGEST_LOG = 25.0
MEASURED_ENOUGH = 0.5  # share of the rows whose study must have measured a gene


def is_table(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith(TABLE_SUFFIXES)


def read_average_table(path: Path) -> LabelledInput:
    """A text table of genes x types; the first column, or columns named after ids and symbols, name the genes."""
    try:
        separator = "," if ".csv" in path.name.lower() else "\t"
        header = next(csv.reader([_first_line(path)], delimiter=separator), [])
        read = pd.read_csv(path, sep=separator, header=0, names=_unique(header), index_col=False)
    except (OSError, ValueError, EOFError, pd.errors.ParserError) as exc:
        raise InputError(f"The table of averages {path} cannot be read: {exc}. {_WANTED}") from exc
    told = [i for i, name in enumerate(header) if name.strip().lower() in (*ID_COLUMNS, *NAME_COLUMNS)] or [0]
    types = [i for i in range(len(header)) if i not in told]
    if len(types) < 2:
        raise InputError(f"The table of averages {path} has {len(types)} columns of types. {_WANTED}")
    values = read.iloc[:, types]
    wrong = next((header[i] for i, kind in zip(types, values.dtypes, strict=True) if kind.kind not in "iuf"), None)
    if wrong is not None:
        raise InputError(f"The table of averages {path} has texts in the column '{wrong}'. {_WANTED}")
    genes = {header[i].strip().lower(): read.iloc[:, i].fillna("").astype(str).to_numpy(dtype=str) for i in told}
    first = next(iter(genes.values()))
    ids = next((genes[name] for name in ID_COLUMNS if name in genes), first)
    names = next((genes[name] for name in NAME_COLUMNS if name in genes), ids)
    labels = np.array([header[i] for i in types], dtype=str)
    if infer_species(Features(ids, names))[0] is None and infer_species(Features(labels, labels))[0] is not None:
        raise InputError(f"The table of averages {path} has genes in its columns: transpose it. {_WANTED}")
    check_no_repeats(ids, "gene", str(path))
    check_no_repeats(labels, "type", str(path))
    rows = sp.csr_matrix(values.to_numpy(dtype=np.float64).T)

    def cells(wanted: Wanted) -> Iterator[sp.csr_matrix]:
        return (rows[start : start + BLOCK_ROWS] for start in range(0, rows.shape[0], BLOCK_ROWS))

    n = len(labels)
    return LabelledInput(
        path=path,
        dataset=path.name.split(".")[0],
        features=Features(ids, names),
        labels=CodedColumn.of([labels]).without(UNLABELLED),
        ontology_ids=None,
        datasets=CodedColumn.constant(path.name.split(".")[0], n),
        donors=CodedColumn.constant("", n),
        cells=cells,
        row_names=lambda: np.char.encode(labels, "utf-8"),
        files=(path,),
        format="table of averages",
        fractional=True,
    )


def looks_like_averages(found: LabelledInput) -> bool:
    """Values that are no whole numbers, and no label on two rows: as cells there would be nothing to learn."""
    counts = found.labels.counts()
    return found.fractional and len(counts) > 1 and int(counts.max(initial=0)) == 1


def linear_averages(found: LabelledInput, scale: str) -> np.ndarray:
    """(rows, features) float64 shares, rows sum to 1; InputError if they are no averages of a known scale.

    `scale`: of the values, "linear", "log1p", "log2" (of 1 + value), or "auto": by the largest value and the row sums.
    """
    if found.n_cells > MOST_ROWS:
        raise InputError(f"{found.path} has {found.n_cells:,} rows, too many for averages of types.")
    values = sp.vstack(list(found.cells(lambda start, stop: True)), format="csr").astype(np.float64).toarray()
    if not np.isfinite(values).all():
        raise InputError(f"{found.path} holds values that are not numbers (NaN or infinite). Averages must be finite.")
    if values.min() < 0:
        raise InputError(
            f"{found.path} holds negative values. Give averages of counts or of their logs, not scaled ones."
        )
    way = scale if scale != "auto" else _scale_of(values, found.path)
    if way != "linear":
        values = np.expm1(values) if way == "log1p" else np.exp2(values) - 1
    totals = values.sum(axis=1, keepdims=True)
    if (totals == 0).any():
        row = found.labels.values[found.labels.codes[int(np.argmin(totals))]]
        raise InputError(f"{found.path} has only zeros for '{row}'. Leave that type out.")
    return np.asarray(values / totals)


def _scale_of(values: np.ndarray, path: Path) -> str:
    """Logs are small numbers; of the two bases the one that gives rows of even sums is meant."""
    if values.max() > LARGEST_LOG:
        return "linear"
    for way, sums in (("log1p", np.expm1(values).sum(axis=1)), ("log2", (np.exp2(values) - 1).sum(axis=1))):
        if sums.std() <= EVEN * sums.mean():
            return way
    if values.sum(axis=1).std() <= EVEN * values.sum(axis=1).mean():
        return "linear"
    raise InputError(
        f"The scale of the averages in {path} cannot be told: their largest value is {values.max():.3g}, and neither "
        "they nor their exponentials have even sums. Say it: --averages linear, log1p or log2."
    )


def with_unmeasured_filled(shares: np.ndarray, studies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares over the genes that most rows' studies measured, and which genes these are.

    A gene that is zero in all rows of a study was not measured there: it gets its mean share over the other rows, so
    that it speaks for none of the study's types and against none. Rows sum to 1 again.
    """
    codes = np.unique(studies, return_inverse=True)[1]
    measured = np.zeros(shares.shape, dtype=bool)
    for code in range(codes.max() + 1):
        measured[codes == code] = (shares[codes == code] > 0).any(axis=0)
    genes = np.flatnonzero(measured.mean(axis=0) >= MEASURED_ENOUGH)
    kept, known = shares[:, genes], measured[:, genes]
    means = kept.sum(axis=0) / known.sum(axis=0)
    filled = np.where(known, kept, means)
    return filled / filled.sum(axis=1, keepdims=True), genes


def _first_line(path: Path) -> str:
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        return str(file.readline()).rstrip("\r\n")


def _unique(header: Sequence[str]) -> list[str]:
    """Names that pandas takes: a repeated type is told to the user later, by its own name."""
    return [f"{i} {name}" for i, name in enumerate(header)]


_WANTED = (
    "Wanted are genes in rows, their ids or symbols in the first column, and one column of averages for each type."
)
