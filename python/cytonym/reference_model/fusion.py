"""How far to trust the profile score and the linear score of a cell of n UMIs, learnt on strangers (1.4, steps 5-7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize

KNOTS = np.array([15.0, 40.0, 100.0, 250.0, 700.0, 2000.0, 8000.0])  # UMIs
ROUGHNESS = 0.02  # penalty on squared differences of neighbouring knots
OFFSET_PENALTY = 0.003  # on squared offsets
CENTRE = 5.0  # of log n, in the offsets' slopes
# Strangers drawn from one average a type are alike beyond what cells are, and scores of them look surer than they are.
# Types with averages of several tissues have some spread. Chosen on PBMC and pancreas pairs of studies.
OF_ONE_AVERAGE = 0.45  # factor on the scores
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
    trust: np.ndarray  # () factor on the scores

    def of_types(self, kept: np.ndarray) -> Fusion:
        """For these of its types alone."""
        return replace(self, offsets=self.offsets[kept], slopes=self.slopes[kept])

    def scores(self, profile_scores: np.ndarray, linear_scores: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """(n, K) float64 a(n) S_A + b(n) S_D + delta + eta (log n - 5)."""
        hats = hat_weights(totals)
        a, b = np.exp(hats @ self.log_a)[:, None], np.exp(hats @ self.log_b)[:, None]
        depth = np.log(np.maximum(totals, 1))[:, None] - CENTRE
        return a * profile_scores + b * linear_scores + self.offsets + depth * self.slopes

    def posterior(self, profile_scores: np.ndarray, linear_scores: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """(n, K) float64, rows sum to 1; uniform without counts."""
        found = softmax(self.trust * self.scores(profile_scores, linear_scores, totals))
        found[totals <= 0] = 1 / found.shape[1]
        return found


@dataclass(frozen=True)
class PanelCurves:
    """log a and log b for samples that have only some of the reference's genes, e.g. a panel's."""

    n_genes: np.ndarray  # (P,) rising; the last: all genes of the reference
    log_a: np.ndarray  # (P, n_knots)
    log_b: np.ndarray  # (P, n_knots)

    def fusion_for(self, fusion: Fusion, n_genes: int) -> Fusion:
        """With the curves of a sample of so many genes, interpolated in log n_genes."""
        hats = hat_weights(np.array([n_genes]), self.n_genes)[0]
        return replace(fusion, log_a=hats @ self.log_a, log_b=hats @ self.log_b)


def hat_weights(numbers: np.ndarray, knots: np.ndarray = KNOTS) -> np.ndarray:
    """(n, n_knots) float64 weights that interpolate linearly in log n; flat beyond the first and the last knot."""
    place = np.interp(np.log(np.maximum(numbers, 1)), np.log(knots), np.arange(len(knots)))
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(len(knots)))))


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def learn_fusion(
    profile_scores: np.ndarray,
    linear_scores: np.ndarray,
    totals: np.ndarray,
    codes: np.ndarray,
    trust: float = 1.0,
) -> Fusion:
    """The curves first, with common types weighing more; then the offsets, with all types weighing alike."""
    log_a, log_b = learn_curves(profile_scores, linear_scores, totals, codes)
    kept = totals > 0
    codes, depth = codes[kept], np.log(totals[kept]) - CENTRE
    nothing = np.zeros(profile_scores.shape[1])
    without = Fusion(log_a, log_b, nothing, nothing, np.asarray(trust))
    fused = without.scores(profile_scores[kept], linear_scores[kept], totals[kept])

    def offsets_loss(parameters: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        offsets, slopes = np.split(parameters, 2)
        loss, residual = _log_loss(fused + offsets + depth[:, None] * slopes, codes, weight)
        gradient = np.concatenate([residual.sum(axis=0), depth @ residual]) + 2 * OFFSET_PENALTY * parameters
        return loss + OFFSET_PENALTY * float(parameters @ parameters), gradient

    sizes = np.bincount(codes, minlength=len(nothing))
    offsets, slopes = np.split(_minimum(offsets_loss, np.zeros(2 * len(nothing)), 1 / np.maximum(sizes, 1)[codes]), 2)
    return replace(without, offsets=offsets, slopes=slopes)


def learn_curves(
    profile_scores: np.ndarray, linear_scores: np.ndarray, totals: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n_knots,) log a and log b that make the true types of these cells likeliest."""
    kept = totals > 0
    profile, linear, codes = profile_scores[kept], linear_scores[kept], codes[kept]
    hats, n_knots = hat_weights(totals[kept]), len(KNOTS)
    sizes = np.bincount(codes, minlength=profile.shape[1])

    def loss_of(parameters: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = np.exp(hats @ parameters[:n_knots]), np.exp(hats @ parameters[n_knots:])
        loss, residual = _log_loss(a[:, None] * profile + b[:, None] * linear, codes, weight)
        steps = [np.diff(part) for part in np.split(parameters, 2)]
        of_a = hats.T @ (a * (residual * profile).sum(axis=1)) + _roughness_gradient(steps[0])
        of_b = hats.T @ (b * (residual * linear).sum(axis=1)) + _roughness_gradient(steps[1])
        return loss + ROUGHNESS * sum(float(step @ step) for step in steps), np.concatenate([of_a, of_b])

    start = np.log(np.repeat(START, n_knots))
    curves = _minimum(loss_of, start, 1 / np.sqrt(np.maximum(sizes, COMMON_TYPE))[codes])
    return curves[:n_knots], curves[n_knots:]


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
