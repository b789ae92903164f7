"""A reference's cells made ready for one sample: where its cells lie among them, and what their neighbours are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import ModelError
from ..io.bundle import read_cells, read_ontology_of
from ..matrix import Features
from ..reference_model.training import ReferenceType
from ..types import Fitted, Model
from .cas import CAS, FUSED, TermTable
from .embedding import Embedding, Projector
from .evidence import NEIGHBOURS, Evidence, Neighbours, summarise
from .index import Index, open_index

NO_EVIDENCE, SUMMARY, NEIGHBORS = EVIDENCE_KINDS = ("none", "summary", "neighbors")
_OF_PROJECTOR = ("places", "counted", "measured")


@dataclass(frozen=True)
class ReferenceCells:
    """The cells behind an index."""

    type_codes: np.ndarray  # (n,) int32
    dataset_codes: np.ndarray  # (n,) int32
    ids: np.ndarray  # (n,) str
    types: tuple[str, ...]  # labels, by code
    datasets: tuple[str, ...]


@dataclass(frozen=True)
class Points:
    """Where n cells lie among a reference's."""

    components: np.ndarray  # (n, d) float32
    umis: np.ndarray  # (n,) counts of the embedding's genes
    levels: np.ndarray  # (n,) depth of the reference cells that they are compared with


@dataclass(frozen=True)
class Found:
    """The neighbours of n cells."""

    neighbours: Neighbours
    known: np.ndarray  # (n,) bool: the cell has counts; the neighbours of others mean nothing
    cells: ReferenceCells


@dataclass(frozen=True)
class FittedNeighbours:
    """What `place_cells` and `find_neighbours` need of a sample, as parts of Fitted; empty where nothing is wanted."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


@lru_cache(maxsize=2)
def open_reference(folder: Path) -> tuple[Index, ReferenceCells]:
    """A bundle's index and its cells, kept open for the blocks that follow."""
    meta, arrays = read_cells(folder)
    cells = ReferenceCells(
        type_codes=arrays["type_codes"],
        dataset_codes=arrays["dataset_codes"],
        ids=arrays["ids"],
        types=tuple(meta["types"]),
        datasets=tuple(meta["datasets"]),
    )
    return open_index(folder), cells


def fit_neighbours(
    model: Model,
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    features: Features,
    types: Sequence[ReferenceType],
    *,
    matched: bool,
) -> FittedNeighbours:
    """`meta` and `arrays` are the stored model's; `matched`: cells meet reference cells thinned to their depth.

    Raises ModelError if labels shall come from neighbours and the model has no cells to compare with.
    """
    kind, scoring = model.settings.get("evidence", SUMMARY), model.settings.get("scoring", FUSED)
    if "embedding" not in meta or model.folder is None:
        if scoring == CAS:
            raise ModelError(f"{model.card.name} has no cells to compare with: leave --scoring {CAS} out.")
        return FittedNeighbours({}, {})
    if kind == NO_EVIDENCE and scoring != CAS and not model.settings.get("embeddings"):
        return FittedNeighbours({}, {})
    _, cells = open_reference(model.folder)
    if cells.types != tuple(one.label for one in types):
        raise ModelError(f"{model.folder} is damaged: its cells are of other types than its model. Build it again.")
    embedding = Embedding.of(meta, arrays)
    projector = Projector.of(embedding, features, Features(arrays["genes/ids"], arrays["genes/names"]))
    told = {
        "kind": kind,
        "matched": matched,
        "types": [[one.label, one.ontology_id] for one in types],
        "datasets": list(cells.datasets),
    }
    found = embedding.meta() | {"neighbours": told, "scoring": scoring}
    stored = embedding.arrays() | {f"neighbours/{name}": getattr(projector, name) for name in _OF_PROJECTOR}
    if kind == NEIGHBORS:
        stored["neighbours/ids"] = cells.ids
    if scoring == CAS:
        terms = TermTable.of([one.ontology_id for one in types], read_ontology_of(model.folder))
        found, stored = found | terms.meta(), stored | terms.arrays()
    return FittedNeighbours(found, stored)


def place_cells(fitted: Fitted, counts: sp.csr_matrix) -> Points | None:
    """Where cells x the sample's features lie, each by itself; None where neither neighbours nor points are wanted."""
    if "neighbours" not in fitted.meta:
        return None
    own = {name: fitted.arrays[f"neighbours/{name}"] for name in _OF_PROJECTOR}
    projector = Projector(Embedding.of(fitted.meta, fitted.arrays), **own)
    components, umis = projector.project(counts)
    matched = fitted.meta["neighbours"]["matched"]
    levels = projector.embedding.level(umis) if matched else np.zeros(len(umis), dtype=np.int64)
    return Points(components, umis, levels)


def find_neighbours(fitted: Fitted, points: Points | None, start: int) -> Found | None:
    """The neighbours of cells of which `start` is the first; None where none are wanted."""
    if points is None or (fitted.meta["neighbours"]["kind"] == NO_EVIDENCE and fitted.meta["scoring"] != CAS):
        return None
    if fitted.folder is None:
        raise ModelError(f"{fitted.model}: its folder is needed for the neighbours. Give --models-dir.")
    index, cells = open_reference(fitted.folder)
    neighbours = index.search(points.components, points.levels, NEIGHBOURS, start=start)
    return Found(neighbours, points.umis > 0, cells)


def evidence_of(found: Found, kind: str) -> Evidence | None:
    """The summary of each cell's neighbours, none of a cell without counts; None where it is not wanted."""
    if kind == NO_EVIDENCE:
        return None
    codes = found.cells.type_codes, found.cells.dataset_codes
    return summarise(found.neighbours, *codes, known=found.known, keep_neighbours=kind == NEIGHBORS)
