"""From labelled files to a bundle: the same bytes each time, whole or not at all, and a clear error for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cytonym.cli import main
from cytonym.errors import CytonymError, ModelError
from cytonym.io.bundle import check_bundle, open_bundle, read_cells, read_ontology_of, read_reference_card
from cytonym.io.model_store import read_model
from cytonym.io.obo import read_ontology
from cytonym.io.tenx_h5 import TenxH5Writer
from cytonym.matrix import Features, in_memory
from cytonym.models import bundles_among, find_model
from cytonym.ontology_data import load_ontology
from cytonym.reference.build import build_reference
from cytonym.reference.cards import folder_of
from cytonym.reference.gather import Learnt, gather, open_inputs
from cytonym.reference.request import BuildRequest
from cytonym.reference.restrict import RestrictRequest, restrict_reference
from cytonym.reference_model.query import fit_query, score_cells
from cytonym.reference_model.stored import ReferenceModel
from cytonym.search.index import open_index
from cytonym.types import Model
from made_labelled import LABELS, TERMS, blood_cells, logged, write_blood
from made_reference import blood_averages


def build(folder: Path, *inputs: Path, **options) -> Model:
    request = {"name": "blood", "output": folder / "bundle", "inputs": inputs} | options
    return build_reference(BuildRequest(**request))


def gathered(request: BuildRequest, scratch: Path) -> Learnt:
    return gather(request, open_inputs(request, scratch), load_ontology())


@pytest.fixture(scope="module")
def blood(tmp_path_factory) -> Path:
    """The bundle of a file as CELLxGENE has it, built without any option. Nobody writes into it."""
    folder = tmp_path_factory.mktemp("blood")
    build(folder, write_blood(folder / "blood.h5ad"))
    return folder / "bundle"


@pytest.fixture
def copied(blood, tmp_path) -> Path:
    return Path(shutil.copytree(blood, tmp_path / "copy"))


def share_right(bundle: Path, cells: sp.csr_matrix, codes: np.ndarray, features: Features) -> float:
    model = ReferenceModel.of(*read_model(open_bundle(bundle)))
    query = fit_query(model, in_memory(cells, features.names, ids=features.ids))
    named = np.array([kind.label for kind in model.types])[score_cells(query, cells).posterior.argmax(axis=1)]
    return float((named == LABELS[codes]).mean())


def test_a_cellxgene_file_needs_no_option(blood):
    """Labels, terms, data sets, donors, symbols and raw counts are found; the model names other cells of the types."""
    card = read_reference_card(blood)
    assert [(kind["label"], kind["ontology_id"], kind["found_by"], kind["coarse"]) for kind in card["types"]] == [
        ("B cell", "CL:0000236", "id column", "B cell"),
        ("monocyte", "CL:0000576", "id column", "monocyte"),
        ("natural killer cell", "CL:0000623", "id column", "natural killer cell"),
    ]
    assert [kind["n_cells"] for kind in card["types"]] == [40, 40, 40]
    assert (card["species"], card["joined_by"], card["averages"]) == ("human", "gene ids", False)
    (source,) = card["sources"]
    assert (source["name"], source["n_cells"], source["values"]) == ("blood.h5ad", 120, "counts")
    assert card["expected"]
    assert share_right(blood, *blood_cells(), blood_averages()[1]) > 0.95


def test_the_bundle_knows_the_terms_above_its_types(blood):
    """The types' terms and all ancestors, no more."""
    ontology = read_ontology_of(blood)
    assert set(TERMS) <= {term.id for term in ontology}
    assert "CL:0000738" in ontology.lineage("CL:0000236")
    assert len(ontology) < 40


def test_cells_to_compare_with_have_their_labels(blood):
    """Each vector's type, data set and name; a cell's nearest neighbours are of its type as a rule."""
    meta, cells = read_cells(blood)
    codes = blood_cells()[1]
    assert [meta["types"][code] for code in cells["type_codes"]] == LABELS[codes].tolist()
    assert [meta["datasets"][code] for code in cells["dataset_codes"][:3]] == ["one", "two", "one"]
    assert cells["ids"][:2].tolist() == ["c0", "c1"]
    vectors = np.load(blood / "vectors.npy")
    near = open_index(blood).search(vectors[:, 0], np.zeros(120, dtype=np.int64), 6).rows[:, 1:]
    assert (codes[near] == codes[:, None]).mean() > 0.8


