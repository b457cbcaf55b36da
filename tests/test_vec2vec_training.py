"""test_vec2vec_training — what the training of vec2vec promises: its batches, its steps, its judgement, and what it leaves."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_world, orthonormal
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from crossvec.aligners import Alignment, Linear, Map, about, create
from crossvec.aligners.vec2vec import PRESETS, Vec2Vec, after
from crossvec.aligners.vec2vec.data import Batches, Order, Rows
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.distributed import Group
from crossvec.aligners.vec2vec.flat import Adam, Flat
from crossvec.aligners.vec2vec.health import Look, label_free, meeting, sickness, vital_signs
from crossvec.aligners.vec2vec.network import Network, Shape
from crossvec.aligners.vec2vec.pair import PairOfUniversal
from crossvec.aligners.vec2vec.run import prepared, train
from crossvec.aligners.vec2vec.seeds import REPLACED
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import CrossvecError, MissingExtraError, SettingError, SpaceError, TranslatorError, UsageError
from crossvec.geometry import procrustes, unit
from crossvec.space import Space

SOURCES = Path(__file__).parents[1] / "src"

TINY: dict[str, Any] = {"preset": "scratch", "width": 16, "batch": 32, "steps": 12, "looks": 3, "warmup": 2}


def centred(rows: np.ndarray) -> Tensor:
    return Rows.of(rows).centred().slice(0, len(rows))


@pytest.fixture(scope="module")
def clouds() -> tuple[Tensor, Tensor]:
    made = make_world(n=300, m=260, pool=2, dx=10, dy=8, latent=8, clusters=12)
    return centred(made.x), centred(made.y)


def top1(translated: Tensor, truth: Tensor) -> float:
    return float(((translated @ truth.T).argmax(1) == torch.arange(len(truth))).float().mean())


# data


@given(n=st.integers(1, 40), batch=st.integers(1, 8), world=st.integers(1, 3), seed=st.integers(0, 99))
def test_every_row_is_seen_at_most_once_an_epoch_and_as_many_as_fill_batches(n: int, batch: int, world: int, seed: int) -> None:
    if n < batch * world:
        return
    turns = n // (batch * world)
    ranks = [Order(n, batch, seed, 0, rank, world) for rank in range(world)]
    for epoch in range(2):
        seen = [int(i) for turn in range(turns) for order in ranks for i in order.at(epoch * turns + turn)]
        assert len(set(seen)) == len(seen) == turns * batch * world


@given(step=st.integers(0, 200), seed=st.integers(0, 99))
def test_two_processes_see_together_what_one_with_twice_the_batch_sees(step: int, seed: int) -> None:
    whole = Order(50, 6, seed, 1).at(step)
    halves = [Order(50, 3, seed, 1, rank, 2).at(step) for rank in range(2)]
    assert torch.equal(torch.cat(halves), whole)


def test_epochs_and_spaces_have_orders_of_their_own() -> None:
    orders = {tuple(Order(100, 100, 0, stream).at(step).tolist()) for stream in range(3) for step in range(3)}
    assert len(orders) == 9


def test_what_a_step_sees_does_not_depend_on_the_steps_before() -> None:
    rows = {name: Rows.of(torch.randn(30, 4)) for name in "ab"}
    one, other = Batches(rows, 7, 3), Batches(rows, 7, 3)
    walked = [one.at(step) for step in range(9)]
    for step in (8, 2, 5):
        assert all(torch.equal(other.at(step)[name], walked[step][name]) for name in rows)


def test_files_that_follow_one_another_are_mapped_and_give_the_rows_of_the_whole(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).standard_normal((41, 5)).astype(np.float32)
    paths = [tmp_path / name for name in ("1.npy", "2.npy", "3.npy")]
    for path, part in zip(paths, (whole[:10], whole[10:11], whole[11:]), strict=True):
        np.save(path, part)
    files, memory = Rows.of(paths), Rows.of(torch.from_numpy(whole))
    assert all(isinstance(part, np.memmap) for part in files.parts)
    index = torch.tensor([40, 0, 10, 10, 9, 11])
    assert torch.equal(files.take(index), memory.take(index))
    assert torch.equal(files.centred().slice(0, 41), memory.centred().slice(0, 41))


def test_centred_rows_have_unit_length_and_lost_their_common_offset() -> None:
    rows = torch.randn(200, 6) + 5
    found = Rows.of(rows).centred().slice(0, 200)
    assert torch.allclose(found, unit(rows - rows.mean(0)), atol=1e-5)


def test_rows_that_are_no_space_are_refused_in_words(tmp_path: Path) -> None:
    for name, array in (("a", np.ones((3, 2), np.float32)), ("b", np.ones((3, 4), np.float32)), ("i", np.ones((3, 2), int))):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "pickled.npy", np.array([[object()]]), allow_pickle=True)
    for wrong in (["a.npy", "b.npy"], ["i.npy"], ["pickled.npy"], ["missing.npy"]):
        with pytest.raises(SpaceError) as refused:
            Rows.of([tmp_path / name for name in wrong])
        assert refused.value.hint


# steps


@pytest.mark.parametrize("clip", [0.0, 0.05, 1000.0])
@pytest.mark.parametrize("seed", range(4))
def test_one_flat_step_moves_every_layer_as_adam_on_each_does(clip: float, seed: int) -> None:
    made = [nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 2)) for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    flat = Flat(made[0], rate=0.01, betas=(0.5, 0.999), eps=1e-8, clip=clip)
    adam = torch.optim.Adam(made[1].parameters(), lr=0.01, betas=(0.5, 0.999), eps=1e-8)
    rows = torch.randn(3, 20, 3, generator=Generator().manual_seed(seed))
    for step, x in enumerate(rows):
        flat.cleared()
        made[0](x).square().mean().backward()
        flat.move(step, 1.0, Group(), torch.amp.GradScaler("cpu", enabled=False))
        adam.zero_grad()
        made[1](x).square().mean().backward()
        if clip:
            nn.utils.clip_grad_norm_(made[1].parameters(), clip)
        adam.step()
    for ours, theirs in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_adam_has_the_bits_of_torchs_and_skips_what_a_scaler_finds_infinite(scaled: bool) -> None:
    generator = Generator().manual_seed(0)
    starts = torch.randn(1000, generator=generator)
    ours, theirs = (nn.Parameter(starts.clone()) for _ in range(2))
    adam = Adam(ours, (0.5, 0.999), 1e-8)
    torchs = torch.optim.Adam([theirs], betas=(0.5, 0.999), eps=1e-8, fused=True)
    scalers = [torch.amp.GradScaler("cpu", init_scale=8.0, enabled=scaled) for _ in range(2)]
    for step in range(6):
        gradient = torch.randn(1000, generator=generator) * 10.0 ** (step - 3)
        if scaled and step == 3:
            gradient[7] = math.inf
        adam.rate = torchs.param_groups[0]["lr"] = 0.01 / (1 + step)
        before = ours.detach().clone()
        for values, optimiser, scaler in ((ours, adam, scalers[0]), (theirs, torchs, scalers[1])):
            values.grad = scaler.scale(gradient.clone())
            scaler.unscale_(optimiser)
            scaler.step(optimiser)
            scaler.update()
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, before) == (scaled and step == 3)
    assert all(torch.equal(tensor, torchs.state[theirs][name]) for name, tensor in adam.state.items())


def test_a_gradient_that_is_no_number_shows_even_when_it_is_clipped() -> None:
    layer = nn.Linear(2, 2)
    flat = Flat(layer, rate=0.1, betas=(0.5, 0.999), eps=1e-8, clip=1.0)
    (layer(torch.ones(1, 2)).sum() * math.nan).backward()
    flat.move(0, 1.0, Group(), torch.amp.GradScaler("cpu", enabled=False))
    assert layer.weight.isnan().all()


def test_a_network_with_nothing_left_to_train_is_refused() -> None:
    with pytest.raises(SettingError, match="left to train"):
        Flat(nn.Linear(2, 2).requires_grad_(False), rate=0.1, betas=(0.5, 0.9), eps=1e-8, clip=0.0)


def test_the_average_of_weights_forgets_the_random_start_and_lags_behind() -> None:
    layer = nn.Linear(1, 1, bias=False)
    flat = Flat(layer, rate=0.1, betas=(0.5, 0.999), eps=1e-8, clip=0.0, ema=0.9)
    start = flat.average.clone()
    for step in range(200):
        flat.cleared()
        (3 - layer.weight).square().sum().backward()
        flat.move(step, 1.0, Group(), torch.amp.GradScaler("cpu", enabled=False))
    assert abs(float(flat.average[0]) - 3) < 0.05 < abs(float(start[0]) - 3)


PAGES = """
import resource
import torch
from crossvec.aligners.vec2vec.memory import kept

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations = [torch.zeros(5 * 2**20) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with kept():
    pages(), pages()
    print(sum(pages() for _ in range(10)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left to their own ways")
def test_a_step_finds_the_memory_that_the_one_before_it_freed() -> None:
    """Ten turns of 60 MiB: the system gives some 100,000 pages if nothing is kept; if it is, those of one tensor at most."""
    told = subprocess.run(
        [sys.executable, "-c", PAGES],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) < 30_000


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains_in_every_precision_and_gives_finite_maps(
    preset: str, precision: str, clouds: tuple[Tensor, Tensor]
) -> None:
    x, y = clouds
    made = Vec2Vec(**{**TINY, "preset": preset, "precision": precision, "steps": 3, "looks": 1})  # type: ignore[arg-type]
    learned = made.fit(x, y)
    assert learned.map(x).isfinite().all() and learned.inverse(y).shape == (len(y), 10)
    assert learned.trace[0]["ended"] == "all steps"


@pytest.mark.parametrize(("precision", "instructions", "told"), [("bf16", False, 1), ("bf16", True, 0), ("fp32", False, 0)])
def test_it_is_said_when_a_processor_emulates_the_precision(
    precision: str, instructions: bool, told: int, clouds: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = torch.bfloat16 if instructions else torch.float32
    monkeypatch.setattr("crossvec.aligners.vec2vec.run.fast_type", lambda _device: fast)
    said: list[str] = []
    Vec2Vec(**{**TINY, "precision": precision, "steps": 1}).fit(*clouds, progress=lambda doing, _part: said.append(doing))
    assert sum("emulates bf16" in words for words in said) == told


def test_half_floats_without_a_gpu_are_refused_in_words(clouds: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(SettingError, match="GPU") as refused:
        Vec2Vec(**{**TINY, "precision": "fp16"}).fit(*clouds)
    assert "bf16" in refused.value.hint


@pytest.mark.slow
def test_compiling_without_a_compiler_is_refused_in_words(clouds: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    for name, rows in zip(("x.npy", "y.npy"), clouds, strict=True):
        np.save(tmp_path / name, rows.numpy())
    told = subprocess.run(
        [sys.executable, "-m", "crossvec", "fit", "x.npy", "y.npy", "-o", "t", "-a", "vec2vec", "-s", "compile=true"],
        env={**os.environ, "PYTHONPATH": str(SOURCES), "CXX": "no-such-compiler"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "no-such-compiler" in told.stderr and "leave out compile" in told.stderr
    assert "Traceback" not in told.stderr and not (tmp_path / "t").exists()


COMPILED = """
import json
import sys
import torch
from crossvec.aligners.vec2vec import Vec2Vec
from crossvec.aligners.vec2vec.run import prepared
from crossvec.aligners.vec2vec.data import Rows
from crossvec.geometry import unit

def weights(compiled, steps):
    rows = unit(torch.randn(300, 10, generator=torch.Generator().manual_seed(0)))
    sizes = {"preset": "scratch", "width": 8, "adapter_depth": 1, "backbone_depth": 1, "batch": 32}
    settings = Vec2Vec(**sizes, **json.loads(sys.argv[1]), compile=compiled)
    training = prepared(settings, {"x": Rows.of(rows), "y": Rows.of(rows[:, :8])}, lambda network: 0.0)
    for _ in range(steps):
        training.step()
    return training.generator.values.detach()

moved = (weights(False, 2) - weights(False, 0)).norm()
print(float((weights(True, 2) - weights(False, 2)).norm() / moved))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="there is nothing to compile with")
@pytest.mark.parametrize(
    "terms",
    [{"without": "adversarial, latent, cycle, cycle_vsp, vsp"}, {"without": "latent, cycle, cycle_vsp, vsp", "r1": 1.0}],
)
def test_a_compiled_training_takes_the_steps_of_one_that_is_not(terms: dict[str, Any]) -> None:
    """In a process of its own: torch does not compile the checks of types that are made here."""
    told = subprocess.run(
        [sys.executable, "-c", COMPILED, json.dumps(terms)],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(told.stdout) < 1e-3


@pytest.mark.parametrize("preset", ["scratch", "paper", "published-code"])
def test_what_is_told_of_a_preset_in_full_is_what_a_training_took(preset: str, clouds: tuple[Tensor, Tensor]) -> None:
    options = {**TINY, "preset": preset, "steps": 1, "looks": 1, "without": "r1, clip"}
    told = {row["name"]: row["value"] for row in about("vec2vec", options)["settings"]}
    took = create("vec2vec", options).fit(*clouds).trace[0]["settings"]
    spoken = {"detach_cycle": {True: "yes", False: "no"}, "latent_discriminators": {1: "one", 2: "two"}}
    shared = told.keys() & took.keys() - {"supervised"}  # without pairs it is 0, and told as with many
    assert {"rate", "ema", "width", "norm", "dropout", "cycle_vsp", "gan", "detach_cycle", "latent_discriminators"} <= shared
    assert {key: told[key] for key in shared} == {key: spoken.get(key, {}).get(took[key], took[key]) for key in shared}


def test_reconstruction_and_cycle_fall_as_it_trains(clouds: tuple[Tensor, Tensor]) -> None:
    looks = Vec2Vec(**{**TINY, "steps": 60, "looks": 4, "rate": 4e-3}).fit(*clouds).trace[0]["looks"]
    for part in ("rec", "cycle"):
        assert looks[-1]["parts"][part] < 0.8 * looks[1]["parts"][part]


def test_a_term_of_weight_zero_is_not_worked_out(clouds: tuple[Tensor, Tensor]) -> None:
    only = Vec2Vec(**TINY, without="adversarial, latent, cycle, cycle_vsp, vsp").fit(*clouds)
    assert set(only.trace[0]["looks"][-1]["parts"]) == {"rec"}


@pytest.mark.slow
def test_pairs_teach_partners_that_were_not_among_them() -> None:
    made = make_world(n=800, m=800, pool=200, dx=10, dy=8, latent=8, clusters=12, paired=True)
    x, y = centred(made.x), centred(made.y)
    pairs = torch.arange(600)[:, None].repeat(1, 2)
    settings = {**TINY, "width": 32, "steps": 250, "rate": 3e-3, "batch": 64}
    found = {given: Vec2Vec(**settings).fit(x, y, pairs=pairs if given else None) for given in (True, False)}
    scores = {given: top1(learned.map(x[600:]), y[600:]) for given, learned in found.items()}
    assert scores[True] > 0.3 > 0.1 > scores[False]


@pytest.mark.parametrize(("frozen", "learns"), [("backbone", ("inputs", "outputs")), ("adapters", ("backbone",))])
def test_what_is_frozen_stays_as_it_starts_and_is_kept_in_checkpoints(
    frozen: Any, learns: tuple[str, ...], clouds: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    made = Vec2Vec(steps=6, looks=2, width=16, batch=32, seed=3, frozen=frozen, checkpoint=str(tmp_path), every=2)
    spaces = {"source": Rows.of(clouds[0]), "target": Rows.of(clouds[1])}
    w = torch.from_numpy(orthonormal(10, 8, np.random.default_rng(0))).float()
    linear = {("source", "target"): Alignment(Linear.of(w), Linear.of(w.T.contiguous()))}

    def training(start: dict[tuple[str, str], Alignment]) -> Any:
        return prepared(
            made, spaces, lambda network: float(network.translate("source", "target", clouds[0]).sum()), linear=start
        )

    begun = training(linear)
    before = {name: number.clone() for name, number in begun.network.state_dict().items()}
    for _ in range(2):
        begun.step()
    moved = {name.split(".")[0] for name, number in begun.network.state_dict().items() if not torch.equal(number, before[name])}
    assert moved == set(learns)
    begun.save()
    resumed = training({})  # as after a kill: the search for a start is not made again
    begun.step(), resumed.step()
    for name, number in begun.network.state_dict().items():
        assert torch.equal(number, resumed.network.state_dict()[name]), name


def test_a_linear_start_is_where_training_begins(clouds: tuple[Tensor, Tensor]) -> None:
    x, y = clouds
    w = torch.from_numpy(orthonormal(10, 8, np.random.default_rng(0))).float()
    start = Alignment(Linear.of(w), Linear.of(w.T.contiguous()))
    spaces = {"source": Rows.of(x), "target": Rows.of(y)}
    seen: list[Tensor] = []

    def first_score(network: Network) -> float:
        seen.append(network.translate("source", "target", x))
        return -float(len(seen))  # so that the first look stays the best

    found = train(
        Vec2Vec(**{**TINY, "start": "warm"}), spaces, linear=lambda: {("source", "target"): start}, scores=first_score
    )
    assert torch.allclose(seen[0], unit(x @ w), atol=1e-5)
    assert found.best.step == 0
    assert torch.allclose(found.best.network.translate("source", "target", x), unit(x @ w), atol=1e-5)


@pytest.mark.slow
def test_a_warm_fit_finds_partners_without_pairs(world: Any) -> None:
    x, y = Rows.of(world.x).centred(), Rows.of(world.y).centred()
    rows = x.slice(0, len(x)), y.slice(0, len(y))
    learned = Vec2Vec(effort="quick", steps=20, looks=2, width=48, batch=64).fit(*rows)
    eval_x, eval_y = (
        dataclasses.replace(side, parts=(torch.from_numpy(held),), mean=side.mean)
        for side, held in ((x, world.eval_x), (y, world.eval_y))
    )
    assert top1(learned.map(eval_x.slice(0, 500)), eval_y.slice(0, 500)) > 0.8


# health


def look(step: int = 10, **numbers: float) -> Look:
    usual = {"score": 0.1, "loss": 1.0, "rank": 1.0, "spread": 1.0, "told_apart": 0.7}
    return Look(step=step, parts={}, **{**usual, **numbers})


def test_a_training_that_goes_well_has_no_sickness() -> None:
    assert not sickness([look(step, score=step / 100) for step in range(0, 100, 10)])


@pytest.mark.parametrize("wrong", [{"loss": math.nan}, {"score": math.nan}, {"loss": 500.0}, {"loss": math.inf}])
def test_numbers_that_leave_all_bounds_are_divergence(wrong: dict[str, float]) -> None:
    assert sickness([look(0, loss=0.0), look(10), look(20, **wrong)]) == "divergence"


@pytest.mark.parametrize("wrong", [{"rank": 0.02}, {"spread": 0.01}])
def test_translations_without_width_are_mode_collapse(wrong: dict[str, float]) -> None:
    assert sickness([look(0), look(10, **wrong)]) == "mode collapse"
    assert not sickness([look(0), look(10, **wrong)], settled=20)
    assert sickness([look(0), look(10, **wrong), look(20, **wrong)], settled=20) == "mode collapse"


def test_statistics_that_have_not_settled_are_not_taken_for_a_collapse() -> None:
    """Batch norm in evaluation goes by running statistics, which after a few steps are still those that it began with."""
    made = make_world(n=400, m=400, pool=2, dx=256, dy=200, latent=128, clusters=30)
    x, y = centred(made.x), centred(made.y)
    published: dict[str, Any] = {"preset": "published-code", "width": 256, "batch": 64, "steps": 6, "looks": 3}
    trained = Vec2Vec(**published).fit(x, y).trace
    assert [seed["ended"] for seed in trained] == ["all steps"]
    assert min(seen["spread"] for seen in trained[0]["looks"]) < 0.1, "it looks as if it had"


def test_discriminators_that_won_dominate_only_while_the_score_stands_still() -> None:
    won = [look(0, score=0.1), *(look(step, told_apart=1.0, score=0.1) for step in range(10, 80, 10))]
    assert sickness(won) == "discriminators dominate"
    assert not sickness([*won[:-1], look(80, told_apart=1.0, score=0.2)])
    assert not sickness([*won[:-1], look(80, told_apart=0.9)])
    fell_at_first = [dataclasses.replace(seen, score=0.05 + seen.step / 1e4) for seen in won[1:]]
    assert not sickness([won[0], *fell_at_first]), "it rises, though not yet to what random numbers had"


def test_a_network_that_sends_all_rows_to_one_place_is_seen_to_collapse(clouds: tuple[Tensor, Tensor]) -> None:
    rows = {"source": clouds[0], "target": clouds[1]}
    dims = {name: x.shape[1] for name, x in rows.items()}
    generator = Generator().manual_seed(0)
    network = Network(dims, Shape(16, 1, 1, "layer", 0.0, "linear"), generator).eval()
    critics = Discriminators(dims, 16, generator, width=16, depth=3)
    before = look(
        0, **dict(zip(("score", "rank", "spread"), vital_signs(network, critics, rows, "standard", _zero), strict=False))
    )
    with torch.no_grad():
        for number in network.adapters("target")[1].parameters():
            number.zero_()
        network.adapters("target")[1].blocks[0][0].bias.fill_(1.0)
    score, rank, spread, _ = vital_signs(network, critics, rows, "standard", _zero)
    assert sickness([before, look(10, rank=rank, spread=spread)]) == "mode collapse"
    assert not sickness([before, dataclasses.replace(before, step=10)])


def _zero(_network: Network) -> float:
    return 0.0


def test_sick_trainings_are_named_and_replaced_by_the_next_seeds(clouds: tuple[Tensor, Tensor]) -> None:
    wild = Vec2Vec(**{**TINY, "discriminator_rate": 0.9, "warmup": 1, "rate": 0.9}, without="clip", seeds=1, seed=5)
    told: list[str] = []
    learned = wild.fit(*clouds, progress=lambda doing, _fraction: told.append(doing))
    assert [step["seed"] for step in learned.trace] == list(range(5, 5 + 1 + REPLACED))
    assert {step["ended"] for step in learned.trace} <= {"divergence", "mode collapse"}
    assert all(any(f"seed {step['seed']} ended of {step['ended']}" in line for line in told) for step in learned.trace)
    assert learned.evidence["healthy"] == 0
    assert learned.map(clouds[0]).isfinite().all()


def test_of_several_seeds_the_one_with_the_best_score_is_kept(clouds: tuple[Tensor, Tensor]) -> None:
    learned = Vec2Vec(**TINY, seeds=3).fit(*clouds)
    assert Counter(step["ended"] for step in learned.trace) == {"all steps": 3}
    assert learned.evidence["label_free_score"] == max(step["score"] for step in learned.trace)


@pytest.mark.parametrize(("start", "kept", "looks"), [("warm", 0, 4), ("cold", 2, 5)])
def test_training_ends_when_the_score_no_longer_rises_and_random_numbers_are_never_kept(
    start: Any, kept: int, looks: int, clouds: tuple[Tensor, Tensor]
) -> None:
    falling = iter(range(0, -100, -1))
    w = torch.from_numpy(orthonormal(clouds[0].shape[1], clouds[1].shape[1], np.random.default_rng(0))).float()
    learned = Vec2Vec(**{**TINY, "steps": 24, "looks": 12}, patience=3, start=start).fit(
        *clouds, judge=lambda _map: float(next(falling)), start=Alignment(Linear.of(w), Linear.of(w.T.contiguous()))
    )
    assert learned.trace[0]["ended"] == "no better score"
    assert len(learned.trace[0]["looks"]) == looks
    assert learned.evidence["best_step"] == kept


@given(seed=st.integers(0, 30))
def test_the_label_free_score_prefers_the_true_map_to_wrong_ones(seed: int) -> None:
    made = make_world(n=600, m=600, pool=2, dx=10, dy=8, latent=8, clusters=12, seed=seed)
    twin = make_world(n=600, m=600, pool=600, dx=10, dy=8, latent=8, clusters=12, seed=seed)
    x, y = centred(made.x), centred(made.y)
    true = procrustes(centred(twin.eval_x), centred(twin.eval_y))
    turned = torch.from_numpy(orthonormal(8, 8, np.random.default_rng(seed))).float()
    right = label_free(unit(x @ true), y)
    assert right > label_free(unit(x @ true @ turned), y) + 0.05
    assert right > label_free(unit(x @ true * torch.tensor([1.0] + [0.0] * 7)), y)


def test_rows_that_share_a_neighbour_count_once_in_meeting() -> None:
    target = unit(torch.randn(50, 6, generator=Generator().manual_seed(0)))
    target = unit(target - target.mean(0))
    assert meeting(target, target) > 0.95
    collapsed = target[:1] + 1e-3 * torch.randn(50, 6, generator=Generator().manual_seed(1))
    assert meeting(collapsed, target) < 0.5


# live


def test_progress_tells_losses_and_the_discriminators_balance(clouds: tuple[Tensor, Tensor]) -> None:
    told: list[str] = []
    Vec2Vec(**TINY).fit(*clouds, progress=lambda doing, _fraction: told.append(doing))
    assert any("loss" in doing and "discriminators right" in doing and "cycle" in doing for doing in told)
    told.clear()
    Vec2Vec(**TINY, without="adversarial, latent").fit(*clouds, progress=lambda doing, _fraction: told.append(doing))
    assert any("loss" in doing for doing in told) and not any("discriminators" in doing for doing in told)


def test_event_files_hold_every_look(tmp_path: Path, clouds: tuple[Tensor, Tensor]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    learned = Vec2Vec(**TINY, events=str(tmp_path / "events")).fit(*clouds)
    found = EventAccumulator(str(tmp_path / "events" / "seed-0"))
    found.Reload()
    scores = {scalar.step: scalar.value for scalar in found.Scalars("score")}
    assert scores == {seen["step"]: pytest.approx(seen["score"]) for seen in learned.trace[0]["looks"]}
    assert {"loss/total", "loss/cycle", "health/told apart"} <= set(found.Tags()["scalars"])
    assert "verdict" not in found.Tags()["scalars"]


def test_the_verdict_on_the_map_so_far_is_told_with_every_look_and_chooses_nothing(
    tmp_path: Path, clouds: tuple[Tensor, Tensor]
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    heard: list[str] = []
    asked: list[float] = []

    def verdict(map_: Map) -> float:
        asked.append(1 - float((map_(clouds[0]) @ map_(clouds[0]).T).mean()) / (2 + len(asked)))
        return asked[-1]

    alone = Vec2Vec(**TINY).fit(*clouds)
    told = Vec2Vec(**TINY, events=str(tmp_path)).fit(*clouds, verdict=verdict, progress=lambda doing, _: heard.append(doing))
    looks = told.trace[0]["looks"]
    assert [look["verdict"] for look in looks] == pytest.approx(asked) and len(asked) == len(looks) > 1
    assert all(any(f"verdict {sure:.2f}" in doing for doing in heard) for sure in asked)
    found = EventAccumulator(str(tmp_path / "seed-0"))
    found.Reload()
    assert [scalar.value for scalar in found.Scalars("verdict")] == pytest.approx(asked)
    assert all(look["verdict"] is None for look in alone.trace[0]["looks"])
    assert torch.equal(alone.map(clouds[0]), told.map(clouds[0]))


def test_event_files_without_tensorboard_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clouds: tuple[Tensor, Tensor]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(MissingExtraError, match="tensorboard") as refused:
        Vec2Vec(**TINY, events=str(tmp_path)).fit(*clouds)
    assert "pip install" in refused.value.hint


# settings


def test_a_field_that_is_left_alone_takes_the_presets_value() -> None:
    made = Vec2Vec(preset="paper", steps=7, without="cycle, warmup")
    assert made.recipe() == dataclasses.replace(PRESETS["paper"].recipe, steps=7, warmup=0)
    assert made.objective() == dataclasses.replace(PRESETS["paper"].objective, cycle=0.0)
    assert made.shape() == PRESETS["paper"].shape


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_zero_that_was_typed_is_zero_and_not_the_presets_value(preset: str) -> None:
    named = "rec cycle vsp cycle_vsp adversarial latent dropout noise warmup cooldown ema clip".split()
    one = create("vec2vec", {"preset": preset, "pseudo": "1", **dict.fromkeys(named, "0")})
    other = create("vec2vec", {"preset": preset, "pseudo": "1", "without": ", ".join(named)})
    for made in (one, other):
        assert isinstance(made, Vec2Vec)
        took = {**vars(made.objective()), **vars(made.recipe()), **vars(made.shape())}
        assert {took[name] for name in named} == {0}
    assert Vec2Vec(supervised=0.0).objective(pairs=10).supervised == 0.0


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("norm", "rms", "use one of layer, batch"),
        ("detach_cycle", "", "use one of yes, no"),
        ("steps", 2.5, "use a number such as steps=1"),
        ("steps", "0", "at least 1"),
        ("rate", "0", "above 0"),
        ("softness", "0", "above 0"),
    ],
)
def test_a_setting_that_is_refused_comes_with_one_that_is_not(key: str, value: Any, hint: str) -> None:
    with pytest.raises(SettingError, match=key) as refused:
        create("vec2vec", {key: value})
    assert hint in refused.value.hint


def test_the_trace_tells_the_settings_that_training_took(clouds: tuple[Tensor, Tensor]) -> None:
    made = Vec2Vec(**{**TINY, "steps": 3}, cycle=4.0)
    took = made.fit(*clouds).trace[0]["settings"]
    assert (took["cycle"], took["steps"], took["width"], took["gan"]) == (4.0, 3, 16, "least-squares")
    assert took["discriminator_rate"] == PRESETS["scratch"].recipe.discriminator_rate


def test_a_known_pair_weighs_the_same_however_few_they_are_until_they_are_many() -> None:
    weights = {pairs: Vec2Vec().objective(pairs=pairs).supervised for pairs in (0, 10, 100, 1000, 5000)}
    assert weights == {0: 0.0, 10: 0.1, 100: 1.0, 1000: 10.0, 5000: 10.0}
    assert Vec2Vec(supervised=3.0).objective(pairs=10).supervised == 3.0
    assert Vec2Vec(without="supervised").objective(pairs=10).supervised == 0.0


def test_a_warm_start_widens_the_latent_to_hold_both_spaces_unless_told_otherwise() -> None:
    assert Vec2Vec().shape((384, 256)).width == 384
    assert Vec2Vec(width=400).shape((384, 256)).width == 400
    assert Vec2Vec(preset="scratch").shape((384, 256)).width == 256


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"steps": -1}, "steps"),
        ({"rate": 2.0}, "rate"),
        ({"ema": 1.0}, "ema"),
        ({"seeds": 0}, "seeds"),
        ({"every": 5}, "checkpoint"),
        ({"preset": "paper", "start": "warm"}, "warm"),
        ({"start": "cold"}, "scratch"),
        ({"cooldown": 1.5}, "cooldown"),
        ({"dropout": 1.0}, "dropout"),
        ({"noise": -0.1}, "noise"),
        ({"cycle": -3.0}, "cycle"),
        ({"without": "everything"}, "everything"),
        ({"without": "cycle", "cycle": 2.0}, "cycle"),
        ({"looks": 2.5}, "looks"),
        ({"gan": "best"}, "gan"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_settings_that_cannot_be_are_refused_by_name(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError) as refused:
        Vec2Vec(**wrong)
    assert named in f"{refused.value} {refused.value.hint}"
    assert refused.value.hint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 8}, "no room for 10"),
        ({"without": "rec, pseudo"}, "every weight"),
        ({"precision": "fp16"}, "GPU"),
        ({"preset": "published-code", "batch": 1}, "two rows"),
        ({"checkpoint": "file/within"}, "file"),
        ({"events": "file/within"}, "file"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_start_is_looked_for(
    wrong: dict[str, Any], said: str, clouds: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    told: list[str] = []
    with pytest.raises(CrossvecError, match=said) as refused:
        Vec2Vec(**wrong).fit(*clouds, progress=lambda doing, _fraction: told.append(doing))
    assert refused.value.hint
    assert not told


# any number of spaces


@pytest.fixture(scope="module")
def three() -> dict[str, np.ndarray]:
    one = make_world(n=240, m=220, pool=60, dx=10, dy=8, latent=6, clusters=12)
    return {"a": one.x, "b": one.y, "c": one.x[:200] @ orthonormal(10, 12, np.random.default_rng(1)).astype(np.float32)}


@pytest.fixture(scope="module")
def universal(three: dict[str, np.ndarray]) -> Universal:
    return Universal.fit(three, Vec2Vec(**TINY))


def test_any_two_of_three_spaces_translate_into_one_another(universal: Universal, three: dict[str, np.ndarray]) -> None:
    for a in three:
        for b in three:
            assert universal.translator(a, b)(centred(three[a])).shape == (len(three[a]), three[b].shape[1])


def test_a_translation_is_the_latent_decoded(universal: Universal, three: dict[str, np.ndarray]) -> None:
    latent = universal.encode_latent("a", torch.from_numpy(three["a"]))
    with torch.no_grad():
        decoded = universal.network.decode("b", latent)
    assert torch.allclose(universal.translator("a", "b")(centred(three["a"])), decoded, atol=1e-5)


def test_the_pages_lines_on_a_universal_space_run(
    three: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "aligners.md").read_text(encoding="utf-8")
    lines = page[page.index("```python\n") :].split("```")[1].removeprefix("python\n")
    for call in ("Universal.fit(files)", '{"a": "a.npy"})'):
        assert call in lines
        lines = lines.replace(call, call[:-1] + ", Vec2Vec(**TINY))")
    for name, rows in {**three, "d": three["c"][:150, :7]}.items():
        np.save(tmp_path / f"{name}.npy", rows)
    monkeypatch.chdir(tmp_path)
    names = {"rows": torch.from_numpy(three["a"][:20]), "others": torch.from_numpy(three["b"][:20]), "Vec2Vec": Vec2Vec}
    exec(compile(lines, "aligners.md", "exec"), names := {**names, "TINY": TINY})  # noqa: S102
    made: Any = names
    assert made["latent"].shape == (20, 16) and made["more"].spaces == ["a", "b", "c", "d"]
    assert Universal.load("space.safetensors").spaces == list(made["files"])
    carried = made["translator"].translate(three["b"][:20])
    centred_rows = unit(torch.from_numpy(three["b"][:20]) - made["universal"].means["b"])
    seen = unit(torch.from_numpy(carried) - made["universal"].means["c"])
    directions = made["universal"].translator("b", "c")(centred_rows)
    assert torch.allclose(seen, directions, atol=1e-4), "it goes where the network sends directions"
    again = type(made["translator"]).load(made["translator"].save(tmp_path / "b-to-c"))
    assert again.target.dim == three["c"].shape[1] and again.status == "failed", "in so few steps"
    assert again.card["aligner"] == "universal" and again.card["trace"][0]["evidence"]["healthy"] in (0.0, 1.0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], "a list is no array"),
        (Space.of(np.eye(3, dtype=np.float32)), "a Space is no array"),
        (np.array([["a", "b"], ["c", "d"]]), "no real numbers"),
        (np.ones((1, 10), np.float32), "d has 1 row: that is no cloud"),
        (np.ones((0, 10), np.float32), "d has 0 rows: that is no cloud"),
        ("none.npy", "there is no file none.npy"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_space_is_refused_by_a_universal_one(
    given: Any, told: str, universal: Universal, three: dict[str, np.ndarray]
) -> None:
    for use in (
        lambda: Universal.fit({"a": three["a"], "d": given}, Vec2Vec(**TINY)),
        lambda: universal.add_space("d", given, {"a": three["a"]}, Vec2Vec(**TINY)),
    ):
        with pytest.raises(SpaceError, match=told) as refused:
            use()
        assert refused.value.hint


@pytest.mark.usefixtures("unchecked")
def test_names_that_a_file_would_change_and_words_for_rows_are_refused(
    universal: Universal, three: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="0 is no name"):
        Universal.fit({0: three["a"], "b": three["b"]}, Vec2Vec(**TINY))  # type: ignore[dict-item]
    with pytest.raises(SpaceError, match="no real numbers"):
        universal.encode_latent("a", np.array([["x"] * 10]))
    with pytest.raises(TranslatorError, match="there is no file"):
        Universal.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(("key", "value"), [("steps", True), ("rate", False), ("checkpoint", 5), ("without", True)])
def test_values_of_another_kind_are_refused_from_a_file_too(key: str, value: Any) -> None:
    with pytest.raises(SettingError, match=key):
        create("vec2vec", {key: value})


def test_a_fit_says_which_trainings_ended_and_of_what() -> None:
    from crossvec.report.text import _sick

    ended = [{"seed": seed, "ended": "mode collapse"} for seed in (0, 1)]
    tried = {"aligner": "vec2vec", "evidence": {"healthy": 0.0}, "steps": ended}
    assert "seed 0 of mode collapse, seed 1 of mode collapse" in _sick(tried)
    assert not _sick({**tried, "evidence": {"healthy": 1.0}}) and not _sick({**tried, "evidence": {}})


def test_two_of_a_universal_space_go_both_ways_as_the_network_does(
    universal: Universal, three: dict[str, np.ndarray], tmp_path: Path
) -> None:
    file = str(universal.save(tmp_path / "space.safetensors"))
    x, y = centred(three["a"]), centred(three["c"])
    found = PairOfUniversal(space=file, source="a", target="c").fit(x, y)
    assert torch.equal(found.map(x), universal.translator("a", "c")(x))
    assert torch.equal(found.inverse(y), universal.translator("c", "a")(y))
    assert found.evidence == {"healthy": float(universal.healthy)} and list(found.trace) == list(universal.trace)


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"space": ""}, SettingError, "no trained space"),
        ({"space": "none.safetensors"}, TranslatorError, "none.safetensors"),
        ({"source": ""}, SettingError, "there are a, b, c"),
        ({"target": "d"}, SettingError, "no space 'd'"),
        ({"target": "b"}, SettingError, "12 dimensions"),
    ],
)
def test_a_pair_that_a_universal_space_does_not_have_is_refused(
    changed: dict[str, str],
    error: type[CrossvecError],
    told: str,
    universal: Universal,
    three: dict[str, np.ndarray],
    tmp_path: Path,
) -> None:
    file = str(universal.save(tmp_path / "space.safetensors"))
    one = PairOfUniversal(**{"space": file, "source": "a", "target": "c", **changed})
    with pytest.raises(error) as refused:
        one.fit(centred(three["a"]), centred(three["c"]))
    assert told in f"{refused.value} {refused.value.hint}"


def test_a_space_added_later_changes_nothing_that_was_there(universal: Universal, three: dict[str, np.ndarray]) -> None:
    new = three["b"][:, :5].copy()
    grown = universal.add_space("d", new, {"a": three["a"]}, Vec2Vec(**TINY))
    assert grown.spaces == ["a", "b", "c", "d"] and universal.spaces == ["a", "b", "c"]
    x = centred(three["a"])
    assert torch.equal(grown.translator("a", "b")(x), universal.translator("a", "b")(x))
    assert grown.translator("a", "d")(x).shape == (len(x), 5)
    assert grown.trace[0]["looks"][-1]["parts"]["rec"] < grown.trace[0]["looks"][1]["parts"]["rec"]


def test_a_saved_universal_space_translates_the_same(
    universal: Universal, three: dict[str, np.ndarray], tmp_path: Path
) -> None:
    again = Universal.load(universal.save(tmp_path / "space.safetensors"))
    rows = torch.from_numpy(three["c"])
    assert torch.equal(again.encode_latent("c", rows), universal.encode_latent("c", rows))
    assert list(again.trace) == list(universal.trace)


def test_cosines_are_told_before_and_in_the_latent(universal: Universal) -> None:
    rng = np.random.default_rng(0)
    rows = {
        name: torch.from_numpy(rng.standard_normal((50, d)).astype(np.float32)) for name, d in universal.network.dims.items()
    }
    found = universal.cosines(rows)
    for grid in found.values():
        assert all(grid[a][a] == pytest.approx(1, abs=1e-5) for a in rows)
        assert all(grid[a][b] == pytest.approx(grid[b][a], abs=1e-6) for a in rows for b in rows)
    assert abs(found["before"]["a"]["b"]) < 0.3
    with pytest.raises(SettingError, match="same two or more texts"):
        universal.cosines({**rows, "a": rows["a"][:9]})


def test_the_control_of_cosines_keeps_what_does_not_come_from_the_texts(universal: Universal) -> None:
    """A mean that all rows share stays when rows are shuffled; agreement of the rows goes."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((200, max(universal.network.dims.values()))).astype(np.float32)
    alike = {name: torch.from_numpy(one[:, :d].copy()) for name, d in universal.network.dims.items()}
    found = universal.cosines(alike)
    assert found["before"]["a"]["c"] > 0.8 and abs(found["before shuffled"]["a"]["c"]) < 0.1
    moved = universal.cosines({name: x + 20 for name, x in alike.items()})
    assert moved["before shuffled"]["a"]["c"] > 0.8, "the cosine of a common mean"
    assert all(moved[name]["b"]["b"] == pytest.approx(1, abs=1e-5) for name in moved)


def test_the_cosines_are_drawn_and_half_a_table_is_refused(universal: Universal, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from crossvec.report.heatmap import draw_cosines

    rng = np.random.default_rng(0)
    rows = {
        name: torch.from_numpy(rng.standard_normal((9, d)).astype(np.float32)) for name, d in universal.network.dims.items()
    }
    found = universal.cosines(rows)
    assert draw_cosines(tmp_path / "four.png", found).read_bytes().startswith(b"\x89PNG")
    del found["latent shuffled"]["b"]
    with pytest.raises(UsageError, match="latent shuffled"):
        draw_cosines(tmp_path / "none.png", found)
    assert not (tmp_path / "none.png").exists()


def test_spaces_that_are_not_there_or_there_already_are_refused(universal: Universal, three: dict[str, np.ndarray]) -> None:
    with pytest.raises(SettingError, match="no space 'z'"):
        universal.encode_latent("z", torch.zeros(1, 10))
    with pytest.raises(SettingError, match="dimensions"):
        universal.encode_latent("a", torch.zeros(1, 9))
    with pytest.raises(SettingError, match="cannot be added"):
        universal.add_space("a", three["a"], {"b": three["b"]}, Vec2Vec(**TINY))
    with pytest.raises(SettingError, match="two spaces"):
        Universal.fit({"a": three["a"]}, Vec2Vec(**TINY))


def test_a_space_is_not_added_by_settings_that_its_network_cannot_follow(
    universal: Universal, three: dict[str, np.ndarray]
) -> None:
    with pytest.raises(SettingError, match="width is 16 in this network"):
        universal.add_space("d", three["a"], {"b": three["b"]}, Vec2Vec(**{**TINY, "width": 32}))
    padded = Universal.fit({name: three[name] for name in "ab"}, Vec2Vec(**{**TINY, "preset": "paper", "steps": 1}))
    with pytest.raises(SettingError, match="cannot start warm") as refused:
        padded.add_space("d", three["c"], {"a": three["a"]})
    assert "scratch" in refused.value.hint
    told = Vec2Vec(preset="scratch", steps=1, looks=1, batch=32)
    assert padded.add_space("d", three["c"], {"a": three["a"]}, told).spaces == ["a", "b", "d"]


def test_the_latent_takes_arrays_and_tensors_and_only_finite_matrices(
    universal: Universal, three: dict[str, np.ndarray]
) -> None:
    rows = three["a"][:5]
    assert torch.equal(universal.encode_latent("a", rows), universal.encode_latent("a", torch.from_numpy(rows)))
    with pytest.raises(SettingError, match="no matrix"):
        universal.encode_latent("a", rows[0])
    for wrong in (np.nan, np.inf):
        with pytest.raises(SpaceError, match="rows of a hold NaN"):
            universal.encode_latent("a", np.full_like(rows, wrong))


@pytest.mark.parametrize("settings", [TINY, {**TINY, "preset": "small"}])
def test_rows_that_are_not_finite_are_refused_by_number_before_training(
    settings: dict[str, Any], three: dict[str, np.ndarray]
) -> None:
    for wrong in (np.nan, np.inf):
        rows = three["b"].copy()
        rows[17, 2] = wrong
        with pytest.raises(SpaceError, match="row 17 of b"):
            Universal.fit({"a": three["a"], "b": rows}, Vec2Vec(**settings))


def test_a_space_is_not_added_beside_or_with_rows_that_are_not_finite(
    universal: Universal, three: dict[str, np.ndarray]
) -> None:
    rows = three["a"].copy()
    rows[3] = np.nan
    with pytest.raises(SpaceError, match="row 3 of a"):
        universal.add_space("d", three["c"], {"a": rows}, Vec2Vec(**TINY))
    with pytest.raises(SpaceError, match="row 3 of d"):
        universal.add_space("d", rows, {"a": three["a"]}, Vec2Vec(**TINY))


def test_what_is_added_to_a_sick_universal_is_not_healthy(
    universal: Universal, three: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tiny = Vec2Vec(**{**TINY, "steps": 1, "looks": 1})
    for base in (universal, dataclasses.replace(universal, healthy=False)):
        grown = base.add_space("d", three["c"], {"a": three["a"]}, tiny)
        assert grown.healthy == base.healthy == Universal.load(grown.save(tmp_path / "space.safetensors")).healthy


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99"])
def test_a_universal_is_not_fitted_on_a_device_that_is_not_here(device: str, three: dict[str, np.ndarray]) -> None:
    with pytest.raises(SettingError, match=device):
        Universal.fit(three, Vec2Vec(**TINY), device=device)


@pytest.mark.filterwarnings("error")
def test_the_latent_and_its_cosines_take_mapped_files(universal: Universal, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((9, 10)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    dims = universal.network.dims
    assert universal.encode_latent("a", mapped[:, : dims["a"]]).shape == (9, 16)
    assert universal.cosines({"a": mapped[:, : dims["a"]], "b": rows[:, : dims["b"]]})["latent"]["a"]["a"] == pytest.approx(1)


def test_half_precision_sees_the_discriminators_as_they_are_after_their_update(clouds: tuple[Tensor, Tensor]) -> None:
    """One autocast context spans both updates; a cast kept from before the discriminators' would teach from old ones."""
    spaces = {"source": Rows.of(clouds[0]), "target": Rows.of(clouds[1])}
    settings = Vec2Vec(**{**TINY, "warmup": 1}, without="rec, cycle, vsp, cycle_vsp, latent, clip")

    def fooled(precision: str, rate: float) -> float:
        chosen = dataclasses.replace(settings, precision=precision, discriminator_rate=rate)  # type: ignore[arg-type]
        training = prepared(chosen, spaces, _zero)
        training.step()
        return float(training._sums["adversarial"])

    old, new, new_in_half = fooled("fp32", 1e-9), fooled("fp32", 0.02), fooled("bf16", 0.02)
    assert abs(new_in_half - new) < 0.1 * abs(new - old)


def test_half_precision_is_taught_by_the_average_and_not_by_what_was_cast_before(clouds: tuple[Tensor, Tensor]) -> None:
    """Without a teacher the averaged weights assign rows; the step has cast the others by then."""
    spaces = {"source": Rows.of(clouds[0]), "target": Rows.of(clouds[1])}
    settings = Vec2Vec(**{**TINY, "warmup": 1, "rate": 0.02, "ema": 0.99}, precision="bf16", pseudo=1.0)
    training = prepared(settings, spaces, _zero)
    for _ in range(8):
        training.step()
    with torch.no_grad():
        there = training._assigned()["source", "target"].there
        with torch.autocast("cpu", torch.bfloat16):
            training._forward(training.network, {name: rows.slice(0, 9) for name, rows in spaces.items()}, training.objective)
            within = training._assigned()["source", "target"].there
        assert torch.equal(within, there)
        training.generator.average.copy_(training.generator.values)
        assert not torch.allclose(training._assigned()["source", "target"].there, there, atol=0.02), "the average is not they"


# after a linear map


@pytest.fixture(scope="module")
def planted() -> tuple[Tensor, Tensor, Alignment]:
    """Two clouds of different texts, and the map between them as pairs teach it."""
    made = make_world(n=1600, m=1600, pool=2, dx=12, dy=10, latent=8, clusters=30, noise=0.05, paired=True)
    x, y = centred(made.x), centred(made.y)
    w = procrustes(x, y)
    return x[:800], y[800:], Alignment(Linear.of(w), Linear.of(w.T.contiguous()))


def test_the_rotation_in_a_map_is_the_map_where_it_is_one(planted: tuple[Tensor, Tensor, Alignment]) -> None:
    x, y, true = planted
    stretched = Alignment(Linear.of(true.map.weight * 1.5), Linear.of(true.inverse.weight * 0.5))  # type: ignore[attr-defined]
    found = after.rotation(x, y, stretched).map.weight  # type: ignore[attr-defined]
    assert torch.allclose(found.T @ found, torch.eye(10), atol=1e-5)
    assert float((found * true.map.weight).sum()) / 10 > 0.98  # type: ignore[attr-defined]


def test_a_right_map_is_seen_to_be_better_than_a_turned_one_and_no_better_than_itself(
    planted: tuple[Tensor, Tensor, Alignment],
) -> None:
    x, y, true = planted
    turn = torch.from_numpy(orthonormal(10, 10, np.random.default_rng(3))).float()
    turned = Alignment(Linear.of(true.map.weight @ turn), Linear.of(turn.T @ true.inverse.weight))  # type: ignore[attr-defined]
    good, bad = (after.seen(x, y, one, seed=0) for one in (true, turned))
    assert len(good) == 2 and all(a["meeting"] > b["meeting"] for a, b in zip(good, bad, strict=True))
    assert after.helps(bad, good) and not after.helps(good, bad) and not after.helps(good, good)


def test_a_higher_score_does_not_help_when_fewer_rows_meet() -> None:
    before = [{"score": 0.10, "meeting": 0.30}] * 2
    assert after.helps(before, [{"score": 0.11, "meeting": 0.30}] * 2)
    assert not after.helps(before, [{"score": 0.11, "meeting": 0.29}] * 2)
    assert not after.helps(before, [{"score": 0.11, "meeting": 0.31}, {"score": 0.09, "meeting": 0.31}]), "one sample disagrees"


def test_training_starts_at_the_map_it_is_given(planted: tuple[Tensor, Tensor, Alignment]) -> None:
    x, y, true = planted
    settings = Vec2Vec(steps=1, rate=1e-9, batch=32, looks=1, width=24, without="warmup, cooldown, ema")
    learned = settings.fit(x, y, start=after.rotation(x, y, true))
    assert torch.allclose(learned.map(x), true.map(x), atol=0.05)
