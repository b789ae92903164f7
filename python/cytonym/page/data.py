"""What the page shows, as JSON values: aggregates of all cells, so that its size never follows their number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..colours import run_colours
from ..io.cell_types_csv import confidence_column
from ..types import CONFIDENT, LOW_UMI_BARCODE, NO_TYPE, UNASSIGNED, VERY_CONFIDENT, DiffExp, Plan
from .views import Views, agreement, model_views, shared_views

if TYPE_CHECKING:
    from ..report import ReportInput

FINER = {"broad": "coarse", "coarse": "fine"}  # the levels shown, and what their sub-types are
FEWEST_CELLS = 10  # a type is shown with more cells than this
MOST_TYPES = 100
MOST_SUBTYPES = 25
SMALLEST_SHARE = 0.000051  # rounds to 0.01 %
MEAN_COUNTS, MEAN_COUNTS_HD = 1.0, 0.1  # Space Ranger's cut-offs of top features
FEATURE_BUDGET = 10_000  # pairs of types times features of a type
MOST_FEATURES = 50  # of a type
NAMED_FEATURES = 10  # of a type, in its short list
MOST_EVIDENCE = 300  # rows, each of a type in a cluster
SIGNIFICANT = 0.1
DIGITS = 4


def page_data(
    plan: Plan,
    models: Sequence[ReportInput],
    metrics: dict[str, Any],
    provenance: dict[str, Any],
    views: Views | None = None,
) -> dict[str, Any]:
    """The page's data; `metrics` and `provenance` are the values of the two JSON files.

    A model's keys after `summary` are sections of its tab, each drawn by the function of that name in page.js.
    """
    views = views or Views()
    shown = [_model(plan, model, metrics) | model_views(model.cell_types, views.places) for model in models]
    return {
        "sample": {"id": plan.id, "description": plan.description},
        "alerts": [alert for alert in metrics["alerts"] if "model" not in alert],
        "models": shown,
        **shared_views(views),
        "agreement": agreement([(model.job.card.title, model.cell_types) for model in models]),
        "colours": run_colours([model.cell_types for model in models]),
        "provenance": provenance,
    }


def _model(plan: Plan, model: ReportInput, metrics: dict[str, Any]) -> dict[str, Any]:
    card, table = model.job.card, model.cell_types
    return {
        "name": card.name,
        "title": card.title,
        "banner": model.metrics.get("banner") or card.banner,
        "alerts": [alert for alert in metrics["alerts"] if alert.get("model") == card.name],
        "summary": summary(plan, model),
        "levels": [level_view(table, level) for level in FINER if f"{level}_cell_type" in table],
        "level": opening_level(table),
        "reasons": reasons(table),
        "reliability": reliability(model),
        "markers": model.metrics.get("top_markers", {}),
        "evidence": None if model.evidence is None else evidence_view(model.evidence),
        "features": _features(plan, model.diffexp),
    }


def summary(plan: Plan, model: ReportInput) -> list[tuple[str, str]]:
    """Rows of the summary table, name and text; what a model does not tell is left out."""
    card, info, told = model.job.card, plan.matrix, model.metrics
    wanted, found = told.get("genes_wanted"), told.get("genes_found")
    by = f", joined by {told['joined_by']}" if told.get("joined_by") else ""
    rows = [
        ("cytonym version", plan.versions.get("cytonym", "")),
        ("Cell annotation model", f"{card.title}, version {card.version}"),
        ("Model that the service chose", told.get("model_used", "")),
        ("About the model", card.description),
        ("Licence of the model", card.licence),
        ("Cells", f"{info.n_cells:,}"),
        ("Median UMIs per cell", f"{info.median_umis:,.0f}"),
        ("Cells with a label, broad at least", _share(told.get("labelled_share"))),
        (f"Cells below {plan.low_umi_threshold} UMIs", _share(told.get("low_umi_share"))),
        ("Coarse types found", str(told.get("n_types", ""))),
        ("Genes of the model found", "" if found is None or wanted is None else f"{found:,} of {wanted:,}{by}"),
        ("Species and genome", ", ".join(filter(None, [info.species, info.genome]))),
        ("Chemistry", info.chemistry),
    ]
    return [(name, text) for name, text in rows if text]


def opening_level(table: pd.DataFrame) -> str:
    """ "coarse", or "broad" where most labelled cells have no coarse type (a panel too small for finer ones)."""
    if "broad_cell_type" not in table:
        return "coarse"
    coarse = table["coarse_cell_type"][table["broad_cell_type"] != UNASSIGNED]
    return "broad" if len(coarse) and (coarse == UNASSIGNED).mean() > 0.5 else "coarse"


def level_view(table: pd.DataFrame, level: str) -> dict[str, Any]:
    """Each type of the level: cells, sub-types, UMIs, confidence; most frequent first, `Low UMI Barcode` last.

    Types with 10 cells or fewer are only counted, unless no type has more.
    """
    rows_of = table.groupby(f"{level}_cell_type", sort=False).indices
    ranked = sorted(((str(name), len(rows)) for name, rows in rows_of.items()), key=_low_umi_last_then_most_cells)
    large = [(name, count) for name, count in ranked if count > FEWEST_CELLS] or ranked
    shown = large[:MOST_TYPES]
    measured, finer = confidence_column(table, level), f"{FINER[level]}_cell_type"
    columns = table[[name for name in ("umi_count", finer, measured) if name in table]]
    return {
        "key": level,
        "finer": FINER[level],
        "groups": [_group(columns.take(rows_of[name]), name, len(table), finer, measured) for name, _ in shown],
        "left_out": {
            "types": len(ranked) - len(shown),
            "cells": len(table) - sum(count for _, count in shown),
        },
        "confidence": measured,
    }


def _low_umi_last_then_most_cells(item: tuple[str, int]) -> tuple[bool, int, str]:
    return item[0] == LOW_UMI_BARCODE, -item[1], item[0]


def _group(cells: pd.DataFrame, name: str, n_all: int, finer: str, measured: str | None) -> dict[str, Any]:
    group: dict[str, Any] = {"name": name, "cells": len(cells), "share": _round(len(cells) / n_all)}
    if finer in cells:
        group |= _subtypes(cells[finer])
    group["umis"] = box(cells["umi_count"].to_numpy())
    if measured:
        group["confidence"] = _confidence(cells[measured].to_numpy(dtype=float))
    return group


def _subtypes(labels: pd.Series) -> dict[str, Any]:
    """Finer types and their shares of these cells: a finer type counts under each type that it occurs with."""
    shares = labels.value_counts(normalize=True)
    ranked = sorted(((str(name), float(share)) for name, share in shares.items()), key=lambda s: (-s[1], s[0]))
    large = [(name, _round(share)) for name, share in ranked if share >= SMALLEST_SHARE][:MOST_SUBTYPES]
    return {"subtypes": large, "more_subtypes": len(ranked) - len(large)}


def box(values: np.ndarray) -> dict[str, float]:
    """Smallest, quartiles (linear interpolation), mean and largest of all values."""
    low, q1, median, q3, high = np.percentile(values, [0, 25, 50, 75, 100])
    mean = float(values.mean())
    named = {"min": low, "q1": q1, "mean": mean, "median": median, "q3": q3, "max": high}
    return {name: round(float(value), 2) for name, value in named.items()}


def _confidence(values: np.ndarray) -> dict[str, float | None] | None:
    """Median, and shares of at least .5 and .9, of the cells that have one."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    return {
        "median": _round(float(np.median(known))),
        "confident": _round(float((known >= CONFIDENT).mean())),
        "very_confident": _round(float((known >= VERY_CONFIDENT).mean())),
    }


