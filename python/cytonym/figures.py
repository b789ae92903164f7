"""Figures of one model for a paper: composition, UMIs, projection and tissue, each as SVG and PNG.

Needs the extra `figures`; matplotlib is imported where it is used, so that nobody else waits for it. Text stays text in
the SVG, and the same run gives the same bytes: no date, fixed ids, the font that comes with matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .io.files import written_whole
from .page.data import level_view, opening_level
from .page.views import Views, image_under
from .types import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, ROW = 180 / 25.4, 0.17  # inches: a page of two columns, and a type's row
FEW_POINTS = 2000  # up to which points are vectors
MOST_TYPES, MOST_IN_LEGEND = 40, 30
DOTS_PER_INCH = 300
OVERLAY = 0.7  # opacity of types over the tissue image, as the page opens
BARS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # µm
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # a type's name may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "cytonym",
    "image.composite_image": False,  # types and stain stay two images in the SVG
    "savefig.dpi": DOTS_PER_INCH,
}
METADATA: dict[str, dict[str, Any]] = {"svg": {"Creator": "cytonym", "Date": None}, "png": {"Software": None}}


def write_figures(folder: Path, table: pd.DataFrame, views: Views, colours: Mapping[str, str]) -> None:
    """`table`: a cell_types.csv; its types are those of the level that the page opens with, in the page's colours."""
    import matplotlib as mpl

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, figure in _figures(table, views, colours):
            for kind, metadata in METADATA.items():
                with written_whole(folder / f"{name}.{kind}") as aside:
                    figure.savefig(aside, format=kind, metadata=metadata)


def _figures(table: pd.DataFrame, views: Views, colours: Mapping[str, str]) -> Iterator[tuple[str, Figure]]:
    level = opening_level(table)
    groups = level_view(table, level)["groups"]
    types = table[f"{level}_cell_type"].to_numpy(dtype=object)
    yield "composition", composition(groups[:MOST_TYPES], colours)
    yield "umi", umi_distribution(groups[:MOST_TYPES], colours)
    names = [group["name"] for group in groups]
    if views.places.projection is not None:
        shown = views.places.projection
        yield _file_name(shown), projection(shown, types[shown.rows], names, colours)
    if views.places.tissue_map is not None:
        yield "tissue", tissue(views, types, names, colours)


def composition(groups: Sequence[dict[str, Any]], colours: Mapping[str, str]) -> Figure:
    """Cells of each type, as bars with number and share."""
    figure, axes = _rows(groups, "Cells")
    counts = [group["cells"] for group in groups]
    axes.barh(range(len(groups)), counts, color=[colours[group["name"]] for group in groups], height=0.75)
    for row, group in enumerate(groups):
        axes.annotate(
            f"{group['cells']:,} ({group['share']:.1%})",
            (group["cells"], row),
            (3, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_xlim(0, 1.2 * max(counts))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def umi_distribution(groups: Sequence[dict[str, Any]], colours: Mapping[str, str]) -> Figure:
    """UMIs a cell by type: quartiles, median, and whiskers to the smallest and the largest; logarithmic from 1 on."""
    figure, axes = _rows(groups, "UMIs per cell")
    rows, boxes = np.arange(len(groups)), [group["umis"] for group in groups]
    low, q1, median, q3, high = (
        np.array([box[name] for box in boxes]) for name in ("min", "q1", "median", "q3", "max")
    )
    line: dict[str, Any] = {"color": "black", "linewidth": 0.6}
    axes.hlines(rows, low, high, zorder=1, **line)
    for end in (low, high):
        axes.vlines(end, rows - 0.15, rows + 0.15, **line)
    fills = [colours[group["name"]] for group in groups]
    axes.barh(rows, q3 - q1, left=q1, height=0.6, color=fills, edgecolor="black", linewidth=0.6)
    axes.vlines(median, rows - 0.3, rows + 0.3, color="black", linewidth=1.4)
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0 if low.min() < 1 else 1)
    return figure


def projection(shown: Projection, types: np.ndarray, names: Sequence[str], colours: Mapping[str, str]) -> Figure:
    """The cells of the projection; beyond some thousands, points are an image in the SVG."""
    figure, axes = _picture(names, colours)
    n_points = len(shown.rows)
    axes.scatter(
        shown.xy[:, 0],
        shown.xy[:, 1],
        c=[colours[name] for name in types],
        s=1.5 if n_points > FEW_POINTS else 5,
        linewidths=0,
        rasterized=n_points > FEW_POINTS,
    )
    axes.set(xlabel=f"{shown.name} 1", ylabel=f"{shown.name} 2", xticks=[], yticks=[], aspect="equal")
    return figure


def tissue(views: Views, types: np.ndarray, names: Sequence[str], colours: Mapping[str, str]) -> Figure:
    """Each cell in the colour of its type, over the tissue image where there is one, with a scale bar."""
    raster = views.places.tissue_map
    assert raster is not None
    figure, axes = _picture(names, colours)
    distinct, codes = np.unique(types.astype(str), return_inverse=True)
    rgba = np.array([_rgba(colours[name]) for name in distinct] + [(0, 0, 0, 0)], dtype=np.uint8)
    if views.image is not None:
        axes.imshow(image_under(raster, views.image, views.image_scale), interpolation="none")
    by_row = np.append(codes, len(distinct))  # the last one, of row -1, is clear
    axes.imshow(rgba[by_row[raster.cells]], interpolation="none", alpha=1 if views.image is None else OVERLAY)
    axes.axis("off")
    if views.microns_per_pixel:
        _scale_bar(axes, raster.cells.shape, raster.scale / views.microns_per_pixel)
    return figure


def _rows(groups: Sequence[dict[str, Any]], label: str) -> tuple[Figure, Axes]:
    """A figure with a row a type, the first on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.6 + ROW * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(groups)), [group["name"] for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel(label)
    return figure, axes


def _picture(names: Sequence[str], colours: Mapping[str, str]) -> tuple[Figure, Axes]:
    """A square figure with the types beside it."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(WIDTH, 0.7 * WIDTH), layout="constrained")
    dots = [
        Line2D([], [], linestyle="", marker="o", markersize=4, color=colours[name], label=name)
        for name in names[:MOST_IN_LEGEND]
    ]
    more = len(names) - len(dots)
    if more > 0:
        dots.append(Line2D([], [], linestyle="", label=f"and {more} more"))
    figure.legend(handles=dots, loc="outside right center", handletextpad=0.2)
    return figure, figure.add_subplot()


def _scale_bar(axes: Axes, shape: tuple[int, ...], per_micron: float) -> None:
    height, width = shape
    microns = next((length for length in reversed(BARS) if length * per_micron < width / 4), BARS[0])
    left, top = 0.02 * width, 1.02 * height
    axes.plot([left, left + microns * per_micron], [top, top], color="black", linewidth=2, clip_on=False)
    text = f"{microns // 1000} mm" if microns >= 1000 else f"{microns} µm"
    axes.annotate(text, (left, top), (0, -3), textcoords="offset points", va="top", annotation_clip=False)


def _rgba(colour: str) -> tuple[int, ...]:
    return (*bytes.fromhex(colour[1:]), 255)


def _file_name(shown: Projection) -> str:
    """`umap` or `tsne`."""
    return "".join(filter(str.isalnum, shown.name.lower()))
