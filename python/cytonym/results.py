"""What a finished run left, as tables: read when asked for, not before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .io.cell_types_csv import read_cell_types
from .io.diffexp_csv import read_diffexp
from .stages import CELL_TYPES_NAME, DIFFEXP_NAME
from .types import CellTypes, DiffExp, ModelCard, Plan


@dataclass(frozen=True)
class ModelResult:
    """One model's part of a run."""

    card: ModelCard
    folder: Path

    @property
    def cell_types(self) -> CellTypes:
        """The table of cell_types.csv; `.to_anndata()` makes an AnnData of it."""
        return CellTypes(self.card, read_cell_types(self.folder / CELL_TYPES_NAME))

    @property
    def diffexp(self) -> DiffExp | None:
        """The differential expression; None where it was skipped or had fewer than two groups."""
        path = self.folder / DIFFEXP_NAME
        return read_diffexp(path) if path.is_file() else None


@dataclass(frozen=True)
class AnnotateResult:
    """A finished run: its `outs` folder, its plan, and each model's results by model name."""

    outs: Path
    plan: Plan
    models: dict[str, ModelResult]

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: the sample, the alerts, and each model's counts and shares."""
        return json.loads((self.outs / "metrics.json").read_text(encoding="utf-8"))


def read_outs(outs: Path, plan: Plan) -> AnnotateResult:
    """The results of a run in that folder."""
    models = {job.card.name: ModelResult(job.card, outs / "cell_types" / job.card.folder) for job in plan.jobs}
    return AnnotateResult(outs, plan, models)
