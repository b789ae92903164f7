"""How the public functions are called; checked by mypy, never run."""

from pathlib import Path

import pandas as pd

import cytonym
from cytonym.types import CellTypes, DiffExp


def annotated() -> pd.DataFrame:
    result: cytonym.AnnotateResult = cytonym.annotate(
        cytonym.AnnotateRequest(id="sample123", matrix=Path("filtered_feature_cell_matrix.h5"), skip=("diffexp",))
    )
    cell_types: CellTypes = result.models["markers"].cell_types
    tested: DiffExp | None = result.models["markers"].diffexp
    assert tested is None
    return cell_types.table
