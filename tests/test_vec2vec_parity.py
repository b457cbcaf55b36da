"""test_vec2vec_parity — network, losses and a full training step against the same written anew in numpy, in float64.

The reference below is written from the equations alone (sections 1 and 2 of the paper as its published configuration fills
them in), for two spaces, and shares no line with the package. Its gradients are central differences of its own losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from crossvec.aligners.vec2vec import losses
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.network import Network, Shape
from crossvec.aligners.vec2vec.objective import PRESETS, Objective, discriminator_loss, forward, generator_loss
from crossvec.aligners.vec2vec.teacher import Assigned

Numbers = dict[str, np.ndarray]
DIMS, WIDTH, ROWS = {"a": 4, "b": 3}, 5, 6
OTHER = {"a": "b", "b": "a"}
EPS = 1e-5
ADAM_EPS = 1e-3
"""Well above the rounding of gradients, below which Adam's step is a coin's toss."""


def normed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(1, keepdims=True))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def layer_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    middle = x - x.mean(1, keepdims=True)
    return middle / np.sqrt((middle**2).mean(1, keepdims=True) + EPS) * w + b


def batch_norm(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return layer_norm(x.T, 1, 0).T * w + b


class Reference:
    """The network of two spaces in training, without dropout."""

    def __init__(self, weights: Numbers, shape: Shape) -> None:
        self.weights, self.shape = weights, shape

    def affine(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def residual(self, name: str, x: np.ndarray, depth: int, out: int, carry: int | None) -> np.ndarray:
        norm = layer_norm if self.shape.norm == "layer" else batch_norm
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            change = self.affine(x, f"{block}.0")
            if i == 0:
                change = silu(change)
            elif i < depth - 1:
                change = norm(silu(change), self.weights[f"{block}.2.weight"], self.weights[f"{block}.2.bias"])
            else:
                change = self.affine(silu(change), f"{block}.3")
            if i == carry:
                x = change + x @ self.weights[f"{name}.carry"]
                continue
            short = np.zeros_like(change)
            kept = min(x.shape[1], change.shape[1])
            short[:, :kept] = x[:, :kept]
            x = change + short
        assert x.shape[1] == out
        return x

    def encode(self, space: str, x: np.ndarray) -> np.ndarray:
        linear, depth = self.shape.shortcut == "linear", self.shape.adapter_depth
        z = self.residual(f"inputs.{'ab'.index(space)}", x, depth, WIDTH, 0 if linear else None)
        return self.residual("backbone", z, self.shape.backbone_depth, WIDTH, None)

    def decode(self, space: str, z: np.ndarray) -> np.ndarray:
        linear, depth = self.shape.shortcut == "linear", self.shape.adapter_depth
        name = f"outputs.{'ab'.index(space)}"
        return normed(self.residual(name, z, depth, DIMS[space], depth - 1 if linear else None))


def critic(weights: Numbers, name: str, x: np.ndarray, depth: int = 5) -> np.ndarray:
    for i in range(depth):
        x = (silu(x) if i else x) @ weights[f"{name}.layers.{i}.weight"].T + weights[f"{name}.layers.{i}.bias"]
        if 0 < i < depth - 1:
            x = layer_norm(x, weights[f"{name}.norms.{i - 1}.weight"], weights[f"{name}.norms.{i - 1}.bias"])
    return x[:, 0]


def slopes(weights: Numbers, name: str, x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """The gradient of a critic at its input, by central differences of fourth order."""
    shifts = h * np.array([1, -1, 2, -2])[:, None, None, None] * np.eye(x.shape[1])[:, None]
    one, other, two, second = critic(weights, name, (x + shifts).reshape(-1, x.shape[1])).reshape(4, x.shape[1], len(x))
    return ((8 * (one - other) - (two - second)) / (12 * h)).T


def apart(a: np.ndarray, b: np.ndarray, o: Objective) -> float:
    if o.distance == "squared":
        return float(((a - b) ** 2).sum(1).mean())
    return float(1 - (a * b).sum(1).mean())


def preserved(x: np.ndarray, f: np.ndarray, o: Objective) -> float:
    among = x @ x.T
    if o.vsp_form == "paper":
        return float(((among - f @ f.T) ** 2).mean())
    return float(np.abs(among - f @ f.T).mean() + np.abs(among - f @ x.T).mean())


def versus(kind: str, real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """What the discriminator minimises, and what the generator does."""
    if kind == "standard":
        return float(softplus(-real).mean() + softplus(fake).mean()), float(softplus(-fake).mean())
    if kind == "least-squares":
        return float((real**2).mean() / 2 + ((fake - 1) ** 2).mean() / 2), float((fake**2).mean() / 2)
    return float(softplus(real - fake).mean()), float(softplus(fake - real).mean())


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    logits = a @ b.T / 0.1
    return float((np.log(np.exp(logits).sum(1)) - np.diag(logits)).mean())


def matched(
    o: Objective, x: Numbers, made: dict[str, Numbers], held: dict[str, Numbers], critics: Numbers, which: int
) -> dict[str, float]:
    """The adversarial and latent terms: of the discriminators' side for `which` 0, of the generator's for 1.

    Latents that are real to a discriminator are those in `held`: no gradient goes that way.
    """
    terms = {"adversarial": 0.0, "latent": 0.0}
    for i, s in enumerate("ab"):
        real, fake = (critic(critics, f"of_rows.{i}", rows) for rows in (x[s], made["across"][OTHER[s]]))
        terms["adversarial"] += versus(o.gan, real, fake)[which]
        if i < o.latent_discriminators:
            real, fake = (critic(critics, f"of_latents.{i}", z) for z in (held["z"][s], made["z"][OTHER[s]]))
            terms["latent"] += versus(o.gan, real, fake)[which]
    return terms


def through(got: Reference, x: Numbers) -> dict[str, Numbers]:
    z = {s: got.encode(s, x[s]) for s in x}
    return {
        "z": z,
        "rebuilt": {s: got.decode(s, z[s]) for s in x},
        "across": {s: got.decode(OTHER[s], z[s]) for s in x},
    }


def generator_terms(got: Reference, x: Numbers, critics: Numbers, o: Objective, held: dict[str, Numbers]) -> dict[str, float]:
    """Every term of the generator's loss; `held` are the passes at the start, for what a gradient does not reach."""
    made = through(got, x)
    first = held["across"] if o.detach_cycle else made["across"]
    back = {s: got.decode(s, got.encode(OTHER[s], first[s])) for s in x}
    mapped = made["across"] if o.vsp_form == "paper" else made["rebuilt"]
    terms = matched(o, x, made, held, critics, 1)
    terms |= {
        "rec": sum(apart(x[s], made["rebuilt"][s], o) for s in x) / 2,
        "vsp": sum(preserved(x[s], mapped[s], o) for s in x) / 2,
        "cycle": sum(apart(x[s], back[s], o) for s in x) / 2,
        "cycle_vsp": sum(preserved(x[s], back[s], o) for s in x) / 2,
    }
    if o.supervised:
        truth = {s: x[OTHER[s]] for s in x}
        terms["supervised"] = (
            sum(
                1 - (made["across"][s] * truth[s]).sum(1).mean() + o.contrast * contrast(made["across"][s], truth[s]) for s in x
            )
            / 2
        )
    if o.pseudo:
        terms["pseudo"] = (
            sum(soft_contrast(made["across"][s], x[OTHER[s]], plan, warmth, o.nearness) for s, plan, warmth in plans(x)) / 2
        )
    return {name: value for name, value in terms.items() if getattr(o, name)}


