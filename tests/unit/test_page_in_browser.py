"""The page in a real Chromium: every tab, level and box, without an error, a warning or a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_report import CARD, made_diffexp, made_plan, made_table

from browser import CHROMIUM, Browser, browser
from cytonym.io.diffexp_csv import write_diffexp
from cytonym.io.evidence_csv import EVIDENCE_COLUMNS, write_evidence
from cytonym.io.places_h5 import write_places
from cytonym.page.views import agreement, type_codes
from cytonym.stages import CELL_TYPES_NAME, DIFFEXP_NAME, EVIDENCE_NAME, METRICS_NAME, report_stage
from cytonym.types import BesideFile, Job, Places, Projection, TissueMap

CANVASES = "[...document.querySelectorAll('[role=tabpanel]:not([hidden]) canvas')]"


def test_kinds_are_ranked_and_rare_ones_share_a_code() -> None:
    """Most cells first; beyond 254 combinations of broad and coarse types, one code for all the others."""
    kinds, codes = type_codes(made_table())
    assert kinds[0] == {"broad": "lymphoid", "coarse": "T cell"}
    assert codes[:13].tolist() == [0] * 12 + [1]
    many = pd.DataFrame({"coarse_cell_type": [f"t{i:03d}" for i in range(300)]})
    kinds, codes = type_codes(many)
    assert (len(kinds), codes[253], codes[254:].tolist()) == (254, 253, [254] * 46)


def test_agreement_counts_pairs_of_types() -> None:
    """Joined by barcode; 23 of 30 cells have the same name."""
    other = made_table(coarse_cell_type=["T cell"] * 12 + ["B cell"] * 11 + ["other"] * 7).iloc[::-1]
    (found,) = agreement([("a", made_table()), ("b", other)])
    assert found["same"] == 0.7667
    cells = {
        (r, c): n
        for r, row in zip(found["rows"], found["cells"], strict=True)
        for c, n in zip(found["columns"], row, strict=True)
    }
    assert cells["T cell", "T cell"] == 12 and cells["T cell", "B cell"] == 0 and cells["Unassigned", "other"] == 2


def made_evidence() -> list[dict[str, object]]:
    """CD3E of T cells is on in cluster 0, of 4 cells, and off in cluster 1, of 8; MS4A1 of B cells in cluster 2."""
    rows = [
        (0, "T cell", "CL:0000084", 4, 1.0, 0.9, "CD3E:2.5", "CD3E", ""),
        (1, "T cell", "CL:0000084", 8, 0.5, 0.6, "", "", "CD3E"),
        (2, "B cell", "CL:0000236", 6, 1.0, 0.8, "MS4A1:4.0", "MS4A1", ""),
    ]
    return [dict(zip(EVIDENCE_COLUMNS, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of 30 cells on a map of 30 columns, over a tissue image, and in a UMAP."""
    folder = tmp_path_factory.mktemp("page")
    plan = made_plan(jobs=(Job(CARD), Job(replace(CARD, name="other", folder="Other", title="Other"))))
    for job in plan.jobs:
        (folder / "tables" / job.card.folder).mkdir(parents=True)
        made_table().to_csv(folder / "tables" / job.card.folder / CELL_TYPES_NAME, index=False)
        (folder / "tables" / job.card.folder / METRICS_NAME).write_text("{}")
    write_evidence(folder / "tables" / CARD.folder / EVIDENCE_NAME, made_evidence())
    write_diffexp(folder / "tables" / CARD.folder / DIFFEXP_NAME, made_diffexp())
    raster = np.repeat(np.arange(30, dtype=np.int32)[None, :], 20, axis=0).repeat(10, axis=1)
    raster[:5] = -1
    xy = np.stack([np.arange(30), np.arange(30) % 7], axis=1).astype(np.float32)
    places = Places(xy, TissueMap(raster, 0, 0, 1), Projection("UMAP", "of a test", np.arange(30), xy))
    write_places(folder / "places.h5", places)
    Image.new("RGB", (300, 20), (200, 120, 160)).save(folder / "tissue_hires_image.png")
    (folder / "f.json").write_text('{"tissue_hires_scalef": 1.0, "microns_per_pixel": 0.5}')
    beside = {"hires_image": folder / "tissue_hires_image.png", "scalefactors": folder / "f.json"}
    plan = replace(plan, beside={role: BesideFile(path.name, "") for role, path in beside.items()})
    report_stage(plan, folder / "tables", folder, "cytonym", places_path=folder / "places.h5", beside=beside)
    return folder / "web_summary_cell_types.html"


