"""annotated.h5ad is opened by the real anndata, and read_outs gives a finished run's tables back."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import cytonym
from cytonym.annotate import annotate
from cytonym.colours import type_colours
from cytonym.demo_outs import make_outs
from cytonym.errors import InputError
from cytonym.export import LabelledCells, export_h5ad
from cytonym.io.cell_types_csv import read_compact, write_cell_types
from cytonym.matrix import in_memory
from cytonym.types import AnnotateRequest, ModelCard, Places

CARD = ModelCard("markers", "markers", "Markers", "Marker model", ("human",), "1", "MIT", "", ())
OTHER = ModelCard("other", "other", "Other", "Another model", ("human",), "1", "MIT", "", ())


def table(*coarse: str) -> pd.DataFrame:
    n = len(coarse)
    return pd.DataFrame(
        {
            "barcode": [f"cellid_{i + 1:09d}-1" for i in range(n)],
            "coarse_cell_type": coarse,
            "cell_type_ontology_term_id": ["CL:0000084", *[""] * (n - 1)],
            "confidence": [0.5, *[np.nan] * (n - 1)],
            "novelty_z": [-1.25, *[np.nan] * (n - 1)],
            "umi_count": range(n),
        }
    )


def test_anndata_reads_what_was_written(tmp_path):
    """Counts, ids, symbols, labels as categories with their colours, gaps as gaps, numbers as numbers."""
    counts = np.array([[0, 3, 1], [2, 0, 0], [0, 0, 5]])
    matrix = in_memory(counts, ["CD3E", "MS4A1", "ACTB"], ids=["g1", "g2", "g3"])
    paths = []
    for name, coarse in (("a", ("T cell", "B cell", "T cell")), ("b", ("lymphocyte",) * 3)):
        paths.append(tmp_path / f"{name}.csv")
        write_cell_types(paths[-1], table(*coarse))
    xy = np.array([[1, 2], [np.nan, np.nan], [5, 6]], dtype=np.float32)
    models = [(CARD, read_compact(paths[0])), (OTHER, read_compact(paths[1]))]
    export_h5ad(tmp_path / "x.h5ad", matrix, LabelledCells.of(models), Places(xy=xy))
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert found.X.toarray().tolist() == counts.tolist()
    assert found.obs_names.tolist() == matrix.barcodes().tolist()
    assert (found.var_names.tolist(), found.var["gene_symbols"].tolist()) == (
        ["g1", "g2", "g3"],
        matrix.features.names.tolist(),
    )
    assert found.obs["coarse_cell_type"].tolist() == ["T cell", "B cell", "T cell"]
    assert found.obs["Other_coarse_cell_type"].tolist() == ["lymphocyte"] * 3
    assert found.obs["cell_type_ontology_term_id"].isna().tolist() == [False, True, True]
    assert found.obs["confidence"].iloc[0] == 0.5 and np.isnan(found.obs["confidence"].iloc[1])
    assert found.obs["novelty_z"].iloc[0] == -1.25 and np.isnan(found.obs["novelty_z"].iloc[1])
    assert found.obs["umi_count"].tolist() == [0, 1, 2] and "Other_umi_count" not in found.obs
    assert np.array_equal(found.obsm["spatial"], xy, equal_nan=True)
    colours = type_colours(["B cell", "T cell", "lymphocyte"])
    assert found.uns["coarse_cell_type_colors"].tolist() == [colours["B cell"], colours["T cell"]]
    found.write_h5ad(tmp_path / "again.h5ad")


def test_a_run_is_read_back_in_one_call(tmp_path):
    """From its folder or its outs, with the centroids of the outlines in the h5ad; other folders are refused."""
    make_outs(tmp_path / "hd/outs", n_cells=200, n_genes=6000)
    done = annotate(AnnotateRequest("s", tmp_path / "hd/outs", output_dir=tmp_path / "run", h5ad=True))
    for path in (tmp_path / "run", str(done.outs)):
        found = cytonym.read_outs(path)
        assert list(found.models) == ["markers"]
        model, original = found.models["markers"], done.models["markers"]
        pd.testing.assert_frame_equal(model.cell_types.table, original.cell_types.table)
        assert model.diffexp is not None and original.diffexp is not None
        assert model.diffexp.groups == original.diffexp.groups
        assert (model.card.title, found.metrics["id"]) == (original.card.title, "s")
    whole = anndata.read_h5ad(done.outs / "annotated.h5ad")
    assert whole.obs["fine_cell_type"].tolist() == done.models["markers"].cell_types.table["fine_cell_type"].tolist()
    assert whole.obsm["spatial"].shape == (200, 2) and not np.isnan(whole.obsm["spatial"]).any()
    assert whole.X.sum(axis=1).A1.tolist() == whole.obs["umi_count"].tolist()
    with pytest.raises(InputError, match="is not the outs folder of a finished run"):
        cytonym.read_outs(tmp_path / "hd")
