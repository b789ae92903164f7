"""Files beside a matrix that tell where its cells lie: which there are, and whether they can be used.

A file is known by its role; the plan names the roles that a run uses, and stages are handed `{role: path}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from .errors import InputError
from .inputs import BINS_IN_OUTS, CELLS_IN_OUTS, H5AD, TENX, LocatedMatrix
from .io.files import sha256_of
from .io.segmentations import check_segmentations
from .types import AnnotateRequest, BesideFile

SCALEFACTORS = "scalefactors_json.json"
IN_SPATIAL = {  # role -> names in Space Ranger's spatial/ folder, best first
    "scalefactors": (SCALEFACTORS,),
    "hires_image": ("tissue_hires_image.png",),
    "lowres_image": ("tissue_lowres_image.png",),
    "tissue_positions": ("tissue_positions.parquet", "tissue_positions.csv"),
}
NUCLEI = "nucleus_segmentations.geojson"
ROLES = {  # role -> places from the matrix's folder on, best first
    "cell_segmentations": ("cell_segmentations.geojson",),
    "nucleus_segmentations": (NUCLEI,),
    **{role: tuple(f"spatial/{name}" for name in names) for role, names in IN_SPATIAL.items()},
    "barcode_mappings": ("../barcode_mappings.parquet", "../../barcode_mappings.parquet"),
    "projection": (
        "analysis/umap/gene_expression_2_components/projection.csv",
        "analysis/umap/2_components/projection.csv",
    ),
    "h5ad": (),  # the matrix itself, for what is in its obsm
}
OF_CELLS = ("cell_segmentations", "nucleus_segmentations")  # without use for bins
OF_BINS = ("tissue_positions",)  # without use for segmented cells
SPACE_RANGER_NAMES = (Path(CELLS_IN_OUTS).name, Path(BINS_IN_OUTS).name)


def locate_beside(request: AnnotateRequest, located: LocatedMatrix) -> dict[str, Path]:
    """The files of each role: those where Space Ranger writes them beside this matrix, and those the user names."""
    found: dict[str, Path] = {}
    if located.format == TENX and located.path.name in SPACE_RANGER_NAMES:
        found = _first_of_each(located.path.parent, ROLES)
    if located.format == H5AD:
        found["h5ad"] = located.path
    if request.spatial is not None:
        if not (request.spatial / SCALEFACTORS).is_file():
            raise InputError(
                f"--spatial {request.spatial} holds no {SCALEFACTORS}. Give Space Ranger's folder 'spatial'."
            )
        found = {role: path for role, path in found.items() if role not in IN_SPATIAL}
        found |= _first_of_each(request.spatial, IN_SPATIAL)
    if request.cell_segmentations is not None:
        found.pop("nucleus_segmentations", None)
        found["cell_segmentations"] = request.cell_segmentations
        nuclei = request.cell_segmentations.with_name(NUCLEI)
        if nuclei.is_file():
            found["nucleus_segmentations"] = nuclei
    return found


def _first_of_each(folder: Path, roles: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    places = {role: [folder / name for name in names] for role, names in roles.items()}
    return {
        role: next(p for p in paths if p.is_file()) for role, paths in places.items() if any(map(Path.is_file, paths))
    }


def check_beside(found: Mapping[str, Path], barcode_kind: str) -> tuple[dict[str, BesideFile], tuple[str, ...]]:
    """The files that this sample can use, checked, and a calm line for each that needs a missing package."""
    useless = {"bin": OF_CELLS, "cell": OF_BINS}.get(barcode_kind, ())
    used, notes = {}, []
    for role, path in found.items():
        if role not in ROLES:
            raise InputError(f"'{role}' is no role of a file beside the matrix; there are {', '.join(ROLES)}.")
        if role in useless or (role == "lowres_image" and "hires_image" in found):
            continue
        if path.suffix == ".parquet" and find_spec("pyarrow") is None:
            notes.append(f"{path.name} is left out: reading it needs pyarrow (pip install 'cytonym[parquet]').")
            continue
        if role in OF_CELLS:
            check_segmentations(path)
        if role == "scalefactors":
            read_scalefactors(path)
        used[role] = BesideFile(path.name, "" if role == "h5ad" else sha256_of(path))
    return used, tuple(notes)


def planned_files(beside: Mapping[str, Path], planned: Mapping[str, BesideFile]) -> dict[str, Path]:
    """The files of the plan's roles; InputError if one is not at hand."""
    missing = [f"{role} ({file.name})" for role, file in planned.items() if role not in beside]
    if missing:
        raise InputError(f"The plan was made with files that are not given now: {', '.join(missing)}.")
    return {role: beside[role] for role in planned}


def read_scalefactors(path: Path) -> dict[str, float]:
    """Its numbers; InputError if it is no such file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in values.items() if isinstance(value, (int, float))}
    except (OSError, ValueError, AttributeError) as exc:
        raise InputError(f"{path} is not a {SCALEFACTORS} of Space Ranger: {exc}") from exc


def cell_number(barcode: str) -> int | None:
    """The number in `cellid_000000007-1`, by which segmentations know the cell; None for other barcodes."""
    found = re.fullmatch(r"cellid_(\d+)(-\d+)?", barcode)
    return int(found[1]) if found else None
