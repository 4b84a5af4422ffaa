"""The error tree. Every class also has a built-in parent, so callers may catch either.

    FmfbenchError
    ├── InputError (ValueError)              the input is not what was asked for: exit code 2
    │   ├── SourceError                      a recording, .mat, CSV or JSON that cannot be converted
    │   ├── StoreError                       a path that is not a store, or not one of this schema
    │   ├── WindowError                      a protocol, split or context that the data cannot serve
    │   ├── PredictionError                  a prediction or label file that cannot be scored
    │   └── AnnotationError                  keyframes, boxes or layers that cannot be used
    └── FailedError (RuntimeError)           good input, but it could not be done: exit code 1
        ├── DamageError                      stored bytes that no longer match their checksum
        ├── BusyError                        another process is writing to the same target
        ├── TrainingError                    a loss that is not finite, a checkpoint that does not fit
        └── MissingDependencyError (ImportError)  a package that is not installed; names the extra

A message is one line: what was expected, what it got instead, where, and what to do.
"""

from __future__ import annotations

__all__ = [
    "AnnotationError",
    "BusyError",
    "DamageError",
    "FailedError",
    "FmfbenchError",
    "InputError",
    "MissingDependencyError",
    "PredictionError",
    "SourceError",
    "StoreError",
    "TrainingError",
    "WindowError",
]


class FmfbenchError(Exception):
    """Any error that fmfbench raises on purpose."""

    exit_code = 1


class InputError(FmfbenchError, ValueError):
    """The input is not what was asked for."""

    exit_code = 2


class SourceError(InputError):
    """A recording, .mat, CSV or JSON file that cannot be converted."""


class StoreError(InputError):
    """A path that is not a store of this schema."""


class WindowError(InputError):
    """A protocol, split or context that the data cannot serve."""


class PredictionError(InputError):
    """A prediction or label file that cannot be scored."""


class AnnotationError(InputError):
    """Keyframes, boxes or layers that cannot be used."""


class FailedError(FmfbenchError, RuntimeError):
    """The input was good, but the work could not be done."""


class DamageError(FailedError):
    """Stored bytes that no longer match their checksum."""


class BusyError(FailedError):
    """Another process is writing to the same target."""


class TrainingError(FailedError):
    """A training run that cannot continue."""


class MissingDependencyError(FailedError, ImportError):
    """A package that is not installed; the message names what to install."""
