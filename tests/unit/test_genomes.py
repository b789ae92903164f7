"""The species comes from the genome's name, else from ids and symbols, else there is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytonym.errors import GenomeMismatch
from cytonym.genomes import resolve_species, species_of_genome
from cytonym.matrix import Features

PATH = Path("m.h5")


def features(ids: list[str], names: list[str] | None = None) -> Features:
    return Features(np.array(ids), np.array(names or ids))


HUMAN = features([f"ENSG{i:011d}" for i in range(9)], [f"GENE{i}" for i in range(9)])
MOUSE_SYMBOLS = features(["Cd3e", "Ms4a1", "Lyz2", "Gad1", "Aqp4", "Mbp"])


@pytest.mark.parametrize(
    ("name", "species"),
    [
        ("GRCh38", "human"),
        ("GRCh38-2024-A_and_EGFP", "human"),
        ("hg19", "human"),
        ("hg38", "human"),
        ("GRCh37", "human"),
        ("mm10", "mouse"),
        ("GRCm39", "mouse"),
        ("GRCm38", "mouse"),
        ("GRCh38_and_mm10", None),
        ("Unknown", None),
        ("", None),
    ],
)
def test_species_of_genome_names(name, species):
    """Part of the name is enough; two species in one name tell nothing."""
    assert species_of_genome(name) == species


def test_unknown_genome_is_inferred_with_a_warning():
    """The Xenium panel says 'Unknown': its Ensembl ids tell."""
    genome, species, alerts = resolve_species(("Unknown",), HUMAN, None, PATH)
    assert (genome, species) == ("Unknown", "human")
    assert alerts[0].level == "WARN"
    assert "says its genome is 'Unknown'; it is taken as human by its Ensembl ids" in alerts[0].message


def test_symbol_casing_tells_where_there_are_no_ids():
    """Mouse symbols are in title case."""
    assert resolve_species((), MOUSE_SYMBOLS, None, PATH)[1] == "mouse"


def test_the_user_settles_it():
    """--genome wins over what the features look like, and needs no warning."""
    assert resolve_species(("Unknown",), HUMAN, "GRCm39", PATH) == ("GRCm39", "mouse", ())


@pytest.mark.parametrize(
    ("genomes", "table", "requested", "message"),
    [
        (("GRCh38", "mm10"), HUMAN, None, r"more than one genome \(GRCh38, mm10\)"),
        ((), features(["a1", "b2"]), None, "cannot be told: it names no genome"),
        (("custom",), features(["a1", "b2"]), None, "it says its genome is 'custom'"),
        ((), HUMAN, "dm6", "--genome dm6 is of no species"),
    ],
)
def test_what_cannot_be_settled_is_an_error(genomes, table, requested, message):
    """The message says what to do."""
    with pytest.raises(GenomeMismatch, match=message):
        resolve_species(genomes, table, requested, PATH)