def reasons(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Why cells lack a label, with their number, most frequent first."""
    if "reason" not in table:
        return []
    counts = table["reason"][table["reason"] != ""].value_counts()
    ranked = sorted(((str(name), int(count)) for name, count in counts.items()), key=lambda r: (-r[1], r[0]))
    return ranked[:MOST_SUBTYPES]


def reliability(model: ReportInput) -> list[str]:
    """Sentences on what the model's confidence is worth here; none where nothing can be said."""
    table, told = model.cell_types, [model.job.card.reliability]
    level = opening_level(table)
    column = confidence_column(table, level)
    if column is not None:
        known = table[column][~table[f"{level}_cell_type"].isin(NO_TYPE)].dropna()
        if len(known):
            told.append(
                f"The mean confidence of the {len(known):,} cells with a {level} type is {known.mean():.2f}: "
                f"were it exact, about {1 - known.mean():.0%} of these names would be wrong."
            )
    return [sentence for sentence in told if sentence]


def evidence_view(evidence: pd.DataFrame) -> dict[str, Any]:
    """The marker evidence by type, over its clusters, and by cluster, most cells first.

    Of a type: [cells, genes up with their largest log2 ratio, defining genes on in any cluster, those on in none].
    """
    types = {}
    for name, rows in evidence.groupby("cell_type", sort=False):
        up: dict[str, float] = {}
        for text in " ".join(rows["markers_up"]).split():
            gene, _, ratio = text.rpartition(":")
            up[gene] = max(float(ratio), up.get(gene, -math.inf))
        on = list(dict.fromkeys(" ".join(rows["defining_on"]).split()))
        off = [gene for gene in dict.fromkeys(" ".join(rows["defining_off"]).split()) if gene not in on]
        ranked = sorted(up.items(), key=lambda item: (-item[1], item[0]))[:NAMED_FEATURES]
        types[str(name)] = [int(rows["n_cells"].sum()), ranked, on, off]
    shown = evidence.sort_values("n_cells", ascending=False, kind="stable").head(MOST_EVIDENCE)
    columns = [name for name in shown.columns if name != "cell_type_ontology_term_id"]
    return {"types": types, "columns": columns, "rows": shown[columns].to_numpy().tolist(), "of": len(evidence)}


def _features(plan: Plan, diffexp: DiffExp | None) -> dict[str, Any] | None:
    """None where nothing was tested, or no tested group is a type: unlabelled against low-UMI cells says little."""
    if diffexp is None or set(diffexp.groups) <= set(NO_TYPE):
        return None
    deep = plan.matrix.chemistry and not plan.matrix.chemistry.startswith("Visium HD")
    return top_features(diffexp, MEAN_COUNTS if deep else MEAN_COUNTS_HD)


def top_features(diffexp: DiffExp, mean_counts: float) -> dict[str, Any]:
    """Union of each type's top features by fold change, best of the first type first.

    Per type: among features with at least these mean counts, at most floor(10,000 / types^2) and 1 to 50 of them.
    A row is [id, name, [log2 fold change, adjusted p value, 1 if grey] per type]; grey means not higher, or not
    significant. `best` names each type's ten best that are not grey. `Low UMI Barcode` is no type here.
    """
    types = [g for g, name in enumerate(diffexp.groups) if name != LOW_UMI_BARCODE]
    kept = types[:MOST_TYPES]
    limit = min(max(FEATURE_BUDGET // max(len(diffexp.groups) ** 2, 1), 1), MOST_FEATURES)
    folds, p_values = diffexp.log2_fold_changes[:, kept], diffexp.adjusted_p_values[:, kept]
    eligible = diffexp.mean_counts[:, kept] >= mean_counts
    grey = (folds <= 0) | (p_values >= SIGNIFICANT)
    union: set[int] = set()
    best = []
    for column in range(len(kept)):
        rows = np.flatnonzero(eligible[:, column])
        ranked = rows[np.argsort(-folds[rows, column], kind="stable")]
        union.update(ranked[:limit].tolist())
        named = ranked[~grey[ranked, column]][:NAMED_FEATURES]
        best.append(diffexp.feature_names[named].astype(str).tolist())
    ordered = sorted(union, key=lambda row: (-folds[row, 0], row))
    return {
        "types": [diffexp.groups[g] for g in kept],
        "left_out": len(types) - len(kept),
        "mean_counts": mean_counts,
        "best": best,
        "rows": [
            [
                str(diffexp.feature_ids[row]),
                str(diffexp.feature_names[row]),
                *(
                    [_round(folds[row, c]), _round(p_values[row, c]), *([1] if grey[row, c] else [])]
                    for c in range(len(kept))
                ),
            ]
            for row in ordered
        ],
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _round(value: float) -> float | None:
    """To 4 significant digits; None for what JSON has no number for."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
