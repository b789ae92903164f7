"""From eight classes to labels: one case for each rule of the original, and for each of its oddities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cytonym.azimuth.calibration import calibrate
from cytonym.azimuth.labels import Decoded, Decoder, Refinement, decode
from cytonym.azimuth.tables import N_LEVELS, REFINED_LEVELS, Tables
from cytonym.backends.azimuth import label_table


def tokens(*paths: str) -> list[list[str]]:
    """The classes of eight levels, written without the pipes of absent parts; the last one stands for the rest."""
    listed = [*paths, *[paths[-1]] * (N_LEVELS - len(paths))]
    return [(path.split("|") + [""] * N_LEVELS)[:level] for level, path in enumerate(listed, 1)]


def test_levels_that_agree_give_their_path():
    """The path ends at the last named part."""
    path = decode(tokens("A", "A|B", "A|B|C"))
    assert (path.full, path.final, path.final_level, path.consistent) == ("A|B|C", "C", 2, True)


def test_the_shallowest_level_that_names_a_depth_wins():
    """Depth 2 is named by level 2, though level 3 says otherwise; the path is not consistent."""
    path = decode(tokens("A", "A|B", "A|X|C"))
    assert (path.full, path.final_level, path.consistent) == ("A|B|C", 2, False)


def test_a_deeper_level_may_name_what_a_shallower_leaves_open():
    """Level 2 stops at A; level 3 goes on to B and C."""
    path = decode(tokens("A", "A|", "A|B|C"))
    assert (path.full, path.final, path.final_level, path.consistent) == ("A|B|C", "C", 2, False)


def test_a_gap_ends_the_final_label_but_not_the_full_one():
    """Depth 2 is named by no level: the final label is A, yet C stands in the full label."""
    level_3 = ["A", "", "C"]
    path = decode([["A"], ["A", ""], level_3, *[[*level_3, *[""] * n] for n in range(1, 6)]])
    assert (path.full, path.final, path.final_level) == ("A|C", "A", 0)


# ---- refinement


ROWS = (("A|B|C", "A|B"), ("A|B|D", "A|B|D"), ("A|E|F", "A|F"), ("G|H1", "G|H1"), ("G|H12", "G|H12"))
CLASSES = ({"A": 0, "G": 1}, {"A|B": 0, "A|E": 1, "G|H1": 2, "G|H12": 3}, {"A|B|C": 0, "A|B|D": 1, "A|E|F": 2})


def outcome(full: str, rows: Sequence[tuple[str, str]] = ROWS, *, consistent: bool = True):
    parts = [*full.split("|"), *[None] * N_LEVELS][:N_LEVELS]
    return Refinement(rows, CLASSES).outcome(Decoded(tuple(parts), full.count("|"), consistent))


def test_levels_that_disagree_get_no_refined_label():
    """Rule 1: the text False."""
    assert outcome("A|B|C", consistent=False) == "False"


def test_a_label_in_the_table_gets_its_target():
    """Rule 2: the target's last part; a target is its own target, whatever its row says."""
    assert outcome("A|B|C") == "B"
    assert outcome("A|B") == "B"
    assert outcome("A|B", (("A|B", "A"), ("A|B|C", "A|B"))) == "B"


def test_a_target_that_skips_a_level_is_refused():
    """Rule 2: it must stand in the label as a text, which A|F does not in A|E|F. The original's oddity, kept."""
    assert outcome("A|E|F") == "False"


def test_of_two_rows_for_one_label_the_last_counts():
    """As in the published medium and fine tables."""
    assert outcome("A|B|C", (("A|B|C", "A"), ("A|B|C", "A|B"))) == "B"


def test_a_label_above_the_table_has_candidates():
    """Rule 3: targets of all labels below it that are classes at their depth, in table order."""
    assert [(c.label, c.level, c.class_id) for c in outcome("A")] == [("B", 1, 0), ("D", 2, 1)]


def test_labels_below_are_found_by_their_letters():
    """Rule 3 compares texts, not parts: what begins with G|H is below G|H. The original's oddity, kept."""
    assert [c.label for c in outcome("G|H")] == ["H1", "H12"]


