"""Installed models: folders `<models_dir>/<name>/` with a card and plain arrays, which appear whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError
from ..schemas import first_problem
from ..types import Model, ModelCard
from .arrays import read_arrays, write_arrays
from .files import output_error, sha256_of, write_json

CARD_NAME = "card.json"
DATA_NAME = "model.h5"
DATA_KIND = "model"


def installed_names(models_dir: Path) -> list[str]:
    """Names of the folders that hold a model, sorted."""
    try:
        return sorted(path.parent.name for path in models_dir.glob(f"[!.]*/{CARD_NAME}"))
    except OSError as exc:
        raise ModelError(f"{models_dir} cannot be read: {exc.strerror or exc}.") from exc


def installed_model(models_dir: Path, name: str) -> Model:
    """The model of that name; ModelError if it is not whole. Only its card is read."""
    model = model_in(models_dir / name)
    if model.card.name != name:
        raise ModelError(f"{model.folder} holds the model {model.card.name}: the folder must have the model's name.")
    return model


def model_in(folder: Path) -> Model:
    """The model of that folder, whatever the folder's name; ModelError if it is not whole. Only its card is read."""
    value = _card_value(folder)
    files = value.pop("files")
    card = ModelCard.from_json(value)
    for file, about in files.items():
        path = folder / file
        if not path.is_file() or path.stat().st_size != about["size"]:
            raise ModelError(f"{path} is missing or cut off. {_again(card.name)}")
    return Model(card, folder)


def is_model_folder(path: Path) -> bool:
    return (path / CARD_NAME).is_file()


def verified_sha256(model: Model) -> str:
    """SHA-256 over an installed model's files, after each was compared with the card's; "" for an embedded model."""
    if model.folder is None:
        return ""
    files = _card_value(model.folder)["files"]
    for name, about in files.items():
        if sha256_of(model.folder / name) != about["sha256"]:
            raise ModelError(f"{model.folder / name} is not as it was installed. {_again(model.card.name)}")
    return sha256_of(*(model.folder / name for name in files))


def read_model(model: Model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `install_model` stored."""
    if model.folder is None:
        raise ModelError(f"{model.card.name} is not installed.")
    try:
        return read_arrays(model.folder / DATA_NAME, DATA_KIND)
    except InputError as exc:
        raise ModelError(f"{model.folder / DATA_NAME} is damaged. {_again(model.card.name)}") from exc


def install_model(models_dir: Path, card: ModelCard, meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """Stores the model in its folder, in place of an earlier one of its name."""

    def fill(folder: Path) -> None:
        write_arrays(folder / DATA_NAME, DATA_KIND, meta, arrays)
        write_card(folder, card)

    return appear(models_dir / card.name, fill)


def copy_model(model: Model, models_dir: Path) -> Model:
    """The same model in its folder of `models_dir`, in place of an earlier one of its name; its files are checked."""
    verified_sha256(model)

    def fill(folder: Path) -> None:
        assert model.folder is not None
        for name in (*_card_value(model.folder)["files"], CARD_NAME):
            shutil.copyfile(model.folder / name, folder / name)

    appear(models_dir / model.card.name, fill)
    return installed_model(models_dir, model.card.name)


def write_card(folder: Path, card: ModelCard) -> None:
    """The card, with the size and checksum of every other file of the folder."""
    paths = sorted(path for path in folder.iterdir() if path.name != CARD_NAME)
    files = {path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}
    value = {**asdict(card), "files": files}
    problem = first_problem(json.loads(json.dumps(value)), "model_card.schema.json")
    if problem:
        raise ModelError(f"The card of {card.name} does not hold: {problem}.")
    write_json(folder / CARD_NAME, value)


def remove_model(models_dir: Path, name: str) -> None:
    """Deletes the model's folder; ModelError if there is none."""
    if name not in installed_names(models_dir):
        raise ModelError(f"There is no installed model '{name}' in {models_dir}.")
    _discard(models_dir / name)


def appear(folder: Path, fill: Callable[[Path], None]) -> Path:
    """`folder`, filled aside and renamed, so that nobody sees half of it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as exc:
        raise output_error(folder.parent, exc) from exc
    try:
        fill(aside)
        aside.chmod(0o755)  # others may use it
        if folder.exists():
            _discard(folder)
        aside.replace(folder)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _discard(folder: Path) -> None:
    """Out of sight by one rename, then deleted."""
    try:
        grave = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        folder.replace(grave / folder.name)
        shutil.rmtree(grave)
    except OSError as exc:
        raise output_error(folder, exc) from exc


def _card_value(folder: Path) -> dict[str, Any]:
    path = folder / CARD_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} cannot be read: {exc}. {_again(folder.name)}") from exc
    problem = first_problem(value, "model_card.schema.json")
    if problem:
        raise ModelError(f"{path} is not a model card of this version of cytonym: {problem}. {_again(folder.name)}")
    return value


def _again(name: str) -> str:
    return f"Install the model again: cytonym models install {name}"
