"""Work on blocks of cells in threads, with results in block order and a bounded number of blocks in memory."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def single_threaded(*modules: str) -> Iterator[None]:
    """BLAS and OpenMP work with one thread, so that sums are added in one order.

    `modules` are imported first: the limit does not reach a library that is loaded later.
    """
    for module in modules:
        importlib.import_module(module)
    with threadpool_limits(1):
        yield


def map_in_order(work: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """`work(item)` for each item, in order; at most `threads` + 1 items are under way. BLAS stays single-threaded."""
    with single_threaded():
        if threads <= 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[B]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
