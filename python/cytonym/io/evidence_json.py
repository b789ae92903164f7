"""cell_annotation_results.json.gz, as 10x Cloud writes it: one object a barcode, with its neighbours by type."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..search.evidence import STEPS, Evidence
from .files import written_whole

LEVEL = 1  # of gzip: higher ones take several times as long for a tenth of the size
WRITTEN_AT_ONCE = 1 << 20  # bytes; always the same, so that gzip's output does not depend on how cells are split
CELLS_AT_ONCE = 8192


def write_evidence_json(
    path: Path,
    parts: Iterable[tuple[np.ndarray, Evidence]],
    types: Sequence[tuple[str, str]],
    datasets: Sequence[str],
) -> None:
    """Streams barcodes and their evidence. `types` are (label, ontology id) by code, `datasets` names by code.

    The same evidence gives the same bytes, in whatever parts it comes: no name and no time are in the file.
    """
    with (
        written_whole(path) as aside,
        aside.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=LEVEL) as packed,
    ):
        waiting = bytearray()
        for text in _texts(parts, types, datasets):
            waiting += text.encode("utf-8")
            n_whole = len(waiting) - len(waiting) % WRITTEN_AT_ONCE
            packed.write(waiting[:n_whole])
            del waiting[:n_whole]
        packed.write(waiting)


def _texts(
    parts: Iterable[tuple[np.ndarray, Evidence]], types: Sequence[tuple[str, str]], datasets: Sequence[str]
) -> Iterator[str]:
    steps = np.array([np.format_float_positional(i / STEPS, trim="-") for i in range(2 * STEPS + 1)], dtype=object)
    of_types = np.array([_type_text(label, term) for label, term in types], dtype=object)
    of_datasets = np.array(
        [f'{{"dataset_id": {_quoted(name)}, "count_per_dataset": ' for name in datasets], dtype=object
    )
    separator = "[\n"
    for barcodes, evidence in parts:
        first_matches = np.concatenate([[0], np.cumsum(evidence.n_matches)])
        first_datasets = np.concatenate([[0], np.cumsum(evidence.n_datasets)])
        for start in range(0, len(barcodes), CELLS_AT_ONCE):
            stop = min(start + CELLS_AT_ONCE, len(barcodes))
            a, b = int(first_matches[start]), int(first_matches[stop])
            datasets_of = _dataset_texts(evidence, slice(first_datasets[a], first_datasets[b]), of_datasets, steps)
            matches = _match_texts(evidence, slice(a, b), datasets_of, of_types, steps)
            bounds = (first_matches[start : stop + 1] - a).tolist()
            cells = [
                f'{{"barcode": {_quoted(barcode)}, "matches": [{", ".join(matches[low:high])}]}}'
                for barcode, low, high in zip(barcodes[start:stop].tolist(), bounds, bounds[1:], strict=False)
            ]
            yield separator + ",\n".join(cells)
            separator = ",\n"
    yield "\n]\n" if separator == ",\n" else "[]\n"


def _match_texts(
    evidence: Evidence, chosen: slice, datasets: Sequence[str], of_types: np.ndarray, steps: np.ndarray
) -> list[str]:
    bounds = np.concatenate([[0], np.cumsum(evidence.n_datasets[chosen])]).tolist()
    columns = steps[evidence.distances[chosen]].T.tolist()
    heads, counts = of_types[evidence.type_codes[chosen]].tolist(), evidence.counts[chosen].tolist()
    return [
        f'{head}{count}, "min_distance": {least}, "p25_distance": {lower}, "median_distance": {median}, '
        f'"p75_distance": {upper}, "max_distance": {most}, '
        f'"dataset_ids_with_counts": [{", ".join(datasets[start:stop])}]}}'
        for head, count, least, lower, median, upper, most, start, stop in zip(
            heads, counts, *columns, bounds, bounds[1:], strict=False
        )
    ]


def _dataset_texts(evidence: Evidence, chosen: slice, of_datasets: np.ndarray, steps: np.ndarray) -> list[str]:
    columns = steps[evidence.dataset_distances[chosen]].T.tolist()
    heads, counts = of_datasets[evidence.dataset_codes[chosen]].tolist(), evidence.dataset_counts[chosen].tolist()
    return [
        f'{head}{count}, "min_distance": {least}, "max_distance": {most}, "median_distance": {median}, '
        f'"mean_distance": {mean}}}'
        for head, count, least, most, median, mean in zip(heads, counts, *columns, strict=True)
    ]


def _type_text(label: str, term: str) -> str:
    return f'{{"cell_type": {_quoted(label)}, "cell_type_ontology_term_id": {_quoted(term)}, "cell_count": '


def _quoted(text: str) -> str:
    return json.dumps(str(text), ensure_ascii=False)
