"""membership — ask whether a document is in the store: of documents that are, and of others like them that were kept out.

In    Stage         its encoder embeds the documents; rows kept out of the store are the non-members
Out   Reading       AUC, and the share of members caught while 1 in 100 non-members is taken for one
Uses  audit.scores
Paper TPR at a low FPR, scores freed of how hard a document is: Carlini et al. 2022, arXiv:2112.03570, sections III and IV
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Float64

from crossvec.audit.inputs import centred
from crossvec.audit.ladder import Stage, encoded
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import FEWEST, area, area_under, caught, share
from crossvec.geometry import nearest

MOST_FALSE = 0.01
MOST_MEMBERS = 1000
EASY = 10  # the reference's nearest rows, by which a document that is near to everything is told


@dataclass(frozen=True)
class Membership:
    """The nearest row of the store, less how near the document is to texts at large."""

    name: ClassVar[str] = "membership"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "high"

    def lacks(self, stage: Stage) -> str:
        if stage.encoder is None:
            return "the model of the space, to embed the documents with"
        if stage.case.texts is None:
            return "the victim's texts, as documents to ask for"
        if len(stage.split.absent) < FEWEST:
            return f"{10 * FEWEST} rows or more, as one in ten is kept out of the store"
        return ""

    def measure(self, stage: Stage) -> Reading:
        if stage.encoder is None or stage.true is None:
            raise ValueError("the probe lacks a model or texts")  # `lacks` says so first
        inside = stage.true[np.random.default_rng(stage.seed).permutation(len(stage.true))[:MOST_MEMBERS]]
        outside = encoded(stage.encoder, stage.case.texts_of(stage.split.absent))
        crowds = {"attack": stage.translated(stage.crowd), "naive": stage.naive(stage.crowd)}
        found = _scores(np.concatenate([inside, outside]), {k: v for k, v in crowds.items() if v is not None}, stage.home)
        scores = {name: np.split(values, [len(inside)]) for name, values in found.items()}
        members, strangers = scores.pop("attack")
        seen: dict[str, Any] = {name: area_under(a, b) for name, (a, b) in scores.items()}
        seen_rate = {name: float(caught(a, b, MOST_FALSE).mean()) for name, (a, b) in scores.items()}
        hits = caught(members, strangers, MOST_FALSE)
        # The threshold is itself drawn from the non-members, which a bootstrap over members does not see: told, not gated.
        rate = share(
            "caught at 1 % false", hits, {"chance": np.full(len(hits), MOST_FALSE)}, seen_rate, seed=stage.seed, gates=False
        )
        counted = {"members": len(members), "non_members": len(strangers), "searched": len(stage.crowd)}
        return Reading((area("AUC", members, strangers, seen), rate), counted)


def _scores(
    documents: Float32[np.ndarray, "k d"],
    crowds: dict[str, Float32[np.ndarray, "c d"]],
    home: Float32[np.ndarray, "m d"] | None,
) -> dict[str, Float64[np.ndarray, " k"]]:
    """Return each document's best cosine in each crowd, less its mean cosine to the nearest rows of `home`, if there is one."""
    mean = (documents if home is None else home).mean(0)
    asked = torch.from_numpy(centred(documents, mean))
    easy = 0.0 if home is None else nearest(asked, torch.from_numpy(centred(home, mean)), EASY)[0].mean(1)
    best = {name: nearest(asked, torch.from_numpy(centred(rows)), 1)[0][:, 0] for name, rows in crowds.items()}
    return {name: (found - easy).double().numpy() for name, found in best.items()}
