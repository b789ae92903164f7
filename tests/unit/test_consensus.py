"""The consensus of several models, on a made ontology and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytonym.backends.markers import CARD as MARKERS
from cytonym.consensus import consensus
from cytonym.levels import Levels
from cytonym.ontology import Ontology, Term
from cytonym.types import UNASSIGNED

ONE, TWO = (replace(MARKERS, name=name, backend="reference", folder=name) for name in ("one", "two"))
TERMS = [
    Term("CL:0000000", "cell"),
    Term("I", "leukocyte", ("CL:0000000",)),
    Term("L", "lymphocyte", ("I",)),
    Term("T", "T cell", ("L",)),
    Term("B", "B cell", ("L",)),
    Term("T8", "CD8 T cell", ("T",)),
    Term("E", "epithelial cell", ("CL:0000000",)),
]
IDS = {term.name: term.id for term in TERMS}
LEVELS = Levels(broad={"I": "Immune", "E": "Epithelial"}, coarse={"T": "T", "B": "B"})


def table(*rows: tuple[str, float]) -> pd.DataFrame:
    """A model's fine types and confidences."""
    names = [name for name, _ in rows]
    return pd.DataFrame(
        {
            "fine_cell_type": pd.Categorical(names),
            "coarse_cell_type": UNASSIGNED,
            "cell_type_ontology_term_id": [IDS.get(name, "") for name in names],
            "confidence": [confidence for _, confidence in rows],
        }
    )


def agreed(*models) -> pd.DataFrame:
    return consensus(models, Ontology(TERMS), LEVELS)


def test_models_that_agree():
    found = agreed((ONE, table(("T cell", 0.9))), (TWO, table(("T cell", 0.8)))).iloc[0]
    assert found.to_dict() == {
        "broad_cell_type": "Immune",
        "coarse_cell_type": "T",
        "fine_cell_type": "T cell",
        "cell_type_ontology_term_id": "T",
        "confidence": round((0.9 * 0.9 + 0.8 * 0.8) / (0.9 + 0.8), 4),  # each confidence, weighed by itself
        "agreement": 1.0,
        "cell_type_in_one": "T cell",
        "cell_type_in_two": "T cell",
        "reason": "",
    }


def test_a_finer_name_on_the_same_line_is_no_contradiction():
    found = agreed((ONE, table(("T cell", 0.99))), (TWO, table(("CD8 T cell", 0.75)))).iloc[0]
    assert (found.fine_cell_type, found.confidence, found.agreement, found.reason) == ("CD8 T cell", 0.75, 1, "")


def test_models_that_differ_get_what_their_labels_have_in_common():
    """Votes of .9 and .8: neither has .7 of them, and both say lymphocyte."""
    found = agreed((ONE, table(("T cell", 0.9))), (TWO, table(("B cell", 0.8)))).iloc[0]
    assert (found.broad_cell_type, found.coarse_cell_type, found.fine_cell_type) == ("Immune", UNASSIGNED, "lymphocyte")
    assert found.cell_type_ontology_term_id == "L"
    assert found.agreement == round(0.9 / 1.7, 4)
    assert found.confidence == round((0.9**2 + 0.8**2) / 1.7, 4)
    assert found.reason == "models differ: T cell (one), B cell (two)"


def test_a_model_that_is_much_surer_prevails_and_the_other_is_told():
    """.9 of 1.2 votes are .75; its confidence is what is left of .9 after the other vote."""
    found = agreed((ONE, table(("T cell", 0.9))), (TWO, table(("B cell", 0.3)))).iloc[0]
    assert (found.fine_cell_type, found.confidence, found.agreement) == ("T cell", 0.675, 0.75)
    assert found.reason == "models differ: T cell (one), B cell (two)"


def test_the_marker_models_odds_are_tempered():
    """Its .8 counts .4 x sqrt(.8) / (sqrt(.8) + sqrt(.2)) = .2667, against .6 x .9 = .54: 67 %, not enough."""
    models = (ONE, table(("T cell", 0.9))), (MARKERS, table(("B cell", 0.8)))
    assert agreed(*models).iloc[0][["fine_cell_type", "agreement"]].tolist() == [
        "lymphocyte",
        round(0.54 / 0.806667, 4),
    ]
    surer = (ONE, table(("T cell", 0.95))), (MARKERS, table(("B cell", 0.7)))
    assert agreed(*surer).iloc[0]["fine_cell_type"] == "T cell"  # .57 of .57 + .2417


