"""Probabilities made softer or sharper by a temperature that grows with their entropy."""

from __future__ import annotations

import numpy as np

from .layers import softmax, softplus

SMALLEST_PROBABILITY = np.float32(1e-8)
TEMPERATURES = (0.001, 1000.0)


def calibrate(probabilities: np.ndarray, theta_0: float, theta_1: float) -> np.ndarray:
    """Cells x classes of one level, float32: softmax(logits / T) with T = softplus(theta 0 + theta 1 * entropy).

    The order of a cell's classes stays as it is, but for ties at the smallest probability.
    """
    q = np.clip(probabilities, SMALLEST_PROBABILITY, np.float32(1))
    logits = np.log(q)
    entropy = -(q * logits).sum(axis=1, keepdims=True)
    logits -= logits.mean(axis=1, keepdims=True)
    temperature = np.clip(softplus(np.float32(theta_0) + np.float32(theta_1) * entropy), *TEMPERATURES)
    logits /= temperature
    return softmax(logits)
