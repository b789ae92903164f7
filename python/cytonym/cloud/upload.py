"""The matrix at 10x Cloud: sent in parts, each read from disk when its turn comes; a begun upload goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CloudAnswerError, InputError
from ..progress import LOGGER, track
from ._cloud_api import CloudClient, Id
from .record import Journal

PART_SIZE = 5 * 1024 * 1024  # bytes; the last part has what is left


@dataclass(frozen=True)
class LocalFile:
    """A file as it was when its checksum was taken."""

    path: Path
    size: int
    md5: str
    changed: int  # when it was last written, ns

    @property
    def n_parts(self) -> int:
        return max(1, -(-self.size // PART_SIZE))

    def part(self, number: int) -> bytes:
        """The bytes of part `number`, from 1; InputError if the file has changed."""
        with self.path.open("rb") as file:
            file.seek((number - 1) * PART_SIZE)
            content = file.read(self.part_size(number))
        if len(content) != self.part_size(number):
            raise self._changed()
        return content

    def part_size(self, number: int) -> int:
        return min(PART_SIZE, self.size - (number - 1) * PART_SIZE)

    def check_unchanged(self) -> None:
        found = self.path.stat()
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed):
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(f"{self.path} was changed while it was sent to 10x Cloud. Run the command again.")


def local_file(path: Path) -> LocalFile:
    """The file with its size and MD5, read once in blocks; InputError if it cannot be read."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        found = path.stat()
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.") from exc
    return LocalFile(path, found.st_size, digest.hexdigest(), found.st_mtime_ns)


def upload(client: CloudClient, file: LocalFile, journal: Journal) -> Id:
    """The service's id of the file, once it has all of it."""
    if journal.record.upload_id is not None:
        try:
            return _finish(client, file, journal)
        except CloudAnswerError as exc:
            if not exc.is_refusal:
                raise
            LOGGER.warning("10x Cloud does not go on with the upload that was begun; it starts anew. (%s)", exc)
    journal.forget_upload()
    registered = client.register_file(file.path.name, file.md5, file.size)
    if registered.is_there or registered.blob_id is None:
        LOGGER.info("10x Cloud has %s already: nothing is sent.", file.path.name)
        journal.note(file_id=registered.file_id, uploaded=True)
        return registered.file_id
    upload_id = client.start_upload(registered.blob_id)
    journal.note(file_id=registered.file_id, blob_id=registered.blob_id, upload_id=upload_id)
    return _finish(client, file, journal)


def _finish(client: CloudClient, file: LocalFile, journal: Journal) -> Id:
    """Sends what is missing and closes the upload; a refused one is forgotten."""
    try:
        if not journal.record.assembled:
            for number in _missing(file, journal):
                _send(client, file, journal, number)
            file.check_unchanged()
            _assemble(client, journal)
        file_id = journal.record.file_id
        assert file_id is not None  # of an upload that has begun
        client.close_file(file_id)
    except CloudAnswerError as exc:
        if exc.is_refusal:
            journal.forget_upload()
        raise
    journal.note(uploaded=True)
    return file_id


def _missing(file: LocalFile, journal: Journal) -> Iterator[int]:
    """The numbers of the parts that the storage does not have, with progress in bytes."""
    numbers = [number for number in range(1, file.n_parts + 1) if number not in journal.record.etags]
    left = [(number, file.part_size(number)) for number in numbers]
    return track(left, total=sum(size for _, size in left), label=f"sending {file.path.name}", unit="bytes")


def _send(client: CloudClient, file: LocalFile, journal: Journal, number: int) -> None:
    blob_id, upload_id = _begun(journal)
    etag = client.send_part(blob_id, upload_id, number, file.part(number))
    journal.note(etags={**journal.record.etags, number: etag})


def _assemble(client: CloudClient, journal: Journal) -> None:
    client.complete_upload(*_begun(journal), journal.record.etags)
    journal.note(assembled=True)


def _begun(journal: Journal) -> tuple[Id, Id]:
    blob_id, upload_id = journal.record.blob_id, journal.record.upload_id
    assert blob_id is not None and upload_id is not None  # of an upload that has begun
    return blob_id, upload_id
