"""What the labels mean: their Cell Ontology terms, by id column, by the user's map, or by name; never by guess.

A label that no rule gives a term stays a label without ancestors. For those, suggestions are made for the user to
confirm: `suggestions` gives a table that, checked by a person, is an --ontology-map.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.coded import CodedColumn
from ..levels import common_ancestor
from ..ontology import Ontology
from .labelled import LabelledInput

ONTOLOGY_ID = re.compile(r"CL:[0-9]{7}")
MAP_COLUMNS = ("label", "cl_id")
DATASET_COLUMN = "dataset"
SUGGESTION_COLUMNS = (*MAP_COLUMNS, "name", "others")
MOST_SUGGESTIONS = 4
ALIKE = 0.6  # similarity of names from which on one is suggested
# spellings of label tables that are read as the ontology's words; for suggestions alone
SPELLED_OUT = {
    "nk": "natural killer",
    "mono": "monocyte",
    "monocytes": "monocyte",
    "mac": "macrophage",
    "dc": "dendritic cell",
    "cdc": "conventional dendritic cell",
    "pdc": "plasmacytoid dendritic cell",
    "treg": "regulatory t cell",
    "hsc": "hematopoietic stem cell",
    "opc": "oligodendrocyte precursor cell",
    "endo": "endothelial",
    "epi": "epithelial",
    "fibro": "fibroblast",
    "smc": "smooth muscle cell",
    "rbc": "erythrocyte",
    "oligo": "oligodendrocyte",
    "astro": "astrocyte",
    "macro": "macrophage",
}


@dataclass(frozen=True)
class LabelTerm:
    """One label of one input: its term, and how that was found."""

    label: str
    term_id: str = ""
    found_by: str = ""  # "id column", "map", "name", or "" where there is none


@dataclass(frozen=True)
class OntologyMap:
    """The user's map; a row with a data set wins over one without."""

    rows: Mapping[tuple[str, str], str]  # (label, data set or "") -> term, "" for none

    def get(self, label: str, dataset: str) -> str | None:
        return self.rows.get((label, dataset), self.rows.get((label, "")))


def read_map(path: Path, ontology: Ontology) -> OntologyMap:
    """A TSV with the columns label, cl_id and, if wanted, dataset; InputError that names a bad line."""
    try:
        lines = list(
            csv.reader(
                path.read_text(encoding="utf-8-sig").splitlines(),
                delimiter="\t",
                quotechar=None,
                quoting=csv.QUOTE_NONE,
            )
        )
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InputError(f"The ontology map {path} cannot be read: {exc}. Give a tab-separated UTF-8 file.") from exc
    header = lines[0] if lines else []
    missing = [name for name in MAP_COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"The ontology map {path}, line 1, has no column {' and no column '.join(missing)}. The header is "
            f"tab-separated: {', '.join(MAP_COLUMNS)} and, if wanted, {DATASET_COLUMN}."
        )
    rows: dict[tuple[str, str], str] = {}
    for number, cells in enumerate(lines[1:], start=2):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        if not any(row.values()):
            continue
        key = row.get("label", ""), row.get(DATASET_COLUMN, "")
        term_id = row.get("cl_id", "")
        if term_id and not ONTOLOGY_ID.fullmatch(term_id):
            raise InputError(f"The ontology map {path}, line {number}: '{term_id}' is not of the form CL:0000000.")
        if rows.get(key, term_id) != term_id:
            raise InputError(f"The ontology map {path}, line {number}: '{key[0]}' has another term above.")
        rows[key] = ontology.current(term_id)
    return OntologyMap(rows)


def label_terms(
    found: LabelledInput, ontology: Ontology, given: OntologyMap | None, names: Mapping[str, str]
) -> list[LabelTerm]:
    """The term of each of the input's label values, in their order: by the map, else the id column, else the name."""
    of_ids = _terms_by_column(found.labels, found.ontology_ids, ontology)
    terms = []
    for label, by_column in zip(found.labels.values.tolist(), of_ids, strict=True):
        mapped = given.get(label, found.dataset) if given is not None else None
        named = names.get(folded(label), "")
        if mapped is not None:
            terms.append(LabelTerm(label, mapped, "map"))
        elif by_column:
            terms.append(LabelTerm(label, by_column, "id column"))
        else:
            terms.append(LabelTerm(label, named, "name" if named else ""))
    return terms


