"""A sample's part of a MultiQC report, as custom content: composition, general statistics, versions.

Documented at https://docs.seqera.io/multiqc/custom_content. MultiQC joins files of one `id` from many samples; a key
other than `data` is then that of the last file, so nothing of one sample may stand in it.
"""

from __future__ import annotations

from typing import Any

PARENT = {
    "parent_id": "cytonym",
    "parent_name": "cytonym",
    "parent_description": "names the cell types of Visium HD and single-cell samples.",
}
WHOLE = {"format": "{:,.0f}"}


def multiqc_files(metrics: dict[str, Any], versions: dict[str, str]) -> dict[str, dict[str, Any]]:
    """File names and JSON values, of metrics.json and the plan's versions. (JSON is YAML, too.)"""
    sample = metrics["id"]
    files = {f"{sample}_cytonym_mqc.json": _of_sample(metrics)}
    for model in metrics["models"].values():
        if "composition" in model:
            name = f"{sample}_cytonym_{model['folder']}"
            files[f"{name}_mqc.json"] = _composition(sample, model)
            files[f"{name}_general_mqc.json"] = _of_model(sample, model)
    return files | {f"{sample}_cytonym_mqc_versions.yml": {"cytonym": versions}}


def _composition(sample: str, model: dict[str, Any]) -> dict[str, Any]:
    name = f"cytonym_{model['folder']}_cell_types"
    return {
        "id": name,
        **PARENT,
        "section_name": f"Cell types: {model['title']}",
        "description": "Cells of each coarse type.",
        "plot_type": "bargraph",
        "pconfig": {"id": f"{name}_plot", "title": f"cytonym: cell types, {model['title']}", "ylab": "Cells"},
        "data": {sample: model["composition"]},
    }


def _of_sample(metrics: dict[str, Any]) -> dict[str, Any]:
    headers = {
        "cells": {"title": "Cells", "description": "Cells (or bins) of the matrix", **WHOLE},
        "median_umis": {"title": "Median UMIs", "description": "Median of UMIs per cell", **WHOLE},
        "alerts": {"title": "Alerts", "description": "Errors and warnings of the run", **WHOLE},
    }
    alerts = sum(alert["level"] != "INFO" for alert in metrics["alerts"])
    told = metrics["matrix"]
    values = {"cells": told["n_cells"], "median_umis": told["median_umis"], "alerts": alerts}
    return _general("cytonym_sample", headers, {metrics["id"]: values})


def _of_model(sample: str, model: dict[str, Any]) -> dict[str, Any]:
    folder, title = model["folder"], model["title"]
    headers: dict[str, dict[str, Any]] = {
        f"{folder}_labelled": {
            "title": f"{folder}: labelled",
            "description": f"Cells with a broad label at least, by {title}",
            "suffix": "%",
            "min": 0,
            "max": 100,
        },
        f"{folder}_types": {"title": f"{folder}: types", "description": f"Coarse types found by {title}", **WHOLE},
    }
    values = {f"{folder}_labelled": round(100 * model["labelled_share"], 2), f"{folder}_types": model["n_types"]}
    return _general(f"cytonym_{folder}", headers, {sample: values})


def _general(name: str, headers: dict[str, dict[str, Any]], data: dict[str, Any]) -> dict[str, Any]:
    named = {column: {"namespace": "cytonym", **header} for column, header in headers.items()}
    return {"id": name, "plot_type": "generalstats", "headers": named, "data": data}
