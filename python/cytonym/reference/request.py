"""What `cytonym reference build` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LABEL_KEY = "cell_type"
FEWEST_CELLS = 5  # of a label that can be learnt
FEW_CELLS = ("drop", "pool")
SCALES = ("auto", "linear", "log1p", "log2")


@dataclass(frozen=True)
class BuildRequest:
    """The fields are the options of the command."""

    inputs: tuple[Path, ...]
    name: str
    output: Path
    labels: tuple[Path, ...] = ()  # tables of barcodes and labels, of the inputs that have none inside
    label_key: str | None = None  # None: LABEL_KEY; of a table: LABEL_KEY or "label"
    ontology_key: str | None = None  # None: cell_type_ontology_term_id where it is there
    ontology_map: Path | None = None
    ontology: Path | None = None  # None: the packaged terms
    levels: Path | None = None  # None: the packaged display map
    dataset_key: str | None = None  # None: dataset_id where it is there, else the file's stem
    donor_key: str | None = None  # None: donor_id where it is there
    species: str | None = None  # None: told by the genes
    averages: str | None = None  # one of SCALES: rows are averages of types; None: told by the file
    few_cells: str = "drop"
    tissue: str = ""
    title: str = ""
    version: str = "1"
    licence: str = "not stated"
    citation: str = ""
    seed: int = 0