def critic_terms(made: dict[str, Numbers], x: Numbers, critics: Numbers, o: Objective) -> dict[str, float]:
    """The discriminators' losses over what the network made, added up, and their penalties."""
    terms = matched(o, x, made, made, critics, 0)
    sides = [(f"of_rows.{'ab'.index(s)}", x[s], made["across"][OTHER[s]]) for s in x]
    sides += [(f"of_latents.{i}", made["z"][s], made["z"][OTHER[s]]) for i, s in enumerate(list(x)[: o.latent_discriminators])]
    for penalty, side in (("r1", 1), ("r2", 2)):
        if getattr(o, penalty):
            slope = [(slopes(critics, one[0], one[side]) ** 2).sum(1).mean() / 2 for one in sides]
            terms[penalty] = float(sum(slope))
    return terms


def differentiated(loss: Callable[[Numbers], float], weights: Numbers, h: float = 1e-6) -> Numbers:
    """The gradient of a loss by central differences, one number after the other."""
    gradient = {name: np.zeros_like(value) for name, value in weights.items()}
    for name, value in weights.items():
        flat, slot = value.reshape(-1), gradient[name].reshape(-1)
        for i in range(len(flat)):
            kept = flat[i]
            flat[i] = kept + h
            up = loss(weights)
            flat[i] = kept - h
            down = loss(weights)
            flat[i] = kept
            slot[i] = (up - down) / (2 * h)
    return gradient


