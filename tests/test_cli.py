"""test_cli — what the command line promises to people and to scripts: output, exit codes, errors, interruptions."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import pytest
from conftest import Run, World

from crossvec import aligners
from crossvec.aligners.vec2vec.presets import PresetName
from crossvec.cli import cli, exits
from crossvec.fitting import fit
from crossvec.safe import without_passwords
from crossvec.space import Space
from crossvec.translator import Translator

SOURCES = Path(__file__).parents[1] / "src"


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, twins: World) -> Path:
    """A folder with paired stores a.npy and b.npy, held-out ea.npy and eb.npy, and a fitted translator t."""
    folder = tmp_path_factory.mktemp("fitted")
    for name, rows in {"a": twins.x, "b": twins.y, "ea": twins.eval_x, "eb": twins.eval_y}.items():
        np.save(folder / f"{name}.npy", rows)
    pairs = np.stack([np.arange(1000)] * 2, axis=1)
    fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=pairs).save(folder / "t")
    return folder


@pytest.fixture
def files(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of what `fitted` holds."""
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(told: tuple[int, str, str], code: int = 2) -> str:
    """What an error says: one line `error: …`, at most one line `hint: …`, nothing on stdout; a busy machine shows progress."""
    assert told[0] == code, told
    assert told[1] == ""
    lines = [line for line in told[2].splitlines() if line and not re.match(r" *\d+% ", line)]
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    return told[2]


# The contract for scripts


def test_fit_prints_one_object_with_the_keys_of_the_contract(crossvec: Run, files: Path) -> None:
    code, out, _ = crossvec("fit", "a.npy", "b.npy", "-o", "u", "-a", "ridge", "--paired", "--seed", "3", "--format", "json")
    told = json.loads(out)
    assert {"folder", "aligner", "seconds", "peak_memory_bytes", "verdict"} <= set(told)
    assert set(told["verdict"]) >= {"status", "probability", "evidence"}
    assert told["folder"] == "u"
    assert told["aligner"] == "ridge"
    assert code == (0 if told["verdict"]["status"] == "aligned" else 3)
    assert Translator.load("u").card["seed"] == 3


def test_a_fit_that_is_not_aligned_leaves_with_3_and_still_writes(crossvec: Run, files: Path) -> None:
    np.save("noise.npy", np.random.default_rng(0).standard_normal((500, 9)).astype(np.float32))
    code, out, _ = crossvec("fit", "a.npy", "noise.npy", "-o", "u", "-a", "identity", "--format", "json")
    assert code == 3
    assert json.loads(out)["verdict"]["status"] != "aligned"
    assert Translator.load("u").target.dim == 9


def test_translate_prints_one_object_and_writes_every_row(crossvec: Run, files: Path, twins: World) -> None:
    code, out, _ = crossvec("translate", "t", "a.npy", "out.npy", "--format", "json", "--batch", "300")
    told = json.loads(out)
    assert (code, set(told)) == (0, {"rows", "seconds", "dest", "skipped"})
    assert told["skipped"] == {"count": 0, "rows": []}
    assert (told["rows"], told["dest"]) == (1000, "out.npy")
    assert np.abs(np.load("out.npy") - Translator.load("t").translate(twins.x)).max() < 1e-6
    assert crossvec("translate", "t", "out.npy", "back.npy", "--inverse")[0] == 0
    assert np.load("back.npy").shape == twins.x.shape


