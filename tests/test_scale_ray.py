"""test_scale_ray — the same work by workers of Ray's: killed workers and killed drivers lose nothing and double nothing.

One cluster of two workers serves all tests here; a killed process is killed for real, by its number.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import servers
from conftest import Run

from crossvec import stores
from crossvec.aligners.maps import Linear
from crossvec.errors import MissingExtraError, SpaceError, UnfinishedError
from crossvec.scale import engines
from crossvec.scale.engines import Here, Ray
from crossvec.scale.job import translation
from crossvec.space import Space
from crossvec.stores.documents import joined
from crossvec.translator import Frame, Translator

pytestmark = pytest.mark.slow
SOURCES = Path(__file__).parents[1] / "src"
SHARDS, ROWS, DX, DY = 5, 6000, 96, 64


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two workers."""
    ray = pytest.importorskip("ray")
    before = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    context = ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=100 << 20
    )
    yield context.address_info["address"]
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards/, and with the translator t."""
    import torch

    folder = tmp_path_factory.mktemp("data")
    turn = torch.linalg.qr(torch.randn(DX, DY, generator=torch.Generator().manual_seed(0))).Q
    maps = Linear(turn, torch.zeros(DY)), Linear(turn.T.contiguous(), torch.zeros(DX))
    frames = Frame(torch.full((DX,), 0.02), 1.0, 1.0), Frame(torch.full((DY,), 0.01), 1.0, 1.0)
    Translator(*maps, *frames, card={"what": "turns"}).save(folder / "t")
    (folder / "shards").mkdir()
    rng = np.random.default_rng(0)
    for i in range(SHARDS):
        rows = rng.standard_normal((ROWS, DX)).astype(np.float32)
        ids = np.arange(i * ROWS, (i + 1) * ROWS)
        stores.open(folder / f"shards/{i}.parquet").write([Space.of(rows, ids, {"title": [f"row {j}" for j in ids]})])
    return folder


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: links to shards and t."""
    for name in ("shards", "t"):
        (tmp_path / name).symlink_to(data / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: str) -> tuple[bytes, list, list[dict]]:
    """All rows of a folder of shards, in order."""
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix == ".parquet")
    space = joined([space for path in paths for space in stores.open(path).read()])
    return space.array().tobytes(), space.ids if isinstance(space.ids, list) else space.ids.tolist(), space.records()


@pytest.fixture(scope="module")
def expected(data: Path) -> tuple[bytes, list, list[dict]]:
    """What the single-process stream makes of the same rows."""
    translator = Translator.load(data / "t")
    paths = sorted((data / "shards").iterdir())
    space = joined([moved for path in paths for moved in translator.stream(stores.open(path).read())])
    return space.array().tobytes(), space.ids if isinstance(space.ids, list) else space.ids.tolist(), space.records()


def leftovers(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.name.endswith(".part")]


def test_workers_write_what_the_single_stream_writes(
    cluster: str, here: Path, crossvec: Run, expected: tuple[bytes, list, list[dict]]
) -> None:
    code, out, err = crossvec("translate", "t", "shards", "out", "--engine", "ray", "--workers", 2, "--format", "json")
    told = json.loads(out)
    assert code == 0 and (told["rows"], told["pieces"], told["pieces_done_before"]) == (SHARDS * ROWS, SHARDS, 0), err
    assert everything("out") == expected
    assert told["peak_memory_per_worker_bytes"] > 0
    # Done here or there is all the same to the ledger.
    assert translation(Translator.load("t"), "shards", "out").run(Here()).skipped == SHARDS


def test_a_killed_worker_loses_nothing_and_doubles_nothing(
    cluster: str, here: Path, expected: tuple[bytes, list, list[dict]]
) -> None:
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        """Kill three workers, each while it is writing: the number of the process is in the hidden file's name."""
        while len(killed) < 3 and not over.is_set():
            for path in leftovers("out") if Path("out").is_dir() else []:
                process = int(re.search(r"-(\d+)-[0-9a-f]{8}\.part$", path.name).group(1))
                if process not in killed and process != os.getpid() and "_crossvec" not in path.parts:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        killed.append(process)
            time.sleep(0.002)

    watcher = threading.Thread(target=kill)
    watcher.start()
    try:
        outcome = translation(Translator.load("t"), "shards", "out").run(Ray(asked=2))
    finally:
        over.set()
        watcher.join()
    assert killed, "somebody was killed at work"
    assert outcome.rows == SHARDS * ROWS
    assert everything("out") == expected and not leftovers("out")


