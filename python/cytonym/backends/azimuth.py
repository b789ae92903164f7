"""Pan-Human Azimuth as a backend: an installed network for human samples, run offline and without Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..azimuth.genes import NOT_ON_PANEL, holds_integers, panel_places
from ..azimuth.labels import BETWEEN, NOT_CONSISTENT, CellLabel, Decoder
from ..azimuth.model import BLOCK_ROWS, score_block
from ..azimuth.stored import restore_model
from ..errors import InputError
from ..io.model_store import read_model
from ..matrix import CountMatrix
from ..types import (
    COARSE_NOT_CONFIDENT,
    FINE_NOT_CONFIDENT,
    LABEL_COLUMNS,
    Alert,
    Fitted,
    Model,
    ModelCard,
    Predictions,
)

FULL_LABEL = "full_hierarchical_labels"
CONFIDENCE = "final_level_softmax_prob"
ONTOLOGY_ID = "cell_type_ontology_term_id"
COLUMNS = (FULL_LABEL, CONFIDENCE, ONTOLOGY_ID)
PLACES = "places"  # of the matrix's features on the panel
HEAD_ROWS = 100  # looked at to tell counts from normalised values, as the original does
FEWEST_SHARE = 0.2  # of the panel, as the original


class AzimuthBackend:
    """Learns nothing but where the sample's genes stand on the panel; then each cell goes through the network."""

    def models(self) -> Sequence[ModelCard]:
        return ()

    def fit(self, matrix: CountMatrix, model: Model) -> Fitted:
        meta, arrays = read_model(model)
        panel = meta["panel"]
        places = panel_places(matrix.features.names, panel)
        n_found = int((places != NOT_ON_PANEL).sum())
        if not n_found:
            raise InputError(_nothing_in_common(matrix, model.card, panel))
        head = matrix.rows(matrix.start, min(matrix.start + HEAD_ROWS, matrix.stop))
        counted = holds_integers(head.counts())
        told = {"genes_wanted": len(panel), "genes_found": n_found, "joined_by": "gene symbols", "normalise": counted}
        alerts = [
            *([] if n_found >= FEWEST_SHARE * len(panel) else [_few_genes(n_found, len(panel))]),
            *([] if counted else [_normalised()]),
        ]
        return Fitted(model.card.name, told | meta, {**arrays, PLACES: places}, tuple(alerts))

    def classify(self, block: CountMatrix, fitted: Fitted) -> Predictions:
        model, places = restore_model(fitted.meta, fitted.arrays), fitted.arrays[PLACES]
        decoder, parts = Decoder(model.tables), []
        for first in range(block.start - block.start % BLOCK_ROWS, block.stop, BLOCK_ROWS):
            cells = block.rows(max(first, block.start), min(first + BLOCK_ROWS, block.stop))
            counts, row = cells.counts(), cells.start - first
            scored = score_block(model, counts, places, row=row, normalise=fitted.meta["normalise"])
            labels, codes, confidence = decoder.label(scored.class_ids, scored.probabilities)
            parts.append(
                Predictions(
                    start=cells.start,
                    barcodes=cells.barcodes(),
                    umi_counts=np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel().astype(np.int64),
                    labels=label_table(labels, model.tables.ontology),
                    label_codes=codes,
                    values={CONFIDENCE: confidence},
                    embeddings=scored.embeddings,
                )
            )
        return Predictions.concatenate(parts)


def label_table(labels: Sequence[CellLabel], ontology: Mapping[str, str]) -> pd.DataFrame:
    """The text columns of each label: broad is the first part of the full label, whatever its refinement says."""
    rows = []
    for label in labels:
        _, medium, fine = (None if part == NOT_CONSISTENT else part for part in label.refined)
        full = label.path.full
        broad = full.split(BETWEEN)[0]
        ids = (ontology.get(part or "", "") for part in (fine, medium, broad))
        ontology_id = next(filter(None, ids), "")
        rows.append((broad, medium or COARSE_NOT_CONFIDENT, fine or FINE_NOT_CONFIDENT, full, ontology_id))
    return pd.DataFrame(rows, columns=[*LABEL_COLUMNS, FULL_LABEL, ONTOLOGY_ID], dtype=str)


def _nothing_in_common(matrix: CountMatrix, card: ModelCard, panel: Sequence[str]) -> str:
    features = matrix.features
    example = f"{features.ids[0]} ({features.names[0]})" if len(features) else "none"
    return (
        f"{matrix.path or 'The matrix'} has none of the {len(panel)} genes of {card.title}, which knows genes by their "
        f"symbols, such as {panel[0]}; its first feature is {example}. Give a matrix with human gene symbols, or "
        "choose another model with --cell-annotation-model."
    )


def _few_genes(n_found: int, n_wanted: int) -> Alert:
    message = (
        f"The matrix holds {n_found} of the {n_wanted} genes that the model reads ({n_found / n_wanted:.1%}). The "
        "others count as absent from every cell, so labels are unreliable."
    )
    return Alert("WARN", "Few genes of the model found", message)


def _normalised() -> Alert:
    message = (
        f"The first {HEAD_ROWS} cells hold values that are not whole numbers, so all values are taken as normalised "
        "already, as log(1 + counts per 10,000). If they are not, labels are wrong: give raw counts."
    )
    return Alert("WARN", "Values are not counts", message)
