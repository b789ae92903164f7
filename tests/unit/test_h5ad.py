"""AnnData files of every layout are read by h5py alone; those without raw counts are refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytonym import matrix
from cytonym.errors import InputError
from cytonym.io import entries, h5ad, mex
from cytonym.io.h5ad import H5adSource, open_h5ad

COUNTS = np.array([[1, 0, 2], [0, 0, 0], [0, 5, 1], [3, 0, 0]])  # cells x features
SYMBOLS = ["CD3E", "MS4A1", "LYZ"]
IDS = ["ENSG1", "ENSG2", "ENSG3"]
BARCODES = ["AAAC-1", "AAAG-1", "AAAT-1", "AACA-1"]
TEXT = h5py.string_dtype()


def put_matrix(file: h5py.File, name: str, counts: np.ndarray, kind: str = "csr", dtype: Any = np.float32) -> None:
    """A matrix as anndata writes it; `kind` is csr, csc or dense."""
    if kind == "dense":
        file.create_dataset(name, data=counts.astype(dtype))
        return
    sparse = getattr(sp, f"{kind}_matrix")(counts)
    group = file.create_group(name)
    group.attrs["encoding-type"] = f"{kind}_matrix"
    group.attrs["shape"] = counts.shape
    for part in ("data", "indices", "indptr"):
        values = getattr(sparse, part)
        group.create_dataset(part, data=values.astype(dtype) if part == "data" else values)


def put_frame(file: h5py.File, name: str, index: list[str], **columns: list[str]) -> None:
    """A data frame of texts as anndata writes it."""
    group = file.create_group(name)
    group.attrs["_index"] = "row"
    for column, values in {"row": index, **columns}.items():
        group.create_dataset(column, data=np.array(values, dtype=object), dtype=TEXT)


def write(path: Path, counts: np.ndarray = COUNTS, kind: str = "csr", **columns: list[str]) -> Path:
    """An h5ad file with counts in X; `columns` are those of var."""
    with h5py.File(path, "w") as file:
        put_matrix(file, "X", counts, kind)
        put_frame(file, "obs", BARCODES if counts is COUNTS else [f"b{i}" for i in range(len(counts))])
        names = SYMBOLS if counts is COUNTS else [f"g{i}" for i in range(counts.shape[1])]
        put_frame(file, "var", columns.pop("index", names), **columns)
    return path


@pytest.fixture
def write_h5ad(tmp_path: Path) -> Callable[..., Path]:
    return lambda *args, **kwargs: write(tmp_path / "sample.h5ad", *args, **kwargs)


def read(source: H5adSource) -> np.ndarray:
    return np.vstack([cells.toarray() for cells, _ in source.blocks()])


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("n_rows", [1, 3, 4, 4096])
def test_counts_and_barcodes_come_out_as_written(write_h5ad, monkeypatch, kind, n_rows):
    """However the matrix is stored and wherever blocks are cut; no note when X holds counts."""
    monkeypatch.setattr(matrix, "BLOCK_ROWS", n_rows)
    monkeypatch.setattr(h5ad, "READ_ENTRIES", 2)
    monkeypatch.setattr(h5ad, "READ_VALUES", 4)
    source = open_h5ad(write_h5ad(kind=kind))
    blocks = list(source.blocks())
    assert [cells.shape[0] for cells, _ in blocks] == [n_rows] * (4 // n_rows) + [4 % n_rows] * (4 % n_rows > 0)
    assert (np.vstack([cells.toarray() for cells, _ in blocks]) == COUNTS).all()
    assert all(cells.dtype == np.int32 for cells, _ in blocks)
    assert np.concatenate([barcodes for _, barcodes in blocks]).tolist() == BARCODES
    assert source.slot == "X"
    assert source.notes == ()


counts_of_any_shape = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([0, 0, 0, 1, 2, 70_000])
)


@given(counts=counts_of_any_shape, n_rows=st.integers(1, 13), n_read=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_same_counts_are_the_same_in_every_format(tmp_path_factory, counts, n_rows, n_read):
    """MEX sorted and unsorted, h5ad csr, csc and dense give equal blocks, to the last array."""
    folder = tmp_path_factory.mktemp("formats")
    n_cells, n_features = counts.shape
    (folder / "features.tsv").write_text("".join(f"g{i}\n" for i in range(n_features)))
    (folder / "barcodes.tsv").write_text("".join(f"b{i}\n" for i in range(n_cells)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "BLOCK_ROWS", n_rows)
        for module, name in ((mex, "READ_BYTES"), (h5ad, "READ_ENTRIES"), (h5ad, "READ_VALUES")):
            patch.setattr(module, name, n_read)
        sources = [open_h5ad(write(folder / f"{kind}.h5ad", counts, kind)) for kind in ("csr", "csc", "dense")]
        found = [list(source.blocks()) for source in sources]
        for cells, features in (counts.nonzero(), counts.T.nonzero()[::-1]):
            lines = [f"{f + 1} {c + 1} {counts[c, f]}\n" for c, f in zip(cells, features, strict=True)]
            header = f"%%MatrixMarket matrix coordinate integer general\n{n_features} {n_cells} {len(lines)}\n"
            (folder / "matrix.mtx").write_text(header + "".join(lines))
            if (np.diff(cells) < 0).any():  # only the first lot is looked at for order
                patch.setattr(mex, "READ_BYTES", 1 << 20)
            found.append(list(mex.open_mex(folder).blocks()))
    assert (np.vstack([cells.toarray() for cells, _ in found[0]]) == counts).all()
    for other in found[1:]:
        for (cells, barcodes), (other_cells, other_barcodes) in zip(found[0], other, strict=True):
            assert barcodes.tolist() == other_barcodes.tolist()
            for part in ("data", "indices", "indptr"):
                assert np.array_equal(getattr(cells, part), getattr(other_cells, part))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.float16, np.float64, ">f4"])
@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_any_number_type_that_holds_whole_counts_is_read(write_h5ad, dtype, kind):
    """The stored type does not matter, the values do."""
    path = write_h5ad()
    with h5py.File(path, "a") as file:
        del file["X"]
        put_matrix(file, "X", COUNTS, kind, dtype)
    assert (read(open_h5ad(path)) == COUNTS).all()


@pytest.mark.parametrize("column", h5ad.NAME_COLUMNS)
def test_symbols_come_from_their_column(write_h5ad, column):
    """The index is then the id."""
    header = open_h5ad(write_h5ad(index=IDS, **{column: SYMBOLS})).header
    assert header.names.tolist() == SYMBOLS
    assert header.ids.tolist() == IDS


@pytest.mark.parametrize("column", h5ad.ID_COLUMNS)
def test_ids_come_from_their_column(write_h5ad, column):
    """The index is then the symbol."""
    header = open_h5ad(write_h5ad(**{column: IDS})).header
    assert header.names.tolist() == SYMBOLS
    assert header.ids.tolist() == IDS


def test_gaps_are_filled_from_the_index_and_symbols_may_repeat(write_h5ad):
    """A feature without a symbol is known by its index."""
    header = open_h5ad(write_h5ad(index=IDS, gene_symbols=["CD3E", "nan", "CD3E"])).header
    assert header.names.tolist() == ["CD3E", "ENSG2", "CD3E"]


def test_only_10x_names_are_feature_types(write_h5ad):
    """CELLxGENE's feature_type holds biotypes; those are all genes."""
    tenx = open_h5ad(write_h5ad(feature_types=["Gene Expression", "Antibody Capture", "Something new"])).header
    assert tenx.feature_types.tolist() == ["Gene Expression", "Antibody Capture", "Something new"]
    biotypes = open_h5ad(write_h5ad(feature_type=["protein_coding", "lncRNA", "protein_coding"])).header
    assert biotypes.feature_types.tolist() == ["Gene Expression"] * 3


