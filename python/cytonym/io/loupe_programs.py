"""10x Genomics' helper programs for .cloupe files, which come with Space Ranger: their arguments and their files."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import LoupeProgramError

APPEND, BARCODES, PROJECTION = "appendtracks", "getbarcodes", "exportprojectioncsv"
PROJECTION_COLUMNS = ["Barcode", "X Coordinate", "Y Coordinate"]
WORDS_TOLD = 500  # last characters of what a program said


def append_track(program: Path, types: Path, cloupe: Path, output: Path, name: str) -> Path:
    """`output`: the .cloupe with one more group; `types` is a JSON object from type to barcodes."""
    words = (types, cloupe, output, "--trackName", name, "--emptyName=Unknown", "--multiName=Multiple Labels")
    _run(program, *words)
    return _made(program, output)


def list_barcodes(program: Path, cloupe: Path, work: Path) -> frozenset[str]:
    """All barcodes of the .cloupe."""
    listed = work / "barcodes.txt"
    _run(program, cloupe, listed)
    return frozenset(filter(None, _made(program, listed).read_text(encoding="utf-8", errors="replace").split("\n")))


def export_umap(program: Path, cloupe: Path, work: Path) -> pd.DataFrame:
    """Barcode, x and y of the cells."""
    exported = work / "projection.csv"
    _run(program, cloupe, exported, "umap")
    try:
        table = pd.read_csv(_made(program, exported), dtype={"Barcode": str})
    except ValueError as exc:
        raise LoupeProgramError(program, "wrote no table", str(exc)) from exc
    if list(table.columns) != PROJECTION_COLUMNS or any(kind.kind not in "fi" for kind in table.dtypes.iloc[1:]):
        raise LoupeProgramError(program, f"wrote other columns than {', '.join(PROJECTION_COLUMNS)}")
    return table[np.isfinite(table.iloc[:, 1:]).all(axis=1)]


def _run(program: Path, *arguments: str | Path) -> None:
    # the token of 10x Cloud is none of its business
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TENX_CLOUD")}
    try:
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False
        )
    except OSError as exc:
        raise LoupeProgramError(program, f"cannot be started ({exc.strerror})") from exc
    if done.returncode:
        code = done.returncode
        reason = f"failed with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        said = (done.stderr or done.stdout).decode("utf-8", errors="replace").strip()[-WORDS_TOLD:]
        raise LoupeProgramError(program, reason, said)


def _made(program: Path, path: Path) -> Path:
    if not path.is_file():
        raise LoupeProgramError(program, "went well and wrote no file")
    return path