def test_the_same_input_gives_the_same_bytes(blood, tmp_path):
    """Of every file, wherever it is built."""
    build(tmp_path, write_blood(tmp_path / "blood.h5ad"))
    # the written h5ad differs by nothing but what anndata puts in it, so the checksums of the sources agree too
    for path in blood.iterdir():
        assert (tmp_path / "bundle" / path.name).read_bytes() == path.read_bytes(), path.name


def test_logged_values_give_the_counts_model(blood, tmp_path):
    """Counts are won back from X where there are no others, and the card says so."""
    build(tmp_path, write_blood(tmp_path / "x.h5ad", counts=logged(blood_cells()[0])))
    card = read_reference_card(tmp_path / "bundle")
    assert card["sources"][0]["values"] == "log1p of scaled counts"
    assert any("won back" in note for note in card["notes"])
    meta, arrays = read_model(open_bundle(tmp_path / "bundle"))
    of_counts = read_model(open_bundle(blood))
    assert meta == of_counts[0]
    assert all((arrays[name] == array).all() for name, array in of_counts[1].items())


def test_files_of_different_genes_make_one_reference(tmp_path):
    """What both measure is kept; each file is a data set."""
    n = len(blood_averages()[1])
    one = write_blood(tmp_path / "one.h5ad", genes=slice(0, n - 100), dataset_id=None)
    two = write_blood(tmp_path / "two.h5ad", genes=slice(50, n), seed=1, dataset_id=None)
    learnt = gathered(BuildRequest((one, two), "x", tmp_path / "x"), tmp_path)
    assert len(learnt.training.features) == n - 150
    assert [kind.n_cells for kind in learnt.training.types] == [80, 80, 80]
    assert len(np.unique(learnt.training.group_codes)) == 2 * 3  # files x donors
    assert "genes are in all 2 inputs" in " ".join(learnt.notes)


def test_files_of_one_name_stay_apart(tmp_path):
    """Their data sets are numbered; a map still knows both by their name."""
    paths = []
    for seed, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        paths.append(write_blood(tmp_path / folder / "x.h5ad", seed=seed, dataset_id=None))
    (tmp_path / "map.tsv").write_text("label\tcl_id\tdataset\nB cell\tCL:0000945\tx\n")
    learnt = gathered(BuildRequest(tuple(paths), "x", tmp_path / "x", ontology_map=tmp_path / "map.tsv"), tmp_path)
    assert [one.datasets.values.tolist() for one in learnt.inputs] == [["x.1"], ["x.2"]]
    assert learnt.training.types[0].ontology_id == "CL:0000945"


def write_tenx(path: Path, counts: sp.csr_matrix, features: Features) -> list[str]:
    barcodes = np.array([f"cellid_{i:09d}-1" for i in range(counts.shape[0])])
    n = len(features)
    columns = {"feature_types": np.full(n, "Gene Expression"), "genomes": np.full(n, "GRCh38")}
    with TenxH5Writer(path, ids=features.ids, names=features.names, **columns) as out:
        out.append(counts, barcodes)
    return list(barcodes)


def test_matrices_with_a_table_of_labels_make_a_reference(tmp_path):
    """A Space Ranger folder and its labels; cells that the table leaves out or calls Unassigned are not learnt."""
    counts, codes = blood_cells()
    outs = tmp_path / "slide" / "outs"
    (outs / "segmented_outputs").mkdir(parents=True)
    barcodes = write_tenx(outs / "segmented_outputs" / "filtered_feature_cell_matrix.h5", counts, blood_averages()[1])
    labels = pd.DataFrame({"barcode": barcodes, "coarse_cell_type": LABELS[codes]})
    labels.loc[:9, "coarse_cell_type"] = "Unassigned"
    labels.iloc[:100].to_csv(tmp_path / "cell_types.csv", index=False)
    request = BuildRequest(
        (tmp_path / "slide",),
        "x",
        tmp_path / "x",
        labels=(tmp_path / "cell_types.csv",),
        label_key="coarse_cell_type",
    )
    learnt = gathered(request, tmp_path)
    assert sum(kind.n_cells for kind in learnt.training.types) == 90
    assert {term.label for term in learnt.terms[0] if term.found_by == "name"} == set(LABELS)
    assert learnt.inputs[0].dataset == "slide"


