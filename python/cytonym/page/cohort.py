"""What the page of a cohort shows, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..cohort import COMMON_SHARE, FEWEST_SAMPLES, FOLD, LARGE_Z, POINTS, Composition
from ..colours import type_colours

MOST_TYPES = 20  # with a part of their own in the bars
RULE = (
    f"A sample is marked where a type's share is {FOLD:.0f} times what the other samples let expect, or less than "
    f"1/{FOLD:.0f} of it, at least {POINTS:.0%} of the cells apart, and its robust z-score is beyond {LARGE_Z}. That "
    "score is the log share's distance from the median of the samples, after each sample was centred on its median "
    "type, over 1.4826 times the median absolute deviation, joined with the error of counting. Types that reach "
    f"{COMMON_SHARE:.0%} in no sample are left out, and with fewer than {FEWEST_SAMPLES} samples nothing is marked. A "
    "mark is a reason to look at the sample, not a verdict."
)


def cohort_data(samples: Sequence[Mapping[str, Any]], found: Sequence[Composition]) -> dict[str, Any]:
    """The data of the page: `samples` are the values of metrics.json, sorted by id."""
    by_id = {sample["id"]: sample for sample in samples}
    return {
        "title": f"Cohort of {len(samples):,} {'sample' if len(samples) == 1 else 'samples'}",
        "rule": RULE,
        "facts": _facts(samples),
        "models": [_model(part, by_id) for part in found],
        "alerts": [{"sample": sample["id"], **alert} for sample in samples for alert in sample["alerts"]],
        "colours": type_colours(name for part in found for name in part.types[:MOST_TYPES]),
    }


def _facts(samples: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    told = [sample["matrix"] for sample in samples]
    medians = [matrix["median_umis"] for matrix in told]
    return [
        ("Samples", f"{len(samples):,}"),
        ("Cells", f"{sum(matrix['n_cells'] for matrix in told):,}"),
        ("Median UMIs per cell, median of the samples", f"{np.median(medians):,.0f}"),
        ("Species", _listed(matrix["species"] for matrix in told)),
        ("Genome", _listed(matrix["genome"] for matrix in told)),
        ("Chemistry", _listed(matrix["chemistry"] for matrix in told)),
        ("cytonym version", _listed(sample["cytonym_version"] for sample in samples)),
    ]


def _listed(values: Any) -> str:
    return ", ".join(sorted(filter(None, set(values)))) or "not told"


def _model(part: Composition, by_id: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = part.types[:MOST_TYPES]
    return {
        "name": part.model,
        "title": part.title,
        "types": list(shown),
        "samples": [_sample(part, row, by_id[name]) for row, name in enumerate(part.samples)],
        "outliers": _outliers(part),
        "tested": bool(np.isfinite(part.z).any()),
    }


def _sample(part: Composition, row: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    told = metrics["models"][part.model]
    counts = part.counts[row].tolist()
    about = [alert for alert in metrics["alerts"] if alert.get("model", part.model) == part.model]
    return {
        "id": metrics["id"],
        "description": metrics["description"],
        "cells": told["n_cells"],
        "median_umis": metrics["matrix"]["median_umis"],
        "labelled": told["labelled_share"],
        "low_umi": told["low_umi_share"],
        "types": told["n_types"],
        "alerts": len([alert for alert in about if alert["level"] != "INFO"]),
        "marks": int(np.abs(part.outliers[row]).sum()),
        "counts": counts[:MOST_TYPES],
        "others": sum(counts[MOST_TYPES:]),
    }


def _outliers(part: Composition) -> list[dict[str, Any]]:
    """The marked pairs, largest z-score first."""
    marked = [(row, column) for row, column in np.argwhere(part.outliers).tolist()]
    marked.sort(key=lambda pair: (-abs(part.z[pair]), pair))
    return [
        {
            "sample": part.samples[row],
            "type": part.types[column],
            "cells": int(part.counts[row, column]),
            "share": round(float(part.shares[row, column]), 6),
            "expected": round(float(part.expected_shares[row, column]), 6),
            "z": round(float(part.z[row, column]), 2),
        }
        for row, column in marked
    ]
