"""A good run with 10x Cloud, request by request."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from cloud_run import BARCODES, QUICK, SIZE, TOKEN, annotated, client_of, files_of, served, write_matrix
from fake_cloud import PART_SIZE

from cytonym.cloud import CloudClient, CloudInput, CloudToken, Secret, connect, run_cloud_annotation
from cytonym.io.cloud_results import read_evidence
from cytonym.version import __version__

FILES = "/api/cloud-analysis/files-api/v1"


@pytest.fixture
def cloud():
    with served() as cloud:
        yield cloud


@pytest.fixture
def matrix(tmp_path):
    return write_matrix(tmp_path)


def test_the_evidence_is_read_once(cloud, matrix, monkeypatch):
    """Of a large sample it has gigabytes: whether it is whole and which ids it tells is found in one pass."""
    opened = []

    def counted(path):
        opened.append(path)
        return read_evidence(path)

    monkeypatch.setattr("cytonym.io.cloud_results.read_evidence", counted)
    assert annotated(cloud, matrix).ontology_ids
    assert len(opened) == 1


def test_requests_in_order(cloud, matrix):
    """Every request of a run, with its method and address."""
    annotated(cloud, matrix)
    part = ["part_url", "part"]
    fetch = ["file_url", "fetch"]
    assert cloud.steps == [
        *("user", "defaults", "register", "begin"),
        *(3 * part),
        *("complete", "close", "start", "poll", "poll", "poll", "list"),
        *(3 * fetch),
    ]
    addresses = {seen.step: f"{seen.method} {seen.target.partition('?')[0]}" for seen in cloud.seen}
    assert addresses == {
        "user": "GET /api/core/users-api/v1/user",
        "defaults": "POST /api/cloud-analysis/annotation-api/v1/defaults",
        "register": f"POST {FILES}/uploads",
        "begin": f"GET {FILES}/multipart/start-upload",
        "part_url": f"GET {FILES}/multipart/get-upload-url",
        "part": "PUT /put/blob-1/3",
        "complete": f"POST {FILES}/multipart/complete-upload",
        "close": f"PUT {FILES}/uploads/file-1",
        "start": "POST /api/cloud-analysis/pipelines-api/v1/adhoc-analyses",
        "poll": "GET /api/cloud-analysis/projects-api/v1/analyses/analysis-1",
        "list": f"GET {FILES}/projects/project-1/analyses/analysis-1",
        "file_url": f"POST {FILES}/files/out-cas_results.json.gz/download",
        "fetch": "GET /get/out-cas_results.json.gz",
    }


def test_the_cookie_goes_to_the_api_alone(cloud, matrix):
    """The storage gets neither cookie nor token."""
    annotated(cloud, matrix)
    for seen in cloud.seen:
        at_storage = seen.step in ("part", "fetch")
        assert seen.headers.get("cookie") == (None if at_storage else f"session_id={TOKEN}")
        assert seen.headers["user-agent"] == f"cytonym/{__version__}"
        assert at_storage or set(seen.headers) <= {
            *("host", "cookie", "user-agent", "accept-encoding", "content-length", "content-type")
        }


def test_a_netrc_file_changes_nothing(cloud, matrix, tmp_path, monkeypatch):
    """Nobody's password for this host is sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    annotated(cloud, matrix)
    assert not any("authorization" in seen.headers for seen in cloud.seen)


def test_bodies(cloud, matrix):
    """What is said about file and analysis; the file's folder is not."""
    annotated(cloud, matrix, model="human_pca_v1_beta")
    content = matrix.read_bytes()
    (choice,), (file,) = cloud.requests("defaults"), cloud.requests("register")
    assert choice.json == {
        "pipelineName": "SPACERANGER_ANNOTATE_CS",
        "genomes": ["GRCh38"],
        "requires": ["results:json"],
        "modelName": "human_pca_v1_beta",
    }
    assert file.json == {
        "filename": "matrix.h5",
        "md5": hashlib.md5(content).hexdigest(),
        "size": SIZE,
        "path": "matrix.h5",
        "fileType": "ADHOC_INPUT",
        "metadata": {"source": "cellranger"},
    }
    (start,) = cloud.requests("start")
    name = start.json["analysisName"]
    assert start.json == {
        "analysisName": name,
        "description": "Cell annotation (local)",
        "pipelineName": "CLOUD_ANNOTATE",
        "productVersion": "1.2.3",
        "productVariant": "default",
        "params": {
            "pipelineName": "SPACERANGER_ANNOTATE_CS",
            "id": name,
            "modelName": "human_pca_v1_beta",
            "filteredMatricesH5": "file-1",
            "genomeName": "GRCh38",
            "withDistances": False,
            "withDatasetInfo": True,
            "withQualityScores": False,
        },
    }
    assert str(matrix.parent) not in "".join(
        f"{seen.target}{seen.body!r}" for seen in cloud.seen if seen.step != "part"
    )