def test_a_table_of_averages_makes_a_reference(tmp_path):
    """Genes x types, by symbols alone; cells are drawn, and cells of the types are named."""
    rates, features = blood_averages()
    frame = pd.DataFrame(rates.T * 100, index=features.names, columns=LABELS)
    frame.to_csv(tmp_path / "means.tsv", sep="\t", index_label="gene")
    build(tmp_path, tmp_path / "means.tsv")
    card = read_reference_card(tmp_path / "bundle")
    assert card["averages"] and card["sources"][0]["values"] == "averages"
    assert share_right(tmp_path / "bundle", *blood_cells(), features) > 0.95


def test_rows_of_averages_are_recognised(tmp_path):
    """An h5ad file with one row a type and values that are no counts; several rows of a type with --averages."""
    import anndata

    rates, features = blood_averages()
    var = pd.DataFrame(index=features.names)
    obs = pd.DataFrame({"cell_type": LABELS}, index=["a", "b", "c"])
    anndata.AnnData(rates * 12.345, obs=obs, var=var).write_h5ad(tmp_path / "once.h5ad")
    once = gathered(BuildRequest((tmp_path / "once.h5ad",), "x", tmp_path / "x"), tmp_path)
    assert once.averages
    assert [kind.label for kind in once.training.types] == LABELS.tolist()
    twice = pd.DataFrame({"cell_type": [*LABELS, *LABELS]}, index=list("abcdef"))
    anndata.AnnData(np.log1p(np.vstack([rates, rates + 1])), obs=twice, var=var).write_h5ad(tmp_path / "twice.h5ad")
    request = BuildRequest((tmp_path / "twice.h5ad",), "x", tmp_path / "x", averages="log1p")
    assert [kind.n_cells for kind in gathered(request, tmp_path).training.types] == [2, 2, 2]


def test_labels_without_a_term_are_listed_for_confirmation(tmp_path):
    """They are types all the same; the confirmed table is the map of the next build."""
    labels = np.array(["B lymphocytes", "CD14+ Mono", "NK"])[blood_cells()[1]]
    path = write_blood(tmp_path / "x.h5ad", cell_type=labels, cell_type_ontology_term_id=None)
    build(tmp_path, path)
    kinds = read_reference_card(tmp_path / "bundle")["types"]
    assert {kind["ontology_id"] for kind in kinds} == {""}
    assert [kind["coarse"] for kind in kinds] == ["B lymphocytes", "CD14+ Mono", "NK"]
    table = tmp_path / "bundle.labels.tsv"
    assert "NK\tCL:0000623\tnatural killer cell" in table.read_text()
    confirmed = BuildRequest((path,), "confirmed", tmp_path / "confirmed", ontology_map=table)
    learnt = gathered(confirmed, tmp_path)
    assert {term.found_by for term in learnt.terms[0]} == {"map"}
    assert learnt.table.types[2].broad == "innate lymphoid cell"


def test_the_users_own_ontology_and_levels_hold(tmp_path):
    """The synonym of a given OBO file names a label, and a given map names what stands above it."""
    (tmp_path / "own.obo").write_text('[Term]\nid: CL:0000236\nname: B cell\nsynonym: "bee" EXACT []\n')
    (tmp_path / "own.tsv").write_text("cl_id\tname\tlevel\nCL:0000236\tours\tbroad\n")
    labels = np.array(["bee", "mono", "nk"])[blood_cells()[1]]
    path = write_blood(tmp_path / "x.h5ad", cell_type=labels, cell_type_ontology_term_id=None)
    request = BuildRequest((path,), "x", tmp_path / "x", levels=tmp_path / "own.tsv")
    kind = gather(request, open_inputs(request, tmp_path), read_ontology(tmp_path / "own.obo")).training.types[0]
    assert (kind.label, kind.ontology_id, kind.broad, kind.coarse) == ("bee", "CL:0000236", "ours", "ours")


