"""The Cell Ontology as a graph of terms and their parents; plain values, whatever file they came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """One term, e.g. CL:0000084, T cell."""

    id: str
    name: str
    parents: tuple[str, ...] = ()  # by is_a, ids
    synonyms: tuple[str, ...] = ()  # exact ones
    is_obsolete: bool = False
    replaced_by: str = ""  # of an obsolete term with one successor


class Ontology:
    """Terms by id. A term that is not known has no parents, and is its own lineage."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._terms = {term.id: term for term in terms}
        self._lineages: dict[str, frozenset[str]] = {}

    def __contains__(self, term_id: object) -> bool:
        return term_id in self._terms

    def __getitem__(self, term_id: str) -> Term:
        return self._terms[term_id]

    def __iter__(self) -> Iterator[Term]:
        return iter(self._terms.values())

    def __len__(self) -> int:
        return len(self._terms)

    def current(self, term_id: str) -> str:
        """The id itself, or that of the term which replaced it."""
        seen = {term_id}
        while term_id in self._terms and (successor := self._terms[term_id].replaced_by) and successor not in seen:
            seen.add(successor)
            term_id = successor
        return term_id

    def parents(self, term_id: str) -> tuple[str, ...]:
        return self._terms[term_id].parents if term_id in self._terms else ()

    def lineage(self, term_id: str) -> frozenset[str]:
        """The term and all its ancestors."""
        if term_id not in self._lineages:
            found: set[str] = set()
            waiting = [term_id]
            while waiting:
                now = waiting.pop()
                if now not in found:
                    found.add(now)
                    waiting.extend(self.parents(now))
            self._lineages[term_id] = frozenset(found)
        return self._lineages[term_id]
