"""The marker genes of cell types: the packaged tables, a user's own table, and the rules both keep.

A table is a tree of three levels. Each line of the file is one node: a broad type has no coarse and no fine name,
a coarse type no fine name. `schemas/markers.schema.json` describes one row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema

from .errors import InputError
from .schemas import load_schema

SPECIES = ("human", "mouse")
LEVELS = ("broad", "coarse", "fine")
COLUMNS = (
    "broad_cell_type",
    "coarse_cell_type",
    "fine_cell_type",
    "cell_type_ontology_term_id",
    "tissues",
    "life_stage",
    "defining",
    "supporting",
    "negative",
    "source",
)
SEPARATORS = {"tissues": ";", "defining": ",", "supporting": ",", "negative": ","}
GENE_COUNTS = {"defining": (4, 10), "supporting": (8, 30), "negative": (0, 6)}
ONTOLOGY_ID = re.compile(r"CL:[0-9]{7}")


@dataclass(frozen=True)
class MarkerType:
    """One node of the type tree with its marker genes (symbols)."""

    broad: str
    coarse: str | None  # None in a broad type
    fine: str | None  # None in a broad or coarse type
    ontology_id: str
    tissues: tuple[str, ...]
    life_stage: str  # empty: any
    defining: tuple[str, ...]
    supporting: tuple[str, ...]
    negative: tuple[str, ...]
    source: str

    @property
    def level(self) -> str:
        if self.coarse is None:
            return "broad"
        return "coarse" if self.fine is None else "fine"

    @property
    def path(self) -> tuple[str, ...]:
        """The names from the broad type down to this one."""
        return tuple(name for name in (self.broad, self.coarse, self.fine) if name is not None)

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def parent(self) -> str | None:
        """The name of the type one level up; None for a broad type."""
        return self.path[-2] if len(self.path) > 1 else None


@dataclass(frozen=True)
class MarkerTable:
    """The types of one species in file order: a parent stands before its children."""

    species: str
    types: tuple[MarkerType, ...]
    gene_ids: dict[str, str]  # symbol -> Ensembl id without version; symbols the package does not know are missing

    @property
    def broad(self) -> tuple[MarkerType, ...]:
        return self.at_level("broad")

    @property
    def coarse(self) -> tuple[MarkerType, ...]:
        return self.at_level("coarse")

    @property
    def fine(self) -> tuple[MarkerType, ...]:
        return self.at_level("fine")

    @property
    def leaves(self) -> tuple[MarkerType, ...]:
        """The types without children: a coarse type that is not divided counts as its own fine type."""
        parents = {node.parent for node in self.types}
        return tuple(node for node in self.types if node.name not in parents)

    @property
    def genes(self) -> tuple[str, ...]:
        """All symbols of the table, sorted, each once."""
        return tuple(sorted({gene for node in self.types for gene in _genes(node)}))

    def at_level(self, level: str) -> tuple[MarkerType, ...]:
        return tuple(node for node in self.types if node.level == level)

    def children(self, name: str) -> tuple[MarkerType, ...]:
        """The types one level below the type of that name; none if it has none."""
        return tuple(node for node in self.types if node.parent == name)


@cache
def load_markers(species: str) -> MarkerTable:
    """The packaged table of 'human' or 'mouse'."""
    if species not in SPECIES:
        raise InputError(f"There are no packaged markers for '{species}', only for {' and '.join(SPECIES)}.")
    text = _packaged(f"{species}.tsv")
    return _table(text, species, origin=f"the packaged {species}.tsv")


def read_markers(path: str | Path, species: str, *, alone: bool = True) -> MarkerTable:
    """The table of a user's file; a line that breaks the format is named with its column.

    Unless it stands `alone`, the rules of whole tables are left to whoever completes it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"The marker table {path} cannot be read: {exc}. Give a UTF-8 text file.") from exc
    table = _table(text, species, origin=str(path))
    if alone:
        _refuse_problems(table, path)
    return table


