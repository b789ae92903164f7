"""The reference model: what is drawn, joined, learnt and scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import nbinom

from cytonym.errors import InputError
from cytonym.matrix import Features, in_memory
from cytonym.reference_model.drawn import drawn_cells, drawn_training_set
from cytonym.reference_model.fusion import Fusion, PanelCurves, hat_weights
from cytonym.reference_model.genes import join_genes, take_genes, telling
from cytonym.reference_model.labels import NONE, REASONS, Levels, Nodes, call_cells
from cytonym.reference_model.learn import calibration_error, learn_reference, trust_of
from cytonym.reference_model.linear import linear_features
from cytonym.reference_model.novelty import learn_novelty
from cytonym.reference_model.profiles import ProfileScorer, platform_effect, type_profiles
from cytonym.reference_model.query import fit_query, row_totals, score_cells
from cytonym.reference_model.stored import Query, ReferenceModel
from cytonym.reference_model.strangers import strangers, thinned
from cytonym.reference_model.training import ReferenceType, TrainingSet
from made_reference import ONTOLOGY, TYPES, blood_training


def features(names: list[str], ids: list[str] | None = None) -> Features:
    return Features(np.array(ids or names), np.array(names))


def test_drawn_cells_have_the_shares_of_their_average():
    """Many cells add up to their average, whatever its scale, and genes that it lacks stay at zero."""
    averages = np.array([[5.0, 3.0, 2.0, 0.0], [0.0, 0.0, 10.0, 30.0]])
    counts = drawn_cells(averages, np.array([400, 100]), seed=1)
    assert counts.shape == (500, 4)
    assert counts.dtype == np.int32
    shares = counts[:400].sum(axis=0) / counts[:400].sum()
    np.testing.assert_allclose(shares, [[0.5, 0.3, 0.2, 0.0]], atol=0.04)
    assert counts[400:, :2].nnz == 0
    assert 2500 < np.median(np.asarray(counts.sum(axis=1))) < 3500


def test_types_with_several_averages_get_cells_of_each():
    """Forty cells a type: twenty of each of its two averages, and forty of the one of the other type."""
    types = (ReferenceType("T"), ReferenceType("B"))
    training = drawn_training_set(np.eye(3), [0, 1, 0], features(["A", "B", "C"]), types)
    assert np.bincount(training.type_codes).tolist() == [40, 40]
    assert np.bincount(training.group_codes).tolist() == [20, 40, 20]
    assert training.drawn


def test_ribosomal_and_mitochondrial_genes_are_not_looked_at():
    """In the letters of either species; genes that only look like them stay."""
    names = np.array(["MT-CO1", "mt-Nd1", "RPL13A", "Rps6", "Mrpl2", "MALAT1", "RPLP0", "MTOR", "CD3E", "RPRM"])
    assert names[telling(names)].tolist() == ["MTOR", "CD3E", "RPRM"]


def test_genes_join_by_what_finds_more():
    """Ids with versions count as ids; the filter goes by the sample's symbols, too."""
    genes = features(["CD3E", "MS4A1", "LYZ"], ["ENSG01", "ENSG02", "ENSG03"])
    by_id = join_genes(genes, features(["x", "y", "RPL3"], ["ENSG03.7", "ENSG01.12", "ENSG02.1"]))
    assert (by_id.places.tolist(), by_id.joined_by, by_id.n_found, by_id.n_telling) == ([2, 0, -1], "gene ids", 2, 2)
    by_symbol = join_genes(genes, features(["LYZ", "CD3E", "LYZ"]))
    assert (by_symbol.places.tolist(), by_symbol.joined_by, by_symbol.n_found) == ([2, 0, 2], "gene symbols", 2)


def test_taken_genes_stand_in_the_models_order():
    """Two features of one gene are added up; a feature that is no gene of the model is left out."""
    counts = sp.csr_matrix(np.array([[1, 2, 3, 4], [0, 5, 0, 6]], dtype=np.int32))
    taken = take_genes(counts, np.array([2, 0, 2, -1], dtype=np.int32), 3)
    assert taken.toarray().tolist() == [[2, 0, 4], [5, 0, 0]]