def test_names_without_anything_in_common_are_unassigned():
    found = agreed((ONE, table(("T cell", 0.9))), (TWO, table(("epithelial cell", 0.9)))).iloc[0]
    assert (found.broad_cell_type, found.fine_cell_type, found.cell_type_ontology_term_id) == (
        UNASSIGNED,
        UNASSIGNED,
        "",
    )
    assert np.isnan(found.confidence) and found.agreement == 0.5
    assert found.reason.startswith("models differ")


def test_a_model_that_names_nothing_does_not_vote():
    found = agreed((ONE, table(("T cell", 0.75))), (TWO, table((UNASSIGNED, np.nan)))).iloc[0]
    assert (found.fine_cell_type, found.confidence, found.agreement, found.reason) == ("T cell", 0.75, 1, "")
    nobody = agreed((ONE, table((UNASSIGNED, np.nan))), (TWO, table((UNASSIGNED, np.nan)))).iloc[0]
    assert (nobody.fine_cell_type, nobody.reason) == (UNASSIGNED, "no model names the cell")


def test_two_of_three_prevail_when_they_are_surer():
    third = replace(ONE, name="three", folder="three")
    models = (ONE, table(("T cell", 0.9))), (TWO, table(("CD8 T cell", 0.8))), (third, table(("B cell", 0.4)))
    found = agreed(*models).iloc[0]
    assert (
        found.fine_cell_type == "T cell"
    )  # .8 of 1.2 for CD8 T cell (T cell says nothing on it), 1.7 of 2.1 for T cell
    assert found.agreement == round(1.7 / 2.1, 4)


def test_a_label_is_found_by_its_name_or_stands_for_itself_below_its_levels():
    by_name = table(("t CELL", 0.9))
    own = table(("my T cell", 0.9)).assign(coarse_cell_type="T", broad_cell_type="Immune")
    found = agreed((ONE, by_name), (TWO, own)).iloc[0]
    assert (found.fine_cell_type, found.coarse_cell_type, found.broad_cell_type) == ("my T cell", "T", "Immune")
    assert found.cell_type_ontology_term_id == ""
    assert agreed((ONE, table(("B cell", 0.9))), (TWO, own)).iloc[0]["fine_cell_type"] == "lymphocyte"


def test_the_clouds_confidence_is_its_share_of_neighbours():
    cloud = table(("T cell", 0.0)).drop(columns="confidence").assign(cell_count_in_model="400")
    assert agreed((ONE, table(("T cell", 0.8))), (TWO, cloud)).iloc[0]["confidence"] == 0.8
    silent = cloud.drop(columns="cell_count_in_model")
    assert agreed((ONE, table((UNASSIGNED, 0.0))), (TWO, silent)).iloc[0]["confidence"] == 0.7


@pytest.fixture
def many():
    rng = np.random.default_rng(0)
    names = [*IDS, UNASSIGNED, "own type"]
    made = [table(*zip(rng.choice(names, 300), rng.random(300).round(3), strict=True)) for _ in range(3)]
    return list(zip((ONE, TWO, MARKERS), made, strict=True))


def test_each_cell_by_itself(many):
    """Any order and any part of the cells gives the same rows."""
    whole = agreed(*many)
    rows = np.random.default_rng(1).permutation(300)[:100]
    part = agreed(*((card, rows_of.iloc[rows].reset_index(drop=True)) for card, rows_of in many))
    pd.testing.assert_frame_equal(part, whole.iloc[rows].reset_index(drop=True))


def test_the_order_of_the_models_decides_nothing(many):
    one, other = agreed(*many), agreed(*many[::-1])
    same = ["fine_cell_type", "coarse_cell_type", "broad_cell_type", "cell_type_ontology_term_id"]
    pd.testing.assert_frame_equal(one[same], other[same])
    assert one["confidence"].to_numpy() == pytest.approx(other["confidence"].to_numpy(), abs=1e-4, nan_ok=True)
