"""Keras graphs made by hand as files, and the same computed here by numpy; and files that cannot be used."""

from __future__ import annotations

import io
import json
import math
import zipfile

import h5py
import numpy as np
import pytest

from azimuth_files import FLOAT32, calibrator_file, input_layer, keras_file, layer, tensor
from cytonym.azimuth.layers import ACTIVATIONS
from cytonym.errors import ModelError
from cytonym.io.keras_zip import read_keras_graph, read_temperatures, snake_case

CLOSE = 2e-6
X = np.array([[0.5, -1.0, 2.0], [0.0, 0.25, -3.0]], dtype=np.float32)


def run(data: bytes, x: np.ndarray = X) -> list[np.ndarray]:
    graph = read_keras_graph(data, "made.keras")
    found = graph.run(x, graph.outputs)
    assert all(value.dtype == np.float32 for value in found.values())
    return [found[name] for name in graph.outputs]


def one_layer(kind: str, *weights: np.ndarray, **config: object) -> bytes:
    """A file with one layer of that class after the input of three numbers."""
    layers = [input_layer(3), layer(kind, "it", "input_layer", **config)]
    return keras_file(layers, ["it"], {"it": weights} if weights else {}, groups={"it": snake_case(kind)})


def test_a_branching_graph(rng):
    """Dense, batch norm, dropout, an added branch and a concatenated one, gelu, layer norm, softmax, in order."""
    k1, b1 = rng.normal(size=(3, 4)), rng.normal(size=4)
    gamma, beta, mean, variance = rng.normal(size=(4, 4))
    k2, b2 = rng.normal(size=(4, 4)), rng.normal(size=4)
    scale, shift = rng.normal(size=(2, 8))
    k3 = rng.normal(size=(8, 3))
    layers = [
        input_layer(3),
        layer("Dense", "first", "input_layer", units=4, activation="relu"),
        layer("BatchNormalization", "norm", "first", epsilon=0.01, axis=-1, center=True, scale=True),
        layer("Dropout", "drop", "norm", rate=0.5),
        layer("Dense", "second", "drop", units=4, activation="linear"),
        layer("Add", "sum", "second", "norm"),
        layer("Activation", "gelu", "sum", activation="gelu"),
        layer("Concatenate", "both", "gelu", "first", axis=-1),
        layer("LayerNormalization", "rows", "both", epsilon=0.001, axis=[-1]),
        layer("Dense", "last", "rows", units=3, activation="softmax", use_bias=False),
    ]
    weights = {
        "first": (k1, b1),
        "norm": (gamma, beta, mean, np.abs(variance)),
        "second": (k2, b2),
        "rows": (scale, shift),
        "last": (k3,),
    }
    groups = {
        "first": "dense",
        "norm": "batch_normalization",
        "second": "dense_1",
        "rows": "layer_normalization",
        "last": "dense_2",
    }
    (found,) = run(keras_file(layers, ["last"], weights, groups=groups))

    first = np.maximum(X @ k1 + b1, 0)
    norm = gamma * (first - mean) / np.sqrt(np.abs(variance) + 0.01) + beta
    summed = norm @ k2 + b2 + norm
    gelu = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))(summed)
    both = np.hstack([gelu, first])
    rows = (both - both.mean(1, keepdims=True)) / np.sqrt(both.var(1, keepdims=True) + 0.001) * scale + shift
    powers = np.exp(rows @ k3)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), atol=CLOSE)


@pytest.mark.parametrize(
    ("activation", "at_one", "at_minus_one"),
    [
        ("linear", 1, -1),
        ("relu", 1, 0),
        ("sigmoid", 0.7310586, 0.2689414),
        ("tanh", 0.7615942, -0.7615942),
        ("elu", 1, -0.6321206),
        ("selu", 1.0507010, -1.1113307),
        ("gelu", 0.8413447, -0.1586553),
        ("silu", 0.7310586, -0.2689414),
        ("swish", 0.7310586, -0.2689414),
        ("softplus", 1.3132617, 0.3132617),
        ("leaky_relu", 1, -0.2),
        ("softmax", 0.8807971, 0.1192029),
    ],
)
def test_activations(activation, at_one, at_minus_one):
    """Each at 1 and -1, worked out by hand; softmax of the two together."""
    found = ACTIVATIONS[activation](np.array([[1, -1]], dtype=np.float32))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([at_one, at_minus_one], abs=1e-6)


def test_every_activation_is_tested_and_none_overflows():
    """Large numbers give what the limit is, without a warning."""
    with np.errstate(over="raise", invalid="raise"):
        for name in ACTIVATIONS:
            assert np.isfinite(ACTIVATIONS[name](np.array([[500, -500]], dtype=np.float32))).all(), name


