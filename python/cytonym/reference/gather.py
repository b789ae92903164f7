"""From labelled files to what a model is learnt from: types, and a bounded choice of their cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..levels import read_levels
from ..markers import SPECIES, load_markers
from ..matrix import Features
from ..ontology import Ontology
from ..ontology_data import load_levels
from ..progress import LOGGER
from ..reference_model.drawn import drawn_training_set
from ..reference_model.training import TrainingSet
from .averages import (
    MOST_ROWS,
    is_table,
    linear_averages,
    looks_like_averages,
    read_average_table,
    with_unmeasured_filled,
)
from .genes import CommonGenes, common_genes, species_of
from .labelled import LabelledInput, open_labelled
from .labels import LabelTerm, folded, label_terms, names_of, read_map
from .request import BuildRequest
from .sample import MOST_VECTORS, cells_per_type, gathered, row_keys, spread_rows, with_lowest_keys
from .types import DROPPED, TypeTable, type_table
from .unlog import HOW


@dataclass(frozen=True)
class Learnt:
    """What a reference is made of, before it is written."""

    inputs: Sequence[LabelledInput]
    terms: Sequence[Sequence[LabelTerm]]
    genes: CommonGenes
    table: TypeTable
    training: TrainingSet
    compared: Sequence[np.ndarray]  # of each input the rows that a sample's cells are compared with
    averages: bool
    notes: tuple[str, ...]


def gather(request: BuildRequest, inputs: Sequence[LabelledInput], ontology: Ontology) -> Learnt:
    """All that the model is learnt from; one pass over the labels, then one over the chosen cells."""
    averages = _are_averages(inputs, request)
    levels = read_levels(request.levels) if request.levels else load_levels()
    given = read_map(request.ontology_map, ontology) if request.ontology_map else None
    names = known_names(ontology)
    terms = [label_terms(one, ontology, given, names) for one in inputs]
    genes, species = common_genes(inputs), species_of(inputs, request.species)
    pool = request.few_cells == "pool"
    table = type_table(inputs, terms, ontology, levels, pool=pool, **({"fewest": 1} if averages else {}))
    _tell(inputs, table, genes)
    draw = _drawn if averages else _sampled
    training, compared = draw(inputs, genes, table, species, request)
    return Learnt(inputs, terms, genes, table, training, compared, averages, _notes(inputs, genes))


def open_inputs(request: BuildRequest, scratch: Path) -> list[LabelledInput]:
    """Text tables are averages; all else is opened as cells. What must be converted first goes to `scratch`."""
    missing = next((path for path in request.inputs if not path.exists()), None)
    if missing is not None:
        raise InputError(f"{missing} does not exist.")
    tables = [path for path in request.inputs if is_table(path)]
    if tables and len(tables) < len(request.inputs):
        raise InputError(f"{tables[0]} is a table of averages, and other inputs are not. Build one reference for each.")
    return [read_average_table(path) for path in tables] if tables else open_labelled(request, scratch)


def _are_averages(inputs: Sequence[LabelledInput], request: BuildRequest) -> bool:
    """Whether rows are averages of types: as the user said, else as all inputs look."""
    if request.averages is not None:
        return True
    look = [one.format == "table of averages" or looks_like_averages(one) for one in inputs]
    if all(look):
        return True
    for one, is_average in zip(inputs, look, strict=True):
        if is_average:
            raise InputError(f"{one.path} looks like averages of types, and other inputs do not. Build one for each.")
        if one.fractional and one.unlog is None:
            raise InputError(
                f"{one.path} holds values from which counts cannot be won back: they are neither counts scaled per "
                f"cell nor the logs of such. {HOW} Where rows are averages of types, give --averages."
            )
    return False


def known_names(ontology: Ontology) -> dict[str, str]:
    """The ontology's names and exact synonyms, and before them those of the marker tables, which are ours."""
    ours = {folded(node.name): node.ontology_id for species in SPECIES for node in load_markers(species).types}
    return {name: term for name, term in ours.items() if term in ontology} | names_of(ontology)


