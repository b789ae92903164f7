"""The command line: it translates arguments, calls a stage or the main job, and prints errors. Nothing else exits."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from . import cli_reference, demo, demo_outs, stages, validate
from .annotate import absolute, annotate, announce, threads_of
from .azimuth.published import RECORD
from .cloud import auth
from .cloud_access import home_folder
from .cloupe import BETA_GROUP
from .errors import CytonymError, InputError, UsageError
from .install import InstallRequest, install, install_bundle
from .io.files import output_error, write_json
from .io.model_store import is_model_folder, remove_model, verified_sha256
from .markers import read_markers, user_markers
from .models import AZIMUTH, available_models, embedded_models, find_model, models_home
from .preflight import check_request, preflight, read_plan
from .progress import LOGGER
from .run import check_folder
from .search.cas import SCORINGS
from .search.neighbours import EVIDENCE_KINDS
from .types import LOW_UMI_THRESHOLD, SKIPPABLE_STAGES, SPECIES, AnnotateRequest, Model
from .version import __version__

INTERRUPTED = 130
TOKEN_HELP = "10x Cloud token file; only cloud models need one [default: as 'cytonym cloud auth setup' stored it]"
MODELS_DIR_HELP = "folder of installed models [default: $CYTONYM_HOME/models]"
CLOUPE_HELP = ".cloupe file of the sample: outs/ gets it with its cell types, given 10x Genomics' programs for it"
LOUPE_TOOLS_HELP = "folder of those programs, e.g. lib/bin of Space Ranger [default: those on PATH]"
# of the Martian runner: taken, and without meaning here
IGNORED_VALUES = ("jobmode", "localvmem", "mempercore", "maxjobs", "jobinterval", "overrides", "vdrmode", "uiport")
IGNORED_FLAGS = ("disable-ui", "noexit", "nopreflight")
IGNORED_NUMBERS = ("localvmem", "mempercore", "maxjobs", "jobinterval", "uiport")

DESCRIPTION = "Name the cell types of Visium HD and single-cell samples, offline."
EPILOG = """exit codes:
  0  done                              4  the model is unknown or not available
  1  the run cannot go on              5  the output cannot be written
  2  the command line is wrong         6  10x Cloud failed
  3  the matrix, table or sheet cannot be used
  130  interrupted; the same command goes on where it stopped"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        sys.exit(run(arguments))
    except UsageError as exc:
        print(f"error: {exc}\n\nFor more information, try '--help'.", file=sys.stderr)
        sys.exit(exc.exit_code)
    except CytonymError as exc:
        print(f"ERROR: {exc}", file=sys.stderr)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        print("ERROR: interrupted. The same command goes on where it stopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except MemoryError:
        print("ERROR: out of memory. Give the job more, or fewer --localcores.", file=sys.stderr)
        sys.exit(CytonymError.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CytonymError.exit_code)


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    _log_to_terminal()
    options.command_line = shlex.join(["cytonym", *arguments])
    options.command(options)
    return 0


def parser() -> argparse.ArgumentParser:
    """The whole command tree; the packaging tests read the options from it."""
    top = _Parser("cytonym", description=DESCRIPTION, epilog=EPILOG)
    top.add_argument("-V", "--version", action="version", version=f"cytonym {__version__}")
    commands = top.add_subparsers(title="commands", metavar="<COMMAND>", required=True, parser_class=_Parser)

    main_job = commands.add_parser(
        "annotate", help="annotate one sample: the main job", description=ANNOTATE, epilog=EPILOG
    )
    main_job.usage = "cytonym annotate [OPTIONS] --id ID --matrix MATRIX"
    _annotate_options(main_job)
    _runner_options(main_job)
    main_job.set_defaults(command=_annotate)

    _models_commands(commands)
    _markers_commands(commands)
    cli_reference.add_commands(commands, _Parser, _models_dir)

    making = commands.add_parser("demo", help="make a small tissue sample and annotate it", description=DEMO)
    making.add_argument(
        "--output-dir", metavar="DIR", type=Path, default=Path("demo"), help="folder to make [default: demo]"
    )
    making.add_argument("--cells", metavar="NUM", type=_count, default=3000, help="cells of the sample [default: 3000]")
    making.add_argument("--seed", metavar="NUM", type=_count, default=0, help="seed of the sample [default: 0]")
    making.add_argument("--spatial", action="store_true", help="make a whole Visium HD outs folder, with cell outlines")
    making.add_argument("--make-only", action="store_true", help="make the sample and stop")
    making.set_defaults(command=_demo)

    comparing = commands.add_parser(
        "cohort", help="compare finished samples: one page and one table", description=COHORT
    )
    comparing.add_argument("outs", metavar="OUTS", type=Path, nargs="+", help="outs folder of a sample, or its run's")
    comparing.add_argument("--output", metavar="DIR", type=Path, required=True, help="folder of the two files")
    comparing.set_defaults(command=_cohort)

    _cloud_commands(commands)
    _stage_commands(commands)
    return top


def _models_commands(commands: Any) -> None:
    models = commands.add_parser("models", help="list, install and remove models", description="Models that can run.")
    actions = models.add_subparsers(title="commands", metavar="<COMMAND>", required=True, parser_class=_Parser)

    def action(name: str, text: str, command: Any, *, named: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if named:
            of_folder = "; a folder that 'cytonym reference build' made" if name == "install" else ""
            made.add_argument("name", metavar="NAME", help=f"name of the model, e.g. {AZIMUTH}{of_folder}")
        made.add_argument("--models-dir", metavar="DIR", type=Path, help=MODELS_DIR_HELP)
        made.set_defaults(command=command)
        return made

    action("list", "list the models that can run", _models_list, named=False)
    action("info", "show a model's version, licence and checksums", _models_info)
    action("remove", "delete an installed model", _models_remove)
    installing = action("install", "install a model from files, or download it", _models_install)
    add = installing.add_argument
    add("--weights", metavar="FILE", type=Path, help="its .keras file [default: downloaded, by its DOI]")
    add(
        "--tables",
        metavar="PATH",
        type=Path,
        help="its tables: the wheel of panhumanpy, zipped or unpacked, or a folder of it [default: downloaded, by pip]",
    )
    add("--model-version", metavar="NAME", help="v0 or v1 [default: told by the weights; v1 where they are downloaded]")


def _markers_commands(commands: Any) -> None:
    markers = commands.add_parser("markers", help="check a marker table", description="Tables of marker genes.")
    actions = markers.add_subparsers(title="commands", metavar="<COMMAND>", required=True, parser_class=_Parser)
    text = "check a table for --markers"
    checking = actions.add_parser("validate", help=text, description=f"{text[0].upper()}{text[1:]}.")
    checking.add_argument("file", metavar="FILE", type=Path, help="tab-separated; its columns: docs/models/markers.md")
    checking.add_argument("--species", choices=SPECIES, default="human", help="of the genes [default: human]")
    checking.add_argument("--only", action="store_true", help="the table shall stand alone, as with --markers-only")
    checking.set_defaults(command=_markers_validate)


def _markers_validate(options: argparse.Namespace) -> None:
    table = user_markers(options.file, options.species, only=options.only)
    own = read_markers(options.file, options.species, alone=False)
    unknown = sorted(set(own.genes) - set(own.gene_ids))
    print(f"{options.file}: {len(own.types)} cell types, {len(own.genes)} genes; the model then has {len(table.types)}")
    if unknown:
        print(f"Without a known {options.species} Ensembl id, joined by symbol alone: {', '.join(unknown)}")


def _annotate_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--id",
        metavar="ID",
        required=True,
        help="name of the run and of its folder: letters, digits, _ and -, at most 64",
    )
    add("--description", metavar="TEXT", default="", help="text shown on the page")
    add(
        "--matrix",
        metavar="MATRIX",
        type=Path,
        required=True,
        help="filtered_feature_cell_matrix.h5; also a MEX folder, an .h5ad file, or a Space Ranger outs folder",
    )
    add(
        "--cell-annotation-model",
        metavar="NAME",
        action=_WithCommas,
        help="model, or several with commas, each into its own folder; see 'cytonym models list'; or the folder of a "
        "reference that 'cytonym reference build' made. "
        "When none is named, a local model runs and nothing leaves this machine",
    )
    add("--tenx-cloud-token-path", metavar="PATH", type=Path, help=TOKEN_HELP)
    add("--cloupe", metavar="CLOUPE", type=Path, help=CLOUPE_HELP)
    add(
        "--cloupe-group-name",
        metavar="TEXT",
        help=f"name of the cell type group in Loupe Browser; needs --cloupe [default: {BETA_GROUP}]",
    )
    add("--loupe-tools", metavar="DIR", type=Path, help=LOUPE_TOOLS_HELP)
    add(
        "--genome",
        metavar="NAME",
        help="genome of the sample, e.g. GRCh38 or GRCm39; settles the species of any format",
    )
    add(
        "--low-umi-threshold",
        metavar="NUM",
        type=_count,
        default=LOW_UMI_THRESHOLD,
        help=f"cells with fewer UMIs get the coarse type 'Low UMI Barcode' [default: {LOW_UMI_THRESHOLD}]",
    )
    add("--skip", metavar="STAGES", type=_names, default=(), help=f"leave out stages: {', '.join(SKIPPABLE_STAGES)}")
    add("--embeddings", action="store_true", help="write the embeddings, too, of models that have them")
    add(
        "--markers",
        metavar="FILE",
        type=Path,
        help="table of your own cell types for the marker model: they join its types, or replace those of the same "
        "name; see 'cytonym markers validate'",
    )
    add("--markers-only", action="store_true", help="use the types of --markers alone")
    add("--tissue", metavar="NAME", help="tissue of the sample, a hint for the marker model, e.g. lung")
    add(
        "--evidence",
        choices=EVIDENCE_KINDS,
        default=AnnotateRequest.evidence,
        help="of a reference: sum up each cell's neighbours among its cells, write the neighbours, too, or neither "
        f"[default: {AnnotateRequest.evidence}]",
    )
    add(
        "--scoring",
        choices=SCORINGS,
        default=AnnotateRequest.scoring,
        help="of a reference: its own model, or neighbours alone in the manner of Cellarium CAS "
        f"[default: {AnnotateRequest.scoring}]",
    )
    add(
        "--cell-segmentations",
        metavar="FILE",
        type=Path,
        help="GeoJSON of the cells' outlines [default: that of the Space Ranger folder that the matrix lies in]",
    )
    add(
        "--spatial",
        metavar="DIR",
        type=Path,
        help="Space Ranger's folder 'spatial': tissue image, scale factors [default: the one beside the matrix]",
    )
    add("--h5ad", action="store_true", help="write annotated.h5ad, too: counts, labels and places for scanpy")
    add(
        "--spatialdata",
        action="store_true",
        help="write annotated.zarr, too, for SpatialData: the same, outlines and tissue image",
    )
    add("--figures", action="store_true", help="write figures for a paper, too, as SVG and PNG, of each model")
    add("--models-dir", metavar="DIR", type=Path, help=MODELS_DIR_HELP)
    add(
        "--partition-size",
        metavar="NUM",
        type=_positive,
        default=AnnotateRequest.partition_size,
        help=f"cells classified at a time; never changes a result [default: {AnnotateRequest.partition_size}]",
    )


def _runner_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument_group("running").add_argument
    add("--output-dir", metavar="PATH", type=Path, help="folder of the run [default: <ID> in the current folder]")
    add("--localcores", metavar="NUM", type=_positive, help="threads [default: all cores]")
    add("--localmem", metavar="NUM", type=_positive, help="memory in GB, which limits the threads [default: no limit]")
    add("--dry", action="store_true", help="check the input, print what would run, and stop")
    ignored = command.add_argument_group(
        "accepted and ignored", "Options of Space Ranger's runner, without meaning here."
    )
    for name in IGNORED_VALUES:
        ignored.add_argument(f"--{name}", type=_count if name in IGNORED_NUMBERS else str, metavar="VALUE")
    for name in IGNORED_FLAGS:
        ignored.add_argument(f"--{name}", action="store_true")


def _cloud_commands(commands: Any) -> None:
    """The user's 10x Cloud account; nothing of a sample is sent by these."""

    def group(parent: Any, name: str, text: str) -> Any:
        command = parent.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        return command.add_subparsers(title="commands", metavar="<COMMAND>", required=True, parser_class=_Parser)

    def action(parent: Any, name: str, text: str, answer: Callable[[argparse.Namespace], str]) -> None:
        command = parent.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(command=lambda options: print(answer(options)))
        if name in ("verify", "models"):
            command.add_argument("--tenx-cloud-token-path", metavar="PATH", type=Path, help="10x Cloud token file")

    def places() -> dict[str, Path]:
        return {"home": home_folder(), "folder": Path.cwd()}

    cloud = group(commands, "cloud", "10x Cloud: token and models")
    token = group(cloud, "auth", "the token of your 10x Cloud account")
    action(
        token, "setup", "store a token, typed or from standard input", lambda _: auth.set_up(os.environ, home_folder())
    )
    action(
        token,
        "verify",
        "ask 10x Cloud whether it takes the token",
        lambda options: auth.verify(options.tenx_cloud_token_path, os.environ, **places()),
    )
    action(token, "logout", "remove the stored token", lambda _: auth.log_out(home_folder()))
    action(
        group(cloud, "annotation", "cell annotation by 10x Cloud"),
        "models",
        "list the models of 10x Cloud",
        lambda options: auth.list_models(options.tenx_cloud_token_path, os.environ, **places()),
    )


def _stage_commands(commands: Any) -> None:
    """The stages one by one, as Nextflow runs them."""

    def stage(name: str, text: str, *options: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=f"stage: {text}", description=f"Stage: {text}.")
        for option in options:
            command.add_argument(
                f"--{option}",
                metavar="PATH" if option != "model" else "NAME",
                required=True,
                type=str if option == "model" else Path,
            )
        return command

    checking = stage("validate", "check parameters and sample sheet", "params", "output")
    checking.add_argument("--sheet", metavar="PATH", type=Path)
    checking.add_argument("--sheet-name", metavar="NAME", help="how messages call the sheet [default: its file name]")
    checking.set_defaults(command=_validate)

    planning = stage("preflight", "check the request and write plan.json", "output-dir")
    _annotate_options(planning)
    _beside_option(planning)
    planning.set_defaults(command=_preflight)

    fitting = stage("fit", "learn from the sample what a model needs", "matrix", "plan", "model", "output")
    fitting.add_argument("--models-dir", metavar="DIR", type=Path, help=MODELS_DIR_HELP)
    _bundle_option(fitting)
    fitting.add_argument("--tenx-cloud-token-path", metavar="PATH", type=Path, help=TOKEN_HELP)
    fitting.add_argument(
        "--cloud-record",
        metavar="DIR",
        type=Path,
        help="where a cloud model keeps how far it has come, for the next try [default: cloud, beside the output]",
    )
    fitting.set_defaults(command=_fit)

    classifying = stage("classify", "label one partition of the cells", "matrix", "plan", "model", "fitted", "output")
    classifying.add_argument("--partition", metavar="NUM", type=_count, required=True)
    classifying.add_argument("--models-dir", metavar="DIR", type=Path, help=MODELS_DIR_HELP)
    _bundle_option(classifying)
    _threads_option(classifying)
    classifying.set_defaults(command=_classify)

    assigning = stage("assign", "gather the parts into cell_types.csv", "plan", "model", "fitted", "output-dir")
    parts = assigning.add_mutually_exclusive_group(required=True)
    parts.add_argument("--predictions", metavar="PATH", type=Path, nargs="+")
    parts.add_argument("--predictions-list", metavar="PATH", type=Path, help="a file with one path a line")
    assigning.set_defaults(command=_assign)

    testing = stage("diffexp", "test each type against all other cells", "matrix", "plan", "cell-types", "output")
    _threads_option(testing)
    testing.set_defaults(command=_diffexp)

    loupe = stage("cloupe", "add the types to the .cloupe file", "plan", "cell-types-dir", "cloupe", "output-dir")
    loupe.add_argument("--loupe-tools", metavar="DIR", type=Path, help=LOUPE_TOOLS_HELP)
    loupe.set_defaults(command=_cloupe)

    agreeing = stage("consensus", "find what several models say together", "plan", "cell-types-dir", "output-dir")
    agreeing.set_defaults(command=_consensus)

    placing = stage(
        "place", "find where cells lie and put types on the tissue", "matrix", "plan", "cell-types-dir", "output-dir"
    )
    _beside_option(placing)
    _loupe_option(placing)
    placing.set_defaults(command=_place)

    exporting = stage(
        "export",
        "write the sample with its labels as .h5ad or SpatialData",
        *("matrix", "plan", "cell-types-dir", "places", "output-dir"),
    )
    _beside_option(exporting)
    exporting.set_defaults(command=_export)

    reporting = stage("report", "write the page and the sample's summary files", "plan", "cell-types-dir", "output-dir")
    reporting.add_argument("--cmdline", metavar="TEXT", default="NA", help="command line to show [default: NA]")
    reporting.add_argument("--places", metavar="PATH", type=Path, help="places.h5 of the stage place")
    _beside_option(reporting)
    _loupe_option(reporting)
    reporting.set_defaults(command=_report)


def _beside_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--beside",
        metavar="ROLE=PATH",
        type=_role_and_path,
        action="append",
        help="a file beside the matrix, e.g. cell_segmentations=PATH; several times [preflight's default: looked for]",
    )


