"""Names cells by CellTypist, singler, scanpy's ingest and PCA + kNN; run by the Python of an environment with them.

    python run_peers.py FOLDER ...

Each folder holds `told.json` (genes, number of types, names of the variants), `reference.npz` and `reference_codes.npy`
(labelled cells), `query-<variant>.npz` (counts of the same genes) and perhaps `averages.npz` and `averages_codes.npy`.
It gets `answers-<method>-<variant>.npz` (codes; confidence and posterior where the method has them) and `peers.json`:
per method the CPU seconds of fit and per variant of classify, or why it failed. Seeds are fixed; the caller sees to one
thread.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import celltypist
import numpy as np
import scanpy as sc
import scipy.sparse as sp
import singler
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

N_HVG, N_COMPONENTS, N_NEIGHBOURS = 2000, 50, 15
warnings.filterwarnings("ignore")
celltypist.logger.set_level(logging.ERROR)

Answers = dict[str, np.ndarray]
Classify = Callable[[sp.csr_matrix], Answers]


def log_rates(counts: sp.csr_matrix) -> anndata.AnnData:
    """log1p of counts per 10,000, as every one of them asks for."""
    cells = anndata.AnnData(counts.astype(np.float32))
    cells.var_names = [f"g{i}" for i in range(counts.shape[1])]
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


def variable_genes(reference: anndata.AnnData) -> np.ndarray:
    if reference.n_vars <= N_HVG:
        return np.arange(reference.n_vars)
    sc.pp.highly_variable_genes(reference, n_top_genes=N_HVG)
    return np.flatnonzero(reference.var["highly_variable"])


def n_components(reference: anndata.AnnData) -> int:
    return min(N_COMPONENTS, *(n - 1 for n in reference.shape))


def celltypist_of(feature_selection: bool, majority_voting: bool = False) -> Callable[..., Classify]:
    """A model trained on the reference."""

    def fit(counts: sp.csr_matrix, codes: np.ndarray) -> Classify:
        reference = log_rates(counts)
        labels = codes.astype(str)
        model = celltypist.train(reference, labels, n_jobs=1, feature_selection=feature_selection)

        def classify(query: sp.csr_matrix) -> Answers:
            found = celltypist.annotate(log_rates(query), model=model, majority_voting=majority_voting)
            table = found.predicted_labels
            column = "majority_voting" if majority_voting else "predicted_labels"
            return {
                "codes": table[column].astype(str).astype(int).to_numpy(),
                "confidence": found.probability_matrix.to_numpy().max(axis=1),
            }

        return classify

    return fit


def singler_of(aggregate: bool = False, **options: Any) -> Callable[..., Classify]:
    """Correlation with the labelled profiles, fine-tuned; all cells of a reference that it cannot aggregate."""

    def fit(counts: sp.csr_matrix, codes: np.ndarray) -> Classify:
        reference = log_rates(counts)
        genes = reference.var_names.tolist()
        values = reference.X.T.tocsc().astype(np.float64)
        asked = values, codes.astype(str).tolist(), genes
        try:
            built = singler.train_single(*asked, test_features=genes, aggregate=aggregate, **options)
        except ValueError:  # of a type with few cells
            built = singler.train_single(*asked, test_features=genes, **options)

        def classify(query: sp.csr_matrix) -> Answers:
            found = singler.classify_single(query.T.tocsc().astype(np.float64), built)
            return {"codes": np.array(found.column("best"), dtype=int)}

        return classify

    return fit


def ingest(counts: sp.csr_matrix, codes: np.ndarray) -> Classify:
    reference = log_rates(counts)
    genes = variable_genes(reference)
    reference = reference[:, genes].copy()
    reference.obs["label"] = codes.astype(str)
    reference.obs["label"] = reference.obs["label"].astype("category")
    reference.var = reference.var[[]]
    sc.pp.pca(reference, n_comps=n_components(reference))
    sc.pp.neighbors(reference, n_neighbors=N_NEIGHBOURS)

    def classify(query: sp.csr_matrix) -> Answers:
        cells = log_rates(query)[:, genes].copy()
        sc.tl.ingest(cells, reference, obs="label", embedding_method="pca")
        return {"codes": cells.obs["label"].astype(str).astype(int).to_numpy()}

    return classify


def pca_knn(counts: sp.csr_matrix, codes: np.ndarray) -> Classify:
    """Majority of the nearest reference cells."""
    reference = log_rates(counts)
    genes = variable_genes(reference)
    pca = PCA(n_components(reference), random_state=0)
    knn = KNeighborsClassifier(N_NEIGHBOURS).fit(pca.fit_transform(reference.X[:, genes].toarray()), codes)

    def classify(query: sp.csr_matrix) -> Answers:
        votes = knn.predict_proba(pca.transform(log_rates(query).X[:, genes].toarray()))
        posterior = np.zeros((len(votes), int(codes.max()) + 1), dtype=np.float32)
        posterior[:, knn.classes_] = votes
        return {"codes": posterior.argmax(axis=1), "confidence": posterior.max(axis=1), "posterior": posterior}

    return classify


USUAL = ("CellTypist", "singler", "scanpy ingest", "PCA + kNN")  # the others when asked for
METHODS: dict[str, Callable[..., Classify]] = {
    "CellTypist": celltypist_of(feature_selection=False),
    "CellTypist, feature selection": celltypist_of(feature_selection=True),
    "CellTypist, majority voting": celltypist_of(feature_selection=False, majority_voting=True),
    "singler": singler_of(marker_method="auc", aggregate=True),
    "singler, classic": singler_of(aggregate=True),
    "scanpy ingest": ingest,
    "PCA + kNN": pca_knn,
}
OF_AVERAGES = {"singler, the averages": singler_of()}  # its own way with a reference of averages


def run(folder: Path) -> None:
    told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    records: dict[str, Any] = {}
    for name, counts, codes, fit in _fits(folder):
        records[name] = {"classify_s": {}}
        try:
            started = time.process_time()
            classify = fit(counts, codes)
            records[name]["fit_s"] = time.process_time() - started
            for variant in told["variants"]:
                query = sp.load_npz(folder / f"query-{variant}.npz")
                started = time.process_time()
                answers = classify(query)
                records[name]["classify_s"][variant] = time.process_time() - started
                np.savez(folder / f"answers-{name}-{variant}.npz", **answers)
            print(folder.name, name, records[name], file=sys.stderr, flush=True)
        except Exception as exc:  # whatever a peer ends with goes into the record
            traceback.print_exc()
            records[name]["failed"] = f"{type(exc).__name__}: {exc}"
    (folder / "peers.json").write_text(json.dumps(records, indent=1), encoding="utf-8")


def _fits(folder: Path) -> Iterator[tuple[str, sp.csr_matrix, np.ndarray, Callable[..., Classify]]]:
    chosen = json.loads((folder / "told.json").read_text(encoding="utf-8"))["methods"] or [*USUAL, *OF_AVERAGES]
    counts, codes = sp.load_npz(folder / "reference.npz"), np.load(folder / "reference_codes.npy")
    for name in chosen:
        if name in METHODS:
            yield name, counts, codes, METHODS[name]
    if (folder / "averages.npz").exists():
        averages = sp.load_npz(folder / "averages.npz"), np.load(folder / "averages_codes.npy")
        for name in chosen:
            if name in OF_AVERAGES:
                yield name, *averages, OF_AVERAGES[name]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        run(Path(argument))
