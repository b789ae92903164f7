"""The Cell Ontology as the package knows it: ids, names, parents and successors, and the names that outputs show."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from .levels import Levels, levels_of
from .ontology import Ontology, Term

TERM_COLUMNS = ("id", "name", "parents", "replaced_by")


@cache
def load_ontology() -> Ontology:
    """The packaged terms, without synonyms; an obsolete term is there if it has a successor."""
    return Ontology(_term(line) for line in _packaged("terms.tsv").splitlines()[2:])


@cache
def load_levels() -> Levels:
    """The packaged display map."""
    return levels_of(_packaged("levels.tsv"), "the packaged levels.tsv")


def _term(line: str) -> Term:
    term_id, name, parents, replaced_by = line.split("\t")
    return Term(
        term_id,
        name,
        tuple(filter(None, parents.split("|"))),
        is_obsolete=bool(replaced_by),
        replaced_by=replaced_by,
    )


def _packaged(name: str) -> str:
    return (files("cytonym") / "data" / "ontology" / name).read_text(encoding="utf-8")
