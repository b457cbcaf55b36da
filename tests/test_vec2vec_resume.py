"""test_vec2vec_resume — a training that is killed and goes on ends with the same bits as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from crossvec.aligners import Alignment
from crossvec.aligners.vec2vec import Vec2Vec, checkpoint
from crossvec.aligners.vec2vec.health import SAMPLE
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import SettingError, UnfinishedError, UsageError
from crossvec.geometry import unit

STEPS = 24
SETTINGS: dict[str, Any] = {
    # What has a state of its own is on: dropout, noise, batch norm's statistics, Adam, the average, guesses, two seeds.
    **{"preset": "published-code", "width": 16, "batch": 32, "steps": STEPS, "looks": 4, "warmup": 5, "ema": 0.9},
    **{"adapter_depth": 2, "backbone_depth": 3, "pseudo": 1.0, "rate": 1e-3, "noise": 0.1, "seeds": 2, "every": 5},
}


class Stopped(Exception):
    """What stands for a kill where no process of its own is worth its start."""


def clouds() -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    return tuple(unit(torch.randn(n, d, generator=generator)) for n, d in ((150, 9), (140, 7)))  # type: ignore[return-value]


def fit(folder: Path | None, stop: int | None = None, how: type[BaseException] = Stopped, **changed: Any) -> Alignment:
    """Fit, to the end or until progress was told `stop` times, and then end by raising `how`."""
    told = iter(range(10**6))

    def progress(_doing: str, _fraction: float) -> None:
        if next(told) == stop:
            raise how

    settings = {**SETTINGS, **changed}
    settings |= {"checkpoint": str(folder)} if folder else {"every": 0}
    return Vec2Vec(**settings).fit(*clouds(), progress=progress)


def assert_same(one: Alignment, other: Alignment) -> None:
    for a, b in ((one.map, other.map), (one.inverse, other.inverse)):
        assert a.tensors().keys() == b.tensors().keys()
        assert all(torch.equal(tensor, b.tensors()[name]) for name, tensor in a.tensors().items())
    assert one.evidence == other.evidence
    assert one.trace == other.trace


@pytest.fixture(scope="module")
def uninterrupted() -> Alignment:
    return fit(None)


def test_checkpoints_change_nothing(uninterrupted: Alignment, tmp_path: Path) -> None:
    assert_same(fit(tmp_path), uninterrupted)


def test_ctrl_c_says_that_what_was_trained_is_kept(uninterrupted: Alignment, tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError, match="is kept in") as told:
        fit(tmp_path, stop=STEPS // 2, how=KeyboardInterrupt)
    assert "same line" in told.value.hint
    assert_same(fit(tmp_path), uninterrupted)


@pytest.mark.parametrize("stop", [2, STEPS // 2])
def test_ctrl_c_without_a_checkpoint_stays_what_it_is(stop: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(None if stop > 2 else tmp_path, stop=stop, how=KeyboardInterrupt)


@pytest.mark.parametrize("seed", range(3))
def test_stopped_again_and_again_at_random_steps_it_ends_with_the_same_bits(
    seed: int, uninterrupted: Alignment, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    for _ in range(3):
        try:
            learned = fit(tmp_path, stop=draw.randrange(3, 2 * STEPS))
        except Stopped:
            continue
        break
    else:
        learned = fit(tmp_path)
    assert_same(learned, uninterrupted)


CHILD = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
import test_vec2vec_resume as resume
from crossvec.aligners.vec2vec import Vec2Vec
told = iter(range(10**6))
def progress(doing, fraction):
    if next(told) == {stop}:
        os.kill(os.getpid(), signal.SIGKILL)
Vec2Vec(**resume.SETTINGS, checkpoint={folder!r}).fit(*resume.clouds(), progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_killed_at_a_random_step_it_goes_on_and_ends_with_the_same_bits(uninterrupted: Alignment, tmp_path: Path) -> None:
    stop = random.randrange(8, STEPS)
    code = CHILD.format(tests=str(Path(__file__).parent), stop=stop, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = checkpoint.read(tmp_path / "seed-0.safetensors")[1]
    assert 0 < kept["step"] <= stop, "it was killed on the way"
    assert_same(fit(tmp_path), uninterrupted), stop


def test_with_a_folder_and_no_number_of_steps_it_is_kept_at_each_look(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tmp_path, stop=STEPS - 1, every=0)
    kept = checkpoint.read(tmp_path / "seed-0.safetensors")[1]
    assert kept["step"] == kept["looks"][-1]["step"] > 0


def test_a_finished_training_is_read_back_without_a_step(uninterrupted: Alignment, tmp_path: Path) -> None:
    fit(tmp_path)
    told: list[str] = []
    again = Vec2Vec(**SETTINGS, checkpoint=str(tmp_path)).fit(*clouds(), progress=lambda doing, _fraction: told.append(doing))
    assert_same(again, uninterrupted)
    assert len(told) < 3


def test_a_seed_that_follows_a_finished_one_starts_where_it_would_have_started(tmp_path: Path) -> None:
    warm: dict[str, Any] = {"effort": "quick", "steps": 4, "looks": 2, "batch": 32, "width": 16}
    Vec2Vec(**warm, checkpoint=str(tmp_path)).fit(*clouds())
    killed_between = Vec2Vec(**warm, seeds=2, checkpoint=str(tmp_path)).fit(*clouds())
    assert_same(killed_between, Vec2Vec(**warm, seeds=2).fit(*clouds()))


@pytest.mark.parametrize("changed", [{"rate": 2e-3}, {"cycle": 1.0}, {"width": 24}, {"steps": STEPS + 1}])
def test_a_checkpoint_of_other_settings_is_refused_by_name(changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tmp_path, stop=10)
    with pytest.raises(SettingError, match=next(iter(changed))) as refused:
        fit(tmp_path, **changed)
    assert refused.value.hint


def test_a_checkpoint_from_nothing_is_not_taken_for_one_from_a_map(tmp_path: Path) -> None:
    cold: dict[str, Any] = {"preset": "scratch", "width": 16, "batch": 32, "steps": 4, "looks": 2, "checkpoint": str(tmp_path)}
    Vec2Vec(**cold).fit(*clouds())
    with pytest.raises(SettingError, match="warm False instead of True"):
        Vec2Vec(**cold, start="warm").fit(*clouds())


def test_a_checkpoint_of_other_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tmp_path, stop=10)
    x, y = clouds()
    for other in ((x[:-1], y), (-x, y), (x.flip(0), y), (x.flip(1), y)):
        with pytest.raises(SettingError, match="another run"):
            Vec2Vec(**SETTINGS, checkpoint=str(tmp_path)).fit(*other)


def test_a_checkpoint_of_rows_that_differ_outside_of_all_samples_is_refused(tmp_path: Path) -> None:
    x = unit(torch.randn(SAMPLE + 500, 4, generator=Generator().manual_seed(0)))
    made = Vec2Vec(**{**SETTINGS, "steps": 1, "looks": 1}, checkpoint=str(tmp_path))
    made.fit(x, clouds()[1])
    for row in range(0, len(x), 700):  # some of these no sample holds
        other = x.clone()
        other[row] *= -1
        with pytest.raises(SettingError, match="rows"):
            made.fit(other, clouds()[1])


def test_a_checkpoint_of_other_pairs_is_refused(tmp_path: Path) -> None:
    pairs = torch.arange(20)[:, None].expand(20, 2)
    made = Vec2Vec(**SETTINGS, checkpoint=str(tmp_path))
    made.fit(*clouds(), pairs=pairs)
    for other in (pairs[:-1], pairs + torch.tensor([0, 1]), None):
        with pytest.raises(SettingError, match="pairs"):
            made.fit(*clouds(), pairs=other)


def test_a_checkpoint_of_one_backbone_is_not_taken_for_another_ones(tmp_path: Path) -> None:
    x, y = (rows.numpy() for rows in clouds())
    tiny: dict[str, Any] = {"preset": "scratch", "batch": 32, "steps": 2, "looks": 1}
    one, other = (Universal.fit({"a": x, "b": y}, Vec2Vec(**tiny, width=16, seed=seed)) for seed in range(2))
    kept = Vec2Vec(**tiny, checkpoint=str(tmp_path))
    grown = one.add_space("c", y[:, :5], {"a": x}, kept)
    again = one.add_space("c", y[:, :5], {"a": x}, kept)
    assert torch.equal(again.encode_latent("c", y[:, :5]), grown.encode_latent("c", y[:, :5])), "it is read back"
    with pytest.raises(SettingError, match="what is frozen"):
        other.add_space("c", y[:, :5], {"a": x}, kept)


def test_a_checkpoint_keeps_discriminators_only_where_a_term_trains_them(tmp_path: Path) -> None:
    for without, kept in (("", True), ("adversarial, latent", False)):
        folder = tmp_path / str(kept)
        with pytest.raises(Stopped):
            fit(folder, stop=10, without=without)
        names = checkpoint.read(folder / "seed-0.safetensors")[0]
        assert any(name.startswith("critics.") for name in names) == kept
        assert_same(fit(folder, without=without), fit(None, without=without))


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tmp_path, stop=10)
    file = tmp_path / "seed-0.safetensors"
    whole = bytearray(file.read_bytes())
    draw = random.Random(0)
    begins = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(8), begins, len(whole) - 1]
    places += [draw.randrange(*part) for part in ((8, begins), (begins, len(whole))) for _ in range(30)]
    for place in places:
        flipped = whole.copy()
        flipped[place] ^= 1 << draw.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(UsageError, match="is damaged" if place >= begins else "seed-0"):
            checkpoint.read(file)


@pytest.mark.parametrize(
    "facts", ['{"version": 2, "x": NaN}', '{"version": 2, "x": 1e999}', "[" * 900 + "]" * 900, "{}", "3", ""]
)
def test_a_header_that_no_checkpoint_has_is_refused(facts: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.arange(3)}, tmp_path / "seed-0.safetensors", {"crossvec": facts})
    with pytest.raises(UsageError, match="seed-0"):
        checkpoint.read(tmp_path / "seed-0.safetensors")


def test_a_checkpoint_with_another_number_of_steps_written_in_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seed-0.safetensors"
    with pytest.raises(Stopped):
        fit(tmp_path, stop=10)
    whole, step = file.read_bytes(), checkpoint.read(file)[1]["step"]
    told = f'\\"step\\": {step}, \\"since'.encode()
    assert whole.count(told) == 1
    file.write_bytes(whole.replace(told, told.replace(str(step).encode(), str(step + 1).encode())))
    with pytest.raises(UsageError, match="is damaged"):
        fit(tmp_path)


@pytest.mark.parametrize(("version", "told"), [(1, "older"), (checkpoint.VERSION + 1, "newer")])
def test_a_checkpoint_of_another_version_is_refused(version: int, told: str, tmp_path: Path) -> None:
    file = tmp_path / "seed-0.safetensors"
    checkpoint.write(file, {"x": torch.arange(3)}, {"version": version})
    with pytest.raises(UsageError, match=told):
        fit(tmp_path)


def test_what_is_no_file_is_not_replaced_by_a_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        for refused in (checkpoint.refuse_place, lambda path: checkpoint.write(path, {"x": torch.arange(3)}, {})):
            with pytest.raises(UsageError, match="is no file"):
                refused(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "folder").is_dir()


def test_a_damaged_checkpoint_is_refused_in_words_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(tmp_path, stop=10)
    file = tmp_path / "seed-0.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint at all", whole[:300].replace(b"crossvec", b"strangers")):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match="seed-0") as refused:
            fit(tmp_path)
        assert refused.value.hint
        assert file.read_bytes() == damaged


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept.safetensors"
    checkpoint.write(file, {"x": torch.arange(3)}, {"step": 1})

    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnfinishedError, match="space"):
        checkpoint.write(file, {"x": torch.arange(4)}, {"step": 2})
    tensors, facts = checkpoint.read(file)
    assert facts == {"step": 1} and len(tensors["x"]) == 3
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 245, "a\0b", "a\0b/c"])
def test_a_name_that_no_file_can_have_is_refused_in_words(name: str, tmp_path: Path) -> None:
    for refused in (checkpoint.refuse_place, lambda path: checkpoint.write(path, {"x": torch.arange(3)}, {})):
        with pytest.raises(UsageError):
            refused(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no such file system")
def test_a_place_is_tried_before_training_and_not_only_asked(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(UsageError, match="cannot write"):
        Vec2Vec(**{**SETTINGS, "every": 0}, checkpoint="/proc").fit(*clouds(), progress=lambda doing, _part: told.append(doing))
    assert told == []


def test_a_place_that_takes_no_files_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError) as refused:
        fit(tmp_path / "file" / "folder")
    assert "folder" in refused.value.hint
