"""What goes wrong at 10x Cloud: each fault has its message, exit code and what it leaves on disk."""

from __future__ import annotations

import gzip
import json

import pytest
from cloud_run import BARCODES, SIZE, TOKEN, annotated, client_of, files_of, refused, served, write_matrix
from fake_cloud import PART_SIZE

from cytonym.cloud import Timeouts, check_model_name, check_sample
from cytonym.errors import CloudError, DamagedDownload, InputError, ModelError, TokenRefused

RECORD = {"cloud_run.json", "session_statistics.json"}
DOWNLOADS = {"cas_cell_types.csv", "cas_results.json.gz", "metadata.json"}
# steps after the model is chosen, and how often each is tried when it always fails with HTTP 500
STEPS_OF_UPLOAD = ("register", "begin", "part_url", "part", "complete", "close", "start")
STEPS_OF_DOWNLOAD = ("list", "file_url", "fetch")


@pytest.fixture
def cloud():
    with served() as cloud:
        yield cloud


@pytest.fixture
def matrix(tmp_path):
    return write_matrix(tmp_path, SIZE - PART_SIZE)  # two parts


def record_of(matrix) -> dict:
    return json.loads((matrix.parent / "cloud" / "cloud_run.json").read_text())


def failure_mode(matrix) -> str:
    return json.loads((matrix.parent / "cloud" / "session_statistics.json").read_text())["failure_mode"]


# ---- faults that pass


@pytest.mark.parametrize("fault", [429, 500, "cut", "garbage", "slow"])
@pytest.mark.parametrize("step", ["user", "defaults", *STEPS_OF_UPLOAD, "poll", *STEPS_OF_DOWNLOAD])
def test_one_fault_is_got_over(cloud, matrix, step, fault):
    """Whatever step meets it: the second try is good, and no part that the storage has is sent again."""
    cloud.slowness = 0.05
    cloud.fail(step, fault)
    if step == "part" and fault == "garbage":
        cloud.heal()
        cloud.fail(step, "no etag")
    result = annotated(cloud, matrix)
    assert result.cell_types.table["barcode"].tolist() == BARCODES
    assert len(cloud.requests("part")) == 2 + (step == "part" and fault != "slow")
    assert len(cloud.requests("start")) == 1 + (step == "start" and fault != "slow")


@pytest.mark.parametrize("code", [502, 504, 524])
def test_a_gateways_errors_are_got_over_within_a_try(cloud, matrix, code):
    """Five times by the HTTP adapter, at any step."""
    for step in ("user", "register", "part", "close", "fetch"):
        cloud.fail(step, code, times=5)
    annotated(cloud, matrix)
    assert len(cloud.requests("user")) == len(cloud.requests("register")) == 6
    told = json.loads((matrix.parent / "cloud" / "session_statistics.json").read_text())
    assert [told[f"{name}_tries"] for name in ("connect", "upload", "download")] == [1, 1, 1]


def test_a_part_that_is_cut_off_is_sent_again(cloud, matrix):
    """The connection ends in the middle of the second part."""
    cloud.fail("part", "cut", after=1)
    annotated(cloud, matrix)
    assert [seen.target.rpartition("/")[2][0] for seen in cloud.requests("part")] == ["1", "2", "2"]


def test_a_failed_analysis_is_started_again_without_a_second_upload(cloud, matrix):
    """Of the file that the service has."""
    cloud.plans = [["NEW", "FAILED"], ["COMPLETED"]]
    result = annotated(cloud, matrix)
    assert (len(cloud.requests("register")), len(cloud.requests("start"))) == (1, 2)
    assert result.statistics.analysis_id == "analysis-2"


def test_a_redirect_before_a_download_is_followed(cloud, matrix):
    """Within the storage; the fake sees that no cookie comes along."""
    cloud.redirects = 3
    cloud.fail("fetch", "redirect")
    annotated(cloud, matrix)


# ---- token and connection


