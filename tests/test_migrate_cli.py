"""test_migrate_cli — what `crossvec migrate` promises to people and to scripts: a plan, one JSON object, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import encoding
import numpy as np
import pytest
from conftest import Run, make_world, orthonormal

from crossvec import stores
from crossvec.cli import move
from crossvec.fitting import fit
from crossvec.space import Space
from crossvec.translator import Translator

CONTRACT = {"rows_read", "rows_written", "skipped", "retention", "gate"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: old.parquet of an old model, new.npy of other texts under the new one, and a translator t."""
    monkeypatch.chdir(tmp_path)
    world = make_world(n=1000, m=1000, paired=True, clusters=1, noise=0.05, seed=3)
    x = world.x[:600]
    stores.open("old.parquet").write([Space.of(x, [f"r{i}" for i in range(600)], [{"title": f"é {i}"} for i in range(600)])])
    np.save("new.npy", world.y[600:])
    pairs = np.stack([np.arange(400)] * 2, axis=1)
    fit(Space.of(world.x[600:], name="old"), Space.of(world.y[600:], name="new"), "ridge", pairs=pairs).save("t")
    return tmp_path


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a store of an old model's rows of 900 texts, the texts, and the new model itself."""
    pytest.importorskip("model2vec")
    monkeypatch.chdir(tmp_path)
    encoding.save_static(tmp_path / "model")
    from crossvec import encoders

    rng = np.random.default_rng(0)
    words = ["cat", "dog", "sat", "mat", "sea", *map(chr, range(97, 123))]
    lines = [" ".join(rng.choice(words, 6)) for _ in range(900)]
    new = encoders.open("static:model").encode(lines)
    old = new @ orthonormal(new.shape[1], 12, rng).astype(np.float32) + 0.05 * rng.standard_normal((900, 12)).astype(np.float32)
    ids = [f"r{i}" for i in range(900)]
    stores.open("old.parquet").write([Space.of(old, ids, [{"body": line, "n": i} for i, line in enumerate(lines)])])
    with open("texts.jsonl", "w") as file:
        file.writelines(json.dumps({"id": i, "text": line}) + "\n" for i, line in reversed(list(zip(ids, lines, strict=True))))
    return tmp_path


def test_the_line_that_a_plan_ends_with_judges_as_the_plan_did(crossvec: Run, here: Path) -> None:
    Path("dest.toml").write_text("sample = 100\n")
    words = ["--translator", "t", "--force", "--min-retention", 0.01]
    planned, _, err = crossvec("migrate", "old.parquet", "moved.parquet", *words, "--config", "dest.toml")
    line = next(line for line in err.splitlines() if line.startswith("next: "))
    options = "--translator t --min-retention 0.01 --sample 100 --force --run"
    assert line == f"next: crossvec migrate old.parquet moved.parquet {options}"
    code, out, _ = crossvec(*line.split()[2:], "--format", "json")
    told = json.loads(out)
    assert (code, told["rows_written"], told["min_retention"]) == (planned, 600, 0.01)


def test_a_dry_run_writes_nothing_and_says_what_to_type(crossvec: Run, here: Path) -> None:
    before = sorted(path.name for path in here.iterdir())
    code, out, err = crossvec("migrate", "old.parquet", "moved.parquet", "--translator", "t", "--min-retention", 0.3)
    assert sorted(path.name for path in here.iterdir()) == before
    assert "600" in out and "24 -> 20" in out and "title" in out and "recall@10" in out
    assert "nothing was written" in err
    assert "crossvec migrate old.parquet moved.parquet --translator t --min-retention 0.3 --run" in err
    assert code in (0, 3)


