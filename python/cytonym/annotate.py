"""The main job: a matrix in, Space Ranger's cell type files out. The whole line of the data is on this screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .backends.tenx_cloud import is_cloud
from .beside import locate_beside, planned_files
from .cloupe import CLOUPE_NAME
from .consensus import CARD as CONSENSUS
from .errors import CloudError, CytonymError, ModelError, TokenError
from .inputs import locate_matrix
from .io.files import write_text
from .models import bundles_among, models_home
from .preflight import CONVERTED_NAME, PLAN_NAME, check_unchanged, preflight, read_plan, tool_versions
from .progress import LOGGER
from .report import METRICS_NAME as SUMMARY_NAME
from .results import AnnotateResult, read_outs
from .run import RunFolder, run_folder
from .stages import (
    ALERTS_NAME,
    CELL_TYPES_NAME,
    DIFFEXP_NAME,
    EMBEDDINGS_NAME,
    EVIDENCE_NAME,
    H5AD_NAME,
    NEIGHBOURS_NAME,
    PLACES_NAME,
    RESULTS_NAME,
    assign_stage,
    classify_stage,
    cloupe_stage,
    consensus_stage,
    diffexp_stage,
    export_stage,
    fit_stage,
    place_stage,
    report_stage,
)
from .types import AnnotateRequest, Job, Plan

GB_BESIDE_THREADS, GB_PER_THREAD = 1.5, 0.5
TABLE_NAMES = (CELL_TYPES_NAME, DIFFEXP_NAME, EMBEDDINGS_NAME, EVIDENCE_NAME, NEIGHBOURS_NAME, RESULTS_NAME)
SHOWING = ("cloupe", "place", "export", "report")  # the stages on all models together
CLOUD_FAILURES = (CloudError, TokenError, ModelError)  # what preflight let pass, and the service then refused


def annotate(request: AnnotateRequest, *, command_line: str = "NA") -> AnnotateResult:
    """Runs the request in its folder, going on where an earlier run of it stopped; raises CytonymError.

    `command_line` is what `_cmdline`, the page and the provenance show. When 10x Cloud fails, what local models found
    is in outs/ before the error is raised.
    """
    request = absolute(request)
    with run_folder(request, command_line, tool_versions(), lambda folder: preflight(request, folder)) as run:
        plan = read_plan(run.stages / PLAN_NAME)
        announce(plan)
        if run.resumed:
            check_unchanged(request.matrix, plan)
        matrix = run.stages / CONVERTED_NAME if plan.matrix.converted else request.matrix
        done: list[Path] = []
        failure: CytonymError | None = None
        for job in plan.jobs:  # those of the cloud come last
            try:
                done.append(_annotate_with(job, request, matrix, plan, run))
            except CLOUD_FAILURES as exc:
                if not is_cloud(job.card):
                    raise
                failure = exc
        if failure is not None and not done:
            raise failure
        _show(request, matrix, plan, run, command_line, [folder.name for folder in done])
        agreed = [run.stages / "cell_types" / CONSENSUS.folder] if len(done) > 1 else []
        run.publish(_published(run, [*done, *agreed]), finished=failure is None)
        if failure is not None:
            LOGGER.info("What the other models found is in %s", run.outs)
            raise failure
    return read_outs(run.outs, plan)


def _annotate_with(job: Job, request: AnnotateRequest, matrix: Path, plan: Plan, run: RunFolder) -> Path:
    """One model's stages; the folder of its tables."""
    threads, models_dir = threads_of(request), request.models_dir or models_home()
    model, work, found = job.card.name, run.stages / job.card.name, run.stages / "cell_types" / job.card.folder
    fitted, table, tested = work / "fitted.h5", found / CELL_TYPES_NAME, found / DIFFEXP_NAME
    parts = [work / f"predictions-{partition.index:05d}.h5" for partition in plan.partitions]
    token, record = request.tenx_cloud_token_path, work / "cloud"
    bundles = bundles_among(request.cell_annotation_model, models_dir)
    run.stage(f"fit {model}", fitted, fit_stage, matrix, plan, model, models_dir, fitted, token, record, bundles)
    for index, part in enumerate(parts):
        name = f"classify {model} {index + 1}/{len(parts)}"
        run.stage(
            name,
            part,
            classify_stage,
            *(matrix, plan, model, fitted, index, part),
            threads=threads,
            models_dir=models_dir,
            bundles=bundles,
        )
    run.stage(f"assign {model}", table, assign_stage, plan, model, fitted, parts, found)
    if "diffexp" not in plan.skip:
        run.stage(f"diffexp {model}", tested, diffexp_stage, matrix, plan, table, tested, threads=threads)
    return found