def _sampled(
    inputs: Sequence[LabelledInput], genes: CommonGenes, table: TypeTable, species: str, request: BuildRequest
) -> tuple[TrainingSet, list[np.ndarray]]:
    """Cells of each type to learn from, spread over data sets and donors; rows of these and more to compare with."""
    types = np.concatenate([table.codes(inputs, number) for number in range(len(inputs))])
    groups = _group_codes(inputs)
    keys = np.concatenate([row_keys(one.n_cells, number, request.seed) for number, one in enumerate(inputs)])
    chosen = spread_rows(types, groups, keys, cells_per_type(len(table.types)))
    training = TrainingSet(
        features=genes.features,
        counts=gathered(inputs, _of_each(inputs, chosen), genes),
        types=table.types,
        type_codes=types[chosen],
        group_codes=groups[chosen],
        species=species,
    )
    return training, _of_each(inputs, with_lowest_keys(chosen, types, keys, MOST_VECTORS))


def _of_each(inputs: Sequence[LabelledInput], rows: np.ndarray) -> list[np.ndarray]:
    """Rows of all inputs together, rising, as rows of each."""
    bounds = np.cumsum([0, *(one.n_cells for one in inputs)])
    return [rows[np.searchsorted(rows, a) : np.searchsorted(rows, b)] - a for a, b in itertools.pairwise(bounds)]


def _group_codes(inputs: Sequence[LabelledInput]) -> np.ndarray:
    """Of all inputs' cells, one input after the other, the code of their data set and donor."""
    place_of: dict[tuple[str, str], int] = {}
    found = []
    for one in inputs:
        n_donors = len(one.donors.values) + 1
        pairs, codes = np.unique(one.datasets.codes.astype(np.int64) * n_donors + one.donors.codes, return_inverse=True)
        place = []
        for pair in pairs.tolist():
            dataset, donor = divmod(pair + 1, n_donors)  # a missing donor has the code -1
            of_dataset = str(one.datasets.values[dataset]) if dataset >= 0 else one.dataset
            of_donor = str(one.donors.values[donor - 1]) if donor else ""
            place.append(place_of.setdefault((of_dataset, of_donor), len(place_of)))
        found.append(np.array(place, dtype=np.int32)[codes])
    return np.concatenate(found)


def _drawn(
    inputs: Sequence[LabelledInput], genes: CommonGenes, table: TypeTable, species: str, request: BuildRequest
) -> tuple[TrainingSet, list[np.ndarray]]:
    """Cells drawn from the averages, and the row that each was drawn from."""
    shares, types, studies, rows = [], [], [], []
    for number, one in enumerate(inputs):
        of_input = linear_averages(one, request.averages or "auto")
        place = genes.places[number]
        common = np.zeros((len(of_input), len(genes.features)))
        np.add.at(common.T, place[place >= 0], of_input.T[place >= 0])
        codes = table.codes(inputs, number)
        shares.append(common[codes >= 0])
        types.append(codes[codes >= 0])
        studies.append(one.datasets.codes[codes >= 0] + MOST_ROWS * number)
        rows.append(np.flatnonzero(codes >= 0))
    filled, kept = with_unmeasured_filled(np.concatenate(shares), np.concatenate(studies))
    features = Features(genes.features.ids[kept], genes.features.names[kept])
    of_rows = np.concatenate(types)
    training = drawn_training_set(filled, of_rows, features, table.types, species=species, seed=request.seed)
    ends = np.cumsum([len(of_input) for of_input in rows])
    of_cells = np.searchsorted(ends, training.group_codes, side="right")
    drawn_from = np.concatenate(rows)[training.group_codes]
    return training, [drawn_from[of_cells == number] for number in range(len(inputs))]


def _tell(inputs: Sequence[LabelledInput], table: TypeTable, genes: CommonGenes) -> None:
    n_cells = sum(one.n_cells for one in inputs)
    n_labelled = sum(kind.n_cells for kind in table.types)
    LOGGER.info("%s of %s cells have one of %s labels", f"{n_labelled:,}", f"{n_cells:,}", len(table.types))
    for note in _notes(inputs, genes):
        LOGGER.info(note)
    for few in table.few:
        became = "dropped" if few.became == DROPPED else f"pooled with '{few.became}'"
        LOGGER.warning("'%s' has %s cells, too few to learn: %s", few.label, few.n_cells, became)


def _notes(inputs: Sequence[LabelledInput], genes: CommonGenes) -> tuple[str, ...]:
    unlogged = tuple(
        f"{one.path.name}: its values are {one.unlog.name}; the counts were won back from them."
        for one in inputs
        if one.unlog is not None
    )
    return (*(note for one in inputs for note in one.notes), *unlogged, *genes.notes)
