"""Whether a cell looks like its own type at its depth (1.4, step 8): a score apart from the posterior."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from .fusion import KNOTS, hat_weights

SMOOTHNESS = 5.0  # cells' worth of penalty on bends of a curve
OWN_CELLS = 20.0  # a type with fewer strangers at a depth leans on the other types
SMALLEST_SD = 0.02
N_QUANTILES = 65
KNOWN = 0.75  # quantile of a sample's z that is compared with that of known types


@dataclass(frozen=True)
class Novelty:
    """Evidence for a cell's type a root UMI: what is expected of each type at each depth."""

    means: np.ndarray  # (n_knots, K)
    spreads: np.ndarray  # (n_knots, K) standard deviations
    quantiles: np.ndarray  # (N_QUANTILES,) of z over strangers of known types
    shift: np.ndarray  # () what a sample's platform takes off the z of all its cells

    def z(self, profile_scores: np.ndarray, totals: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """(n,) standardised evidence for the types `codes`; low: unlike its own type. 0 without counts."""
        hats = hat_weights(totals)
        mean, spread = ((hats * table.T[codes]).sum(axis=1) for table in (self.means, self.spreads))
        return np.where(totals > 0, (_evidence(profile_scores, totals, codes) - mean) / spread - self.shift, 0.0)

    def for_sample(self, z: np.ndarray) -> Novelty:
        """With the shift that these z of a sample's cells have in common.

        The better quarter of a sample is taken for cells of known types: where these show more or less evidence than
        strangers do, it is the platform's doing.
        """
        return replace(self, shift=np.asarray(np.quantile(z, KNOWN) - np.quantile(self.quantiles, KNOWN)))

    def tail(self, z: np.ndarray) -> np.ndarray:
        """(n,) share of cells of known types with a z that low; below the lowest of them by the normal law."""
        ranks = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
        lowest = self.quantiles[0]
        beyond = ranks[0] * ndtr(np.minimum(z, lowest)) / ndtr(lowest)
        return np.where(z < lowest, beyond, np.interp(z, self.quantiles, ranks))


def learn_novelty(profile_scores: np.ndarray, totals: np.ndarray, codes: np.ndarray) -> Novelty:
    """From strangers whose types are known."""
    kept = totals > 0
    profile_scores, totals, codes = profile_scores[kept], totals[kept], codes[kept]
    hats, values = hat_weights(totals), _evidence(profile_scores, totals, codes)
    means = _curves(hats, values, codes, profile_scores.shape[1])
    squares = (values - (hats * means.T[codes]).sum(axis=1)) ** 2
    spreads = np.sqrt(np.maximum(_curves(hats, squares, codes, profile_scores.shape[1]), SMALLEST_SD**2))
    unranked = Novelty(means, spreads, np.zeros(N_QUANTILES), np.zeros(()))
    z = unranked.z(profile_scores, totals, codes)
    return replace(unranked, quantiles=np.quantile(z, (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES))


def _evidence(profile_scores: np.ndarray, totals: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.asarray(profile_scores[np.arange(len(codes)), codes] / np.sqrt(np.maximum(totals, 1)), dtype=np.float64)


def _curves(hats: np.ndarray, values: np.ndarray, codes: np.ndarray, n_types: int) -> np.ndarray:
    """(n_knots, K) piecewise linear curve of each type through its values, near that of all types where it has few."""
    bends = np.diff(np.eye(len(KNOTS)), n=2, axis=0)
    penalty = SMOOTHNESS * bends.T @ bends + 1e-3 * np.eye(len(KNOTS))
    common = np.linalg.solve(hats.T @ hats + penalty, hats.T @ values)
    curves = np.empty((len(KNOTS), n_types))
    lean = OWN_CELLS / len(KNOTS) * np.eye(len(KNOTS))
    for code in range(n_types):
        own = codes == code
        normal = hats[own].T @ hats[own] + penalty + lean
        curves[:, code] = common + np.linalg.solve(normal, hats[own].T @ (values[own] - hats[own] @ common))
    return curves
