"""test_scale — work in pieces, without Ray: every row arrives once, and what is done is not done again.

The law: shards carried one by one, in any order, hold the rows that the single-process stream writes, bit for bit.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from pathlib import Path

import encoding
import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Run, make_world
from hypothesis import given
from hypothesis import strategies as st

from crossvec import stores
from crossvec.errors import SpaceError, TranslatorError, UnfinishedError, UsageError
from crossvec.fitting import fit
from crossvec.scale import Piece, memory
from crossvec.scale.engines import Here, choose
from crossvec.scale.job import Job, translation
from crossvec.scale.plan import SIZES, Pace, Price, estimate
from crossvec.scale.shards import cut_texts, listed
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores.documents import joined
from crossvec.translator import Translator

SHARDS, ROWS = 4, 300


@pytest.fixture(scope="module")
def translator() -> Translator:
    made = make_world(n=400, m=400, paired=True, dx=12, dy=8, latent=8, clusters=3)
    pairs = np.stack([np.arange(400)] * 2, axis=1)
    return fit(Space.of(made.x, name="old"), Space.of(made.y, name="new"), "ridge", pairs=pairs)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, translator: Translator) -> Path:
    """The current folder: shards/, whole.parquet with the same rows, and the translator t."""
    monkeypatch.chdir(tmp_path)
    translator.save("t")
    rows = make_world(n=SHARDS * ROWS, m=10, dx=12, dy=8, latent=8, seed=5).x
    Path("shards").mkdir()
    spaces = []
    for i in range(SHARDS):
        ids = [f"r{j}" for j in range(i * ROWS, (i + 1) * ROWS)]
        payload = [{"title": f"é {j}", "year": j} for j in ids]
        spaces.append(Space.of(rows[i * ROWS : (i + 1) * ROWS], ids, payload))
        stores.open(f"shards/part-{i}.parquet").write([spaces[-1]])
    stores.open("whole.parquet").write(spaces)
    return tmp_path


def read(*paths: Path | str) -> tuple[np.ndarray, list, list[dict]]:
    space = joined([space for path in paths for space in stores.open(path).read()])
    return space.array(), list(space.ids), space.records()


def outputs(folder: Path | str) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.suffix == ".parquet")


def same(one: tuple, other: tuple) -> bool:
    return one[0].tobytes() == other[0].tobytes() and one[1:] == other[1:]


def go(job: Job) -> object:
    return job.run(Here())


def test_each_shard_becomes_one_shard_with_the_rows_of_the_single_stream(here: Path, crossvec: Run) -> None:
    assert crossvec("translate", "t", "whole.parquet", "moved.parquet")[0] == 0
    code, out, _ = crossvec("translate", "t", "shards", "out", "--format", "json")
    told = json.loads(out)
    assert code == 0 and {"rows", "seconds", "dest", "skipped"} <= set(told) and told["rows"] == SHARDS * ROWS
    assert [path.name for path in outputs("out")] == [f"part-{i}.parquet" for i in range(SHARDS)]
    assert same(read(*outputs("out")), read("moved.parquet"))
    for path in outputs("out"):
        assert pq.read_schema(path).equals(pq.read_schema("moved.parquet"))
    assert pads.dataset("out").count_rows() == SHARDS * ROWS, "other readers of such folders leave the ledger out"


def test_a_second_run_does_nothing_and_a_new_shard_is_all_that_a_third_does(here: Path, crossvec: Run) -> None:
    crossvec("translate", "t", "shards", "out")
    before = {path.name: path.stat().st_mtime_ns for path in outputs("out")}
    told = json.loads(crossvec("translate", "t", "shards", "out", "--format", "json")[1])
    assert (told["pieces"], told["pieces_done_before"], told["rows"]) == (SHARDS, SHARDS, SHARDS * ROWS)
    os.link("shards/part-0.parquet", "shards/part-9.parquet")
    told = json.loads(crossvec("translate", "t", "shards", "out", "--format", "json")[1])
    assert (told["pieces"], told["pieces_done_before"]) == (SHARDS + 1, SHARDS)
    assert {name: Path("out", name).stat().st_mtime_ns for name in before} == before


def test_what_was_lost_cut_short_or_written_anew_is_done_again_and_nothing_else(here: Path, translator: Translator) -> None:
    go(translation(translator, "shards", "out"))
    good = read(*outputs("out"))
    first, second, third, fourth = outputs("out")
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    rows, ids, payload = read("shards/part-2.parquet")
    stores.open("shards/part-2.parquet").write([Space.of(2 * rows, ids, payload)])
    kept = fourth.stat().st_mtime_ns
    outcome = translation(translator, "shards", "out").run(Here())
    assert (outcome.skipped, outcome.rows) == (1, SHARDS * ROWS) and fourth.stat().st_mtime_ns == kept
    again = read(*outputs("out"))
    assert again[1:] == good[1:] and not same(again, good)
    assert same(
        read(first, second, fourth),
        tuple(
            it[np.r_[: 2 * ROWS, 3 * ROWS : 4 * ROWS]] if isinstance(it, np.ndarray) else it[: 2 * ROWS] + it[3 * ROWS :]
            for it in good
        ),
    )


@pytest.mark.parametrize("after", range(SHARDS))
def test_a_run_that_stops_anywhere_goes_on_there(here: Path, translator: Translator, after: int) -> None:
    class Stops(Here):
        def map(self, task, items):
            for number, pair in enumerate(Here.map(self, task, items)):
                if number == after:
                    raise KeyboardInterrupt
                yield pair

    with pytest.raises(UnfinishedError, match=rf"{after} of {SHARDS}") as told:
        translation(translator, "shards", "out").run(Stops())
    assert "same line" in told.value.hint
    # What ended before the stop is done; the piece at hand had been noted by the worker already.
    outcome = translation(translator, "shards", "out").run(Here())
    assert outcome.skipped == after + 1 and outcome.rows == SHARDS * ROWS
    assert same(read(*outputs("out")), reference(translator))


def reference(translator: Translator) -> tuple:
    moved = list(translator.stream(stores.open("whole.parquet").read()))
    space = joined(moved)
    return space.array(), list(space.ids), space.records()


def test_one_store_is_cut_by_rows_and_so_is_a_slice_of_it(here: Path, translator: Translator) -> None:
    outcome = translation(translator, "whole.parquet", "out", rows=500).run(Here())
    assert [pq.read_metadata(path).num_rows for path in outputs("out")] == [500, 500, 200] and outcome.rows == 1200
    assert same(read(*outputs("out")), reference(translator))
    translation(translator, "whole.parquet?rows=100:900", "part", rows=500).run(Here())
    assert read(*outputs("part"))[1] == read("whole.parquet")[1][100:900]


def test_rows_to_a_piece_are_all_it_takes_to_cut_one_file(here: Path, crossvec: Run, translator: Translator) -> None:
    words = ["translate", "t", "whole.parquet", "out", "--shard-rows", 500, "--format", "json"]
    assert [json.loads(crossvec(*words)[1])["pieces_done_before"] for _ in range(2)] == [0, 3]
    assert same(read(*outputs("out")), reference(translator))
    code, _, err = crossvec("translate", "t", "whole.parquet", "m.parquet", "--shard-rows", 500)
    assert code == 2 and "name a folder" in err and not Path("m.parquet").exists()


def test_patterns_choose_shards_in_any_depth_and_options_go_for_each(here: Path, translator: Translator) -> None:
    Path("shards/deep/er").mkdir(parents=True)
    os.rename("shards/part-3.parquet", "shards/deep/er/part-3.parquet")
    Path("shards/_metadata.parquet").write_bytes(b"not a shard")
    names = [name for name, _ in listed("shards/**/*.parquet")]
    assert names == ["deep/er/part-3.parquet", "part-0.parquet", "part-1.parquet", "part-2.parquet"]
    translation(translator, "shards/**/*.parquet?keep=ids", "out?dtype=float16").run(Here())
    rows, ids, records = read("out/deep/er/part-3.parquet")
    told = stores.open("out/deep/er/part-3.parquet").describe()
    assert told.dtype == "float16" and not told.payload and ids[0] == f"r{3 * ROWS}"


def test_bad_rows_are_left_out_counted_and_named_with_their_shard(here: Path, crossvec: Run, translator: Translator) -> None:
    table = pq.read_table("shards/part-1.parquet")
    rows, ids, payload = read("shards/part-1.parquet")
    rows[7] = np.nan
    vectors = table.column("vector").combine_chunks()
    bad = type(vectors).from_arrays(rows.reshape(-1), rows.shape[1])
    pq.write_table(table.set_column(table.schema.get_field_index("vector"), "vector", bad), "shards/part-1.parquet")
    with pytest.raises(SpaceError, match="part-1.parquet.*row 7"):
        translation(translator, "shards", "out").run(Here())
    code, out, err = crossvec("translate", "t", "shards?bad_rows=drop", "dropped", "--format", "json")
    told = json.loads(out)
    assert code == 0 and told["rows"] == SHARDS * ROWS - 1
    assert told["skipped"]["count"] == 1 and told["skipped"]["rows"][0]["row"] == 7 and "part-1" in err


def test_another_run_s_output_is_refused_and_what_nobody_began_too(here: Path, translator: Translator) -> None:
    translation(translator, "shards", "out").run(Here())
    other = fit(
        *(Space.of(rows) for rows in (lambda w: (w.x, w.y))(make_world(n=200, m=200, dx=12, dy=8, latent=8, seed=9))),
        "procrustes",
        pairs=[(i, i) for i in range(200)],
    )
    with pytest.raises(UsageError, match="another run, of translator"):
        translation(other, "shards", "out").run(Here())
    with pytest.raises(UsageError, match="another run, of .*source"):
        translation(translator, "shards/part-[01].parquet", "out").run(Here())
    with pytest.raises(UsageError, match="options"):
        translation(translator, "shards?keep=ids", "out").run(Here())
    translation(translator, "shards", "one", ledger="elsewhere").run(Here())
    before = Path("one/part-0.parquet").read_bytes()
    with pytest.raises(UsageError, match="another run, of dest"):
        translation(translator, "shards", "two", ledger="elsewhere").run(Here())
    assert not Path("two").exists() and Path("one/part-0.parquet").read_bytes() == before
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        translation(translator, "shards", "taken").run(Here())
    assert Path("taken/notes.txt").read_text() == "mine" and not Path("taken/_crossvec").exists()


@pytest.mark.parametrize(
    ("source", "dest", "named"),
    [
        ("none", "out", "there is no folder"),
        ("none/", "out", "there is no folder"),
        ("empty", "out", "no .parquet files"),
        ("shards/*.npy", "out", "no file matches"),
        ("shards?rows=0:9", "out", "slice"),
        ("shards", "moved.parquet", "one file"),
        ("shards", "moved.npy", "one file"),
        ("shards", "shards", "the source itself"),
        ("shards/*.parquet", "shards", "an input"),
        ("shards", "sqlite:///tmp/x.db/t", "one process writes"),
        ("shards", "out?rows=0:3", "row slice"),
        ("mixed", "out", "one kind"),
        ("twice/*", "out", "both become"),
    ],
)
def test_what_cannot_be_cut_is_refused_in_words(
    here: Path, crossvec: Run, source: str, dest: str, named: str, translator: Translator
) -> None:
    for folder in ("empty", "mixed", "twice"):
        Path(folder).mkdir()
    stores.open("mixed/a.parquet").write([Space.of(np.ones((2, 12), np.float32), ["a", "b"])])
    stores.open("mixed/b.parquet").write([Space.of(np.ones((2, 12), np.float32))])
    stores.open("twice/a.npy").write([Space.of(np.ones((2, 12), np.float32))])
    stores.open("twice/a.npy.parquet").write([Space.of(np.ones((2, 12), np.float32))])
    code, _, err = crossvec("translate", "t", source, dest, "--plan")
    assert code == 2 and ("hint: " in err)
    if source in ("mixed", "twice/*"):
        return
    assert named in err


def test_rows_of_another_dimension_are_refused_before_anything_is_written(here: Path, translator: Translator) -> None:
    with pytest.raises(TranslatorError, match="reads 8"):
        translation(translator.inverse(), "shards", "out")
    assert not Path("out").exists()


def test_options_about_pieces_are_refused_where_there_are_none(here: Path, crossvec: Run) -> None:
    for words in (["--workers", 2], ["--memory", "2G"], ["--ray-address", "auto"], ["--core-hour", 1], ["--machine-hour", 0]):
        code, _, err = crossvec("translate", "t", "whole.parquet", "m.parquet", *words)
        assert code == 2 and str(words[0]) in err, words
    assert crossvec("translate", "t", "shards", "out", "--workers", 2)[0] == 2
    assert crossvec("translate", "t", "shards", "out", "--core-hour", 1, "--machine-hour", 1)[0] == 2
    code, _, err = crossvec("translate", "t", "shards", "out", "--core-hour", 1)
    assert code == 2 and "--core-hour is for the cost in a plan" in err, "no word is taken and then ignored"
    for address in ("nonsense", "ray://host:1", "host:port"):
        assert crossvec("translate", "t", "shards", "out", "--engine", "ray", "--ray-address", address)[0] == 2
    assert not Path("out").exists()


# --- memory


@given(
    st.integers(1, 8192), st.integers(1, 8192), st.floats(0, 1e5), st.integers(700 << 20, 64 << 30), st.sampled_from([2, 4, 8])
)
def test_a_batch_is_as_large_as_the_limit_allows_and_no_larger(dx: int, dy: int, payload: float, limit: int, item: int) -> None:
    weight = memory.Weight(item * dx, 4 * dx, 4 * dy, payload)
    try:
        batch = memory.batch_rows(weight, limit)
    except UsageError as told:
        assert weight.needed(1) > limit and "--memory" in told.hint
        return
    assert 1 <= batch <= BATCH_ROWS and weight.needed(batch) <= limit
    assert batch == BATCH_ROWS or weight.needed(batch + 1) > limit - 2


@pytest.mark.parametrize(("text", "size"), [("2G", 2 << 30), ("1500M", 1500 << 20), ("1.5GiB", 3 << 29), ("1024", 1024)])
def test_amounts_of_memory_are_read(text: str, size: int) -> None:
    assert memory.parsed(text) == size
    for wrong in ("0", "-1G", "G", "two", "1 Gx"):
        with pytest.raises(UsageError):
            memory.parsed(wrong)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells a process's own peak")
def test_a_worker_s_peak_is_within_what_was_said(here: Path, translator: Translator) -> None:
    """The model of memory, held to what carrying large batches takes in a process of its own."""
    import subprocess
    import sys

    rows = np.random.default_rng(0).standard_normal((3 * BATCH_ROWS, 12)).astype(np.float32)
    stores.open("large.parquet").write(
        [Space.of(rows, [f"id {i}" for i in range(len(rows))], {"text": ["word " * 100] * len(rows)})]
    )
    code = """
