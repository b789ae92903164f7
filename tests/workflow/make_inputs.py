"""Makes what the workflow tests read, in the current folder; paths have blanks on purpose."""

import sys
from dataclasses import replace
from pathlib import Path

from cytonym.demo import make_tissue
from cytonym.demo_outs import make_outs
from cytonym.install import InstallRequest, install
from cytonym.io.tenx_h5 import open_tenx_h5
from cytonym.markers import MarkerTable, as_tsv, load_markers
from cytonym.reference.build import build_reference
from cytonym.reference.request import BuildRequest

sys.path.insert(0, str(Path(__file__).parents[1]))
from azimuth_files import write_bundle
from loupe_programs import make_cloupe, make_programs

SEVEN_PARTS = 4500  # cells, 700 at a time
GENES = 6000
SHEET = '''\
sample,matrix,spaceranger_dir,description,genome,slide,cell_annotation_model,markers,tissue,cloupe
seven,seven parts.h5,,"it's 7 parts, for ""$HOME""",,V1,\
"markers,pan_human_azimuth,our reference",own types.tsv,Lymph-Node,its.cloupe
hd,,runs/hd,,,V2,,,,
tiny,tests/data/tiny/filtered_feature_bc_matrix,,,GRCh38,,markers,,,
'''
CLOUD_SHEET = """\
sample,matrix,cell_annotation_model
good,good.h5,auto
bad,bad.h5,"markers,auto"
local,bad.h5,
"""
CLOUD_TOKEN = "t0ken-of-the-workflow"


def main(what: str) -> None:
    inputs = Path("in put")
    inputs.mkdir()
    if what == "samples":
        install(InstallRequest("pan_human_azimuth", inputs / "models", *write_bundle(Path("bundle"))))
        make_tissue(inputs / "seven parts.h5", n_cells=SEVEN_PARTS, n_genes=GENES, seed=1)
        make_outs(inputs / "runs/hd/outs", n_cells=300, n_genes=GENES, seed=2)
        b_cell = next(t for t in load_markers("human").types if t.name == "B cell")
        own = replace(b_cell, coarse="B cell of ours", defining=("OWN1", "OWN2", "OWN3", "OWN4"))
        table = MarkerTable("human", (own,), {})
        (inputs / "own types.tsv").write_text(as_tsv(table), encoding="utf-8")
        barcodes = open_tenx_h5(inputs / "seven parts.h5").read_barcodes(0, SEVEN_PARTS).tolist()
        make_reference(inputs / "our reference")
        make_cloupe(inputs / "its.cloupe", barcodes[1:])
        make_programs(inputs / "loupe tools")
        (inputs / "sheet.csv").write_text(SHEET, encoding="utf-8")
    elif what == "cells":
        make_tissue(inputs / "the cells.h5", n_cells=300, n_genes=GENES, seed=2)
    elif what == "cloud":
        make_tissue(inputs / "good.h5", n_cells=150, n_genes=GENES, seed=3)
        make_tissue(inputs / "bad.h5", n_cells=150, n_genes=GENES, seed=4)
        (inputs / "sheet.csv").write_text(CLOUD_SHEET, encoding="utf-8")
        token = inputs / "token.txt"
        token.write_text(f"{CLOUD_TOKEN}\n", encoding="utf-8")
        token.chmod(0o600)
    Path("home").mkdir()


def make_reference(output: Path) -> None:
    """A reference of cells that are made like those of the seven parts, with their true types."""
    tissue, labels = Path("reference.h5"), Path("reference.csv")
    make_tissue(tissue, n_cells=400, n_genes=GENES, seed=1).to_csv(labels, index=False)
    build_reference(BuildRequest((tissue,), "ours", output, labels=(labels,), label_key="coarse_cell_type"))


main(sys.argv[1])
