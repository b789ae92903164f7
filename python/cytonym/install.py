"""Makes an installed model of published files, given or downloaded: checked, and converted to plain arrays."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from .azimuth.graph import Graph
from .azimuth.published import (
    DOI,
    LICENCE,
    NEWEST_VERSION,
    RECORD,
    TABLES_PACKAGE,
    WEIGHTS_NAME,
    WIDTHS,
    known_as,
)
from .azimuth.stored import AzimuthModel, model_arrays, model_meta
from .azimuth.tables import check_network, embedding_size
from .backends.azimuth import COLUMNS
from .download import download, download_wheel, record_file
from .errors import ModelError
from .io.azimuth_tables import TablesFolder, checksums, find_tables, read_tables
from .io.bundle import check_bundle
from .io.keras_zip import read_bytes, read_keras_graph
from .io.model_store import copy_model, install_model, installed_model
from .models import AZIMUTH
from .progress import LOGGER
from .types import Model, ModelCard, SourceFile

DOWNLOADS = ".downloads"


@dataclass(frozen=True)
class InstallRequest:
    """What `cytonym models install` was asked for; what is not given is downloaded."""

    name: str
    models_dir: Path
    weights: Path | None = None
    tables: Path | None = None
    version: str | None = None  # of the model, e.g. "v1"
    record_url: str = RECORD


def install(request: InstallRequest) -> Model:
    """The model, installed: whole or not at all. Raises ModelError for files that cannot be used."""
    if request.name != AZIMUTH:
        raise ModelError(
            f"'{request.name}' cannot be installed. What can: {AZIMUTH}, or the folder of a reference that 'cytonym "
            "reference build' made."
        )
    downloads = request.models_dir / DOWNLOADS
    weights = request.weights or _download_weights(request, downloads)
    data = read_bytes(weights)
    network = read_keras_graph(data, str(weights))
    tables_path = request.tables or _download_tables(downloads)
    folder = _tables_of(find_tables(tables_path), network.width, request.version)
    version = request.version or folder.version or WIDTHS.get(network.width)
    if version is None:
        raise ModelError(f"{weights} takes {network.width} genes, as no known version does. Name it: --model-version.")
    tables = read_tables(folder)
    try:
        check_network(network, tables)
    except ModelError as exc:
        raise ModelError(f"{weights} does not go with {folder.where}. {exc}") from exc
    sources = _sources(weights, data, folder)
    model = AzimuthModel(network, tables)
    install_model(request.models_dir, _card(version, network, sources), model_meta(model), model_arrays(model))
    shutil.rmtree(downloads, ignore_errors=True)
    return installed_model(request.models_dir, AZIMUTH)


def install_bundle(folder: Path, models_dir: Path) -> Model:
    """A reference, copied to the folder of models after every file was checked; from then on its name works."""
    return copy_model(check_bundle(folder), models_dir)


def _download_weights(request: InstallRequest, downloads: Path) -> Path:
    remote = record_file(request.record_url, WEIGHTS_NAME.format(request.version or NEWEST_VERSION))
    LOGGER.info("%s, %s MB, from the record of DOI %s", remote.name, f"{remote.size / 1e6:,.0f}", DOI)
    return download(remote, downloads)


def _download_tables(downloads: Path) -> Path:
    LOGGER.info("%s, by pip", TABLES_PACKAGE)
    return download_wheel(TABLES_PACKAGE, downloads)


def _tables_of(folders: list[TablesFolder], width: int, version: str | None) -> TablesFolder:
    """The named version's tables; else those whose panel is as long as the network's input is wide."""
    if version is not None:
        named = [folder for folder in folders if folder.version in (version, "")]
        if not named:
            found = ", ".join(folder.version for folder in folders)
            raise ModelError(f"{folders[0].where} holds no tables of version {version}, only of {found}.")
        return named[-1]
    lengths = {folder.where: len(folder.panel()) for folder in folders}
    fitting = [folder for folder in folders if lengths[folder.where] == width]
    if not fitting:
        found = ", ".join(f"{where} with {length}" for where, length in lengths.items())
        raise ModelError(f"The weights take {width} genes, and no gene panel has as many: {found}.")
    return fitting[-1]


def _sources(weights: Path, data: bytes, folder: TablesFolder) -> tuple[SourceFile, ...]:
    found = {weights.name: hashlib.sha256(data).hexdigest(), **checksums(folder)}
    return tuple(SourceFile(name, sha256, known_as(sha256)) for name, sha256 in found.items())


def _card(version: str, network: Graph, sources: tuple[SourceFile, ...]) -> ModelCard:
    return ModelCard(
        name=AZIMUTH,
        backend="azimuth",
        folder="Azimuth",
        title="Pan-Human Azimuth",
        species=("human",),
        version=version,
        licence=LICENCE,
        description=(
            "Names cells of any human tissue by a neural network of the Satija Lab, at several levels of detail. "
            "Runs offline."
        ),
        reliability=(
            "Its confidence is the network's probability of the deepest level given, calibrated by its makers. "
            "How far that holds for segmented cells of a tissue section is not measured. "
            "Types that it was not trained on are named after the nearest one."
        ),
        columns=COLUMNS,
        doi=DOI,
        embedding_size=embedding_size(network),
        takes_normalised=True,
        sources=sources,
    )