import json
from crossvec.scale.engines import Here
from crossvec.scale.job import translation
from crossvec.translator import Translator
job = translation(Translator.load("t"), "large.parquet", "out")
job.run(Here())
# Not what getrusage tells: to a child that counts what its parent held when it was forked.
took = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([job.needed, int(took) * 1024]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=here)
    assert done.returncode == 0, done.stderr
    said, took = json.loads(done.stdout)
    assert took <= said


# --- plans


@given(st.floats(1e-7, 1), st.floats(0, 1e5), st.integers(1, 1000), st.floats(0, 100), st.integers(1, 128))
def test_the_numbers_of_a_plan_agree(seconds: float, size: float, workers: int, price: float, cores: int) -> None:
    pace = Pace(10, (seconds, seconds, seconds), size)
    by_core, by_machine = Price(core_hour=price), Price(machine_hour=price * cores, cores=cores)
    for rows in SIZES:
        one, other = estimate(pace, rows, workers, by_core), estimate(pace, rows, workers, by_machine)
        assert one.core_hours == pytest.approx(rows * 3 * seconds / 3600)
        assert one.hours * workers == pytest.approx(one.core_hours)
        assert one.cost == pytest.approx(one.core_hours * price) and other.cost == pytest.approx(one.cost)
        assert one.disk_bytes == pytest.approx(rows * size, abs=1)
        assert estimate(pace, rows, workers, Price()).cost is None


