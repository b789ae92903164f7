"""One stable colour per cell type name, for the page, figures, maps and exports alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pandas as pd

from .types import COARSE_NOT_CONFIDENT, FINE_NOT_CONFIDENT, LOW_UMI_BARCODE, UNASSIGNED

# Any two differ by at least 0.064 in OKLab for normal sight, protanopia and deuteranopia, 0.049 for tritanopia (by the
# matrices of Machado 2009); chosen greedily, farthest first, among colours that show on white and on black.
PALETTE = (
    *("#0078b4", "#c3e12d", "#693c00", "#a5871e", "#5ac3d2", "#1e0fe1", "#c30f69", "#9687ff"),
    *("#1ef0b4", "#b4b45a", "#2da596", "#5a2d96", "#964bff", "#875a00", "#870f5a", "#e10fc3"),
    *("#b4d2ff", "#006987", "#f06987", "#a5a5ff", "#b4695a", "#b42d96", "#873c3c", "#a5c396"),
)
COLOURED_LEVELS = ("broad_cell_type", "coarse_cell_type")
NO_TYPE_COLOURS = {
    UNASSIGNED: "#8c8c8c",
    COARSE_NOT_CONFIDENT: "#a6a6a6",
    FINE_NOT_CONFIDENT: "#a6a6a6",
    LOW_UMI_BARCODE: "#c0c0c0",
}


def type_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in sorted order of the names.

    A name's own hash picks its place in the palette, so a type mostly keeps its colour from sample to sample; where
    two names want one place, the later one in sorted order takes the next free one. Beyond 24 names colours repeat.
    """
    colours: dict[str, str] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        if name in NO_TYPE_COLOURS:
            colours[name] = NO_TYPE_COLOURS[name]
            continue
        if len(taken) == len(PALETTE):
            taken.clear()
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(PALETTE)
        while place in taken:
            place = (place + 1) % len(PALETTE)
        taken.add(place)
        colours[name] = PALETTE[place]
    return colours


def run_colours(tables: Sequence[pd.DataFrame]) -> dict[str, str]:
    """The colours of a run's broad and coarse types: the same in its page, its GeoJSON, its h5ad and its figures."""
    return type_colours(
        str(name) for table in tables for level in COLOURED_LEVELS if level in table for name in table[level].unique()
    )
