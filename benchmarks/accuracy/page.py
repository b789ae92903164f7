"""docs/accuracy.md and the short summary, from the records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

Record = dict[str, Any]
DEPTHS = ("full", "2000", "400", "150", "60")
LEVEL_COLUMNS = {
    "accuracy": "right",
    "macro_f1": "macro-F1",
    "wrong": "wrong",
    "abstained": "abstained",
    "false_type": "false type",
    "ece": "ECE",
}
BARS = {  # of the mean over the report sets: level -> figure -> depth -> bar
    "coarse": {
        "accuracy": {"full": 0.92, "400": 0.90, "150": 0.87, "60": 0.80},
        "macro_f1": {"full": 0.85, "400": 0.80, "150": 0.76, "60": 0.68},
    },
    "broad": {"accuracy": {"full": 0.95, "400": 0.94, "150": 0.93, "60": 0.88}},
}
FOUND = {"f1": "F1", "own_labels_f1": "F1 of own labels"}
SHOWN_TYPES = 6
CHOSEN_ON = "human_pbmc_zheng2017_facs"
FEW_GENES = ("mouse_bonemarrow_paul15", "mouse_cerebellum_ref")  # filtered by their authors
PAGE = """\
# Accuracy of the embedded marker model

Made by `python benchmarks/accuracy --page docs/accuracy.md`. The script takes any labelled file as well:
`python benchmarks/accuracy --help`.

How to read the figures:

- A cell's label is **right** at a level (broad, coarse) if it names the class of the cell's true Cell Ontology term at
  that level, or a term below it. An ancestor, or no name, counts as **abstained**; anything else is **wrong**.
- **macro-F1** is the mean over the true classes, so that rare ones count as much as frequent ones.
- **false type**: cells given a type that the tissue does not hold at all.
- **ECE**: expected calibration error of the confidence of the named cells, in 15 bins.
- Depths are medians of UMIs a cell, reached by keeping each count with one probability.

What was chosen on what: **made tissues** are noisy cells drawn from average profiles of {n_human} human and
{n_mouse} mouse tissues, with 10 % of counts from another cell. The weights of the evidence were fitted on made
tissues like these and on others made of the Human Cell Landscape (without mouse stomach and small intestine, of the
same study as a real set), so the figures of the made ones flatter. One number a level, added to the log odds, was
set on the antibody-sorted blood cells (`human_pbmc_zheng2017_facs`): that set is **chosen on**, and the means leave
it out. The others are **reported**, but not untouched: the form of the principal components was compared on four
real sets (both blood sets, lymph, gut) by how pure their clusters are, the thresholds were settled with the real
sets' right, wrong and removed-type shares in view, and four rows of progenitors were corrected, from the literature,
after a look at errors; the rows of gamma-delta T cells after a look at the sorted set's. Labels are their authors'
own, and two authors draw the line between CD4, CD8 and NK cells, or between progenitors, differently.

## Real sets (report)

Means over the sets but the one chosen on. Beside the model: a score in the manner of ScType (one name a cluster) and
decoupler's ULM (the best score of each cell), both with the same table; and CellTypist, trained on the whole-body
averages of the species, whose labels count as a name where they stand for one type of the table. **Own labels** is no
method: a classifier that learnt the set's own labels from four fifths of its cells names the rest (logistic regression
on the components that the model clusters). It shows what these labels and counts allow. Two of the sets (bone
marrow, cerebellum) hold so few of the marker genes that the model gives broad names only: their coarse accuracy is 0.
{bar_note}

{report_means}

The same without the two sets with few of the marker genes:

{whole_means}

Each set, the marker model only:

{report_sets}

## A type that the table lacks

The rows of one class are taken out of the table, one class after the other (each with over 2 % of the cells). Its cells
should end at an ancestor or `Unassigned`; the loss is what the other cells lose in right labels. The bar is .90 at a
loss of at most .04; a negative loss is a gain.

{removed}

## Rare types

One class after the other is thinned out to a share of the cells; F1 of finding it at the broad level, and what the
sample's own labels find, which know the class. Cells that may be called so, too, or have no class are not counted. The
bar is .60 at 1 %.

{diluted}

The same without the two sets with few of the marker genes:

{whole_diluted}

## Spill-over

A share of each cell's counts comes from another cell.

{spilled}

## Made tissues (choose)

{choose}

## Sets without labels

What the model makes of them, to be judged by eye.

{compositions}

## What to make of it

- Blood cells at 400 UMIs and more are safe at the broad level; at 60 UMIs one in seven stays without a broad name, and
  of the small lymphoid set (330 cells) three in ten, with a fifth named wrongly.
- The model falls short of what we aim at in accuracy, and so would a model that knew the answers: at 400 UMIs and below
  the sets' own labels do not reach the bars of accuracy either. On whole transcriptomes the best broad name, before any
  abstention, is within a few points of them; what is lost is mostly what the model leaves unnamed. Coarse names have
  more to win, above all in the gut.
- On whole transcriptomes it is right more often than the other programs at both levels and every depth, and wrong about
  half as often. On the two sets with few marker genes it gives no coarse names at all, where others give many, mostly
  wrong ones; there the table is the limit, not the counts.
- A type that the table lacks is the harder to see the sparser the cells and the closer the kin that the table has: NK
  cells without their row are called T cells, mural cells stromal cells.
