"""Accuracy, calibration and composition of the embedded marker model on real labelled sets.

    python benchmarks/accuracy.py [--data DIR] [--umis 400 150 60] [--json FILE] [--page docs/accuracy.md] [SET ...]

A SET is `FILE` or `FILE:LABELS`: a 10x HDF5 file with a table `barcode,label`, or an h5ad file (raw counts, cells x
genes) with labels in `obs/cell_type`; relative to the data folder. `labels_cl.tsv` there gives each label a Cell
Ontology id and `cl-basic.obo` the ontology. A broad label is right if it is the broad type of the table's row that
the true term is or most closely descends from; where the true term is more general than the rows, any of them is.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cytonym.backends import BACKENDS
from cytonym.io.tenx_h5 import TenxH5Source
from cytonym.markers import MarkerTable, load_markers
from cytonym.matrix import CountMatrix, in_memory
from cytonym.types import UNASSIGNED, Model, Predictions

SETS = (
    "human_pbmc3k_filtered_feature_bc_matrix.h5:human_pbmc3k_labels.csv",
    "human_pbmc_zheng2017_facs.h5ad",
    "human_immune_lymph_ref330.h5ad",
    "mouse_gut_mca1871.h5ad",
    "mouse_bonemarrow_paul15.h5ad",
    "mouse_cerebellum_ref.h5ad",
    "human_lymphnode_visium1000.h5ad",
    "human_pdac_st428.h5ad",
    "mouse_brain_xenium_cell_feature_matrix.h5",
)
ECE_BINS = 15
SHOWN_TYPES = 6
PAGE = """\
# Accuracy of the embedded marker model

Made by `python benchmarks/accuracy.py --umis 400 150 60 --page docs/accuracy.md`; the sets are public and come with
their labels, each named after its source. The script takes any labelled file: `python benchmarks/accuracy.py --help`.

Rows are a set at full depth, then with its counts thinned at random to a lower median of UMIs a cell.

- **broad right**: cells whose broad type is the one that the true label's Cell Ontology term descends from. A cell
  without a label counts as wrong.
- **right of named**: the same among the cells that got a broad label.
- **on lineage**: named cells whose most specific label is the true term, an ancestor of it or a descendant.
- **unassigned**: all cells without a broad label, whatever they are.
- **ECE**: expected calibration error of `broad_confidence` in 15 bins, over the named cells.

Read them with care. The steps of the method were chosen by a prototype on sets like these, some of them the same, so
they flatter by an unknown amount. The table's genes come from the literature, not from these sets. Labels of a set are
its authors' own, and two authors draw the line between CD4, CD8 and NK cells, or between progenitors, differently.

| set | cells | median UMIs | broad right | right of named | on lineage | unassigned | ECE |
|---|---|---|---|---|---|---|---|
{rows}

## Sets without labels

What the model makes of them, to be judged by eye.

| set | cells | median UMIs | broad types |
|---|---|---|---|
{compositions}

## What to make of it

- Blood and lymphoid cells at 150 UMIs and more are safe at the broad level; at 60 UMIs about one in six is not.
- A matrix with few of the model's genes (a targeted panel, or genes filtered out) gets broad labels only, and an alert
  that lists the types that can be told at all. Where the tissue's own types are not on that list, the labels are wrong:
  the lymph node above has 152 of 2,905 marker genes and hardly one of B or T cells, so its spots are named after what
  else shows, macrophages. Such a matrix should not be annotated with this model.
- Progenitors of the bone marrow, sorted by others into finer stages than the table knows, are the weakest set: half of
  them get another neighbour's name or none.
