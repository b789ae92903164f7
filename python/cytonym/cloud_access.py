"""This user's way to 10x Cloud: the place where token variables, home and pace are read from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from .cloud import CloudClient, Pace, find_token


def home_folder() -> Path:
    """The user's home; `~` itself where there is none, as in a container without users."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises without a home


def cloud_client(token_path: Path | None) -> CloudClient:
    """A client with the token that `find_token` finds; TokenError if there is none. Nothing is sent yet."""
    token = find_token(token_path, os.environ, home=home_folder(), folder=Path.cwd())
    in_cloud = os.environ.get("TENX_CLOUD_ENV") == "true"
    return CloudClient(token, pace=Pace.from_environment(os.environ), in_cloud=in_cloud)
