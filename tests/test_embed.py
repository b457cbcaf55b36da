"""test_embed — files of texts, and the verb `crossvec embed`: every row arrives, with its id and payload, or nothing does."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import encoding
import numpy as np
import pytest
from conftest import Run
from encoding import Answer, Endpoint, failure
from hypothesis import given
from hypothesis import strategies as st

from crossvec import encoders, stores, texts
from crossvec.errors import SpaceError, StoreError

SOURCES = Path(__file__).parents[1] / "src"
RECORDS = [{"id": f"r{i}", "title": f"t{i}", "text": f"cat {i} sat", "year": 1900 + i} for i in range(30)]
TEXTS = [record["text"] for record in RECORDS]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the same 30 texts in every format, and a model."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pytest.importorskip("model2vec")
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "CROSSVEC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    encoding.save_static(tmp_path / "model")
    Path("t.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    lines = "".join(f"{json.dumps(record)}\n" for record in RECORDS)
    Path("t.jsonl").write_text(lines)
    Path("t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(RECORDS), "t.parquet", row_group_size=7)
    for name, comma in {"t.csv": ",", "t.tsv": "\t"}.items():
        rows = [list(RECORDS[0]), *([f'"{value}"' for value in record.values()] for record in RECORDS)]
        Path(name).write_text("\r\n".join(comma.join(row) for row in rows))
    return tmp_path


@pytest.fixture
def server() -> Iterator[Endpoint]:
    pytest.importorskip("openai")
    with encoding.endpoint() as running:
        yield running


def right(rows: list[str] = TEXTS) -> np.ndarray:
    return encoders.open("static:model").encode(rows)


def refused(told: tuple[int, str, str], code: int = 2) -> str:
    assert told[:2] == (code, ""), told
    lines = told[2].splitlines()
    assert [line.split(":")[0] for line in lines if line] == ["error", "hint"]
    return told[2]


# What the verb promises


def test_embed_prints_one_object_and_writes_every_row(crossvec: Run, here: Path) -> None:
    code, out, _ = crossvec("embed", "t.txt", "o.npy", "-m", "static:model", "--format", "json", "--batch", "7")
    told = json.loads(out)
    assert code == 0
    assert {"rows", "dim", "seconds", "dest", "model"} <= set(told)
    assert (told["rows"], told["dim"], told["dest"], told["model"]) == (30, 8, "o.npy", "static:model")
    assert np.array_equal(np.load("o.npy"), right())


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.parquet", "t.csv", "t.tsv"])
def test_ids_and_payload_come_along_from_every_format(crossvec: Run, here: Path, name: str) -> None:
    assert crossvec("embed", name, "o.parquet", "-m", "static:model", "--batch", "7")[0] == 0
    space = stores.open("o.parquet").load()
    assert np.array_equal(space.array(), right())
    assert list(map(str, space.ids_or_numbers())) == [record["id"] for record in RECORDS]
    years = str if name.endswith("sv") else int
    assert space.records() == [
        {"title": record["title"], "text": record["text"], "year": years(record["year"])} for record in RECORDS
    ]


def test_the_column_of_texts_can_be_chosen(crossvec: Run, here: Path) -> None:
    assert crossvec("embed", "t.jsonl?column=title&id=year&keep=ids", "o.npz", "-m", "static:model")[0] != 0  # t0 is unknown
    assert crossvec("embed", "t.jsonl?column=text&id=year&keep=ids", "o.npz", "-m", "static:model")[0] == 0
    assert list(stores.open("o.npz").load().ids_or_numbers()) == [record["year"] for record in RECORDS]


def test_a_line_can_be_kept_as_payload(crossvec: Run, here: Path) -> None:
    assert crossvec("embed", "t.txt?column=line", "o.parquet", "-m", "static:model")[0] == 0
    assert stores.open("o.parquet").load().records() == [{"line": text} for text in TEXTS]


def test_a_slice_of_the_rows_is_taken(crossvec: Run, here: Path) -> None:
    assert crossvec("embed", "t.csv?rows=5:12&keep=vectors", "o.npy", "-m", "static:model", "--batch", "3")[0] == 0
    assert np.array_equal(np.load("o.npy"), right(TEXTS[5:12]))


def test_bad_rows_are_refused_by_number_or_left_out_and_listed(crossvec: Run, here: Path) -> None:
    lines = ["cat", "", "dog", "   ", "日本", "sat"]  # the model knows nothing in the fifth
    Path("holes.txt").write_text("\n".join(lines), encoding="utf-8")
    assert "row 1 of holes.txt has no text" in refused(crossvec("embed", "holes.txt", "o.npy", "-m", "static:model"))
    assert not Path("o.npy").exists()
    words = ("embed", "holes.txt?bad_rows=drop", "o.npy", "-m", "static:model", "--format", "json", "--batch", "2")
    code, out, err = crossvec(*words)
    told = json.loads(out)
    assert (code, told["rows"], told["skipped"]) == (0, 3, [1, 3, 4])
    assert "left out 3 of 6 rows" in err
    assert np.array_equal(np.load("o.npy"), right(["cat", "dog", "sat"]))


def test_a_text_in_which_the_model_knows_nothing_is_refused_by_number(crossvec: Run, here: Path) -> None:
    Path("holes.txt").write_text("cat\nxyzzy\n")
    assert "row 1" in refused(crossvec("embed", "holes.txt", "o.npy", "-m", "static:model"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("nowhere.txt o.npy -m static:model", "there is no file nowhere.txt"),
        ("t.doc o.npy -m static:model", ".jsonl"),
        ("model o.npy -m static:model", "name a folder for them"),
        ("t.txt o.xyz -m static:model", ".xyz"),
        ("t.txt nofolder/o.npy -m static:model", "mkdir -p nofolder"),
        ("t.txt o.npy -m static:nowhere", "there is no folder nowhere"),
        ("t.txt o.npy", "Missing option '-m'"),
        ("t.txt?rows=0:31 o.npy -m static:model", "has 30 rows"),
        ("t.txt?colum=x o.npy -m static:model", "did you mean column?"),
        ("t.jsonl?column=txt o.npy -m static:model", "did you mean text?"),
        ("t.jsonl?column=year o.npy -m static:model", "int under 'year', not text"),
        ("t.jsonl?id=idd o.npy -m static:model", "did you mean id?"),
        ("t.jsonl?keep=none o.npy -m static:model", "use one of all, ids, vectors"),
        ("t.jsonl o.npy -m static:model", "cannot carry the ids and payload"),
        ("empty.txt o.npy -m static:model", "holds no texts"),
        ("twocolumns.jsonl o.npy -m static:model", "?column=a"),
        ("cut.jsonl o.npy -m static:model", "row 1 of cut.jsonl is not JSON"),
        ("list.jsonl o.npy -m static:model", "is not a JSON object"),
        ("short.csv o.npy -m static:model", "row 1 of short.csv has 1 fields, not 2"),
        ("latin.txt o.npy -m static:model", "is not UTF-8"),
        ("not.parquet o.npy -m static:model", "cannot be read as .parquet"),
        ("t.txt o.npy -m static:model --cache t.txt", "cannot be a cache"),
        ("t.jsonl?bad_rows=drop t.jsonl -m static:model", "is the source itself"),
        ("t.txt o.npy -m openai:m@http://127.0.0.1:9/v1", "--send-texts"),
    ],
)
def test_a_users_mistake_gets_one_line_and_what_to_type_next(crossvec: Run, here: Path, words: str, told: str) -> None:
    Path("empty.txt").write_text("")
    Path("t.doc").write_text("")
    Path("twocolumns.jsonl").write_text('{"a": "cat", "b": "dog"}\n')
    Path("cut.jsonl").write_text('{"text": "cat"}\n{"text": "do')
    Path("list.jsonl").write_text("[1]\n")
    Path("short.csv").write_text("text,id\ncat,1\ndog\n")
    Path("latin.txt").write_bytes("Müller\n".encode("latin-1"))
    Path("not.parquet").write_bytes(b"PAR1 is no table")
    before = set(os.listdir())
    if "openai" in words:
        pytest.importorskip("openai")
    assert told in refused(crossvec("embed", *words.split()))
    assert set(os.listdir()) == before


# Endpoints: leave, cost, interruption


def test_a_dry_run_tells_the_cost_and_touches_nothing(crossvec: Run, here: Path, server: Endpoint) -> None:
    model = f"{server.name('&batch=10&price=1')}"
    before = set(os.listdir())
    code, out, _ = crossvec("embed", "t.txt", "o.npy", "-m", model, "--dry-run", "--cache", "c", "--format", "json")
    told = json.loads(out)
    assert (code, told["rows"], told["to_encode"], told["requests"]) == (0, 30, 30, 3)
    assert told["usd"] == pytest.approx(told["tokens"] / 1e6)
    assert "30 of 30 texts" in crossvec("embed", "t.txt", "o.npy", "-m", model, "--dry-run")[1]
    assert set(os.listdir()) == before
    assert server.requests == []


def test_the_cost_is_told_before_the_first_text_is_sent(crossvec: Run, here: Path, server: Endpoint) -> None:
    server.script = [failure(400)]
    code, _, err = crossvec("embed", "t.txt", "o.npy", "-m", server.name("&price=1"), "--send-texts")
    assert code == 2
    assert "30 of 30 texts to encode: 1 requests" in err.splitlines()[0]


def test_a_run_that_broke_off_leaves_nothing_and_goes_on_from_the_cache(crossvec: Run, here: Path, server: Endpoint) -> None:
    words = ("embed", "t.txt", "o.npy", "-m", server.name("&batch=5"), "--send-texts", "--cache", "c", "--batch", "10")
    server.script = [Answer(), Answer(), Answer(), failure(400)]
    assert crossvec(*words)[0] == 2
    assert not [name for name in os.listdir() if "o.npy" in name]
    server.requests.clear()
    code, out, _ = crossvec(*words, "--format", "json")
    assert (code, json.loads(out)["rows"], json.loads(out)["cached"]) == (0, 30, 10)
    assert server.texts == TEXTS[10:]
    assert np.allclose(np.load("o.npy"), [encoding.vector(text) for text in TEXTS])


def test_ctrl_c_leaves_everything_as_it_was(here: Path) -> None:
    (here / "o.npy").write_text("mine")
    (here / "asleep.py").write_text(
        textwrap.dedent("""
        import sys, time
        from crossvec import encoders
        from crossvec.encoders.batched import Batched

        class Asleep(Batched):
            dim, batch = 3, 10
            def _rows(self, texts, query):
                if "cat 10 sat" in texts:
                    print("dozing", file=sys.stderr, flush=True)
                    time.sleep(60)
                return [[1.0, 2.0, 3.0]] * len(texts)

        encoders.ENCODERS["asleep"] = "asleep:opened"
        opened = lambda request: Asleep(request.name)
        from crossvec.cli import main
        if __name__ == "__main__":
            main(sys.argv[1:])
        """)
    )
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    child = subprocess.Popen(
        [sys.executable, "-B", "asleep.py", "embed", "t.txt", "o.npy", "-m", "asleep", "--batch", "10"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr
    assert "dozing" in (first := child.stderr.readline()), first + child.stderr.read()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err.strip()) == (4, "error: interrupted, nothing was written")
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


# Files of texts


def test_the_number_of_rows_and_the_rows_agree(here: Path) -> None:
    for name in ("t.txt", "t.jsonl", "t.jsonl.gz", "t.csv", "t.tsv", "t.parquet", "t.parquet?rows=3:25"):
        file = texts.open(name)
        batches = list(file.read(4))
        assert file.rows() == sum(map(len, batches))
        start = 3 if "rows" in name else 0
        assert [number for batch in batches for number in batch.numbers] == list(range(start, start + file.rows()))
        assert all(len(batch) == 4 for batch in batches[:-1])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1, max_size=8))
def test_any_texts_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "t.txt").write_bytes("\n".join(rows).encode())
    (folder / "t.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    quoted = ['"' + row.replace('"', '""') + '"' for row in rows]
    (folder / "t.csv").write_bytes("\n".join(["text", *quoted]).encode())
    for name in ("t.txt", "t.jsonl", "t.csv"):
        read = [text for batch in texts.open(folder / name).read(3) for text in batch.texts]
        first = (
            rows[0].removeprefix("\ufeff") if name == "t.txt" else rows[0]
        )  # a byte order mark at a file's start is none of it
        assert read == [first, *rows[1:]], name


def test_a_field_may_hold_line_ends_and_a_megabyte(tmp_path: Path) -> None:
    long = "word " * 200_000
    (tmp_path / "t.csv").write_text(f'id,text\n1,"one\ntwo"\n2,"{long}"\n')
    (batch,) = texts.open(tmp_path / "t.csv").read()
    assert batch.texts == ["one\ntwo", long]


def test_a_file_made_on_windows_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    (batch,) = texts.open(tmp_path / "t.txt").read()
    assert batch.texts == ["cat", "dog"]


def test_missing_texts_and_keys_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "cat"}\n{"text": null}\n{"other": 1}\n')
    with pytest.raises(StoreError, match="row 1 of"):
        list(texts.open(tmp_path / "t.jsonl").read())
    (batch,) = texts.open(f"{tmp_path / 't.jsonl'}?bad_rows=drop").read()
    assert batch.bad == (1, 2)


def test_duplicate_ids_are_refused(here: Path) -> None:
    Path("d.jsonl").write_text('{"id": 1, "text": "cat"}\n{"id": 1, "text": "dog"}\n')
    file = texts.open("d.jsonl")
    with pytest.raises(SpaceError, match="same id"):
        list(texts.embed(file.read(), encoders.open("static:model"), rows=2))
