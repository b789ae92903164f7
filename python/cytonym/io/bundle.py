"""A reference as a folder: an installed model's card and arrays, its long card, and what cells are compared with.

`card.json` names every other file with its checksum. Nothing in the folder is changed once it is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError
from ..ontology import Ontology, Term
from ..schemas import first_problem
from ..types import Model, ModelCard
from .arrays import read_arrays, write_arrays
from .files import write_json, write_text
from .model_store import CARD_NAME, DATA_KIND, DATA_NAME, appear, model_in, verified_sha256, write_card

BACKEND = "reference"
FORMAT_VERSION = 1
REFERENCE_NAME = "reference.json"
VECTORS_NAME = "vectors.npy"
CELLS_NAME = "cells.h5"
CELLS_KIND = "reference cells"
ONTOLOGY_NAME = "ontology.tsv"
ONTOLOGY_COLUMNS = ("id", "name", "parents")


def write_bundle(
    folder: Path,
    card: ModelCard,
    reference: dict[str, Any],
    meta: dict[str, Any],
    arrays: dict[str, np.ndarray],
    ontology: Iterable[Term],
    fill: Callable[[Path], None] = lambda folder: None,
) -> Model:
    """The bundle, which appears whole by one rename; `fill` writes further files into it.

    Raises OutputError if the folder is there already.
    """
    reference = {"format_version": FORMAT_VERSION, **reference}
    problem = first_problem(json.loads(json.dumps(reference)), "reference_card.schema.json")
    if problem:
        raise ModelError(f"The reference card of {card.name} does not hold: {problem}.")

    def everything(aside: Path) -> None:
        write_arrays(aside / DATA_NAME, DATA_KIND, meta, arrays)
        write_json(aside / REFERENCE_NAME, reference)
        write_text(aside / ONTOLOGY_NAME, _ontology_text(ontology))
        fill(aside)
        write_card(aside, card)

    return model_in(appear(folder, everything))


def open_bundle(folder: Path) -> Model:
    """The model of that folder; ModelError if it is no bundle, one of a newer version, or not whole."""
    if not (folder / CARD_NAME).is_file():
        raise ModelError(
            f"{folder} is not a reference of cytonym: it has no {CARD_NAME}. Build one with 'cytonym reference build'."
        )
    _check_version(folder)
    model = model_in(folder)
    if model.card.backend != BACKEND:
        raise ModelError(f"{folder} holds {model.card.name}, which is no reference.")
    return model


def read_reference_card(folder: Path) -> dict[str, Any]:
    """The long card; ModelError if it is damaged."""
    value = _check_version(folder)
    problem = first_problem(value, "reference_card.schema.json")
    if problem:
        raise ModelError(f"{folder / REFERENCE_NAME} is damaged: {problem}. {_AGAIN}")
    return value


def check_bundle(folder: Path) -> Model:
    """The bundle, after every file was compared with its checksum and the parts with each other."""
    model = open_bundle(folder)
    verified_sha256(model)
    reference = read_reference_card(folder)
    if reference["name"] != model.card.name:
        raise ModelError(f"{folder} is damaged: its cards name {model.card.name} and {reference['name']}. {_AGAIN}")
    if reference["n_vectors"]:
        _, cells = read_cells(folder)
        shape = np.load(folder / VECTORS_NAME, mmap_mode="r").shape
        if shape[0] != reference["n_vectors"] or any(len(column) != shape[0] for column in cells.values()):
            raise ModelError(f"{folder} is damaged: its vectors and its cells differ in number. {_AGAIN}")
    return model


def read_cells(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Meta (`types`, `datasets`: texts) and, of each vector, `type_codes`, `dataset_codes` and `ids`."""
    try:
        return read_arrays(folder / CELLS_NAME, CELLS_KIND)
    except InputError as exc:
        raise ModelError(f"{folder / CELLS_NAME} is damaged. {_AGAIN}") from exc


def write_cells(folder: Path, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    write_arrays(folder / CELLS_NAME, CELLS_KIND, meta, dict(sorted(arrays.items())))


def read_ontology_of(folder: Path) -> Ontology:
    """The terms of the bundle's labels and all above them."""
    try:
        lines = (folder / ONTOLOGY_NAME).read_text(encoding="utf-8").splitlines()[1:]
        rows = [line.split("\t") for line in lines]
        return Ontology(Term(row[0], row[1], tuple(filter(None, row[2].split("|")))) for row in rows)
    except (OSError, UnicodeDecodeError, IndexError) as exc:
        raise ModelError(f"{folder / ONTOLOGY_NAME} is damaged: {exc}. {_AGAIN}") from exc


def _ontology_text(terms: Iterable[Term]) -> str:
    rows = [(term.id, term.name, "|".join(term.parents)) for term in sorted(terms, key=lambda term: term.id)]
    return "\n".join("\t".join(row) for row in [ONTOLOGY_COLUMNS, *rows]) + "\n"


def _check_version(folder: Path) -> dict[str, Any]:
    path = folder / REFERENCE_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value["format_version"]
    except FileNotFoundError as exc:
        raise ModelError(f"{folder} is not a reference of cytonym: it has no {REFERENCE_NAME}.") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{path} is damaged: {exc}. {_AGAIN}") from exc
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{folder} was built by cytonym {value.get('cytonym', '')} in format {version}, and this version reads "
            f"format {FORMAT_VERSION}. Install a newer cytonym, or build the reference again."
        )
    return dict(value)


_AGAIN = "Build the reference again, or copy it again."