def _terms_by_column(labels: CodedColumn, ids: CodedColumn | None, ontology: Ontology) -> list[str]:
    """The id that goes with each label; of several the deepest term above all of them."""
    if ids is None:
        return [""] * len(labels.values)
    both = (labels.codes >= 0) & (ids.codes >= 0)
    pairs = np.unique(np.column_stack([labels.codes[both], ids.codes[both]]), axis=0)
    met: list[set[str]] = [set() for _ in labels.values]
    for label, code in pairs.tolist():
        term_id = str(ids.values[code]).replace("_", ":")
        if ONTOLOGY_ID.fullmatch(term_id):
            met[label].add(ontology.current(term_id))
    return [common_ancestor(sorted(terms), ontology) if terms else "" for terms in met]


def folded(name: str) -> str:
    """Letter case, blanks, underscores and hyphens do not tell names apart; anything else does."""
    return re.sub(r"[\s_-]+", " ", name.strip().casefold())


def names_of(ontology: Ontology) -> dict[str, str]:
    """Folded name or exact synonym -> current term. A synonym of two terms names neither, a name wins over it."""
    named = {folded(term.name): ontology.current(term.id) for term in ontology if not term.is_obsolete}
    met: dict[str, set[str]] = {}
    for term in ontology:
        for synonym in () if term.is_obsolete else term.synonyms:
            met.setdefault(folded(synonym), set()).add(term.id)
    return {name: next(iter(terms)) for name, terms in met.items() if len(terms) == 1} | named


def suggestions(
    terms: Iterable[LabelTerm], names: Mapping[str, str], ontology: Ontology
) -> list[tuple[str, str, str, str]]:
    """Rows of SUGGESTION_COLUMNS for the labels without a term: the likeliest terms, for a person to judge."""
    rows = []
    for label in sorted({term.label for term in terms if not term.term_id and term.found_by != "map"}):
        likely = _alike(label, names)
        told = [f"{term_id} {ontology[term_id].name}" for term_id in likely]
        rows.append(
            (label, likely[0] if likely else "", told[0].partition(" ")[2] if told else "", "; ".join(told[1:]))
        )
    return rows


def _alike(label: str, names: Mapping[str, str]) -> list[str]:
    """Terms of the names most like the label, the likeliest first, each once."""
    words = [SPELLED_OUT.get(word, word) for word in re.split(r"[^a-z0-9]+", label.casefold()) if word]
    wanted = " ".join(_singular(word) for word in " ".join(words).split())
    tried = [wanted, f"{wanted} cell"] if "cell" not in wanted.split() else [wanted]
    scored: dict[str, float] = {}
    for name, term_id in names.items():
        score = max(_similarity(text, name) for text in tried)
        if score >= ALIKE and score > scored.get(term_id, 0):
            scored[term_id] = score
    return sorted(scored, key=lambda term_id: (-scored[term_id], term_id))[:MOST_SUGGESTIONS]


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _similarity(text: str, name: str) -> float:
    """Shared words weigh as much as shared letters."""
    ours, theirs = set(text.split()), set(re.split(r"[^a-z0-9]+", name)) - {""}
    if not (ours & theirs) - {"cell"}:
        return 0.0
    by_words = 2 * len(ours & theirs) / (len(ours) + len(theirs))
    return 0.5 * by_words + 0.5 * difflib.SequenceMatcher(None, text, name, autojunk=False).ratio()


def suggestions_tsv(rows: Sequence[tuple[str, str, str, str]]) -> str:
    """The table as the text of a file that `read_map` takes."""
    return "\n".join(["\t".join(SUGGESTION_COLUMNS), *("\t".join(row) for row in rows)]) + "\n"
