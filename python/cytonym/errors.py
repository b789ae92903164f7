"""All errors that a user can meet, each with the exit code of its class.

`cli.py` prints them as one `ERROR:` line and exits with `exit_code`; a Python caller catches `CytonymError`.
A foreign error (h5py, jsonschema, the file system) is turned into one of these where it arises.
"""

from __future__ import annotations

from pathlib import Path


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


class TokenError(CytonymError):
    """No usable 10x Cloud token on this machine: none found, not readable, or not a token. Exit code 1."""


class LoupeProgramError(CytonymError):
    """A program of 10x Genomics for .cloupe files failed. Exit code 1, as in Space Ranger."""

    def __init__(self, program: Path, reason: str, said: str = "") -> None:
        super().__init__(f"{program} {reason}.{said and f' It said: {said}'}")
        self.program = program.name
        self.reason = reason  # without what it said, which may hold paths


class CloudError(CytonymError):
    """10x Cloud failed: not reached, refused, gave up, took too long, or sent damaged files. Exit code 6.

    What local models produced is not touched; the same command later goes on where the cloud stopped.
    """

    exit_code = 6


class TokenRefused(CloudError):
    """10x Cloud does not take the token (401 or 403): it is wrong, expired or of another server."""


class PassingCloudError(CloudError):
    """A failure of 10x Cloud that another try may not meet."""


class CloudAnswerError(PassingCloudError):
    """No answer, or one that is an error or cannot be understood. `code` is the HTTP status, 0 where there is none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_refusal(self) -> bool:
        """The same request will be refused again (4xx, except time-out and too many requests)."""
        return 400 <= self.code < 500 and self.code not in (408, 429)


class DamagedDownload(PassingCloudError):
    """A file that 10x Cloud delivered is cut off, garbled, or does not fit the matrix."""
