"""What several models say of a cell together: the deepest name that the evidence for it bears, on the Cell Ontology.

Each model votes for its label and all terms above it, with its weight times its confidence. A model that names a term
above another's does not contradict it; it says less. A model that names no type does not vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from .levels import Levels, common_ancestor
from .ontology import Ontology
from .reference_model.labels import TOO_GENERAL
from .types import (
    COARSE_NOT_CONFIDENT,
    FINE_NOT_CONFIDENT,
    LABEL_COLUMNS,
    LOW_UMI_BARCODE,
    SPECIES,
    UNASSIGNED,
    Job,
    ModelCard,
)

ONTOLOGY_ID = "cell_type_ontology_term_id"
THRESHOLD = 0.7  # share of the votes on a name and on those that contradict it
MARKER_WEIGHT, WEIGHT = 0.4, 0.6  # as averages of both views were best (accuracy.md)
TEMPER = 0.5  # power of the marker model's odds: it is surer of itself than others
TOLD_NOTHING = 0.7  # confidence of a model that tells none
NEIGHBOURS = 500  # of a label of 10x Cloud
NO_NAMES = frozenset({"", UNASSIGNED, LOW_UMI_BARCODE, COARSE_NOT_CONFIDENT, FINE_NOT_CONFIDENT})
DECIMALS = 4
NOBODY, DIFFER = "no model names the cell", "models differ: "
NO_TERM = ""
TINY = 1e-12

CARD = ModelCard(
    name="consensus",
    backend="consensus",
    folder="Consensus",
    title="Consensus of the models",
    species=SPECIES,
    version="1",
    licence="MIT",
    description=(
        "The deepest name on the Cell Ontology that the models' confidences bear together; where they contradict each "
        "other, what their labels have in common."
    ),
    columns=(),
)
JOB = Job(CARD)


@dataclass(frozen=True)
class Label:
    """One distinct label of a model, on the ontology."""

    text: str  # the most specific name
    term: str  # ontology id; the text itself for a label without one; NO_TERM where no type is named
    lineage: frozenset[str]  # the term and all above it
    coarse: str  # the model's own names of the levels above
    broad: str


@dataclass(frozen=True)
class Votes:
    """What one model says of n cells."""

    card: ModelCard
    labels: tuple[Label, ...]
    codes: np.ndarray  # (n,) row of `labels`
    confidence: np.ndarray  # (n,) of the label
    strength: np.ndarray  # (n,) of the vote


def consensus(models: Sequence[tuple[ModelCard, pd.DataFrame]], ontology: Ontology, levels: Levels) -> pd.DataFrame:
    """The columns of cell_types.csv between barcode and umi_count, from those of the models; each cell by itself."""
    known = Names(ontology, levels)
    votes = [votes_of(card, table, known) for card, table in models]
    met, combination_of = np.unique(np.column_stack([vote.codes for vote in votes]), axis=0, return_inverse=True)
    in_order = np.argsort(combination_of.ravel(), kind="stable")
    cells_of = np.split(in_order, np.cumsum(np.bincount(combination_of.ravel()))[:-1])
    n = len(in_order)
    terms, reasons = np.empty(n, dtype=object), np.empty(n, dtype=object)
    confidence, agreement = np.empty(n), np.empty(n)
    for codes, cells in zip(met.tolist(), cells_of, strict=True):
        labels = [vote.labels[code] for vote, code in zip(votes, codes, strict=True)]
        strength = np.stack([vote.strength[cells] for vote in votes])
        certainty = np.stack([vote.confidence[cells] for vote in votes])
        terms[cells], confidence[cells] = _deepest(labels, strength, certainty, known)
        agreement[cells] = _agreement(labels, strength)
        reasons[cells] = _reason(labels, [vote.card.folder for vote in votes])
    term_of, distinct = pd.factorize(terms)
    texts = {label.term: label for vote in votes for label in vote.labels}
    rows = np.array([known.shown(term, texts.get(term)) for term in distinct], dtype=object)
    return pd.DataFrame(dict(zip((*LABEL_COLUMNS, ONTOLOGY_ID), rows[term_of].T, strict=True))).assign(
        confidence=confidence.round(DECIMALS),
        agreement=agreement.round(DECIMALS),
        **{f"cell_type_in_{vote.card.folder}": _texts(vote) for vote in votes},
        reason=reasons,
    )


class Names:
    """Which terms names mean, and what a term is called in the table."""

    def __init__(self, ontology: Ontology, levels: Levels) -> None:
        self._ontology, self._levels = ontology, levels
        rows: dict[str, list[str]] = {}
        for of_level in (levels.broad, levels.coarse):
            for term_id, name in of_level.items():
                rows.setdefault(name.casefold(), []).append(term_id)
        self._ids = {name: common_ancestor(ids, ontology) for name, ids in rows.items()}
        self._ids |= {term.name.casefold(): term.id for term in ontology if not term.is_obsolete}

    def label(self, fine: str, coarse: str, broad: str, term_id: str) -> Label:
        """A model's label, by its id, else by its name, else as a term of its own below its levels' terms."""
        text = next((name for name in (fine, coarse, broad) if name not in NO_NAMES), UNASSIGNED)
        term = self._ontology.current(term_id)
        if term not in self._ontology:
            term = self._ids.get(text.casefold(), text)
        if text == UNASSIGNED or term in TOO_GENERAL:
            return Label(text, NO_TERM, frozenset(), coarse, broad)
        above = () if term in self._ontology else filter(None, (self._ids.get(n.casefold()) for n in (coarse, broad)))
        lineage = self.lineage(term).union(*map(self.lineage, above))
        return Label(text, term, lineage, coarse, broad)

    def lineage(self, term: str) -> frozenset[str]:
        return self._ontology.lineage(term)

    def shown(self, term: str, own: Label | None) -> tuple[str, str, str, str]:
        """Broad, coarse and fine name, and id; `own` is a label with that term, if there is one."""
        if term == NO_TERM:
            return UNASSIGNED, UNASSIGNED, UNASSIGNED, ""
        if term not in self._ontology:
            assert own is not None
            broad, coarse = (UNASSIGNED if name in NO_NAMES else name for name in (own.broad, own.coarse))
            return broad, coarse, own.text, ""
        above = self._levels.of(term, self._ontology)
        coarse = above.coarse if above.coarse_id in self._levels.coarse else ""
        return above.broad or UNASSIGNED, coarse or UNASSIGNED, self._ontology[term].name, term


def votes_of(card: ModelCard, table: pd.DataFrame, known: Names) -> Votes:
    """A model's table of cell types as votes."""
    coarse = "coarse_cell_type_unfiltered" if "coarse_cell_type_unfiltered" in table else "coarse_cell_type"
    columns = ["fine_cell_type", coarse, "broad_cell_type", ONTOLOGY_ID]
    texts = pd.DataFrame({name: table[name].astype(str) if name in table else "" for name in columns})
    codes = texts.groupby(columns, sort=True).ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    labels = tuple(known.label(*row) for row in texts.iloc[first].itertuples(index=False, name=None))
    confidence = np.nan_to_num(_confidence(table), nan=TOLD_NOTHING)
    return Votes(card, labels, codes, confidence, _strength(card, confidence))


