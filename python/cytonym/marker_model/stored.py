"""A marker model as named arrays and JSON values, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from .chain import LevelModel
from .embedding import SCALES, Embedding
from .labels import TypeNames
from .model import MarkerModel
from .rare import Profiles, RareGroups
from .scores import Moments
from .trust import Trust

PLAIN = (
    "rows",
    "weights",
    "spreads",
    "component_sd",
    "penalty",
    "regression",
    "support",
    "coherence",
    "group_penalty",
    "group_regression",
    "group_kin",
    "hosts",
)


def model_arrays(model: MarkerModel) -> dict[str, np.ndarray]:
    """Numeric arrays; a level's names start with `coarse/` or `fine/<row>/`."""
    arrays = {"marker_columns": model.marker_columns, "gene_columns": model.gene_columns}
    arrays |= {f"trust/{field.name}": getattr(model.trust, field.name) for field in fields(Trust)}
    for prefix, level in [("coarse", model.coarse), *((f"fine/{row}", level) for row, level in model.fine.items())]:
        arrays |= {f"{prefix}/{name}": value for name, value in _level_arrays(level).items()}
    return arrays


def model_meta(model: MarkerModel) -> dict[str, Any]:
    """The names of the types, which levels there are, and whether only broad labels are given."""
    names = {field.name: list(getattr(model.names, field.name)) for field in fields(TypeNames)}
    return {"types": names, "split_rows": sorted(model.fine), "broad_only": model.broad_only}


def restore_model(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> MarkerModel:
    """The model that `model_meta` and `model_arrays` came from."""
    return MarkerModel(
        names=TypeNames(**{name: tuple(values) for name, values in meta["types"].items()}),
        marker_columns=arrays["marker_columns"],
        gene_columns=arrays["gene_columns"],
        coarse=_level("coarse", arrays),
        trust=Trust(**{field.name: arrays[f"trust/{field.name}"] for field in fields(Trust)}),
        fine={row: _level(f"fine/{row}", arrays) for row in meta["split_rows"]},
        broad_only=meta["broad_only"],
    )


def _level_arrays(level: LevelModel) -> dict[str, np.ndarray]:
    arrays = {name: getattr(level, name) for name in PLAIN}
    arrays |= {"mean": level.moments.mean, "sd": level.moments.sd}
    arrays |= {name: getattr(level.embedding, name) for name in ("rates", "axes", "centre")}
    arrays |= {f"groups/{field.name}": getattr(level.groups.profiles, field.name) for field in fields(Profiles)}
    arrays["groups/types"] = level.groups.types
    for scale in range(len(SCALES)):
        arrays[f"centres/{scale}"] = level.centres[scale]
        arrays[f"cluster_scores/{scale}"] = level.cluster_scores[scale]
    return arrays


def _level(prefix: str, arrays: dict[str, np.ndarray]) -> LevelModel:
    def array(name: str) -> np.ndarray:
        return arrays[f"{prefix}/{name}"]

    return LevelModel(
        moments=Moments(array("mean"), array("sd")),
        embedding=Embedding(array("rates"), array("axes"), array("centre")),
        groups=RareGroups(
            Profiles(**{field.name: array(f"groups/{field.name}") for field in fields(Profiles)}), array("groups/types")
        ),
        centres=tuple(array(f"centres/{scale}") for scale in range(len(SCALES))),
        cluster_scores=tuple(array(f"cluster_scores/{scale}") for scale in range(len(SCALES))),
        **{name: array(name) for name in PLAIN},
    )