def _show(
    request: AnnotateRequest, matrix: Path, plan: Plan, run: RunFolder, command_line: str, done: Sequence[str]
) -> None:
    """The stages on the models that are done together: Loupe file, places, the annotated matrix, the report."""
    beside = planned_files(locate_beside(request, locate_matrix(request.matrix)), plan.beside)
    tables, shown = run.stages / "cell_types", run.stages / "shown.txt"
    if shown.is_file() and shown.read_text(encoding="utf-8").split("\n") != done:
        for name in SHOWING:  # of a run that the cloud failed on and that went on
            shutil.rmtree(run.stages / name, ignore_errors=True)
        shutil.rmtree(tables / CONSENSUS.folder, ignore_errors=True)
    write_text(shown, "\n".join(done))
    loupe, placed, exported, summary = (run.stages / name for name in SHOWING)
    places, h5ad, metrics = placed / PLACES_NAME, exported / H5AD_NAME, summary / SUMMARY_NAME
    told = None if request.cloupe is None else loupe
    if len(done) > 1:
        _agree(request, matrix, plan, run, tables)
    if request.cloupe is not None:
        run.stage("cloupe", loupe / ALERTS_NAME, cloupe_stage, plan, tables, request.cloupe, request.loupe_tools, loupe)
    run.stage("place", places, place_stage, matrix, plan, tables, beside, placed, loupe=told)
    if plan.h5ad or plan.spatialdata:
        run.stage("export", h5ad, export_stage, matrix, plan, tables, exported, places_path=places, beside=beside)
    run.stage(
        "report",
        metrics,
        report_stage,
        plan,
        tables,
        summary,
        command_line,
        places_path=places,
        beside=beside,
        loupe=told,
    )


def _agree(request: AnnotateRequest, matrix: Path, plan: Plan, run: RunFolder, tables: Path) -> None:
    """The consensus of several models, and its differential expression."""
    found = tables / CONSENSUS.folder
    table, tested = found / CELL_TYPES_NAME, found / DIFFEXP_NAME
    run.stage("consensus", table, consensus_stage, plan, tables, found)
    if "diffexp" not in plan.skip:
        run.stage("diffexp consensus", tested, diffexp_stage, matrix, plan, table, tested, threads=threads_of(request))


def absolute(request: AnnotateRequest) -> AnnotateRequest:
    """The same request with every path absolute, resolved against the caller's folder."""
    paths = {name: value.absolute() for name, value in vars(request).items() if isinstance(value, Path)}
    return AnnotateRequest(**{**vars(request), **paths})


def threads_of(request: AnnotateRequest) -> int:
    """Threads over blocks: --localcores, or all cores of this process, as far as --localmem (GB) bears them."""
    cores = request.localcores or len(os.sched_getaffinity(0))
    if request.localmem is None:
        return cores
    return max(1, min(cores, int((request.localmem - GB_BESIDE_THREADS) / GB_PER_THREAD)))


def announce(plan: Plan) -> None:
    """Says once what will run, and what a reader should know of the sample."""
    info = plan.matrix
    size = f"{info.n_cells:,} cells, {info.n_features:,} genes"
    LOGGER.info("%s: %s, %s (%s)", info.name, size, info.species, info.genome or "no genome named")
    for note in plan.notes:
        LOGGER.info(note)
    for alert in plan.alerts:
        LOGGER.warning("%s: %s", alert.title, alert.message)


def _published(run: RunFolder, folders: Sequence[Path]) -> dict[Path, Path]:
    """Stage files and their places under outs/; `folders` are those of the tables."""
    found = sorted(path for folder in folders for path in folder.iterdir())
    tables = {path: path.relative_to(run.stages) for path in found if path.name in TABLE_NAMES}
    shown = {
        path: path.relative_to(run.stages / stage)
        for stage, pattern in (("place", "*/*/*"), ("export", "**/*"), ("report", "**/*"), ("cloupe", CLOUPE_NAME))
        for path in sorted((run.stages / stage).glob(pattern))
        if path.is_file() and path.suffix != ".done"
    }
    return tables | shown
