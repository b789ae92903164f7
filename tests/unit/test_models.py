"""Names of models mean what the documentation says, and names that cannot run say so."""

from __future__ import annotations

import pytest

from cytonym.errors import ModelError
from cytonym.models import available_models, jobs_for, models_home, named_cards


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_nothing_named_runs_the_marker_model_and_says_so(species):
    """One calm line says which model runs and why."""
    jobs, notes = jobs_for(None, species)
    assert [job.card.name for job in jobs] == ["markers"]
    assert len(notes) == 1
    assert "Nothing leaves this machine" in notes[0]


def test_a_named_model_needs_no_explanation():
    """No note where the user chose."""
    assert jobs_for("markers", "human")[1] == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("auto", "cloud model 'auto' is not available in this version"),
        ("AUTO", "cloud model 'AUTO' is not available in this version"),
        ("human_pca_v1_beta", "not available in this version"),
        ("pan_human_azimuth", "Pan-Human Azimuth is not available in this version"),
        ("/some/atlas", "reference models are not available in this version"),
        ("nonsense", "'nonsense' is not a model"),
        ("markers,,markers", "has an empty name in it"),
        ("markers,markers", "both write to outs/cell_types/Markers"),
    ],
)
def test_names_that_cannot_run_are_refused(value, message):
    """Each with the models that can run."""
    with pytest.raises(ModelError, match=message):
        named_cards(value)


def test_every_available_model_has_a_backend_that_takes_its_name():
    """Names, folders and columns are unique within a card."""
    for name, card in available_models().items():
        assert card.name == name
        assert len(set(card.columns)) == len(card.columns)


def test_the_home_of_models_follows_the_environment(monkeypatch, tmp_path):
    """$CYTONYM_HOME first, then the XDG data folder."""
    monkeypatch.setenv("CYTONYM_HOME", str(tmp_path))
    assert models_home() == tmp_path / "models"
    monkeypatch.delenv("CYTONYM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_home() == tmp_path / "cytonym" / "models"
