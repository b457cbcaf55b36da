"""test_audit_world — the planted world of the audit's tests: texts with topics, and two models that read them.

A text is a point of a latent space, written as its number: "text 17". It lies around its topic, and "topic 3" is a text too:
the topic's centre. Both models are conftest's: a random semi-orthogonal map with an own offset, a bend and a little noise. So
topics can be read from the rows of either model, and from a stolen row only after it is translated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from conftest import orthonormal

from crossvec.audit import Case, Labels
from crossvec.encoders import Encoder
from crossvec.space import Space

TOPICS = 60


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """Reads "text N", "topic N" and sentences that end so; a text it was never given has a row of zeros."""

    name: str
    points: dict[str, np.ndarray]
    weight: np.ndarray
    shift: np.ndarray
    version: str = ""

    @property
    def dim(self) -> int:
        return self.weight.shape[1]

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Any = None) -> np.ndarray:
        points = [self.points.get(" ".join(text.rstrip(".").split()[-2:])) for text in texts]
        known = np.array([point is not None for point in points])
        rows = np.zeros((len(texts), self.dim), np.float32)
        if not known.any():
            return rows
        flat = np.stack([p for p in points if p is not None]) @ self.weight + self.shift
        rng = np.random.default_rng([len(texts), int(1e6 * abs(flat[0, 0]))])
        flat = flat + 0.1 * np.tanh(flat) + 0.05 * rng.standard_normal(flat.shape)
        rows[known] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
        return rows


@dataclass(frozen=True, eq=False)
class Planted:
    """`victim` and `reference` are different texts; `truth` holds the topic of each of the victim's."""

    victim_model: PlantedModel
    reference_model: PlantedModel
    victim_texts: list[str]
    reference_texts: list[str]
    truth: list[frozenset[str]]
    labels: Labels = field(default_factory=lambda: Labels.of([f"topic {i}" for i in range(TOPICS)], ["It is about {}."], k=3))

    def victim(self, rows: int | None = None) -> Space:
        return Space.of(self.victim_model.encode(self.victim_texts[:rows]), name="stolen")

    def reference(self) -> Space:
        return Space.of(self.reference_model.encode(self.reference_texts), name="known")

    def known_model(self, **changes: Any) -> Case:
        """What an attacker has who has the victim's model: nothing is learned, so that it takes no time."""
        given = {
            "victim": self.victim(),
            "own_encoder": self.victim_model,
            "labels": self.labels,
            "texts": self.victim_texts,
            "truth": self.truth,
        }
        return Case(**{**given, **changes})

    def case(self, **changes: Any) -> Case:
        """Everything an owner can give but pairs and the victim's model, with what a test changes."""
        given = {
            "victim": self.victim(),
            "reference": self.reference(),
            "reference_texts": self.reference_texts,
            "encoder": self.reference_model,
            "labels": self.labels,
            "texts": self.victim_texts,
            "truth": self.truth,
        }
        return Case(**{**given, **changes})


def planted(n: int = 1500, m: int = 1500, dx: int = 16, dy: int = 14, latent: int = 12, seed: int = 0) -> Planted:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(TOPICS, 0.5))
    centres = rng.standard_normal((TOPICS, latent)) * np.linspace(1.5, 0.7, latent)
    topics = rng.choice(TOPICS, n + m, p=weights)
    texts = centres[topics] + 0.5 * (rng.exponential(1.0, (n + m, latent)) - 1.0)
    points = {f"text {i}": text for i, text in enumerate(texts)} | {f"topic {i}": c for i, c in enumerate(centres)}
    models = [
        PlantedModel(name, points, orthonormal(latent, dim, rng), 0.6 * rng.standard_normal(dim))
        for name, dim in (("theirs", dx), ("ours", dy))
    ]
    written = [f"text {i}" for i in range(n + m)]
    truth = [frozenset({f"topic {topic}"}) for topic in topics[:n]]
    return Planted(models[0], models[1], written[:n], written[n:], truth)


def test_a_planted_model_is_an_encoder_and_reads_the_topic_of_a_text() -> None:
    world = planted(300, 300)
    model = world.victim_model
    assert isinstance(model, Encoder)
    rows, topics = model.encode(world.victim_texts), model.encode(world.labels.names)
    right = [int(next(iter(names)).split()[1]) for names in world.truth]
    nearest = ((rows - rows.mean(0)) @ (topics - topics.mean(0)).T).argmax(1)
    assert (nearest == right).mean() > 0.5
