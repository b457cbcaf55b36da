"""sample — real vectors for a first try: two encoders of different families over different passages, and pairs to score on.

In    wiki.npz               four int8 clouds and their steps, beside this file; made by scripts/make_sample.py
Out   Sample                 source (36000, 256), target (36000, 128): truly unpaired; eval_source, eval_target: 4096 pairs
Uses  space
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from crossvec.space import Space


@dataclass(frozen=True, eq=False)
class Sample:
    """Vectors to fit on and vectors to score on.

    No passage behind `source` comes from an article behind `target`. Row i of `eval_source` and row i of `eval_target`
    are one passage, from articles that occur in neither; a fit never sees them.
    """

    source: Space
    target: Space
    eval_source: Space
    eval_target: Space


def load() -> Sample:
    """Read the packaged vectors: float32 rows of unit length, as the two encoders gave them but for rounding (cosine .999)."""
    import numpy as np

    with as_file(files(__name__) / "wiki.npz") as path, np.load(path, allow_pickle=False) as stored:

        def space(cloud: str, encoder: str) -> Space:
            rows = np.multiply(stored[cloud], stored[f"{encoder}_step"], dtype=np.float32, order="C")
            # Both encoders give unit rows: scaling them back takes away what rounding did to their lengths.
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            return Space.of(rows, name=encoder)

        return Sample(
            source=space("source", "wordllama"),
            target=space("target", "potion"),
            eval_source=space("eval_source", "wordllama"),
            eval_target=space("eval_target", "potion"),
        )
