"""Whether token, sample and model are good for 10x Cloud, asked before anything of the sample is sent."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CloudAnswerError, CloudError, GenomeMismatch, InputError, ModelError
from ._cloud_api import CloudClient, CloudModel, ModelChoice
from .pace import PAUSE
from .statistics import SessionStatistics
from .tries import in_tries

AUTO = "auto"
GENOMES = ("GRCh38", "hg19", "mm10", "GRCm39")  # one of them stands in the name of a genome that has a model
FEWEST_CELLS, MOST_CELLS = 100, 1_200_000


def connect(client: CloudClient, statistics: SessionStatistics | None = None, *, pause: float = PAUSE) -> None:
    """Returns when the service takes the token; tries three times, except with a token that it refuses."""

    def once() -> None:
        if statistics is None:
            client.verify()
        else:
            with statistics.measured("connect"):
                client.verify()

    try:
        in_tries(once, client.pace, pause=pause)
    except CloudAnswerError as exc:
        raise CloudError(
            f"Cannot connect to 10x Cloud: {exc} Nothing was sent. See that {client.server} can be reached from here, "
            "and try 'cytonym cloud auth verify'."
        ) from exc


def check_sample(genome: str, n_cells: int, name: str) -> None:
    """Raises what Space Ranger refuses: a genome without a model, too few or too many cells. `name` is the matrix's."""
    if not any(known in genome for known in GENOMES):
        raise GenomeMismatch(
            f"10x Cloud has models for {', '.join(GENOMES)} only, but {name} holds "
            f"{genome or 'no genome that it names'}. Leave --cell-annotation-model out for a local model."
        )
    if not FEWEST_CELLS <= n_cells <= MOST_CELLS:
        raise InputError(
            f"10x Cloud annotates {FEWEST_CELLS:,} to {MOST_CELLS:,} cells, but {name} holds {n_cells:,}. Leave "
            "--cell-annotation-model out for a local model."
        )


def without_prefix(name: str | None) -> str | None:
    """The model's own name: what stands after the first colon; None for `auto`, nothing, or an empty name."""
    if name is None:
        return None
    bare = name.partition(":")[2] if ":" in name else name
    return None if bare in ("", AUTO) else bare


def check_model_name(name: str | None, models: Iterable[CloudModel]) -> None:
    """Raises ModelError unless the service has a model of that name, or is to choose one itself."""
    names = [model.name for model in models]
    wanted = without_prefix(name)
    if wanted is not None and wanted not in names:
        listed = ", ".join(names) or "none"
        raise ModelError(
            f"'{name}' is no model of 10x Cloud. Its models: {AUTO}, {listed}; see 'cytonym cloud annotation models'."
        )


def choose_model(client: CloudClient, genome: str, name: str | None) -> ModelChoice:
    """The model that the service will run on that genome; ModelError when it has none."""
    try:
        return in_tries(lambda: _choose_once(client, genome, name), client.pace)
    except CloudAnswerError as exc:
        raise CloudError(f"10x Cloud could not choose a model. {exc} The same command later tries again.") from exc


def _choose_once(client: CloudClient, genome: str, name: str | None) -> ModelChoice:
    try:
        return client.choose_model(genome, without_prefix(name))
    except CloudAnswerError as exc:
        if exc.code != 400:
            raise
        model = f"model '{name}'" if without_prefix(name) else "any model"
        raise ModelError(
            f"10x Cloud does not have {model} for the genome {genome}. See 'cytonym cloud annotation models', or leave "
            "--cell-annotation-model out for a local model."
        ) from exc
