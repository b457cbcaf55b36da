"""test_faults — what the verbs that write do when the disk is full, when they are killed, and when a place or a file is bad.

Each fault strikes a real run of the command line, in a process of its own: one that has everything imported forks for each of
them (`serve`). A limit on the size of files stands in for the end of a disk: a write that reaches it fails, also for root and
in libraries that are not Python's; or it kills, where the signal is not ignored. Ctrl-C comes at changes of the file system.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SOURCES = Path(__file__).parents[1] / "src"
PATIENCE = 120  # seconds after which a run is taken to hang

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "shutil.rmtree"}
"""What a program asks of the file system, as audit events of Python; and opening a file to write."""


# The process that forks


def serve() -> None:
    """Read a run a line, fork for it, and answer with how it ended and what it said."""
    for module in WARM:
        with suppress(ImportError):
            import_module(module)
    for line in sys.stdin:
        told = json.loads(line)
        out, err = os.pipe(), os.pipe()  # which no limit on files binds; they hold what a run says
        child = os.fork()
        if not child:
            _run(**told, says=(out[1], err[1]))
        os.close(out[1]), os.close(err[1])
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, *(os.fdopen(end[0], encoding="utf-8").read() for end in (out, err))]), flush=True)


WARM = """
crossvec.cli crossvec.fitting crossvec.report crossvec.report.audit.html crossvec.report.audit.junit crossvec.report.audit.sarif
crossvec.report.audit.markdown crossvec.report.migration crossvec.migration crossvec.scale.job crossvec.audit.probes.fingerprint
crossvec.audit.probes.inversion crossvec.audit.canaries crossvec.stores.npy crossvec.stores.tables crossvec.stores.jsonl
crossvec.encoders.static crossvec.encoders.cache model2vec.hf_utils huggingface_hub.hf_api httpx2 pandas rich.markdown
matplotlib.figure matplotlib.backends.backend_agg
""".split()


def _run(
    words: list[str],
    folder: str,
    says: tuple[int, int],
    size: int | None = None,
    kills: bool = False,
    change: int | None = None,
    stdout: str | None = None,
) -> None:
    """Run the words in a folder, struck as the rest says, and end."""
    from crossvec.cli import main

    signal.alarm(PATIENCE)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(stdout, os.O_WRONLY) if stdout else says[0], 1)
    os.dup2(says[1], 2)
    os.chdir(folder)
    if size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if change is not None:
        _strike(change, kills, folder)
    code = 70
    try:
        main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _strike(change: int, kills: bool, folder: str) -> None:
    """Press Ctrl-C, or kill, at the change of this number, counted from 0, of what lies in the folder."""
    left = [change]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES) or not isinstance(given[0], (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(given[0]))
        if not path.startswith(os.path.realpath(folder)) or "__pycache__" in path:
            return
        left[0] -= 1
        if left[0] == -1:
            if kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    sys.addaudithook(hook)


@dataclass
class Shell:
    """Runs command lines, with or without a fault."""

    server: subprocess.Popen[str]

    def __call__(self, line: str, folder: Path, **fault: Any) -> tuple[int, str, str]:
        """Return the exit code (negative: the signal that killed it), stdout and stderr."""
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps({"words": line.split(), "folder": str(folder), **fault}) + "\n")
        self.server.stdin.flush()
        code, out, err = json.loads(self.server.stdout.readline())
        assert "Traceback" not in err and "Exception ignored" not in err, (line, fault, err)
        assert code != -signal.SIGALRM, (line, fault, "hangs")
        return code, out, err


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, __file__], env=environment, stdin=pipe, stdout=pipe, text=True) as server:
        yield Shell(server)
        assert server.stdin
        server.stdin.close()


# What is written, and how it is looked at


@dataclass(frozen=True)
class Verb:
    """A line that writes.

    `writes` are its results and `keeps` what it goes on with when it is run again; it `replaces` results that are there already
    or refuses to, and refuses for a file that was kept on purpose (`once`). `stride`: look at every so many of its changes.
    """

    line: str
    writes: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    replaces: bool = True
    once: str = ""
    stride: int = 1


REPORTS = tuple(f"rep/report.{ending}" for ending in ("html", "json", "md", "sarif", "xml"))
MIGRATE = "migrate a.parquet m.parquet --translator t --force --run --sample 24"
PLANT = "canary plant e.npy -m static:model -o secrets.json --to e2.npy --write --seed 1"
SHARDS = Verb("translate t shards out", ("out/0.parquet", "out/1.parquet"), ("out",), replaces=False, stride=5)

VERBS = {
    "fit": Verb("fit a.npy b.npy -o u -a procrustes --paired", ("u",)),
    "translate": Verb("translate t a.npy o.npy", ("o.npy",)),
    "translate rows with ids": Verb("translate t a.parquet o.parquet", ("o.parquet",)),
    "translate shards": SHARDS,
    "embed": Verb("embed t.txt v.npy -m static:model", ("v.npy",)),
    "embed with a cache": Verb("embed t.txt v.parquet -m static:model --cache c", ("v.parquet",), ("c",)),
    "migrate": Verb(MIGRATE, ("m.parquet",), ("t.migration.json",), replaces=False),
    "audit": Verb("audit e.npy --probe fingerprint -o rep", REPORTS, stride=7),
    "canary plant": Verb(PLANT, ("secrets.json", "e2.npy"), replaces=False, once="secrets.json"),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the lines above read, and `old`, with what may lie where they write."""
    pytest.importorskip("model2vec")
    pytest.importorskip("matplotlib")
    from crossvec import stores
    from crossvec.fitting import fit
    from crossvec.report.audit import FILES
    from crossvec.space import Space

    here = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 5)).astype(np.float32)
    y = (x @ rng.standard_normal((5, 4))).astype(np.float32)
    np.save(here / "a.npy", x)
    np.save(here / "b.npy", y)
    np.save(here / "e.npy", rng.standard_normal((60, 8)).astype(np.float32))
    rows = Space.of(x, [f"r{row}" for row in range(80)], [{"title": f"é {row}"} for row in range(80)], "a")
    stores.open(here / "a.parquet").write([rows])
    (here / "shards").mkdir()
    for part in range(2):
        stores.open(here / "shards" / f"{part}.parquet").write([rows.rows(40 * part, 40 * part + 40)])
    (here / "t.txt").write_text("".join(f"cat {row} sat\n" for row in range(60)))
    _save_model(here / "model")
    pairs = np.stack([np.arange(80)] * 2, axis=1)
    fit(Space.of(x), Space.of(y), "procrustes", pairs=pairs).save(here / "t")
    old = here / "old"
    (old / "rep").mkdir(parents=True)
    fit(Space.of(x), Space.of(y[:, :3]), "ridge", pairs=pairs).save(old / "u")
    for name in ("o.npy", "o.parquet", "v.npy", "v.parquet"):
        stores.open(old / name).write([Space.of(x[:3])])
    for name in FILES:
        (old / "rep" / name).write_text("an old report")
    return here


