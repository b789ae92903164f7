"""cytonym names the cell types of Visium HD and single-cell samples, offline.

result = cytonym.annotate(cytonym.AnnotateRequest(id="sample123", matrix=Path("filtered_feature_cell_matrix.h5")))
result.models["markers"].cell_types.table
"""

from .annotate import annotate
from .errors import CytonymError
from .results import AnnotateResult, read_outs
from .types import AnnotateRequest
from .version import __version__

__all__ = ["AnnotateRequest", "AnnotateResult", "CytonymError", "__version__", "annotate", "read_outs"]
