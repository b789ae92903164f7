"""A learnt reference model, and one fitted to a sample, as JSON values and named arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from ..errors import ModelError
from ..matrix import Features
from .fusion import Fusion, PanelCurves
from .labels import Nodes
from .linear import LinearModel
from .novelty import Novelty
from .profiles import ProfileScorer, restricted_profiles
from .training import ReferenceType

T = TypeVar("T")


@dataclass(frozen=True)
class ReferenceModel:
    """All that was learnt from a reference; plain arrays and JSON values."""

    species: str
    genes: Features  # (G,), sorted by id
    types: tuple[ReferenceType, ...]  # (K,)
    nodes: Nodes
    profiles: np.ndarray  # (K, G) float32, rows sum to 1
    linear: LinearModel
    fusion: Fusion
    panels: PanelCurves
    novelty: Novelty
    enough_umis: float  # where half of the strangers get a label of their own; fewer are too few
    expected: tuple[dict[str, Any], ...]  # umis, level, accuracy, ece, coverage: on strangers
    confusions: tuple[dict[str, Any], ...]  # type, taken_for, share: the largest ones
    seed: int

    def meta(self) -> dict[str, Any]:
        return {
            "species": self.species,
            "types": [asdict(kind) for kind in self.types],
            "nodes": {"names": list(self.nodes.names), "ids": list(self.nodes.ids)},
            "enough_umis": self.enough_umis,
            "expected": list(self.expected),
            "confusions": list(self.confusions),
            "seed": self.seed,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "genes/ids": self.genes.ids,
            "genes/names": self.genes.names,
            "profiles": self.profiles,
            "nodes/members": self.nodes.members,
            **_flat("linear", self.linear),
            **_flat("fusion", self.fusion),
            **_flat("panels", self.panels),
            **_flat("novelty", self.novelty),
        }

    @classmethod
    def of(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ReferenceModel:
        """The model that `meta` and `arrays` came from; other entries are let be."""
        return cls(
            species=meta["species"],
            genes=Features(arrays["genes/ids"], arrays["genes/names"]),
            types=tuple(ReferenceType(**kind) for kind in meta["types"]),
            nodes=Nodes(tuple(meta["nodes"]["names"]), tuple(meta["nodes"]["ids"]), arrays["nodes/members"]),
            profiles=arrays["profiles"],
            linear=_restored(LinearModel, "linear", arrays),
            fusion=_restored(Fusion, "fusion", arrays),
            panels=_restored(PanelCurves, "panels", arrays),
            novelty=_restored(Novelty, "novelty", arrays),
            enough_umis=meta["enough_umis"],
            expected=tuple(meta["expected"]),
            confusions=tuple(meta["confusions"]),
            seed=meta["seed"],
        )

    def restricted(self, genes: np.ndarray) -> ReferenceModel:
        """The model with these of its genes alone, rising; all of them give the model itself."""
        profiles = self.profiles if len(genes) == len(self.genes) else restricted_profiles(self.profiles, genes)
        linear = self.linear.restricted(genes, len(self.genes))
        features = Features(self.genes.ids[genes], self.genes.names[genes])
        return replace(self, genes=features, profiles=profiles, linear=linear)


@dataclass(frozen=True)
class Query:
    """A model fitted to a sample: all that is needed to score each of its cells by itself."""

    types: tuple[ReferenceType, ...]
    nodes: Nodes
    places: np.ndarray  # (n_features,) int32 gene of each feature, or ELSEWHERE
    platform: np.ndarray  # (G,) float64
    profiles: ProfileScorer
    linear: LinearModel
    fusion: Fusion
    novelty: Novelty
    enough_umis: float
    values: str  # "counts", or what they are instead, see query.py
    own_labels: bool  # off: labels of ancestors only
    told: dict[str, Any]  # JSON values for people

    def meta(self) -> dict[str, Any]:
        return {
            "types": [asdict(kind) for kind in self.types],
            "nodes": {"names": list(self.nodes.names), "ids": list(self.nodes.ids)},
            "enough_umis": self.enough_umis,
            "values": self.values,
            "own_labels": self.own_labels,
            "told": self.told,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "places": self.places,
            "platform": self.platform,
            "nodes/members": self.nodes.members,
            **_flat("profiles", self.profiles),
            **_flat("linear", self.linear),
            **_flat("fusion", self.fusion),
            **_flat("novelty", self.novelty),
        }

    @classmethod
    def of(cls, meta: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Query:
        """The query that `meta` and `arrays` came from; other entries are let be."""
        return cls(
            types=tuple(ReferenceType(**kind) for kind in meta["types"]),
            nodes=Nodes(tuple(meta["nodes"]["names"]), tuple(meta["nodes"]["ids"]), arrays["nodes/members"]),
            places=arrays["places"],
            platform=arrays["platform"],
            profiles=_restored(ProfileScorer, "profiles", arrays),
            linear=_restored(LinearModel, "linear", arrays),
            fusion=_restored(Fusion, "fusion", arrays),
            novelty=_restored(Novelty, "novelty", arrays),
            enough_umis=meta["enough_umis"],
            values=meta["values"],
            own_labels=meta["own_labels"],
            told=meta["told"],
        )


def _flat(prefix: str, value: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}/{field.name}": getattr(value, field.name) for field in fields(value)}


def _restored(kind: type[T], prefix: str, arrays: Mapping[str, np.ndarray]) -> T:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    missing = next((f"{prefix}/{name}" for name in names if f"{prefix}/{name}" not in arrays), None)
    if missing is not None:
        raise ModelError(f"The reference lacks {missing}: another version of cytonym built it. Build it again.")
    return kind(**{name: arrays[f"{prefix}/{name}"] for name in names})
