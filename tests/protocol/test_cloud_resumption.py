"""A run with 10x Cloud that was killed goes on: no second upload, no second analysis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cloud_run import TOKEN, annotated, files_of, served, write_matrix

HERE = Path(__file__).parent


@pytest.fixture
def cloud():
    with served() as cloud:
        yield cloud


@pytest.fixture
def matrix(tmp_path):
    return write_matrix(tmp_path)


def killed(cloud, matrix, step: str, number: int) -> None:
    """A run in a process of its own, killed when request `number` of that step has come and is not answered."""
    started: list[subprocess.Popen] = []
    cloud.on(step, number, lambda: (started[0].kill(), started[0].wait()))
    command = [sys.executable, str(HERE / "cloud_run.py"), cloud.url, str(matrix)]
    environment = os.environ | {"CYTONYM_CLOUD_WAIT_SCALE": "1e-5"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        started.append(process)
        said = process.communicate(timeout=60)[0].decode()
    assert (process.returncode, TOKEN in said) == (-9, False)


def sent(cloud) -> list[str]:
    """The numbers of the parts that came, in order."""
    return [seen.target.partition("?")[0].rpartition("/")[2] for seen in cloud.requests("part")]


def record_of(matrix) -> dict:
    return json.loads((matrix.parent / "cloud" / "cloud_run.json").read_text())


def test_killed_in_the_upload_it_goes_on_with_the_parts_not_yet_sent(cloud, matrix):
    """Part 2 was under way; part 1 is not sent again, and the service registers one file."""
    killed(cloud, matrix, "part", 2)
    assert list(record_of(matrix)["etags"]) == ["1"]
    annotated(cloud, matrix)
    assert sent(cloud) == ["1", "2", "2", "3"]
    assert len(cloud.requests("register")) == len(cloud.requests("begin")) == 1


def test_an_upload_that_the_service_forgot_starts_anew(cloud, matrix):
    """All parts are sent, in the same run."""
    killed(cloud, matrix, "part", 3)
    cloud.forget_uploads()
    annotated(cloud, matrix)
    assert sent(cloud) == ["1", "2", "3", "1", "2", "3"]
    assert any("it starts anew" in line for line in cloud.lines)


def test_killed_before_the_upload_was_closed(cloud, matrix):
    """The parts are put together: only that is left."""
    killed(cloud, matrix, "close", 1)
    annotated(cloud, matrix)
    assert (sent(cloud), len(cloud.requests("complete"))) == (["1", "2", "3"], 1)


def test_killed_while_waiting_it_asks_for_the_same_analysis(cloud, matrix):
    """Neither an upload nor an analysis nor a choice of a model is made again."""
    cloud.plans = [["NEW", "INPROGRESS"]]
    killed(cloud, matrix, "poll", 3)
    cloud.analyses["analysis-1"][:] = ["INPROGRESS", "COMPLETED"]
    before = len(cloud.seen)
    result = annotated(cloud, matrix)
    assert cloud.steps[before:] == ["user", "poll", "poll", "list", *(3 * ["file_url", "fetch"])]
    assert result.statistics.analysis_id == "analysis-1"
    told = result.statistics.to_json()
    assert (told["upload_tries"], told["upload_success"], told["analyze_tries"]) == (0, True, 1)
    assert any("analysis analysis-1 of an earlier run goes on; nothing is sent" in line for line in cloud.lines)


def test_killed_in_a_download_it_fetches_what_is_missing(cloud, matrix):
    """A file that came whole is not fetched again, and no half file is taken for one."""
    killed(cloud, matrix, "fetch", 2)
    assert "cas_cell_types.csv" in files_of(matrix)
    before = len(cloud.seen)
    annotated(cloud, matrix)
    assert cloud.steps[before:] == ["user", "poll", "list", *(2 * ["file_url", "fetch"])]
    assert not [name for name in files_of(matrix) if "part" in name or "arrivals" in name]


def test_a_finished_run_sends_nothing_again(cloud, matrix):
    """The files are checked, not fetched."""
    annotated(cloud, matrix)
    before = len(cloud.seen)
    annotated(cloud, matrix)
    assert cloud.steps[before:] == ["user", "poll", "list"]


def test_another_model_or_matrix_is_another_run(cloud, matrix):
    """Its files are its own; a matrix that the service has is not sent twice."""
    annotated(cloud, matrix)
    annotated(cloud, matrix, model="human_pca_v1_beta")
    assert (len(cloud.requests("part")), len(cloud.requests("start"))) == (3, 2)
    matrix.write_bytes(b"another")
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.requests("start"))) == (4, 3)
    assert len(cloud.requests("fetch")) == 9


def test_a_recorded_analysis_that_the_service_does_not_know(cloud, matrix):
    """Deleted there, or of another account: the run starts anew instead of waiting for it."""
    annotated(cloud, matrix)
    cloud.analyses.clear()
    cloud.blobs.clear()
    annotated(cloud, matrix)
    assert (sent(cloud), len(cloud.requests("start"))) == (2 * ["1", "2", "3"], 2)


@pytest.mark.parametrize("code", [401, 403])
def test_a_recorded_analysis_of_another_account(cloud, matrix, code):
    """The service has just taken the token: the analysis is the reason, so the run starts anew."""
    annotated(cloud, matrix)
    cloud.fail("poll", code)
    annotated(cloud, matrix)
    assert len(cloud.requests("start")) == 2
    assert any("shows no analysis analysis-1 to this account" in line for line in cloud.lines)


def test_a_recorded_file_that_the_service_does_not_know(cloud, matrix):
    """It is sent anew."""
    killed(cloud, matrix, "start", 1)
    cloud.blobs.clear()
    cloud.analyses.clear()
    annotated(cloud, matrix)
    assert sent(cloud) == 2 * ["1", "2", "3"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": 0}', '{"version": 1, "asked": {}}'])
def test_a_record_that_cannot_be_read(cloud, matrix, content):
    """It is said, and the run starts anew."""
    (matrix.parent / "cloud").mkdir()
    (matrix.parent / "cloud" / "cloud_run.json").write_text(content)
    annotated(cloud, matrix)
    assert any("cannot be read: the run with 10x Cloud starts anew" in line for line in cloud.lines)


def test_what_is_left_on_disk_holds_no_token(cloud, matrix):
    """Neither record, statistics nor downloads."""
    annotated(cloud, matrix)
    for path in (matrix.parent / "cloud").rglob("*"):
        assert TOKEN.encode() not in path.read_bytes()
