"""test_service_command — `crossvec serve` as a command: what it loads, what it refuses, what it says, and how it stops."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import encoding
import numpy as np
import pytest
from conftest import Run, World

pytest.importorskip("fastapi")

from serving import Client, listening, npy, rest, serving

from crossvec.errors import CrossvecError
from crossvec.fitting import fit
from crossvec.service import app, running
from crossvec.service import catalogue as catalogues
from crossvec.service.limits import Limits
from crossvec.space import Space
from crossvec.translator import Translator
from crossvec.verdict import Verdict

SOURCES = Path(__file__).parents[1] / "src"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, twins: World) -> Path:
    """Translators of one map, judged differently: aligned, uncertain, failed."""
    folder = tmp_path_factory.mktemp("judged")
    pairs = np.stack([np.arange(1000)] * 2, axis=1)
    one = fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=pairs)
    for status, probability in (("aligned", 0.9), ("uncertain", 0.5), ("failed", 0.1)):
        verdict = Verdict(status, probability, {})
        Translator(one.forward, one.backward, one.source, one.target, {**one.card, "held_out": None}, verdict).save(
            folder / status
        )
    return folder


@contextmanager
def started(*words: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """Run the command in a process of its own, on a free port, until the block ends."""
    command = [sys.executable, "-m", "crossvec", "serve", *map(str, words), "--port", "0", "--format", "json"]
    told = {**os.environ, "PYTHONPATH": str(SOURCES), **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=told) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            while lines[-1] not in ("}\n", ""):
                lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
            url = json.loads("".join(lines))["url"]
            yield process, Client(int(url.rsplit(":", 1)[1]), environment.get("CROSSVEC_API_KEY"))
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that can be caught")
def test_told_to_stop_it_finishes_what_is_under_way_and_leaves_with_0(made: Path, twins: World) -> None:
    body = npy(twins.eval_x[:100])
    with started(made / "aligned", CROSSVEC_API_KEY="sesame") as (process, client):
        assert client.get("/v1/models").status == 200
        assert Client(client.port).get("/v1/models").status == 401
        path = "/v1/translate/aligned HTTP/1.1\r\nAuthorization: Bearer sesame\r\nX-More:"
        with client.half(path, body) as under_way:
            while "crossvec_requests_under_way 1.0" not in client.get("/metrics").body.decode():
                pass
            process.send_signal(signal.SIGTERM)
            while True:  # until nobody new is let in
                try:
                    socket.create_connection(("127.0.0.1", client.port), timeout=5).close()
                except OSError:
                    break
            reply = rest(under_way, body)
        assert reply.status == 200
        assert np.allclose(reply.rows(), Translator.load(made / "aligned").translate(twins.eval_x[:100]), atol=1e-6)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert (out, err) == ("", "stopped; everything that was asked is answered\n")


def test_what_takes_longer_than_the_grace_is_cut_short_and_counted(made: Path, twins: World) -> None:
    body = npy(twins.eval_x[:100])
    answers = app.application(catalogues.opened([str(made / "aligned")]), Limits())
    with listening(answers, grace=1) as (server, client), client.half("/v1/translate/aligned", body) as under_way:
        while not server.service.room.taken:
            pass
        server.should_exit = True
        assert rest(under_way, b"").error["code"] == "stopping"
    assert server.service.room.cut_short == 1


# What is served


def test_a_failed_translator_is_served_only_by_force_and_an_uncertain_one_with_a_note(crossvec: Run, made: Path) -> None:
    code, out, err = crossvec("serve", made / "aligned", made / "failed")
    assert (code, out) == (2, "")
    assert "failed" in err and "--force" in err
    served = catalogues.opened([str(made / name) for name in ("aligned", "uncertain", "failed")], force=True)
    assert [doubt.split()[3].rstrip(":") for doubt in served.doubts()] == ["uncertain", "failed"]


def test_a_translator_is_named_by_its_folder_or_as_it_is_told(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.name for one in catalogues.opened([str(made / "aligned"), f"b={made / 'aligned'}"])] == ["aligned", "b"]
    monkeypatch.chdir(made / "aligned")
    assert [one.name for one in catalogues.opened(["."])] == ["aligned"]


def test_inverse_serves_the_way_back(made: Path) -> None:
    (one,) = catalogues.opened([str(made / "aligned")], inverse=True)
    assert (one.translator.source.dim, one.translator.target.dim) == (20, 24)


@pytest.mark.parametrize(
    ("folders", "models", "told"),
    [
        (["aligned", "x=aligned", "x=uncertain"], [], "two translators are named x"),
        (["a b=aligned"], [], "cannot be a translator's name"),
        (["../etc=aligned"], [], "cannot be a translator's name"),
        (["x=nowhere"], [], "there is no translator"),
        (["aligned"], ["static:m", "aligned=static:m"], "two models"),
        (["aligned"], ["static:m"], "gives 8 dimensions; this translator reads 24"),
        (["aligned"], ["static:nowhere"], "there is no folder"),
    ],
)
def test_what_cannot_be_served_is_refused_before_it_is(made: Path, folders: list[str], models: list[str], told: str) -> None:
    pytest.importorskip("model2vec")
    if not (made / "m").exists():
        encoding.save_static(made / "m")
    here = os.getcwd()
    os.chdir(made)
    try:
        with pytest.raises(CrossvecError, match=told) as refused:
            catalogues.opened(folders, models)
    finally:
        os.chdir(here)
    assert refused.value.hint


# What the command says


def test_words_about_a_model_are_refused_without_one(crossvec: Run, made: Path) -> None:
    for word in ("--send-texts", "--download"):
        code, _, err = crossvec("serve", made / "aligned", word)
        assert code == 2 and word in err and "-m MODEL" in err


def test_an_empty_key_is_refused_rather_than_taken_for_none(crossvec: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSVEC_API_KEY", " ")
    code, _, err = crossvec("serve", made / "aligned")
    assert code == 2
    assert "CROSSVEC_API_KEY is empty" in err


def test_a_port_in_use_is_an_error_of_the_command(crossvec: Run, made: Path) -> None:
    taken, url = running.bind("127.0.0.1", 0)
    with taken:
        code, out, err = crossvec("serve", made / "aligned", "--port", url.rsplit(":", 1)[1])
    assert (code, out) == (2, "")
    assert "in use" in err and "--port" in err


def test_who_serves_the_network_without_a_key_is_warned(crossvec: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run", lambda _server, listening: listening.close() or True)
    assert "warning" in crossvec("serve", made / "aligned", "--host", "0.0.0.0", "--port", "0")[2]
    assert "warning" not in crossvec("serve", made / "aligned", "--port", "0")[2]
    monkeypatch.setenv("CROSSVEC_API_KEY", "sesame")
    code, out, err = crossvec("serve", made / "aligned", "--host", "0.0.0.0", "--port", "0")
    assert code == 0
    assert "warning" not in err and "sesame" not in out + err
    assert "CROSSVEC_API_KEY" not in os.environ  # nor does an encoder's endpoint get it


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *(("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("example.org", False)),
    ],
)
def test_an_address_that_others_can_reach_is_known(host: str, here: bool) -> None:
    assert running.here_only(host) is here


def test_without_the_extra_the_install_line_is_told(crossvec: Run, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = crossvec("serve", made / "aligned")
    assert code == 2
    assert "pip install 'crossvec[serve]'" in err


# What the page says


@pytest.mark.skipif(not shutil.which("curl"), reason="the page asks with curl")
def test_what_the_page_types_works_word_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wordllama")
    pytest.importorskip("openai")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4096, 256)).astype(np.float32)
    turned = Space.of(rows @ np.linalg.qr(rng.standard_normal((256, 256)))[0][:, :128].astype(np.float32))
    monkeypatch.chdir(tmp_path)
    pairs = np.stack([np.arange(4096)] * 2, axis=1)
    fit(Space.of(rows), turned, "procrustes", pairs=pairs).save("crossvec-demo/translator")
    np.save("crossvec-demo/source.npy", rows)
    page = (SOURCES.parent / "docs/serve.md").read_text(encoding="utf-8")
    served = catalogues.opened(["wiki=crossvec-demo/translator"], ["wordllama"], force=True)
    with serving(served) as client:
        page = page.replace("http://127.0.0.1:8000", client.url)
        asked = [line for line in re.findall(r"^curl .*", page, re.M) if "$KEY" not in line]
        for line in asked:
            done = subprocess.run(["sh", "-c", f"{line} -fsS"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, (line, done.stderr)
        blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
        given: dict[str, Any] = {"rows": rows[:5]}
        for block in blocks:
            exec(block, given)  # noqa: S102  # what our own page says
    assert (len(asked), len(blocks)) == (3, 2)
    right = served.named("wiki").translator.translate(rows)
    assert np.allclose(np.load("moved.npy"), right, atol=1e-5)
    assert np.allclose(given["moved"], right[:5], atol=1e-5)
    assert len(given["row"]) == 128


def test_the_page_names_every_option_and_every_status(made: Path) -> None:
    from crossvec.cli.serve import serve

    page = (SOURCES.parent / "docs/serve.md").read_text(encoding="utf-8")
    own = [option for one in serve.params for option in one.opts if option.startswith("--")]
    left = {"--config", "--device", "--download", "--send-texts", "--model"}  # told on the pages of options and encoders
    assert not [option for option in own if option not in left and f"`{option}" not in page and f" {option} " not in page]
    code = "".join(path.read_text(encoding="utf-8") for path in (SOURCES / "crossvec/service").glob("*.py"))
    stated = set(re.findall(r"Refusal\(\s*(\d{3})", code))
    assert len(stated) > 5
    assert not [status for status in stated if status not in page]
