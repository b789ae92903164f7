"""The wire of 10x Cloud: its addresses, fields and states, behind a client that speaks in our words.

The token goes to the API's host alone, as a cookie that is set on each request; the storage that signed addresses lead
to never sees it. A foreign exception is dropped rather than chained: its frames hold the cookie, its text may hold a
signed address.
"""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from ..errors import CloudAnswerError, TokenRefused
from ..version import __version__
from .pace import RETRIES, Pace
from .token import CloudToken, may_lead_to

ANNOTATION, FILES, PIPELINES, PROJECTS = (
    f"api/cloud-analysis/{name}-api/v1" for name in ("annotation", "files", "pipelines", "projects")
)
USER = "api/core/users-api/v1/user"
PIPESTANCE_TYPE = "SPACERANGER_ANNOTATE_CS"
RETRIED_STATUSES = (502, 504, 524)
SIGNED_FOR = 600  # seconds that a signed address is good for
MOST_REDIRECTS = 5
CHUNK = 1 << 20
LONGEST_QUOTE = 300  # characters of what a server says

Id = str | int


@dataclass(frozen=True)
class Timeouts:
    """Seconds without a byte after which a socket is given up.

    Space Ranger's API calls wait without end; here they do not, else a dead connection would outlast the longest wait.
    """

    api: float = 600.0
    part: float = 15.0
    download: float = 60.0


@dataclass(frozen=True)
class CloudModel:
    """A model that the service offers."""

    name: str
    title: str
    description: str
    date: str
    genomes: tuple[str, ...]


@dataclass(frozen=True)
class ModelChoice:
    """What the service will run: its model, and the pipeline that the analysis is started with."""

    model: str
    pipeline_name: str
    pipeline_version: str


@dataclass(frozen=True)
class RegisteredFile:
    """A file as the service knows it."""

    file_id: Id
    blob_id: Id | None
    is_there: bool  # the service has its bytes already


@dataclass(frozen=True)
class AnalysisState:
    """Where an analysis stands; `status` is None when the service lists no run of it."""

    project_id: Id | None
    status: str | None


NEW, IN_PROGRESS, COMPLETED, FAILED = "NEW", "INPROGRESS", "COMPLETED", "FAILED"


