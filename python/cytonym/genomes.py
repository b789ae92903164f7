"""Which species a sample is of: by the name of its genome, else by its feature ids and symbols."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from .errors import GenomeMismatch
from .matrix import Features
from .types import Alert

# parts of genome names, as in "GRCh38-2024-A_and_EGFP"
GENOME_NAMES = {
    "human": ("GRCh38", "GRCh37", "hg38", "hg19", "human", "Homo_sapiens"),
    "mouse": ("GRCm39", "GRCm38", "mm39", "mm10", "mouse", "Mus_musculus"),
}
ID_PREFIXES = {"human": re.compile(r"ENSG\d{6,}"), "mouse": re.compile(r"ENSMUSG\d{6,}")}
SYMBOL_SHAPES = {"human": re.compile(r"[A-Z][A-Z0-9.\-]{2,}"), "mouse": re.compile(r"[A-Z][a-z0-9.\-]{2,}")}
AGREEING = 0.8  # share of the telling ids or symbols that must speak for one species
FEWEST = 5  # telling ids or symbols


def species_of_genome(name: str) -> str | None:
    """The species of a genome of that name; None if the name says nothing, or names two species."""
    found = [species for species, parts in GENOME_NAMES.items() if any(p.lower() in name.lower() for p in parts)]
    return found[0] if len(found) == 1 else None


def resolve_species(
    genomes: tuple[str, ...], features: Features, requested: str | None, path: Path
) -> tuple[str, str, tuple[Alert, ...]]:
    """Genome, species, and what a reader should know about how they were found.

    `requested` (`--genome`) wins over the file. Raises GenomeMismatch for two genomes, for a requested name of no
    known species, and where neither name nor features tell the species.
    """
    if len(genomes) > 1:
        raise GenomeMismatch(
            f"{path} holds more than one genome ({', '.join(genomes)}). Multi-genome samples are not supported: "
            "give the matrix of one genome."
        )
    if requested is not None:
        species = species_of_genome(requested)
        if species is None:
            raise GenomeMismatch(
                f"--genome {requested} is of no species that cytonym knows. Name one of "
                f"{', '.join(GENOME_NAMES['human'][:4] + GENOME_NAMES['mouse'][:4])}."
            )
        return requested, species, ()
    genome = genomes[0] if genomes else ""
    species = species_of_genome(genome)
    if species is not None:
        return genome, species, ()
    species, how = infer_species(features)
    said = f"says its genome is '{genome}'" if genome else "names no genome"
    if species is None:
        raise GenomeMismatch(
            f"The species of {path} cannot be told: it {said}, and its feature ids and names look neither human nor "
            "mouse. Name it with --genome, e.g. --genome GRCh38."
        )
    message = f"The matrix {said}; it is taken as {species} by {how}. Use --genome if that is wrong."
    return genome, species, (Alert("WARN", "Species inferred", message),)


def infer_species(features: Features) -> tuple[str | None, str]:
    """Species by Ensembl id prefixes, else by the casing of the symbols; None if neither tells."""
    for values, shapes, how in (
        (features.ids, ID_PREFIXES, "its Ensembl ids"),
        (features.names, SYMBOL_SHAPES, "the casing of its gene symbols"),
    ):
        counts = {
            species: sum(bool(shape.fullmatch(v.split(".")[0])) for v in np.asarray(values))
            for species, shape in shapes.items()
        }
        telling = sum(counts.values())
        best = max(counts, key=lambda species: counts[species])
        if counts[best] >= FEWEST and counts[best] >= AGREEING * telling:
            return best, how
    return None, ""
