"""Differential expression: sSeq against worked numbers and brute force; the table is the same whatever the split."""

from __future__ import annotations

import csv
from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cytonym import sseq
from cytonym.diffexp import diffexp, groups_by_barcode
from cytonym.errors import InputError
from cytonym.io.diffexp_csv import read_diffexp, write_diffexp
from cytonym.io.tenx_h5 import open_tenx_h5
from cytonym.matrix import CountMatrix, in_memory
from cytonym.types import DiffExp

NUMBERS = ("mean_counts", "log2_fold_changes", "adjusted_p_values")
SIZE_INSIDE, SIZE_OUTSIDE = 885.7432862994995, 2023.055530268548  # of Space Ranger's public tests


def exact(inside: float, outside: float, size_inside: float, size_outside: float, dispersion: float) -> float:
    arrays = (np.array([float(x)]) for x in (inside, outside))
    return float(sseq.exact_p_values(*arrays, size_inside, size_outside, np.array([dispersion]))[0])


def brute_force(
    inside: int, outside: int, size_inside: float, size_outside: float, dispersion: float, tie: float = 1e-10
) -> float:
    """All splits written out, each weight from the one before it."""
    n, a, b = inside + outside, size_inside / dispersion, size_outside / dispersion
    k = np.arange(n)
    steps = np.log((a + k) * (n - k) / ((k + 1) * (b + (n - k - 1))))
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    weights = np.exp(logs - logs.max())
    return float(weights[logs <= logs[inside] + tie].sum() / weights.sum())


def sample(rng: np.random.Generator, n_cells: int = 9000, n_genes: int = 30) -> tuple[CountMatrix, np.ndarray]:
    """Three groups over three blocks of cells, the first four genes marking group "b"."""
    groups = rng.choice(np.array(["c", "a", "b"], dtype=object), n_cells)
    means = rng.lognormal(-2, 1.5, n_genes) * np.where((groups == "b")[:, None] & (np.arange(n_genes) < 4), 3, 1)
    return in_memory(rng.poisson(means), [f"G{i}" for i in range(n_genes)]), groups


def umis(matrix: CountMatrix) -> np.ndarray:
    return np.asarray(matrix.counts().sum(axis=1)).ravel().astype(np.int64)


def compare(matrix: CountMatrix, groups: np.ndarray, threads: int = 1) -> DiffExp:
    result = diffexp(matrix, groups, umis(matrix), threads=threads)
    assert result is not None
    return result


def same_bytes(one: DiffExp, other: DiffExp) -> bool:
    return one.groups == other.groups and all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in NUMBERS
    )


def test_exact_check_value_of_space_ranger() -> None:
    assert exact(6, 3, SIZE_INSIDE, SIZE_OUTSIDE, 27.024221110009037) == pytest.approx(0.032543, abs=5e-7)


def test_asymptotic_check_value_of_space_ranger() -> None:
    inside, outside = np.array([1792.0]), np.array([1436.0])
    moments = (np.array([1.0159265507499822]), np.array([29.483072138841884]))
    p = sseq.asymptotic_p_values(inside, outside, SIZE_INSIDE, SIZE_OUTSIDE, *moments)
    assert p[0] == pytest.approx(7.2549e-07, rel=1e-5)


def test_columns_of_a_tiny_matrix_are_those_worked_out_by_hand() -> None:
    """Cells of 4 UMIs each, so that all size factors are 1, A = B = 2, N = S = 4.

    Genes 1 and 2: m = 3/2, v = 9/4, so phi = (4 v - 4 m) / (4 m^2) = 1/3 = zeta and A / phi = B / phi = 6. The
    weights of the splits of 6 are C(5 + k, 5) C(11 - k, 5), in all C(17, 11) = 12376; those of 6:0 and 0:6 are 462.
    Gene 3 does not vary: it is not used, and its p stays 1.
    """
    result = compare(in_memory([[3, 0, 1], [3, 0, 1], [0, 3, 1], [0, 3, 1]], ["G1", "G2", "G3"]), np.array([*"xxyy"]))
    assert result.groups == ("x", "y")
    assert result.mean_counts.tolist() == [[3, 0], [0, 3], [1, 1]]
    np.testing.assert_allclose(result.log2_fold_changes, [[log2(7), -log2(7)], [-log2(7), log2(7)], [0, 0]])
    np.testing.assert_allclose(result.adjusted_p_values, [[924 / 12376] * 2, [924 / 12376] * 2, [1, 1]])