def test_a_wrong_token_is_refused_at_once(cloud, matrix):
    """One request, and nothing of the sample is told."""
    error = refused(lambda: annotated(cloud, matrix, token="another"))
    assert (type(error), error.exit_code) == (TokenRefused, 6)
    assert "does not take the token of token.txt (HTTP 403)" in str(error)
    assert "cytonym cloud auth setup" in str(error)
    assert (cloud.steps, files_of(matrix)) == (["user"], {"session_statistics.json"})


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("step", ["user", "defaults", "register", "complete", "start", "poll", "list"])
def test_a_token_that_is_refused_later(cloud, matrix, step, code):
    """It is not tried again, not even while waiting; a new token goes on from the record."""
    cloud.fail(step, code, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert isinstance(error, TokenRefused)
    assert len(cloud.requests(step)) == 1
    cloud.heal()
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.analyses)) == (2, 1)


@pytest.mark.parametrize("fault", [404, 500, 503, "cut", "garbage"])
def test_a_server_that_cannot_be_reached(cloud, matrix, fault):
    """Three tries; the message says that nothing was sent."""
    cloud.fail("user", fault, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), error.exit_code) == (CloudError, 6)
    assert str(error).startswith("Cannot connect to 10x Cloud: ")
    assert "Nothing was sent" in str(error)
    assert set(cloud.steps) == {"user"}
    assert len(cloud.steps) == (18 if fault == "cut" else 3)  # the adapter's five retries with each
    assert files_of(matrix) == {"session_statistics.json"}


def test_no_server_at_all(matrix):
    """A port where nobody listens."""
    with served() as cloud:
        pass
    assert "was not reached" in str(refused(lambda: annotated(cloud, matrix)))


def test_the_api_does_not_lead_elsewhere(cloud, matrix):
    """A redirect of the API is not followed: it would take the cookie along."""
    cloud.fail("user", "redirect", times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert "sends us elsewhere (HTTP 302)" in str(error)
    assert set(cloud.steps) == {"user"}


def test_what_a_server_says_is_quoted_without_the_token(cloud, matrix):
    """The fake's errors hold the cookie; and the quote is short."""
    cloud.fail("register", 500, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert "as scripted" in str(error)
    assert "session_id=***" in str(error)
    assert TOKEN not in (matrix.parent / "cloud" / "cloud_run.json").read_text()


# ---- the model


def test_no_model_for_the_genome(cloud, matrix):
    """400: not tried again, the model's exit code."""
    error = refused(lambda: annotated(cloud, matrix, genome="TAIR10"))
    assert (type(error), error.exit_code) == (ModelError, 4)
    assert "does not have any model for the genome TAIR10" in str(error)
    assert (cloud.steps, files_of(matrix)) == (["user", "defaults"], {"session_statistics.json"})
    error = refused(lambda: annotated(cloud, matrix, genome="mm10", model="human_pca_v1_beta"))
    assert "does not have model 'human_pca_v1_beta' for the genome mm10" in str(error)


def test_no_choice_of_a_model(cloud, matrix):
    """Three tries on other errors."""
    cloud.fail("defaults", 500, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert (error.exit_code, "could not choose a model" in str(error)) == (6, True)
    assert cloud.steps == ["user", "defaults", "defaults", "defaults"]


def test_names_of_models(cloud):
    """One of the service's list, auto or nothing; a prefix is cut."""
    models = client_of(cloud.url).models()
    assert [(model.name, model.title, model.genomes) for model in models] == [
        ("human_pca_v1_beta", "human pca v1 beta", ("GRCh38", "hg19")),
        ("mouse_pca_v1_beta", "mouse pca v1 beta", ("mm10", "GRCm39")),
    ]
    for name in (None, "auto", "human_pca_v1_beta", "10x:mouse_pca_v1_beta"):
        check_model_name(name, models)
    error = refused(lambda: check_model_name("human", models))
    assert str(error).startswith("'human' is no model of 10x Cloud. Its models: auto, human_pca_v1_beta, mouse")


@pytest.mark.parametrize(
    ("genome", "n_cells", "words"),
    [
        ("GRCm38", 500, "matrix.h5 holds GRCm38"),
        ("", 500, "matrix.h5 holds no genome that it names"),
        ("mm10", 99, "100 to 1,200,000 cells, but matrix.h5 holds 99."),
        ("mm10", 1_200_001, "holds 1,200,001."),
    ],
)
def test_samples_that_are_not_for_the_cloud(genome, n_cells, words):
    """The matrix's exit code, before anything is asked of the service."""
    error = refused(lambda: check_sample(genome, n_cells, "matrix.h5"))
    assert (error.exit_code, words in str(error)) == (3, True)


def test_samples_at_the_edge():
    """The smallest, the largest, and a genome of one's own name."""
    check_sample("mm10", 100, "matrix.h5")
    check_sample("GRCh38-2024-A_and_X", 1_200_000, "matrix.h5")


@pytest.mark.parametrize("step", ["models", "defaults"])
@pytest.mark.parametrize("fault", ["garbage", "empty"])
def test_answers_that_cannot_be_understood(cloud, step, fault):
    """They are an error, not an empty list."""
    cloud.fail(step, fault)
    client = client_of(cloud.url)
    error = refused(client.models if step == "models" else lambda: client.choose_model("GRCh38", None))
    assert "its answer cannot be understood" in str(error)


# ---- upload and analysis


@pytest.mark.parametrize("fault", [404, 429, 500, "cut"])
@pytest.mark.parametrize("step", STEPS_OF_UPLOAD)
def test_a_step_of_the_upload_that_always_fails(cloud, matrix, step, fault):
    """Three tries, exit code 6; a later run is whole, and sends what was sent only where it was refused."""
    cloud.fail(step, fault, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), error.exit_code) == (CloudError, 6)
    assert "10x Cloud could not annotate matrix.h5 (7 cells) in 3 tries." in str(error)
    assert ("connection broke" if fault == "cut" else f"HTTP {fault}") in str(error)
    assert (files_of(matrix), failure_mode(matrix)) == (RECORD, "CloudError")
    sent = len(cloud.requests("part"))
    cloud.heal()
    annotated(cloud, matrix)
    if fault in (429, 500) and step in ("complete", "close", "start"):
        assert len(cloud.requests("part")) == sent == 2


def test_a_status_of_the_file_that_is_unknown(cloud, matrix):
    """Neither READY nor SKIP."""
    cloud.register_status = "QUARANTINED"
    error = refused(lambda: annotated(cloud, matrix))
    assert (error.exit_code, "its status is 'QUARANTINED'" in str(error)) == (6, True)
    assert len(cloud.requests("register")) == 3


def test_a_wrong_etag(cloud, matrix):
    """The service refuses to put the parts together; the upload is begun anew, which is good."""
    cloud.fail("part", "wrong etag", after=1)
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.requests("begin"))) == (4, 2)


