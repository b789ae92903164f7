"""References of public sources: R's files are read, labels get terms, downloads are checked."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cytonym.errors import CytonymError, InputError, ModelError
from cytonym.io.bundle import check_bundle, read_reference_card
from cytonym.io.rdata import as_matrix, read_rdata
from cytonym.models import find_model
from cytonym.ontology_data import load_ontology
from cytonym.reference.profile_library import read_library, term_of
from cytonym.reference.recipes import RECIPES, install_recipe
from made_labelled import write_blood
from made_reference import blood_averages

# ---- RData files, written as R Internals describes them

NIL = struct.pack(">i", 254)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">ii", 0x40009, len(data)) + data


def texts(values: list[str]) -> bytes:
    return struct.pack(">ii", 16, len(values)) + b"".join(map(text, values))


def symbol(name: str) -> bytes:
    return struct.pack(">i", 1) + text(name)


def pairs(**items: bytes) -> bytes:
    """A pair list with tags."""
    return b"".join(struct.pack(">i", 0x402) + symbol(name) + value for name, value in items.items()) + NIL


def reals(values: np.ndarray, attributes: bytes = b"") -> bytes:
    flags = 14 | (0x200 if attributes else 0)
    data = np.asarray(values, dtype=">f8").tobytes(order="F")
    return struct.pack(">ii", flags, np.size(values)) + data + attributes


def matrix(values: np.ndarray, rows: list[str], columns: list[str]) -> bytes:
    dim = struct.pack(">iiii", 13, 2, *values.shape)
    names = struct.pack(">ii", 19, 2) + texts(rows) + texts(columns)
    return reals(values, pairs(dim=dim, dimnames=names))


def rdata(version: int = 2, **objects: bytes) -> bytes:
    head = f"RDX{version}\nX\n".encode() + struct.pack(">iii", version, 0x40000, 0x20300)
    encoding = struct.pack(">i", 5) + b"UTF-8" if version == 3 else b""
    return head + encoding + pairs(**objects)


VALUES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("version", [2, 3])
def test_a_named_matrix_is_read(tmp_path, pack, version):
    """Columns come one after the other in R; both versions, packed in any way."""
    path = tmp_path / "x.RData"
    groups = struct.pack(">ii", 0x200 | 19, 1) + texts(["a", "b"]) + pairs(names=texts(["all"]))
    path.write_bytes(pack(rdata(version, cellGroups=groups, profile_matrix=matrix(VALUES, list("xyz"), ["A", "B"]))))
    found = read_rdata(path)
    assert found["cellGroups"].value[0].value == ["a", "b"]
    named = as_matrix(found["profile_matrix"], "x")
    assert named.values.tolist() == VALUES.tolist()
    assert (named.rows.tolist(), named.columns.tolist()) == (["x", "y", "z"], ["A", "B"])


def test_a_data_frame_and_wrapped_vectors_are_read(tmp_path):
    """Columns in a list; R 3.5 keeps some vectors in other forms."""
    wrapped = struct.pack(">i", 238)
    wrapped += struct.pack(">i", 2) + symbol("wrap_real") + struct.pack(">i", 2) + symbol("base") + NIL
    wrapped += struct.pack(">ii", 19, 1) + reals(VALUES[:, 1]) + NIL
    columns = struct.pack(">ii", 0x200 | 19, 2) + reals(VALUES[:, 0]) + wrapped
    frame = columns + pairs(**{"names": texts(["A", "B"]), "row.names": texts(list("xyz"))})
    path = tmp_path / "x.RData"
    path.write_bytes(rdata(3, frame=frame))
    assert as_matrix(read_rdata(path)["frame"], "x").values.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"RDS", "no RData file"),
        (rdata(x=reals(VALUES))[:40], "cannot be read"),
        (b"\x1f\x8bcut", "cannot be read"),
        (rdata(x=struct.pack(">ii", 3, 0)), "an R object of type 3"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    """A closure is never read."""
    path = tmp_path / "x.RData"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_rdata(path)


# ---- the profile library


def library_file(names: list[str], share: slice = slice(None)) -> bytes:
    rates, features = blood_averages()
    return gzip.compress(rdata(profile_matrix=matrix(rates.T[share], features.names[share].tolist(), names)))


def write_library(folder: Path) -> Path:
    """Two tissues of two studies; one lacks some genes, and a label of one is a mixture."""
    folder.mkdir()
    (folder / "Blood_One.RData").write_bytes(library_file(["B.cell", "CD14+.monocyte.type.1", "NK.cell"]))
    (folder / "Spleen_Two.RData").write_bytes(library_file(["naive.B.cell", "monocyte", "B.T.NK.cells"], slice(0, 900)))
    (folder / "Brain_Darmanis.RData").write_bytes(b"not read")
    return folder


def test_labels_of_the_library_have_terms():
    """The first pattern found decides; all terms are current ones."""
    named = ("naive.CD4+.T.cell", "Plasmacytoid.dendritic.cell", "AT2.cell", "L2.3.IT", "Dividing.cell", "B.T.NK.cells")
    assert [term_of(label) for label in named] == ["CL:0000895", "CL:0000784", "CL:0002063", "CL:0000679", "", ""]
    from cytonym.reference.profile_library import _rules

    ontology = load_ontology()
    assert all(term in ontology and not ontology[term].is_obsolete for _, term in _rules() if term)


def test_files_of_the_library_become_one_input(tmp_path):
    """Rows of a type from several tissues share its label; a mixture has none."""
    folder = write_library(tmp_path / "library")
    found = read_library([folder / "Blood_One.RData", folder / "Spleen_Two.RData"], load_ontology())
    labels = [found.labels.values[code] if code >= 0 else "" for code in found.labels.codes]
    assert labels == ["B cell", "classical monocyte", "natural killer cell", "naive B cell", "monocyte", ""]
    assert found.datasets.values.tolist() == ["One", "Two"]
    assert found.row_names()[3] == b"naive.B.cell (Spleen)"


def test_a_recipe_is_installed_from_files_at_hand(tmp_path):
    """A folder of the library's files; it cannot be installed twice."""
    library, models = write_library(tmp_path / "library"), tmp_path / "models"
    models.mkdir()
    install_recipe("human_tissue_profiles", models, library)
    card = read_reference_card(models / "human_tissue_profiles")
    assert (card["licence"], card["tissue"], card["averages"]) == ("CC BY 4.0", "whole body", True)
    assert len(card["types"]) == 5
    assert find_model("human_tissue_profiles", models).card.name == "human_tissue_profiles"
    with pytest.raises(ModelError, match="already"):
        install_recipe("human_tissue_profiles", models, library)


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_the_shared_profiles_make_a_reference(tmp_path, shared, monkeypatch, species):
    """The .h5ad of the same profiles, about a hundred terms a species; learning is left to other tests."""
    import cytonym.reference.recipes as recipes

    seen = []
    monkeypatch.setattr(recipes, "build_reference", seen.append)
    install_recipe(f"{species}_tissue_profiles", tmp_path, shared("data", f"{species}_tissue_profiles.h5ad"))
    from cytonym.reference.gather import gather, open_inputs

    learnt = gather(seen[0], open_inputs(seen[0], tmp_path), load_ontology())
    assert 80 < len(learnt.table.types) < 110
    assert learnt.averages and learnt.training.drawn
    assert {term.found_by for term in learnt.terms[0] if term.term_id} == {"id column"}