class CloudClient:
    """10x Cloud for one token. Raises CloudAnswerError, and TokenRefused where the token is the reason."""

    def __init__(
        self, token: CloudToken, *, pace: Pace | None = None, timeouts: Timeouts | None = None, in_cloud: bool = False
    ) -> None:
        self.token = token
        self.pace = pace or Pace()
        self._timeouts = timeouts or Timeouts()
        self._in_cloud = in_cloud  # the run is itself one of 10x Cloud's (TENX_CLOUD_ENV); only told in a description
        self._api = _session(self.pace, _Cookie(token))
        self._storage = _session(self.pace, _unchanged)

    def __repr__(self) -> str:
        return f"CloudClient({self.server})"

    @property
    def server(self) -> str:
        return self.token.server

    def verify(self) -> None:
        """Returns when the service knows the token."""
        self._call("GET", USER, "ask who the token belongs to")

    def models(self) -> tuple[CloudModel, ...]:
        what = "list the models"
        listed = self._call("GET", f"{ANNOTATION}/models", what)
        if not isinstance(listed, list):
            raise self._misunderstood(what)
        return tuple(self._model(entry, what) for entry in listed)

    def choose_model(self, genome: str, model: str | None) -> ModelChoice:
        """The model that runs on that genome, the named one or the service's own; code 400 when none does."""
        what = "choose a model"
        body: dict[str, Any] = {"pipelineName": PIPESTANCE_TYPE, "genomes": [genome], "requires": ["results:json"]}
        if model is not None:
            body["modelName"] = model
        answer = self._call("POST", f"{ANNOTATION}/defaults", what, body=body)
        found = [self._text(answer, key, what) for key in ("model", "pipelineName", "pipelineVersion")]
        return ModelChoice(*found)

    def register_file(self, name: str, md5: str, size: int) -> RegisteredFile:
        what = "register the matrix"
        body = {
            "filename": name,
            "md5": md5,
            "size": size,
            "path": name,  # Space Ranger tells the whole local path; nobody needs it
            "fileType": "ADHOC_INPUT",
            "metadata": {"source": "cellranger"},
        }
        answer = self._call("POST", f"{FILES}/uploads", what, body=body)
        status = self._text(answer, "status", what)
        if status not in ("SKIP", "READY"):
            raise CloudAnswerError(f"10x Cloud does not take the matrix: its status is '{self._quoted(status)}'.")
        is_there = status == "SKIP"
        blob = answer.get("blobId") if is_there else self._id(answer, "blobId", what)
        return RegisteredFile(self._id(answer, "id", what), blob, is_there)

    def start_upload(self, blob_id: Id) -> Id:
        what = "begin the upload"
        answer = self._call("GET", f"{FILES}/multipart/start-upload", what, query={"blobId": blob_id})
        return self._id(answer, "uploadId", what)

    def send_part(self, blob_id: Id, upload_id: Id, number: int, content: bytes) -> str:
        """Sends part `number` (from 1) to the address that the service signs for it; gives its ETag."""
        what = f"send part {number}"
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode("ascii")
        query = {
            "blobId": blob_id,
            "partNumber": number,
            "hash": md5,
            "expirationSeconds": SIGNED_FOR,
            "uploadId": upload_id,
        }
        answer = self._call("GET", f"{FILES}/multipart/get-upload-url", what, query=query)
        url = self._signed(answer, "presignedUrl", what)
        headers = {"Content-MD5": md5, "Content-Type": "application/octet-stream", "Accept": "application/json"}
        # as a stream: it goes in small blocks, each with the time-out for itself, so that a slow line can send it
        options: dict[str, Any] = {"data": io.BytesIO(content), "headers": headers, "timeout": self._timeouts.part}
        response = self._send(self._storage, "PUT", url, what, **options)
        self._check_storage(response, what)
        # under some encryptions an ETag is no MD5: the storage itself compares Content-MD5, and completing the ETags
        etag = response.headers.get("ETag", "")
        if not etag:
            raise CloudAnswerError(f"10x Cloud's storage took part {number}, but gave no ETag for it.")
        return etag

    def complete_upload(self, blob_id: Id, upload_id: Id, etags: Mapping[int, str]) -> None:
        parts = [{"partNumber": number, "etag": etags[number]} for number in sorted(etags)]
        body = {"parts": parts, "blobId": blob_id, "uploadId": upload_id}
        self._call("POST", f"{FILES}/multipart/complete-upload", "put the parts together", body=body)

    def close_file(self, file_id: Id) -> None:
        self._call("PUT", f"{FILES}/uploads/{_segment(file_id)}", "close the upload", body={"status": "DONE"})

    def start_analysis(self, file_id: Id, genome: str, choice: ModelChoice) -> Id:
        what = "start the analysis"
        name = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
        body = {
            "analysisName": name,
            "description": f"Cell annotation ({'cloud' if self._in_cloud else 'local'})",
            "pipelineName": choice.pipeline_name,
            "productVersion": choice.pipeline_version,
            "productVariant": "default",
            "params": {
                "pipelineName": PIPESTANCE_TYPE,
                "id": name,
                "modelName": choice.model,
                "filteredMatricesH5": file_id,
                "genomeName": genome,
                "withDistances": False,
                "withDatasetInfo": True,
                "withQualityScores": False,
            },
        }
        return self._id(self._call("POST", f"{PIPELINES}/adhoc-analyses", what, body=body), "analysisID", what)

    def analysis_state(self, analysis_id: Id) -> AnalysisState:
        what = "ask for the analysis"
        answer = self._call("GET", f"{PROJECTS}/analyses/{_segment(analysis_id)}", what)
        runs = answer.get("analysisRuns") if isinstance(answer, dict) else None
        if not isinstance(runs, list):
            raise self._misunderstood(what)
        if not runs:
            return AnalysisState(None, None)
        return AnalysisState(self._id(answer, "projectId", what), self._text(runs[0], "status", what))

    def list_outputs(self, project_id: Id, analysis_id: Id) -> dict[str, Id]:
        """The analysis' files: name -> id."""
        what = "list the results"
        path = f"{FILES}/projects/{_segment(project_id)}/analyses/{_segment(analysis_id)}"
        answer = self._call("GET", path, what)
        files = answer.get("files") if isinstance(answer, dict) else None
        if not isinstance(files, list):
            raise self._misunderstood(what)
        return {self._text(file, "filename", what): self._id(file, "id", what) for file in files}

    def download(self, file_id: Id, name: str, target: Path) -> None:
        """Writes the file's bytes as they were delivered; CloudAnswerError if they do not all come."""
        what = f"fetch {name}"
        url = self._signed(self._call("POST", f"{FILES}/files/{_segment(file_id)}/download", what), "downloadURL", what)
        response = self._follow(url, what)
        with response, target.open("wb") as file:
            self._check_storage(response, what)
            # a .gz that is also sent as Content-Encoding is stored as it is; another file is unpacked
            packed = "Content-Encoding" in response.headers and not name.endswith(".gz")
            written = 0
            for chunk in self._chunks(response, what, decode=packed):
                written += file.write(chunk)
        told = response.headers.get("Content-Length", "")
        if told.isdigit() and not packed and int(told) != written:
            raise CloudAnswerError(f"{name} came cut off from 10x Cloud: {written} of {told} bytes.")

    # ---- requests

    def _call(
        self, method: str, path: str, what: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The JSON that the API answers with."""
        url = f"{self.server}/{path}"
        response = self._send(self._api, method, url, what, params=query, json=body, timeout=self._timeouts.api)
        code, host = response.status_code, urlsplit(self.server).netloc
        if code in (401, 403):
            raise TokenRefused(
                f"10x Cloud ({host}) does not take the token of {self.token.origin} (HTTP {code}). It may be "
                "expired or withdrawn: make a new one with 'cytonym cloud auth setup'."
            )
        if 300 <= code < 400:
            raise CloudAnswerError(
                f"{host} sends us elsewhere (HTTP {code}) when asked to {what}. The token is not taken along; see that "
                "TENX_CLOUD_URL, or the token file, names the server itself.",
                code,
            )
        if not 200 <= code < 300:
            raise CloudAnswerError(f"10x Cloud ({host}) could not {what}: HTTP {code}{self._said(response)}.", code)
        try:
            return response.json()
        except ValueError:
            pass  # raised below, without the foreign error
        raise self._misunderstood(what)

    def _send(self, session: requests.Session, method: str, url: str, what: str, **options: Any) -> requests.Response:
        """One request, with the adapter's retries and without redirects."""
        try:
            return session.request(method, url, allow_redirects=False, **options)
        except (requests.RequestException, HTTPError, OSError) as exc:
            reason = _reason(exc)
        host = urlsplit(url).netloc
        raise CloudAnswerError(f"Could not {what}: {host} was not reached, or the connection broke ({reason}).")

    def _follow(self, url: str, what: str) -> requests.Response:
        """A download's answer, after as many redirects as are decent; the token goes to none of them."""
        headers = {"Accept-Encoding": "identity"}
        options: dict[str, Any] = {"headers": headers, "stream": True, "timeout": self._timeouts.download}
        for _ in range(MOST_REDIRECTS + 1):
            response = self._send(self._storage, "GET", url, what, **options)
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["Location"])
            response.close()
            if not may_lead_to(self.server, url):
                raise CloudAnswerError(f"Could not {what}: 10x Cloud's storage leads to an address that is not https.")
        raise CloudAnswerError(f"Could not {what}: 10x Cloud's storage leads in circles.")

    def _chunks(self, response: requests.Response, what: str, *, decode: bool) -> Iterator[bytes]:
        stream = response.raw.stream(CHUNK, decode_content=decode)
        while True:
            try:
                chunk = next(stream, None)
            except (requests.RequestException, HTTPError, OSError) as exc:
                reason = _reason(exc)
                break
            if chunk is None:
                return
            yield chunk
        raise CloudAnswerError(f"Could not {what}: the connection broke ({reason}).")

    # ---- answers

    def _check_storage(self, response: requests.Response, what: str) -> None:
        if response.status_code != 200:
            raise CloudAnswerError(
                f"10x Cloud's storage could not {what}: HTTP {response.status_code}.", response.status_code
            )

    def _signed(self, answer: Any, key: str, what: str) -> str:
        url = self._text(answer, key, what)
        if not may_lead_to(self.server, url):
            raise CloudAnswerError(f"Could not {what}: 10x Cloud hands out an address that is not https.")
        return url

    def _model(self, entry: Any, what: str) -> CloudModel:
        genomes = entry.get("genomes") if isinstance(entry, dict) else None
        if not isinstance(genomes, list):
            raise self._misunderstood(what)
        title, description, date = (str(entry.get(key) or "") for key in ("displayName", "description", "date"))
        return CloudModel(self._text(entry, "name", what), title, description, date, tuple(map(str, genomes)))

    def _text(self, answer: Any, key: str, what: str) -> str:
        value = answer.get(key) if isinstance(answer, dict) else None
        if not isinstance(value, str) or not value:
            raise self._misunderstood(what)
        return value

    def _id(self, answer: Any, key: str, what: str) -> Id:
        value = answer.get(key) if isinstance(answer, dict) else None
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self._misunderstood(what)
        return value

    def _misunderstood(self, what: str) -> CloudAnswerError:
        host = urlsplit(self.server).netloc
        return CloudAnswerError(f"10x Cloud ({host}) was asked to {what}, and its answer cannot be understood.")

    def _said(self, response: requests.Response) -> str:
        """What a JSON error says, as one short line without the token."""
        try:
            response.json()
        except ValueError:
            return ""
        return f", {self._quoted(response.text)}"

    def _quoted(self, text: str) -> str:
        line = " ".join(self.token.redact(text).split())
        return line if len(line) <= LONGEST_QUOTE else line[:LONGEST_QUOTE] + "..."


