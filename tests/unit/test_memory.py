"""Memory is bounded by the block of cells, not by the sample; measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

from cytonym.io.tenx_h5 import TenxH5Writer
from cytonym.markers import load_markers

N_GENES = 6000
PER_CELL = 1500  # entries: 5,000 cells take 90 MB when they are all in memory
BLOCK_ROWS = 256
STAGES = """
import sys
from pathlib import Path
import cytonym.matrix
cytonym.matrix.BLOCK_ROWS = {block_rows}
from cytonym.cli import run
folder = sys.argv[1]
for command in (
    f"preflight --id=s --matrix={{folder}}/m.h5 --output-dir={{folder}}",
    f"classify --matrix={{folder}}/m.h5 --plan={{folder}}/plan.json --model=markers --fitted={fitted} "
    f"--partition=0 --output={{folder}}/p.h5",
    f"assign --plan={{folder}}/plan.json --model=markers --fitted={fitted} --predictions {{folder}}/p.h5 "
    f"--output-dir={{folder}}",
    f"diffexp --matrix={{folder}}/m.h5 --plan={{folder}}/plan.json --cell-types={{folder}}/cell_types.csv "
    f"--output={{folder}}/d.csv",
):
    run(command.split())
# not getrusage: a child's maximum there starts at what its parent held
print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])
"""


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Folders with a sample of 2,000 and one of 5,000 cells, 1,500 genes a cell."""
    genes = load_markers("human").gene_ids
    names = np.array([*genes, *(f"FILLER{i}" for i in range(N_GENES))][:N_GENES])
    ids = np.array([*genes.values(), *(f"FILLER{i}" for i in range(N_GENES))][:N_GENES])
    kinds, genomes = np.full(N_GENES, "Gene Expression"), np.full(N_GENES, "GRCh38")
    rng, folders = np.random.default_rng(0), []
    for n_cells in (2000, 5000):
        folder = tmp_path_factory.mktemp(f"sample{n_cells}")
        with TenxH5Writer(folder / "m.h5", ids=ids, names=names, feature_types=kinds, genomes=genomes) as out:
            for start in range(0, n_cells, 500):
                columns = np.sort(rng.permuted(np.tile(np.arange(N_GENES), (500, 1)), axis=1)[:, :PER_CELL], axis=1)
                data, indptr = np.ones(500 * PER_CELL, dtype=np.int32), np.arange(501) * PER_CELL
                cells = sp.csr_matrix((data, columns.ravel(), indptr), shape=(500, N_GENES))
                out.append(cells, np.array([f"cellid_{i:09d}-1" for i in range(start, start + 500)]))
        folders.append(folder)
    return folders


def test_more_cells_take_no_more_memory(samples):
    """Within 15 %: preflight, classify, assign and diffexp read blocks, whatever the sample."""
    small = samples[0]
    fitted = small / "fitted.h5"
    for command in (
        "preflight --id=s --matrix={0}/m.h5 --output-dir={0}",
        "fit --matrix={0}/m.h5 --plan={0}/plan.json --model=markers --output={1}",
    ):
        subprocess.run(
            [sys.executable, "-m", "cytonym", *command.format(small, fitted).split()], check=True, capture_output=True
        )
    script = STAGES.format(block_rows=BLOCK_ROWS, fitted=fitted)
    peaks = []
    for folder in samples:
        done = subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.15 * peaks[0], peaks
