"""MEX folders: `matrix.mtx`, `features.tsv` (or `genes.tsv`) and `barcodes.tsv`, packed with gzip or not.

Layout: Cell Ranger's `save_mex` and the MatrixMarket coordinate format. On disk features are rows; here cells are.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..errors import InputError
from ..types import GENE_EXPRESSION
from .entries import as_counts, blocks_of, check_no_repeats
from .header import MatrixHeader

READ_BYTES = 1 << 24  # of text at a time, about 1.5 million entries
LONGEST_LINE = 1 << 16
GZIP_MAGIC = b"\x1f\x8b"

_AGAIN = "Copy or make the file again."
_WANTED = "A MEX folder holds matrix.mtx.gz, features.tsv.gz and barcodes.tsv.gz."


@dataclass(frozen=True)
class MexSource:
    """A MEX folder whose features and barcodes are read; `blocks` reads the counts in one pass."""

    matrix_path: Path
    header: MatrixHeader
    barcodes: np.ndarray  # (n_cells,) str
    n_entries: int  # as announced
    notes: tuple[str, ...] = ()
    fractional: bool = False  # such a folder is read only if it holds counts

    def blocks(self) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        """BLOCK_ROWS cells x all features at a time (int32) and their barcodes, in file order."""
        start = 0
        for cells in blocks_of(self._entries(), self.header.n_cells, len(self.header.ids), str(self.matrix_path)):
            yield cells, self.barcodes[start : start + cells.shape[0]]
            start += cells.shape[0]

    def _entries(self) -> Iterator[np.ndarray]:
        found = 0
        with _readable(self.matrix_path), _opened(self.matrix_path) as file:
            n_header_lines = _read_sizes(file, self.matrix_path)[1]
            line = n_header_lines + 1
            while text := file.read(READ_BYTES):
                text += file.readline()
                entries = self._parse(text, line)
                found += entries.shape[1]
                line += text.count(b"\n")
                yield entries
        if found != self.n_entries:
            raise InputError(f"{self.matrix_path} announces {self.n_entries} entries, but holds {found}. {_AGAIN}")

    def _parse(self, text: bytes, first_line: int) -> np.ndarray:
        """Entries (cell, feature, count) from lines of the file, the first of which has that number."""
        rows, columns, values = _numbers(text, first_line, self.matrix_path)
        for what, numbers, limit in (
            ("feature", rows, len(self.header.ids)),
            ("barcode", columns, self.header.n_cells),
        ):
            outside = numbers[(numbers < 1) | (numbers > limit)]
            if len(outside):
                raise InputError(
                    f"{self.matrix_path} is damaged: it has an entry for {what} {int(outside[0])}, but there are only "
                    f"{what}s 1 to {limit}. {_AGAIN}"
                )
        counts = as_counts(values, str(self.matrix_path))
        return np.stack([(columns - 1).astype(np.int32), (rows - 1).astype(np.int32), counts])


def mex_files(folder: Path) -> tuple[Path, Path, Path]:
    """Matrix, features and barcodes of a MEX folder; InputError names those that are missing."""
    wanted = (("matrix.mtx",), ("features.tsv", "genes.tsv"), ("barcodes.tsv",))
    paths, missing = [], []
    for names in wanted:
        found = [path for name in names for path in (folder / f"{name}.gz", folder / name) if path.is_file()]
        paths += found[:1]
        missing += [] if found else [" (or ".join(f"{name}.gz" for name in names) + ")" * (len(names) - 1)]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}. {_WANTED}")
    return paths[0], paths[1], paths[2]


def open_mex(folder: Path) -> MexSource:
    """The matrix of that folder; InputError if a file is missing or they do not fit together."""
    matrix_path, features_path, barcodes_path = mex_files(folder)
    with _readable(matrix_path), _opened(matrix_path) as file:
        (n_features, n_cells, n_entries), _ = _read_sizes(file, matrix_path)
    features = [line.split("\t") for line in _lines(features_path)]
    barcodes = _texts([line.split("\t")[0] for line in _lines(barcodes_path)])
    for what, path, listed, size in (
        ("features", features_path, len(features), n_features),
        ("barcodes", barcodes_path, len(barcodes), n_cells),
    ):
        if listed != size:
            swapped = (len(features), len(barcodes)) == (n_cells, n_features)
            advice = "Its rows must be features, its columns barcodes: transpose it." if swapped else _AGAIN
            raise InputError(f"{matrix_path} is made for {size} {what}, but {path.name} lists {listed}. {advice}")
    header = MatrixHeader(
        ids=_texts([fields[0] for fields in features]),
        names=_texts([fields[1] if len(fields) > 1 and fields[1] else fields[0] for fields in features]),
        feature_types=_texts([fields[2] if len(fields) > 2 and fields[2] else GENE_EXPRESSION for fields in features]),
        genomes=np.full(n_features, "", dtype="U1"),
        n_cells=n_cells,
    )
    check_no_repeats(header.ids, "feature id", str(features_path))
    check_no_repeats(barcodes, "barcode", str(barcodes_path))
    return MexSource(matrix_path, header, barcodes, n_entries)


def _read_sizes(file: BinaryIO, path: Path) -> tuple[tuple[int, int, int], int]:
    """Features, barcodes and entries as announced, and the number of lines read; `file` then stands at the entries."""
    words = file.readline(LONGEST_LINE).decode("latin-1").lower().split()
    if words[:1] != ["%%matrixmarket"]:
        raise InputError(f"{path} is not a MatrixMarket file: its first line is no %%MatrixMarket line. {_WANTED}")
    if words[1:3] != ["matrix", "coordinate"] or words[3:] not in (["integer", "general"], ["real", "general"]):
        raise InputError(
            f"{path} is a MatrixMarket file of the kind '{' '.join(words[1:])[:80]}', but 'matrix coordinate integer "
            "general' is wanted: one line a count."
        )
    n_lines = 1
    while line := file.readline(LONGEST_LINE):
        n_lines += 1
        if line.strip() and not line.startswith(b"%"):
            break
    sizes = line.split()
    if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
        raise InputError(f"{path} has no line with the numbers of features, barcodes and entries. {_AGAIN}")
    return (int(sizes[0]), int(sizes[1]), int(sizes[2])), n_lines


def _numbers(text: bytes, first_line: int, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three columns of some lines: whole numbers, or values as floats where they are written so."""
    for value_type in (np.int64, np.float64):
        try:
            table = pd.read_csv(
                io.BytesIO(text),
                sep=r"\s+",
                header=None,
                comment="%",
                dtype={0: np.int64, 1: np.int64, 2: value_type},
            )
        except pd.errors.EmptyDataError:
            return (np.empty(0, dtype=np.int64),) * 3
        except (ValueError, OverflowError):
            continue
        if table.shape[1] == 3 and not (value_type is np.float64 and table[2].isna().any()):
            return table[0].to_numpy(), table[1].to_numpy(), table[2].to_numpy()
    raise InputError(f"{path}, line {_bad_line(text, first_line)}. {_AGAIN}")