def test_profiles_are_shrunk_to_their_parents():
    """10,000 UMIs of the parent's shares join each type's own; the parents are shrunk to all types alike."""
    counts = sp.csr_matrix(np.array([[6000, 4000], [0, 10000], [10000, 0]], dtype=np.float32))
    alone = type_profiles(counts, np.array([0, 1, 2]), np.array([0, 1, 2]))
    overall = 1.6 / 3
    assert alone[0, 0] == pytest.approx(((0.6 + overall) / 2 + 0.6) / 2)
    siblings = type_profiles(counts, np.array([0, 1, 2]), np.array([0, 0, 1]))
    assert siblings[1, 0] == pytest.approx((2 * 0.3 + overall) / 3 / 2, abs=1e-6)
    np.testing.assert_allclose(siblings.sum(axis=1), 1)


def test_the_profile_score_is_the_likelihood_ratio_of_the_negative_binomial():
    """At 64 UMIs, a whole half octave: log NB(x; n mu'') - log NB(x; n b), summed over genes."""
    profiles = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    scorer = ProfileScorer.of(profiles, np.zeros(3), np.array([5e5, 3e5, 2e5]))
    x = np.array([40, 4, 20])
    score = scorer.score(sp.csr_matrix(x[None].astype(np.float32)), np.array([64.0]))
    sample = (np.array([5e5, 3e5, 2e5]) + 1e4 * profiles.mean(axis=0)) / 1.01e6
    background = 0.9 * sample + 0.1 * profiles.mean(axis=0)
    for k in range(2):
        mean = 64 * (0.9 * profiles[k] + 0.1 * background)
        ratio = nbinom.logpmf(x, 1, 1 / (1 + mean)) - nbinom.logpmf(x, 1, 1 / (1 + 64 * background))
        assert score[0, k] == pytest.approx(ratio.sum(), abs=1e-3)


