"""Space Ranger's tissue image."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import InputError


def read_image(path: Path) -> Image.Image:
    """The image in red, green and blue; InputError if it cannot be read."""
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as exc:
        raise InputError(f"{path} cannot be read as an image: {exc}") from exc
