"""Signs of contamination: a type's markers in the cells of other types, by spill-over, ambient RNA or merged cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .types import DiffExp

FEWEST_TYPES = 3
SMALLEST_SHARE = 0.05  # of the cells, from which on a type tells; markers of rarer ones say little


def foreign_share(diffexp: DiffExp, cells: pd.Series, evidence: pd.DataFrame) -> float | None:
    """Which share of a cell's counts is of other cells, roughly; None where too few types tell.

    `cells`: their number in each group; `evidence`: the marker model's. If each cell holds that share c of an average
    of all cells, markers that only a type makes stand in the cells of other types at c times the type's share of their
    own level. Markers that other types make, too, raise that, so the type whose markers are cleanest tells.
    """
    total, found = int(cells.sum()), []
    for place, group in enumerate(diffexp.groups):
        share = int(cells.get(group, 0)) / total
        rows = evidence[evidence["cell_type"] == group]
        genes = {gene for text in rows["defining_on"] for gene in text.split()}
        if share >= SMALLEST_SHARE and genes:
            folds = diffexp.log2_fold_changes[np.isin(diffexp.feature_names, list(genes)), place]
            found.append(float(np.median(np.exp2(-folds))) / share)
    return min(found) if len(found) >= FEWEST_TYPES else None