def test_the_platform_effect_spares_a_single_types_marker():
    """A gene of all types is moved by 0.7 of its log surplus, one of a single type not at all."""
    profiles = np.array([[0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    effect = platform_effect(profiles, np.array([2e6, 2e6, 0]), np.array([0.5, 0.5]))
    assert effect[0] == pytest.approx(0.7 * 1 * np.log(1.0), abs=1e-5)
    assert effect[1:] == pytest.approx([0, 0])
    more = platform_effect(profiles, np.array([3e6, 0.5e6, 0.5e6]), np.array([0.5, 0.5]))
    assert more[0] == pytest.approx(0.7 * np.log(1.5), abs=1e-4)


def test_linear_features_have_unit_length():
    """log(1 + counts per 10,000) of the wanted genes, over the total of all genes; no counts, no features."""
    counts = sp.csr_matrix(np.array([[1, 3, 6], [0, 0, 0]], dtype=np.float32))
    found = linear_features(counts, np.array([0, 2]), np.zeros(3)).toarray()
    logs = np.log([1001, 6001])
    np.testing.assert_allclose(found[0], logs / np.sqrt((logs**2).sum()), rtol=1e-6)
    assert not found[1].any()
    doubled = linear_features(counts, np.array([0, 2]), np.log([1, 1, 2.0])).toarray()  # 1, 3 and 3 remain
    logs = np.log([1 + 1e4 / 7, 1 + 3e4 / 7])
    np.testing.assert_allclose(doubled[0], logs / np.sqrt((logs**2).sum()), rtol=1e-6)


def test_curves_are_linear_between_knots_and_flat_beyond():
    """Half way from 40 to 100 UMIs, in logs, both knots count half."""
    weights = hat_weights(np.array([1.0, 40.0, np.sqrt(40 * 100.0), 1e6]))
    assert weights[0, 0] == weights[1, 1] == weights[3, 6] == 1
    np.testing.assert_allclose(weights[2, [1, 2]], [0.5, 0.5])
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_the_fused_score_is_what_the_formula_says():
    """a S_A + b S_D + delta + eta (log n - 5), then softmax; uniform without counts."""
    curves, offsets = (np.full(7, np.log(0.5)), np.full(7, np.log(2.0))), (np.array([0.1, 0.0]), np.array([0.0, 0.2]))
    fusion = Fusion(*curves, *offsets, trust=np.ones(()))
    scores = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[3.0, 1.0], [3.0, 1.0]])
    posterior = fusion.posterior(*scores, np.array([100.0, 0.0]))
    first, second = 0.5 + 6 + 0.1, 1 + 2 + 0.2 * (np.log(100) - 5)
    assert posterior[0, 0] == pytest.approx(1 / (1 + np.exp(second - first)))
    assert posterior[1].tolist() == [0.5, 0.5]


def test_trust_is_a_power_of_the_probabilities():
    """Odds of 9 to 1 are 3 to 1 at half the trust; scores far behind do no harm."""
    nothing = np.zeros(7)
    fusion = Fusion(nothing, nothing, np.zeros(2), np.zeros(2), trust=np.asarray(0.5))
    posterior = fusion.posterior(np.log([[9.0, 1.0]]), np.zeros((1, 2)), np.array([np.exp(5)]))
    np.testing.assert_allclose(posterior, [[0.75, 0.25]])
    far = fusion.posterior(np.array([[0.0, -1e6]]), np.zeros((1, 2)), np.array([150.0]))
    np.testing.assert_allclose(far, [[1, 0]], atol=1e-12)


def test_a_panel_gets_the_curves_of_its_number_of_genes():
    """Half-way between 100 and 10,000 genes in the logarithm are 1,000; beyond the ends the nearest."""
    flat = np.ones(7)
    fusion = Fusion(flat, flat, np.zeros(2), np.zeros(2), trust=np.ones(()))
    panels = PanelCurves(np.array([100.0, 10_000.0]), np.array([0 * flat, flat]), np.array([2 * flat, flat]))
    for n_genes, log_a, log_b in ((1000, 0.5, 1.5), (10, 0, 2), (10_000, 1, 1), (20_000, 1, 1)):
        found = panels.fusion_for(fusion, n_genes)
        np.testing.assert_allclose(found.log_a, log_a * flat)
        np.testing.assert_allclose(found.log_b, log_b * flat)


@pytest.mark.parametrize(("rows", "trust"), [([0, 1], 0.45), ([0, 1, 0, 1], 1.0)], ids=["one", "several"])
def test_types_of_one_average_are_trusted_less(rows, trust):
    """Cells drawn from one average are too much alike."""
    averages = np.random.default_rng(0).gamma(0.5, 1, (len(rows), 40))
    types = (ReferenceType("T"), ReferenceType("B"))
    names = features([f"G{i}" for i in range(40)])
    assert trust_of(drawn_training_set(averages, rows, names, types)) == trust
    assert trust_of(replace(blood_training(), drawn=False)) == 1


def test_novelty_is_standard_on_known_cells_and_low_on_others(rng):
    """Evidence grows as the root of n with 2 for type 0 and 4 for type 1; a cell with 1 instead of 4 is rare."""
    codes = np.arange(4000) % 2
    totals = np.exp(rng.uniform(np.log(30), np.log(5000), 4000))
    evidence = np.array([2.0, 4.0])[codes] + rng.normal(0, 0.3, 4000)
    scores = np.repeat((evidence * np.sqrt(totals))[:, None], 2, axis=1)
    learnt = learn_novelty(scores, totals, codes)
    z = learnt.z(scores, totals, codes)
    assert abs(z.mean()) < 0.05
    assert z.std() == pytest.approx(1, abs=0.05)
    one = learnt.z(np.array([[0.0, 20.0]]), np.array([400.0]), np.array([1]))
    assert one[0] == pytest.approx(-10, abs=0.6)
    assert learnt.tail(one)[0] < 1e-6
    assert learnt.tail(np.array([0.0]))[0] == pytest.approx(0.5, abs=0.03)
    elsewhere = learnt.for_sample(z - 2)  # a platform on which all cells show less evidence
    assert elsewhere.shift == pytest.approx(-2, abs=0.1)
    assert elsewhere.z(scores, totals, codes).mean() == pytest.approx(2, abs=0.1)
    assert learnt.for_sample(z + 2).shift == pytest.approx(2, abs=0.1)


def called(posterior: list[float], *, tail: float = 0.5, umis: float = 300, own_labels: bool = True):
    nodes, coarse, broad = Nodes.of(TYPES, ONTOLOGY), Levels.of(TYPES, "coarse"), Levels.of(TYPES, "broad")
    calls = call_cells(
        np.array([posterior]),
        np.array([tail]),
        np.array([umis]),
        nodes,
        coarse,
        broad,
        enough_umis=100,
        own_labels=own_labels,
    )
    names = [*(kind.label for kind in TYPES), *nodes.names, "Unassigned"]
    level = [names[calls.fine[0]], *(x.names[c[0]] if c[0] != NONE else "-" for x, c in ((coarse, calls.coarse),))]
    broad_name = broad.names[calls.broad[0]] if calls.broad[0] != NONE else "-"
    return (*level, broad_name, round(float(calls.probability[0]), 2), REASONS[calls.reason[0]])


def test_labels_fall_back_to_the_deepest_probable_ancestor():
    """B cells, monocytes, NK cells: B and NK are lymphocytes, all are leukocytes."""
    assert called([0.8, 0.1, 0.1])[:4] == ("B cells", "B cell", "lymphoid", 0.8)
    assert called([0.5, 0.1, 0.4]) == ("lymphocyte", "-", "lymphoid", 0.9, "between types")
    assert called([0.4, 0.4, 0.2]) == ("leukocyte", "-", "-", 1.0, "between types")
    assert called([0.4, 0.4, 0.2], umis=50)[4] == "too few counts"


def test_a_cell_unlike_its_type_is_named_after_an_ancestor_or_not_at_all():
    """The rarer its evidence, the less it is called."""
    assert called([0.98, 0.01, 0.01], tail=0.005)[::4] == ("lymphocyte", "unlike its own type")
    assert called([0.98, 0.01, 0.01], tail=1e-5)[::4] == ("Unassigned", "unlike any type")
    assert called([0.34, 0.33, 0.33], umis=0)[::4] == ("Unassigned", "no counts")
    assert called([0.98, 0.01, 0.01], own_labels=False)[0] == "lymphocyte"


def test_calibration_error_is_the_mean_gap():
    """Ten cells of .95 of which nine are right, ten of .55 of which five are."""
    confidence, right = np.repeat([0.95, 0.55], 10), np.array([1] * 9 + [0] + [1] * 5 + [0] * 5)
    assert calibration_error(confidence, right) == pytest.approx(0.05)


def test_thinned_and_strange_cells_have_the_depth_wanted(rng):
    """About 100 UMIs of 1,000; a cell that has fewer stays as it is. Counts stay whole."""
    counts = sp.csr_matrix(rng.poisson(5, (500, 200)).astype(np.float32))
    assert np.median(row_totals(thinned(counts, 100, 0.4, rng))) == pytest.approx(100, rel=0.1)
    assert (thinned(counts, 1e6, 0.1, rng) != counts).nnz == 0
    strange = strangers(counts, np.zeros(500, dtype=int), 100, 0.4, rng)
    assert 60 < np.median(row_totals(strange)) < 160
    assert (strange.data == np.floor(strange.data)).all()
    assert (np.asarray(strange.sum(axis=0)) == 0).sum() > 10  # genes that the other study lacks


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    return blood_training()


@pytest.fixture(scope="module")
def model(training) -> ReferenceModel:
    return learn_reference(training, ONTOLOGY)


@pytest.fixture(scope="module")
def sample(training):
    """Twenty cells of each type at about 150 UMIs, and one without counts."""
    rng = np.random.default_rng(3)
    counts = thinned(training.counts[np.arange(120) % 40 < 20], 150, 0.4, rng).tolil()
    counts[0] = 0
    return in_memory(counts.tocsr(), training.features.names, ids=training.features.ids)


def scores_of(model: ReferenceModel, matrix):
    return score_cells(fit_query(model, matrix), matrix.counts())


def test_known_cells_are_named_right(model, sample):
    """Rows of the posterior sum to 1; a cell without counts has the uniform one."""
    scores = scores_of(model, sample)
    np.testing.assert_allclose(scores.posterior.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(scores.posterior[0], 1 / 3, rtol=1e-6)
    assert (np.argmax(scores.posterior[1:], axis=1) == np.repeat([0, 1, 2], 20)[1:]).mean() > 0.95


def test_gene_order_and_genes_without_counts_do_not_matter(training, model, sample, rng):
    """Neither in the reference nor in the sample."""
    order = rng.permutation(len(training.features) + 3)
    counts = sp.hstack([training.counts, sp.csr_matrix((120, 3), dtype=np.int32)], format="csr")[:, order]
    names = np.concatenate([training.features.names, ["X1", "X2", "X3"]])[order]
    ids = np.concatenate([training.features.ids, ["X1", "X2", "X3"]])[order]
    again = learn_reference(replace(training, features=Features(ids, names), counts=counts), ONTOLOGY)
    assert again.meta() == model.meta()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])
    padded = sp.hstack([sample.counts(), sp.csr_matrix((60, 3), dtype=np.int32)], format="csr")[:, order]
    found = scores_of(model, in_memory(padded, names, ids=ids))
    np.testing.assert_array_equal(found.posterior, scores_of(model, sample).posterior)