def test_the_object_has_the_keys_of_the_contract(crossvec: Run, here: Path) -> None:
    words = ("migrate", "old.parquet", "moved.parquet", "--translator", "t", "--format", "json", "--min-retention", 0.3)
    code, out, _ = crossvec(*words)
    dry = json.loads(out)
    assert set(dry) >= CONTRACT and dry["dry_run"] and (dry["rows_read"], dry["rows_written"]) == (0, 0)
    code, out, _ = crossvec(*words, "--run")
    told = json.loads(out)
    assert set(told) >= CONTRACT
    assert list(told) == list(dry), "a script reads both alike"
    assert (dry["dest"], dry["journal"], dry["verification"]) == (told["dest"], told["journal"], None)
    assert (told["rows_read"], told["rows_written"], told["skipped"]) == (600, 600, [])
    assert 0 <= told["retention"]["low"] <= told["retention"]["recall_at_10"] <= told["retention"]["high"] <= 1
    assert told["retention"]["recall_at_10"] == pytest.approx(dry["retention"]["recall_at_10"], abs=1e-3)
    assert told["verification"]["good"]
    assert code == {"PASS": 0, "FAIL": 1, "WARN": 3}[told["gate"]]
    old, new = stores.open("old.parquet").load(), stores.open("moved.parquet").load()
    assert list(new.ids_or_numbers()) == list(old.ids_or_numbers())
    assert new.records() == old.records()
    assert np.allclose(new.array(), Translator.load("t").translate(old.array()), atol=1e-5)


def test_the_gate_decides_the_exit_code(crossvec: Run, here: Path) -> None:
    judged = "migrate", "old.parquet", "moved.parquet", "--translator", "t", "--format", "json", "--min-retention"
    code, out, _ = crossvec(*judged, 1.0)
    assert (code, json.loads(out)["gate"]) == (1, "FAIL")
    code, out, _ = crossvec(*judged, 0.0)
    told = json.loads(out)
    aligned = told["plan"]["status"] == "aligned" and not told["doubts"]
    assert (code, told["gate"]) == ((0, "PASS") if aligned else (3, "WARN"))


def test_texts_make_the_translator_and_the_gate(crossvec: Run, texts: Path) -> None:
    words = "migrate", "old.parquet", "new.parquet", "--encoder", "static:model", "--min-retention", 0.5, "--format", "json"
    code, out, _ = crossvec(*words, "--texts", "texts.jsonl", "--run")
    told = json.loads(out)
    assert told["retention"]["basis"] == "re-embedding"
    assert (code, told["gate"]) == (0, "PASS"), told["retention"]
    assert told["plan"]["pairs"] == 450 and told["retention"]["queries"] == 450, "half to learn from, half to measure with"
    counts = [one["pairs"] for one in told["plan"]["worth"]]
    assert counts == sorted(counts) and counts[-1] == 450
    assert told["plan"]["worth"][-1]["recall_at_10"] >= told["plan"]["worth"][0]["recall_at_10"]
    assert told["retention"]["controls"]["identity"] < told["retention"]["low"]
    assert Translator.load("new.parquet-translator").card["pairs"] == 450


def test_the_payload_may_hold_the_texts(crossvec: Run, texts: Path) -> None:
    words = "migrate", "old.parquet", "new.parquet", "--encoder", "static:model", "--format", "json", "--min-retention", 0.5
    _, by_file, _ = crossvec(*words, "--texts", "texts.jsonl", "-o", "one")
    code, by_field, _ = crossvec(*words, "--text-field", "body", "-o", "two")
    assert code == 0
    assert json.loads(by_field)["retention"] == json.loads(by_file)["retention"]
    code, _, err = crossvec(*words, "--text-field", "boddy", "-o", "three")
    assert code == 2 and "body" in err


def test_rows_that_were_learned_from_are_not_scored_on(crossvec: Run, texts: Path) -> None:
    words = "migrate", "old.parquet", "new.parquet", "--encoder", "static:model", "--texts", "texts.jsonl", "--format", "json"
    crossvec(*words, "-o", "t")
    _, out, _ = crossvec(*words, "--translator", "t")
    assert json.loads(out)["retention"]["queries"] == 450


def test_queries_are_used_when_given(crossvec: Run, texts: Path) -> None:
    Path("queries.txt").write_text(
        "".join(f"{line}\n" for line in (chr(97 + i % 26) + " cat " + chr(97 + i % 7) for i in range(30)))
    )
    old = stores.open("old.parquet").load()
    np.save("queries.npy", old.array()[:77] + 0.01)
    words = "migrate", "old.parquet", "new.parquet", "--encoder", "static:model", "--texts", "texts.jsonl", "--format", "json"
    _, out, _ = crossvec(*words, "--query-texts", "queries.txt", "--queries", "queries.npy")
    expected = json.loads(out)["plan"]["expected"]
    assert (expected["re-embedding"]["queries"], expected["old neighbours"]["queries"]) == (30, 77)