def test_evaluate_prints_one_object_with_the_keys_of_the_contract(crossvec: Run, files: Path) -> None:
    code, out, _ = crossvec("evaluate", "t", "ea.npy", "eb.npy", "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert told["pool"] == 500
    keys = {"top1", "top10", "mean_rank", "foscttm", "cosine", "cosine_centred"}
    assert set(told["controls"]) == {"identity", "mean", "shuffled"}
    for scored in (told["forward"], told["backward"], *told["controls"].values()):
        assert keys <= set(scored)
    assert told["forward"]["top1"] > 0.8 > 0.1 > told["controls"]["shuffled"]["top1"]


@pytest.mark.parametrize(
    "words",
    ["inspect a.npy", "compare a.npy b.npy --paired", "plugins", "evaluate t ea.npy eb.npy", "translate t a.npy o.parquet"],
)
def test_every_verb_speaks_json_and_text(crossvec: Run, files: Path, words: str) -> None:
    code, out, _ = crossvec(*words.split(), "--format", "json")
    assert code == 0
    assert isinstance(json.loads(out), dict)
    code, out, _ = crossvec(*words.split())
    assert code == 0
    assert len(out.splitlines()) >= 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


@pytest.mark.parametrize("verb", ["", "inspect", "compare", "fit", "translate", "evaluate", "embed", "migrate"])
def test_the_help_says_that_a_store_may_be_a_database(crossvec: Run, verb: str) -> None:
    code, out, _ = crossvec(*verb.split(), "--help")
    told = " ".join(out.split())
    assert code == 0
    assert all(word in told for word in ("vectors.npy", "qdrant://host:6333/books", "docs/stores.md", "?rows=0:36000"))


def test_a_row_slice_is_taken_wherever_a_store_is_named(crossvec: Run, files: Path) -> None:
    assert json.loads(crossvec("translate", "t", "a.npy?rows=100:250", "o.npy", "--format", "json")[1])["rows"] == 150
    told = json.loads(crossvec("evaluate", "t", "ea.npy?rows=0:200", "eb.npy?rows=0:200", "--format", "json")[1])
    assert told["pool"] == 200


def test_an_error_in_json_is_one_object_too(crossvec: Run, files: Path) -> None:
    for words in ("evaluate t nowhere.npy eb.npy --format json", "evaluate --format=json --fromat"):
        code, out, err = crossvec(*words.split())
        assert code == 2
        told = json.loads(out)
        assert told["exit_code"] == 2
        assert f"error: {told['error']}" in err


@pytest.mark.parametrize(
    "words",
    [
        "audit a.npy --texts qdrant//me:hunter2@host/x",
        "fit a.npy qdrant:/me:hunter2@host/x -o f",
        "fit a.npy b.npy -o f --pairs redis:me:hunter2@host",
        "fit a.npy b.npy -o f -a vec2vec -s events=a.npy/me:hunter2@host",
        "evaluate pg://me:hunter/2@host/t a.npy b.npy",
        "plugins me:hunter2@host",
        "inspect a.npy --config='http:/me:hunter2@host'",
    ],
)
def test_no_error_repeats_a_password_whoever_took_the_address(crossvec: Run, files: Path, words: str) -> None:
    code, out, err = crossvec(*words.split(), "--format", "json")
    assert code == 2 and json.loads(out)["error"]
    assert "hunter" not in out + err


@pytest.mark.parametrize(
    "said", ["no folder /data/me@home", "openai:llama3:8b@http://localhost:11434/v1 is away", "ssh://git@host/x"]
)
def test_what_only_looks_like_an_address_with_a_password_is_told_as_it_is(said: str) -> None:
    assert without_passwords(said) == said


def test_plugins_name_every_aligner_and_store(crossvec: Run) -> None:
    from crossvec import stores

    told = json.loads(crossvec("plugins", "--format", "json")[1])
    assert {one["name"] for one in told["aligners"]} >= set(aligners.ALIGNERS)
    assert {one["name"] for one in told["stores"]} >= set(stores.STORES)
    assert all(one["installed"] in (True, False) for kind in told.values() for one in kind)


@pytest.mark.parametrize(
    "words",
    [*aligners.ALIGNERS, *(f"vec2vec -s preset={preset}" for preset in get_args(PresetName)), "moments -s effort=quick"],
)
def test_what_plugins_tell_of_an_aligner_can_be_typed_back_and_fits_the_same(crossvec: Run, words: str) -> None:
    name, *_ = words.split()
    told = json.loads(crossvec(*f"plugins {words} --format json".split())[1])["settings"]
    typed = [f"{row['name']}={str(row['value']).lower()}" for row in told if row["value"] is not None]
    again = json.loads(crossvec("plugins", name, *(word for one in typed for word in ("-s", one)), "--format", "json")[1])
    assert again["settings"] == told
    _, shown, _ = crossvec("plugins", *words.split())
    assert all(re.search(rf"^{row['name']} .*{re.escape(row['takes'])} *$", shown, re.MULTILINE) for row in told)


@pytest.mark.parametrize("name", ["vec2vec", "universal", "moments"])
def test_plugins_tell_what_an_aligner_is_line_by_line(crossvec: Run, name: str) -> None:
    shown = [one.rstrip() for one in crossvec("plugins", name)[1].splitlines()]
    lines = aligners.about(name)["about"].splitlines()
    assert shown[: len(lines)] == lines and len(lines) > 1


def test_plugins_tell_the_name_of_a_folder_as_it_was_typed(crossvec: Run) -> None:
    assert re.search(r"^checkpoint +Runs/A +words", crossvec("plugins", "vec2vec", "-s", "checkpoint=Runs/A")[1], re.MULTILINE)


def test_plugins_name_an_extra_for_all_that_need_one() -> None:
    """What names a package that only an extra brings, in its module or its family's, is what the list says needs an extra."""
    from crossvec import encoders, stores
    from crossvec.cli.look import EXTRAS

    packages = {package for _, package in EXTRAS.values()}
    every = {**aligners.ALIGNERS, **stores.STORES, **stores.DATABASES, **encoders.ENCODERS}
    for name, place in every.items():
        spec = importlib.util.find_spec(place.split(":")[0])
        assert spec and spec.origin
        text = Path(spec.origin).read_text(encoding="utf-8")
        named = {package for package in packages if re.search(rf"(?:import|from) {package}\b|[\"']{package}[\"'.]", text)}
        assert bool(named) == (name in EXTRAS), f"{name} names {named}"
    assert set(EXTRAS) <= set(every)


# Settings and the config file


def test_a_config_file_gives_options_and_the_command_line_beats_it(crossvec: Run, files: Path) -> None:
    Path("c.toml").write_text(
        'source = "a.npy"\ntarget = "b.npy"\noutput = "u"\naligner = "sinkhorn"\nseed = 5\nmax-rows = 400\n'
        "[settings]\nrows = 60\niterations = 9\n"
    )
    assert crossvec("fit", "--config", "c.toml", "--seed", "6", "-s", "iterations=5")[0] in (0, 3)
    card = Translator.load("u").card
    assert (card["aligner"], card["seed"], card["source"]["rows_used"]) == ("sinkhorn", 6, 400)
    assert (card["settings"]["rows"], card["settings"]["iterations"]) == (60, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sed = 5", "did you mean seed?"),
        ("[settings]\nepocs = 5", "did you mean epochs?"),
        ("settings = 3", "wrong shape"),
        ("[seed]\na = 1", "wrong shape"),
        ("seed = ", "is not TOML"),
        ('seed = "many"', "'many' is not a valid integer"),
        ('effort = "heroic"', "'heroic' is not one of"),
    ],
)
def test_a_wrong_config_file_is_refused_with_the_nearest_right_name(crossvec: Run, files: Path, text: str, told: str) -> None:
    Path("c.toml").write_text(text)
    words = "fit a.npy b.npy -o u -a mlp --paired --config c.toml".split()
    assert told in refused(crossvec(*words))
    assert not Path("u").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fti a b", "did you mean fit?"),
        ("fit a.npy", "Missing argument"),
        ("fit a.npy b.npy", "Missing option '-o'"),
        ("fit a.npy b.npy -o u --sed 3", "--seed"),
        ("fit a.npy b.npy -o u --seed x", "'x' is not a valid integer"),
        ("fit a.npy b.npy -o u --seed -1", "-1 is not in the range"),
        ("fit a.npy b.npy -o u --config nowhere.toml", "cannot read the config file nowhere.toml"),
        ("fit a.npy b.npy -o u -a momments", "did you mean moments?"),
        ("fit a.npy b.npy -o u -a ridge", "--pairs FILE"),
        ("fit a.npy b.npy -o u -a mlp --paired -s epocs=3", "did you mean epochs?"),
        ("fit a.npy b.npy -o u -a mlp --paired -s epochs", "-s takes key=value"),
        ("fit a.npy b.npy -o u -a mlp --paired -s epochs=many", "epochs cannot be 'many'"),
        ("fit a.npy b.npy -o u --device mps", "--device cpu"),
        ("fit a.npy b.npy -o u --paired --pairs p.csv", "use one of them"),
        ("fit a.npy eb.npy -o u --paired", "1,000 rows and the target 500"),
        ("fit nowhere.npy b.npy -o u", "nowhere.npy"),
        ("fit a.npi b.npy -o u", ".npy"),
        ("fit . b.npy -o u", "folder"),
        ("fit a.npy?rows=0:2000 b.npy -o u", "has 1,000 rows"),
        ("fit a.npy b.npy -o .", "left alone"),
        ("fit a.npy b.npy -o a.npy", "left alone"),
        ("translate nowhere a.npy o.npy", "no translator at nowhere"),
        ("translate t b.npy o.npy", "reads (k, 24)"),
        ("translate t a.npy nofolder/o.npy", "nofolder"),
        ("translate t a.npy o.xyz", ".xyz"),
        ("translate t a.npy o.npy --batch 0", "0 is not in the range"),
        ("translate t a.npy a.npy", "is the source itself"),
        ("translate t a.npy?rows=0:9 ./a.npy", "is the source itself"),
        ("translate t a.npy a.npy?dtype=float16", "is the source itself"),
        ("migrate a.npy o.npy --translator t --min-retention nan", "'nan' is no number"),
        ("translate t a.npy o --plan --core-hour inf", "'inf' is no number"),
        ("serve t --max-body inf", "'inf' is no number"),
        ("evaluate t eb.npy ea.npy", "swap source and target"),
        ("evaluate t ea.npy b.npy", "500"),
        ("inspect", "Missing argument 'STORE'"),
        ("plugins --format yaml", "'yaml' is not one of"),
    ],
)
def test_a_users_mistake_gets_one_line_and_what_to_type_next(crossvec: Run, files: Path, words: str, told: str) -> None:
    assert told in refused(crossvec(*words.split()))
    assert not {"u", "o.npy"} & set(os.listdir())