LAYERS = {  # class, settings, weights -> what row 0.5, -1, 2 becomes
    "dropout": (("Dropout", {"rate": 0.9}), (), [0.5, -1, 2]),
    "relu": (("ReLU", {}), (), [0.5, 0, 2]),
    "relu with limits": (
        ("ReLU", {"max_value": 1.5, "negative_slope": 0.1, "threshold": 1.0}),
        (),
        [-0.05, -0.2, 1.5],
    ),
    "leaky relu": (("LeakyReLU", {}), (), [0.5, -0.3, 2]),
    "elu": (("ELU", {"alpha": 2.0}), (), [0.5, -1.2642411, 2]),
    "prelu": (("PReLU", {}), ([0.5, 0.25, 9],), [0.5, -0.25, 2]),
    "softmax": (("Softmax", {"axis": -1}), (), [0.1752904, 0.0391126, 0.7855970]),
    "layer norm without weights": (
        ("LayerNormalization", {"center": False, "scale": False, "epsilon": 1e-7}),
        (),
        [0, -1.2247449, 1.2247449],
    ),
    "batch norm without gamma": (
        ("BatchNormalization", {"scale": False, "epsilon": 0.0}),
        ([1, 1, 1], [0, 1, 0], [1, 4, 0.25]),
        [1.5, 0, 5],
    ),
    "flatten": (("Flatten", {}), (), [0.5, -1, 2]),
}


@pytest.mark.parametrize("case", LAYERS)
def test_single_layers(case):
    """Each class of layers by a number worked out by hand."""
    (kind, config), weights, expected = LAYERS[case]
    (found,) = run(one_layer(kind, *map(np.array, weights), **config), np.array([[0.5, -1, 2]], dtype=np.float32))
    if case == "layer norm without weights":  # of 0, -1, 1
        (found,) = run(one_layer(kind, **config), np.array([[0, -1, 1]], dtype=np.float32))
    assert found[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Add", [1.5, 0, 6]),
        ("Multiply", [0.5, -1, 8]),
        ("Average", [0.75, 0, 3]),
        ("Maximum", [1, 1, 4]),
        ("Subtract", [-0.5, -2, -2]),
    ],
)
def test_layers_with_two_inputs(kind, expected):
    """The row 0.5, -1, 2 with its own square plus or minus nothing: 1, 1, 4 are made by a dense layer's bias."""
    layers = [
        input_layer(3),
        layer("Dense", "other", "input_layer", units=3),
        layer(kind, "merged", "input_layer", "other"),
    ]
    weights = {"other": (np.zeros((3, 3)), np.array([1, 1, 4]))}
    (found,) = run(keras_file(layers, ["merged"], weights, groups={"other": "dense"}))
    assert found[0] == pytest.approx(expected)


def test_a_layer_that_is_used_twice():
    """One set of weights, two uses: doubling twice gives four times as much."""
    twice = layer("Dense", "double", "input_layer", units=3, use_bias=False)
    twice["inbound_nodes"].append({"args": [tensor("double")], "kwargs": {}})
    last = layer("Activation", "end", "double", activation="linear")
    last["inbound_nodes"] = [{"args": [tensor("double", 1)], "kwargs": {}}]
    data = keras_file([input_layer(3), twice, last], ["end"], {"double": (2 * np.eye(3),)}, groups={"double": "dense"})
    np.testing.assert_array_equal(run(data)[0], 4 * X)


def test_weights_belong_to_layers_by_their_number_not_by_their_name():
    """The file's second dense group is the second dense layer's, which is called dense_7; old files name none."""
    layers = [
        input_layer(3),
        layer("Dense", "dense_1", "input_layer", units=3, use_bias=False),
        layer("Dense", "dense_7", "dense_1", units=3, use_bias=False),
    ]
    weights = {"dense_1": (2 * np.eye(3),), "dense_7": (np.diag([1, 10, 100]),)}
    groups = {"dense_1": "dense", "dense_7": "dense_1"}
    for named in (True, False):
        (found,) = run(keras_file(layers, ["dense_7"], weights, groups=groups, named=named))
        np.testing.assert_array_equal(found, X * [2, 20, 200])


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("Dense", "dense"),
        ("BatchNormalization", "batch_normalization"),
        ("InputLayer", "input_layer"),
        ("ReLU", "re_lu"),
        ("LeakyReLU", "leaky_re_lu"),
        ("TemperatureScalingTwoParam", "temperature_scaling_two_param"),
    ],
)
def test_names_of_groups(class_name, name):
    """As Keras spells them."""
    assert snake_case(class_name) == name