def test_a_killed_driver_s_run_goes_on_with_what_is_missing(
    cluster: str, here: Path, expected: tuple[bytes, list, list[dict]]
) -> None:
    words = [sys.executable, "-m", "crossvec", "translate", "t", "shards", "out", "--engine", "ray", "--ray-address", cluster]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    driver = subprocess.Popen([*words, "--workers", "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    while driver.poll() is None and not list(Path("out/_crossvec/done").glob("*.json")):
        time.sleep(0.005)
    driver.kill()
    driver.wait()
    time.sleep(1)  # Ray ends the tasks of a driver that is gone
    noted = {path.stem: Path("out", path.stem).stat().st_ino for path in Path("out/_crossvec/done").glob("*.json")}
    assert 0 < len(noted) < SHARDS, driver.stdout.read().decode()
    done = subprocess.run([*words, "--format", "json"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pieces_done_before"] == len(noted)
    assert {name: Path("out", name).stat().st_ino for name in noted} == noted, "what was noted is not touched"
    assert everything("out") == expected and not leftovers("out")


def test_what_a_worker_refuses_is_told_as_here(cluster: str, here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path("bad").mkdir()
    rows = np.ones((10, DX), np.float32)
    for name in ("a", "b"):  # the first is looked at before any work, to weigh its rows
        rows[3] = name == "a"
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DX)
        pq.write_table(pa.table({"vector": column}), f"bad/{name}.parquet")
    told = []
    for engine in (Here(), Ray(asked=2)):
        job = translation(Translator.load("t"), "bad", f"out-{len(told)}", batch=2)
        with pytest.raises(SpaceError) as error:
            job.run(engine)
        told.append((str(error.value), error.value.hint))
    assert told[0] == told[1] and "b.parquet" in told[0][0] and "row 3" in told[0][0]


def test_an_item_that_kills_every_worker_ends_the_run_with_its_name(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RETRIES", 1)
    with pytest.raises(UnfinishedError, match="7 was lost with 2 workers"):
        list(Ray(asked=1).map(os._exit, [7]))


def test_databases_on_a_server_are_read_by_rows_and_written_row_over_row(
    cluster: str, here: Path, expected: tuple[bytes, list, list[dict]]
) -> None:
    translator = Translator.load("t")
    with servers.running("pgvector") as database:
        one, other = (database.url.format(name=name) for name in ("first", "second"))
        outcome = translation(translator, "shards", one, ledger="ledger").run(Ray(asked=2))
        assert outcome.rows == stores.open(one).count() == SHARDS * ROWS
        again = translation(translator, "shards", one, ledger="ledger").run(Ray(asked=2))
        assert again.skipped == SHARDS and stores.open(one).count() == SHARDS * ROWS
        translation(translator.inverse(), one, other, rows=8000, ledger="back").run(Ray(asked=2))
        space = stores.open(one).load()
        order = np.argsort(space.ids)
        rows = np.frombuffer(expected[0], np.float32).reshape(-1, DY)
        assert np.allclose(space.array()[order], rows, atol=1e-6)
        records = space.records()
        assert [records[i] for i in order] == expected[2]
        assert stores.open(other).count() == SHARDS * ROWS and stores.open(other).describe().dim == DX


def test_without_ray_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as told:
        engines.choose("ray", None, None)
    assert "crossvec[ray]" in told.value.hint


def test_scores_by_workers_are_those_of_one_process(
    cluster: str, tmp_path: Path, crossvec: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conftest import make_world

    from crossvec.fitting import fit

    monkeypatch.chdir(tmp_path)
    made = make_world(n=400, m=400, pool=3000, paired=True, dx=12, dy=8, latent=8, clusters=3, seed=2)  # two blocks of queries
    pairs = np.stack([np.arange(400)] * 2, axis=1)
    fit(Space.of(made.x), Space.of(made.y), "ridge", pairs=pairs).save("t")
    np.save("x.npy", made.eval_x)
    np.save("y.npy", made.eval_y)
    words = ["evaluate", "t", "x.npy", "y.npy", "--format", "json"]
    one, other = crossvec(*words), crossvec(*words, "--engine", "ray", "--workers", 2)
    assert one[0] == other[0] == 0, other[2]
    assert json.loads(one[1]) == json.loads(other[1])


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The page's blocks of code in order: the comment before each, its language, its text."""
    found = re.findall(r"(?:<!-- ([^\n]*) -->\n)?```(\w+)\n(.*?)```", page, re.S)
    assert len(found) == page.count("```") / 2
    return found


def test_the_page_can_be_followed_word_by_word_in_an_empty_folder(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    page = (SOURCES.parent / "docs/cluster.md").read_text(encoding="utf-8")
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "PATH": f"{scripts}:{os.environ['PATH']}"}
    ran = 0
    for comment, language, text in blocks(page):
        if comment.startswith("file "):
            (tmp_path / comment.removeprefix("file ")).write_text(text)
        elif not comment.startswith("not run"):
            # The package may be found by its path alone, without its command.
            shell = f'crossvec() {{ "{sys.executable}" -m crossvec "$@"; }}\n{text}'
            command = [sys.executable, "-c", text] if language == "python" else ["bash", "-ec", shell]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
            ran += 1
    assert ran >= 5 and (tmp_path / "space.safetensors").is_file()
    assert len(list((tmp_path / "moved").glob("*.parquet"))) == 6


def test_two_launchers_train_one_network_as_the_page_says_for_two_machines(tmp_path: Path) -> None:
    """The page's own line, with one process each, and both on this machine."""
    page = (SOURCES.parent / "docs/cluster.md").read_text(encoding="utf-8")
    line = next(text for _, _, text in blocks(page) if "--nnodes 2" in text).replace("\\\n", " ")
    line = line.replace("HEAD:29400", f"localhost:{servers.free_port()}").replace("--nproc-per-node 8", "--nproc-per-node 1")
    config = next(text for comment, _, text in blocks(page) if comment == "file run.toml")
    (tmp_path / "run.toml").write_text(config)
    made = np.random.default_rng(0).standard_normal((2, 300, 10)).astype(np.float32)
    np.save(tmp_path / "a.npy", made[0])
    np.save(tmp_path / "b.npy", made[1][:, :8])
    words = line.split()
    command = [sys.executable, "-m", "torch.distributed.run", *words[words.index("torchrun") + 1 :]]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [one.communicate(timeout=500)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    assert (tmp_path / "space.safetensors").is_file() and list((tmp_path / "kept").iterdir())
