"""The embedded marker model as a backend: no reference, no network, nothing to install."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ..errors import InputError
from ..marker_model.embedding import SEED
from ..marker_model.explain import explain
from ..marker_model.labels import NONE, REASONS, Calls, TypeNames
from ..marker_model.model import learn_model, name_cells, top_markers
from ..marker_model.panel import Panel, broad_candidates, broad_types, candidates, join_features
from ..marker_model.sample import read_sample
from ..marker_model.scores import view_cells
from ..marker_model.stored import model_arrays, model_meta, restore_model
from ..markers import MarkerTable, load_markers, markers_from_rows
from ..matrix import CountMatrix
from ..parallel import single_threaded
from ..types import LABEL_COLUMNS, UNASSIGNED, Alert, Fitted, Model, ModelCard, Predictions

FEWEST_FEATURES = 500
FEWEST_SHARE = 0.2
ONTOLOGY_ID = "cell_type_ontology_term_id"
DECIMALS = 4

CARD = ModelCard(
    name="markers",
    backend="markers",
    folder="Markers",
    title="Embedded marker model",
    species=("human", "mouse"),
    version="1",
    licence="MIT",
    description=(
        "Names cells from a curated table of marker genes and from the sample's own structure. "
        "Runs offline; needs no reference and no tissue."
    ),
    reliability=(
        "Its confidence is the probability that the name is right, as learnt on made tissues and sorted blood cells: "
        "other samples differ. "
        "Cells of a type that the marker table lacks may be named after the nearest type, and then look sure. "
        "Check a surprising name against its marker evidence."
    ),
    columns=(ONTOLOGY_ID, "confidence", "broad_confidence", "coarse_confidence", "reason"),
)


class MarkersBackend:
    """Learns the sample's clusters and the types it holds, then names each cell; `tables` gives a species' markers."""

    def __init__(self, tables: Callable[[str], MarkerTable] = load_markers) -> None:
        self._tables = tables

    def models(self) -> Sequence[ModelCard]:
        return (CARD,)

    def fit(self, matrix: CountMatrix, model: Model) -> Fitted:
        settings = model.settings
        table = self._tables(matrix.species)
        if "markers" in settings:
            table = markers_from_rows(settings["markers"], matrix.species)
        panel = join_features(table.types, table.gene_ids, matrix.features)
        broad_only = matrix.n_features < FEWEST_FEATURES or len(panel.genes) < FEWEST_SHARE * panel.n_wanted
        types = broad_types(table.types) if broad_only else table.types
        offered = broad_candidates(types, panel) if broad_only else candidates(types, panel)
        if not offered:
            raise InputError(_nothing_in_common(matrix, table, panel))
        with single_threaded("sklearn.cluster", "sklearn.linear_model"):
            counts = read_sample(matrix)
            if not counts.shape[0]:
                raise InputError(f"{_file(matrix)} holds no counts: no cell can be named. Give a matrix with counts.")
            learnt = learn_model(
                counts,
                matrix.features,
                types,
                offered,
                panel,
                broad_only=broad_only,
                tissue=settings.get("tissue", ""),
            )
            sampled = view_cells(counts, learnt.marker_columns, learnt.gene_columns)
            calls = name_cells(learnt, sampled)
            markers = top_markers(learnt, sampled, calls, panel.genes)
            evidence = explain(learnt, sampled, calls, types, panel)
        told = {
            "species": matrix.species,
            "genes_wanted": panel.n_wanted,
            "genes_found": len(panel.genes),
            "joined_by": panel.joined_by,
            "n_types_offered": len(offered),
            "n_sampled": counts.shape[0],
            "seed": SEED,
            "top_markers": markers,
            "evidence": evidence,
        }
        alerts = (_panel_alert(matrix, panel, [types[row].name for row in offered]),) if broad_only else ()
        return Fitted(model.card.name, told | model_meta(learnt), model_arrays(learnt), alerts)

    def classify(self, block: CountMatrix, fitted: Fitted) -> Predictions:
        model = restore_model(fitted.meta, fitted.arrays)
        cells = view_cells(block.counts(), model.marker_columns, model.gene_columns)
        calls = name_cells(model, cells)
        labels, codes = _label_table(calls, model.names)
        return Predictions(
            start=block.start,
            barcodes=block.barcodes(),
            umi_counts=cells.totals,
            labels=labels,
            label_codes=codes,
            values=_values(calls),
        )


def _file(matrix: CountMatrix) -> str:
    return str(matrix.path) if matrix.path else "The matrix"


def _nothing_in_common(matrix: CountMatrix, table: MarkerTable, panel: Panel) -> str:
    example = f"{matrix.features.ids[0]} ({matrix.features.names[0]})" if matrix.n_features else "none"
    return (
        f"{_file(matrix)} has only {len(panel.genes)} of the {panel.n_wanted} {table.species} marker genes, too few to "
        f"name any cell type; its first feature is {example}. Check that the features are {table.species} genes with "
        "Ensembl ids or gene symbols, or choose another model with --cell-annotation-model."
    )


def _panel_alert(matrix: CountMatrix, panel: Panel, offered: Sequence[str]) -> Alert:
    return Alert(
        "WARN",
        "Targeted panel: broad labels only",
        f"The matrix holds {matrix.n_features} genes and {len(panel.genes)} of the {panel.n_wanted} marker genes. "
        "That is too few to tell finer types apart, so cells get broad cell types only, and only these: "
        f"{', '.join(offered)}. "
        "Cells of any other type are Unassigned or, at worst, named after the nearest of these.",
    )


def _label_table(calls: Calls, names: TypeNames) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct labels of the cells, and each cell's row among them."""
    keys = np.column_stack([calls.broad_row, calls.coarse, calls.fine, calls.reason]).astype(np.int64)
    distinct, codes = np.unique(keys, axis=0, return_inverse=True)
    rows = [_label_row(key, names) for key in distinct.tolist()]
    return pd.DataFrame(rows, columns=[*LABEL_COLUMNS, ONTOLOGY_ID, "reason"], dtype=str), codes.astype(np.int32)


def _label_row(key: Sequence[int], names: TypeNames) -> tuple[str, ...]:
    broad, coarse, fine, reason = key
    specific = next((row for row in (fine, coarse, broad) if row != NONE), NONE)
    return (
        names.broad[broad] if broad != NONE else UNASSIGNED,
        names.coarse[coarse] if coarse != NONE else UNASSIGNED,
        names.most_specific(fine) if fine != NONE else UNASSIGNED,
        names.ontology_ids[specific] if specific != NONE else "",
        REASONS[reason],
    )


def _values(calls: Calls) -> dict[str, np.ndarray]:
    by_level = (calls.fine_probability, calls.coarse_probability, calls.broad_probability)
    confidence = np.where(np.isnan(by_level[0]), np.where(np.isnan(by_level[1]), by_level[2], by_level[1]), by_level[0])
    values = {
        "confidence": confidence,
        "broad_confidence": calls.broad_probability,
        "coarse_confidence": calls.coarse_probability,
    }
    return {name: value.astype(np.float32).round(DECIMALS) for name, value in values.items()}
