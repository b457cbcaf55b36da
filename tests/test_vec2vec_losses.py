"""test_vec2vec_losses — the terms of the objective: where each is zero, whom it teaches, and what a switch changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Generator, Tensor

from crossvec.aligners.vec2vec import losses
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.network import Network, Shape
from crossvec.aligners.vec2vec.objective import PRESETS, Objective, Passes, cycles, discriminator_loss, forward, generator_loss
from crossvec.aligners.vec2vec.teacher import assigned
from crossvec.aligners.vec2vec.warm import start_at
from crossvec.errors import SettingError
from crossvec.geometry import polar, unit

NONE = Objective(rec=0.0, cycle=0.0, vsp=0.0, cycle_vsp=0.0, adversarial=0.0, latent=0.0)
KINDS = ("standard", "least-squares", "relativistic")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(*size, generator=torch.Generator().manual_seed(seed)))


def world(
    spaces: int = 2, latent_discriminators: int = 1, **shape: object
) -> tuple[Network, Discriminators, dict[str, Tensor]]:
    dims = dict(list({"a": 9, "b": 6, "c": 7}.items())[:spaces])
    generator = torch.Generator().manual_seed(0)
    network = Network(dims, Shape(**{"width": 16, "dropout": 0.0, **shape}), generator)  # type: ignore[arg-type]
    critics = Discriminators(dims, 16, generator, latent_discriminators=latent_discriminators, width=8)  # type: ignore[arg-type]
    return network, critics, {name: drawn(10, dim, seed=i) for i, (name, dim) in enumerate(dims.items())}


def touched(module: torch.nn.Module) -> set[str]:
    return {name for name, weight in module.named_parameters() if weight.grad is not None and weight.grad.any()}


@given(d=st.integers(2, 9), more=st.integers(0, 5), seed=st.integers(0, 99))
@hypothesis(max_examples=20)
def test_an_isometry_preserves_the_vector_space(d: int, more: int, seed: int) -> None:
    x = drawn(12, d, seed=seed)
    turned = x @ polar(drawn(d, d + more, seed=seed + 1))
    assert losses.vector_space_preservation(x, turned, "paper") < 1e-10
    assert losses.vector_space_preservation(x, x, "published") < 1e-5


def test_a_bend_does_not_preserve_the_vector_space() -> None:
    x = drawn(12, 5)
    assert losses.vector_space_preservation(x, unit(x.square()), "paper") > 1e-2


def test_the_published_form_asks_reconstructions_to_be_the_identity_and_not_only_an_isometry() -> None:
    x = drawn(12, 5)
    turned = x @ polar(drawn(5, 5, seed=1))
    assert losses.vector_space_preservation(x, turned, "published") > 0.1
    assert (x @ x.T - turned @ turned.T).abs().mean() < 1e-6


def test_squared_distance_of_unit_rows_is_twice_the_cosine_distance() -> None:
    a, b = drawn(9, 4), drawn(9, 4, seed=1)
    for loss in (losses.reconstruction, losses.cycle_consistency):
        assert float(loss(a, b, "squared")) == pytest.approx(2 * float(loss(a, b, "cosine")), rel=1e-5)
        assert loss(a, a, "cosine") == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_inverse_orthogonal_maps_leave_nothing_of_cycle_reconstruction_and_vsp(preset: Objective) -> None:
    network, critics, _ = world(latent_discriminators=preset.latent_discriminators, shortcut="linear")
    network.add_space("d", 9, torch.Generator())
    start_at(network, "a", "d", polar(drawn(9, 9)))
    batches = {"a": drawn(10, 9), "d": drawn(10, 9, seed=1)}
    _, parts = generator_loss(network, critics, batches, replace(preset, adversarial=0.0, latent=0.0, cycle_vsp=1.0))
    assert set(parts) == {"rec", "vsp", "cycle", "cycle_vsp"}
    assert all(float(part) < 1e-5 for part in parts.values()), parts


@pytest.mark.parametrize("spaces", [2, 3])
@pytest.mark.parametrize(
    ("term", "reads"),
    [
        ({"rec": 1.0, "vsp": 1.0, "latent": 1.0, "supervised": 1.0, "pseudo": 1.0}, False),
        ({"vsp": 1.0, "vsp_form": "paper"}, True),
        *(({name: 1.0}, True) for name in ("cycle", "cycle_vsp", "adversarial")),
    ],
)
def test_translations_are_made_only_for_terms_that_read_them(term: dict[str, Any], reads: bool, spaces: int) -> None:
    network, critics, batches = world(spaces)
    objective = replace(NONE, **term)
    passes = forward(network, batches, objective)
    assert len(passes.translations) == (spaces * (spaces - 1) if reads else 0)
    loss, parts = generator_loss(network, critics, batches, objective, passes=passes)
    fuller, same = generator_loss(network, critics, batches, objective, passes=forward(network, batches, Objective()))
    assert parts.keys() == same.keys() and torch.allclose(loss, fuller, atol=1e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_detaching_the_cycle_lets_only_the_way_back_learn(detach: bool) -> None:
    network, critics, batches = world()
    made = forward(network, batches, Objective())
    crossed = {d: rows.detach().requires_grad_() for d, rows in made.translations.items()}
    passes = Passes(made.latents, made.reconstructions, crossed)
    loss, _ = generator_loss(network, critics, batches, replace(NONE, cycle=1.0, detach_cycle=detach), passes=passes)
    loss.backward()
    for rows in crossed.values():
        assert (rows.grad is None) == detach
    assert touched(network) == {name for name, _ in network.named_parameters()}, "the way back passes through every part"


def test_cycles_return_every_translation_to_where_it_came_from() -> None:
    network, _, batches = world(3)
    network.eval()
    made = forward(network, batches, Objective())
    returned = cycles(network, made.translations, detach=False)
    assert set(returned) == set(made.translations) and len(returned) == 6
    for (source, target), rows in returned.items():
        there = network.translate(source, target, batches[source])
        assert torch.allclose(made.translations[source, target], there, atol=1e-5)
        assert torch.allclose(rows, network.translate(target, source, there), atol=1e-4)


@pytest.mark.parametrize("gan", KINDS)
@pytest.mark.parametrize("spaces", [2, 3])
def test_each_side_learns_and_leaves_the_other_alone(gan: str, spaces: int) -> None:
    network, critics, batches = world(spaces, latent_discriminators=2)
    objective = Objective(gan=gan, latent_discriminators=2, r1=0.1, r2=0.1)  # type: ignore[arg-type]
    passes = forward(network, batches, Objective())
    loss, parts = discriminator_loss(network, critics, batches, objective, passes=passes)
    loss.backward()
    assert set(parts) == {"adversarial", "told_apart", "latent", "latent_told_apart", "r1", "r2"}
    assert not touched(network)
    assert touched(critics) >= {name for name, _ in critics.named_parameters() if name.endswith("weight")}
    critics.zero_grad()
    loss, _ = generator_loss(network, critics, batches, objective, passes=passes)
    loss.backward()
    assert not touched(critics)
    assert touched(network) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("gan", KINDS)
def test_a_step_against_the_discriminator_fools_it_and_a_step_of_it_tells_apart(gan: str) -> None:
    """The two sides pull against each other, whatever the labels are."""
    network, critics, batches = world()
    network.eval()
    objective = replace(NONE, adversarial=1.0, latent=1.0, gan=gan)  # type: ignore[arg-type]

    def right() -> float:
        parts = discriminator_loss(network, critics, batches, objective)[1]
        return float(parts["told_apart"] + parts["latent_told_apart"]) / 2

    for part, loss, rises in ((critics, discriminator_loss, True), (network, generator_loss, False)):
        optimiser = torch.optim.Adam(part.parameters(), lr=4e-3)
        before = right()
        for _ in range(25):
            optimiser.zero_grad()
            loss(network, critics, batches, objective)[0].backward()
            optimiser.step()
        assert (right() > max(before, 0.9)) if rises else (right() < before - 0.1), gan


def test_one_latent_discriminator_teaches_only_the_spaces_that_are_fake_to_it() -> None:
    network, critics, batches = world(3)
    loss, _ = generator_loss(network, critics, batches, replace(NONE, latent=1.0))
    loss.backward()
    assert not any(name.startswith("inputs.0.") for name in touched(network))
    assert {name.split(".")[1] for name in touched(network) if name.startswith("inputs")} == {"1", "2"}
    assert len(critics.latents()) == 1 and len(world(3, 2)[1].latents()) == 3


def test_more_spaces_change_no_balance_between_the_terms() -> None:
    """Three copies of one space weigh like two: every part keeps its size."""
    objective = Objective(latent_discriminators=2)
    network, critics, batches = world(1, 2)
    rows = batches["a"]
    sizes = []
    for names in ("ab", "abc"):
        for name in names[1:]:
            if name not in network.dims:
                network.add_space(name, 9, torch.Generator())
                critics.add_space(name, 9, torch.Generator())
            for adapters in (network.inputs, network.outputs, critics.of_rows, critics.of_latents):
                adapters[list(network.dims).index(name)].load_state_dict(adapters[0].state_dict())
        sizes.append(generator_loss(network, critics, dict.fromkeys(names, rows), objective)[1])
    for name, part in sizes[0].items():
        assert float(part) == pytest.approx(float(sizes[1][name]), rel=1e-4), name


def test_a_weight_of_zero_leaves_a_term_and_its_work_out() -> None:
    network, critics, batches = world()
    assert set(generator_loss(network, critics, batches, replace(NONE, rec=1.0))[1]) == {"rec"}
    assert set(discriminator_loss(network, critics, batches, replace(NONE, latent=1.0))[1]) == {"latent", "latent_told_apart"}
    with pytest.raises(SettingError, match="every weight"):
        generator_loss(network, critics, batches, NONE)
    with pytest.raises(SettingError, match="both 0"):
        discriminator_loss(network, critics, batches, NONE)


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    network, critics, batches = world()
    objective = Objective(
        rec=2.0, cycle=3.0, vsp=5.0, cycle_vsp=7.0, adversarial=11.0, latent=13.0, supervised=17.0, pseudo=19.0
    )
    pairs = {("a", "b"): (batches["a"][:4], batches["b"][:4])}
    pseudo = {("a", "b"): assigned(network, "a", "b", batches["a"], batches["b"], 0.5)}
    total, parts = generator_loss(network, critics, batches, objective, pairs=pairs, pseudo=pseudo)
    assert len(parts) == 8
    assert float(total.detach()) == pytest.approx(
        sum(getattr(objective, name) * float(part) for name, part in parts.items()), rel=1e-5
    )


def test_known_pairs_are_learned_both_ways() -> None:
    network, critics, batches = world()
    pairs = {("a", "b"): (batches["a"], batches["b"])}
    objective = replace(NONE, supervised=1.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        generator_loss(network, critics, batches, objective, pairs=pairs)[0].backward()
        optimiser.step()
    for source, target in (("a", "b"), ("b", "a")):
        mapped = network.translate(source, target, batches[source])
        assert torch.cosine_similarity(mapped, batches[target]).mean() > 0.95
        assert torch.equal((mapped @ batches[target].T).argmax(1), torch.arange(10))


def test_pseudo_pairs_cost_least_where_the_softmax_is_the_plan() -> None:
    """There the loss is the plan's own entropy, and its slope is 0."""
    mapped, rows = drawn(6, 3).requires_grad_(), drawn(5, 3, seed=1)
    plan = (mapped.detach() @ rows.T / 0.3).softmax(1)
    least = losses.pseudo_pairs(mapped, rows, plan @ rows, 0.3, 0.0)
    least.backward()
    assert mapped.grad is not None and mapped.grad.abs().max() < 1e-6
    assert least.item() == pytest.approx(-(plan * plan.log()).sum(1).mean().item(), rel=1e-5)
    assert losses.pseudo_pairs(mapped, rows, plan.flip(1) @ rows, 0.3, 0.0) > least
    near = unit(plan @ rows)
    extra = [
        losses.pseudo_pairs(end, rows, near, 0.3, 7.0) - losses.pseudo_pairs(end, rows, near, 0.3, 0.0) for end in (near, -near)
    ]
    assert [float(one) for one in extra] == pytest.approx([0, 14], abs=1e-4)


