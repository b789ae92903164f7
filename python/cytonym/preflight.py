"""Checks everything that can be checked before work starts, and decides what will run: a request becomes a Plan.

The order of the checks is Space Ranger's: token, models, group name, matrix, genomes, cloupe.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .backends.tenx_cloud import is_cloud
from .beside import check_beside, locate_beside
from .cloud import PREFLIGHT_PAUSE, check_model_name, check_sample, connect
from .cloud.token import read_token
from .cloud_access import cloud_client
from .cloupe import find_programs
from .errors import CytonymError, InputError, ModelError, UsageError
from .genomes import resolve_species
from .inputs import TENX, LocatedMatrix, as_tenx_h5, locate_matrix
from .io.bundle import BACKEND
from .io.files import sha256_of, write_json
from .io.loupe_programs import APPEND
from .io.tenx_h5 import TenxH5Source, open_tenx_h5
from .markers import as_rows, known_tissue, load_markers, user_markers
from .matrix import CountMatrix
from .models import jobs_for, models_home, named_models, take_fractions
from .schemas import first_problem
from .search.cas import FUSED
from .types import SKIPPABLE_STAGES, Alert, AnnotateRequest, Job, MatrixInfo, ModelCard, Partition, Plan
from .version import __version__

FEWEST_CELLS = 100
BARCODE_KINDS = {
    "cell": re.compile(r"cellid_\d{9}(-\d+)?"),
    "bin": re.compile(r"s_\d{3}um_\d{5}_\d{5}(-\d+)?"),
    "sequence": re.compile(r"[ACGT]{6,}(-\d+)?"),
}
CONVERTED_NAME = "matrix.h5"
PLAN_NAME = "plan.json"
VERSIONED_PACKAGES = ("numpy", "scipy", "pandas", "h5py", "scikit-learn")


def check_request(request: AnnotateRequest) -> None:
    """What the argument parser of the original checks: raises UsageError (exit code 2)."""
    if len(request.id.encode()) > 64 or not re.fullmatch(r"[A-Za-z0-9_-]+", request.id):
        raise UsageError(
            f"invalid value '{request.id}' for '--id <ID>': at most 64 letters, digits, underscores and hyphens"
        )
    for option, path in _named_files(request):
        if path is not None and not path.exists():
            raise UsageError(f"invalid value '{path}' for '{option}': no such file")
    if request.cloupe_group_name is not None and request.cloupe is None:
        raise UsageError("'--cloupe-group-name' needs '--cloupe <CLOUPE>' too")
    if request.markers_only and request.markers is None:
        raise UsageError("'--markers-only' needs '--markers <FILE>' too")
    unknown = [stage for stage in request.skip if stage not in SKIPPABLE_STAGES]
    if unknown:
        raise UsageError(
            f"invalid value '{unknown[0]}' for '--skip <STAGES>': {' and '.join(SKIPPABLE_STAGES)} can be left out"
        )


def _named_files(request: AnnotateRequest) -> tuple[tuple[str, Path | None], ...]:
    return (
        ("--matrix <MATRIX>", request.matrix),
        ("--cloupe <CLOUPE>", request.cloupe),
        ("--loupe-tools <DIR>", request.loupe_tools),
        ("--markers <FILE>", request.markers),
        ("--cell-segmentations <FILE>", request.cell_segmentations),
        ("--spatial <DIR>", request.spatial),
    )


def _check_extras(request: AnnotateRequest) -> None:
    """Whether the optional packages that the request needs are here."""
    needed = {
        "spatialdata": (request.spatialdata, "spatialdata"),
        "figures": (request.figures, "matplotlib"),
    }
    for extra, (wanted, package) in needed.items():
        if wanted and find_spec(package) is None:
            raise CytonymError(
                f"--{extra} needs the package {package}, which is not installed: pip install 'cytonym[{extra}]', "
                f"or go without --{extra}."
            )


def preflight(request: AnnotateRequest, folder: Path, *, beside: Mapping[str, Path] | None = None) -> Plan:
    """The plan of a good request, also written to `folder/plan.json`; with it `folder/matrix.h5` if one is needed.

    `beside`: the files beside the matrix by role, where the caller has found them; None: they are looked for.
    """
    check_request(request)
    _check_extras(request)
    models_dir, token_path = request.models_dir or models_home(), request.tenx_cloud_token_path
    named = named_models(request.cell_annotation_model, models_dir, with_token=token_path is not None)
    cloud = [model.card for model in named if is_cloud(model.card)]
    if cloud:
        _check_cloud(token_path, cloud)
    elif token_path is not None:
        read_token(token_path, {})
    fractions = take_fractions(named, models_dir)
    if request.cloupe_group_name is not None and not re.fullmatch(r"[A-Za-z0-9\s_-]*", request.cloupe_group_name):
        raise CytonymError(
            f"--cloupe-group-name '{request.cloupe_group_name}' has invalid characters: letters, digits, blanks, "
            "underscores and hyphens are allowed."
        )
    located = locate_matrix(request.matrix)
    matrix, info, alerts, notes = _read_matrix(located, request.genome, folder, fractions)
    jobs, model_notes = jobs_for(named, info.species, models_dir, matrix.features.names)
    if cloud:
        _check_cloud_sample(located, info)
    if request.scoring != FUSED and not any(job.card.backend == BACKEND for job in jobs):
        raise ModelError(
            f"--scoring {request.scoring} is for references. Name one with --cell-annotation-model, or leave it out."
        )
    jobs = tuple(_with_settings(job, request, info.species) for job in jobs)
    if info.fractional:
        alerts = (*alerts, _check_fractions(located.path, jobs))
    found = locate_beside(request, located) if beside is None else beside
    planned, beside_notes = check_beside(found, info.barcode_kind)
    _check_cloupe(request.cloupe, request.loupe_tools)
    plan = Plan(
        id=request.id,
        description=request.description,
        matrix=info,
        jobs=jobs,
        partitions=partitions(matrix.n_cells, request.partition_size),
        low_umi_threshold=0 if info.fractional else request.low_umi_threshold,
        skip=tuple(s for s in SKIPPABLE_STAGES if s in request.skip or (s == "diffexp" and info.fractional)),
        embeddings=request.embeddings,
        h5ad=request.h5ad,
        spatialdata=request.spatialdata,
        figures=request.figures,
        beside=planned,
        cloupe_group_name=request.cloupe_group_name,
        alerts=(*located.alerts, *alerts),
        notes=(*notes, *model_notes, *beside_notes, *_embeddings_notes(request, jobs)),
        versions=tool_versions(),
    )
    write_json(folder / PLAN_NAME, plan.to_json())
    return plan


def _with_settings(job: Job, request: AnnotateRequest, species: str) -> Job:
    """The job with what the request says to its model.

    To a reference how cells are compared with its own; to the marker model types and tissue, both checked.
    """
    if job.card.backend == BACKEND:
        told = {"evidence": request.evidence, "scoring": request.scoring, "embeddings": request.embeddings}
        return replace(job, settings=told)
    if job.card.backend != "markers" or (request.markers is None and request.tissue is None):
        return job
    table = load_markers(species)
    settings: dict[str, Any] = {}
    if request.markers is not None:
        table = user_markers(request.markers, species, only=request.markers_only)
        settings["markers"] = as_rows(table)
    if request.tissue is not None:
        settings["tissue"] = known_tissue(table, request.tissue)
    return replace(job, settings=settings)


def open_matrix(path: Path, plan: Plan) -> CountMatrix:
    """The planned sample's counts, for a stage: `path` is the user's matrix, or what preflight made of it."""
    source = open_tenx_h5(locate_matrix(path).path, fractions=plan.matrix.fractional)
    if source.n_cells != plan.matrix.n_cells:
        raise InputError(f"{path} holds {source.n_cells} cells, but the plan was made for {plan.matrix.n_cells}.")
    return CountMatrix.of(source, genome=plan.matrix.genome, species=plan.matrix.species, path=source.path)


def check_unchanged(path: Path, plan: Plan) -> None:
    """InputError if the user's matrix is no longer the one that the plan was made for."""
    if sha256_of(*locate_matrix(path).files) != plan.matrix.sha256:
        raise InputError(
            f"{path} has changed since this run began, so its finished stages are of another matrix. Delete the run's "
            "folder, or choose another --id or --output-dir."
        )


