"""Names of models mean what the documentation says, and names that cannot run say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from azimuth_files import write_bundle
from conftest import PROJECT
from cytonym.cli import main, parser
from cytonym.errors import ModelError
from cytonym.install import InstallRequest, install
from cytonym.models import AZIMUTH, available_models, find_model, jobs_for, model_of, models_home, named_models


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    """A folder with a small Pan-Human Azimuth in it; tests must not change it."""
    folder = tmp_path_factory.mktemp("models")
    install(InstallRequest(AZIMUTH, folder, *write_bundle(tmp_path_factory.mktemp("bundle"))))
    return folder


def planned(value: str | None, species: str, models_dir: Path):
    return jobs_for(named_models(value, models_dir), species, models_dir)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("auto", "auto"),
        (" AUTO ", "auto"),
        ("human_pca_v1_beta", "human_pca_v1_beta"),
        ("tenx:mouse_pca_v1_beta", "mouse_pca_v1_beta"),
        ("tenx:", "auto"),
    ],
)
def test_names_of_the_cloud_are_known_without_asking_it(value, name, tmp_path):
    """Space Ranger's names, and what stands after a colon; all of one folder."""
    (model,) = named_models(value, tmp_path)
    assert (model.card.name, model.card.folder, model.card.backend) == (name, "10x_Cloud", "tenx_cloud")


def test_a_name_that_nobody_here_knows_is_the_clouds_only_with_a_token(tmp_path):
    """A slip of the pen asks no server."""
    with pytest.raises(ModelError, match=r"'makers' is not a model.*--tenx-cloud-token-path"):
        named_models("makers", tmp_path)
    (model,) = named_models("rat_pca_v1", tmp_path, with_token=True)
    assert model.card.name == "rat_pca_v1"


def test_cloud_models_come_last_and_azimuth_joins_them_on_human_samples(models_dir, tmp_path):
    """What is local is done before the waiting begins."""
    names = [job.card.name for job in planned("auto,markers", "human", models_dir)[0]]
    assert names == ["markers", AZIMUTH, "auto"]
    assert [job.card.name for job in planned("auto", "mouse", models_dir)[0]] == ["auto"]
    assert [job.card.name for job in planned("auto", "human", tmp_path)[0]] == ["auto"]


@pytest.mark.parametrize(
    ("species", "why"), [("human", "Pan-Human Azimuth is not installed"), ("mouse", "the local model for mouse")]
)
def test_nothing_named_and_nothing_installed_runs_the_marker_model_and_says_so(species, why, tmp_path):
    """One calm line says which model runs and why."""
    jobs, notes = planned(None, species, tmp_path)
    assert [job.card.name for job in jobs] == ["markers"]
    assert len(notes) == 1
    assert why in notes[0]
    assert "Nothing leaves this machine" in notes[0]


def test_nothing_named_runs_azimuth_on_human_samples_once_installed(models_dir):
    """As Space Ranger does; a mouse sample still gets the marker model."""
    (job,), (note,) = planned(None, "human", models_dir)
    assert (job.card.name, job.model_path, len(job.model_sha256)) == (AZIMUTH, AZIMUTH, 64)
    assert note == (
        "No model was named: Pan-Human Azimuth runs (it is installed, and the sample is human). "
        "Nothing leaves this machine."
    )
    assert [job.card.name for job in planned(None, "mouse", models_dir)[0]] == ["markers"]


def test_azimuth_is_passed_over_where_the_sample_has_no_symbol_that_it_knows(models_dir):
    """A sample of Ensembl ids alone is not a reason to stop: the marker model knows these."""
    (job,), (note,) = jobs_for((), "human", models_dir, ["ENSG00000000003", "ENSG00000000005"])
    assert job.card.name == "markers"
    assert "knows none of the sample's gene symbols" in note


def test_a_named_model_needs_no_explanation(tmp_path):
    """No note where the user chose."""
    assert planned("markers", "human", tmp_path)[1] == ()


def test_several_models_keep_their_order(models_dir):
    """Each with a folder of its own."""
    jobs, _ = planned(f"{AZIMUTH}, markers", "human", models_dir)
    assert [job.card.folder for job in jobs] == ["Azimuth", "Markers"]


def test_a_mouse_sample_is_refused(models_dir):
    """Named or not, Azimuth never runs on it."""
    with pytest.raises(ModelError, match="pan_human_azimuth was made for human, but the sample is mouse"):
        planned(AZIMUTH, "mouse", models_dir)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("auto,human_pca_v1_beta", "both write to outs/cell_types/10x_Cloud"),
        ("pan_human_azimuth", r"not installed in .*'cytonym models install pan_human_azimuth'.* --weights FILE.keras"),
        ("/some/atlas", "not a folder of 'cytonym reference build'"),
        ("nonsense", "'nonsense' is not a model"),
        ("markers,,markers", "has an empty name in it"),
        ("markers,markers", "both write to outs/cell_types/Markers"),
    ],
)
def test_names_that_cannot_run_are_refused(value, message, tmp_path):
    """Each with the models that can run, or the ways to install it."""
    with pytest.raises(ModelError, match=message):
        named_models(value, tmp_path)


