"""One sample and one client for the tests of 10x Cloud; as a program, the same run in a process that can be killed."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fake_cloud import PART_SIZE, FakeCloud

from cytonym.cloud import CloudClient, CloudInput, CloudResult, CloudToken, Pace, Secret, run_cloud_annotation
from cytonym.errors import CytonymError
from cytonym.progress import LOGGER

TOKEN = "t0p-s3cret.token"
SIGNATURE = "s1gned"  # of the fake's signed addresses
BARCODES = [f"cellid_{number:09d}-1" for number in range(7)]
SIZE = 2 * PART_SIZE + 12_345  # three parts
QUICK = Pace(1e-5)  # 12 hours in 0.4 s


@contextmanager
def served(**changes: object) -> Iterator[FakeCloud]:
    """A fake cloud; at the end no log line holds a secret, and the client kept to the protocol."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        with FakeCloud(**{"token": TOKEN, "barcodes": BARCODES} | changes) as cloud:  # type: ignore[arg-type]
            cloud.lines = lines  # type: ignore[attr-defined]
            yield cloud
    finally:
        LOGGER.removeHandler(handler)
    assert cloud.complaints == []
    assert TOKEN not in "\n".join(lines)
    assert SIGNATURE not in "\n".join(lines)


def write_matrix(folder: Path, size: int = SIZE) -> Path:
    """A file of so many bytes; what is in it does not matter to the client."""
    path = folder / "matrix.h5"
    path.write_bytes(np.random.default_rng(3).bytes(size))
    return path


def client_of(url: str, *, token: str = TOKEN, **options: object) -> CloudClient:
    return CloudClient(CloudToken(Secret(token), url, origin="token.txt"), **{"pace": QUICK} | options)  # type: ignore[arg-type]


def annotated(
    cloud: FakeCloud, matrix: Path, *, genome: str = "GRCh38", model: str | None = None, **options: object
) -> CloudResult:
    """A run in the folder `cloud` beside the matrix."""
    source = CloudInput(matrix, BARCODES, genome, model)
    return run_cloud_annotation(client_of(cloud.url, **options), source, matrix.parent / "cloud")


def refused(work: Callable[[], object]) -> CytonymError:
    """The error that `work` ends in; neither it, nor what led to it, nor any local value shows a secret."""
    with pytest.raises(CytonymError) as stopped:
        work()
    error: BaseException = stopped.value
    shown = "".join(traceback.format_exception(error))
    deep = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    linked = error
    while linked is not None:
        assert TOKEN not in f"{linked!r} {vars(linked)}"
        linked = linked.__cause__ or linked.__context__  # type: ignore[assignment]
    assert TOKEN not in shown + deep.replace(f"TOKEN = {TOKEN!r}", "")
    assert SIGNATURE not in shown
    return stopped.value


def files_of(matrix: Path) -> set[str]:
    """What is left in the run's folder."""
    folder = matrix.parent / "cloud"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    """`cloud_run.py URL MATRIX`: the run, at the pace that the environment names."""
    url, matrix = sys.argv[1], Path(sys.argv[2])
    client = client_of(url, pace=Pace.from_environment(os.environ))
    run_cloud_annotation(client, CloudInput(matrix, BARCODES, "GRCh38"), matrix.parent / "cloud")


if __name__ == "__main__":
    main()
