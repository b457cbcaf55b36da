"""test_audit_cli — what `crossvec audit` and `crossvec defend` promise to people and scripts: one JSON object, exit codes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import encoding
import numpy as np
import pytest
from conftest import Run

from crossvec import encoders
from crossvec.audit.fingerprints import Fingerprint, write
from crossvec.cli import cli
from crossvec.space import Space

WORDS = ["cat", "dog", "sat", "mat", "sea"]
ENCODER = "static:model"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: store.npy of 300 texts, the texts with the word each is about, labels, other texts, the model."""
    pytest.importorskip("model2vec")
    monkeypatch.chdir(tmp_path)
    encoding.save_static(tmp_path / "model")
    rng = np.random.default_rng(0)
    about = rng.choice(WORDS, 400)
    texts = [f"{word} {word} {' '.join(rng.choice(list('abcdefgh'), 3))}" for word in about]
    model = encoders.open(ENCODER)
    np.save("store.npy", model.encode(texts[:300]))
    with open("texts.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t, "topic": [w]}) + "\n" for t, w in zip(texts[:300], about[:300], strict=True))
    Path("others.txt").write_text("\n".join(texts[300:]), encoding="utf-8")
    Path("labels.toml").write_text(
        'column = "topic"\ntemplates = ["{}"]\n' + "".join(f'[[label]]\nname = "{word}"\n' for word in WORDS), encoding="utf-8"
    )
    return tmp_path


KNOWN = ("store.npy", "--victim-encoder", ENCODER, "--texts", "texts.jsonl", "--labels", "labels.toml", "--quick")


def test_a_leak_ends_with_1_and_one_json_object_that_keeps_the_contract(crossvec: Run, here: Path) -> None:
    code, out, _ = crossvec("audit", *KNOWN, "--format", "json")
    told = json.loads(out)
    assert (code, told["exit_code"], told["verdict"], told["schema"]) == (1, 1, "leaks", "crossvec-audit/1")
    assert {"alignment", "attributes", "membership"} <= {one["probe"] for one in told["findings"]}
    for one in told["findings"]:
        assert {"probe", "score", "chance", "low", "high", "controls", "severity"} <= set(one)
        assert one["low"] <= one["score"] <= one["high"]


def test_a_report_is_written_and_read_by_people_and_scripts(crossvec: Run, here: Path) -> None:
    code, out, err = crossvec("audit", *KNOWN, "-o", "report")
    assert code == 1
    assert "gives away" in out
    assert sorted(path.name for path in (here / "report").iterdir()) == [
        "report.html",
        "report.json",
        "report.md",
        "report.sarif",
        "report.xml",
    ]
    assert all(f"report/{path.name}" in err for path in (here / "report").iterdir())
    assert json.loads((here / "report/report.json").read_text(encoding="utf-8"))["verdict"] == "leaks"
    page = (here / "report/report.md").read_text(encoding="utf-8")
    first = json.loads((here / "texts.jsonl").read_text(encoding="utf-8").splitlines()[0])["text"]
    assert "attributes" in page
    assert not [path.name for path in (here / "report").iterdir() if first in path.read_text(encoding="utf-8")]


def test_recovered_texts_are_shown_to_who_asks_for_them_and_to_nobody_else(crossvec: Run, here: Path) -> None:
    recovering = ("audit", *KNOWN, "--probe", "inversion", "--budget-seconds", "60", "--judge", "local")
    texts = [json.loads(line)["text"] for line in (here / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    for asked, folder in (((), "hidden"), (("--show-text",), "shown")):
        code, out, err = crossvec(*recovering, *asked, "-o", folder, "--format", "json")
        told = json.loads(out)
        assert code in (0, 1)
        assert told["readings"][0]["details"]["judge"] == "local"
        assert any(one["name"].startswith("said to leak") for one in told["readings"][0]["scores"])
        held = {path.suffix for path in Path(folder).iterdir() if any(t in path.read_text(encoding="utf-8") for t in texts)}
        assert held == ({".html", ".json", ".md"} if asked else set())
        assert any(text in out for text in texts) == bool(asked)
        assert ("warning: texts of the store" in err) == bool(asked)


def test_a_served_judge_is_asked_with_a_key_that_no_report_holds(
    crossvec: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_audit_judge import honest, serving

    monkeypatch.setenv("CROSSVEC_API_KEY", "sk-ours")
    with serving(honest) as model:
        asked = ("--probe", "inversion", "--judge", model.url, "--judge-model", "toy", "--budget-seconds", "60")
        code, out, err = crossvec("audit", *KNOWN, *asked, "-o", "report", "--format", "json")
        told = json.loads(out)["readings"][0]
    assert code in (0, 1)
    assert set(model.keys) == {"Bearer sk-ours"}
    assert told["details"]["judge"].startswith("toy@127.0.0.1:")
    assert any(one["name"] == "known of 5 with proof (static)" for one in told["scores"])
    everything = [out, err, *(path.read_text(encoding="utf-8") for path in (here / "report").iterdir())]
    assert not [text for text in everything if "sk-" in text]


def test_the_schema_of_the_json_is_printed_without_a_store(crossvec: Run) -> None:
    code, out, _ = crossvec("audit", "--schema")
    assert code == 0
    assert json.loads(out)["properties"]["schema"]["const"] == "crossvec-audit/1"


def test_probes_are_among_what_can_be_named(crossvec: Run) -> None:
    listed = json.loads(crossvec("plugins", "--format", "json")[1])["probes"]
    assert {"fingerprint", "alignment", "attributes", "membership", "neighbours"} <= {one["name"] for one in listed}


WORKFLOW = Path(__file__).parents[1] / "examples" / "github-action.yml"


def steps() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    (job,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    return job["steps"]


def test_the_workflow_we_show_calls_crossvec_as_it_wants_to_be_called() -> None:
    (command,) = [step["run"] for step in steps() if step.get("run", "").startswith("crossvec ")]
    verb, *words = shlex.split(command)[1:]
    context = cli.commands[verb].make_context(verb, words)
    assert (context.params["output"], context.params["policy"]) == ("report", "crossvec.toml")
    (install,) = [step["run"] for step in steps() if step.get("run", "").startswith("pip install")]
    extras = tomllib.loads((WORKFLOW.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    named = re.search(r"crossvec\[(.+)\]", install)
    assert named
    assert set(named[1].split(",")) <= set(extras["project"]["optional-dependencies"])


def test_the_workflow_we_show_uploads_findings_that_the_policy_does_not_accept(tmp_path: Path) -> None:
    if not shutil.which("jq"):
        pytest.skip("no jq here: apt-get install jq")
    (step,) = [step for step in steps() if step.get("run", "").startswith("jq ")]
    (upload,) = [step for step in steps() if "upload-sarif" in step.get("uses", "")]
    (tmp_path / "report").mkdir()
    results = [{"ruleId": "a", "suppressions": []}, {"ruleId": "b", "suppressions": [{"kind": "external"}]}]
    (tmp_path / "report" / "report.sarif").write_text(json.dumps({"runs": [{"results": results}]}), encoding="utf-8")
    subprocess.run(step["run"], shell=True, cwd=tmp_path, check=True)
    (run,) = json.loads((tmp_path / upload["with"]["sarif_file"]).read_text(encoding="utf-8"))["runs"]
    assert [one["ruleId"] for one in run["results"]] == ["a"]


def test_a_policy_in_the_current_folder_is_kept_to(crossvec: Run, here: Path) -> None:
    (here / "crossvec.toml").write_text(
        '[audit]\nfail_on = "high"\n[[audit.waivers]]\nprobe = "alignment"\nreason = "known"\nuntil = 2999-01-01\n'
        '[[audit.waivers]]\nprobe = "membership"\nreason = "known"\nuntil = 2999-01-01\n',
        encoding="utf-8",
    )
    looking = [word for probe in ("alignment", "membership", "attributes") for word in ("--probe", probe)]
    code, out, _ = crossvec("audit", *KNOWN, *looking, "--format", "json")
    told = json.loads(out)
    assert (code, told["verdict"]) == (0, "nothing found")
    assert {one["probe"] for one in told["findings"] if one["waived"]} == {"alignment", "membership"}
    assert {one["severity"] for one in told["findings"] if not one["waived"]} == {"medium"}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("[audit]\nfail_on = 'never'", "fail_on cannot be 'never'"),
        ("[audit]\nthreshold = 1", "has a key 'threshold'"),
        ("[audit.thresholds]\nattributes = 2", "the threshold of attributes cannot be 2"),
        ("[[audit.waivers]]\nprobe = 'alignment'\nuntil = 2030-01-01", "gives no reason"),
        ("[[audit.waivers]]\nprobe = 'alignment'\nreason = 'x'", "does not say until when"),
        ("[[audit.waivers]]\nprobe = 'allignment'\nreason = 'x'", "which is no probe"),
        ("[audit", "is not TOML"),
        ("fail_on = 'low'", "has no table [audit]"),
    ],
)
def test_a_policy_that_says_something_else_is_refused(crossvec: Run, here: Path, policy: str, said: str) -> None:
    (here / "crossvec.toml").write_text(policy, encoding="utf-8")
    code, _, err = crossvec("audit", *KNOWN)
    assert code == 2
    assert said in err


def test_vectors_that_mean_nothing_end_with_3(crossvec: Run, here: Path) -> None:
    np.save("noise.npy", np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32))
    code, out, _ = crossvec(
        "audit", "noise.npy", "--reference-texts", "others.txt", "--encoder", ENCODER, "--quick", "--format", "json"
    )
    told = json.loads(out)
    assert (code, told["verdict"], told["findings"]) == (3, "inconclusive", [])
    assert [rung["rung"] for rung in told["rungs"]] == ["vectors", "domain"]
    assert told["rungs"][1]["status"] == "failed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", "labels.yaml"], "cannot tell what labels.yaml holds"),
        (["--reference-texts", "others.txt"], "texts of a reference need its vectors, or a model"),
        (["--pairs", "pairs.csv"], "--pairs name rows of a reference"),
        (["--label-column", "topic"], "none are looked for"),
        (["--texts", "others.txt"], "100 texts cannot belong to 300 rows"),
        (["--labels", "labels.toml", "--label-column", "genre"], "have a column 'genre'"),
        (["--probe", "inversions"], "there is no probe 'inversions'"),
        (["--probe", "attributes", "--lm", "model"], "--lm is for the probe inversion"),
        (["--download"], "--download says something of --lm"),
        (["--judge-model", "small"], "--judge-model says something of --judge"),
        (["--judge", "http://localhost:1/v1"], "serves models, and none is named"),
        (["--judge", "https://example.org/v1", "--judge-model", "small"], "would be sent texts"),
        (["--quick", "--effort", "thorough"], "--quick and --effort say two different things"),
        (["-o", "store.npy"], "reports cannot be written to store.npy"),
    ],
)
def test_what_cannot_be_audited_is_refused_with_what_to_type(crossvec: Run, here: Path, words: list[str], said: str) -> None:
    code, _, err = crossvec("audit", "store.npy", *words)
    assert code == 2
    assert said in err
    assert "hint: " in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[label]]\nname = "a"', "names 1 label"),
        ('[[label]]\nname = "a"\n[[label]]\nname = "a"', "'a' of labels.toml is there twice"),
        ('names = ["a"]', "has a key 'names'"),
        ('templates = ["about it"]\nlabel = ["a", "b"]', "no sentences with a {}"),
        ('k = 2\nlabel = ["a", "b"]', "k cannot be 2 with 2 labels"),
    ],
)
def test_a_file_of_labels_that_makes_no_sense_is_refused(crossvec: Run, here: Path, text: str, said: str) -> None:
    (here / "labels.toml").write_text(text, encoding="utf-8")
    code, _, err = crossvec("audit", *KNOWN)
    assert code == 2
    assert said in err


