"""How far to trust the profile score and the linear score of a cell of n UMIs, learnt on strangers (1.4, steps 5-7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize

KNOTS = np.array([15.0, 40.0, 100.0, 250.0, 700.0, 2000.0, 8000.0])  # UMIs
ROUGHNESS = 0.02  # penalty on squared differences of neighbouring knots
OFFSET_PENALTY = 0.003  # on squared offsets
CENTRE = 5.0  # of log n, in the offsets' slopes
# Studies agree on broad types and draw the lines between finer ones each in its own way, at any depth; cross-fitting
# inside one reference cannot see that. So scores count for more between broad types, and for less within one; those of
# averages, which show no spread of cells, count for less everywhere. Chosen on PBMC and pancreas pairs of studies.
OF_CELLS, OF_AVERAGES = (1.35, 0.5), (0.45, 0.45)  # factors between and within broad types
FAR_BEHIND = 600.0  # scores further below a cell's best make no difference
COMMON_TYPE = 200  # cells: types with more of them do not weigh more
START = (0.1, 5.0)  # of a and b
MOST_STEPS = 200


@dataclass(frozen=True)
class Fusion:
    """log a and log b at the knots, an offset of each type that goes with log n, and what another study may change."""

    log_a: np.ndarray  # (n_knots,)
    log_b: np.ndarray
    offsets: np.ndarray  # (K,)
    slopes: np.ndarray  # (K,)
    groups: np.ndarray  # (K,) code of the broad type of each type
    trust: np.ndarray  # (2,) factors of the scores between and within broad types

    def of_types(self, kept: np.ndarray) -> Fusion:
        """For these of its types alone."""
        groups = np.unique(self.groups[kept], return_inverse=True)[1].astype(np.int32)
        return replace(self, offsets=self.offsets[kept], slopes=self.slopes[kept], groups=groups)

    def scores(self, profile_scores: np.ndarray, linear_scores: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """(n, K) float64 a(n) S_A + b(n) S_D + delta + eta (log n - 5)."""
        hats = hat_weights(totals)
        a, b = np.exp(hats @ self.log_a)[:, None], np.exp(hats @ self.log_b)[:, None]
        depth = np.log(np.maximum(totals, 1))[:, None] - CENTRE
        return a * profile_scores + b * linear_scores + self.offsets + depth * self.slopes

    def posterior(self, profile_scores: np.ndarray, linear_scores: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """(n, K) float64, rows sum to 1; uniform without counts.

        P(group) is in proportion to the group's sum of exp(score), to the power `trust[0]`; P(type) within its group to
        exp(score) to the power `trust[1]`.
        """
        scores = self.scores(profile_scores, linear_scores, totals)
        behind = np.maximum(scores - scores.max(axis=1, keepdims=True), -FAR_BEHIND)
        member = (self.groups[:, None] == np.arange(self.groups.max() + 1)).astype(np.float64)
        between = (np.exp(behind) @ member) ** self.trust[0]
        between /= between.sum(axis=1, keepdims=True)
        within = np.exp(self.trust[1] * behind)
        found = within * (between / (within @ member))[:, self.groups]
        found[totals <= 0] = 1 / found.shape[1]
        return np.asarray(found)


def hat_weights(totals: np.ndarray) -> np.ndarray:
    """(n, n_knots) float64 weights that interpolate linearly in log n; flat beyond the first and the last knot."""
    knots = np.log(KNOTS)
    place = np.interp(np.log(np.maximum(totals, 1)), knots, np.arange(len(knots)))
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(len(knots)))))


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def learn_fusion(
    profile_scores: np.ndarray,
    linear_scores: np.ndarray,
    totals: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    trust: tuple[float, float] = OF_CELLS,
) -> Fusion:
    """The curves first, with common types weighing more; then the offsets, with all types weighing alike."""
    kept = totals > 0
    profile, linear, codes = profile_scores[kept], linear_scores[kept], codes[kept]
    hats, depth = hat_weights(totals[kept]), np.log(totals[kept]) - CENTRE
    n_types, n_knots = profile.shape[1], len(KNOTS)
    sizes = np.bincount(codes, minlength=n_types)

    def curves_loss(parameters: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = np.exp(hats @ parameters[:n_knots]), np.exp(hats @ parameters[n_knots:])
        loss, residual = _log_loss(a[:, None] * profile + b[:, None] * linear, codes, weight)
        steps = [np.diff(part) for part in np.split(parameters, 2)]
        of_a = hats.T @ (a * (residual * profile).sum(axis=1)) + _roughness_gradient(steps[0])
        of_b = hats.T @ (b * (residual * linear).sum(axis=1)) + _roughness_gradient(steps[1])
        return loss + ROUGHNESS * sum(float(step @ step) for step in steps), np.concatenate([of_a, of_b])

    def offsets_loss(parameters: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        offsets, slopes = np.split(parameters, 2)
        loss, residual = _log_loss(fused + offsets + depth[:, None] * slopes, codes, weight)
        gradient = np.concatenate([residual.sum(axis=0), depth @ residual]) + 2 * OFFSET_PENALTY * parameters
        return loss + OFFSET_PENALTY * float(parameters @ parameters), gradient

    start = np.log(np.repeat(START, n_knots))
    curves = _minimum(curves_loss, start, 1 / np.sqrt(np.maximum(sizes, COMMON_TYPE))[codes])
    nothing, factors = np.zeros(n_types), np.array(trust)
    without = Fusion(curves[:n_knots], curves[n_knots:], nothing, nothing, groups, factors)
    fused = without.scores(profile, linear, totals[kept])
    offsets = _minimum(offsets_loss, np.zeros(2 * n_types), 1 / np.maximum(sizes, 1)[codes])
    of_types, of_depth = np.split(offsets, 2)
    return replace(without, offsets=of_types, slopes=of_depth)


def _minimum(loss, start: np.ndarray, weight: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    found = scipy.optimize.minimize(
        loss, start, (weight / weight.sum(),), "L-BFGS-B", jac=True, options={"maxiter": MOST_STEPS}
    )
    return np.asarray(found.x)


def _log_loss(scores: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The weighted mean of -log P of the true type, and its derivative by the scores."""
    cell = np.arange(len(codes))
    residual = softmax(scores)
    loss = -float(weight @ np.log(np.maximum(residual[cell, codes], 1e-300)))
    residual[cell, codes] -= 1
    residual *= weight[:, None]
    return loss, residual


def _roughness_gradient(steps: np.ndarray) -> np.ndarray:
    return 2 * ROUGHNESS * (np.concatenate([[0], steps]) - np.concatenate([steps, [0]]))
