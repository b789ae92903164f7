"""Time and memory of Pan-Human Azimuth end to end, on a made sample and a network of random weights.

    python benchmarks/azimuth.py [--cells 20000] [--genes 18055] [--threads 1] [--tables PATH] [--json FILE]
    python benchmarks/azimuth.py --compare 20000,200000     peak memory at two sizes, and the difference
    python benchmarks/azimuth.py --parts                    where the time of classify goes, and what its limit is
    python benchmarks/azimuth.py --real VENV/bin/python --tables WHEEL     beside panhumanpy, installed in that venv

The published layer sizes are unknown: 1024-512-256-128 and a hidden layer of 128 for each of the eight levels are
assumed (6.3 million weights). Random weights make nearly every cell a tuple of classes of its own, which is the most
work that decoding can have; beside the real package, weights are such that the levels of most cells agree, as they do
in tissue. Without --tables, classes and panel are made up, in the published numbers.

This process imports no array library: Linux starts a child's peak memory at its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from run import Usage, comparison, machine, run, stage, table, together

MODEL = "pan_human_azimuth"
PANEL_SIZE = 5055
CLASSES = (13, 91, 209, 313, 355, 374, 380, 382)
TRUNK, HEAD = (1024, 512, 256, 128), 128
PER_CELL = 1045  # genes with a count
BLOCK = 4096
RUNS = 3  # of each, beside panhumanpy
TIMES_LESS_CPU, TIMES_LESS_MEMORY = 8, 8  # wanted beside panhumanpy
KERAS_NETWORK = """
import json, sys
import keras, numpy
path, (width, trunk, head, levels) = sys.argv[1], json.load(sys.stdin)
keras.utils.set_random_seed(0)
random, prefixes = numpy.random.default_rng(0), {}
source = inputs = keras.Input((width,))
for i, units in enumerate(trunk):
    source = keras.layers.Dense(units, "relu", name=f"dense_{i}" if i else "dense")(source)
def vector(label):  # of a class: those of its path's beginnings, each half as long as the one before
    parts = label.split("|")
    starts = ["|".join(parts[: depth + 1]) for depth in range(len(parts))]
    return sum(prefixes.setdefault(s, random.standard_normal(head)) / 2**depth for depth, s in enumerate(starts))
hidden, heads, outputs = [], [], []
for i, labels in enumerate(levels):
    hidden.append(keras.layers.Dense(head, "relu", name=f"dense_{len(trunk) + 2 * i}"))
    heads.append(keras.layers.Dense(len(labels), "softmax", name=f"dense_{len(trunk) + 2 * i + 1}"))
    outputs.append(heads[-1](hidden[-1](source)))
for labels, layer, out in zip(levels, hidden, heads):  # all levels look at the same, so that most cells are consistent
    layer.set_weights(hidden[0].get_weights())
    out.set_weights([numpy.stack([vector(label) for label in labels], axis=1), numpy.zeros(len(labels))])
