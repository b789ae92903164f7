"""How the public functions are called; checked by mypy, never run."""

import os
from pathlib import Path

import pandas as pd

import cytonym
from cytonym.cloud import CloudClient, CloudInput, CloudResult, CloudToken, Pace, find_token, run_cloud_annotation
from cytonym.types import CellTypes, DiffExp


def annotated() -> pd.DataFrame:
    result: cytonym.AnnotateResult = cytonym.annotate(
        cytonym.AnnotateRequest(id="sample123", matrix=Path("filtered_feature_cell_matrix.h5"), skip=("diffexp",))
    )
    cell_types: CellTypes = result.models["markers"].cell_types
    tested: DiffExp | None = result.models["markers"].diffexp
    assert tested is None
    return cell_types.table


def by_10x_cloud(matrix: Path, barcodes: list[str], folder: Path) -> pd.DataFrame:
    token: CloudToken = find_token(None, os.environ, home=Path.home(), folder=Path.cwd())
    client = CloudClient(token, pace=Pace.from_environment(os.environ))
    result: CloudResult = run_cloud_annotation(client, CloudInput(matrix, barcodes, "GRCh38", "auto"), folder)
    return result.cell_types.table