def _refuse_problems(table: MarkerTable, path: str | Path) -> None:
    problems = check_markers(table)
    if problems:
        raise InputError(f"The marker table {path} breaks a rule: {' '.join(problems[:5])}")


def user_markers(path: str | Path, species: str, *, only: bool = False) -> MarkerTable:
    """The packaged table with a user's types: a type of the same name takes the packaged one's place, others join.

    With `only` the user's types stand alone. The rules hold for the table that comes out.
    """
    own = read_markers(path, species, alone=only)
    if only:
        return own
    named = {node.name: node for node in own.types}
    packaged = load_markers(species)
    kept = [named.get(node.name, node) for node in packaged.types]
    joined = {node.name for node in kept}
    types = (*kept, *(node for node in own.types if node.name not in joined))
    table = MarkerTable(species, types, packaged.gene_ids | own.gene_ids)
    _refuse_problems(table, path)
    return table


def markers_from_rows(rows: Sequence[dict[str, Any]], species: str) -> MarkerTable:
    """The table that `as_rows` made."""
    return _with_ids(tuple(_type(row) for row in rows), species)


def known_tissue(table: MarkerTable, name: str) -> str:
    """The table's name of a tissue, whatever its case, hyphens and underscores; InputError if it has none."""
    tissues = sorted({tissue for node in table.types for tissue in node.tissues} - {"any"})
    wanted = re.sub(r"[\s_-]+", " ", name.strip().lower())
    if wanted not in tissues:
        raise InputError(f"--tissue '{name}' is not in the marker table. It knows: {', '.join(tissues)}.")
    return wanted


def check_markers(table: MarkerTable) -> list[str]:
    """What breaks the rules that concern the table as a whole, one sentence a problem; empty if all hold."""
    return [
        *_tree_problems(table.types),
        *_row_problems(table.types),
        *_shared_definitions(table.types),
    ]


def as_rows(table: MarkerTable) -> list[dict[str, Any]]:
    """The table as the array of row objects that `markers.schema.json` describes."""
    return [
        {
            "broad_cell_type": node.broad,
            "coarse_cell_type": node.coarse or "",
            "fine_cell_type": node.fine or "",
            "cell_type_ontology_term_id": node.ontology_id,
            "tissues": list(node.tissues),
            "life_stage": node.life_stage,
            "defining": list(node.defining),
            "supporting": list(node.supporting),
            "negative": list(node.negative),
            "source": node.source,
        }
        for node in table.types
    ]


def as_tsv(table: MarkerTable) -> str:
    """The table as the text of a file for `read_markers`."""
    lines = ["\t".join(COLUMNS)]
    for row in as_rows(table):
        cells = (SEPARATORS[name].join(row[name]) if name in SEPARATORS else row[name] for name in COLUMNS)
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def _genes(node: MarkerType) -> tuple[str, ...]:
    return node.defining + node.supporting + node.negative


def _packaged(name: str) -> str:
    return (files("cytonym") / "data" / "markers" / name).read_text(encoding="utf-8")


@cache
def _known_gene_ids(species: str) -> dict[str, str]:
    """Symbol -> Ensembl id of the packaged genes.tsv."""
    lines = (line.split("\t") for line in _packaged("genes.tsv").splitlines()[1:])
    return {gene: gene_id for of_species, gene, gene_id in lines if of_species == species}


def _table(text: str, species: str, *, origin: str) -> MarkerTable:
    return _with_ids(tuple(_type(row) for row in _rows(text, origin=origin)), species)


def _with_ids(types: tuple[MarkerType, ...], species: str) -> MarkerTable:
    used = {gene for node in types for gene in _genes(node)}
    known = _known_gene_ids(species)
    return MarkerTable(species, types, {gene: known[gene] for gene in sorted(used) if gene in known})