def test_a_model_added_to_the_registry_is_recognised_and_a_secret_permutation_hides_it(crossvec: Run, here: Path) -> None:
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.2, 2, 64)
    theirs, other = (Space.of((rng.standard_normal((500, 64)) * scale).astype(np.float32)) for _ in range(2))
    write("models.json", [Fingerprint.of(theirs, "our-model")])
    np.save("store.npy", other.array())
    np.save("permuted.npy", other.array()[:, rng.permutation(64)])
    found = []
    for store in ("store.npy", "permuted.npy"):
        code, out, _ = crossvec("audit", store, "--probe", "fingerprint", "--models", "models.json", "--format", "json")
        told = json.loads(out)
        found.append([(one["probe"], one["severity"]) for one in told["findings"]])
        assert code == 0  # low: told, and no reason to fail
        assert told["readings"][0]["details"]["resembles"][0]["model"] == "our-model"
    assert found == [[("fingerprint", "low")], []]


def test_a_defence_needs_somebody_to_defend_against(crossvec: Run, here: Path) -> None:
    code, _, err = crossvec("defend", "store.npy")
    assert code == 2
    assert "--reference" in err


def test_a_named_defence_that_is_broken_ends_with_1(crossvec: Run, here: Path) -> None:
    code, out, _ = crossvec(
        "defend",
        *KNOWN,
        "--reference",
        "store.npy",
        "--reference-texts",
        "texts.jsonl",
        "--encoder",
        ENCODER,
        "--pairs",
        "pairs.npy",
        "--defence",
        "permute",
        "--format",
        "json",
    )
    assert code == 2  # pairs.npy is not there yet
    np.save("pairs.npy", np.stack([np.arange(60)] * 2, axis=1))
    code, out, _ = crossvec(
        "defend",
        "store.npy",
        "--texts",
        "texts.jsonl",
        "--reference",
        "store.npy",
        "--encoder",
        ENCODER,
        "--pairs",
        "pairs.npy",
        "--quick",
        "--defence",
        "permute",
        "--format",
        "json",
    )
    told = json.loads(out)
    assert (code, told["schema"]) == (1, "crossvec-defences/1")
    (only,) = told["defences"]
    assert (only["verdict"], only["keyed"]) == ("broken", True)
    assert only["recall_at_10"]["value"] > 0.95  # texts of the same words tie
