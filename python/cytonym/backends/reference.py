"""A reference model as a backend: installed from a bundle, fitted to the sample, then each cell by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..io.model_store import read_model
from ..matrix import CountMatrix
from ..reference_model.labels import NONE, REASONS, Calls, Levels, call_cells
from ..reference_model.query import COUNTS, as_linear, fit_query, score_cells
from ..reference_model.stored import Query, ReferenceModel
from ..search.cas import CAS, TermTable
from ..search.cas_labels import NamedCells, cas_labels
from ..search.neighbours import evidence_of, find_neighbours, fit_neighbours, place_cells
from ..types import LABEL_COLUMNS, UNASSIGNED, Alert, Fitted, Model, ModelCard, Predictions

ONTOLOGY_ID = "cell_type_ontology_term_id"
COLUMNS = (ONTOLOGY_ID, "confidence", "broad_confidence", "coarse_confidence", "novelty_z", "novelty_tail", "reason")
DECIMALS = 4


class ReferenceBackend:
    """Learns the sample's platform and composition, then scores each cell against the reference's types."""

    def models(self) -> Sequence[ModelCard]:
        return ()

    def fit(self, matrix: CountMatrix, model: Model) -> Fitted:
        meta, arrays = read_model(model)
        query = fit_query(ReferenceModel.of(meta, arrays), matrix)
        told = query.told | {"n_types_offered": len(query.types)}
        alerts = () if query.own_labels else (_few_genes(query),)
        found = fit_neighbours(model, meta, arrays, matrix.features, query.types, matched=query.values == COUNTS)
        return Fitted(
            model.card.name,
            told | query.meta() | found.meta,
            query.arrays() | found.arrays,
            alerts,
            folder=model.folder,
        )

    def classify(self, block: CountMatrix, fitted: Fitted) -> Predictions:
        """Labels by the reference's model or, with `--scoring cas`, by the nearest of its cells; these as evidence."""
        query = Query.of(fitted.meta, fitted.arrays)
        counts = block.counts()
        points = place_cells(fitted, as_linear(counts, query.values))
        found = find_neighbours(fitted, points, block.start)
        if found is not None and fitted.meta["scoring"] == CAS:
            named = cas_labels(found, query.types, TermTable.restored(fitted.meta, fitted.arrays))
        else:
            named = _scored(query, counts)
        return Predictions(
            start=block.start,
            barcodes=block.barcodes(),
            umi_counts=np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel().astype(np.int64),
            labels=named.labels,
            label_codes=named.codes,
            values={name: value.astype(np.float32).round(DECIMALS) for name, value in named.values.items()},
            embeddings=None if points is None else points.components,
            evidence=None if found is None else evidence_of(found, fitted.meta["neighbours"]["kind"]),
        )


def _scored(query: Query, counts: sp.csr_matrix) -> NamedCells:
    """The cells' labels by the reference's model."""
    scores = score_cells(query, counts)
    coarse, broad = (Levels.of(query.types, level) for level in ("coarse", "broad"))
    calls = call_cells(
        scores.posterior,
        scores.novelty_tail,
        scores.totals,
        query.nodes,
        coarse,
        broad,
        enough_umis=query.enough_umis,
        own_labels=query.own_labels,
    )
    labels, codes = _label_table(calls, query, coarse, broad)
    values = {
        "confidence": calls.probability,
        "broad_confidence": calls.broad_probability,
        "coarse_confidence": calls.coarse_probability,
        "novelty_z": scores.novelty_z,
        "novelty_tail": scores.novelty_tail,
    }
    return NamedCells(labels, codes, values)


def _few_genes(query: Query) -> Alert:
    found, of_sample = query.told["genes_found"], query.told["genes_of_sample"]
    return Alert(
        "WARN",
        "Few genes in common with the reference",
        f"The reference has {found} of the sample's {of_sample} genes. That is too few to tell its types apart safely, "
        "so cells get the names of whole groups of types only.",
    )


def _label_table(calls: Calls, query: Query, coarse: Levels, broad: Levels) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct labels of the cells, and each cell's row among them."""
    keys = np.column_stack([calls.broad, calls.coarse, calls.fine, calls.reason]).astype(np.int64)
    distinct, codes = np.unique(keys, axis=0, return_inverse=True)
    names = [*(kind.label for kind in query.types), *query.nodes.names, UNASSIGNED]  # NONE is the last
    ids = [*(kind.ontology_id for kind in query.types), *query.nodes.ids, ""]
    rows = [
        (_name(broad, of_broad), _name(coarse, of_coarse), names[fine], ids[fine], REASONS[reason])
        for of_broad, of_coarse, fine, reason in distinct.tolist()
    ]
    return pd.DataFrame(rows, columns=[*LABEL_COLUMNS, ONTOLOGY_ID, "reason"], dtype=str), codes.astype(
        np.int32
    ).ravel()


def _name(level: Levels, row: int) -> str:
    return level.names[row] if row != NONE else UNASSIGNED