def test_a_plan_measures_these_rows_writes_nothing_and_knows_what_is_done(here: Path, crossvec: Run) -> None:
    before = sorted(Path().rglob("*"))
    told = json.loads(crossvec("translate", "t", "shards", "out", "--plan", "--core-hour", 2, "--format", "json")[1])
    assert sorted(Path().rglob("*")) == before
    assert told["plan"] and (told["rows"], told["pieces"], told["pieces_done"]) == (SHARDS * ROWS, SHARDS, 0)
    assert told["sample"]["rows"] == SHARDS * ROWS, "a small source is measured whole"
    assert [one["rows"] for one in told["estimates"]] == [SHARDS * ROWS, *SIZES]
    assert told["memory_per_worker"]["needed_bytes"] <= told["memory_per_worker"]["limit_bytes"]
    yours = told["estimates"][0]
    assert yours["cost"] == pytest.approx(2 * yours["core_hours"])
    crossvec("translate", "t", "shards", "out")
    written = sum(path.stat().st_size for path in outputs("out"))
    assert yours["disk_bytes"] == pytest.approx(written, rel=0.02)
    code, out, _ = crossvec("translate", "t", "shards", "out", "--plan")
    assert code == 0 and f"{SHARDS} of them done" in out and "--core-hour" in out
    out = crossvec("translate", "t", "shards", "out", "--plan", "--core-hour", 0.01)[1]
    assert "few to measure on" in out
    assert "< 0.01" in out and "0.00\n" not in out, "a small cost is not told as none"


