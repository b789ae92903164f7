"""Columns of few distinct texts as codes, which stay small for millions of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MISSING = -1


@dataclass(frozen=True)
class CodedColumn:
    """`values[codes[i]]` is the text of row i; a negative code is a missing one."""

    codes: np.ndarray  # (n,) int32
    values: np.ndarray  # (k,) str

    @classmethod
    def of(cls, lots: Iterable[np.ndarray]) -> CodedColumn:
        """From texts that come in lots; values stand in the order of their first rows, and "" is missing."""
        places: dict[str, int] = {"": MISSING}
        parts = []
        for lot in lots:
            distinct, first, codes = np.unique(lot.astype(str), return_index=True, return_inverse=True)
            place = np.empty(len(distinct), dtype=np.int32)
            for row in np.argsort(first).tolist():
                place[row] = places.setdefault(str(distinct[row]), len(places) - 1)
            parts.append(place[codes])
        codes = np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
        return cls(codes, np.array([text for text in places if text], dtype=str))

    @classmethod
    def constant(cls, text: str, n: int) -> CodedColumn:
        return cls(np.zeros(n, dtype=np.int32), np.array([text]))

    def without(self, missing: Iterable[str]) -> CodedColumn:
        """The same with those texts missing, whatever their letter case and the blanks around them."""
        gone = {text.casefold() for text in missing}
        place = np.array([MISSING if v.strip().casefold() in gone else i for i, v in enumerate(self.values.tolist())])
        codes = np.append(place, MISSING)[np.where(self.codes < 0, MISSING, self.codes)]
        return CodedColumn(codes.astype(np.int32), self.values)

    def counts(self) -> np.ndarray:
        """(k,) rows of each value."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    def take(self, rows: np.ndarray) -> CodedColumn:
        return CodedColumn(self.codes[rows], self.values)
