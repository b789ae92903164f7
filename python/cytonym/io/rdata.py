"""Matrices in R's .RData files: as much of the format as plain matrices and data frames need.

Format: R Internals, "Serialization Formats", XDR, versions 2 and 3. Nothing is evaluated: an object that is not
numbers, texts or lists of such is refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

MAGIC = (b"RDX2\nX\n", b"RDX3\nX\n")
NIL, REFERENCE = 254, 255
ENVIRONMENTS = (241, 242, 253)  # base, empty, global: nothing of theirs is stored
ALTERNATIVE = 238  # a vector that R keeps in another form
SYMBOL, PAIRLIST, CHARACTERS, LOGICAL, INTEGER, REAL, TEXTS, LIST = 1, 2, 9, 10, 13, 14, 16, 19
HAS_ATTRIBUTES, HAS_TAG = 0x200, 0x400
MISSING_INTEGER = -(2**31)


@dataclass(frozen=True)
class RObject:
    """A vector or a list, with its attributes by name."""

    value: Any
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedMatrix:
    """Numbers with names of rows and columns."""

    values: np.ndarray  # (rows, columns) float64
    rows: np.ndarray  # str
    columns: np.ndarray  # str


def read_rdata(path: Path) -> dict[str, RObject]:
    """The objects of the file by name; InputError if it is no such file, or holds what is not read here."""
    try:
        data = _unpacked(path.read_bytes())
        if not data.startswith(MAGIC):
            raise InputError(f"{path} is no RData file of R 2.4 or newer.")
        return _Reader(data, len(MAGIC[0])).objects()
    except (OSError, EOFError, zlib.error, lzma.LZMAError, struct.error, IndexError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}. Copy or download it again.") from exc
    except NotImplementedError as exc:
        raise InputError(f"{path} holds {exc}, which is not read here.") from exc


def as_matrix(found: RObject, where: str) -> NamedMatrix:
    """A numeric matrix or data frame with names; InputError if it is neither."""
    names = found.attributes.get("dimnames")
    if names is not None and "dim" in found.attributes and isinstance(found.value, np.ndarray):
        shape = tuple(found.attributes["dim"].value.astype(int))
        rows, columns = (np.asarray(part.value, dtype=str) for part in names.value)
        return NamedMatrix(found.value.astype(np.float64).reshape(shape, order="F"), rows, columns)
    if "row.names" in found.attributes and isinstance(found.value, list):
        values = np.column_stack([np.asarray(column.value, dtype=np.float64) for column in found.value])
        names = np.asarray(found.attributes["names"].value, dtype=str)
        return NamedMatrix(values, np.asarray(found.attributes["row.names"].value, dtype=str), names)
    raise InputError(f"{where} holds no matrix with names of rows and columns.")


def _unpacked(data: bytes) -> bytes:
    for magic, unpack in ((b"\x1f\x8b", gzip.decompress), (b"BZh", bz2.decompress), (b"\xfd7zXZ", lzma.decompress)):
        if data.startswith(magic):
            return unpack(data)
    return data


class _Reader:
    """Goes through the bytes once."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._at = data, start
        self._met: list[Any] = []  # what later references mean, in order

    def objects(self) -> dict[str, RObject]:
        version = self._integer()
        self._at += 8  # versions of R
        if version == 3:
            length = self._integer()
            self._at += length  # name of the native encoding
        found = self._item()
        return {name: value for name, value in found.items() if isinstance(value, RObject)}

    def _integer(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._at)
        self._at += 4
        return int(value)

    def _numbers(self, kind: str, size: int) -> np.ndarray:
        n = self._integer()
        if n < 0:
            raise NotImplementedError("a vector of more than 2^31 elements")
        values = np.frombuffer(self._data, dtype=kind, count=n, offset=self._at)
        self._at += n * size
        return values

    def _item(self) -> Any:
        flags = self._integer()
        kind = flags & 0xFF
        if kind == NIL or kind in ENVIRONMENTS:
            return {} if kind == NIL else None
        if kind == REFERENCE:
            return self._met[(flags >> 8 or self._integer()) - 1]
        if kind == SYMBOL:
            self._met.append(self._item())
            return self._met[-1]
        if kind == PAIRLIST:
            return self._pairs(flags)
        if kind == CHARACTERS:
            return self._characters()
        if kind == ALTERNATIVE:
            return self._alternative()
        return self._vector(kind, flags)

    def _pairs(self, flags: int) -> dict[str, Any]:
        """A pair list as a dict, its untagged elements numbered."""
        found: dict[str, Any] = {}
        while flags & 0xFF == PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self._item()
            name = self._item() if flags & HAS_TAG else str(len(found))
            found[name] = self._item()
            flags = self._integer()
        return found

    def _alternative(self) -> RObject:
        """A wrapped vector, a range of integers, or numbers that were to become texts: as the vector it stands for."""
        name, state, attributes = self._item()["0"], self._item(), self._item()
        if name.startswith("wrap_"):
            value = state.value[0].value
        elif name == "compact_intseq":
            n, start, step = state.value
            value = start + step * np.arange(int(n))
        elif name == "deferred_string":
            value = [f"{number:.15g}" for number in state["0"].value]
        else:
            raise NotImplementedError(f"an R vector in the form {name}")
        return RObject(value, attributes)

    def _characters(self) -> str:
        n = self._integer()
        if n < 0:
            return ""
        text = self._data[self._at : self._at + n]
        self._at += n
        return text.decode("utf-8", "replace")

    def _vector(self, kind: int, flags: int) -> RObject:
        value: Any
        if kind in (LOGICAL, INTEGER):
            integers = self._numbers(">i4", 4)
            value = np.where(integers == MISSING_INTEGER, np.nan, integers) if kind == INTEGER else integers
        elif kind == REAL:
            value = self._numbers(">f8", 8)
        elif kind in (TEXTS, LIST):
            value = [self._item() for _ in range(self._integer())]
        else:
            raise NotImplementedError(f"an R object of type {kind}")
        return RObject(value, self._item() if flags & HAS_ATTRIBUTES else {})
