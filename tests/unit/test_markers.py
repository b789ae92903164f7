"""The packaged marker tables keep their rules, and a user's broken table is told where it breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import PROJECT
from cytonym.cli import run
from cytonym.errors import InputError, UsageError
from cytonym.markers import (
    COLUMNS,
    SPECIES,
    MarkerTable,
    as_rows,
    as_tsv,
    check_markers,
    known_tissue,
    load_markers,
    markers_from_rows,
    read_markers,
    user_markers,
)
from cytonym.schemas import first_problem

OBO = Path(__file__).parents[3] / "shared" / "data" / "cl-basic.obo"
GOOD = {
    "broad_cell_type": "lymphocyte",
    "coarse_cell_type": "",
    "fine_cell_type": "",
    "cell_type_ontology_term_id": "CL:0000542",
    "tissues": "any",
    "life_stage": "",
    "defining": "CD3D,CD3E,CD79A,MS4A1",
    "supporting": "CD2,CD5,CD6,CD7,CD19,CD22,CD37,LTB",
    "negative": "LYZ",
    "source": "made up for the test",
}


@pytest.fixture(params=SPECIES)
def table(request: pytest.FixtureRequest) -> MarkerTable:
    return load_markers(request.param)


@pytest.fixture(scope="module")
def ontology() -> dict[str, dict[str, object]]:
    """Term id -> its parents along is_a and whether it is obsolete."""
    if not OBO.is_file():
        pytest.skip(f"{OBO} is not there: the ontology is not part of the repository")
    terms: dict[str, dict[str, object]] = {}
    for stanza in OBO.read_text(encoding="utf-8").split("\n\n"):
        lines = stanza.strip().splitlines()
        if not lines or lines[0] != "[Term]":
            continue
        fields = [line.split(": ", 1) for line in lines[1:]]
        terms[next(value for key, value in fields if key == "id")] = {
            "parents": {value.split()[0] for key, value in fields if key == "is_a"},
            "obsolete": ["is_obsolete", "true"] in fields,
        }
    return terms


def write(path: Path, *rows: dict[str, str]) -> Path:
    lines = ["\t".join(COLUMNS)] + ["\t".join(row[column] for column in COLUMNS) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_packaged_table_holds_to_the_schema(table: MarkerTable) -> None:
    """Both packaged tables are valid arrays of rows for markers.schema.json."""
    assert first_problem(as_rows(table), "markers.schema.json") is None


def test_packaged_table_keeps_the_rules(table: MarkerTable) -> None:
    """Parents exist, gene counts fit, and no gene defines two unrelated types."""
    assert check_markers(table) == []


def test_packaged_table_is_large_enough(table: MarkerTable) -> None:
    """Each species has at least 15 broad, 60 coarse and 60 fine or undivided types."""
    assert len(table.broad) >= 15
    assert len(table.coarse) >= 60
    assert len(table.leaves) >= 60


def test_every_symbol_has_an_ensembl_id(table: MarkerTable) -> None:
    """Each gene of a packaged table can be joined by Ensembl id, and no two genes share one."""
    prefix = {"human": "ENSG", "mouse": "ENSMUSG"}[table.species]
    assert set(table.genes) == set(table.gene_ids)
    assert all(gene_id.startswith(prefix) and gene_id[len(prefix) :].isdigit() for gene_id in table.gene_ids.values())
    assert len(set(table.gene_ids.values())) == len(table.gene_ids)


def test_ontology_terms_exist(table: MarkerTable, ontology: dict[str, dict[str, object]]) -> None:
    """Each ontology id is a term of the Cell Ontology that is not obsolete."""
    for node in table.types:
        assert node.ontology_id in ontology, node.name
        assert not ontology[node.ontology_id]["obsolete"], node.name


def test_ontology_term_of_a_child_is_below_its_parent(
    table: MarkerTable, ontology: dict[str, dict[str, object]]
) -> None:
    """The term of a child is the parent's term or a descendant of it along is_a."""

    def ancestors(term: str) -> set[str]:
        found, todo = set(), [term]
        while todo:
            term = todo.pop()
            if term not in found:
                found.add(term)
                todo.extend(ontology[term]["parents"])  # type: ignore[call-overload]
        return found

    terms = {node.name: node.ontology_id for node in table.types}
    for node in table.types:
        if node.parent is not None:
            assert terms[node.parent] in ancestors(node.ontology_id), node.name


