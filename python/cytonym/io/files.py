"""Files that appear whole or not at all: written aside, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import OutputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on success it becomes `path`, on any error it is removed.

    Raises OutputError when the disk is full or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with aside.open("rb+") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
    except OSError as exc:
        raise output_error(path, exc) from exc
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: a path that becomes `path` on success, in place of one that is there."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        shutil.rmtree(path, ignore_errors=True)
        aside.replace(path)
    except OSError as exc:
        raise output_error(path, exc) from exc
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def output_error(path: Path, exc: OSError) -> OutputError:
    """The reason why `path` could not be written, and what to do about it."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(f"No space is left to write {path}. Free some space, then run the same command again.")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"No permission to write {path}. Choose another folder with --output-dir.")
    return OutputError(f"Cannot write {path}: {exc.strerror or exc}.")


def write_text(path: Path, text: str) -> None:
    """UTF-8, line ends as given."""
    with written_whole(path) as aside:
        aside.write_bytes(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Indented JSON in the order of the value's keys; the same value gives the same bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_file(source: Path, target: Path) -> None:
    """The same bytes at `target`, without a copy where the file system can share them."""
    with written_whole(target) as aside:
        try:
            aside.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, aside)


def sha256_of(*paths: Path) -> str:
    """Hex SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
