"""What is measured: each method names the cells of a matrix from a marker table."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from ontology import TrueClasses, cell_ontology
from reference_sets import HUMAN_TISSUES, MOUSE_TISSUES, read_reference
from sets import LabelledSet

from cytonym.backends.markers import CARD, MarkersBackend
from cytonym.marker_model.embedding import choose_genes, learn_embedding
from cytonym.marker_model.panel import candidates, join_features, type_weights
from cytonym.marker_model.scores import row_totals, view_cells
from cytonym.marker_model.trust import LEVELS
from cytonym.markers import MarkerTable
from cytonym.matrix import CountMatrix
from cytonym.types import UNASSIGNED, Model, Predictions

N_CLUSTERS = 15
N_FOLDS = 5
SCTYPE_UNKNOWN = 0.25  # of the cluster's cells: a smaller score is "Unknown" (Ianevski 2022)


@dataclass(frozen=True)
class Named:
    """Names and confidences of each cell; UNASSIGNED and NaN where there is none."""

    broad: np.ndarray
    coarse: np.ndarray
    broad_confidence: np.ndarray
    coarse_confidence: np.ndarray
    fit_s: float = 0.0
    classify_s: float = 0.0


Method = Callable[[CountMatrix, MarkerTable], Named]


def markers(matrix: CountMatrix, table: MarkerTable) -> Named:
    """The product's model, through the interface that the product uses, and its CPU seconds."""
    backend = MarkersBackend(lambda _: table)
    started = time.process_time()
    fitted = backend.fit(matrix, Model(CARD))
    learnt = time.process_time()
    found = Predictions.concatenate([backend.classify(block, fitted) for block in matrix.blocks()])
    done = time.process_time()
    cells = found.labels.iloc[found.label_codes]
    return Named(
        cells["broad_cell_type"].to_numpy(dtype=str),
        cells["coarse_cell_type"].to_numpy(dtype=str),
        found.values["broad_confidence"],
        found.values["coarse_confidence"],
        learnt - started,
        done - learnt,
    )


def own_labels(sample: LabelledSet, classes: Sequence[TrueClasses]) -> Named:
    """What the set's own labels, learnt from four fifths of its cells, say of the rest, at one or at both levels.

    No method that anybody could use, but about as much as these labels and counts allow: logistic regression on the
    components that the model clusters.
    """
    from sklearn.linear_model import LogisticRegression

    assert sample.terms is not None
    counts, features = sample.matrix.counts(), sample.matrix.features
    no_panel = np.zeros(0, dtype=np.int64)
    cells = view_cells(counts, no_panel, choose_genes(counts, row_totals(counts), features, no_panel))
    components = learn_embedding(cells).components(cells)
    components /= np.maximum(components.std(axis=0), 1e-9)
    fold = np.random.default_rng(0).permutation(len(components)) % N_FOLDS
    names = []
    for level in classes:
        truth = np.array([min(level.of(term), default=UNASSIGNED) for term in sample.terms.tolist()])
        found = np.full(len(truth), UNASSIGNED, dtype=truth.dtype)
        for own in range(N_FOLDS):
            known = np.flatnonzero((fold != own) & (truth != UNASSIGNED))
            asked = np.flatnonzero((fold == own) & (truth != UNASSIGNED))
            model = LogisticRegression(max_iter=1000).fit(components[known], truth[known])
            found[asked] = model.predict(components[asked])
        names.append(found)
    unknown = np.full(len(fold), np.nan)
    return Named(names[0], names[-1], unknown, unknown)