def test_a_target_alone_is_learned_from_without_pairs(crossvec: Run, here: Path) -> None:
    """One thousand rows are too few to succeed: the verdict must keep the gate from passing, whatever neighbours say."""
    words = "migrate", "old.parquet", "moved.parquet", "--target", "new.npy", "-o", "u", "--effort", "quick", "--format", "json"
    code, out, _ = crossvec(*words, "--min-retention", 0)
    told = json.loads(out)
    assert told["plan"]["pairs"] == 0 and Translator.load("u").card["aligner"] == "moments"
    assert told["gate"] == ("PASS" if told["plan"]["status"] == "aligned" else "WARN")
    assert code == {"PASS": 0, "WARN": 3}[told["gate"]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("old.parquet", "m.parquet"), "--translator FOLDER"),
        (("old.parquet", "m.parquet", "--encoder", "minilm"), "--texts FILE"),
        (("old.parquet", "m.parquet", "--translator", "t", "--texts", "x.txt"), "--encoder NAME"),
        (("old.parquet", "m.parquet", "--translator", "t", "--target", "new.npy"), "leave --target"),
        (("old.parquet", "m.parquet", "--translator", "t", "--effort", "thorough"), "--effort"),
        (("old.parquet", "old.parquet", "--translator", "t"), "never in place"),
        (("old.parquet", "m.parquet", "--translator", "t", "--in-place"), "beside the old one"),
        (("old.parquet", "new.npy", "--translator", "t"), "exists already"),
        (("gone.parquet", "m.parquet", "--translator", "t"), "there is no file"),
        (("new.npy", "m.parquet", "--translator", "t"), "inverse"),
        (("old.parquet", "m.parquet", "--translator", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_in_two_lines(crossvec: Run, here: Path, words: tuple[str, ...], says: str) -> None:
    code, out, err = crossvec("migrate", *words, "--run")
    lines = [line for line in err.splitlines() if line]
    assert (code, out, len(lines)) == (2, "", 2)
    assert lines[0].startswith("error: ") and lines[1].startswith("hint: ") and says in err
    assert not Path("m.parquet").exists()


@pytest.mark.parametrize("other", ["{here}/old.parquet", "./../{here.name}/old.parquet", "link.parquet", "link/old.parquet"])
def test_the_source_by_another_path_is_never_told_to_be_deleted(crossvec: Run, here: Path, other: str) -> None:
    Path("link.parquet").symlink_to("old.parquet")
    Path("link").symlink_to(here)
    code, _, err = crossvec("migrate", "old.parquet", other.format(here=here), "--translator", "t", "--run")
    assert code == 2 and "is the source itself" in err and "delete" not in err
    assert len(stores.open("old.parquet").load()) == 600


def test_an_encoder_that_is_not_the_translators_is_refused_by_its_dimension(crossvec: Run, texts: Path) -> None:
    old = stores.open("old.parquet").load()
    fit(old, Space.of(old.array()[:, :5]), "ridge", pairs=np.stack([np.arange(900)] * 2, axis=1)).save("five")
    words = "--translator", "five", "--encoder", "static:model", "--text-field", "body"
    code, _, err = crossvec("migrate", "old.parquet", "new.parquet", *words)
    assert code == 2 and "dimensions; this translator writes 5" in err and "hint: " in err


def test_two_migrations_may_share_a_translator(crossvec: Run, here: Path) -> None:
    for dest in ("one.parquet", "two.parquet"):
        assert crossvec("migrate", "old.parquet", dest, "--translator", "t", "--run", "--min-retention", 0)[0] in (0, 3)
        assert len(stores.open(dest).load()) == 600
    assert len(list(here.glob("t.migration*.json"))) == 2


def test_a_report_tells_what_happened(crossvec: Run, here: Path) -> None:
    x = stores.open("old.parquet").load().array()
    x[[5, 17]] = np.nan
    np.save("holes.npy", x)
    code, out, err = crossvec("migrate", "holes.npy", "moved.npy", "--translator", "t", "--run")
    following = {move.EXITS[gate]: told for gate, told in move.NEXT.items()}[code]
    assert following.format(source="holes.npy", dest="moved.npy") in err
    assert "600" in out and "598" in out and "rows 5, 17" in out and "gate: " in out


def test_rows_left_out_are_named_by_their_ids(crossvec: Run, here: Path) -> None:
    """A null, a key that is missing, zeros and NaN: of all of them people know the id and not the line."""
    space = stores.open("old.parquet").load()
    spoiled: dict[int, dict[str, object]] = {
        5: {"vector": None},
        17: {},
        30: {"vector": [0.0] * 24},
        31: {"vector": [float("nan")] * 24},
    }
    with open("holes.jsonl", "w") as file:
        for i, row in enumerate(space.array()):
            file.write(json.dumps({"id": f"é{i}"} | spoiled.get(i, {"vector": row.tolist()})) + "\n")
    words = "--translator", "t", "--run", "--min-retention", 0
    code, out, _ = crossvec("migrate", "holes.jsonl", "moved.jsonl", *words, "--format", "json")
    told = json.loads(out)
    assert [(skip["row"], skip["id"]) for skip in told["skipped"]] == [(5, "é5"), (17, "é17"), (30, "é30"), (31, "é31")]
    assert set(told["skipped"][0]) == {"row", "id", "reason"} and told["skipped_rows"] == 4
    assert told["verification"]["good"] and told["rows_written"] == 596
    _, out, _ = crossvec("migrate", "holes.jsonl", "other.jsonl", *words)
    assert "left out, by id: 'é5', 'é17', 'é30', 'é31'" in " ".join(out.split())


def test_an_id_with_half_a_character_is_told_and_stops_nothing(crossvec: Run, here: Path) -> None:
    rows = stores.open("old.parquet").load().array()
    lines = [{"id": f"\ud800{i}", "vector": None if i == 5 else row.tolist()} for i, row in enumerate(rows)]
    Path("old.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = "migrate", "old.jsonl", "moved.jsonl", "--translator", "t", "--min-retention", 0, "--run", "--format", "json"
    code, out, err = crossvec(*line)
    told = json.loads(out)
    assert (code, told["rows_written"], told["skipped"][0]["id"]) == (0, 599, "\ud8005"), err


def test_what_is_told_of_pairs_is_what_was_measured(crossvec: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without texts the plan tells measured numbers or none, and those that are packaged are the committed results."""
    from crossvec.migration import learning

    words = "migrate", "old.parquet", "moved.parquet", "--translator", "t"
    results = sorted((Path(__file__).parents[1] / "benchmarks" / "results" / "migrate").glob("retention-*.json"))
    assert learning.MEASURED.exists() == bool(results)
    if results:
        packaged = json.loads(learning.MEASURED.read_text())
        runs = [one for path in results for one in json.loads(path.read_text())["results"] if one["name"] == "auto"]
        worst: dict[int, float] = {}
        for one in runs:
            worst[one["pairs"]] = min(one["new_model_queries"]["recall_at_10"], worst.get(one["pairs"], 1.0))
        assert packaged["seeds"] == len(results) and worst
        assert {one["pairs"]: one["recall_at_10"] for one in packaged["results"]} == worst
    monkeypatch.setattr(learning, "MEASURED", here / "measured.json")
    assert "measured on" not in crossvec(*words)[1]
    told = {
        "source": "a",
        "target": "b",
        "results": [
            {"pairs": p, "recall_at_10": mean, "low": mean - 0.02, "high": mean + 0.02}
            for p, mean in {0: 0.1, 100: 0.12, 1000: 0.2}.items()
        ],
    }
    learning.MEASURED.write_text(json.dumps(told))
    _, out, _ = crossvec(*words)
    assert "measured on a -> b, against true re-embedding: recall@10 no pairs 0.100, 100 pairs 0.120, 1,000 pairs 0.200" in out
    assert "there, better than 100 pairs: 1,000 pairs by 0.080" in out, "this translator learned from 400"
    told["results"][2]["low"] = 0.13
    learning.MEASURED.write_text(json.dumps(told))
    assert "there, more did not help: with 100 pairs it found as much as with any more" in crossvec(*words)[1]
