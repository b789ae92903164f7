"""One sample through 10x Cloud: connect, choose the model, send the matrix, wait, bring the files back.

What has been reached is in the run's folder (`record.py`); the same call later goes on there, without sending the
matrix or starting the analysis a second time.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CloudAnswerError, CloudError, CytonymError, DamagedDownload, PassingCloudError, TokenRefused
from ..io.cloud_results import (
    CloudCellTypes,
    CloudMetadata,
    read_cloud_cell_types,
    read_cloud_metadata,
    read_ontology_ids,
)
from ..io.files import output_error, write_json, written_whole
from ..progress import LOGGER
from ._cloud_api import COMPLETED, FAILED, IN_PROGRESS, NEW, CloudClient, Id
from .choice import choose_model, connect, without_prefix
from .pace import TRIES
from .record import RECORD_NAME, Asked, Journal
from .statistics import SessionStatistics
from .tries import in_tries
from .upload import LocalFile, local_file, upload

RESULTS_NAME, CELL_TYPES_NAME, METADATA_NAME = "cas_results.json.gz", "cas_cell_types.csv", "metadata.json"
STATISTICS_NAME = "session_statistics.json"
Reader = Callable[[Path, dict[str, Any]], Any]  # of a file, and of what the files before it hold
ARRIVALS = "arrivals"  # folder of downloads that are not yet checked
SECONDS_BETWEEN_LINES = 300.0
GOES_ON = "Run the same command again to go on from there."


@dataclass(frozen=True)
class CloudInput:
    """What is sent, and what the answer must fit."""

    matrix_path: Path  # 10x HDF5, sent as it is
    barcodes: Sequence[str] | np.ndarray
    genome: str
    model: str | None = None  # as given to --cell-annotation-model; None and "auto": the service chooses


@dataclass(frozen=True)
class CloudResult:
    """What came back, checked; the paths are in the run's folder, the files as delivered."""

    model: str  # that the service ran
    cell_types: CloudCellTypes
    cell_types_path: Path
    results_path: Path
    ontology_ids: dict[str, str]  # by barcode, of fine types, where the evidence tells
    metadata: CloudMetadata
    statistics: SessionStatistics


