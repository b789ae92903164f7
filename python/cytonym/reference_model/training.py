"""What a reference model is learnt from: a bounded sample of labelled cells, whatever files they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..matrix import Features


@dataclass(frozen=True)
class ReferenceType:
    """One label of the reference."""

    label: str  # the user's word; the fine cell type
    ontology_id: str = ""  # Cell Ontology; "" where the label has none
    broad: str = ""  # display names of the levels above; "" where the ontology id has none
    coarse: str = ""
    broad_id: str = ""  # the ontology terms behind them
    coarse_id: str = ""
    n_cells: int = 0  # in the whole reference, not only in the sample


@dataclass(frozen=True)
class TrainingSet:
    """Labelled cells with raw counts, a few hundred a type at most, spread over data sets and donors.

    Profiles of averages come as cells drawn from them, so that what follows need not know.
    """

    features: Features  # (G,) ids and symbols
    counts: sp.csr_matrix  # (n, G) int32, UMIs
    types: tuple[ReferenceType, ...]  # (K,)
    type_codes: np.ndarray  # (n,) int32, row of `types`
    group_codes: np.ndarray  # (n,) int32, data set and donor
    species: str = "human"
    drawn: bool = False  # the cells were drawn from averages, see drawn.py

    def __post_init__(self) -> None:
        n, n_genes = self.counts.shape
        if n_genes != len(self.features) or len(self.type_codes) != n or len(self.group_codes) != n:
            raise ValueError("counts, features, types and groups do not have the same lengths")
