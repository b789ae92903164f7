"""What a reference is built from: counts, genes, cells, labels and averages of every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cytonym.errors import InputError
from cytonym.io.coded import CodedColumn
from cytonym.io.h5ad import obs_columns, read_obs, read_row_names
from cytonym.levels import Levels
from cytonym.matrix import Features
from cytonym.ontology import Ontology, Term
from cytonym.ontology_data import load_ontology
from cytonym.reference.averages import linear_averages, read_average_table, with_unmeasured_filled
from cytonym.reference.gather import known_names
from cytonym.reference.genes import common_genes
from cytonym.reference.labelled import LabelledInput
from cytonym.reference.labels import OntologyMap, label_terms, read_map, suggestions
from cytonym.reference.sample import row_keys, spread_rows, with_lowest_keys
from cytonym.reference.types import DROPPED, FewCells, type_table
from cytonym.reference.unlog import unlog_of
from made_labelled import logged, write_blood

ONTOLOGY = Ontology(
    [
        Term("CL:0000000", "cell"),
        Term("CL:0000084", "T cell", ("CL:0000000",), ("T-lymphocyte", "T")),
        Term("CL:0000624", "CD4 T", ("CL:0000084",)),
        Term("CL:0000625", "CD8 T", ("CL:0000084",), ("T",)),
        Term("CL:0000236", "B cell", ("CL:0000000",)),
        Term("CL:0000001", "old B", is_obsolete=True, replaced_by="CL:0000236"),
    ]
)
LEVELS = Levels({"CL:0000084": "T cell", "CL:0000236": "B cell"}, {"CL:0000624": "helper"})


def an_input(
    labels: list[str], *, ids: list[str] | None = None, genes: Features | None = None, **more
) -> LabelledInput:
    n = len(labels)
    return LabelledInput(
        path=Path(more.pop("path", "a.h5ad")),
        dataset=more.pop("dataset", "a"),
        features=genes if genes is not None else Features(np.array(["ENSG00000000001"]), np.array(["G1"])),
        labels=CodedColumn.of([np.array(labels)]),
        ontology_ids=CodedColumn.of([np.array(ids)]) if ids else None,
        datasets=CodedColumn.constant("a", n),
        donors=CodedColumn.constant("", n),
        cells=lambda wanted: iter(()),
        row_names=lambda: np.array([b"x"] * n),
        **more,
    )


# ---- values that were made of counts

COUNTS = sp.csr_matrix(np.array([[1, 0, 7, 300], [2, 4, 0, 6], [0, 0, 0, 0], [3, 5, 0, 0]]))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (logged(COUNTS), "log1p of scaled counts"),
        (logged(COUNTS, 2), "log2(1 + scaled counts)"),
        (sp.diags([10, 0.3, 1, 7]) @ COUNTS.astype(float), "scaled counts"),
    ],
)
def test_counts_are_won_back_exactly(values, name):
    """Also where the smallest count of a cell is not 1; a common factor of all of a cell's counts cannot be seen."""
    way = unlog_of(sp.csr_matrix(values))
    assert way is not None and way.name == name
    expected = COUNTS.toarray() // np.array([[1], [2], [1], [1]])
    assert way.counts(sp.csr_matrix(values), "it", np.arange(4)).toarray().tolist() == expected.tolist()


def test_values_that_were_changed_otherwise_are_not_taken_for_counts():
    """Rounded, shifted, or without any two different counts."""
    rounded = logged(COUNTS)
    rounded.data = np.round(rounded.data / 0.05).astype(np.float32) * np.float32(0.05)
    assert unlog_of(rounded) is None
    assert unlog_of(sp.csr_matrix(np.array([[0.5, 0.5], [0.2, 0.0]]))) is None
    assert unlog_of(sp.csr_matrix((3, 3))) is None


def test_a_later_cell_that_differs_is_named():
    """What the first cells are is asked of all others."""
    way = unlog_of(logged(COUNTS))
    other = sp.csr_matrix(np.array([[0.1, 0.25, 0.3, 0.7]]))
    with pytest.raises(InputError, match="the values of cell 4097 are no log1p"):
        way.counts(other, "it", np.array([4096]))


# ---- cells


