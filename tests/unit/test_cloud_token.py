"""Where a 10x Cloud token is looked for, and what its file may hold."""

from __future__ import annotations

import json
import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest

from cytonym.cloud.pace import Pace
from cytonym.cloud.token import CloudToken, Secret, find_token, may_lead_to, read_token, server_url, store_token
from cytonym.errors import TokenError

TOKEN = "t0p-s3cret.token"


def write(path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)


def find(tmp_path, path=None, **environment: str) -> CloudToken:
    return find_token(path, environment, home=tmp_path / "home", folder=tmp_path)


def test_the_first_place_that_has_one(tmp_path):
    """The option, the stored credentials, the file that the environment names, the token that it holds."""
    variable = {"TENX_CLOUD_TOKEN": "fourth"}
    assert find(tmp_path, **variable).secret.reveal() == "fourth"
    write(tmp_path / "named", "third")
    variable |= {"TENX_CLOUD_TOKEN_PATH": str(tmp_path / "named")}
    assert find(tmp_path, **variable).secret.reveal() == "third"
    write(tmp_path / "home" / ".config" / "txg" / "credentials", "second")
    assert find(tmp_path, **variable).secret.reveal() == "second"
    write(tmp_path / "given", "first")
    assert find(tmp_path, tmp_path / "given", **variable).secret.reveal() == "first"


def test_relative_paths_are_of_the_callers_folder(tmp_path):
    """Space Ranger loses them."""
    write(tmp_path / "secrets" / "token.txt", TOKEN)
    assert find(tmp_path, Path("secrets/token.txt")).origin == str(tmp_path / "secrets" / "token.txt")
    assert find(tmp_path, TENX_CLOUD_TOKEN_PATH="secrets/token.txt").secret.reveal() == TOKEN


def test_no_token_anywhere(tmp_path):
    """The message says how to get one; a given path that is absent is not replaced by another place."""
    with pytest.raises(TokenError, match=r"There is no 10x Cloud token.*cytonym cloud auth setup"):
        find(tmp_path)
    write(tmp_path / "home" / ".config" / "txg" / "credentials", TOKEN)
    with pytest.raises(TokenError, match=r"There is no token file .*absent"):
        find(tmp_path, tmp_path / "absent")


def test_plain_text(tmp_path):
    """The whole file without blanks at its ends; the server is the usual one, or the environment's."""
    for content in (TOKEN, f"\n  {TOKEN} \r\n", f"\ufeff{TOKEN}\n"):
        write(tmp_path / "token", content)
        token = read_token(tmp_path / "token", {})
        assert (token.secret.reveal(), token.server) == (TOKEN, "https://cloud.10xgenomics.com")
    assert (
        read_token(tmp_path / "token", {"TENX_CLOUD_URL": "cloud.example.org/"}).server == "https://cloud.example.org"
    )
    write(tmp_path / "token", "12345")
    assert read_token(tmp_path / "token", {}).secret.reveal() == "12345"


def test_json(tmp_path):
    """One server as its key, https:// where it names no scheme; the environment's server is not used."""
    write(tmp_path / "token", {"cloud.example.org": {"cli_token": TOKEN}})
    token = read_token(tmp_path / "token", {"TENX_CLOUD_URL": "https://another.example.org"})
    assert (token.secret.reveal(), token.server, token.headers) == (TOKEN, "https://cloud.example.org", {})
    gateway = {"cf-access-client-id": "g4te", "cf-access-client-secret": "k3y", "another": "thing"}
    write(tmp_path / "token", {"https://cloud.example.org": {"cli_token": TOKEN, "cloudflare_token": gateway}})
    headers = read_token(tmp_path / "token", {}).headers
    assert {name: secret.reveal() for name, secret in headers.items()} == {
        "cf-access-client-id": "g4te",
        "cf-access-client-secret": "k3y",
    }


def test_a_local_token_for_another_files_server(tmp_path):
    """TENX_CLOUD_USE_LOCAL_TOKEN: the token of the given file, server and headers of the environment's."""
    write(tmp_path / "given", TOKEN)
    gateway = {"cf-access-client-id": "g4te"}
    write(
        tmp_path / "frame",
        {"inner.example.org": {"cli_token": "other", "cloudflare_token": gateway}},
    )
    frame = {"TENX_CLOUD_TOKEN_PATH": str(tmp_path / "frame")}
    token = find(tmp_path, tmp_path / "given", TENX_CLOUD_USE_LOCAL_TOKEN="1", **frame)
    assert (token.secret.reveal(), token.server, list(token.headers)) == (
        TOKEN,
        "https://inner.example.org",
        ["cf-access-client-id"],
    )
    assert find(tmp_path, tmp_path / "given", **frame).server == "https://cloud.10xgenomics.com"


