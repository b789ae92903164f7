"""What each Keras layer computes in inference, on float32 matrices of cells x units."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import erf

from ..errors import ModelError

Arrays = Sequence[np.ndarray]
LAST_AXIS = (-1, 1, [1], [-1])  # the ways to say it for a matrix
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


# ---- activations


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.abs(x))) * np.where(x < 0, np.exp(-np.abs(x)), 1)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x) that neither overflows nor loses small values."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / np.float32(np.sqrt(2))))


def relu(
    x: np.ndarray, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0
) -> np.ndarray:
    if max_value is None and not negative_slope and not threshold:
        return np.maximum(x, 0)
    above = np.where(x >= threshold, x, negative_slope * (x - threshold))
    return above if max_value is None else np.minimum(above, max_value)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": relu,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "elu": elu,
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "gelu": gelu,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "softplus": softplus,
    "leaky_relu": lambda x: np.where(x >= 0, x, 0.2 * x),
}


# ---- layers: inputs and weights in Keras' order, settings by name


def dense(inputs: Arrays, weights: Arrays, *, use_bias: bool, activation: str, units: int) -> np.ndarray:
    product = inputs[0] @ weights[0]
    if use_bias:
        product += weights[1]
    return ACTIVATIONS[activation](product)


def batch_normalization(
    inputs: Arrays, weights: Arrays, *, epsilon: float, center: bool, scale: bool, axis: object
) -> np.ndarray:
    left = list(weights)
    gamma = left.pop(0) if scale else np.float32(1)
    beta = left.pop(0) if center else np.float32(0)
    mean, variance = left
    factor = gamma / np.sqrt(variance + np.float32(epsilon))
    return inputs[0] * factor + (beta - mean * factor)


def layer_normalization(
    inputs: Arrays, weights: Arrays, *, epsilon: float, center: bool, scale: bool, axis: object, rms_scaling: bool
) -> np.ndarray:
    x, left = inputs[0], list(weights)
    centred = x - x.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    y = centred / np.sqrt(variance + np.float32(epsilon))
    if scale:
        y = y * left.pop(0)
    return y + left.pop(0) if center else y


def prelu(inputs: Arrays, weights: Arrays, *, shared_axes: object) -> np.ndarray:
    return np.where(inputs[0] >= 0, inputs[0], weights[0] * inputs[0])


def same(inputs: Arrays, weights: Arrays) -> np.ndarray:
    """Of layers that work in training only, and of those that reshape a matrix to itself."""
    return inputs[0]


def concatenate(inputs: Arrays, weights: Arrays, *, axis: object) -> np.ndarray:
    return np.concatenate(inputs, axis=1)


def _merged(combine: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda inputs, weights: functools.reduce(combine, inputs)


def _elementwise(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda inputs, weights, **settings: function(inputs[0], **settings)


@dataclass(frozen=True)
class Layer:
    """One class of layers."""

    apply: Callable[..., np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)  # those that matter here, with Keras' defaults
    n_weights: Callable[[Mapping[str, Any]], int] = lambda settings: 0
    fewest_inputs: int = 1
    most_inputs: int | None = 1


_NORMALIZING = {"axis": -1, "epsilon": 0.001, "center": True, "scale": True}
_SAME = Layer(same)

LAYERS: dict[str, Layer] = {
    "Dense": Layer(
        dense, {"units": 0, "activation": "linear", "use_bias": True}, lambda settings: 1 + settings["use_bias"]
    ),
    "BatchNormalization": Layer(
        batch_normalization, _NORMALIZING, lambda settings: 2 + settings["center"] + settings["scale"]
    ),
    "LayerNormalization": Layer(
        layer_normalization,
        {**_NORMALIZING, "rms_scaling": False},
        lambda settings: settings["center"] + settings["scale"],
    ),
    "Activation": Layer(_elementwise(lambda x, activation: ACTIVATIONS[activation](x)), {"activation": "linear"}),
    "ReLU": Layer(_elementwise(relu), {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}),
    "LeakyReLU": Layer(
        _elementwise(lambda x, negative_slope: np.where(x >= 0, x, negative_slope * x)), {"negative_slope": 0.3}
    ),
    "ELU": Layer(_elementwise(elu), {"alpha": 1.0}),
    "PReLU": Layer(prelu, {"shared_axes": None}, lambda settings: 1),
    "Softmax": Layer(_elementwise(lambda x, axis: softmax(x)), {"axis": -1}),
    "Concatenate": Layer(concatenate, {"axis": -1}, fewest_inputs=2, most_inputs=None),
    "Add": Layer(_merged(np.add), fewest_inputs=2, most_inputs=None),
    "Multiply": Layer(_merged(np.multiply), fewest_inputs=2, most_inputs=None),
    "Maximum": Layer(_merged(np.maximum), fewest_inputs=2, most_inputs=None),
    "Subtract": Layer(_merged(np.subtract), fewest_inputs=2, most_inputs=2),
    "Average": Layer(
        lambda inputs, weights: functools.reduce(np.add, inputs) / np.float32(len(inputs)),
        fewest_inputs=2,
        most_inputs=None,
    ),
    **dict.fromkeys(
        (
            "Dropout",
            "GaussianDropout",
            "GaussianNoise",
            "AlphaDropout",
            "ActivityRegularization",
            "Identity",
            "Flatten",
        ),
        _SAME,
    ),
}


def settings_of(kind: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what a layer computes; ModelError for a class or a value that is not known here."""
    if kind not in LAYERS:
        raise ModelError(f"Layer '{name}' is of class {kind}, which cytonym does not know. {_TELL}")
    found = {key: config.get(key, default) for key, default in LAYERS[kind].settings.items()}
    if "activation" in found:
        found["activation"] = _activation(found["activation"], name)
    if found.get("axis", -1) not in LAST_AXIS:
        raise ModelError(f"Layer '{name}' ({kind}) works along axis {found['axis']}, not along its units. {_TELL}")
    if found.get("rms_scaling") or found.get("shared_axes"):
        raise ModelError(f"Layer '{name}' ({kind}) has a setting that cytonym does not know. {_TELL}")
    return found


def _activation(value: object, name: str) -> str:
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")
    value = "linear" if value is None else value
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ModelError(f"Layer '{name}' has the activation {value!r}, which cytonym does not know. {_TELL}")
    return value


_TELL = "Use a published model version, or a newer cytonym."
