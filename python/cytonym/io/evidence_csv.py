"""evidence.csv: what carried each call, one row for each type and cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from .files import written_whole

EVIDENCE_COLUMNS = (
    "cluster",
    "cell_type",
    "cell_type_ontology_term_id",
    "n_cells",
    "share_of_cluster",
    "mean_confidence",
    "markers_up",
    "defining_on",
    "defining_off",
)


def write_evidence(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as CSV; the header alone where no cell was named."""
    with written_whole(path) as aside:
        pd.DataFrame(list(rows), columns=list(EVIDENCE_COLUMNS)).to_csv(aside, index=False, lineterminator="\n")


def read_evidence(path: Path) -> pd.DataFrame:
    """The table; genes and names as text, an empty field as "". InputError if it is no such file."""
    try:
        table = pd.read_csv(path, keep_default_na=False)
        return table[list(EVIDENCE_COLUMNS)]
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(f"{path} cannot be read as the evidence of a marker model: {exc}") from exc
