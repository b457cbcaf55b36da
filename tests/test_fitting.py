"""test_fitting — laws of fit: what it must find, what it must not depend on, what `auto` tries, and what it refuses."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import World, make_world, orthonormal

from crossvec import fitting
from crossvec.aligners import ALIGNERS, Alignment, Linear
from crossvec.errors import SettingError, SpaceError, UsageError
from crossvec.fitting import attempts, fit
from crossvec.fitting.plan import planned
from crossvec.space import Space
from crossvec.translator import Translator
from crossvec.verdict import Verdict


def same(n: int) -> np.ndarray:
    return np.stack([np.arange(n)] * 2, axis=1)


def found(translator: Translator, world: World) -> float:
    """The share of held-out rows whose nearest target row is their own."""
    carried = translator.translate(world.eval_x) - translator.target.mean.numpy()
    pool = world.eval_y - translator.target.mean.numpy()
    carried, pool = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (carried, pool))
    return float(((carried @ pool.T).argmax(1) == np.arange(len(pool))).mean())


# What it finds


@pytest.mark.parametrize(("dx", "dy"), [(12, 12), (16, 12)], ids=["as wide", "narrower"])
def test_pairs_recover_a_planted_map(dx: int, dy: int) -> None:
    """The target's rows are a rotation of the source's that lie in a dy-dimensional subspace, around a common norm."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, dy)) @ np.diag(np.linspace(2, 1, dy))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x, y = (z @ orthonormal(dy, dx, rng)).astype(np.float32), (z @ orthonormal(dy, dy, rng)).astype(np.float32)
    learned = fit(Space.of(x), Space.of(y), "procrustes", pairs=same(300))
    assert np.abs(learned.translate(x) - y).max() < 1e-4
    assert np.abs(learned.inverse().translate(y) - x).max() < 1e-4


@pytest.mark.slow
def test_it_finds_the_pairs_it_was_never_shown(world: World) -> None:
    learned = fit(Space.of(world.x, name="a"), Space.of(world.y, name="b"))
    ceiling = fit(Space.of(world.eval_x), Space.of(world.eval_y), "procrustes", pairs=same(len(world.eval_x)))
    assert learned.verdict and learned.verdict.status == "aligned"
    assert found(learned, world) > 0.8 * found(ceiling, world)


@pytest.mark.slow
def test_a_space_is_aligned_with_a_copy_of_itself(world: World) -> None:
    learned = fit(Space.of(world.x), Space.of(world.x.copy()))
    assert learned.verdict and learned.verdict.status == "aligned"
    assert float((learned.translate(world.eval_x) * world.eval_x).sum(1).mean()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, 3000])
@pytest.mark.parametrize("dim", [4, 8, 16])
def test_few_dimensions_which_anything_fits_into_are_never_called_aligned(dim: int, rows: int) -> None:
    rng = np.random.default_rng(dim + rows)
    source = rng.standard_normal((rows, dim))
    target = rng.standard_normal((40, dim))[rng.choice(40, 1500, p=rng.dirichlet(np.full(40, 0.5)))]
    target = target + 0.5 * rng.standard_normal(target.shape)
    made = fit(Space.of(source.astype(np.float32)), Space.of(target.astype(np.float32)), "moments", effort="quick")
    assert made.verdict is not None
    assert made.verdict.status != "aligned"


def test_an_unrelated_target_is_never_called_aligned(world: World) -> None:
    noise = np.random.default_rng(5).standard_normal((3000, 20)).astype(np.float32)
    learned = fit(Space.of(world.x), Space.of(noise), effort="quick")
    assert learned.verdict and learned.verdict.status != "aligned"


@pytest.mark.slow
def test_turning_scaling_shifting_and_shuffling_the_source_changes_nothing_beyond_noise(world: World) -> None:
    """The rows that a fit draws at random are others then, so this holds for what is found, not bit by bit."""
    rng = np.random.default_rng(3)
    q, shift = orthonormal(24, 24, rng), rng.standard_normal(24)
    order = rng.permutation(len(world.x))

    def moved(rows: np.ndarray) -> np.ndarray:
        return (5 * rows @ q + shift).astype(np.float32)

    plain = fit(Space.of(world.x), Space.of(world.y))
    turned = fit(Space.of(moved(world.x)[order]), Space.of(world.y))
    elsewhere = World(world.x, world.y, moved(world.eval_x), world.eval_y)
    assert abs(found(plain, world) - found(turned, elsewhere)) < 0.05
    agree = (plain.translate(world.eval_x) * turned.translate(moved(world.eval_x))).sum(1)
    assert float(agree.mean()) > 0.97


