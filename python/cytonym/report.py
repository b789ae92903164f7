"""Gathers a sample's results for people and programs: page, Loupe table, metrics and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .alerts import model_alerts, sample_alerts
from .errors import CytonymError
from .io.files import write_json, write_text
from .io.loupe_csv import loupe_table, write_loupe_csv
from .multiqc import multiqc_files
from .page import render_page
from .page.data import page_data
from .page.views import Views
from .schemas import first_problem
from .types import Alert, DiffExp, Job, ModelCard, Plan

PAGE_NAME = "web_summary_cell_types.html"
LOUPE_NAME = "loupe_cell_types.csv"
METRICS_NAME = "metrics.json"
PROVENANCE_NAME = "provenance.json"

MATRIX_METRICS = (
    "name",
    "format",
    "n_cells",
    "n_features",
    "feature_types",
    "species",
    "genome",
    "chemistry",
    "barcode_kind",
    "median_umis",
)


@dataclass(frozen=True)
class ReportInput:
    """One model's results, as its stages wrote them."""

    job: Job
    cell_types: pd.DataFrame  # cell_types.csv
    metrics: dict[str, Any]  # model_metrics.json
    diffexp: DiffExp | None  # None: skipped, or fewer than two groups
    evidence: pd.DataFrame | None = None  # evidence.csv, of models that tell it


@dataclass(frozen=True)
class Report:
    """What `write_report` writes; `page_html` is None where the plan skips the page."""

    page_html: str | None
    loupe: pd.DataFrame
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    multiqc: dict[str, dict[str, Any]]  # by file name


def report(
    plan: Plan,
    models: Sequence[ReportInput],
    *,
    command_line: str,
    views: Views | None = None,
    alerts: Sequence[Alert] = (),
) -> Report:
    """The sample's summary. It holds no time and no path but those of `command_line`: same run, same bytes.

    `alerts` are those of stages on the sample as a whole.
    """
    metrics = sample_metrics(plan, models, alerts)
    provenance = sample_provenance(plan, models, command_line)
    page = None if "report" in plan.skip else render_page(page_data(plan, models, metrics, provenance, views))
    loupe = loupe_table([(model.job.card, model.cell_types) for model in models], plan.cloupe_group_name)
    return Report(page, loupe, metrics, provenance, multiqc_files(metrics, dict(plan.versions)))


def sample_metrics(plan: Plan, models: Sequence[ReportInput], alerts: Sequence[Alert]) -> dict[str, Any]:
    """metrics.json: the sample, all alerts (those of a model with its name), each model's own metrics."""
    told = [asdict(alert) for alert in (*plan.alerts, *alerts, *sample_alerts(plan, models))]
    for model in models:
        own = [*model.metrics.get("alerts", []), *map(asdict, model_alerts(plan, model))]
        told += [{**alert, "model": model.job.card.name} for alert in own]
    return {
        "id": plan.id,
        "description": plan.description,
        "cytonym_version": plan.versions.get("cytonym", "unknown"),
        "matrix": {name: getattr(plan.matrix, name) for name in MATRIX_METRICS},
        "alerts": told,
        "models": {model.job.card.name: model.metrics for model in models},
    }


def sample_provenance(plan: Plan, models: Sequence[ReportInput], command_line: str) -> dict[str, Any]:
    """provenance.json: what made the results, enough to make them again."""
    return {
        "id": plan.id,
        "command_line": command_line,
        "versions": dict(plan.versions),
        "input": {"name": plan.matrix.name, "format": plan.matrix.format, "sha256": plan.matrix.sha256},
        "models": [
            {
                "name": model.job.card.name,
                "folder": model.job.card.folder,
                "title": model.job.card.title,
                "version": model.job.card.version,
                "licence": model.job.card.licence,
                "sha256": model.job.model_sha256,
                **_published(model.job.card),
            }
            for model in models
        ],
        "parameters": {
            "genome": plan.matrix.genome,
            "species": plan.matrix.species,
            "low_umi_threshold": plan.low_umi_threshold,
            "skip": list(plan.skip),
            "cloupe_group_name": plan.cloupe_group_name,
        },
    }


def _published(card: ModelCard) -> dict[str, Any]:
    """Where an installed model comes from; nothing for a model that comes with cytonym."""
    if not card.sources:
        return {}
    return {"doi": card.doi, "sources": [asdict(source) for source in card.sources]}


def write_report(folder: Path, report: Report) -> None:
    """Writes the files, each whole or not at all; metrics.json last, as the sign that all are there."""
    _check(report.provenance, "provenance.schema.json")
    _check(report.metrics, "metrics.schema.json")
    if report.page_html is not None:
        write_text(folder / PAGE_NAME, report.page_html)
    write_loupe_csv(folder / LOUPE_NAME, report.loupe)
    for name, value in report.multiqc.items():
        write_json(folder / name, value)
    write_json(folder / PROVENANCE_NAME, report.provenance)
    write_json(folder / METRICS_NAME, report.metrics)


def _check(value: dict[str, Any], schema: str) -> None:
    problem = first_problem(value, schema)
    if problem:
        raise CytonymError(f"The results do not fit {schema}: {problem}. Were the stages run by one cytonym version?")
