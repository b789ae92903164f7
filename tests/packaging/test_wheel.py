"""The built wheel holds what runs need: schemas, tables, the page."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest

from conftest import PROJECT
from cytonym.version import __version__


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_the_wheel_has_schemas_tables_and_page(wheel_names):
    """Every data file of the source tree is in it."""
    for schema in (PROJECT / "schemas").glob("*.json"):
        assert f"cytonym/data/schemas/{schema.name}" in wheel_names
    package = PROJECT / "python" / "cytonym"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".tsv", ".html", ".css", ".js"):
            assert f"cytonym/{path.relative_to(package)}" in wheel_names


def test_versions_agree():
    """pyproject, manifest and citation name one version."""
    found = re.search(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    version = found[1]
    assert version == __version__
    assert f"'{version}'" in (PROJECT / "nextflow.config").read_text()
    assert f"version: {version}" in (PROJECT / "CITATION.cff").read_text()


def test_no_path_of_a_machine_is_in_the_tree():
    """Nothing that git knows names a folder of a developer's machine or a package registry's host."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    words = ("/" + "work/main", "/" + "root/", "files.pythonhosted" + ".org", "repo1.maven" + ".org", "pypi" + ".org")
    for name in listed.stdout.splitlines():
        path = PROJECT / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not [word for word in words if word in text], name
