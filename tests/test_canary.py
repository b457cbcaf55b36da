"""test_canary — planted secrets: never real, found in a dump and in recovered texts, and never where they are not."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoding import vector

from crossvec import Space, stores
from crossvec.audit import canaries
from crossvec.audit.canaries import KINDS, STRANGERS, Planted, Sighting, in_rows, in_texts, plant, read
from crossvec.cli import cli, exits
from crossvec.errors import UsageError

DIM = 64
Run = Callable[..., tuple[int, dict[str, Any]]]


class Hashed:
    """An encoder of the tests' own: the sum of its words' random vectors."""

    name, version, dim = "hashed", "", DIM

    def encode(self, texts: list[str], *, query: bool = False, progress: object = None) -> np.ndarray:
        return np.stack([np.sum([vector(word, DIM) for word in text.lower().split()], axis=0) for text in texts])


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(12, Hashed(), canaries.whole_numbers, seed=1)


def dump(planted: Planted, keep: slice = slice(None), rows: int = 300) -> Space:
    """A store of other texts, with some of the canaries in it."""
    rng = np.random.default_rng(2)
    others = Hashed().encode([f"{' '.join(rng.choice(canaries.NOUNS, 6))} {row}" for row in range(rows)])
    kept = planted.canaries[keep]
    return Space.of(np.concatenate([others, planted.vectors[keep]]), [*range(rows), *(one.id for one in kept)])


def test_no_canary_can_be_real_and_none_is_like_another(planted: Planted) -> None:
    everyone = [*planted.canaries, *planted.strangers]
    assert len({one.name for one in everyone}) == len({one.secret for one in everyone}) == 12 + STRANGERS
    assert {one.kind for one in planted.canaries} == set(KINDS)
    real = {
        "password": r"(\w{4}-){3}\w{4}",
        "iban": r"ZZ\d\d( \d{4}){4}",  # a country code that is nobody's
        "email": r"[a-z.]+\d{4}@example\.org",
        "phone": r"\+1 \d{3} 555 01\d\d",
    }
    assert all(re.fullmatch(real[one.kind], one.secret) for one in everyone)
    assert all(one.secret in one.text and " ".join(one.name) in one.text for one in everyone)


def test_canaries_cannot_be_guessed_unless_a_seed_is_given() -> None:
    def names(seed: int | None) -> list[str]:
        return [one.secret for one in plant(8, Hashed(), canaries.names_of_rows, seed=seed).canaries]

    assert names(3) == names(3)
    assert not set(names(None)) & set(names(None))


def test_what_is_written_is_read_back_and_nobody_else_may_read_it(planted: Planted, tmp_path: Path) -> None:
    path = tmp_path / "canaries.json"
    planted.write(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    again = read(path)
    assert (again.canaries, again.strangers, again.model, again.day) == (
        planted.canaries,
        planted.strangers,
        planted.model,
        planted.day,
    )
    assert np.array_equal(again.vectors, planted.vectors) and np.array_equal(again.strange, planted.strange)
    with pytest.raises(UsageError, match="already"):
        planted.write(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda told: told.update(schema="crossvec-canaries/9"), "crossvec-canaries/9"),
        (lambda told: told.pop("strangers"), "no file of canaries"),
        (lambda told: told["canaries"].clear(), "no file of canaries"),
        (lambda told: told["canaries"][0].update(vector="AAA"), "no file of canaries"),
        (lambda told: told["canaries"][0].update(vector=""), "no file of canaries"),
        (lambda told: told["canaries"][0].update(secret=""), "no file of canaries"),
    ],
)
def test_a_damaged_file_is_refused_in_words(planted: Planted, tmp_path: Path, spoil: Any, says: str) -> None:
    path = tmp_path / "canaries.json"
    planted.write(path)
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(UsageError, match=says) as refused:
        read(path)
    assert not any(one.secret in str(refused.value) for one in planted.canaries)


def test_a_dump_is_known_by_its_canaries_and_tells_which_rows(planted: Planted) -> None:
    found = in_rows(planted, dump(planted).batches(100), "dump")
    assert found.verdict == "found"
    assert [(one.canary.id, one.at) for one in found.seen] == [(one.id, one.id) for one in planted.canaries]
    assert (found.strangers_seen, found.looked_at) == (0, 312)
    part = in_rows(planted, [dump(planted, slice(3, 5))], "part of a dump")
    assert [one.canary for one in part.seen] == list(planted.canaries[3:5])


def test_a_store_without_them_shows_none_even_when_it_holds_another_planters(planted: Planted) -> None:
    assert in_rows(planted, [dump(planted, slice(0, 0))], "another store").verdict == "not found"
    others = plant(200, Hashed(), canaries.whole_numbers, seed=2)
    assert in_rows(planted, [Space.of(others.vectors)], "another planter's").verdict == "not found"


@pytest.mark.parametrize("stored", ["scaled", "float16", "int8", "noise", "cut short"])
def test_canaries_are_known_again_however_rows_are_stored(planted: Planted, stored: str) -> None:
    x = dump(planted).array()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = {
        "scaled": lambda: 17 * x,
        "float16": lambda: x.astype(np.float16),
        "int8": lambda: np.round(x * 127 / np.abs(x).max()).astype(np.int8),
        "noise": lambda: x + np.random.default_rng(0).normal(0, 0.01, x.shape),
        "cut short": lambda: np.ascontiguousarray(x[:, :48]),
    }[stored]()
    found = in_rows(planted, [Space.of(x)], stored)
    assert (found.verdict, len(found.seen)) == ("found", 12)


def test_what_cannot_be_told_is_not_called_clean(planted: Planted) -> None:
    wide = in_rows(planted, [Space.of(np.ones((5, DIM + 1), np.float32))], "another model's")
    assert wide.verdict == "unknown" and "dimensions" in wide.untold
    assert in_rows(planted, [Space.of(np.empty((0, DIM), np.float32))], "empty").verdict == "unknown"
    assert in_texts(planted, ["", "…"], "nothing").verdict == "unknown"
    vague = in_rows(planted, [dump(planted)], "no threshold", near=-1.0)
    assert len(vague.seen) == 12 and vague.strangers_seen == STRANGERS
    assert vague.verdict == "unknown"  # what finds those that were never planted finds nothing


@pytest.mark.parametrize(
    ("seen", "of", "false", "verdict"),
    [(0, 12, 0, "not found"), (1, 12, 0, "found"), (0, 12, 9, "not found"), (1, 12, 2, "unknown"), (12, 12, 2, "found")],
)
def test_a_few_strangers_do_not_hide_what_is_surely_more(
    planted: Planted, seen: int, of: int, false: int, verdict: str
) -> None:
    sightings = tuple(canaries.Seen(one, "name", 0) for one in planted.canaries[:seen])
    assert Sighting("here", 50, sightings, of, false, STRANGERS).verdict == verdict


def test_recovered_secrets_are_found_however_they_are_spaced_and_names_by_their_words(planted: Planted) -> None:
    first, second, third = planted.canaries[:3]
    told = [
        "nothing of interest",
        f"... {first.secret.replace('-', ' ').upper()} ...",
        f"the {second.name[2]} with {second.name[0]}, {second.name[1]}",
        f"{third.name[0]} {third.name[1]}",  # two words of a name are no name
    ]
    found = in_texts(planted, told, "recovered")
    assert [(one.canary, one.by, one.at) for one in found.seen] == [(first, "secret", 1), (second, "name", 2)]
    assert (found.verdict, found.strangers_seen) == ("found", 0)


def test_a_text_of_all_words_names_everybody_and_tells_nothing(planted: Planted) -> None:
    everything = " ".join([*canaries.ADJECTIVES, *canaries.NOUNS, *canaries.PLACES])
    found = in_texts(planted, [everything], "a dictionary")
    assert len(found.seen) == 12 and found.strangers_seen == STRANGERS
    assert found.verdict == "unknown"


def test_a_report_of_sightings_holds_no_secret(planted: Planted) -> None:
    told = json.dumps(in_texts(planted, [one.text for one in planted.canaries], "all").to_json())
    assert not [one for one in planted.canaries if one.secret in told or one.name[0] in told]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="no kind of canary 'passport'") as refused:
        plant(3, Hashed(), canaries.whole_numbers, kinds=["passport"])
    assert "password" in refused.value.hint
    assert {one.kind for one in plant(3, Hashed(), canaries.whole_numbers, kinds=["email"]).canaries} == {"email"}


# The command line, with a model of its own and real stores


@pytest.fixture
def crossvec(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: its exit code and the record it puts out."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = exits.run(cli, [*words, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A static model that knows the words of canaries."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = [*map(chr, range(97, 123)), *map(str, range(10))]
    words = ["[PAD]", "[UNK]", *letters, *canaries.ADJECTIVES, *canaries.NOUNS, *canaries.PLACES]
    words += [f"##{one}" for one in letters]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    vectors = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 32)).astype(np.float32)
    folder = tmp_path_factory.mktemp("model")
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return f"static:{folder}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store of 50 rows with ids and texts."""
    rows = np.random.default_rng(1).standard_normal((50, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    path = str(tmp_path / "store.parquet")
    stores.open(path).write(
        [Space.of(rows, [f"doc-{i}" for i in range(50)], {"text": [f"text {i}" for i in range(50)], "year": range(50)})]
    )
    return path


def test_a_dry_run_writes_nothing(crossvec: Run, store: str, model: str, tmp_path: Path) -> None:
    before = sorted(os.listdir(tmp_path))
    code, told = crossvec("canary", "plant", store, "-m", model, "-o", f"{tmp_path}/c.json", "--to", f"{tmp_path}/new.parquet")
    assert (code, told["dry_run"], told["ids"]) == (0, True, [])
    assert sorted(os.listdir(tmp_path)) == before


def test_the_record_stays_where_an_interruption_came_after_the_canaries_were_in_place(
    crossvec: Run, store: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, copy = f"{tmp_path}/c.json", f"{tmp_path}/copy.parquet"

    def strike(_folder: Path) -> None:
        if os.path.exists(copy):
            raise KeyboardInterrupt

    monkeypatch.setattr("crossvec.stores.atomic.to_disk", strike)
    code, told = crossvec("canary", "plant", store, "-m", model, "-o", kept, "--seed", "3", "--to", copy, "--write")
    assert code == 4 and "some canaries may be in" in told["error"]
    assert list(stores.open(copy).load().ids)[50:] == [one.id for one in read(kept).canaries]


def test_planted_in_the_copy_of_a_file_they_are_found_there_and_not_in_the_file(
    crossvec: Run, store: str, model: str, tmp_path: Path
) -> None:
    kept, copy = f"{tmp_path}/c.json", f"{tmp_path}/copy.parquet"
    code, told = crossvec("canary", "plant", store, "-m", model, "-o", kept, "-n", "5", "--seed", "3", "--to", copy, "--write")
    assert (code, told["file"], len(told["ids"])) == (0, kept, 5)
    whole = stores.open(copy).load()
    assert (len(whole), len(stores.open(store).load())) == (55, 50)
    assert list(whole.ids)[50:] == told["ids"]
    assert whole.records()[0] == {"text": "text 0", "year": 0}
    assert [row["text"] for row in whole.records()[50:]] == [one.text for one in read(kept).canaries]
    assert np.allclose(np.linalg.norm(whole.array(), axis=1), 1, atol=1e-5)  # as the store's own rows
    code, found = crossvec("canary", "verify", kept, "--store", copy)
    assert (code, found["sightings"][0]["verdict"]) == (1, "found")
    assert [one["at"] for one in found["sightings"][0]["seen"]] == told["ids"]
    assert crossvec("canary", "verify", kept, "--store", store)[0] == 0


def test_planted_in_a_database_they_are_added_to_its_rows(crossvec: Run, model: str, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    place, kept = f"duckdb://{tmp_path}/file.db/books", f"{tmp_path}/c.json"
    rows = np.random.default_rng(1).standard_normal((40, 32)).astype(np.float32)
    stores.open(place).write([Space.of(rows, range(40), {"content": [f"text {i}" for i in range(40)]})])
    code, told = crossvec("canary", "plant", place, "-m", model, "-o", kept, "--seed", "3", "--write")
    assert code == 0 and all(isinstance(one, int) for one in told["ids"])
    whole = stores.open(place).load()
    assert len(whole) == 52 and set(told["ids"]) <= set(map(int, whole.ids))
    assert crossvec("canary", "verify", kept, "--store", place)[0] == 1


def test_rows_without_ids_are_told_by_their_numbers(crossvec: Run, model: str, tmp_path: Path) -> None:
    np.save(tmp_path / "store.npy", np.random.default_rng(1).standard_normal((20, 32)).astype(np.float32))
    words = ("canary", "plant", f"{tmp_path}/store.npy", "-m", model, "-o", f"{tmp_path}/c.json", "-n", "2", "--seed", "3")
    code, told = crossvec(*words, "--to", f"{tmp_path}/copy.npy", "--write")
    assert (code, told["ids"]) == (0, [20, 21])
    code, found = crossvec("canary", "verify", f"{tmp_path}/c.json", "--store", f"{tmp_path}/copy.npy")
    assert (code, [one["at"] for one in found["sightings"][0]["seen"]]) == (1, [20, 21])


@pytest.mark.parametrize("ending", ["txt", "md", "json", "jsonl", "csv"])
def test_recovered_texts_are_read_from_every_format(crossvec: Run, planted: Planted, tmp_path: Path, ending: str) -> None:
    planted.write(tmp_path / "c.json")
    texts, path = ["a text", planted.canaries[7].text, "another"], tmp_path / f"told.{ending}"
    if ending in ("txt", "md"):
        path.write_text("\n".join(texts))
    elif ending == "json":
        path.write_text(json.dumps({"readings": [{"details": {"texts": texts}}]}))
    else:
        lines = (
            [json.dumps({"text": text}) for text in texts] if ending == "jsonl" else ["text", *(f'"{text}"' for text in texts)]
        )
        path.write_text("\n".join(lines))
    code, told = crossvec("canary", "verify", f"{tmp_path}/c.json", "--recovered", str(path))
    assert code == 1
    assert [(one["id"], one["by"], one["at"]) for one in told["sightings"][0]["seen"]] == [
        (planted.canaries[7].id, "secret", 1)
    ]


def test_a_reader_is_told_what_was_found_where_and_beside_what_control(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path / "c.json")
    (tmp_path / "[b]found.txt").write_text(planted.canaries[0].text)
    (tmp_path / "empty.md").write_text("")
    places = ("--recovered", f"{tmp_path}/[b]found.txt", "--recovered", f"{tmp_path}/empty.md")
    assert exits.run(cli, ["canary", "verify", f"{tmp_path}/c.json", *places]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "/[b]found.txt: 1 of 12 canaries found (1 looked at; 0 of 100 that were never planted seen)" in told
    assert f"{planted.canaries[0].id} (password) by its secret at 0" in told
    assert "cannot be told: it has no texts" in told
    assert planted.canaries[0].secret not in told


def test_the_worst_of_several_places_decides(crossvec: Run, planted: Planted, tmp_path: Path) -> None:
    planted.write(tmp_path / "c.json")
    (tmp_path / "clean.txt").write_text("nothing here\n")
    (tmp_path / "found.txt").write_text(planted.canaries[0].text)
    (tmp_path / "empty.md").write_text("")
    clean, found, empty = (("--recovered", f"{tmp_path}/{name}") for name in ("clean.txt", "found.txt", "empty.md"))
    verify = ("canary", "verify", f"{tmp_path}/c.json")
    assert crossvec(*verify, *clean)[0] == 0
    assert crossvec(*verify, *clean, *empty)[0] == 3
    assert crossvec(*verify, *clean, *empty, *found)[0] == 1


def test_a_users_mistake_gets_what_to_type_next(crossvec: Run, store: str, model: str, tmp_path: Path) -> None:
    kept = ("-o", f"{tmp_path}/c.json")
    for words, says in (
        (("plant", store, "-m", model, *kept, "--write"), "--to"),
        (("plant", store, "-m", model, "-o", store, "--to", "x.npy"), "a new name"),
        (("plant", store, "-m", model, *kept, "--to", f"{store}?dtype=float16", "--write"), "the store itself"),
        (("plant", store, "-m", model, *kept, "--to", f"file://{store}", "--write"), "the store itself"),
        (("plant", "sample.npy", "-m", model, *kept), "sample.npy"),
        (("verify", store), "--store"),
        (("verify", store, "--store", store), "canary plant"),
        (("verify", f"{tmp_path}/none.json", "--store", store), "check the path"),
    ):
        code, told = crossvec("canary", *words)
        assert code == 2 and says in told["error"] + told["hint"], words
    np.save(tmp_path / "wide.npy", np.ones((3, 7), np.float32))
    code, told = crossvec("canary", "plant", f"{tmp_path}/wide.npy", "-m", model, *kept, "--to", f"{tmp_path}/x.npy", "--write")
    assert code == 2 and "name the model" in told["hint"]
    assert not (tmp_path / "c.json").exists()
