"""The stage that learns: what it writes depends on the sample alone."""

from __future__ import annotations

import os
import subprocess
import sys

from cytonym.demo import make_tissue


def test_a_new_process_learns_the_same_whatever_its_threads(tmp_path):
    """Libraries that fit loads late are held to one thread too."""
    make_tissue(tmp_path / "m.h5", n_cells=600, n_genes=6000)

    def cytonym(*arguments: str, threads: str = "1") -> None:
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-m", "cytonym", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)

    cytonym("preflight", "--id=s", "--matrix=m.h5", "--output-dir=.")
    for threads in ("1", "4"):
        planned = ("--matrix=m.h5", "--plan=plan.json", "--model=markers")
        cytonym("fit", *planned, f"--output={threads}.h5", threads=threads)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "4.h5").read_bytes()