def read_plan(path: Path) -> Plan:
    """A plan from its file, checked against its schema."""
    import json

    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"{path} is not a plan of cytonym preflight: {exc}") from exc
    problem = first_problem(value, "plan.schema.json")
    if problem:
        raise InputError(f"{path} is not a plan of this version of cytonym: {problem}")
    return Plan.from_json(value)


def partitions(n_cells: int, size: int) -> tuple[Partition, ...]:
    """Ranges of `size` cells, the last one of what is left."""
    starts = range(0, n_cells, size)
    return tuple(Partition(index, start, min(start + size, n_cells)) for index, start in enumerate(starts))


def tool_versions() -> dict[str, str]:
    """Versions that decide the bytes of the results."""
    return {
        "cytonym": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONED_PACKAGES},
    }


def _check_cloud(token_path: Path | None, cards: Sequence[ModelCard]) -> None:
    """Whether 10x Cloud takes the token and has the models; nothing of the sample is sent."""
    client = cloud_client(token_path)
    connect(client, pause=PREFLIGHT_PAUSE)
    listed = client.models()
    for card in cards:
        check_model_name(card.name, listed)


def _check_cloud_sample(located: LocatedMatrix, info: MatrixInfo) -> None:
    """Whether 10x Cloud annotates such a sample: the file as it is, its genome, its number of cells."""
    if located.format != TENX:
        raise InputError(
            f"10x Cloud takes 10x HDF5 files, and {located.path} is of the format {located.format}. Give the "
            "filtered_feature_cell_matrix.h5, or leave --cell-annotation-model out for a local model."
        )
    check_sample(info.genome, info.n_cells, info.name)


