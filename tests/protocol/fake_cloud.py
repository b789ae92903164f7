"""10x Cloud on this machine: a real HTTP server for the API and one for the storage, scriptable, and strict.

In a test:

    with FakeCloud(token="t0ken", barcodes=["AAAC-1", "AAAG-1"]) as cloud:
        cloud.fail("part", "cut", times=2)        # see FAULTS; a number is that HTTP status
        cloud.plans = [["NEW", "FAILED"], ["COMPLETED"]]
        cloud.edit["cas_cell_types.csv"] = lambda content: content[:-10]
        ...                                       # TENX_CLOUD_URL is cloud.url
        assert cloud.complaints == []             # what the client did against the protocol
        assert cloud.steps == ["user", "models", ...]

From a shell; it prints one JSON line with its addresses and serves until it is ended:

    python tests/protocol/fake_cloud.py --token t0ken --fault part=500:2 --plan NEW,FAILED --plan COMPLETED
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import gzip
import hashlib
import io
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PART_SIZE = 5 * 1024 * 1024
PIPESTANCE_TYPE = "SPACERANGER_ANNOTATE_CS"
FAULTS = ("cut", "slow", "garbage", "empty", "redirect", "wrong etag", "no etag", "unsafe address")
GENOMES = ("GRCh38", "hg19", "mm10", "GRCm39")
TYPES = (
    ("T cell", "CD4-positive, alpha-beta T cell", "CL:0000624"),
    ("B cell", "B cell", "CL:0000236"),
    ("Monocyte", "classical monocyte", "CL:0000860"),
)
API = r"/api/cloud-analysis/%s-api/v1"
ROUTES = (
    ("GET", r"/api/core/users-api/v1/user", "user"),
    ("GET", API % "annotation" + r"/models", "models"),
    ("POST", API % "annotation" + r"/defaults", "defaults"),
    ("POST", API % "files" + r"/uploads", "register"),
    ("GET", API % "files" + r"/multipart/start-upload", "begin"),
    ("GET", API % "files" + r"/multipart/get-upload-url", "part_url"),
    ("POST", API % "files" + r"/multipart/complete-upload", "complete"),
    ("PUT", API % "files" + r"/uploads/([^/]+)", "close"),
    ("POST", API % "pipelines" + r"/adhoc-analyses", "start"),
    ("GET", API % "projects" + r"/analyses/([^/]+)", "poll"),
    ("GET", API % "files" + r"/projects/([^/]+)/analyses/([^/]+)", "list"),
    ("POST", API % "files" + r"/files/([^/]+)/download", "file_url"),
)
STORAGE_ROUTES = (("PUT", r"/put/([^/]+)/(\d+)", "part"), ("GET", r"/get/([^/]+)", "fetch"))
STEPS = tuple(step for _, _, step in (*ROUTES, *STORAGE_ROUTES))


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    step: str
    method: str
    target: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Blob:
    """A registered file and what has come of it."""

    name: str
    md5: str
    size: int
    file_id: str
    parts: dict[int, bytes] = field(default_factory=dict)
    etags: dict[int, str] = field(default_factory=dict)
    content: bytes | None = None
    done: bool = False


class Refused(Exception):
    """An HTTP error to answer with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeCloud:
    """Both servers and what they know. Attributes may be changed at any time."""

    def __init__(
        self,
        *,
        token: str = "t0ken",
        barcodes: list[str] | None = None,  # None: those of the uploaded 10x HDF5 file
        gateway: dict[str, str] | None = None,  # headers that the API wants
        port: int = 0,
        storage_port: int = 0,
    ) -> None:
        self.token, self.barcodes, self.gateway = token, barcodes, gateway or {}
        self.models = ["human_pca_v1_beta", "mouse_pca_v1_beta"]
        self.plans = [["NEW", "INPROGRESS", "COMPLETED"]]  # of each analysis, the last one's for all further ones
        self.failing: set[str] = set()  # names of files whose analyses fail
        self.register_status: str | None = None  # None: READY, or SKIP for a file that is there
        self.edit: dict[str, Callable[[bytes], bytes | None]] = {}  # output -> how it is spoilt; None: left out
        self.no_outputs = False
        self.slowness = 0.3  # seconds
        self.redirects = 1  # before a download, when "redirect" is its fault
        self.seen: list[Seen] = []
        self.complaints: list[str] = []
        self.blobs: dict[str, Blob] = {}
        self.uploads: dict[str, str] = {}
        self.analyses: dict[str, list[str]] = {}
        self.outputs: dict[str, bytes] = {}
        self._faults: dict[str, list[list[Any]]] = {step: [] for step in STEPS}
        self._hooks: list[tuple[str, int, Callable[[], object]]] = []
        self._signed: dict[str, str] = {}
        self._lock = threading.RLock()
        self._servers = [_server(self, port, is_storage=False), _server(self, storage_port, is_storage=True)]
        self.url, self.storage_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> FakeCloud:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fail(self, step: str, fault: str | int, *, times: int | None = 1, after: int = 0) -> None:
        """`step` meets that fault `times` times (None: for ever) after `after` good ones."""
        if step not in STEPS or not (isinstance(fault, int) or fault in FAULTS):
            raise ValueError(f"no step {step} or fault {fault}")
        self._faults[step].append([fault, times, after])

    def heal(self) -> None:
        """No more faults."""
        self._faults = {step: [] for step in STEPS}

    def on(self, step: str, number: int, action: Callable[[], object]) -> None:
        """Calls `action` when the request number `number` (from 1) of that step has come, before it is answered."""
        self._hooks.append((step, number, action))

    def forget_uploads(self) -> None:
        """No upload that has begun is known any longer."""
        self.uploads.clear()

    @property
    def steps(self) -> list[str]:
        return [seen.step for seen in self.seen]

    def requests(self, step: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.step == step]

    # ---- what the servers call

    def take(self, seen: Seen) -> str | int | None:
        """Records a request, checks what concerns every one, and gives the fault that it meets."""
        with self._lock:
            self.seen.append(seen)
            number = len(self.requests(seen.step))
            fault = self._next_fault(seen.step)
        for step, at, action in self._hooks:
            if (step, at) == (seen.step, number):
                action()
        self._check_secrets(seen)
        return fault

    def cuts(self, step: str) -> bool:
        """The next request of that step is cut off in its middle."""
        with self._lock:
            waiting = [entry for entry in self._faults[step] if entry[1] != 0]
            return bool(waiting) and waiting[0][0] == "cut" and waiting[0][2] == 0

    def _next_fault(self, step: str) -> str | int | None:
        for entry in self._faults[step]:
            fault, times, after = entry
            if after > 0:
                entry[2] -= 1
                return None
            if times is None or times > 0:
                entry[1] = None if times is None else times - 1
                return fault
        return None

    def _check_secrets(self, seen: Seen) -> None:
        cookie = seen.headers.get("cookie")
        if seen.step in ("part", "fetch"):
            if cookie is not None or "authorization" in seen.headers or set(self.gateway) & set(seen.headers):
                self.complain(f"{seen.step}: credentials were sent to the storage")
            if self.token in f"{seen.target} {seen.headers}" or self.token.encode() in seen.body:
                self.complain(f"{seen.step}: the token was sent to the storage")
            return
        if cookie is None or not cookie.startswith("session_id="):
            self.complain(f"{seen.step}: no session cookie")
        if "authorization" in seen.headers or self.token in seen.target or self.token.encode() in seen.body:
            self.complain(f"{seen.step}: the token stands elsewhere than in the cookie")
        if seen.body and seen.headers.get("content-type") != "application/json":
            self.complain(f"{seen.step}: the body is not said to be JSON")

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def answer_api(self, seen: Seen, groups: tuple[str, ...]) -> Any:
        """The JSON of a good request; Refused for another."""
        if seen.headers.get("cookie") != f"session_id={self.token}":
            raise Refused(403, "who are you?")
        for name, value in self.gateway.items():
            if seen.headers.get(name) != value:
                raise Refused(403, "not through this gateway")
        with self._lock:
            return getattr(self, f"_do_{seen.step}")(seen, *groups)

    def _do_user(self, _: Seen) -> Any:
        return {"email": "somebody@example.org"}

    def _do_models(self, _: Seen) -> Any:
        return [
            {
                "name": name,
                "displayName": name.replace("_", " "),
                "description": "of the fake cloud",
                "date": "2025-01-01",
                "genomes": list(GENOMES[:2] if name.startswith("human") else GENOMES[2:]),
            }
            for name in self.models
        ]

    def _do_defaults(self, seen: Seen) -> Any:
        body = self._body(seen, {"pipelineName", "genomes", "requires"}, optional={"modelName"})
        if body["pipelineName"] != PIPESTANCE_TYPE or body["requires"] != ["results:json"]:
            self.complain(f"defaults: {body}")
        (genome,) = body["genomes"]
        species = "human" if re.search("GRCh38|hg19", genome) else "mouse"
        fitting = [name for name in self.models if name.startswith(species)]
        wanted = body.get("modelName", fitting[0] if fitting else "")
        if wanted not in fitting or not any(known in genome for known in GENOMES):
            raise Refused(400, f"no model for {genome}")
        return {"pipelineName": "CLOUD_ANNOTATE", "pipelineVersion": "1.2.3", "model": wanted}

    def _do_register(self, seen: Seen) -> Any:
        body = self._body(seen, {"filename", "md5", "size", "path", "fileType", "metadata"})
        if body["path"] != body["filename"] or "/" in body["path"] or body["fileType"] != "ADHOC_INPUT":
            self.complain(f"register: {body}")
        if body["metadata"] != {"source": "cellranger"} or not re.fullmatch(r"[0-9a-f]{32}", body["md5"]):
            self.complain(f"register: {body}")
        known = [(blob_id, blob) for blob_id, blob in self.blobs.items() if blob.done and blob.md5 == body["md5"]]
        if known and self.register_status is None:
            return {"id": known[0][1].file_id, "blobId": known[0][0], "status": "SKIP"}
        number = len(self.blobs) + 1
        blob = Blob(body["filename"], body["md5"], body["size"], f"file-{number}")
        self.blobs[f"blob-{number}"] = blob
        return {"id": blob.file_id, "blobId": f"blob-{number}", "status": self.register_status or "READY"}

    def _do_begin(self, seen: Seen) -> Any:
        blob_id = self._blob_id(seen.query)
        upload_id = f"upload-{len(self.requests('begin'))}"
        self.uploads[upload_id] = blob_id
        self.blobs[blob_id].parts.clear()
        return {"uploadId": upload_id}

    def _do_part_url(self, seen: Seen) -> Any:
        query = seen.query
        if set(query) != {"blobId", "partNumber", "hash", "expirationSeconds", "uploadId"}:
            self.complain(f"part_url: {query}")
        if query["expirationSeconds"] != "600":
            self.complain(f"part_url: signed for {query['expirationSeconds']} s")
        blob_id = self._blob_id(query)
        self._check_upload(query["uploadId"], blob_id)
        path = f"/put/{blob_id}/{query['partNumber']}"
        self._signed[path] = query["hash"]
        return {"presignedUrl": f"{self.storage_url}{path}?X-Signature=s1gned"}

    def _do_complete(self, seen: Seen) -> Any:
        body = self._body(seen, {"parts", "blobId", "uploadId"})
        self._check_upload(body["uploadId"], body["blobId"])
        blob = self.blobs[body["blobId"]]
        told = {part["partNumber"]: part["etag"] for part in body["parts"]}
        if list(told) != list(range(1, len(told) + 1)):
            self.complain(f"complete: part numbers {list(told)}")
        if told != {number: _etag(content) for number, content in blob.parts.items()}:
            raise Refused(400, "InvalidPart: an ETag is another one")
        sizes = [len(blob.parts[number]) for number in told]
        if any(size != PART_SIZE for size in sizes[:-1]) or not 0 < sizes[-1] <= PART_SIZE:
            self.complain(f"complete: part sizes {sizes}")
        content = b"".join(blob.parts[number] for number in told)
        if len(content) != blob.size or hashlib.md5(content).hexdigest() != blob.md5:
            self.complain("complete: the file is not the one that was registered")
        blob.content = content
        del self.uploads[body["uploadId"]]
        return {"status": "ok"}

    def _do_close(self, seen: Seen, file_id: str) -> Any:
        if self._body(seen, {"status"}) != {"status": "DONE"}:
            self.complain(f"close: {seen.body!r}")
        blob = self._file(file_id)
        if blob.content is None:
            raise Refused(409, "nothing was uploaded")
        blob.done = True
        return {"id": file_id, "status": "DONE"}

    def _do_start(self, seen: Seen) -> Any:
        keys = {"analysisName", "description", "pipelineName", "productVersion", "productVariant", "params"}
        body = self._body(seen, keys)
        params = body["params"]
        wanted = {
            "pipelineName": PIPESTANCE_TYPE,
            "id": body["analysisName"],
            "modelName": params.get("modelName"),
            "filteredMatricesH5": params.get("filteredMatricesH5"),
            "genomeName": params.get("genomeName"),
            "withDistances": False,
            "withDatasetInfo": True,
            "withQualityScores": False,
        }
        versions = (body["pipelineName"], body["productVersion"], body["productVariant"])
        if params != wanted or versions != ("CLOUD_ANNOTATE", "1.2.3", "default"):
            self.complain(f"start: {body}")
        if not re.fullmatch("[a-z0-9]{8}", body["analysisName"]):
            self.complain(f"start: name {body['analysisName']}")
        content = self._content(params["filteredMatricesH5"])
        analysis_id = f"analysis-{len(self.analyses) + 1}"
        self.analyses[analysis_id] = list(self.plans[min(len(self.analyses), len(self.plans) - 1)])
        if self.register_status != "SKIP" and self._file(params["filteredMatricesH5"]).name in self.failing:
            self.analyses[analysis_id] = ["FAILED"]
            return {"analysisID": analysis_id}
        try:
            self.outputs = _outputs(self.barcodes if self.barcodes is not None else _barcodes_of(content))
        except (OSError, KeyError):  # what was sent is no 10x HDF5 file
            self.analyses[analysis_id] = ["FAILED"]
        return {"analysisID": analysis_id}

    def _do_poll(self, _: Seen, analysis_id: str) -> Any:
        if analysis_id not in self.analyses:
            raise Refused(404, "no such analysis")
        plan = self.analyses[analysis_id]
        status = plan.pop(0) if len(plan) > 1 else plan[0]
        runs = [] if status == "none" else [{"status": status}]
        return {"projectId": "project-1", "analysisRuns": runs}

    def _do_list(self, _: Seen, project_id: str, analysis_id: str) -> Any:
        if project_id != "project-1" or analysis_id not in self.analyses:
            raise Refused(404, "no such analysis")
        names = [] if self.no_outputs else [name for name in self.outputs if self._output(name) is not None]
        return {"files": [{"id": f"out-{name}", "filename": name} for name in names]}

    def _do_file_url(self, _: Seen, file_id: str) -> Any:
        if self._output(file_id.removeprefix("out-")) is None:
            raise Refused(404, "no such file")
        return {"downloadURL": f"{self.storage_url}/get/{file_id}?X-Signature=s1gned"}

    def store_part(self, seen: Seen, blob_id: str, number: str) -> str:
        """Takes a part; its ETag."""
        found = base64.b64encode(hashlib.md5(seen.body).digest()).decode()
        path = seen.target.partition("?")[0]
        if seen.headers.get("content-md5") != found or self._signed.get(path) != found:
            self.complain(f"part {number}: the MD5 is not the part's")
        if seen.headers.get("content-type") != "application/octet-stream":
            self.complain(f"part {number}: Content-Type {seen.headers.get('content-type')}")
        if len(seen.body) > PART_SIZE:
            self.complain(f"part {number}: {len(seen.body)} bytes")
        with self._lock:
            self.blobs[blob_id].parts[int(number)] = seen.body
        return _etag(seen.body)

    def _output(self, name: str) -> bytes | None:
        content = self.outputs.get(name)
        return content if content is None or name not in self.edit else self.edit[name](content)

    def output(self, file_id: str) -> bytes:
        return self._output(file_id.removeprefix("out-")) or b""

    def _body(self, seen: Seen, keys: set[str], optional: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
        body = seen.json
        if not keys <= set(body) <= keys | optional:
            self.complain(f"{seen.step}: fields {sorted(body)}")
        return body

    def _blob_id(self, query: dict[str, str]) -> str:
        if query.get("blobId") not in self.blobs:
            raise Refused(404, "no such blob")
        return query["blobId"]

    def _check_upload(self, upload_id: str, blob_id: str) -> None:
        if self.uploads.get(upload_id) != blob_id:
            raise Refused(404, "NoSuchUpload")

    def _file(self, file_id: str) -> Blob:
        for blob in self.blobs.values():
            if blob.file_id == file_id:
                return blob
        raise Refused(404, "no such file")

    def _content(self, file_id: str) -> bytes:
        if self.register_status == "SKIP":
            return b""
        blob = self._file(file_id)
        if not blob.done or blob.content is None:
            raise Refused(404, "no such file")
        return blob.content


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _barcodes_of(content: bytes) -> list[str]:
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        return [barcode.decode() for barcode in file["matrix/barcodes"][:]]


def _outputs(barcodes: list[str]) -> dict[str, bytes]:
    """The three files, and one that nobody asked for; cell i is of type i modulo 3."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["barcode", "coarse_cell_type", "fine_cell_type", "cell_count_in_model"])
    evidence = []
    for index, barcode in enumerate(barcodes):
        coarse, fine, ontology_id = TYPES[index % 3]
        writer.writerow([barcode, coarse, fine, 300 + index % 100])
        matches = [
            {"cell_type": fine, "cell_type_ontology_term_id": ontology_id, "cell_count": 300 + index % 100},
            {"cell_type": "cell", "cell_type_ontology_term_id": "CL:0000000", "cell_count": 200 - index % 100},
        ]
        evidence.append({"barcode": barcode, "matches": matches})
    metadata = {
        "tree_version_used": "V5_mappings",
        "display_map_version_used": "celltype_display_mapping_v8",
        "fraction_non_informative_annotations": 0.01,
        "is_beta_model": True,
        "developer": "Broad",
    }
    return {
        "cas_cell_types.csv": table.getvalue().encode(),
        "cas_results.json.gz": gzip.compress(json.dumps(evidence).encode(), mtime=0),
        "metadata.json": json.dumps(metadata).encode(),
        "_log": b"done\n",
    }


def _server(cloud: FakeCloud, port: int, *, is_storage: bool) -> ThreadingHTTPServer:
    class Handler(_Handler):
        pass

    Handler.cloud, Handler.routes = cloud, STORAGE_ROUTES if is_storage else ROUTES
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    cloud: FakeCloud
    routes: tuple[tuple[str, str, str], ...]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        for method, pattern, step in self.routes:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._step(step, found.groups())
                return
        self.cloud.complain(f"{self.command} {path} is no address of this server")
        self._answer(404, b"{}")

    def _step(self, step: str, groups: tuple[str, ...]) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length // 2 if self.cloud.cuts(step) else length)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(step, self.command, self.path, query, headers, body)
        fault = self.cloud.take(seen)
        if fault == "cut" and step != "fetch":
            self._cut()
        elif isinstance(fault, int):
            # a careless server: its error shows the cookie it was sent
            self._answer(fault, json.dumps({"error": "as scripted", "cookie": headers.get("cookie")}).encode())
        elif fault in ("garbage", "empty"):
            self._answer(200, b"<html>{[" if fault == "garbage" else b"")
        elif fault == "redirect" and step != "fetch":
            self._answer(302, b"", Location=f"{self.cloud.storage_url}/get/elsewhere")
        elif step == "fetch":
            self._fetch(query, groups[0], fault)
        elif step == "part":
            self._part(seen, groups, fault)
        else:
            self._api(seen, groups, fault)

    def _api(self, seen: Seen, groups: tuple[str, ...], fault: str | None) -> None:
        if fault == "slow":
            time.sleep(self.cloud.slowness)
        try:
            value = self.cloud.answer_api(seen, groups)
        except Refused as exc:
            self._answer(exc.code, json.dumps({"error": str(exc)}).encode())
            return
        if fault == "unsafe address":
            value = dict.fromkeys(value, "http://storage.example.org/x?X-Signature=s1gned")
        self._answer(200, json.dumps(value).encode())

    def _part(self, seen: Seen, groups: tuple[str, ...], fault: str | None) -> None:
        if fault == "slow":
            time.sleep(self.cloud.slowness)
        etag = self.cloud.store_part(seen, *groups)
        if fault == "no etag":
            self._answer(200, b"")
        else:
            self._answer(200, b"", ETag='"00000000000000000000000000000000"' if fault == "wrong etag" else etag)

    def _fetch(self, query: dict[str, str], file_id: str, fault: str | None) -> None:
        hops = int(query.get("hops", 0))
        if fault == "redirect" or 0 < hops < self.cloud.redirects:
            self._answer(302, b"", Location=f"/get/{file_id}?X-Signature=s1gned&hops={hops + 1}")
            return
        content = self.cloud.output(file_id)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "slow":
            for start in range(0, len(content), len(content) // 10 + 1):
                self.wfile.write(content[start : start + len(content) // 10 + 1])
                time.sleep(self.cloud.slowness / 10)
        elif fault == "cut":
            self.wfile.write(content[: len(content) // 2])
            self._cut()
        else:
            self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _fault(text: str) -> tuple[str, str | int, int | None]:
    """`step=fault` or `step=fault:times`; times 0 is for ever."""
    step, _, rest = text.partition("=")
    name, _, times = rest.partition(":")
    count = int(times or 1)
    return step, int(name) if name.isdigit() else name, count or None


def main() -> None:
    """Serves until standard input ends, with --forever until it is killed; then says what it saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="of the API [default: a free one]")
    parser.add_argument("--storage-port", type=int, default=0, help="of the storage [default: a free one]")
    parser.add_argument("--token", default="t0ken")
    parser.add_argument("--fault", action="append", default=[], metavar="STEP=FAULT[:TIMES]", help="0: for ever")
    parser.add_argument("--plan", action="append", default=[], metavar="STATUS,...", help="of the next analysis")
    parser.add_argument("--failing", action="append", default=[], metavar="NAME", help="of a file that never succeeds")
    parser.add_argument("--seen", metavar="FILE", help="appends a JSON line a request: step and method")
    parser.add_argument("--forever", action="store_true", help="do not end with standard input")
    options = parser.parse_args()
    with FakeCloud(token=options.token, port=options.port, storage_port=options.storage_port) as cloud:
        cloud.failing = set(options.failing)
        for step, fault, times in map(_fault, options.fault):
            cloud.fail(step, fault, times=times)
        if options.plan:
            cloud.plans = [plan.split(",") for plan in options.plan]
        print(json.dumps({"url": cloud.url, "storage": cloud.storage_url}), flush=True)
        _serve(cloud, options.seen, forever=options.forever)
        print(json.dumps({"steps": cloud.steps, "complaints": cloud.complaints}), flush=True)


def _serve(cloud: FakeCloud, seen_path: str | None, *, forever: bool) -> None:
    ended = threading.Event()
    if not forever:
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    written = 0
    while not ended.wait(0.1):
        if seen_path and len(cloud.seen) > written:
            with open(seen_path, "a", encoding="utf-8") as file:  # noqa: PTH123 - the only path here
                for seen in cloud.seen[written:]:
                    file.write(json.dumps({"step": seen.step, "method": seen.method}) + "\n")
                    written += 1


if __name__ == "__main__":
    main()
