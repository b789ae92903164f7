"""Workflow tests run `nextflow` from the copied project, and tasks find the Python that runs the tests."""

import os
import sys
from pathlib import Path

# before pytest-workflow starts the runs, which inherit them; each run has its own HOME or may have
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("NXF_HOME", str(Path.home() / ".nextflow"))
