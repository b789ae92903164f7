"""Small matrices with known content, and the way to the shared data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"
os.environ["CYTONYM_HOME"] = str(PROJECT / "tests" / "no-models")  # a developer's own models must not run in tests


@pytest.fixture(scope="session", autouse=True)
def nobodys_home(tmp_path_factory) -> Iterator[None]:
    """A developer's own token, and 10x Cloud itself, are out of reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("TENX_CLOUD_URL", "http://127.0.0.1:9")
        for name in ("TENX_CLOUD_TOKEN", "TENX_CLOUD_TOKEN_PATH", "TENX_CLOUD_USE_LOCAL_TOKEN"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def shared_path(*parts: str) -> Path:
    """A path under ../shared; skips the test where it is absent, fails it where CI must have it."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        if os.environ.get("CYTONYM_NEEDS_SHARED"):
            pytest.fail(f"{path} is needed here")
        pytest.skip(f"needs ../shared/{'/'.join(parts)}, which only developers and CI have")
    return path


@pytest.fixture
def shared() -> Callable[..., Path]:
    return shared_path


@pytest.fixture
def write_h5(tmp_path: Path) -> Callable[..., Path]:
    """Writes a 10x version 2 file by hand: `write_h5(counts, names, **changes)`; `changes` replace what it holds."""
    return lambda *args, **kwargs: write_tenx_h5(tmp_path / kwargs.pop("file", "matrix.h5"), *args, **kwargs)


def write_tenx_h5(
    path: Path,
    counts: np.ndarray | sp.spmatrix,  # cells x features
    names: list[str],
    *,
    ids: list[str] | None = None,
    barcodes: list[str] | None = None,
    genome: str | list[str] = "GRCh38",
    feature_type: str | list[str] = "Gene Expression",
    attributes: dict[str, object] | None = None,
    **datasets: object,
) -> Path:
    """Each entry of `datasets` replaces the dataset of that name; None leaves it out."""
    cells = sp.csr_matrix(counts)
    n_cells, n_features = cells.shape

    def texts(values: str | list[str]) -> np.ndarray:
        return np.array([values] * n_features if isinstance(values, str) else values, dtype="S")

    content: dict[str, object] = {
        "barcodes": np.array(barcodes or [f"cellid_{i + 1:09d}-1" for i in range(n_cells)], dtype="S"),
        "data": cells.data,
        "indices": cells.indices.astype(np.int64),
        "indptr": cells.indptr.astype(np.int64),
        "shape": np.array([n_features, n_cells], dtype=np.int32),
        "features/id": texts(ids or [f"ENSG{i:011d}" for i in range(n_features)]),
        "features/name": texts(names),
        "features/feature_type": texts(feature_type),
        "features/genome": texts(genome),
        "features/_all_tag_keys": np.array([b"genome"]),
    }
    content |= datasets
    with h5py.File(path, "w") as file:
        kept = {"filetype": "matrix", "version": 2, "chemistry_description": "Visium HD v1"} | (attributes or {})
        for name, value in kept.items():
            if value is not None:
                file.attrs[name] = value
        for name, value in content.items():
            if value is not None:
                file.create_dataset(f"matrix/{name}", data=value)
    return path
