"""Errors of the tracing layer: each says what was asked, what there is and what to do."""


class InterpError(Exception):
    """Base of everything that `interp` raises on purpose."""


class UnknownModel(InterpError, LookupError):
    """The name is no bundled model, no folder with a pipeline and no repository that can be had."""


class UnsupportedModel(InterpError, TypeError):
    """The pipeline loads, but no adapter knows its denoiser."""


class UnknownName(InterpError, LookupError):
    """A site, reduction or world that is not registered."""


class BadSpec(InterpError, ValueError):
    """A capture spec that the model cannot satisfy."""


class BadInput(InterpError, ValueError):
    """A sample or a setting that the pipeline cannot take."""


class OutOfMemory(InterpError, MemoryError):
    """A run that needs more memory than its device has."""


class BadIntervention(InterpError, ValueError):
    """An intervention that the run has no place for, or whose donor does not fit."""


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