# --- texts


def test_folders_of_texts_are_embedded_file_by_file(here: Path, crossvec: Run) -> None:
    pytest.importorskip("model2vec")
    encoding.save_static(here / "model")
    Path("texts").mkdir()
    for i in range(3):
        with open(f"texts/{i}.jsonl", "w") as file:
            file.writelines(json.dumps({"id": f"{i}-{j}", "text": "cat dog sea", "n": j}) + "\n" for j in range(20))
    code, out, err = crossvec("embed", "texts", "vectors", "-m", "static:model", "--format", "json")
    assert code == 0 and json.loads(out)["rows"] == 60, err
    assert [path.name for path in outputs("vectors")] == [f"{i}.jsonl.parquet" for i in range(3)]
    assert crossvec("embed", "texts/1.jsonl", "one.parquet", "-m", "static:model")[0] == 0
    assert same(read("vectors/1.jsonl.parquet"), read("one.parquet"))
    told = json.loads(crossvec("embed", "texts", "vectors", "-m", "static:model", "--format", "json")[1])
    assert told["pieces_done_before"] == 3
    told = json.loads(crossvec("embed", "texts", "v2", "-m", "static:model", "--plan", "--format", "json")[1])
    assert told["rows"] == 60 and told["sample"]["rows"] == 60 and not Path("v2").exists()
    assert [piece.span for piece in cut_texts("texts/1.jsonl", "v3", 8)] == [(0, 8), (8, 16), (16, 20)]
    code, _, err = crossvec(
        "embed", "texts/1.jsonl", "v3", "-m", "static:model", "--engine", "local", "--plan", "--shard-rows", 8
    )
    assert code == 0


