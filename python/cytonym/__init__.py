"""cytonym names the cell types of Visium HD and single-cell samples, offline."""

from .version import __version__

__all__ = ["__version__"]
