"""The main job with a model of 10x Cloud: what comes back, what stays when it fails, and how it goes on."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cloud_run import TOKEN, served
from fake_cloud import FakeCloud

from azimuth_files import write_bundle
from cytonym import AnnotateRequest, AnnotateResult, annotate
from cytonym.cli import main
from cytonym.demo import make_tissue
from cytonym.errors import CloudError, GenomeMismatch, InputError, ModelError, TokenError
from cytonym.install import InstallRequest, install
from cytonym.io.cell_types_csv import read_cell_types
from cytonym.io.tenx_h5 import open_tenx_h5

FOLDER = "10x_Cloud"
N_CELLS = 150


@pytest.fixture(scope="module")
def tissue(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tissue") / "filtered_feature_cell_matrix.h5"
    make_tissue(path, n_cells=N_CELLS, n_genes=6000, seed=3)
    return path


@pytest.fixture
def cloud(monkeypatch):
    """A fake cloud, named by the environment, at a pace of nearly no waiting."""
    with served(barcodes=None) as running:
        monkeypatch.setenv("TENX_CLOUD_URL", running.url)
        monkeypatch.setenv("CYTONYM_CLOUD_WAIT_SCALE", "1e-5")
        yield running


@pytest.fixture
def request_of(tissue, tmp_path):
    """A request with the token's file, in a folder of its own."""
    token = tmp_path / "token.txt"
    token.write_text(TOKEN)
    token.chmod(0o600)

    def make(model: str = "auto", **changes: object) -> AnnotateRequest:
        given: dict[str, object] = {"matrix": tissue, "tenx_cloud_token_path": token, "output_dir": tmp_path / "run"}
        return AnnotateRequest("s", cell_annotation_model=model, localcores=1, **(given | changes))  # type: ignore[arg-type]

    return make


def table_of(result: AnnotateResult | Path) -> list[list[str]]:
    outs = result if isinstance(result, Path) else result.outs
    text = (outs / "cell_types" / FOLDER / "cell_types.csv").read_text(encoding="utf-8")
    return [line.split(",") for line in text.splitlines()]


def steps_without_checks(cloud: FakeCloud) -> list[str]:
    return [step for step in cloud.steps if step not in ("user", "models", "defaults")]


def test_a_good_run_brings_the_services_files(cloud, request_of, tissue):
    """Columns as delivered, then ours; evidence byte for byte; differential expression, metrics and page."""
    result = annotate(request_of())
    header, first = table_of(result)[:2]
    assert header == [
        "barcode",
        "coarse_cell_type",
        "fine_cell_type",
        "cell_count_in_model",
        "cell_type_ontology_term_id",
        "reason",
        "coarse_cell_type_unfiltered",
        "umi_count",
    ]
    assert first[:5] == ["cellid_000000001-1", "T cell", '"CD4-positive', ' alpha-beta T cell"', "300"]
    umis = open_tenx_h5(tissue).read_rows(0, N_CELLS).sum(axis=1)
    assert [int(row[-1]) for row in table_of(result)[1:]] == umis.ravel().tolist()[0]
    folder = result.outs / "cell_types" / FOLDER
    assert (folder / "cell_annotation_results.json.gz").read_bytes() == cloud.outputs["cas_results.json.gz"]
    assert (folder / "cell_annotation_differential_expression.csv").is_file()
    told = result.metrics["models"]["auto"]
    assert (told["model_used"], told["frac_returned_bcs"], told["n_labelled"]) == ("human_pca_v1_beta", 1.0, N_CELLS)
    assert told["session_statistics"]["upload_tries"] == 1
    page = (result.outs / "web_summary_cell_types.html").read_text(encoding="utf-8")
    assert "is in beta" in page and "Broad Institute" in page and "human_pca_v1_beta" in page
    assert cloud.steps.count("start") == 1