def test_small_labels_are_dropped_and_told(tmp_path):
    """Three cells of a kind are too few."""
    labels = LABELS[blood_cells()[1]].astype(object)
    labels[:3] = "platelet"
    build(tmp_path, write_blood(tmp_path / "x.h5ad", cell_type=labels, cell_type_ontology_term_id=None))
    card = read_reference_card(tmp_path / "bundle")
    assert card["few_cells"] == [{"label": "platelet", "n_cells": 3, "became": "dropped"}]
    assert len(card["types"]) == 3


# ---- bad input


def rounded() -> sp.csr_matrix:
    values = logged(blood_cells()[0])
    values.data = np.round(values.data / 0.1).astype(np.float32) * np.float32(0.1)
    return values


def spoilt(value: float) -> sp.csr_matrix:
    values = blood_cells()[0].astype(np.float32)
    values.data[5] = value
    return values


REFUSED = {
    "unlabelled": ({"cell_type": np.full(120, "unknown")}, {}, "No cell of the inputs has a label"),
    "one label": ({"cell_type": np.full(120, "B cell"), "cell_type_ontology_term_id": None}, {}, "one label only"),
    "no column": ({"cell_type": None}, {}, "no column 'cell_type' in obs for labels"),
    "another column": ({}, {"label_key": "kind"}, "no column 'kind'"),
    "labels of single cells": (
        {"cell_type": [f"t{i}" for i in range(120)], "cell_type_ontology_term_id": None},
        {},
        "Only 0 of 120 labels",
    ),
    "rounded": ({"counts": rounded()}, {}, "counts cannot be won back"),
    "nan": ({"counts": spoilt(np.nan)}, {}, "not numbers"),
    "negative": ({"counts": spoilt(-1)}, {}, "negative values"),
    "other species": ({}, {"name": "markers"}, "name of another model"),
    "bad name": ({}, {"name": "a/b"}, "a name has letters"),
    "no map": ({}, {"ontology_map": Path("nowhere.tsv")}, "cannot be read"),
    "no ontology": ({}, {"ontology": Path("nowhere.obo")}, "cannot be read"),
    "no levels": ({}, {"levels": Path("nowhere.tsv")}, "cannot be read"),
    "labels for nothing": ({}, {"labels": (Path("a.csv"), Path("b.csv"))}, "2 label tables for 1 inputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gives_one_error_and_no_bundle(tmp_path, case):
    """Nothing is left beside the input."""
    content, options, words = REFUSED[case]
    path = write_blood(tmp_path / "x.h5ad", **content)
    with pytest.raises(CytonymError, match=words):
        build(tmp_path, path, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5ad"]


def test_two_species_or_foreign_genes_are_refused(tmp_path):
    """Human and mouse make no reference, nor do files without a gene in common."""
    import anndata

    human = write_blood(tmp_path / "human.h5ad")
    mouse = anndata.read_h5ad(human)
    mouse.raw = None
    mouse.X = blood_cells()[0].astype(np.float32)
    mouse.var_names = [f"ENSMUSG{i:011d}" for i in range(mouse.n_vars)]
    mouse.var["feature_name"] = [f"Gene{i}" for i in range(mouse.n_vars)]
    mouse.write_h5ad(tmp_path / "mouse.h5ad")
    with pytest.raises(CytonymError, match="0 genes in common"):
        build(tmp_path, human, tmp_path / "mouse.h5ad")
    mouse.var["feature_name"] = blood_averages()[1].names
    mouse.write_h5ad(tmp_path / "mixed.h5ad")
    with pytest.raises(CytonymError, match="two species: human"):
        build(tmp_path, human, tmp_path / "mixed.h5ad")
    assert not (tmp_path / "bundle").exists()


TABLES = {
    "no label column": ("barcode,kind\ncellid_000000000-1,a\n", "wanted are barcode and label"),
    "twice": ("barcode,label\nx,a\nx,b\n", "'x' more than once"),
    "other barcodes": ("barcode,label\nx,a\n", "None of the barcodes"),
    "empty": ("barcode,label\n", "is empty"),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_label_tables_are_refused(tmp_path, case):
    """And a matrix without a table."""
    text, words = TABLES[case]
    write_tenx(tmp_path / "m.h5", blood_cells()[0], blood_averages()[1])
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(CytonymError, match=words):
        build(tmp_path, tmp_path / "m.h5", labels=(tmp_path / "labels.csv",))
    with pytest.raises(CytonymError, match="holds no labels"):
        build(tmp_path, tmp_path / "m.h5")
    assert not (tmp_path / "bundle").exists()


def test_a_reference_is_never_built_over(blood, tmp_path):
    """The folder is one for good."""
    with pytest.raises(CytonymError, match="exists already"):
        build(blood.parent, blood.parent / "blood.h5ad")
    assert check_bundle(blood).card.name == "blood"


# ---- the bundle


def test_damaged_bundles_are_refused(copied):
    """A changed byte, a missing file, a broken card."""
    whole = (copied / "model.h5").read_bytes()
    (copied / "model.h5").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match="not as it was installed"):
        check_bundle(copied)
    (copied / "model.h5").write_bytes(whole[:-9])
    with pytest.raises(ModelError, match="missing or cut off"):
        open_bundle(copied)
    (copied / "reference.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        open_bundle(copied)


def test_newer_and_foreign_bundles_are_refused(copied, tmp_path):
    """Each with what to do."""
    card = json.loads((copied / "reference.json").read_text())
    (copied / "reference.json").write_text(json.dumps(card | {"format_version": 2, "cytonym": "9.0"}))
    with pytest.raises(ModelError, match=r"built by cytonym 9\.0 in format 2.*Install a newer cytonym"):
        open_bundle(copied)
    (copied / "reference.json").unlink()
    with pytest.raises(ModelError, match=r"not a reference of cytonym: it has no reference\.json"):
        open_bundle(copied)
    with pytest.raises(ModelError, match=r"has no card\.json"):
        open_bundle(tmp_path)


def test_a_model_of_another_layout_is_refused(blood):
    """What an earlier version of the engine stored lacks what this one needs."""
    meta, arrays = read_model(open_bundle(blood))
    del arrays["fusion/trust"]
    with pytest.raises(ModelError, match=r"lacks fusion/trust: another version.*Build it again"):
        ReferenceModel.of(meta, arrays)


def test_a_bundle_is_a_model_by_its_folder(blood, tmp_path):
    """The folder may have any name; embedded and installed names come first."""
    assert find_model(str(blood), tmp_path).card.name == "blood"
    assert bundles_among(f"markers,{blood}", tmp_path) == (blood,)
    with pytest.raises(ModelError, match="not a folder of 'cytonym reference build'"):
        find_model(str(tmp_path), tmp_path)


def test_results_never_go_to_another_models_folder():
    """Names of reserved folders get a second word."""
    assert [folder_of(name) for name in ("blood.v2", "Azimuth", "cas")] == [
        "blood_v2",
        "Azimuth_reference",
        "cas_reference",
    ]


# ---- parts of a reference


def test_a_whole_part_is_the_reference_itself(blood, tmp_path):
    """All genes and all types give the same arrays."""
    meta, arrays = read_model(open_bundle(blood))
    (tmp_path / "genes").write_text("\n".join(arrays["genes/names"]))
    (tmp_path / "types").write_text("\n".join(LABELS))
    request = RestrictRequest(blood, "part", tmp_path / "part", tmp_path / "genes", tmp_path / "types")
    found = read_model(restrict_reference(request))
    assert found[0] == meta
    assert all((found[1][name] == array).all() for name, array in arrays.items())
    for name in ("vectors.npy", "cells.h5"):
        assert (tmp_path / "part" / name).read_bytes() == (blood / name).read_bytes()
    assert read_reference_card(tmp_path / "part")["restricted_from"] == "blood"


def test_a_panel_of_two_types_still_tells_them_apart(blood, tmp_path):
    """Half of the genes, by id."""
    features = blood_averages()[1]
    (tmp_path / "genes").write_text("\n".join(features.ids[::2]))
    (tmp_path / "types").write_text("B cell\nmonocyte\n")
    restrict_reference(RestrictRequest(blood, "part", tmp_path / "part", tmp_path / "genes", tmp_path / "types"))
    counts, codes = blood_cells()
    assert share_right(tmp_path / "part", counts[codes < 2], codes[codes < 2], features) > 0.9
    check_bundle(tmp_path / "part")
    meta, cells = read_cells(tmp_path / "part")
    assert meta["types"] == ["B cell", "monocyte"]
    assert np.bincount(cells["type_codes"]).tolist() == [40, 40]


@pytest.mark.parametrize(
    ("genes", "types", "words"),
    [("NOGENE\n", None, "Only 0 of the 1 genes"), (None, "B cell\n", "names 1 types"), (None, "x\n", "names 'x'")],
)
def test_parts_that_tell_nothing_are_refused(blood, tmp_path, genes, types, words):
    """Nothing is written."""
    paths = {}
    for name, text in (("genes", genes), ("types", types)):
        if text is not None:
            paths[name] = tmp_path / name
            paths[name].write_text(text)
    with pytest.raises(CytonymError, match=words):
        restrict_reference(RestrictRequest(blood, "part", tmp_path / "part", **paths))
    assert not (tmp_path / "part").exists()


# ---- the command line


@pytest.fixture
def cytonym(capsys):
    """Runs a command; gives its code and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return int(stopped.value.code or 0), out.out + out.err

    return run


def test_a_reference_is_built_installed_and_used_by_name(tmp_path, cytonym):
    """Two commands lead from labelled cells to an annotated sample; a third makes the name work."""
    source, bundle, models = write_blood(tmp_path / "x.h5ad"), tmp_path / "bundle", tmp_path / "models"
    code, text = cytonym("reference", "build", "--input", source, "--name", "my-blood", "--output", bundle)
    assert code == 0 and "natural killer cell  CL:0000623" in text
    assert cytonym("reference", "validate", bundle)[0] == 0
    assert "my-blood" in cytonym("reference", "info", bundle)[1]
    counts, codes = blood_cells(3)
    write_tenx(tmp_path / "m.h5", counts, blood_averages()[1])
    common = ("--matrix", tmp_path / "m.h5", "--skip", "report,diffexp", "--models-dir", models)
    code, text = cytonym(
        "annotate", "--id", "a", "--output-dir", tmp_path / "a", "--cell-annotation-model", f"markers,{bundle}", *common
    )
    assert code == 0, text
    by_folder = (tmp_path / "a/outs/cell_types/my-blood/cell_types.csv").read_bytes()
    table = pd.read_csv(tmp_path / "a/outs/cell_types/my-blood/cell_types.csv")
    assert (table["coarse_cell_type"] == LABELS[codes]).mean() > 0.9
    assert cytonym("models", "install", bundle, "--models-dir", models)[0] == 0
    assert "my-blood" in cytonym("models", "list", "--models-dir", models)[1]
    assert "my-blood" in cytonym("reference", "info", "my-blood", "--models-dir", models)[1]
    code, _ = cytonym(
        "annotate", "--id", "b", "--output-dir", tmp_path / "b", "--cell-annotation-model", "my-blood", *common
    )
    assert code == 0
    assert (tmp_path / "b/outs/cell_types/my-blood/cell_types.csv").read_bytes() == by_folder


def test_errors_of_references_have_their_exit_codes(tmp_path, cytonym):
    """3 for input, 4 for a model."""
    code, text = cytonym(
        "reference", "build", "--input", tmp_path / "no.h5ad", "--name", "x", "--output", tmp_path / "x"
    )
    assert (code, "does not exist" in text) == (3, True)
    assert cytonym("reference", "info", tmp_path)[0] == 4
