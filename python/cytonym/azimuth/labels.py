"""From the eight classes of a cell to its labels: decoding, consistency, and refinement to broad, medium and fine.

The rules are the original's, oddities included. Decoding depends on the classes alone, so it is done once for each
distinct tuple of them; refinement asks for a cell's probabilities only where several labels are possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .tables import REFINED_LEVELS, Tables

NOT_CONSISTENT = "False"  # the original's text where no refined label is given
BETWEEN = "|"


@dataclass(frozen=True)
class Decoded:
    """What eight classes say together."""

    parts: tuple[str | None, ...]  # by depth: the part named by the first level, from that depth on, that has one
    final_level: int  # depth of the last part before the first gap
    consistent: bool  # each level's class is the next level's without its last part

    @property
    def full(self) -> str:
        """All parts, gaps left out: `full_hierarchical_labels`."""
        return BETWEEN.join(part for part in self.parts if part is not None)

    @property
    def final(self) -> str:
        return self.parts[self.final_level] or ""


@dataclass(frozen=True)
class Candidate:
    """A label that refinement may give, and the class whose probability speaks for it."""

    label: str
    level: int
    class_id: int


@dataclass(frozen=True)
class CellLabel:
    """All that is said of a cell."""

    path: Decoded
    refined: tuple[str | None, ...]  # broad, medium, fine: last parts; None or "False" without one


def decode(tokens: Sequence[Sequence[str]]) -> Decoded:
    """The path of eight classes, each as its parts: one for level 1, two for level 2 and so on, "" for none."""
    parts = tuple(
        next((token[depth] for token in tokens[depth:] if token[depth]), None) for depth in range(len(tokens))
    )
    gap = next((depth for depth, part in enumerate(parts) if part is None), len(parts))
    consistent = all(tuple(tokens[k]) == tuple(tokens[k + 1][:-1]) for k in range(len(tokens) - 1))
    return Decoded(parts, gap - 1, consistent)


class Refinement:
    """The table of one refined level."""

    def __init__(self, rows: Sequence[tuple[str, str]], class_ids: Sequence[Mapping[str, int]]) -> None:
        self._rows = rows
        self._targets = dict(rows) | {target: target for _, target in rows}
        self._class_ids = class_ids

    def outcome(self, path: Decoded) -> str | tuple[Candidate, ...] | None:
        """The label, "False" or None; or the candidates of which each cell takes its most probable."""
        if not path.consistent:
            return NOT_CONSISTENT
        full = path.full
        if full in self._targets:
            target = self._targets[full]
            return last_part(target) if target in full else NOT_CONSISTENT
        return self._candidates(full) or None

    def _candidates(self, full: str) -> tuple[Candidate, ...]:
        """Targets of all labels that begin with this one, as texts do, and that are classes, in table order."""
        found = []
        for target in dict.fromkeys(target for label, target in self._rows if label.startswith(full)):
            level = target.count(BETWEEN)
            if level < len(self._class_ids) and target in self._class_ids[level]:
                found.append(Candidate(last_part(target), level, self._class_ids[level][target]))
        return tuple(found)


class Decoder:
    """Labels of cells by the classes and tables of one model."""

    def __init__(self, tables: Tables) -> None:
        self._tokens = [[tuple(name.split(BETWEEN)) for name in classes] for classes in tables.classes]
        class_ids = [{name: i for i, name in enumerate(classes)} for classes in tables.classes]
        self._refinements = [Refinement(tables.refinement[level], class_ids) for level in REFINED_LEVELS]

    def label(
        self, class_ids: np.ndarray, probabilities: Sequence[np.ndarray]
    ) -> tuple[list[CellLabel], np.ndarray, np.ndarray]:
        """The distinct labels, each cell's row among them (int32), and its confidence (float32).

        `class_ids` are cells x levels, `probabilities` calibrated, cells x classes for each level. The confidence is
        the highest probability of the level at which the cell's path ends.
        """
        tuples, tuple_of = np.unique(class_ids, axis=0, return_inverse=True)
        tuple_of = tuple_of.ravel()
        confidence = np.empty(len(class_ids), dtype=np.float32)
        codes = np.empty(len(class_ids), dtype=np.int32)
        row_of: dict[CellLabel, int] = {}
        cells_of = np.split(np.argsort(tuple_of, kind="stable"), np.cumsum(np.bincount(tuple_of))[:-1])
        for ids, cells in zip(tuples.tolist(), cells_of, strict=True):
            path = decode([self._tokens[level][i] for level, i in enumerate(ids)])
            confidence[cells] = probabilities[path.final_level][cells].max(axis=1)
            refined = [self._refined(table, path, cells, probabilities) for table in self._refinements]
            for cell, labels in zip(cells.tolist(), zip(*refined, strict=True), strict=True):
                codes[cell] = row_of.setdefault(CellLabel(path, labels), len(row_of))
        return list(row_of), codes, confidence

    @staticmethod
    def _refined(
        table: Refinement, path: Decoded, cells: np.ndarray, probabilities: Sequence[np.ndarray]
    ) -> list[str | None]:
        """The label of each of these cells, which share a path."""
        outcome = table.outcome(path)
        if outcome is None or isinstance(outcome, str):
            return [outcome] * len(cells)
        speaking = np.column_stack([probabilities[c.level][cells, c.class_id] for c in outcome])
        return [outcome[best].label for best in speaking.argmax(axis=1).tolist()]


def last_part(label: str) -> str:
    return label.rsplit(BETWEEN, 1)[-1]