def test_the_genome_is_read_where_there_is_one(write_h5ad):
    """Else it is empty."""
    assert open_h5ad(write_h5ad(genome=["GRCh38"] * 3)).header.genomes.tolist() == ["GRCh38"] * 3
    assert open_h5ad(write_h5ad()).header.genomes.tolist() == [""] * 3


@pytest.mark.parametrize("layout", ["group", "__categories", "nullable"])
def test_categories_and_nullable_texts_are_resolved(write_h5ad, layout):
    """As anndata 0.8, 0.7 and 0.12 write them; a missing one is a gap."""
    path = write_h5ad(index=IDS)
    categories, codes = np.array(["LYZ", "CD3E"], dtype=object), np.array([1, -1, 0], dtype=np.int8)
    with h5py.File(path, "a") as file:
        var = file["var"]
        if layout == "group":
            var.create_dataset("feature_name/categories", data=categories, dtype=TEXT)
            var.create_dataset("feature_name/codes", data=codes)
        elif layout == "__categories":
            var.create_dataset("__categories/feature_name", data=categories, dtype=TEXT)
            var.create_dataset("feature_name", data=codes)
        else:
            values = np.array(["CD3E", "?", "LYZ"], dtype=object)
            var.create_dataset("feature_name/values", data=values, dtype=TEXT)
            var.create_dataset("feature_name/mask", data=np.array([False, True, False]))
    assert open_h5ad(path).header.names.tolist() == ["CD3E", "ENSG2", "LYZ"]


