"""The types of a reference: one for each label that enough cells have, with its term and the names above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..io.coded import MISSING
from ..levels import LevelNames, Levels, with_shared_terms
from ..ontology import Ontology
from ..reference_model.training import ReferenceType
from .labelled import LabelledInput
from .labels import LabelTerm
from .request import FEWEST_CELLS

ROOT = "CL:0000000"
DROPPED = "dropped"
Key = tuple[str, str]  # a label and its term


@dataclass(frozen=True)
class FewCells:
    """A label that too few cells have, and what became of it."""

    label: str
    n_cells: int
    became: str  # another label, or DROPPED


@dataclass(frozen=True)
class TypeTable:
    """The types, sorted by label, and which of them each input's label values are."""

    types: tuple[ReferenceType, ...]
    of_values: tuple[np.ndarray, ...]  # of each input: (n values,) int32, row of `types` or MISSING
    few: tuple[FewCells, ...] = ()

    def codes(self, inputs: Sequence[LabelledInput], number: int) -> np.ndarray:
        """(n_cells,) int32 type of each cell of that input, MISSING without one."""
        of_values = np.append(self.of_values[number], MISSING).astype(np.int32)
        return np.asarray(of_values[np.maximum(inputs[number].labels.codes, MISSING)])


def type_table(
    inputs: Sequence[LabelledInput],
    terms: Sequence[Sequence[LabelTerm]],
    ontology: Ontology,
    levels: Levels,
    *,
    pool: bool = False,
    fewest: int = FEWEST_CELLS,
) -> TypeTable:
    """One type a label; a label that means two terms in two files gives two, told apart by the terms' names.

    Labels of fewer than `fewest` cells are dropped, or pooled with their ontology parent. InputError if fewer than two
    types are left.
    """
    keys = [[(term.label, term.term_id) for term in of_input] for of_input in terms]
    n_cells: dict[Key, int] = {}
    for one, of_input in zip(inputs, keys, strict=True):
        for key, n in zip(of_input, one.labels.counts().tolist(), strict=True):
            n_cells[key] = n_cells.get(key, 0) + n
    n_cells = {key: n for key, n in n_cells.items() if n}
    if not n_cells:
        raise InputError("No cell of the inputs has a label that names a type. Name the labels' column: --label-key.")
    became = _pooled(n_cells, ontology, fewest) if pool else _dropped(n_cells, fewest)
    kept: dict[Key, int] = {}
    for key, n in n_cells.items():
        target = became.get(key, key)
        if target is not None:
            kept[target] = kept.get(target, 0) + n
    if len(kept) < 2:
        raise InputError(_too_few(n_cells, kept, fewest))
    labels = [label for label, _ in kept]
    named = {key: f"{key[0]} ({_name(key[1], ontology)})" if labels.count(key[0]) > 1 else key[0] for key in kept}
    ordered = sorted(kept, key=lambda key: named[key])
    above = with_shared_terms([_names_above(label, term, ontology, levels) for label, term in ordered], ontology)
    types = tuple(
        ReferenceType(named[key], key[1], names.broad, names.coarse, names.broad_id, names.coarse_id, kept[key])
        for key, names in zip(ordered, above, strict=True)
    )
    row_of: dict[Key | None, int] = {key: row for row, key in enumerate(ordered)}
    of_values = tuple(
        np.array([row_of.get(became.get(key, key), MISSING) for key in of_input], dtype=np.int32) for of_input in keys
    )
    few = tuple(
        FewCells(key[0], n_cells[key], named[target] if target is not None else DROPPED)
        for key, target in sorted(became.items())
    )
    return TypeTable(types, of_values, few)


def _names_above(label: str, term_id: str, ontology: Ontology, levels: Levels) -> LevelNames:
    """By the display map; a label that has no place in it stands for itself at both levels."""
    names = levels.of(term_id, ontology) if term_id else LevelNames()
    return names if names.broad else LevelNames(label, label, term_id, term_id)


def _name(term_id: str, ontology: Ontology) -> str:
    return ontology[term_id].name if term_id in ontology else term_id or "no term"


def _dropped(n_cells: dict[Key, int], fewest: int) -> dict[Key, Key | None]:
    return {key: None for key, n in n_cells.items() if n < fewest}


def _pooled(n_cells: dict[Key, int], ontology: Ontology, fewest: int) -> dict[Key, Key | None]:
    """Small labels -> the label of their nearest ancestor that then has enough cells; None where there is none.

    An ancestor that is a label already is that label; otherwise it is called by its name, and siblings meet there.
    """
    small = sorted(key for key, n in n_cells.items() if n < fewest)
    label_of = {term: (label, term) for (label, term), n in sorted(n_cells.items()) if n >= fewest and term}
    waiting: dict[str, list[Key]] = {}
    for key in small:
        for term in _ancestors(key[1], ontology):
            waiting.setdefault(term, []).append(key)
    became: dict[Key, Key | None] = {}
    # the deepest meeting places first, so that nothing is pooled further up than needed
    for term in sorted(waiting, key=lambda term: (-len(ontology.lineage(term)), term)):
        met = [key for key in waiting[term] if key not in became]
        target = label_of.get(term, (_name(term, ontology), term))
        if met and (term in label_of or sum(n_cells[key] for key in met) >= fewest):
            label_of[term] = target
            became |= dict.fromkeys(met, target)
    return {key: became.get(key) for key in small}


def _ancestors(term_id: str, ontology: Ontology) -> list[str]:
    return sorted(ontology.lineage(term_id) - {ROOT}) if term_id in ontology else []


def _too_few(n_cells: dict[Key, int], kept: dict[Key, int], fewest: int) -> str:
    found = ", ".join(f"'{label}' with {n} cells" for (label, _), n in sorted(n_cells.items())[:5])
    if len(n_cells) < 2:
        return f"The inputs have one label only, {found}: there is nothing to tell apart. Name another --label-key."
    return (
        f"Only {len(kept)} of {len(n_cells)} labels has at least {fewest} cells ({found}, ...). Name another "
        "--label-key; where rows are averages of types, not cells, give --averages."
    )