def test_size_factors_divide_by_the_median_cell() -> None:
    """UMIs 2, 4, 6: size factors 1/2, 1, 3/2; group x has A = 1/2 and B = 5/2."""
    result = compare(in_memory([[2, 0], [1, 3], [0, 6]], ["G1", "G2"]), np.array([*"xyy"]))
    np.testing.assert_allclose(result.mean_counts, [[4, 0.4], [0, 3.6]])
    folds = [log2(3 / 1.5) - log2(2 / 3.5), log2(1 / 1.5) - log2(10 / 3.5)]
    np.testing.assert_allclose(result.log2_fold_changes[:, 0], folds)


def test_dispersions_are_shrunk_towards_the_99_5th_percentile() -> None:
    """N = S = 4 and m = 1 make phi_mm = v - 1: 0, 1 and 3, the fourth gene is not used."""
    moments = sseq.Moments(4, np.full(4, 4.0), np.array([8.0, 12, 20, 4]), 4.0)
    parameters = sseq.gene_parameters(moments)
    zeta = 2.98  # 1 + 0.99 * (3 - 1)
    delta = ((16 + 1 + 25) / 9 / 3) / ((2.98**2 + 1.98**2 + 0.02**2) / 2)
    assert parameters.used.tolist() == [True, True, True, False]
    expected = [delta * zeta, (1 - delta) + delta * zeta, 3 * (1 - delta) + delta * zeta, 0]
    np.testing.assert_allclose(parameters.dispersion, expected)


def test_benjamini_hochberg_by_hand() -> None:
    """Over the used genes only; p above 1 are capped, unused genes keep theirs."""
    used = np.array([True, True, True, False, True])
    p = sseq.adjusted(np.array([0.01, 0.04, 0.03, 0.9, 1.5]), used)
    np.testing.assert_allclose(p, [0.04, 0.16 / 3, 0.16 / 3, 0.9, 1])


def test_no_count_no_dispersion_or_no_size_gives_p_of_one() -> None:
    parameters = sseq.GeneParameters(np.ones(3), np.array([True, True, True]), np.array([1.0, 0, 1]))
    inside, outside = np.array([0.0, 5, 5]), np.array([0.0, 1, 1])
    assert sseq.p_values(inside, outside, 10.0, 10.0, parameters)[:2].tolist() == [1, 1]
    assert sseq.p_values(inside, outside, 0.0, 10.0, parameters).tolist() == [1, 1, 1]
    assert sseq.p_values(inside, outside, 10.0, 0.0, parameters).tolist() == [1, 1, 1]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 3000),
    st.integers(0, 3000),
    st.floats(-2, 9),
    st.one_of(st.none(), st.floats(-2, 9)),
    st.floats(-3, 7),
)
def test_exact_p_is_that_of_brute_force(
    inside: int, outside: int, log_inside: float, log_outside: float | None, log_dispersion: float
) -> None:
    """Also where weights fall and then rise, and where A = B makes mirrored splits equal.

    Where weights are nearly flat the last digits decide which of them are equal: hence two bounds.
    """
    size_inside, dispersion = np.exp(log_inside), np.exp(log_dispersion)
    size_outside = size_inside if log_outside is None else np.exp(log_outside)
    case = (inside, outside, size_inside, size_outside, dispersion)
    low, high = (brute_force(*case, tie=tie) for tie in (0.9e-10, 1.1e-10))
    assert low * (1 - 1e-9) - 1e-290 <= exact(*case) <= high * (1 + 1e-9) + 1e-290