def test_every_available_model_has_a_backend_that_takes_its_name(models_dir):
    """Names, folders and columns are unique within a card."""
    models = available_models(models_dir)
    assert set(models) == {"markers", AZIMUTH}
    for name, model in models.items():
        assert model.card.name == name
        assert len(set(model.card.columns)) == len(model.card.columns)


def test_the_home_of_models_follows_the_environment(monkeypatch, tmp_path):
    """$CYTONYM_HOME first, then the XDG data folder, then the one below HOME."""
    monkeypatch.setenv("CYTONYM_HOME", str(tmp_path))
    assert models_home() == tmp_path / "models"
    monkeypatch.delenv("CYTONYM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_home() == tmp_path / "cytonym" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_home() == tmp_path / ".local" / "share" / "cytonym" / "models"


# ---- what is installed


@pytest.fixture
def own_dir(tmp_path):
    """A folder with an installed model that a test may damage."""
    install(InstallRequest(AZIMUTH, tmp_path / "models", *write_bundle(tmp_path / "bundle")))
    return tmp_path / "models"


def test_a_changed_file_is_found_before_a_run(own_dir):
    """Sizes are looked at whenever a model is looked up, checksums once for each run."""
    data = own_dir / AZIMUTH / "model.h5"
    content = data.read_bytes()
    data.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert find_model(AZIMUTH, own_dir).card.name == AZIMUTH
    with pytest.raises(ModelError, match=r"model.h5 is not as it was installed. Install the model again"):
        planned(AZIMUTH, "human", own_dir)
    data.write_bytes(content[:-1])
    with pytest.raises(ModelError, match="missing or cut off"):
        find_model(AZIMUTH, own_dir)
    data.unlink()
    with pytest.raises(ModelError, match="missing or cut off"):
        find_model(AZIMUTH, own_dir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, "the folder must have the model's name"),
        ({"species": ["fish"]}, "is not a model card of this version"),
        ({"files": {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}}, "is not a model card of this version"),
        ({"backend": "quantum"}, "needs 'quantum', which this version of cytonym does not have"),
    ],
)
def test_a_card_that_does_not_hold_is_refused(own_dir, change, message):
    """Checked against its schema, and against what this version has."""
    path = own_dir / AZIMUTH / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        find_model(AZIMUTH, own_dir)


def test_a_task_refuses_another_model_than_the_planned_one(models_dir, tmp_path):
    """A stage after preflight meets the same model or none."""
    (job,), _ = planned(AZIMUTH, "human", models_dir)
    assert model_of(job, models_dir) == find_model(AZIMUTH, models_dir)
    with pytest.raises(ModelError, match="was planned, but is not installed"):
        model_of(job, tmp_path)
    with pytest.raises(ModelError, match="is not the model that the plan was made with"):
        model_of(replace(job, card=replace(job.card, version="v0")), models_dir)


def test_cards_have_one_shape(models_dir):
    """The plan takes every field that an installed model's card has."""
    plan = json.loads((PROJECT / "schemas" / "plan.schema.json").read_text())["$defs"]["job"]["properties"]["card"]
    card = json.loads((PROJECT / "schemas" / "model_card.schema.json").read_text())
    assert set(plan["properties"]) == set(card["properties"]) - {"files"}
    assert set(plan["properties"]) == set(vars(find_model(AZIMUTH, models_dir).card))


def told(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["models", *arguments])
    said = capsys.readouterr()
    return stopped.value.code, said.out + said.err


def test_models_are_listed_shown_and_removed(own_dir, capsys):
    """With version, licence, DOI and checksums; what is gone can be installed again."""
    folder = ("--models-dir", str(own_dir))
    code, text = told(capsys, "list", *folder)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == ["markers", AZIMUTH]
    assert text.splitlines()[1].endswith("installed")
    code, text = told(capsys, "info", AZIMUTH, *folder)
    for part in ("Version:  v1", "CC BY 4.0", "MIT", "10.5281/zenodo.20401417", "unknown checksum"):
        assert part in text
    assert told(capsys, "remove", AZIMUTH, *folder) == (0, f"Removed {AZIMUTH}.\n")
    assert list(own_dir.iterdir()) == []
    assert "not installed: cytonym models install" in told(capsys, "list", *folder)[1]
    code, text = told(capsys, "remove", AZIMUTH, *folder)
    assert (code, text) == (4, f"ERROR: There is no installed model '{AZIMUTH}' in {own_dir}.\n")


def test_naming_models_one_by_one_is_naming_them_with_commas():
    asked = ["annotate", "--id", "s", "--matrix", "m.h5"]
    one_by_one = parser().parse_args([*asked, "--cell-annotation-model=a", "--cell-annotation-model", "b,c"])
    assert one_by_one.cell_annotation_model == "a,b,c"
    assert parser().parse_args(asked).cell_annotation_model is None