def test_etags_that_stay_wrong(cloud, matrix):
    """Three uploads, then the message quotes the service; nothing of them is kept."""
    cloud.fail("part", "wrong etag", times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert "could not put the parts together: HTTP 400" in str(error)
    assert "InvalidPart" in str(error)
    assert len(cloud.requests("begin")) == 3
    assert (record_of(matrix)["upload_id"], record_of(matrix)["etags"]) == (None, {})


@pytest.mark.parametrize(("step", "words"), [("part_url", "send part 1"), ("file_url", "fetch ")])
def test_a_signed_address_that_is_not_safe(cloud, matrix, step, words):
    """Plain http to another machine: nothing is sent to it."""
    cloud.fail(step, "unsafe address", times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert f"Could not {words}" in str(error)
    assert "an address that is not https" in str(error)


def test_a_storage_that_is_too_slow_for_a_part(cloud, matrix):
    """The socket's time-out, of which the wait scale is no factor."""
    cloud.slowness = 1.0
    cloud.fail("part", "slow", times=None)
    error = refused(lambda: annotated(cloud, matrix, timeouts=Timeouts(part=0.05)))
    assert "no answer in time" in str(error)
    assert str(cloud.storage_url.removeprefix("http://")) in str(error)


@pytest.mark.parametrize("content", [b"short", bytes(6_000_000)])
def test_a_matrix_that_changes_while_it_is_sent(cloud, matrix, content):
    """It is not put together from two states."""
    cloud.on("part", 2, lambda: matrix.write_bytes(content))
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), "was changed while it was sent" in str(error)) == (InputError, True)
    assert cloud.requests("complete") == []


