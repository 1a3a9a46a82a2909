"""Every error a user can meet.

    EdgertError            exit code 3: what was asked for could not be done
    |-- UsageError         exit code 2: a flag, a name, a file that cannot be right
    |-- BundleError        a bundle is missing, altered or of another version
    |-- RecordError        a run record cannot be read
    |-- AdmissionRefused   the mandatory parts are not proven in time
    |-- SourceError        a camera, video or data set does not deliver
    |-- RemoteError        another machine cannot be reached, or cannot do what is asked of it
    |   |-- HostUnreachable      nothing answers at that address and port
    |   |-- HostKeyRefused       its key is unknown, or not the one that is known
    |   |-- LoginRefused         it does not let this user in, or not become root
    |   |-- ConnectionLost       the connection ended in the middle
    |   |-- NoSpace              its disk is full
    |   |-- WrongMachine         nothing here runs on its processor
    |   |-- PythonUnfit          its Python or NumPy is missing or too old
    |   |-- HashMismatch         what arrived is not what was sent
    |   `-- DeployRefused        the new version does not load there, or its golden frames differ
    `-- AcceleratorError   an engine of the ternary network failed
        |-- SelfTestFailed       it does not give the golden answers
        |-- AcceleratorTimeout   it did not answer within its bound
        |-- AcceleratorMissing   it cannot run on this machine
        |   `-- FabricBusy           another process has the FPGA
        |-- BitstreamRefused     a bitstream is altered, or of another part or model
        |-- FabricFault          the FPGA reports an error, or says what it never can
        `-- FabricLost           the FPGA is not programmed or not clocked any more
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


class FabricBusy(AcceleratorMissing):
    """Another process has the FPGA."""


class BitstreamRefused(AcceleratorError):
    """A bitstream is altered, or made for another part or model; it was not loaded."""


class FabricFault(AcceleratorError):
    """The FPGA reports an error, or says what it never can. `status` and `errors` are those registers as read."""

    def __init__(self, message: str, next_step: str = "", status: int = 0, errors: int = 0):
        super().__init__(message, next_step)
        self.status, self.errors = status, errors


class FabricLost(AcceleratorError):
    """The FPGA is not programmed or not clocked any more: to touch its registers would stop this processor for ever."""


class RemoteError(EdgertError):
    """Another machine cannot be reached, or cannot do what is asked of it."""


class HostUnreachable(RemoteError):
    """Nothing answers at that address and port."""


class HostKeyRefused(RemoteError):
    """The other machine's key is unknown, or not the one that is known."""


class LoginRefused(RemoteError):
    """The other machine does not let this user in, or not become root."""


class ConnectionLost(RemoteError):
    """The connection ended in the middle; asking again is safe."""


class NoSpace(RemoteError):
    """The other machine's disk has not enough room."""


class WrongMachine(RemoteError):
    """Nothing here runs on the other machine's processor."""


class PythonUnfit(RemoteError):
    """The other machine's Python or NumPy is missing or too old."""


class HashMismatch(RemoteError):
    """What arrived is not what was sent."""


class DeployRefused(RemoteError):
    """The new version does not load on the other machine, or its golden frames differ; the one before it stays in use."""