@pytest.mark.parametrize("model", [None, "auto", "10x:auto", "10x:"])
def test_the_service_chooses_the_model(cloud, matrix, model):
    """Nothing named, or auto: the request names none."""
    assert annotated(cloud, matrix, model=model).model == "human_pca_v1_beta"
    assert "modelName" not in cloud.requests("defaults")[0].json


def test_a_prefix_of_the_model_is_cut(cloud, matrix):
    """What stands before the first colon is not the service's."""
    annotated(cloud, matrix, model="10x:human_pca_v1_beta")
    assert cloud.requests("defaults")[0].json["modelName"] == "human_pca_v1_beta"


def test_parts(cloud, matrix):
    """5 MiB each but the last, signed for 600 s with their MD5, put together with the storage's ETags."""
    annotated(cloud, matrix)
    content = matrix.read_bytes()
    chunks = [content[start : start + PART_SIZE] for start in range(0, SIZE, PART_SIZE)]
    assert [len(seen.body) for seen in cloud.requests("part")] == [PART_SIZE, PART_SIZE, 12_345]
    for number, (chunk, url, part) in enumerate(
        zip(chunks, cloud.requests("part_url"), cloud.requests("part"), strict=True), start=1
    ):
        md5 = base64.b64encode(hashlib.md5(chunk).digest()).decode()
        assert url.query == {
            "blobId": "blob-1",
            "partNumber": str(number),
            "hash": md5,
            "expirationSeconds": "600",
            "uploadId": "upload-1",
        }
        assert part.body == chunk
        assert part.headers["content-md5"] == md5
        assert part.headers["content-type"] == "application/octet-stream"
        assert part.headers["accept"] == "application/json"
    etags = [f'"{hashlib.md5(chunk).hexdigest()}"' for chunk in chunks]
    assert cloud.requests("complete")[0].json == {
        "parts": [{"partNumber": number, "etag": etag} for number, etag in enumerate(etags, start=1)],
        "blobId": "blob-1",
        "uploadId": "upload-1",
    }
    assert cloud.requests("close")[0].json == {"status": "DONE"}


@pytest.mark.parametrize(("size", "n_parts"), [(1, 1), (PART_SIZE, 1), (PART_SIZE + 1, 2)])
def test_sizes_at_the_edge_of_a_part(cloud, matrix, size, n_parts):
    """A file of whole parts has no empty one at its end."""
    matrix.write_bytes(b"x" * size)
    annotated(cloud, matrix)
    assert [len(seen.body) for seen in cloud.requests("part")] == [PART_SIZE] * (n_parts - 1) + [
        size - PART_SIZE * (n_parts - 1)
    ]


def test_what_comes_back(cloud, matrix):
    """The files byte for byte, the table on the matrix's barcodes, the metadata, and no file that nobody asked for."""
    result = annotated(cloud, matrix)
    assert result.cell_types_path.read_bytes() == cloud.outputs["cas_cell_types.csv"]
    assert result.results_path.read_bytes() == cloud.outputs["cas_results.json.gz"]
    assert len(json.loads(gzip.decompress(result.results_path.read_bytes()))) == len(BARCODES)
    assert result.cell_types.table["barcode"].tolist() == BARCODES
    assert result.cell_types.table["coarse_cell_type"].tolist()[:3] == ["T cell", "B cell", "Monocyte"]
    assert (result.cell_types.missing, result.cell_types.fraction_returned) == ((), 1.0)
    assert (result.metadata.developer, result.metadata.is_beta_model) == ("Broad", True)
    assert files_of(matrix) == {
        *("cas_cell_types.csv", "cas_results.json.gz", "metadata.json", "cloud_run.json", "session_statistics.json")
    }