def test_with_pairs_moving_the_source_changes_nothing(twins: World) -> None:
    rng = np.random.default_rng(3)
    q, shift, order = orthonormal(24, 24, rng), rng.standard_normal(24), rng.permutation(1000)
    moved = ((0.01 * twins.x @ q + shift)[order]).astype(np.float32)
    plain = fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=same(1000))
    turned = fit(Space.of(moved), Space.of(twins.y), "procrustes", pairs=np.stack([np.arange(1000), order], axis=1))
    assert np.abs(plain.translate(twins.x)[order] - turned.translate(moved)).max() < 2e-3


def test_the_same_seed_gives_the_same_translator(twins: World) -> None:
    spaces = Space.of(twins.x), Space.of(twins.y)
    once, again = (fit(*spaces, "ridge", pairs=same(1000), seed=4, max_rows=500) for _ in range(2))
    assert (once.translate(twins.eval_x) == again.translate(twins.eval_x)).all()
    assert once.verdict == again.verdict


# What auto tries


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Verdicts to hand out, in order; a control that learns nothing stands where moments stands, so that trying is quick."""
    script: list[tuple[str, float]] = []

    def judge(_x: torch.Tensor, _y: torch.Tensor, _alignment: Any, *, seed: int = 0) -> Verdict:
        status, probability = script.pop(0)
        return Verdict(status, probability, {"seed": float(seed)})  # type: ignore[arg-type]

    monkeypatch.setattr(attempts, "judge", judge)
    monkeypatch.setattr(
        attempts, "_sure", lambda _x, _y, _seed: lambda _map: 0.5
    )  # those told on the way are not in the script
    monkeypatch.setitem(ALIGNERS, "moments", "crossvec.aligners.controls:Identity")
    return script


def test_auto_tries_seeds_until_one_is_aligned(judged: list[tuple[str, float]], twins: World) -> None:
    judged += [("failed", 0.1), ("aligned", 0.95), ("failed", 0.0)]
    learned = fit(Space.of(twins.x), Space.of(twins.y), seed=7)
    assert [one["settings"]["seed"] for one in learned.card["trace"]] == [7, 8]
    assert learned.verdict == Verdict("aligned", 0.95, {"seed": 8.0})


@pytest.mark.parametrize(("effort", "tries"), fitting.SEEDS.items())
def test_auto_settles_for_the_best_it_has_seen_when_the_effort_is_spent(
    judged: list[tuple[str, float]], twins: World, effort: Any, tries: int
) -> None:
    judged += [("uncertain", 0.3 + 0.1 * (i == tries // 2)) for i in range(tries)]
    learned = fit(Space.of(twins.x), Space.of(twins.y), effort=effort)
    assert not judged
    assert learned.verdict and learned.verdict.probability == pytest.approx(0.4)
    assert learned.card["settings"]["seed"] == tries // 2


def test_a_named_aligner_is_tried_once(judged: list[tuple[str, float]], twins: World) -> None:
    judged += [("failed", 0.1)] * 2
    assert len(fit(Space.of(twins.x), Space.of(twins.y), "identity").card["trace"]) == 1


def test_many_pairs_are_all_that_auto_needs(judged: list[tuple[str, float]]) -> None:
    world = make_world(n=1200, m=1200, paired=True)
    judged += [("uncertain", 0.4)]
    learned = fit(Space.of(world.x), Space.of(world.y), pairs=same(1200))
    assert [one["aligner"] for one in learned.card["compared"]] == ["procrustes", "ridge"]
    assert [one["aligner"] for one in learned.card["trace"]] == [learned.card["aligner"]], "only the better is learned in full"
    assert learned.card["aligner"] in ("procrustes", "ridge")
    assert learned.card["pairs"] == 1200


def test_few_pairs_decide_between_what_they_teach_and_what_was_found_without_them(
    judged: list[tuple[str, float]], twins: World
) -> None:
    """The stand-in for moments copies coordinates: right between a space and itself, wrong between two models."""
    judged += [("uncertain", 0.4), ("aligned", 0.99)] * 2
    few = same(1000)[::40]
    between = fit(Space.of(twins.x), Space.of(twins.y), pairs=few)
    assert [one["aligner"] for one in between.card["trace"]] == [between.card["aligner"], "identity"]
    assert between.card["aligner"] in ("procrustes", "ridge"), "known pairs outweigh the verdict"
    taught, copied = (one["held_out"]["among_target"] for one in between.card["trace"])
    assert taught < copied
    assert fit(Space.of(twins.x), Space.of(twins.x), pairs=few[:5]).card["aligner"] == "identity"


def test_with_pairs_and_few_rows_nothing_is_sought_without_pairs(judged: list[tuple[str, float]], twins: World) -> None:
    judged += [("failed", 0.1)]
    learned = fit(Space.of(twins.x[:900]), Space.of(twins.y), pairs=same(40))
    assert [one["aligner"] for one in learned.card["trace"]] == [learned.card["aligner"]] != ["identity"]


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of two steps, in place of minutes."""
    from dataclasses import replace

    from crossvec.aligners.vec2vec import PRESETS, teacher

    preset = PRESETS["small"]
    few = replace(preset.recipe, steps=2, looks=1, batch=32, warmup=0)
    shorter = replace(preset, shape=replace(preset.shape, width=24), recipe=few)
    monkeypatch.setitem(PRESETS, "small", shorter)  # type: ignore[arg-type]
    monkeypatch.setattr(teacher, "STEPS", 1)


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("helps", [True, False], ids=["helps", "does not"])
def test_with_all_effort_auto_trains_after_an_aligned_map_and_keeps_what_helps(
    judged: list[tuple[str, float]], world: World, monkeypatch: pytest.MonkeyPatch, helps: bool
) -> None:
    from crossvec.aligners.vec2vec import after

    heard: list[float] = []
    judged += [("aligned", 0.9), ("aligned", 0.9)]
    monkeypatch.setattr(after, "helps", lambda _before, _after: helps)
    spaces = Space.of(world.x), Space.of(world.y)
    learned = fit(*spaces, effort="thorough", progress=lambda _doing, fraction: heard.append(fraction))
    tried = learned.card["trace"]
    assert [one["aligner"] for one in tried] == ["identity", "vec2vec"]
    assert all({"score", "meeting"} == set(sample) for one in tried for sample in one["label_free"])
    assert learned.card["aligner"] == ("vec2vec" if helps else "identity")
    assert learned.card["settings"] == tried[1 if helps else 0]["settings"]
    assert heard == sorted(heard)


