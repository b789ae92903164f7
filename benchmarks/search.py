"""Speed and agreement of the search for neighbours, and of writing them: `python benchmarks/search.py --help`.

Made points: types around centres of their own, cells around their type in fewer dimensions than there are. Figures are
per CPU second of one process; a vote is the type that most of a cell's neighbours have.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cytonym.io.evidence_json import write_evidence_json
from cytonym.parallel import single_threaded
from cytonym.search import index as search_index
from cytonym.search.cas import majority_votes
from cytonym.search.evidence import NEIGHBOURS, Evidence, Neighbours, summarise
from cytonym.search.index import Index, open_index, write_faiss

BLOCK = 4096
N_DATASETS = 20


def made_points(rng: np.random.Generator, n: int, n_types: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, size) float32 of unit length, and (n,) their types: log-normal frequencies, spreads and shapes of types."""
    shape = np.random.default_rng(7)  # the same types for reference and sample
    centres = shape.normal(size=(n_types, size))
    axes = shape.normal(size=(n_types, 8, size)) * shape.lognormal(-1, 0.5, (n_types, 1, 1))
    frequencies = shape.lognormal(0, 1, n_types)
    types = rng.choice(n_types, n, p=frequencies / frequencies.sum())
    points = centres[types] + 0.6 * rng.normal(size=(n, size))
    for k in range(n_types):
        of_type = np.flatnonzero(types == k)
        points[of_type] += rng.normal(size=(len(of_type), 8)) @ axes[k]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32), types.astype(np.int32)


@contextmanager
def timed(what: str, n: int) -> Iterator[None]:
    start = time.process_time()
    yield
    spent = time.process_time() - start
    print(f"{what}: {n / spent:,.0f} cells per CPU second ({spent:.1f} s for {n:,})", flush=True)


def searched(index: Index, points: np.ndarray) -> Neighbours:
    levels = np.zeros(len(points), dtype=np.int64)
    parts = [
        index.search(points[start : start + BLOCK], levels[start : start + BLOCK], NEIGHBOURS, start=start)
        for start in range(0, len(points), BLOCK)
    ]
    return Neighbours(np.concatenate([p.distances for p in parts]), np.concatenate([p.rows for p in parts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference-cells", type=int, default=100_000)
    parser.add_argument("--cells", type=int, default=16_384, help="of the sample")
    parser.add_argument("--exact-cells", type=int, default=2048, help="of the sample, searched exactly, too")
    parser.add_argument("--types", type=int, default=60)
    parser.add_argument("--size", type=int, default=64, help="numbers a point")
    options = parser.parse_args()
    reference, types = made_points(np.random.default_rng(0), options.reference_cells, options.types, options.size)
    points, true_types = made_points(np.random.default_rng(1), options.cells, options.types, options.size)
    datasets = np.random.default_rng(2).integers(0, N_DATASETS, len(types)).astype(np.int32)
    print(f"{options.reference_cells:,} points of {options.size} numbers, {options.types} types, k = {NEIGHBOURS}")
    with tempfile.TemporaryDirectory() as name, single_threaded():
        folder = Path(name)
        np.save(folder / search_index.VECTORS_NAME, reference[:, None].astype(np.float16))
        vectors = np.load(folder / search_index.VECTORS_NAME, mmap_mode="r")
        with timed("build the index", len(reference)):
            write_faiss(folder, vectors)
        index = open_index(folder)
        with timed("search by faiss" if index.approximate else "search exactly (no faiss)", len(points)):
            found = searched(index, points)
        n = options.exact_cells
        with timed("search exactly", n):
            exact = searched(Index(vectors), points[:n])
        votes, shares = majority_votes(found, types, options.types)
        exact_votes, _ = majority_votes(exact, types, options.types)
        recall = [len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in zip(found.rows[:n], exact.rows, strict=True)]
        print(f"votes equal to exact: {np.mean(votes[:n] == exact_votes):.4f}, recall {np.mean(recall):.4f}")
        print(f"votes right: {np.mean(votes == true_types):.4f}, mean share of the winner {shares.mean():.3f}")
        blocks = [slice(start, start + BLOCK) for start in range(0, len(points), BLOCK)]
        with timed("sum up neighbours", len(points)):
            parts = [summarise(Neighbours(found.distances[b], found.rows[b]), types, datasets) for b in blocks]
        evidence = Evidence.concatenate(parts)
        barcodes = np.array([f"cellid_{i:09d}-1" for i in range(len(points))])
        names = [(f"type {k}", f"CL:{k:07d}") for k in range(options.types)]
        path = folder / "cell_annotation_results.json.gz"
        with timed("write the evidence", len(points)):
            write_evidence_json(path, [(barcodes, evidence)], names, [f"data set {i}" for i in range(N_DATASETS)])
        print(f"{path.stat().st_size / len(points):,.0f} bytes a cell, packed")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main()
