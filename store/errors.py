"""What can go wrong with a store, one class a cause.

Every error is a `StoreError` and also the builtin that a caller without this module would catch.
Its text is one plain sentence: what was asked, what there is, what to do.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error that this package raises on purpose."""

    def __str__(self) -> str:
        """The sentence itself: `KeyError` would quote it, `OSError` would put a number before it."""
        return str(self.args[0]) if self.args else type(self).__name__


class StoreNotFound(StoreError, FileNotFoundError):
    """There is no folder at the store's path."""


class NotAStore(StoreError, ValueError):
    """The path is a file, or a folder that holds something else."""


class NewerFormat(StoreError, ValueError):
    """A newer stepscope wrote this; reading on would guess."""


class ReadOnlyStore(StoreError, PermissionError):
    """Writing was asked of a store opened for reading, or of a folder that cannot be written."""


class StoreUnreachable(StoreError, ConnectionError):
    """A server did not answer, or refused, often enough to give up; trying again later may help."""


class AccessDenied(StoreError, PermissionError):
    """A server does not accept the credentials, or they do not allow this."""


class StoreFull(StoreError, OSError):
    """The disk, or the user's quota on it, is used up."""


class RunNotFound(StoreError, KeyError):
    """No complete run has this id, or none answers a selection."""


class SampleNotFound(StoreError, KeyError):
    """No sample has this id."""


class ResultNotFound(StoreError, KeyError):
    """No result has this id."""


class RunExists(StoreError, FileExistsError):
    """A complete run with this id is in the store already; runs are never overwritten."""


class IncompleteRun(StoreError, RuntimeError):
    """A commit was asked before everything announced was written."""


class InvalidArray(StoreError, ValueError):
    """An array, its coordinates or a block of it does not fit what the format allows."""


class InvalidRecord(StoreError, ValueError):
    """A record holds a value that a manifest cannot keep."""


class CorruptManifest(StoreError, ValueError):
    """A manifest cannot be read: cut short, overwritten, or not one of ours."""


class DamagedArray(StoreError, ValueError):
    """A file that the manifest promises is missing, has another size, or fails its checksum."""


class MissingFile(DamagedArray, FileNotFoundError):
    """A file that the manifest promises is not there."""


class RaggedRuns(StoreError, ValueError):
    """The selected runs cannot be stacked: their labels or shapes differ."""


class UnknownArray(StoreError, KeyError):
    """No selected run holds this site and reduction."""


class UnknownLabel(StoreError, KeyError):
    """A step, branch, layer or frame that the array does not have."""


class QueryError(StoreError, ValueError):
    """SQL that is wrong, or that does more than select."""