def test_low_umi_cells_lose_their_coarse_type_alone(cloud, request_of):
    """The rule is that of all models."""
    rows = table_of(annotate(request_of(low_umi_threshold=1_000_000)))[1:]
    assert {row[1] for row in rows} == {"Low UMI Barcode"}
    assert {row[-2] for row in rows} == {"T cell", "B cell", "Monocyte"}


def test_nothing_of_a_run_shows_the_token(cloud, request_of, tmp_path):
    """Neither results nor logs nor what is kept for a later try."""
    cloud.fail("fetch", "cut", times=None)
    with pytest.raises(CloudError):
        annotate(request_of("markers,auto"))
    held = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(path.name == "cloud_run.json" for path in held)
    assert not [path for path in held if TOKEN.encode() in path.read_bytes()]


def test_partitions_do_not_matter(cloud, request_of, tmp_path):
    """Seven partitions or one: the same table."""
    whole = annotate(request_of(output_dir=tmp_path / "one"))
    parts = annotate(request_of(output_dir=tmp_path / "seven", partition_size=23))
    assert len(parts.plan.partitions) == 7
    assert table_of(parts) == table_of(whole)


def test_cells_that_are_not_returned_say_so(cloud, request_of):
    """They are Unassigned, left out of the differential expression, and counted in an alert."""
    cloud.edit["cas_cell_types.csv"] = lambda content: b"\n".join([*content.split(b"\n")[:-11], b""])
    result = annotate(request_of())
    rows = table_of(result)[1:]
    assert [row[-3] for row in rows[-11:]] == ["", *["not returned"] * 10]
    assert [row[-2] for row in rows[-11:]][1:] == ["Unassigned"] * 10
    assert result.models["auto"].diffexp is not None
    assert "Unassigned" not in result.models["auto"].diffexp.groups
    alerts = {alert["title"]: alert["message"] for alert in result.metrics["alerts"]}
    assert "no label for 10 of 150 cells" in alerts["Cells not returned"]