class _Cookie(requests.auth.AuthBase):
    """Puts the token, and a gateway's headers if any, on a request to the API."""

    def __init__(self, token: CloudToken) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Cookie"] = f"session_id={self._token.secret.reveal()}"
        for name, secret in self._token.headers.items():
            request.headers[name] = secret.reveal()
        return request


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials; that it is set keeps requests from taking some from a .netrc file."""
    return request


def _session(pace: Pace, auth: Callable[[requests.PreparedRequest], requests.PreparedRequest]) -> requests.Session:
    session = requests.Session()
    retry = Retry(
        total=RETRIES,
        backoff_factor=pace.backoff,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=("GET", "POST", "PUT"),
        raise_on_status=False,
        respect_retry_after_header=False,  # the pause between tries is longer, and has an end
    )
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # no cookie of a server is kept
    session.auth = auth
    session.headers.clear()
    session.headers["User-Agent"] = f"cytonym/{__version__}"
    return session


def _segment(value: Id) -> str:
    return quote(str(value), safe="")


def _reason(exc: Exception) -> str:
    """In words that hold no address."""
    if isinstance(exc, requests.exceptions.SSLError):
        return "its certificate is not trusted here"
    if isinstance(exc, requests.exceptions.ProxyError):
        return "the proxy does not let us through"
    if isinstance(exc, requests.Timeout) or "Timeout" in type(exc).__name__ or "timed out" in str(exc):
        return "no answer in time"
    return type(exc).__name__
