"""What 10x Cloud delivers, brought onto the matrix's barcodes."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import numpy as np
import pytest

from cytonym.errors import DamagedDownload
from cytonym.io.cloud_results import read_cloud_cell_types, read_cloud_metadata, read_evidence, read_ontology_ids

HEADER = "barcode,coarse_cell_type,fine_cell_type,cell_count_in_model"


def read(tmp_path, lines: list[str], barcodes: list[str]):
    path = tmp_path / "cas_cell_types.csv"
    path.write_text("\r\n".join(lines) + "\r\n")
    return read_cloud_cell_types(path, barcodes)


def test_rows_come_in_the_order_of_the_matrix(tmp_path):
    """Joined by barcode; every text stays as it was delivered."""
    lines = [HEADER, 'b,T cell,"CD4-positive, alpha-beta T cell",212', "a,NA,nan,7"]
    table = read(tmp_path, lines, ["a", "b"]).table
    assert table.to_dict("list") == {
        "barcode": ["a", "b"],
        "coarse_cell_type": ["NA", "T cell"],
        "fine_cell_type": ["nan", "CD4-positive, alpha-beta T cell"],
        "cell_count_in_model": ["7", "212"],
        "reason": ["", ""],
    }


def test_cells_without_a_label(tmp_path):
    """Not returned, or returned empty: Unassigned at every level, with the reason; no count is made up."""
    lines = ["barcode,broad_cell_type,coarse_cell_type,fine_cell_type,cell_count_in_model,note"]
    found = read(tmp_path, [*lines, "c,,,,,x", "a,Immune,T cell,T cell,3,y"], ["a", "b", "c", "d"])
    assert found.table[["broad_cell_type", "coarse_cell_type", "fine_cell_type"]].to_numpy().tolist() == [
        ["Immune", "T cell", "T cell"],
        *(3 * [["Unassigned"] * 3]),
    ]
    assert found.table["reason"].tolist() == ["", "not returned", "no label returned", "not returned"]
    assert found.table["note"].tolist() == ["y", "", "x", ""]
    assert found.table["cell_count_in_model"].tolist() == ["3", "", "", ""]
    assert (found.missing, found.fraction_returned) == (("b", "d"), 0.5)


def test_optional_columns(tmp_path):
    """Without the count, and with one that nobody knows."""
    found = read(tmp_path, ["fine_cell_type,barcode,coarse_cell_type,median_distance", "F,a,C,0.5"], ["a"])
    assert list(found.table) == ["barcode", "fine_cell_type", "coarse_cell_type", "median_distance", "reason"]


def test_barcodes_may_be_an_array(tmp_path):
    """As the matrix gives them."""
    assert read(tmp_path, [HEADER, "a,C,F,1"], np.array(["a", "b"])).missing == ("b",)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEADER], "has no rows"),
        (["barcode,fine_cell_type", "a,F"], "lacks the column coarse_cell_type"),
        ([HEADER, "a,C,F,1", "a,C,F,1"], "lists the barcode 'a' more than once"),
        ([HEADER, "a,C,F,1", "x,C,F,1", "y,C,F,1"], "has 2 barcodes that are not in the matrix, the first is 'x'"),
        ([HEADER, "a,C,F,1", "b,C,F,1,2"], "not a whole CSV table"),
    ],
)
def test_tables_that_are_not_of_this_matrix(tmp_path, lines, words):
    """They are damaged downloads, with the exit code of the cloud."""
    with pytest.raises(DamagedDownload, match=words) as stopped:
        read(tmp_path, lines, ["a", "b"])
    assert stopped.value.exit_code == 6


def evidence(tmp_path, entries: object):
    path = tmp_path / "cas_results.json.gz"
    path.write_bytes(gzip.compress(json.dumps(entries).encode()))
    return path


def test_ontology_ids_of_the_fine_type(tmp_path):
    """Of the match that has its name, in either shape; nothing is guessed."""
    matches = [
        {"cell_type": "cell", "cell_type_ontology_term_id": "CL:0000000", "score": 1},
        {"cell_type": "T cell", "cell_type_ontology_term_id": "CL:0000084", "cell_count": 212},
    ]
    entries = [
        {"barcode": "a", "matches": matches},
        {"query_cell_id": "b", "matches": matches[::-1], "total_neighbors": 500},
        {"barcode": "c", "matches": matches},
        {"barcode": "d", "matches": [{"score": 1, "cell_type_ontology_term_id": "CL:0000001"}]},
        {"barcode": "e", "matches": []},
        {"barcode": "f"},
        {"barcode": "g", "matches": [{"cell_type": "T cell"}]},
        {"barcode": "z", "matches": matches},
        7,
    ]
    fine = dict.fromkeys("abdefg", "t cell") | {"c": "B cell"}
    assert read_ontology_ids(evidence(tmp_path, entries), fine) == {"a": "CL:0000084", "b": "CL:0000084"}


def test_evidence_is_read_in_bounded_memory(tmp_path):
    """20 MB of JSON in a few MB of memory."""
    entry = {"barcode": "a", "matches": [{"cell_type": "T cell", "cell_count": n} for n in range(500)]}
    path = tmp_path / "cas_results.json.gz"
    text = json.dumps(entry).encode()
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"[" + b",".join([text] * (20_000_000 // len(text))) + b"]")
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_evidence(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000_000 // len(text)
    assert peak < 4_000_000


def test_metadata_and_its_fallbacks(tmp_path):
    """What is not said is not found; and a model is beta unless it is said not to be."""
    path = tmp_path / "metadata.json"
    path.write_text('{"tree_version_used": "V5_mappings", "is_beta_model": false, "developer": "Broad"}')
    found = read_cloud_metadata(path)
    assert (found.tree_version, found.display_map_version) == ("V5_mappings", "NOT FOUND")
    assert (found.is_beta_model, found.developer, found.fraction_non_informative) == (False, "Broad", None)
    path.write_text('{"is_beta_model": null, "fraction_non_informative_annotations": 0.02}')
    found = read_cloud_metadata(path)
    assert (found.is_beta_model, found.developer, found.fraction_non_informative) == (True, "Unknown", 0.02)
