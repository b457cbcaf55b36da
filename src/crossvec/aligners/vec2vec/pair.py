"""pair — two of the spaces of a trained Universal as an alignment, so that a fit makes a Translator of them and judges it.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length, of two models that the Universal was trained on
Out   Alignment             the network's directions between them, as they are: nothing is trained
Uses  aligners.vec2vec.universal
Paper arXiv:2505.12540      section 3.1: F_xy = B_y T A_x for any two spaces around one backbone
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.limits import check
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import SettingError


@dataclass(frozen=True)
class PairOfUniversal:
    """The way from one space of a trained universal space to another, and back: nothing is trained, the verdict judges it.

    space           the file that `python -m crossvec.aligners.vec2vec` or `Universal.save` wrote
    source, target  names of two spaces in it
    seed            changes nothing

    Give rows like those it was trained on: they are centred by their own mean. Evidence: `healthy`, 1 where a training was.
    """

    name: ClassVar[str] = "universal"
    needs_pairs: ClassVar[bool] = False

    space: str = ""
    source: str = ""
    target: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Return the network's directions between the two spaces; `pairs` are not looked at.

        Raises SettingError without a file or for spaces that are not in it, of other dimensions too, TranslatorError for a file
        that is damaged or something else.
        """
        if not self.space:
            hint = "add -s space=FILE, what `python -m crossvec.aligners.vec2vec` saved, -s source=NAME and -s target=NAME"
            raise SettingError("there is no trained space to take the two from", hint)
        progress(f"reading {self.space}", 0.0)
        universal = Universal.load(self.space)
        universal.check(self.source, x.shape[1])
        universal.check(self.target, y.shape[1])
        universal.network.to(x.device)
        there, back = universal.translator(self.source, self.target), universal.translator(self.target, self.source)
        progress("done", 1.0)
        return Alignment(there, back, {"healthy": float(universal.healthy)}, tuple(universal.trace))
