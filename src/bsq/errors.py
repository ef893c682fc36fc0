"""The error tree. What enters: what went wrong, in the user's words. What leaves: an exception with an exit code.

Every error a user can cause is a `BsqError`. Its message says what happened, what was found, what was wanted and what
to do next; the command line prints it as it stands and exits with `exit_code`. Distinct causes have distinct codes, so
that scripts can tell them apart. Exit code 1 is left for "some of many inputs failed, the rest were done".
"""


class BsqError(Exception):
    """Base of all errors a user can cause."""

    exit_code = 2


class SettingsError(BsqError, ValueError):
    """A setting, recipe or command-line value is unknown, missing or out of range."""


class ShapeError(BsqError, ValueError):
    """A tensor has a shape or dtype that the function does not take."""


class RangeError(BsqError, ValueError):
    """Pixels lie outside the range that the function takes."""


class CodesError(BsqError, ValueError):
    """Digits, radices, indices or packed bytes do not describe codes."""


class NumericsError(BsqError, ArithmeticError):
    """NaN or infinity where a number was needed."""

    exit_code = 3


class MissingDependencyError(BsqError, ImportError):
    """An optional library is needed and not installed."""

    exit_code = 4


class MediaError(BsqError):
    """A picture or video file cannot be read or written."""

    exit_code = 5


class CheckpointError(BsqError):
    """A model folder or checkpoint is missing, incomplete or does not fit the model."""

    exit_code = 6


class DataError(BsqError):
    """A data set is empty or unreadable."""

    exit_code = 7


class TrainingError(BsqError):
    """Training cannot go on (not a number, no checkpoint to resume from, a full disk)."""

    exit_code = 8


class EvaluationError(BsqError):
    """An evaluation cannot go on: one of its processes failed or was ended from outside."""

    exit_code = 9


class StreamError(BsqError):
    """Base of all errors of `.bsq` streams."""

    exit_code = 10


class NotABsqStreamError(StreamError):
    """The bytes do not begin as a `.bsq` stream does."""

    exit_code = 10


class EmptyStreamError(StreamError):
    """There are no bytes at all."""

    exit_code = 11


class NewerVersionError(StreamError):
    """The stream was written by a newer major version of the format."""

    exit_code = 12


class WrongModelError(StreamError):
    """The stream was written with another tokenizer or prior."""

    exit_code = 13


class DamagedStreamError(StreamError):
    """A checksum or a derived count does not hold."""

    exit_code = 14


class TruncatedStreamError(StreamError):
    """The stream ends before its closing digest."""

    exit_code = 15


class LimitError(StreamError):
    """The stream or picture is larger than the limits allow."""

    exit_code = 16


class NotPortableError(StreamError):
    """The stream needs a prior that computes in floating point and may not decode on this machine."""

    exit_code = 17