def _confidence(table: pd.DataFrame) -> np.ndarray:
    """(n,) of the most specific label; NaN where the model tells none."""
    for name, most in (("confidence", 1), ("final_level_softmax_prob", 1), ("cell_count_in_model", NEIGHBOURS)):
        if name in table:
            values = pd.to_numeric(table[name].astype(str), errors="coerce").to_numpy(dtype=float)
            return np.clip(values / most, 0, 1)
    return np.full(len(table), np.nan)


def _strength(card: ModelCard, confidence: np.ndarray) -> np.ndarray:
    if card.backend != "markers":
        return WEIGHT * confidence
    right, wrong = confidence**TEMPER, (1 - confidence) ** TEMPER
    return np.asarray(MARKER_WEIGHT * right / (right + wrong))


def _deepest(
    labels: Sequence[Label], strength: np.ndarray, certainty: np.ndarray, known: Names
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the deepest term with enough of the votes on cells with these labels, and its confidence.

    `strength` and `certainty` are (models, n). A name above another one does not speak against it.
    """
    n = strength.shape[1]
    terms, confidence = np.full(n, NO_TERM, dtype=object), np.full(n, np.nan)
    named = [m for m, label in enumerate(labels) if label.term != NO_TERM]
    lineages = {term: known.lineage(term) for m in named for term in labels[m].lineage - TOO_GENERAL}
    lineages |= {labels[m].term: labels[m].lineage for m in named}
    for term in sorted(lineages, key=lambda term: (-len(lineages[term]), term)):
        pro = [m for m in named if term in labels[m].lineage]
        con = [m for m in named if m not in pro and labels[m].term not in lineages[term]]
        all_votes = _sum(strength, [*pro, *con])
        here = (terms == NO_TERM) & (_sum(strength, pro) >= THRESHOLD * all_votes)
        terms[here], confidence[here] = term, (_sum(strength * certainty, pro) / np.maximum(all_votes, TINY))[here]
    return terms, confidence


def _agreement(labels: Sequence[Label], strength: np.ndarray) -> np.ndarray:
    """(n,) largest share of the votes on labels along one line of the ontology; NaN where nothing is named."""
    named = [m for m, label in enumerate(labels) if label.term != NO_TERM]
    if not named:
        return np.full(strength.shape[1], np.nan)
    along = [_sum(strength, [m for m in named if _on_one_line(labels[m], labels[other])]) for other in named]
    return np.asarray(np.max(along, axis=0) / np.maximum(_sum(strength, named), TINY))


def _reason(labels: Sequence[Label], folders: Sequence[str]) -> str:
    """Who says what, where models contradict each other; "" where they do not."""
    named = [(label, folder) for label, folder in zip(labels, folders, strict=True) if label.term != NO_TERM]
    if not named:
        return NOBODY
    if all(_on_one_line(one, other) for (one, _), (other, _) in combinations(named, 2)):
        return ""
    return DIFFER + ", ".join(f"{label.text} ({folder})" for label, folder in named)


def _on_one_line(one: Label, other: Label) -> bool:
    return one.term in other.lineage or other.term in one.lineage


def _sum(values: np.ndarray, models: Sequence[int]) -> np.ndarray:
    return np.asarray(values[list(models)].sum(axis=0))


def _texts(vote: Votes) -> np.ndarray:
    return np.array([label.text for label in vote.labels], dtype=object)[vote.codes]
