"""`.keras` files of Keras 3: a zip of config.json and model.weights.h5, read as a graph without Keras.

What the model was compiled with (optimizer, losses) has no part in inference and is left aside.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..azimuth.graph import INPUT, Graph, Node, make_graph
from ..azimuth.layers import settings_of
from ..errors import ModelError

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
SCALER = "TemperatureScalingTwoParam"  # the one layer of a calibrator
DTYPE = "float32"


def read_keras_graph(data: bytes, where: str) -> Graph:
    """The graph in a `.keras` file's bytes; ModelError, with `where`, for anything that cannot be used."""
    with _readable(where):
        config, weights = _members(data, where)
        layers = _layers(config)
        nodes = [node for layer in layers for node in _nodes(layer)]
        outputs = _references(config["config"]["output_layers"])
        return make_graph(nodes, outputs, _weights(weights, layers))


def read_temperatures(data: bytes, where: str) -> tuple[float, float]:
    """The two numbers (theta 0, theta 1) of a calibrator."""
    with _readable(where):
        config, weights = _members(data, where)
        layers = _layers(config)
        scalers = [layer["name"] for layer in layers if layer["class_name"] == SCALER]
        if len(scalers) != 1:
            raise ModelError("It has no temperature scaler.")
        found = _weights(weights, layers).get(scalers[0], ())
        if [array.size for array in found] != [1, 1]:
            raise ModelError("Its temperature scaler does not hold two numbers.")
        theta_0, theta_1 = (array.item() for array in found)
        return theta_0, theta_1


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """Errors with the file's name; those of zip, JSON and HDF5 turned into ours."""
    try:
        yield
    except ModelError as exc:
        raise ModelError(f"{where} cannot be used. {exc}") from exc
    except (zipfile.BadZipFile, zlib.error, EOFError) as exc:
        raise ModelError(f"{where} is not a whole .keras file ({exc}). Download or copy it again.") from exc
    except (OSError, RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise ModelError(f"{where} is damaged or no Keras 3 model: {exc!r}. Download or copy it again.") from exc


def _members(data: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        missing = [name for name in (CONFIG, WEIGHTS) if name not in archive.namelist()]
        if missing:
            raise ModelError(f"It lacks {' and '.join(missing)}: a .keras file of Keras 3 is wanted.")
        config, weights = json.loads(archive.read(CONFIG)), archive.read(WEIGHTS)
    kind = config.get("class_name")
    if kind != "Functional":
        raise ModelError(f"It holds a {kind} model; a Functional one is wanted.")
    return config, weights


def _layers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    layers = config["config"]["layers"]
    for layer in layers:
        dtype = layer["config"].get("dtype", DTYPE)
        name = dtype["config"]["name"] if isinstance(dtype, Mapping) else dtype
        if name != DTYPE:
            raise ModelError(f"Layer '{layer['name']}' computes in {name}; {DTYPE} is wanted.")
    return layers


def _nodes(layer: Mapping[str, Any]) -> Iterator[Node]:
    """One node for each use of the layer."""
    name, kind, config = layer["name"], layer["class_name"], layer["config"]
    if kind == INPUT:
        shape = config.get("batch_shape") or config["batch_input_shape"]
        if len(shape) != 2 or not isinstance(shape[1], int):
            raise ModelError(f"Layer '{name}' takes input of the shape {shape}; a row of numbers a cell is wanted.")
        yield Node(name, name, kind, {"width": shape[1]}, ())
        return
    settings = settings_of(kind, name, config)
    for index, call in enumerate(layer["inbound_nodes"]):
        yield Node(_node_name(name, index), name, kind, settings, tuple(_tensors(call["args"])))


def _node_name(layer: str, index: int) -> str:
    return f"{layer}:{index}" if index else layer


def _tensors(value: Any) -> Iterator[str]:
    """The nodes named in a call's arguments, in order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            yield _reference(value["config"]["keras_history"])
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _tensors(part)


def _reference(history: Sequence[Any]) -> str:
    layer, node, tensor = history
    if tensor != 0:
        raise ModelError(f"Layer '{layer}' has more than one output; cytonym knows none that does.")
    return _node_name(layer, node)


def _references(listed: Sequence[Any]) -> list[str]:
    """Of a list of [layer, node, tensor]; Keras writes a single one without the list around it."""
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [_reference(one) for one in listed]


def _weights(data: bytes, layers: Sequence[Mapping[str, Any]]) -> dict[str, list[np.ndarray]]:
    """Arrays by layer name.

    Groups are numbered by class in the order of the configuration, whatever the layers are called; newer files name
    the layer in an attribute. Where the two disagree nothing can be trusted.
    """
    found: dict[str, list[np.ndarray]] = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        if "layers" not in file:
            raise ModelError(f"Its {WEIGHTS} has no group 'layers': it was not saved by Keras 3.")
        seen: Counter[str] = Counter()
        for layer in layers:
            base = snake_case(layer["class_name"])
            group = file.get(f"layers/{base}_{seen[base]}" if seen[base] else f"layers/{base}")
            seen[base] += 1
            if group is None or "vars" not in group:
                continue
            variables = group["vars"]
            named = variables.attrs.get("name", layer["name"])
            if named != layer["name"]:
                raise ModelError(f"The weights in {group.name} are of '{named}', where '{layer['name']}' is expected.")
            arrays = [variables[key] for key in sorted(variables, key=int)]
            found[layer["name"]] = [np.ascontiguousarray(array[()], dtype=np.float32) for array in arrays]
    return found


def snake_case(class_name: str) -> str:
    """Keras' name of a class in its weights file: "BatchNormalization" is "batch_normalization", "ReLU" "re_lu"."""
    words = re.sub(r"\W+", "", class_name)
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", words)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def read_bytes(path: Path) -> bytes:
    """A model file's bytes; ModelError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
