"""The tables of Pan-Human Azimuth as its Python package holds them: in a folder, an unpacked wheel, or the wheel."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..azimuth.tables import N_LEVELS, REFINED_LEVELS, Tables, check_tables
from ..errors import ModelError
from .keras_zip import read_bytes, read_temperatures
from .pickled_encoders import read_encoders

PANEL = "inference_feature_panel/inference_feature_panel.txt"
ENCODERS = "inference_encoders/inference_encoders.pkl"
REFINEMENT = "postprocessing/panhuman_annotate_{}.csv"
ONTOLOGY = "cell_ontology_map/cell_ontology_map.csv"
CALIBRATOR = "calibration/temp_scaler_L_{}.keras"
VERSION_FOLDER = re.compile(r"v\d+")


@dataclass(frozen=True)
class TablesFolder:
    """The files of one model version, by their path in its folder."""

    where: str  # for messages
    version: str  # the folder's name if that is like "v1", else ""
    files: Mapping[str, Callable[[], bytes]]

    def panel(self) -> tuple[str, ...]:
        """The genes in the network's order: sorted, whatever the order of the file."""
        lines = self.text(PANEL).splitlines()
        return tuple(sorted(line.strip() for line in lines if line.strip()))

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise ModelError(f"{self.where}/{name} is not UTF-8 text. Copy it again.") from exc

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise ModelError(f"{self.where} lacks {name}. Give the unpacked or zipped wheel of panhumanpy.")
        return self.files[name]()


def find_tables(path: Path) -> list[TablesFolder]:
    """The versions in a folder or a zip file; ModelError if there is none."""
    files = _files_in(path)
    roots = [name.removesuffix(PANEL).rstrip("/") for name in files if f"/{name}".endswith(f"/{PANEL}")]
    if not roots:
        raise ModelError(f"{path} holds no tables of Pan-Human Azimuth (no {PANEL}). Give the wheel of panhumanpy.")
    found = []
    for root in sorted(roots):
        inner = {name[len(root) :].lstrip("/"): read for name, read in files.items() if name.startswith(root)}
        last = PurePosixPath(root).name or path.name
        version = last if VERSION_FOLDER.fullmatch(last) else ""
        found.append(TablesFolder(f"{path}/{root}" if root else str(path), version, inner))
    return found


def _files_in(path: Path) -> dict[str, Callable[[], bytes]]:
    if path.is_dir():
        paths = sorted(inner for inner in path.rglob("*") if inner.is_file())
        return {inner.relative_to(path).as_posix(): _reader(inner) for inner in paths}
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except FileNotFoundError as exc:
        raise ModelError(f"{path} does not exist.") from exc
    except (OSError, zipfile.BadZipFile) as exc:
        raise ModelError(f"{path} is neither a folder nor a whole zip file ({exc}). Copy it again.") from exc
    return {name: _zip_reader(path, name) for name in names}


def _reader(path: Path) -> Callable[[], bytes]:
    return lambda: read_bytes(path)


def _zip_reader(path: Path, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(name)
        except (OSError, zipfile.BadZipFile, EOFError) as exc:
            raise ModelError(f"{path} is damaged at {name} ({exc}). Copy it again.") from exc

    return read


def read_tables(folder: TablesFolder) -> Tables:
    """The tables, fitting each other; ModelError, with the file, if not."""
    calibrators = [CALIBRATOR.format(level + 1) for level in range(N_LEVELS)]
    tables = Tables(
        panel=folder.panel(),
        classes=read_encoders(folder.read(ENCODERS), f"{folder.where}/{ENCODERS}"),
        refinement={level: _refinement(folder, level) for level in REFINED_LEVELS},
        ontology=_ontology(folder),
        temperatures=tuple(
            read_temperatures(folder.read(name), f"{folder.where}/{name}")
            for name in calibrators
            if name in folder.files
        ),
    )
    try:
        check_tables(tables)
    except ModelError as exc:
        raise ModelError(f"{folder.where} cannot be used. {exc}") from exc
    return tables


def checksums(folder: TablesFolder) -> dict[str, str]:
    """SHA-256 of the files that `read_tables` reads, by path."""
    names = [PANEL, ENCODERS, *(REFINEMENT.format(level) for level in REFINED_LEVELS), ONTOLOGY]
    names += [CALIBRATOR.format(level + 1) for level in range(N_LEVELS)]
    return {name: hashlib.sha256(folder.read(name)).hexdigest() for name in names if name in folder.files}


def _refinement(folder: TablesFolder, level: str) -> tuple[tuple[str, str], ...]:
    rows = _rows(folder, REFINEMENT.format(level), ("Orig_Label", f"Annotate_{level}"))
    return tuple((label, target) for label, target in rows)


def _ontology(folder: TablesFolder) -> dict[str, str]:
    """Empty where the version has no crosswalk."""
    return dict(_rows(folder, ONTOLOGY, ("Annotation_Label", "CL_ID"))) if ONTOLOGY in folder.files else {}


def _rows(folder: TablesFolder, name: str, columns: tuple[str, str]) -> list[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(folder.text(name), newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise ModelError(f"{folder.where}/{name} lacks the column {' and '.join(missing)}. Copy it again.")
    try:
        rows = [(row[columns[0]], row[columns[1]]) for row in reader]
    except csv.Error as exc:
        raise ModelError(f"{folder.where}/{name} is no table: {exc}. Copy it again.") from exc
    if any(value is None for row in rows for value in row):
        raise ModelError(f"{folder.where}/{name} is cut off: a row is too short. Copy it again.")
    return rows
