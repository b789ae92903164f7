"""Trains CellTypist, or names cells by it; run by the interpreter of an environment that holds celltypist.

python run_celltypist.py train FOLDER     reference.npz, told.json (genes, labels) -> model.pkl
python run_celltypist.py name FOLDER CELLS.npz TOLD.json NAMES.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import celltypist
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp


def log_rates(counts: sp.csr_matrix, genes: list[str]) -> anndata.AnnData:
    """log1p of counts per 10,000."""
    cells = anndata.AnnData(counts.astype(np.float32), var=pd.DataFrame(index=genes))
    cells.var_names_make_unique()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


def train(folder: Path) -> None:
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    reference = log_rates(sp.load_npz(folder / "reference.npz"), told["genes"])
    model = celltypist.train(reference, np.array(told["labels"]), n_jobs=1, feature_selection=False)
    model.write(str(folder / "model.pkl"))


def name(folder: Path, cells: Path, told: Path, names: Path) -> None:
    genes = json.loads(told.read_text(encoding="utf-8"))["genes"]
    model = celltypist.models.Model.load(str(folder / "model.pkl"))
    found = celltypist.annotate(log_rates(sp.load_npz(cells), genes), model=model, majority_voting=False)
    labels = found.predicted_labels["predicted_labels"].astype(str).tolist()
    confidence = found.probability_matrix.to_numpy().max(axis=1).tolist()
    names.write_text(json.dumps({"labels": labels, "confidence": confidence}), encoding="utf-8")


if __name__ == "__main__":
    asked, *paths = sys.argv[1:]
    {"train": train, "name": name}[asked](*map(Path, paths))