def _rows(text: str, *, origin: str) -> list[dict[str, Any]]:
    """The rows as objects with split lists, each checked against the schema."""
    lines = text.splitlines()
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise InputError(
            f"{origin}, line 1: the header is not the tab-separated columns {', '.join(COLUMNS)}. "
            "Start the file with that line."
        )
    schema = load_schema("markers.schema.json")
    validator = jsonschema.Draft202012Validator({**schema["items"], "$defs": schema["$defs"]})
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(COLUMNS):
            raise InputError(
                f"{origin}, line {number}, column {COLUMNS[min(len(cells), len(COLUMNS) - 1)]}: "
                f"{len(cells)} tab-separated fields instead of {len(COLUMNS)}."
            )
        row = {column: _split(column, cell) for column, cell in zip(COLUMNS, cells, strict=True)}
        error = jsonschema.exceptions.best_match(validator.iter_errors(row))
        if error is not None:
            column = str(error.absolute_path[0]) if error.absolute_path else "?"
            raise InputError(f"{origin}, line {number}, column {column}: {error.message}.")
        rows.append(row)
    if not rows:
        raise InputError(f"{origin} has a header but no cell type. Add one line per type.")
    return rows


def _split(column: str, cell: str) -> str | list[str]:
    if column not in SEPARATORS:
        return cell
    return cell.split(SEPARATORS[column]) if cell else []


def _type(row: dict[str, Any]) -> MarkerType:
    return MarkerType(
        broad=row["broad_cell_type"],
        coarse=row["coarse_cell_type"] or None,
        fine=row["fine_cell_type"] or None,
        ontology_id=row["cell_type_ontology_term_id"],
        tissues=tuple(row["tissues"]),
        life_stage=row["life_stage"],
        defining=tuple(row["defining"]),
        supporting=tuple(row["supporting"]),
        negative=tuple(row["negative"]),
        source=row["source"],
    )


def _tree_problems(types: Sequence[MarkerType]) -> Iterable[str]:
    """Names that stand twice, and children whose parent has no row above them."""
    paths: set[tuple[str, ...]] = set()
    names: set[str] = set()
    for node in types:
        if node.name in names:
            yield f"The name '{node.name}' stands in two rows."
        if len(node.path) > 1 and node.path[:-1] not in paths:
            yield f"'{node.name}' has no row of its parent '{node.parent}' above it."
        names.add(node.name)
        paths.add(node.path)


def _row_problems(types: Sequence[MarkerType]) -> Iterable[str]:
    """Too few or too many genes, a gene listed twice in a row, an ontology id that is none."""
    for node in types:
        if not ONTOLOGY_ID.fullmatch(node.ontology_id):
            yield f"'{node.name}' has the ontology id '{node.ontology_id}', which is not of the form CL:0000000."
        for column, (least, most) in GENE_COUNTS.items():
            n_genes = len(getattr(node, column))
            if not least <= n_genes <= most:
                yield f"'{node.name}' has {n_genes} {column} genes instead of {least} to {most}."
        genes = _genes(node)
        for gene in sorted({gene for gene in genes if genes.count(gene) > 1}):
            yield f"'{node.name}' lists {gene} more than once."


def _shared_definitions(types: Sequence[MarkerType]) -> Iterable[str]:
    """Genes that define two types of different coarse (or different broad) types."""
    defines: dict[str, list[MarkerType]] = {}
    for node in types:
        for gene in node.defining:
            defines.setdefault(gene, []).append(node)
    shared: dict[tuple[str, str], list[str]] = {}
    for gene, nodes in defines.items():
        for node, other in combinations(nodes, 2):
            if not _related(node, other):
                shared.setdefault((node.name, other.name), []).append(gene)
    for (name, other_name), genes in shared.items():
        yield (
            f"'{name}' and '{other_name}' are not related and both defined by {', '.join(genes)}. Let the genes "
            "support one of them, or name your type like the packaged one to take its place."
        )


def _related(node: MarkerType, other: MarkerType) -> bool:
    """Whether two types share their broad type and, if both have one, their coarse type."""
    depth = min(len(node.path), len(other.path), 2)
    return node.path[:depth] == other.path[:depth]
