"""cell_types.csv: one row a barcode, numbers as the shortest text that reads back as the same number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError
from ..types import LABEL_COLUMNS
from .files import written_whole


def write_cell_types(path: Path, table: pd.DataFrame) -> None:
    """Comma separated with a header and `\\n` line ends; a missing number is an empty field."""
    texts = table.copy(deep=False)
    for name in texts.columns:
        if texts[name].dtype.kind == "f":
            texts[name] = shortest_texts(texts[name].to_numpy())
    with written_whole(path) as aside:
        texts.to_csv(aside, index=False, lineterminator="\n")


def shortest_texts(values: np.ndarray) -> np.ndarray:
    """Each float as its shortest decimal text without exponent (1 is "1"); "" for NaN."""
    distinct, codes = np.unique(values, return_inverse=True)
    texts = [("" if np.isnan(value) else np.format_float_positional(value, trim="-")) for value in distinct]
    return np.array(texts, dtype=object)[codes]


def read_cell_types(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table, or some of its columns: text as str (nothing becomes missing), numbers as numbers.

    Raises InputError if the file cannot be read as one or lacks the columns that every model writes.
    """
    try:
        usecols = None if columns is None else lambda name: name in columns
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", usecols=usecols)
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read as a table: {exc}") from exc
    missing = [name for name in ("barcode", "coarse_cell_type", "umi_count") if name not in table]
    if missing:
        raise InputError(f"{path} lacks the column {', '.join(missing)}; a cell_types.csv is wanted.")
    numeric = [name for name in table.columns if _is_numeric(name)]
    return table.assign(**{name: pd.to_numeric(table[name].mask(table[name] == "")) for name in numeric})


def confidence_column(table: pd.DataFrame, level: str) -> str | None:
    """The column that says how sure the model is of that level; None where it does not tell."""
    found = (f"{level}_confidence", "confidence", "final_level_softmax_prob")
    return next((name for name in found if name in table), None)


def read_compact(path: Path, *, of_labels: bool = False) -> pd.DataFrame:
    """All columns but the barcode, texts as categories, a tenth of the memory; `of_labels`: labels and confidences."""
    try:
        names = [name for name in pd.read_csv(path, nrows=0).columns if name != "barcode"]
        if of_labels:
            names = [name for name in names if name in LABEL_COLUMNS or (_is_numeric(name) and name != "umi_count")]
        texts = [name for name in names if not _is_numeric(name)]
        gaps = {name: [""] for name in names if name not in texts}
        kinds = dict.fromkeys(texts, "category")
        return pd.read_csv(path, usecols=names, dtype=kinds, keep_default_na=False, na_values=gaps, encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read as a table: {exc}") from exc


def _is_numeric(name: str) -> bool:
    return name in ("umi_count", "agreement") or name.endswith(("confidence", "prob", "novelty_z", "novelty_tail"))
