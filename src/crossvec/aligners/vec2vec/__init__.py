"""vec2vec — the unpaired translator of arXiv:2505.12540: adapters around one backbone, trained against discriminators.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             both directions of one network, chosen among steps and seeds without pairs
Uses  aligners.moments (for a warm start), and the siblings: {network, recipe} < objective < presets < settings < run

The Translator centres rows before they come here and places them afterwards. The published code does not centre: its network
has to learn each space's mean, and its cosines count that mean as agreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.moments import Moments
from crossvec.aligners.vec2vec.data import Rows
from crossvec.aligners.vec2vec.health import Judge
from crossvec.aligners.vec2vec.neural import Neural
from crossvec.aligners.vec2vec.presets import PRESETS, Preset
from crossvec.aligners.vec2vec.run import Linears, train
from crossvec.aligners.vec2vec.settings import Settings
from crossvec.aligners.vec2vec.training import Scores

__all__ = ["PRESETS", "Neural", "Preset", "Vec2Vec"]


@dataclass(frozen=True)
class Vec2Vec(Settings):
    """Unpaired alignment by adversarial training of a network with a shared latent (Jha 2025), from a linear start or none.

    A field that is None takes the value of `preset`: `small`, width 256, for a CPU; `full`, width 1024, for a GPU; `scratch`,
    width 256, from random weights; `paper` and `published-code`, as published. Those two differ: see `Objective`.

    start           "warm" at the rotation that `moments` finds with `effort` (the width is raised to hold both spaces where it
                    is not given); "cold" from random weights; None: as `preset`
    rec ... pseudo  weights of the objective's terms; `supervised` is used where pairs are given; `softness` and `nearness`: see
                    `Objective`
    without         fields that shall be 0, such as "latent, cycle_vsp", in place of `latent=0` and `cycle_vsp=0`
    gan ... latent_discriminators, norm, dropout   what paper and published code differ in, and other forms
    noise           the length of the noise that rows, of length 1, get before an adapter reads them in training
    frozen          "backbone" or "adapters": the part that stays as it starts, while the other learns
    seeds           healthy trainings to choose from; a sick one (see `health.sickness`) is replaced by the next seed
    looks, patience how often the averaged weights are judged without pairs, and how many looks without gain end training
    checkpoint      a folder: every `every` steps (0: at each look) what training goes on from is written there, and found
                    there after a kill
    events          a folder for TensorBoard's event files
    precision       "fp32"; "bf16", which a processor without instructions for it emulates, and is slower; "fp16" on a GPU
    others          how to train: `batch`, `rate`, `discriminator_rate`, `warmup`, `cooldown`, `ema`, `clip`, `compile`

    Evidence: `label_free_score` of the map kept, `start_score` before training, `healthy` trainings, `best_step`. The trace has
    a record a seed, with every look. Under torchrun the processes share the rows and train one network together.
    """

    name: ClassVar[str] = "vec2vec"
    needs_pairs: ClassVar[bool] = False
    uses_pairs: ClassVar[bool] = True
    tells_verdict: ClassVar[bool] = True

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
        judge: Judge | None = None,
        verdict: Judge | None = None,
        start: Alignment | None = None,
    ) -> Alignment:
        """Train a network between two centred clouds of unit rows; `judge` scores maps x -> y in place of the built-in score.

        `verdict` gives the Verdict's probability of such a map: it is told with each look at the training, and chooses nothing.
        A warm training starts at `start`, an alignment of linear maps, where it is given, else at what `moments` finds.
        Raises SettingError for settings that do not go together, UsageError for a checkpoint that cannot be read or written.
        """
        spaces = {"source": Rows.of(x), "target": Rows.of(y)}
        begun = 0.3 if self.warm and start is None else 0.0

        def linear() -> Linears:
            if not self.warm:
                return {}
            map_ = start
            if map_ is None:
                progress("looking for a linear start", 0.0)
                moments = Moments(effort=self.effort, seed=self.seed, finish="orthogonal")
                map_ = moments.fit(x, y, progress=lambda doing, fraction: progress(f"start: {doing}", begun * fraction))
            return {("source", "target"): map_}

        def of_network(told: Judge | None) -> Scores | None:
            return None if told is None else (lambda network: told(Neural.of(network, "source", "target")))

        found = train(
            self,
            spaces,
            linear=linear,
            pairs=pairs,
            scores=of_network(judge),
            verdict=of_network(verdict),
            progress=lambda doing, fraction: progress(doing, begun + (0.99 - begun) * fraction),
        )
        best = found.best
        evidence = {
            "label_free_score": best.score if best.score == best.score else 0.0,
            "start_score": best.looks[0].score,
            "healthy": float(found.healthy),
            "best_step": float(best.step),
        }
        progress("done", 1.0)
        there, back = (Neural.of(best.network, *ends) for ends in (("source", "target"), ("target", "source")))
        return Alignment(there, back, evidence, found.trace)
