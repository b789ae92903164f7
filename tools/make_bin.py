"""Writes bin/: one wrapper for each entry of [project.scripts], so that Nextflow tasks of a bare checkout find them.

`--check` writes nothing and fails if a file is missing, stale or left over.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WRAPPER = """\
#!/bin/sh
# Made by tools/make_bin.py from [project.scripts]; do not edit.
# Runs {name} with the python3 on PATH if that has it, else with the one in this project's .venv.
PYTHONSAFEPATH=1 # a folder called {package} in the current folder is not the package
export PYTHONSAFEPATH
has='import importlib.util as u, sys; s = u.find_spec("{package}"); sys.exit(not (s and s.origin))'
for python in python3 "$(dirname -- "$0")/../.venv/bin/python3"; do
    if "$python" -c "$has" 2>/dev/null
    then exec "$python" -m {package} "$@"
    fi
done
echo "ERROR: no python3 here has {package}: run 'make demo' in the project, or use a container profile." >&2
exit 1
"""


def wrappers() -> dict[str, str]:
    """File name -> content."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^\[project\.scripts\]\n((?:.+\n)*)", text, re.MULTILINE)  # tomllib comes with Python 3.11
    scripts = re.findall(r'^([\w-]+) = "(\w+)[\w.]*:\w+"$', section[1], re.MULTILINE) if section else []
    return {name: WRAPPER.format(name=name, package=package) for name, package in scripts}


def main() -> None:
    wanted, folder = wrappers(), ROOT / "bin"
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*") if path.is_file()}
    if "--check" in sys.argv[1:]:
        if found != wanted or not all((folder / name).stat().st_mode & 0o111 for name in wanted):
            sys.exit("bin/ does not match [project.scripts]: run 'make bin'.")
        return
    folder.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


if __name__ == "__main__":
    main()
