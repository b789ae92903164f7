"""What a person sees while a run works: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LOGGER = logging.getLogger("cytonym")
LOGGER.setLevel(logging.INFO)  # a run's _log is complete, whoever calls
SECONDS_BETWEEN_LINES = 30.0

T = TypeVar("T")


def track(items: Iterable[tuple[T, int]], *, total: int, label: str, unit: str = "cells") -> Iterator[T]:
    """The items, while their progress is shown; each comes with the number of units that it stands for."""
    if sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO):
        with tqdm(total=total, desc=label, unit=f" {unit}", unit_scale=True, leave=False) as bar:
            for item, units in items:
                yield item
                bar.update(units)
        return
    done, last = 0, time.monotonic()
    for item, units in items:
        yield item
        done += units
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            LOGGER.info("%s: %s of %s %s (%d %%)", label, f"{done:,}", f"{total:,}", unit, 100 * done // max(total, 1))