@pytest.mark.usefixtures("small_network")
def test_a_trained_map_whose_verdict_is_lower_is_not_kept(
    judged: list[tuple[str, float]], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec.aligners.vec2vec import after

    judged += [("aligned", 0.9), ("uncertain", 0.5)]
    monkeypatch.setattr(after, "helps", lambda _before, _after: True)
    assert fit(Space.of(world.x), Space.of(world.y), effort="thorough").card["aligner"] == "identity"


@pytest.mark.parametrize(("effort", "said", "rows"), [("standard", "aligned", 3000), ("thorough", "aligned", 1000)])
def test_auto_does_not_train_with_less_effort_or_few_rows(
    judged: list[tuple[str, float]], world: World, effort: Any, said: str, rows: int
) -> None:
    judged += [(said, 0.9)]
    learned = fit(Space.of(world.x[:rows]), Space.of(world.y[:rows]), effort=effort)
    assert [one["aligner"] for one in learned.card["trace"]] == ["identity"]


# What it looks at


def test_a_sample_keeps_the_pairs(twins: World) -> None:
    """300 of 1,000 rows are looked at, and the pairs among them are still the same texts."""
    order = np.random.default_rng(0).permutation(1000)
    spaces = Space.of(twins.x), Space.of(twins.y[order])
    pairs = np.stack([order, np.arange(1000)], axis=1)[:300]
    learned = fit(*spaces, "procrustes", pairs=pairs, max_rows=320)
    assert learned.card["source"] == {"name": "", "rows": 1000, "rows_used": 320, "dim": 24}
    assert found(learned, twins) > 0.9 * found(fit(*spaces, "procrustes", pairs=pairs), twins)
    fewer = fit(*spaces, "procrustes", pairs=pairs, max_rows=100)
    assert fewer.card["pairs"] == 100
    assert found(fewer, twins) > 0.5


def test_the_card_says_what_was_done(twins: World) -> None:
    heard: list[float] = []
    learned = fit(
        Space.of(twins.x, name="old"),
        Space.of(twins.y, name="new"),
        "ridge",
        pairs=same(1000),
        seed=2,
        progress=lambda _doing, fraction: heard.append(fraction),
    )
    card = learned.card
    assert card["what"] == "translates old (24) into new (20)"
    assert (card["aligner"], card["seed"], card["effort"], card["pairs"]) == ("ridge", 2, "standard", 1000)
    assert card["settings"]["seed"] == 2
    assert card["versions"]["torch"] == torch.__version__
    assert card["seconds"] > 0
    assert card["peak_memory_bytes"] > 10**7
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)