def test_a_panel_of_telling_genes_is_trusted_more(model):
    """On a panel of genes that differ between types a score says more than among thousands that do not."""
    assert model.panels.n_genes.tolist() == [32, 128, 512, len(model.genes)]
    np.testing.assert_array_equal(model.panels.log_a[-1], model.fusion.log_a)
    assert (model.panels.log_a[0] > model.panels.log_a[-1]).mean() > 0.5


def test_restricting_to_all_genes_is_the_identity(model):
    """A panel's model is the same model with fewer genes, whose shares sum to 1 again."""
    same = model.restricted(np.arange(len(model.genes)))
    assert all((same.arrays()[name] == array).all() for name, array in model.arrays().items())
    half = model.restricted(np.arange(0, len(model.genes), 2))
    np.testing.assert_allclose(half.profiles.sum(axis=1), 1, rtol=1e-5)
    assert half.linear.weights.shape[0] == len(half.linear.genes)


def test_a_model_and_a_query_survive_being_stored(model, sample):
    """Arrays and JSON values are all there is."""
    again = ReferenceModel.of(model.meta(), model.arrays())
    query = fit_query(again, sample)
    restored = Query.of(query.meta(), query.arrays())
    expected = scores_of(model, sample)
    np.testing.assert_array_equal(score_cells(restored, sample.counts()).posterior, expected.posterior)