@pytest.mark.parametrize(
    ("inside", "outside", "size_inside", "size_outside", "dispersion"),
    [
        (3, 2_000_000, 0.2, 100_000, 3.0),
        (900, 2_000_000, 50, 99_950, 30.0),
        (1_500_000, 3, 50, 50, 200.0),  # weights fall and then rise
        (700, 1_000_000, 40, 60_000, 0.01),
    ],
)
def test_exact_p_with_one_tiny_and_one_huge_side(
    inside: int, outside: int, size_inside: float, size_outside: float, dispersion: float
) -> None:
    expected = brute_force(inside, outside, size_inside, size_outside, dispersion)
    assert 0.01 < expected < 1
    assert exact(inside, outside, size_inside, size_outside, dispersion) == pytest.approx(expected, rel=1e-6)


def test_vanishing_dispersion_gives_the_binomial_test() -> None:
    """Without overdispersion a split of 6 between equal sizes is six throws of a coin."""
    assert exact(6, 0, 100, 100, 1e-17) == pytest.approx(2 / 64, rel=1e-12)
    assert exact(0, 1, 100, 300, 1e-17) == pytest.approx(1, rel=1e-12)
    assert exact(1, 0, 100, 300, 1e-17) == pytest.approx(1 / 4, rel=1e-12)


def test_p_that_is_too_small_for_a_float_is_zero() -> None:
    assert exact(0, 200_000, 50_000, 50_000, 0.01) == 0


def test_flat_weights_are_all_equal() -> None:
    """A / phi = B / phi = 1 makes every split as probable as any other."""
    assert exact(0, 700, 2, 2, 2) == 1


def test_marked_genes_come_out(rng: np.random.Generator) -> None:
    matrix, groups = sample(rng)
    result = compare(matrix, groups)
    assert result.groups == ("a", "b", "c")
    best = np.argsort(result.adjusted_p_values[:, 1], kind="stable")[:4]
    assert set(best) == {0, 1, 2, 3}
    assert (result.log2_fold_changes[best, 1] > 1).all()


def test_threads_change_no_bit(rng: np.random.Generator) -> None:
    matrix, groups = sample(rng)
    assert same_bytes(compare(matrix, groups), compare(matrix, groups, threads=3))


def test_a_file_gives_the_bytes_of_memory(rng: np.random.Generator, write_h5) -> None:  # type: ignore[no-untyped-def]
    matrix, groups = sample(rng)
    path = write_h5(matrix.counts(), list(matrix.features.names))
    assert same_bytes(compare(matrix, groups), compare(CountMatrix.of(open_tenx_h5(path)), groups))


def test_permuted_features_give_the_same_bytes(rng: np.random.Generator) -> None:
    """Each feature's numbers move with it; only parameters summed over genes may differ in the last bit."""
    matrix, groups = sample(rng)
    order = rng.permutation(matrix.n_features)
    one, other = (
        compare(matrix, groups),
        compare(in_memory(matrix.counts()[:, order], matrix.features.names[order]), groups),
    )
    assert other.feature_ids.tolist() == one.feature_ids[order].tolist()
    for name in ("mean_counts", "log2_fold_changes"):
        assert getattr(other, name).tobytes() == getattr(one, name)[order].tobytes()
    np.testing.assert_allclose(other.adjusted_p_values, one.adjusted_p_values[order], rtol=1e-9)


def test_permuted_cells_give_the_same_numbers(rng: np.random.Generator) -> None:
    matrix, groups = sample(rng)
    order = rng.permutation(matrix.n_cells)
    one, other = (
        compare(matrix, groups),
        compare(in_memory(matrix.counts()[order], matrix.features.names), groups[order]),
    )
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nothing", ["", None])
def test_cells_without_a_group_take_no_part(rng: np.random.Generator, nothing: str | None) -> None:
    matrix, groups = sample(rng, n_cells=500)
    left_out = groups.copy()
    left_out[groups == "c"] = nothing
    kept = in_memory(matrix.counts()[groups != "c"], matrix.features.names)
    one, other = compare(matrix, left_out), compare(kept, groups[groups != "c"])
    assert one.groups == ("a", "b")
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12)


def test_fewer_than_two_groups_give_nothing() -> None:
    matrix = in_memory(np.eye(3, dtype=int), ["G1", "G2", "G3"])
    assert diffexp(matrix, np.array(["x", "x", ""]), umis(matrix)) is None
    assert diffexp(matrix, np.array([None, None, None]), umis(matrix)) is None