def test_a_file_without_texts_becomes_a_shard_without_rows_that_is_read_like_the_others(here: Path, crossvec: Run) -> None:
    pytest.importorskip("model2vec")
    encoding.save_static(here / "model")
    Path("texts").mkdir()
    for name, lines in {"a": "", "b": '{"id": "x", "text": "cat dog"}\n', "c": '{"id": "y", "text": ""}\n'}.items():
        Path(f"texts/{name}.jsonl").write_text(lines)
    code, out, err = crossvec("embed", "texts?bad_rows=drop", "vectors", "-m", "static:model", "--format", "json")
    assert code == 0 and json.loads(out)["rows"] == 1 and json.loads(out)["skipped"]["count"] == 1, err
    dims = {stores.open(str(path)).describe().dim for path in outputs("vectors")}
    assert len(outputs("vectors")) == 3 and len(dims) == 1
    rows = make_world(n=60, m=60, paired=True, dx=dims.pop(), dy=4, latent=3)
    fit(Space.of(rows.x), Space.of(rows.y), "ridge", pairs=np.stack([np.arange(60)] * 2, axis=1)).save("from-texts")
    code, out, err = crossvec("translate", "from-texts", "vectors", "moved", "--format", "json")
    assert code == 0 and json.loads(out)["rows"] == 1, err


