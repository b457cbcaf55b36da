"""test_experiments — the paper's tables can be run again: on texts and encoders, on ready vectors, and not without either."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_world
from encoding import save_bert, save_clip, save_static

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments import plan as plans
from experiments.__main__ import main
from experiments.plan import Plan
from experiments.scoring import in_pools
from experiments.texts import CHARACTERS, Folder, Texts, cut

pytest.importorskip("datasets")

SMALL = ["-s", "vec2vec.width=16", "-s", "vec2vec.steps=2", "-s", "vec2vec.batch=32", "-s", "vec2vec.looks=1"]
TEXTS = [f"{a} {b} sat on mat {number}" for number in range(60) for a, b in (("cat", "dog"), ("sea", "cat"), ("dog", "sea"))]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Encoders and datasets as their libraries save them."""
    import datasets
    from PIL import Image

    folder = tmp_path_factory.mktemp("places")
    made = {"e5": save_bert(folder / "bert"), "gte": save_static(folder / "static"), "clip": save_clip(folder / "clip")}
    made["gtr"] = save_static(folder / "other", seed=1)
    datasets.Dataset.from_dict({"text": [*TEXTS, *TEXTS[:30], ""]}).save_to_disk(str(folder / "nq"))
    colours = np.random.default_rng(0).integers(0, 255, (8, 3))
    pictures = [Image.new("RGB", (32, 32), tuple(int(part) for part in colour)) for colour in colours]
    captions = [[f"a mat of colour {number}", "another caption"] for number in range(8)]
    table = datasets.Dataset.from_dict({"caption": captions, "image": pictures})
    table.cast_column("image", datasets.Image()).save_to_disk(str(folder / "coco"))
    told = {name: f"static:{path}" if name in ("gte", "gtr") else str(path) for name, path in made.items()}
    return {**told, "nq": str(folder / "nq"), "coco": str(folder / "coco")}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the one the benchmarks run on."""
    place = tmp_path_factory.mktemp("vectors")
    world = make_world(n=300, m=300, pool=60, paired=True)
    for name, rows, held_out in (("a", world.x, world.eval_x), ("b", world.y, world.eval_y)):
        np.save(place / f"{name}.npy", np.concatenate([rows, held_out]).astype(np.float16))
    (place / "splits.json").write_text(json.dumps({"source": [0, 150], "target": [150, 300], "eval": [300, 360]}))
    return place


def named(places: dict[str, str], *names: str) -> list[str]:
    words = []
    for name in names:
        words += ["--dataset" if name in ("nq", "coco") else "--encoder", f"{name}={places[name]}"]
    return words


def results(out: Path, name: str) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / name).glob("*.json"))}


# the plans


@pytest.mark.parametrize("name", plans.names())
def test_every_experiment_names_known_spaces_texts_and_settings(name: str) -> None:
    from crossvec.aligners import create

    plan, shared = plans.load(name), plans.shared()
    assert set(plan.encoders) <= set(shared["encoders"]) and set(plan.datasets) <= set(shared["datasets"])
    for method in plan.methods:
        create(method.aligner, method.settings)
    rows = [row.name for row in plan.rows_of()]
    assert len(set(rows)) == len(rows) > 0


def test_a_row_stands_beside_the_papers_figures_of_its_own_direction() -> None:
    plan = plans.load("in-distribution")
    row = next(row for row in plan.rows_of() if row.name == "gtr-gte-paper-0")
    assert plan.figures("nq", row, "gte", "gtr") == {"cosine": 0.75, "top1": 0.91, "mean_rank": 2.64}
    assert plan.figures("nq", row, "gtr", "gte") == {"cosine": 0.87, "top1": 0.93, "mean_rank": 2.31}
    copied = next(row for row in plan.rows_of() if row.name == "gtr-gte-identity-0")
    assert plan.figures("nq", copied, "gte", "gtr") == {"cosine": 0.04, "top1": 0.0, "mean_rank": 4084.15}
    searched = next(row for row in plan.rows_of() if row.name == "gtr-gte-moments-0")
    assert plan.figures("nq", searched, "gte", "gtr") is None, "the paper has no moments"


def test_each_size_of_the_source_has_its_own_figures() -> None:
    plan = plans.load("sample-size")
    told = {row.source_rows: plan.figures("nq", row, "gte", "gtr") for row in plan.rows_of() if row.method.name == "warm"}
    assert told[10_000] == {"cosine": 0.57, "top1": 0.01, "mean_rank": 1462.21}
    assert told[50_000] == {"cosine": 0.74, "top1": 0.81, "mean_rank": 3.91}


def test_a_plan_that_is_not_there_or_not_whole_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-table"]) == 2
    (tmp_path / "mine.toml").write_text('table = "1"\n')
    assert main([str(tmp_path / "mine.toml")]) == 2
    told = capsys.readouterr().err
    assert "in-distribution" in told and "lacks 'about'" in told


# where there is nothing to run on


def test_without_the_hub_it_stops_at_once_and_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = plans.shared()
    nowhere = {name: f"sentence-transformers:nobody/no-{name}" for name in shared["encoders"]}
    nothing = {
        name: about | ({"hub": f"nobody/no-{name}"} if "hub" in about else {}) for name, about in shared["datasets"].items()
    }
    monkeypatch.setattr(plans, "shared", lambda: {"encoders": nowhere, "datasets": nothing})
    assert main(["out-of-distribution", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: not on this machine:") and "Traceback" not in told.err and not told.out
    assert all(word in told.err for word in ("dataset nq", "encoder gtr", "dataset mimic (not public)", "physionet.org"))
    assert all(word in told.err for word in ("--download", "--dataset", "--encoder", "--data FOLDER"))
    assert "--pool nq --pool tweets" in told.err, "what nobody can fetch can be left out"
    assert not (tmp_path / "out").exists(), "nothing is half done"


def test_a_hub_that_cannot_be_reached_is_told_before_anything_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["seeds", "--download", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "the Hugging Face hub cannot be reached" in told and "--encoder" in told
    assert "fetch from the hub" not in told, "what was tried is not advised again"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--encoder", "nobody=x"], "no encoders 'nobody'"),
        (["--dataset", "nq"], "--dataset NAME=FOLDER"),
        (["-s", "steps=3"], "-s vec2vec.steps=1000"),
        (["-s", "ridge.alpha=3"], "fits no ridge"),
        (["--rows", "-1"], "--rows cannot be -1"),
        (["--pool", "mimic"], "seeds has no pool 'mimic'"),
        (["--list", "--only", "nobody-*"], "rows are named like e5-gte-moments-0"),
    ],
)
def test_what_cannot_be_asked_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seeds", *words]) == 2
    assert said in capsys.readouterr().err


def test_too_few_texts_are_told_with_what_to_type(
    places: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablation", *named(places, "nq", "gte", "gtr"), "--out", str(tmp_path)]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "nq has 180 different texts" in told and "--rows N" in told and "--held N" in told


# on texts and encoders


@pytest.fixture(scope="module")
def ran(places: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("out")
    words = ["--out", str(out), "--rows", "60", "--held", "40", *SMALL, "--only", "*-[ifp][dur]*-0"]
    assert main(["ablation", *named(places, "nq", "gte", "gtr"), *words]) == 0
    return out, words


def test_a_row_leaves_the_papers_numbers_beside_controls_and_figures(ran: tuple[Path, list[str]]) -> None:
    left = results(ran[0], "ablation")
    assert set(left) == {"gte-gtr-full-0", "gte-gtr-identity-0"}
    found = left["gte-gtr-full-0"]["scores"]["nq"]
    for way in ("gte-gtr", "gtr-gte"):
        assert {"cosine", "top1", "mean_rank", "mean_rank_error", "backward_top1", "centred"} <= set(found[way])
        assert set(found[way]["controls"]) == {"identity", "mean", "shuffled"}
        assert found[way]["pool"] == 40 and found[way]["chance_rank"] == 20.5
    assert found["gte-gtr"]["published"] == {"cosine": 0.75, "top1": 0.91, "mean_rank": 2.64}
    assert found["gtr-gte"]["published"] is None
    assert found["gte-gtr"]["controls"]["mean"]["mean_rank"] == pytest.approx(20.5), "a constant finds nothing"
    assert left["gte-gtr-full-0"]["settings"]["preset"] == "published-code"


def test_finished_rows_are_skipped_and_their_fits_are_shared(
    ran: tuple[Path, list[str]], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = ran
    before = {path: path.stat().st_mtime_ns for path in (out / "ablation").glob("*.json")}
    assert main(["ablation", *named(places, "nq", "gte", "gtr"), *words]) == 0
    assert "0 of 2 rows to run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (out / "ablation").glob("*.json")} == before
    models = set((out / "models").iterdir())
    (out / "ablation" / "gte-gtr-full-0.json").unlink()
    assert main(["ablation", *named(places, "nq", "gte", "gtr"), *words]) == 0
    assert set((out / "models").iterdir()) == models, "the fit was there, and was scored again"


def test_a_result_of_other_settings_is_not_taken_for_this_one(
    ran: tuple[Path, list[str]], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = ran
    assert main(["ablation", *named(places, "nq", "gte", "gtr"), *words, "-s", "vec2vec.steps=3"]) == 2
    assert "other rows, pools or settings" in capsys.readouterr().err


def test_a_result_of_other_texts_or_pools_is_not_taken_for_this_one(
    ran: tuple[Path, list[str]], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = ran
    asked = ["ablation", *named(places, "nq", "gte", "gtr"), *words]
    held = asked.index("--held") + 1
    assert main([*asked[:held], "30", *asked[held + 1 :]]) == 2, "another number of texts to score on"
    assert main([*asked, "--encoder", f"gte={places['gtr']}"]) == 2, "another encoder of the same short name"
    assert capsys.readouterr().err.count("other rows, pools or settings") == 2


def test_ready_vectors_of_another_folder_or_number_are_not_taken_for_these(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["in-distribution", "--out", str(tmp_path / "out"), "--only", "*-identity-0"]
    assert main([*words, "--data", str(vectors), "--held", "50"]) == 0
    assert main([*words, "--data", str(vectors), "--held", "50"]) == 0
    capsys.readouterr()
    assert main([*words, "--data", str(vectors), "--held", "60"]) == 2
    other = tmp_path / "other"
    shutil.copytree(vectors, other)
    rows = np.load(vectors / "a.npy")
    for changed in (np.concatenate([-rows[:9], rows[9:]]), np.concatenate([rows[:-9], -rows[-9:]])):
        np.save(other / "a.npy", changed)
        assert main([*words, "--data", str(other), "--held", "50"]) == 2
    np.save(other / "a.npy", rows)
    splits = {"source": [0, 140], "target": [160, 300], "eval": [300, 360]}
    (other / "splits.json").write_text(json.dumps(splits))
    assert main([*words, "--data", str(other), "--held", "50", "--rows", "100"]) == 2
    assert capsys.readouterr().err.count("other rows, pools or settings") == 4
    for path in (tmp_path / "out" / "in-distribution").glob("*.json"):
        path.write_text(path.read_text()[:100])
    assert main([*words, "--data", str(vectors), "--held", "50"]) == main([*words, "--table"]) == 2
    assert capsys.readouterr().err.count("is no result") == 2


def test_a_folder_that_takes_no_results_is_refused_before_a_fit(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["in-distribution", "--data", str(vectors), "--out", "/dev/null/out"]) == 2
    told = capsys.readouterr().err
    assert "cannot write to" in told and "rows to run" not in told


def test_a_folder_without_room_for_models_is_refused_before_a_fit(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("in the way")
    assert main(["in-distribution", "--data", str(vectors), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "models" in told and "rows to run" not in told


def test_no_text_is_in_two_parts_or_twice_in_one(places: dict[str, str], tmp_path: Path) -> None:
    plan = plans.load("ablation").changed(60, 40, {})
    given = {name: places[name] for name in ("gte", "gtr")}
    clouds = Texts(plans.shared(), tmp_path, dataset_places={"nq": places["nq"]}, encoder_places=given)
    clouds.spaces(plan)
    parts = {name: list(clouds._parts[name]) for name in ("held nq", "source", "target")}
    assert {name: len(texts) for name, texts in parts.items()} == {"held nq": 40, "source": 60, "target": 60}
    every = [text for texts in parts.values() for text in texts]
    assert len(set(every)) == len(every) and set(every) <= set(TEXTS)


def test_rows_are_what_the_encoder_makes_of_the_first_64_tokens(places: dict[str, str], tmp_path: Path) -> None:
    from crossvec import encoders

    plan = plans.load("seeds").changed(60, 40, {})
    given = {name: places[name] for name in ("e5", "gte", "gtr")}
    clouds = Texts(plans.shared(), tmp_path, dataset_places={"nq": places["nq"]}, encoder_places=given)
    clouds.spaces(plan)
    rows = clouds.train("source", "e5", 10)
    bounded = encoders.open(places["e5"] + "?tokens=64")
    assert np.allclose(rows, bounded.encode(clouds._parts["source"][:10]), atol=1e-5)
    assert clouds._opened["e5"].name == bounded.name, "the cache must not take it for rows of whole texts"
    assert clouds._opened["gte"].name == places["gte"], "a static model counts no tokens"


def test_texts_are_cut_as_the_paper_cut_them() -> None:
    assert len(cut("word " * 500, 0)) <= CHARACTERS
    assert cut("a b c d", 2) == "a b"
    assert cut(["first", "second"], 0) == "first"
    assert cut(None, 0) == ""


def test_captions_look_for_images(places: dict[str, str], tmp_path: Path) -> None:
    words = ["--out", str(tmp_path), "--rows", "60", "--held", "8", "--only", "gte-clip-identity-0"]
    five = {name: places["gte"] for name in ("gra", "gtr", "gte", "ste", "e5")}
    assert main(["clip", *named({**places, **five}, "nq", "coco", "gra", "gtr", "gte", "ste", "e5", "clip"), *words]) == 0
    found = results(tmp_path, "clip")["gte-clip-identity-0"]["scores"]["coco"]
    assert set(found) == {"gte-clip"}, "images are looked for; nothing is translated back from them"
    assert found["gte-clip"]["pool"] == 8 and "native" in found["gte-clip"]["controls"]


# on ready vectors


def test_the_same_path_runs_on_ready_vectors(vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["in-distribution", "--data", str(vectors), "--out", str(tmp_path), *SMALL]
    assert main([*words, "--only", "a-b-p[ru]*-0"]) == 0
    left = results(tmp_path, "in-distribution")
    assert set(left) == {"a-b-procrustes-0", "a-b-published-code-0"}
    both = left["a-b-procrustes-0"]["scores"]["eval"]
    for way in ("a-b", "b-a"):
        assert both[way]["top1"] > 0.8 > both[way]["controls"]["shuffled"]["top1"], "a paired fit was given pairs"
        assert both[way]["centred"]["top1"] > 0.8
    assert str(vectors) not in json.dumps(left), "a result is no place for the names of somebody's folders"
    assert "a-b-procrustes-0" in capsys.readouterr().out


def test_sizes_beyond_the_vectors_that_are_there_are_not_claimed(vectors: Path) -> None:
    plan = Folder(vectors).spaces(plans.load("sample-size"))
    assert plan.rows == 150 and plan.source_rows == (150,)
    assert [pool.name for pool in plan.pools] == ["eval"] and plan.pairs == (("a", "b"),)


def test_a_wrong_setting_is_told_before_the_first_fit(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablation", "--data", str(vectors), "--out", str(tmp_path), "-s", "vec2vec.widht=9"]) == 2
    assert "did you mean width?" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("rows", "said"), [(np.ones((9, 4), np.float32), "shape (9, 4)"), (None, "cannot be read")])
def test_vectors_that_splits_do_not_fit_are_refused(
    rows: np.ndarray | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "splits.json").write_text('{"source": [0, 4], "target": [4, 8], "eval": [8, 12]}')
    np.save(tmp_path / "a.npy", np.ones((12, 3), np.float32))
    if rows is None:
        (tmp_path / "b.npy").write_text("no array")
    else:
        np.save(tmp_path / "b.npy", rows)
    assert main(["seeds", "--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "b.npy" in told and said in told


def test_a_folder_without_splits_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seeds", "--data", str(tmp_path)]) == 2
    assert "splits.json" in capsys.readouterr().err


# the numbers


def test_pools_are_scored_one_by_one_and_their_means_are_told() -> None:
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    same = in_pools(x, 3 * x, 40)
    assert (same["pools"], same["pool"]) == (2, 40), "the rest of 20 fills no pool"
    assert same["top1"] == same["backward_top1"] == 1 and same["mean_rank"] == 1 and same["cosine"] == pytest.approx(1)
    other = in_pools(x, x.roll(1, 0), 50)
    assert other["top1"] == 0 and 15 < other["mean_rank"] < 36 and other["mean_rank_error"] > 0


def test_a_pool_that_cannot_be_had_can_be_left_out() -> None:
    plan = plans.load("out-of-distribution").scored_on(["nq", "tweets"])
    assert [pool.name for pool in plan.pools] == ["nq", "tweets"] and "mimic" not in plan.datasets


def test_a_plan_can_be_made_smaller_but_not_larger() -> None:
    plan: Plan = plans.load("in-distribution")
    assert plan.changed(100, 50, {}).rows == 100 and plan.changed(100, 50, {}).pools[0].held == 50
    assert plan.changed(10**9, 10**9, {}).rows == plan.rows
