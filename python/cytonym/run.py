"""The folder of a shell run: one command at a time in it, finished stages kept, results shown only when complete.

<id>/_cmdline _versions _log _invocation    the command, the versions, what happened, what was asked
<id>/_stages/                                files of finished stages, until the run is complete
<id>/outs/                                   the results; beside _stages/ those of some models, when the cloud failed
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from .errors import CytonymError
from .io.files import output_error, write_json, write_text
from .progress import LOGGER
from .types import AnnotateRequest

P = ParamSpec("P")

# options that never change a result: the same run may go on with other values
RESOURCES = ("localcores", "localmem")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, held by this process; `resumed` if an earlier process began the run."""

    path: Path
    resumed: bool

    @property
    def stages(self) -> Path:
        return self.path / "_stages"

    @property
    def outs(self) -> Path:
        return self.path / "outs"

    def stage(self, name: str, output: Path, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls `work`, which writes `output` or rightly nothing, unless an earlier run finished that."""
        mark = output.with_name(f"{output.name}.done")
        if mark.exists():
            LOGGER.info("%s: done by an earlier run", name)
            return
        LOGGER.info("%s", name)
        output.parent.mkdir(parents=True, exist_ok=True)
        work(*args, **kwargs)
        write_text(mark, "")

    def publish(self, files: dict[Path, Path], *, finished: bool = True) -> None:
        """Copies stage files (source -> place under outs/) and shows them all at once as `outs/`.

        A run that is not finished keeps its stages: it may go on, and then replaces what it showed.
        """
        aside, earlier = self.stages / "outs", self.stages / "earlier"
        for folder in (aside, earlier):
            shutil.rmtree(folder, ignore_errors=True)
        for source, place in files.items():
            (aside / place).parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(source, aside / place)
            except OSError as exc:
                raise output_error(aside / place, exc) from exc
        if self.outs.exists():
            self.outs.replace(earlier)
        aside.replace(self.outs)
        shutil.rmtree(self.stages if finished else earlier, ignore_errors=True)


def invocation_of(request: AnnotateRequest) -> dict[str, object]:
    """What was asked, as JSON, without what never changes a result."""
    fields = {name: value for name, value in vars(request).items() if name not in RESOURCES}
    return {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()} | {
        "skip": list(request.skip)
    }


def check_folder(request: AnnotateRequest) -> None:
    """Refuses a folder that is finished, of another command, or no run's; touches nothing."""
    folder = request.pipestance
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CytonymError(f"{folder} is a file. Choose another --id or --output-dir.")
    if (folder / "outs").exists() and not (folder / "_stages").exists():
        raise CytonymError(
            f"{folder} already holds a finished run. Choose another --id or --output-dir, or delete the folder."
        )
    invocation = folder / "_invocation"
    if not invocation.exists():
        if any(folder.iterdir()):
            raise CytonymError(f"{folder} exists and is no run of cytonym. Choose another --id or --output-dir.")
        return
    if json.loads(invocation.read_text(encoding="utf-8")) != invocation_of(request):
        raise CytonymError(
            f"{folder} holds an unfinished run of another command (see its _cmdline). Give that command again to go "
            "on with it, or choose another --id or --output-dir, or delete the folder."
        )


@contextmanager
def run_folder(
    request: AnnotateRequest, command_line: str, versions: dict[str, str], prepare: Callable[[Path], object]
) -> Iterator[RunFolder]:
    """The run's folder, made when `prepare` (preflight, into a folder aside) went well, and locked.

    An unfinished run of the same command goes on with its own preparation.
    """
    check_folder(request)
    folder = request.pipestance
    run = RunFolder(folder, resumed=(folder / "_stages" / "plan.json").exists())
    if not run.resumed:
        existed = folder.exists()
        parent = folder if existed else folder.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
        except OSError as exc:
            raise output_error(parent, exc) from exc
        try:
            prepare(aside)
            folder.mkdir(exist_ok=True)
            write_text(folder / "_cmdline", command_line + "\n")
            write_json(folder / "_versions", versions)
            write_json(folder / "_invocation", invocation_of(request))
            shutil.rmtree(run.stages, ignore_errors=True)
            aside.replace(run.stages)
        except OSError as exc:
            raise output_error(folder, exc) from exc
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    with _locked(folder), _logged(folder / "_log"):
        try:
            yield run
        except OSError as exc:
            raise output_error(folder, exc) from exc


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise CytonymError(f"Another cytonym is working in {folder}. Wait for it, or choose another --id.") from exc
    finally:
        os.close(handle)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    try:
        yield
    except BaseException as exc:
        LOGGER.info("stopped: %s", exc or type(exc).__name__)
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
