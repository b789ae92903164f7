"""Accuracy, calibration and honesty of the embedded marker model, on made and on real samples.

    python benchmarks/accuracy [--data DIR] [--parts PART ...] [--jobs 2] [--json FILE] [--page FILE] [SET ...]

A SET is `FILE` or `FILE:LABELS`: a 10x HDF5 file with a table `barcode,label`, or an h5ad file (raw counts, cells x
genes) with labels in `obs/cell_type`; relative to the data folder, where `labels_cl.tsv` gives each label a Cell
Ontology id and `cl-basic.obo` is the ontology. With SETs only these are measured. Without, the parts:

    choose      tissues made of average profiles: settings are chosen on these
    report      real labelled sets, at full depth and thinned; one of them sets the level of the confidences
    removed     report sets, with the types of one class taken out of the table
    diluted     report sets, with one class thinned out to 1 % and 0.3 % of the cells
    spilled     report sets, with 15 % and 30 % of each cell's counts from another cell
    unlabelled  what is found in sets without labels

`python benchmarks/accuracy references` measures models learnt from labelled references instead; see its --help.

A label is right at a level if it names the class of the true term or one below it; an ancestor counts as abstained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import references
from figures import class_f1, figures
from methods import CellTypist, DecouplerUlm, Method, Named, markers, own_labels, sctype
from ontology import TrueClasses, cell_ontology
from page import page, summary
from reference_page import second_half
from sets import (
    REAL,
    UNLABELLED,
    LabelledSet,
    dilute,
    made_tissues,
    make_tissue,
    read_set,
    spill_over,
    thin,
)

from cytonym.marker_model.trust import LEVELS
from cytonym.markers import MarkerTable, load_markers
from cytonym.types import UNASSIGNED

Record = dict[str, Any]
DEPTHS = (None, 400, 150, 60)
PARTS = ("choose", "report", "removed", "diluted", "spilled", "unlabelled")
LARGE_CLASS = 0.02  # of the cells: classes that are taken out or diluted


def main() -> None:
    if sys.argv[1:2] == ["references"]:
        references.main(sys.argv[2:])
        return
    options = parse_arguments()
    data = options.data
    methods = {"markers": markers, "ScType-style": sctype}
    if options.ulm_python:
        methods["decoupler ULM"] = DecouplerUlm(options.ulm_python)
    if options.celltypist_python:
        scratch = tempfile.TemporaryDirectory(prefix="celltypist-")  # goes when the process ends
        methods["CellTypist"] = CellTypist.trained(options.celltypist_python, data, Path(scratch.name))
    jobs: list[tuple[Any, ...]] = []
    for text in options.sets:
        jobs += [(measure_real, data, text, depth, m, "report") for depth in DEPTHS for m in methods.items()]
    for part in () if options.sets or options.records else options.parts:
        jobs += PART_JOBS[part](data, methods)
    records: list[Record] = json.loads(options.records.read_text(encoding="utf-8")) if options.records else []
    with ProcessPoolExecutor(options.jobs) as pool:
        for found in pool.map(_call, jobs):
            records += found
            if options.verbose:
                print(*(json.dumps(record) for record in found), sep="\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(summary(records).round(3).to_string(), flush=True)
    if options.page:
        options.page.write_text(page(records) + second_half(options.page), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument("--ulm-python", type=Path, help="python of an environment with decoupler 2: measured beside")
    parser.add_argument(
        "--celltypist-python", type=Path, help="python of an environment with celltypist: trained on averages, beside"
    )
    parser.add_argument("--verbose", action="store_true", help="also print every record")
    parser.add_argument("--records", type=Path, help="take the records of this file of an earlier --json")
    parser.add_argument("--json", type=Path, help="write the records to this file")
    parser.add_argument("--page", type=Path, help="write docs/accuracy.md, or a page like it")
    return parser.parse_args()


def _call(job: tuple[Any, ...]) -> list[Record]:
    return job[0](*job[1:])


# jobs of each part


def _choose_jobs(data: Path, methods: dict[str, Method]) -> Iterator[tuple[Any, ...]]:
    for species in ("human", "mouse"):
        for tissue in made_tissues(data, species):
            for umis in (2000, 400, 150, 60):
                yield measure_made, data, species, tissue, umis


def _real_jobs(
    function: Callable[..., list[Record]], depths: tuple[int | None, ...]
) -> Callable[[Path, dict[str, Method]], Iterator[tuple[Any, ...]]]:
    return lambda data, methods: ((function, data, text, depth) for text in REAL for depth in depths)


def _report_jobs(data: Path, methods: dict[str, Method]) -> Iterator[tuple[Any, ...]]:
    for text in REAL:
        for depth in DEPTHS:
            for method in methods.items():
                yield measure_real, data, text, depth, method, "report"
            yield measure_own_labels, data, text, depth


# one job


def measure_made(data: Path, species: str, tissue: str, umis: int) -> list[Record]:
    sample = make_tissue(data, species, tissue, umis)
    return [_record("choose", sample, str(umis), "markers", markers(sample.matrix, load_markers(species)), data)]


def measure_real(
    data: Path, text: str, depth: int | None, method: tuple[str, Method], part: str = "report"
) -> list[Record]:
    sample = _at_depth(data, text, depth)
    if sample is None:
        return []
    name, run = method
    found = run(sample.matrix, load_markers(sample.matrix.species))
    return [_record(part, sample, _depth_name(depth), name, found, data)]


def measure_own_labels(data: Path, text: str, depth: int | None) -> list[Record]:
    sample = _at_depth(data, text, depth)
    if sample is None:
        return []
    found = own_labels(sample, [_classes(data, sample.matrix.species, level) for level in LEVELS])
    return [_record("report", sample, _depth_name(depth), "own labels", found, data)]


def measure_spilled(data: Path, text: str, depth: int | None) -> list[Record]:
    sample = _at_depth(data, text, depth)
    if sample is None:
        return []
    records = []
    for share in (0.15, 0.3):
        found = markers(spill_over(sample, share).matrix, load_markers(sample.matrix.species))
        record = _record("spilled", sample, _depth_name(depth), "markers", found, data)
        records.append(record | {"variant": f"{share:.0%}"})
    return records


def measure_unlabelled(data: Path, text: str, depth: int | None) -> list[Record]:
    sample = _at_depth(data, text, depth)
    if sample is None:
        return []
    found = markers(sample.matrix, load_markers(sample.matrix.species))
    shares = pd.Series(found.broad).value_counts(normalize=True).round(3).to_dict()
    head = {"part": "unlabelled", "set": sample.name, "depth": _depth_name(depth), "method": "markers"}
    return [head | {"cells": sample.matrix.n_cells, "umis": sample.median_umis, "composition": shares}]


def measure_removed(data: Path, text: str, depth: int | None) -> list[Record]:
    """For each class of the sample: how many of its cells get a wrong name once the table lacks it, and the loss."""
    sample = _at_depth(data, text, depth)
    if sample is None:
        return []
    table, records = load_markers(sample.matrix.species), []
    base = markers(sample.matrix, table)
    for level in LEVELS:
        truth, before = _rights(sample, data, base, level)
        for name in _large_classes(truth):
            lacking = _without(table, name, level)
            after = markers(sample.matrix, lacking)
            own = np.array([accepted == {name} for accepted in truth])
            _, still = _rights(sample, data, after, level)
            others = ~own & np.array([bool(accepted) for accepted in truth])
            records.append(
                {"part": "removed", "set": sample.name, "depth": _depth_name(depth), "method": "markers"}
                | {"variant": level, "class": name, "cells": int(own.sum())}
                | {"abstained": 1 - float(_wrong(after, own, name, level, table).mean())}
                | {"loss": float(before[others].mean() - still[others].mean()) if others.any() else 0.0}
            )
    return records


def measure_diluted(data: Path, text: str, depth: int | None) -> list[Record]:
    """For each broad class of the sample: F1 of finding it when it is 1 % or 0.3 % of the cells, and by own labels.

    Other cells that may be called so, too, or have no class are not counted.
    """
    sample = _at_depth(data, text, depth)
    if sample is None or sample.terms is None:
        return []
    table, records = load_markers(sample.matrix.species), []
    classes = _classes(data, sample.matrix.species, "broad")
    truth = [classes.of(term) for term in sample.terms.tolist()]
    for name in _large_classes(truth):
        own = np.array([accepted == {name} for accepted in truth])
        for share in (0.01, 0.003):
            if share * len(own) < 3:
                continue
            mixed = dilute(replace(sample, labels=own.astype(str)), own, share)
            assert mixed.terms is not None
            rare, accepted = mixed.labels == "True", [classes.of(term) for term in mixed.terms.tolist()]
            others = np.array([bool(names) and name not in names for names in accepted])
            records.append(
                {"part": "diluted", "set": sample.name, "depth": _depth_name(depth), "method": "markers"}
                | {"variant": f"{share:.1%}", "class": name, "cells": int(rare.sum())}
                | {"f1": class_f1(rare, others, markers(mixed.matrix, table).broad == name)}
                | {"own_labels_f1": class_f1(rare, others, own_labels(mixed, [classes]).broad == name)}
            )
    return records


PART_JOBS: dict[str, Callable[[Path, dict[str, Method]], Iterator[tuple[Any, ...]]]] = {
    "choose": _choose_jobs,
    "report": _report_jobs,
    "removed": _real_jobs(measure_removed, (None, 150)),
    "diluted": _real_jobs(measure_diluted, (None, 150)),
    "spilled": _real_jobs(measure_spilled, (400, 150)),
    "unlabelled": lambda data, methods: (
        (measure_unlabelled, data, text, d) for text in UNLABELLED for d in (None, 150)
    ),
}


# what they share


@cache
def _classes(data: Path, species: str, level: str) -> TrueClasses:
    return TrueClasses(load_markers(species), cell_ontology(data), level)


def _depth_name(depth: int | None) -> str:
    return "full" if depth is None else str(depth)


def _at_depth(data: Path, text: str, depth: int | None) -> LabelledSet | None:
    """The set, thinned; nothing if it is not that deep."""
    sample = read_set(data, text)
    if depth is None:
        return sample
    return thin(sample, depth) if depth < sample.median_umis else None


def _record(part: str, sample: LabelledSet, depth: str, method: str, found: Named, data: Path) -> Record:
    assert sample.terms is not None
    species = sample.matrix.species
    broad, coarse = (_classes(data, species, level) for level in LEVELS)
    head = {"part": part, "set": sample.name, "species": species, "depth": depth, "method": method}
    head |= {"cells": sample.matrix.n_cells, "umis": sample.median_umis}
    head |= {"fit_s": round(found.fit_s, 2), "classify_s": round(found.classify_s, 2)}
    return head | figures(found, sample.terms, broad, coarse)


def _rights(sample: LabelledSet, data: Path, found: Named, level: str) -> tuple[list[frozenset[str]], np.ndarray]:
    """The names that are right for each cell, by the whole table, and whether it got one of them."""
    assert sample.terms is not None
    classes = _classes(data, sample.matrix.species, level)
    names = (found.broad if level == "broad" else found.coarse).tolist()
    truth = [classes.of(term) for term in sample.terms.tolist()]
    return truth, np.array([name in accepted for name, accepted in zip(names, truth, strict=True)])


def _large_classes(truth: list[frozenset[str]]) -> list[str]:
    single = pd.Series([next(iter(accepted)) if len(accepted) == 1 else "" for accepted in truth])
    shares = single.value_counts(normalize=True)
    return sorted(str(name) for name, share in shares.items() if name and share > LARGE_CLASS)


def _without(table: MarkerTable, name: str, level: str) -> MarkerTable:
    kept = tuple(row for row in table.types if (row.broad if level == "broad" else row.coarse) != name)
    return replace(table, types=kept)


def _wrong(found: Named, own: np.ndarray, name: str, level: str, table: MarkerTable) -> np.ndarray:
    """Whether each of the class's cells got a name that is not an ancestor of the class."""
    if level == "broad":
        return found.broad[own] != UNASSIGNED
    parent = next(row.broad for row in table.types if row.coarse == name)
    return (found.coarse[own] != UNASSIGNED) | ~np.isin(found.broad[own], [parent, UNASSIGNED])


if __name__ == "__main__":
    main()
