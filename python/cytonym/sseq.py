"""The sSeq test: one dispersion a gene for the whole sample, then each group of cells against all others.

Yu, Huber and Vitek 2013 (Bioinformatics 29:1275), with the constants of Space Ranger. Given the sum n of a gene, its
count in the group is beta-binomial: both negative binomials have the same mean per size and the same dispersion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, gammaln

ZETA_PERCENTILE = 99.5
BIG_COUNT = 900  # both sums above it: beta approximation instead of the exact test
TIE = 1e-10  # weights whose logs differ by less are equal
NEGLIGIBLE = 1e-16  # of a sum
STIRLING_FROM = 16.0
FIRST_WIDTH, LAST_WIDTH = 16, 4096  # terms of a tail that are added at a time
TERMS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Moments:
    """Sums over cells of size-normalised counts y = x / s, and of 1 / s over the cells that have counts."""

    n_cells: int
    sum_y: np.ndarray  # (genes,)
    sum_y2: np.ndarray
    sum_inverse_sizes: float


@dataclass(frozen=True)
class GeneParameters:
    """What the sample says of each gene, whichever groups are compared; arrays of length genes."""

    mean: np.ndarray
    used: np.ndarray  # bool: the gene varies
    dispersion: np.ndarray  # 0 for genes that are not used


def gene_parameters(moments: Moments) -> GeneParameters:
    """Dispersions by moments, shrunk towards the 99.5th percentile of those of all used genes."""
    n, s = moments.n_cells, moments.sum_inverse_sizes
    mean = moments.sum_y / n
    variance = moments.sum_y2 / n - mean**2
    used = variance > 0
    if not used.any():
        return GeneParameters(mean, used, np.zeros(len(mean)))
    m = mean[used]
    by_moments = np.maximum(0.0, (n * variance[used] - m * s) / (m**2 * s))
    zeta = float(np.percentile(by_moments, ZETA_PERCENTILE))
    dispersion = np.zeros(len(mean))
    if (by_moments > 0).any():
        n_genes = len(mean)
        spread = float(np.sum((by_moments - zeta) ** 2)) * (n_genes - 1)
        delta = float(np.sum((by_moments - by_moments.mean()) ** 2)) * (n_genes - 2) / spread if spread > 0 else 0.0
        dispersion[used] = (1 - delta) * by_moments + delta * zeta
    return GeneParameters(mean, used, dispersion)


def p_values(
    inside: np.ndarray, outside: np.ndarray, size_inside: float, size_outside: float, parameters: GeneParameters
) -> np.ndarray:
    """Two-sided p of each gene's raw sums; those of the beta approximation may lie above 1."""
    p = np.ones(len(inside))
    if size_inside <= 0 or size_outside <= 0:
        return p
    tested = (inside + outside > 0) & (parameters.dispersion > 0)
    big = tested & (inside > BIG_COUNT) & (outside > BIG_COUNT)
    small = tested & ~big
    mean, dispersion = parameters.mean, parameters.dispersion
    p[big] = asymptotic_p_values(inside[big], outside[big], size_inside, size_outside, mean[big], dispersion[big])
    p[small] = exact_p_values(inside[small], outside[small], size_inside, size_outside, dispersion[small])
    return p


def asymptotic_p_values(
    inside: np.ndarray,
    outside: np.ndarray,
    size_inside: float,
    size_outside: float,
    mean: np.ndarray,
    dispersion: np.ndarray,
) -> np.ndarray:
    """The share of the group is taken to be beta distributed; not capped at 1."""
    alpha = size_inside * mean / (1 + dispersion * mean)
    beta = size_outside / size_inside * alpha
    total = inside + outside
    below = betainc(alpha, beta, (inside + 0.5) / total)
    above = betainc(beta, alpha, np.minimum((outside + 0.5) / total, 1.0))
    return 2 * np.where(below < 0.5, below, above)


