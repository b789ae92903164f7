"""What most tests of 10x Cloud start from; a module that needs another server or matrix has its own."""

from __future__ import annotations

import pytest
from cloud_run import served, write_matrix


@pytest.fixture
def cloud():
    with served() as cloud:
        yield cloud


@pytest.fixture
def matrix(tmp_path):
    return write_matrix(tmp_path)
