"""Types meet Loupe Browser: the sample's .cloupe file with its cell types in it, by 10x Genomics' own programs.

The format is closed. The programs come with Space Ranger; what a missing one would do is left out, with an alert.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from .errors import LoupeProgramError
from .io.files import write_json, written_whole
from .io.loupe_programs import APPEND, BARCODES, PROJECTION, append_track, export_umap, list_barcodes
from .progress import LOGGER
from .types import Alert

CLOUPE_NAME = "cell_annotation_sample_cloupe.cloupe"
PROJECTION_NAME = "projection.csv"
BETA_GROUP, PLAIN_GROUP = "Cell Types (beta)", "Cell Types"  # of models in beta, which is all that do not deny it
WITHOUT = {
    APPEND: f"without {APPEND} there is no .cloupe file with cell types (import loupe_cell_types.csv in Loupe Browser)",
    BARCODES: f"without {BARCODES} its barcodes are not compared with the matrix's",
    PROJECTION: f"without {PROJECTION} its UMAP is not used",
}


def find_programs(folder: Path | None) -> dict[str, Path]:
    """10x Genomics' programs that are there, by name: in the folder, or on PATH where none is named."""
    found = {name: shutil.which(name, path=None if folder is None else str(folder)) for name in WITHOUT}
    return {name: Path(path).absolute() for name, path in found.items() if path is not None}


def annotate_cloupe(
    cloupe: Path,
    groups: Mapping[str, pd.Series],
    programs: Mapping[str, Path],
    folder: Path,
    *,
    projection: bool,
) -> tuple[Alert, ...]:
    """Writes the .cloupe with each group of types and, if wanted, its UMAP into `folder`; what readers must know.

    `groups` maps names in Loupe Browser to types by barcode, the first with all barcodes of the matrix. A program that
    cannot add types is a LoupeProgramError; other failures are alerts, as in Space Ranger.
    """
    steps = [name for name in WITHOUT if name != PROJECTION or projection]
    alerts = _missing([name for name in steps if name not in programs])
    with tempfile.TemporaryDirectory(prefix=".loupe.", dir=folder) as work:
        if BARCODES in programs:
            barcodes = next(iter(groups.values())).index
            alerts += _compared(programs[BARCODES], cloupe, frozenset(barcodes), Path(work))
        if projection and PROJECTION in programs:
            alerts += _exported(programs[PROJECTION], cloupe, folder / PROJECTION_NAME, Path(work))
        if APPEND in programs:
            with written_whole(folder / CLOUPE_NAME) as aside:
                _append(programs[APPEND], cloupe, groups, Path(work)).replace(aside)
    for alert in alerts:
        LOGGER.warning("%s: %s", alert.title, alert.message)
    return alerts


def _missing(names: list[str]) -> tuple[Alert, ...]:
    if not names:
        return ()
    lost = APPEND in names
    title = "The Loupe file is not annotated" if lost else "Programs for the Loupe file are missing"
    why = "10x Genomics' programs are needed (in the folder --loupe-tools, else on PATH)"
    return (Alert("WARN" if lost else "INFO", title, f"{why}: {'; '.join(WITHOUT[name] for name in names)}."),)


def _compared(program: Path, cloupe: Path, barcodes: frozenset[str], work: Path) -> tuple[Alert, ...]:
    """A warning where matrix and .cloupe hold other barcodes, with Space Ranger's three numbers."""
    title = "Loupe file and matrix differ"
    try:
        listed = list_barcodes(program, cloupe, work)
    except LoupeProgramError as exc:
        return (_failed("The Loupe file was not compared with the matrix", exc),)
    if listed == barcodes:
        return ()
    common, union = len(listed & barcodes), len(listed | barcodes)
    message = (
        f"{common:,} of {union:,} barcodes are in both; {len(barcodes - listed):,} are only in the matrix, "
        f"{len(listed - barcodes):,} only in the Loupe file. Is it the file of this sample?"
    )
    return (Alert("WARN", title, message),)


def _exported(program: Path, cloupe: Path, output: Path, work: Path) -> tuple[Alert, ...]:
    try:
        table = export_umap(program, cloupe, work)
    except LoupeProgramError as exc:
        return (_failed("No UMAP from the Loupe file", exc),)
    with written_whole(output) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")
    return ()


def _append(program: Path, cloupe: Path, groups: Mapping[str, pd.Series], work: Path) -> Path:
    """A file in `work`; each group is added to the file that the one before it made."""
    made = cloupe
    for number, (name, types) in enumerate(groups.items()):
        before = made
        cells = {str(label): list(rows) for label, rows in sorted(types.groupby(types, observed=True).groups.items())}
        write_json(work / "cell_types.json", cells)
        made = append_track(program, work / "cell_types.json", before, work / f"{number}.cloupe", name)
        if before != cloupe:
            before.unlink()
    return made


def _failed(title: str, exc: LoupeProgramError) -> Alert:
    LOGGER.warning("%s", exc)
    return Alert("WARN", title, f"10x Genomics' program {exc.program} {exc.reason}.")
