"""What goes with a network: its gene panel, the names of its classes, refinement, ontology, temperatures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from .graph import Graph

N_LEVELS = 8
REFINED_LEVELS = ("broad", "medium", "fine")
EMBEDDING_LAYER = "dense_3"
SUM_TOLERANCE = 1e-3  # of the probabilities of one level


@dataclass(frozen=True)
class Tables:
    """The tables of one model version."""

    panel: tuple[str, ...]  # gene symbols in the order of the network's input, which is sorted
    classes: tuple[tuple[str, ...], ...]  # by level; a class's id is its place; "A|B||" says that it stops at B
    refinement: Mapping[str, tuple[tuple[str, str], ...]]  # by refined level: (label, target) in file order
    ontology: Mapping[str, str]  # last part of a label -> Cell Ontology id
    temperatures: tuple[tuple[float, float], ...]  # (theta 0, theta 1) by level; none: not calibrated


def check_tables(tables: Tables) -> None:
    """Raises ModelError if the tables do not fit each other."""
    repeated = [gene for gene, count in Counter(tables.panel).items() if count > 1]
    if repeated:
        raise ModelError(f"The gene panel lists {repeated[0]} more than once.")
    if len(tables.classes) != N_LEVELS:
        raise ModelError(f"There are {len(tables.classes)} label encoders; {N_LEVELS} are wanted.")
    for level, classes in enumerate(tables.classes):
        wrong = [name for name in classes if name.count("|") != level or not name.split("|")[0]]
        if wrong:
            raise ModelError(f"Class '{wrong[0]}' of level {level + 1} is not a path of {level + 1} parts.")
    if len(tables.temperatures) not in (0, N_LEVELS):
        raise ModelError(f"There are {len(tables.temperatures)} calibrators; {N_LEVELS} or none are wanted.")


def check_network(network: Graph, tables: Tables) -> None:
    """Raises ModelError if the network does not go with the tables."""
    if network.width != len(tables.panel):
        raise ModelError(
            f"The weights take {network.width} genes, but the gene panel has {len(tables.panel)}: they are of "
            "different model versions."
        )
    if len(network.outputs) != N_LEVELS:
        raise ModelError(f"The weights give {len(network.outputs)} outputs; {N_LEVELS} levels are wanted.")
    names = [node.name for node in network.nodes]
    if EMBEDDING_LAYER not in names:
        raise ModelError(f"The weights have no layer '{EMBEDDING_LAYER}', which holds the embedding.")
    rows = np.stack([np.zeros(network.width, dtype=np.float32), np.ones(network.width, dtype=np.float32)])
    values = network.run(rows, network.outputs)
    for level, name in enumerate(network.outputs):
        found, wanted = values[name].shape[1], len(tables.classes[level])
        if found != wanted:
            raise ModelError(f"Level {level + 1} has {found} outputs, but its label encoder {wanted} classes.")
        if not (np.abs(values[name].sum(axis=1) - 1) < SUM_TOLERANCE).all():
            raise ModelError(f"The outputs of level {level + 1} are no probabilities: their sum is not 1.")


def embedding_size(network: Graph) -> int:
    row = np.zeros((1, network.width), dtype=np.float32)
    return int(network.run(row, [EMBEDDING_LAYER])[EMBEDDING_LAYER].shape[1])
