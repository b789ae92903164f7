"""The marker table joined to the sample's features: which genes and which types can be scored here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..markers import MarkerType
from ..matrix import Features

SUPPORTING_WEIGHT = 0.5
NEGATIVE_WEIGHT = 0.5
VERSION_SUFFIX = re.compile(r"\.\d+$")


@dataclass(frozen=True)
class Panel:
    """The marker genes that the sample measured, in the order of the table."""

    genes: tuple[str, ...]  # symbols as in the table
    columns: np.ndarray  # (G,) int64, their columns in the count matrix
    joined_by: str  # "Ensembl id" or "symbol"
    n_wanted: int  # marker genes of the table

    @property
    def position(self) -> dict[str, int]:
        return {gene: i for i, gene in enumerate(self.genes)}


def join_features(types: Sequence[MarkerType], gene_ids: Mapping[str, str], features: Features) -> Panel:
    """The marker genes found among the features, by Ensembl id or by symbol, whichever finds more (ids on a tie).

    Version suffixes of ids and the case of symbols do not matter. Of a repeated feature the first counts.
    """
    wanted = list(dict.fromkeys(g for t in types for g in (*t.defining, *t.supporting, *t.negative)))
    column_of_id = _first_columns([VERSION_SUFFIX.sub("", str(i)) for i in features.ids])
    column_of_name = _first_columns([str(name).upper() for name in features.names])
    by_id = {g: column_of_id[gene_ids[g]] for g in wanted if gene_ids.get(g) in column_of_id}
    by_name = {g: column_of_name[g.upper()] for g in wanted if g.upper() in column_of_name}
    joined_by, found = ("Ensembl id", by_id) if len(by_id) >= len(by_name) else ("symbol", by_name)
    return Panel(tuple(found), np.array(list(found.values()), dtype=np.int64), joined_by, len(wanted))


def _first_columns(keys: Sequence[str]) -> dict[str, int]:
    return {key: column for column, key in reversed(list(enumerate(keys)))}


def _measured(marker_type: MarkerType, panel: Panel) -> tuple[int, int]:
    """How many defining and how many supporting genes are measured."""
    genes = set(panel.genes)
    return sum(g in genes for g in marker_type.defining), sum(g in genes for g in marker_type.supporting)


def is_offered(marker_type: MarkerType, panel: Panel) -> bool:
    """Whether enough markers of the type are measured (step 1)."""
    n_defining, n_supporting = _measured(marker_type, panel)
    return n_defining >= 2 or n_defining + n_supporting >= 5 or (n_defining >= 1 and n_supporting >= 1)


def candidates(types: Sequence[MarkerType], panel: Panel) -> list[int]:
    """Rows that compete for every cell: offered coarse types, and broad types none of whose coarse types is offered."""
    coarse = [i for i, t in enumerate(types) if t.coarse and not t.fine and is_offered(t, panel)]
    covered = {types[i].broad for i in coarse}
    broad = [i for i, t in enumerate(types) if not t.coarse and t.broad not in covered and is_offered(t, panel)]
    return sorted(coarse + broad)


def broad_types(types: Sequence[MarkerType]) -> list[MarkerType]:
    """The table for targeted panels: broad rows only, each supported by the markers of its coarse types as well."""
    merged = []
    for broad in (t for t in types if not t.coarse):
        coarse = [t for t in types if t.broad == broad.broad and t.coarse and not t.fine]
        own = dict.fromkeys(g for t in (broad, *coarse) for g in (*t.defining, *t.supporting))
        supporting = tuple(g for g in own if g not in broad.defining)
        negative = tuple(g for g in broad.negative if g not in own)
        merged.append(replace(broad, supporting=supporting, negative=negative))
    return merged


def broad_candidates(types: Sequence[MarkerType], panel: Panel) -> list[int]:
    """Rows of `broad_types` with at least two defining or six markers measured: on a panel one gene proves little."""
    counts = [_measured(t, panel) for t in types]
    return [i for i, (defining, supporting) in enumerate(counts) if defining >= 2 or defining + supporting >= 6]


def fine_candidates(types: Sequence[MarkerType], parent: MarkerType, panel: Panel) -> list[int]:
    """Rows of the parent's offered fine types."""
    return [
        i
        for i, t in enumerate(types)
        if t.fine and (t.broad, t.coarse) == (parent.broad, parent.coarse) and is_offered(t, panel)
    ]


def specificity(types: Sequence[MarkerType], panel: Panel) -> np.ndarray:
    """(G,) s_g = 1 / sqrt(number of these types that have the gene as a positive marker) (step 1)."""
    position = panel.position
    n_types = np.zeros(len(panel.genes))
    for marker_type in types:
        genes = {*marker_type.defining, *marker_type.supporting} & position.keys()
        n_types[[position[g] for g in sorted(genes)]] += 1
    return 1 / np.sqrt(np.maximum(n_types, 1))


def type_weights(types: Sequence[MarkerType], panel: Panel) -> np.ndarray:
    """(G, T) w / sqrt(sum w^2) for positive markers, -.5 / sqrt(n) for negative ones (steps 1 to 3)."""
    position, specific = panel.position, specificity(types, panel)
    weights = np.zeros((len(panel.genes), len(types)))
    for t, marker_type in enumerate(types):
        for genes, weight in ((marker_type.supporting, SUPPORTING_WEIGHT), (marker_type.defining, 1.0)):
            rows = [position[g] for g in genes if g in position]
            weights[rows, t] = weight * specific[rows]
        weights[:, t] /= max(np.sqrt(np.sum(weights[:, t] ** 2)), 1e-12)
        positive = {*marker_type.defining, *marker_type.supporting}
        negative = [position[g] for g in marker_type.negative if g in position and g not in positive]
        weights[negative, t] -= NEGATIVE_WEIGHT / np.sqrt(max(len(negative), 1))
    return weights


def defining_weights(types: Sequence[MarkerType], panel: Panel) -> np.ndarray:
    """(G, T) s_g of each type's defining genes, else 0; for the support test (step 8)."""
    position, specific = panel.position, specificity(types, panel)
    weights = np.zeros((len(panel.genes), len(types)))
    for t, marker_type in enumerate(types):
        rows = [position[g] for g in marker_type.defining if g in position]
        weights[rows, t] = specific[rows]
    return weights
