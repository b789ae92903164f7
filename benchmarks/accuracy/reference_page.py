"""The second half of docs/accuracy.md, from the records of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from page import number, table

Record = dict[str, Any]
DEPTHS = ("full", "400", "150", "60")
PRODUCT = "cytonym"
HEADING = "# Accuracy of reference models"
OF_AVERAGES = "singler, the averages"  # a second way of one peer, where the reference is of averages
FIGURES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "balanced": "balanced", "ece": "ECE"}
PAGE = """\
{heading}

Made by `python benchmarks/accuracy references --peer-python PYTHON --page docs/accuracy.md`. It takes any pair of
labelled files as well: `python benchmarks/accuracy references --help`.

A model is learnt from one study and names the cells of another. How to read the figures:

- **fine**: a name is right if it is the cell's true Cell Ontology term, or below it; where the reference has none of
  these, the nearest above it. **broad**: the name's class (T cell, monocyte, neuron ...) is the cell's. Cells whose
  type the reference lacks cannot be scored. In both, every cell gets its best name: not every program abstains.
- **as reported**: what a user sees. A name above the right one, e.g. T cell for a CD4 T cell, counts as **above**.
- **ECE**: expected calibration error in 15 bins. Programs without a confidence have none.
- Depths are medians of UMIs a cell, reached by keeping each count with one probability. All programs get the same
  cells, and the same reference: at most {most_cells} cells a type or, from averages, cells drawn from them.
- The others are used as their documentation says, on log1p of counts per 10,000 and the genes that both studies have.
  CellTypist is trained on the reference with its defaults and gives its best match; singler picks markers by AUC and
  aggregates the reference, as it advises for cells ("singler, the averages": where the reference is of averages, it
  takes these themselves, in its classic way); scanpy's ingest and PCA + kNN take 2,000 variable genes, 50 components
  and 15 neighbours.

What was chosen on what: settings may be chosen on the pairs marked "choose" below, and on no others. Three things blur
that line: a prototype, whose formulas the model follows, was tuned on pairs like these, some of them the same; the
model's author has measured report pairs while building it; and the sample pbmc3k stands on both sides, with other
references.

## Means over report pairs

Over the {n_full} pairs that all programs named; fewer at depths that a sample does not have, so that rows of different
depths do not compare:

{common_pairs}

{report_means}

The choose pairs:

{choose_means}

## What we aim at

{bars}

## Each pair

Accuracy with every cell's best name.

{pairs}

## As reported

{reported}

Accuracy of the most confident cells (fine, best name), means over the same pairs:

{coverage}

## A type that the reference lacks

One broad class after the other is left out of the reference. **AUROC** tells how well the novelty (evidence z) of its
cells stands apart from that of others, beside the AUROC of the confidence alone; **honest** is the share of its cells
that end at a name above the truth or at none, **unnamed** at none.

{left_out}

{left_out_each}

## Spill-over

What accuracy loses when 15 % or 30 % of each cell's counts come from another cell; means over the same pairs.

{spilled}

## CPU seconds

Means over all pairs: learning from the reference (of the product once a reference, of the others once a pair), fitting
to a sample, naming the cells of a sample at one depth. One thread; small samples, so that fixed costs weigh heavily.

{seconds}
{failures}
## What to make of it

- The model names more cells rightly than the others in the mean, the more so the sparser they are. At full depth
  others are better on some pairs: where thirty cells a type are all that a reference has, and where its types are bulk
  profiles. singler with averages as they are, and at full depth CellTypist, are the closest.
- The sparser the cells, the more names stop above the right one: between CD4, CD8 and NK cells two studies seldom draw
  the line alike.
- Confidence is right where two studies call the same cells alike, also from whole-body averages. It is too high where
  they do not: bone-marrow progenitors named by sorted bulk profiles, lymphoid tissue named by sorted blood; and on
  panels that were measured otherwise than the reference: 33 genes by imaging, 384 genes of nuclei.