- A class of 1 % of the cells is found about as well as the sample's own labels find it in sparse cells, where thirteen
  cells of 150 UMIs say too little, and somewhat worse in deep ones.
- A matrix with few of the model's genes (a targeted panel, or genes filtered out) gets broad labels only, and an alert
  that lists the types that can be told at all. Where only one of them is found nobody is named: the lymph node above
  has 154 of 2,963 marker genes and hardly one of B or T cells. Of the brain panel's cells three in ten stay without a
  name.
- Progenitors of the bone marrow, sorted by others into finer stages than the table knows, are the weakest set.
- Made tissues are hard in part because their atlases are: among the profiles called platelets, Sertoli cells or
  sinusoidal endothelium are some that show none of these cells' genes, and all of another type's. Their figures tell
  changes of the model apart, not how often it is right.
- Spill-over of a third of the counts costs a fifth of the right names; no step undoes it, nor did the cells' neighbours
  in the tissue help (docs/models/markers.md).
"""


def flat(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record; the figures of a level become `broad.accuracy` and the like."""
    return pd.json_normalize(list(records))


def summary(records: Sequence[Record]) -> pd.DataFrame:
    """Means over sets."""
    labelled = [record for record in records if record["part"] != "unlabelled"]
    frame = flat(labelled)
    keys = [key for key in ("part", "species", "method", "variant", "depth") if key in frame]
    frame[keys] = frame[keys].fillna("-")
    left_out = {"cells", "umis", "fit_s", "classify_s", "broad.n", "coarse.n"}
    numbers = [c for c in frame.select_dtypes("number").columns if c not in left_out]
    return frame.groupby(keys)[numbers].mean().dropna(axis=1, how="all")


def page(records: Sequence[Record]) -> str:
    """The page; it needs the records of all parts."""
    parts = {name: [r for r in records if r["part"] == name] for name in {r["part"] for r in records}}
    report = [r for r in parts["report"] if r["method"] == "markers"]
    untouched = [r for r in parts["report"] if r["set"] != CHOSEN_ON]
    made = {r["set"]: r["species"] for r in parts["choose"]}
    return PAGE.format(
        n_human=sum(species == "human" for species in made.values()),
        n_mouse=sum(species == "mouse" for species in made.values()),
        bar_note=_bar_note([r for r in report if r["set"] != CHOSEN_ON]),
        report_means=_levels(untouched, ("method",)),
        whole_means=_levels([r for r in untouched if r["set"] not in FEW_GENES], ("method",)),
        report_sets=_levels(report, ("set",)),
        removed=_plain(parts["removed"], "variant", {"abstained": "abstained", "loss": "loss elsewhere"}),
        diluted=_plain(parts["diluted"], "variant", FOUND),
        whole_diluted=_plain([r for r in parts["diluted"] if r["set"] not in FEW_GENES], "variant", FOUND),
        spilled=_levels(parts["spilled"], ("variant",)),
        choose=_levels(parts["choose"], ("species",)),
        compositions=_compositions(parts["unlabelled"]),
    )


def _levels(records: Sequence[Record], keys: tuple[str, ...]) -> str:
    """A row for each key and depth: figures at the broad and at the coarse level."""
    frame = flat(records)
    numbers = [f"{level}.{name}" for level in ("broad", "coarse") for name in LEVEL_COLUMNS]
    means = frame.groupby([*keys, "depth"], sort=False)[numbers].mean().reset_index()
    means["order"] = means["depth"].map(DEPTHS.index)
    means = means.sort_values([*keys, "order"], kind="stable")
    head = [*keys, "depth", *(f"{level} {title}" for level in ("broad", "coarse") for title in LEVEL_COLUMNS.values())]
    rows = ([*(row[k] for k in keys), row["depth"], *(number(row[n]) for n in numbers)] for _, row in means.iterrows())
    return table(head, rows)


def _plain(records: Sequence[Record], key: str, numbers: dict[str, str]) -> str:
    frame = flat(records)
    grouped = frame.groupby([key, "depth"], sort=False)
    means = grouped[list(numbers)].mean()
    sizes = grouped.size()
    rows = [
        [*index, str(sizes[index]), *(number(v) for v in row)]
        for index, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return table(["level" if "loss" in numbers else "share", "depth", "classes", *numbers.values()], sorted(rows))


def _compositions(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        most = list(record["composition"].items())[:SHOWN_TYPES]
        shown = ", ".join(f"{name} {share:.0%}" for name, share in most)
        rows.append([record["set"], f"{record['cells']:,}", f"{record['umis']:,.0f}", shown])
    return table(["set", "cells", "median UMIs", "broad types"], rows)


def _bar_note(report: Sequence[Record]) -> str:
    """Each bar and what was reached, in words."""
    means = flat(report).groupby("depth").mean(numeric_only=True)
    told = []
    for level, figures in BARS.items():
        for name, bars in figures.items():
            reached = ", ".join(f"{means.loc[d, f'{level}.{name}']:.2f} of {bar:.2f} ({d})" for d, bar in bars.items())
            told.append(f"{level} {LEVEL_COLUMNS[name]} {reached}")
    return "\n".join(["Reached, of what we aim at:", "", *(f"- {line}" for line in told)])


def number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
