"""MEX folders are read as Cell Ranger and others write them; damaged ones are refused in one sentence."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cytonym import matrix
from cytonym.errors import InputError
from cytonym.io import mex
from cytonym.io.mex import MexSource, mex_files, open_mex

COUNTS = np.array([[1, 0, 2], [0, 0, 0], [0, 5, 1], [3, 0, 0]])  # cells x features
FEATURES = "ENSG1\tCD3E\tGene Expression\nENSG2\tMS4A1\tGene Expression\nENSG3\tLYZ\tAntibody Capture\n"
BARCODES = "AAAC-1\nAAAG-1\nAAAT-1\nAACA-1\n"
ENTRIES = ["1 1 1", "3 1 2", "2 3 5", "3 3 1", "1 4 3"]  # feature, barcode, count
HEADER = '%%MatrixMarket matrix coordinate integer general\n%metadata_json: {"format_version": 2}\n'
MATRIX = HEADER + "3 4 5\n" + "\n".join(ENTRIES) + "\n"


@pytest.fixture
def write_mex(tmp_path: Path) -> Callable[..., Path]:
    """A folder with the files above; keyword arguments replace the text of a file, None leaves it out."""

    def write(packed: bool = True, features_name: str = "features.tsv", **changes: str | None) -> Path:
        texts = {"matrix": MATRIX, "features": FEATURES, "barcodes": BARCODES} | changes
        names = {"matrix": "matrix.mtx", "features": features_name, "barcodes": "barcodes.tsv"}
        for kind, text in texts.items():
            if text is not None:
                data = text.encode("utf-8")
                path = tmp_path / (names[kind] + (".gz" if packed else ""))
                path.write_bytes(gzip.compress(data) if packed else data)
        return tmp_path

    return write


def matrix_text(*entries: str, sizes: str | None = None) -> str:
    return HEADER + (sizes or f"3 4 {len(entries)}") + "\n" + "\n".join(entries) + "\n"


def read(source: MexSource) -> np.ndarray:
    return np.vstack([cells.toarray() for cells, _ in source.blocks()])


@pytest.mark.parametrize("packed", [True, False])
def test_counts_features_and_barcodes_come_out_as_written(write_mex, packed):
    """Features x barcodes on disk are cells x features here, packed or not."""
    source = open_mex(write_mex(packed))
    [(cells, barcodes)] = source.blocks()
    assert (cells.toarray() == COUNTS).all()
    assert cells.dtype == np.int32
    assert barcodes.tolist() == ["AAAC-1", "AAAG-1", "AAAT-1", "AACA-1"]
    assert source.header.ids.tolist() == ["ENSG1", "ENSG2", "ENSG3"]
    assert source.header.names.tolist() == ["CD3E", "MS4A1", "LYZ"]
    assert source.header.feature_types.tolist() == ["Gene Expression", "Gene Expression", "Antibody Capture"]
    assert source.header.genomes.tolist() == ["", "", ""]


def test_the_files_are_named_in_the_order_of_the_checksum(write_mex):
    """Matrix, features, barcodes."""
    assert [path.name for path in mex_files(write_mex())] == ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"]


def test_genes_of_cell_ranger_2_are_gene_expression(write_mex):
    """Its genes.tsv has two columns."""
    folder = write_mex(False, "genes.tsv", features="ENSG1\tCD3E\nENSG2\tMS4A1\nENSG3\tLYZ\n")
    header = open_mex(folder).header
    assert header.names.tolist() == ["CD3E", "MS4A1", "LYZ"]
    assert set(header.feature_types) == {"Gene Expression"}


def test_more_columns_windows_lines_and_a_byte_order_mark_do_no_harm(write_mex):
    """Cell Ranger ARC adds positions; spreadsheets add the rest."""
    features = "\ufeff" + FEATURES.replace("\n", "\tchr1\t10\t20\r\n")
    source = open_mex(write_mex(features=features, barcodes=BARCODES.replace("\n", "\r\n"), matrix=MATRIX))
    assert source.header.ids[0] == "ENSG1"
    assert source.barcodes[3] == "AACA-1"


@pytest.mark.parametrize(
    "entries",
    [
        [f"{entry}.0" for entry in ENTRIES],
        [f"{entry}e0" for entry in ENTRIES],
        ["\t".join(entry.split()) + " " for entry in ENTRIES],
        [*ENTRIES[:2], "", "% a comment", "2 2 0", *ENTRIES[2:]],
    ],
)
def test_whole_numbers_may_be_written_in_other_ways(write_mex, entries):
    """As floats, with tabs, with empty lines, comments or zeros between them."""
    n_entries = sum(entry[:1].isdigit() for entry in entries)
    text = matrix_text(*entries, sizes=f"3 4 {n_entries}").replace("integer", "real")
    [(cells, _)] = open_mex(write_mex(matrix=text)).blocks()
    assert (cells.toarray() == COUNTS).all()
    assert cells.nnz == 5


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_bytes", [1, 13, 1 << 20])
def test_neither_block_nor_read_size_changes_the_counts(write_mex, monkeypatch, n_rows, n_bytes):
    """Empty cells, cells across two reads and blocks without any entry included."""
    monkeypatch.setattr(matrix, "BLOCK_ROWS", n_rows)
    monkeypatch.setattr(mex, "READ_BYTES", n_bytes)
    blocks = list(open_mex(write_mex()).blocks())
    assert [cells.shape[0] for cells, _ in blocks] == [n_rows] * (4 // n_rows) + [4 % n_rows] * (4 % n_rows > 0)
    assert (np.vstack([cells.toarray() for cells, _ in blocks]) == COUNTS).all()
    assert np.concatenate([barcodes for _, barcodes in blocks]).tolist() == BARCODES.split()


@pytest.mark.parametrize("n_bytes", [13, 64, 1 << 20])
def test_entries_in_any_order_give_the_same_counts(write_mex, monkeypatch, rng, n_bytes):
    """They go through a temporary file when the first ones are not sorted by barcode."""
    monkeypatch.setattr(matrix, "BLOCK_ROWS", 3)
    monkeypatch.setattr(mex, "READ_BYTES", n_bytes)
    counts = rng.poisson(0.7, (11, 7))
    features, cells = counts.T.nonzero()  # by feature, as scipy writes a csr matrix
    entries = [f"{f + 1} {c + 1} {counts[c, f]}" for f, c in zip(features, cells, strict=True)]
    entries[:2] = entries[1::-1]
    source = open_mex(
        write_mex(
            matrix=matrix_text(*entries, sizes=f"7 11 {len(entries)}"),
            features="".join(f"g{i}\n" for i in range(7)),
            barcodes="".join(f"b{i}\n" for i in range(11)),
        )
    )
    assert (read(source) == counts).all()


def test_entries_that_lose_their_order_late_are_refused(write_mex, monkeypatch):
    """Blocks that were handed out cannot be taken back."""
    monkeypatch.setattr(matrix, "BLOCK_ROWS", 2)
    monkeypatch.setattr(mex, "READ_BYTES", 13)
    source = open_mex(write_mex(matrix=matrix_text("1 1 1", "1 2 1", "2 3 5", "3 3 1", "1 4 3", "1 1 1")))
    with pytest.raises(InputError, match=r"cell 1 comes late. Sort its entries by cell"):
        read(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matrix": None}, r"lacks matrix.mtx.gz. A MEX folder holds matrix.mtx.gz, features.tsv.gz and barcodes"),
        ({"features": None, "barcodes": None}, r"lacks features.tsv.gz \(or genes.tsv.gz\), barcodes.tsv.gz\. A MEX"),
        ({"matrix": "hello\n"}, "matrix.mtx.gz is not a MatrixMarket file: its first line"),
        ({"matrix": ""}, "matrix.mtx.gz is not a MatrixMarket file: its first line"),
        ({"matrix": MATRIX.replace("coordinate", "array")}, "kind 'matrix array integer general', but 'matrix coord"),
        ({"matrix": MATRIX.replace("integer", "pattern")}, "kind 'matrix coordinate pattern general'"),
        ({"matrix": HEADER}, "no line with the numbers of features, barcodes and entries"),
        ({"matrix": HEADER + "3 4\n"}, "no line with the numbers of features, barcodes and entries"),
        ({"matrix": matrix_text(*ENTRIES, sizes="3 4 6")}, "announces 6 entries, but holds 5"),
        ({"matrix": matrix_text(*ENTRIES, sizes="3 4 4")}, "announces 4 entries, but holds 5"),
        ({"matrix": matrix_text("4 1 1")}, "entry for feature 4, but there are only features 1 to 3"),
        ({"matrix": matrix_text("0 1 1")}, "entry for feature 0, but there are only features 1 to 3"),
        ({"matrix": matrix_text("1 5 1")}, "entry for barcode 5, but there are only barcodes 1 to 4"),
        ({"matrix": matrix_text("1 1 -1")}, "holds negative values, not UMI counts. Raw UMI counts are wanted"),
        ({"matrix": matrix_text("1 1 0.5")}, "holds fractional values, not UMI counts"),
        ({"matrix": matrix_text("1 1 3000000000")}, "holds values above 2147483647, not UMI counts"),
        ({"matrix": matrix_text("1 1 1", "2 1 nan")}, "line 5: '2 1 nan' is not a feature number, a barcode number"),
        ({"matrix": matrix_text("1 1 1", "2 1")}, "line 5: '2 1' is not a feature number, a barcode number and"),
        ({"matrix": matrix_text("1 1 1 1")}, "line 4: '1 1 1 1' is not a feature number"),
        ({"matrix": matrix_text("1 1 1", "", "2 one 1")}, "line 6: '2 one 1' is not a feature number"),
        ({"matrix": matrix_text("1 1 1", "1 1 1")}, "holds two counts of one feature in one cell"),
        ({"features": FEATURES.splitlines()[0]}, "made for 3 features, but features.tsv.gz lists 1. Copy or make"),
        ({"barcodes": ""}, "made for 4 barcodes, but barcodes.tsv.gz lists 0"),
        ({"matrix": matrix_text(sizes="4 3 0")}, "Its rows must be features, its columns barcodes: transpose it"),
        ({"features": FEATURES.replace("ENSG2", "ENSG1")}, "lists the feature id 'ENSG1' more than once"),
        ({"barcodes": BARCODES.replace("AAAG", "AAAC")}, "lists the barcode 'AAAC-1' more than once"),
        ({"barcodes": BARCODES.replace("AAAG-1", "")}, "barcodes.tsv.gz, line 2, starts with an empty field"),
    ],
)
def test_bad_folders_are_refused_in_one_sentence(write_mex, changes, message):
    """The error names the file, what is wrong, and what to do."""
    with pytest.raises(InputError, match=message) as caught:
        read(open_mex(write_mex(**changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-9], "is cut off: its gzip data end too early"),
        (lambda data: data[:20] + b"\xff\xff\xff\xff" + data[24:], "has damaged gzip data|is not UTF-8"),
        (lambda data: data + b"rest", "has damaged gzip data: Not a gzipped file"),
        (lambda data: gzip.compress(b"\xff\xfe\x00"), "is not UTF-8 text|is not a MatrixMarket file"),
    ],
)
def test_damaged_files_are_refused(write_mex, name, damage, message):
    """Whichever of the three it is."""
    path = write_mex() / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=re.escape(str(path)) + f".*({message})"):
        read(open_mex(path.parent))


def test_a_full_disk_is_told_as_such(write_mex, monkeypatch):
    """Entries in any order need a temporary file."""
    from cytonym.errors import OutputError
    from cytonym.io import entries

    def full(max_size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entries.tempfile, "SpooledTemporaryFile", full)
    with pytest.raises(OutputError, match="No space is left"):
        read(open_mex(write_mex(matrix=matrix_text("1 2 1", "1 1 1"))))


def test_a_real_sample_is_the_same_in_both_formats(shared, write_mex):
    """Cell Ranger 3's own matrix, written as MEX by scipy."""
    from scipy.io import mmwrite

    from cytonym.io.tenx_h5 import open_tenx_h5

    h5 = open_tenx_h5(shared("data", "human_chr21_cellranger3_filtered_feature_bc_matrix.h5"))
    cells = h5.read_rows(0, h5.n_cells)
    folder = write_mex(
        matrix=None,
        features="".join(f"{i}\t{name}\n" for i, name in zip(h5.features.ids, h5.features.names, strict=True)),
        barcodes="\n".join(h5.read_barcodes(0, h5.n_cells)),
    )
    mmwrite(folder / "matrix.mtx", sp.csc_matrix(cells.T))
    found = sp.vstack([block for block, _ in open_mex(folder).blocks()])
    assert (found != cells).nnz == 0
