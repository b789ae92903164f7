"""bin/ is made from [project.scripts] and finds a Python that has the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT

MAKE_BIN = "tools/make_bin.py"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )


def test_bin_holds_every_script_and_nothing_else():
    section = re.search(r"^\[project\.scripts\]\n((?:.+\n)*)", (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert section is not None
    assert {path.name for path in (PROJECT / "bin").iterdir()} == set(re.findall(r"^(\w+) =", section[1], re.MULTILINE))
    assert run(sys.executable, PROJECT / MAKE_BIN, "--check").returncode == 0


def test_check_finds_what_is_stale(tmp_path):
    """A changed, missing or left over file; making again mends it."""
    for name in ("pyproject.toml", MAKE_BIN):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    make = (sys.executable, tmp_path / MAKE_BIN)
    assert "run 'make bin'" in run(*make, "--check").stderr
    assert run(*make).returncode == run(*make, "--check").returncode == 0
    (tmp_path / "bin" / "old").touch()
    assert run(*make, "--check").returncode == 1
    run(*make)
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["cytonym"]


def test_wrapper_takes_the_python_on_path(tmp_path):
    """Even where the current folder has one of the package's name."""
    (tmp_path / "cytonym").mkdir()
    done = subprocess.run(
        [PROJECT / "bin" / "cytonym", "--version"],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "cytonym")


def test_wrapper_takes_the_projects_environment_next(tmp_path):
    """With a python3 on PATH that lacks the package; without either, one line and exit code 1."""
    wrapper, path = tmp_path / "bin" / "cytonym", tmp_path / "path"
    wrapper.parent.mkdir()
    shutil.copy(PROJECT / "bin" / "cytonym", wrapper)
    path.mkdir()
    (path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (path / "python3").chmod(0o755)

    lost = run(wrapper, "--version", PATH=f"{path}:/usr/bin:/bin")
    assert lost.returncode == 1
    assert lost.stderr.startswith("ERROR: no python3 here has cytonym: run 'make demo'")
    assert lost.stderr.count("\n") == 1

    python = tmp_path / ".venv" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert run(wrapper, "--version", PATH=f"{path}:/usr/bin:/bin").stdout.startswith("cytonym ")
