"""What a run has reached at 10x Cloud, kept in a file, so that the next run with the same input goes on there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..io.files import write_json
from ..progress import LOGGER
from ._cloud_api import Id, ModelChoice

RECORD_NAME = "cloud_run.json"
RECORD_VERSION = 1


@dataclass(frozen=True)
class Asked:
    """What was asked of which server; another question has another record."""

    server: str
    matrix: str  # base name
    size: int
    md5: str
    genome: str
    model: str | None  # None: the service chooses


@dataclass(frozen=True)
class Record:
    """How far the run is. Each field is set when the service has confirmed it."""

    asked: Asked
    file_id: Id | None = None
    blob_id: Id | None = None
    upload_id: Id | None = None
    etags: dict[int, str] = field(default_factory=dict)  # of the parts that the storage has
    assembled: bool = False  # the parts are put together
    uploaded: bool = False  # the service has the whole file
    choice: ModelChoice | None = None
    analysis_id: Id | None = None


class Journal:
    """The record and its file: each change is on disk before the next request leaves."""

    def __init__(self, path: Path, asked: Asked) -> None:
        self._path = path
        self.record = _read(path, asked) or Record(asked)

    def note(self, **changes: Any) -> None:
        """Sets fields of the record and stores it."""
        self.record = replace(self.record, **changes)
        write_json(self._path, {"version": RECORD_VERSION, **asdict(self.record)})

    def forget_upload(self) -> None:
        """The next upload starts anew."""
        self.note(file_id=None, blob_id=None, upload_id=None, etags={}, assembled=False, uploaded=False)

    def forget_analysis(self) -> None:
        """The next analysis is a new one, of the file that the service has."""
        self.note(analysis_id=None)


def _read(path: Path, asked: Asked) -> Record | None:
    """The stored record if it is one, and of the same question."""
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("version") != RECORD_VERSION:
            raise ValueError("another version")
        record = _from_json(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        LOGGER.warning("%s cannot be read: the run with 10x Cloud starts anew.", path)
        return None
    if record.asked != asked:
        LOGGER.info("%s is of another matrix, model or server: the run with 10x Cloud starts anew.", path)
        return None
    return record


def _from_json(value: dict[str, Any]) -> Record:
    known = {one.name for one in fields(Record)}
    if set(value) != known:
        raise ValueError("other fields")
    choice = value["choice"]
    return Record(
        **{
            **value,
            "asked": Asked(**value["asked"]),
            "etags": {int(number): str(etag) for number, etag in value["etags"].items()},
            "choice": None if choice is None else ModelChoice(**choice),
        }
    )
