"""crossvec — translate embeddings between models without pairs, and measure what leaked vectors give away.

A store yields a Space; an aligner learns from two of them; a Translator is what it learned; evaluate scores it.

    translator = crossvec.fit(crossvec.open("a.npy").load(), crossvec.open("b.npy").load())
    rows = translator.translate(source_rows)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "CrossvecError": "errors",
    "Frame": "translator",
    "Likeness": "diagnostics",
    "Profile": "diagnostics",
    "Scores": "evaluation",
    "Space": "space",
    "Translator": "translator",
    "Verdict": "verdict",
    "compare": "diagnostics",
    "evaluate": "evaluation",
    "fit": "fitting",
    "inspect": "diagnostics",
    "open": "stores",
}
"""Where each public name lives; imported when it is first asked for, so that `import crossvec` costs nothing."""

__all__ = [
    "CrossvecError",
    "Frame",
    "Likeness",
    "Profile",
    "Scores",
    "Space",
    "Translator",
    "Verdict",
    "compare",
    "evaluate",
    "fit",
    "inspect",
    "open",
]

if TYPE_CHECKING:
    from crossvec.diagnostics import Likeness, Profile, compare, inspect
    from crossvec.errors import CrossvecError
    from crossvec.evaluation import Scores, evaluate
    from crossvec.fitting import fit
    from crossvec.space import Space
    from crossvec.stores import open
    from crossvec.translator import Frame, Translator
    from crossvec.verdict import Verdict


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'crossvec' has no attribute {name!r}")
    value = getattr(import_module(f"crossvec.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
