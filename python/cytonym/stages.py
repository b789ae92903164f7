"""The stages with their files: each reads what earlier ones wrote and writes its own, whole or not at all.

The command line, the shell run (`annotate.py`) and Nextflow's tasks all call these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .assign import assign, model_metrics, relabel_low_umi
from .backends.tenx_cloud import is_cloud
from .beside import planned_files, read_scalefactors
from .classify import classify
from .cloupe import BETA_GROUP, PLAIN_GROUP, PROJECTION_NAME, annotate_cloupe, find_programs
from .cohort import compositions
from .colours import run_colours
from .consensus import JOB as CONSENSUS
from .consensus import consensus
from .diffexp import diffexp, groups_by_barcode
from .errors import InputError, ModelError
from .export import LabelledCells, export_h5ad, export_spatialdata
from .figures import write_figures
from .fit import fit
from .io.arrays import read_embeddings, read_fitted, read_neighbours, read_predictions, write_fitted, write_predictions
from .io.bundle import BACKEND
from .io.cell_types_csv import read_cell_types, read_compact, write_cell_types
from .io.diffexp_csv import read_diffexp, write_diffexp
from .io.embeddings_npz import write_embeddings
from .io.evidence_csv import read_evidence, write_evidence
from .io.evidence_json import write_evidence_json
from .io.files import copy_file, write_json, write_text
from .io.neighbours_h5 import write_neighbours
from .io.places_h5 import read_places, write_places
from .io.tissue_tables import write_parts
from .models import model_of
from .ontology_data import load_levels, load_ontology
from .page import render_cohort
from .page.cohort import cohort_data
from .page.views import Views
from .place import CellLabels, place
from .preflight import open_matrix
from .progress import LOGGER
from .report import METRICS_NAME as SUMMARY_NAME
from .report import ReportInput, report, write_report
from .schemas import first_problem
from .search.evidence import Evidence
from .search.neighbours import NEIGHBORS, NO_EVIDENCE
from .types import NOT_RETURNED, Alert, CellTypes, Fitted, Job, Plan, Predictions

CELL_TYPES_NAME = "cell_types.csv"
RESULTS_NAME = "cell_annotation_results.json.gz"
METRICS_NAME = "model_metrics.json"
EMBEDDINGS_NAME = "embeddings.npz"
EVIDENCE_NAME = "evidence.csv"
NEIGHBOURS_NAME = "neighbors.h5"
DIFFEXP_NAME = "cell_annotation_differential_expression.csv"
PLACES_NAME = "places.h5"
H5AD_NAME = "annotated.h5ad"
ALERTS_NAME = "alerts.json"
FIGURES_NAME = "figures"
SPATIALDATA_NAME = "annotated.zarr"
OUTLINES = {"cells": "cell_segmentations", "nuclei": "nucleus_segmentations"}  # shapes of SpatialData and their files
COHORT_PAGE_NAME, COHORT_TABLE_NAME = "cohort_summary.html", "cohort_composition.csv"


def planned_job(plan: Plan, model: str) -> Job:
    """The job of that model; ModelError if the plan has none."""
    try:
        return plan.job(model)
    except KeyError as exc:
        names = ", ".join(job.card.name for job in plan.jobs)
        raise ModelError(f"The plan has no model '{model}', only {names}.") from exc


def fit_stage(
    matrix_path: Path,
    plan: Plan,
    model: str,
    models_dir: Path,
    output: Path,
    token_path: Path | None = None,
    record: Path | None = None,
    bundles: Sequence[Path] = (),
) -> None:
    """Reads the model from one of `bundles` or from `models_dir`. A service's results go beside `output`.

    A cloud model takes the token of that path, or the user's own, and keeps in `record` how far it has come.
    """
    found = model_of(planned_job(plan, model), models_dir, bundles=bundles, token_path=token_path, record=record)
    fitted = fit(open_matrix(matrix_path, plan), found)
    if "joined_by" in fitted.meta:
        found_genes, wanted, by = (fitted.meta[name] for name in ("genes_found", "genes_wanted", "joined_by"))
        LOGGER.info("%s: %s of the model's %s genes are in the matrix, joined by %s", model, found_genes, wanted, by)
    for alert in fitted.alerts:
        LOGGER.warning("%s: %s", alert.title, alert.message)
    if fitted.results is not None:
        copy_file(fitted.results, output.with_name(RESULTS_NAME))
    write_fitted(output, fitted)


def classify_stage(
    matrix_path: Path,
    plan: Plan,
    model: str,
    fitted_path: Path,
    index: int,
    output: Path,
    *,
    threads: int = 1,
    models_dir: Path | None = None,
    bundles: Sequence[Path] = (),
) -> None:
    """A reference's folder is looked for among `bundles`, then in `models_dir`; other models are in the fitted file."""
    if not 0 <= index < len(plan.partitions):
        raise InputError(f"The plan has no partition {index}, only 0 to {len(plan.partitions) - 1}.")
    matrix, fitted = open_matrix(matrix_path, plan), read_fitted(fitted_path)
    job, partition = planned_job(plan, model), plan.partitions[index]
    if job.card.backend == BACKEND and models_dir is not None:
        fitted = replace(fitted, folder=model_of(job, models_dir, bundles=bundles).folder)
    predictions = classify(matrix, job, fitted, partition, embeddings=plan.embeddings, threads=threads)
    write_predictions(output, predictions)


