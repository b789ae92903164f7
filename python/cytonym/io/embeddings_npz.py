"""embeddings.npz: `barcodes` and `embeddings` (cells x size, float32), read with numpy.load and no pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from .files import written_whole


def write_embeddings(path: Path, barcodes: np.ndarray, parts: Iterable[np.ndarray], shape: tuple[int, int]) -> None:
    """The parts one after the other, one in memory at a time; the same content gives the same bytes."""
    with written_whole(path) as aside, zipfile.ZipFile(aside, "w", allowZip64=True) as archive:
        with archive.open("barcodes.npy", "w", force_zip64=True) as member:
            npy.write_array(member, np.asarray(barcodes, dtype=str), allow_pickle=False)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            npy.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for part in parts:
                member.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
