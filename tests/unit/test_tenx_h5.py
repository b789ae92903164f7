"""10x HDF5 matrices are read as they are, and damaged ones are refused in one sentence."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cytonym.errors import CytonymError, GenomeMismatch, InputError
from cytonym.io.tenx_h5 import TenxH5Writer, open_tenx_h5
from cytonym.matrix import BLOCK_ROWS, CountMatrix

COUNTS = np.array([[1, 0, 2], [0, 0, 0], [0, 5, 1], [3, 0, 0]])
NAMES = ["CD3E", "MS4A1", "LYZ"]


def test_counts_names_and_barcodes_come_out_as_written(write_h5):
    """Features x barcodes on disk are cells x features here."""
    source = open_tenx_h5(write_h5(COUNTS, NAMES))
    assert (source.read_rows(0, 4).toarray() == COUNTS).all()
    assert source.features.names.tolist() == NAMES
    assert source.read_barcodes(1, 3).tolist() == ["cellid_000000002-1", "cellid_000000003-1"]
    assert source.genomes == ("GRCh38",)
    assert source.chemistry == "Visium HD v1"


def test_umi_totals_count_gene_expression_only(write_h5):
    """Control features are listed but add no UMI."""
    kinds = ["Gene Expression", "Negative Control Probe", "Gene Expression"]
    source = open_tenx_h5(write_h5(COUNTS, NAMES, feature_type=kinds))
    totals, n_nonzeros = source.check_counts()
    assert totals.tolist() == [3, 0, 1, 3]
    assert n_nonzeros == 4
    assert (source.read_rows(0, 4).toarray() == COUNTS[:, [0, 2]]).all()
    assert source.feature_type_counts() == {"Gene Expression": 2, "Negative Control Probe": 1}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float32])
def test_any_number_type_that_holds_whole_counts_is_read(write_h5, dtype):
    """The stored type does not matter, the values do."""
    source = open_tenx_h5(write_h5(COUNTS, NAMES, data=sp.csr_matrix(COUNTS).data.astype(dtype)))
    assert source.check_counts()[0].tolist() == [3, 0, 6, 3]
    assert source.read_rows(0, 4).dtype == np.int32


def test_character_references_in_names_are_resolved(write_h5):
    """10x writes characters beyond ASCII as XML references; variable-length strings are read too."""
    text = h5py.string_dtype()
    names = np.array(["A&amp;B", "TNF&#945;", "LYZ"], dtype=object)
    path = write_h5(COUNTS, NAMES, **{"features/name": None})
    with h5py.File(path, "a") as file:
        file.create_dataset("matrix/features/name", data=names, dtype=text)
    assert open_tenx_h5(path).features.names.tolist() == ["A&B", "TNFα", "LYZ"]


def test_falling_indices_of_cell_ranger_3_are_sorted(write_h5):
    """Cell Ranger 3 wrote each cell's features from the last to the first."""
    path = write_h5(COUNTS, NAMES, data=np.array([2, 1, 1, 5, 3]), indices=np.array([2, 0, 2, 1, 0]))
    cells = open_tenx_h5(path).read_rows(0, 4)
    assert cells.has_sorted_indices
    assert (cells.toarray() == COUNTS).all()


def test_version_1_files_are_read(tmp_path):
    """The legacy layout has one group per genome and no feature types."""
    cells = sp.csr_matrix(COUNTS)
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        group = file.create_group("mm10")
        for name, value in {
            "barcodes": np.array([b"AAAC-1", b"AAAG-1", b"AAAT-1", b"AACA-1"]),
            "data": cells.data,
            "indices": cells.indices,
            "indptr": cells.indptr,
            "shape": np.array([3, 4]),
            "genes": np.array([b"ENSMUSG1", b"ENSMUSG2", b"ENSMUSG3"]),
            "gene_names": np.array([b"Cd3e", b"Ms4a1", b"Lyz2"]),
        }.items():
            group.create_dataset(name, data=value)
    source = open_tenx_h5(path)
    assert source.genomes == ("mm10",)
    assert source.format == "10x HDF5 (version 1)"
    assert (source.read_rows(0, 4).toarray() == COUNTS).all()
    source.close()
    with h5py.File(path, "a") as file:
        file.copy("mm10", "hg19")
    with pytest.raises(GenomeMismatch, match=r"more than one genome \(hg19, mm10\)"):
        open_tenx_h5(path)


def test_what_is_written_is_read_back(tmp_path, rng):
    """The writer appends blocks; ids and barcodes keep their characters."""
    counts = sp.csr_matrix(rng.poisson(0.3, (50, 7)).astype(np.int32))
    barcodes = np.array([f"cellid_{i:09d}-1" for i in range(50)])
    names = np.array([f"gene{i}é" for i in range(7)])
    path = tmp_path / "written.h5"
    with TenxH5Writer(
        path, ids=names, names=names, feature_types=np.full(7, "Gene Expression"), genomes=np.full(7, "mm10")
    ) as out:
        out.append(counts[:20], barcodes[:20])
        out.append(counts[20:], barcodes[20:])
    source = open_tenx_h5(path)
    assert (source.read_rows(0, 50) != counts).nnz == 0
    assert source.read_barcodes(0, 50).tolist() == barcodes.tolist()
    assert source.features.names.tolist() == names.tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["written.h5"]


