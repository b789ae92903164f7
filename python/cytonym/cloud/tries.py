"""Work that is tried again after a pause, three times in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import PassingCloudError
from ..progress import LOGGER
from .pace import PAUSE, TRIES, Pace

T = TypeVar("T")


def in_tries(work: Callable[[], T], pace: Pace, *, pause: float = PAUSE) -> T:
    """What `work` gives; the last try's PassingCloudError, and any other error at once."""
    for number in range(1, TRIES):
        try:
            return work()
        except PassingCloudError as exc:
            LOGGER.warning("%s Try %d of %d follows in %.0f s.", exc, number + 1, TRIES, pause * pace.scale)
        pace.rest(pause)
    return work()
