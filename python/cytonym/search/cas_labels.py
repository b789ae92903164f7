"""The columns of cell_types.csv from neighbours alone: the most granular call, and the reference's levels above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..reference_model.labels import Levels
from ..reference_model.training import ReferenceType
from ..types import LABEL_COLUMNS, UNASSIGNED
from .cas import NO_CALL, TermTable, majority_votes, most_granular_calls, ontology_scores, weights_by_type
from .neighbours import Found

NO_COUNTS, BETWEEN = "no counts", "between types"
ONTOLOGY_ID = "cell_type_ontology_term_id"


@dataclass(frozen=True)
class NamedCells:
    """Labels of n cells, as Predictions has them."""

    labels: pd.DataFrame
    codes: np.ndarray  # (n,) int32
    values: dict[str, np.ndarray]  # (n,) each


def cas_labels(found: Found, types: Sequence[ReferenceType], terms: TermTable) -> NamedCells:
    """The call of each cell, and the name that all types at or below it share at each level.

    In a reference without terms the majority's label is called instead. Confidences are shares of the neighbours'
    weight: of the call, and of the types with the level's name.
    """
    neighbours, known, type_codes = found.neighbours, found.known, found.cells.type_codes
    if terms.ids:
        scores = ontology_scores(neighbours, type_codes, terms)
        calls = most_granular_calls(scores.scores, terms.depths, top_k=1)
        called, confidence = calls.terms[:, 0], calls.scores[:, 0]
        called = np.where(terms.depths[called] > 0, called, NO_CALL)  # the root says nothing
        names, ids, below = terms.names, terms.ids, terms.votes.T > 0
    else:
        called, confidence = majority_votes(neighbours, type_codes, len(types))
        names, ids, below = tuple(kind.label for kind in types), ("",) * len(types), np.eye(len(types), dtype=bool)
    called = np.where(known, called, NO_CALL)
    named = called != NO_CALL
    shares = weights_by_type(neighbours, type_codes, len(types))
    levels = {level: Levels.of(types, level) for level in ("broad", "coarse")}
    rows = {level: _shared_names(below, of_level)[called] for level, of_level in levels.items()}
    values = {"confidence": np.where(named, confidence, np.nan)}
    for level, of_level in levels.items():
        of_names = np.append(shares @ of_level.members.astype(np.float64), np.full((len(called), 1), np.nan), axis=1)
        values[f"{level}_confidence"] = of_names[np.arange(len(called)), np.where(named, rows[level], NO_CALL)]
    keys = np.column_stack([np.where(named, rows[level], NO_CALL) for level in levels] + [called, known])
    distinct, codes = np.unique(keys, axis=0, return_inverse=True)
    texts = [
        (
            _name(levels["broad"].names, broad),
            _name(levels["coarse"].names, coarse),
            _name(names, fine),
            ids[fine] if fine != NO_CALL else "",
            "" if fine != NO_CALL else BETWEEN if has_counts else NO_COUNTS,
        )
        for broad, coarse, fine, has_counts in distinct.tolist()
    ]
    table = pd.DataFrame(texts, columns=[*LABEL_COLUMNS, ONTOLOGY_ID, "reason"], dtype=str)
    return NamedCells(table, codes.astype(np.int32).ravel(), values)


def _shared_names(below: np.ndarray, level: Levels) -> np.ndarray:
    """(T,) row of the name that every type of each row of `below` (T, K) has; NO_CALL where there is none."""
    shared = np.array([[level.members[of_row, name].all() for name in range(len(level.names))] for of_row in below])
    shared = shared.reshape(len(below), len(level.names))
    return np.where(shared.any(axis=1), shared.argmax(axis=1), NO_CALL) if len(level.names) else np.full(len(below), -1)


def _name(names: Sequence[str], row: int) -> str:
    return names[row] if row != NO_CALL else UNASSIGNED
