"""Accuracy, calibration and speed of reference models on pairs of studies, with other programs beside.

    python benchmarks/accuracy references [--data DIR] [--peer-python PYTHON] [--page FILE] [REFERENCE=SAMPLE ...]

REFERENCE and SAMPLE are `FILE` or `FILE:LABELS` as in `python benchmarks/accuracy --help`, relative to the data folder,
or, for the reference, one of the data folder's files of averages. With pairs only these are measured; without, those of
`reference_sets.py`: the choose pairs, on which settings may be chosen, and the report pairs. The sample is measured at
full depth and thinned to 400, 150 and 60 UMIs, and with 15 % and 30 % of each cell's counts from another cell; every
method gets the same cells.

Every cell whose type the reference has, or has a type below or above, is scored at the level of the reference's types,
and at the class of `labels_cl.tsv` that is meant for scores across studies (broad).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ontology import cell_ontology
from reference_figures import ABOVE, RIGHT, Truth, auroc, broad_figures, forced_figures, reported_figures
from reference_methods import Answers, learn, product, read_peers, run_peers, write_pair
from reference_page import PRODUCT, page, write_half
from reference_sets import (
    CHOOSE,
    LEFT_OUT,
    LEFT_OUT_DEPTHS,
    MOST_CELLS,
    REPORT,
    Reference,
    Variant,
    broad_classes,
    read_query,
    read_reference,
    variants,
)

from cytonym.reference_model.stored import ReferenceModel

Record = dict[str, Any]
Pair = tuple[str, str]
PARTS = ("peers", "product", "left-out")
FEWEST_LEFT_OUT = 10  # cells of a class that is left out


def main(arguments: Sequence[str]) -> None:
    options = parse_arguments(arguments)
    data = options.data
    pairs = options.pairs or [*CHOOSE, *REPORT]
    records: list[Record] = []
    if options.records:
        records += json.loads(options.records.read_text(encoding="utf-8"))
    parts = options.parts or (() if options.records else PARTS)
    if "peers" in parts and options.peer_python:
        records += measure_peers(data, pairs, options.peer_python, options.peers)
    if "product" in parts:
        records += (record for pair in pairs for record in measure_product(data, pair))
    if "left-out" in parts:
        records += (record for pair in pairs if pair in LEFT_OUT for record in measure_left_out(data, pair))
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(summary(records).round(3).to_string(), flush=True)
    if options.page:
        write_half(options.page, page(records, MOST_CELLS))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="accuracy references", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", metavar="REFERENCE=SAMPLE", type=_pair)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument(
        "--peer-python", type=Path, help="python of an environment with celltypist, singler and scanpy: measured beside"
    )
    parser.add_argument("--peers", nargs="+", default=[], help="only these of them")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="[default: all; with --records none]")
    parser.add_argument("--records", type=Path, help="take the records of this file of an earlier --json, too")
    parser.add_argument("--json", type=Path, help="write the records to this file")
    parser.add_argument("--page", type=Path, help="write the second half of docs/accuracy.md, or of a page like it")
    return parser.parse_args(arguments)


def _pair(text: str) -> Pair:
    reference, equals, sample = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not REFERENCE=SAMPLE")
    return reference, sample


def measure_peers(data: Path, pairs: Sequence[Pair], python: Path, methods: Sequence[str]) -> Iterator[Record]:
    """All pairs by one process of the peers."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(i) for i in range(len(pairs))]
        for folder, (reference, query) in zip(folders, pairs, strict=True):
            write_pair(folder, read_reference(data, reference), variants(data, query), methods)
        run_peers(python, folders)
        for folder, pair in zip(folders, pairs, strict=True):
            yield from score(data, pair, read_peers(folder, variants(data, pair[1])))


def measure_product(data: Path, pair: Pair) -> Iterator[Record]:
    model, learn_s = _model(data, pair[0], frozenset())
    for variant in variants(data, pair[1]):
        found = product(model, variant.sample.matrix)
        for record in score(data, pair, {(PRODUCT, variant.name): found}):
            yield record | {"learn_s": round(learn_s, 3)}