@pytest.fixture(scope="module")
def tab(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian's package chromium), which .ci/run installs")
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def clicked(tab: Browser, selector: str) -> int:
    """Clicks each such thing that is in sight, one after the other; how many there were."""
    script = f"""(async () => {{
        const found = [...document.querySelectorAll('{selector}')]
            .filter((node) => node.checkVisibility() && !node.disabled);
        for (const node of found) {{ node.click(); await new Promise((done) => setTimeout(done, 5)); }}
        return found.length; }})()"""
    return tab.run(script)


def pixel(tab: Browser, index: int, x: int, y: int) -> list[int]:
    return tab.run(f"[...{CANVASES}[{index}].getContext('2d').getImageData({x}, {y}, 1, 1).data]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_clicked(tab: Browser, page: Path, scheme: str) -> None:
    """Tabs by arrow key, levels, types, boxes, sorting; no error, no request but the page itself."""
    tab.open(page, scheme=scheme)
    for turn in range(2):
        if turn:
            tab.run("document.querySelector('[role=tab]').focus()")
            for kind in ("rawKeyDown", "keyUp"):
                tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", windowsVirtualKeyCode=39)
        assert tab.run("[...document.querySelectorAll('[role=tab]')].map((t) => t.ariaSelected)") == [
            str(turn == 0).lower(),
            str(turn == 1).lower(),
        ]
        for level in ("broad", "coarse"):
            place = ["broad", "coarse"].index(level)
            tab.run(f"document.querySelectorAll('[role=tabpanel]:not([hidden]) .levels input')[{place}].click()")
            assert clicked(tab, ".bar input") > 0
            assert clicked(tab, ".tick input") >= 2
            assert clicked(tab, ".tools input[type=checkbox]") == 1
            assert clicked(tab, ".picture button") == 4
        assert clicked(tab, "summary") > 0
    tab.painted()
    assert tab.errors == []
    assert set(tab.requests) == {page.as_uri()}


def test_evidence_stands_beside_features_and_sorts(tab: Browser, page: Path) -> None:
    """By cells, most first; a click on a head sorts by it, a second one turns it round."""
    tab.open(page)
    text = "(selector) => [...document.querySelectorAll(selector)].map((node) => node.innerText.trim())"
    rows = tab.run(f"({text})('.best tbody tr')")
    assert next(row for row in rows if row.startswith("T cell")).split() == [
        *("T", "cell", "CD3E", "On", "CD3E", "Stand", "out", "CD3E", "(2.5)")
    ]
    assert tab.run(f"({text})('.marker')") == ["marker of B cell", "marker of T cell"]
    clusters = f"({text})('.evidence tbody td:first-child')"
    tab.run("document.querySelector('details:has(.evidence) summary').click()")
    assert tab.run(clusters) == ["1", "2", "0"]
    for wanted in (["0", "2", "1"], ["1", "2", "0"]):
        tab.run("document.querySelector('[data-evidence=mean_confidence]').click()")
        assert tab.run(clusters) == wanted
    tab.run("document.querySelector('[data-evidence=cell_type]').click()")
    assert tab.run(clusters)[0] == "2"
    assert tab.errors == []


def test_boxes_show_and_hide_their_type(tab: Browser, page: Path) -> None:
    """A B cell is coloured over the stain; without its box the stain is left, without image white paper."""
    tab.open(page)
    here = (155, 10)  # in cell 15; row 2 is of no cell
    shown, bare = pixel(tab, 0, *here), pixel(tab, 0, 155, 2)
    assert shown != bare
    tab.run(f"{CANVASES}[0].closest('.picture').querySelector('[data-type=\"B cell\"]').click()")
    tab.wait(f"{CANVASES}[0].dataset.painted === '1'")
    assert pixel(tab, 0, *here) == bare
    tab.run(f"{CANVASES}[0].closest('.picture').querySelector('[data-label=\"Tissue image\"]').click()")
    tab.run("new Promise((done) => setTimeout(done, 200))")
    assert pixel(tab, 0, *here) == [255, 255, 255, 255]


def test_the_pointer_names_the_type(tab: Browser, page: Path) -> None:
    tab.open(page)
    tab.run(f"{CANVASES}[0].scrollIntoView({{ block: 'center' }})")
    left, top, scale = tab.run(
        f"(() => {{ const b = {CANVASES}[0].getBoundingClientRect(); return [b.left, b.top, b.width / 300] }})()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 155 * scale, y=top + 10 * scale)
    tab.wait("document.querySelector('.told').textContent === 'B cell'")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 155 * scale, y=top + 2 * scale)
    tab.wait("document.querySelector('.told').textContent !== 'B cell'")


def test_pictures_have_words_and_print(tab: Browser, page: Path) -> None:
    """Each canvas has a label, each input a name, and in print both models' pictures are there."""
    tab.open(page)
    assert tab.run("[...document.querySelectorAll('canvas')].every((c) => c.role === 'img' && c.ariaLabel.length > 20)")
    assert tab.run(
        "[...document.querySelectorAll('input')].every((i) => i.labels.length && i.labels[0].textContent.trim())"
    )
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("[...document.querySelectorAll('canvas')].filter((c) => c.checkVisibility()).length") == 4
    tab.call("Emulation.setEmulatedMedia", media="")
    assert tab.errors == []
