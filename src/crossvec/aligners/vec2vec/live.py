"""live — what a training tells while it runs: a line of progress, and TensorBoard event files where they are asked for.

In    Look                  how training stands
Out   Step calls            what is being done, with losses, the discriminators' balance and the verdict, and the fraction done
      event files           one scalar a loss and vital sign, at its step
Uses  aligners; tensorboard when event files are asked for
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from crossvec.aligners import Step
from crossvec.aligners.vec2vec.health import Look
from crossvec.aligners.vec2vec.network import Network
from crossvec.errors import MissingExtraError

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Live:
    """Tells one run's looks to a `Step` and, when `folder` is named, to TensorBoard; `since` is the step it goes on from.

    `verdict` gives the Verdict's probability of a network, to be told with each look. Raises MissingExtraError when event files
    are asked for and the package tensorboard is not installed.
    """

    def __init__(
        self,
        progress: Step,
        steps: int,
        *,
        folder: Path | None = None,
        since: int = 0,
        verdict: Callable[[Network], float] | None = None,
    ) -> None:
        self.progress, self.steps, self.verdict = progress, steps, verdict
        self.doing = "training"
        self.events = None if folder is None else _writer(folder, since)

    def at(self, step: int) -> None:
        """Tell how far training is, in the words of the last look."""
        self.progress(self.doing, step / self.steps)

    def sure(self, network: Network) -> float:
        """Return the Verdict's probability of a network; no number where nobody gave a verdict."""
        return math.nan if self.verdict is None else self.verdict(network)

    def tell(self, look: Look) -> None:
        """Tell a look."""
        shown = ", ".join(f"{name} {value:.3f}" for name, value in sorted(look.parts.items(), key=lambda part: -part[1])[:3])
        self.doing = f"training: score {look.score:.3f}, loss {look.loss:.3f}" + (f" ({shown})" if shown else "")
        if any(name.startswith("critics") for name in look.parts):  # some are trained
            self.doing += f", discriminators right {100 * look.told_apart:.0f} %"
        if math.isfinite(look.verdict):
            self.doing += f", verdict {look.verdict:.2f}"
        self.at(look.step)
        if self.events is None:
            return
        scalars = {"score": look.score, "loss/total": look.loss, "health/rank": look.rank, "health/spread": look.spread}
        scalars |= {"health/told apart": look.told_apart} | {f"loss/{name}": value for name, value in look.parts.items()}
        scalars |= {"verdict": look.verdict} if math.isfinite(look.verdict) else {}
        for name, value in scalars.items():
            self.events.add_scalar(name, value, look.step)
        self.events.flush()

    def close(self) -> None:
        """Finish the event file."""
        if self.events is not None:
            self.events.close()


def require_tensorboard() -> None:
    """Raise MissingExtraError where TensorBoard's event files cannot be written: better before training than after."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "event files need the package tensorboard, which is not installed", "pip install tensorboard"
        ) from None


def _writer(folder: Path, since: int) -> SummaryWriter:
    require_tensorboard()
    from torch.utils.tensorboard.writer import SummaryWriter

    # Looks that a killed run told after its last checkpoint will be told again.
    return SummaryWriter(str(folder), purge_step=since or None)