BAD = {
    "empty": (" \n", "is empty"),
    "a blank in it": (f"{TOKEN} {TOKEN}", "blanks or signs"),
    "two lines": (f"{TOKEN}\nX-Header: 1", "blanks or signs"),
    "another cookie": (f"{TOKEN};admin=1", "blanks or signs"),
    "no ASCII": (f"{TOKEN}é", "blanks or signs"),
    "a page": (f"<html><body>{TOKEN}</body> </html>", "blanks or signs"),
    "a list": (json.dumps([TOKEN]), "neither a token as plain text nor JSON"),
    "two servers": ({"a.org": {"cli_token": TOKEN}, "b.org": {"cli_token": TOKEN}}, "neither a token"),
    "no cli_token": ({"a.org": {"token": TOKEN}}, "no text 'cli_token'"),
    "cli_token is a number": ({"a.org": {"cli_token": 1}}, "no text 'cli_token'"),
    "an empty cli_token": ({"a.org": {"cli_token": " "}}, "is empty"),
    "gateway is text": ({"a.org": {"cli_token": TOKEN, "cloudflare_token": "x"}}, "cloudflare_token"),
    "plain http": ({"http://a.org": {"cli_token": TOKEN}}, "plain http would show the token"),
    "no server": ({"": {"cli_token": TOKEN}}, "not the address of a server"),
    "a user in it": ({"https://me:mine@a.org": {"cli_token": TOKEN}}, "not the address of a server"),
    "too large": ("x" * 100_000, "too large"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_are_no_token(tmp_path, case):
    """The message names the file and what is wrong, and shows nothing of what is in it."""
    content, words = BAD[case]
    write(tmp_path / "token", content)
    with pytest.raises(TokenError) as stopped:
        read_token(tmp_path / "token", {})
    assert words in str(stopped.value)
    assert str(tmp_path / "token") in str(stopped.value)
    assert stopped.value.exit_code == 1
    shown = "".join(traceback.format_exception(stopped.value))
    assert TOKEN not in shown
    assert "mine" not in str(stopped.value)


def test_a_pipe_is_good(tmp_path):
    """What a shell makes of <(...), so that no file need hold the token."""
    reader, writer = os.pipe()
    os.write(writer, TOKEN.encode())
    os.close(writer)
    assert read_token(Path(f"/dev/fd/{reader}"), {}).secret.reveal() == TOKEN
    os.close(reader)


def test_files_that_cannot_be_read(tmp_path):
    """A folder, and bytes that are no text."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x01")
    for name, words in (("bytes", "it is not text"), (".", "There is no token file")):
        with pytest.raises(TokenError, match=words):
            read_token(tmp_path / name, {})


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:2", "https://a.org/base"])
def test_servers_that_are_taken(url):
    """https, and plain http to this machine."""
    assert server_url(url, "TENX_CLOUD_URL") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://a.org",
        "http://127.0.0.1.a.org",
        "http://0.0.0.0",
        "ftp://a.org",
        "https://",
        "https://a.org/?x=1",
        "https://a b.org",
        "http://localhost@a.org",
        "https://a.org:port",
    ],
)
def test_servers_that_are_not(url):
    """The message names where the address stands."""
    with pytest.raises(TokenError, match="TENX_CLOUD_URL"):
        server_url(url, "TENX_CLOUD_URL")


def test_addresses_that_a_server_hands_out():
    """https anywhere; plain http on this machine only by a server that is there itself."""
    distant, here = "https://cloud.example.org", "http://127.0.0.1:8080"
    assert [may_lead_to(distant, url) for url in ("https://s.org/x?y=z", here, "http://s.org", "ftp://s.org")] == [
        *(True, False, False, False)
    ]
    assert [may_lead_to(here, url) for url in ("https://s.org/x", here, "http://s.org")] == [True, True, False]


def test_a_token_does_not_show_itself(caplog):
    """Not by repr, str, format, logging, pickle or as a part of something else."""
    token = CloudToken(Secret(TOKEN), headers={"cf-access-client-secret": Secret(TOKEN)})
    logging.getLogger("any").warning("%s %r", token, token)
    assert TOKEN not in f"{token} {token!r} {token.secret} {[token.secret]} {vars(token)} {caplog.text}"
    with pytest.raises(TypeError):
        pickle.dumps(token)
    assert token.redact(f"session_id={TOKEN}; x") == "session_id=***; x"
    assert (token.secret == Secret(TOKEN), token.secret == TOKEN) == (True, False)


@pytest.mark.parametrize("server", ["https://cloud.10xgenomics.com", "https://inner.example.org"])
def test_stored_and_read_back(tmp_path, server):
    """Plain text for the usual server, JSON for another, whose headers come along."""
    headers = {} if "10x" in server else {"cf-access-client-id": Secret("g4te")}
    path = store_token(CloudToken(Secret(TOKEN), server, headers), tmp_path / "home")
    assert (path.read_text() == f"{TOKEN}\n") == ("10x" in server)
    found = find(tmp_path)
    assert (found.secret.reveal(), found.server, found.headers) == (TOKEN, server, headers)


def test_the_pace(tmp_path):
    """Space Ranger's, times the environment's factor."""
    assert (Pace().poll_interval, Pace().longest_wait, Pace().backoff) == (10.0, 43_200.0, 0.1)
    quick = Pace.from_environment({"CYTONYM_CLOUD_WAIT_SCALE": "0.5"})
    assert (quick.poll_interval, quick.longest_wait, quick.backoff) == (5.0, 21_600.0, 0.05)
    assert Pace.from_environment({}) == Pace.from_environment({"CYTONYM_CLOUD_WAIT_SCALE": ""}) == Pace(1.0)