def test_state_genes_are_no_markers(table: MarkerTable) -> None:
    """Ribosomal, mitochondrial, stress and cell-cycle genes mark a state of a cell, not its type."""
    states = ("RPL", "RPS", "MT-", "HSPA1", "MALAT1", "MKI67", "TOP2A", "CENPF", "UBE2C")
    assert [gene for gene in table.genes if gene.upper().startswith(states)] == []


def test_children_are_listed_under_their_parent() -> None:
    """The tree can be walked from a broad type down to a fine one."""
    human = load_markers("human")
    names = {node.name for node in human.children("T cell")}
    assert {"CD4 T cell", "CD8 T cell"} <= names
    regulatory = next(node for node in human.children("CD4 T cell") if node.name == "regulatory T cell")
    assert (regulatory.level, regulatory.parent) == ("fine", "CD4 T cell")
    assert human.children("regulatory T cell") == ()


def test_unknown_species_is_told() -> None:
    """A species without a packaged table is an input error."""
    with pytest.raises(InputError, match="zebrafish"):
        load_markers("zebrafish")


def test_users_table_is_read(tmp_path: Path) -> None:
    """A user's file gives the types it holds, with the ids the package knows."""
    coarse = {**GOOD, "coarse_cell_type": "B cell", "cell_type_ontology_term_id": "CL:0000236", "negative": ""}
    table = read_markers(write(tmp_path / "own.tsv", GOOD, coarse), "human")
    assert [node.name for node in table.types] == ["lymphocyte", "B cell"]
    assert table.types[1].parent == "lymphocyte"
    assert table.types[1].negative == ()
    assert table.gene_ids["MS4A1"] == "ENSG00000156738"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("cell_type_ontology_term_id", "CL:236"),
        ("defining", "CD3D,CD3E"),
        ("supporting", "CD2,CD5,CD6,CD7,CD19,CD22,CD37, LTB"),
        ("tissues", "Blood"),
        ("broad_cell_type", ""),
    ],
)
def test_broken_cell_names_line_and_column(tmp_path: Path, column: str, value: str) -> None:
    """A value that breaks the schema is told with the line of the file and the column."""
    path = write(tmp_path / "own.tsv", GOOD, {**GOOD, column: value})
    with pytest.raises(InputError, match=f"line 3, column {column}"):
        read_markers(path, "human")


def test_missing_field_names_line_and_column(tmp_path: Path) -> None:
    """A line with too few tabs is told with the line and the first column it lacks."""
    path = write(tmp_path / "own.tsv", GOOD)
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n").rsplit("\t", 1)[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 2, column source: 9 tab-separated fields"):
        read_markers(path, "human")


