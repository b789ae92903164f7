"""What a session with 10x Cloud cost: tries, seconds and success of each of its four operations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

OPERATIONS = ("connect", "upload", "analyze", "download")


@dataclass
class Operation:
    """One operation over all its tries; no tries and success: an earlier run had done it."""

    tries: int = 0
    duration: float = 0.0  # seconds, without the pauses between tries
    success: bool = False


@dataclass
class SessionStatistics:
    """Filled while a session runs; `to_json()` gives Space Ranger's flat object."""

    barcodes: int
    file_size: int
    server_url: str
    cell_annotation_model: str | None = None
    analysis_id: str | int | None = None
    success: bool = False
    failure_mode: str | None = None  # the class of the error
    operations: dict[str, Operation] = field(default_factory=lambda: {name: Operation() for name in OPERATIONS})
    _started: float = field(default_factory=time.monotonic)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Counts a try of that operation and its time; it was a success if nothing is raised."""
        operation, started = self.operations[name], time.monotonic()
        operation.tries += 1
        operation.success = False
        try:
            yield
            operation.success = True
        finally:
            operation.duration += time.monotonic() - started

    def to_json(self) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, operation in self.operations.items():
            flat[f"{name}_tries"] = operation.tries
            flat[f"{name}_duration"] = round(operation.duration, 3)
            flat[f"{name}_success"] = operation.success
        return flat | {
            "barcodes": self.barcodes,
            "file_size": self.file_size,
            "cell_annotation_model": self.cell_annotation_model,
            "server_url": self.server_url,
            "success": self.success,
            "failure_mode": self.failure_mode,
            "time_elapsed": round(time.monotonic() - self._started, 3),
            "analysis_id": self.analysis_id,
        }
