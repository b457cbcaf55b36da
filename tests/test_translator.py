"""test_translator — the border law, what a saved folder promises, and what bad folders and rows are told."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from conftest import make_world, orthonormal
from hypothesis import given, settings
from hypothesis import strategies as st

import crossvec
from crossvec import saved
from crossvec.aligners.maps import Linear, Residual
from crossvec.errors import SettingError, SpaceError, TranslatorError, UnfinishedError, UsageError
from crossvec.space import Space
from crossvec.stores.atomic import beside
from crossvec.translator import Frame, Translator
from crossvec.verdict import Verdict


def cloud(n: int = 400, d: int = 12, seed: int = 0, shift: float = 0.6, unit: bool = True) -> np.ndarray:
    """Rows around a mean that is not the origin; of unit length, or of lengths that differ."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d)) + shift
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) if unit else 1
    return rows.astype(np.float32)


def frame(rows: np.ndarray) -> Frame:
    return Frame.of(Space.of(rows))


def translator(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Translator:
    w = torch.from_numpy(orthonormal(x.shape[1], y.shape[1], np.random.default_rng(9)) if weight is None else weight).float()
    return Translator(Linear.of(w), Linear.of(w.T.contiguous()), frame(x), frame(y))


def residual(dx: int, dy: int, seed: int = 0) -> Residual:
    g = torch.Generator().manual_seed(seed)
    shapes = (dx, dy), (dy,), (dx, 5), (5,), (5, dy)
    return Residual(*(torch.randn(*shape, generator=g) for shape in shapes))


# The border law


@pytest.mark.parametrize("unit", [True, False], ids=["unit rows", "rows of any length"])
@pytest.mark.parametrize("d", [1, 2, 12, 300])
def test_the_identity_of_a_space_onto_itself_returns_its_rows(d: int, unit: bool) -> None:
    x = cloud(d=d, unit=unit, shift=0.4)
    same = translator(x, x, np.eye(d, dtype=np.float32))
    assert np.abs(same.translate(x) - x).max() <= 1e-6 * np.abs(x).max() * (1 if unit else 3)


def test_translated_rows_lie_where_the_targets_own_rows_lie() -> None:
    """On the target's sphere, around the target's mean: un-centring at a wrong length would miss both."""
    world = make_world(n=1000, m=1000, paired=True)
    truth = translator(world.x, world.y)
    u, v = (f.centre(torch.from_numpy(rows))[0] for f, rows in ((truth.source, world.x), (truth.target, world.y)))
    a, _, b = torch.linalg.svd(u.T @ v, full_matrices=False)
    carried = Translator(Linear.of(a @ b), Linear.of((a @ b).T.contiguous()), truth.source, truth.target).translate(world.x)
    assert np.abs(np.linalg.norm(carried, axis=1) - 1).max() < 1e-5
    assert np.linalg.norm(carried.mean(0) - world.y.mean(0)) < 0.05
    assert float((carried * world.y).sum(1).mean()) > 0.9
    assert Frame.of(Space.of(carried)).radius == pytest.approx(truth.target.radius, rel=0.05)


def test_rows_of_a_target_without_a_common_norm_get_its_scale() -> None:
    x, y = cloud(unit=False), 7 * cloud(unit=False, seed=1)
    lengths = np.linalg.norm(translator(x, y).translate(x) - y.mean(0), axis=1)
    assert float(lengths.mean()) == pytest.approx(frame(y).radius, rel=1e-3)
    assert np.corrcoef(lengths, np.linalg.norm(x - x.mean(0), axis=1))[0, 1] > 0.999


@pytest.mark.parametrize("learned", [Linear.of(torch.zeros(12, 9)), Linear(torch.zeros(12, 9), torch.zeros(9))])
def test_a_row_without_a_direction_is_placed_at_the_mean(learned: Linear) -> None:
    y = cloud(d=9, seed=1)
    carried = Translator(learned, Linear.of(torch.zeros(9, 12)), frame(cloud()), frame(y)).translate(cloud(5))
    assert np.allclose(carried, y.mean(0), atol=1e-6)


@given(shift=st.floats(-50, 50), scale=st.floats(0.01, 100), turn=st.integers(0, 99), bias=st.booleans(), normed=st.booleans())
@settings(max_examples=40, deadline=None)
def test_moving_scaling_or_turning_the_source_changes_nothing(
    shift: float, scale: float, turn: int, bias: bool, normed: bool
) -> None:
    rng = np.random.default_rng(turn)
    x, y = cloud(), cloud(d=9, seed=1, unit=normed)
    q = orthonormal(12, 12, rng)
    moved = (scale * (x @ q) + shift * rng.standard_normal(12)).astype(np.float32)
    w = torch.from_numpy(orthonormal(12, 9, rng)).float()
    b = torch.full((9,), 0.1 * bias)
    back = Linear.of(w.T.contiguous())
    plain = Translator(Linear(w, b), back, frame(x), frame(y)).translate(x)
    turned = Translator(Linear(torch.from_numpy(q.T).float() @ w, b), back, frame(moved), frame(y)).translate(moved)
    noise = 3e-6 * (1 + abs(shift) / scale) * np.abs(y).max() * 10
    assert np.abs(plain - turned).max() < noise


def test_folding_the_centring_into_the_product_changes_nothing() -> None:
    x, y = cloud(), cloud(d=9, seed=1)
    quick = translator(x, y)
    directions, lengths = quick.source.centre(torch.from_numpy(x))
    slow = quick.target.place(quick.forward(directions), lengths).numpy()
    assert np.abs(quick.translate(x) - slow).max() < 1e-6


# Frames


def test_a_frame_measured_in_batches_is_the_frame() -> None:
    x = cloud(20_000, 5, unit=False)
    seen = frame(x)
    assert np.allclose(seen.mean.numpy(), x.mean(0, dtype=np.float64), atol=1e-6)
    assert seen.radius == pytest.approx(float(np.linalg.norm(x - x.mean(0), axis=1).mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("rows", "norm"),
    [
        (cloud(), 1.0),
        (cloud().astype(np.float16), 1.0),
        (3 * cloud(), 3.0),
        (cloud(unit=False), None),
        (np.random.default_rng(0).standard_normal((500, 8192)).astype(np.float32), None),
    ],
    ids=["unit", "unit in float16", "length 3", "any length", "Gaussian, whose lengths merely concentrate"],
)
def test_a_common_norm_is_seen_and_not_imagined(rows: np.ndarray, norm: float | None) -> None:
    assert frame(rows).norm == (None if norm is None else pytest.approx(norm, rel=1e-3))


@pytest.mark.parametrize("value", [1.0, 1e-3, 1000.0])
def test_equal_rows_are_refused_because_they_have_no_directions(value: float) -> None:
    with pytest.raises(SpaceError, match="all rows of the space are equal"):
        frame(np.full((50, 6), value, np.float32))


# Rows in


def test_translating_in_batches_is_translating() -> None:
    x, y = cloud(1000), cloud(d=9, seed=1)
    t = translator(x, y)
    streamed = np.concatenate([batch.array() for batch in t.stream(Space.of(x).batches(97))])
    assert np.abs(streamed - t.translate(x)).max() < 1e-6


def test_ids_and_payload_come_along() -> None:
    x = cloud(30)
    space = Space.of(x, ids=[f"t{i}" for i in range(30)], payload=[{"page": i} for i in range(30)])
    carried = translator(cloud(), cloud(d=9, seed=1)).translate_space(space)
    assert list(carried.ids or ()) == [f"t{i}" for i in range(30)]
    assert carried.records() == space.records()
    assert carried.array().shape == (30, 9)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8"])
def test_rows_of_every_stored_type_are_translated(dtype: str) -> None:
    x = 100 * cloud()
    t = translator(x, cloud(d=9, seed=1))
    assert np.abs(t.translate(x.astype(dtype)) - t.translate(x)).max() < {"int8": 0.1}.get(dtype, 1e-2)


def test_rows_are_never_written_to() -> None:
    x = cloud()
    x.flags.writeable = False
    before = x.copy()
    with np.errstate(all="raise"):
        translator(x, cloud(d=9, seed=1)).translate(x)
    assert (x == before).all()


def test_there_and_back_is_the_way_home_for_a_rotation() -> None:
    x = cloud()
    q = orthonormal(12, 12, np.random.default_rng(1)).astype(np.float32)
    t = translator(x, x @ q, q)
    assert np.abs(t.inverse().translate(t.translate(x)) - x).max() < 1e-5
    assert np.abs(t.inverse().inverse().translate(x) - t.translate(x)).max() == 0


@pytest.mark.parametrize("shape", [(4, 11), (12,), (2, 2, 12)])
def test_rows_of_a_wrong_shape_are_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(TranslatorError, match=r"reads \(k, 12\)"):
        translator(cloud(), cloud(d=9)).translate(np.zeros(shape, np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("bias", [0.0, 0.1], ids=["one product", "the long way"])
def test_a_row_that_is_no_number_is_named(bad: float, bias: float) -> None:
    x = cloud(20)
    t = translator(cloud(), cloud(d=9))
    t = Translator(Linear(t.forward.tensors()["weight"], torch.full((9,), bias)), t.backward, t.source, t.target)
    x[7, 3] = bad
    with pytest.raises(SpaceError, match="row 7 "):
        t.translate(x)
    with pytest.raises(SpaceError, match="row 7 "):
        list(t.stream(Space.of(x, bad_rows="later").batches(5)))


def test_no_rows_are_no_rows() -> None:
    assert translator(cloud(), cloud(d=9)).translate(np.empty((0, 12), np.float32)).shape == (0, 9)


def test_a_wide_space_is_translated() -> None:
    x = cloud(60, 8192)
    eye = torch.eye(8192, 16)
    t = Translator(Linear.of(eye), Linear.of(eye.T.contiguous()), frame(x), frame(cloud(d=16)))
    assert t.translate(x).shape == (60, 16)
    assert t.inverse().translate(cloud(5, 16)).shape == (5, 8192)


# The saved folder

judged = Verdict("aligned", 0.97, {"mutual": 0.4})


def whole(forward: object | None = None) -> Translator:
    t = translator(cloud(), cloud(d=9, seed=1, unit=False))
    card = {
        "aligner": "identity",
        "seed": 3,
        "source": {"name": "a", "rows": 400, "dim": 12},
        "trace": [{"step": np.float32(1)}],
    }
    return Translator(forward or t.forward, t.backward, t.source, t.target, card, judged)  # type: ignore[arg-type]


@pytest.mark.parametrize("learned", [None, residual(12, 9)], ids=["linear", "residual"])
def test_what_is_saved_is_loaded(tmp_path: Path, learned: object) -> None:
    t = whole(learned)
    back = Translator.load(t.save(tmp_path / "a" / "b"))
    assert (back.translate(cloud()) == t.translate(cloud())).all()
    assert (back.inverse().translate(cloud(d=9)) == t.inverse().translate(cloud(d=9))).all()
    assert back.verdict == judged
    assert back.card["seed"] == 3
    assert (back.source.radius, back.target.norm) == (t.source.radius, t.target.norm)


def test_a_loaded_translator_saved_again_is_the_same(tmp_path: Path) -> None:
    first = Translator.load(whole().save(tmp_path / "t"))
    again = Translator.load(first.save(tmp_path / "t"))
    assert again.card == first.card
    assert (tmp_path / "t/translator.safetensors").read_bytes() == saved.serialise(
        {k: v for k, v in saved.parse((tmp_path / "t/translator.safetensors").read_bytes()).items()}
    )


def test_the_folder_explains_itself(tmp_path: Path) -> None:
    whole().save(tmp_path / "t")
    assert sorted(os.listdir(tmp_path / "t")) == ["README.md", "card.json", "translator.safetensors"]
    readme = (tmp_path / "t/README.md").read_text(encoding="utf-8")
    assert readme.startswith("---\n")
    for told in ("12 dimensions", "9 dimensions", "**aligned**", "crossvec translate t ", "Limits"):
        assert told in readme
    assert "None" not in readme
    assert json.loads((tmp_path / "t/card.json").read_text())["schema"] == saved.SCHEMA


def test_an_existing_translator_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    whole().save(tmp_path / "t")
    whole(residual(12, 9)).save(tmp_path / "t")
    assert isinstance(Translator.load(tmp_path / "t").forward, Residual)
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("what", ["a folder of other things", "a translator with a stranger in it", "a file"])
def test_what_is_no_translator_is_never_overwritten(tmp_path: Path, what: str) -> None:
    place = tmp_path / "t"
    if what == "a file":
        place.write_text("mine")
    else:
        if "translator" in what:
            whole().save(place)
        place.mkdir(exist_ok=True)
        (place / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="left alone"):
        whole().save(place)
    mine = place if what == "a file" else place / "thesis.txt"
    assert mine.read_text() == "mine"
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("moment", ["serialise", "_readme", "_swap"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_save_leaves_the_old_translator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, problem: BaseException
) -> None:
    whole().save(tmp_path / "t")

    def stop(*_: object) -> None:
        raise problem

    monkeypatch.setattr(saved, moment, stop)
    with pytest.raises((KeyboardInterrupt, UnfinishedError)):
        whole(residual(12, 9)).save(tmp_path / "t")
    assert isinstance(Translator.load(tmp_path / "t").forward, Linear)
    assert os.listdir(tmp_path) == ["t"]


def test_an_interruption_between_the_two_renames_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole().save(tmp_path / "t")
    rename = Path.rename

    def only_away(self: Path, to: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", only_away)
    with pytest.raises(KeyboardInterrupt):
        whole(residual(12, 9)).save(tmp_path / "t")
    assert isinstance(Translator.load(tmp_path / "t").forward, Linear)
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_what_a_killed_save_left_behind_is_removed_by_the_next_one(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        saved.serialise = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        whole().save(tmp_path / "t")
    os.waitpid(child, 0)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    whole().save(tmp_path / "t")
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("ending", ["tmp", "old"])
def test_what_a_killed_process_with_our_number_left_behind_is_removed_too(tmp_path: Path, ending: str) -> None:
    """As happens to process 1 of a container that is started again."""
    whole().save(beside(tmp_path / "t", f"-0123abcd.{ending}"))
    whole(residual(12, 9)).save(tmp_path / "t")
    whole().save(tmp_path / "t")
    assert os.listdir(tmp_path) == ["t"]


def test_what_a_killed_process_with_our_number_had_put_aside_is_put_back_by_the_next_reader(tmp_path: Path) -> None:
    whole().save(beside(tmp_path / "t", "-0123abcd.old"))
    Translator.load(tmp_path / "t")
    assert os.listdir(tmp_path) == ["t"]


def test_a_link_to_a_translator_stays_a_link(tmp_path: Path) -> None:
    whole().save(tmp_path / "v3")
    (tmp_path / "current").symlink_to("v3")
    for learned in (None, residual(12, 9), None, residual(12, 9)):
        whole(learned).save(tmp_path / "current")
    assert (tmp_path / "current").is_symlink() and set(os.listdir(tmp_path)) == {"current", "v3"}
    assert isinstance(Translator.load(tmp_path / "v3").forward, Residual)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root may write")
def test_a_place_that_takes_no_files_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="cannot write /proc/self/t"):
        saved.check_destination("/proc/self/t")


def damage(folder: Path, what: str) -> None:
    numbers, card = folder / "translator.safetensors", folder / "card.json"
    told = json.loads(card.read_text())
    tensors = saved.parse(numbers.read_bytes())
    match what:
        case "no card":
            card.unlink()
        case "no tensors":
            numbers.unlink()
        case "a truncated file":
            numbers.write_bytes(numbers.read_bytes()[:-100])
        case "an empty file":
            numbers.write_bytes(b"")
        case "a card that is no JSON":
            card.write_text("{")
        case "a card that is a list":
            card.write_text("[]")
        case "a newer schema":
            card.write_text(json.dumps({**told, "schema": 99}))
        case "an unknown map":
            card.write_text(json.dumps({**told, "maps": {"forward": "magic", "backward": "linear"}}))
        case "a card without frames":
            card.write_text(json.dumps({k: v for k, v in told.items() if k != "frames"}))
        case "a missing tensor":
            numbers.write_bytes(saved.serialise({k: v for k, v in tensors.items() if k != "forward.weight"}))
        case "a tensor of another shape":
            numbers.write_bytes(saved.serialise({**tensors, "forward.weight": torch.zeros(12, 8)}))
        case "a map to other dims":
            wrong = {"forward.weight": torch.zeros(12, 8), "forward.bias": torch.zeros(8)}
            numbers.write_bytes(saved.serialise({**tensors, **wrong}))
        case "NaN":
            numbers.write_bytes(saved.serialise({**tensors, "source.mean": torch.full((12,), torch.nan)}))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no card", "there is no translator"),
        ("no tensors", "lacks translator.safetensors"),
        ("a truncated file", "damaged"),
        ("an empty file", "damaged"),
        ("a card that is no JSON", "damaged or not a translator's card"),
        ("a card that is a list", "damaged or not a translator's card"),
        ("a newer schema", "schema 99"),
        ("an unknown map", "unknown kind of map 'magic'"),
        ("a card without frames", "'frames'"),
        ("a missing tensor", "lacks the tensor 'weight'"),
        ("a tensor of another shape", "fit again"),
        ("a map to other dims", "maps 12 dimensions to 8 instead of 9"),
        ("NaN", "source.mean holds NaN"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(tmp_path: Path, what: str, told: str) -> None:
    whole().save(tmp_path / "t")
    damage(tmp_path / "t", what)
    with pytest.raises(TranslatorError) as caught:
        Translator.load(tmp_path / "t")
    assert told in f"{caught.value} ({caught.value.hint})"
    assert caught.value.hint


def test_a_path_that_is_nothing_is_no_translator(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(TranslatorError, match="there is no translator"):
            Translator.load(place)


def test_plain_values_are_strict_json() -> None:
    value = {
        "a": np.float32(1.5),
        "b": float("nan"),
        "c": (np.int64(2), torch.tensor([1.0, float("inf")])),
        "d": Path("x"),
        4: None,
    }
    assert json.loads(json.dumps(saved.plain(value), allow_nan=False)) == {
        "a": 1.5,
        "b": None,
        "c": [2, [1.0, None]],
        "d": "x",
        "4": None,
    }


# Saving from several threads, from inside the folder, and what could not be loaded again


def test_threads_that_save_to_one_folder_do_so_one_after_the_other_and_readers_see_a_whole_one(tmp_path: Path) -> None:
    place, kinds = tmp_path / "t", (None, residual(12, 9))
    writers = [whole(learned) for learned in kinds * 2]
    writers[0].save(place)

    def read(_: int) -> None:
        loaded = Translator.load(place)
        assert loaded.translate(cloud(5)).shape == (5, 9)

    with ThreadPoolExecutor(6) as pool:
        for _ in range(12):
            saves = [pool.submit(writer.save, place) for writer in writers]
            reads = [pool.submit(read, number) for number in range(2)]
            for done in (*saves, *reads):
                done.result()
            assert os.listdir(tmp_path) == ["t"]
    writers[1].save(place)
    assert isinstance(Translator.load(place).forward, Residual)


def test_what_a_failed_save_of_this_very_process_left_behind_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(saved, "_swap", stop)
        failing.setattr(saved.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(UnfinishedError):
            whole().save(tmp_path / "t")
    assert len(os.listdir(tmp_path)) == 1
    whole().save(tmp_path / "t")
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.skipif(os.name != "posix", reason="the parent of this process lives, and its number can be asked for")
@pytest.mark.parametrize("ending", ["tmp", "old"])
def test_what_a_living_process_has_not_finished_is_not_touched(tmp_path: Path, ending: str) -> None:
    theirs = beside(tmp_path / "t", f"-0123abcd.{ending}")
    theirs = theirs.with_name(theirs.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    theirs.mkdir()
    whole().save(tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == [theirs.name, "t"]


@pytest.mark.skipif(os.name != "posix", reason="forks a process")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_a_thread_saves_can_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, go_on, swap = Event(), Event(), saved._swap

    def wait(draft: Path, final: Path) -> None:
        if final.name == "slow":
            at_work.set()
            go_on.wait(60)
        swap(draft, final)

    monkeypatch.setattr(saved, "_swap", wait)
    ours, childs = whole(), whole()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ours.save, tmp_path / "slow")
        assert at_work.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # kills a child that waits for ever
            try:
                childs.save(tmp_path / "t")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        go_on.set()
        slow.result()
    assert status == 0
    assert sorted(os.listdir(tmp_path)) == ["slow", "t"]


@pytest.mark.parametrize("spelling", [".", "", "..", "../here", "new/..", "{}", "{}/..", "../link"])
@pytest.mark.parametrize("there", ["nothing", "a translator"])
def test_the_current_folder_is_not_swapped_from_under_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, there: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    if there == "a translator":
        whole().save(here)
    (tmp_path / "link").symlink_to("here")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(here)
    with pytest.raises(UsageError, match="has no name" if not spelling else "is the current folder, or one above it") as caught:
        whole(residual(12, 9)).save(spelling.format(here))
    assert "./translator" in caught.value.hint
    assert os.getcwd() == str(here.resolve())
    assert sorted(tmp_path.rglob("*")) == before
    if there == "a translator":
        assert isinstance(Translator.load(here).forward, Linear)


@pytest.mark.skipif(os.name != "posix", reason="removes the folder that the process works in")
def test_a_relative_place_is_refused_where_the_current_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="cannot write t: No such file or directory"):
        whole().save("t")
    whole().save(tmp_path / "t")
    assert os.listdir(tmp_path) == ["t"]


def test_a_folder_named_by_steps_back_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    whole().save("../t")
    whole().save("new/../u")
    assert sorted(str(found.relative_to(tmp_path)) for found in tmp_path.rglob("card.json")) == [
        "here/u/card.json",
        "t/card.json",
    ]


class Magic(Linear):
    """A map as a plug-in might make it."""

    kind = "magic"


def broken(bad: str) -> Translator:
    t = whole()
    match bad:
        case "forward.weight":
            return replace(t, forward=Linear.of(torch.full((12, 9), torch.nan)))
        case "backward.bias":
            return replace(t, backward=Linear(torch.zeros(9, 12), torch.full((12,), torch.inf)))
        case "target.mean":
            return replace(t, target=replace(t.target, mean=torch.full((9,), -torch.inf)))
        case "'magic'":
            return replace(t, backward=Magic(torch.zeros(9, 12), torch.zeros(12)))
    return replace(t, source=replace(t.source, radius=float("nan")))


@pytest.mark.parametrize("bad", ["forward.weight", "backward.bias", "target.mean", "'magic'", "frame of the source"])
@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "a translator there"])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path, bad: str, there: bool) -> None:
    if there:
        whole().save(tmp_path / "deep" / "t")
    with pytest.raises(TranslatorError, match=f"{bad}.*could not be loaded again; nothing was written") as caught:
        broken(bad).save(tmp_path / "deep" / "t")
    assert ("docs/plugins.md" if bad == "'magic'" else "Frame.of" if "frame" in bad else "fit again") in caught.value.hint
    assert os.listdir(tmp_path) == (["deep"] if there else [])
    if there:
        Translator.load(tmp_path / "deep" / "t")


# What callers of the library give by mistake


@pytest.fixture
def learned() -> Translator:
    return translator(cloud(), cloud(d=9, seed=1))


@pytest.mark.parametrize("wrong", [Space.of(cloud(3)), np.ma.masked_array(cloud(3))], ids=["space", "masked"])
def test_rows_that_would_lose_something_are_refused(wrong: object, learned: Translator, unchecked: None) -> None:
    with pytest.raises(TranslatorError, match="not a Space|mask would be lost"):
        learned.translate(wrong)  # type: ignore[arg-type]


def test_a_mapped_row_without_a_direction_is_refused_as_in_a_stream(learned: Translator, tmp_path: Path) -> None:
    rows = np.ones((3, learned.source.dim), np.float32)
    rows[1] = 0
    np.save(tmp_path / "rows.npy", rows)
    store = crossvec.open(tmp_path / "rows.npy")
    for carry in (lambda: learned.translate_space(store.load()), lambda: list(learned.stream(store.read()))):
        with pytest.raises(SpaceError, match="row 1 holds only zeros"):
            carry()


def test_a_translator_does_not_depend_on_torchs_default_type(learned: Translator, tmp_path: Path) -> None:
    learned.save(tmp_path / "t")
    torch.set_default_dtype(torch.float64)
    try:
        again = Translator.load(tmp_path / "t")
    finally:
        torch.set_default_dtype(torch.float32)
    rows = np.ones((3, learned.source.dim), np.float32) + np.eye(3, learned.source.dim, dtype=np.float32)
    assert np.array_equal(again.translate(rows), learned.translate(rows))


def test_a_device_that_is_not_here_is_refused_in_words(learned: Translator) -> None:
    for device in ("banana", "cuda:99"):
        with pytest.raises(SettingError, match="device"):
            learned.to(device)


def test_the_card_of_the_inverse_says_what_that_does(learned: Translator) -> None:
    made = replace(learned, card={"what": "translates a (12) into b (9)", "source": {"name": "a"}, "target": {"name": "b"}})
    assert made.inverse().card["what"] == "translates b (9) into a (12)"
    assert made.inverse().inverse().card["what"] == made.card["what"]