def test_wrong_header_is_told(tmp_path: Path) -> None:
    """A file without the header line is not taken for a table without types."""
    path = tmp_path / "own.tsv"
    path.write_text("gene\tcell\nCD3D\tT cell\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        read_markers(path, "human")


def test_file_that_is_missing_is_told(tmp_path: Path) -> None:
    """A path that does not exist is an input error that names it."""
    with pytest.raises(InputError, match=r"none\.tsv"):
        read_markers(tmp_path / "none.tsv", "human")


def test_gene_that_defines_unrelated_types_is_told(tmp_path: Path) -> None:
    """CD3D cannot define both of two broad types."""
    other = {**GOOD, "broad_cell_type": "muscle cell", "defining": "CD3D,DES,TTN,CKM"}
    with pytest.raises(InputError, match="'lymphocyte' and 'muscle cell' are not related and both defined by CD3D"):
        read_markers(write(tmp_path / "own.tsv", GOOD, other), "human")


def test_child_without_parent_row_is_told(tmp_path: Path) -> None:
    """A fine type needs the row of its coarse type above it."""
    orphan = {**GOOD, "coarse_cell_type": "B cell", "fine_cell_type": "naive B cell"}
    with pytest.raises(InputError, match="'naive B cell' has no row of its parent 'B cell'"):
        read_markers(write(tmp_path / "own.tsv", GOOD, orphan), "human")


def test_users_types_join_the_packaged_ones_or_take_their_place(tmp_path: Path) -> None:
    """A B cell of the user replaces the packaged one; a new coarse type joins under its packaged broad type."""
    packaged = load_markers("human")
    b_cell = next(node for node in packaged.types if node.name == "B cell")
    own = replace(b_cell, supporting=b_cell.supporting[:8], source="ours")
    new = replace(b_cell, coarse="B cell of ours", defining=("OWN1", "OWN2", "OWN3", "OWN4"))
    path = tmp_path / "own.tsv"
    path.write_text(as_tsv(MarkerTable("human", (own, new), {})), encoding="utf-8")
    table = user_markers(path, "human")
    assert len(table.types) == len(packaged.types) + 1
    assert next(node for node in table.types if node.name == "B cell") == own
    assert table.types[-1] == new
    assert table.gene_ids == packaged.gene_ids


def test_users_types_alone_must_make_a_tree(tmp_path: Path) -> None:
    """Without the packaged types a coarse type lacks its parent."""
    path = write(tmp_path / "own.tsv", {**GOOD, "broad_cell_type": "B lineage cell", "coarse_cell_type": "B cell"})
    with pytest.raises(InputError, match="no row of its parent 'B lineage cell'"):
        user_markers(path, "human", only=True)


@pytest.mark.parametrize("species", SPECIES)
def test_a_table_survives_its_file(tmp_path: Path, species: str) -> None:
    """What `as_tsv` and `as_rows` write is read back as the same types."""
    table = load_markers(species)
    path = tmp_path / "all.tsv"
    path.write_text(as_tsv(table), encoding="utf-8")
    assert user_markers(path, species, only=True) == table
    assert markers_from_rows(as_rows(table), species) == table


def test_a_tissue_is_known_by_any_spelling() -> None:
    """Case, hyphens and underscores do not matter; an unknown tissue is told with those that are known."""
    table = load_markers("human")
    assert known_tissue(table, " Lymph_Node") == known_tissue(table, "lymph-node") == "lymph node"
    with pytest.raises(InputError, match=r"'moon' is not in the marker table. It knows: .*lung"):
        known_tissue(table, "moon")


def test_validate_tells_what_a_table_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Types, genes, and symbols that the package does not know."""
    path = write(tmp_path / "own.tsv", {**GOOD, "supporting": GOOD["supporting"].replace("CD2,", "NOSUCHGENE,")})
    assert run(["markers", "validate", str(path), "--only"]) == 0
    told = capsys.readouterr().out
    assert "1 cell types, 13 genes; the model then has 1" in told
    assert "joined by symbol alone: NOSUCHGENE" in told


def test_symbols_are_current(table: MarkerTable) -> None:
    """No symbol is one of the withdrawn names that older papers still print."""
    withdrawn = {
        *("FAM19A1", "KIAA0101", "GPR56", "MLLT4", "CTGF", "CYR61", "SEPP1", "LINC01268", "C10orf10", "PPAP2B"),
        *("FAM46C", "TMEM66", "GNB2L1", "H2AFZ", "HIST1H4C", "WISP2", "ADRBK1", "PVRL2", "FAM26F", "CCDC109B"),
        *("KIAA1598", "LEPREL1", "SELM", "SEPT9", "MARCH1", "TCEB2", "ATP5B", "NOV", "CYBASC3", "GPR183L"),
    }
    assert sorted(withdrawn & {gene.upper() for gene in table.genes}) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--tissue", "moon"), InputError, "--tissue 'moon' is not in the marker table"),
        (("--markers-only",), UsageError, "'--markers-only' needs '--markers <FILE>' too"),
        (("--markers", "none.tsv"), UsageError, r"invalid value '.*none\.tsv' for '--markers <FILE>': no such file"),
    ],
)
def test_wrong_options_are_told_before_any_work(
    tmp_path: Path, options: tuple[str, ...], error: type[Exception], message: str
) -> None:
    """An unknown tissue, a switch without its table, a table that is not there."""
    matrix = ("--matrix", str(PROJECT / "tests/data/tiny/filtered_feature_bc_matrix"), "--genome", "GRCh38")
    model = ("--cell-annotation-model", "markers", "--output-dir", str(tmp_path / "out"))
    with pytest.raises(error, match=message):
        run(["annotate", "--id", "s", *matrix, *model, *options, "--dry"])
