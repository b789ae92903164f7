"""Files of a small Pan-Human Azimuth, made by hand: four types by eleven genes, whose answers are known by eye.

A type's score is the mean log-normalised value of its genes; `Unassigned` scores 1 whatever the cell holds, so that a
cell without counts is Unassigned.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.preprocessing import LabelEncoder

N_LEVELS = 8
TRUNK = 4
GENES = {  # type -> its genes
    "Immune cell|Lymphoid cell|B cell": ("MS4A1", "CD79A", "CD79B", "BANK1"),
    "Immune cell|Lymphoid cell|NK cell": ("NKG7", "GNLY", "KLRD1"),
    "Immune cell|Myeloid cell|Monocyte": ("S100A9", "LYZ", "CD14", "FCN1"),
    "Unassigned": (),
}
PANEL = tuple(gene for genes in GENES.values() for gene in genes)  # not sorted, as the published file is not
REFINEMENT = {
    "broad": {label: label.split("|")[0] for label in GENES},
    "medium": {label: "|".join(label.split("|")[:2]) for label in GENES},
    "fine": {label: label for label in GENES},
}
ONTOLOGY = {"B cell": "CL:0000236", "NK cell": "CL:0000623", "Lymphoid cell": "CL:0000542", "Immune cell": "CL:0000738"}
THETAS = (0.1, 0.2)
FLOAT32 = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}


def tensor(layer: str, node: int = 0) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [layer, node, 0]}}


def input_layer(width: int, name: str = "input_layer") -> dict[str, Any]:
    config = {"batch_shape": [None, width], "dtype": "float32", "name": name}
    return {"class_name": "InputLayer", "name": name, "config": config, "inbound_nodes": []}


def layer(kind: str, name: str, *sources: str, dtype: Any = FLOAT32, **config: Any) -> dict[str, Any]:
    """A layer as config.json has it; with several sources they come as a list, as into Concatenate."""
    tensors = [tensor(source) for source in sources]
    args = [tensors] if len(tensors) > 1 else tensors
    called = [{"args": args, "kwargs": {}}]
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, "dtype": dtype, **config},
        "inbound_nodes": called,
    }


def keras_file(
    layers: Sequence[Mapping[str, Any]],
    outputs: Sequence[str],
    weights: Mapping[str, Sequence[np.ndarray]],
    *,
    groups: Mapping[str, str],
    named: bool = True,
) -> bytes:
    """A `.keras` file: `weights` by layer name, `groups` the layer's group in the weights file, e.g. "dense_1"."""
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        file.create_group("layers")
        for name, arrays in weights.items():
            variables = file.create_group(f"layers/{groups[name]}/vars")
            if named:
                variables.attrs["name"] = name
            for i, array in enumerate(arrays):
                variables[str(i)] = np.asarray(array, dtype=np.float32)
    listed: Any = [[name, 0, 0] for name in outputs]
    config = {
        "class_name": "Functional",
        "config": {
            "name": "made",
            "layers": list(layers),
            "input_layers": [layers[0]["name"], 0, 0],
            "output_layers": listed[0] if len(outputs) == 1 else listed,
        },
        "compile_config": {"loss": "my_losses>level_wt_focal_loss"},
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.7.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stored.getvalue())
    return packed.getvalue()


def classes() -> list[list[str]]:
    """By level, sorted as a label encoder sorts them."""
    found = []
    for level in range(1, N_LEVELS + 1):
        paths = {"|".join((label.split("|") + [""] * N_LEVELS)[:level]) for label in GENES}
        found.append(sorted(paths))
    return found