def test_settings_reach_the_aligner(twins: World) -> None:
    learned = fit(Space.of(twins.x), Space.of(twins.y), "anchors", settings={"seed": "11"}, seed=2, effort="quick")
    assert learned.card["settings"]["seed"] == 11


def test_known_pairs_reach_an_aligner_that_can_do_without_them(twins: World) -> None:
    small = {"preset": "scratch", "width": 16, "batch": 64, "steps": 4, "looks": 2}
    spaces = Space.of(twins.x), Space.of(twins.y)
    alone, taught = (fit(*spaces, "vec2vec", pairs=pairs, settings=small) for pairs in (None, same(100)))
    parts = [learned.card["trace"][0]["steps"][0]["looks"][-1]["parts"] for learned in (alone, taught)]
    assert ["supervised" in part for part in parts] == [False, True]


def test_while_vec2vec_learns_the_verdict_on_each_look_is_told(twins: World) -> None:
    heard: list[str] = []
    small = {"preset": "scratch", "width": 16, "batch": 64, "steps": 4, "looks": 2}
    spaces = Space.of(twins.x), Space.of(twins.y)
    learned = fit(*spaces, "vec2vec", settings=small, progress=lambda doing, _: heard.append(doing))
    looks = learned.card["trace"][0]["steps"][0]["looks"]
    assert all(0 <= look["verdict"] <= 1 for look in looks)
    assert any(f"verdict {looks[-1]['verdict']:.2f}" in doing for doing in heard)


