"""Writes tests/data/tiny/, the sample of `nextflow run . -profile test`: 120 made human cells, as MEX text.

Their four kinds are plain enough for any model; nothing about accuracy can be read from them.
"""

import csv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "tests" / "data" / "tiny"
CELLS_OF_A_KIND = 30
OTHER_GENES = 1200  # enough for labels below the broad ones
KINDS = (
    "CD3D CD3E CD3G CD2 TRAC IL7R CD5 CD6 LCK CD247 TRBC1 TRBC2 CD27 CCR7 LEF1 TCF7",
    "MS4A1 CD79A CD79B CD19 BANK1 PAX5 CD22 FCRL1 BLK CD74 HLA-DRA IGHM IGHD SPIB FCER2 RALGPS2",
    "EPCAM KRT8 KRT18 KRT19 CDH1 CLDN4 CLDN3 CLDN7 ELF3 TACSTD2 MUC1 KRT7 AGR2 SPINT2 ESRP1 CDH3",
    "COL1A1 COL1A2 COL3A1 DCN LUM PDGFRA FBLN1 COL6A3 MMP2 THY1 C7 DPT PDGFRB FAP COL5A1 FN1",
)


def main() -> None:
    with (ROOT / "python/cytonym/data/markers/genes.tsv").open(encoding="utf-8") as handle:
        ids = {
            row["gene"]: row["gene_id"] for row in csv.DictReader(handle, delimiter="\t") if row["species"] == "human"
        }
    markers = [[gene for gene in kind.split() if gene in ids] for kind in KINDS]
    named = [gene for kind in markers for gene in kind]
    genes = named + [gene for gene in sorted(ids) if gene not in named][:: len(ids) // OTHER_GENES][:OTHER_GENES]

    rng = np.random.default_rng(0)
    rates = np.full((CELLS_OF_A_KIND * len(KINDS), len(genes)), 0.04)
    for kind, wanted in enumerate(markers):
        rows = slice(kind * CELLS_OF_A_KIND, (kind + 1) * CELLS_OF_A_KIND)
        rates[rows, [genes.index(gene) for gene in wanted]] = 12.0
    counts = rng.poisson(rates)
    cells, features = np.nonzero(counts)

    TARGET.mkdir(parents=True, exist_ok=True)
    folder = TARGET / "filtered_feature_bc_matrix"
    folder.mkdir(exist_ok=True)
    _write(folder / "barcodes.tsv", (f"cellid_{number:09d}-1" for number in range(1, len(counts) + 1)))
    _write(folder / "features.tsv", (f"{ids[gene]}\t{gene}\tGene Expression" for gene in genes))
    head = ["%%MatrixMarket matrix coordinate integer general", "%", f"{len(genes)} {len(counts)} {len(cells)}"]
    entries = zip(features + 1, cells + 1, counts[cells, features], strict=True)
    _write(folder / "matrix.mtx", [*head, *(f"{feature} {cell} {count}" for feature, cell, count in entries)])
    _write(TARGET / "samplesheet.csv", ["sample,matrix,genome", f"tiny,{folder.name},GRCh38"])


def _write(path: Path, lines) -> None:  # type: ignore[no-untyped-def]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
