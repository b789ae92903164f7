"""From posteriors to labels: the deepest level that is probable and supported, else its ancestor (step 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..markers import MarkerType
from .chain import SUPPORT, Match
from .scores import Cells
from .trust import Pick

BROAD_THRESHOLD, THRESHOLD = 0.75, 0.5  # of the broad name; of the coarse and of the fine name
NO_EVIDENCE_BELOW = 0.2  # rather than weak evidence
NONE = -1

REASONS = (
    "",
    "no counts",
    "no marker evidence",
    "weak evidence for any type",
    "finer types not separable",
    "targeted panel: broad labels only",
)
NAMED, NO_COUNTS, NO_EVIDENCE, WEAK, NOT_SEPARABLE, BROAD_ONLY = range(len(REASONS))


@dataclass(frozen=True)
class TypeNames:
    """Names and ontology ids of the table's rows."""

    broad: tuple[str, ...]
    coarse: tuple[str, ...]  # "" for a broad row
    fine: tuple[str, ...]  # "" for a broad or coarse row
    ontology_ids: tuple[str, ...]

    @classmethod
    def of(cls, table: Sequence[MarkerType]) -> TypeNames:
        return cls(
            tuple(t.broad for t in table),
            tuple(t.coarse or "" for t in table),
            tuple(t.fine or "" for t in table),
            tuple(t.ontology_id for t in table),
        )

    def most_specific(self, row: int) -> str:
        return self.fine[row] or self.coarse[row] or self.broad[row]

    def is_leaf(self, row: int) -> bool:
        """Whether a coarse row has no fine rows below it."""
        return (self.broad[row], self.coarse[row]) not in self._divided

    @cached_property
    def _divided(self) -> frozenset[tuple[str, str]]:
        """Broad and coarse names of the coarse types that have fine ones."""
        paths = zip(self.broad, self.coarse, self.fine, strict=True)
        return frozenset((broad, coarse) for broad, coarse, fine in paths if fine)


@dataclass(frozen=True)
class Calls:
    """The rows of the table that each of n cells was given, NONE where it was given none."""

    broad_row: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    broad_probability: np.ndarray
    coarse_probability: np.ndarray
    fine_probability: np.ndarray
    reason: np.ndarray  # index into REASONS


def call_cells(
    pick: Pick, rows: np.ndarray, broad_rows: np.ndarray, names: TypeNames, cells: Cells, *, broad_only: bool
) -> Calls:
    """Broad and coarse labels of the cells, and fine ones of coarse types without fine types."""
    counted = cells.totals > 0
    has_broad = counted & (pick.broad_probability >= BROAD_THRESHOLD)
    is_coarse = np.array([bool(names.coarse[row]) for row in rows.tolist()])[pick.best]
    has_coarse = has_broad & is_coarse & (pick.coarse_probability >= THRESHOLD) & (not broad_only)
    leaf = np.array([names.is_leaf(row) for row in rows.tolist()])[pick.best]
    reason = np.select(
        [~counted, ~has_broad & (pick.broad_probability < NO_EVIDENCE_BELOW), ~has_broad, has_coarse & leaf],
        [NO_COUNTS, NO_EVIDENCE, WEAK, NAMED],
        default=BROAD_ONLY if broad_only else NOT_SEPARABLE,
    )
    coarse = np.where(has_coarse, rows[pick.best], NONE)
    return Calls(
        broad_row=np.where(has_broad, broad_rows[pick.broad], NONE),
        coarse=coarse,
        fine=np.where(has_coarse & leaf, coarse, NONE),
        broad_probability=np.where(has_broad, pick.broad_probability, np.nan),
        coarse_probability=np.where(has_coarse, pick.coarse_probability, np.nan),
        fine_probability=np.where(has_coarse & leaf, pick.coarse_probability, np.nan),
        reason=reason,
    )


def call_fine(calls: Calls, members: np.ndarray, match: Match, rows: np.ndarray) -> None:
    """Writes the fine labels of the cells `members` into `calls`, where one is probable and supported."""
    best = np.argmax(match.posterior, axis=1)
    cell = np.arange(len(members))
    probability = match.posterior[cell, best] * calls.coarse_probability[members]
    named = (probability >= THRESHOLD) & (match.support[cell, best] >= SUPPORT)
    calls.fine[members[named]] = rows[best[named]]
    calls.fine_probability[members[named]] = probability[named]
    calls.reason[members[named]] = NAMED
