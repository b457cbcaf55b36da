"""errors — every error a caller may catch, drawn as a tree.

CrossvecError                 anything crossvec refuses or cannot finish; has a `hint`: what to type next
├── UsageError                the request itself is wrong (exit code 2)
│   ├── SettingError          an unknown or impossible setting of an aligner
│   ├── StoreError            a store that cannot be found, parsed or written
│   │   └── MissingExtraError a store or aligner whose optional dependency is not installed
│   ├── SpaceError            vectors that are not a usable space: NaN rows, ragged rows, no rows
│   └── TranslatorError       a saved translator that is damaged or does not fit the rows it is given
└── UnfinishedError           the work could not be finished: disk full, killed, out of memory (exit code 4)
"""

import difflib
from collections.abc import Iterable


class CrossvecError(Exception):
    """Anything crossvec refuses or cannot finish.

    `hint` is one sentence that tells the user what to type or change next; empty when the message says it already.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(CrossvecError):
    """The request itself is wrong."""


class SettingError(UsageError):
    """An unknown or impossible setting."""


class StoreError(UsageError):
    """A store cannot be found, parsed or written."""


class MissingExtraError(StoreError):
    """An optional dependency is not installed; the hint is the install line."""


class SpaceError(UsageError):
    """Vectors that are not a usable space."""


class TranslatorError(UsageError):
    """A saved translator is damaged, or does not fit the rows it is given."""


class UnfinishedError(CrossvecError):
    """The work could not be finished: disk full, interrupted, out of memory."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that asks for the word most like this one, where one is, and names all there are."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"
