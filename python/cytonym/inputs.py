"""What a user's `--matrix` means: a file of one of several formats, or a folder; and how it becomes a 10x HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .io.h5ad import open_h5ad
from .io.header import ForeignSource
from .io.mex import mex_files, open_mex
from .io.tenx_h5 import TenxH5Source, TenxH5Writer, open_tenx_h5
from .types import Alert

CELLS_IN_OUTS = "segmented_outputs/filtered_feature_cell_matrix.h5"
BINS_IN_OUTS = "binned_outputs/square_008um/filtered_feature_bc_matrix.h5"
TENX, MEX, H5AD = "10x HDF5", "MEX", "h5ad"


@dataclass(frozen=True)
class LocatedMatrix:
    """The file or MEX folder that a user's path means."""

    path: Path
    format: str  # TENX, MEX or H5AD
    alerts: tuple[Alert, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the counts."""
        return mex_files(self.path) if self.format == MEX else (self.path,)


def locate_matrix(path: Path) -> LocatedMatrix:
    """The matrix behind a file, a MEX folder, or a Space Ranger `outs/` folder (segmented cells before 8 um bins)."""
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if path.is_file():
        return LocatedMatrix(path, H5AD if path.suffix == ".h5ad" else TENX)
    if any((path / name).exists() for name in ("matrix.mtx", "matrix.mtx.gz")):
        return LocatedMatrix(path, MEX)
    for outs in (path, path / "outs"):
        if (outs / CELLS_IN_OUTS).is_file():
            return LocatedMatrix(outs / CELLS_IN_OUTS, TENX)
        if (outs / BINS_IN_OUTS).is_file():
            message = "The folder has no segmented cells, so its 8 µm bins are annotated. Models are made for cells."
            return LocatedMatrix(outs / BINS_IN_OUTS, TENX, (Alert("WARN", "Bins instead of cells", message),))
    raise InputError(
        f"{path} is neither a MEX folder (matrix.mtx.gz, features.tsv.gz, barcodes.tsv.gz) nor a Space Ranger output "
        f"folder (no {CELLS_IN_OUTS}, no {BINS_IN_OUTS}). Give the matrix file itself."
    )


def as_tenx_h5(
    located: LocatedMatrix, converted: Path, *, fractions: bool = False
) -> tuple[TenxH5Source, str, tuple[str, ...]]:
    """The matrix as a 10x source, the name of its own format, and calm lines on how it was read.

    A matrix of another format is written to `converted`, in a stream. `fractions`: other values than counts, too.
    """
    if located.format == TENX:
        source = open_tenx_h5(located.path, fractions=fractions)
        return source, source.format, ()
    foreign: ForeignSource = (
        open_mex(located.path) if located.format == MEX else open_h5ad(located.path, fractions=fractions)
    )
    header = foreign.header
    with TenxH5Writer(
        converted,
        ids=header.ids,
        names=header.names,
        feature_types=header.feature_types,
        genomes=header.genomes,
        chemistry=header.chemistry,
        fractions=foreign.fractional,
    ) as out:
        for cells, barcodes in foreign.blocks():
            out.append(cells, barcodes)
    return open_tenx_h5(converted, fractions=fractions), located.format, foreign.notes