def weights_file(panel: Sequence[str] = PANEL, *, name: str = "dense") -> bytes:
    """The network: four dense layers (the last one is the embedding), then a dense softmax layer a level."""
    genes, labels = sorted(panel), list(GENES)
    first = np.zeros((len(genes), len(labels)))
    for column, label in enumerate(labels):
        for gene in GENES[label]:
            if gene in genes:
                first[genes.index(gene), column] = 1 / len(GENES[label])
    bias = [1.0 if label == "Unassigned" else 0.0 for label in labels]
    n_units = len(labels)
    kernels = {name: (first, bias)} | {f"{name}_{i}": (np.eye(n_units), np.zeros(n_units)) for i in range(1, TRUNK)}
    names = list(kernels)
    layers = [input_layer(len(genes))]
    for source, one in zip(["input_layer", *names], names, strict=False):
        layers.append(layer("Dense", one, source, units=n_units, activation="relu", use_bias=True))
    outputs = []
    for level, found in enumerate(classes()):
        head = f"{name}_{TRUNK + level}"
        into = [[float(_is_of(label, of_level)) for of_level in found] for label in labels]
        kernels[head] = (np.array(into), np.zeros(len(found)))
        layers.append(layer("Dense", head, names[-1], units=len(found), activation="softmax", use_bias=True))
        outputs.append(head)
    groups = {one: f"dense_{i}" if i else "dense" for i, one in enumerate(kernels)}
    return keras_file(layers, outputs, kernels, groups=groups)


def _is_of(label: str, of_level: str) -> bool:
    """Whether a type belongs to a class: the class is the type's path, cut off or padded."""
    level = of_level.count("|") + 1
    return "|".join((label.split("|") + [""] * N_LEVELS)[:level]) == of_level


def calibrator_file(n_classes: int, thetas: Sequence[float] = THETAS) -> bytes:
    layers = [
        input_layer(n_classes, "logits"),
        input_layer(1, "uncertainty"),
        layer("TemperatureScalingTwoParam", "scaling", "logits", "uncertainty"),
    ]
    groups = {"scaling": "temperature_scaling_two_param"}
    return keras_file(layers, ["scaling"], {"scaling": [np.float32(theta) for theta in thetas]}, groups=groups)


def encoders_file(levels: Sequence[Sequence[str]]) -> bytes:
    encoders = [LabelEncoder().fit(list(names)) for names in levels]
    return pickle.dumps(encoders, protocol=4)


def tables_files(panel: Sequence[str] = PANEL, *, n_calibrators: int = N_LEVELS) -> dict[str, bytes]:
    """The tables of one version, by path below its folder."""
    files = {
        "inference_feature_panel/inference_feature_panel.txt": "".join(f"{gene}\n" for gene in panel).encode(),
        "inference_encoders/inference_encoders.pkl": encoders_file(classes()),
        "cell_ontology_map/cell_ontology_map.csv": _table(("Annotation_Label", "CL_ID"), ONTOLOGY),
    }
    for level, rows in REFINEMENT.items():
        name = f"postprocessing/panhuman_annotate_{level}.csv"
        files[name] = _table(("Orig_Label", f"Annotate_{level}"), rows)
    for level, found in enumerate(classes()[:n_calibrators], 1):
        files[f"calibration/temp_scaler_L_{level}.keras"] = calibrator_file(len(found))
    return files


def _table(header: tuple[str, str], rows: Mapping[str, str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows.items()])
    return text.getvalue().encode()


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_wheel(path: Path, versions: Mapping[str, Mapping[str, bytes]]) -> Path:
    """A wheel as pip takes it, with the tables of these versions."""
    with zipfile.ZipFile(path, "w") as wheel:
        for version, files in versions.items():
            for name, data in files.items():
                wheel.writestr(f"panhumanpy/_tools/{version}/{name}", data)
        info = "panhumanpy-1.0.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: panhumanpy\nVersion: 1.0.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def write_bundle(folder: Path) -> tuple[Path, Path]:
    """Weights and the tables of version v1, as `cytonym models install` takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.keras"
    weights.write_bytes(weights_file())
    write_files(folder / "tables" / "v1", tables_files())
    return weights, folder / "tables"
