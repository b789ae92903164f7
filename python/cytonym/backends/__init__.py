"""The models that can run, by the name of their backend. A new backend is one file and one line here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..matrix import CountMatrix
from ..types import Fitted, Model, ModelCard, Predictions
from .azimuth import AzimuthBackend
from .markers import MarkersBackend
from .reference import ReferenceBackend
from .tenx_cloud import TenxCloudBackend


class Backend(Protocol):
    """A provider of labels. It is handed all it needs and reads no environment variable and no global."""

    def models(self) -> Sequence[ModelCard]:
        """The models it offers without any installation."""
        ...

    def fit(self, matrix: CountMatrix, model: Model) -> Fitted:
        """What must be learnt from this sample, once, from a bounded deterministic part of it."""
        ...

    def classify(self, block: CountMatrix, fitted: Fitted) -> Predictions:
        """Each cell by itself: any split of the cells gives the same answer."""
        ...


BACKENDS: dict[str, Backend] = {
    "markers": MarkersBackend(),
    "azimuth": AzimuthBackend(),
    "reference": ReferenceBackend(),
    "tenx_cloud": TenxCloudBackend(),
}
