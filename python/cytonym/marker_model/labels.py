"""From posteriors to labels: the deepest level that is probable and supported, else its ancestor (step 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..markers import MarkerType
from .chain import SUPPORT, Match
from .scores import Cells, row_product

THRESHOLD = 0.5
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

    def broad_row(self, row: int) -> int:
        """The row of the broad type that a row belongs to; itself if the table has none."""
        pairs = enumerate(zip(self.broad, self.coarse, strict=True))
        return next((i for i, (broad, coarse) in pairs if broad == self.broad[row] and not coarse), row)

    def is_leaf(self, row: int) -> bool:
        """Whether a coarse row has no fine rows below it."""
        own = (self.broad[row], self.coarse[row])
        paths = zip(self.broad, self.coarse, self.fine, strict=True)
        return not any(fine and (broad, coarse) == own for broad, coarse, fine in paths)


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


def call_cells(match: Match, rows: np.ndarray, names: TypeNames, cells: Cells, *, broad_only: bool) -> Calls:
    """Broad and coarse labels of the cells, and fine ones of coarse types without fine types."""
    n = cells.n_cells
    broad_of = np.array([names.broad_row(row) for row in rows.tolist()])
    groups, group_of = np.unique(broad_of, return_inverse=True)
    summed = row_product(match.posterior, np.eye(len(groups))[group_of])
    group = np.argmax(summed, axis=1)
    within = np.where(group_of[None, :] == group[:, None], match.posterior, -1.0)
    best = np.argmax(within, axis=1)
    cell = np.arange(n)
    broad_probability, coarse_probability = summed[cell, group], match.posterior[cell, best]
    own, inherited = match.support[cell, best] >= SUPPORT, match.ancestor_support[cell, best] >= SUPPORT
    counted = cells.totals > 0
    probable = broad_probability >= THRESHOLD
    has_broad = counted & probable & (own | inherited)
    is_coarse = np.array([bool(names.coarse[row]) for row in rows.tolist()])[best]
    has_coarse = has_broad & own & is_coarse & (coarse_probability >= THRESHOLD) & (not broad_only)
    leaf = np.array([names.is_leaf(row) for row in rows.tolist()])[best]
    reason = np.select(
        [~counted, ~probable, ~has_broad, has_coarse & leaf],
        [NO_COUNTS, WEAK, NO_EVIDENCE, NAMED],
        default=BROAD_ONLY if broad_only else NOT_SEPARABLE,
    )
    coarse = np.where(has_coarse, rows[best], NONE)
    return Calls(
        broad_row=np.where(has_broad, groups[group], NONE),
        coarse=coarse,
        fine=np.where(has_coarse & leaf, coarse, NONE),
        broad_probability=np.where(has_broad, broad_probability, np.nan),
        coarse_probability=np.where(has_coarse, coarse_probability, np.nan),
        fine_probability=np.where(has_coarse & leaf, coarse_probability, np.nan),
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
