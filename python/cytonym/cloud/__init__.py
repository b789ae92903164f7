"""10x Cloud: the user's token, the service's protocol, and one call that brings a sample's labels back.

Nothing here reads an environment variable, a home folder or a global: callers hand in what is needed. Spellings of the
wire stay in `_cloud_api.py` and `io/cloud_results.py`.
"""

from ._cloud_api import CloudClient, CloudModel, ModelChoice, Timeouts
from .choice import check_model_name, check_sample, choose_model, connect, without_prefix
from .pace import PREFLIGHT_PAUSE, Pace
from .run import CloudInput, CloudResult, run_cloud_annotation
from .statistics import SessionStatistics
from .token import CloudToken, Secret, find_token

__all__ = [
    "PREFLIGHT_PAUSE",
    "CloudClient",
    "CloudInput",
    "CloudModel",
    "CloudResult",
    "CloudToken",
    "ModelChoice",
    "Pace",
    "Secret",
    "SessionStatistics",
    "Timeouts",
    "check_model_name",
    "check_sample",
    "choose_model",
    "connect",
    "find_token",
    "run_cloud_annotation",
    "without_prefix",
]
