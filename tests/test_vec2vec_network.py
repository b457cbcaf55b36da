"""test_vec2vec_network — the network's laws: what passes where, what stays the same, and where a warm start begins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners.maps import rebuild
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.network import Network, ResidualMLP, Shape
from crossvec.aligners.vec2vec.neural import Neural
from crossvec.aligners.vec2vec.warm import start_at, start_beside
from crossvec.errors import CrossvecError, SettingError, TranslatorError
from crossvec.geometry import polar, unit
from crossvec.translator import Frame, Translator

DIMS = {"a": 12, "b": 7}
EVERY_SHAPE = [
    Shape(16, norm=norm, shortcut=shortcut, adapter_depth=depth, backbone_depth=depth)
    for norm in ("layer", "batch")
    for shortcut in ("pad", "linear")
    for depth in (1, 2, 4)
]
each = pytest.mark.parametrize("shape", EVERY_SHAPE, ids=lambda s: f"{s.norm}-{s.shortcut}-{s.adapter_depth}")


def drawn(*size: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(*size, generator=torch.Generator().manual_seed(seed)))


def made(shape: Shape, dims: dict[str, int] = DIMS, seed: int = 0) -> Network:
    return Network(dims, shape, torch.Generator().manual_seed(seed)).eval()


def trained(network: Network, spaces: list[str], steps: int = 5) -> Network:
    """Move every weight that may move, and the running statistics, by a few steps on whatever loss."""
    optimiser = torch.optim.Adam([weight for weight in network.parameters() if weight.requires_grad], lr=0.05)
    network.train()
    for step in range(steps):
        rows = {space: drawn(32, network.dims[space], seed=step) for space in spaces}
        optimiser.zero_grad()
        sum(network.translate(a, b, rows[a]).square()[:, 0].sum() for a in spaces for b in spaces).backward()
        optimiser.step()
    return network.eval()


@pytest.mark.parametrize(
    ("dims", "generator", "discriminators"),
    [
        ((768, 768), 21_004_800, 12_092_419),
        ((768, 512), 20_480_256, 11_830_275),
        ((768, 2560), 24_676_608, 13_927_427),
        ((384, 768), 20_217_984, 11_699_203),
    ],
)
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_published_sizes_have_as_many_numbers_as_the_published_networks(
    dims: tuple[int, int], generator: int, discriminators: int, norm: str
) -> None:
    spaces = dict(zip("ab", dims, strict=True))
    with torch.device("meta"):
        network = Network(spaces, Shape(norm=norm), None)
        critics = Discriminators(spaces, 1024, None)
    assert sum(weight.numel() for weight in network.parameters()) == generator
    assert sum(weight.numel() for weight in critics.parameters()) == discriminators


@each
def test_rows_of_any_space_come_out_in_any_other_at_unit_length(shape: Shape) -> None:
    network = made(shape, {**DIMS, "c": 30})
    for source in network.dims:
        x = drawn(5, network.dims[source])
        assert network.encode(source, x).shape == (5, 16)
        assert torch.equal(network.reconstruct(source, x), network.translate(source, source, x))
        for target in network.dims:
            rows = network.translate(source, target, x)
            assert rows.shape == (5, network.dims[target])
            assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-6)


@pytest.mark.parametrize(("into", "out"), [(5, 9), (9, 5), (4, 4)])
def test_with_silent_branches_coordinates_pass_in_their_places(into: int, out: int) -> None:
    part = ResidualMLP(into, out, 3, Shape(6), torch.Generator(), None)
    for weight in part.parameters():
        torch.nn.init.zeros_(weight)
    x = drawn(3, into)
    kept = min(into, 6, out)
    assert torch.equal(part(x)[:, :kept], x[:, :kept])
    assert not part(x)[:, kept:].any()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_shortcuts_start_as_padding_and_cutting(depth: int) -> None:
    padded, linear = (made(Shape(16, depth, shortcut=shortcut)) for shortcut in ("pad", "linear"))
    x = drawn(4, 12)
    assert torch.allclose(padded.translate("a", "b", x), linear.translate("a", "b", x), atol=1e-6)
    assert linear.adapters("a")[0].carry.requires_grad


def test_weights_start_at_kaimings_scale_and_norms_where_published() -> None:
    network = made(Shape(512, norm="batch"), {"a": 300})
    for name, weight in network.named_parameters():
        value = weight.detach()
        if value.dim() == 2:
            assert value.std() == pytest.approx((2 / value.shape[1]) ** 0.5, rel=0.03), name
            assert abs(float(value.mean())) < 0.01 * float(value.std()) + 1e-3
        elif re.search(r"blocks\.\d\.2\.", name):
            assert value.std() == pytest.approx(0.02, rel=0.2)
            assert value.mean() == pytest.approx(1 if name.endswith("weight") else 0, abs=0.005)
        else:
            assert not value.any()


def test_one_seed_gives_one_network_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = made(Shape(16)), made(Shape(16)), made(Shape(16), seed=1)
    assert torch.equal(before, torch.get_rng_state())
    x = drawn(4, 12)
    assert torch.equal(one.translate("a", "b", x), same.translate("a", "b", x))
    assert not torch.allclose(one.translate("a", "b", x), other.translate("a", "b", x), atol=0.01)


@each
def test_passing_batches_together_gives_what_passing_them_one_by_one_gives(shape: Shape) -> None:
    network = made(shape)
    rows = {"a": drawn(6, 12), "b": drawn(3, 7)}
    together = network.encode_each(rows)
    for space, x in rows.items():
        assert torch.allclose(together[space], network.encode(space, x), atol=1e-5)
    for one, latent in zip(network.decode_each("b", list(together.values())), together.values(), strict=True):
        assert torch.allclose(one, network.decode("b", latent), atol=1e-6)


def test_batch_statistics_are_of_one_space_at_a_time() -> None:
    network = made(Shape(16, norm="batch", dropout=0.0)).train()
    x, y = drawn(6, 12), drawn(6, 7)
    beside = network.encode_each({"a": x, "b": y})["a"]
    assert torch.allclose(beside, network.encode("a", x), atol=1e-6)


def test_noise_reaches_rows_in_training_alone_at_the_length_that_was_asked_for() -> None:
    network = made(Shape(16, dropout=0.0, noise=0.5))
    x = unit(torch.randn(4096, 12))
    read: list[Tensor] = []
    network.adapters("a")[0].register_forward_pre_hook(lambda _part, given: read.append(given[0]))
    network.eval().encode("a", x)
    assert torch.equal(read.pop(), x)
    network.train().encode("a", x)
    noised = read.pop()
    assert torch.allclose(noised.norm(dim=1), torch.ones(len(x)), atol=1e-5)
    # A row of length 1 plus noise of length .5 across it: the cosine is 1 / sqrt(1.25).
    assert (noised * x).sum(1).mean() == pytest.approx(1.25**-0.5, abs=0.01)
    assert torch.allclose((noised - x).mean(0), torch.zeros(12), atol=0.02), "in no direction more than in another"


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("shortcut", ["pad", "linear"])
def test_a_space_added_to_a_frozen_backbone_learns_and_changes_no_old_translation(norm: str, shortcut: str) -> None:
    network = trained(made(Shape(16, norm=norm, shortcut=shortcut)), ["a", "b"])
    x, y = drawn(5, 12), drawn(5, 9)
    old = network.translate("a", "b", x)
    network.freeze_backbone()
    network.freeze_space("a")
    network.freeze_space("b")
    network.add_space("c", 9, torch.Generator().manual_seed(1))
    first = network.eval().translate("c", "a", y)
    trained(network, ["a", "b", "c"])
    assert torch.equal(network.translate("a", "b", x), old)
    assert not torch.allclose(network.translate("c", "a", y), first, atol=0.01)


def test_what_is_frozen_stays_in_evaluation_and_the_rest_trains() -> None:
    network = made(Shape(16, norm="batch"))
    network.freeze_backbone()
    network.train()
    assert not network.backbone.training
    assert not any(part.training for part in network.backbone.modules())
    assert all(part.training for adapter in (*network.inputs, *network.outputs) for part in adapter.modules())


@pytest.mark.parametrize("name", ["text-embedding-3.large", "keys", "", "a b/c"])
def test_a_space_may_have_any_name(name: str) -> None:
    network = made(Shape(16), {name: 5, "b": 3})
    assert network.translate(name, "b", drawn(2, 5)).shape == (2, 3)


@pytest.mark.parametrize("backbone", [1, 4])
@pytest.mark.parametrize("adapter", [1, 2, 3])
@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize(("dx", "dy"), [(12, 7), (7, 12), (9, 9)])
def test_a_warm_start_is_the_linear_map_in_training_and_evaluation(
    backbone: int, adapter: int, norm: str, dx: int, dy: int
) -> None:
    network = made(Shape(12, adapter, backbone, norm=norm, shortcut="linear"), {"a": dx, "b": dy})
    w = polar(drawn(dx, dy))
    start_at(network, "a", "b", w)
    x, y = drawn(20, dx), drawn(20, dy, seed=1)
    for mode in (True, False):
        network.train(mode)
        assert torch.allclose(network.translate("a", "b", x), unit(x @ w), atol=1e-6)
        assert torch.allclose(network.translate("b", "a", y), unit(y @ w.T), atol=1e-6)
        assert torch.allclose(network.reconstruct("a", x), x, atol=1e-6)
        assert torch.allclose(network.reconstruct("b", y), y, atol=1e-6)


@given(dx=st.integers(1, 12), dy=st.integers(1, 12), seed=st.integers(0, 99))
@hypothesis(max_examples=20)
def test_a_warm_start_takes_any_two_matrices_and_reconstructs_where_the_latent_has_room(dx: int, dy: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    w, back = torch.randn(dx, dy, generator=generator), torch.randn(dy, dx, generator=generator)
    network = made(Shape(dx + dy, shortcut="linear"), {"a": dx, "b": dy})
    start_at(network, "a", "b", w, back)
    x, y = drawn(8, dx, seed=seed), drawn(8, dy, seed=seed + 1)
    assert torch.allclose(network.translate("a", "b", x), unit(x @ w), atol=1e-5)
    assert torch.allclose(network.translate("b", "a", y), unit(y @ back), atol=1e-5)
    assert torch.allclose(network.reconstruct("a", x), x, atol=1e-5)
    assert torch.allclose(network.reconstruct("b", y), y, atol=1e-4)


def test_three_spaces_start_at_maps_from_one_of_them() -> None:
    network = made(Shape(16, shortcut="linear"), {"a": 8, "b": 8, "c": 6})
    to_b, to_c = polar(drawn(8, 8)), polar(drawn(8, 6, seed=1))
    start_at(network, "a", "b", to_b)
    start_at(network, "a", "c", to_c)
    x, y = drawn(5, 8), drawn(5, 8, seed=1)
    assert torch.allclose(network.translate("a", "b", x), x @ to_b, atol=1e-6)
    assert torch.allclose(network.translate("a", "c", x), unit(x @ to_c), atol=1e-6)
    assert torch.allclose(network.translate("b", "c", y), unit(y @ to_b.T @ to_c), atol=1e-6)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_training_grows_every_branch_of_a_warm_start(norm: str) -> None:
    network = made(Shape(16, norm=norm, shortcut="linear", dropout=0.0))
    start_at(network, "a", "b", polar(drawn(12, 7)))
    before = {name: value.clone() for name, value in network.named_parameters()}
    trained(network, ["a", "b"], steps=3)
    # A norm takes away what is common to all rows, so the bias below a batch norm is the one number nothing asks to move.
    still = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
    assert not still


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_space_beside_a_trained_one_reads_and_writes_the_latent_as_that_one_does(norm: str, depth: int) -> None:
    network = trained(made(Shape(16, depth, norm=norm, shortcut="linear")), ["a", "b"])
    network.add_space("c", 12, torch.Generator())
    w = polar(drawn(12, 12, seed=3))
    start_beside(network, "a", "c", w)
    c = drawn(5, 12, seed=4)
    assert torch.allclose(network.encode("c", c), network.encode("a", c @ w.T), atol=1e-5)
    assert torch.allclose(network.translate("c", "b", c), network.translate("a", "b", c @ w.T), atol=1e-5)
    assert torch.allclose(network.translate("b", "c", drawn(5, 7)), network.translate("b", "a", drawn(5, 7)) @ w, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "ends", "size", "why"),
    [
        (Shape(16), ("a", "b"), (12, 7), "linear shortcuts"),
        (Shape(11, shortcut="linear"), ("a", "b"), (12, 7), "no room for 12"),
        (Shape(16, shortcut="linear"), ("a", "b"), (7, 12), "does not lead"),
        (Shape(16, shortcut="linear"), ("a", "a"), (12, 12), "does not lead"),
        (Shape(16, shortcut="linear"), ("a", "z"), (12, 7), "no space 'z'"),
    ],
)
def test_a_warm_start_that_cannot_be_is_refused_in_words(
    shape: Shape, ends: tuple[str, str], size: tuple[int, int], why: str
) -> None:
    with pytest.raises(SettingError, match=why) as refused:
        start_at(made(shape), *ends, drawn(*size))
    assert refused.value.hint


@pytest.mark.parametrize(
    "setting", [{"width": 0}, {"adapter_depth": 0}, {"backbone_depth": -1}, {"dropout": 1.0}, {"noise": -1.0}]
)
def test_impossible_sizes_are_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))):
        Shape(**setting)


def test_a_space_added_twice_or_never_is_refused() -> None:
    network = made(Shape(16))
    with pytest.raises(SettingError, match="'a' already"):
        network.add_space("a", 3, torch.Generator())
    with pytest.raises(SettingError, match="no space 'c'"):
        network.encode("c", drawn(2, 3))


@each
def test_a_map_of_one_direction_is_the_network_in_evaluation_and_is_rebuilt_the_same(shape: Shape) -> None:
    network = trained(made(shape), ["a", "b"], steps=2)
    x = drawn(5, 12)
    learned = Neural.of(network, "a", "b")
    again = rebuild("vec2vec", {name: tensor.clone() for name, tensor in learned.tensors().items()})
    assert torch.equal(learned(x), network.translate("a", "b", x))
    assert torch.equal(again(x), learned(x))
    before = learned(x)
    trained(network, ["a", "b"], steps=2)
    assert torch.equal(learned(x), before), "what the network learns later is not the map's"


def test_a_map_carries_many_rows_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    learned, x = Neural.of(made(Shape(16)), "a", "b"), drawn(10, 12)
    whole = learned(x)
    monkeypatch.setattr("crossvec.aligners.vec2vec.neural.ROWS", 3)
    assert torch.allclose(learned(x), whole, atol=1e-6)
    assert learned(x[:0]).shape == (0, 7)


def test_a_translator_with_networks_inside_is_saved_and_loaded(tmp_path: Path) -> None:
    network = made(Shape(16, norm="batch"))
    frames = [Frame(torch.zeros(d), 1.0, None) for d in DIMS.values()]
    translator = Translator(Neural.of(network, "a", "b"), Neural.of(network, "b", "a"), *frames)
    loaded = Translator.load(translator.save(tmp_path / "t"))
    for rows, one, same in (
        (drawn(4, 12), translator, loaded),
        (drawn(4, 7), translator.inverse(), loaded.inverse()),
    ):
        assert (one.translate(rows.numpy()) == same.translate(rows.numpy())).all()


def test_damaged_networks_are_refused_in_words() -> None:
    whole = Neural.of(made(Shape(16)), "a", "b").tensors()
    lost = {name: tensor for name, tensor in whole.items() if name != "backbone.blocks.0.0.bias"}
    with pytest.raises(TranslatorError, match=r"lacks the tensor 'backbone.blocks.0.0.bias'"):
        rebuild("vec2vec", lost)
    with pytest.raises(TranslatorError, match="do not fit together"):
        rebuild("vec2vec", {**whole, "backbone.blocks.0.0.bias": torch.zeros(3)})
    for sizes in ([16, 3, 4, 2, 0], [16, 3, 10**9, 0, 0], [0, 3, 4, 0, 0], [16, 3, 4]):
        with pytest.raises(CrossvecError, match="not the sizes"):
            rebuild("vec2vec", {**whole, "shape": torch.tensor(sizes)})