def test_expected_figures_cover_all_depths_and_levels(model):
    """They are what the card shows."""
    assert {row["level"] for row in model.expected} == {"fine", "coarse", "broad", "reported"}
    deep = next(row for row in model.expected if row["level"] == "fine" and row["umis"] == 1000)
    assert deep["accuracy"] > 0.9
    assert 0 <= deep["ece"] < 0.15


def test_normalised_values_are_taken_as_few_counts(model, training):
    """Counts per 10,000, or their logarithms, give the labels of the counts."""
    counts = training.counts[:60].astype(np.float64)
    per_ten_thousand = sp.diags(1e4 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
    features = training.features

    class Values:
        n_cells = 60

        def __init__(self, values):
            self.values, self.features = sp.csr_matrix(values, dtype=np.float32), features

        def read_rows(self, start, stop):
            return self.values[start:stop]

    for values in (per_ten_thousand, per_ten_thousand.log1p()):
        matrix = replace(in_memory(counts[:1], features.names), source=Values(values), stop=60)
        scores = scores_of(model, matrix)
        assert scores.totals.max() <= 400.5
        assert (np.argmax(scores.posterior, axis=1) == training.type_codes[:60]).mean() > 0.95


def test_a_reference_needs_two_types_and_genes_that_tell(training):
    """Each is a plain error."""
    one = replace(training, type_codes=np.zeros(120, dtype=np.int32))
    with pytest.raises(InputError, match="fewer than two types"):
        learn_reference(one, ONTOLOGY)
    ribosomal = Features(training.features.ids, np.array([f"RPL{i}" for i in range(len(training.features))]))
    with pytest.raises(InputError, match="no gene that tells"):
        learn_reference(replace(training, features=ribosomal), ONTOLOGY)


def test_no_common_gene_is_an_error_and_few_common_genes_give_no_own_labels(model, training):
    """The error shows a gene of both."""
    with pytest.raises(InputError, match=r"none of the reference's .* FOO"):
        fit_query(model, in_memory(np.ones((2, 2)), ["FOO", "BAR"]))
    few = in_memory(training.counts[:, :150], training.features.names[:150], ids=training.features.ids[:150])
    assert not fit_query(model, few).own_labels
    assert fit_query(model, in_memory(training.counts, training.features.names)).own_labels


def test_types_with_few_cells_are_learnt_with_the_others(training):
    """One cell, of a type that no fold can hold out, is no obstacle."""
    kept = np.flatnonzero((training.type_codes != 2) | (np.arange(120) == 100))
    parts = {name: getattr(training, name)[kept] for name in ("counts", "type_codes", "group_codes")}
    learnt = learn_reference(replace(training, **parts), ONTOLOGY)
    assert np.isfinite(learnt.fusion.offsets).all()
    assert np.isfinite(learnt.novelty.means).all()
