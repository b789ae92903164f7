"""10x Cloud as a backend: the sample is sent once, in `fit`; then each cell is looked up in what came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..cloud import CloudInput, CloudResult, run_cloud_annotation
from ..errors import ModelError
from ..io.cloud_results import BARCODE, REASON, CloudMetadata
from ..matrix import CountMatrix
from ..types import Alert, Fitted, Model, ModelCard, Predictions

ONTOLOGY_ID = "cell_type_ontology_term_id"
COLUMNS, CODES, COLUMN = "columns", "codes", "column/{}"
BETA = (
    "This cell annotation model of 10x Genomics is in beta. It rests on a community reference (CZ CELLxGENE), which "
    "may not cover the sample's tissue."
)
CREDIT = "It was developed with the Broad Institute."

CARD = ModelCard(
    name="auto",
    backend="tenx_cloud",
    folder="10x_Cloud",
    title="10x Cloud",
    species=("human", "mouse"),
    version="of the service",
    licence="End User License Agreement of 10x Genomics",
    description="A model that 10x Genomics runs: the count matrix was sent there, and the labels came back.",
    reliability=(
        "The service gives no probability. Its table counts the reference cells that a name rests on; "
        "what its reference lacks is named after the nearest type there."
    ),
    columns=(),  # whatever the service delivers
)


def cloud_card(name: str) -> ModelCard:
    """The card of a model of the service; `auto` leaves the choice to it."""
    return CARD if name == CARD.name else replace(CARD, name=name, title=f"10x Cloud: {name}")


def is_cloud(card: ModelCard) -> bool:
    """Whether running the model sends the sample away."""
    return card.backend == CARD.backend


class TenxCloudBackend:
    """Runs the sample through 10x Cloud; what an interrupted run has reached there is kept in `model.record`."""

    def models(self) -> Sequence[ModelCard]:
        return ()

    def fit(self, matrix: CountMatrix, model: Model) -> Fitted:
        if model.client is None or model.record is None or matrix.path is None:
            raise ModelError(f"{model.card.name} needs a token, a matrix file and a folder for its record.")
        asked = None if model.card.name == CARD.name else model.card.name
        source = CloudInput(matrix.path, matrix.barcodes(), matrix.genome, asked)
        result = run_cloud_annotation(model.client, source, model.record)
        table = _with_ontology_ids(result)
        labels, codes = _distinct(table.drop(columns=BARCODE))
        arrays = {COLUMN.format(i): labels[name].to_numpy(dtype=str) for i, name in enumerate(labels.columns)}
        meta = {
            COLUMNS: list(labels.columns),
            "model_used": result.model,
            "banner": _banner(result.metadata),
            "is_beta_model": result.metadata.is_beta_model,
            "frac_returned_bcs": result.cell_types.fraction_returned,
            "tree_version_used": result.metadata.tree_version,
            "display_map_version_used": result.metadata.display_map_version,
            "session_statistics": result.statistics.to_json(),
        }
        alerts = _missing(result) if result.cell_types.missing else ()
        return Fitted(model.card.name, meta, {**arrays, CODES: codes}, alerts, results=result.results_path)

    def classify(self, block: CountMatrix, fitted: Fitted) -> Predictions:
        rows, codes = np.unique(fitted.arrays[CODES][block.start : block.stop], return_inverse=True)
        columns = enumerate(fitted.meta[COLUMNS])
        return Predictions(
            start=block.start,
            barcodes=block.barcodes(),
            umi_counts=np.asarray(block.counts().sum(axis=1, dtype=np.int64)).ravel(),
            labels=pd.DataFrame({name: fitted.arrays[COLUMN.format(i)][rows] for i, name in columns}, dtype=object),
            label_codes=codes.ravel().astype(np.int32),
            values={},
        )


def _with_ontology_ids(result: CloudResult) -> pd.DataFrame:
    """The service's table with the ontology id of each fine label, where the evidence tells it, before `reason`."""
    table, ids = result.cell_types.table, result.ontology_ids
    return table.drop(columns=REASON).assign(**{ONTOLOGY_ID: table[BARCODE].map(ids).fillna(""), REASON: table[REASON]})


def _distinct(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct rows in order of appearance, and each row's number among them (int32)."""
    codes = table.groupby(list(table.columns), sort=False, dropna=False).ngroup().to_numpy(dtype=np.int32)
    _, first = np.unique(codes, return_index=True)
    return table.iloc[first].reset_index(drop=True), codes


def _banner(metadata: CloudMetadata) -> str:
    credit = CREDIT if "Broad" in metadata.developer else ""
    return " ".join(filter(None, [BETA if metadata.is_beta_model else "", credit]))


def _missing(result: CloudResult) -> tuple[Alert, ...]:
    missing, n_cells = len(result.cell_types.missing), len(result.cell_types.table)
    message = (
        f"10x Cloud returned no label for {missing:,} of {n_cells:,} cells. They are Unassigned, with the reason 'not "
        "returned', and take no part in the differential expression."
    )
    return (Alert("WARN", "Cells not returned", message),)