keras.Model(inputs, outputs).save(path)
"""  # run by the real package's Python: Keras itself loads only what Keras wrote


def main() -> None:
    options = parse_arguments()
    if options.make:
        make(options.make, options.cells, options.genes, options.tables, options.seed, options.real)
        return
    if options.parts_of:
        parts_of(options.parts_of)
        return
    runs = []
    for n_cells in options.compare or [options.cells]:
        folder = Path(tempfile.mkdtemp(dir=options.work, prefix=f"cytonym-azimuth-{n_cells}-"))
        usages = measure(folder, n_cells, options)
        print(table(usages, f"{n_cells:,} cells x {options.genes:,} genes, {options.threads} thread(s)"), flush=True)
        runs.append({"cells": n_cells, "genes": options.genes, "stages": [asdict(usage) for usage in usages]})
        if options.parts:
            run("(parts)", n_cells, [[__file__, "--parts-of", str(folder)]])
        if options.real:
            theirs, ours = [], []
            for _ in range(RUNS):
                ours.append(main_job(folder, n_cells))
                theirs.append(real_package(folder, n_cells, options.real))
            print(beside(theirs, ours))
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
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=18_055)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tables", type=Path, help="published tables, version v1 [default: made up]")
    parser.add_argument("--compare", metavar="FEW,MANY", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--parts", action="store_true", help="time the parts of classify, too")
    parser.add_argument("--real", metavar="PYTHON", type=Path, help="interpreter of a venv that has panhumanpy")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--work", type=Path, help="existing folder that gets a new one with the files")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parts-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.real and not options.tables:
        parser.error("--real needs --tables, which the real package has inside")
    return options


def measure(folder: Path, n_cells: int, options: argparse.Namespace) -> list[Usage]:
    """The stages one after the other, each a process of its own, and all of them together."""
    making = [__file__, "--make", str(folder), "--cells", str(n_cells), "--genes", str(options.genes)]
    making += ["--seed", str(options.seed), *(["--tables", str(options.tables)] if options.tables else [])]
    making += ["--real", str(options.real)] if options.real else []
    usages = [run("(make)", n_cells, [making])]
    matrix, plan_path, fitted = folder / "matrix.h5", folder / "plan.json", folder / "fitted.h5"
    models = ["--models-dir", str(folder / "models")]
    request = ["--id", "benchmark", "--matrix", str(matrix), "--cell-annotation-model", MODEL, *models, "--embeddings"]
    usages.append(run("preflight", n_cells, [stage("preflight", *request, "--output-dir", str(folder))]))
    plan = json.loads(plan_path.read_text(encoding="utf-8"))
    tables = folder / "cell_types" / "Azimuth"
    planned = ["--plan", str(plan_path), "--model", MODEL]
    counted = ["--matrix", str(matrix), *planned]
    usages.append(run("fit", n_cells, [stage("fit", *counted, *models, "--output", str(fitted))]))
    parts = {str(part["index"]): str(folder / f"predictions-{part['index']}.h5") for part in plan["partitions"]}
    common = [*counted, "--fitted", str(fitted), "--threads", str(options.threads)]
    commands = [stage("classify", *common, "--partition", index, "--output", path) for index, path in parts.items()]
    usages.append(run("classify", n_cells, commands))
    gathered = ["--fitted", str(fitted), "--predictions", *parts.values(), "--output-dir", str(tables)]
    usages.append(run("assign", n_cells, [stage("assign", *planned, *gathered)]))
    usages.append(together("labels", n_cells, usages[-4:]))
    return usages


def main_job(folder: Path, n_cells: int) -> Usage:
    """The same from the shell, in one process and thread, without what panhumanpy does not do."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    given = {"id": "benchmark", "matrix": folder / "matrix.h5", "models-dir": folder / "models"}
    given |= {"cell-annotation-model": MODEL, "skip": "diffexp,report", "localcores": 1, "output-dir": folder / "run"}
    options = [f"--{name}={value}" for name, value in given.items()]
    return run("annotate", n_cells, [stage("annotate", *options, "--embeddings")])


def real_package(folder: Path, n_cells: int, python: Path) -> Usage:
    """panhumanpy's own command on the same counts and weights, without UMAP; it finds the weights below HOME."""
    home = folder / "home"
    weights = home / ".cache" / "panhumanpy" / "v1" / "inference_model" / "inference_model.keras"
    weights.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "model.keras", weights)
    before = os.environ["HOME"], sys.executable
    os.environ["HOME"], sys.executable = str(home), str(python)
    try:
        return run("panhumanpy", n_cells, [[str(python.parent / "annotate"), str(folder / "matrix.h5ad"), "-umap"]])
    finally:
        os.environ["HOME"], sys.executable = before


def beside(theirs: Sequence[Usage], ours: Sequence[Usage]) -> str:
    """The medians of both, whose runs took turns."""
    cpu, memory = ([median(getattr(u, name) for u in of) for of in (theirs, ours)] for name in ("cpu_s", "peak_mb"))
    return (
        f"panhumanpy: {cpu[0]:.0f} CPU s, {memory[0]:.0f} MB. Ours: {cpu[1]:.1f} CPU s, {cpu[0] / cpu[1]:.1f} times "
        f"less (wanted: {TIMES_LESS_CPU}), and {memory[1]:.0f} MB, {memory[0] / memory[1]:.1f} times less "
        f"(wanted: {TIMES_LESS_MEMORY}); medians of {len(theirs)} runs that took turns."
    )