- A type that the reference lacks mostly gets the name of its nearest kin. On blood, novelty tells such cells better
  than the confidence does; on a panel of 384 genes the confidence does.
- A panel of 33 genes bears broad names at most: three in five are right.
- Spill-over of a third of the counts costs a fifth of the right names, as with singler: where the other cell is the
  larger one, most counts are its own by then. The programs that lose less had less to lose.
"""


def write_half(path: Path, half: str) -> None:
    """The page with its second half replaced."""
    first = path.read_text(encoding="utf-8").partition(HEADING)[0].rstrip() if path.exists() else ""
    path.write_text(f"{first}\n\n{half}".lstrip(), encoding="utf-8")


def second_half(path: Path) -> str:
    """What stands on the page already, with a blank line before it; "" if nothing does."""
    _, heading, rest = (path.read_text(encoding="utf-8") if path.exists() else "").partition(HEADING)
    return f"\n{heading}{rest}" if heading else ""


def page(records: Sequence[Record], most_cells: int) -> str:
    every = flat(records)
    told = every[every["part"] == "pairs"]
    named = told[told["failed"] == ""].sort_values("role", kind="stable")
    plain = named[named["spilled"] == 0]
    report, choose = plain[plain["role"] == "report"], plain[plain["role"] == "choose"]
    common = of_common_pairs(report)
    return PAGE.format(
        heading=HEADING,
        most_cells=most_cells,
        n_full=common["pair"].nunique(),
        common_pairs="\n".join(f"- {pair}" for pair in dict.fromkeys(common["pair"])),
        report_means=_means(common),
        choose_means=_means(choose),
        bars=_bars(common, named, every),
        pairs=_pairs(plain),
        reported=_reported(plain[plain["method"] == PRODUCT]),
        coverage=_coverage(common),
        left_out=_left_out_means(every),
        left_out_each=_left_out(every),
        spilled=_spilled(named[named["pair"].isin(common["pair"])]),
        seconds=_seconds(named),
        failures=_failures(told),
    )


def flat(records: Sequence[Record]) -> pd.DataFrame:
    """One row a record, with the name of its pair and the order of its depth."""
    rows = pd.json_normalize(list(records))
    rows["pair"] = rows["reference"].map(_short) + " -> " + rows["sample"].map(_short)
    rows["order"] = rows["depth"].map(DEPTHS.index)
    rows["failed"] = rows["failed"].fillna("") if "failed" in rows else ""
    return _with_second_way(rows)


def _with_second_way(rows: pd.DataFrame) -> pd.DataFrame:
    """Also on the other pairs the second way of singler, which is the first one there: so that it has means."""
    has_it = rows["pair"].isin(rows.loc[rows["method"] == OF_AVERAGES, "pair"])
    same = rows[(rows["method"] == "singler") & ~has_it]
    return pd.concat([rows, same.assign(method=OF_AVERAGES)], ignore_index=True)


def of_common_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """The pairs that every method has named."""
    methods = rows["method"].nunique()
    common = [pair for pair, own in rows.groupby("pair", sort=False) if own["method"].nunique() == methods]
    return rows[rows["pair"].isin(common)]


def _short(name: str) -> str:
    return name.removesuffix("_query219g").partition("_ref")[0].replace("_", " ")


def _means(rows: pd.DataFrame) -> str:
    columns = [f"{level}.{name}" for level in ("fine", "broad") for name in FIGURES]
    means = rows.groupby(["order", "method"])[columns].mean()
    head = ["depth", "method", *(f"{level} {title}" for level in ("fine", "broad") for title in FIGURES.values())]
    return table(head, ([DEPTHS[order], method, *map(number, row)] for (order, method), row in _rows(means)))


def _rows(values: pd.DataFrame) -> Any:
    return zip(values.index.tolist(), values.to_numpy().tolist(), strict=True)


def _pairs(rows: pd.DataFrame) -> str:
    """fine / broad of each method, a line for each pair and depth."""
    methods = sorted(set(rows["method"]), key=lambda name: (name != PRODUCT, name))
    both = [
        rows.pivot_table(index=["role", "pair", "order"], columns="method", values=f"{level}.accuracy", sort=False)
        for level in ("fine", "broad")
    ]
    lines = []
    for (role, pair, order), fine in both[0].iterrows():
        broad = both[1].loc[(role, pair, order)]
        cells = ["" if pd.isna(fine[m]) else f"{fine[m]:.3f} / {broad[m]:.3f}" for m in methods]
        lines.append([role, pair, DEPTHS[order], *cells])
    return table(["", "pair", "depth", *(f"{m} fine / broad" for m in methods)], lines)


def _reported(rows: pd.DataFrame) -> str:
    names = ("right", "above", "unnamed", "wrong", "ece")
    means = rows.groupby(["role", "pair", "order"], sort=False)[[f"reported.{name}" for name in names]].mean()
    lines = [[role, pair, DEPTHS[order], *map(number, row)] for (role, pair, order), row in _rows(means)]
    return table(["", "pair", "depth", *names[:-1], "ECE"], lines)


def _coverage(rows: pd.DataFrame) -> str:
    columns = ["fine.accuracy", *(f"fine.at_{share}" for share in ("90%", "70%", "50%"))]
    means = rows.groupby(["order", "method"])[columns].mean().dropna()
    return table(
        ["depth", "method", "all", "90 %", "70 %", "50 %"],
        ([DEPTHS[order], method, *map(number, row)] for (order, method), row in _rows(means)),
    )


LEFT_OUT = {"auroc": "AUROC", "auroc_confidence": "AUROC of 1 - confidence", "honest": "honest", "unnamed": "unnamed"}


def _left_out_means(rows: pd.DataFrame) -> str:
    own = rows[rows["part"] == "left-out"]
    means = own.groupby(["role", "order"])[list(LEFT_OUT)].mean()
    sizes = own.groupby(["role", "order"]).size()
    lines = [[role, DEPTHS[order], str(sizes[role, order]), *map(number, row)] for (role, order), row in _rows(means)]
    return table(["means", "depth", "classes", *LEFT_OUT.values()], lines)


def _left_out(rows: pd.DataFrame) -> str:
    own = rows[rows["part"] == "left-out"].set_index(["pair", "class", "order"])[["left_out", *LEFT_OUT]]
    lines = [
        [pair, name, DEPTHS[order], f"{row[0]:.0f}", *map(number, row[1:])] for (pair, name, order), row in _rows(own)
    ]
    return table(["pair", "class", "depth", "cells", *LEFT_OUT.values()], lines)


def spill_losses(rows: pd.DataFrame) -> pd.DataFrame:
    """(depth and share, method) -> mean loss of fine and broad accuracy over the report pairs."""
    own = rows[rows["role"] == "report"]
    keys, columns = ["pair", "order", "method"], ["fine.accuracy", "broad.accuracy"]
    clean = own[own["spilled"] == 0].set_index(keys)[columns]
    spilled = own[own["spilled"] > 0].set_index([*keys, "spilled"])[columns]
    losses = clean.reindex(spilled.index.droplevel("spilled")).to_numpy() - spilled
    return losses.groupby(["order", "spilled", "method"]).mean()


def _spilled(rows: pd.DataFrame) -> str:
    lines = [
        [DEPTHS[order], f"{share:.0%}", method, *map(number, row)]
        for (order, share, method), row in _rows(spill_losses(rows))
    ]
    return table(["depth", "share", "method", "loss fine", "loss broad"], lines)


def _seconds(rows: pd.DataFrame) -> str:
    own = rows.assign(learn_s=rows["learn_s"].fillna(rows["fit_s"]), fit_s=rows["fit_s"].where(rows["learn_s"].notna()))
    means = own.groupby("method")[["learn_s", "fit_s", "classify_s"]].mean()
    lines = [[method, *("" if value != value else f"{value:.2f}" for value in row)] for method, row in _rows(means)]
    return table(["method", "learn", "fit to the sample", "name"], lines)


def _failures(rows: pd.DataFrame) -> str:
    failed = rows[rows["failed"] != ""][["pair", "method", "failed"]].drop_duplicates()
    if failed.empty:
        return ""
    lines = [f"- {method} on {pair}: {why}" for pair, method, why in failed.itertuples(index=False)]
    return "\n".join(["", "Not measured, or failed:", "", *lines, ""])


def _bars(common: pd.DataFrame, named: pd.DataFrame, every: pd.DataFrame) -> str:
    """Each bar, what was reached, and whether that is enough."""
    lines = []
    for level in ("fine", "broad"):
        lines.append(_at_full_depth(named, level))
        means = common.pivot_table(index="order", columns="method", values=f"{level}.accuracy")
        for order, row in means.iterrows():
            peers = row.drop(PRODUCT)
            best, reached = str(peers.idxmax()), row[PRODUCT]
            judged = f": {_met(reached > peers.max())}" if order else ""
            lines.append(
                f"{level} accuracy in the mean at {DEPTHS[order]}: {reached:.3f}, the best other {peers.max():.3f} "
                f"({best}){judged}"
            )
    of_product = named[(named["method"] == PRODUCT) & (named["role"] == "report") & (named["spilled"] == 0)]
    errors = of_product.groupby("order")["reported.ece"].agg(["mean", "max"])
    for order, (mean, most) in _rows(errors):
        lines.append(
            f"ECE as reported at {DEPTHS[order]}: {mean:.3f} in the mean (0.05), {most:.3f} on the worst pair (0.10): "
            f"{_met(mean <= 0.05 and most <= 0.1)}"
        )
    left = every[(every["part"] == "left-out") & (every["role"] == "report") & (every["depth"] == "150")]
    if len(left):
        reached = left["auroc"].mean()
        lines.append(f"AUROC of novelty at 150: {reached:.3f} of 0.90: {_met(reached >= 0.9)}")
    accuracy = common.pivot_table(index="order", columns="method", values="fine.accuracy").drop(columns=PRODUCT)
    losses = spill_losses(named[named["pair"].isin(common["pair"])])["fine.accuracy"]
    for order in sorted({order for order, share, _ in losses.index if share == 0.3}):
        best = str(accuracy.loc[order].idxmax())
        own, others = losses[order, 0.3, PRODUCT], losses[order, 0.3, best]
        lines.append(
            f"loss of fine accuracy at {DEPTHS[order]} with 30 % spilled: {own:.3f}, of the best other {others:.3f} "
            f"({best}), half of which is wanted: {_met(own <= others / 2)}"
        )
    return "\n".join(f"- {line}" for line in lines)


def _at_full_depth(named: pd.DataFrame, level: str) -> str:
    """On how many pairs, choose and report, the product is within a point of the best other, and where it is not."""
    rows = named[(named["spilled"] == 0) & (named["order"] == 0)]
    values = rows.pivot_table(index="pair", columns="method", values=f"{level}.accuracy", sort=False)
    short = values.drop(columns=PRODUCT).max(axis=1) - values[PRODUCT]
    missed = short[short > 0.01].sort_values(ascending=False)
    told = "; ".join(f"{pair} by {100 * points:.1f}" for pair, points in missed.items())
    return (
        f"{level} accuracy at full depth within a point of the best other on every pair: on {len(short) - len(missed)} "
        f"of {len(short)}, {_met(missed.empty)}{f' (short in points: {told})' if told else ''}"
    )


def _met(enough: bool) -> str:
    return "met" if enough else "missed"