def _loupe_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--loupe", metavar="PATH", type=Path, help="folder that the stage cloupe wrote")


def _bundle_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bundle",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="folder of a reference that the plan may mean; several times",
    )


def _threads_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads", metavar="NUM", type=_positive, default=1, help="never changes a result [default: 1]"
    )


def _request(options: argparse.Namespace) -> AnnotateRequest:
    fields = {name: value for name, value in vars(options).items() if name in AnnotateRequest.__dataclass_fields__}
    return absolute(AnnotateRequest(**fields))


def _annotate(options: argparse.Namespace) -> None:
    request = _request(options)
    check_request(request)
    ignored = [
        f"--{n}"
        for n in (*IGNORED_VALUES, *IGNORED_FLAGS)
        if getattr(options, n.replace("-", "_")) not in (None, False)
    ]
    if ignored:
        LOGGER.info("No meaning here, ignored: %s", ", ".join(ignored))
    if options.dry:
        _dry(request, options.command_line)
        return
    result = annotate(request, command_line=options.command_line)
    print("\nOutputs:")
    for path in sorted(path for path in result.outs.rglob("*") if path.is_file() or path.suffix == ".zarr"):
        if not any(folder.suffix == ".zarr" for folder in path.parents):
            print(f"- {path}")
    alerts = result.metrics["alerts"]
    print("\nAlerts:" if alerts else "\nAlerts: none")
    for alert in alerts:
        print(f"- {alert['level']} {alert['title']}: {alert['message']}")
    print("\nDone.")