def test_an_analysis_that_fails_three_times(cloud, matrix):
    """The file stays at the service: the next run starts an analysis of it."""
    cloud.plans = [["FAILED"]]
    error = refused(lambda: annotated(cloud, matrix))
    assert (error.exit_code, "analysis analysis-3 failed" in str(error)) == (6, True)
    assert (len(cloud.requests("start")), files_of(matrix)) == (3, RECORD)
    assert (record_of(matrix)["uploaded"], record_of(matrix)["analysis_id"]) == (True, None)
    cloud.plans = [["COMPLETED"]]
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.requests("start"))) == (2, 4)


def test_an_unknown_status_ends_the_run_and_keeps_the_analysis(cloud, matrix):
    """A later run asks for the same one again."""
    cloud.plans = [["PAUSED"]]
    error = refused(lambda: annotated(cloud, matrix))
    assert "reports the status 'PAUSED' of analysis analysis-1" in str(error)
    assert (len(cloud.requests("poll")), record_of(matrix)["analysis_id"]) == (1, "analysis-1")
    cloud.analyses["analysis-1"][:] = ["COMPLETED"]
    annotated(cloud, matrix)
    assert len(cloud.requests("start")) == 1


def test_an_empty_list_of_runs_ends_the_run(cloud, matrix):
    """At once; the next run starts another analysis."""
    cloud.plans = [["none"], ["COMPLETED"]]
    error = refused(lambda: annotated(cloud, matrix))
    assert "lists no run of analysis analysis-1" in str(error)
    assert len(cloud.requests("poll")) == 1
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.requests("start"))) == (2, 2)


def test_an_analysis_that_never_ends(cloud, matrix):
    """After 12 hours (here: 0.4 s) the run ends without another try; a later run asks for the same analysis."""
    cloud.plans = [["INPROGRESS"]]
    error = refused(lambda: annotated(cloud, matrix))
    assert "has not finished analysis analysis-1 in" in str(error)
    assert "Run the same command again to go on" in str(error)
    assert (len(cloud.requests("start")), error.exit_code, files_of(matrix)) == (1, 6, RECORD)
    cloud.analyses["analysis-1"][:] = ["COMPLETED"]
    annotated(cloud, matrix)
    assert len(cloud.requests("start")) == 1


def test_polls_that_always_fail_end_with_the_longest_wait(cloud, matrix):
    """A failed poll is followed by the next one, and said once."""
    cloud.fail("poll", 500, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert "has not finished analysis" in str(error)
    assert len(cloud.requests("poll")) > 3
    assert len([line for line in cloud.lines if "Asking again" in line]) == 1


# ---- downloads


def test_no_outputs(cloud, matrix):
    """Completed without a file: final."""
    cloud.no_outputs = True
    error = refused(lambda: annotated(cloud, matrix))
    assert (error.exit_code, "without any output" in str(error)) == (6, True)
    assert (len(cloud.requests("list")), files_of(matrix)) == (1, RECORD)


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
def test_a_missing_output(cloud, matrix, name):
    """Three tries; nothing that is there is fetched."""
    cloud.edit[name] = lambda _: None
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), error.exit_code) == (DamagedDownload, 6)
    assert f"did not deliver {name}" in str(error)
    assert (len(cloud.requests("list")), files_of(matrix)) == (3, RECORD)


@pytest.mark.parametrize("fault", [403, 404, 500, "cut", "redirect"])
def test_downloads_that_always_fail(cloud, matrix, fault):
    """The analysis is kept: the next run fetches its files."""
    cloud.redirects = 100
    cloud.fail("fetch", fault, times=None)
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), error.exit_code) == (CloudError, 6)
    assert "The results of analysis analysis-1 could not be fetched." in str(error)
    assert files_of(matrix) == RECORD
    cloud.heal()
    cloud.redirects = 1
    annotated(cloud, matrix)
    assert len(cloud.requests("start")) == 1


def rows(change):
    """The CSV with its lines changed."""
    return lambda content: b"\r\n".join(change(content.split(b"\r\n")))