def test_cells_are_taken_in_turn_from_each_group():
    """Two of each of three groups before a third of any; an unlabelled cell is never taken."""
    types = np.array([0] * 10 + [-1] + [1])
    groups = np.array([0] * 6 + [1] * 2 + [2] * 2 + [0] + [0])
    keys = np.arange(12, dtype=np.uint64)[::-1].copy()
    assert spread_rows(types, groups, keys, 6).tolist() == [4, 5, 6, 7, 8, 9, 11]
    assert spread_rows(types, groups, keys, 7).tolist() == [3, 4, 5, 6, 7, 8, 9, 11]
    assert with_lowest_keys(np.array([0]), types, keys, 3).tolist() == [0, 9, 11]
    assert with_lowest_keys(np.array([0, 1]), types, keys, 1).tolist() == [0, 1]


def test_keys_depend_on_file_and_row_alone():
    """The same for a longer file, another for another file or seed."""
    assert (row_keys(5, 1, 0) == row_keys(9, 1, 0)[:5]).all()
    assert len(np.unique(np.concatenate([row_keys(100, 0, 0), row_keys(100, 1, 0), row_keys(100, 0, 1)]))) == 300


# ---- genes


def test_genes_of_all_files_are_joined_by_what_finds_more():
    """Versions do not matter, features of one name are added up, and the other name comes from whoever has it."""
    letters = [f"G{i}" for i in range(300)]
    ids = [f"ENSG{i:011d}" for i in range(300)]
    one = an_input(["a"], genes=Features(np.array([f"{x}.7" for x in ids]), np.array(letters)))
    two = an_input(["a"], genes=Features(np.array(ids[::-1][:250]), np.array(ids[::-1][:250])))
    genes = common_genes([one, two])
    assert genes.joined_by == "gene ids"
    assert genes.features.ids.tolist() == ids[50:]
    assert genes.features.names.tolist() == letters[50:]
    cells = sp.csr_matrix(np.arange(1, 301)[None])
    assert genes.take(cells, 0).toarray()[0].tolist() == list(range(51, 301))
    assert genes.take(sp.csr_matrix(cells[:, :250]), 1).toarray()[0].tolist() == list(range(250, 0, -1))

    three = an_input(["a"], genes=Features(np.array([*letters, "G0"]), np.array([*letters, "G0"])))
    genes = common_genes([one, three])
    assert (genes.joined_by, len(genes.features)) == ("gene symbols", 300)
    assert genes.take(sp.csr_matrix(np.ones((1, 301), dtype=int)), 1).toarray()[0, :2].tolist() == [2, 1]


def test_files_without_common_genes_are_refused():
    """Both are shown."""
    one = an_input(["a"], path="one.h5ad", genes=Features(np.array(["X1"]), np.array(["X1"])))
    two = an_input(["a"], genes=Features(np.array(["Y1"]), np.array(["Y1"])))
    with pytest.raises(InputError, match=r"0 genes in common.*X1"):
        common_genes([one, two])


# ---- labels


def test_a_label_gets_its_term_by_map_then_id_then_name():
    """A map's row for the file wins over its general row, and a row without a term is an answer too."""
    found = an_input(
        ["helper", "b-cell", "B_cell", "odd", "mine", "mine"],
        ids=["CL:0000624", "", "CL:0000001", "unknown", "CL:0000624", "CL:0000625"],
        dataset="a",
    )
    given = OntologyMap({("helper", ""): "CL:0000084", ("helper", "a"): "CL:0000625", ("odd", ""): ""})
    terms = label_terms(found, ONTOLOGY, None, known_names(ONTOLOGY))
    assert [(term.term_id, term.found_by) for term in terms] == [
        ("CL:0000624", "id column"),
        ("CL:0000236", "name"),
        ("CL:0000236", "id column"),  # by way of the successor of an obsolete term
        ("", ""),
        ("CL:0000084", "id column"),  # two terms: what is above both
    ]
    mapped = label_terms(found, ONTOLOGY, given, {})
    assert [(term.term_id, term.found_by) for term in mapped[:1] + mapped[3:4]] == [("CL:0000625", "map"), ("", "map")]
    assert [row[0] for row in suggestions(terms, known_names(ONTOLOGY), ONTOLOGY)] == ["odd"]


