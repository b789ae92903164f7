"""A pickled list of scikit-learn label encoders, read as plain arrays; nothing in the file can run code."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import ModelError


class LabelEncoder:
    """Stands in for scikit-learn's class of that name: holds what was pickled, does nothing."""


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """An empty array that the pickle fills next; numpy's own function of that name would make any subclass."""
    if kind is not ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array of an unusual kind")
    return ndarray((0,), dtype="b")


ALLOWED: dict[tuple[str, str], Any] = {
    ("sklearn.preprocessing._label", "LabelEncoder"): LabelEncoder,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ModelError(f"It asks for {module}.{name}, which label encoders do not need. Do not use this file.")
        return ALLOWED[module, name]


def read_encoders(data: bytes, where: str) -> tuple[tuple[str, ...], ...]:
    """The classes of each encoder, in the order of their ids; ModelError for anything but label encoders."""
    try:
        encoders = _Unpickler(io.BytesIO(data)).load()
        classes = [encoder.classes_ for encoder in encoders]
    except ModelError as exc:
        raise ModelError(f"{where} is refused. {exc}") from exc
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        MemoryError,
        OverflowError,
        TypeError,
        ValueError,
    ) as exc:
        raise ModelError(f"{where} is damaged, or no list of label encoders: {exc!r}. Copy it again.") from exc
    for found in classes:
        if not isinstance(found, np.ndarray) or found.ndim != 1 or not all(isinstance(name, str) for name in found):
            raise ModelError(f"{where} holds an encoder whose classes are not names.")
    return tuple(tuple(str(name) for name in found) for found in classes)