DAMAGES = {
    "truncated gzip": ("cas_results.json.gz", lambda content: content[:-9], "not whole gzip JSON"),
    "no gzip": ("cas_results.json.gz", lambda _: b"<html>", "not whole gzip JSON"),
    "garbage JSON": ("cas_results.json.gz", lambda _: gzip.compress(b'[{"barcode": }]'), "not whole gzip JSON"),
    "cut JSON": ("cas_results.json.gz", lambda _: gzip.compress(b'[{"barcode": "a"}, {"bar'), "not whole gzip JSON"),
    "no array": ("cas_results.json.gz", lambda _: gzip.compress(b'{"error": 1}'), "holds no evidence"),
    "empty array": ("cas_results.json.gz", lambda _: gzip.compress(b"[]"), "holds no evidence"),
    "garbage metadata": ("metadata.json", lambda content: content[:-1], "not whole JSON"),
    "metadata is a list": ("metadata.json", lambda _: b"[]", "not a JSON object"),
    "empty CSV": ("cas_cell_types.csv", lambda _: b"", "not a whole CSV table"),
    "binary CSV": ("cas_cell_types.csv", lambda _: b"\xff\xfe\x00", "not a whole CSV table"),
    "no rows": ("cas_cell_types.csv", rows(lambda lines: lines[:1]), "has no rows"),
    "missing column": ("cas_cell_types.csv", lambda c: c.replace(b"coarse_cell_type", b"coarse"), "lacks the column"),
    "cut row": ("cas_cell_types.csv", rows(lambda lines: [*lines[:-1], b"cellid_0"]), "not in the matrix"),
    "doubled": ("cas_cell_types.csv", rows(lambda lines: [*lines[:-1], lines[1]]), "more than once"),
    "unknown": ("cas_cell_types.csv", rows(lambda lines: [*lines[:-1], b"x-1,T cell,T cell,3"]), "is 'x-1'"),
    "no number": ("cas_cell_types.csv", lambda c: c.replace(b",300", b",many"), "not a number"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_downloads(cloud, matrix, case):
    """Whole by their length, but not by what they hold: fetched three times, not kept, nothing else destroyed."""
    name, damage, words = DAMAGES[case]
    cloud.edit[name] = damage
    error = refused(lambda: annotated(cloud, matrix))
    assert (type(error), error.exit_code) == (DamagedDownload, 6)
    assert words in str(error)
    assert f"{name} of 10x Cloud" in str(error)
    assert len([seen for seen in cloud.requests("fetch") if f"out-{name}?" in seen.target]) == 3
    assert name not in files_of(matrix)
    assert failure_mode(matrix) == "DamagedDownload"


def test_after_a_damaged_download_all_files_are_of_one_analysis(cloud, matrix):
    """The next run starts another analysis, and fetches again what was good of the first."""
    cloud.edit["cas_results.json.gz"] = lambda content: content[:-9]
    refused(lambda: annotated(cloud, matrix))
    cloud.edit.clear()
    annotated(cloud, matrix)
    assert (len(cloud.requests("part")), len(cloud.requests("start"))) == (2, 2)
    fetched = [seen.target for seen in cloud.requests("fetch") if "cas_cell_types.csv" in seen.target]
    assert len(fetched) == 2


def test_a_slow_download_comes_whole(cloud, matrix):
    """Bytes that dribble are no time-out."""
    cloud.fail("fetch", "slow", times=3)
    annotated(cloud, matrix, timeouts=Timeouts(download=0.2))


def test_a_download_that_stands_still(cloud, matrix):
    """A silence longer than the time-out is one."""
    cloud.slowness = 3.0
    cloud.fail("fetch", "slow", times=None)
    error = refused(lambda: annotated(cloud, matrix, timeouts=Timeouts(download=0.05)))
    assert "no answer in time" in str(error)
    assert files_of(matrix) == RECORD


def test_cells_that_were_not_returned(cloud, matrix):
    """The run is good; the cells are Unassigned, with the reason."""
    cloud.edit["cas_cell_types.csv"] = rows(lambda lines: [lines[0], *lines[3:]])
    found = annotated(cloud, matrix).cell_types
    assert (list(found.missing), found.fraction_returned) == (BARCODES[:2], 0.714)
    assert found.table["barcode"].tolist() == BARCODES
    assert found.table["coarse_cell_type"].tolist()[:3] == ["Unassigned", "Unassigned", "Monocyte"]
    assert found.table["reason"].tolist()[:3] == ["not returned", "not returned", ""]
