"""Which genes a reference model looks at, and which column of a sample is which of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..matrix import Features

# mitochondrial, ribosomal and MALAT1: they tell the protocol and the cell's state, and drown what tells its type
NOT_TELLING = re.compile(r"MT-|MRP[LS]\d|RP[LS]\d|RPSA|RPLP\d|MALAT1|MTRNR")
ELSEWHERE = -1  # place of a feature that is no gene of the model
_VERSION = re.compile(r"(?<=\d)\.\d+$")


@dataclass(frozen=True)
class GeneJoin:
    """Where a sample's features stand among a model's genes."""

    places: np.ndarray  # (n_features,) int32: gene of the model, or ELSEWHERE
    joined_by: str  # "gene ids" or "gene symbols"
    n_found: int  # genes of the model that the sample has
    n_telling: int  # features of the sample that a model could look at


def telling(symbols: np.ndarray) -> np.ndarray:
    """Which of these genes a model looks at, bool; letter case does not matter."""
    return np.array([NOT_TELLING.match(str(symbol).upper()) is None for symbol in symbols], dtype=bool)


def without_version(gene_id: str) -> str:
    """An Ensembl id without its version; any other name as it is."""
    return _VERSION.sub("", gene_id) if gene_id.startswith("ENS") else gene_id


def join_genes(genes: Features, features: Features) -> GeneJoin:
    """The sample's features by id or by symbol, whichever finds more of the model's genes; ids on a tie.

    Of genes of the model with one name the first is meant; features with one name are added up.
    """
    looked_at = telling(features.names)
    by_id = _places(genes.ids, features.ids, looked_at)
    by_symbol = _places(genes.names, features.names, looked_at)
    n_by_id, n_by_symbol = _n_found(by_id), _n_found(by_symbol)
    places, name = (by_id, "gene ids") if n_by_id >= n_by_symbol else (by_symbol, "gene symbols")
    return GeneJoin(places, name, max(n_by_id, n_by_symbol), int(looked_at.sum()))


def _places(wanted: np.ndarray, names: np.ndarray, looked_at: np.ndarray) -> np.ndarray:
    place_of: dict[str, int] = {}
    for place, name in enumerate(wanted.tolist()):
        place_of.setdefault(without_version(name), place)
    found = [
        place_of.get(without_version(name), ELSEWHERE) if ok else ELSEWHERE
        for name, ok in zip(names.tolist(), looked_at.tolist(), strict=True)
    ]
    return np.array(found, dtype=np.int32)


def _n_found(places: np.ndarray) -> int:
    return len(np.unique(places[places != ELSEWHERE]))


def take_genes(counts: sp.csr_matrix, places: np.ndarray, n_genes: int) -> sp.csr_matrix:
    """The cells' counts of the model's genes, cells x n_genes, float32, columns sorted."""
    place = places.take(counts.indices)
    kept = np.flatnonzero(place != ELSEWHERE)
    indptr = np.searchsorted(kept, counts.indptr).astype(np.int32)
    data = counts.data.take(kept).astype(np.float32)
    taken = sp.csr_matrix((data, place.take(kept), indptr), shape=(counts.shape[0], n_genes))
    taken.sum_duplicates()
    return taken