def adam(weights: Numbers, gradient: Numbers, rate: float) -> Numbers:
    """Adam's first step, with betas (.5, .999): both moments, corrected for their start, are the gradient and its square."""
    after = {}
    for name, g in gradient.items():
        m, v = 0.5 * g, 0.001 * g**2
        after[name] = weights[name] - rate * (m / 0.5) / (np.sqrt(v / 0.001) + ADAM_EPS)
    return after


def numbers(module: torch.nn.Module) -> Numbers:
    return {name: value.detach().numpy().astype(np.float64) for name, value in module.named_parameters()}


def world(shape: Shape, o: Objective) -> tuple[Network, Discriminators, Numbers]:
    generator = torch.Generator().manual_seed(3)
    network = Network(DIMS, shape, generator)
    critics = Discriminators(DIMS, WIDTH, generator, latent_discriminators=o.latent_discriminators, width=4)
    with torch.no_grad():  # biases and norms away from 0 and 1, so that none of them goes unseen
        for weight in (*network.parameters(), *critics.parameters()):
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    rng = np.random.default_rng(0)
    # Rows are exact in float32, so both sides see the same.
    return (
        network,
        critics,
        {s: normed(rng.standard_normal((ROWS, d))).astype(np.float32).astype(float) for s, d in DIMS.items()},
    )


def as_tensors(rows: Mapping[str, np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value).to(dtype) for name, value in rows.items()}


SHAPES = [Shape(WIDTH, norm=n, shortcut=s, dropout=0.0) for n in ("layer", "batch") for s in ("pad", "linear")]
SHAPES += [Shape(WIDTH, 1, 1, dropout=0.0), Shape(WIDTH, 2, 2, "batch", 0.0, "linear")]
OBJECTIVES = {
    **PRESETS,
    "everything": Objective(
        gan="relativistic",
        r1=0.3,
        r2=0.2,
        supervised=0.7,
        pseudo=0.6,
        latent_discriminators=2,
        cycle_vsp=2.0,
        detach_cycle=False,
    ),
}
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.norm}-{s.shortcut}-{s.adapter_depth}")


# What float32 rounds off grows through norms of five numbers, most of all in slopes; float64 shows that it is rounding.
exact = pytest.mark.parametrize(("dtype", "within", "slope_within"), [(torch.float32, 1e-5, 1e-4), (torch.float64, 1e-8, 1e-6)])


@exact
@shapes
def test_the_network_is_the_reference(shape: Shape, dtype: torch.dtype, within: float, slope_within: float) -> None:
    network, _, x = world(shape, Objective())
    got = Reference(numbers(network), shape)
    made, want = forward(network.to(dtype), as_tensors(x, dtype), Objective()), through(got, x)
    for s in x:
        np.testing.assert_allclose(made.latents[s].detach(), want["z"][s], atol=within, rtol=within)
        np.testing.assert_allclose(made.reconstructions[s].detach(), want["rebuilt"][s], atol=within)
        np.testing.assert_allclose(made.translations[s, OTHER[s]].detach(), want["across"][s], atol=within)