def _check_cloupe(path: Path | None, programs: Path | None) -> None:
    if path is not None and path.suffix != ".cloupe":
        raise CytonymError(f"--cloupe {path} is not a Loupe file: its name must end in .cloupe.")
    if programs is not None and APPEND not in find_programs(programs):
        raise CytonymError(
            f"--loupe-tools {programs} holds no program {APPEND}. Give the folder of 10x Genomics' programs, e.g. "
            "lib/bin of Space Ranger, or leave the option out."
        )


def _embeddings_notes(request: AnnotateRequest, jobs: tuple[Job, ...]) -> tuple[str, ...]:
    without = [job.card.name for job in jobs if request.embeddings and not job.card.embedding_size]
    return tuple(f"{name} makes no embeddings; --embeddings is without effect on it." for name in without)


def _check_fractions(path: Path, jobs: tuple[Job, ...]) -> Alert:
    """What a reader must know of results without counts; InputError if a model needs counts."""
    for card in (job.card for job in jobs if not job.card.takes_normalised):
        raise InputError(
            f"{path} holds fractional values, not UMI counts, and {card.name} needs counts. Give raw counts."
        )
    message = (
        "The matrix holds values that are not whole numbers. There is no differential expression and no low-UMI rule, "
        "and umi_count is the sum of the values."
    )
    return Alert("WARN", "No UMI counts", message)


def _read_matrix(
    located: LocatedMatrix, genome: str | None, folder: Path, fractions: bool
) -> tuple[TenxH5Source, MatrixInfo, tuple[Alert, ...], tuple[str, ...]]:
    """The matrix as a checked 10x source, converted into `folder` if it is of another format."""
    path = located.path
    source, named, notes = as_tenx_h5(located, folder / CONVERTED_NAME, fractions=fractions)
    alerts = _check_cells(source, path)
    umis, n_nonzeros = source.check_counts()
    if not n_nonzeros:
        raise InputError(f"{path} holds no Gene Expression counts at all: every value is zero.")
    found, species, species_alerts = resolve_species(source.genomes, source.features, genome, path)
    kind = barcode_kind(source.read_barcodes(0, min(source.n_cells, FEWEST_CELLS)))
    info = MatrixInfo(
        name=path.name,
        format=named,
        sha256=sha256_of(*located.files),
        n_cells=source.n_cells,
        n_features=len(source.features),
        n_nonzeros=n_nonzeros,
        feature_types=source.feature_type_counts(),
        genome=found,
        species=species,
        chemistry=source.chemistry,
        barcode_kind=kind,
        median_umis=float(np.median(umis)),
        fractional=source.fractional,
        converted=located.format != TENX,
    )
    return source, info, (*alerts, *species_alerts, *_sample_alerts(info, located)), notes


def _check_cells(source: TenxH5Source, path: Path) -> tuple[Alert, ...]:
    if len(source.features) == 0:
        kinds = ", ".join(source.feature_type_counts()) or "nothing"
        raise InputError(f"{path} has no Gene Expression features (it holds {kinds}). Cell types need them.")
    if source.n_cells == 0:
        raise InputError(f"{path} holds no cells.")
    _no_repeats(source.all_features.ids, "feature id", path)
    _no_repeats(source.read_barcodes(0, source.n_cells), "barcode", path)
    if source.n_cells >= FEWEST_CELLS:
        return ()
    message = f"The sample has {source.n_cells} cells; under {FEWEST_CELLS}, labels rest on little evidence."
    return (Alert("WARN", "Few cells", message),)


def _no_repeats(values: np.ndarray, what: str, path: Path) -> None:
    ordered = np.sort(values)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise InputError(
            f"{path} lists the {what} '{repeated[0]}' more than once ({len(repeated)} repeats in all). "
            "Each may stand once."
        )


def barcode_kind(barcodes: Iterable[str]) -> str:
    """ "cell", "bin" or "sequence" when all barcodes are of that kind, else "other"."""
    barcodes = list(barcodes)
    for kind, pattern in BARCODE_KINDS.items():
        if all(pattern.fullmatch(barcode) for barcode in barcodes):
            return kind
    return "other"


def _sample_alerts(info: MatrixInfo, located: LocatedMatrix) -> list[Alert]:
    alerts = []
    if info.barcode_kind == "bin" and not located.alerts:
        message = "The barcodes are of bins. Models are made for cells: use the segmented matrix where there is one."
        alerts.append(Alert("WARN", "Bins instead of cells", message))
    if info.chemistry and not info.chemistry.startswith("Visium HD"):
        message = (
            f"The chemistry is '{info.chemistry}', while Space Ranger annotates Visium HD only. "
            "The labels are as good as the sample's genes and depth allow."
        )
        alerts.append(Alert("WARN", "Not a Visium HD sample", message))
    return alerts