def test_help_and_version_are_fine(crossvec: Run) -> None:
    from crossvec import __version__

    assert crossvec("--version")[:2] == (0, f"crossvec {__version__}\n")
    assert crossvec()[1] == crossvec("--help")[1] == crossvec("-h")[1]
    listed = [line.split()[0] for line in crossvec()[1].partition("Commands:\n")[2].splitlines() if line.startswith("  ")]
    assert listed[: len(cli.commands)] == list(cli.commands)


# Pairs


@pytest.mark.parametrize("ending", ["csv", "csv without a header", "jsonl", "jsonl of lists", "parquet", "npy"])
def test_pairs_of_row_numbers_are_read_from_every_format(crossvec: Run, files: Path, ending: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pairs = np.stack([np.arange(0, 1000, 2), np.arange(0, 1000, 2)], axis=1)
    name = f"p.{ending.split()[0]}"
    lines = [f"{a},{b}" for a, b in pairs]
    match ending:
        case "csv":
            Path(name).write_text("\n".join(["source,target", *lines]))
        case "csv without a header":
            Path(name).write_text("\n".join(lines))
        case "jsonl":
            Path(name).write_text("\n".join(f'{{"target": {b}, "source": {a}}}' for a, b in pairs))
        case "jsonl of lists":
            Path(name).write_text("\n".join(f"[{a}, {b}]" for a, b in pairs))
        case "parquet":
            pq.write_table(pa.table({"target": pairs[:, 1], "score": pairs[:, 0] * 0.1, "source": pairs[:, 0]}), name)
        case "npy":
            np.save(name, pairs)
    assert crossvec("fit", "a.npy", "b.npy", "-o", "u", "-a", "procrustes", "--pairs", name)[0] == 0
    assert Translator.load("u").card["pairs"] == 500
    told = json.loads(crossvec("evaluate", "u", "ea.npy", "eb.npy", "--format", "json")[1])
    assert told["forward"]["top1"] > 0.8


def test_pairs_of_ids_are_found_by_id(crossvec: Run, files: Path, twins: World) -> None:
    """The ids are numbers, but not row numbers: as ids they fit, as rows they would be other texts."""
    order = np.random.default_rng(0).permutation(1000)
    for name, rows, ids in (("a", twins.x, np.arange(1000)), ("b", twins.y[order], order)):
        Path(f"{name}.jsonl").write_text(
            "\n".join(json.dumps({"id": int(i), "vector": row.tolist()}) for i, row in zip(ids, rows, strict=True))
        )
    Path("p.csv").write_text("\n".join(f"{i},{i}" for i in range(1000)))
    assert crossvec("fit", "a.jsonl", "b.jsonl", "-o", "u", "-a", "procrustes", "--pairs", "p.csv")[0] == 0
    assert json.loads(crossvec("evaluate", "u", "ea.npy", "eb.npy", "--format", "json")[1])["forward"]["top1"] > 0.8


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.csv", "0,0\n1,1000", "pair 1: '1000' is no row of the target"),
        ("p.csv", "0,0\n1,one", "'one' is no row"),
        ("p.csv", "0,0,0", "is not two names"),
        ("p.csv", "", "holds no pairs"),
        ("p.csv", "source,target\n", "holds no pairs"),
        ("p.jsonl", '{"source": 1}', "no list of pairs"),
        ("p.jsonl", "{", "no list of pairs"),
        ("p.npy", "not an array", "no list of pairs"),
        ("p.parquet", "not a table", "p.parquet"),
        ("p.xls", "", "cannot tell what p.xls holds"),
        ("q.csv", None, "cannot read the pairs in q.csv"),
    ],
)
def test_a_wrong_file_of_pairs_says_what_is_wrong(crossvec: Run, files: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        Path(name).write_text(text)
    assert told in refused(crossvec("fit", "a.npy", "b.npy", "-o", "u", "--pairs", name))


# Bad vectors


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.empty((0, 8), np.float32), "0 rows"),
        (np.ones((1, 8), np.float32), "1 row"),
        (np.ones((200, 8), np.float32), "equal"),
        (np.full((200, 8), np.nan, np.float32), "NaN"),
        (np.zeros((200, 8), np.float32), "only zeros"),
        (np.ones(200, np.float32), "shape"),
        (np.ones((200, 8), np.complex64), "complex64"),
        (np.array([{"a": 1}] * 3, dtype=object), "rows.npy"),
    ],
    ids=["no rows", "one row", "equal rows", "NaN", "zeros", "one axis", "complex", "objects"],
)
def test_vectors_that_cannot_be_fitted_are_refused(crossvec: Run, files: Path, rows: np.ndarray, told: str) -> None:
    np.save("rows.npy", rows, allow_pickle=True)
    assert told in refused(crossvec("fit", "rows.npy", "b.npy", "-o", "u"))


