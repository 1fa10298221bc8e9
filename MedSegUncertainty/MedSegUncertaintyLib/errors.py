"""Errors that reach the user: one sentence that says what is wrong and what to do, and its exit code."""


class MedSegError(Exception):
    """Base of every error whose message is meant to be read by the user."""

    exit_code = 1


class BadInputError(MedSegError):
    """The image, the region of interest or a parameter cannot be used as it is."""

    exit_code = 3


class PackageError(BadInputError):
    """A model package is missing, damaged or does not fit; nothing of it was loaded."""


class CanceledError(MedSegError):
    """The user asked to stop; no result was made."""

    exit_code = 4

    def __init__(self, message: str = "Canceled by the user.") -> None:
        super().__init__(message)


class MemoryExhaustedError(MedSegError):
    """Even the smallest tile and a single draw per pass did not fit into memory."""

    exit_code = 5
