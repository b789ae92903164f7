"""The user's 10x Cloud token: where it is looked for, both forms of its file, and how it is stored.

The value lives in a `Secret`, which no repr, message or log shows.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import TokenError
from ..io.files import output_error, written_whole
from ..progress import LOGGER

DEFAULT_SERVER = "https://cloud.10xgenomics.com"
CREDENTIALS = Path(".config", "txg", "credentials")  # under the home folder, where `cloud auth setup` of txg writes
SERVER_VARIABLE = "TENX_CLOUD_URL"
TOKEN_PATH_VARIABLE = "TENX_CLOUD_TOKEN_PATH"
TOKEN_VARIABLE = "TENX_CLOUD_TOKEN"  # the token itself, as a secret of Nextflow brings it; Space Ranger has no such one
LOCAL_TOKEN_VARIABLE = "TENX_CLOUD_USE_LOCAL_TOKEN"
ACCESS_HEADERS = ("cf-access-client-id", "cf-access-client-secret")
LONGEST_FILE = 64 * 1024  # bytes; a token has some hundreds
# what may stand in a cookie's value (RFC 6265, section 4.1.1)
TOKEN_TEXT = re.compile(r"[!#-+\--:<-\[\]-~]+")
HOW_TO_GET_ONE = "Make one with 'cytonym cloud auth setup', or name a file with --tenx-cloud-token-path."
LOOPBACK_NAME = "localhost"


class Secret:
    """A text that shows itself to nobody but who asks for it by `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is not written to files")


@dataclass(frozen=True)
class CloudToken:
    """A token and the server that it is for."""

    secret: Secret
    server: str = DEFAULT_SERVER  # scheme and host, without a slash at the end
    headers: Mapping[str, Secret] = field(default_factory=dict)  # of an access gateway before the server
    origin: str = "the token"  # how messages call it: its file

    def redact(self, text: str) -> str:
        """The text without the token, for what a server says."""
        for secret in (self.secret, *self.headers.values()):
            text = text.replace(secret.reveal(), "***")
        return text


def find_token(path: Path | None, environment: Mapping[str, str], *, home: Path, folder: Path) -> CloudToken:
    """The token of the first place that has one: `path`, the stored credentials, what the environment names or holds.

    `folder` is the caller's, against which a relative path is resolved. Raises TokenError, also when `path` is given
    but not usable: no other place is tried then.
    """
    named = environment.get(TOKEN_PATH_VARIABLE)
    frame_path = folder / named if named else None
    stored = home / CREDENTIALS
    if path is not None:
        found = folder / path
    elif stored.is_file():
        found = stored
    elif frame_path is not None:
        found = frame_path
    elif environment.get(TOKEN_VARIABLE):
        return replace(
            typed_token(environment[TOKEN_VARIABLE], environment), origin=f"the environment's {TOKEN_VARIABLE}"
        )
    else:
        raise TokenError(f"There is no 10x Cloud token: no file {stored}. {HOW_TO_GET_ONE}")
    token = read_token(found, environment)
    if environment.get(LOCAL_TOKEN_VARIABLE) and frame_path is not None:
        frame = read_token(frame_path, environment)
        return replace(token, server=frame.server, headers=frame.headers)
    return token


def read_token(path: Path, environment: Mapping[str, str]) -> CloudToken:
    """The token of one file, which is plain text or JSON; warns when others can read the file."""
    text = _read(path)
    value = _json_of(text)
    if value is None:
        token = CloudToken(_secret(text.strip(), path), named_server(environment), origin=str(path))
    else:
        token = _from_json(value, path)
    _warn_if_open(path)
    return token


def store_token(token: CloudToken, home: Path) -> Path:
    """Writes the credentials file, mode 0600 in a folder of mode 0700, and gives its path.

    A token for the usual server is plain text; for another one JSON, so that it is never sent elsewhere.
    """
    path = home / CREDENTIALS
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        with written_whole(path) as aside:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(_text_of(token))
    except OSError as exc:
        raise output_error(path, exc) from exc
    return path


def remove_token(home: Path) -> Path | None:
    """Deletes the credentials file; its path, or None where there was none."""
    path = home / CREDENTIALS
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise output_error(path, exc) from exc
    return path


def typed_token(text: str, environment: Mapping[str, str]) -> CloudToken:
    """The token that a person typed or pasted, for the server that the environment names."""
    return CloudToken(_secret(text.strip(), None), named_server(environment), origin="what was typed")


def named_server(environment: Mapping[str, str]) -> str:
    """The server of a token that does not name one itself."""
    return server_url(environment.get(SERVER_VARIABLE) or DEFAULT_SERVER, SERVER_VARIABLE)


def server_url(text: str, named_by: str | Path) -> str:
    """Scheme, host and path of a server, https where no scheme is named; plain http for this machine alone."""
    url = text.strip()
    url = url if "://" in url else f"https://{url}"
    if not is_safe_url(url):
        raise TokenError(
            f"{named_by}: '{url.rpartition('@')[2]}' is not the address of a server. Give it as https://<host>; plain "
            "http would show the token to others and is for this machine alone."
        )
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise TokenError(f"{named_by}: '{url}' has more than scheme, host and path. Give it as https://<host>.")
    return url.rstrip("/")


def is_safe_url(url: str) -> bool:
    """https, or http to this machine itself; a host, and nobody's name or password in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or re.search(r"[\s\\]", url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def may_lead_to(server: str, url: str) -> bool:
    """Whether a server may hand out that address: https, and http on this machine only if the server is there too."""
    return is_safe_url(url) and (url.startswith("https:") or server.startswith("http:"))


def _is_loopback(host: str) -> bool:
    try:
        return host == LOOPBACK_NAME or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        if not path.exists() or path.is_dir():  # a pipe is good: a secret store may give one
            raise TokenError(f"There is no token file {path}. {HOW_TO_GET_ONE}")
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as exc:
        raise TokenError(f"The token file {path} cannot be read: {exc.strerror}.") from exc
    if len(content) > LONGEST_FILE:
        raise TokenError(f"{path} is too large for a token file. Name another one with --tenx-cloud-token-path.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    if text is None:  # raised here, so that no traceback holds the bytes
        raise TokenError(f"{path} is not a token file: it is not text.")
    if not text.strip():
        raise TokenError(f"The token file {path} is empty. Save the token in it as plain text.")
    return text


def _json_of(text: str) -> Any:
    """What the text holds if it is JSON, else None; a token that reads as a number is a token."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def _from_json(value: Any, path: Path) -> CloudToken:
    wanted = 'JSON with one server as its key, e.g. {"cloud.10xgenomics.com": {"cli_token": "..."}}'
    if not isinstance(value, dict) or len(value) != 1:
        raise TokenError(f"{path} is neither a token as plain text nor {wanted}.")
    ((server, entry),) = value.items()
    if not isinstance(entry, dict) or not isinstance(entry.get("cli_token"), str):
        raise TokenError(f"{path} has no text 'cli_token' under its server; wanted is {wanted}.")
    gateway = entry.get("cloudflare_token") or {}
    if not isinstance(gateway, dict) or not all(isinstance(gateway.get(name, ""), str) for name in ACCESS_HEADERS):
        raise TokenError(f"{path}: 'cloudflare_token' must hold the texts {' and '.join(ACCESS_HEADERS)}.")
    headers = {name: _secret(gateway[name].strip(), path) for name in ACCESS_HEADERS if name in gateway}
    return CloudToken(_secret(entry["cli_token"].strip(), path), server_url(server, path), headers, origin=str(path))


def _secret(text: str, path: Path | None) -> Secret:
    where = "The token" if path is None else f"The token in {path}"
    if not text:
        raise TokenError(f"{where} is empty. Paste the whole token.")
    if not TOKEN_TEXT.fullmatch(text):
        raise TokenError(f"{where} holds blanks or signs that no token has. Copy it again, whole and alone.")
    return Secret(text)


def _text_of(token: CloudToken) -> str:
    if token.server == DEFAULT_SERVER and not token.headers:
        return token.secret.reveal() + "\n"
    entry: dict[str, Any] = {"cli_token": token.secret.reveal()}
    if token.headers:
        entry["cloudflare_token"] = {name: secret.reveal() for name, secret in token.headers.items()}
    return json.dumps({token.server: entry}) + "\n"


def _warn_if_open(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        LOGGER.warning("Others on this machine can read the token file %s: run 'chmod 600' on it.", path)