def test_truncated_files_are_refused_by_every_verb(crossvec: Run, files: Path) -> None:
    whole = Path("a.npy").read_bytes()
    Path("cut.npy").write_bytes(whole[: len(whole) // 2])
    for words in ("inspect cut.npy", "fit cut.npy b.npy -o u", "translate t cut.npy o.npy", "evaluate t cut.npy eb.npy"):
        assert "cut.npy" in refused(crossvec(*words.split()))
    assert not Path("o.npy").exists()


def test_a_bad_row_is_named_and_nothing_is_written(crossvec: Run, files: Path, twins: World) -> None:
    rows = twins.x.copy()
    rows[777, 3] = np.nan
    np.save("bad.npy", rows)
    Path("o.npy").write_text("mine")
    assert "row 777" in refused(crossvec("translate", "t", "bad.npy", "o.npy"))
    assert Path("o.npy").read_text() == "mine"


@pytest.fixture
def holes(files: Path, twins: World) -> dict[str, list[int]]:
    """The paired stores once more, with bad rows: other ones on each side."""
    missing = {"a": [0, 77, 500], "b": [77, 78]}
    for name, rows in {"a": twins.x, "b": twins.y}.items():
        spoilt = rows.copy()
        spoilt[missing[name]] = np.nan
        np.save(f"holed-{name}.npy", spoilt)
        lines = ({"id": i, "vector": row.tolist()} for i, row in zip(range(1000, 0, -1), spoilt, strict=True))
        Path(f"holed-{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines).replace("NaN", "null"))
    return missing


@pytest.mark.parametrize("batch", [8192, 77, 1])
def test_translate_tells_which_bad_rows_it_left_out(
    crossvec: Run, holes: dict[str, list[int]], twins: World, batch: int
) -> None:
    code, out, err = crossvec("translate", "t", "holed-a.npy?bad_rows=drop", "o.npy", "--format", "json", "--batch", batch)
    told = json.loads(out)
    assert (code, told["rows"], told["skipped"]) == (0, 997, {"count": 3, "rows": holes["a"]})
    assert "3 bad rows: 0, 77, 500" in err
    kept = np.delete(twins.x, holes["a"], axis=0)
    assert np.abs(np.load("o.npy") - Translator.load("t").translate(kept)).max() < 1e-6
    assert "3 bad rows: 0, 77, 500" in crossvec("translate", "t", "holed-a.npy?bad_rows=drop", "o.npy")[2]


def test_evaluate_and_compare_leave_out_the_partners_of_bad_rows(crossvec: Run, holes: dict[str, list[int]]) -> None:
    both = "holed-a.npy?bad_rows=drop", "holed-b.npy?bad_rows=drop"
    code, out, err = crossvec("evaluate", "t", *both, "--format", "json")
    told = json.loads(out)
    assert (code, told["pool"], told["left_out"]) == (0, 996, 4)
    assert told["forward"]["top1"] > 0.8
    assert "3 bad rows" in err and "2 bad rows: 77, 78" in err
    pairs = json.loads(crossvec("compare", *both, "--paired", "--format", "json")[1])["pairs"]
    assert pairs["left_out"] == 4
    assert pairs["mutual_knn"] > 0.4


@pytest.mark.parametrize("given", ["--paired", "row numbers", "ids"])
def test_known_pairs_stay_pairs_when_bad_rows_are_left_out(crossvec: Run, holes: dict[str, list[int]], given: str) -> None:
    """The ids run backwards, so that as row numbers they would be other texts."""
    ending, words = ("npy", ["--paired"]) if given == "--paired" else ("npy", ["--pairs", "p.csv"])
    if given == "ids":
        ending = "jsonl"
    first = 1 if given == "ids" else 0
    Path("p.csv").write_text("\n".join(f"{i},{i}" for i in range(first, 1000 + first)))
    a, b = (f"holed-{side}.{ending}?bad_rows=drop" for side in "ab")
    _, _, err = crossvec("fit", a, b, "-o", "u", "-a", "procrustes", *words)
    assert Translator.load("u").card["pairs"] == 996
    assert given == "--paired" or "4 of the pairs in p.csv were left out" in err
    assert json.loads(crossvec("evaluate", "u", "ea.npy", "eb.npy", "--format", "json")[1])["forward"]["top1"] > 0.8


def test_compare_tries_a_short_search_unless_told_not_to(crossvec: Run, files: Path) -> None:
    code, out, _ = crossvec("compare", "ea.npy", "eb.npy", "--format", "json", "--seed", "3")
    told = json.loads(out)
    assert code == 0
    assert set(told["trial"]) >= {"reliability", "agreement", "agreement_null", "recovered"}
    assert json.loads(crossvec("compare", "ea.npy", "eb.npy", "--no-trial", "--format", "json")[1])["trial"] is None
    assert json.loads(crossvec("compare", "ea.npy", "eb.npy", "--paired", "--format", "json")[1])["trial"] is None


def test_a_file_is_not_translated_onto_itself(crossvec: Run, files: Path, twins: World) -> None:
    """What the old model gave would be lost, and a slice would leave only itself."""
    for dest in ("a.npy", "a.npy?dtype=float16", f"file://{files / 'a.npy'}"):
        assert "is the source itself" in refused(crossvec("translate", "t", "a.npy", dest))
    assert np.array_equal(np.load("a.npy"), twins.x)


def test_a_space_and_its_copy_share_coordinates(crossvec: Run, files: Path) -> None:
    shutil.copy("ea.npy", "copy.npy")
    assert "try the identity first" in crossvec("compare", "ea.npy", "copy.npy", "--paired")[1]
    assert crossvec("fit", "ea.npy", "copy.npy", "-o", "u", "-a", "identity")[0] in (0, 3)
    told = json.loads(crossvec("evaluate", "u", "ea.npy", "copy.npy", "--format", "json")[1])
    assert told["forward"]["top1"] == told["controls"]["identity"]["top1"] == 1
    assert any("share coordinates" in remark for remark in told["warnings"])


def test_evaluate_takes_k_and_seed(crossvec: Run, files: Path) -> None:
    def told(*words: str) -> dict[str, Any]:
        code, out, _ = crossvec("evaluate", "t", "ea.npy", "eb.npy", "--format", "json", *words)
        assert code == 0
        return dict(json.loads(out))

    assert told("--k", "37")["forward"]["top37"] >= told()["forward"]["top10"]
    assert told("--seed", "1") == told("--seed", "1")
    assert told("--seed", "1")["controls"]["shuffled"] != told("--seed", "2")["controls"]["shuffled"]
    assert "top-37" in crossvec("evaluate", "t", "ea.npy", "eb.npy", "--k", "37")[1]


@pytest.mark.parametrize("d", [1, 8192])
def test_very_narrow_and_very_wide_spaces_go_through(
    crossvec: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, d: int
) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", rng.standard_normal((60, d)).astype(np.float32))
    np.save("y.npy", rng.standard_normal((60, 5)).astype(np.float32))
    assert crossvec("fit", "x.npy", "y.npy", "-o", "u", "-a", "identity")[0] == 3
    assert crossvec("translate", "u", "x.npy", "o.npy")[0] == 0
    assert np.load("o.npy").shape == (60, 5)
    assert crossvec("evaluate", "u", "x.npy", "y.npy")[0] == 0
    assert crossvec("inspect", "x.npy")[0] == 0


# Could not finish


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (OSError(28, "No space left on device", "x.npy"), "could not finish: x.npy: No space left on device"),
        (ZeroDivisionError("division by zero"), "CROSSVEC_DEBUG=1"),
        (KeyboardInterrupt(), "interrupted, nothing was written"),
    ],
)
def test_what_cannot_finish_leaves_with_4(capsys: pytest.CaptureFixture[str], problem: BaseException, told: str) -> None:
    @click.group()
    def broken() -> None: ...

    @broken.command()
    def verb() -> None:
        raise problem

    code = exits.run(broken, ["verb"])
    out, err = capsys.readouterr()
    assert told in refused((code, out, err), 4)


def test_the_traceback_is_there_for_who_asks(crossvec: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossvec.errors import StoreError

    monkeypatch.setenv("CROSSVEC_DEBUG", "1")
    with pytest.raises(StoreError):
        crossvec("inspect", "nowhere.npy")


SLEEPY = '''
import sys, time
from dataclasses import dataclass, replace
from crossvec.aligners import ALIGNERS
from crossvec.stores import STORES, Description
from crossvec.space import Space

def doze():
    print("dozing", file=sys.stderr, flush=True)
    time.sleep(60)

@dataclass(frozen=True)
class Sleepy:
    """An aligner that never finishes."""
    seed: int = 0
    name = "sleepy"
    needs_pairs = False
    def fit(self, x, y, *, pairs=None, progress=None):
        doze()

@dataclass
class Slow:
    """A store whose second batch never comes."""
    address: object
    def describe(self):
        return Description(self.address.url, "slow", "slow", 1000, 24, "float32")
    def read(self, batch=8192):
        import numpy as np
        yield Space.of(np.load("a.npy")[:500])
        doze()

ALIGNERS["sleepy"] = "sleepy:Sleepy"
STORES["slow"] = "sleepy:Slow"
from crossvec.cli import main
main(sys.argv[1:])
'''


@pytest.mark.parametrize(
    ("words", "number"),
    [("fit a.npy b.npy -o t -a sleepy", signal.SIGINT), ("translate t slow://x o.npy", signal.SIGTERM)],
    ids=["Ctrl-C while fitting", "kill while translating"],
)
def test_an_interruption_leaves_everything_as_it_was(files: Path, words: str, number: signal.Signals) -> None:
    (files / "sleepy.py").write_text(textwrap.dedent(SLEEPY))
    (files / "o.npy").write_text("mine")
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    child = subprocess.Popen(
        [sys.executable, "-B", "sleepy.py", *words.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr
    first = child.stderr.readline()
    assert "dozing" in first, first + child.stderr.read()
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 4
    assert out == ""
    assert err.strip().splitlines() == ["error: interrupted, nothing was written"]
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", ["fit a.npy b.npy -o t -a procrustes --paired", "translate t a.npy o.npy"])
def test_a_full_disk_leaves_everything_as_it_was(crossvec: Run, files: Path, words: str) -> None:
    """A limit on the size of files is met in the same place as the end of a disk, and binds root too."""
    (files / "o.npy").write_text("mine")
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        told = crossvec(*words.split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "nothing" in refused(told, 4)
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root may write")
def test_a_read_only_place_is_refused_before_the_work(crossvec: Run, files: Path) -> None:
    assert "cannot write /proc/self/u" in refused(crossvec("fit", "nowhere.npy", "b.npy", "-o", "/proc/self/u"))
    assert "/proc/self/o.npy" in refused(crossvec("translate", "t", "a.npy", "/proc/self/o.npy"))


def test_a_reader_that_leaves_early_is_no_error(files: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m crossvec plugins | head -1",
        shell=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout
    assert done.stderr == ""


# Progress


def test_short_work_is_silent_and_long_work_is_told_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec.cli import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.shown() as step:
        for second in range(30):
            now[0] = second
            step("searching", second / 30)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [" 10% searching", " 47% searching", " 83% searching"]


def test_a_terminal_sees_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from crossvec.cli import progress

    monkeypatch.setattr(progress, "SILENT_SECONDS", -1.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown() as step:
        step("searching", 0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert "searching" in err


def test_verbs_take_any_words_without_a_traceback(crossvec: Run, files: Path) -> None:
    words: list[Any] = ["", " ", "?", "a.npy?rows=", "\0", "://", "file://", "a" * 5000, "t"]
    for word in words:
        refused(crossvec("fit", word, "b.npy", "-o", "u"))
        refused(crossvec("translate", "t", word, "o.npy"))
        refused(crossvec("evaluate", word, "ea.npy", "eb.npy") if word != "t" else crossvec("evaluate", "t", "t", "t"))


def test_sentences_in_a_table_are_told_apart() -> None:
    from rich.console import Console

    from crossvec.report.text import _pairs

    console = Console(width=120)
    with console.capture() as shown:
        console.print(_pairs("what", {"notes": ["rows repeat, some twice", "few rows"], "tops": [1, 10]}))
    assert "rows repeat, some twice; few rows" in shown.get()
    assert "1 10" in shown.get()
