"""A part of a reference as a reference: some of its genes, as a panel measures them, or some of its types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..io.bundle import (
    check_bundle,
    read_cells,
    read_ontology_of,
    read_reference_card,
    write_bundle,
    write_cells,
)
from ..io.coded import MISSING
from ..io.model_store import read_model
from ..ontology import Ontology
from ..reference_model.genes import without_version
from ..reference_model.labels import Nodes
from ..reference_model.stored import ReferenceModel
from ..search.embedding import Embedding
from ..search.index import write_part
from ..types import Model
from .build import check_new, terms_above
from .cards import folder_of

FEWEST_GENES = 20


@dataclass(frozen=True)
class RestrictRequest:
    """What `cytonym reference restrict` was asked for."""

    bundle: Path
    name: str
    output: Path
    genes: Path | None = None  # one id or symbol a line
    types: Path | None = None  # one label a line


def restrict_reference(request: RestrictRequest) -> Model:
    """The new bundle; all genes and all types give the same model."""
    check_new(request.name, request.output)
    whole = check_bundle(request.bundle)
    ontology = read_ontology_of(request.bundle)
    stored = read_model(whole)
    model, embedding = ReferenceModel.of(*stored), Embedding.of(*stored)
    if request.genes is not None:
        model = model.restricted(_rows_of_genes(model, _lines(request.genes), request.genes))
    if request.types is not None:
        model = with_types(model, _rows_of_types(model, _lines(request.types), request.types), ontology)
    labels = {kind.label for kind in model.types}
    meta, arrays = read_cells(request.bundle)
    kept = np.flatnonzero(np.isin(np.array(meta["types"])[arrays["type_codes"]], sorted(labels)))

    def fill(folder: Path) -> None:
        write_part(request.bundle, folder, kept)
        names = [kind.label for kind in model.types]
        places = np.array(
            [names.index(label) if label in labels else MISSING for label in meta["types"]], dtype=np.int32
        )
        columns = {name: column[kept] for name, column in arrays.items()}
        write_cells(folder, meta | {"types": names}, columns | {"type_codes": places[columns["type_codes"]]})

    card = replace(
        whole.card,
        name=request.name,
        folder=folder_of(request.name),
        title=f"{whole.card.title}, restricted",
    )
    reference = _restricted_card(read_reference_card(request.bundle), model, request) | {"n_vectors": len(kept)}
    of_embedding = embedding.meta(), embedding.arrays()
    return write_bundle(
        request.output,
        card,
        reference,
        model.meta() | of_embedding[0],
        model.arrays() | of_embedding[1],
        terms_above(model, ontology),
        fill,
    )


def with_types(model: ReferenceModel, kept: np.ndarray, ontology: Ontology) -> ReferenceModel:
    """The model with these of its types alone: what it says of them among each other stays."""
    types = tuple(model.types[row] for row in kept)
    return replace(
        model,
        types=types,
        nodes=Nodes.of(types, ontology),
        profiles=model.profiles[kept],
        linear=replace(model.linear, weights=model.linear.weights[:, kept], intercepts=model.linear.intercepts[kept]),
        fusion=model.fusion.of_types(kept),
        novelty=replace(model.novelty, means=model.novelty.means[:, kept], spreads=model.novelty.spreads[:, kept]),
        confusions=tuple(
            row for row in model.confusions if {row["type"], row["taken_for"]} <= {kind.label for kind in types}
        ),
    )


def _restricted_card(reference: dict[str, Any], model: ReferenceModel, request: RestrictRequest) -> dict[str, Any]:
    labels = {kind.label for kind in model.types}
    told = "Its expected figures are those of the whole reference."
    return reference | {
        "name": request.name,
        "title": f"{reference['title']}, restricted",
        "genes": len(model.genes),
        "types": [kind for kind in reference["types"] if kind["label"] in labels],
        "confusions": list(model.confusions),
        "restricted_from": reference["name"],
        "notes": [*reference["notes"], f"Restricted from {reference['name']}. {told}"],
    }


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}. Give a text file with one name a line.") from exc
    return [line.strip() for line in lines if line.strip()]


def _rows_of_genes(model: ReferenceModel, names: Sequence[str], path: Path) -> np.ndarray:
    wanted = {without_version(name) for name in names}
    found = [
        row
        for row, (gene_id, name) in enumerate(zip(model.genes.ids.tolist(), model.genes.names.tolist(), strict=True))
        if gene_id in wanted or name in wanted
    ]
    if len(found) < FEWEST_GENES:
        raise InputError(
            f"Only {len(found)} of the {len(wanted)} genes of {path} are among the reference's {len(model.genes)}; at "
            f"least {FEWEST_GENES} are needed. Its first gene is {model.genes.ids[0]} ({model.genes.names[0]})."
        )
    return np.array(found, dtype=np.int64)


def _rows_of_types(model: ReferenceModel, names: Sequence[str], path: Path) -> np.ndarray:
    row_of = {kind.label: row for row, kind in enumerate(model.types)}
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise InputError(
            f"{path} names '{unknown[0]}', which is no type of the reference. See 'cytonym reference info'."
        )
    found = sorted({row_of[name] for name in names})
    if len(found) < 2:
        raise InputError(f"{path} names {len(found)} types; at least two are needed to tell apart.")
    return np.array(found, dtype=np.int64)