def test_the_oldest_layout_is_read(tmp_path):
    """anndata 0.6: compound tables, categories in uns, h5sparse attributes, raw.X; normalised X."""
    path = tmp_path / "old.h5ad"
    with h5py.File(path, "w") as file:
        put_matrix(file, "X", COUNTS[:, :2] - 0.5, "dense")
        put_matrix(file, "raw.X", COUNTS, "csr")
        group = file["raw.X"]
        group.attrs.clear()
        group.attrs["h5sparse_format"] = np.bytes_(b"csr")
        group.attrs["h5sparse_shape"] = COUNTS.shape
        file["obs"] = np.array([(barcode.encode(), 1.5) for barcode in BARCODES], dtype=[("index", "S6"), ("n", "f4")])
        rows = [(name.encode(), code) for name, code in zip(IDS, [2, 0, 1], strict=True)]
        file["raw.var"] = np.array(rows, dtype=[("index", "S5"), ("gene_symbols", "i1")])
        file["var"] = file["raw.var"][:2]
        file["uns/gene_symbols_categories"] = np.array([b"MS4A1", b"LYZ", b"CD3E"])
    source = open_h5ad(path)
    assert (read(source) == COUNTS).all()
    assert source.barcodes.tolist() == BARCODES
    assert source.header.names.tolist() == SYMBOLS
    assert source.header.ids.tolist() == IDS


@pytest.mark.parametrize("slot", ["raw/X", "layers/counts", "layers/raw_counts"])
def test_counts_are_found_where_x_is_normalised(write_h5ad, slot):
    """The note says where from and why; raw has its own features."""
    path = write_h5ad(counts=COUNTS)
    with h5py.File(path, "a") as file:
        file["X/data"][:] = np.log1p(file["X/data"][:])
        put_matrix(file, slot, COUNTS, "csc")
        put_frame(file, "raw/var", IDS)
    source = open_h5ad(path)
    assert (read(source) == COUNTS).all()
    assert source.header.ids.tolist() == (IDS if slot == "raw/X" else SYMBOLS)
    assert source.notes == (f"sample.h5ad: counts are taken from {slot}, because X holds fractional values.",)


def test_counts_are_found_where_x_is_none(write_h5ad):
    """anndata writes None as an empty dataspace; no reason is given then."""
    path = write_h5ad()
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.Empty("f4")
        put_matrix(file, "layers/counts", COUNTS)
    source = open_h5ad(path)
    assert (read(source) == COUNTS).all()
    assert source.notes == ("sample.h5ad: counts are taken from layers/counts, because X is empty.",)