def test_the_two_numbers_of_a_calibrator():
    """To the last bit of the float32."""
    assert read_temperatures(calibrator_file(13, (0.1, -0.2)), "it") == (
        float(np.float32(0.1)),
        float(np.float32(-0.2)),
    )


# ---- files that cannot be used


def changed(data: bytes, **members: bytes | None) -> bytes:
    """The file with a member replaced, or left out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            content = members.get(name.split(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return packed.getvalue()


def dense(*shapes: tuple[int, ...], **config: object) -> bytes:
    return one_layer("Dense", *map(np.ones, shapes), **{"units": 2, **config})


def empty_h5() -> bytes:
    stored = io.BytesIO()
    h5py.File(stored, "w").close()
    return stored.getvalue()


GOOD = dense((3, 2), (2,))
TWO = [input_layer(3), layer("Dense", "it", "input_layer", units=3)]
BAD_FILES = {
    "no zip": (b"not a zip", "is not a whole .keras file"),
    "cut off": (GOOD[: len(GOOD) // 2], "is not a whole .keras file"),
    "no config": (changed(GOOD, config=None), "lacks config.json"),
    "no weights": (changed(GOOD, model=None), "lacks model.weights.h5"),
    "config is no JSON": (changed(GOOD, config=b"{"), "is damaged or no Keras 3 model"),
    "weights are no HDF5": (changed(GOOD, model=b"{}"), "is damaged or no Keras 3 model"),
    "weights of Keras 2": (changed(GOOD, model=empty_h5()), "has no group 'layers'"),
    "sequential": (changed(GOOD, config=json.dumps({"class_name": "Sequential"}).encode()), "a Sequential model"),
    "unknown layer": (one_layer("Conv1D"), "Layer 'it' is of class Conv1D, which cytonym does not know"),
    "unknown activation": (dense((3, 2), (2,), activation="mish"), "Layer 'it' has the activation 'mish'"),
    "custom activation": (dense((3, 2), (2,), activation={"class_name": "Mine"}), "Layer 'it' has the activation"),
    "other axis": (one_layer("Softmax", axis=0), "Layer 'it' .Softmax. works along axis 0"),
    "half precision": (
        dense((3, 2), (2,), dtype={**FLOAT32, "config": {"name": "mixed_float16"}}),
        "Layer 'it' computes in mixed_float16",
    ),
    "kernel of another width": (dense((4, 2), (2,)), r"'it' \(Dense\) has weights of the shapes .*\(4, 2\)"),
    "bias of another width": (dense((3, 2), (3,)), r"'it' \(Dense\) has weights of the shapes"),
    "no bias": (dense((3, 2)), "has 1 weight arrays, but needs 2"),
    "no weights of a layer": (dense(), "has 0 weight arrays, but needs 2"),
    "norm of another width": (
        one_layer("BatchNormalization", *[np.ones(4)] * 4),
        r"'it' \(BatchNormalization\) has weights of a wrong shape",
    ),
    "add of one": (one_layer("Add"), r"'it' \(Add\) has 1 inputs"),
    "weights of another layer": (
        keras_file(TWO, ["it"], {"other": (np.eye(3), np.ones(3))}, groups={"other": "dense"}),
        "are of 'other', where 'it' is expected",
    ),
    "unknown source": (keras_file([input_layer(3), layer("ReLU", "it", "gone")], ["it"], {}, groups={}), "from 'gone'"),
    "unknown output": (keras_file([input_layer(3)], ["gone"], {}, groups={}), "output 'gone' is no layer"),
    "circle": (
        keras_file([input_layer(3), layer("ReLU", "a", "b"), layer("ReLU", "b", "a")], ["b"], {}, groups={}),
        "form a circle",
    ),
    "two inputs": (keras_file([input_layer(3), input_layer(3, "i2")], ["i2"], {}, groups={}), "has 2 inputs"),
    "images": (
        keras_file([{**input_layer(3), "config": {"batch_shape": [None, 8, 8, 3]}}], ["input_layer"], {}, groups={}),
        "takes input of the shape",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_cannot_be_used(case):
    """One error that names the file, and the layer where there is one."""
    data, message = BAD_FILES[case]
    with pytest.raises(ModelError, match=rf"(?s)made\.keras.*{message}"):
        read_keras_graph(data, "made.keras")


@pytest.mark.parametrize(
    ("data", "message"),
    [(GOOD, "no temperature scaler"), (calibrator_file(3, (0.1,)), "does not hold two numbers")],
)
def test_calibrators_that_cannot_be_used(data, message):
    """Any other model, or one with another number of numbers."""
    with pytest.raises(ModelError, match=message):
        read_temperatures(data, "made.keras")
