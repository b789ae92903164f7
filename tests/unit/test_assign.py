"""Predictions become the table of cell_types.csv: one row a barcode, low-UMI cells marked, numbers short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytonym.assign import assign, model_metrics
from cytonym.io.arrays import read_fitted, read_predictions, write_fitted, write_predictions
from cytonym.io.cell_types_csv import read_cell_types, shortest_texts, write_cell_types
from cytonym.types import Alert, Fitted, Job, MatrixInfo, ModelCard, Partition, Plan, Predictions

CARD = ModelCard(
    name="m",
    backend="markers",
    folder="M",
    title="A model",
    species=("human",),
    version="1",
    licence="MIT",
    description="",
    columns=("cell_type_ontology_term_id", "confidence", "reason"),
)
INFO = MatrixInfo(
    name="m.h5",
    format="10x HDF5",
    sha256="0" * 64,
    n_cells=4,
    n_features=2,
    n_nonzeros=4,
    feature_types={"Gene Expression": 2},
    genome="GRCh38",
    species="human",
    chemistry="",
    barcode_kind="cell",
    median_umis=100.0,
)
PLAN = Plan("s", "", INFO, (Job(CARD),), (Partition(0, 0, 4),))
LABELS = pd.DataFrame(
    {
        "broad_cell_type": ["Immune cell", "Unassigned"],
        "coarse_cell_type": ["T cell", "Unassigned"],
        "fine_cell_type": ["CD4 T cell", "Unassigned"],
        "cell_type_ontology_term_id": ["CL:0000624", ""],
        "reason": ["", "no counts"],
    }
)
ALL = Predictions(
    start=0,
    barcodes=np.array(["b1", "b2", "b3", "b4"]),
    umi_counts=np.array([99, 100, 0, 500]),
    labels=LABELS,
    label_codes=np.array([0, 0, 1, 0], dtype=np.int32),
    values={"confidence": np.array([0.5, 1.0, np.nan, 0.1], dtype=np.float32)},
)
CSV = """\
barcode,broad_cell_type,coarse_cell_type,fine_cell_type,cell_type_ontology_term_id,confidence,reason,coarse_cell_type_unfiltered,umi_count
b1,Immune cell,Low UMI Barcode,CD4 T cell,CL:0000624,0.5,,T cell,99
b2,Immune cell,T cell,CD4 T cell,CL:0000624,1,,T cell,100
b3,Unassigned,Low UMI Barcode,Unassigned,,,no counts,Unassigned,0
b4,Immune cell,T cell,CD4 T cell,CL:0000624,0.1,,T cell,500
"""


def test_the_table_is_space_rangers(tmp_path):
    """Strictly fewer than 100 UMIs replace the coarse label alone; the old one stays as unfiltered."""
    path = tmp_path / "cell_types.csv"
    write_cell_types(path, assign(PLAN, PLAN.jobs[0], ALL).table)
    assert path.read_text() == CSV


def test_the_table_reads_back(tmp_path):
    """Nothing that looks like a missing value becomes one."""
    path = tmp_path / "cell_types.csv"
    path.write_text(CSV.replace("T cell", "NA"))
    table = read_cell_types(path)
    assert table["coarse_cell_type_unfiltered"].tolist() == ["NA", "NA", "Unassigned", "NA"]
    assert table["umi_count"].tolist() == [99, 100, 0, 500]
    assert np.isnan(table["confidence"][2])


def test_parts_give_the_same_table_in_any_order(tmp_path):
    """Split, written, read and gathered again, the predictions are what they were."""
    first = replace(ALL, barcodes=ALL.barcodes[:1], umi_counts=ALL.umi_counts[:1], label_codes=ALL.label_codes[:1])
    first = replace(first, values={"confidence": ALL.values["confidence"][:1]})
    rest = replace(ALL, start=1, barcodes=ALL.barcodes[1:], umi_counts=ALL.umi_counts[1:])
    rest = replace(rest, labels=LABELS[::-1].reset_index(drop=True), label_codes=1 - ALL.label_codes[1:])
    rest = replace(rest, values={"confidence": ALL.values["confidence"][1:]})
    for index, part in enumerate((rest, first)):
        write_predictions(tmp_path / f"{index}.h5", part)
    gathered = Predictions.concatenate([read_predictions(tmp_path / f"{index}.h5") for index in range(2)])
    pd.testing.assert_frame_equal(assign(PLAN, PLAN.jobs[0], gathered).table, assign(PLAN, PLAN.jobs[0], ALL).table)


def test_a_missing_part_is_noticed():
    """Cells that nobody classified are an error, not empty rows."""
    with pytest.raises(ValueError, match="do not follow each other"):
        Predictions.concatenate([ALL, replace(ALL, start=9)])
    with pytest.raises(ValueError, match="predictions cover cells 0 to 4 of 5"):
        assign(replace(PLAN, matrix=replace(INFO, n_cells=5)), PLAN.jobs[0], ALL)


def test_metrics_count_the_labels():
    """Numbers worked out by hand from the table above."""
    fitted = Fitted("m", {"genes_found": 3, "internal": 1}, {}, (Alert("WARN", "A", "b"),))
    metrics = model_metrics(PLAN, PLAN.jobs[0], fitted, assign(PLAN, PLAN.jobs[0], ALL))
    assert metrics["n_labelled"] == 3
    assert metrics["labelled_share"] == 0.75
    assert metrics["n_low_umi"] == 2
    assert metrics["median_umis"] == 99.5
    assert metrics["composition"] == {"Low UMI Barcode": 2, "T cell": 2}
    assert metrics["genes_found"] == 3
    assert "internal" not in metrics
    assert metrics["alerts"] == [{"level": "WARN", "title": "A", "message": "b"}]


def test_numbers_are_short():
    """Shortest decimals of their own type, never an exponent."""
    assert shortest_texts(np.array([1, 0.1, 1e-7, np.nan], dtype=np.float32)).tolist() == ["1", "0.1", "0.0000001", ""]


def test_fitted_reads_back_and_is_byte_stable(tmp_path):
    """Arrays, text and JSON come back; the same value gives the same bytes."""
    fitted = Fitted("m", {"a": [1, None]}, {"x": np.arange(3.0), "t": np.array(["é", ""])}, (Alert("INFO", "t", "m"),))
    write_fitted(tmp_path / "1.h5", fitted)
    write_fitted(tmp_path / "2.h5", fitted)
    again = read_fitted(tmp_path / "1.h5")
    assert again.meta == fitted.meta
    assert again.alerts == fitted.alerts
    assert again.arrays["t"].tolist() == ["é", ""]
    assert again.arrays["x"].tolist() == [0, 1, 2]
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
