"""What a reader must know of the results, found when all of them are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from .consensus import CARD as CONSENSUS
from .contamination import foreign_share
from .io.cell_types_csv import confidence_column
from .ontology_data import load_ontology
from .page.data import opening_level
from .types import NO_TYPE, Alert, Plan

if TYPE_CHECKING:
    from .report import ReportInput

LOW_CONFIDENCE = 0.6  # median of the named cells
MUCH_FOREIGN = 0.2  # of a cell's counts
FEW_COMPATIBLE = 0.5  # of the cells that two models name
FEWEST_COMPARED = 20  # cells


def sample_alerts(plan: Plan, models: Sequence[ReportInput]) -> list[Alert]:
    """Those that are about several models, or about one that brought nothing."""
    return [*_failure_alerts(plan, models), *_disagreement_alerts(models)]


def model_alerts(plan: Plan, model: ReportInput) -> list[Alert]:
    return [*_diffexp_alerts(plan, model), *_confidence_alerts(model), *_contamination_alerts(model)]


def _failure_alerts(plan: Plan, models: Sequence[ReportInput]) -> list[Alert]:
    """Planned models that brought nothing: only those of 10x Cloud may fail without ending the run."""
    done = {model.job.card.name for model in models}
    message = "{} could not annotate the sample. The log says why; the same command tries again."
    return [
        Alert("ERROR", "No cell annotations produced", message.format(job.card.title))
        for job in plan.jobs
        if job.card.name not in done
    ]


def _diffexp_alerts(plan: Plan, model: ReportInput) -> list[Alert]:
    if model.diffexp is not None or "diffexp" in plan.skip:
        return []
    message = "Differential expression compares types, and the cells fall into fewer than two groups."
    return [Alert("WARN", "No differential expression", message)]


def _confidence_alerts(model: ReportInput) -> list[Alert]:
    """Whether the model itself is unsure of most names that it gave."""
    level = opening_level(model.cell_types)
    column = confidence_column(model.cell_types, level)
    if column is None:
        return []
    known = model.cell_types[column][~model.cell_types[f"{level}_cell_type"].isin(NO_TYPE)].dropna()
    if not len(known) or (median := float(known.median())) >= LOW_CONFIDENCE:
        return []
    message = (
        f"Half of the cells with a {level} type have a confidence below {median:.2f}. The model may not know this "
        "tissue, or the cells hold too few counts; see the marker evidence, and try another model."
    )
    return [Alert("WARN", "Model and sample disagree", message)]


def _contamination_alerts(model: ReportInput) -> list[Alert]:
    share = _foreign_share(model)
    if share is None or share < MUCH_FOREIGN:
        return []
    message = (
        f"About {share:.0%} of a cell's counts look like those of other cells: markers of frequent types are found "
        "in cells of other types. Spill-over between neighbours, ambient RNA or merged cells do that, and blur labels."
    )
    return [Alert("WARN", "Signs of contamination", message)]


def _foreign_share(model: ReportInput) -> float | None:
    """The share of a cell's counts that is of other cells, by the model's markers; None where that cannot be told."""
    if model.diffexp is None or model.evidence is None:
        return None
    cells = model.cell_types["coarse_cell_type"].value_counts()
    return foreign_share(model.diffexp, cells, model.evidence)


def _disagreement_alerts(models: Sequence[ReportInput]) -> list[Alert]:
    """Models whose types lie on different lines of the Cell Ontology in most of the cells that both name."""
    alerts = []
    for other in (model for model in models[1:] if model.job.card != CONSENSUS):
        share = compatible_share(models[0].cell_types, other.cell_types)
        if share is not None and share < FEW_COMPATIBLE:
            first, second = models[0].job.card.title, other.job.card.title
            message = (
                f"{first} and {second} give compatible types (the same, or one above the other in the Cell Ontology) "
                f"to only {share:.0%} of the cells that both name. At least one of them does not fit this sample."
            )
            alerts.append(Alert("WARN", "Models disagree", message))
    return alerts


def compatible_share(first: pd.DataFrame, second: pd.DataFrame) -> float | None:
    """Of the cells with an ontology id in both tables, those where one id is the other's or above it; None: too few."""
    name = "cell_type_ontology_term_id"
    if name not in first or name not in second:
        return None
    other = second.set_index("barcode")[name].reindex(first["barcode"], fill_value="").to_numpy()
    pairs = pd.DataFrame({"a": first[name].to_numpy(), "b": other}).value_counts()
    known = pairs[[bool(a and b) for a, b in pairs.index]]
    if known.sum() < FEWEST_COMPARED:
        return None
    ontology = load_ontology()
    lines = {term: ontology.lineage(ontology.current(term)) for pair in known.index for term in pair}
    same = [lines[a] <= lines[b] or lines[b] <= lines[a] for a, b in known.index]
    return float(known[same].sum() / known.sum())
