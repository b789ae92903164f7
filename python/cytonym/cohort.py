"""Many samples side by side: what each is made of, and which of them are made otherwise than the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

FEWEST_SAMPLES = 4  # below, nothing is called an outlier
LARGE_Z = 3.5  # Iglewicz and Hoaglin 1993: modified z-scores beyond are potential outliers
FOLD = 2.0
POINTS = 0.02  # of share
COMMON_SHARE = 0.01  # types that reach it in no sample are taken together
NORMAL_MAD = 1.4826  # times the median absolute deviation: the standard deviation of normal values
PSEUDOCOUNT = 0.5


@dataclass(frozen=True)
class Composition:
    """What one model found in the samples that it ran on; arrays are samples x types."""

    model: str
    title: str
    samples: tuple[str, ...]  # sorted
    types: tuple[str, ...]  # coarse, most frequent in all samples first
    counts: np.ndarray  # cells
    expected: np.ndarray  # cells, as the other samples let expect; NaN for rare types and where samples are few
    log2_ratios: np.ndarray  # to that
    z: np.ndarray  # the same in robust standard deviations

    @property
    def shares(self) -> np.ndarray:
        return self.counts / self.counts.sum(axis=1, keepdims=True)

    @property
    def expected_shares(self) -> np.ndarray:
        return self.expected / self.counts.sum(axis=1, keepdims=True)

    @property
    def outliers(self) -> np.ndarray:
        """1 where a type is more frequent than the other samples let expect, -1 where it is rarer, else 0."""
        apart = np.abs(self.shares - self.expected_shares)
        far = (np.abs(self.z) > LARGE_Z) & (np.abs(self.log2_ratios) >= np.log2(FOLD)) & (apart >= POINTS)
        return np.where(far, np.sign(self.z), 0).astype(int)

    def table(self) -> pd.DataFrame:
        """One row a sample and type, as in cohort_composition.csv."""
        n_types = len(self.types)
        return pd.DataFrame(
            {
                "model": self.model,
                "sample": np.repeat(self.samples, n_types),
                "coarse_cell_type": np.tile(self.types, len(self.samples)),
                "n_cells": self.counts.ravel(),
                "share": np.round(self.shares.ravel(), 6),
                "expected_share": np.round(self.expected_shares.ravel(), 6),
                "log2_ratio": np.round(self.log2_ratios.ravel(), 4),
                "robust_z": np.round(self.z.ravel(), 4),
                "outlier": np.array(["low", "", "high"])[self.outliers.ravel() + 1],
            }
        )


def compositions(samples: Sequence[Mapping[str, Any]]) -> list[Composition]:
    """One for each model, sorted by name, of the samples' metrics.json; the samples' order does not matter."""
    models = sorted({name for sample in samples for name in sample["models"]})
    return [_composition(name, samples) for name in models]


def _composition(model: str, samples: Sequence[Mapping[str, Any]]) -> Composition:
    told = {sample["id"]: sample["models"][model] for sample in samples if model in sample["models"]}
    names = sorted(told)
    total: Counter[str] = Counter()
    for metrics in told.values():
        total.update(metrics["composition"])
    types = sorted(total, key=lambda name: (-total[name], name))
    counts = np.array([[told[sample]["composition"].get(name, 0) for name in types] for sample in names])
    expected, ratios, z = deviations(counts)
    return Composition(model, told[names[0]]["title"], tuple(names), tuple(types), counts, expected, ratios, z)


def deviations(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells to expect of each type in each sample, the log2 ratios of the counts to them, and their robust z-scores.

    Log counts, of half a cell more than there are, are centred on the sample's mean and the type's median over samples,
    then on the sample's median type, so that one type which swells does not make the others look shrunken. A z-score is
    that ratio over the type's spread (1.4826 times the median absolute deviation) and the error of counting, joined.
    NaN for types that reach 1 % in no sample, which are one type together here, and for all with fewer than four
    samples.
    """
    expected, ratios, z = (np.full(counts.shape, np.nan) for _ in range(3))
    common = np.flatnonzero((counts / counts.sum(axis=1, keepdims=True)).max(axis=0) >= COMMON_SHARE)
    if len(counts) < FEWEST_SAMPLES or len(common) < 2:
        return expected, ratios, z
    rare = np.delete(counts, common, axis=1).sum(axis=1, keepdims=True)
    parts = np.hstack([counts[:, common], rare] if rare.any() else [counts[:, common]]) + PSEUDOCOUNT
    logs = np.log(parts)
    centred = logs - np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)
    centred -= np.median(centred, axis=1, keepdims=True)
    centred -= np.median(centred, axis=0)
    spread = NORMAL_MAD * np.median(np.abs(centred), axis=0)
    likely = np.exp(logs - centred)
    scores = centred / np.sqrt(spread**2 + 1 / likely)
    for target, values in ((expected, np.maximum(likely - PSEUDOCOUNT, 0)), (ratios, centred / np.log(2)), (z, scores)):
        target[:, common] = values[:, : len(common)]
    return expected, ratios, z
