"""Which models exist, embedded or installed, and which of them a request means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .backends import BACKENDS
from .backends.tenx_cloud import cloud_card, is_cloud
from .cloud import without_prefix
from .cloud.choice import AUTO
from .cloud_access import cloud_client
from .errors import ModelError
from .io.bundle import open_bundle
from .io.model_store import installed_model, installed_names, is_model_folder, read_model, verified_sha256
from .types import Job, Model

CLOUD_MODELS = (AUTO, "human_pca_v1_beta", "mouse_pca_v1_beta")  # known names; the service may have more
AZIMUTH = "pan_human_azimuth"
RESERVED_FOLDERS = ("Markers", "Azimuth", "10x_Cloud", "CAS", "Consensus")
DEFAULT_MODEL = "markers"
HOW_TO_INSTALL = (
    f"Install it with 'cytonym models install {AZIMUTH}', which downloads it, or, without a network, with "
    f"'cytonym models install {AZIMUTH} --weights FILE.keras --tables WHEEL_OR_FOLDER'"
)


def is_taken(name: str) -> bool:
    """Whether a model that is not installed from a reference has that name."""
    return name.lower() in {AZIMUTH, *CLOUD_MODELS, *embedded_models()}


def models_home() -> Path:
    """Where installed models live unless --models-dir says otherwise: $CYTONYM_HOME, else the XDG data folder."""
    home = os.environ.get("CYTONYM_HOME")
    if home:
        return Path(home) / "models"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111 - no home: no error
    return Path(data) / "cytonym" / "models"


def embedded_models() -> dict[str, Model]:
    """The models that run without any installation, by name."""
    return {card.name: Model(card) for backend in BACKENDS.values() for card in backend.models()}


def available_models(models_dir: Path) -> dict[str, Model]:
    """The models that can run, by name: embedded ones, then those in the folder."""
    embedded = embedded_models()
    installed = {name: installed_model(models_dir, name) for name in installed_names(models_dir)}
    return embedded | {name: model for name, model in installed.items() if name not in embedded}


def parse_names(value: str | None) -> tuple[str, ...]:
    """The model names of `--cell-annotation-model`; none when nothing was named."""
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise ModelError(
            f"--cell-annotation-model '{value}' has an empty name in it. Leave the option out to name none."
        )
    return names


def named_models(value: str | None, models_dir: Path, *, with_token: bool = False) -> tuple[Model, ...]:
    """The named models, in the order given; none if none is named. See `find_model` for `with_token`.

    Raises ModelError for a name that is unknown or not available, and for two models that write to one folder.
    """
    models = tuple(find_model(name, models_dir, with_token=with_token) for name in parse_names(value))
    names: dict[str, str] = {}
    for card in (model.card for model in models):
        if card.folder.lower() in names:
            raise ModelError(
                f"{names[card.folder.lower()]} and {card.name} both write to outs/cell_types/{card.folder}. Run them "
                "one at a time, each with its own --id."
            )
        names[card.folder.lower()] = card.name
    return models


def find_model(name: str, models_dir: Path, *, with_token: bool = False) -> Model:
    """The model of that name: embedded, else installed, else a reference's folder, else of 10x Cloud.

    ModelError if there is none. A name that nobody here knows is one for 10x Cloud to know if the user gave a token
    along with it.
    """
    embedded = embedded_models()
    if name in embedded:
        return embedded[name]
    installed = installed_names(models_dir)
    if name in installed:
        return _runnable(installed_model(models_dir, name))
    ways_out = f"Models that can run: {', '.join([*embedded, *installed])}; or leave --cell-annotation-model out."
    if name.lower() == AZIMUTH:
        raise ModelError(
            f"Pan-Human Azimuth is not installed in {models_dir}. {HOW_TO_INSTALL}; or name the folder that has it "
            f"with --models-dir. {ways_out}"
        )
    if is_model_folder(Path(name)):
        return _runnable(open_bundle(Path(name)))
    if name.lower() in CLOUD_MODELS or ":" in name:
        return Model(cloud_card(without_prefix(name.lower()) or AUTO))
    if os.sep in name or Path(name).is_dir():
        raise ModelError(f"{name} is not a folder of 'cytonym reference build': it has no card.json. {ways_out}")
    if with_token:
        return Model(cloud_card(name))
    raise ModelError(
        f"'{name}' is not a model. {ways_out} See 'cytonym models list'; a model of 10x Cloud that is not named here "
        "needs --tenx-cloud-token-path."
    )


def bundles_among(value: str | None, models_dir: Path) -> tuple[Path, ...]:
    """The folders among the names of `--cell-annotation-model`, as `find_model` takes them."""
    known = {*embedded_models(), *installed_names(models_dir)}
    return tuple(Path(name) for name in parse_names(value) if name not in known and is_model_folder(Path(name)))


def take_fractions(named: Sequence[Model], models_dir: Path) -> bool:
    """Whether the named models, or the one that runs on human samples when none is named, work without raw counts."""
    return all(model.card.takes_normalised for model in named or (default_model("human", models_dir)[0],))


def _runnable(model: Model) -> Model:
    if model.card.backend not in BACKENDS:
        raise ModelError(
            f"{model.card.name} needs '{model.card.backend}', which this version of cytonym does not have. "
            "Install a newer cytonym."
        )
    return model


def jobs_for(
    named: Sequence[Model], species: str, models_dir: Path, symbols: Iterable[str] | None = None
) -> tuple[tuple[Job, ...], tuple[str, ...]]:
    """The models to run on a sample of that species, cloud models last, and a calm line where the choice was ours.

    `symbols` are the sample's, for a default model that needs them. An installed model's files are compared with its
    card here, once.
    """
    models: tuple[Model, ...] = tuple(named)
    notes: tuple[str, ...] = ()
    if not models:
        model, note = default_model(species, models_dir, symbols)
        models, notes = (model,), (note,)
    elif any(is_cloud(model.card) for model in models):
        models, notes = _with_azimuth(models, species, models_dir)
    for card in (model.card for model in models):
        if species not in card.species:
            raise ModelError(
                f"{card.name} was made for {' and '.join(card.species)}, but the sample is {species}. "
                "Choose another model with --cell-annotation-model."
            )
    return tuple(_job(model) for model in models), notes


def _with_azimuth(
    models: tuple[Model, ...], species: str, models_dir: Path
) -> tuple[tuple[Model, ...], tuple[str, ...]]:
    """Local models before those of 10x Cloud; Azimuth joins them on human samples if installed, as in Space Ranger."""
    local, cloud = (tuple(m for m in models if is_cloud(m.card) == of_cloud) for of_cloud in (False, True))
    names = [model.card.name for model in models]
    if species != "human" or AZIMUTH in names or AZIMUTH not in installed_names(models_dir):
        return (*local, *cloud), ()
    note = "Pan-Human Azimuth is installed and runs as well, on this machine."
    return (*local, find_model(AZIMUTH, models_dir), *cloud), (note,)


def default_model(species: str, models_dir: Path, symbols: Iterable[str] | None = None) -> tuple[Model, str]:
    """The local model that runs when none is named, Azimuth for human if installed, and the line that says so.

    Azimuth knows genes by symbols alone: where the sample has none that it knows, it is passed over.
    """
    if species != "human":
        why = "it is the local model for mouse"
    elif AZIMUTH not in installed_names(models_dir):
        why = "Pan-Human Azimuth is not installed"
    else:
        azimuth = find_model(AZIMUTH, models_dir)
        if symbols is None or not set(read_model(azimuth)[0]["panel"]).isdisjoint(map(str, symbols)):
            return azimuth, _told("Pan-Human Azimuth", "it is installed, and the sample is human")
        why = "Pan-Human Azimuth is installed, but knows none of the sample's gene symbols"
    return find_model(DEFAULT_MODEL, models_dir), _told("the embedded marker model", why)


def _told(model: str, why: str) -> str:
    return f"No model was named: {model} runs ({why}). Nothing leaves this machine."


def _job(model: Model) -> Job:
    return Job(model.card, model.folder.name if model.folder else None, verified_sha256(model))


def model_of(
    job: Job,
    models_dir: Path,
    *,
    bundles: Sequence[Path] = (),
    token_path: Path | None = None,
    record: Path | None = None,
) -> Model:
    """The planned job's model with what it works with; ModelError if what is there is not what was planned.

    It is the one of `bundles`, folders of references, that was planned, else an installed one. A cloud model gets a
    client with the user's token, and `record`, the folder for what it has reached there.
    """
    if is_cloud(job.card):
        return Model(job.card, client=cloud_client(token_path), record=record)
    if job.model_path is None:
        return Model(job.card, settings=job.settings)
    for model in map(open_bundle, bundles):
        if model.card == job.card:
            return replace(model, settings=job.settings)
    if job.model_path not in installed_names(models_dir):
        raise ModelError(f"{job.card.name} was planned, but is not installed in {models_dir}. Give --models-dir.")
    model = installed_model(models_dir, job.model_path)
    if model.card != job.card:
        raise ModelError(f"{model.folder} is not the model that the plan was made with. Run preflight again.")
    return replace(model, settings=job.settings)
