"""The figures of one method on one sample, with a reference's types as the names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from figures import expected_calibration_error
from reference_methods import Answers, Reported
from reference_sets import Reference

from cytonym.ontology import Ontology

COVERAGES = (0.9, 0.7, 0.5)


RIGHT, ABOVE, WRONG = range(3)  # of a reported name


class Truth:
    """Which types of the reference are right for each cell.

    They are the types at the cell's term or below it; if there are none, the nearest above it. Cells of a term that has
    neither cannot be scored.
    """

    def __init__(self, terms: np.ndarray, types: Sequence[str], ontology: Ontology) -> None:
        names, self.codes = np.unique(terms, return_inverse=True)
        self.terms = tuple(names.tolist())
        self.types, self.ontology = tuple(types), ontology
        accepted = [accepted_types(term, types, ontology) for term in self.terms]
        self.accepted = np.array([[k in own for k in range(len(types))] for own in accepted])  # (terms, K)
        classes = {own: i for i, own in enumerate(sorted({own for own in accepted if own}, key=sorted))}
        self.class_codes = np.array([classes.get(own, -1) for own in accepted])[self.codes]  # (n,) -1: not scored
        self.class_types = np.array([[k in own for k in range(len(types))] for own in classes])  # (classes, K)

    def without(self, gone: frozenset[int]) -> Truth:
        """Of a reference that lacks some of the types."""
        return Truth(
            np.array(self.terms)[self.codes], [t for k, t in enumerate(self.types) if k not in gone], self.ontology
        )

    def judge(self, reported: Reported) -> np.ndarray:
        """(n,) RIGHT, ABOVE or WRONG of each cell's name; WRONG also where there is none."""
        table = np.array(
            [
                [self._judge(row, term, reported.members[:, column]) for column, term in enumerate(reported.terms)]
                for row in range(len(self.terms))
            ]
        )
        return np.where(reported.codes >= 0, table[self.codes, reported.codes], WRONG)

    def _judge(self, row: int, term: str, members: np.ndarray) -> int:
        true, accepted = self.terms[row], self.accepted[row]
        if (members & accepted).any() and not (members & ~accepted).any():
            return RIGHT
        if term and true in self.ontology.lineage(term):
            return RIGHT
        above = term in self.ontology.lineage(true) if term else bool((members & accepted).any())
        return ABOVE if above else WRONG


def accepted_types(term: str, types: Sequence[str], ontology: Ontology) -> frozenset[int]:
    below = frozenset(k for k, kind in enumerate(types) if term in ontology.lineage(kind))
    level = {term}
    while level and not below:
        below = frozenset(k for k, kind in enumerate(types) if kind in level)
        level = {parent for name in level for parent in ontology.parents(name)}
    return below


def forced_figures(answers: Answers, truth: Truth) -> dict[str, float]:
    """Of the best type of every cell that can be scored, without abstention: all methods have that."""
    scored = truth.class_codes >= 0
    codes, classes = answers.codes[scored], truth.class_codes[scored]
    right = truth.class_types[classes, codes]
    found = _class_figures(codes, right, classes, truth.class_types)
    return found | _confidence_figures(answers.confidence, scored, right)


def broad_figures(answers: Answers, reference: Reference, broad: np.ndarray) -> dict[str, float]:
    """The same at the class to score across studies at; where a method gives a posterior it is summed first."""
    names = sorted(set(reference.broad) - {""})
    of_type = np.array([names.index(name) if name else -1 for name in reference.broad])
    row_of = {name: row for row, name in enumerate(names)}
    classes = np.array([row_of.get(name, -1) for name in broad.tolist()])
    scored = classes >= 0
    if not scored.any():
        return {}
    codes, confidence = of_type[answers.codes], answers.confidence
    if answers.posterior is not None:
        sums = np.stack([answers.posterior[:, of_type == row].sum(axis=1) for row in range(len(names))], axis=1)
        codes, confidence = sums.argmax(axis=1), sums.max(axis=1)
    right = (codes == classes)[scored]
    types = np.eye(len(names), len(names) + 1, dtype=bool)  # the last column: a type without class
    found = _class_figures(codes[scored], right, classes[scored], types)
    return found | _confidence_figures(confidence, scored, right)


def _class_figures(codes: np.ndarray, right: np.ndarray, classes: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """Macro-F1 and balanced accuracy are means over the true classes that occur."""
    f1, recall = [], []
    for row in np.unique(classes):
        own = classes == row
        hits = int(right[own].sum())
        foreign = int((~own & ~right & types[row, codes]).sum())
        f1.append(2 * hits / (hits + foreign + int(own.sum())))
        recall.append(hits / own.sum())
    return {
        "n": len(codes),
        "accuracy": float(right.mean()),
        "macro_f1": float(np.mean(f1)),
        "balanced": float(np.mean(recall)),
    }


def _confidence_figures(confidence: np.ndarray | None, scored: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Calibration, and accuracy among the most confident cells."""
    if confidence is None:
        return {}
    own = confidence[scored]
    order = np.argsort(-own, kind="stable")
    at = {f"at_{share:.0%}": float(right[order[: max(1, round(share * len(own)))]].mean()) for share in COVERAGES}
    return {"ece": expected_calibration_error(own, right)} | at


def reported_figures(reported: Reported, truth: Truth) -> dict[str, float]:
    """Of the names as the user sees them; a name is true where it is right or above, and its confidence is of that."""
    judged, named = truth.judge(reported), reported.codes >= 0
    scored = truth.class_codes >= 0
    true = judged != WRONG
    own = named & scored
    found = {
        "right": float((judged == RIGHT)[scored].mean()),
        "above": float((judged == ABOVE)[scored].mean()),
        "unnamed": float((~named)[scored].mean()),
        "wrong": float((named & ~true)[scored].mean()),
    }
    if own.any():
        found["ece"] = expected_calibration_error(reported.confidence[own], true[own])
    if (~scored).any():
        found["wrong_absent"] = float((named & ~true)[~scored].mean())
    return found


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The probability that a positive value is above a negative one; ties count a half (Mann-Whitney)."""
    values = np.concatenate([positive, negative])
    order = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(order[2]) - (order[2] - 1) / 2
    above = ranks[order[1]][: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))
