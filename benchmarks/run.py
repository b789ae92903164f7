"""Time and memory of each stage of the main job on a made sample, every stage as its own process.

    python benchmarks/run.py [--cells 100000] [--genes 18000] [--threads 1] [--json FILE] [--work DIR] [--keep]
    python benchmarks/run.py --compare 20000,200000        peak memory at two sizes, and the difference

This process imports no array library: Linux starts a child's peak memory at its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MODEL = "markers"
KIB_PER_MB = 1024


@dataclass(frozen=True)
class Usage:
    """What one stage took; of several processes times are added and the highest peak counts."""

    stage: str
    wall_s: float
    cpu_s: float
    cells_per_cpu_s: float
    peak_mb: float


def main() -> None:
    options = parse_arguments()
    sizes = options.compare or [options.cells]
    runs = []
    for n_cells in sizes:
        folder = Path(tempfile.mkdtemp(dir=options.work, prefix=f"cytonym-{n_cells}-"))
        usages = measure(folder, n_cells, options.genes, options.threads, options.seed)
        print(table(usages, f"{n_cells:,} cells x {options.genes:,} genes, {options.threads} thread(s)"), flush=True)
        runs.append({"cells": n_cells, "genes": options.genes, "stages": [asdict(usage) for usage in usages]})
        if options.keep:
            print(f"Files: {folder}\n")
        else:
            shutil.rmtree(folder)
    if options.compare:
        print(comparison(runs))
    if options.json:
        result = {"machine": machine(), "threads": options.threads, "seed": options.seed, "runs": runs}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=18_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", metavar="FEW,MANY", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--work",
        type=Path,
        help="existing folder that gets a new one with the files [default: the system's temporary folder]",
    )
    parser.add_argument("--keep", action="store_true", help="keep the files")
    return parser.parse_args()


def measure(folder: Path, n_cells: int, n_genes: int, threads: int, seed: int) -> list[Usage]:
    matrix, plan_path = folder / "filtered_feature_cell_matrix.h5", folder / "plan.json"
    fitted, cell_types, result = folder / "fitted.h5", folder / "cell_types", folder / "report"
    make = f"from pathlib import Path; from cytonym.demo import make_tissue; make_tissue(Path({str(matrix)!r}), "
    make += f"n_cells={n_cells}, n_genes={n_genes}, seed={seed})"
    usages = [run("(make)", n_cells, [["-c", make]])]
    request = ["--id", "benchmark", "--matrix", str(matrix), "--cell-annotation-model", MODEL]
    usages.append(run("preflight", n_cells, [stage("preflight", *request, "--output-dir", str(folder))]))

    plan = json.loads(plan_path.read_text(encoding="utf-8"))
    of_model = cell_types / plan["jobs"][0]["card"]["folder"]
    planned = ["--plan", str(plan_path), "--model", MODEL]
    counted = ["--matrix", str(matrix), *planned]
    usages.append(run("fit", n_cells, [stage("fit", *counted, "--output", str(fitted))]))
    parts = {str(part["index"]): str(folder / f"predictions-{part['index']}.h5") for part in plan["partitions"]}
    common = [*counted, "--fitted", str(fitted), "--threads", str(threads)]
    commands = [stage("classify", *common, "--partition", index, "--output", path) for index, path in parts.items()]
    usages.append(run("classify", n_cells, commands))
    gathered = ["--fitted", str(fitted), "--predictions", *parts.values(), "--output-dir", str(of_model)]
    usages.append(run("assign", n_cells, [stage("assign", *planned, *gathered)]))
    tested = ["--matrix", str(matrix), "--plan", str(plan_path), "--cell-types", str(of_model / "cell_types.csv")]
    tested += ["--threads", str(threads), "--output", str(of_model / "cell_annotation_differential_expression.csv")]
    usages.append(run("diffexp", n_cells, [stage("diffexp", *tested)]))
    shown = ["--plan", str(plan_path), "--cell-types-dir", str(cell_types), "--output-dir", str(result)]
    usages.append(run("report", n_cells, [stage("report", *shown)]))
    return [*usages, together("all stages", n_cells, usages[1:])]


def stage(name: str, *arguments: str) -> list[str]:
    return ["-m", "cytonym", name, *arguments]


def run(name: str, n_cells: int, commands: Sequence[Sequence[str]]) -> Usage:
    """The commands, one after the other; exits with the first one's code that fails."""
    parts = []
    for command in commands:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command])
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{name} ended with exit code {process.returncode}: {' '.join(command)}")
        wall, cpu = time.perf_counter() - started, used.ru_utime + used.ru_stime
        parts.append(Usage(name, wall, cpu, n_cells / cpu, used.ru_maxrss / KIB_PER_MB))
    return together(name, n_cells, parts)


def together(name: str, n_cells: int, parts: Sequence[Usage]) -> Usage:
    wall, cpu = sum(part.wall_s for part in parts), sum(part.cpu_s for part in parts)
    peak = max(part.peak_mb for part in parts)
    return Usage(name, round(wall, 2), round(cpu, 2), round(n_cells / cpu, 1), round(peak, 1))


def table(usages: Sequence[Usage], title: str) -> str:
    lines = [title, f"{'stage':<12}{'wall s':>10}{'CPU s':>10}{'cells/CPU s':>14}{'peak MB':>10}"]
    lines += [
        f"{u.stage:<12}{u.wall_s:>10.2f}{u.cpu_s:>10.2f}{u.cells_per_cpu_s:>14,.0f}{u.peak_mb:>10,.0f}" for u in usages
    ]
    return "\n".join(lines) + "\n"


def comparison(runs: Sequence[dict]) -> str:
    """Peak memory of each stage, a column a size, and the last less the first."""
    sizes = [f"{run['cells']:,}" for run in runs]
    lines = ["peak MB", f"{'stage':<12}" + "".join(f"{size:>12}" for size in sizes) + f"{'difference':>12}"]
    for of_stage in zip(*(run["stages"] for run in runs), strict=True):
        peaks = [usage["peak_mb"] for usage in of_stage]
        numbers = [*peaks, peaks[-1] - peaks[0]]
        lines.append(f"{of_stage[0]['stage']:<12}" + "".join(f"{number:>12,.0f}" for number in numbers))
    return "\n".join(lines)


def machine() -> dict[str, str | int]:
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
