"""Installing Pan-Human Azimuth: from files of several shapes, and over HTTP from a real server in a thread."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import LabelEncoder

from azimuth_files import (
    PANEL,
    classes,
    encoders_file,
    tables_files,
    weights_file,
    write_bundle,
    write_files,
    write_wheel,
)
from cytonym.azimuth.published import known_as
from cytonym.cli import main
from cytonym.errors import ModelError, OutputError
from cytonym.install import DOWNLOADS, InstallRequest, install
from cytonym.io.azimuth_tables import checksums, find_tables, read_tables
from cytonym.io.model_store import read_model
from cytonym.io.pickled_encoders import read_encoders
from cytonym.models import AZIMUTH, available_models

PANEL_NAME = "inference_feature_panel/inference_feature_panel.txt"
ENCODERS_NAME = "inference_encoders/inference_encoders.pkl"
SHORTER = PANEL[:-1]


def asked(folder: Path, weights: Path | None, tables: Path | None, **options: str) -> InstallRequest:
    return InstallRequest(AZIMUTH, folder / "models", weights, tables, **options)


# ---- from files


def test_a_folder_of_files_becomes_a_model(tmp_path):
    """With its card; plain arrays and JSON, in which the panel is sorted, and nothing else in the folder of models."""
    model = install(asked(tmp_path, *write_bundle(tmp_path / "bundle")))
    assert (model.card.name, model.card.version, model.card.embedding_size) == (AZIMUTH, "v1", 4)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [AZIMUTH]
    assert sorted(path.name for path in model.folder.iterdir()) == ["card.json", "model.h5"]
    meta, arrays = read_model(model)
    assert meta["panel"] == sorted(PANEL)
    assert [len(names) for names in meta["classes"]] == [2, 3, 4, 4, 4, 4, 4, 4]
    assert all(array.dtype == np.float32 for array in arrays.values())
    assert meta["temperatures"] == [[float(np.float32(0.1)), float(np.float32(0.2))]] * 8


def test_sources_are_named_with_their_checksums(tmp_path):
    """Those that are not the published ones are said to be unknown."""
    weights, tables = write_bundle(tmp_path / "bundle")
    model = install(asked(tmp_path, weights, tables))
    found = {source.name: source for source in model.card.sources}
    assert found["model.keras"].sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert len(found) == 1 + 1 + 1 + 3 + 1 + 8
    assert {source.known_as for source in found.values()} == {""}


def test_published_tables_are_known(shared):
    """The tables of panhumanpy 1.0.0, version v1, by their checksums."""
    bundle = shared("panhuman_parity", "bundle")
    (folder,) = find_tables(bundle / "tables")
    names = {name: known_as(sha256) for name, sha256 in checksums(folder).items()}
    assert names[PANEL_NAME] == "gene panel of v1"
    assert names["calibration/temp_scaler_L_8.keras"] == "calibrator of v1, level 8"
    assert all(names.values())


@pytest.mark.parametrize("kind", ["wheel", "unpacked wheel", "version folder", "two versions"])
def test_tables_come_in_several_shapes(tmp_path, kind):
    """The version is the one whose panel is as long as the network is wide."""
    weights, tables = write_bundle(tmp_path / "bundle")
    older = {"v0": tables_files(SHORTER, n_calibrators=0)}
    if kind == "wheel":
        tables = write_wheel(tmp_path / "panhumanpy-1.0.0-py3-none-any.whl", older | {"v1": tables_files()})
    elif kind == "unpacked wheel":
        shutil.unpack_archive(write_wheel(tmp_path / "w.zip", older | {"v1": tables_files()}), tmp_path / "unpacked")
        tables = tmp_path / "unpacked"
    elif kind == "version folder":
        tables = tables / "v1"
    else:
        write_files(tables / "v0", older["v0"])
    assert install(asked(tmp_path, weights, tables)).card.version == "v1"


def test_both_versions(tmp_path):
    """v0 has another panel and no calibration; its weights find its tables. The later installation takes the place."""
    wheel = write_wheel(
        tmp_path / "panhumanpy.whl", {"v0": tables_files(SHORTER, n_calibrators=0), "v1": tables_files()}
    )
    weights, _ = write_bundle(tmp_path / "bundle")
    (tmp_path / "older.keras").write_bytes(weights_file(SHORTER))
    assert install(asked(tmp_path, weights, wheel)).card.version == "v1"
    model = install(asked(tmp_path, tmp_path / "older.keras", wheel))
    assert model.card.version == "v0"
    assert read_model(model)[0]["temperatures"] == []
    assert list(available_models(tmp_path / "models")) == ["markers", AZIMUTH]
    assert install(asked(tmp_path, tmp_path / "older.keras", wheel, version="v0")).card.version == "v0"
    with pytest.raises(ModelError, match=r"take 10 genes, but the gene panel has 11"):
        install(asked(tmp_path, tmp_path / "older.keras", wheel, version="v1"))
    with pytest.raises(ModelError, match="no tables of version v7, only of v0, v1"):
        install(asked(tmp_path, weights, wheel, version="v7"))


def test_tables_without_a_version_need_its_name(tmp_path):
    """A width that no published version has says nothing."""
    weights, tables = write_bundle(tmp_path / "bundle")
    bare = shutil.move(tables / "v1", tmp_path / "bare")
    with pytest.raises(ModelError, match="Name it: --model-version"):
        install(asked(tmp_path, weights, bare))
    assert install(asked(tmp_path, weights, bare, version="v9")).card.version == "v9"


def test_installing_twice_gives_the_same_bytes(tmp_path):
    """So a checksum tells the same model on two machines."""
    bundle = write_bundle(tmp_path / "bundle")
    first, second = (install(asked(tmp_path / name, *bundle)).folder for name in ("1", "2"))
    for name in ("card.json", "model.h5"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


# ---- encoders


def test_encoders_are_read_without_scikit_learn():
    """Names in the order of their ids."""
    assert read_encoders(encoders_file([["b", "a"], ["c"]]), "it") == (("a", "b"), ("c",))


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps([Evil()]), r"asks for (posix|nt)\.system, which label encoders do not need"),
        (pickle.dumps([np.float64(1)], protocol=4), "asks for numpy"),
        (encoders_file([["a"]])[:-20], "is damaged"),
        (b"", "is damaged"),
        (b"hello", "is damaged"),
        (pickle.dumps([1, 2]), "is damaged"),
        (pickle.dumps(None), "is damaged"),
    ],
)
def test_pickles_that_are_refused(data, message, tmp_path, monkeypatch):
    """Nothing but label encoders is made, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=message):
        read_encoders(data, "encoders.pkl")
    assert list(tmp_path.iterdir()) == []


