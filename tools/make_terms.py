"""Makes python/cytonym/data/ontology/terms.tsv of a Cell Ontology file: `python tools/make_terms.py OBO [TARGET]`.

Facts alone are taken: ids, names, parents by is_a, and the successor of an obsolete term. No definitions, no synonyms.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from cytonym.io.obo import read_ontology
from cytonym.ontology_data import TERM_COLUMNS

TARGET = Path(__file__).parents[1] / "python" / "cytonym" / "data" / "ontology" / "terms.tsv"
PREFIX = "CL:"


def main(source: Path, target: Path) -> None:
    said = re.search(r"^data-version: (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)
    notice = (
        f"# Terms of the Cell Ontology ({said[1] if said else source.name}), obophenotype/cell-ontology, CC BY 4.0, "
        "https://creativecommons.org/licenses/by/4.0/. Reduced to ids, names, is_a parents and successors."
    )
    lines = [notice, "\t".join(TERM_COLUMNS)]
    ontology = read_ontology(source)
    current = {term.id for term in ontology if term.id.startswith(PREFIX) and not term.is_obsolete}
    for term in sorted(ontology, key=lambda term: term.id):
        successor = ontology.current(term.id)
        if successor in current:
            parents = sorted(current.intersection(term.parents))
            lines.append("\t".join((term.id, term.name, "|".join(parents), "" if successor == term.id else successor)))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else TARGET)
