"""The embedded marker model: scores worked by hand, and what must hold for any sample."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from cytonym.backends.markers import CARD, MarkersBackend
from cytonym.errors import InputError
from cytonym.io.arrays import read_fitted, write_fitted
from cytonym.io.tenx_h5 import TenxH5Source
from cytonym.marker_model import embedding, evidence, rare, sample, scores, trust
from cytonym.marker_model.chain import Match, _coherence, _raised
from cytonym.marker_model.evidence import share_on
from cytonym.marker_model.panel import join_features, type_weights
from cytonym.markers import MarkerTable, MarkerType, as_rows, load_markers
from cytonym.matrix import CountMatrix, Features, in_memory
from cytonym.types import UNASSIGNED, Fitted, Model, Predictions

KINDS = {"B cell": "B lineage cell", "monocyte": "mononuclear phagocyte", "hepatocyte": "hepatobiliary epithelial cell"}


def made_type(defining: str, supporting: str = "", negative: str = "", **changes: object) -> MarkerType:
    kind = MarkerType(
        "kind",
        "kind",
        None,
        "CL:0000000",
        ("any",),
        "",
        *(tuple(x.split()) for x in (defining, supporting, negative)),
        "",
    )
    return replace(kind, **changes)


def made_cells(counts: Sequence[Sequence[int]]) -> scores.Cells:
    """Cells whose columns are all panel genes."""
    columns = np.arange(len(counts[0]))
    return scores.view_cells(sp.csr_matrix(np.array(counts, dtype=np.int32)), columns, columns)


@pytest.fixture(scope="module")
def table() -> MarkerTable:
    return load_markers("human")


def made_sample(
    table: MarkerTable, n_each: int = 120, umis: int = 1500, seed: int = 3
) -> tuple[CountMatrix, np.ndarray]:
    """Cells of three kinds, each with its table's markers at 160 times the rate of the others' and 4 times that of
    other genes, and their true kinds.
    """
    rng = np.random.default_rng(seed)
    genes = list(dict.fromkeys(g for t in table.types for g in (*t.defining, *t.supporting, *t.negative)))
    names = [*genes, *(f"FILLER{i}" for i in range(300))]
    kinds = [t for name in KINDS for t in table.coarse if t.name == name]
    rates = np.full((len(kinds), len(names)), 0.05)
    rates[:, len(genes) :] = 2.0
    for rate, kind in zip(rates, kinds, strict=True):
        for gene in (*kind.defining, *kind.supporting):
            rate[names.index(gene)] = 8.0
    rates *= umis / rates.sum(axis=1, keepdims=True)
    truth = rng.permutation(np.repeat(np.arange(len(kinds)), n_each))
    return in_memory(rng.poisson(rates[truth]), names), np.array(list(KINDS))[truth]


@pytest.fixture(scope="module")
def made(table: MarkerTable) -> tuple[CountMatrix, np.ndarray]:
    return made_sample(table)


@pytest.fixture(scope="module")
def fitted(made: tuple[CountMatrix, np.ndarray]) -> Fitted:
    return MarkersBackend().fit(made[0], Model(CARD))


def labels(predictions: Predictions, column: str = "coarse_cell_type") -> list[str]:
    return predictions.labels[column].to_numpy()[predictions.label_codes].tolist()


def annotate(matrix: CountMatrix, backend: MarkersBackend | None = None) -> Predictions:
    backend = backend or MarkersBackend()
    return backend.classify(matrix, backend.fit(matrix, Model(CARD)))


def assert_same(one: Predictions, other: Predictions) -> None:
    """Every label and every bit of every number is the same."""
    for column in one.labels:
        assert labels(one, column) == labels(other, column)
    assert one.values.keys() == other.values.keys()
    for name, value in one.values.items():
        assert value.tobytes() == other.values[name].tobytes()


# scores by hand


def test_relative_score_is_the_clipped_z_of_log_rates() -> None:
    """Totals of 10,000 make y = ln(1 + x): 0, ln 2, 2 ln 2 for counts 0, 1, 3, so z = -sqrt 1.5, 0, sqrt 1.5."""
    cells = made_cells([[0, 10_000], [1, 9_999], [3, 9_997]])
    moments = scores.learn_moments(cells)
    assert moments.mean[0] == pytest.approx(np.log(2))
    assert moments.sd[0] == pytest.approx(np.log(2) * np.sqrt(2 / 3))
    weights = np.array([[1.0, -0.5], [0.0, 0.0]])  # a marker of the first type, a negative gene of the second
    found = scores.relative_scores(cells, moments, weights)
    z = np.array([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_allclose(found, np.column_stack([z, -0.5 * z]), atol=1e-12)


def test_a_gene_that_never_changes_does_not_count() -> None:
    cells = made_cells([[4, 6], [4, 6], [4, 6]])
    assert scores.relative_scores(cells, scores.learn_moments(cells), np.eye(2)).tolist() == [[0, 0]] * 3


def test_absolute_score_is_the_mid_rank_among_detected_genes() -> None:
    """Counts 5, 3, 3 have mid-ranks 0, 1.5, 1.5 of 3 genes: r = 1, .6, .6; the fourth gene is not detected."""
    cells = made_cells([[5, 3, 3, 0]])
    np.testing.assert_allclose(cells.ranks.toarray(), [[1, 0.6, 0.6, 0]])
    found = scores.absolute_scores(cells, np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0], [0, 0, 1.0]]))
    mean = (1 + 0.6 + 0) / 3
    np.testing.assert_allclose(found, [[1 - mean, 0.6 - mean, -mean]])


def test_weights_favour_defining_and_unshared_genes() -> None:
    """D defines only the first type, S supports both: raw weights 1 and .5 / sqrt 2, scaled to unit length."""
    types = [made_type("D", "S", "N M"), made_type("E", "S")]
    panel = join_features(types, {}, Features(np.array(list("DSNME")), np.array(list("DSNME"))))
    length = np.sqrt(1 + 0.125)
    first, second = type_weights(types, panel).T
    order = [panel.genes.index(g) for g in "DSNME"]
    np.testing.assert_allclose(
        first[order], [1 / length, np.sqrt(0.125) / length, -0.5 / np.sqrt(2), -0.5 / np.sqrt(2), 0]
    )
    np.testing.assert_allclose(second[order], [0, np.sqrt(0.125) / length, 0, 0, 1 / length])


def test_support_is_the_share_of_measurable_genes_that_are_on() -> None:
    """A million UMIs see any gene: two of four on is (2 + .15) / (4 + .5). Ten UMIs see none: .15 / .5."""
    background = np.full(4, 1e-4)
    deep = share_on(np.array([[900, 900, 0, 10]]), np.array([1e6]), background, np.ones(4))
    assert deep[0] == pytest.approx(2.15 / 4.5, abs=1e-3)
    assert share_on(np.zeros((1, 4)), np.array([10.0]), background, np.ones(4))[0] == pytest.approx(0.3, abs=1e-3)


def test_one_loud_shared_gene_does_not_speak_for_a_type() -> None:
    """Two of three genes are higher in the first type's cells; the third is everywhere and has 20 times their counts.

    The second type's one gene is no higher in its cells than in all: nobody shows that type.
    """
    cells = made_cells([[5, 5, 100, 890], [5, 5, 100, 890], [0, 0, 300, 700], [0, 0, 300, 700]])
    weights = np.array([[1.0, 0], [1.0, 0], [1.0, 0], [0, 1.0]])
    assert _raised(cells, np.array([0, 0, 1, 1]), weights).tolist() == [True, False]


# joining table and sample


def test_genes_join_by_id_or_symbol_whichever_finds_more() -> None:
    types, ids = [made_type("AA BB CC")], {"AA": "ENSG01", "BB": "ENSG02"}
    versioned = Features(np.array(["ENSG01.3", "ENSG02.1", "ENSG09"]), np.array(["x", "y", "cc"]))
    by_id = join_features(types, ids, versioned)
    assert (by_id.joined_by, by_id.genes, by_id.columns.tolist()) == ("Ensembl id", ("AA", "BB"), [0, 1])
    by_symbol = join_features(types, ids, Features(np.array(["a", "b", "c"]), np.array(["Cc", "Bb", "Aa"])))
    assert (by_symbol.joined_by, by_symbol.genes, by_symbol.columns.tolist()) == (
        "symbol",
        ("AA", "BB", "CC"),
        [2, 1, 0],
    )


def test_sample_takes_the_first_counted_cell_of_each_stretch() -> None:
    counts = np.ones((10, 2), dtype=np.int32)
    counts[:, 0] = np.arange(10)
    counts[[0, 2, 3]] = 0
    found = sample.read_sample(in_memory(counts, ["a", "b"]), most=5)
    assert found[:, 0].toarray().ravel().tolist() == [1, 4, 6, 8]


# whole samples


def test_made_kinds_get_their_names(made: tuple[CountMatrix, np.ndarray], fitted: Fitted) -> None:
    matrix, truth = made
    found = MarkersBackend().classify(matrix, fitted)
    assert np.mean(np.array(labels(found)) == truth) > 0.98
    right = np.array([KINDS[kind] for kind in truth])
    assert np.mean(np.array(labels(found, "broad_cell_type")) == right) > 0.98
    assert not (found.labels[["broad_cell_type", "coarse_cell_type", "fine_cell_type"]] == "").any(axis=None)
    named = found.labels["broad_cell_type"] != UNASSIGNED
    assert found.labels["cell_type_ontology_term_id"][named].str.fullmatch(r"CL:\d{7}").all()
    assert ((found.labels["reason"] == "") == (found.labels["fine_cell_type"] != UNASSIGNED)).all()
    assert fitted.meta["genes_found"] == fitted.meta["genes_wanted"]
    assert set(KINDS) <= set(fitted.meta["top_markers"])
    table = load_markers("human")
    b_cell = next(t for t in table.coarse if t.name == "B cell")
    assert set(fitted.meta["top_markers"]["B cell"]) <= {*b_cell.defining, *b_cell.supporting}
    assert fitted.alerts == ()


def test_probabilities_are_rounded_and_shrink_with_the_level(
    made: tuple[CountMatrix, np.ndarray], fitted: Fitted
) -> None:
    values = MarkersBackend().classify(made[0], fitted).values
    for value in values.values():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, value.astype(np.float64).round(4).astype(np.float32))
    both = ~np.isnan(values["coarse_confidence"])
    assert np.all(values["coarse_confidence"][both] <= values["broad_confidence"][both])
    assert np.all(values["confidence"][both] <= values["coarse_confidence"][both])


@pytest.mark.parametrize(("n_cells", "n_parts"), [(360, 2), (360, 7), (60, 60)])
def test_any_split_gives_the_same_bytes(
    n_cells: int, n_parts: int, made: tuple[CountMatrix, np.ndarray], fitted: Fitted
) -> None:
    matrix, backend = made[0].rows(0, n_cells), MarkersBackend()
    edges = np.linspace(0, n_cells, n_parts + 1).astype(int)
    parts = [backend.classify(matrix.rows(a, b), fitted) for a, b in itertools.pairwise(edges)]
    assert_same(backend.classify(matrix, fitted), Predictions.concatenate(parts))


def test_threads_and_repeats_do_not_change_what_is_learnt(made: tuple[CountMatrix, np.ndarray], fitted: Fitted) -> None:
    with threadpool_limits(4):
        again = MarkersBackend().fit(made[0], Model(CARD))
    assert again.meta == fitted.meta
    assert {k: v.tobytes() for k, v in again.arrays.items()} == {k: v.tobytes() for k, v in fitted.arrays.items()}


def test_permuted_features_give_the_same_labels(made: tuple[CountMatrix, np.ndarray], fitted: Fitted) -> None:
    """The order of the features in the file does not matter."""
    matrix = made[0]
    order = np.random.default_rng(5).permutation(matrix.n_features)
    shuffled = in_memory(matrix.counts()[:, order], matrix.features.names[order])
    assert_same(MarkersBackend().classify(matrix, fitted), annotate(shuffled))


def test_a_stored_model_names_cells_as_before(made: tuple[CountMatrix, np.ndarray], fitted: Fitted, tmp_path) -> None:
    write_fitted(tmp_path / "fitted.h5", fitted)
    backend = MarkersBackend()
    assert_same(backend.classify(made[0], fitted), backend.classify(made[0], read_fitted(tmp_path / "fitted.h5")))


def test_cells_without_counts_are_unassigned(made: tuple[CountMatrix, np.ndarray]) -> None:
    counts = made[0].counts().toarray()
    counts[[0, 17]] = 0
    found = annotate(in_memory(counts, made[0].features.names))
    empty = found.labels.iloc[found.label_codes[[0, 17]]]
    assert (empty["broad_cell_type"] == UNASSIGNED).all()
    assert (empty["reason"] == "no counts").all()
    assert (empty["cell_type_ontology_term_id"] == "").all()
    assert np.isnan(found.values["confidence"][[0, 17]]).all()
    assert labels(found, "reason").count("no counts") == 2


@pytest.mark.parametrize("n_cells", [1, 2, 3, 30])
def test_few_cells_are_enough(n_cells: int, made: tuple[CountMatrix, np.ndarray]) -> None:
    matrix, truth = made
    found = annotate(in_memory(matrix.counts()[:n_cells], matrix.features.names))
    named = [(found_name, kind) for found_name, kind in zip(labels(found), truth, strict=False)]
    assert len(named) == n_cells
    assert all(name in (kind, UNASSIGNED) for name, kind in named)


def test_a_pure_sample_is_named(made: tuple[CountMatrix, np.ndarray]) -> None:
    matrix, truth = made
    found = annotate(in_memory(matrix.counts()[truth == "B cell"], matrix.features.names))
    assert np.mean(np.array(labels(found, "broad_cell_type")) == "B lineage cell") > 0.95


def test_a_small_panel_gets_broad_labels_and_a_warning(
    table: MarkerTable, made: tuple[CountMatrix, np.ndarray]
) -> None:
    matrix, truth = made
    kept = [g for t in table.coarse if t.name in KINDS for g in (*t.defining, *t.supporting[:6])]
    fillers = [f"FILLER{i}" for i in range(100)]
    columns = [matrix.features.names.tolist().index(g) for g in (*dict.fromkeys(kept), *fillers)]
    panel = in_memory(matrix.counts()[:, columns], matrix.features.names[columns])
    backend = MarkersBackend()
    fitted = backend.fit(panel, Model(CARD))
    assert [(a.level, a.title) for a in fitted.alerts] == [("WARN", "Targeted panel: broad labels only")]
    found = backend.classify(panel, fitted)
    assert set(labels(found)) == {UNASSIGNED}
    broad = np.array(labels(found, "broad_cell_type"))
    assert np.mean(broad == np.array([KINDS[kind] for kind in truth])) > 0.9
    assert set(labels(found, "reason")) <= {"targeted panel: broad labels only", "weak evidence for any type"}


def test_a_panel_on_which_one_type_is_left_names_nobody(
    table: MarkerTable, made: tuple[CountMatrix, np.ndarray]
) -> None:
    """There the others may be of types that the panel does not measure."""
    matrix, truth = made
    genes = next(t for t in table.types if t.name == "B cell").defining
    names = matrix.features.names.tolist()
    columns = [names.index(g) for g in (*genes, *(f"FILLER{i}" for i in range(100)))]
    panel = in_memory(matrix.counts()[truth == "B cell"][:, columns], matrix.features.names[columns])
    assert set(labels(annotate(panel), "broad_cell_type")) == {UNASSIGNED}


def test_features_without_any_marker_are_an_input_error() -> None:
    matrix = in_memory(np.ones((3, 4), dtype=int), ["w", "x", "y", "z"])
    with pytest.raises(InputError, match=r"has only 0 of the \d+ human marker genes.*first feature is w \(w\)"):
        MarkersBackend().fit(matrix, Model(CARD))


def test_a_sample_without_counts_is_an_input_error(table: MarkerTable) -> None:
    matrix = in_memory(np.zeros((3, 4), dtype=int), [*table.types[0].defining][:4])
    with pytest.raises(InputError, match=re.escape("The matrix")):
        MarkersBackend().fit(matrix, Model(CARD))


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_missing_from_the_table_gets_no_confident_wrong_name(table: MarkerTable, kind: str) -> None:
    """Cells of a kind that the table lacks stay without a name, rather than get a neighbour's; others keep theirs.

    Of four samples together: how the clusters of cells without markers fall is chance. B cells do in each.
    """
    lacking = tuple(t for t in table.types if t.broad != KINDS[kind])
    confident = []
    for seed in range(4):
        matrix, truth = made_sample(table, seed=seed)
        found = annotate(matrix, MarkersBackend(lambda _: MarkerTable(table.species, lacking, table.gene_ids)))
        confident.append(np.mean(np.nan_to_num(found.values["broad_confidence"])[truth == kind] > 0.8))
        assert np.mean(np.array(labels(found))[truth != kind] == truth[truth != kind]) > 0.95
    assert np.mean(confident) < 0.2
    assert kind != "B cell" or max(confident) < 0.2


def test_real_blood_cells_get_their_broad_names(shared) -> None:
    """Every third cell of pbmc3k, all types of the table offered."""
    source = TenxH5Source(shared("data", "human_pbmc3k_filtered_feature_bc_matrix.h5"))
    rows = np.arange(0, source.n_cells, 3)
    barcodes = source.read_barcodes(0, source.n_cells)[rows]
    features = source.features
    counts = source.read_rows(0, source.n_cells)[rows]
    found = annotate(in_memory(counts, features.names, ids=features.ids, barcodes=barcodes))
    known = pd.read_csv(shared("data", "human_pbmc3k_labels.csv")).set_index("barcode")["label"].reindex(barcodes)
    broad_of = {"B": "B lineage cell", "NK": "innate lymphoid cell", "Platelet": "megakaryocyte lineage cell"}
    broad_of |= dict.fromkeys(["Naive CD4 T", "Memory CD4 T", "CD8 T"], "T cell")
    broad_of |= dict.fromkeys(["CD14+ Mono", "FCGR3A+ Mono", "DC"], "mononuclear phagocyte")
    truth = known.map(broad_of)
    right = np.array(labels(found, "broad_cell_type")) == truth.to_numpy()
    assert right[truth.notna()].mean() > 0.95


# trust and evidence


def test_elevation_is_the_log_of_observed_over_expected() -> None:
    """A cluster of 10,000 UMIs in a sample of 40,000: 99 counts where 1 in 1,000 of the rest makes 10 expected."""
    counts = evidence.ClusterCounts(
        markers=np.zeros((1, 1)),
        totals=np.array([10_000.0]),
        genes=np.array([[99.0, 0.0]]),
        gene_totals=np.array([10_000.0]),
        all_genes=np.array([99.0 + 30, 60.0]),
        all_umis=40_000.0,
    )
    np.testing.assert_allclose(evidence.elevation(counts), np.log([[100 / 11, 1 / 21]]))


def test_a_random_set_of_genes_is_not_enriched(rng: np.random.Generator) -> None:
    """The z of a drawn set of genes of any abundance has mean 0 and sd 1."""
    abundance = rng.lognormal(3, 2, 2000)
    logs = rng.normal(0.2, 0.5, (1, 2000)) + 0.3 * np.log(abundance)
    z = evidence.standardised(logs, abundance)[0]
    drawn = np.array([z[rng.permutation(2000)[:25]].sum() / 5 for _ in range(2000)])
    assert abs(drawn.mean()) < 0.1
    assert abs(drawn.std() - 1) < 0.1


def test_residuals_are_counts_over_the_root_of_what_is_expected_up_to_ten() -> None:
    """4 counts where 100 UMIs at a rate of .04 make 4 expected: 4 / 2; one count of a gene of rate 1e-6: 10 at most."""
    found = embedding.residuals(made_cells([[4, 1, 95]]), np.array([0.04, 1e-6, 0.95]))
    np.testing.assert_allclose(found.toarray()[0, :2], [2, 10])


def test_components_have_length_one(rng: np.random.Generator) -> None:
    cells = made_cells(rng.poisson(3.0, (60, 20)))
    components = embedding.learn_embedding(cells).components(cells)
    np.testing.assert_allclose(np.linalg.norm(components, axis=1), 1)


def test_a_handful_of_cells_is_found_by_its_markers_and_its_other_genes(rng: np.random.Generator) -> None:
    """Five cells among 400 have two markers and twenty other genes of their own; no chance likeness makes a group."""
    rates = np.full((405, 300), 0.5)
    rates[:200, 100:150] = 2.0  # two common kinds
    own = np.arange(400, 405)
    rates[400:, [0, 1]] = rates[400:, 200:220] = 4.0
    rates[:400, 0:10] = 0.01
    cells = made_cells(rng.poisson(rates))
    weights, genes = np.zeros((300, 2)), np.arange(300)
    weights[[0, 1], 0] = weights[[4, 5], 1] = 1.0  # nobody has those of the second type
    cluster = np.where(np.arange(405) < 200, 0, 1)
    groups = rare.learn_groups(cells, weights, genes, cluster, cluster)
    assert groups.types.tolist() == [0]
    assert np.flatnonzero(groups.of_cells(cells) >= 0).tolist() == own.tolist()
    strangers = made_cells(rng.poisson(rates[[0, 399, 400, 401]]))
    assert groups.of_cells(strangers).tolist() == [-1, -1, 0, 0]


def test_cells_alike_in_their_markers_alone_are_no_group(rng: np.random.Generator) -> None:
    rates = np.full((400, 300), 0.5)
    rates[:, 0:10] = 0.01
    counts = rng.poisson(rates)
    counts[:5, [0, 1]] = 2
    weights, cluster = np.zeros((300, 1)), np.zeros(400, dtype=np.int64)
    weights[[0, 1], 0] = 1.0
    groups = rare.learn_groups(made_cells(counts), weights, np.arange(300), cluster, cluster)
    assert not len(groups.types)


def test_rare_cells_are_named_in_any_partition(made: tuple[CountMatrix, np.ndarray]) -> None:
    """Monocytes thinned out to four in 244, where no cluster is theirs."""
    matrix, truth = made
    gone = np.flatnonzero(truth == "monocyte")[4:]
    kept = np.setdiff1d(np.arange(len(truth)), gone)
    few = in_memory(matrix.counts()[kept], matrix.features.names)
    named = annotate(few)
    assert [labels(named)[i] for i in np.flatnonzero(truth[kept] == "monocyte")] == ["monocyte"] * 4
    assert labels(named).count("monocyte") == 4
    fitted = MarkersBackend().fit(few, Model(CARD))
    assert len(fitted.arrays["coarse/groups/types"])
    parts = [MarkersBackend().classify(few.rows(a, b), fitted) for a, b in ((0, 100), (100, len(kept)))]
    assert_same(Predictions.concatenate(parts), named)


def test_halves_of_the_markers_share_no_gene() -> None:
    kind = made_type("A B C", "D E F G")
    first, second = ({*t.defining, *t.supporting} for (t,) in evidence.marker_halves([kind]))
    assert (first, second) == ({"A", "C", "E", "G"}, {"B", "D", "F"})


def test_agreement_is_the_share_of_votes_in_the_cluster() -> None:
    """Cluster 0 has votes for broad types 0, 0, 1; cluster 1 none; cluster 2 one for 1."""
    found = trust._agreement(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]), (3, 2))
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [0, 0], [0, 1]])


def test_leads_are_over_the_best_of_other_and_of_the_own_broad_type() -> None:
    """Types 0 and 1 are kin, 2 is not: of values 1, 3, 7 the first is 6 behind a foreign type and 2 behind its kin."""
    foreign, kin = evidence._leads(np.array([[1.0, 3.0, 7.0]]), np.array([0, 0, 1]))
    assert foreign.tolist() == [[6, 4, -4]]
    assert kin.tolist() == [[2, -2, 0]]


def test_trust_adds_the_clusters_and_the_cells_log_odds() -> None:
    """At 400 UMIs slopes do not count; broad log odds are 1 of the cluster and .5 of the cell, coarse ones 0."""
    learnt = trust.Trust(
        broad_of_type=np.array([0, 1]),
        broad_rows=np.array([0, 2]),
        log_odds=np.array([[[1.0, -5.0]], [[0.0, 0.0]]]),
        slopes=np.full((2, 1, 2), 9.0),
        own_weights=np.array([[[0.5, 0, 0, 0, 0], [7.0, 0, 0, 0, 0]], np.zeros((2, 5))]),
    )
    posterior = np.array([[0.9, 0.1]])
    nothing = np.zeros((1, 2))
    match = Match(nothing, nothing, nothing, posterior, np.array([0]), nothing)
    pick = trust.pick_types(learnt, match, np.array([400]))
    assert (pick.broad.tolist(), pick.best.tolist()) == ([0], [0])
    broad = 1 / (1 + np.exp(-1.5))
    assert pick.broad_probability[0] == pytest.approx(broad)
    assert pick.coarse_probability[0] == pytest.approx(broad / 2)


def test_evidence_names_the_markers_that_are_up(
    table: MarkerTable, made: tuple[CountMatrix, np.ndarray], fitted: Fitted
) -> None:
    """Each row's genes are markers of its type; most defining genes of a B cell are on in its clusters."""
    rows = [row for row in fitted.meta["evidence"] if row["cell_type"] == "B cell"]
    b_cell = next(node for node in table.types if node.name == "B cell")
    assert sum(row["n_cells"] for row in rows) > 0.8 * np.sum(made[1] == "B cell")
    for row in rows:
        up = {text.split(":")[0] for text in row["markers_up"].split()}
        assert up <= {*b_cell.defining, *b_cell.supporting}
        assert {*row["defining_on"].split(), *row["defining_off"].split()} == set(b_cell.defining)
        assert len(row["defining_on"].split()) > len(row["defining_off"].split())


def test_users_markers_and_tissue_reach_the_model(made: tuple[CountMatrix, np.ndarray], table: MarkerTable) -> None:
    """A table of the request replaces the packaged one; a tissue lifts the penalty from its types."""
    matrix, truth = made
    few = replace(table, types=tuple(t for t in table.types if t.broad == KINDS["hepatocyte"]))
    settings = {"markers": as_rows(few), "tissue": "liver"}
    fitted = MarkersBackend().fit(matrix, Model(CARD, settings=settings))
    found = np.array(labels(MarkersBackend().classify(matrix, fitted), "broad_cell_type"))
    assert set(found) <= {KINDS["hepatocyte"], UNASSIGNED}
    assert np.mean(found[truth == "hepatocyte"] == KINDS["hepatocyte"]) > 0.9
    penalty = _coherence(np.array([[5.0, 0.0], [5.0, 0.0]]), [made_type("A", tissues=("lung",)),
                                                            made_type("B", tissues=("liver",))], "liver")  # fmt: skip
    assert penalty.tolist() == [-0.6, 0]