def test_a_file_of_texts_that_gzip_did_not_write_is_named(here: Path, crossvec: Run) -> None:
    pytest.importorskip("model2vec")
    encoding.save_static(here / "model")
    Path("texts").mkdir()
    Path("texts/a.txt.gz").write_text("cat\n")
    code, _, err = crossvec("embed", "texts", "vectors", "-m", "static:model")
    assert code == 2 and "a.txt.gz is not what gzip wrote" in err and "hint: " in err


def test_memory_is_no_word_for_embedding_here(here: Path, crossvec: Run) -> None:
    """It sets a translation's batch and what Ray sets aside; elsewhere it would be taken and then ignored."""
    pytest.importorskip("model2vec")
    encoding.save_static(here / "model")
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("cat\n")
    code, _, err = crossvec("embed", "texts", "vectors", "-m", "static:model", "--memory", "2G")
    assert code == 2 and "--memory" in err and "--batch" in err and not Path("vectors").exists()


def test_a_model_that_is_another_one_on_a_worker_is_refused(here: Path) -> None:
    from crossvec.scale.work import Embed

    pytest.importorskip("model2vec")
    encoding.save_static(here / "model")
    Path("a.txt").write_text("cat\ndog\n")
    work = Embed(model="static:model", version="another", batch=10)
    with pytest.raises(UsageError, match="was another at first"):
        work(Piece("a", "a.txt", "a.parquet", 2))
    assert not Path("a.parquet").exists()


def test_the_local_engine_takes_no_words_about_workers() -> None:
    assert isinstance(choose("local", None, None), Here)
    with pytest.raises(UsageError, match="--workers"):
        choose("local", None, 2)
    with pytest.raises(UsageError, match="no engine"):
        choose("spark", None, None)


