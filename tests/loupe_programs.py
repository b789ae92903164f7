"""Stand-ins for 10x Genomics' programs, by what is known of them; a .cloupe of theirs is JSON: `barcodes`, `tracks`.

Each adds its arguments to calls.jsonl beside itself, if there is one. A `fail` file beside it, with JSON from a
program's name to an exit code, makes it fail so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PROGRAM = """\
#!{python}
import json, os, sys
from pathlib import Path

here, name, arguments = Path(__file__).parent, Path(__file__).name, sys.argv[1:]
if (here / "calls.jsonl").exists():
  with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps([name, arguments, sorted(n for n in os.environ if n.startswith("TENX"))]) + "\\n")
if (here / "fail").exists() and (code := json.loads((here / "fail").read_text()).get(name)) is not None:
    sys.exit(code if code == 0 else print("no such thing:", arguments[0], file=sys.stderr) or code)
if name == "appendtracks":
    types, before, after = (Path(path) for path in arguments[:3])
    option, track, empty, several = arguments[3:]
    assert (option, empty, several) == ("--trackName", "--emptyName=Unknown", "--multiName=Multiple Labels")
    cloupe = json.loads(before.read_text())
    cloupe["tracks"][track] = json.loads(types.read_text())
    after.write_text(json.dumps(cloupe))
elif name == "getbarcodes":
    cloupe, listed = (Path(path) for path in arguments)
    listed.write_text("".join(barcode + "\\n" for barcode in json.loads(cloupe.read_text())["barcodes"]))
else:
    cloupe, table, kind = arguments
    assert kind == "umap"
    rows = [f"{{b}},{{i}}.5,-{{i}}" for i, b in enumerate(json.loads(Path(cloupe).read_text())["barcodes"])]
    Path(table).write_text("\\n".join(["Barcode,X Coordinate,Y Coordinate", *rows]) + "\\n")
"""


def make_programs(
    folder: Path, names: tuple[str, ...] = ("appendtracks", "getbarcodes", "exportprojectioncsv")
) -> Path:
    """The folder, with these programs in it."""
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(PROGRAM.format(python=sys.executable))
        (folder / name).chmod(0o755)
    return folder


def make_cloupe(path: Path, barcodes: list[str]) -> Path:
    path.write_text(json.dumps({"barcodes": barcodes, "tracks": {}}))
    return path
