"""The libraries of whole-body average profiles, as published or as one .h5ad file, read as labelled averages.

Each published file holds the matrix of one tissue, genes x cell types. What its labels mean is our reading, in
`data/recipes/profile_labels.tsv`. A type is a Cell Ontology term: the same one in several tissues has several rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ..errors import InputError
from ..io.coded import CodedColumn
from ..io.rdata import NamedMatrix, as_matrix, read_rdata
from ..matrix import Features
from ..ontology import Ontology
from .labelled import LabelledInput, Wanted

MATRIX = "profile_matrix"
ENDING = ".RData"


def read_library(paths: Sequence[Path], ontology: Ontology) -> LabelledInput:
    """The published files as one input; genes that a file lacks are zero there, and its study is its data set."""
    matrices = [_matrix(path) for path in paths]
    genes = list(dict.fromkeys(gene for matrix in matrices for gene in matrix.rows.tolist()))
    place_of = {gene: place for place, gene in enumerate(genes)}
    parts, terms, studies, names = [], [], [], []
    for path, matrix in zip(paths, matrices, strict=True):
        tissue, _, study = path.name.removesuffix(ENDING).rpartition("_")
        rows = np.zeros((len(matrix.columns), len(genes)))
        rows[:, [place_of[gene] for gene in matrix.rows.tolist()]] = matrix.values.T
        parts.append(sp.csr_matrix(rows))
        terms += [term_of(label) for label in matrix.columns.tolist()]
        studies += [study] * len(rows)
        names += [f"{label} ({tissue})" for label in matrix.columns.tolist()]
    values = sp.vstack(parts, format="csr")

    def cells(wanted: Wanted) -> Iterator[sp.csr_matrix]:
        yield values

    return LabelledInput(
        path=paths[0].parent,
        dataset=paths[0].parent.name,
        features=Features(np.array(genes), np.array(genes)),
        labels=CodedColumn.of([np.array([ontology[term].name if term in ontology else "" for term in terms])]),
        ontology_ids=CodedColumn.of([np.array(terms)]),
        datasets=CodedColumn.of([np.array(studies)]),
        donors=CodedColumn.constant("", len(terms)),
        cells=cells,
        row_names=lambda: np.char.encode(np.array(names), "utf-8"),
        files=tuple(paths),
        format=f"{len(paths)} RData files",
        fractional=True,
    )


def term_of(label: str) -> str:
    """The term of a library's label; "" for one that names no single type."""
    text = re.sub(r"[._\s]+", " ", label.casefold()).strip()
    return next((term_id for pattern, term_id in _rules() if pattern.search(text)), "")


@cache
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    text = (files("cytonym") / "data" / "recipes" / "profile_labels.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return tuple((re.compile(pattern), term_id) for pattern, term_id in lines[1:])


def _matrix(path: Path) -> NamedMatrix:
    found = read_rdata(path)
    if MATRIX not in found:
        raise InputError(f"{path} has no {MATRIX}, only {', '.join(found) or 'nothing'}. It is no file of the library.")
    return as_matrix(found[MATRIX], str(path))
