"""Labelled files made for tests of references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from made_reference import blood_averages, blood_training

LABELS = np.array(["B cell", "monocyte", "natural killer cell"])  # the types of `made_reference`
TERMS = np.array(["CL:0000236", "CL:0000576", "CL:0000623"])


def blood_cells(seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    """120 cells x genes, and each cell's type code; cells of a type do not stand together."""
    training = blood_training()
    order = np.random.default_rng(seed).permutation(120)
    return sp.csr_matrix(training.counts[order]), training.type_codes[order]


def write_blood(path: Path, *, seed: int = 0, counts: Any = None, genes: slice = slice(None), **obs: Any) -> Path:
    """An h5ad file as CELLxGENE has it: counts in raw, values made of them in X; `obs` adds or replaces columns."""
    cells, codes = blood_cells(seed)
    features = blood_averages()[1]
    var = pd.DataFrame({"feature_name": features.names}, index=features.ids).iloc[genes]
    raw = sp.csr_matrix(cells[:, genes]).astype(np.float32)
    columns = {
        "cell_type": pd.Categorical(LABELS[codes]),
        "cell_type_ontology_term_id": pd.Categorical(TERMS[codes]),
        "dataset_id": pd.Categorical(np.array(["one", "two"])[np.arange(120) % 2]),
        "donor_id": pd.Categorical(np.array(["d1", "d2", "d3"])[np.arange(120) % 3]),
    }
    table = pd.DataFrame(columns | obs, index=[f"c{i}" for i in range(120)])
    table = table.drop(columns=[name for name, value in obs.items() if value is None])
    if counts is None:
        file = anndata.AnnData(raw, obs=table, var=var)
        file.raw = file
        file.X = logged(raw)
    else:
        file = anndata.AnnData(counts, obs=table, var=var)
    file.write_h5ad(path)
    return path


def logged(counts: sp.csr_matrix, base: float = np.e) -> sp.csr_matrix:
    """Log of 1 + counts per 10,000, float32."""
    totals = np.asarray(counts.sum(axis=1)).ravel()
    scaled = sp.diags(1e4 / np.maximum(totals, 1)) @ counts.astype(np.float64)
    found = sp.csr_matrix(scaled)
    found.data = np.log1p(found.data) / np.log(base)
    return found.astype(np.float32)