def assign_stage(plan: Plan, model: str, fitted_path: Path, predictions_paths: Sequence[Path], folder: Path) -> None:
    """Writes cell_types.csv and model_metrics.json into `folder`.

    With them evidence.csv, if the model tells its evidence; the neighbours of cells, where a reference's cells were
    compared with; embeddings.npz, if the plan wants it; a service's results, if they lie beside the fitted file.
    """
    job = planned_job(plan, model)
    try:
        predictions = Predictions.concatenate([read_predictions(path) for path in predictions_paths])
        cell_types = assign(plan, job, predictions)
    except ValueError as exc:
        raise InputError(f"The predictions of {model} do not fit the plan: {exc}.") from exc
    fitted = read_fitted(fitted_path)
    write_json(folder / METRICS_NAME, model_metrics(plan, job, fitted, cell_types))
    if "evidence" in fitted.meta:
        write_evidence(folder / EVIDENCE_NAME, fitted.meta["evidence"])
    if fitted.meta.get("neighbours", {}).get("kind", NO_EVIDENCE) != NO_EVIDENCE:
        _write_neighbours(folder, fitted, predictions, predictions_paths)
    if plan.embeddings and job.card.embedding_size:
        parts = (read_embeddings(path) for path in predictions_paths)
        shape = (plan.matrix.n_cells, job.card.embedding_size)
        write_embeddings(folder / EMBEDDINGS_NAME, predictions.barcodes, parts, shape)
    results = fitted_path.with_name(RESULTS_NAME)
    if results.exists():
        copy_file(results, folder / RESULTS_NAME)
    write_cell_types(folder / CELL_TYPES_NAME, cell_types.table)


def _write_neighbours(folder: Path, fitted: Fitted, predictions: Predictions, paths: Sequence[Path]) -> None:
    """The evidence from a reference's cells, and the cells themselves if wanted; one partition in memory at a time."""
    told = fitted.meta["neighbours"]

    def parts() -> Iterator[tuple[np.ndarray, Evidence]]:
        start = 0
        for path in paths:
            found = read_neighbours(path)
            yield predictions.barcodes[start : start + found.n_cells], found
            start += found.n_cells

    write_evidence_json(folder / RESULTS_NAME, parts(), told["types"], told["datasets"])
    if told["kind"] == NEIGHBORS:
        of_cells = (found for _, found in parts())
        write_neighbours(folder / NEIGHBOURS_NAME, predictions.barcodes, of_cells, fitted.arrays["neighbours/ids"])


def consensus_stage(plan: Plan, cell_types_dir: Path, folder: Path) -> bool:
    """Writes cell_types.csv and model_metrics.json of the consensus, or nothing (False) with fewer than two models."""
    jobs = _models_done(plan, cell_types_dir)
    if len(jobs) < 2:
        return False
    models = [(job.card, read_compact(_table(cell_types_dir, job))) for job in jobs]
    agreed = consensus(models, load_ontology(), load_levels())
    first = read_cell_types(_table(cell_types_dir, jobs[0]), ("barcode", "coarse_cell_type", "umi_count"))
    agreed.insert(0, "barcode", first["barcode"])
    cell_types = relabel_low_umi(
        CellTypes(CONSENSUS.card, agreed), first["umi_count"].to_numpy(), plan.low_umi_threshold
    )
    metrics = model_metrics(plan, CONSENSUS, Fitted(CONSENSUS.card.name, {}, {}), cell_types)
    write_json(folder / METRICS_NAME, metrics)
    write_cell_types(folder / CELL_TYPES_NAME, cell_types.table)
    return True


