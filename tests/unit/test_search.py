"""The embedding, the index, and what they find."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from cytonym.errors import InputError, ModelError
from cytonym.matrix import Features
from cytonym.reference_model.training import ReferenceType, TrainingSet
from cytonym.search import index as index_module
from cytonym.search.embedding import AS_IS, Embedding, Projector, learn_embedding, log_counts, project
from cytonym.search.index import Index, open_index, write_vectors

N_GENES, N_TYPES = 300, 4


def made_training(n_cells: int = 400, umis: int = 3000, seed: int = 0) -> TrainingSet:
    """Cells of four types, each with thirty genes of its own."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(1.0, size=N_GENES) * np.ones((N_TYPES, 1))
    for code in range(N_TYPES):
        profiles[code, 30 * code : 30 * code + 30] *= 8
    profiles /= profiles.sum(axis=1, keepdims=True)
    codes = np.arange(n_cells) % N_TYPES
    depth = umis * np.exp(rng.normal(0, 0.3, n_cells))
    counts = rng.poisson(profiles[codes] * depth[:, None])
    names = np.array([f"GENE{i:03d}" for i in range(N_GENES)])
    return TrainingSet(
        features=Features(np.array([f"ENSG{i:011d}" for i in range(N_GENES)]), names),
        counts=sp.csr_matrix(counts, dtype=np.int32),
        types=tuple(ReferenceType(f"type {code}") for code in range(N_TYPES)),
        type_codes=codes.astype(np.int32),
        group_codes=np.zeros(n_cells, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def training() -> TrainingSet:
    return made_training()


@pytest.fixture(scope="module")
def embedding(training: TrainingSet) -> Embedding:
    return learn_embedding(training)


# ---- the embedding


def test_a_point_is_cellariums_formula_scaled_to_unit_length():
    """Two genes, two axes, by hand: log1p(1e4 x / n), minus the mean, over the sd, on each axis, over the length."""
    genes = Features(np.array(["a", "b"]), np.array(["a", "b"]))
    made = Embedding(
        genes=genes,
        shares=np.array([0.5, 0.5]),
        mean=np.array([1.0, 2.0]),
        sd=np.array([2.0, 4.0]),
        components=np.eye(2),
        depths=np.array([AS_IS]),
        median_umis=10.0,
    )
    point = project(made, sp.csr_matrix([[3.0, 0.0]]), np.array([10.0]), np.array([True, True]))
    by_hand = np.array([(np.log(1 + 3000) - 1) / 2, -2 / 4])
    assert point[0] == pytest.approx(by_hand / np.hypot(*by_hand), abs=1e-6)


def test_axes_are_the_principal_ones(training, embedding):
    """Leading eigenvectors of the correlations of logs, orthonormal, each with its largest entry positive."""
    axes = embedding.components
    assert axes.T @ axes == pytest.approx(np.eye(embedding.size), abs=1e-8)
    assert (axes[np.argmax(np.abs(axes), axis=0), np.arange(embedding.size)] > 0).all()
    columns = np.searchsorted(training.features.ids, embedding.genes.ids)
    umis = np.asarray(training.counts.sum(axis=1)).ravel().astype(float)
    logs = log_counts(sp.csr_matrix(training.counts[:, columns].astype(float)), umis).toarray()
    scaled = (logs - embedding.mean) / embedding.sd
    learnt_from = np.arange(len(umis)) % 5 != 4
    _, _, vectors = np.linalg.svd(scaled[learnt_from], full_matrices=False)
    assert np.abs(vectors[: embedding.size] @ axes) == pytest.approx(np.eye(embedding.size), abs=1e-3)


def test_only_axes_that_hold_in_other_cells_are_kept(embedding):
    """Four types span three axes; the other 297 are noise, which halves of the counts do not agree on."""
    assert 3 <= embedding.size <= 5


def test_the_order_of_genes_and_an_additional_one_do_not_matter(training, embedding):
    order = np.random.default_rng(1).permutation(N_GENES)
    features = Features(
        np.append(training.features.ids[order], "ENSG09999999999"), np.append(training.features.names[order], "MT-X")
    )
    shuffled = sp.hstack([training.counts[:, order], sp.csr_matrix(np.full((400, 1), 50))], format="csr")
    points, umis = Projector.of(embedding, features).project(shuffled)
    expected, umis_expected = Projector.of(embedding, training.features).project(training.counts)
    assert umis == pytest.approx(umis_expected)
    assert points == pytest.approx(expected, abs=1e-6)


def test_a_gene_that_is_not_measured_counts_as_its_mean(training, embedding):
    """Half of the genes: points stay near those of all genes, and depths are those of whole cells."""
    half = np.arange(0, N_GENES, 2)
    features = Features(training.features.ids[half], training.features.names[half])
    points, umis = Projector.of(embedding, features).project(training.counts[:, half])
    expected, all_umis = Projector.of(embedding, training.features).project(training.counts)
    assert np.median(umis / all_umis) == pytest.approx(1, abs=0.05)
    assert np.median((points * expected).sum(axis=1)) > 0.9


def test_genes_that_the_reference_lacks_do_not_count(training, embedding):
    """A reference of chosen genes: the others make cells no deeper than the reference has them."""
    others = np.array([f"OTHER{i}" for i in range(50)])
    features = Features(np.append(training.features.ids, others), np.append(training.features.names, others))
    counts = sp.hstack([training.counts, sp.csr_matrix(np.full((400, 50), 9))], format="csr")
    points, umis = Projector.of(embedding, features, training.features).project(counts)
    expected, expected_umis = Projector.of(embedding, training.features).project(training.counts)
    assert umis == pytest.approx(expected_umis)
    assert points == pytest.approx(expected, abs=1e-6)


def test_an_embedding_comes_back_from_its_arrays(embedding):
    again = Embedding.of(embedding.meta(), embedding.arrays())
    assert again.arrays().keys() == embedding.arrays().keys()
    assert all(np.array_equal(again.arrays()[name], value) for name, value in embedding.arrays().items())


def test_the_same_cells_give_the_same_embedding(training, embedding):
    again = learn_embedding(training)
    assert all(again.arrays()[name].tobytes() == value.tobytes() for name, value in embedding.arrays().items())


def test_a_reference_without_varying_genes_is_refused(training):
    flat = replace(training, counts=sp.csr_matrix(np.ones((400, N_GENES), dtype=np.int32)))
    with pytest.raises(InputError, match="varies"):
        learn_embedding(flat)


def test_depths_below_the_reference_only(embedding):
    """Of a reference of 3,000 UMIs all depths, and a cell's is the nearest."""
    assert embedding.depths.tolist() == [np.inf, 1000, 400, 150, 60]
    assert embedding.level(np.array([0, 70, 200, 300, 900, 2500, 1e6])).tolist() == [4, 4, 3, 2, 1, 0, 0]
    assert learn_embedding(made_training(umis=250)).depths.tolist() == [np.inf, 150, 60]


# ---- the index


@pytest.fixture(scope="module")
def folder(tmp_path_factory, training, embedding):
    path = tmp_path_factory.mktemp("bundle")
    write_vectors(path, embedding, training.features, [training.counts], 400, seed=0)
    return path


def brute(vectors: np.ndarray, points: np.ndarray, levels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    cosines = np.stack([vectors[:, level].astype(np.float64) @ p for p, level in zip(points, levels, strict=True)])
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return 1 - np.take_along_axis(cosines, rows, 1), rows


def test_sparse_cells_find_their_type_among_cells_as_sparse(training, embedding, folder):
    sparse = made_training(umis=100, seed=5)
    points, umis = Projector.of(embedding, sparse.features).project(sparse.counts)
    index = open_index(folder)
    matched = index.search(points, embedding.level(umis), 15)
    as_is = index.search(points, np.zeros(400, dtype=int), 15)

    def accuracy(rows):
        votes = training.type_codes[rows]
        return np.mean([np.bincount(v).argmax() for v in votes] == sparse.type_codes)

    assert accuracy(matched.rows) > 0.75
    assert accuracy(matched.rows) >= accuracy(as_is.rows)


@pytest.mark.parametrize("k", [1, 25, 400, 1000])
def test_an_exact_search_finds_what_comparing_with_all_finds(embedding, folder, k):
    index = open_index(folder)
    rng = np.random.default_rng(2)
    points = rng.normal(size=(30, embedding.size)).astype(np.float32)
    levels = rng.integers(0, 5, 30)
    found = index.search(points, levels, k)
    distances, rows = brute(index.vectors, points, levels, k)
    assert found.distances.shape == (30, min(k, 400))
    assert found.distances == pytest.approx(distances, abs=1e-5)
    assert (found.rows == rows).mean() > 0.999  # equal up to the order of near ties


def test_ties_keep_the_order_of_the_reference():
    same = np.tile(np.array([1.0, 0.0], dtype=np.float32), (5000, 1, 1))
    same[7] = [0.0, 1.0]
    found = Index(same).search(np.array([[1.0, 0.0]], dtype=np.float32), np.zeros(1, dtype=int), 10)
    assert found.rows[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert (found.distances == 0).all()


def test_a_large_reference_is_searched_in_parts(monkeypatch, embedding, folder):
    index = open_index(folder)
    points, levels = np.array(index.vectors[:50, 0]), np.zeros(50, dtype=int)
    whole = index.search(points, levels, 30)
    monkeypatch.setattr(index_module, "REFERENCE_ROWS", 64)
    parts = index.search(points, levels, 30)
    assert parts.distances == pytest.approx(whole.distances, abs=1e-6)
    assert (parts.rows == whole.rows).mean() > 0.99


def test_neighbours_do_not_depend_on_what_is_searched_with_them(embedding, folder):
    """Cut anywhere, the bytes are the same."""
    index = open_index(folder)
    rng = np.random.default_rng(3)
    points, levels = rng.normal(size=(700, embedding.size)).astype(np.float32), rng.integers(0, 5, 700)
    whole = index.search(points, levels, 20)
    cuts = [0, 3, 255, 300, 699, 700]
    parts = [index.search(points[a:b], levels[a:b], 20, start=a) for a, b in pairwise(cuts)]
    assert np.concatenate([part.distances for part in parts]).tobytes() == whole.distances.tobytes()
    assert np.concatenate([part.rows for part in parts]).tobytes() == whole.rows.tobytes()


def test_vectors_are_the_same_however_cells_are_cut(tmp_path, training, embedding, folder):
    cuts = [0, 1, 17, 399, 400]
    blocks = (training.counts[a:b] for a, b in pairwise(cuts))
    write_vectors(tmp_path, embedding, training.features, blocks, 400, seed=0)
    assert (tmp_path / "vectors.npy").read_bytes() == (folder / "vectors.npy").read_bytes()


@pytest.mark.parametrize("announced", [399, 401])
def test_another_number_of_cells_than_announced_leaves_no_file(tmp_path, training, embedding, announced):
    with pytest.raises(InputError, match="announced"):
        write_vectors(tmp_path, embedding, training.features, [training.counts], announced, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_a_clear_error(tmp_path):
    (tmp_path / "vectors.npy").write_bytes(b"no vectors")
    with pytest.raises(ModelError, match=r"vectors\.npy is damaged"):
        open_index(tmp_path)


@pytest.fixture
def large(monkeypatch):
    """What counts as a large reference is made small."""
    monkeypatch.setattr(index_module, "LARGE", 400)
    monkeypatch.setattr(index_module, "PROBES", 8)


def test_faiss_finds_almost_what_an_exact_search_finds(tmp_path, large, training, embedding):
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    write_vectors(tmp_path, embedding, training.features, [training.counts], 400, seed=0)
    index = open_index(tmp_path)
    assert index.approximate and index.vectors.dtype == np.float16
    points = np.array(index.vectors[:, 0], dtype=np.float32)
    levels = np.zeros(400, dtype=int)
    found, exact = index.search(points, levels, 10), Index(index.vectors).search(points, levels, 10)
    same = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.rows.tolist(), exact.rows.tolist(), strict=True)])
    assert same > 0.8
    parts = [index.search(points[a : a + 37], levels[a : a + 37], 10, start=a) for a in range(0, 400, 37)]
    assert np.concatenate([part.rows for part in parts]).tobytes() == found.rows.tobytes()
    assert np.concatenate([part.distances for part in parts]).tobytes() == found.distances.tobytes()
    everything = index.search(points[:3], levels[:3], 400)  # more than the searched lists hold
    assert [len(set(rows)) for rows in everything.rows.tolist()] == [400, 400, 400]


def test_a_large_reference_without_faiss_is_searched_exactly_with_a_warning(
    tmp_path, large, monkeypatch, caplog, training, embedding
):
    monkeypatch.setattr(index_module, "_faiss", lambda: None)
    monkeypatch.setattr(index_module.LOGGER, "propagate", True)
    write_vectors(tmp_path, embedding, training.features, [training.counts], 400, seed=0)
    index = open_index(tmp_path)
    assert not index.approximate
    assert "cytonym[faiss]" in caplog.text
    assert index.search(np.array(index.vectors[:2, 0], np.float32), np.zeros(2, int), 1).rows[:, 0].tolist() == [0, 1]
