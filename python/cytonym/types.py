"""What the stages hand to each other: plain values, without any file access.

`AnnotateRequest -> Plan -> Fitted -> Predictions -> CellTypes -> DiffExp`; the stages' files hold the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .search.evidence import Evidence

if TYPE_CHECKING:
    import anndata

    from .cloud import CloudClient

UNASSIGNED = "Unassigned"
LOW_UMI_BARCODE = "Low UMI Barcode"
COARSE_NOT_CONFIDENT = "Coarse Not Confidently Annotated"
FINE_NOT_CONFIDENT = "Fine Not Confidently Annotated"
NO_TYPE = (UNASSIGNED, LOW_UMI_BARCODE, COARSE_NOT_CONFIDENT)  # coarse labels that name no type
NOT_RETURNED = "not returned"  # reason of a cell that a service left out
LOW_UMI_THRESHOLD = 100
CONFIDENT, VERY_CONFIDENT = 0.5, 0.9  # probabilities from which on a label is called so
LABEL_COLUMNS = ("broad_cell_type", "coarse_cell_type", "fine_cell_type")
SKIPPABLE_STAGES = ("diffexp", "report")

SPECIES = ("human", "mouse")
GENE_EXPRESSION = "Gene Expression"


@dataclass(frozen=True)
class AnnotateRequest:
    """What the user asked for, with paths made absolute; the fields are the options of `cytonym annotate`."""

    id: str
    matrix: Path
    description: str = ""
    cell_annotation_model: str | None = None  # None: nothing named, nothing leaves the machine
    tenx_cloud_token_path: Path | None = None
    cloupe: Path | None = None
    cloupe_group_name: str | None = None
    loupe_tools: Path | None = None  # folder of 10x Genomics' programs; None: those on PATH
    output_dir: Path | None = None  # None: <current folder>/<id>
    genome: str | None = None
    low_umi_threshold: int = LOW_UMI_THRESHOLD
    skip: tuple[str, ...] = ()
    embeddings: bool = False
    markers: Path | None = None  # of the marker model: the user's own types
    markers_only: bool = False  # without the packaged ones
    tissue: str | None = None
    evidence: str = "summary"  # of references, see search.neighbours.EVIDENCE_KINDS
    scoring: str = "fused"  # of references, see search.cas.SCORINGS
    cell_segmentations: Path | None = None  # GeoJSON; None: the one beside the matrix, if any
    spatial: Path | None = None  # Space Ranger's folder of that name; None: the one beside the matrix, if any
    h5ad: bool = False
    spatialdata: bool = False
    figures: bool = False
    models_dir: Path | None = None
    partition_size: int = 131_072  # cells
    localcores: int | None = None
    localmem: int | None = None  # GB

    @property
    def pipestance(self) -> Path:
        """The run's folder: `--output-dir` itself, else `<id>` in the current folder."""
        return self.output_dir if self.output_dir is not None else Path.cwd() / self.id


@dataclass(frozen=True)
class Alert:
    """Something a reader of the results must know; shown in log, page and metrics."""

    level: str  # "ERROR", "WARN" or "INFO"
    title: str
    message: str


@dataclass(frozen=True)
class SourceFile:
    """A file that an installed model was made from."""

    name: str
    sha256: str
    known_as: str = ""  # which published file it is; "" when its checksum is not known


@dataclass(frozen=True)
class ModelCard:
    """What a model is, and which columns it writes."""

    name: str  # as given to --cell-annotation-model, e.g. "markers"
    backend: str  # key of `backends.BACKENDS`
    folder: str  # under outs/cell_types/
    title: str  # what people read, e.g. "Embedded marker model (human)"
    species: tuple[str, ...]
    version: str
    licence: str
    description: str
    columns: tuple[str, ...]  # the model's own columns of cell_types.csv, in order
    banner: str = ""  # disclaimer at the top of the page
    reliability: str = ""  # what its confidence means, for people
    doi: str = ""  # of the published weights
    embedding_size: int = 0  # numbers a cell that --embeddings writes; 0: none
    takes_normalised: bool = False  # works without raw counts, too
    sources: tuple[SourceFile, ...] = ()  # of an installed model

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ModelCard:
        sources = tuple(SourceFile(**source) for source in value.get("sources", ()))
        listed = {name: tuple(value[name]) for name in ("species", "columns")}
        return cls(**{**value, **listed, "sources": sources})