def test_a_failed_write_leaves_nothing(tmp_path):
    """No file and no part of one remains when the work in the `with` block fails."""
    names = np.array(["A"])
    with (
        pytest.raises(RuntimeError),
        TenxH5Writer(tmp_path / "x.h5", ids=names, names=names, feature_types=names, genomes=names),
    ):
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=30)
@given(start=st.integers(0, 3 * BLOCK_ROWS), length=st.integers(0, 3 * BLOCK_ROWS))
def test_blocks_are_cut_at_absolute_rows(start, length):
    """Any two ranges are cut at the same rows, and their blocks cover them without gap."""

    class Nothing:
        features = None
        n_cells = 6 * BLOCK_ROWS

    blocks = list(CountMatrix.of(Nothing()).rows(start, start + length).blocks())
    edges = [start, *(block.stop for block in blocks)]
    assert edges[-1] == start + length
    assert [block.start for block in blocks] == edges[:-1]
    assert all(edge % BLOCK_ROWS == 0 for edge in edges[1:-1])


def broken(write_h5, **changes):
    return lambda: open_tenx_h5(write_h5(COUNTS, NAMES, **changes)).check_counts()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": {"version": 3}}, "version 3; this cytonym reads up to version 2"),
        ({"attributes": {"filetype": "molecule"}}, "its filetype is 'molecule', not 'matrix'"),
        ({"attributes": {"filetype": None}}, "it has no filetype attribute"),
        ({"indptr": np.array([0, 3, 2, 4, 5])}, "indptr does not rise"),
        ({"indptr": np.array([0, 2, 2, 5])}, "indptr has 4 entries for 4 barcodes"),
        ({"indices": np.array([0, 2, 1, 7, 0])}, "a feature index lies outside 0 to 2"),
        ({"indices": np.array([0, -1, 1, 2, 0])}, "a feature index lies outside 0 to 2"),
        ({"indices": np.array([2, 0, 1, 2, 0])}, "feature indices are not sorted within a barcode"),
        ({"indices": np.array([0, 0, 1, 2, 0])}, "not sorted within a barcode, or repeat"),
        ({"data": np.array([1, -2, 5, 1, 3])}, "negative values"),
        ({"data": np.array([1, 0.5, 5, 1, 3])}, "fractional values"),
        ({"data": np.array([1, np.nan, 5, 1, 3])}, r"not numbers \(NaN"),
        ({"data": np.array([1, 2, 5])}, "3 counts, but 5 feature indices"),
        ({"shape": np.array([3, 9])}, "its shape says 3 features and 9 barcodes"),
        ({"indptr": None}, "lacks indptr in group '/matrix'"),
        ({"features/id": None}, "lacks id in group 'matrix/features'"),
        ({"features/name": np.array([b"A"])}, "its feature columns differ in length"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(write_h5, changes, message):
    """Each kind of damage is named, with the file."""
    with pytest.raises(InputError, match=message) as caught:
        broken(write_h5, **changes)()
    assert "matrix.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_10x_matrix_are_refused(tmp_path, write_h5):
    """Text, a cut-off file, an HDF5 file of something else, and no file at all."""
    text = tmp_path / "text.h5"
    text.write_text("barcode,gene\n")
    with pytest.raises(CytonymError, match="is not an HDF5 file"):
        open_tenx_h5(text)
    cut = write_h5(COUNTS, NAMES, file="cut.h5")
    cut.write_bytes(cut.read_bytes()[:-900])
    with pytest.raises(CytonymError, match="is cut off"):
        open_tenx_h5(cut)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.attrs["filetype"] = "matrix"
        file.attrs["version"] = 2
    with pytest.raises(CytonymError, match="has no group 'matrix'"):
        open_tenx_h5(other)
    with pytest.raises(CytonymError, match="does not exist"):
        open_tenx_h5(tmp_path / "absent.h5")


def test_real_files_open(shared):
    """A Cell Ranger 3 file, a rebuilt legacy sample and a Xenium panel with control features."""
    sizes = {
        "human_chr21_cellranger3_filtered_feature_bc_matrix.h5": (1107, 507, 41549),
        "human_pbmc3k_filtered_feature_bc_matrix.h5": (2700, 32738, 6390631),
        "mouse_brain_xenium_cell_feature_matrix.h5": (36602, 248, 9028172),
    }
    for name, (n_cells, n_features, n_umis) in sizes.items():
        source = open_tenx_h5(shared("data", name))
        assert (source.n_cells, len(source.features), int(source.check_counts()[0].sum())) == (
            n_cells,
            n_features,
            n_umis,
        )