def measure_left_out(data: Path, pair: Pair) -> Iterator[Record]:
    """For each broad class of the sample: what becomes of its cells when the reference has no type of it."""
    reference, query = read_reference(data, pair[0]), read_query(data, pair[1])
    broad, truth = np.array(broad_classes(data, query.name, query.labels)), _truth(data, pair)
    for name in sorted(set(broad.tolist()) & set(reference.broad) - {""}):
        own = broad == name
        gone = frozenset(k for k, of_type in enumerate(reference.broad) if of_type == name)
        if own.sum() < FEWEST_LEFT_OUT or len(reference.broad) - len(gone) < 2:
            continue
        others = np.isin(broad, [of_type for of_type in reference.broad if of_type not in ("", name)])
        model, _ = _model(data, pair[0], gone)
        for variant in variants(data, pair[1]):
            if variant.spilled or variant.depth not in LEFT_OUT_DEPTHS:
                continue
            found = product(model, variant.sample.matrix)
            assert found.reported is not None and found.novelty is not None and found.confidence is not None
            judged, named = truth.without(gone).judge(found.reported), found.reported.codes >= 0
            yield _head(pair, reference, variant, PRODUCT) | {
                "part": "left-out",
                "class": name,
                "left_out": int(own.sum()),
                "auroc": auroc(-found.novelty[own], -found.novelty[others]),
                "auroc_confidence": auroc(-found.confidence[own], -found.confidence[others]),
                "honest": float(((judged == ABOVE) | (judged == RIGHT) | ~named)[own].mean()),
                "unnamed": float((~named)[own].mean()),
            }


@cache
def _model(data: Path, reference: str, gone: frozenset[int]) -> tuple[ReferenceModel, float]:
    return learn(read_reference(data, reference).without(gone))


def score(data: Path, pair: Pair, answers: dict[tuple[str, str], Answers]) -> Iterator[Record]:
    reference, of_name = read_reference(data, pair[0]), {v.name: v for v in variants(data, pair[1])}
    query = read_query(data, pair[1])
    truth, broad = _truth(data, pair), np.array(broad_classes(data, query.name, query.labels))
    for (method, name), found in answers.items():
        head = _head(pair, reference, of_name[name], method)
        if found.failed:
            yield head | {"failed": found.failed}
            continue
        head |= {"fit_s": round(found.fit_s, 3), "classify_s": round(found.classify_s, 3)}
        head |= {"fine": forced_figures(found, truth), "broad": broad_figures(found, reference, broad)}
        yield head | ({"reported": reported_figures(found.reported, truth)} if found.reported else {})


def _head(pair: Pair, reference: Reference, variant: Variant, method: str) -> Record:
    return {
        "part": "pairs",
        "role": "choose" if pair in CHOOSE else "report" if pair in REPORT else "asked",
        "reference": reference.name,
        "sample": variant.sample.name,
        "depth": variant.depth,
        "spilled": variant.spilled,
        "method": method,
        "types": len(reference.training.types),
        "cells": variant.sample.matrix.n_cells,
        "umis": variant.sample.median_umis,
    }


@cache
def _truth(data: Path, pair: Pair) -> Truth:
    query = read_query(data, pair[1])
    terms = np.where(query.terms != "", query.terms, query.labels)
    return Truth(terms, read_reference(data, pair[0]).terms, cell_ontology(data))


def summary(records: Sequence[Record]) -> pd.DataFrame:
    """Means over pairs."""
    table = pd.json_normalize(list(records))
    table = table[table["part"] == "pairs"]
    keys = ["role", "spilled", "depth", "method"]
    numbers = [c for c in table.columns if c.startswith(("fine.", "broad.", "reported.")) and not c.endswith(".n")]
    return table.groupby(keys)[numbers].mean()
