"""cell_annotation_differential_expression.csv: a row a feature, three columns a group."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import InputError
from ..types import DiffExp
from .cell_types_csv import shortest_texts
from .files import written_whole

FEATURE_COLUMNS = ["Feature ID", "Feature Name"]
GROUP_COLUMNS = ("Mean Counts", "Log2 fold change", "Adjusted p value")


def write_diffexp(path: Path, result: DiffExp) -> None:
    """Comma separated with a header and `\\n` line ends; numbers as shortest decimals without exponent."""
    header = FEATURE_COLUMNS + [f"{group} {name}" for group in result.groups for name in GROUP_COLUMNS]
    columns = [result.feature_ids, result.feature_names]
    for group in range(len(result.groups)):
        for values in (result.mean_counts, result.log2_fold_changes, result.adjusted_p_values):
            columns.append(shortest_texts(values[:, group] + 0.0))  # + 0.0: no "-0"
    with written_whole(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))


def read_diffexp(path: Path) -> DiffExp:
    """The table as it was written; InputError if the file is not one."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        numbers = table.iloc[:, 2:].to_numpy(dtype=object).astype(np.float64)  # exact, unlike older pandas
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read as a differential expression table: {exc}") from exc
    groups = [name.removesuffix(f" {GROUP_COLUMNS[0]}") for name in table.columns[2::3]]
    if list(table.columns) != FEATURE_COLUMNS + [f"{group} {name}" for group in groups for name in GROUP_COLUMNS]:
        raise InputError(f"{path} has not the columns of a differential expression table.")
    return DiffExp(
        feature_ids=table["Feature ID"].to_numpy(dtype=str),
        feature_names=table["Feature Name"].to_numpy(dtype=str),
        groups=tuple(groups),
        mean_counts=numbers[:, 0::3],
        log2_fold_changes=numbers[:, 1::3],
        adjusted_p_values=numbers[:, 2::3],
    )