# --- sampling


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(1, 60), st.integers(0, 3))
def test_a_draw_from_shards_is_that_from_their_rows_in_a_row(counts: list[int], want: int, seed: int) -> None:
    """So it is uniform as `Space.sample` is: one draw of row numbers, wherever the rows lie."""
    import tempfile

    from crossvec.stores.sampling import uniform

    if not sum(counts):
        counts = [*counts, 1]
    rows = np.arange(1, sum(counts) + 1, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    edges = np.cumsum([0, *counts])
    with tempfile.TemporaryDirectory() as folder:
        places = [stores.open(Path(folder) / f"{i}.npy") for i in range(len(counts))]
        for place, start, stop in zip(places, edges[:-1], edges[1:], strict=True):
            place.write([Space.of(rows[start:stop])])
        found = uniform(places, want, seed)
    expected = Space.of(rows).sample(want, seed)
    assert np.array_equal(found.array(), expected.array())
    assert list(found.numbers) == [int(row[0]) - 1 for row in expected.array()]


def test_every_row_is_drawn_equally_often(tmp_path: Path) -> None:
    from crossvec.stores.sampling import uniform

    places = [stores.open(tmp_path / f"{i}.npy") for i in range(3)]
    for number, place in enumerate(places):
        place.write([Space.of(np.ones((10 * (number + 1), 2), np.float32))])
    times = np.zeros(60)
    for seed in range(400):
        times[np.asarray(uniform(places, 12, seed).numbers)] += 1
    # 400 draws of 12 among 60: each row 80 times, give or take four standard deviations.
    assert abs(times - 80).max() < 4 * np.sqrt(400 * 0.2 * 0.8)


def test_a_fit_on_shards_draws_from_all_of_them(here: Path, crossvec: Run) -> None:
    words = ["-a", "identity", "--max-rows", 100, "--format", "json"]
    code, _, err = crossvec("fit", "shards", "whole.parquet", "-o", "f", *words)
    assert code in (0, 3) and "100 rows drawn from 1,200 of shards" in err and "of whole.parquet" in err
    assert Translator.load("f").card["source"]["rows_used"] == 100


@pytest.mark.parametrize("ending", [".npy", ".fvecs", ".safetensors", ".arrow", ".npz", ".jsonl.gz", ".parquet", ".h5"])
def test_only_of_a_file_that_cannot_be_mapped_the_sample_is_drawn_as_rows_pass_by(ending: str, tmp_path: Path) -> None:
    from crossvec.cli import align

    if ending == ".h5":
        pytest.importorskip("h5py")
    place = stores.open(tmp_path / f"x{ending}")
    place.write([Space.of(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))])
    mapped = ending in (".npy", ".fvecs", ".safetensors", ".arrow")
    assert place.mapped == mapped
    assert len(align._drawn(str(tmp_path / f"x{ending}"), 10, 0)) == (40 if mapped else 10)


# --- scores


@pytest.mark.parametrize("rows", [2, 9, 700])
def test_scores_by_blocks_are_those_of_one_process_to_the_last_rank(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossvec import evaluation, metrics
    from crossvec.scale import scoring

    monkeypatch.setattr(metrics, "BUDGET", 100 * rows)  # blocks of a hundred queries, out of order

    class Backwards(Here):
        def map(self, task, items):
            away = pickle.loads(pickle.dumps(task, protocol=5))  # noqa: S301  # as it comes to a worker
            for item in reversed(list(items)):
                found = away(item)
                for array in found:
                    array.setflags(write=False)  # as it comes back through Ray's store
                yield item, found

    made = make_world(n=400, m=400, pool=rows, paired=True, dx=12, dy=8, latent=8, clusters=3, seed=2)
    pairs = np.stack([np.arange(400)] * 2, axis=1)
    translator = fit(Space.of(made.x), Space.of(made.y), "ridge", pairs=pairs)
    one, other = Space.of(made.eval_x), Space.of(made.eval_y[np.r_[: rows - 1, 0]])  # two of one: ties
    expected = evaluation.evaluate(translator, one, other, k=3, seed=1).to_json()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a user would read them
        torch.set_warn_always(True)
        try:
            assert scoring.evaluate(translator, one, other, Backwards(), k=3, seed=1).to_json() == expected
        finally:
            torch.set_warn_always(False)
