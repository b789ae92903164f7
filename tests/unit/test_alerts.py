"""What the report warns of: unsure models, models that disagree, markers in cells of other types."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_report import CARD, made_plan, made_report, made_table

from cytonym.alerts import compatible_share
from cytonym.contamination import foreign_share
from cytonym.io.evidence_csv import EVIDENCE_COLUMNS
from cytonym.report import ReportInput, sample_metrics
from cytonym.types import DiffExp, Job


def made_evidence(**on: str) -> pd.DataFrame:
    """A row for each type, with its defining genes that are on; `_` stands for a blank in names."""
    rows = [
        (i, name.replace("_", " "), "CL:1", 5, 1.0, 0.9, "", genes, "") for i, (name, genes) in enumerate(on.items())
    ]
    return pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))


def three_types(*folds: float) -> DiffExp:
    """Types a, b, c with a marker each; its log2 fold change in its own type."""
    values = np.diag(folds).astype(float)
    names = np.array(["A1", "B1", "C1"])
    return DiffExp(names, names, ("a", "b", "c"), np.ones((3, 3)), values, np.zeros((3, 3)))


def test_foreign_counts_are_told_by_the_cleanest_type() -> None:
    """Marker levels elsewhere of 1/8, 1/4, 1/16 over shares of .5, .25, .25: the smallest ratio is .25."""
    evidence = made_evidence(a="A1", b="B1", c="C1")
    cells = pd.Series({"a": 50, "b": 25, "c": 25})
    assert foreign_share(three_types(3, 2, 4), cells, evidence) == pytest.approx(0.25)
    assert foreign_share(three_types(3, 2, 4), pd.Series({"a": 96, "b": 2, "c": 2}), evidence) is None
    assert foreign_share(three_types(3, 2, 4), cells, made_evidence(a="A1", b="B1", c="")) is None


def alerts_of(table: pd.DataFrame, **changes: object) -> list[tuple[str, str | None]]:
    found = made_report(cell_types=table, **changes).metrics["alerts"]
    return [(alert["title"], alert.get("model")) for alert in found]


def test_contamination_is_an_alert_of_the_model() -> None:
    table = made_table(coarse_cell_type=["a"] * 14 + ["b"] * 8 + ["c"] * 8)
    evidence = made_evidence(a="A1", b="B1", c="C1")
    assert alerts_of(table, diffexp=three_types(1, 1, 1), evidence=evidence) == [("Signs of contamination", "markers")]
    assert alerts_of(table, diffexp=three_types(9, 9, 9), evidence=evidence) == []


def test_an_unsure_model_is_an_alert() -> None:
    """Half of the named cells below .6: T cells at .5, B cells at .5; unassigned cells do not count."""
    assert alerts_of(made_table()) == []
    unsure = made_table(confidence=[0.5] * 23 + [1.0] * 7)
    assert alerts_of(unsure) == [("Model and sample disagree", "markers")]
    assert alerts_of(made_table().drop(columns="confidence")) == []


def with_ids(*ids: str) -> pd.DataFrame:
    return made_table(cell_type_ontology_term_id=list(ids) * (30 // len(ids)))


def test_a_type_above_the_other_is_compatible() -> None:
    """T cell (0084) lies below lymphocyte (0542) and is no B cell (0236); cells without an id do not count."""
    t_cells, b_cells = with_ids("CL:0000084"), with_ids("CL:0000236")
    assert compatible_share(t_cells, with_ids("CL:0000542")) == compatible_share(with_ids("CL:0000542"), t_cells) == 1
    assert compatible_share(t_cells, b_cells) == 0
    assert compatible_share(t_cells, with_ids("CL:0000084", "CL:0000084", "CL:0000236")) == pytest.approx(2 / 3)
    assert compatible_share(t_cells, with_ids("CL:0000084", "")) is None
    assert compatible_share(t_cells, made_table()) is None


def test_models_that_disagree_are_an_alert_of_the_sample() -> None:
    jobs = (Job(CARD), Job(replace(CARD, name="other", title="Other")))
    plan = made_plan(jobs=jobs, skip=("diffexp",))
    for other, titles in (("CL:0000236", ["Models disagree"]), ("CL:0000084", [])):
        tables = (with_ids("CL:0000084"), with_ids(other))
        models = [ReportInput(job, table, {}, None) for job, table in zip(jobs, tables, strict=True)]
        assert [alert["title"] for alert in sample_metrics(plan, models, ())["alerts"]] == titles
