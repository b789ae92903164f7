"""From UMI counts to the network's input: which column is which gene of the panel, and the values of a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

SCALED_TOTAL = 10_000.0  # UMIs of a cell after normalisation
NOT_ON_PANEL = -1


def panel_places(symbols: Sequence[str] | np.ndarray, panel: Sequence[str]) -> np.ndarray:
    """For each feature its place on the panel, int32, or -1; of features with one symbol the last counts.

    Symbols are compared as they are: letter case matters, and nothing is looked up elsewhere.
    """
    last = {str(symbol): column for column, symbol in enumerate(symbols)}
    places = np.full(len(symbols), NOT_ON_PANEL, dtype=np.int32)
    for place, gene in enumerate(panel):
        if gene in last:
            places[last[gene]] = place
    return places


def holds_integers(counts: sp.csr_matrix) -> bool:
    """True for counts, also for none at all."""
    return bool((counts.data == np.floor(counts.data)).all())


def fill_block(block: np.ndarray, counts: sp.csr_matrix, places: np.ndarray, *, normalise: bool) -> None:
    """Writes the cells' values into `block`, zeros of cells x panel.

    Normalised: log(1 + x * (10,000 / total)), the total over all features, whether on the panel or not.
    """
    place_of_entry = places.take(counts.indices)
    on_panel = np.flatnonzero(place_of_entry != NOT_ON_PANEL)
    per_cell = np.diff(np.searchsorted(on_panel, counts.indptr))
    values = counts.data.take(on_panel).astype(np.float64)
    if normalise:
        totals = counts @ np.ones(counts.shape[1])
        values *= np.repeat(SCALED_TOTAL / np.where(totals == 0, 1, totals), per_cell)
        np.log1p(values, out=values)
    block[np.repeat(np.arange(counts.shape[0]), per_cell), place_of_entry.take(on_panel)] = values