def test_a_synonym_of_two_terms_names_neither():
    """An exact synonym of one term does."""
    found = an_input(["T", "t lymphocyte"])
    terms = label_terms(found, ONTOLOGY, None, known_names(ONTOLOGY))
    assert [term.term_id for term in terms] == ["", "CL:0000084"]


def test_suggestions_are_likely_and_confirmed_by_nobody_yet():
    """The label stays without a term until the table is given as a map."""
    ontology = load_ontology()
    names = known_names(ontology)
    terms = label_terms(an_input(["CD14+ Mono", "NK", "zzz"]), ontology, None, names)
    assert {term.term_id for term in terms} == {""}
    assert [row[:3] for row in suggestions(terms, names, ontology)] == [
        ("CD14+ Mono", "CL:0001054", "CD14-positive monocyte"),
        ("NK", "CL:0000623", "natural killer cell"),
        ("zzz", "", ""),
    ]


def test_a_map_takes_other_columns_and_successors(tmp_path):
    """The suggestions' table is a map as it is."""
    path = tmp_path / "map.tsv"
    path.write_text("dataset\tlabel\tnote\tcl_id\na\tx\t\tCL:0000001\n\ty\thm\t\n")
    given = read_map(path, ONTOLOGY)
    assert (given.get("x", "a"), given.get("x", "b"), given.get("y", "a")) == ("CL:0000236", None, "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label\tterm\n", "no column cl_id"),
        ("", "no column label and no column cl_id"),
        ("label\tcl_id\nx\tT cell\n", "line 2: 'T cell' is not of the form"),
        ("label\tcl_id\nx\tCL:0000084\nx\tCL:0000236\n", "line 3: 'x' has another term above"),
    ],
)
def test_a_broken_map_is_refused(tmp_path, text, words):
    """The line is named."""
    path = tmp_path / "map.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_map(path, ONTOLOGY)


# ---- types


def terms_of(*inputs: LabelledInput):
    return [label_terms(one, ONTOLOGY, None, known_names(ONTOLOGY)) for one in inputs]


def test_types_know_what_stands_above_them():
    """Without a place in the display map a label stands for itself."""
    one = an_input(["CD4 T"] * 5 + ["T cell"] * 6 + ["odd"] * 7)
    table = type_table([one], terms_of(one), ONTOLOGY, LEVELS)
    assert [
        (kind.label, kind.broad, kind.coarse, kind.broad_id, kind.coarse_id, kind.n_cells) for kind in table.types
    ] == [
        ("CD4 T", "T cell", "helper", "CL:0000084", "CL:0000624", 5),
        ("T cell", "T cell", "T cell", "CL:0000084", "CL:0000084", 6),
        ("odd", "odd", "odd", "", "", 7),
    ]
    assert table.codes([one], 0).tolist() == [0] * 5 + [1] * 6 + [2] * 7


def test_labels_of_few_cells_are_dropped_or_pooled():
    """Two small kinds of T cell meet at their parent; a small B cell has nobody to meet."""
    one = an_input(["CD4 T"] * 3 + ["CD8 T"] * 2 + ["B cell"] * 4 + ["odd"] * 7 + ["even"] * 8)
    dropped = type_table([one], terms_of(one), ONTOLOGY, LEVELS)
    assert [kind.label for kind in dropped.types] == ["even", "odd"]
    assert dropped.few == (FewCells("B cell", 4, DROPPED), FewCells("CD4 T", 3, DROPPED), FewCells("CD8 T", 2, DROPPED))
    pooled = type_table([one], terms_of(one), ONTOLOGY, LEVELS, pool=True)
    assert next((kind.label, kind.ontology_id, kind.n_cells) for kind in pooled.types) == ("T cell", "CL:0000084", 5)
    assert pooled.codes([one], 0).tolist() == [0] * 5 + [-1] * 4 + [2] * 7 + [1] * 8