def test_a_teacher_that_is_right_assigns_each_row_to_its_partner() -> None:
    """The network is a rotation, and the rows are its own translations in another order."""
    network = Network({"a": 6, "b": 6}, Shape(6, 1, 1, shortcut="linear"), Generator().manual_seed(0))
    start_at(network, "a", "b", torch.linalg.qr(torch.randn(6, 6, generator=Generator().manual_seed(1)))[0])
    x, order = drawn(40, 6), torch.randperm(40, generator=Generator().manual_seed(2))
    y = network.translate("a", "b", x).detach()[order]
    found = assigned(network, "a", "b", x, y, 0.5)
    assert torch.equal((found.there @ y.T).argmax(1)[order], torch.arange(40))
    assert torch.equal((found.back @ x.T).argmax(1), order)
    assert found.warmth_there == pytest.approx(0.5 * float((x @ x.T).std()), rel=1e-3)


@given(k=st.integers(1, 6), d=st.integers(1, 5), seed=st.integers(0, 99))
@hypothesis(max_examples=15)
def test_the_gradient_penalty_is_half_the_squared_slope_and_can_be_learned_from(k: int, d: int, seed: int) -> None:
    rows = drawn(k, d, seed=seed).requires_grad_()
    slope = torch.randn(d, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    penalty = losses.gradient_penalty(rows, rows @ slope)
    assert float(penalty.detach()) == pytest.approx(float(slope.detach().square().sum()) / 2, rel=1e-4)
    (taught,) = torch.autograd.grad(penalty, slope)
    assert torch.allclose(taught, slope, atol=1e-5)
    of_some = losses.gradient_penalty(rows, rows[:1].square().sum(1) / 2)
    assert float(of_some.detach()) == pytest.approx(float(rows[:1].detach().square().sum()) / 2, rel=1e-4)


@pytest.mark.parametrize("gan", KINDS)
def test_a_perfect_discriminator_is_never_wrong_and_its_loss_is_lowest(gan: str) -> None:
    low, high = {"standard": (-9.0, 9.0), "least-squares": (0.0, 1.0), "relativistic": (-9.0, 9.0)}[gan]
    real, fake = (high, low) if gan == "standard" else (low, high)
    good = losses.discriminator_adversarial(torch.full((6,), real), torch.full((4,), fake), gan)
    bad = losses.discriminator_adversarial(torch.full((6,), fake), torch.full((4,), real), gan)
    assert good < 1e-3 < bad
    assert losses.told_apart(torch.full((6,), real), torch.full((9,), fake), gan) == 1
    assert losses.told_apart(torch.full((6,), fake), torch.full((9,), real), gan) == 0
    caught, fooling = (losses.generator_adversarial(torch.full((6,), real), torch.full((9,), f), gan) for f in (fake, real))
    assert caught > fooling


def test_a_discriminator_that_sees_no_difference_is_right_half_the_time() -> None:
    logits = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    for gan in KINDS:
        assert losses.told_apart(logits[:, 0], logits[:, 1], gan) == pytest.approx(0.5, abs=0.03)
        assert losses.told_apart(torch.zeros(5), torch.zeros(5), gan) == 0.5


def test_half_precision_passes_end_in_unit_rows_of_float32() -> None:
    network, critics, batches = world()
    objective = Objective(r1=0.1)
    exact, _ = generator_loss(network, critics, batches, objective)
    with torch.autocast("cpu", torch.bfloat16):
        passes = forward(network, batches, Objective())
        rough, _ = generator_loss(network, critics, batches, objective, passes=passes)
        critic, _ = discriminator_loss(network, critics, batches, objective, passes=passes)
    rows = passes.translations["a", "b"]
    assert rows.dtype == torch.float32 == rough.dtype == critic.dtype
    assert torch.allclose(rows.norm(dim=1), torch.ones(10), atol=1e-6)
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.05)


