"""Ontology files, the packaged terms, and the names that stand above a type."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from conftest import PROJECT
from cytonym.errors import InputError
from cytonym.io.obo import read_ontology
from cytonym.levels import LevelNames, Levels, common_ancestor, levels_of, read_levels, with_shared_terms
from cytonym.markers import SPECIES, load_markers
from cytonym.ontology import Ontology, Term
from cytonym.ontology_data import load_levels, load_ontology

OBO = r"""format-version: 1.2
data-version: made/1

[Term]
id: CL:0000001
name: cell

[Term]
id: CL:0000002
name: blood cell, "all kinds"
synonym: "blood \"corpuscle\"" EXACT [PMID:1]
synonym: "corpuscle" BROAD []
is_a: CL:0000001 {is_inferred="true"} ! cell
relationship: part_of UBERON:0000178 ! blood

[Term]
id: CL:0000003
name: obsolete corpuscle
is_obsolete: true
replaced_by: CL:0000002

[Term]
id: CL:0000004
name: obsolete either
is_obsolete: true
replaced_by: CL:0000001
replaced_by: CL:0000002

[Typedef]
id: part_of
name: part of
"""
IRI = "http://purl.obolibrary.org/obo/"
GRAPH = {
    "graphs": [
        {
            "nodes": [
                {"id": f"{IRI}CL_0000001", "lbl": "cell"},
                {
                    "id": f"{IRI}CL_0000002",
                    "lbl": 'blood cell, "all kinds"',
                    "meta": {
                        "synonyms": [
                            {"pred": "hasExactSynonym", "val": 'blood "corpuscle"'},
                            {"pred": "hasBroadSynonym", "val": "corpuscle"},
                        ]
                    },
                },
                {
                    "id": f"{IRI}CL_0000003",
                    "lbl": "obsolete corpuscle",
                    "meta": {
                        "deprecated": True,
                        "basicPropertyValues": [{"pred": f"{IRI}IAO_0100001", "val": f"{IRI}CL_0000002"}],
                    },
                },
                {
                    "id": f"{IRI}CL_0000004",
                    "lbl": "obsolete either",
                    "meta": {
                        "deprecated": True,
                        "basicPropertyValues": [
                            {"pred": f"{IRI}IAO_0100001", "val": f"{IRI}CL_0000001"},
                            {"pred": f"{IRI}IAO_0100001", "val": f"{IRI}CL_0000002"},
                        ],
                    },
                },
                {"id": f"{IRI}UBERON_0000178"},
            ],
            "edges": [
                {"sub": f"{IRI}CL_0000002", "pred": "is_a", "obj": f"{IRI}CL_0000001"},
                {"sub": f"{IRI}CL_0000002", "pred": f"{IRI}BFO_0000050", "obj": f"{IRI}UBERON_0000178"},
            ],
        }
    ]
}
#      a
#     / \
#    b   c      d stands below both, e below d
#     \ /
#      d - e
DIAMOND = Ontology(
    [
        Term("CL:0000010", "a"),
        Term("CL:0000011", "b", ("CL:0000010",)),
        Term("CL:0000012", "c", ("CL:0000010",)),
        Term("CL:0000013", "d", ("CL:0000011", "CL:0000012")),
        Term("CL:0000014", "e", ("CL:0000013", "CL:0000010")),
    ]
)


@pytest.fixture(params=["obo", "obo.gz", "json"])
def ontology_path(request, tmp_path):
    path = tmp_path / f"made.{request.param}"
    text = json.dumps(GRAPH) if request.param == "json" else OBO
    path.write_bytes(gzip.compress(text.encode()) if request.param == "obo.gz" else text.encode())
    return path


def test_both_formats_give_the_same_terms(ontology_path):
    """Exact synonyms alone, parents by is_a alone, and a successor only where there is one."""
    assert list(read_ontology(ontology_path)) == [
        Term("CL:0000001", "cell"),
        Term("CL:0000002", 'blood cell, "all kinds"', ("CL:0000001",), ('blood "corpuscle"',)),
        Term("CL:0000003", "obsolete corpuscle", is_obsolete=True, replaced_by="CL:0000002"),
        Term("CL:0000004", "obsolete either", is_obsolete=True),
    ]
    assert read_ontology(ontology_path).current("CL:0000003") == "CL:0000002"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("barcode,label\n", "holds no term"),
        ('{"graphs": 3}', "no obographs JSON"),
        ('{"graphs"', "no obographs JSON"),
        ("[Term]\nname: x\n", "line 1: a [Term] without an id"),
        ("[Term]\nid: CL:1\n\n[Term]\nid: CL:1\n", "CL:1 stands on line 1 and on 4"),
        (b"\x1f\x8b\x08cut", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_ontology_is_refused(tmp_path, text, words):
    """One sentence says what is wrong, and names the file."""
    path = tmp_path / "x.obo"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"x\.obo") as found:
        read_ontology(path)
    assert words in str(found.value)


def test_the_terms_file_is_made_of_an_ontology(tmp_path, monkeypatch):
    """Ids, names, parents and successors; no synonym, no term that is obsolete without a successor."""
    monkeypatch.syspath_prepend(str(PROJECT / "tools"))
    import make_terms

    source, target = tmp_path / "made.obo", tmp_path / "terms.tsv"
    source.write_text(OBO)
    make_terms.main(source, target)
    lines = target.read_text().splitlines()
    assert "made/1" in lines[0] and "CC BY 4.0" in lines[0]
    assert lines[1:] == [
        "id\tname\tparents\treplaced_by",
        "CL:0000001\tcell\t\t",
        'CL:0000002\tblood cell, "all kinds"\tCL:0000001\t',
        "CL:0000003\tobsolete corpuscle\t\tCL:0000002",
    ]
    sys.modules.pop("make_terms")


def test_the_packaged_terms_know_their_places():
    """Parents exist, successors are current, and a T cell is a lymphocyte."""
    ontology = load_ontology()
    assert all(parent in ontology for term in ontology for parent in term.parents)
    assert all(not ontology[term.replaced_by].is_obsolete for term in ontology if term.is_obsolete)
    assert ontology["CL:0000084"].name == "T cell"
    assert "CL:0000542" in ontology.lineage("CL:0000084")


@pytest.mark.parametrize("species", SPECIES)
def test_marker_tables_name_terms_of_the_ontology(species):
    """Every id of the packaged tables is a current term."""
    ontology = load_ontology()
    ids = {node.ontology_id for node in load_markers(species).types}
    assert not [term_id for term_id in ids if term_id not in ontology or ontology[term_id].is_obsolete]


# rows of the marker tables whose term is wider than, or shared with, what their name says
WIDER_THAN_ITS_NAME = {
    "megakaryocyte or platelet",
    "basal epithelial cell",
    "labyrinth syncytiotrophoblast cell",
    "activated fibroblast",
}


@pytest.mark.parametrize("species", SPECIES)
def test_levels_and_marker_tables_use_the_same_names(species):
    """A coarse or fine type of the tables stands under the same broad and coarse name in the display map."""
    ontology, levels = load_ontology(), load_levels()
    for node in load_markers(species).types:
        if node.coarse is not None and node.name not in WIDER_THAN_ITS_NAME:
            names = levels.of(node.ontology_id, ontology)
            assert (names.broad, names.coarse) == (node.broad, node.coarse), node.name


def test_rows_of_the_packaged_map_are_current_terms():
    """No row is lost on a term that nobody uses any more."""
    ontology, levels = load_ontology(), load_levels()
    rows = {*levels.broad, *levels.coarse}
    assert not [row for row in rows if row not in ontology or ontology[row].is_obsolete]


def test_the_nearest_row_names_a_term():
    """The lower of two rows wins even where a shortcut leads to the upper one; at equal height the nearer one."""
    levels = Levels(
        broad={"CL:0000010": "A", "CL:0000011": "B"}, coarse={"CL:0000012": "C", "CL:0000014": "E", "CL:0000011": "B"}
    )
    assert levels.of("CL:0000014", DIAMOND) == LevelNames("B", "E", "CL:0000011", "CL:0000014")
    assert levels.of("CL:0000013", DIAMOND).coarse == "C"  # both one step away: file order
    assert levels.of("CL:0000012", DIAMOND) == LevelNames("A", "C", "CL:0000010", "CL:0000012")
    assert levels.of("CL:0000010", DIAMOND) == LevelNames("A", "A", "CL:0000010", "CL:0000010")
    assert levels.of("CL:9999999", DIAMOND) == LevelNames()


def test_one_term_stands_behind_a_shared_name():
    """It is the deepest one above all that show the name; a name without a term has none."""
    found = [LevelNames("X", "Y", "CL:0000011", "CL:0000011"), LevelNames("X", "Z", "CL:0000012", ""), LevelNames()]
    shared = with_shared_terms(found, DIAMOND)
    assert [names.broad_id for names in shared] == ["CL:0000010", "CL:0000010", ""]
    assert [names.coarse_id for names in shared] == ["CL:0000011", "", ""]
    assert common_ancestor(["CL:0000013", "CL:0000014"], DIAMOND) == "CL:0000013"
    assert common_ancestor(["CL:0000013", "CL:9999999"], DIAMOND) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cl_id\tname\n", "header"),
        ("cl_id\tname\tlevel\nCL:1\tx\tbroad\n", "line 2"),
        ("cl_id\tname\tlevel\nCL:0000001\tx\tfine\n", "line 2"),
        ("# mine\ncl_id\tname\tlevel\nCL:0000001\tx\n", "line 3"),
        ("cl_id\tname\tlevel\nCL:0000001\tx\tbroad\nCL:0000001\ty\tbroad\n", "line 3: CL:0000001 has a broad name"),
    ],
)
def test_a_broken_map_is_refused(tmp_path, text, words):
    """The line is named."""
    path = tmp_path / "levels.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"levels\.tsv") as found:
        read_levels(path)
    assert words in str(found.value)


def test_a_good_map_is_read():
    """Comments and empty lines do not count."""
    text = "# mine\ncl_id\tname\tlevel\n\nCL:0000001\tall cells\tbroad\n"
    assert levels_of(text, "it") == Levels({"CL:0000001": "all cells"}, {})