def test_a_label_of_two_meanings_is_two_types():
    """The terms' names tell them apart."""
    one = an_input(["T"] * 5 + ["x"] * 5, ids=["CL:0000624"] * 5 + [""] * 5)
    two = an_input(["T"] * 6, ids=["CL:0000625"] * 6, dataset="b")
    table = type_table([one, two], terms_of(one, two), ONTOLOGY, LEVELS)
    assert [kind.label for kind in table.types] == ["T (CD4 T)", "T (CD8 T)", "x"]
    assert table.codes([one, two], 1).tolist() == [1] * 6


# ---- averages


def test_a_table_of_averages_is_read_by_type(tmp_path):
    """Columns with ids and symbols; values of any scale become shares."""
    path = tmp_path / "means.csv"
    path.write_text("gene_id,gene_symbol,B cell,T cell\nENSG00000000001.2,AAA,2,0\nENSG00000000002,BBB,6,100\n")
    found = read_average_table(path)
    assert found.labels.values.tolist() == ["B cell", "T cell"]
    assert found.features.names.tolist() == ["AAA", "BBB"]
    assert linear_averages(found, "auto").tolist() == [[0.25, 0.75], [0, 1]]
    assert linear_averages(found, "log2")[0].tolist() == pytest.approx([3 / 66, 63 / 66])


def test_logs_of_even_rows_are_recognised(tmp_path):
    """Rows that sum to the same number when the log is undone."""
    shares = np.array([[0.2, 0.8], [0.7, 0.3]]) * 1e4
    for log, name in ((np.log1p(shares), "ln"), (np.log2(1 + shares), "log2")):
        path = tmp_path / f"{name}.tsv"
        rows = "\n".join(f"G{i}\t{a:.6f}\t{b:.6f}" for i, (a, b) in enumerate(log.T))
        path.write_text(f"gene\tx\ty\n{rows}\n")
        assert linear_averages(read_average_table(path), "auto")[0].tolist() == pytest.approx([0.2, 0.8], abs=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gene,x,y\nA,1,2\nA,3,4\n", "lists the gene 'A' more than once"),
        ("gene,x,x\nA,1,2\nB,3,4\n", "lists the type 'x' more than once"),
        ("gene,x\nA,1\n", "has 1 columns of types"),
        ("gene,x,y\nA,1,b\nB,3,4\n", "texts in the column 'y'"),
        ("gene,x,y\nA,1,\nB,3,4\n", "not numbers"),
        ("gene,x,y\nA,1,-3\nB,3,4\n", "negative"),
        ("gene,x,y\nA,0,40\nB,0,4\n", "only zeros for 'x'"),
        ("gene,x,y\nA,1,3\nB,2.5,4\n", "scale of the averages"),
        ("type,CD3E,MS4A1,LYZ,CD14,NKG7\nb cells,1,2,3,4,5\nt cells,1,2,3,4,5\n", "transpose it"),
    ],
)
def test_tables_that_are_no_averages_are_refused(tmp_path, text, words):
    """One sentence each."""
    path = tmp_path / "means.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        linear_averages(read_average_table(path), "auto")


def test_a_gene_that_a_study_lacks_speaks_for_no_type():
    """It gets the mean of the other studies; a gene that most rows lack goes."""
    shares = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.9, 0.0, 0.1]])
    filled, genes = with_unmeasured_filled(shares, np.array([0, 0, 1, 2]))
    assert genes.tolist() == [0, 1]
    assert filled[2] == pytest.approx(np.array([1, 0.65]) / 1.65)
    assert filled.sum(axis=1) == pytest.approx(1)


# ---- columns of an h5ad file


def test_columns_are_read_as_codes(tmp_path):
    """Categories, texts and row names."""
    path = write_blood(tmp_path / "x.h5ad", batch=np.array(["p", ""] * 60, dtype=object))
    found = read_obs(path, "cell_type")
    assert found is not None and found.counts().tolist() == [40, 40, 40]
    batch = read_obs(path, "batch")
    assert batch is not None and batch.without([""]).counts().tolist() == [0, 60]
    assert read_obs(path, "nope") is None
    assert read_row_names(path)[:2].tolist() == [b"c0", b"c1"]
    assert obs_columns(path) == ("batch", "cell_type", "cell_type_ontology_term_id", "dataset_id", "donor_id")
    gone = found.without(["Monocyte"])
    assert gone.counts().tolist() == [40, 0, 40]