def run_cloud_annotation(client: CloudClient, source: CloudInput, folder: Path) -> CloudResult:
    """The sample's labels by 10x Cloud.

    `folder` keeps record, downloads and session statistics, also of a run that fails. Raises CloudError (exit code 6),
    ModelError when the service has no model for the sample, InputError when the matrix cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise output_error(folder, exc) from exc
    file = local_file(source.matrix_path)
    statistics = SessionStatistics(len(source.barcodes), file.size, client.server)
    try:
        result = _run(client, source, file, folder, statistics)
        statistics.success = True
    except CytonymError as exc:
        statistics.failure_mode = type(exc).__name__
        raise
    finally:
        write_json(folder / STATISTICS_NAME, statistics.to_json())
    return result


def _run(
    client: CloudClient, source: CloudInput, file: LocalFile, folder: Path, statistics: SessionStatistics
) -> CloudResult:
    model = without_prefix(source.model)
    asked = Asked(client.server, file.path.name, file.size, file.md5, source.genome, model)
    journal = Journal(folder / RECORD_NAME, asked)
    connect(client, statistics)
    if journal.record.choice is None or journal.record.analysis_id is None:
        journal.note(choice=choose_model(client, source.genome, source.model))
    choice = journal.record.choice
    assert choice is not None  # noted above
    statistics.cell_annotation_model = choice.model
    _announce(client, journal, file, choice.model)
    project_id = _analysed(client, file, folder, journal, statistics)
    read = _downloaded(client, source, folder, project_id, journal, statistics)
    return CloudResult(
        model=choice.model,
        cell_types=read[CELL_TYPES_NAME],
        cell_types_path=folder / CELL_TYPES_NAME,
        results_path=folder / RESULTS_NAME,
        ontology_ids=read[RESULTS_NAME],
        metadata=read[METADATA_NAME],
        statistics=statistics,
    )


def _announce(client: CloudClient, journal: Journal, file: LocalFile, model: str) -> None:
    """Says what will leave this machine, or that nothing more does."""
    if journal.record.analysis_id is not None:
        LOGGER.info("10x Cloud: analysis %s of an earlier run goes on; nothing is sent.", journal.record.analysis_id)
    elif journal.record.uploaded:
        LOGGER.info("10x Cloud has %s from an earlier run; nothing is sent.", file.path.name)
    else:
        LOGGER.info(
            "Sending %s (%.1f MB: counts, feature names and barcodes of all cells; its name; no image, no other file) "
            "to %s for the model %s, under the End User License Agreement of 10x Genomics and your account's terms.",
            file.path.name,
            file.size / 1e6,
            client.server,
            model,
        )


def _analysed(
    client: CloudClient, file: LocalFile, folder: Path, journal: Journal, statistics: SessionStatistics
) -> Id:
    """The project of the completed analysis; upload and analysis are tried three times."""

    def once() -> Id:
        _uploaded(client, file, journal, statistics)
        with statistics.measured("analyze"):
            resumed = journal.record.analysis_id is not None
            analysis_id = _started(client, folder, journal)
            statistics.analysis_id = analysis_id
            return _wait(client, analysis_id, journal, resumed=resumed)

    try:
        return in_tries(once, client.pace)
    except PassingCloudError as exc:
        raise CloudError(
            f"10x Cloud could not annotate {file.path.name} ({statistics.barcodes:,} cells) in {TRIES} tries. {exc} "
            "Run the same command again to go on from what it has, or leave --cell-annotation-model out for a local "
            "model."
        ) from exc


def _uploaded(client: CloudClient, file: LocalFile, journal: Journal, statistics: SessionStatistics) -> None:
    if journal.record.uploaded:
        statistics.operations["upload"].success = True
        return
    with statistics.measured("upload"):
        upload(client, file, journal)


def _started(client: CloudClient, folder: Path, journal: Journal) -> Id:
    """The running analysis, or a new one; a file that the service no longer knows is sent anew by the next try."""
    record = journal.record
    if record.analysis_id is not None:
        return record.analysis_id
    assert record.file_id is not None and record.choice is not None  # of an uploaded file
    for name in (CELL_TYPES_NAME, RESULTS_NAME, METADATA_NAME):  # of an earlier analysis
        (folder / name).unlink(missing_ok=True)
    try:
        analysis_id = client.start_analysis(record.file_id, record.asked.genome, record.choice)
    except CloudAnswerError as exc:
        if exc.is_refusal:
            journal.forget_upload()
        raise
    journal.note(analysis_id=analysis_id)
    LOGGER.info("10x Cloud: analysis %s has begun. This may take hours; an interrupted run goes on.", analysis_id)
    return analysis_id


def _wait(client: CloudClient, analysis_id: Id, journal: Journal, *, resumed: bool) -> Id:
    """The project of the analysis once it is completed; a poll that fails is followed by the next one."""
    started, shown, first = time.monotonic(), _Shown(), True
    while True:
        try:
            state = client.analysis_state(analysis_id)
        except (CloudAnswerError, TokenRefused) as exc:
            if first and resumed and (isinstance(exc, TokenRefused) or exc.code == 404):
                raise _not_ours(analysis_id, journal) from exc
            if isinstance(exc, TokenRefused):
                raise
            shown.line(f"{exc} Asking again.")
        else:
            if state.status == COMPLETED and state.project_id is not None:
                return state.project_id
            _check_status(state.status, analysis_id, journal)
            shown.line(f"10x Cloud: analysis {analysis_id} is {state.status}")
        first = False
        if time.monotonic() - started > client.pace.longest_wait:
            hours = client.pace.longest_wait / 3600
            raise CloudError(f"10x Cloud has not finished analysis {analysis_id} in {hours:.4g} hours. {GOES_ON}")
        time.sleep(client.pace.poll_interval)


def _not_ours(analysis_id: Id, journal: Journal) -> PassingCloudError:
    """A recorded analysis is deleted, or of another account than that of the token: the next try sends anew."""
    journal.forget_analysis()
    journal.forget_upload()
    return PassingCloudError(f"10x Cloud shows no analysis {analysis_id} to this account; the run starts anew.")


def _check_status(status: str | None, analysis_id: Id, journal: Journal) -> None:
    """Raises unless the analysis is still going."""
    if status is None:
        journal.forget_analysis()
        raise CloudError(f"10x Cloud lists no run of analysis {analysis_id}. Run the same command again to start one.")
    if status == FAILED:
        journal.forget_analysis()
        raise PassingCloudError(f"10x Cloud says that analysis {analysis_id} failed.")
    if status not in (NEW, IN_PROGRESS):
        raise CloudError(
            f"10x Cloud reports the status '{status}' of analysis {analysis_id}, which this version of cytonym does "
            f"not know. {GOES_ON}"
        )


class _Shown:
    """Says a line when it is another one, and now and then."""

    def __init__(self) -> None:
        self._line, self._when = "", 0.0

    def line(self, line: str) -> None:
        if line != self._line or time.monotonic() - self._when > SECONDS_BETWEEN_LINES:
            self._line, self._when = line, time.monotonic()
            LOGGER.info("%s", line)


def _downloaded(
    client: CloudClient,
    source: CloudInput,
    folder: Path,
    project_id: Id,
    journal: Journal,
    statistics: SessionStatistics,
) -> dict[str, Any]:
    """All three files in `folder`, each whole; those that are there stay. What each holds, by its name."""
    analysis_id = journal.record.analysis_id
    assert analysis_id is not None  # of a completed analysis
    readers: dict[str, Reader] = {
        CELL_TYPES_NAME: lambda path, _: read_cloud_cell_types(path, source.barcodes),
        METADATA_NAME: lambda path, _: read_cloud_metadata(path),
        RESULTS_NAME: lambda path, read: read_ontology_ids(path, read[CELL_TYPES_NAME].fine_labels()),
    }

    def once() -> dict[str, Any]:
        with statistics.measured("download"):
            listed = client.list_outputs(project_id, analysis_id)
            if not listed:
                journal.forget_analysis()
                raise CloudError(
                    f"10x Cloud completed analysis {analysis_id} without any output. Run the same command again to "
                    "start another one."
                )
            return _fetch_all(client, listed, readers, folder)

    try:
        return in_tries(once, client.pace)
    except DamagedDownload as exc:
        journal.forget_analysis()
        raise DamagedDownload(
            f"{exc} Analysis {analysis_id} is damaged or incomplete. Run the same command again to start another one."
        ) from exc
    except PassingCloudError as exc:
        raise CloudError(f"The results of analysis {analysis_id} could not be fetched. {exc} {GOES_ON}") from exc


def _fetch_all(client: CloudClient, listed: dict[str, Id], readers: dict[str, Reader], folder: Path) -> dict[str, Any]:
    """Fetches what is not there yet; DamagedDownload for a file that is not listed, or not what it should be."""
    absent = [name for name in readers if name not in listed]
    if absent:
        raise DamagedDownload(f"10x Cloud did not deliver {', '.join(absent)}.")
    read: dict[str, Any] = {}
    for name, reader in readers.items():
        if (folder / name).exists():
            with contextlib.suppress(DamagedDownload):
                read[name] = reader(folder / name, read)
                continue
        LOGGER.info("10x Cloud: fetching %s", name)
        read[name] = _fetch(client, listed[name], folder / name, reader, read)
    return read


def _fetch(client: CloudClient, file_id: Id, path: Path, reader: Reader, read: dict[str, Any]) -> Any:
    """What the file holds; it gets to `path` only if it is whole and good."""
    arrived = path.parent / ARRIVALS / path.name
    try:
        arrived.parent.mkdir(exist_ok=True)
        with written_whole(arrived) as aside:
            client.download(file_id, path.name, aside)
        found = reader(arrived, read)
        arrived.replace(path)
        return found
    except OSError as exc:
        raise output_error(path, exc) from exc
    finally:
        shutil.rmtree(arrived.parent, ignore_errors=True)
