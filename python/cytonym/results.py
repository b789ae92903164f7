"""What a finished run left, as tables: read when asked for, not before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .consensus import CARD as CONSENSUS
from .errors import InputError
from .io.cell_types_csv import read_cell_types
from .io.diffexp_csv import read_diffexp
from .report import PROVENANCE_NAME
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
    plan: Plan | None  # None where `read_outs` read the run later
    models: dict[str, ModelResult]

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: the sample, the alerts, and each model's counts and shares."""
        return json.loads((self.outs / "metrics.json").read_text(encoding="utf-8"))


def read_outs(path: Path | str, plan: Plan | None = None) -> AnnotateResult:
    """The results of a finished run: its folder, or the `outs` in it; tables are read when they are asked for.

    Raises InputError if there is no finished run of cytonym.
    """
    outs = Path(path) if (Path(path) / PROVENANCE_NAME).is_file() else Path(path) / "outs"
    cards = [*(job.card for job in plan.jobs), CONSENSUS] if plan else _cards(outs)
    found = {card.name: ModelResult(card, outs / "cell_types" / card.folder) for card in cards}
    if plan and not found[CONSENSUS.name].folder.is_dir():
        del found[CONSENSUS.name]
    return AnnotateResult(outs, plan, found)


def _cards(outs: Path) -> list[ModelCard]:
    """What provenance.json tells of the models."""
    try:
        told = json.loads((outs / PROVENANCE_NAME).read_text(encoding="utf-8"))
        return [
            ModelCard(
                name=model["name"],
                backend="",
                folder=model["folder"],
                title=model["title"],
                species=(told["parameters"]["species"],),
                version=model["version"],
                licence=model["licence"],
                description="",
                columns=(),
                doi=model.get("doi", ""),
            )
            for model in told["models"]
        ]
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(f"{outs} is not the outs folder of a finished run of cytonym: {exc}") from exc