# ---- in a process of its own


def make(folder: Path, n_cells: int, n_genes: int, tables: Path | None, seed: int, real: Path | None) -> None:
    """Writes matrix.h5, model.keras, the tables, and installs them in models/; for `real` also matrix.h5ad."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from azimuth_files import write_files
    from cytonym.install import InstallRequest, install
    from cytonym.io.azimuth_tables import find_tables, read_tables

    if tables is None:
        write_files(folder / "tables" / "v1", made_tables())
        tables = folder / "tables"
    chosen = next(found for found in find_tables(tables) if len(found.panel()) == PANEL_SIZE)
    if real is None:
        (folder / "model.keras").write_bytes(made_weights(seed))
    else:
        sizes = json.dumps((PANEL_SIZE, TRUNK, HEAD, read_tables(chosen).classes))
        command = [str(real), "-c", KERAS_NETWORK, str(folder / "model.keras")]
        subprocess.run(command, input=sizes.encode(), check=True, capture_output=True)
    install(InstallRequest(MODEL, folder / "models", folder / "model.keras", tables, version=chosen.version))
    names = [*chosen.panel(), *(f"FILLER{i}" for i in range(n_genes - PANEL_SIZE))]
    write_counts(folder / "matrix.h5", names, n_cells, seed)
    if real is not None:
        write_h5ad(folder / "matrix.h5", folder / "matrix.h5ad")


def made_tables() -> dict[str, bytes]:
    """Panel and classes in the published numbers: each path of a level goes on in the next, the last ones branch."""
    from azimuth_files import calibrator_file, encoders_file

    levels = [[f"T{i}" for i in range(CLASSES[0])]]
    for n_classes in CLASSES[1:]:
        above = levels[-1]
        names = [f"{path}|" for path in above]
        names += [f"{above[i % len(above)]}|S{i}" for i in range(n_classes - len(above))]
        levels.append(names)
    leaves = [path.rstrip("|") for path in levels[-1]]
    panel = "".join(f"GENE{i}\n" for i in range(PANEL_SIZE))
    files = {
        "inference_feature_panel/inference_feature_panel.txt": panel.encode(),
        "inference_encoders/inference_encoders.pkl": encoders_file(levels),
    }
    for level in ("broad", "medium", "fine"):
        rows = "".join(f"{leaf},{leaf}\n" for leaf in leaves)
        files[f"postprocessing/panhuman_annotate_{level}.csv"] = f"Orig_Label,Annotate_{level}\n{rows}".encode()
    for level, n_classes in enumerate(CLASSES, 1):
        files[f"calibration/temp_scaler_L_{level}.keras"] = calibrator_file(n_classes)
    return files


def made_weights(seed: int) -> bytes:
    import numpy as np

    from azimuth_files import input_layer, keras_file, layer

    rng, weights = np.random.default_rng(seed), {}
    layers, source, width = [input_layer(PANEL_SIZE)], "input_layer", PANEL_SIZE

    def dense(name: str, source: str, n_in: int, units: int, activation: str) -> None:
        scale = np.float32(np.sqrt(2 / n_in))
        kernel = rng.standard_normal((n_in, units), dtype=np.float32) * scale
        weights[name] = (kernel, np.zeros(units, dtype=np.float32))
        layers.append(layer("Dense", name, source, units=units, activation=activation))

    for i, units in enumerate(TRUNK):
        name = f"dense_{i}" if i else "dense"
        dense(name, source, width, units, "relu")
        source, width = name, units
    outputs = []
    for i, n_classes in enumerate(CLASSES):
        hidden, head = f"dense_{len(TRUNK) + 2 * i}", f"dense_{len(TRUNK) + 2 * i + 1}"
        dense(hidden, source, width, HEAD, "relu")
        dense(head, hidden, HEAD, n_classes, "softmax")
        outputs.append(head)
    groups = {name: f"dense_{i}" if i else "dense" for i, name in enumerate(weights)}
    return keras_file(layers, outputs, weights, groups=groups)


def write_counts(path: Path, names: Sequence[str], n_cells: int, seed: int) -> None:
    import numpy as np
    import scipy.sparse as sp

    from cytonym.io.tenx_h5 import TenxH5Writer

    rng, n_genes = np.random.default_rng(seed), len(names)
    order = rng.permutation(n_genes)
    symbols, ids = np.array(names)[order], np.array([f"ENSG{i:011d}" for i in range(n_genes)])
    kinds, genomes = np.full(n_genes, "Gene Expression"), np.full(n_genes, "GRCh38")
    with TenxH5Writer(path, ids=ids, names=symbols, feature_types=kinds, genomes=genomes) as out:
        for start in range(0, n_cells, BLOCK):
            n = min(BLOCK, n_cells - start)
            rows = np.repeat(np.arange(n), PER_CELL)
            columns = rng.integers(0, n_genes, size=n * PER_CELL)
            counts = rng.geometric(0.5, size=n * PER_CELL).astype(np.int32)
            cells = sp.csr_matrix((counts, (rows, columns)), shape=(n, n_genes))
            cells.sort_indices()
            out.append(cells, np.array([f"cellid_{i + 1:09d}-1" for i in range(start, start + n)]))


def write_h5ad(source_path: Path, path: Path) -> None:
    """The same counts for panhumanpy, which reads symbols from the index of var."""
    import anndata
    import pandas as pd

    from cytonym.io.tenx_h5 import TenxH5Source

    source = TenxH5Source(source_path)
    obs = pd.DataFrame(index=source.read_barcodes(0, source.n_cells))
    counts = source.read_rows(0, source.n_cells).astype("float32")
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=source.features.names)).write_h5ad(path)


def parts_of(folder: Path) -> None:
    """Prints the seconds of each part of classify, single-threaded, and those of its matrix products alone."""
    import time

    import numpy as np

    from cytonym.azimuth.calibration import calibrate
    from cytonym.azimuth.genes import fill_block
    from cytonym.azimuth.labels import Decoder
    from cytonym.azimuth.model import BLOCK_ROWS
    from cytonym.azimuth.stored import restore_model
    from cytonym.io.arrays import read_fitted
    from cytonym.parallel import single_threaded
    from cytonym.preflight import open_matrix, read_plan

    plan, fitted = read_plan(folder / "plan.json"), read_fitted(folder / "fitted.h5")
    model, places = restore_model(fitted.meta, fitted.arrays), fitted.arrays["places"]
    matrix, decoder = open_matrix(folder / "matrix.h5", plan), Decoder(model.tables)
    spent = dict.fromkeys(("read", "fill", "network", "calibrate", "decode"), 0.0)
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        spent[name] += now - clock
        clock = now

    n_blocks = 0
    with single_threaded():
        for block in matrix.blocks():
            clock = time.perf_counter()
            counts = block.counts()
            lap("read")
            for start in range(0, block.n_cells, BLOCK_ROWS):
                n_blocks += 1
                x = np.zeros((BLOCK_ROWS, model.network.width), dtype=np.float32)
                cells = counts[start : start + BLOCK_ROWS]
                fill_block(x[: cells.shape[0]], cells, places, normalise=True)
                lap("fill")
                values = model.network.run(x, [*model.network.outputs, "dense_3"])
                levels = [values[name] for name in model.network.outputs]
                lap("network")
                pairs = zip(levels, model.tables.temperatures, strict=True)
                calibrated = [calibrate(level, *pair)[: cells.shape[0]] for level, pair in pairs]
                lap("calibrate")
                class_ids = np.column_stack([level.argmax(axis=1) for level in levels])[: cells.shape[0]]
                decoder.label(class_ids, calibrated)
                lap("decode")
        kernels = [arrays[0] for arrays in model.network.weights.values()]
        inputs = [np.ones((BLOCK_ROWS, kernel.shape[0]), dtype=np.float32) for kernel in kernels]
        for x, kernel in zip(inputs, kernels, strict=True):
            x @ kernel
        clock = time.perf_counter()
        for x, kernel in zip(inputs, kernels, strict=True):
            x @ kernel
        products = (time.perf_counter() - clock) * n_blocks
    for name, seconds in spent.items():
        print(f"  {name:<10}{seconds:>8.2f} s")
    print(f"  the matrix products alone: {products:.2f} s, the limit of a dense float32 network on one core here\n")


if __name__ == "__main__":
    main()