def change(path: str, values: Any) -> Callable[[h5py.File], None]:
    """Replaces a dataset; None removes it."""

    def replace(file: h5py.File) -> None:
        del file[path]
        if values is not None:
            file[path] = values

    return replace


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("obs", None), r"lacks obs: it is no AnnData file"),
        (change("var", None), r"lacks var: it is no AnnData file"),
        (change("X", None), r"has no X, and no other place with counts"),
        (change("X", np.arange(12)), r"X is neither a csr, csc nor dense matrix"),
        (change("X/indptr", None), r"X is neither a csr, csc nor dense matrix"),
        (change("X", np.ones((4, 2))), r"X is of 4 x 2, but there are 4 cells in obs and 3 features in var"),
        (change("obs/row", None), r"has no row names in obs"),
        (change("X/data", [1, 2, 5, 1, 0.5]), r"holds no UMI counts: X holds fractional values\. Raw UMI counts"),
        (change("X/data", [1, 2, 5, 1, -3]), r"holds no UMI counts: X holds negative values"),
        (change("X/data", [1, 2, 5, 1, np.nan]), r"X holds values that are not numbers \(NaN or infinite\)"),
        (change("X/data", [True] * 5), r"X holds values of type bool"),
        (change("X/data", [1, 2, 5, 1, 1 << 31]), r"X holds values above 2147483647"),
        (change("X/data", [1, 2, 5, 1]), r"\(X\) is damaged: 4 values, but 5 indices"),
        (change("X/indices", [0, 2, 1, 3, 0]), r"\(X\) is damaged: an index lies outside 0 to 2"),
        (change("X/indices", [0, 0, 1, 2, 0]), r"\(X\) holds two counts of one feature in one cell"),
        (change("X/indptr", [0, 2, 2, 5]), r"\(X\) is damaged: indptr does not rise from 0 to 5 in 4 steps"),
        (change("X/indptr", [0, 2, 1, 4, 5]), r"\(X\) is damaged: indptr does not rise from 0 to 5 in 4 steps"),
        (change("obs/row", ["a", "b", "a", "b"]), r"lists the barcode 'a', 'b' more than once"),
        (change("var/gene_ids", ["a", "a"]), r"\(var\) is damaged: its columns differ in length"),
        (change("var/gene_ids", ["a", "a", "a"]), r"lists the feature id 'a' more than once"),
        (change("var/gene_ids", [b"a", b"\xff", b"c"]), r"cannot be read: .*utf-8"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(write_h5ad, damage, message):
    """The error names the file, what is wrong, and what to do."""
    path = write_h5ad(gene_ids=IDS)
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(InputError, match=message) as caught:
        read(open_h5ad(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_values_that_the_sample_missed_are_still_refused(write_h5ad, monkeypatch, kind):
    """Every block is checked, not only the values that were looked at first."""
    monkeypatch.setattr(h5ad, "SAMPLED_VALUES", 1)
    counts = np.ones((9, 1))
    counts[2] = 0.5
    with pytest.raises(InputError, match=r"\(X\) holds fractional values, not UMI counts"):
        read(open_h5ad(write_h5ad(counts, kind)))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"hello", "is not an HDF5 file"), (None, "is cut off: part of the file is missing")],
)
def test_damaged_files_are_refused(write_h5ad, data, message):
    """Cut off, or something else altogether."""
    path = write_h5ad()
    path.write_bytes(path.read_bytes()[:-1000] if data is None else data)
    with pytest.raises(InputError, match=message):
        open_h5ad(path)


def test_a_damaged_block_is_refused(write_h5ad):
    """The file opens, but a compressed chunk does not unpack."""
    path = write_h5ad()
    with h5py.File(path, "a") as file:
        del file["X"]
        data = np.tile(np.arange(3), (4, 1))
        dataset = file.create_dataset("X", data=data, chunks=(1, 3), compression="gzip")
        place = dataset.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 6] = b"\xff" * 6
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read(open_h5ad(path))


def test_repeats_in_an_index_that_serves_as_ids_are_refused(write_h5ad):
    """There is no column of ids, and the symbols are not unique."""
    with pytest.raises(InputError, match="lists the feature id 'CD3E' more than once"):
        open_h5ad(write_h5ad(index=["CD3E", "MS4A1", "CD3E"]))


def test_repeats_are_named_a_few_at_a_time():
    """A thousand repeats do not make a thousand names."""
    with pytest.raises(InputError, match="the barcode '0', '1', '2' and 7 others more than once"):
        entries.check_no_repeats(np.array([str(i % 10) for i in range(30)]), "barcode", "x")


@pytest.mark.parametrize(
    ("name", "n_cells", "feature_id", "symbol"),
    [
        ("human_pbmc_zheng2017_facs.h5ad", 3774, "ENSG00000237683", "AL627309.1"),
        ("human_pbmc5k_citeseq200.h5ad", 200, "AL627309.1", "AL627309.1"),
    ],
)
def test_real_files_open(shared, name, n_cells, feature_id, symbol):
    """A csr matrix of today and a dense one of anndata 0.7."""
    source = open_h5ad(shared("data", name))
    assert sum(cells.shape[0] for cells, _ in source.blocks()) == n_cells
    assert source.header.ids[0] == feature_id
    assert source.header.names[0] == symbol


def test_a_real_file_without_counts_says_so(shared):
    """Scaled X, normalised raw, in the oldest layout."""
    with pytest.raises(InputError, match=r"no UMI counts: X holds fractional values and raw\.X holds fractional"):
        open_h5ad(shared("data", "human_pbmc68k_reduced.h5ad"))