def test_session_statistics(cloud, matrix):
    """Tries, seconds and success of each operation, in one flat object."""
    cloud.fail("defaults", 500)  # asking for the model is none of the four operations
    cloud.fail("user", 500)
    annotated(cloud, matrix)
    told = json.loads((matrix.parent / "cloud" / "session_statistics.json").read_text())
    durations = {name: told.pop(name) for name in [name for name in told if name.endswith(("duration", "elapsed"))]}
    assert told == {
        "connect_tries": 2,
        "connect_success": True,
        "upload_tries": 1,
        "upload_success": True,
        "analyze_tries": 1,
        "analyze_success": True,
        "download_tries": 1,
        "download_success": True,
        "barcodes": len(BARCODES),
        "file_size": SIZE,
        "cell_annotation_model": "human_pca_v1_beta",
        "server_url": cloud.url,
        "success": True,
        "failure_mode": None,
        "analysis_id": "analysis-1",
    }
    assert all(0 <= seconds <= durations["time_elapsed"] for seconds in durations.values())
    assert set(durations) == {f"{name}_duration" for name in ("connect", "upload", "analyze", "download")} | {
        "time_elapsed"
    }


def test_one_line_before_anything_is_sent(cloud, matrix):
    """It says what, where to, and under whose terms; it stands before the first byte of the matrix."""
    at_register: list[str] = []
    cloud.on("register", 1, lambda: at_register.extend(cloud.lines))
    annotated(cloud, matrix)
    (line,) = [line for line in at_register if line.startswith("Sending")]
    for words in (
        "matrix.h5 (10.5 MB",
        "barcodes of all cells",
        "no image",
        cloud.url,
        "under the End User License Agreement",
    ):
        assert words in line


def test_a_file_that_the_service_has(cloud, matrix):
    """SKIP: nothing is sent."""
    cloud.register_status = "SKIP"
    annotated(cloud, matrix)
    assert cloud.steps[:4] == ["user", "defaults", "register", "start"]


def test_a_gateway_before_the_server(tmp_path):
    """The headers of a JSON token file go to the API, and not to the storage."""
    gateway = {"cf-access-client-id": "g4te", "cf-access-client-secret": "k3y"}
    with served(gateway=gateway) as cloud:
        secrets = {name: Secret(value) for name, value in gateway.items()}
        client = CloudClient(CloudToken(Secret(TOKEN), cloud.url, secrets), pace=QUICK)
        run_cloud_annotation(client, CloudInput(write_matrix(tmp_path), BARCODES, "GRCh38"), tmp_path / "cloud")


def test_a_run_inside_10x_cloud_says_so(cloud, matrix):
    """In the analysis' description."""
    annotated(cloud, matrix, in_cloud=True)
    assert cloud.requests("start")[0].json["description"] == "Cell annotation (cloud)"


def test_the_fake_from_a_shell():
    """It says its addresses, serves, and at the end what it saw."""
    fake = Path(__file__).with_name("fake_cloud.py")
    command = [sys.executable, str(fake), f"--token={TOKEN}", "--fault=user=500:2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        addresses = json.loads(process.stdout.readline())
        connect(client_of(addresses["url"]))
        process.stdin.close()
        told = json.loads(process.stdout.readline())
    assert told == {"steps": ["user"] * 3, "complaints": []}


def test_a_real_matrix(tmp_path, write_h5, rng):
    """A 10x HDF5 file arrives as it is: the other side reads its barcodes."""
    path = write_h5(rng.poisson(1, (30, 3)), ["CD3E", "MS4A1", "LYZ"])
    with h5py.File(path) as file:
        barcodes = [barcode.decode() for barcode in file["matrix/barcodes"][:]]
    with served(barcodes=None) as cloud:
        source = CloudInput(path, barcodes, "GRCh38")
        result = run_cloud_annotation(client_of(cloud.url), source, tmp_path / "cloud")
    assert result.cell_types.table["barcode"].tolist() == barcodes