def diffexp_stage(matrix_path: Path, plan: Plan, cell_types_path: Path, output: Path, *, threads: int = 1) -> bool:
    """Writes the table, or nothing (False) where fewer than two groups can be compared."""
    matrix = open_matrix(matrix_path, plan)
    table = read_cell_types(cell_types_path, ("barcode", "coarse_cell_type", "umi_count", "reason"))
    if "reason" in table:
        table = table[table["reason"] != NOT_RETURNED]
    barcodes = matrix.barcodes()
    groups = groups_by_barcode(barcodes, table)
    umi_counts = table.set_index("barcode")["umi_count"].reindex(barcodes).fillna(0).to_numpy(dtype="int64")
    result = diffexp(matrix, groups, umi_counts, threads=threads)
    if result is not None:
        write_diffexp(output, result)
    return result is not None


def _models_done(plan: Plan, cell_types_dir: Path) -> list[Job]:
    """The planned jobs but those of the cloud that failed, which have no table."""
    return [job for job in plan.jobs if not is_cloud(job.card) or _table(cell_types_dir, job).exists()]


def _done(plan: Plan, cell_types_dir: Path) -> list[Job]:
    """All that has a table: the models, and after them their consensus if there is one."""
    agreed = [CONSENSUS] if _table(cell_types_dir, CONSENSUS).exists() else []
    return [*_models_done(plan, cell_types_dir), *agreed]


def _table(cell_types_dir: Path, job: Job) -> Path:
    return cell_types_dir / job.card.folder / CELL_TYPES_NAME


def cloupe_stage(plan: Plan, cell_types_dir: Path, cloupe: Path, programs_dir: Path | None, folder: Path) -> None:
    """Writes the .cloupe with each model's coarse types into `folder`, its UMAP if the run has no other, and alerts."""
    groups: dict[str, pd.Series] = {}
    for job in _done(plan, cell_types_dir):
        beta = _metrics(cell_types_dir, job).get("is_beta_model") is not False
        default = BETA_GROUP if beta else PLAIN_GROUP
        name = f"{job.card.folder} {default}" if groups else plan.cloupe_group_name or default
        table = read_cell_types(_table(cell_types_dir, job), ("barcode", "coarse_cell_type", "umi_count"))
        groups[name] = table.set_index("barcode")["coarse_cell_type"]
    programs, projection = find_programs(programs_dir), "projection" not in plan.beside
    alerts = annotate_cloupe(cloupe, groups, programs, folder, projection=projection)
    write_json(folder / ALERTS_NAME, [asdict(alert) for alert in alerts])


def _metrics(cell_types_dir: Path, job: Job) -> dict[str, Any]:
    return _read_json(cell_types_dir / job.card.folder / METRICS_NAME)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc


def place_stage(
    matrix_path: Path,
    plan: Plan,
    cell_types_dir: Path,
    beside: Mapping[str, Path],
    folder: Path,
    *,
    loupe: Path | None = None,
) -> None:
    """Writes places.h5 and, below `folder/cell_types`, the tissue files with each model's types.

    `loupe`: folder of the stage cloupe, which may hold a projection.
    """
    models = {}
    for job in _done(plan, cell_types_dir):
        path, target = _table(cell_types_dir, job), folder / "cell_types" / job.card.folder
        target.mkdir(parents=True, exist_ok=True)
        labels = models[target] = CellLabels.of(read_compact(path, of_labels=True))
        if len(labels.codes) != plan.matrix.n_cells:
            raise InputError(f"{path} has {len(labels.codes)} rows, but the plan has {plan.matrix.n_cells} cells.")
    files = planned_files(beside, plan.beside)
    if loupe is not None and (loupe / PROJECTION_NAME).is_file():
        files["loupe_projection"] = loupe / PROJECTION_NAME
    places = place(open_matrix(matrix_path, plan), models, files, folder)
    write_places(folder / PLACES_NAME, places)