"""
Ontology = dict[str, list[str]]  # term -> its parents


@dataclass(frozen=True)
class LabelledSet:
    name: str
    matrix: CountMatrix
    labels: np.ndarray | None  # "" for a cell without a label


def main() -> None:
    options = parse_arguments()
    parents = read_ontology(options.data / "cl-basic.obo")
    truth = pd.read_csv(options.data / "labels_cl.tsv", sep="\t", keep_default_na=False)
    results = []
    for text in options.sets or SETS:
        labelled = read_set(options.data, text)
        table = load_markers(labelled.matrix.species)
        median = np.median(np.asarray(labelled.matrix.counts().sum(axis=1)))
        for depth in (None, *(umis for umis in options.umis if umis < median)):
            results.append(measure(labelled, depth, table, truth, parents))
            print(describe(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.page:
        options.page.write_text(page(results), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--umis", type=int, nargs="*", default=[], help="also thin cells to these median depths")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--page", type=Path, help="write docs/accuracy.md, or a page like it")
    return parser.parse_args()


def read_set(data: Path, text: str) -> LabelledSet:
    file, _, labels_file = text.partition(":")
    species = "mouse" if file.startswith("mouse") else "human"
    if file.endswith(".h5"):
        matrix = CountMatrix.of(TenxH5Source(data / file), species=species, path=data / file)
        name = re.sub(r"_(filtered|cell)_feature.*", "", file)
        if not labels_file:
            return LabelledSet(name, matrix, None)
        by_barcode = pd.read_csv(data / labels_file).set_index("barcode")["label"]
        return LabelledSet(name, matrix, by_barcode.reindex(matrix.barcodes()).fillna("").to_numpy(dtype=str))
    with h5py.File(data / file, "r") as opened:
        matrix, labels = read_h5ad(opened, species)
    return LabelledSet(file.removesuffix(".h5ad"), matrix, labels)


def read_h5ad(file: h5py.File, species: str) -> tuple[CountMatrix, np.ndarray | None]:
    stored = file["X"]
    counts = sp.csr_matrix((stored["data"][()], stored["indices"][()], stored["indptr"][()]), stored.attrs["shape"])
    names = text_column(file["var"][file["var"].attrs["_index"]])
    ids = text_column(file["var/gene_id"]) if "gene_id" in file["var"] else names
    barcodes = text_column(file["obs"][file["obs"].attrs["_index"]])
    labels = text_column(file["obs/cell_type"]) if "cell_type" in file["obs"] else None
    return in_memory(counts, names, ids=ids, barcodes=barcodes, species=species), labels


def text_column(stored: h5py.Dataset | h5py.Group) -> np.ndarray:
    if isinstance(stored, h5py.Group):
        return text_column(stored["categories"])[stored["codes"][()]]
    return np.asarray(stored.asstr()[()], dtype=str)


def thin(matrix: CountMatrix, median: int) -> CountMatrix:
    """The same cells with each count kept with one probability, so that the median total becomes `median`."""
    counts = matrix.counts()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    kept = min(1.0, median / max(float(np.median(totals)), 1))
    thinned = sp.csr_matrix(counts, copy=True)
    thinned.data = np.random.default_rng(1).binomial(thinned.data, kept).astype(np.int32)
    thinned.eliminate_zeros()
    features = matrix.features
    return in_memory(thinned, features.names, ids=features.ids, barcodes=matrix.barcodes(), species=matrix.species)


def annotate(matrix: CountMatrix) -> tuple[Predictions, dict[str, float]]:
    """The model's labels, through the interface that the product uses, and its CPU seconds."""
    backend = BACKENDS["markers"]
    started = time.process_time()
    fitted = backend.fit(matrix, Model(backend.models()[0]))
    learnt = time.process_time()
    predictions = Predictions.concatenate([backend.classify(block, fitted) for block in matrix.blocks()])
    return predictions, {"fit_s": learnt - started, "classify_s": time.process_time() - learnt}


def measure(
    labelled: LabelledSet, depth: int | None, table: MarkerTable, truth: pd.DataFrame, parents: Ontology
) -> dict[str, object]:
    """The figures of one set at one depth; accuracy counts an unassigned cell as wrong."""
    matrix = labelled.matrix if depth is None else thin(labelled.matrix, depth)
    predictions, seconds = annotate(matrix)
    cells = predictions.labels.iloc[predictions.label_codes].reset_index(drop=True)
    broad = cells["broad_cell_type"].to_numpy(dtype=str)
    result: dict[str, object] = {
        "set": labelled.name,
        "umis": float(np.median(predictions.umi_counts)),
        "cells": len(broad),
        **{name: round(value, 2) for name, value in seconds.items()},
        "unassigned": round(float(np.mean(broad == UNASSIGNED)), 4),
        "composition": shares(broad),
        "coarse_composition": shares(cells["coarse_cell_type"]),
        "fine_composition": shares(cells["fine_cell_type"]),
        "reasons": shares(cells["reason"]),
    }
    if labelled.labels is None:
        return result
    own = truth[truth["dataset"] == labelled.name].set_index("label")["cl_id"].to_dict()
    accepted = {label: accepted_broad(term, table, parents) for label, term in own.items()}
    scored = np.array([bool(accepted.get(label)) for label in labelled.labels])  # else the table has no such row
    right = np.array([b in accepted.get(label, ()) for b, label in zip(broad, labelled.labels, strict=True)])
    named = scored & (broad != UNASSIGNED)
    specific = cells["cell_type_ontology_term_id"].to_numpy(dtype=str)
    ancestors = {term: lineage(term, parents) for term in {*specific, *own.values()} - {""}}
    consistent = np.array(
        [s != "" and t in own and (s in ancestors[own[t]] or own[t] in ancestors[s])
         for s, t in zip(specific, labelled.labels, strict=True)]
    )  # fmt: skip
    broad_confidence = predictions.values["broad_confidence"]
    result |= {
        "scored": int(scored.sum()),
        "broad_accuracy": round(float(right[scored].mean()), 4),
        "broad_right_of_named": round(float(right[named].mean()), 4),
        "term_on_lineage_of_named": round(float(consistent[named].mean()), 4),
        "broad_ece": round(expected_calibration_error(broad_confidence[named], right[named]), 4),
        "by_label": label_table(labelled.labels[scored], broad[scored], right[scored]),
    }
    return result