def _save_model(folder: Path) -> None:
    """Save a model of 8 dimensions that knows the words of the texts and of canaries."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    from crossvec.audit.canaries import KINDS, NOUNS

    sentences = " ".join(sentence for sentence, _ in KINDS.values()).replace(".", " ")
    words = dict.fromkeys(["[PAD]", "[UNK]", "cat", "sat", *NOUNS, *sentences.split()])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(words), 8)).astype(np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(folder)


@pytest.fixture
def here(scene: Path, tmp_path: Path) -> Path:
    """A copy of the scene, to be struck."""
    shutil.copytree(scene, tmp_path / "here", ignore=shutil.ignore_patterns("old"))
    return tmp_path / "here"


@pytest.fixture(scope="module")
def whole(scene: Path, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each verb writes when nothing strikes it, and the sizes of the files."""
    made = {}
    for name, verb in VERBS.items():
        folder = tmp_path_factory.mktemp("whole") / "here"
        shutil.copytree(scene, folder, ignore=shutil.ignore_patterns("old"))
        code, _, err = shell(verb.line, folder)
        assert code in (0, 3), err
        made[name] = results(folder, verb)
        assert None not in made[name].values()
        sizes = {file.stat().st_size for it in verb.writes for file in _files(folder / it)}
        made[name]["sizes"] = sizes
    return made


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def results(folder: Path, verb: Verb) -> dict[str, Any]:
    """What lies where a verb writes, read as its next reader would: what is cut short cannot be read, and fails the test."""
    return {name: _read(folder / name) for name in verb.writes}


