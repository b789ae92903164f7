"""A feed-forward graph of layers: plain values that can be stored, and the pass of a block of cells through it."""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ModelError
from .layers import LAYERS

INPUT = "InputLayer"


@dataclass(frozen=True)
class Node:
    """One use of a layer."""

    name: str  # the layer's; "<name>:1" and so on when a layer is used again
    layer: str
    kind: str  # Keras' class name
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]  # names of nodes


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its inputs; weights by layer, in Keras' order."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, tuple[np.ndarray, ...]]
    width: int  # of the input

    def run(self, x: np.ndarray, wanted: Iterable[str]) -> dict[str, np.ndarray]:
        """The named nodes' values for a block, rows x `width`; each other value is dropped after its last use."""
        wanted = tuple(wanted)
        needed = self._needed(wanted)
        uses = Counter(name for node in needed for name in node.inputs)
        uses.update(wanted)
        values: dict[str, np.ndarray] = {}
        for node in needed:
            values[node.name] = x if node.kind == INPUT else self._apply(node, [values[name] for name in node.inputs])
            for name in node.inputs:
                uses[name] -= 1
                if not uses[name]:
                    del values[name]
        return {name: values[name] for name in wanted}

    def _apply(self, node: Node, inputs: Sequence[np.ndarray]) -> np.ndarray:
        return LAYERS[node.kind].apply(inputs, self.weights.get(node.layer, ()), **node.settings)

    def _needed(self, wanted: Sequence[str]) -> list[Node]:
        names, needed = set(wanted), []
        for node in reversed(self.nodes):
            if node.name in names:
                needed.append(node)
                names.update(node.inputs)
        return needed[::-1]


def make_graph(nodes: Iterable[Node], outputs: Sequence[str], weights: Mapping[str, Sequence[np.ndarray]]) -> Graph:
    """A graph that runs: sorted, and tried with one row; ModelError names the layer that does not fit."""
    by_name = {node.name: node for node in nodes}
    for name, node in by_name.items():
        missing = [source for source in node.inputs if source not in by_name]
        if missing:
            raise ModelError(f"Layer '{name}' takes its input from '{missing[0]}', which the model does not have.")
    absent = [name for name in outputs if name not in by_name]
    if absent:
        raise ModelError(f"The model's output '{absent[0]}' is no layer of it.")
    try:
        order = list(graphlib.TopologicalSorter({name: node.inputs for name, node in by_name.items()}).static_order())
    except graphlib.CycleError as exc:
        raise ModelError(f"The model's layers form a circle: {', '.join(exc.args[1])}.") from exc
    inputs = [node for node in by_name.values() if node.kind == INPUT]
    if len(inputs) != 1:
        raise ModelError(f"The model has {len(inputs)} inputs; a model with one is wanted.")
    graph = Graph(
        nodes=tuple(by_name[name] for name in order),
        outputs=tuple(outputs),
        weights={name: tuple(arrays) for name, arrays in weights.items()},
        width=int(inputs[0].settings["width"]),
    )
    _check(graph)
    return graph


def _check(graph: Graph) -> None:
    """Every layer has its weights, in shapes that fit what comes in: shown by the pass of one row."""
    values: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.kind == INPUT:
            values[node.name] = np.zeros((1, graph.width), dtype=np.float32)
            continue
        layer, weights = LAYERS[node.kind], graph.weights.get(node.layer, ())
        found, wanted = len(weights), layer.n_weights(node.settings)
        if found != wanted:
            raise ModelError(f"Layer '{node.name}' ({node.kind}) has {found} weight arrays, but needs {wanted}.")
        n_inputs = len(node.inputs)
        if n_inputs < layer.fewest_inputs or (layer.most_inputs is not None and n_inputs > layer.most_inputs):
            raise ModelError(f"Layer '{node.name}' ({node.kind}) has {n_inputs} inputs.")
        if node.kind == "Dense":
            _check_dense(node, weights, values[node.inputs[0]].shape[1])
        try:
            values[node.name] = LAYERS[node.kind].apply(
                [values[name] for name in node.inputs], weights, **node.settings
            )
        except ValueError as exc:
            raise ModelError(f"Layer '{node.name}' ({node.kind}) has weights of a wrong shape: {exc}.") from exc
        shape = values[node.name].shape
        if len(shape) != 2 or shape[0] != 1:
            raise ModelError(f"Layer '{node.name}' ({node.kind}) has weights of a wrong shape.")


def _check_dense(node: Node, weights: Sequence[np.ndarray], n_in: int) -> None:
    units = int(node.settings["units"])
    wanted = [(n_in, units), (units,)][: len(weights)]
    found = [array.shape for array in weights]
    if found != wanted:
        raise ModelError(f"Layer '{node.name}' (Dense) has weights of the shapes {found}, but needs {wanted}.")
