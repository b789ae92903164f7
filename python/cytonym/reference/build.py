"""Builds a reference: labelled files in, one bundle folder out, whole or not at all."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, OutputError
from ..io.bundle import write_bundle, write_cells
from ..io.files import sha256_of, write_text
from ..io.obo import read_ontology
from ..models import is_taken
from ..ontology import Ontology, Term
from ..ontology_data import load_ontology
from ..progress import LOGGER
from ..reference_model.learn import learn_reference
from ..reference_model.stored import ReferenceModel
from ..search.embedding import Embedding, learn_embedding
from ..search.index import write_vectors
from ..types import Model
from .cards import long_card, model_card
from .compared import compared_cells, compared_table
from .gather import Learnt, gather, known_names, open_inputs
from .labelled import LabelledInput
from .labels import suggestions, suggestions_tsv
from .request import BuildRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SUGGESTIONS_SUFFIX = ".labels.tsv"
TOLD_LABELS = 5


def build_reference(request: BuildRequest) -> Model:
    """The bundle of `request.output`. Labels without a term are listed, with suggestions, in a table beside it."""
    check_new(request.name, request.output)
    ontology = read_ontology(request.ontology) if request.ontology else load_ontology()
    with tempfile.TemporaryDirectory(prefix="cytonym-reference-") as scratch:
        return build_of(request, open_inputs(request, Path(scratch)), ontology)


def build_of(request: BuildRequest, inputs: Sequence[LabelledInput], ontology: Ontology) -> Model:
    """The bundle of inputs that are open already."""
    learnt = gather(request, inputs, ontology)
    LOGGER.info("learn from %s cells", f"{learnt.training.counts.shape[0]:,}")
    model = learn_reference(learnt.training, ontology, seed=request.seed)
    embedding = learn_embedding(learnt.training, seed=request.seed)
    _suggest(request, learnt, ontology)
    return write_reference(request, learnt, model, embedding, ontology)


def check_new(name: str, output: Path) -> None:
    """InputError for a name that no model can have, or that another model has; OutputError if the folder is there."""
    if not NAME.fullmatch(name):
        raise InputError(
            f"--name '{name}': a name has letters, digits, _, - and dots, and starts with a letter or digit."
        )
    if is_taken(name):
        raise InputError(f"--name '{name}' is the name of another model. Choose another.")
    if output.exists():
        raise OutputError(f"{output} exists already, and a reference is never changed. Choose another --output.")


def _suggest(request: BuildRequest, learnt: Learnt, ontology: Ontology) -> None:
    """The table of labels without a term, beside the bundle, and a line about it."""
    kept = {kind.label for kind in learnt.table.types}
    rows = suggestions(
        [term for of_input in learnt.terms for term in of_input if term.label in kept], known_names(ontology), ontology
    )
    if not rows:
        return
    path = request.output.with_name(request.output.name + SUGGESTIONS_SUFFIX)
    write_text(path, suggestions_tsv(rows))
    some = ", ".join(f"'{row[0]}'" for row in rows[:TOLD_LABELS]) + (", ..." if len(rows) > TOLD_LABELS else "")
    LOGGER.warning(
        "%s of %s labels have no Cell Ontology term (%s), and stand for themselves at every level. %s suggests terms: "
        "check them, and build again with --ontology-map",
        len(rows),
        len(kept),
        some,
        path,
    )


def write_reference(
    request: BuildRequest, learnt: Learnt, model: ReferenceModel, embedding: Embedding, ontology: Ontology
) -> Model:
    """Writes the bundle; the cells that are compared with are read for it once more."""
    sources = [(one, sha256_of(*one.files)) for one in learnt.inputs]
    n_vectors = sum(map(len, learnt.compared))

    def fill(folder: Path) -> None:
        LOGGER.info("embed %s cells", f"{n_vectors:,}")
        features, blocks = learnt.training.features, compared_cells(learnt)
        write_vectors(folder, embedding, features, blocks, n_vectors, seed=request.seed)
        write_cells(folder, *compared_table(learnt))

    return write_bundle(
        request.output,
        model_card(request, learnt, embedding, sources),
        long_card(request, learnt, model, sources),
        model.meta() | embedding.meta(),
        model.arrays() | embedding.arrays(),
        terms_above(model, ontology),
        fill,
    )


def terms_above(model: ReferenceModel, ontology: Ontology) -> list[Term]:
    """The terms of the types, and all above them."""
    ids = {term_id for kind in model.types if kind.ontology_id for term_id in ontology.lineage(kind.ontology_id)}
    return [ontology[term_id] for term_id in sorted(ids) if term_id in ontology]
