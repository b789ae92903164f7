"""What a reference says of itself: the card of every installed model, and its own long one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backends.reference import COLUMNS
from ..io.bundle import BACKEND
from ..models import RESERVED_FOLDERS
from ..reference_model.stored import ReferenceModel
from ..search.embedding import Embedding
from ..types import ModelCard, SourceFile
from ..version import __version__
from .gather import Learnt
from .labelled import LabelledInput
from .request import BuildRequest

Sources = Sequence[tuple[LabelledInput, str]]  # with the SHA-256 of each one's files


def model_card(request: BuildRequest, learnt: Learnt, embedding: Embedding, sources: Sources) -> ModelCard:
    training = learnt.training
    return ModelCard(
        name=request.name,
        backend=BACKEND,
        folder=folder_of(request.name),
        title=request.title or f"Reference {request.name}",
        species=(training.species,),
        version=request.version,
        licence=request.licence,
        description=(
            f"Learnt from {len(training.types)} cell types of {request.tissue or 'a labelled reference'}. Runs offline."
        ),
        columns=COLUMNS,
        embedding_size=embedding.size,
        takes_normalised=True,
        sources=tuple(SourceFile(one.path.name, sha256) for one, sha256 in sources),
    )


def folder_of(name: str) -> str:
    """The reference's folder of results: its name, as far as a folder may have it and no other model writes there."""
    folder = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    taken = {reserved.lower() for reserved in RESERVED_FOLDERS}
    return f"{folder}_reference" if folder.lower() in taken else folder


def long_card(
    request: BuildRequest,
    learnt: Learnt,
    model: ReferenceModel,
    sources: Sources,
) -> dict[str, Any]:
    n_learnt = np.bincount(learnt.training.type_codes, minlength=len(model.types)).tolist()
    found_by = {(term.label, term.term_id): term.found_by for of_input in learnt.terms for term in of_input}
    return {
        "cytonym": __version__,
        "name": request.name,
        "title": request.title or f"Reference {request.name}",
        "version": request.version,
        "species": model.species,
        "tissue": request.tissue,
        "licence": request.licence,
        "citation": request.citation,
        "seed": request.seed,
        "sources": [_source(one, sha256) for one, sha256 in sources],
        "genes": len(learnt.training.features),
        "joined_by": learnt.genes.joined_by,
        "types": [
            {
                "label": kind.label,
                "ontology_id": kind.ontology_id,
                "found_by": found_by.get((kind.label, kind.ontology_id), ""),
                "broad": kind.broad,
                "coarse": kind.coarse,
                "n_cells": kind.n_cells,
                "n_learnt": n,
            }
            for kind, n in zip(model.types, n_learnt, strict=True)
        ],
        "few_cells": [{"label": few.label, "n_cells": few.n_cells, "became": few.became} for few in learnt.table.few],
        "averages": learnt.averages,
        "expected": list(model.expected),
        "confusions": list(model.confusions),
        "n_vectors": sum(map(len, learnt.compared)),
        "notes": list(learnt.notes),
    }


def _source(one: LabelledInput, sha256: str) -> dict[str, Any]:
    values = "averages" if one.fractional and one.unlog is None else "counts"
    return {
        "name": one.path.name,
        "sha256": sha256,
        "format": one.format,
        "n_cells": one.n_cells,
        "n_labelled": int((one.labels.codes >= 0).sum()),
        "n_genes": len(one.features),
        "values": one.unlog.name if one.unlog is not None else values,
    }
