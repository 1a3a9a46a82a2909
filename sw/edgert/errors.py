"""Every error a user can meet.

    EdgertError            exit code 3: what was asked for could not be done
    |-- UsageError         exit code 2: a flag, a name, a file that cannot be right
    |-- BundleError        a bundle is missing, altered or of another version
    |-- RecordError        a run record cannot be read
    |-- AdmissionRefused   the mandatory parts are not proven in time
    |-- SourceError        a camera, video or data set does not deliver
    `-- AcceleratorError   an engine of the ternary network failed
        |-- SelfTestFailed       it does not give the golden answers
        |-- AcceleratorTimeout   it did not answer within its bound
        `-- AcceleratorMissing   it cannot run on this machine
"""

from __future__ import annotations


class EdgertError(Exception):
    """One line that says what was found and what was expected; `next_step` is the next command or action."""

    exit_code = 3

    def __init__(self, message: str, next_step: str = ""):
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message


class UsageError(EdgertError):
    """The command line, a name or an input file cannot be right."""

    exit_code = 2


class BundleError(EdgertError):
    """A bundle is missing, altered or of another version."""


class RecordError(EdgertError):
    """A run record cannot be read."""


class AdmissionRefused(EdgertError):
    """The mandatory parts are not proven to be in time."""


class SourceError(EdgertError):
    """A source of frames does not deliver."""


class AcceleratorError(EdgertError):
    """An engine of the ternary network failed."""


class SelfTestFailed(AcceleratorError):
    """It does not give the golden answers."""


class AcceleratorTimeout(AcceleratorError):
    """It did not answer within its bound."""


class AcceleratorMissing(AcceleratorError):
    """It cannot run on this machine."""