def _bad_line(text: bytes, first_line: int) -> str:
    """Number and text of the first line that is not two whole numbers and a value."""
    entry = re.compile(r"\s*(\d+\s+\d+\s+[-+]?[\d.]+(e[-+]?\d+)?\s*)?(%.*)?", re.IGNORECASE)
    for number, line in enumerate(text.decode("latin-1").split("\n"), first_line):
        if not entry.fullmatch(line):
            return f"{number}: '{line.strip()[:80]}' is not a feature number, a barcode number and a count"
    return f"{first_line} or later: a line is not a feature number, a barcode number and a count"


def _lines(path: Path) -> list[str]:
    """The lines of a text file; InputError if one before the last is empty, or its first field is."""
    with _readable(path), _opened(path) as file:
        lines = file.read().decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
    if lines == [""]:
        return []
    empty = [number for number, line in enumerate(lines, 1) if not line.split("\t")[0]]
    if empty:
        raise InputError(f"{path}, line {empty[0]}, starts with an empty field. {_AGAIN}")
    return lines


def _texts(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=str)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file's content, unpacked if it is gzip data, whatever its name."""
    with path.open("rb") as raw:
        if raw.peek(2)[:2] == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=raw) as packed, io.BufferedReader(packed, 1 << 20) as file:
                yield file
        else:
            yield raw


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what reading and unpacking `path` raise into an InputError."""
    try:
        yield
    except PermissionError as exc:
        raise InputError(f"{path} cannot be read: no permission.") from exc
    except EOFError as exc:
        raise InputError(f"{path} is cut off: its gzip data end too early. {_AGAIN}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text. {_AGAIN}") from exc
    except (gzip.BadGzipFile, zlib.error) as exc:
        raise InputError(f"{path} has damaged gzip data: {exc}. {_AGAIN}") from exc
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
