"""The genes that all inputs have in common, by id or by symbol, and the species they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..errors import GenomeMismatch, InputError
from ..genomes import ID_PREFIXES, infer_species
from ..matrix import Features
from .labelled import LabelledInput

NOWHERE = -1
FEWEST_GENES = 200
MANY_LOST = 0.2  # share of the largest file's genes from which on the loss is told


@dataclass(frozen=True)
class CommonGenes:
    """The genes of the reference, in the order of the first input."""

    features: Features  # ids without versions, and symbols; each known from whichever input has it
    places: tuple[np.ndarray, ...]  # of each input: (n_features,) int32, gene of the reference or NOWHERE
    joined_by: str  # "gene ids" or "gene symbols"
    notes: tuple[str, ...] = ()

    def take(self, cells: sp.csr_matrix, number: int) -> sp.csr_matrix:
        """The cells of that input over the common genes, sorted; features of one name are added up."""
        place = self.places[number][cells.indices]
        kept = place != NOWHERE
        indptr = np.concatenate(([0], np.cumsum(kept)))[cells.indptr]
        shape = (cells.shape[0], len(self.features))
        taken = sp.csr_matrix((cells.data[kept], place[kept], indptr), shape=shape)
        taken.sum_duplicates()
        return taken


def common_genes(inputs: Sequence[LabelledInput]) -> CommonGenes:
    """By ids or by symbols, whichever finds more; InputError if there are hardly any."""
    by_id = _shared([_ids(one.features) for one in inputs])
    by_symbol = _shared([_symbols(one.features) for one in inputs])
    use_ids = len(by_id) >= len(by_symbol)
    shared, names_of = (by_id, _ids) if use_ids else (by_symbol, _symbols)
    joined_by = "gene ids" if use_ids else "gene symbols"
    if len(shared) < (FEWEST_GENES if len(inputs) > 1 else 1):
        raise InputError(_hardly_any(inputs, len(shared)))
    place_of = {name: place for place, name in enumerate(shared)}
    places = tuple(
        np.array([place_of.get(name, NOWHERE) for name in names_of(one.features)], dtype=np.int32) for one in inputs
    )
    features = Features(
        _best_known(shared, places, [_ids(one.features) for one in inputs], _is_ensembl),
        _best_known(shared, places, [_symbols(one.features) for one in inputs], lambda name: not _is_ensembl(name)),
    )
    return CommonGenes(features, places, joined_by, _notes(inputs, len(shared), joined_by))


def species_of(inputs: Sequence[LabelledInput], requested: str | None) -> str:
    """The requested species, else the one that all files' genes speak of; GenomeMismatch if they do not agree."""
    if requested is not None:
        return requested
    found = {one.path: infer_species(one.features)[0] for one in inputs}
    unknown = next((path for path, species in found.items() if species is None), None)
    if unknown is not None:
        raise GenomeMismatch(
            f"The species of {unknown} cannot be told by its gene ids and symbols. Name it: --species human or mouse."
        )
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path.name} {species}" for path, species in found.items())
        raise GenomeMismatch(f"The inputs are of two species: {told}. Build one reference for each.")
    return str(next(iter(found.values())))


def _ids(features: Features) -> list[str]:
    """Without versions; what is no Ensembl id stays."""
    return [_without_version(gene_id) for gene_id in features.ids.tolist()]


def _without_version(gene_id: str) -> str:
    stem, dot, version = gene_id.rpartition(".")
    return stem if dot and version.isdigit() and _is_ensembl(stem) else gene_id


def _symbols(features: Features) -> list[str]:
    return list(features.names.tolist())


def _is_ensembl(name: str) -> bool:
    return any(shape.match(name) for shape in ID_PREFIXES.values())


def _shared(names: Sequence[list[str]]) -> list[str]:
    """Names in all lists, in the order of the first, each once."""
    others = set(names[0]).intersection(*map(set, names[1:]))
    return [name for name in dict.fromkeys(names[0]) if name in others]


def _best_known(
    shared: list[str], places: Sequence[np.ndarray], names: Sequence[list[str]], good: Callable[[str], bool]
) -> np.ndarray:
    """Of each gene the first good name that an input has for it; else the first of any kind."""
    found: list[str] = [""] * len(shared)
    for place, of_input in zip(places, names, strict=True):
        for gene, name in zip(place.tolist(), of_input, strict=True):
            if gene != NOWHERE and name and (not found[gene] or (good(name) and not good(found[gene]))):
                found[gene] = name
    return np.array([name or instead for name, instead in zip(found, shared, strict=True)], dtype=str)


def _hardly_any(inputs: Sequence[LabelledInput], n_shared: int) -> str:
    fewest = min(inputs, key=lambda one: len(one.features))
    examples = ", ".join(f"{one.path.name}: {one.features.ids[0]} ({one.features.names[0]})" for one in inputs[:3])
    return (
        f"The inputs have {n_shared} genes in common, at least {FEWEST_GENES} are needed; {fewest.path.name} has the "
        f"fewest, {len(fewest.features)}. First features: {examples}. Leave out the file that differs, or build one "
        "reference for each."
    )


def _notes(inputs: Sequence[LabelledInput], n_shared: int, joined_by: str) -> tuple[str, ...]:
    if len(inputs) < 2:
        return ()
    largest = max(len(one.features) for one in inputs)
    fewest = min(inputs, key=lambda one: len(one.features))
    note = f"{n_shared:,} genes are in all {len(inputs)} inputs, joined by {joined_by}"
    if n_shared < (1 - MANY_LOST) * largest:
        note += f"; the largest has {largest:,}, {fewest.path.name} has the fewest, {len(fewest.features):,}"
    return (f"{note}.",)
