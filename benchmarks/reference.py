"""Time and memory of the reference engine on made data, every step as its own process.

    python benchmarks/reference.py [--parts classify build large] [--types 60] [--genes 18000] [--json FILE]

    classify   cells per CPU second of the scores and names of sparse cells, reading apart
    build      a reference of 100,000 cells by `cytonym reference build`
    large      a reference of 1 million cells of 300 types, and 1.2 million cells annotated with it, single process

This process imports no array library: Linux starts a child's peak memory at its parent's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from run import Usage, machine, run, table

PARTS = ("classify", "build", "large")
LARGE_TYPES = 300
CELLS_TO_LEARN_FROM = 50  # of a type, in the part `classify`


def main() -> None:
    options = parse_arguments()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options)))
        return
    folder = Path(tempfile.mkdtemp(dir=options.work, prefix="cytonym-reference-"))
    told: dict[str, Any] = {"machine": machine()}
    for part in options.parts:
        told[part] = {"classify": classify, "build": build, "large": large}[part](options, folder)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if options.keep:
        print(f"Files: {folder}")
    else:
        shutil.rmtree(folder)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=("classify", "build"))
    parser.add_argument("--types", type=int, default=60)
    parser.add_argument("--genes", type=int, default=18_000)
    parser.add_argument("--umis", type=int, default=150, help="of a cell that is annotated [default: 150]")
    parser.add_argument("--cells", type=int, default=100_000, help="that are classified, and of the built reference")
    parser.add_argument("--reference-umis", type=int, default=1000, help="of a cell of the reference [default: 1000]")
    parser.add_argument("--large-reference", type=int, default=1_000_000)
    parser.add_argument("--large-sample", type=int, default=1_200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--work", type=Path, help="existing folder that gets a new one with the files")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


# parts


def classify(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    size = ["--types", str(options.types), "--genes", str(options.genes), "--umis", str(options.umis)]
    command = [sys.executable, __file__, "--child", "classify", *size, "--cells", str(options.cells)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"classify: {told['cells_per_cpu_s']:,.0f} cells per CPU s ({options.types} types, {options.umis} UMIs)")
    return told


def build(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    steps = [
        make(options, folder / "reference.h5ad", options.cells, options.types, options.reference_umis),
        build_from(folder / "reference.h5ad", folder / "reference", options.cells),
    ]
    return shown(steps, f"build: {options.cells:,} cells x {options.genes:,} genes, {options.types} types")


def large(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    n_cells, n_sample = options.large_reference, options.large_sample
    cells, bundle, sample = folder / "large.h5ad", folder / "large", folder / "sample.h5ad"
    steps = [
        make(options, cells, n_cells, LARGE_TYPES, options.reference_umis),
        build_from(cells, bundle, n_cells),
        make(options, sample, n_sample, LARGE_TYPES, options.umis),
    ]
    cells.unlink()
    asked = ["--id", "large", "--matrix", str(sample), "--cell-annotation-model", str(bundle), "--localcores", "1"]
    asked += ["--skip", "diffexp,report", "--output-dir", str(folder / "annotated")]
    steps.append(run("annotate", n_sample, [["-m", "cytonym", "annotate", *asked]]))
    return shown(steps, f"large: {n_cells:,} cells of {LARGE_TYPES} types, {n_sample:,} cells annotated")


def make(options: argparse.Namespace, path: Path, n_cells: int, n_types: int, umis: int) -> Usage:
    size = ["--cells", str(n_cells), "--types", str(n_types), "--genes", str(options.genes), "--umis", str(umis)]
    return run("(make)", n_cells, [[__file__, "--child", "make", "--file", str(path), *size]])


def build_from(cells: Path, bundle: Path, n_cells: int) -> Usage:
    asked = ["--input", str(cells), "--name", bundle.name, "--output", str(bundle)]
    return run("build", n_cells, [["-m", "cytonym", "reference", "build", *asked]])


def shown(steps: list[Usage], title: str) -> list[dict[str, Any]]:
    print(table(steps, title), flush=True)
    return [asdict(step) for step in steps]


# what runs in processes of its own


def measure_classify(options: argparse.Namespace) -> dict[str, Any]:
    """The steps of the backend between reading and writing, cell by cell, on one thread."""
    import time

    import numpy as np

    from cytonym.matrix import Features, in_memory
    from cytonym.ontology import Ontology
    from cytonym.parallel import single_threaded
    from cytonym.reference_model.labels import Levels, call_cells
    from cytonym.reference_model.learn import learn_reference
    from cytonym.reference_model.query import fit_query, score_cells
    from cytonym.reference_model.training import ReferenceType, TrainingSet

    rng = np.random.default_rng(options.seed)
    shares = made_shares(options.types, options.genes, options.seed)
    codes = np.repeat(np.arange(options.types, dtype=np.int32), CELLS_TO_LEARN_FROM)
    genes = np.array(gene_names(options.genes))
    types = tuple(ReferenceType(f"type {k}") for k in range(options.types))
    learnt_from = TrainingSet(
        Features(genes, genes), made_cells(shares, codes, options.reference_umis, rng), types, codes, codes * 0
    )
    started = time.process_time()
    model = learn_reference(learnt_from, Ontology([]), seed=options.seed)
    learnt = time.process_time()
    kinds = rng.integers(options.types, size=options.cells)
    matrix = in_memory(made_cells(shares, kinds, options.umis, rng), genes)
    blocks = [block.counts() for block in matrix.blocks()]
    made = time.process_time()
    query = fit_query(model, matrix)
    fitted = time.process_time()
    coarse, broad = (Levels.of(query.types, level) for level in ("coarse", "broad"))
    right = 0
    with single_threaded():
        for i, counts in enumerate(blocks):
            found = score_cells(query, counts)
            call_cells(
                found.posterior,
                found.novelty_tail,
                found.totals,
                query.nodes,
                coarse,
                broad,
                enough_umis=query.enough_umis,
            )
            right += int((found.posterior.argmax(axis=1) == kinds[i * 4096 :][: len(found.posterior)]).sum())
    done = time.process_time()
    return {
        "cells": options.cells,
        "genes": options.genes,
        "types": options.types,
        "umis": options.umis,
        "learn_s": round(learnt - started, 2),
        "fit_s": round(fitted - made, 2),
        "classify_s": round(done - fitted, 2),
        "cells_per_cpu_s": round(options.cells / (done - fitted)),
        "accuracy": round(right / options.cells, 4),
    }


def write_h5ad(options: argparse.Namespace) -> dict[str, Any]:
    """Made cells with `obs/cell_type`, in blocks."""
    import h5py
    import numpy as np

    rng = np.random.default_rng([options.seed, options.umis])
    shares = made_shares(options.types, options.genes, options.seed)
    kinds = rng.integers(options.types, size=options.cells)
    with h5py.File(options.file, "w") as file:
        x = file.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        x.attrs["shape"] = (options.cells, options.genes)
        data, indices = (
            x.create_dataset(name, (0,), "i4", maxshape=(None,), chunks=(1 << 20,)) for name in ("data", "indices")
        )
        ends = [0]
        for start in block_starts(options.cells):
            counts = made_cells(shares, kinds[start : start + BLOCK], options.umis, rng)
            for stored, new in ((data, counts.data), (indices, counts.indices)):
                stored.resize((ends[-1] + len(new),))
                stored[ends[-1] :] = new
            ends += (ends[-1] + counts.indptr[1:]).tolist()
        x.create_dataset("indptr", data=np.array(ends, dtype=np.int64))
        _write_table(file, "var", gene_names(options.genes), {})
        barcodes = [f"cell{i:07d}-1" for i in range(options.cells)]
        _write_table(file, "obs", barcodes, {"cell_type": [f"type {k}" for k in kinds.tolist()]})
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    return {"file": str(options.file), "nonzeros": ends[-1]}


def _write_table(file: Any, name: str, index: list[str], columns: dict[str, list[str]]) -> None:
    import h5py

    group = file.create_group(name)
    group.attrs.update({"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"})
    group.attrs.create("column-order", list(columns), dtype=h5py.string_dtype())
    for key, values in {"_index": index, **columns}.items():
        stored = group.create_dataset(key, data=values, dtype=h5py.string_dtype())
        stored.attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


BLOCK = 16_384
CHILDREN = {"classify": measure_classify, "make": write_h5ad}


def block_starts(n_cells: int) -> Iterator[int]:
    yield from range(0, n_cells, BLOCK)


def gene_names(n_genes: int) -> list[str]:
    return [f"GENE{i:05d}" for i in range(n_genes)]


def made_shares(n_types: int, n_genes: int, seed: int) -> Any:
    """(K, G) shares of log-normal genes, of which each type has a fiftieth raised or lowered e-fold and more."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rates = np.tile(rng.lognormal(0, 2, n_genes), (n_types, 1))
    for row in rates:
        own = rng.permutation(n_genes)[: n_genes // 50]
        row[own] *= rng.lognormal(0, 1.5, len(own))
    return rates / rates.sum(axis=1, keepdims=True)


def made_cells(shares: Any, kinds: Any, umis: int, rng: Any) -> Any:
    """Counts of cells of these types, int32: multinomial at Poisson depth."""
    import numpy as np
    import scipy.sparse as sp

    totals = rng.poisson(umis, len(kinds))
    rows = np.repeat(np.arange(len(kinds)), totals)
    genes = np.empty(len(rows), dtype=np.int32)
    of_umi = np.asarray(kinds)[rows]
    for kind in np.unique(of_umi):
        own = np.flatnonzero(of_umi == kind)
        genes[own] = np.minimum(np.searchsorted(np.cumsum(shares[kind]), rng.random(len(own))), shares.shape[1] - 1)
    counts = sp.csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, genes)), shape=(len(kinds), shares.shape[1]))
    counts.sum_duplicates()
    return counts


if __name__ == "__main__":
    main()
