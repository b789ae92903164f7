"""Figures show the page's types in the page's colours; text stays text, and the same run gives the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_report import made_table

from cytonym.colours import run_colours, type_colours
from cytonym.figures import write_figures
from cytonym.page.views import Views
from cytonym.types import Places, Projection, TissueMap

XY = np.stack([np.arange(30), np.arange(30) % 7], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, `a` and `b`: 30 cells on a tissue image of one colour, and in a t-SNE."""
    made = tmp_path_factory.mktemp("figures")
    Image.new("RGB", (300, 200), (200, 120, 160)).save(made / "hires.png")
    raster = np.repeat(np.arange(30, dtype=np.int32)[None, :], 200, axis=0).repeat(10, axis=1)
    raster[:50] = -1
    places = Places(XY, TissueMap(raster, 0, 0, 1), Projection("t-SNE", "of a test", np.arange(30), XY))
    table = made_table()
    for name in ("a", "b"):
        write_figures(made / name, table, Views(places, made / "hires.png", 1.0, 0.5), run_colours([table]))
    return made


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_the_same_run_gives_the_same_bytes(folder: Path) -> None:
    """Four figures, each as SVG and PNG, without any date."""
    files = {path.name: path.read_bytes() for path in (folder / "a").iterdir()}
    assert set(files) == {f"{n}.{kind}" for n in ("composition", "umi", "tsne", "tissue") for kind in ("svg", "png")}
    assert files == {path.name: path.read_bytes() for path in (folder / "b").iterdir()}
    assert not any(b"dc:date" in text for name, text in files.items() if name.endswith("svg"))


def test_bars_have_their_numbers(folder: Path) -> None:
    """Types with more than ten cells, by name, number and share, in the page's colours."""
    path = folder / "a" / "composition.svg"
    assert {"T cell", "12 (40.0%)", "B cell", "11 (36.7%)"} <= set(texts(path))
    colours = type_colours(["T cell", "B cell"])
    assert all(f"fill: {colour}" in path.read_text() for colour in colours.values())


def test_the_axis_of_umis_has_numbers(folder: Path) -> None:
    found = texts(folder / "a" / "umi.svg")
    assert {"1", "10", "UMIs per cell"} <= set(found)


def test_the_tissue_shows_each_type_over_the_stain(folder: Path) -> None:
    """A T cell's pixel is its colour at 70 % over the stain, elsewhere the stain is left; the bar tells its length."""
    path = folder / "a" / "tissue.png"
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    seen = {tuple(colour) for colour in pixels[::7].tolist()}
    t_cell = np.array(tuple(bytes.fromhex(type_colours(["T cell"])["T cell"][1:])))
    mixed = 0.7 * t_cell + 0.3 * np.array([200, 120, 160])
    assert (200, 120, 160) in seen
    assert any(np.abs(np.array(colour) - mixed).max() <= 1 for colour in seen)
    assert "20 µm" in texts(path.with_suffix(".svg"))


def test_names_are_no_formulas_and_many_points_are_an_image(tmp_path: Path) -> None:
    """A dollar sign stays one; above 2,000 points they are an image."""
    for n_cells, as_image in ((1500, False), (3000, True)):
        table = made_table().iloc[np.arange(n_cells) % 12].assign(coarse_cell_type="a $b$ c")
        xy = np.random.default_rng(1).normal(size=(n_cells, 2)).astype(np.float32)
        views = Views(Places(projection=Projection("UMAP", "", np.arange(n_cells), xy)))
        write_figures(tmp_path, table, views, run_colours([table]))
        assert "a $b$ c" in texts(tmp_path / "umap.svg")
        drawn = (tmp_path / "umap.svg").read_text()
        assert (drawn.count("<use") < 100, "<image" in drawn) == (as_image, as_image)
    assert not (tmp_path / "tissue.svg").exists()
