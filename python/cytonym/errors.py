"""All errors that a user can meet, each with the exit code of its class.

`cli.py` prints them as one `ERROR:` line and exits with `exit_code`; a Python caller catches `CytonymError`.
A foreign error (h5py, jsonschema, the file system) is turned into one of these where it arises.
"""

from __future__ import annotations


class CytonymError(Exception):
    """The run cannot go on: what is wrong, in which file, and what to do. Exit code 1."""

    exit_code = 1


class UsageError(CytonymError):
    """The command line does not parse. Exit code 2, the argument parser's own."""

    exit_code = 2


class InputError(CytonymError):
    """A matrix, table or sample sheet cannot be used as it is. Exit code 3: the same file fails again."""

    exit_code = 3


class GenomeMismatch(InputError):
    """The sample's genome is none, several, or not the model's."""


class ModelError(CytonymError):
    """A model is unknown, not installed, or not available in this version. Exit code 4."""

    exit_code = 4


class OutputError(CytonymError):
    """A file cannot be written: no permission, or no space. Exit code 5: free space or choose another folder."""

    exit_code = 5