def test_a_failed_cloud_leaves_what_local_models_found(cloud, request_of, tmp_path, capsys):
    """Exit code 6, the markers' tables complete, an alert; the same command then goes on and completes the run."""
    cloud.plans = [["NEW", "FAILED"]]
    request = request_of("auto,markers")
    command = ["annotate", "--id=s", f"--matrix={request.matrix}", "--cell-annotation-model=auto,markers"]
    command += [f"--tenx-cloud-token-path={request.tenx_cloud_token_path}", f"--output-dir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 6
    assert "could not annotate filtered_feature_cell_matrix.h5" in capsys.readouterr().err
    outs = tmp_path / "run" / "outs"
    before = (outs / "cell_types/Markers/cell_types.csv").read_bytes()
    assert not (outs / "cell_types" / FOLDER).exists()
    assert not (outs / "cell_types/Consensus").exists()
    alerts = json.loads((outs / "metrics.json").read_text())["alerts"]
    assert ("ERROR", "No cell annotations produced") in [(alert["level"], alert["title"]) for alert in alerts]
    uploads = cloud.steps.count("register")

    cloud.plans = [["COMPLETED"]]
    cloud.analyses.clear()
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 0
    assert cloud.steps.count("register") == uploads
    assert (outs / "cell_types/Markers/cell_types.csv").read_bytes() == before
    assert len(table_of(outs)) == N_CELLS + 1
    assert (outs / "cell_types/Consensus/cell_types.csv").is_file()
    assert not (tmp_path / "run" / "_stages").exists()
    assert "No cell annotations produced" not in (outs / "metrics.json").read_text()


def test_a_killed_run_goes_on_waiting(cloud, request_of, tmp_path):
    """Killed while the analysis runs, the same command sends nothing again and starts nothing again."""
    cloud.plans = [["INPROGRESS"]]
    request, waiting = request_of(), threading.Event()
    cloud.on("poll", 3, waiting.set)
    command = [sys.executable, "-m", "cytonym", "annotate", "--id=s", f"--matrix={request.matrix}"]
    command += [f"--tenx-cloud-token-path={request.tenx_cloud_token_path}", "--cell-annotation-model=auto"]
    command += [f"--output-dir={tmp_path / 'run'}"]
    environment = os.environ | {"CYTONYM_CLOUD_WAIT_SCALE": "0.005"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        assert waiting.wait(60)
        process.kill()
    for plan in cloud.analyses.values():
        plan[:] = ["COMPLETED"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of an earlier run goes on; nothing is sent" in done.stderr
    assert [cloud.steps.count(step) for step in ("register", "part", "start")] == [1, 1, 1]
    assert len(table_of(tmp_path / "run" / "outs")) == N_CELLS + 1


def test_a_failed_cloud_alone_leaves_the_log_and_no_outs(cloud, request_of, tmp_path):
    """There is nothing to show; the folder waits for the same command."""
    cloud.plans = [["FAILED"]]
    with pytest.raises(CloudError, match="in 3 tries"):
        annotate(request_of())
    assert (tmp_path / "run" / "_log").is_file()
    assert not (tmp_path / "run" / "outs").exists()


def test_azimuth_joins_on_human_samples(cloud, request_of, tmp_path):
    """As in Space Ranger: a cloud model is named, and the installed local model runs as well, before it."""
    models_dir = tmp_path / "models"
    weights, tables = write_bundle(tmp_path / "bundle")
    install(InstallRequest("pan_human_azimuth", models_dir, weights=weights, tables=tables))
    plan = annotate(request_of(models_dir=models_dir)).plan
    assert [job.card.name for job in plan.jobs] == ["pan_human_azimuth", "auto"]


def test_preflight_asks_the_service_and_sends_nothing(cloud, request_of, tmp_path):
    """A refused token, an unknown model, a genome without one, another format, too few cells: no folder is left."""
    few = tmp_path / "few.h5"
    make_tissue(few, n_cells=60, n_genes=6000)
    folder = tmp_path / "mex"
    shutil.copytree(Path(__file__).parents[1] / "data/tiny/filtered_feature_bc_matrix", folder)
    empty = tmp_path / "empty.txt"
    empty.touch()
    cases = [
        (request_of(tenx_cloud_token_path=empty), TokenError, "is empty"),
        (request_of("no_such_model"), ModelError, "is no model of 10x Cloud"),
        (request_of(genome="hg38"), GenomeMismatch, "hg38"),
        (request_of(matrix=few), InputError, "100 to 1,200,000 cells"),
        (request_of(matrix=folder, genome="GRCh38"), InputError, "takes 10x HDF5 files"),
    ]
    for request, error, words in cases:
        with pytest.raises(error, match=words):
            annotate(request)
        assert not (tmp_path / "run").exists()
    assert steps_without_checks(cloud) == []


def test_without_a_token_the_ways_out_are_named(tissue, tmp_path, monkeypatch):
    """A cloud model needs one; nothing is asked of any server."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    with pytest.raises(TokenError, match=r"cytonym cloud auth setup.*--tenx-cloud-token-path"):
        annotate(AnnotateRequest("s", tissue, cell_annotation_model="auto", output_dir=tmp_path / "run"))


def test_a_token_alone_sends_nothing(cloud, request_of):
    """No model is named: the local one runs, whatever tokens lie about."""
    result = annotate(request_of(None))
    assert [job.card.name for job in result.plan.jobs] == ["markers"]
    assert cloud.steps == []


def test_evidence_reads_back(cloud, request_of):
    """The published evidence is gzip JSON, one object a barcode."""
    result = annotate(request_of())
    with gzip.open(result.outs / "cell_types" / FOLDER / "cell_annotation_results.json.gz") as file:
        assert len(json.load(file)) == N_CELLS
    table = read_cell_types(result.outs / "cell_types" / FOLDER / "cell_types.csv")
    assert table["cell_type_ontology_term_id"].tolist()[:3] == ["CL:0000624", "CL:0000236", "CL:0000860"]