def test_encoders_of_numbers_are_refused():
    """Classes are names."""
    with pytest.raises(ModelError, match="whose classes are not names"):
        read_encoders(pickle.dumps([LabelEncoder().fit([1, 2])], protocol=4), "encoders.pkl")


# ---- files that do not go together


def replaced(**files: bytes | None) -> Callable[[Path, Path], None]:
    """Changes tables: a name's dots and slashes are written as two underscores and one."""

    def change(weights: Path, tables: Path) -> None:
        for name, data in files.items():
            path = next(path for path in (tables / "v1").rglob("*") if path.name.replace(".", "__") == name)
            path.unlink() if data is None else path.write_bytes(data)

    return change


def with_weights(data: bytes | None) -> Callable[[Path, Path], None]:
    return lambda weights, tables: weights.unlink() if data is None else weights.write_bytes(data)


def rewritten(data: bytes, old: bytes, new: bytes) -> bytes:
    """A `.keras` file whose config.json says something else."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(packed, "w") as after:
        for name in before.namelist():
            member = before.read(name)
            after.writestr(name, member.replace(old, new) if name == "config.json" else member)
    return packed.getvalue()


PANEL_FILE, ENCODERS_FILE = "inference_feature_panel__txt", "inference_encoders__pkl"
CASES = {
    "weights are no zip": (with_weights(b"weights"), "model.keras is not a whole .keras file"),
    "weights are cut off": (with_weights(weights_file()[:3000]), "model.keras is not a whole .keras file"),
    "no weights": (with_weights(None), "model.keras cannot be read"),
    "no embedding layer": (with_weights(weights_file(name="thick")), "have no layer 'dense_3'"),
    "no softmax": (
        with_weights(rewritten(weights_file(), b'"softmax"', b'"linear"')),
        "The outputs of level 1 are no probabilities",
    ),
    "panel of another length": (replaced(**{PANEL_FILE: b"A\nB\n"}), "take 11 genes, and no gene panel has as many"),
    "gene twice": (
        replaced(**{PANEL_FILE: ("\n".join([*PANEL[:-1], PANEL[0]])).encode()}),
        "lists MS4A1 more than once",
    ),
    "panel is no text": (replaced(**{PANEL_FILE: b"\xff\xfe"}), "is not UTF-8 text"),
    "no panel": (replaced(**{PANEL_FILE: None}), "holds no tables of Pan-Human Azimuth"),
    "no encoders": (replaced(**{ENCODERS_FILE: None}), "lacks inference_encoders/inference_encoders.pkl"),
    "seven encoders": (replaced(**{ENCODERS_FILE: encoders_file(classes()[:7])}), "There are 7 label encoders"),
    "encoders out of order": (
        replaced(**{ENCODERS_FILE: encoders_file(classes()[::-1])}),
        r"Class '.*' of level 1 is not a path of 1 parts",
    ),
    "another number of classes": (
        replaced(**{ENCODERS_FILE: encoders_file([["Immune cell"], *classes()[1:]])}),
        "Level 1 has 2 outputs, but its label encoder 1 classes",
    ),
    "foreign pickle": (replaced(**{ENCODERS_FILE: pickle.dumps([Evil()])}), "inference_encoders.pkl is refused"),
    "no broad table": (replaced(panhuman_annotate_broad__csv=None), "lacks postprocessing/panhuman_annotate_broad.csv"),
    "other columns": (
        replaced(panhuman_annotate_fine__csv=b"a,b\n1,2\n"),
        "lacks the column Orig_Label and Annotate_fine",
    ),
    "row cut off": (
        replaced(panhuman_annotate_fine__csv=b"Orig_Label,Annotate_fine\nImmune"),
        "is cut off: a row is too short",
    ),
    "seven calibrators": (replaced(temp_scaler_L_3__keras=None), "There are 7 calibrators; 8 or none"),
    "calibrator is another model": (replaced(temp_scaler_L_3__keras=weights_file()), "no temperature scaler"),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_cannot_be_used_leave_nothing_behind(tmp_path, case):
    """One error that names the file, and no half of a model."""
    change, message = CASES[case]
    weights, tables = write_bundle(tmp_path / "bundle")
    change(weights, tables)
    with pytest.raises(ModelError, match=message):
        install(asked(tmp_path, weights, tables))
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []


def test_a_failed_installation_keeps_the_earlier_model(tmp_path):
    """Nothing is replaced before the new model is whole."""
    weights, tables = write_bundle(tmp_path / "bundle")
    model = install(asked(tmp_path, weights, tables))
    before = {path.name: path.read_bytes() for path in model.folder.iterdir()}
    weights.write_bytes(b"broken")
    with pytest.raises(ModelError):
        install(asked(tmp_path, weights, tables))
    assert {path.name: path.read_bytes() for path in model.folder.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    """Here a file is in its way."""
    (tmp_path / "models").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write"):
        install(asked(tmp_path, *write_bundle(tmp_path / "bundle")))


def test_the_order_of_the_panel_file_does_not_matter(tmp_path):
    """The network's order is the sorted one."""
    write_files(tmp_path / "1", tables_files())
    write_files(tmp_path / "2", tables_files(PANEL[::-1]))
    found = [read_tables(find_tables(tmp_path / name)[0]) for name in ("1", "2")]
    assert found[0] == found[1]


