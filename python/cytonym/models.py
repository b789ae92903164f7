"""Which models exist, and which of them a request means."""

from __future__ import annotations

import os
from pathlib import Path

from .backends import BACKENDS
from .errors import ModelError
from .types import Job, ModelCard

# names that people know from Space Ranger; they run once their backend is in `BACKENDS`
CLOUD_MODELS = ("auto", "human_pca_v1_beta", "mouse_pca_v1_beta")
AZIMUTH = "pan_human_azimuth"
RESERVED_FOLDERS = ("Markers", "Azimuth", "10x_Cloud", "CAS", "Consensus")
DEFAULT_MODEL = "markers"


def models_home() -> Path:
    """Where installed models live unless --models-dir says otherwise: $CYTONYM_HOME, else the XDG data folder."""
    home = os.environ.get("CYTONYM_HOME")
    if home:
        return Path(home) / "models"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "cytonym" / "models"


def available_models() -> dict[str, ModelCard]:
    """The models that can run without any installation, by name."""
    return {card.name: card for backend in BACKENDS.values() for card in backend.models()}


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


def named_cards(value: str | None, models_dir: Path | None = None) -> tuple[ModelCard, ...]:
    """The cards of the named models, in the order given; the default model's if none is named.

    Raises ModelError for a name that is unknown or not available, and for two models that write to one folder.
    """
    known = available_models()
    cards = [_card(name, known, models_dir or models_home()) for name in parse_names(value) or (DEFAULT_MODEL,)]
    folders: dict[str, str] = {}
    for card in cards:
        if card.folder.lower() in folders:
            raise ModelError(
                f"{folders[card.folder.lower()]} and {card.name} both write to outs/cell_types/{card.folder}. Run them "
                "one at a time, each with its own --id."
            )
        folders[card.folder.lower()] = card.name
    return tuple(cards)


def _card(name: str, known: dict[str, ModelCard], models_dir: Path) -> ModelCard:
    if name in known:
        return known[name]
    ways_out = f"Models that can run: {', '.join(known)}; or leave --cell-annotation-model out."
    if name.lower() in CLOUD_MODELS or ":" in name:
        raise ModelError(f"The 10x cloud model '{name}' is not available in this version of cytonym. {ways_out}")
    if name.lower() == AZIMUTH:
        raise ModelError(f"Pan-Human Azimuth is not available in this version of cytonym. {ways_out}")
    if os.sep in name or Path(name).is_dir() or (models_dir / name).is_dir():
        raise ModelError(f"{name}: reference models are not available in this version of cytonym. {ways_out}")
    raise ModelError(f"'{name}' is not a model. {ways_out} See 'cytonym models list'.")


def jobs_for(
    value: str | None, species: str, models_dir: Path | None = None
) -> tuple[tuple[Job, ...], tuple[str, ...]]:
    """The models to run on a sample of that species, and a calm line that says why when none was named."""
    cards = named_cards(value, models_dir)
    for card in cards:
        if species not in card.species:
            raise ModelError(
                f"{card.name} was made for {' and '.join(card.species)}, but the sample is {species}. "
                "Choose another model with --cell-annotation-model."
            )
    notes: tuple[str, ...] = ()
    if value is None:
        why = "Pan-Human Azimuth is not installed" if species == "human" else "it is the local model for mouse"
        notes = (f"No model was named: the embedded marker model runs ({why}). Nothing leaves this machine.",)
    return tuple(Job(card) for card in cards), notes
