"""Cell outlines as Space Ranger writes them (GeoJSON in full-resolution pixels): read and annotated one by one.

Annotated features carry `classification` as QuPath does, like Space Ranger's own graph-cluster file; see
schemas/annotated_segmentations.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from ..errors import InputError
from .files import written_whole

_AGAIN = "Copy the file again, or move it away to go on without it."


@dataclass(frozen=True)
class TypeProperties:
    """What the cells' features get: an entry of `texts` by the code of a row, and a confidence or NaN."""

    texts: Sequence[str]  # JSON members, without braces
    codes: np.ndarray  # (n_cells,)
    confidence: np.ndarray | None  # (n_cells,)


def check_segmentations(path: Path) -> None:
    """InputError if the first feature is not a cell's outline; the rest is checked when it is read."""
    first = next(features(path), None)
    if first is None:
        raise InputError(f"{path} holds no features: a GeoJSON FeatureCollection of cell outlines is wanted.")
    kind = (first.get("geometry") or {}).get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise InputError(f"{path} holds a {kind} first; outlines of cells are Polygons or MultiPolygons. {_AGAIN}")
    if cell_id(first) is None:
        raise InputError(f"{path} has features without the property cell_id, by which cells are known.")


def features(path: Path) -> Iterator[dict[str, Any]]:
    """The features in file order, one in memory at a time."""
    try:
        with path.open("rb") as handle:
            for item in ijson.items(handle, "features.item", use_float=True):
                if not isinstance(item, dict):
                    raise InputError(f"{path} is no GeoJSON FeatureCollection: a feature is not an object.")
                yield item
    except ijson.JSONError as exc:
        raise InputError(f"{path} is damaged or no GeoJSON: {exc}. {_AGAIN}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}. {_AGAIN}") from exc


def cell_id(feature: Mapping[str, Any]) -> int | None:
    """The cell's number, given as such or as its barcode."""
    value = (feature.get("properties") or {}).get("cell_id")
    if isinstance(value, str):
        digits = value.removeprefix("cellid_").split("-")[0]
        return int(digits) if digits.isascii() and digits.isdigit() else None
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def outer_rings(feature: Mapping[str, Any]) -> list[list[list[float]]]:
    """The outline of a Polygon, the outlines of a MultiPolygon's parts; holes are left out."""
    geometry = feature.get("geometry") or {}
    parts = geometry.get("coordinates") or []
    if geometry.get("type") == "Polygon":
        parts = [parts]
    elif geometry.get("type") != "MultiPolygon":
        return []
    return [part[0] for part in parts if part and len(part[0]) > 2]


def annotate_segmentations(
    path: Path, outputs: Mapping[Path, TypeProperties], row_of: Callable[[int], int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Writes the file once per output while it is read once; yields each feature with its `row_of`, -1 for none.

    A cell without a row keeps its feature, without any type. Exhaust the iterator: the files appear at its end.
    """
    with ExitStack() as stack:
        sinks = []
        for output, types in outputs.items():
            aside = stack.enter_context(written_whole(output))
            handle = stack.enter_context(aside.open("w", encoding="utf-8", newline=""))
            handle.write('{"type":"FeatureCollection","features":[')
            sinks.append((handle, types))
        separator = "\n"
        for feature in features(path):
            number = cell_id(feature)
            row = -1 if number is None else row_of(number)
            own = {name: value for name, value in feature.items() if name != "properties"}
            kept = {n: v for n, v in (feature.get("properties") or {}).items() if n != "classification"}
            start = f'{separator}{_dumps({"type": "Feature", **own})[:-1]},"properties":{_dumps(kept)[:-1]}'
            for handle, types in sinks:
                more = "" if row < 0 else _members(types, row)
                handle.write(start + ("," if more and kept else "") + more + "}}")
            separator = ",\n"
            yield row, feature
        for handle, _ in sinks:
            handle.write("\n]}\n")
            handle.flush()


def type_texts(labels: Sequence[tuple[str, ...]], levels: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    """The JSON members of each combination of labels, of which one is the coarse type."""
    texts = []
    for names in labels:
        members = dict(zip(levels, names, strict=True))
        coarse = members["coarse_cell_type"]
        rgb = [int(colours[coarse][place : place + 2], 16) for place in (1, 3, 5)]
        texts.append(_dumps({"classification": {"name": coarse, "color": rgb}, **members})[1:-1])
    return texts


def _members(types: TypeProperties, row: int) -> str:
    text = types.texts[types.codes[row]]
    if types.confidence is None or np.isnan(types.confidence[row]):
        return text
    return f'{text},"confidence":{types.confidence[row]:.4g}'


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