def test_other_models_cannot_be_installed(tmp_path):
    """With the names of those that can."""
    with pytest.raises(ModelError, match=r"'markers' cannot be installed. What can: pan_human_azimuth"):
        install(InstallRequest("markers", tmp_path))


# ---- over HTTP


@dataclass
class Site:
    """A record of files, and what its server was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)  # in place of the true ones
    breaks_after: int | None = None  # bytes of an answer
    ignores_ranges: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and Range


@pytest.fixture
def site() -> Iterator[Site]:
    """A server in a thread that answers as Zenodo does: /record is JSON, /files/<name> bytes, in ranges if asked."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append((self.path, wanted))
            name = self.path.removeprefix("/files/")
            if self.path == "/record":
                self.answer(200, json.dumps({"files": [self.entry(name) for name in site.files]}).encode())
            elif self.path == "/strange":
                self.answer(200, b"<html>")
            elif name not in site.files:
                self.answer(404, b"")
            elif wanted and not site.ignores_ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                self.answer(206, site.files[name][start:])
            else:
                self.answer(200, site.files[name])

        def entry(self, name: str) -> dict[str, object]:
            data = site.files[name]
            md5 = site.checksums.get(name, "md5:" + hashlib.md5(data).hexdigest())
            return {"key": name, "size": len(data), "checksum": md5, "links": {"self": f"{site.url}/files/{name}"}}

        def answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.path.startswith("/files/") and site.breaks_after is not None:
                data = data[: site.breaks_after]
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    site.files["panhumanpy_inference_model_v1.keras"] = weights_file()
    site.files["panhumanpy_inference_model_v0.keras"] = weights_file(SHORTER)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def from_site(site: Site, tmp_path: Path, **options: str) -> InstallRequest:
    tables = tmp_path / "tables"
    if not tables.exists():
        write_files(tables / "v1", tables_files())
        write_files(tables / "v0", tables_files(SHORTER, n_calibrators=0))
    return asked(tmp_path, None, tables, record_url=f"{site.url}/record", **options)


