"""Public, openly licensed sources that a reference can be built from on the user's machine, each by its name."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from ..download import download, repository_files
from ..errors import InputError, ModelError
from ..ontology_data import load_ontology
from ..progress import LOGGER
from ..types import Model
from .build import build_of, build_reference
from .labelled import LabelledInput
from .profile_library import ENDING, read_library
from .request import BuildRequest

DOWNLOADS = ".downloads"
LIBRARY = "https://api.github.com/repos/Nanostring-Biostats/CellProfileLibrary/contents"
LIBRARY_COMMIT = "9698cc40"
LIBRARY_CITATION = (
    "Danaher et al. 2022, Nature Communications 13:385 (SpatialDecon); the studies named in each file's metadata"
)
# not averages over a tissue's own cells, or too few of them
LEFT_OUT = ("Brain_Darmanis", "ImmuneTumor_safeTME", "Lung_COPD_Adams", "Lung_Control_Adams")


@dataclass(frozen=True)
class Recipe:
    """A source, and how it becomes a reference."""

    name: str
    title: str
    species: str
    tissue: str
    licence: str
    citation: str
    how: str  # for people
    listings: tuple[str, ...] = ()  # folders of the library; none: the user brings the file


def _library(species: str, *folders: str) -> Recipe:
    return Recipe(
        name=f"{species}_tissue_profiles",
        title=f"Whole-body average profiles ({species})",
        species=species,
        tissue="whole body",
        licence="CC BY 4.0",
        citation=LIBRARY_CITATION,
        how=(
            "Nanostring-Biostats/CellProfileLibrary on GitHub; downloaded, or --from a folder of its RData files, or "
            "an .h5ad of log1p averages with the columns cl_label, cl_id and study"
        ),
        listings=tuple(f"{LIBRARY}/{folder}?ref={LIBRARY_COMMIT}" for folder in folders),
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        _library("human", "Human/Adult"),
        _library("mouse", "Mouse/Adult", "Mouse/Neonatal"),
        Recipe(
            name="cellxgene_slice",
            title="A slice of the CELLxGENE Census",
            species="",
            tissue="",
            licence="CC BY 4.0",
            citation="CZI Cell Science Program 2025, Nucleic Acids Research 53:D886 (CELLxGENE); the data sets taken",
            how="--from the .h5ad that cellxgene_census.get_anndata() gives, or a dataset downloaded from CELLxGENE",
        ),
    )
}


def install_recipe(
    name: str, models_dir: Path, given: Path | None = None, *, listings: tuple[str, ...] | None = None
) -> Model:
    """The reference, built into the folder of models, from files given or downloaded."""
    if name not in RECIPES:
        raise ModelError(f"There is no recipe '{name}', only {', '.join(RECIPES)}. See 'cytonym reference recipes'.")
    recipe = RECIPES[name]
    request = BuildRequest(
        inputs=(),
        name=name,
        output=models_dir / name,
        species=recipe.species or None,
        tissue=recipe.tissue,
        title=recipe.title,
        licence=recipe.licence,
        citation=recipe.citation,
    )
    if request.output.exists():
        raise ModelError(f"{name} is installed in {models_dir} already. Remove it first: cytonym models remove {name}.")
    if not recipe.listings:
        if given is None:
            raise ModelError(f"{name} is built from a file of yours: {recipe.how}.")
        return build_reference(replace(request, inputs=(given,)))
    if given is not None and given.is_file() and given.suffix == ".h5ad":
        columns = replace(request, label_key="cl_label", ontology_key="cl_id", dataset_key="study")
        return build_reference(replace(columns, inputs=(given,), averages="log1p"))
    downloads = models_dir / DOWNLOADS / name
    folder = given if given is not None else _download(recipe.listings if listings is None else listings, downloads)
    model = _build_library(replace(request, averages="linear"), folder)
    shutil.rmtree(downloads, ignore_errors=True)
    return model


def _build_library(request: BuildRequest, folder: Path) -> Model:
    paths = sorted(path for path in folder.glob(f"*{ENDING}") if path.name.removesuffix(ENDING) not in LEFT_OUT)
    if not paths:
        raise InputError(f"{folder} holds no {ENDING} files of the profile library.")
    ontology = load_ontology()
    library: LabelledInput = read_library(paths, ontology)
    return build_of(request, [library], ontology)


def _download(listings: tuple[str, ...], folder: Path) -> Path:
    """All files of these listings in one folder."""
    files = [file for listing in listings for file in repository_files(listing, ENDING)]
    wanted = [file for file in files if file.name.removesuffix(ENDING) not in LEFT_OUT]
    LOGGER.info("%s files, %s MB", len(wanted), f"{sum(file.size for file in wanted) / 1e6:,.0f}")
    for file in wanted:
        download(file, folder)
    return folder
