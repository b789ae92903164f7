"""`cytonym cloud ...`: what it asks, prints and stores."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import subprocess
import sys

import pytest
from cloud_run import TOKEN, served

from cytonym.cli import main


class Typed(io.StringIO):
    """Standard input that is no terminal."""


@pytest.fixture
def cloud():
    with served() as cloud:
        yield cloud


@pytest.fixture
def home(tmp_path, monkeypatch, cloud):
    """An empty home whose environment leads to the fake cloud."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("TENX_CLOUD_URL", cloud.url)
    monkeypatch.setenv("CYTONYM_CLOUD_WAIT_SCALE", "1e-5")
    for name in ("TENX_CLOUD_TOKEN_PATH", "TENX_CLOUD_USE_LOCAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def command(home, capsys, monkeypatch):
    """Runs `cytonym cloud ...`; gives exit code and all it printed, in which no token is."""

    def run(*arguments: str, typed: str = "") -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", Typed(typed))
        with pytest.raises(SystemExit) as stopped:
            main(["cloud", *arguments])
        printed = "".join(capsys.readouterr())
        assert TOKEN not in printed
        return stopped.value.code, printed

    return run


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_set_up_verify_and_log_out(command, home, cloud):
    """The token is stored where Space Ranger looks, for its owner alone."""
    code, printed = command("auth", "setup", typed=f"  {TOKEN}\n")
    path = home / ".config" / "txg" / "credentials"
    assert (code, f"stored in {path}, for you alone. {cloud.url} takes it." in printed) == (0, True)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]
    assert json.loads(path.read_text()) == {cloud.url: {"cli_token": TOKEN}}  # of another server than the usual one
    assert command("auth", "verify") == (0, f"{cloud.url} takes the token of {path}.\n")
    code, printed = command("auth", "logout")
    assert (code, f"Removed {path}" in printed, path.exists()) == (0, True, False)
    assert command("auth", "logout") == (0, "There is no stored token.\n")
    assert cloud.steps == ["user", "user"]


def test_a_folder_that_others_can_read_is_closed(command, home):
    """And a stored token is replaced, whatever its mode was."""
    path = home / ".config" / "txg" / "credentials"
    path.parent.mkdir(parents=True, mode=0o755)
    path.write_text("old")
    path.chmod(0o644)
    command("auth", "setup", typed=TOKEN)
    assert (mode(path), mode(path.parent), "old" in path.read_text()) == (0o600, 0o700, False)


@pytest.mark.parametrize(("typed", "words"), [("", "is empty"), (" \n", "is empty"), ("a b", "blanks or signs")])
def test_set_up_refuses_what_is_no_token(command, home, cloud, typed, words):
    """Nothing is asked of the service, nothing stored."""
    code, printed = command("auth", "setup", typed=typed)
    assert (code, words in printed, cloud.steps, list(home.iterdir())) == (1, True, [], [])


def test_set_up_refuses_what_the_service_refuses(command, home):
    """Nothing is stored."""
    code, printed = command("auth", "setup", typed="another\n")
    assert (code, "does not take the token of what was typed" in printed, list(home.iterdir())) == (6, True, [])


def test_set_up_without_a_network_stores_the_token(command, home, cloud):
    """It says that nobody has verified it."""
    cloud.fail("user", 500, times=None)
    code, printed = command("auth", "setup", typed=TOKEN)
    assert (code, "could not be verified now" in printed) == (0, True)
    assert (home / ".config" / "txg" / "credentials").exists()


def test_what_is_typed_at_a_terminal_is_not_shown(home, cloud):
    """It says where a token is made; the terminal echoes nothing."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cytonym", "cloud", "auth", "setup"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        said = b""
        while b"not shown): " not in said:
            said += os.read(ours, 1024)
        os.write(ours, f"{TOKEN}\n".encode())
        while b"takes it." not in said:
            said += os.read(ours, 1024)
        assert process.wait(timeout=30) == 0
    os.close(ours)
    assert f"Sign in at {cloud.url}, open the security page".encode() in said
    assert TOKEN.encode() not in said


def test_verify_says_what_is_wrong(command, home, cloud, tmp_path):
    """No token; a refused one; no server."""
    code, printed = command("auth", "verify")
    assert (code, "There is no 10x Cloud token" in printed, "cytonym cloud auth setup" in printed) == (1, True, True)
    (tmp_path / "wrong.txt").write_text("wrong")
    code, printed = command("auth", "verify", "--tenx-cloud-token-path=wrong.txt")
    assert (code, "wrong.txt (HTTP 403)" in printed) == (6, True)
    (tmp_path / "right.txt").write_text(TOKEN)
    assert command("auth", "verify", "--tenx-cloud-token-path=right.txt")[0] == 0
    cloud.fail("user", 503, times=None)
    code, printed = command("auth", "verify", "--tenx-cloud-token-path=right.txt")
    assert (code, "Cannot connect to 10x Cloud" in printed) == (6, True)


def test_models_are_listed(command, tmp_path):
    """A line a model under a head line."""
    (tmp_path / "token.txt").write_text(TOKEN)
    (tmp_path / "token.txt").chmod(0o600)
    code, printed = command("annotation", "models", "--tenx-cloud-token-path=token.txt")
    assert (code, printed.splitlines()) == (
        0,
        [
            "name               genomes      date        title",
            "human_pca_v1_beta  GRCh38,hg19  2025-01-01  human pca v1 beta",
            "mouse_pca_v1_beta  mm10,GRCm39  2025-01-01  mouse pca v1 beta",
        ],
    )


def test_an_open_token_file_is_warned_about(command, tmp_path, cloud):
    """By its path."""
    (tmp_path / "token.txt").write_text(TOKEN)
    (tmp_path / "token.txt").chmod(0o640)
    assert command("auth", "verify", "--tenx-cloud-token-path=token.txt")[0] == 0
    (line,) = [line for line in cloud.lines if line.startswith("Others on this machine can read the token file")]
    assert str(tmp_path / "token.txt") in line
    (tmp_path / "token.txt").chmod(0o600)
    assert command("auth", "verify", "--tenx-cloud-token-path=token.txt")[0] == 0
    assert len([line for line in cloud.lines if line.startswith("Others")]) == 1


def test_a_wrong_scale_of_the_waits(command, monkeypatch, tmp_path):
    """It is a mistake of the command, not taken for 1."""
    (tmp_path / "token.txt").write_text(TOKEN)
    for text in ("fast", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("CYTONYM_CLOUD_WAIT_SCALE", text)
        code, printed = command("auth", "verify", "--tenx-cloud-token-path=token.txt")
        assert (code, f"invalid value '{text}' for the environment's CYTONYM_CLOUD_WAIT_SCALE" in printed) == (2, True)
