"""Accuracy, calibration and speed of reference models on pairs of studies, with other programs beside.

    python benchmarks/accuracy references [--data DIR] [--peer-python PYTHON] [--json FILE] [--page FILE] [REFERENCE=SAMPLE ...]

REFERENCE and SAMPLE are `FILE` or `FILE:LABELS` as above, relative to the data folder, or, for the reference, one of the
data folder's files of averages. With pairs only these are measured; without, those of `reference_sets.py`: the choose
pairs, on which settings may be chosen, and the report pairs. The sample is measured at full depth and thinned to 400,
150 and 60 UMIs, and with 15 % and 30 % of each cell's counts from another cell; every method gets the same cells.

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
from ontology import Ontology
from reference_figures import Truth, broad_figures, forced_figures
from reference_methods import Answers, read_peers, run_peers, write_pair
from reference_sets import CHOOSE, REPORT, Reference, Variant, broad_classes, read_query, read_reference, variants

Record = dict[str, Any]
Pair = tuple[str, str]


def main(arguments: Sequence[str]) -> None:
    options = parse_arguments(arguments)
    data = options.data
    pairs = options.pairs or [*CHOOSE, *REPORT]
    records = list(measure(data, pairs, options.peer_python, options.peers))
    if options.json:
        options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(summary(records).round(3).to_string(), flush=True)


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
    parser.add_argument("--json", type=Path, help="write the records to this file")
    return parser.parse_args(arguments)


def _pair(text: str) -> Pair:
    reference, equals, sample = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not REFERENCE=SAMPLE")
    return reference, sample


def measure(data: Path, pairs: Sequence[Pair], peer_python: Path | None, peers: Sequence[str]) -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(i) for i in range(len(pairs))]
        if peer_python:
            for folder, (reference, query) in zip(folders, pairs, strict=True):
                write_pair(folder, read_reference(data, reference), variants(data, query), peers)
            run_peers(peer_python, folders)
        for folder, pair in zip(folders, pairs, strict=True):
            answers: dict[tuple[str, str], Answers] = {}
            if peer_python:
                answers |= read_peers(folder, variants(data, pair[1]))
            yield from score(data, pair, answers)


def score(data: Path, pair: Pair, answers: dict[tuple[str, str], Answers]) -> Iterator[Record]:
    reference, of_name = read_reference(data, pair[0]), {v.name: v for v in variants(data, pair[1])}
    query = read_query(data, pair[1])
    truth, broad = _truth(data, pair), np.array(broad_classes(data, query.name, query.labels))
    for (method, name), found in answers.items():
        head = _head(pair, reference, of_name[name], method)
        if found.failed:
            yield head | {"failed": found.failed}
            continue
        yield (
            head
            | {"fit_s": round(found.fit_s, 3), "classify_s": round(found.classify_s, 3)}
            | {"fine": forced_figures(found, truth), "broad": broad_figures(found, reference, broad)}
        )


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
    return Truth(terms, read_reference(data, pair[0]).terms, _ontology(data))


@cache
def _ontology(data: Path) -> Ontology:
    return Ontology(data / "cl-basic.obo")


def summary(records: Sequence[Record]) -> pd.DataFrame:
    """Means over pairs."""
    table = pd.json_normalize(list(records))
    keys = ["role", "spilled", "depth", "method"]
    numbers = [c for c in table.columns if c.startswith(("fine.", "broad.", "reported.")) and not c.endswith(".n")]
    return table.groupby(keys)[numbers].mean()
