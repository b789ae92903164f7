"""cytonym names the cell types of Visium HD and single-cell samples, offline."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cytonym")
except PackageNotFoundError:  # imported from a source tree that nobody installed
    __version__ = "0+unknown"