def test_empty_cells_and_genes_give_finite_numbers() -> None:
    """More than half the cells are empty, a group is empty altogether, a gene has no count."""
    result = compare(
        in_memory([[5, 0, 2], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], ["G1", "G2", "G3"]), np.array([*"xyyzz"])
    )
    assert all(np.isfinite(getattr(result, name)).all() for name in NUMBERS)
    assert result.adjusted_p_values[1].tolist() == [1, 1, 1]
    assert result.mean_counts[:, 2].tolist() == [0, 0, 0]


def test_groups_are_joined_by_barcode_not_by_row() -> None:
    table = pd.DataFrame({"barcode": ["c-1", "x-1", "a-1"], "coarse_cell_type": ["T cell", "B cell", "Unassigned"]})
    assert groups_by_barcode(np.array(["a-1", "b-1", "c-1"]), table).tolist() == ["Unassigned", None, "T cell"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"barcode": ["a-1"]}, "cell_types.csv lacks the column coarse_cell_type"),
        ({"coarse_cell_type": ["T cell"]}, "cell_types.csv lacks the column barcode"),
        ({"barcode": ["a-1", "a-1"], "coarse_cell_type": ["x", "y"]}, "a-1 more than once"),
        ({"barcode": ["q-1"], "coarse_cell_type": ["x"]}, "another matrix"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(table: dict[str, list[str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        groups_by_barcode(np.array(["a-1", "b-1"]), pd.DataFrame(table))


def table_of(groups: tuple[str, ...] = ("T cell",)) -> DiffExp:
    numbers = np.array([[1.0], [0.1 + 0.2]])
    return DiffExp(
        np.array(["ENSG1", "NA"]),
        np.array(["CD3E", 'odd, "name"']),
        groups,
        *(
            np.repeat(x, len(groups), axis=1)
            for x in (numbers, np.array([[-0.0], [-2.5]]), np.array([[1e-12], [5e-324]]))
        ),
    )


def test_numbers_are_shortest_decimals_without_exponent(tmp_path: Path) -> None:
    write_diffexp(tmp_path / "t.csv", table_of())
    tiny = "0." + "0" * 323 + "5"
    assert (tmp_path / "t.csv").read_bytes().decode() == (
        "Feature ID,Feature Name,T cell Mean Counts,T cell Log2 fold change,T cell Adjusted p value\n"
        "ENSG1,CD3E,1,0,0.000000000001\n"
        f'NA,"odd, ""name""",0.30000000000000004,-2.5,{tiny}\n'
    )


def test_the_table_reads_back_as_it_was_written(tmp_path: Path, rng: np.random.Generator) -> None:
    matrix, groups = sample(rng, n_cells=300)
    groups[groups == "c"] = 'cell, "odd"'
    for result in (compare(matrix, groups), table_of(("A", 'B, "b" Mean Counts'))):
        write_diffexp(tmp_path / "t.csv", result)
        back = read_diffexp(tmp_path / "t.csv")
        assert back.groups == result.groups
        assert all(np.array_equal(getattr(back, name), getattr(result, name)) for name in NUMBERS)
        assert back.feature_ids.tolist() == result.feature_ids.tolist()
        assert back.feature_names.tolist() == result.feature_names.tolist()
    with (tmp_path / "t.csv").open(newline="") as file:
        assert next(csv.reader(file))[5] == 'B, "b" Mean Counts Mean Counts'


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Feature ID,Feature Name,x Mean Counts\nG,G,many\n"])
def test_a_file_that_is_no_such_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=r"t\.csv"):
        read_diffexp(tmp_path / "t.csv")


def test_rows_of_the_count_matrix_beyond_the_range_are_not_read() -> None:
    """A range of a source is tested by itself; rows are counted within the range."""
    counts = sp.csr_matrix(np.array([[9, 9], [3, 1], [1, 3]]))
    matrix = in_memory(counts, ["G1", "G2"]).rows(1, 3)
    assert compare(matrix, np.array([*"xy"])).mean_counts.tolist() == [[3, 1], [1, 3]]
