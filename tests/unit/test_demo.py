"""The made tissue: a valid sample, the same for the same seed, with types that the table lacks."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from cytonym.demo import make_tissue
from cytonym.io.tenx_h5 import open_tenx_h5
from cytonym.markers import load_markers
from cytonym.matrix import CountMatrix


def counts_of(path: Path) -> CountMatrix:
    source = open_tenx_h5(path)
    source.check_counts()
    return CountMatrix.of(source)


def mean_share(matrix: CountMatrix, cells: np.ndarray, genes: set[str]) -> float:
    """The mean share of these genes in the cells' UMIs."""
    counts = matrix.counts()[cells]
    of_genes = counts[:, np.isin(matrix.features.names, list(genes))]
    return float(
        np.mean(np.asarray(of_genes.sum(axis=1)).ravel() / np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1))
    )


def test_the_tissue_is_a_visium_hd_matrix(tmp_path: Path) -> None:
    truth = make_tissue(tmp_path / "m.h5", n_cells=500, n_genes=6000)
    matrix = counts_of(tmp_path / "m.h5")
    assert (matrix.n_cells, matrix.n_features) == (500, 6000)
    assert matrix.barcodes().tolist() == truth["barcode"].tolist()
    assert 200 < np.median(matrix.counts().toarray().sum(axis=1)) < 300
    with h5py.File(tmp_path / "m.h5") as file:
        assert file.attrs["chemistry_description"] == "Visium HD v1"
        assert (file["matrix/data"].dtype, file["matrix/indices"].dtype) == (np.int32, np.int64)
        assert set(file["matrix/features/genome"][()]) == {b"GRCh38"}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_tissue(tmp_path / f"{name}.h5", n_cells=300, n_genes=6000, seed=seed)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b, h5py.File(tmp_path / "c.h5") as c:
        assert a["matrix/indices"][()].tobytes() == b["matrix/indices"][()].tobytes()
        assert a["matrix/indices"][()].tobytes() != c["matrix/indices"][()].tobytes()


def test_cells_carry_their_types_markers(tmp_path: Path) -> None:
    truth = make_tissue(tmp_path / "m.h5", n_cells=2000, n_genes=6000, spill_over=0.0)
    marker = next(node for node in load_markers("human").coarse if node.name == "B cell")
    b_cells = (truth["coarse_cell_type"] == "B cell").to_numpy()
    others = (truth["zone"] == "muscle").to_numpy()
    matrix, genes = counts_of(tmp_path / "m.h5"), {*marker.defining, *marker.supporting}
    assert mean_share(matrix, b_cells, genes) > 10 * mean_share(matrix, others, genes)


def test_hidden_types_carry_no_marker_of_the_table(tmp_path: Path) -> None:
    """Their labels are in no table, and table markers are no more frequent in them than the background."""
    truth = make_tissue(tmp_path / "m.h5", n_cells=2000, n_genes=6000, spill_over=0.0)
    table = load_markers("human")
    hidden = ~truth["in_table"].to_numpy(dtype=bool)
    assert set(truth["coarse_cell_type"][hidden]) == {"made-up type 1", "made-up type 2"}
    matrix, genes = counts_of(tmp_path / "m.h5"), set(table.genes)
    assert mean_share(matrix, hidden, genes) < 0.1 < mean_share(matrix, ~hidden, genes)


def test_neighbours_spill_over(tmp_path: Path) -> None:
    """Cells without their own program show that of their neighbours in proportion."""
    truth = make_tissue(tmp_path / "m.h5", n_cells=2000, n_genes=6000, spill_over=0.9, hidden_types=1)
    hidden = ~truth["in_table"].to_numpy(dtype=bool)
    clean = make_tissue(tmp_path / "clean.h5", n_cells=2000, n_genes=6000, spill_over=0.0, hidden_types=1)
    assert (clean["coarse_cell_type"] == truth["coarse_cell_type"]).all()
    genes = set(load_markers("human").genes)
    spilt, own = (mean_share(counts_of(tmp_path / f"{name}.h5"), hidden, genes) for name in ("m", "clean"))
    assert spilt > 1.3 * own