@exact
@pytest.mark.parametrize("name", OBJECTIVES)
@shapes
def test_every_part_of_both_losses_is_the_reference_s(
    name: str, shape: Shape, dtype: torch.dtype, within: float, slope_within: float
) -> None:
    o = OBJECTIVES[name]
    network, critics, x = world(shape, o)
    got, judges = Reference(numbers(network), shape), numbers(critics)
    network, critics, tensors = network.to(dtype), critics.to(dtype), as_tensors(x, dtype)
    total, parts = generator_loss(network, critics, tensors, o, **known(tensors))
    want = generator_terms(got, x, judges, o, through(got, x))
    assert parts.keys() == want.keys()
    for part, value in parts.items():
        assert float(value) == pytest.approx(want[part], abs=within, rel=within), part
    assert float(total.detach()) == pytest.approx(sum(getattr(o, part) * want[part] for part in want), rel=within)

    total, parts = discriminator_loss(network, critics, tensors, o)
    want = critic_terms(through(got, x), x, judges, o)
    count = {"adversarial": 2, "latent": o.latent_discriminators}
    for part in count:
        assert float(parts[part]) == pytest.approx(want[part] / count[part], abs=within, rel=within), part
    for penalty in ("r1", "r2"):
        assert (penalty in parts) == (penalty in want) == bool(getattr(o, penalty))
        if penalty in parts:
            assert float(parts[penalty]) == pytest.approx(want[penalty] / sum(count.values()), rel=slope_within), penalty
    assert float(total.detach()) == pytest.approx(added(want, o), rel=slope_within)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("published-code", Shape(WIDTH, norm="batch", dropout=0.0)),
        ("paper", Shape(WIDTH, dropout=0.0)),
        ("everything", SHAPES[1]),
    ],
)
def test_a_full_step_is_the_reference_s(name: str, shape: Shape) -> None:
    """One step as published: the discriminators learn from a pass, then the network from that pass and what they became.

    Gradients are held to 1e-6 of the largest of their tensor in float64, and in float32 to what norms of five numbers leave.
    Adam's first step forgets their size and so magnifies the rounding of small ones: it is compared in float64, where 1e-5 is
    a 5,000th of the step.
    """
    o, rate = OBJECTIVES[name], 0.05
    network, critics, x = world(shape, o)
    start, weights, judges = Reference(numbers(network), shape), numbers(network), numbers(critics)
    held = through(start, x)

    def judged(trial: Numbers) -> float:
        return added(critic_terms(held, x, trial, o), o)

    def generated(trial: Numbers) -> float:
        terms = generator_terms(Reference(trial, shape), x, taught, o, held)
        return sum(getattr(o, part) * value for part, value in terms.items())

    slope_of_judges = differentiated(judged, judges)
    taught = adam(judges, slope_of_judges, rate)
    slope = differentiated(generated, weights)
    after = adam(weights, slope, rate)

    for dtype, within in ((torch.float32, 5e-5), (torch.float64, 1e-6)):
        one, other, tensors = deepcopy(network).to(dtype), deepcopy(critics).to(dtype), as_tensors(x, dtype)
        passes = forward(one, tensors, o)
        discriminator_loss(one, other, tensors, o, passes=passes)[0].backward()
        agree(other, slope_of_judges, within)
        stepped(other, rate)
        if dtype == torch.float32:  # the network's gradient is asked at the reference's discriminators, not at rounded ones
            other.load_state_dict({part: torch.from_numpy(value) for part, value in taught.items()})
        else:
            for part, value in other.named_parameters():
                np.testing.assert_allclose(value.detach(), taught[part], atol=1e-5, err_msg=part)
        generator_loss(one, other, tensors, o, passes=passes, **known(tensors))[0].backward()
        agree(one, slope, within)
        stepped(one, rate)
        if dtype == torch.float64:
            for part, value in one.named_parameters():
                np.testing.assert_allclose(value.detach(), after[part], atol=1e-5, err_msg=part)


def known(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Pairs, and plans of fixed numbers for pseudo-pairs."""
    rows = tensors["a"], tensors["b"]
    (_, there, warm), (_, back, warmer) = plans({s: t.numpy() for s, t in tensors.items()})
    meant = (torch.from_numpy(plan).to(rows[0].dtype) @ to for plan, to in ((there, rows[1]), (back, rows[0])))
    warmths = torch.tensor([warm, warmer], dtype=torch.float64)
    return {"pairs": {("a", "b"): rows}, "pseudo": {("a", "b"): Assigned(*rows, *meant, *warmths)}}


def plans(x: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, float]]:
    """For each source space, a plan to the other's rows and the student's temperature."""
    rng = np.random.default_rng(5)
    drawn = rng.random((len(x["a"]), len(x["b"]))), rng.random((len(x["b"]), len(x["a"])))
    return [(s, p / p.sum(1, keepdims=True), t) for s, p, t in zip("ab", drawn, (0.3, 0.4), strict=True)]


def soft_contrast(mapped: np.ndarray, rows: np.ndarray, plan: np.ndarray, warmth: float, nearness: float) -> float:
    scores = mapped @ rows.T / warmth
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    far = 1 - (mapped * normed(plan @ rows)).sum(1).mean()
    return float(-(plan * logs).sum(1).mean() + nearness * far)


def added(terms: dict[str, float], o: Objective) -> float:
    return sum(value * (getattr(o, part) if part in ("r1", "r2") else 1) for part, value in terms.items())


def agree(module: torch.nn.Module, gradient: Numbers, within: float) -> None:
    for part, value in module.named_parameters():
        scale = max(1.0, float(np.abs(gradient[part]).max()))
        np.testing.assert_allclose(value.grad, gradient[part], rtol=0, atol=within * scale, err_msg=part)


def stepped(module: torch.nn.Module, rate: float) -> None:
    torch.optim.Adam(module.parameters(), lr=rate, betas=(0.5, 0.999), eps=ADAM_EPS).step()


def test_the_loss_of_known_pairs_is_cosine_and_contrast() -> None:
    rng = np.random.default_rng(1)
    a, b = (normed(rng.standard_normal((7, 4))) for _ in range(2))
    found = losses.supervised(torch.from_numpy(a), torch.from_numpy(b), 0.4)
    assert float(found) == pytest.approx(1 - (a * b).sum(1).mean() + 0.4 * contrast(a, b), abs=1e-9)