def export_stage(
    matrix_path: Path,
    plan: Plan,
    cell_types_dir: Path,
    folder: Path,
    *,
    places_path: Path,
    beside: Mapping[str, Path],
) -> None:
    """Writes the sample with all its labels into `folder`, as .h5ad, as SpatialData, or both, as planned."""
    cells = LabelledCells.of(
        [(job.card, read_compact(_table(cell_types_dir, job))) for job in _done(plan, cell_types_dir)]
    )
    matrix, files = open_matrix(matrix_path, plan), planned_files(beside, plan.beside)
    views = _views(places_path, files)
    if plan.h5ad:
        export_h5ad(folder / H5AD_NAME, matrix, cells, views.places)
    if plan.spatialdata:
        export_spatialdata(
            folder / SPATIALDATA_NAME,
            matrix,
            cells,
            views,
            outlines={name: files[role] for name, role in OUTLINES.items() if role in files},
            spot_diameter=_factors(files).get("spot_diameter_fullres"),
        )


def report_stage(
    plan: Plan,
    cell_types_dir: Path,
    folder: Path,
    command_line: str,
    *,
    places_path: Path | None = None,
    beside: Mapping[str, Path] | None = None,
    loupe: Path | None = None,
) -> None:
    """Writes the page (unless skipped), the Loupe table, metrics and provenance into `folder`; figures as planned.

    The page shows where cells lie if `places_path` is given, over the tissue image that is `beside` the matrix, and
    the alerts of the stage cloupe if its folder is given.
    A cloud model that failed has no tables: the report is on the others, and says so.
    """
    inputs = []
    for job in _done(plan, cell_types_dir):
        metrics, table = _metrics(cell_types_dir, job), read_cell_types(_table(cell_types_dir, job))
        tested, told = (cell_types_dir / job.card.folder / name for name in (DIFFEXP_NAME, EVIDENCE_NAME))
        diffexp_found = read_diffexp(tested) if tested.is_file() else None
        inputs.append(ReportInput(job, table, metrics, diffexp_found, read_evidence(told) if told.is_file() else None))
    if not inputs:
        raise InputError(f"{cell_types_dir} holds no model's results: there is nothing to report.")
    views = _views(places_path, planned_files(beside or {}, plan.beside)) if places_path else Views()
    if plan.figures:
        colours = run_colours([model.cell_types for model in inputs])
        for model in inputs:
            figures = folder / "cell_types" / model.job.card.folder / FIGURES_NAME
            write_figures(figures, model.cell_types, views, colours)
    alerts = [] if loupe is None else [Alert(**alert) for alert in _read_json(loupe / ALERTS_NAME)]
    write_report(folder, report(plan, inputs, command_line=command_line, views=views, alerts=alerts))


def _views(places_path: Path, beside: Mapping[str, Path]) -> Views:
    factors = _factors(beside)
    for role in ("hires_image", "lowres_image"):
        scale = factors.get(f"tissue_{role.removesuffix('_image')}_scalef")
        if role in beside and scale:
            return Views(read_places(places_path), beside[role], scale, factors.get("microns_per_pixel"))
    return Views(read_places(places_path), microns_per_pixel=factors.get("microns_per_pixel"))


def _factors(beside: Mapping[str, Path]) -> dict[str, float]:
    return read_scalefactors(beside["scalefactors"]) if "scalefactors" in beside else {}


def cohort_stage(outs: Sequence[Path], folder: Path) -> None:
    """Writes the page and the table of many finished samples: their `outs` folders, or the runs' folders."""
    samples: dict[str, dict[str, Any]] = {}
    for path in outs:
        metrics = _sample_metrics(path)
        if metrics["id"] in samples:
            raise InputError(f"{path} is the second sample of the name {metrics['id']}. Each may be given once.")
        samples[metrics["id"]] = metrics
    ordered = [samples[name] for name in sorted(samples)]
    found = compositions(ordered)
    table = pd.concat([part.table() for part in found], ignore_index=True)
    write_parts(folder / COHORT_TABLE_NAME, [table])
    write_text(folder / COHORT_PAGE_NAME, render_cohort(cohort_data(ordered, found)))


def _sample_metrics(outs: Path) -> dict[str, Any]:
    path = next((p for p in (outs / SUMMARY_NAME, outs / "outs" / SUMMARY_NAME) if p.is_file()), None)
    if path is None:
        raise InputError(f"{outs} holds no {SUMMARY_NAME}: give outs folders of finished runs of cytonym.")
    metrics = _read_json(path)
    problem = first_problem(metrics, "metrics.schema.json")
    if problem or any("composition" not in model for model in metrics["models"].values()):
        raise InputError(f"{path} is not of this version of cytonym: {problem or 'a model tells no composition'}")
    return metrics