def test_no_candidate_is_no_label():
    """Rule 3 without a class among the targets."""
    assert outcome("A|E") is None
    assert outcome("Z") is None


# ---- whole cells


def made_tables() -> Tables:
    """A|B|C and A|B|D, which level 3 tells apart; A|B alone is refined by the more probable of the two."""
    leaves = ("A|B|", "A|B|C", "A|B|D")
    deeper = tuple(tuple(leaf + "|" * more for leaf in leaves) for more in range(1, 6))
    rows = (("A|B|C", "A|B|C"), ("A|B|D", "A|B|D"))
    broad = (("A|B|C", "A"), ("A|B|D", "A"))
    refinement = {level: broad if level == "broad" else rows for level in REFINED_LEVELS}
    return Tables((), (("A",), ("A|B",), leaves, *deeper), refinement, {"C": "CL:1", "A": "CL:9"}, ())


def test_each_cell_takes_its_own_most_probable_candidate():
    """Cells of one tuple of classes, by their probabilities at level 3; of equal ones the table's first."""
    at_level_3 = np.array([[0.8, 0.1, 0.1], [0.7, 0.1, 0.2], [0.1, 0.6, 0.3]], dtype=np.float32)
    levels = [np.ones((3, 1), np.float32), np.ones((3, 1), np.float32), *[at_level_3] * 6]
    class_ids = np.array([[0, 0, *[0] * 6], [0, 0, *[0] * 6], [0, 0, *[1] * 6]])
    labels, codes, confidence = Decoder(made_tables()).label(class_ids, levels)
    found = [labels[code] for code in codes]
    assert [label.refined for label in found] == [("A", "C", "C"), ("A", "D", "D"), ("A", "C", "C")]
    assert [label.path.full for label in found] == ["A|B", "A|B", "A|B|C"]
    assert confidence.tolist() == [1, 1, np.float32(0.6)]


def test_a_missing_label_beside_a_text_is_not_confident():
    """The original stops with an exception where labels mix None and text; here the cell is not confident."""
    tables = made_tables()
    nothing = {**tables.refinement, "medium": (("Z", "Z"),)}
    decoder = Decoder(Tables(tables.panel, tables.classes, nothing, tables.ontology, ()))
    level_3 = np.full((1, 3), 1 / 3, np.float32)
    levels = [np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), *[level_3] * 6]
    labels, _, _ = decoder.label(np.array([[0, 0, *[1] * 6]]), levels)
    assert labels[0].refined == ("A", None, "C")
    row = label_table(labels, tables.ontology).iloc[0]
    assert row["coarse_cell_type"] == "Coarse Not Confidently Annotated"
    assert row["fine_cell_type"] == "C"
    assert row["cell_type_ontology_term_id"] == "CL:1"


def test_the_ontology_id_is_of_the_finest_label_that_has_one():
    """D has none, so the row's id is that of its broad type."""
    levels = [np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), *[np.full((1, 3), 1 / 3, np.float32)] * 6]
    labels, _, _ = Decoder(made_tables()).label(np.array([[0, 0, *[2] * 6]]), levels)
    row = label_table(labels, made_tables().ontology).iloc[0]
    assert (row["fine_cell_type"], row["cell_type_ontology_term_id"]) == ("D", "CL:9")


# ---- calibration


def test_calibration_by_hand():
    """Two classes at .9 and .1: entropy .3251, T = ln(1 + e^(.5 + .3251)) = 1.1881, odds 9^(1/T) = 6.357."""
    found = calibrate(np.array([[0.9, 0.1]], dtype=np.float32), 0.5, 1.0)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx([6.357 / 7.357, 1 / 7.357], abs=1e-4)


def test_a_certain_cell_stays_certain():
    """A probability of 0 is taken as 1e-8, and the temperature has a floor."""
    found = calibrate(np.array([[1, 0]], dtype=np.float32), -50.0, 0.0)
    assert found[0].tolist() == [1, 0]
