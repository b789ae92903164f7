"""Space Ranger's tissue positions and barcode mappings, read in parts and written again with types.

Parquet needs pyarrow, the extra `cytonym[parquet]`; preflight leaves such files out where it is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from .files import written_whole

ROWS_AT_A_TIME = 1 << 18
OLD_POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
NO_CELL = "cellid_000000000"


def parts(path: Path) -> Iterator[pd.DataFrame]:
    """The table, some rows at a time; InputError if it cannot be read."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as parquet

            with parquet.ParquetFile(path) as file:
                yield from (batch.to_pandas() for batch in file.iter_batches(ROWS_AT_A_TIME))
        else:
            yield from pd.read_csv(path, chunksize=ROWS_AT_A_TIME)
    except (OSError, ValueError) as exc:  # pyarrow's own errors are of these classes
        raise InputError(f"{path} cannot be read as a table: {exc}") from exc


def write_parts(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    """The frames one after the other, as Parquet (zstd) or CSV by the path's name; the same columns in each."""
    with written_whole(path) as aside:
        if path.suffix == ".parquet":
            _write_parquet(aside, frames)
        else:
            with aside.open("w", encoding="utf-8", newline="") as handle:
                for index, frame in enumerate(frames):
                    frame.to_csv(handle, index=False, header=index == 0, lineterminator="\n")


def _write_parquet(path: Path, frames: Iterable[pd.DataFrame]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    writer: Any = None
    try:
        for frame in frames:
            schema = None if writer is None else writer.schema
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            if writer is None:
                nullable = [pa.field(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in table.schema]
                table = table.cast(pa.schema(nullable))
                writer = parquet.ParquetWriter(path, table.schema, compression="zstd", compression_level=3)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def read_positions(path: Path, barcodes: np.ndarray) -> np.ndarray:
    """(n, 2) float32: x and y of each barcode in full-resolution pixels, NaN where the file lacks it."""
    index, xy = pd.Index(barcodes), np.full((len(barcodes), 2), np.nan, dtype=np.float32)
    for frame in parts(path):
        missing = [name for name in ("barcode", "pxl_row_in_fullres", "pxl_col_in_fullres") if name not in frame]
        if missing:
            raise InputError(f"{path} lacks the column {', '.join(missing)}; tissue positions are wanted.")
        rows = index.get_indexer(frame["barcode"].astype(str))
        known = rows >= 0
        xy[rows[known], 0] = frame["pxl_col_in_fullres"].to_numpy()[known]
        xy[rows[known], 1] = frame["pxl_row_in_fullres"].to_numpy()[known]
    return xy


def mapping_parts(path: Path) -> Iterator[pd.DataFrame]:
    """barcode_mappings.parquet with column names in lower case, the suffix -1, and null for no cell.

    Space Ranger's code and its documentation differ in these three.
    """
    for frame in parts(path):
        frame = frame.rename(columns=str.lower)
        squares = [name for name in frame.columns if name.startswith("square_")]
        if "cell_id" not in frame or not squares:
            raise InputError(f"{path} has no columns cell_id and square_...; barcode mappings are wanted.")
        texts = {name: with_suffix(frame[name]) for name in (*squares, "cell_id")}
        cells = texts["cell_id"]
        texts["cell_id"] = cells.mask(cells.str.startswith(NO_CELL, na=True), None)
        yield frame.assign(**texts)


def with_suffix(values: pd.Series) -> pd.Series:
    """Barcodes with the suffix `-1` that Space Ranger's matrices have."""
    texts = values.astype(object).where(values.notna(), None)
    bare = texts.notna() & ~texts.str.contains("-", regex=False, na=False)
    return texts.where(~bare, texts + "-1")