def test_what_cannot_be_installed_is_refused(tmp_path):
    """An unknown recipe, a folder without files, a source that the user must bring."""
    with pytest.raises(ModelError, match="no recipe 'nope'"):
        install_recipe("nope", tmp_path)
    with pytest.raises(CytonymError, match=r"holds no \.RData files"):
        install_recipe("mouse_tissue_profiles", tmp_path, tmp_path)
    with pytest.raises(ModelError, match="a file of yours"):
        install_recipe("cellxgene_slice", tmp_path)
    assert all(recipe.licence and recipe.citation for recipe in RECIPES.values())


def test_a_slice_of_cellxgene_is_built_as_it_is(tmp_path):
    """No option but the file."""
    (tmp_path / "models").mkdir()
    install_recipe("cellxgene_slice", tmp_path / "models", write_blood(tmp_path / "slice.h5ad"))
    assert check_bundle(tmp_path / "models" / "cellxgene_slice").card.licence == "CC BY 4.0"


class Listed(ThreadingHTTPServer):
    """Serves a listing as GitHub's contents API gives it, and the files; `spoilt` ones differ from the listing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.spoilt: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def listing(self) -> bytes:
        entries = [
            {
                "type": "file",
                "name": name,
                "size": len(data),
                "sha": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
                "download_url": f"{self.url}/{name}",
            }
            for name, data in self.files.items()
        ]
        return json.dumps([*entries, {"type": "dir", "name": "x.RData"}]).encode()


class Answer(BaseHTTPRequestHandler):
    server: Listed

    def do_GET(self) -> None:
        name = self.path[1:]
        body = self.server.listing() if name == "list" else self.server.files[name]
        if name in self.server.spoilt:
            body = body[:-1] + b"?"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Listed]:
    running = Listed()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()


def test_a_recipe_downloads_its_files_and_checks_them(tmp_path, server):
    """A file that is not the listed one is refused and deleted; then the same command goes on, and tidies up."""
    for path in write_library(tmp_path / "library").iterdir():
        server.files[path.name] = path.read_bytes()
    server.spoilt.add("Spleen_Two.RData")
    models, listings = tmp_path / "models", (f"{server.url}/list",)
    with pytest.raises(ModelError, match=r"Spleen_Two\.RData came with a wrong checksum"):
        install_recipe("human_tissue_profiles", models, listings=listings)
    assert not (models / "human_tissue_profiles").exists()
    server.spoilt.clear()
    install_recipe("human_tissue_profiles", models, listings=listings)
    assert len(read_reference_card(models / "human_tissue_profiles")["types"]) == 5
    assert not list((models / ".downloads").iterdir())


def test_without_a_network_the_files_can_be_given(tmp_path):
    """The error says how."""
    with pytest.raises(ModelError, match=r"cannot be reached.*--from PATH"):
        install_recipe("human_tissue_profiles", tmp_path, listings=("http://127.0.0.1:9/list",))