def sctype(matrix: CountMatrix, table: MarkerTable) -> Named:
    """The manner of ScType (Ianevski 2022): z scores of markers over sqrt n, summed over 15 clusters, best type wins.

    Clusters are k-means of 30 principal components of log counts; the formula is ScType's, the table is ours.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD

    panel = join_features(table.types, table.gene_ids, matrix.features)
    rows = candidates(table.types, panel)
    types = [table.types[row] for row in rows]
    counts = matrix.counts().astype(np.float64)
    totals = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    logs = sp.csr_matrix(sp.diags(1e4 / totals) @ counts)
    logs.data = np.log1p(logs.data)
    width = min(30, *(n - 1 for n in logs.shape))
    components = TruncatedSVD(width, random_state=0).fit_transform(logs)
    cluster = KMeans(min(N_CLUSTERS, len(components)), n_init=3, random_state=0).fit_predict(components)
    z = logs[:, panel.columns].toarray()
    z = (z - z.mean(axis=0)) / np.maximum(z.std(axis=0), 1e-3)
    weights = type_weights(types, panel)
    scores = z @ weights
    broad, coarse = (np.full(len(z), UNASSIGNED, dtype=object) for _ in range(2))
    for k in np.unique(cluster):
        own = cluster == k
        sums = scores[own].sum(axis=0)
        best = int(np.argmax(sums))
        if sums[best] >= SCTYPE_UNKNOWN * own.sum():
            broad[own], coarse[own] = types[best].broad, types[best].coarse or UNASSIGNED
    nothing = np.full(len(z), np.nan)
    return Named(broad.astype(str), coarse.astype(str), nothing, nothing)


@dataclass(frozen=True)
class DecouplerUlm:
    """The real decoupler's ULM on the same table, run by another environment's interpreter; best score wins."""

    python: Path

    def __call__(self, matrix: CountMatrix, table: MarkerTable) -> Named:
        panel = join_features(table.types, table.gene_ids, matrix.features)
        types = [table.types[row] for row in candidates(table.types, panel)]
        with tempfile.TemporaryDirectory() as folder:
            sp.save_npz(f"{folder}/counts.npz", matrix.counts()[:, panel.columns].tocsr())
            net = [[t.name, g, w] for t in types for gs, w in ((t.defining, 1.0), (t.supporting, 0.5)) for g in gs]
            totals = np.asarray(matrix.counts().sum(axis=1)).ravel().tolist()
            told = {"genes": panel.genes, "net": net, "totals": totals}
            Path(folder, "told.json").write_text(json.dumps(told), encoding="utf-8")
            run_script(self.python, "run_ulm.py", folder)
            names = json.loads(Path(folder, "names.json").read_text(encoding="utf-8"))
        levels_of = {t.name: (t.broad, t.coarse or UNASSIGNED) for t in types} | {None: (UNASSIGNED, UNASSIGNED)}
        nothing = np.full(len(names), np.nan)
        broad, coarse = np.array([levels_of[name] for name in names]).T
        return Named(broad, coarse, nothing, nothing)


@dataclass(frozen=True)
class CellTypist:
    """The real CellTypist, trained on the whole-body averages of the species, run by another environment's interpreter.

    A label that stands for several types of the table at a level is no name there.
    """

    python: Path
    data: Path
    models: Path  # a folder for each species

    @classmethod
    def trained(cls, python: Path, data: Path, models: Path) -> CellTypist:
        for species, text in (("human", HUMAN_TISSUES), ("mouse", MOUSE_TISSUES)):
            reference, folder = read_reference(data, text).training, models / species
            folder.mkdir()
            sp.save_npz(folder / "reference.npz", reference.counts)
            labels = [reference.types[code].ontology_id for code in reference.type_codes.tolist()]
            told = {"genes": reference.features.names.tolist(), "labels": labels}
            (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
            run_script(python, "run_celltypist.py", "train", folder)
        return cls(python, data, models)

    def __call__(self, matrix: CountMatrix, table: MarkerTable) -> Named:
        with tempfile.TemporaryDirectory() as folder:
            cells, told, names = (Path(folder, file) for file in ("cells.npz", "told.json", "names.json"))
            sp.save_npz(cells, matrix.counts())
            told.write_text(json.dumps({"genes": matrix.features.names.tolist()}), encoding="utf-8")
            run_script(self.python, "run_celltypist.py", "name", self.models / matrix.species, cells, told, names)
            found = json.loads(names.read_text(encoding="utf-8"))
        ontology, confidence = cell_ontology(self.data), np.array(found["confidence"])
        broad, coarse = (_table_names(found["labels"], TrueClasses(table, ontology, level)) for level in LEVELS)
        return Named(broad, coarse, confidence, confidence)


def run_script(python: Path, script: str, *arguments: Path | str) -> None:
    """By another environment's interpreter, on one thread."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [python, Path(__file__).with_name(script), *arguments]
    subprocess.run(command, check=True, env=os.environ | one_thread)


def _table_names(terms: Sequence[str], classes: TrueClasses) -> np.ndarray:
    """The one name of the table that each term stands for; UNASSIGNED where there are several or none."""
    one = {term: next(iter(found)) if len(found := classes.of(term)) == 1 else UNASSIGNED for term in set(terms)}
    return np.array([one[term] for term in terms])