def label_table(labels: np.ndarray, broad: np.ndarray, right: np.ndarray) -> dict[str, str]:
    """For each true label: cells, share right, and the commonest broad label."""
    table = {}
    for label in np.unique(labels):
        own = labels == label
        names, counts = np.unique(broad[own], return_counts=True)
        table[str(label)] = f"{own.sum()} cells, {right[own].mean():.2f} right, mostly {names[np.argmax(counts)]}"
    return table


def shares(values: Iterable[str]) -> dict[str, float]:
    counted = pd.Series(list(values), dtype=str).value_counts(normalize=True)
    return {str(name): round(float(share), 4) for name, share in counted.items()}


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean |confidence - accuracy| over equal-width bins, weighted by cells (Guo 2017, equation 3)."""
    if not len(confidence):
        return float("nan")
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins)]
    return float(sum(gaps))


def read_ontology(path: Path) -> Ontology:
    parents: Ontology = defaultdict(list)
    term = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("id: "):
            term = line[4:].strip()
        elif line.startswith("is_a: "):
            parents[term].append(line[6:].split("!")[0].strip())
    return dict(parents)


def lineage(term: str, parents: Ontology) -> set[str]:
    """The term and all its ancestors."""
    found, waiting = set(), [term]
    while waiting:
        now = waiting.pop()
        if now not in found:
            found.add(now)
            waiting.extend(parents.get(now, []))
    return found


def accepted_broad(term: str, table: MarkerTable, parents: Ontology) -> set[str]:
    """Broad types of the rows nearest above the term (or at it), and of all rows below it."""
    broad_of = defaultdict(set)
    for row in table.types:
        if row.coarse:
            broad_of[row.ontology_id].add(row.broad)
    below = {b for t, broads in broad_of.items() if term in lineage(t, parents) for b in broads}
    if below:
        return below
    level = {term}
    while level:
        hits = {b for t in level for b in broad_of.get(t, ())} or {
            row.broad for row in table.types if not row.coarse and row.ontology_id in level
        }
        if hits:
            return hits
        level = {p for t in level for p in parents.get(t, [])}
    return set()


def page(results: list[dict]) -> str:
    """docs/accuracy.md: a row for each set and depth, of labelled sets their figures, of the others what was found."""
    columns = ("broad_accuracy", "broad_right_of_named", "term_on_lineage_of_named", "unassigned", "broad_ece")
    rows, compositions = [], []
    for result in results:
        head = f"| {result['set']} | {result['cells']:,} | {result['umis']:,.0f} |"
        if "scored" in result:
            rows.append(f"{head} {' | '.join(f'{result[name]:.3f}' for name in columns)} |")
        else:
            most = list(result["composition"].items())[:SHOWN_TYPES]
            compositions.append(f"{head} {', '.join(f'{name} {share:.0%}' for name, share in most)} |")
    return PAGE.format(rows="\n".join(rows), compositions="\n".join(compositions))


def describe(result: dict[str, object]) -> str:
    lines = [f"{result['set']}  {result['umis']:.0f} UMIs  {result['cells']} cells"]
    for name, value in result.items():
        if name in ("set", "umis", "cells"):
            continue
        if isinstance(value, dict):
            shown = [f"{k} {v}" if isinstance(v, float) else f"{k}: {v}" for k, v in value.items()][:30]
            value = ("; " if name != "by_label" else "\n      ").join(shown)
        lines.append(f"   {name}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
