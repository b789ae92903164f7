"""Many samples on one page: sums by hand, marks that follow their rule, and a page that a browser draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from browser import CHROMIUM, browser
from cytonym.cli import main
from cytonym.cohort import compositions, deviations
from cytonym.errors import InputError
from cytonym.stages import cohort_stage

USUAL = {"T cell": 400, "B cell": 300, "macrophage": 200, "fibroblast": 90, "Unassigned": 10}
NASTY = '</script><b>it\'s 1st, "of" all</b>'


def metrics(sample: str, composition: dict[str, int], *, models: tuple[str, ...] = ("markers",)) -> dict[str, Any]:
    n_cells = sum(composition.values())
    told = {
        "folder": "Markers",
        "title": "Embedded marker model",
        "n_cells": n_cells,
        "labelled_share": 0.99,
        "low_umi_share": 0.0,
        "n_types": 4,
        "composition": composition,
    }
    matrix = {"name": "m.h5", "format": "10x HDF5", "n_cells": n_cells, "n_features": 9, "feature_types": {}}
    more = {"species": "human", "genome": "GRCh38", "chemistry": "", "barcode_kind": "cell", "median_umis": 250.0}
    return {
        "id": sample,
        "description": "",
        "cytonym_version": "0.1.0",
        "matrix": matrix | more,
        "alerts": [],
        "models": {model: told | {"title": f"Model {model}"} for model in models},
    }


def write_samples(folder: Path, samples: list[dict[str, Any]]) -> list[Path]:
    outs = []
    for index, sample in enumerate(samples):
        outs.append(folder / f"run{index}" / "outs")
        outs[-1].mkdir(parents=True)
        (outs[-1] / "metrics.json").write_text(json.dumps(sample))
    return outs


def noisy(rng: np.random.Generator, n_samples: int, **changes: int) -> list[dict[str, int]]:
    """Compositions that differ from the usual one by counting alone; the last one is changed."""
    shares = np.array(list(USUAL.values())) / 1000
    found = [dict(zip(USUAL, map(int, rng.multinomial(5000, shares)), strict=True)) for _ in range(n_samples)]
    found[-1] |= changes
    return found


def test_deviations_by_hand():
    """Three samples' worth of equal types, and one with four times the last: log2 of (4n + .5) / (n + .5), z over
    the error of counting alone, as the others do not differ."""
    counts = np.array([[100, 100, 100]] * 4 + [[100, 100, 400]])
    expected, ratios, z = deviations(counts)
    assert np.allclose(expected, 100)
    assert np.allclose(ratios[:4], 0) and np.allclose(ratios[4, :2], 0)
    assert ratios[4, 2] == pytest.approx(np.log2(400.5 / 100.5))
    assert z[4, 2] == pytest.approx(np.log(400.5 / 100.5) / np.sqrt(1 / 100.5))


def test_spread_joins_the_error_of_counting():
    """Five samples whose last type has 80 to 120 cells, the others the same: the spread is of the last type alone."""
    counts = np.array([[1000, 1000, n] for n in (80, 90, 100, 110, 120)])
    _, _, z = deviations(counts)
    distances = np.abs(np.log((counts[:, 2] + 0.5) / 100.5))
    spread = 1.4826 * np.median(distances)
    assert z[0, 2] == pytest.approx(np.log(80.5 / 100.5) / np.sqrt(spread**2 + 1 / 100.5))


def test_marks_need_fold_share_and_z(rng):
    """A type three times as frequent is marked, alone; one 1.5 times as frequent, or of few cells, is not."""
    samples = [metrics(f"s{i}", c) for i, c in enumerate(noisy(rng, 8, fibroblast=1350))]
    (found,) = compositions(samples)
    row, column = found.samples.index("s7"), found.types.index("fibroblast")
    assert [tuple(pair) for pair in np.argwhere(found.outliers)] == [(row, column)]
    assert found.outliers[row, column] == 1
    for changes in ({"fibroblast": 675}, {"Unassigned": 140}, {}):
        (found,) = compositions([metrics(f"s{i}", c) for i, c in enumerate(noisy(rng, 8, **changes))])
        assert not found.outliers.any()


def test_an_absent_type_is_marked_low_and_does_not_touch_others(rng):
    (found,) = compositions([metrics(f"s{i}", c) for i, c in enumerate(noisy(rng, 6, macrophage=0))])
    marks = found.table().query("outlier != ''")[["sample", "coarse_cell_type", "n_cells", "outlier"]]
    assert marks.to_numpy().tolist() == [["s5", "macrophage", 0, "low"]]


def test_few_samples_are_not_tested(rng):
    (found,) = compositions([metrics(f"s{i}", c) for i, c in enumerate(noisy(rng, 3, macrophage=0))])
    assert np.isnan(found.z).all() and not found.outliers.any()


def test_rare_types_are_not_tested(rng):
    """Ten cells of 5,000 in one sample, none in the others: in the table, without a score."""
    samples = [metrics(f"s{i}", c | ({"mast cell": 10} if i == 2 else {})) for i, c in enumerate(noisy(rng, 5))]
    table = compositions(samples)[0].table().set_index(["sample", "coarse_cell_type"])
    assert table.loc[("s2", "mast cell"), "n_cells"] == 10
    assert table.loc[(slice(None), "mast cell"), "robust_z"].isna().all()


def test_the_table_adds_up_and_order_does_not_matter(rng, tmp_path):
    """Every sample has every type; cells and shares sum to the sample; the same bytes for any order of the samples."""
    samples = [metrics(f"s{i}", c) for i, c in enumerate(noisy(rng, 5, fibroblast=1350))]
    samples[3] = metrics("s3", {"T cell": 7, "mast cell": 3}, models=("markers", "other"))
    outs = write_samples(tmp_path, samples)
    for name, order in (("a", outs), ("b", [path.parent for path in outs[::-1]])):
        (tmp_path / name).mkdir()
        cohort_stage(order, tmp_path / name)
    for name in ("cohort_summary.html", "cohort_composition.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    table = pd.read_csv(tmp_path / "a" / "cohort_composition.csv", keep_default_na=False)
    assert table["model"].value_counts().to_dict() == {"markers": 5 * 6, "other": 2}
    cells = table[table["model"] == "markers"].groupby("sample")["n_cells"].sum()
    assert cells.to_dict() == {sample["id"]: sample["matrix"]["n_cells"] for sample in samples}
    assert np.allclose(table.groupby(["model", "sample"])["share"].sum(), 1, atol=1e-4)
    row = table.query("model == 'markers' and sample == 's3' and coarse_cell_type == 'T cell'").iloc[0]
    assert (row["n_cells"], row["share"]) == (7, 0.7)


@pytest.mark.parametrize(("change", "words"), [
    (lambda found: found[:1] * 2, "is the second sample of the name s0"),
    (lambda found: [Path("/nowhere")], "holds no metrics.json"),
])  # fmt: skip
def test_bad_samples_are_refused(change, words, rng, tmp_path):
    outs = change(write_samples(tmp_path, [metrics("s0", USUAL)]))
    with pytest.raises(InputError, match=words):
        cohort_stage(outs, tmp_path)
    assert not (tmp_path / "cohort_summary.html").exists()


def test_a_foreign_file_is_refused(tmp_path, capsys):
    """Exit code 3, by the command."""
    (tmp_path / "metrics.json").write_text('{"id": "x"}')
    with pytest.raises(SystemExit) as stopped:
        main(["cohort", str(tmp_path), "--output", str(tmp_path / "out")])
    assert stopped.value.code == 3
    assert "is not of this version of cytonym" in capsys.readouterr().err


@pytest.fixture
def page(rng, tmp_path) -> Path:
    """Seven samples, two models, one mark, one alert, a name that would break the page."""
    found = noisy(rng, 7, fibroblast=1350)
    samples = [metrics(f"sample_{i}", c, models=("markers", "other")[: 1 + i % 2]) for i, c in enumerate(found)]
    samples[0]["description"] = NASTY
    samples[1]["alerts"] = [{"level": "WARN", "title": NASTY, "message": "look"}]
    cohort_stage(write_samples(tmp_path, samples), tmp_path)
    return tmp_path / "cohort_summary.html"


def test_the_page_is_whole_and_safe(page):
    """Names stay text, nothing is fetched, the rule is stated."""
    text = page.read_text()
    assert text.count("<script>") == text.count("</script>") == 1
    assert "default-src 'none'" in text and "1.4826" in text
    assert "<title>Cohort of 7 samples</title>" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_page(page, scheme, tmp_path):
    """Both tabs, every box opened, all tables named; no error, no request but the page itself."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian's package chromium), which .ci/run installs")
    table = pd.read_csv(page.with_name("cohort_composition.csv")).query("model == 'markers' and sample == 'sample_6'")
    shares = table["share"].tolist()
    with browser(tmp_path / "browser") as tab:
        tab.open(page, scheme=scheme)
        assert tab.run("[...document.querySelectorAll('[role=tab]')].map((t) => t.textContent)") == [
            "Model markers",
            "Model other",
        ]
        stacks = "[...document.querySelectorAll('[role=tabpanel]:not([hidden]) .stack')]"
        assert tab.run(f"{stacks}.length") == 7
        width = tab.run(f"{stacks}[6].children[1].getBoundingClientRect().width / {stacks}[6].clientWidth")
        assert width == pytest.approx(shares[1], abs=0.01)
        assert tab.run("document.querySelector('.marked th').textContent") == "sample_6"
        assert tab.run("document.querySelectorAll('[role=tabpanel]:not([hidden]) td.mark').length") == 1
        tab.run("document.querySelectorAll('summary').forEach((box) => box.click())")
        tab.run("document.querySelectorAll('[role=tab]')[1].click()")
        assert tab.run(f"{stacks}.length") == 3
        assert tab.run("[...document.querySelectorAll('table')].every((table) => table.caption.textContent.length > 3)")
        assert tab.run("[...document.querySelectorAll('[role=img]')].every((bars) => bars.ariaLabel.length > 20)")
        assert tab.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert tab.errors == []
        assert set(tab.requests) == {page.as_uri()}
