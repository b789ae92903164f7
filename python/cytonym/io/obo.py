"""Ontology files: OBO text and obographs JSON, read for what names and orders cell types; packed with gzip or not.

Formats: OBO flat file 1.2 and 1.4; obographs. Only is_a makes a parent, in either.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..ontology import Ontology, Term

GZIP_MAGIC = b"\x1f\x8b"
REPLACED_BY = "http://purl.obolibrary.org/obo/IAO_0100001"  # the annotation "term replaced by"
IS_A = ("is_a", "http://www.w3.org/2000/01/rdf-schema#subClassOf")
_IRI = re.compile(r"https?://\S*[/#]([A-Za-z]+)_(\d+)")
_EXACT = re.compile(r'"((?:[^"\\]|\\.)*)"\s+EXACT\b')
_ESCAPED = re.compile(r"\\(.)")
_WANTED = "Give cl.obo, cl-basic.obo or cl.json of the Cell Ontology."


@dataclass
class _Stanza:
    """What a [Term] of an OBO file says, gathered line by line."""

    line: int
    tags: dict[str, list[str]] = field(default_factory=dict)

    def first(self, tag: str) -> str:
        return self.tags.get(tag, [""])[0]


def read_ontology(path: Path) -> Ontology:
    """The terms of that file; InputError if it is neither OBO nor obographs, or holds a term twice."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as exc:
        raise InputError(f"The ontology {path} cannot be read: {exc}. {_WANTED}") from exc
    terms = list(_of_obographs(text, path) if text.lstrip().startswith("{") else _of_obo(text, path))
    if not terms:
        raise InputError(f"The ontology {path} holds no term: it is neither OBO nor obographs JSON. {_WANTED}")
    return Ontology(terms)


def _of_obo(text: str, path: Path) -> Iterator[Term]:
    seen: dict[str, int] = {}
    for stanza in _stanzas(text):
        term_id = _without_comment(stanza.first("id"))
        if not term_id:
            raise InputError(f"The ontology {path}, line {stanza.line}: a [Term] without an id. {_WANTED}")
        if term_id in seen:
            raise InputError(f"The ontology {path}: {term_id} stands on line {seen[term_id]} and on {stanza.line}.")
        seen[term_id] = stanza.line
        exact = (_EXACT.match(value) for value in stanza.tags.get("synonym", ()))
        yield Term(
            id=term_id,
            name=_unescaped(stanza.first("name")),
            parents=tuple(_without_comment(value) for value in stanza.tags.get("is_a", ())),
            synonyms=tuple(_unescaped(found[1]) for found in exact if found),
            is_obsolete=_without_comment(stanza.first("is_obsolete")) == "true",
            replaced_by=_only(_without_comment(value) for value in stanza.tags.get("replaced_by", ())),
        )


def _stanzas(text: str) -> Iterator[_Stanza]:
    """The [Term] stanzas; other kinds, and the header, are passed over."""
    current: _Stanza | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            if current is not None:
                yield current
            current = _Stanza(number) if line.startswith("[Term]") else None
        elif current is not None and ":" in line and not line.startswith("!"):
            tag, _, value = line.partition(":")
            current.tags.setdefault(tag, []).append(value.strip())
    if current is not None:
        yield current


def _without_comment(value: str) -> str:
    """The id in front of what OBO lets follow it: qualifiers in braces, a comment after an exclamation mark."""
    return value.split("!")[0].split("{")[0].strip()


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _only(values: Iterable[str]) -> str:
    """The one value; "" where there are none or several: a choice among successors is not ours to make."""
    found = list(values)
    return found[0] if len(found) == 1 else ""


def _of_obographs(text: str, path: Path) -> Iterator[Term]:
    try:
        graphs = json.loads(text)["graphs"]
        parents: dict[str, list[str]] = {}
        for edge in (edge for graph in graphs for edge in graph.get("edges", ())):
            if edge["pred"] in IS_A:
                parents.setdefault(_short(edge["sub"]), []).append(_short(edge["obj"]))
        nodes = {_short(node["id"]): node for graph in graphs for node in graph.get("nodes", ()) if node.get("lbl")}
        yield from (_of_node(term_id, node, tuple(parents.get(term_id, ()))) for term_id, node in nodes.items())
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InputError(f"The ontology {path} is no obographs JSON ({exc!r}). {_WANTED}") from exc


def _of_node(term_id: str, node: dict[str, Any], parents: tuple[str, ...]) -> Term:
    meta = node.get("meta", {})
    values = (value for value in meta.get("basicPropertyValues", ()) if value["pred"] == REPLACED_BY)
    return Term(
        id=term_id,
        name=node["lbl"],
        parents=parents,
        synonyms=tuple(s["val"] for s in meta.get("synonyms", ()) if s["pred"] == "hasExactSynonym"),
        is_obsolete=bool(meta.get("deprecated", False)),
        replaced_by=_only(_short(value["val"]) for value in values),
    )


def _short(iri: str) -> str:
    """CL:0000084 of http://purl.obolibrary.org/obo/CL_0000084; what is short already stays."""
    found = _IRI.fullmatch(iri)
    return f"{found[1]}:{found[2]}" if found else iri
