"""Network and tables as JSON values and arrays, to be stored as an installed model and as what was fitted, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, Node
from .tables import Tables


@dataclass(frozen=True)
class AzimuthModel:
    """Everything that turns counts into labels."""

    network: Graph
    tables: Tables


def model_meta(model: AzimuthModel) -> dict[str, Any]:
    network, tables = model.network, model.tables
    return {
        "nodes": [
            {"name": n.name, "layer": n.layer, "kind": n.kind, "settings": dict(n.settings), "inputs": list(n.inputs)}
            for n in network.nodes
        ],
        "outputs": list(network.outputs),
        "width": network.width,
        "weights": {layer: len(arrays) for layer, arrays in network.weights.items()},
        "panel": list(tables.panel),
        "classes": [list(classes) for classes in tables.classes],
        "refinement": {level: [list(row) for row in rows] for level, rows in tables.refinement.items()},
        "ontology": dict(tables.ontology),
        "temperatures": [list(pair) for pair in tables.temperatures],
    }


def model_arrays(model: AzimuthModel) -> dict[str, np.ndarray]:
    return {
        _array_name(number, i): array
        for number, arrays in enumerate(model.network.weights.values())
        for i, array in enumerate(arrays)
    }


def restore_model(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> AzimuthModel:
    """The model of what `model_meta` and `model_arrays` gave."""
    network = Graph(
        nodes=tuple(Node(**{**node, "inputs": tuple(node["inputs"])}) for node in meta["nodes"]),
        outputs=tuple(meta["outputs"]),
        weights={
            layer: tuple(arrays[_array_name(number, i)] for i in range(count))
            for number, (layer, count) in enumerate(meta["weights"].items())
        },
        width=meta["width"],
    )
    tables = Tables(
        panel=tuple(meta["panel"]),
        classes=tuple(tuple(classes) for classes in meta["classes"]),
        refinement={
            level: tuple((label, target) for label, target in rows) for level, rows in meta["refinement"].items()
        },
        ontology=meta["ontology"],
        temperatures=tuple((theta_0, theta_1) for theta_0, theta_1 in meta["temperatures"]),
    )
    return AzimuthModel(network, tables)


def _array_name(number: int, i: int) -> str:
    return f"weights_{number:03d}_{i}"