def _dry(request: AnnotateRequest, command_line: str) -> None:
    check_folder(request)
    with tempfile.TemporaryDirectory(prefix="cytonym-dry-") as folder:
        plan = preflight(request, Path(folder))
    announce(plan)
    print("Dry Run Mode\n")
    print(command_line)
    print(f"Folder: {request.pipestance}")
    for job in plan.jobs:
        print(f"Model: {job.card.name} ({job.card.title}) -> outs/cell_types/{job.card.folder}")
    print(f"Cells: {plan.matrix.n_cells}, in {len(plan.partitions)} partition(s), {threads_of(request)} thread(s)")


def _models_list(options: argparse.Namespace) -> None:
    models = available_models(_models_dir(options))
    lines = [
        (name, "/".join(m.card.species), m.card.version, m.card.title, "installed" if m.folder else "embedded")
        for name, m in models.items()
    ]
    if AZIMUTH not in models:
        lines.append((AZIMUTH, "human", "", "Pan-Human Azimuth", f"not installed: cytonym models install {AZIMUTH}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _models_info(options: argparse.Namespace) -> None:
    _print_model(find_model(options.name, _models_dir(options)))


def _models_install(options: argparse.Namespace) -> None:
    if is_model_folder(Path(options.name)):
        cli_reference.print_reference(install_bundle(Path(options.name), _models_dir(options)))
        return
    _print_model(
        install(
            InstallRequest(
                name=options.name,
                models_dir=_models_dir(options),
                weights=options.weights,
                tables=options.tables,
                version=options.model_version,
                record_url=RECORD,
            )
        )
    )


def _models_remove(options: argparse.Namespace) -> None:
    remove_model(_models_dir(options), options.name)
    print(f"Removed {options.name}.")


def _models_dir(options: argparse.Namespace) -> Path:
    return (options.models_dir or models_home()).absolute()


def _print_model(model: Model) -> None:
    card = model.card
    rows = {
        "Name": card.name,
        "Title": card.title,
        "Version": card.version,
        "Species": " and ".join(card.species),
        "Licence": card.licence,
        "DOI": card.doi,
        "Folder": str(model.folder or ""),
        "SHA-256": verified_sha256(model),
    }
    for name, text in rows.items():
        if text:
            print(f"{name + ':':<9} {text}")
    for source in card.sources:
        print(f"  {source.sha256[:16]}  {source.known_as or 'unknown checksum':<33}  {source.name}")


def _demo(options: argparse.Namespace) -> None:
    folder = options.output_dir.absolute()
    matrix = folder / ("outs" if options.spatial else "filtered_feature_cell_matrix.h5")
    _make_folder(folder)
    if options.spatial:
        truth = demo_outs.make_outs(matrix, n_cells=options.cells, seed=options.seed)
    else:
        truth = demo.make_tissue(matrix, n_cells=options.cells, seed=options.seed)
    truth.to_csv(folder / "truth.csv", index=False)
    LOGGER.info("made %s", matrix)
    if options.make_only:
        return
    arguments = ["annotate", "--id=demo", f"--matrix={matrix}", f"--output-dir={folder / 'run'}"]
    run([*arguments, "--description=A made tissue: its figures say nothing about accuracy"])
    print(f"\nLook at {folder / 'run' / 'outs' / 'web_summary_cell_types.html'}")


def _cohort(options: argparse.Namespace) -> None:
    _make_folder(options.output)
    stages.cohort_stage(options.outs, options.output)
    print(f"Look at {options.output / stages.COHORT_PAGE_NAME}")


def _validate(options: argparse.Namespace) -> None:
    text = sys.stdin.read() if str(options.params) == "-" else options.params.read_text(encoding="utf-8")
    try:
        params = json.loads(text)
    except ValueError as exc:
        raise InputError(f"The parameters are not JSON: {exc}") from exc
    name = options.sheet_name or (options.sheet.name if options.sheet else "")
    samples = validate.run(params, options.sheet, name)
    known = {
        "inside": list(validate.IN_SPACERANGER_DIR),
        "beside": validate.BESIDE,
        "embedded": list(embedded_models()),
    }
    write_json(options.output, [known | sample for sample in samples])


def _preflight(options: argparse.Namespace) -> None:
    request, folder = _request(options), options.output_dir
    check_request(request)
    _make_folder(folder)
    announce(preflight(request, folder, beside=None if options.beside is None else dict(options.beside)))


def _fit(options: argparse.Namespace) -> None:
    paths = (options.matrix, read_plan(options.plan), options.model, _models_dir(options), options.output)
    record = options.cloud_record or options.output.parent / "cloud"
    stages.fit_stage(*paths, options.tenx_cloud_token_path, record, options.bundle)


def _classify(options: argparse.Namespace) -> None:
    plan, threads = read_plan(options.plan), options.threads
    paths = (options.matrix, plan, options.model, options.fitted, options.partition, options.output)
    stages.classify_stage(*paths, threads=threads, models_dir=_models_dir(options), bundles=options.bundle)


def _assign(options: argparse.Namespace) -> None:
    listed = options.predictions_list
    parts = [Path(line) for line in listed.read_text(encoding="utf-8").splitlines()] if listed else options.predictions
    _make_folder(options.output_dir)
    stages.assign_stage(read_plan(options.plan), options.model, options.fitted, parts, options.output_dir)


def _diffexp(options: argparse.Namespace) -> None:
    plan, threads = read_plan(options.plan), options.threads
    if not stages.diffexp_stage(options.matrix, plan, options.cell_types, options.output, threads=threads):
        LOGGER.info("Fewer than two groups of cells: no differential expression.")


def _cloupe(options: argparse.Namespace) -> None:
    _make_folder(options.output_dir)
    paths = (options.cell_types_dir, options.cloupe, options.loupe_tools, options.output_dir)
    stages.cloupe_stage(read_plan(options.plan), *paths)


def _consensus(options: argparse.Namespace) -> None:
    _make_folder(options.output_dir)
    if not stages.consensus_stage(read_plan(options.plan), options.cell_types_dir, options.output_dir):
        LOGGER.info("Fewer than two models have labels: there is nothing to compare.")


def _place(options: argparse.Namespace) -> None:
    _make_folder(options.output_dir)
    plan, beside = read_plan(options.plan), dict(options.beside or ())
    folders = (options.cell_types_dir, beside, options.output_dir)
    stages.place_stage(options.matrix, plan, *folders, loupe=options.loupe)


def _export(options: argparse.Namespace) -> None:
    _make_folder(options.output_dir)
    plan, beside = read_plan(options.plan), dict(options.beside or ())
    stages.export_stage(
        options.matrix, plan, options.cell_types_dir, options.output_dir, places_path=options.places, beside=beside
    )


def _report(options: argparse.Namespace) -> None:
    _make_folder(options.output_dir)
    stages.report_stage(
        read_plan(options.plan),
        options.cell_types_dir,
        options.output_dir,
        options.cmdline,
        places_path=options.places,
        beside=dict(options.beside or ()),
        loupe=options.loupe,
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc


class _WithCommas(argparse.Action):
    """An option that is given several times means what its values with commas mean."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        earlier = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if earlier is None else f"{earlier},{values}")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"invalid value '{text}': not an unsigned whole number")
    return int(text)


def _positive(text: str) -> int:
    number = _count(text)
    if number == 0:
        raise argparse.ArgumentTypeError("invalid value '0': must be at least 1")
    return number


def _role_and_path(text: str) -> tuple[str, Path]:
    role, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"invalid value '{text}': a role, = and a path are wanted")
    return role, Path(path)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


class _Parser(argparse.ArgumentParser):
    """No abbreviated options, help as wide as the terminal, errors as Space Ranger words them."""

    def __init__(self, prog: str | None = None, **kwargs: Any) -> None:
        super().__init__(prog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n\nUsage: {self.format_usage().removeprefix('usage: ').strip()}")


class _Terminal(logging.Handler):
    """Lines on standard error that do not break a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _log_to_terminal() -> None:
    if not LOGGER.handlers:
        handler = _Terminal()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        LOGGER.addHandler(handler)
        LOGGER.propagate = False


ANNOTATE = """Annotate the cell types of one sample.

Writes <ID>/outs/cell_types/<Model>/cell_types.csv, the differential expression of the types, a web
page, a table for Loupe Browser, metrics and provenance. The options are those of spaceranger annotate,
and a few more."""
COHORT = f"""Compare finished samples. Writes {stages.COHORT_PAGE_NAME} and {stages.COHORT_TABLE_NAME}: what each
sample is made of, and which of them are made otherwise than the rest (with four samples or more)."""
DEMO = """Make a tissue sample (10x HDF5, sparse cells with spill-over between neighbours, two types that the
marker table lacks) and annotate it. With --spatial, an outs folder as Space Ranger 4 writes it: segmented cells with
outlines, 8 µm bins, tissue image. Its figures say nothing about accuracy on real tissue."""
