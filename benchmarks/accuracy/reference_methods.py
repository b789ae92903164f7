"""What is measured on pairs: each method, taught by the reference, names the cells of the sample."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from methods import run_script
from reference_sets import Reference, Variant

from cytonym.matrix import CountMatrix, Features
from cytonym.ontology_data import load_ontology
from cytonym.reference_model.labels import Levels, call_cells
from cytonym.reference_model.learn import learn_reference
from cytonym.reference_model.query import fit_query, score_cells
from cytonym.reference_model.stored import ReferenceModel


@dataclass(frozen=True)
class Reported:
    """What a method that may abstain calls each cell: a type of the reference, a name above several, or nothing."""

    codes: np.ndarray  # (n,) row of `terms`, -1 for nothing
    confidence: np.ndarray  # (n,) NaN for nothing
    terms: tuple[str, ...]  # ontology ids of the K types, then of the names above; "" for one without
    members: np.ndarray  # (K, len(terms)) which types a name stands for


@dataclass(frozen=True)
class Answers:
    """What a method says of each cell."""

    codes: np.ndarray  # (n,) the best type's row in the reference
    confidence: np.ndarray | None = None  # (n,) of that type
    posterior: np.ndarray | None = None  # (n, K)
    fit_s: float = 0.0  # CPU seconds
    classify_s: float = 0.0
    failed: str = ""  # why there is no answer
    reported: Reported | None = None
    novelty: np.ndarray | None = None  # (n,) low where a cell is unlike the type it is taken for


def learn(reference: Reference) -> tuple[ReferenceModel, float]:
    """The product's model of the reference, and the CPU seconds that it took."""
    started = time.process_time()
    model = learn_reference(reference.training, load_ontology())
    return model, time.process_time() - started


def product(model: ReferenceModel, matrix: CountMatrix) -> Answers:
    """What the product says, by the steps of its backend; `fit_s` is that of the sample alone."""
    started = time.process_time()
    query = fit_query(model, matrix)
    fitted = time.process_time()
    found = score_cells(query, matrix.counts())
    calls = call_cells(
        found.posterior,
        found.novelty_tail,
        found.totals,
        query.nodes,
        *(Levels.of(query.types, level) for level in ("coarse", "broad")),
        enough_umis=query.enough_umis,
        own_labels=query.own_labels,
    )
    done = time.process_time()
    terms = (*(kind.ontology_id for kind in query.types), *query.nodes.ids)
    members = np.hstack([np.eye(len(query.types), dtype=bool), query.nodes.members])
    return Answers(
        found.posterior.argmax(axis=1),
        found.posterior.max(axis=1),
        found.posterior,
        fit_s=fitted - started,
        classify_s=done - fitted,
        reported=Reported(calls.fine, calls.probability, terms, members),
        novelty=found.novelty_z,
    )


def write_pair(folder: Path, reference: Reference, variants: Sequence[Variant], methods: Sequence[str] = ()) -> None:
    """The folder that `run_peers.py` reads: reference and sample on the genes that both have."""
    folder.mkdir()
    training = reference.training
    mine, theirs = common_genes(training.features, variants[0].sample.matrix.features)
    sp.save_npz(folder / "reference.npz", training.counts[:, mine].tocsr())
    np.save(folder / "reference_codes.npy", training.type_codes)
    for variant in variants:
        sp.save_npz(folder / f"query-{variant.name}.npz", variant.sample.matrix.counts()[:, theirs].tocsr())
    if reference.averages is not None:
        sp.save_npz(folder / "averages.npz", sp.csr_matrix(reference.averages.shares[:, mine]))
        np.save(folder / "averages_codes.npy", reference.averages.type_codes)
    told = {"variants": [variant.name for variant in variants], "methods": list(methods)}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def common_genes(mine: Features, theirs: Features) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the genes that both have, by symbol; of a repeated symbol the first."""
    row_of = {name: row for row, name in reversed(list(enumerate(theirs.names.tolist())))}
    first = {name: row for row, name in reversed(list(enumerate(mine.names.tolist())))}
    shared = [(row, row_of[name]) for name, row in first.items() if name in row_of]
    if not shared:
        raise SystemExit("reference and sample have no gene in common")
    rows = np.array(sorted(shared))
    return rows[:, 0], rows[:, 1]


def run_peers(python: Path, folders: Sequence[Path]) -> None:
    """All pairs in one process, on one thread."""
    run_script(python, "run_peers.py", *folders)


def read_peers(folder: Path, variants: Sequence[Variant]) -> dict[tuple[str, str], Answers]:
    """(method, variant) -> answers."""
    found = {}
    for method, record in json.loads((folder / "peers.json").read_text(encoding="utf-8")).items():
        for variant in variants:
            path = folder / f"answers-{method}-{variant.name}.npz"
            if not path.exists():
                found[method, variant.name] = Answers(np.zeros(0, dtype=int), failed=record["failed"])
                continue
            with np.load(path) as stored:
                found[method, variant.name] = Answers(
                    stored["codes"],
                    stored.get("confidence"),
                    stored.get("posterior"),
                    fit_s=record["fit_s"],
                    classify_s=record["classify_s"][variant.name],
                )
    return found