# What it refuses


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"aligner": "procrustez", "pairs": same(9)}, SettingError, "no aligner 'procrustez'"),
        ({"aligner": "ridge", "pairs": same(9), "settings": {"sed": 1}}, SettingError, "no setting 'sed'"),
        ({"aligner": "ridge"}, UsageError, "learns from known pairs"),
        ({"device": "tpu"}, SettingError, "no device 'tpu'"),
        ({"device": "cpu:x"}, SettingError, "no device 'cpu:x'"),
        ({"device": "cuda:99"}, SettingError, "no cuda:99 device"),
        ({"device": "mps"}, SettingError, "no mps device"),
        ({"pairs": [[0, 1, 2]]}, UsageError, "pairs have shape"),
        ({"pairs": [[0.5, 1.0]]}, UsageError, "give row numbers"),
        ({"pairs": [[0, 0]]}, UsageError, "1 pair cannot fix a map"),
        ({"pairs": [[0, 0], [1000, 1]]}, UsageError, "row 1000 of the source"),
        ({"pairs": [[0, 0], [1, -1]]}, UsageError, "row -1 of the target"),
        ({"pairs": same(9), "aligner": "ridge", "max_rows": 1}, SettingError, "max_rows"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    twins: World, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    if options.get("device") == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(error) as caught:
        fit(Space.of(twins.x), Space.of(twins.y), **options)
    assert told in f"{caught.value} {caught.value.hint}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("n", [0, 1, 2, 49])
def test_too_few_rows_are_refused_with_the_number(n: int, twins: World) -> None:
    with pytest.raises(SpaceError, match=f"the source has {n} row"):
        fit(Space.of(twins.x[:n]), Space.of(twins.y))


def test_equal_rows_are_refused_on_either_side(twins: World) -> None:
    equal = np.ones((100, 20), np.float32)
    with pytest.raises(SpaceError, match="all rows of the target are equal"):
        fit(Space.of(twins.x), Space.of(equal), "identity")
    with pytest.raises(SpaceError, match="all rows of the source are equal"):
        fit(Space.of(equal), Space.of(twins.x), "identity")


@pytest.mark.parametrize("d", [1, 2])
def test_narrow_spaces_give_a_translator_or_a_clear_error_but_no_success(d: int) -> None:
    rows = np.random.default_rng(0).standard_normal((200, d)).astype(np.float32)
    try:
        learned = fit(Space.of(rows[:100]), Space.of(rows[100:]), effort="quick")
    except (SpaceError, SettingError) as refused:
        assert refused.hint
    else:
        assert learned.verdict and learned.verdict.status != "aligned"


def test_fifty_rows_and_duplicates_are_fitted_and_not_called_a_success(twins: World) -> None:
    few = np.repeat(twins.x[:10], 5, axis=0)
    learned = fit(Space.of(few), Space.of(twins.y[:50]), effort="quick")
    assert learned.verdict and learned.verdict.status != "aligned"
    assert np.isfinite(learned.translate(few)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_a_translator_that_works_on_the_cpu(twins: World) -> None:
    learned = fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=same(1000), device="cuda")
    assert learned.card["device"].startswith("cuda")
    assert found(learned, twins) > 0.9


def test_a_store_of_copies_is_never_called_aligned() -> None:
    """Sixty texts, ten times each: copies look like a sure shape, and are no more than sixty rows."""
    world = make_world(n=600, m=600, paired=True)
    copies = np.repeat(world.x[:60], 10, axis=0)
    learned = fit(Space.of(copies), Space.of(world.y), "moments", effort="quick")
    assert learned.verdict and learned.verdict.status != "aligned"


@pytest.mark.parametrize(("rows", "clusters"), [(9_999, [0, 0, 0]), (10_000, [0, 100, 0])])
def test_every_second_attempt_looks_within_clusters_where_there_are_rows_enough(rows: int, clusters: list[int]) -> None:
    plan = planned("auto", (rows, 50_000), None, "standard", 0, {})
    assert [getattr(one, "clusters", None) for one in plan] == clusters
    assert [getattr(one, "seed", None) for one in plan] == [0, 1, 2]


def test_what_a_user_sets_goes_before_what_auto_would_vary() -> None:
    plan = planned("auto", (50_000, 50_000), None, "standard", 0, {"clusters": 7})
    assert [getattr(one, "clusters", None) for one in plan] == [7, 7, 7]


def test_an_effort_that_does_not_exist_is_refused_where_types_are_not_checked() -> None:
    unchecked = inspect.unwrap(planned)  # what runs outside of the tests
    with pytest.raises(SettingError, match="no effort 'quik'"):
        unchecked("auto", (1000, 1000), None, "quik", 0, {})


# What callers of the library give by mistake


@pytest.mark.parametrize("wrong", ["a.npy", np.ones((300, 4)), None], ids=["path", "array", "nothing"])
def test_what_is_no_space_is_refused_before_any_work(wrong: Any, world: World, unchecked: None) -> None:
    for sides in ((wrong, Space.of(world.y)), (Space.of(world.x), wrong)):
        with pytest.raises(SpaceError, match="not a Space"):
            fit(*sides)


@pytest.mark.parametrize(
    "wrong", [{"carries": "banana"}, {"seed": 1.5}, {"seed": "1"}, {"max_rows": 20.5}, {"max_rows": "10"}], ids=str
)
def test_settings_of_another_kind_are_refused_before_any_work(wrong: Any, world: World, unchecked: None) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(wrong))} cannot be"):
        fit(Space.of(world.x), Space.of(world.y), "procrustes", pairs=same(300), **wrong)


def test_numpys_whole_numbers_are_whole_numbers(world: World, unchecked: None) -> None:
    learned = fit(Space.of(world.x[:300]), Space.of(world.y[:300]), "procrustes", pairs=same(300), seed=np.int64(3))  # type: ignore[arg-type]
    assert learned.card["seed"] == 3 and type(learned.card["seed"]) is int


@dataclass(frozen=True)
class Broken:
    """An aligner of somebody else's, which returns `gives`."""

    name: ClassVar[str] = "broken"
    needs_pairs: ClassVar[bool] = False
    gives: Any = None

    def fit(self, x: Any, y: Any, *, pairs: Any = None, progress: Any = None) -> Any:
        return self.gives


def unfit(weight: torch.Tensor) -> Alignment:
    return Alignment(Linear(weight, torch.zeros(weight.shape[1], dtype=weight.dtype)), Linear(torch.eye(4), torch.zeros(4)))


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (None, "returned NoneType, no Alignment"),
        (unfit(torch.eye(4, dtype=torch.float64)), "its map fails on rows"),
        (unfit(torch.ones(4, 3)), r"its map gives torch.float32 of shape \(2, 3\)"),
        (unfit(torch.eye(4).requires_grad_()), "with a gradient"),
    ],
    ids=["nothing", "float64", "shape", "gradient"],
)
def test_a_plug_in_that_breaks_the_contract_is_named(gives: Any, told: str) -> None:
    x = torch.nn.functional.normalize(torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(UsageError, match=f"the aligner broken breaks the contract of aligners: .*{told}"):
        attempts.attempted(Broken(gives), x, x, None, None, lambda _doing, _part: None, seed=0)
