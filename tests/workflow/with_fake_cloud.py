"""Runs a command beside a fake 10x Cloud: `with_fake_cloud.py TOKEN_FILE FAILING_MATRIX SEEN_FILE COMMAND ...`.

What the fake saw goes to SEEN_FILE, as JSON; the exit code is the command's, or 99 if the protocol was not kept to.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "protocol"))
from fake_cloud import FakeCloud


def main(token_file: str, failing: str, seen: str, *command: str) -> int:
    with FakeCloud(token=Path(token_file).read_text(encoding="utf-8").strip()) as cloud:
        cloud.failing = {failing}
        environment = os.environ | {"TENX_CLOUD_URL": cloud.url, "CYTONYM_CLOUD_WAIT_SCALE": "1e-4"}
        code = subprocess.run(command, env=environment, check=False).returncode
        Path(seen).write_text(json.dumps({"steps": Counter(cloud.steps), "complaints": cloud.complaints}))
        return 99 if cloud.complaints else code


sys.exit(main(*sys.argv[1:]))
