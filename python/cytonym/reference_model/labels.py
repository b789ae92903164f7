"""From posteriors to labels: the user's own where it is probable, else the deepest ancestor that is (1.4, step 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ontology import Ontology
from .training import ReferenceType

THRESHOLD = 0.7  # of the probability of a label
UNLIKE_OWN_TYPE = 0.01  # tail probability below which a cell is named after an ancestor of its type
UNLIKE_ANY_TYPE = 0.0005  # and below which it is not named
NONE = -1
# terms that say nothing of a type, and that cut across lineages
TOO_GENERAL = frozenset(
    {
        "CL:0000000",  # cell
        "CL:0000003",  # native cell
        "CL:0000255",  # eukaryotic cell
        "CL:0000548",  # animal cell
        "CL:0002371",  # somatic cell
        "CL:0002242",  # nucleate cell
        "CL:0000226",  # single nucleate cell
        "CL:0000219",  # motile cell
        "CL:0000211",  # electrically active cell
        "CL:0000393",  # electrically responsive cell
        "CL:0000404",  # electrically signaling cell
        "CL:0000080",  # circulating cell
        "CL:0000145",  # professional antigen presenting cell
        "CL:0000234",  # phagocyte
        "CL:0000151",  # secretory cell
        "CL:0000325",  # stuff accumulating cell
        "CL:0000473",  # defensive cell
        "CL:0000630",  # supportive cell
        "CL:0000064",  # ciliated cell
        "CL:0000215",  # barrier cell
        "CL:0000213",  # lining cell
        "CL:0011115",  # precursor cell
    }
)

REASONS = ("", "no counts", "too few counts", "between types", "unlike its own type", "unlike any type")
NAMED, NO_COUNTS, TOO_FEW, BETWEEN, UNLIKE_OWN, UNLIKE_ANY = range(len(REASONS))


@dataclass(frozen=True)
class Nodes:
    """Names for sets of at least two types, the deepest first."""

    names: tuple[str, ...]
    ids: tuple[str, ...]  # "" for a level's name without a term
    members: np.ndarray  # (K, n_nodes) bool

    @classmethod
    def of(cls, types: Sequence[ReferenceType], ontology: Ontology) -> Nodes:
        """Ancestors in the ontology and the levels' names; of those with the same types the deepest alone."""
        named: dict[tuple[int, int, str], tuple[str, frozenset[int]]] = {}
        lineages = [ontology.lineage(kind.ontology_id) if kind.ontology_id else frozenset() for kind in types]
        for term in sorted(frozenset().union(*lineages) - TOO_GENERAL):
            if term in ontology:
                members = frozenset(k for k, lineage in enumerate(lineages) if term in lineage)
                named[len(members), -len(ontology.lineage(term)), term] = ontology[term].name, members
        for level in ("coarse", "broad"):
            for name in sorted({getattr(kind, level) for kind in types} - {""}):
                members = frozenset(k for k, kind in enumerate(types) if getattr(kind, level) == name)
                named[len(members), 0, f"{level} {name}"] = name, members
        seen: set[frozenset[int]] = set()
        names, ids, columns = [], [], []
        for (n_members, _, key), (name, members) in sorted(named.items()):
            if n_members > 1 and members not in seen:
                seen.add(members)
                names.append(name)
                ids.append(key if key in ontology else "")
                columns.append([k in members for k in range(len(types))])
        shape = (len(columns), len(types))
        return cls(tuple(names), tuple(ids), np.array(columns, dtype=bool).reshape(shape).T)


@dataclass(frozen=True)
class Levels:
    """The types' names at a level above their own."""

    names: tuple[str, ...]
    members: np.ndarray  # (K, n_names) bool; a type without a name at this level is in none

    @classmethod
    def of(cls, types: Sequence[ReferenceType], level: str) -> Levels:
        names = sorted({getattr(kind, level) for kind in types} - {""})
        members = [[getattr(kind, level) == name for name in names] for kind in types]
        return cls(tuple(names), np.array(members, dtype=bool).reshape(len(types), len(names)))


@dataclass(frozen=True)
class Calls:
    """What each of n cells is called; NONE where nothing is probable enough."""

    fine: np.ndarray  # type k, or K + node
    coarse: np.ndarray  # row of the level's names
    broad: np.ndarray
    probability: np.ndarray  # of `fine`, NaN without one
    coarse_probability: np.ndarray
    broad_probability: np.ndarray
    reason: np.ndarray  # index into REASONS


def call_cells(
    posterior: np.ndarray,
    tail: np.ndarray,
    totals: np.ndarray,
    nodes: Nodes,
    coarse: Levels,
    broad: Levels,
    *,
    enough_umis: float,
    own_labels: bool = True,
) -> Calls:
    """Labels of cells with these posteriors; `own_labels` off: of ancestors only.

    A cell below `enough_umis` that gets no label of its own has too few counts, others are between types.
    """
    n_types = posterior.shape[1]
    known = (totals > 0) & (tail >= UNLIKE_ANY_TYPE)
    fits = tail >= UNLIKE_OWN_TYPE
    own, own_probability = _first_reaching(posterior, known & fits & own_labels)
    ancestor, ancestor_probability = _first_reaching(posterior @ nodes.members.astype(posterior.dtype), known)
    fine = np.where(own != NONE, own, np.where(ancestor != NONE, ancestor + n_types, NONE))
    reason = np.select(
        [totals <= 0, own != NONE, ~known, ~fits, totals < enough_umis],
        [NO_COUNTS, NAMED, UNLIKE_ANY, UNLIKE_OWN, TOO_FEW],
        default=BETWEEN,
    )
    of_levels = [_first_reaching(posterior @ level.members.astype(posterior.dtype), known) for level in (coarse, broad)]
    return Calls(
        fine=fine,
        coarse=of_levels[0][0],
        broad=of_levels[1][0],
        probability=np.where(own != NONE, own_probability, ancestor_probability),
        coarse_probability=of_levels[0][1],
        broad_probability=of_levels[1][1],
        reason=reason,
    )


def _first_reaching(probabilities: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first column that reaches the threshold in each row, NONE where none does, and its value or NaN."""
    if not probabilities.shape[1]:
        return np.full(len(probabilities), NONE), np.full(len(probabilities), np.nan)
    reaching = (probabilities >= THRESHOLD) & allowed[:, None]
    first = np.argmax(reaching, axis=1)
    found = reaching[np.arange(len(first)), first]
    return np.where(found, first, NONE), np.where(found, probabilities[np.arange(len(first)), first], np.nan)
