"""The three files that 10x Cloud delivers: its table, its evidence (gigabytes for large samples), its metadata."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import numpy as np
import pandas as pd

from ..errors import DamagedDownload
from ..types import NOT_RETURNED, UNASSIGNED

BARCODE, COARSE, FINE, BROAD = "barcode", "coarse_cell_type", "fine_cell_type", "broad_cell_type"
REASON = "reason"
NO_LABEL = "no label returned"
NEEDED_COLUMNS = (BARCODE, COARSE, FINE)
LABELS = (BROAD, COARSE, FINE)
NUMBERS = ("cell_count_in_model",)  # empty where the service says nothing


@dataclass(frozen=True)
class CloudCellTypes:
    """The service's table on the matrix's barcodes, in matrix order, all text, with a last column `reason`.

    `reason` is empty but for cells without a label, which are Unassigned: "not returned" or "no label returned".
    """

    table: pd.DataFrame
    missing: tuple[str, ...]  # barcodes that the service did not return, in matrix order

    @property
    def fraction_returned(self) -> float:
        """Rows of the service over cells of the matrix, to three digits."""
        return round(1 - len(self.missing) / len(self.table), 3)

    def fine_labels(self) -> dict[str, str]:
        """Barcode to fine label, of the cells that have one."""
        labelled = self.table[self.table[FINE] != UNASSIGNED]
        return dict(zip(labelled[BARCODE], labelled[FINE], strict=True))


@dataclass(frozen=True)
class CloudMetadata:
    """What the service says about its labels."""

    tree_version: str
    display_map_version: str
    fraction_non_informative: float | None
    is_beta_model: bool  # also when the service says nothing
    developer: str


def read_cloud_cell_types(path: Path, barcodes: Sequence[str] | np.ndarray) -> CloudCellTypes:
    """The table of the service's CSV; DamagedDownload if it is none, or not of this matrix."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as exc:
        raise DamagedDownload(f"{path.name} of 10x Cloud is not a whole CSV table: {exc}.") from exc
    return match_barcodes(table, barcodes, path.name)


def match_barcodes(table: pd.DataFrame, barcodes: Sequence[str] | np.ndarray, name: str) -> CloudCellTypes:
    """The service's rows (all columns text) brought into the order of `barcodes`, with rows for those it left out."""
    _check_columns(table, name)
    wanted = pd.Index(np.asarray(barcodes, dtype=object))
    returned = pd.Index(table[BARCODE])
    _check_barcodes(returned, wanted, name)
    is_missing = ~wanted.isin(returned)
    ordered = table.set_index(BARCODE).reindex(wanted, fill_value="").rename_axis(BARCODE).reset_index()
    for column in NUMBERS:
        if column in table:
            _check_numbers(table[column], name)
    has_no_label = (ordered[COARSE] == "").to_numpy()
    for column in LABELS:
        if column in ordered:
            ordered[column] = ordered[column].where(ordered[column] != "", UNASSIGNED)
    ordered[REASON] = np.select([is_missing, has_no_label], [NOT_RETURNED, NO_LABEL], default="")
    return CloudCellTypes(ordered, tuple(wanted[is_missing]))


def read_evidence(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of the results file one after the other, in bounded memory; one a barcode."""
    try:
        with gzip.open(path, "rb") as file:
            for entry in ijson.items(file, "item", use_float=True):
                if isinstance(entry, dict):
                    yield entry
    except (OSError, EOFError, zlib.error, ijson.JSONError, ValueError) as exc:
        raise DamagedDownload(f"{path.name} of 10x Cloud is not whole gzip JSON: {exc}.") from exc


def read_ontology_ids(path: Path, fine_cell_types: Mapping[str, str]) -> dict[str, str]:
    """The Cell Ontology id of each barcode's fine type, where the evidence on that barcode names the type.

    The whole file is read: DamagedDownload unless it is whole gzip of a JSON array with something in it.

    `fine_cell_types` is barcode -> label. The service maps names through a tree that is not public, so a label
    without a match of the same name gets no id rather than a guess.
    """
    found, entry = {}, None
    for entry in read_evidence(path):
        barcode = entry.get("barcode", entry.get("query_cell_id"))
        label = fine_cell_types.get(barcode) if isinstance(barcode, str) else None
        ontology_id = None if label is None else _id_of(label, entry.get("matches"))
        if isinstance(barcode, str) and ontology_id is not None:
            found[barcode] = ontology_id
    if entry is None:
        raise DamagedDownload(f"{path.name} of 10x Cloud holds no evidence on any cell.")
    return found


def read_cloud_metadata(path: Path) -> CloudMetadata:
    """The metadata with the fallbacks of Space Ranger's page; DamagedDownload if it is not a JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DamagedDownload(f"{path.name} of 10x Cloud is not whole JSON: {exc}.") from exc
    if not isinstance(value, dict):
        raise DamagedDownload(f"{path.name} of 10x Cloud is not a JSON object.")
    fraction, is_beta = value.get("fraction_non_informative_annotations"), value.get("is_beta_model")
    return CloudMetadata(
        tree_version=str(value.get("tree_version_used") or "NOT FOUND"),
        display_map_version=str(value.get("display_map_version_used") or "NOT FOUND"),
        fraction_non_informative=float(fraction) if isinstance(fraction, int | float) else None,
        is_beta_model=is_beta is not False,
        developer=str(value.get("developer") or "Unknown"),
    )


def _check_columns(table: pd.DataFrame, name: str) -> None:
    absent = [column for column in NEEDED_COLUMNS if column not in table]
    if absent:
        raise DamagedDownload(f"{name} of 10x Cloud lacks the column {', '.join(absent)}.")
    if table.empty:
        raise DamagedDownload(f"{name} of 10x Cloud has no rows: no cell was annotated.")


def _check_barcodes(returned: pd.Index, wanted: pd.Index, name: str) -> None:
    repeated = returned[returned.duplicated()]
    if len(repeated):
        raise DamagedDownload(f"{name} of 10x Cloud lists the barcode '{repeated[0]}' more than once.")
    unknown = returned[~returned.isin(wanted)]
    if len(unknown):
        raise DamagedDownload(
            f"{name} of 10x Cloud has {len(unknown)} barcodes that are not in the matrix, the first is '{unknown[0]}'."
        )


def _check_numbers(texts: pd.Series, name: str) -> None:
    try:
        pd.to_numeric(texts.replace("", np.nan))
    except ValueError as exc:
        raise DamagedDownload(f"{name} of 10x Cloud: '{texts.name}' holds what is not a number: {exc}.") from exc


def _id_of(label: str, matches: Any) -> str | None:
    """The id of the match of that name; None if there is none."""
    for match in matches if isinstance(matches, list) else ():
        if isinstance(match, dict) and str(match.get("cell_type", "")).casefold() == label.casefold():
            ontology_id = match.get("cell_type_ontology_term_id")
            return ontology_id if isinstance(ontology_id, str) and ontology_id else None
    return None