@dataclass(frozen=True)
class Model:
    """A model that can run: its card, and what it works with."""

    card: ModelCard
    folder: Path | None = None  # of an installed model
    client: CloudClient | None = None  # of a cloud model
    record: Path | None = None  # folder that outlives a crash, of a cloud model
    settings: dict[str, Any] = field(default_factory=dict)  # JSON values, of the request: the backend's business


@dataclass(frozen=True)
class Partition:
    """A range of cells, `start <= row < stop`."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class MatrixInfo:
    """What preflight learnt about the matrix file, once."""

    name: str  # base name of the user's file or folder
    format: str  # "10x HDF5", "10x HDF5 (version 1)", "MEX", "h5ad"
    sha256: str  # of the file; of the three files, in order, for MEX
    n_cells: int
    n_features: int  # Gene Expression only
    n_nonzeros: int  # Gene Expression only
    feature_types: dict[str, int]  # feature type -> number of features
    genome: str  # as in the file, or as named by the user; "" when the file says nothing
    species: str  # "human" or "mouse"
    chemistry: str
    barcode_kind: str  # "cell", "bin", "sequence" or "other"
    median_umis: float
    fractional: bool = False  # other values than counts, for models that take them
    converted: bool = False  # stages read `matrix.h5`, which preflight wrote, instead of the user's file


@dataclass(frozen=True)
class BesideFile:
    """A file beside the matrix that tells where cells lie."""

    name: str
    sha256: str  # "" where the file is the matrix itself


@dataclass(frozen=True)
class Job:
    """One model to run on the sample."""

    card: ModelCard
    model_path: str | None = None  # name of the folder of an installed model, or of a reference
    model_sha256: str = ""  # of its files, one after the other
    settings: dict[str, Any] = field(default_factory=dict)  # what the request says to this model


@dataclass(frozen=True)
class Plan:
    """What preflight decided: one sample, its models and its partitions. Stored as plan.json."""

    id: str
    description: str
    matrix: MatrixInfo
    jobs: tuple[Job, ...]
    partitions: tuple[Partition, ...]
    low_umi_threshold: int = LOW_UMI_THRESHOLD
    skip: tuple[str, ...] = ()
    embeddings: bool = False
    h5ad: bool = False
    spatialdata: bool = False
    figures: bool = False
    beside: dict[str, BesideFile] = field(default_factory=dict)  # by role, see beside.py
    cloupe_group_name: str | None = None
    alerts: tuple[Alert, ...] = ()
    notes: tuple[str, ...] = ()  # calm lines for the log, e.g. which model runs and why
    versions: dict[str, str] = field(default_factory=dict)

    def job(self, model: str) -> Job:
        """The job of that model name; KeyError if the plan has none."""
        for job in self.jobs:
            if job.card.name == model:
                return job
        raise KeyError(model)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        return cls(
            **{
                **value,
                "matrix": MatrixInfo(**value["matrix"]),
                "jobs": tuple(Job(**{**j, "card": ModelCard.from_json(j["card"])}) for j in value["jobs"]),
                "partitions": tuple(Partition(**p) for p in value["partitions"]),
                "skip": tuple(value["skip"]),
                "beside": {role: BesideFile(**file) for role, file in value.get("beside", {}).items()},
                "alerts": tuple(Alert(**a) for a in value["alerts"]),
                "notes": tuple(value["notes"]),
            }
        )


@dataclass(frozen=True)
class Fitted:
    """What a model learnt from the sample, before cells are split; all that `classify` needs besides the cells.

    `meta` holds JSON values, `arrays` numeric or string arrays; which ones is the backend's business.
    """

    model: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    alerts: tuple[Alert, ...] = ()
    results: Path | None = None  # file that becomes cell_annotation_results.json.gz; kept beside, not inside
    folder: Path | None = None  # of an installed model, for what is too large to copy; never stored


@dataclass(frozen=True)
class Predictions:
    """The labels of consecutive cells, before any rule that is common to all models.

    `labels` has one row per distinct combination of label texts (columns `broad_cell_type`, `coarse_cell_type`,
    `fine_cell_type` and the model's own text columns); `label_codes[i]` is the row of cell `start + i`.
    `values` are the model's numeric columns, each of length n, already rounded as they shall be written.
    """

    start: int
    barcodes: np.ndarray  # (n,) str
    umi_counts: np.ndarray  # (n,) int64, Gene Expression UMIs
    labels: pd.DataFrame
    label_codes: np.ndarray  # (n,) int32
    values: dict[str, np.ndarray]
    embeddings: np.ndarray | None = None  # (n, embedding_size) float32, of models that have them
    evidence: Evidence | None = None  # on the same cells, of models that compare with a reference's cells

    @property
    def n_cells(self) -> int:
        return len(self.barcodes)

    @property
    def stop(self) -> int:
        return self.start + self.n_cells

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """One table from parts that follow each other; ValueError if they leave a gap or overlap."""
        parts = sorted(parts, key=lambda part: part.start)
        for before, after in itertools.pairwise(parts):
            if before.stop != after.start:
                raise ValueError(f"cells {before.stop} and {after.start}: the parts do not follow each other")
        labels = pd.concat([part.labels for part in parts], ignore_index=True).drop_duplicates(ignore_index=True)
        row_of = {row: i for i, row in enumerate(labels.itertuples(index=False, name=None))}
        codes = []
        for part in parts:
            rows = part.labels[list(labels.columns)].itertuples(index=False, name=None)
            codes.append(np.array([row_of[row] for row in rows], dtype=np.int32)[part.label_codes])
        embeddings = [part.embeddings for part in parts if part.embeddings is not None]
        evidence = [part.evidence for part in parts if part.evidence is not None]
        return cls(
            start=parts[0].start,
            barcodes=np.concatenate([part.barcodes for part in parts]),
            umi_counts=np.concatenate([part.umi_counts for part in parts]),
            labels=labels,
            label_codes=np.concatenate(codes),
            values={name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values},
            embeddings=None if not embeddings else np.concatenate(embeddings),
            evidence=None if not evidence else Evidence.concatenate(evidence),
        )


@dataclass(frozen=True)
class CellTypes:
    """The table of cell_types.csv of one model: one row a barcode, in matrix order."""

    model: ModelCard
    table: pd.DataFrame

    def to_anndata(self) -> anndata.AnnData:
        """Cells with their labels in `obs` and no expression; needs the extra `cytonym[anndata]`."""
        try:
            import anndata
        except ImportError as exc:
            raise ImportError("to_anndata() needs anndata: pip install 'cytonym[anndata]'") from exc
        return anndata.AnnData(obs=self.table.set_index("barcode"))


@dataclass(frozen=True)
class Projection:
    """Some cells in two dimensions."""

    name: str  # "UMAP", "t-SNE"
    source: str  # where it comes from, for people
    rows: np.ndarray  # (n,) int64, rising: rows of the matrix
    xy: np.ndarray  # (n, 2) float32


@dataclass(frozen=True)
class TissueMap:
    """The tissue as a raster: which cell fills which pixel."""

    cells: np.ndarray  # (height, width) int32: row of the matrix, -1 for none
    left: float  # x of the raster's corner, in the unit of the cells' places
    top: float
    scale: float  # raster pixels a unit


@dataclass(frozen=True)
class Places:
    """Where cells lie, on the tissue and in a projection; what is not known is None."""

    xy: np.ndarray | None = None  # (n_cells, 2) float32, full-resolution pixels as a rule; NaN for a cell without place
    tissue_map: TissueMap | None = None
    projection: Projection | None = None


@dataclass(frozen=True)
class DiffExp:
    """Each group against all other cells; arrays are features x groups, in matrix and sorted order."""

    feature_ids: np.ndarray
    feature_names: np.ndarray
    groups: tuple[str, ...]
    mean_counts: np.ndarray
    log2_fold_changes: np.ndarray
    adjusted_p_values: np.ndarray
