"""The figures of one method on one sample."""

from __future__ import annotations

import numpy as np
from methods import Named
from ontology import TrueClasses

from cytonym.types import UNASSIGNED

ECE_BINS = 15


def level_figures(
    names: np.ndarray,
    confidence: np.ndarray,
    terms: np.ndarray,
    classes: TrueClasses,
    *,
    above: np.ndarray | None = None,
) -> dict[str, float]:
    """Accuracy and the rest at one level, over the cells whose true term has a class there.

    `above` says of a cell without a name at this level whether the name above it is an ancestor of the truth: such a
    cell is abstained, and wrong otherwise. A cell without any name is abstained.
    """
    distinct = sorted(set(terms.tolist()) - {""})
    right = np.zeros(len(terms), dtype=bool)
    scored = np.zeros(len(terms), dtype=bool)
    for term in distinct:
        own, accepted = terms == term, classes.of(term)
        if accepted:
            scored |= own
            right |= own & np.isin(names, list(accepted))
    if not scored.any():
        return {}
    named = names != UNASSIGNED
    wrong = named & ~right if above is None else (named & ~right) | (~named & ~above)
    in_tissue = {name for term in distinct for name in classes.of(term)}
    false_type = named & ~np.isin(names, list(in_tissue))
    asked = named & scored & ~np.isnan(confidence)
    return {
        "n": int(scored.sum()),
        "accuracy": float(right[scored].mean()),
        "macro_f1": _macro_f1(names, right, terms, classes),
        "wrong": float(wrong[scored].mean()),
        "abstained": float((~right & ~wrong)[scored].mean()),
        "false_type": float(false_type[scored].mean()),
        "ece": expected_calibration_error(confidence[asked], right[asked]) if asked.any() else float("nan"),
    }


def figures(found: Named, terms: np.ndarray, broad: TrueClasses, coarse: TrueClasses) -> dict[str, dict[str, float]]:
    """Both levels."""
    above_right = np.array(
        [b == UNASSIGNED or b in broad.of(t) for b, t in zip(found.broad.tolist(), terms.tolist(), strict=True)]
    )
    return {
        "broad": level_figures(found.broad, found.broad_confidence, terms, broad),
        "coarse": level_figures(found.coarse, found.coarse_confidence, terms, coarse, above=above_right),
    }


def _macro_f1(names: np.ndarray, right: np.ndarray, terms: np.ndarray, classes: TrueClasses) -> float:
    """Mean F1 over the true classes; terms with the same accepted names are one class."""
    members: dict[frozenset[str], list[str]] = {}
    for term in sorted(set(terms.tolist()) - {""}):
        if classes.of(term):
            members.setdefault(classes.of(term), []).append(term)
    scored = np.isin(terms, [term for own in members.values() for term in own])
    values = []
    for accepted, own_terms in members.items():
        own = np.isin(terms, own_terms)
        values.append(class_f1(own, scored & ~own & ~right, np.isin(names, list(accepted))))
    return float(np.mean(values))


def class_f1(own: np.ndarray, others: np.ndarray, named: np.ndarray) -> float:
    """F1 of a class from its own cells, the cells that should not get its name, and those that got it."""
    hits = int((own & named).sum())
    return 2 * hits / max(2 * hits + int((others & named).sum() + (own & ~named).sum()), 1)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean |confidence - accuracy| over equal-width bins, weighted by cells (Guo 2017, equation 3)."""
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * np.mean(bins == b) for b in np.unique(bins)]
    return float(sum(gaps))
