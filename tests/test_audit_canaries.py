"""test_audit_canaries — planted secrets in an audit: read from their rows they are a finding, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encoding import vector

from crossvec import Space
from crossvec.audit import Case, audit
from crossvec.audit.canaries import Planted, plant, rows_of, whole_numbers
from crossvec.audit.inversion import Budget, Known
from crossvec.audit.probes.canaries import Canaries
from crossvec.audit.probes.inversion import Inversion
from crossvec.errors import UsageError

DIM, ROWS = 32, 120


class Hashed:
    """An encoder of the tests' own: the sum of its words' random vectors."""

    name, version, dim = "hashed", "", DIM

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: object = None) -> np.ndarray:
        return np.stack([np.sum([vector(word, DIM) for word in text.lower().split()], axis=0) for text in texts])


@dataclass(frozen=True)
class Oracle:
    """An engine that answers each row with what it was told about the nearest of its texts, or with nothing."""

    answers: tuple[tuple[str, str], ...]
    name = "oracle"

    def lacks(self, known: Known) -> str:
        return ""

    def invert(self, targets: np.ndarray, known: Known, *, budget: Budget, **_: Any) -> list[str]:
        near = targets @ known.directions([text for text, _ in self.answers]).T
        return [self.answers[row][1] for row in near.argmax(1)] if len(targets) else []


@pytest.fixture(scope="module")
def planted() -> Planted:
    return plant(12, Hashed(), whole_numbers, seed=1)


def case_of(planted: Planted, ids: bool = True) -> Case:
    """A store of 120 texts and, at its end, the canaries."""
    texts = [f"letter {row} of the year {row % 7} to nobody" for row in range(ROWS)]
    rows = np.concatenate([Hashed().encode(texts), planted.vectors])
    names = [*range(ROWS), *(one.id for one in planted.canaries)]
    return Case(Space.of(rows, names if ids else None), own_encoder=Hashed(), planted=planted)


def found(case: Case, planted: Planted, answers: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    oracle = Oracle(tuple(zip((one.text for one in planted.canaries), answers, strict=True)))
    monkeypatch.setattr(Inversion, "_engines", lambda _self: [oracle])
    return audit(case, probes=[Canaries()], quick=True)


def test_secrets_that_are_read_are_a_critical_finding(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [one.text if number < 5 else "nothing" for number, one in enumerate(planted.canaries)]
    it = found(case_of(planted), planted, read, monkeypatch)
    (finding,) = it.findings
    assert (finding.probe, finding.rung, finding.severity, it.exit_code) == ("canaries", "encoder", "critical", 1)
    assert finding.score.value == pytest.approx(5 / 12)
    reading = it.readings["encoder", "canaries"]
    assert [one.row for one in reading.recovered] == [*range(ROWS, ROWS + 12)]
    assert reading.details["by"] == {"secret": 5, "name": 0}


def test_names_without_the_secret_count_and_nothing_read_is_no_finding(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [" ".join(reversed(one.name)) for one in planted.canaries]
    it = found(case_of(planted), planted, named, monkeypatch)
    assert it.readings["encoder", "canaries"].details["by"] == {"secret": 0, "name": 12}
    assert it.findings
    it = found(case_of(planted), planted, ["the password of the archive is"] * 12, monkeypatch)
    assert (it.findings, it.exit_code) == ((), 0)


def test_texts_that_name_what_was_never_planted_prove_nothing(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = " ".join(" ".join(one.name) for one in (*planted.canaries, *planted.strangers))
    it = found(case_of(planted), planted, [everything] * 12, monkeypatch)
    score = it.readings["encoder", "canaries"].scores[0]
    assert score.value == 1
    assert score.chance > 0.9
    assert not it.findings


def test_no_secret_leaves_an_audit_unless_texts_are_asked_for(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossvec.report import audit as reports

    it = found(case_of(planted), planted, [one.text for one in planted.canaries], monkeypatch)
    hidden = [one.secret for one in planted.canaries] + [" ".join(one.name) for one in planted.canaries]
    for file, text in reports.texts(it).items():
        assert not [secret for secret in hidden if secret in text], file
    assert hidden[0] in json.dumps(it.to_json(show_text=True))
    assert "planted secrets read, and none that was never planted" in reports.texts(it)["report.md"]


def test_a_store_without_ids_has_them_in_the_rows_that_were_numbered(planted: Planted) -> None:
    numbered = replace(planted, canaries=tuple(replace(one, id=ROWS + i) for i, one in enumerate(planted.canaries)))
    for case in (case_of(planted), case_of(numbered, ids=False)):
        which, rows = rows_of(case.planted or planted, case.victim)
        assert list(which) == list(range(12))
        assert list(rows) == list(range(ROWS, ROWS + 12))


def test_a_store_that_holds_none_of_them_and_an_audit_without_them_say_what_is_missing(planted: Planted) -> None:
    elsewhere = replace(case_of(planted), victim=Space.of(planted.vectors.repeat(4, 0), [f"row {i}" for i in range(48)]))
    with pytest.raises(UsageError, match="none of their ids"):  # whoever gives canaries wants them looked for
        audit(elsewhere, quick=True)
    without = audit(replace(case_of(planted), planted=None), quick=True)
    assert any("crossvec canary plant" in needs for _, name, needs in without.not_run if name == "canaries")


def test_the_command_line_takes_the_file_that_was_written(
    crossvec: Any, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec import encoders

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoders, "open", lambda *_, **__: Hashed())
    np.save("store.npy", case_of(planted).victim.array())
    kept = replace(planted, canaries=tuple(replace(one, id=ROWS + i) for i, one in enumerate(planted.canaries)))
    kept.write("canaries.json")
    asked = ("audit", "store.npy", "--victim-encoder", "hashed", "--quick", "--format", "json")
    code, out, _ = crossvec(*asked, "--canaries", "canaries.json", "--probe", "canaries")
    assert (code, "cannot run" in out) == (2, True)  # this encoder shows no table, and there are no texts to begin with
    Path("others.txt").write_text("\n".join(f"note {row} for the archive" for row in range(60)), encoding="utf-8")
    more = ("--reference-texts", "others.txt", "--encoder", "hashed", "--budget-seconds", "5", "--canaries", "canaries.json")
    code, out, _ = crossvec(*asked, "--probe", "canaries", *more)
    told = json.loads(out)
    assert code in (0, 3)
    assert {one["probe"] for one in told["readings"]} == {"canaries"}
    assert told["readings"][-1]["details"]["rows"] == 12
    assert not any(one.secret in out for one in planted.canaries)
    code, _, err = crossvec(*asked, "--canaries", "store.npy")
    assert (code, "is no file of canaries" in err) == (2, True)
