"""HDF5 files that appear whole or not at all, also when the disk fills up while they are written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from .files import written_whole


class Disk(io.FileIO):
    """A file that keeps its first write error for `check`, and goes on as if nothing had happened.

    The HDF5 library does not survive a failed write: it raises from destructors and may crash the process.
    """

    error: OSError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = memoryview(data)
        while self.error is None and len(left):
            try:
                left = left[super().write(left) :]
            except OSError as exc:
                self.error = exc
        if self.error is not None:
            self.seek(len(left), io.SEEK_CUR)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as exc:
            self.error = self.error or exc
            return size or 0

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        n_read = super().readinto(buffer) or 0
        buffer[n_read:] = bytes(len(buffer) - n_read)  # what a failed write did not write
        return len(buffer)

    def check(self) -> None:
        """Raises the first error that a write met."""
        if self.error is not None:
            raise self.error


@contextmanager
def written_h5(path: Path) -> Iterator[tuple[h5py.File, Disk]]:
    """A new HDF5 file that becomes `path` on success; `disk.check()` tells early whether writing still works."""
    with written_whole(path) as aside, Disk(aside, "w+") as disk:
        with h5py.File(disk, "w", track_order=True) as file:
            yield file, disk
        disk.check()