def _read(path: Path) -> Any:
    from crossvec import stores
    from crossvec.audit import canaries
    from crossvec.errors import TranslatorError
    from crossvec.space import python_values
    from crossvec.translator import Translator

    if not path.suffix:
        try:
            held = Translator.load(path)  # puts back what a killed writer had set aside
        except TranslatorError:
            assert not path.exists(), "no half a translator"
            return None
        frames = [(frame.mean.numpy().tobytes(), frame.radius, frame.norm) for frame in (held.source, held.target)]
        maps = {name: tensor.numpy().tobytes() for name, tensor in held.forward.tensors().items()}
        assert {file.name for file in path.iterdir()} == {"translator.safetensors", "card.json", "README.md"}
        return frames, maps
    if not path.exists():
        return None
    text = b"" if path.suffix in (".npy", ".parquet") else path.read_bytes()
    match path.suffix:
        case _ if text == b"an old report":
            return "old"
        case ".npy" | ".parquet":
            space = stores.open(path).load()
            return python_values(space.ids_or_numbers()), space.records(), space.array().tobytes()
        case ".json" if path.name == "secrets.json":
            kept = canaries.read(path)
            return kept.canaries, kept.strangers, kept.vectors.tobytes(), kept.strange.tobytes()
        case ".json" | ".sarif":
            json.loads(text)
        case ".xml":
            xml.etree.ElementTree.fromstring(text)
        case ".html":
            assert text.rstrip().endswith(b"</html>")
        case ".md":
            assert text.endswith(b"\n")
    return "whole"  # its numbers hold times, so that no two reports are alike


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lay_old(scene: Path, here: Path, verb: Verb) -> None:
    """Put older results where a verb writes."""
    for name in verb.writes:
        old, new = scene / "old" / name, here / name
        new.parent.mkdir(exist_ok=True)
        shutil.copytree(old, new) if old.is_dir() else shutil.copy(old, new)


def left_over(here: Path, verb: Verb, before: dict[str, bytes]) -> list[str]:
    """Return files that are there now and are neither results nor what a next run goes on with."""
    known = (*verb.writes, *verb.keeps)
    return [
        name
        for name in snapshot(here)
        if name not in before and not any(name == it or (name.startswith(f"{it}/") and ".part" not in name) for it in known)
    ]


def told(code: int, out: str, err: str) -> str:
    """What an error says: one line `error: …` and at most one `hint: …`, after notes; nothing on stdout."""
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.partition(":")[0] for line in lines] in (["error"], ["error", "hint"]), err
    assert out == ""
    return "\n".join(lines)


