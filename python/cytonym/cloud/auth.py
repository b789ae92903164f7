"""`cytonym cloud ...`: the token set up, verified and removed, the models listed; each call gives what to print."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import CloudAnswerError
from ._cloud_api import CloudClient, CloudModel
from .choice import connect
from .pace import PREFLIGHT_PAUSE, Pace
from .token import find_token, named_server, remove_token, store_token, typed_token


def set_up(environment: Mapping[str, str], home: Path) -> str:
    """Asks for a token, hidden while it is typed, and stores it unless the service refuses it; gives a line to show."""
    token = typed_token(_ask(environment), environment)
    client = CloudClient(token, pace=Pace.from_environment(environment))
    try:
        client.verify()
        verdict = f"{token.server} takes it."
    except CloudAnswerError as exc:
        verdict = f"It could not be verified now ({exc}) Try 'cytonym cloud auth verify' later."
    path = store_token(token, home)
    return f"The token is stored in {path}, for you alone. {verdict}"


def verify(path: Path | None, environment: Mapping[str, str], *, home: Path, folder: Path) -> str:
    """A line that says which token the service takes; CloudError if it takes none or is not reached."""
    client = _client(path, environment, home, folder)
    connect(client, pause=PREFLIGHT_PAUSE)
    return f"{client.server} takes the token of {client.token.origin}."


def log_out(home: Path) -> str:
    """Removes the stored token; the one at 10x Genomics stays until it is withdrawn there."""
    path = remove_token(home)
    if path is None:
        return "There is no stored token."
    return f"Removed {path}. The token itself stays good until you withdraw it on the account page of 10x Cloud."


def list_models(path: Path | None, environment: Mapping[str, str], *, home: Path, folder: Path) -> str:
    """The service's models as a table."""
    return models_table(_client(path, environment, home, folder).models())


def models_table(models: Iterable[CloudModel]) -> str:
    """A line a model: name, genomes, date, title."""
    rows = [("name", "genomes", "date", "title")]
    rows += [(model.name, ",".join(model.genomes), model.date, model.title) for model in models]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    padded = ([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _ask(environment: Mapping[str, str]) -> str:
    """What the person types after being told where a token is made; a line of standard input where there is none."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    server = named_server(environment)
    print(f"Sign in at {server}, open the security page of your account and generate an access token.")
    print("Who holds it can read and write your 10x Cloud account: do not share it.")
    return getpass.getpass("Paste the token here (it is not shown): ")


def _client(path: Path | None, environment: Mapping[str, str], home: Path, folder: Path) -> CloudClient:
    token = find_token(path, environment, home=home, folder=folder)
    return CloudClient(token, pace=Pace.from_environment(environment))
