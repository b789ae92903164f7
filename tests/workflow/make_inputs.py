"""Makes what the workflow tests read, in the current folder; paths have blanks on purpose."""

import sys
from pathlib import Path

from cytonym.demo import make_tissue
from cytonym.demo_outs import make_outs
from cytonym.install import InstallRequest, install

sys.path.insert(0, str(Path(__file__).parents[1]))
from azimuth_files import write_bundle

SEVEN_PARTS = 4500  # cells, 700 at a time
GENES = 6000
SHEET = '''\
sample,matrix,spaceranger_dir,description,genome,slide,cell_annotation_model
seven,seven parts.h5,,"it's 7 parts, for ""$HOME""",,V1,"markers,pan_human_azimuth"
hd,,runs/hd,,,V2,
tiny,tests/data/tiny/filtered_feature_bc_matrix,,,GRCh38,,markers
'''


def main(what: str) -> None:
    inputs = Path("in put")
    inputs.mkdir()
    if what == "samples":
        install(InstallRequest("pan_human_azimuth", inputs / "models", *write_bundle(Path("bundle"))))
        make_tissue(inputs / "seven parts.h5", n_cells=SEVEN_PARTS, n_genes=GENES, seed=1)
        make_outs(inputs / "runs/hd/outs", n_cells=300, n_genes=GENES, seed=2)
        (inputs / "sheet.csv").write_text(SHEET, encoding="utf-8")
    elif what == "cells":
        make_tissue(inputs / "the cells.h5", n_cells=300, n_genes=GENES, seed=2)
    Path("home").mkdir()


main(sys.argv[1])
