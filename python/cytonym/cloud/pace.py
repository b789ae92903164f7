"""How often and how patiently 10x Cloud is asked: Space Ranger's own tries, pauses and longest wait."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UsageError

SCALE_VARIABLE = "CYTONYM_CLOUD_WAIT_SCALE"
TRIES = 3
PREFLIGHT_PAUSE, PAUSE, POLL_INTERVAL = 60.0, 180.0, 10.0  # seconds
LONGEST_WAIT = 12 * 3600.0
RETRIES, BACKOFF = 5, 0.1  # of one request, by its HTTP adapter


@dataclass(frozen=True)
class Pace:
    """Seconds between tries and polls, each times `scale`; socket time-outs are not scaled."""

    scale: float = 1.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Pace:
        """With the scale that CYTONYM_CLOUD_WAIT_SCALE names, 1 if it names none."""
        text = environment.get(SCALE_VARIABLE, "").strip()
        try:
            scale = float(text) if text else 1.0
        except ValueError:
            scale = math.nan
        if not 0 < scale < math.inf:
            raise UsageError(f"invalid value '{text}' for the environment's {SCALE_VARIABLE}: a number above 0")
        return cls(scale)

    @property
    def poll_interval(self) -> float:
        return POLL_INTERVAL * self.scale

    @property
    def longest_wait(self) -> float:
        return LONGEST_WAIT * self.scale

    @property
    def backoff(self) -> float:
        return BACKOFF * self.scale

    def rest(self, seconds: float = PAUSE) -> None:
        """The pause before the next try."""
        time.sleep(seconds * self.scale)
