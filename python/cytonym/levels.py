"""The names above a fine type: a display map over the ontology, packaged or the user's own.

A row puts a term, and all terms below it that have no nearer row, under a name at one level, broad or coarse. Several
rows may give one name. `schemas/levels.schema.json` describes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import jsonschema

from .errors import InputError
from .ontology import Ontology
from .schemas import load_schema

COLUMNS = ("cl_id", "name", "level")
LEVELS = ("broad", "coarse")


@dataclass(frozen=True)
class LevelNames:
    """What stands above a type, with the terms of the rows that say so."""

    broad: str = ""
    coarse: str = ""
    broad_id: str = ""
    coarse_id: str = ""


@dataclass(frozen=True)
class Levels:
    """Term -> name, for each level, in file order."""

    broad: dict[str, str]
    coarse: dict[str, str]

    def of(self, term_id: str, ontology: Ontology) -> LevelNames:
        """The names of the term's nearest rows; "" at a level without one. Without a coarse row the broad name stands.

        A row that lies below another of the same lineage is the nearer one; otherwise fewer steps, then file order.
        """
        broad = _nearest(term_id, self.broad, ontology)
        if not broad:
            return LevelNames()
        coarse = _nearest(term_id, self.coarse, ontology)
        if not coarse:
            return LevelNames(self.broad[broad], self.broad[broad], broad, broad)
        return LevelNames(self.broad[broad], self.coarse[coarse], broad, coarse)


def read_levels(path: Path) -> Levels:
    """A user's map; InputError that names the line which breaks the format."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"The levels {path} cannot be read: {exc}. Give a UTF-8 text file.") from exc
    return levels_of(text, f"the levels {path}")


def levels_of(text: str, origin: str) -> Levels:
    """The map of a tab-separated text; lines that start with # are comments."""
    lines = [(n, line.split("\t")) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines or tuple(lines[0][1]) != COLUMNS:
        raise InputError(f"{origin}: the header is not the tab-separated columns {', '.join(COLUMNS)}.")
    validator = jsonschema.Draft202012Validator(load_schema("levels.schema.json")["items"])
    found: dict[str, dict[str, str]] = {level: {} for level in LEVELS}
    for number, cells in lines[1:]:
        row = dict(zip(COLUMNS, cells, strict=False))
        error = jsonschema.exceptions.best_match(validator.iter_errors(row))
        if len(cells) != len(COLUMNS) or error is not None:
            why = error.message if error is not None else f"{len(cells)} fields instead of {len(COLUMNS)}"
            raise InputError(f"{origin}, line {number}: {why}.")
        if row["cl_id"] in found[row["level"]]:
            raise InputError(f"{origin}, line {number}: {row['cl_id']} has a {row['level']} name already.")
        found[row["level"]][row["cl_id"]] = row["name"]
    return Levels(**found)


def with_shared_terms(found: Sequence[LevelNames], ontology: Ontology) -> list[LevelNames]:
    """The same names, with one term behind each: the deepest one above the terms of all that have the name."""

    def shared(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
        terms: dict[str, set[str]] = {}
        for name, term_id in pairs:
            terms.setdefault(name, set()).add(term_id)
        return {name: common_ancestor(sorted(met - {""}), ontology) for name, met in terms.items()}

    broad = shared((names.broad, names.broad_id) for names in found)
    coarse = shared((names.coarse, names.coarse_id) for names in found)
    return [replace(names, broad_id=broad[names.broad], coarse_id=coarse[names.coarse]) for names in found]


def common_ancestor(term_ids: Iterable[str], ontology: Ontology) -> str:
    """The deepest term above all of them, or one of themselves if it is; "" if they have none in common."""
    lineages = [ontology.lineage(term_id) for term_id in term_ids]
    shared = reduce(frozenset.intersection, lineages) if lineages else frozenset()
    return min(shared, key=lambda term_id: (-len(ontology.lineage(term_id)), term_id), default="")


def _nearest(term_id: str, rows: dict[str, str], ontology: Ontology) -> str:
    """The row's term; "" if none lies on the way up."""
    lineage = ontology.lineage(term_id)
    met = [row for row in rows if row in lineage]
    lowest = [row for row in met if not any(row in ontology.lineage(other) for other in met if other != row)]
    if len(lowest) < 2:
        return lowest[0] if lowest else ""
    steps = _steps_up(term_id, ontology)
    return min(lowest, key=lambda row: steps[row])


def _steps_up(term_id: str, ontology: Ontology) -> dict[str, int]:
    """The fewest steps to each ancestor."""
    steps, level = {term_id: 0}, [term_id]
    while level:
        above = [(parent, steps[now] + 1) for now in level for parent in ontology.parents(now)]
        level = list(dict.fromkeys(parent for parent, _ in above if parent not in steps))
        steps |= {parent: n for parent, n in above if parent not in steps}
    return steps