@pytest.mark.parametrize(("options", "version"), [({}, "v1"), ({"version": "v0"}, "v0")])
def test_weights_are_downloaded(site, tmp_path, options, version):
    """The newest version or the one asked for; what was downloaded is deleted when the model is installed."""
    model = install(from_site(site, tmp_path, **options))
    assert model.card.version == version
    assert model.card.sources[0].name == f"panhumanpy_inference_model_{version}.keras"
    assert [path.name for path in (tmp_path / "models").iterdir()] == [AZIMUTH]


def test_a_download_goes_on_where_it_broke_off(site, tmp_path, monkeypatch):
    """The second try asks for the rest alone."""
    monkeypatch.setattr("cytonym.download.CHUNK", 100)
    site.breaks_after = 1000
    with pytest.raises(ModelError, match=r"broke off after 1,000 of [0-9,]+ bytes. Run the same command again"):
        install(from_site(site, tmp_path))
    (part,) = (tmp_path / "models" / DOWNLOADS).iterdir()
    assert (part.name, part.stat().st_size) == ("panhumanpy_inference_model_v1.keras.part", 1000)
    site.breaks_after = None
    install(from_site(site, tmp_path))
    assert site.asked[-1] == ("/files/panhumanpy_inference_model_v1.keras", "bytes=1000-")


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    """What was there is not put in front of it."""
    site.ignores_ranges = True
    part = tmp_path / "models" / DOWNLOADS / "panhumanpy_inference_model_v1.keras.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"some of it")
    assert install(from_site(site, tmp_path)).card.version == "v1"
    assert site.asked[-1][1] == "bytes=10-"


def test_a_wrong_checksum_is_never_installed(site, tmp_path):
    """The file is deleted, so that the next try starts anew."""
    site.checksums["panhumanpy_inference_model_v1.keras"] = "md5:" + "0" * 32
    with pytest.raises(ModelError, match="came with a wrong checksum and was deleted"):
        install(from_site(site, tmp_path))
    assert list((tmp_path / "models" / DOWNLOADS).iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone", r"cannot be reached \(it answered 404 Not Found\)"),
        ("/strange", "did not answer with a record of files|cannot be reached"),
    ],
)
def test_a_record_that_is_none(site, tmp_path, path, message):
    """Another address, or a page in its place."""
    wanted = from_site(site, tmp_path)
    with pytest.raises(ModelError, match=message):
        install(InstallRequest(AZIMUTH, wanted.models_dir, None, wanted.tables, record_url=site.url + path))


def test_a_version_that_the_record_lacks(site, tmp_path):
    """With the files that it has."""
    with pytest.raises(ModelError, match=r"has no file panhumanpy_inference_model_v7.keras, only panhumanpy"):
        install(from_site(site, tmp_path, version="v7"))


def test_without_a_network_the_way_by_hand_is_told(tmp_path):
    """Nobody listens at that port; nothing is left behind."""
    wanted = InstallRequest(AZIMUTH, tmp_path / "models", record_url="http://127.0.0.1:9/record")
    with pytest.raises(ModelError, match=r"Is there a network\? .* --weights FILE.keras --tables"):
        install(wanted)
    assert not (tmp_path / "models").exists()


def test_tables_come_by_pip(site, tmp_path, monkeypatch, capsys):
    """pip finds the wheel where it is told to look, here in a folder; nothing is installed by it."""
    write_wheel(tmp_path / "panhumanpy-1.0.0-py3-none-any.whl", {"v1": tables_files()})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("CYTONYM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("cytonym.cli.RECORD", f"{site.url}/record")
    with pytest.raises(SystemExit) as stopped:
        main(["models", "install", AZIMUTH])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out.count("unknown checksum")) == (0, 15)
    assert [path.name for path in (tmp_path / "home" / "models").iterdir()] == [AZIMUTH]


def test_pip_without_the_package_is_an_error(site, tmp_path, monkeypatch):
    """pip's reason in one line, and the way by hand; the weights stay for the next try."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wanted = InstallRequest(AZIMUTH, tmp_path / "models", record_url=f"{site.url}/record")
    with pytest.raises(ModelError, match=r"pip could not download panhumanpy==1.0.0: .* --tables"):
        install(wanted)
    assert (tmp_path / "models" / DOWNLOADS / "panhumanpy_inference_model_v1.keras").exists()


def test_the_command_prints_one_line_for_a_bad_file(tmp_path, capsys):
    """Exit code 4, no traceback; what was asked for by mistake is named."""
    (tmp_path / "weights.keras").write_bytes(b"PK\x03\x04 cut off")
    arguments = ["models", "install", AZIMUTH, "--weights", str(tmp_path / "weights.keras")]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--tables", str(tmp_path / "none"), "--models-dir", str(tmp_path / "models")])
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (4, "")
    assert said.err.startswith("ERROR: ")
    assert said.err.count("\n") == 1
    assert "weights.keras is not a whole .keras file" in said.err
