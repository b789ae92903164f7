"""Labelled cells made for tests, and a reference model learnt from them and installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytonym.backends.reference import COLUMNS
from cytonym.io.model_store import install_model, installed_model
from cytonym.markers import load_markers
from cytonym.matrix import Features
from cytonym.ontology import Ontology, Term
from cytonym.reference_model.drawn import drawn_training_set
from cytonym.reference_model.learn import learn_reference
from cytonym.reference_model.training import ReferenceType, TrainingSet
from cytonym.types import Model, ModelCard

ONTOLOGY = Ontology(
    (
        Term("CL:0000000", "cell"),
        Term("CL:0000738", "leukocyte", ("CL:0000000",)),
        Term("CL:0000542", "lymphocyte", ("CL:0000738",)),
        Term("CL:0000236", "B cell", ("CL:0000542",)),
        Term("CL:0000623", "natural killer cell", ("CL:0000542",)),
        Term("CL:0000576", "monocyte", ("CL:0000738",)),
    )
)
TYPES = (
    ReferenceType("B cells", "CL:0000236", broad="lymphoid", coarse="B cell"),
    ReferenceType("Monocytes", "CL:0000576", broad="myeloid", coarse="monocyte"),
    ReferenceType("NK cells", "CL:0000623", broad="lymphoid", coarse="natural killer cell"),
)


def blood_averages() -> tuple[np.ndarray, Features]:
    """(3, G) rates of marker genes in B cells, monocytes and natural killer cells."""
    table = load_markers("human")
    names = sorted({gene for kind in table.types for gene in (*kind.defining, *kind.supporting)})
    rates = np.full((3, len(names)), 0.02)
    for row, name in enumerate(("B cell", "monocyte", "natural killer cell")):
        kind = next(kind for kind in table.types if kind.name == name)
        rates[row, np.isin(names, kind.defining)] += 12
        rates[row, np.isin(names, kind.supporting)] += 4
    return rates, Features(np.array([table.gene_ids[name] for name in names]), np.array(names))


def blood_training() -> TrainingSet:
    """Forty cells of each of the three types."""
    rates, features = blood_averages()
    return drawn_training_set(rates, [0, 1, 2], features, TYPES)


def install_blood_reference(folder: Path) -> Model:
    """A model of `blood_training`, in the folder of installed models."""
    learnt = learn_reference(blood_training(), ONTOLOGY)
    card = ModelCard(
        name="blood",
        backend="reference",
        folder="blood",
        title="Blood",
        species=("human",),
        version="1",
        licence="MIT",
        description="Three types of blood cells.",
        columns=COLUMNS,
    )
    install_model(folder, card, learnt.meta(), learnt.arrays())
    return installed_model(folder, "blood")
