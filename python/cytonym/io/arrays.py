"""The files between stages: named arrays and one JSON value in an HDF5 file; the same content gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from ..errors import InputError
from ..search.evidence import Evidence
from ..types import Alert, Fitted, Predictions
from .hdf5 import written_h5

EMBEDDINGS = "embeddings"
EVIDENCE = "evidence/"


def write_arrays(path: Path, kind: str, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    with written_h5(path) as (file, _):
        file.attrs["kind"] = kind
        # a dataset, not an attribute: HDF5 attributes end at 64 KiB
        file.create_dataset("meta", data=np.frombuffer(json.dumps(meta).encode("utf-8"), dtype=np.uint8))
        for name, array in arrays.items():
            data = np.char.encode(array.astype(str), "utf-8") if array.dtype.kind in "UOT" else array
            dataset = file.create_dataset(f"arrays/{name}", data=data)
            dataset.attrs["text"] = array.dtype.kind in "UOT"


def read_arrays(
    path: Path, kind: str, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Meta and the wanted arrays of a stage file; InputError if it is damaged or of another kind."""
    try:
        with h5py.File(path, "r") as file:
            found = file.attrs.get("kind")
            if found != kind:
                raise InputError(f"{path} holds {found or 'no cytonym data'}, not {kind}.")
            meta = json.loads(file["meta"][()].tobytes().decode("utf-8"))
            arrays = {}
            for name, dataset in _datasets(file):
                if not wanted(name):
                    continue
                data = dataset[()]
                arrays[name] = np.char.decode(data, "utf-8") if dataset.attrs["text"] else data
            return meta, arrays
    except (OSError, KeyError) as exc:
        raise InputError(f"{path} is damaged: {exc}. Delete it and run the same command again.") from exc


def write_fitted(path: Path, fitted: Fitted) -> None:
    meta = {"model": fitted.model, "meta": fitted.meta, "alerts": [asdict(alert) for alert in fitted.alerts]}
    write_arrays(path, "fitted", meta, fitted.arrays)


def read_fitted(path: Path) -> Fitted:
    meta, arrays = read_arrays(path, "fitted")
    return Fitted(meta["model"], meta["meta"], arrays, tuple(Alert(**alert) for alert in meta["alerts"]))


def write_predictions(path: Path, predictions: Predictions) -> None:
    meta = {"start": predictions.start, "labels": predictions.labels.to_dict(orient="split", index=False)}
    arrays = {
        "barcodes": predictions.barcodes,
        "umi_counts": predictions.umi_counts,
        "label_codes": predictions.label_codes,
        **{f"values/{name}": values for name, values in predictions.values.items()},
    }
    if predictions.embeddings is not None:
        arrays[EMBEDDINGS] = predictions.embeddings
    if predictions.evidence is not None:
        arrays |= {f"{EVIDENCE}{name}": value for name, value in predictions.evidence.arrays().items()}
    write_arrays(path, "predictions", {**meta, "values": list(predictions.values)}, arrays)


def read_predictions(path: Path) -> Predictions:
    """All but what is large: `read_embeddings` and `read_neighbours` give it."""
    meta, arrays = read_arrays(path, "predictions", lambda name: name != EMBEDDINGS and not name.startswith(EVIDENCE))
    return Predictions(
        start=meta["start"],
        barcodes=arrays["barcodes"],
        umi_counts=arrays["umi_counts"],
        labels=pd.DataFrame(**meta["labels"]),
        label_codes=arrays["label_codes"],
        values={name: arrays[f"values/{name}"] for name in meta["values"]},
    )


def read_embeddings(path: Path) -> np.ndarray:
    """Cells x size, float32; InputError if the file has none."""
    _, arrays = read_arrays(path, "predictions", lambda name: name == EMBEDDINGS)
    if EMBEDDINGS not in arrays:
        raise InputError(f"{path} holds no embeddings. Classify again with a plan that wants them.")
    return arrays[EMBEDDINGS]


def read_neighbours(path: Path) -> Evidence:
    """What neighbours the cells have; InputError if the file tells nothing of them."""
    _, arrays = read_arrays(path, "predictions", lambda name: name.startswith(EVIDENCE))
    if not arrays:
        raise InputError(f"{path} holds no evidence. Classify again with a plan that wants it.")
    return Evidence(**{name.removeprefix(EVIDENCE): value for name, value in arrays.items()})


def _datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((name, item))

    if "arrays" in file:
        file["arrays"].visititems(keep)
    return found
