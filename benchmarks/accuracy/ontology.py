"""Which types of the marker table a true label may be called, by the Cell Ontology."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from pathlib import Path

from cytonym.io.obo import read_ontology
from cytonym.markers import MarkerTable
from cytonym.ontology import Ontology


@cache
def cell_ontology(data: Path) -> Ontology:
    """The one of the data folder."""
    return read_ontology(data / "cl-basic.obo")


class TrueClasses:
    """The names of the table's types, at one level, that are right for a term.

    They are the types at the term or below it; if there are none, the nearest above it. A term that has neither
    cannot be scored at this level.
    """

    def __init__(self, table: MarkerTable, ontology: Ontology, level: str) -> None:
        self._ontology = ontology
        self._names: dict[str, set[str]] = defaultdict(set)
        self._above: dict[str, set[str]] = defaultdict(set)
        for row in table.types:
            name = row.broad if level == "broad" else row.coarse
            if name and row.coarse:
                self._names[row.ontology_id].add(name)
            if name:
                self._above[row.ontology_id].add(name)
        self._found: dict[str, frozenset[str]] = {}

    def of(self, term: str) -> frozenset[str]:
        if term not in self._found:
            self._found[term] = frozenset(self._search(term)) if term else frozenset()
        return self._found[term]

    def _search(self, term: str) -> set[str]:
        below = {name for t, names in self._names.items() if term in self._ontology.lineage(t) for name in names}
        level = {term}
        while level and not below:
            below = {name for t in level for name in self._names.get(t) or self._above.get(t, ())}
            level = {parent for t in level for parent in self._ontology.parents(t)}
        return below
