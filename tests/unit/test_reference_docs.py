"""The two commands of docs/reference.md lead from a labelled file to an annotated Visium HD sample."""

from __future__ import annotations

import re
import shlex

import anndata
import pandas as pd
import pytest

from conftest import PROJECT
from cytonym.cli import run
from cytonym.demo import make_tissue
from cytonym.demo_outs import make_outs
from cytonym.io.tenx_h5 import open_tenx_h5


def commands(page: str) -> list[list[str]]:
    """The indented lines that start with cytonym."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in re.findall(r"^    (cytonym .+)$", text, re.MULTILINE)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Has the atlas and the outs folder that the page names: made tissues of the same genes and types (one seed)."""
    labels = make_tissue(tmp_path / "atlas.h5", n_cells=400, n_genes=6000, median_umis=600, seed=6)
    source = open_tenx_h5(tmp_path / "atlas.h5")
    var = pd.DataFrame({"gene_ids": source.features.ids}, index=source.features.names)
    obs = pd.DataFrame({"cell_type": labels["coarse_cell_type"].to_numpy()}, index=labels["barcode"].to_numpy())
    anndata.AnnData(source.read_rows(0, 400).astype("float32"), obs=obs, var=var).write_h5ad(tmp_path / "atlas.h5ad")
    truth = make_outs(tmp_path / "runs/sample123/outs", n_cells=300, n_genes=6000, seed=6)
    truth.to_csv(tmp_path / "truth.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CYTONYM_HOME", str(tmp_path / "home"))
    return tmp_path


def test_the_pages_commands_do_what_they_say(folder, capsys):
    """Run as they stand on the page, one after the other, on a made atlas and a made Visium HD folder."""
    build, annotate, install = commands("docs/reference.md")[:3]
    assert commands("README.md")[-2:] == [build, annotate]
    for command in (build, annotate, install):
        run(command)
    outs = folder / "sample123/outs"
    found = pd.read_csv(outs / "cell_types/my-atlas/cell_types.csv").set_index("barcode")
    assert (outs / "cell_types/my-atlas/celltype_annotated_cell_segmentations.geojson").exists()
    assert (outs / "web_summary_cell_types.html").exists()
    truth = pd.read_csv(folder / "truth.csv").set_index("barcode").reindex(found.index)
    named = found["coarse_cell_type"].isin(set(truth["coarse_cell_type"]))
    right = found["coarse_cell_type"][named] == truth["coarse_cell_type"][named]
    assert named.mean() > 0.5
    assert right.mean() > 0.8
    run(["models", "list"])
    assert "my-atlas" in capsys.readouterr().out