def test_batches_that_cannot_be_are_refused_in_words() -> None:
    network, critics, batches = world(3)
    with pytest.raises(SettingError, match="nothing to translate"):
        generator_loss(network, critics, {"a": batches["a"]}, Objective())
    with pytest.raises(SettingError, match="needs rows of 'a'"):
        generator_loss(network, critics, {name: batches[name] for name in "bc"}, Objective())


@pytest.mark.parametrize("setting", [{"rec": -1.0}, {"cycle": float("nan")}, {"r1": float("inf")}])
def test_impossible_weights_are_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        Objective(**setting)  # type: ignore[arg-type]


def test_the_presets_differ_where_paper_and_code_do() -> None:
    paper, code = PRESETS["paper"], PRESETS["published-code"]
    assert (code.gan, code.distance, code.vsp_form, code.detach_cycle, code.latent_discriminators) == (
        "least-squares",
        "cosine",
        "published",
        True,
        1,
    )
    assert (paper.gan, paper.distance, paper.vsp_form, paper.detach_cycle, paper.latent_discriminators) == (
        "standard",
        "squared",
        "paper",
        False,
        2,
    )
    assert [code.rec, code.vsp, code.cycle, code.cycle_vsp, code.adversarial, code.latent] == [1, 1, 10, 10, 1, 1]
    assert paper.cycle_vsp == 0


def test_weights_of_half_precision_take_rows_of_float32_through_whole_cycles() -> None:
    network, critics, batches = world()
    objective = Objective(gan="relativistic")
    exact, _ = generator_loss(network, critics, batches, objective)
    passes = forward(network.bfloat16(), batches, objective)
    rough, _ = generator_loss(network, critics.bfloat16(), batches, objective, passes=passes)
    assert passes.translations["a", "b"].dtype == torch.float32 == rough.dtype
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    rough.backward()
    assert touched(network) == {name for name, _ in network.named_parameters()}