def exact_p_values(
    inside: np.ndarray, outside: np.ndarray, size_inside: float, size_outside: float, dispersion: np.ndarray
) -> np.ndarray:
    """Probability, given inside + outside, of all splits that are not more probable than the observed one.

    The weights of the splits rise and then fall (or fall and then rise, for huge dispersions): the ratio of
    neighbours crosses 1 at most once. So the splits in question are two runs, whose ends bisection finds.
    """
    k, n = inside.astype(np.int64), (inside + outside).astype(np.int64)
    alpha, beta = size_inside / dispersion, size_outside / dispersion
    valley = alpha + beta < 2
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.nan_to_num(((alpha - 1) * n - (beta - 1)) / (alpha + beta - 2))
    turn = np.clip(np.where(valley, np.ceil(crossing), np.floor(crossing) + 1), 0, n).astype(np.int64)
    highest = _log_weights(k, n, alpha, beta) + TIE
    log_total = _log_rising(alpha + beta, n) - gammaln(n + 1)
    p, n_left_out = np.zeros(len(k)), np.zeros(len(k), dtype=np.int64)
    for last, a, b in ((turn, alpha, beta), (n - turn - 1, beta, alpha)):  # splits 0..turn; the others, mirrored
        edge = _last_before_crossing(highest, last, n, a, b, valley)
        start, count = np.where(valley, (edge + 1, last - edge), (edge, edge + 1))
        n_left_out += last + 1 - count
        some = np.flatnonzero(count > 0)
        first = np.exp(_log_weights(start[some], n[some], a[some], b[some]) - log_total[some])
        to_the_right = valley[some]
        p[some] += first * _decreasing_sums(
            np.where(to_the_right, start[some], n[some] - start[some]),
            count[some],
            n[some],
            np.where(to_the_right, a[some], b[some]),
            np.where(to_the_right, b[some], a[some]),
        )
    return np.where(n_left_out == 0, 1.0, np.minimum(p, 1.0))


def _log_rising(z: np.ndarray, k: np.ndarray) -> np.ndarray:
    """ln G(z + k) - ln G(z), without the cancellation of two big numbers where z is big (Stirling's series)."""
    big = np.maximum(z, STIRLING_FROM)
    top = big + k
    logs = (big - 0.5) * np.log1p(k / big) + k * (np.log(top) - 1) + _stirling_rest(top) - _stirling_rest(big)
    small = np.flatnonzero(z < STIRLING_FROM)
    logs[small] = gammaln(z[small] + k[small]) - gammaln(z[small])
    return logs


def _stirling_rest(x: np.ndarray) -> np.ndarray:
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x


def _log_weights(k: np.ndarray, n: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Log weight of the split k : n - k, up to a constant; mirrored arguments give the same bits."""
    other = n - k
    return (_log_rising(alpha, k) - gammaln(k + 1)) + (_log_rising(beta, other) - gammaln(other + 1))


def _last_before_crossing(
    highest: np.ndarray, last: np.ndarray, n: np.ndarray, alpha: np.ndarray, beta: np.ndarray, valley: np.ndarray
) -> np.ndarray:
    """Of the monotone run 0..last, the last split on the outer side of the threshold; -1 if there is none."""
    low, high = np.full(len(n), -1, dtype=np.int64), last + 1
    open_ = np.flatnonzero(high - low > 1)
    while len(open_):
        middle = (low[open_] + high[open_]) // 2
        weights = _log_weights(middle, n[open_], alpha[open_], beta[open_])
        outer = (weights <= highest[open_]) != valley[open_]
        low[open_] = np.where(outer, middle, low[open_])
        high[open_] = np.where(outer, high[open_], middle)
        open_ = open_[high[open_] - low[open_] > 1]
    return low


def _decreasing_sums(
    start: np.ndarray, count: np.ndarray, n: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    """Sum of `count` falling weights from split `start` on, relative to the first, by the ratio of neighbours.

    It stops where all that is left cannot matter. What happens to one row does not depend on the others.
    """
    sums, term, done, width = np.ones(len(n)), np.ones(len(n)), 1, FIRST_WIDTH
    open_ = np.flatnonzero(count > 1)
    while len(open_):
        steps = np.arange(done - 1, done - 1 + width)
        for rows in np.array_split(open_, -(-len(open_) * width // TERMS_AT_ONCE)):
            k, n_, a, b = (x[rows, None].astype(np.float64) for x in (start, n, alpha, beta))
            k = k + steps
            with np.errstate(divide="ignore", invalid="ignore"):
                ratios = (a + k) * (n_ - k) / ((k + 1) * (b + (n_ - k - 1)))
            ratios[steps >= count[rows, None] - 1] = 0.0
            ratios[:, 0] *= term[rows]
            terms = np.cumprod(ratios, axis=1)
            sums[rows] += terms.sum(axis=1)
            term[rows] = terms[:, -1]
        done += width
        width = min(2 * width, LAST_WIDTH)
        open_ = open_[term[open_] * (count[open_] - done) > NEGLIGIBLE * sums[open_]]
    return sums


def adjusted(p: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Benjamini-Hochberg over the used genes; the others keep their p."""
    result, tested = p.copy(), p[used]
    order = np.argsort(tested, kind="stable")[::-1]
    ranks = np.arange(len(tested), 0, -1)
    steps = np.minimum.accumulate(tested[order] * (len(tested) / ranks))
    back = np.empty(len(tested))
    back[order] = np.minimum(steps, 1.0)
    result[used] = back
    return result