def sizes(verb: str, whole: dict[str, dict[str, Any]]) -> list[int]:
    """Sizes at which a disk is full: at once, and within the smallest and the largest file that a verb writes."""
    small, large = min(whole[verb]["sizes"]), max(whole[verb]["sizes"])
    return [0, small // 2, large // 2, large * 9 // 10]


@pytest.fixture
def old(scene: Path, here: Path, name: str) -> dict[str, Any]:
    """What lies where the verb writes before it is run: older results, where it replaces them."""
    return laid(scene, here, VERBS[name])


def laid(scene: Path, here: Path, verb: Verb) -> dict[str, Any]:
    if verb.replaces:
        lay_old(scene, here, verb)
    return results(here, verb)


# A disk that is full


@pytest.mark.parametrize("name", VERBS)
def test_a_full_disk_changes_nothing_and_is_told(
    name: str, shell: Shell, here: Path, old: dict[str, Any], whole: dict[str, dict[str, Any]]
) -> None:
    verb, before = VERBS[name], snapshot(here)
    for size in sizes(name, whole):
        code, out, err = shell(verb.line, here, size=size)
        assert code == 4, (size, err)
        text = told(code, out, err)
        assert "free some space" in text, (size, text)
        assert any(it.split("/")[0] in text for it in (*verb.writes, *verb.keeps)), "it says where"
        assert not left_over(here, verb, before), size
        now = results(here, verb)
        assert all(now[it] in (old[it], whole[name][it]) for it in verb.writes), size
        assert now == old or len(verb.writes) > 1, "one result is written whole, or not at all"
    assert shell(verb.line, here)[0] in (0, 3)
    assert results(here, verb) == {it: whole[name][it] for it in verb.writes}


@pytest.mark.parametrize("format", ["text", "json"])
def test_results_that_cannot_be_told_are_no_success(shell: Shell, here: Path, format: str) -> None:
    for line in ("plugins", "inspect a.npy", "evaluate t a.npy b.npy"):
        code, _, err = shell(f"{line} --format {format}", here, stdout="/dev/full")
        assert (code, err.count("error: ")) == (4, 1), (line, err)


def test_where_nothing_can_be_said_the_exit_code_says_it(here: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    run = [sys.executable, "-m", "crossvec", "inspect", "nowhere.npy", "--format", "json"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(run, cwd=here, env=environment, stdout=full, stderr=full, check=False).returncode == 2


# A process that is killed or interrupted


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_killed_while_it_writes_leaves_the_old_result_and_the_next_run_tidies_up(
    name: str, shell: Shell, here: Path, old: dict[str, Any], whole: dict[str, dict[str, Any]]
) -> None:
    verb, before = VERBS[name], snapshot(here)
    for size in sizes(name, whole)[1:3]:
        code, _, err = shell(verb.line, here, size=size, kills=True)
        assert code == -signal.SIGXFSZ, (size, code, err)
        now = results(here, verb)
        assert all(now[it] in (old[it], whole[name][it]) for it in verb.writes), size
        (here / (verb.once or "none")).unlink(missing_ok=True)
    assert shell(verb.line, here)[0] in (0, 3)
    assert not left_over(here, verb, before)
    assert results(here, verb) == {it: whole[name][it] for it in verb.writes}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [False, True], ids=["Ctrl-C", "kill -9"])
@pytest.mark.parametrize("name", [name for name in VERBS if name not in ("migrate", "embed", "translate rows with ids")])
def test_a_verb_stopped_at_any_change_of_the_disk_leaves_old_or_new(
    name: str, kills: bool, shell: Shell, scene: Path, tmp_path: Path, whole: dict[str, dict[str, Any]]
) -> None:
    """Those left out write as others do; what `migrate` promises when it is killed, tests/test_migration_kill.py tests."""
    verb, code = VERBS[name], -1
    for change in range(0, 200, verb.stride):
        here = tmp_path / str(change)
        shutil.copytree(scene, here, ignore=shutil.ignore_patterns("old"))
        old, before = laid(scene, here, verb), snapshot(here)
        code, out, err = shell(verb.line, here, change=change, kills=kills)
        if code in (0, 3):  # it has not so many changes
            break
        now = results(here, verb)
        assert all(now[it] in (old[it], whole[name][it]) for it in verb.writes), change
        if not kills:
            text = told(code, out, err)
            assert code == 4 and "interrupted" in text, (change, text)
            assert "nothing was written" not in text or now == old, (change, text)
            assert not left_over(here, verb, before), change
            continue
        assert code == -signal.SIGKILL, (change, err)
        (here / (verb.once or "none")).unlink(missing_ok=True)
        assert shell(verb.line, here)[0] in (0, 3), change
        assert not left_over(here, verb, before), change
        assert results(here, verb) == {it: whole[name][it] for it in verb.writes}, change
    assert code in (0, 3) and change > 0


# Places that cannot be written


def places(line: str) -> Iterator[tuple[str, str]]:
    """Yield the line with each bad place that it might be given, and the place."""
    for word in ("u", "o.npy", "out", "v.npy", "c", "m.parquet", "rep", "secrets.json", "e2.npy", "l"):
        if word not in line.split():
            continue
        bad = [f"a.npy/{word}", "/proc/self/" + word]
        bad += [f"nowhere/{word}"] * word.endswith((".npy", ".parquet", ".json"))
        bad += ["folder.npy" if word.endswith(".npy") else "shards" if "." in word else "a.npy"]
        for place in bad:
            yield " ".join(place if it == word else it for it in line.split()), place


LINES = (
    *(VERBS[name].line for name in VERBS if name not in ("translate rows with ids", "embed with a cache")),
    "embed t.txt w.parquet -m static:model --cache c",
    "translate t shards new --ledger l",
    "demo -o u",
)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root may write")
@pytest.mark.parametrize(("line", "place"), [pair for line in LINES for pair in places(line)], ids=lambda it: it.split()[0])
def test_a_place_that_takes_no_results_is_refused_by_name(shell: Shell, here: Path, line: str, place: str) -> None:
    (here / "folder.npy").mkdir()
    before = snapshot(here)
    code, out, err = shell(line, here)
    text = told(code, out, err)
    assert code == 2 and place in text and "hint: " in text, (line, text)
    assert snapshot(here) == before, line


# Files that are cut short


INPUTS = {
    "fit": ("a.npy", "b.npy"),
    "translate": ("a.npy", "t/card.json", "t/translator.safetensors"),
    "translate rows with ids": ("a.parquet",),
    "translate shards": ("shards/1.parquet",),
    "embed": ("model/model.safetensors", "model/tokenizer.json", "model/config.json"),
    "migrate": ("a.parquet", "t/translator.safetensors"),
    "audit": ("e.npy",),
    "canary plant": ("e.npy", "model/model.safetensors"),
}


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99], ids=["empty", "half", "nearly whole"])
@pytest.mark.parametrize(("name", "cut"), [(name, cut) for name, files in INPUTS.items() for cut in files])
def test_an_input_that_is_cut_short_is_refused_by_name(
    name: str, cut: str, left: float, shell: Shell, here: Path, old: dict[str, Any]
) -> None:
    verb, path = VERBS[name], here / cut
    held = path.read_bytes()
    path.write_bytes(held[: int(left * len(held))])
    before = snapshot(here)
    code, out, err = shell(verb.line, here)
    text = told(code, out, err)
    assert code == 2 and cut.split("/")[0] in text and "hint: " in text, text
    assert not left_over(here, verb, before)
    now = results(here, verb)
    assert now == old or (verb is SHARDS and now["out/1.parquet"] is None)


if __name__ == "__main__":
    serve()
