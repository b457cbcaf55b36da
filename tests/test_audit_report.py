"""test_audit_report — an audit's five reports say the same, each as its reader wants it, and none holds a text of the store."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from reported import DAY, TEXT, accepted, failed, leaking, recovering, renamed

from crossvec.audit import Audit, Score
from crossvec.errors import UsageError
from crossvec.report import audit as reports
from crossvec.report.audit import words

AUDITS = {"leaking": leaking, "failed": failed, "accepted": accepted}


@pytest.fixture(scope="module")
def audits() -> dict[str, Audit]:
    return {name: made() for name, made in AUDITS.items()}


@pytest.fixture(scope="module")
def told(audits: dict[str, Audit]) -> dict[str, dict[str, str]]:
    """The five texts of each audit."""
    return {name: reports.texts(it, day=DAY) for name, it in audits.items()}


def sarif_of(told: dict[str, str]) -> dict[str, Any]:
    (run,) = json.loads(told["report.sarif"])["runs"]
    return run


def suites_of(told: dict[str, str]) -> ElementTree.Element:
    return ElementTree.fromstring(told["report.xml"])


def test_the_three_audits_are_what_their_names_say(audits: dict[str, Audit]) -> None:
    assert {name: (it.verdict, it.exit_code) for name, it in audits.items()} == {
        "leaking": ("leaks", 1),
        "failed": ("inconclusive", 3),
        "accepted": ("nothing found", 0),
    }
    assert audits["leaking"].trials
    assert audits["accepted"].not_run
    states = {name: {one.state for one in words.outcomes(it)} for name, it in audits.items()}
    assert {"leaks", "clear"} <= states["leaking"]
    assert {"unknown", "clear"} <= states["failed"]
    assert {"waived", "tolerated", "not run"} <= states["accepted"]


@pytest.mark.parametrize("name", AUDITS)
def test_every_reading_and_every_probe_that_did_not_run_has_one_outcome(audits: dict[str, Audit], name: str) -> None:
    it = audits[name]
    found = [(one.rung, one.probe) for one in words.outcomes(it)]
    assert sorted(found) == sorted([*it.readings, *((rung, probe) for rung, probe, _ in it.not_run)])
    assert {(o.rung, o.probe) for o in words.outcomes(it) if o.finding} == {(f.rung, f.probe) for f in it.findings}


@pytest.mark.parametrize("name", AUDITS)
def test_no_report_holds_a_text_of_the_store(told: dict[str, dict[str, str]], name: str) -> None:
    assert not [(file, TEXT.findall(text)[:3]) for file, text in told[name].items() if TEXT.search(text)]


@pytest.mark.parametrize("asked", [False, True], ids=["redacted", "shown"])
def test_recovered_texts_stand_beside_the_true_ones_only_when_asked_for_and_never_in_ci(
    audits: dict[str, Audit], asked: bool
) -> None:
    it = recovering(audits["leaking"], "the harbour | at dawn", "the old harbour <b>at</b> dawn")
    text = reports.texts(it, show_text=asked, day=DAY)
    assert {file for file in text if "harbour" in text[file]} == (
        {"report.html", "report.json", "report.md"} if asked else set()
    )
    assert "<b>" not in text["report.html"]
    assert ("Handle it as you handle the texts" in text["report.html"]) == asked
    assert ("No text of the store" in text["report.html"]) != asked
    jsonschema.validate(json.loads(text["report.json"]), reports.schema())
    if not asked:
        assert "| static | 12 | 12 | 5.0 | 5.0 |" in text["report.md"]


def test_what_was_recovered_is_counted_where_the_true_texts_are_not_known(audits: dict[str, Audit]) -> None:
    told = reports.texts(recovering(audits["leaking"], "at dawn", None), day=DAY)["report.md"]
    assert "| static | 12 | 12 |  | 2.0 |" in told


@pytest.mark.parametrize("name", AUDITS)
def test_the_page_names_nothing_that_a_browser_would_fetch_and_runs_nothing(told: dict[str, dict[str, str]], name: str) -> None:
    page = told[name]["report.html"]
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)"', page) if link[0] != "#" and link != "data:,"]
    assert not re.findall(r"url\((?!#)|@import|\son\w+=", page)


@pytest.mark.parametrize("name", AUDITS)
def test_the_page_says_the_verdict_first_and_the_method_last(told: dict[str, dict[str, str]], name: str) -> None:
    page = told[name]["report.html"]
    order = [page.index(f'<section id="{part}"') for part in ("summary", "evidence", "given", "method")]
    assert order == sorted(order)
    assert page.index('<div class="verdict') < page.index("<table")


def test_every_picture_that_there_are_numbers_for_is_on_the_page_and_colours_are_the_pages(
    told: dict[str, dict[str, str]],
) -> None:
    drawn = {name: set(re.findall(r'<figure id="([\w-]+)"', text["report.html"])) for name, text in told.items()}
    assert drawn["leaking"] == {"leakage", "clouds-pairs", "confusion-pairs", "seeds", "frontier"}
    assert drawn["failed"] == {"leakage", "clouds-pairs", "confusion-pairs", "seeds"}
    assert drawn["accepted"] == {"leakage", "confusion-encoder"}
    for text in told.values():
        assert not re.findall(r"#[0-9a-f]{6}", re.sub(r"<style>.*?</style>", "", text["report.html"], flags=re.S))
        names = re.findall(r' id="([^"]+)"', text["report.html"])
        assert len(names) == len(set(names))


@pytest.mark.parametrize("name", AUDITS)
def test_the_json_keeps_to_the_schema_that_is_shipped(told: dict[str, dict[str, str]], name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(reports.schema())
    jsonschema.validate(json.loads(told[name]["report.json"]), reports.schema())


@pytest.mark.parametrize(
    "broken",
    [
        lambda it: it.pop("verdict"),
        lambda it: it.update(exit_code=0),
        lambda it: it["findings"][0].pop("lift"),
        lambda it: it["findings"][0].update(score=None),
        lambda it: it["rungs"][1].update(status="fine"),
        lambda it: it["defences"][0].update(verdict="safe"),
        lambda it: it.update(schema="crossvec-audit/2"),
    ],
)
def test_the_schema_refuses_what_is_no_audit(told: dict[str, dict[str, str]], broken: Any) -> None:
    it = copy.deepcopy(json.loads(told["leaking"]["report.json"]))
    broken(it)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(it, reports.schema())


@pytest.mark.parametrize("name", AUDITS)
def test_sarif_is_built_as_the_standard_says(told: dict[str, dict[str, str]], name: str) -> None:
    jsonschema.validate(json.loads(told[name]["report.sarif"]), SARIF)


@pytest.mark.parametrize("name", AUDITS)
def test_sarif_has_a_rule_for_each_probe_and_a_result_for_each_finding(
    audits: dict[str, Audit], told: dict[str, dict[str, str]], name: str
) -> None:
    run, it = sarif_of(told[name]), audits[name]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(dict.fromkeys(f"crossvec/{o.probe}" for o in words.outcomes(it)))
    assert [rules[one["ruleIndex"]]["id"] for one in run["results"]] == [one["ruleId"] for one in run["results"]]
    assert [(one["ruleId"], one["properties"]["rung"]) for one in run["results"]] == [
        (f"crossvec/{one.probe}", one.rung) for one in it.findings
    ]
    level = {"high": "error", "medium": "warning", "low": "note"}
    assert [one["level"] for one in run["results"]] == [level[one.severity] for one in it.findings]
    assert [bool(one["suppressions"]) for one in run["results"]] == [one.waiver is not None for one in it.findings]
    assert len({one["partialFingerprints"]["crossvecFinding/v1"] for one in run["results"]}) == len(run["results"])
    assert any("OWASP LLM09:2026" in rule["properties"]["tags"] for rule in rules)
    assert run["invocations"][0]["exitCode"] == it.exit_code


def test_sarif_tells_what_was_not_measured_and_shows_findings_in_the_policy(audits: dict[str, Audit]) -> None:
    from crossvec.report.audit.sarif import sarif

    (run,) = sarif(audits["accepted"], policy="security/policy.toml")["runs"]
    told = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert any("neighbours was not measured on the rung encoder" in one for one in told)
    places = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert places == {"security/policy.toml"}
    assert {one["suppressions"][0]["justification"] for one in run["results"] if one["suppressions"]} == {
        "the list is public (until 2999-01-01)"
    }


@pytest.mark.parametrize("name", AUDITS)
def test_junit_is_red_exactly_where_the_exit_code_is_not_0(
    audits: dict[str, Audit], told: dict[str, dict[str, str]], name: str
) -> None:
    root, it = suites_of(told[name]), audits[name]
    failures, errors = int(root.get("failures", -1)), int(root.get("errors", -1))
    assert (failures > 0) == (it.exit_code == 1)
    assert (failures + errors > 0) == (it.exit_code != 0)
    assert failures == len(words.failing(it))
    for count, part in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(root.get(count, -1)) == len(list(root.iter(part))) == sum(int(s.get(count, -1)) for s in root)


def test_junit_skips_what_was_not_measured_and_says_what_it_needs(told: dict[str, dict[str, str]]) -> None:
    skipped = {case.get("name"): case[0].get("message") for case in suites_of(told["accepted"]).iter("testcase") if len(case)}
    assert "needs the reference's texts" in skipped["neighbours"]
    broken = {case.get("name"): case[0].tag for case in suites_of(told["failed"]).iter("testcase") if len(case)}
    assert broken["translator"] == "error"
    assert {tag for name, tag in broken.items() if name != "translator"} == {"skipped"}


def test_junit_is_no_green_where_nobody_read_the_vectors_or_an_attack_was_broken_off(audits: dict[str, Audit]) -> None:
    it, key = audits["accepted"], ("encoder", "alignment")
    cut = replace(it, findings=(), readings={key: replace(it.readings[key], unfinished="0 seconds were not enough")})
    unread = replace(it, readings={}, rungs=it.rungs[:1], findings=(), not_run=(("domain", "alignment", "a reference"),))
    for one in (cut, unread):
        root = suites_of(reports.texts(one, day=DAY))
        assert (one.exit_code, root.get("errors"), root.get("failures")) == (3, "1", "0")


def test_names_that_come_from_files_break_no_report(audits: dict[str, Audit]) -> None:
    name = "<script>alert(1)</script> $x^{2 | \x07\ud800]]> & \"'`*"
    text = reports.texts(renamed(audits["leaking"], name), day=DAY)
    assert "<script" not in text["report.html"]
    assert "<script" not in text["report.md"]
    assert not re.search("[\x00-\x08\ud800]", "".join(text[file] for file in text if file != "report.json"))
    assert "<script>" in suites_of(text).get("name", "")
    jsonschema.validate(json.loads(text["report.sarif"]), SARIF)
    tables = [line for line in text["report.md"].splitlines() if line.startswith("|")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in tables if "AUC" in line and "attributes" in line}
    assert len(bars) == 1, "a bar in a name opens no column"


def test_reports_are_written_whole_and_the_same_twice(audits: dict[str, Audit], tmp_path: Path) -> None:
    first = reports.write(audits["leaking"], tmp_path / "new" / "folder", day=DAY)
    assert tuple(path.name for path in first) == reports.FILES == tuple(sorted(p.name for p in first[0].parent.iterdir()))
    before = [path.read_bytes() for path in first]
    assert [path.read_bytes() for path in reports.write(audits["leaking"], first[0].parent, day=DAY)] == before


def test_a_folder_that_cannot_be_is_refused_before_the_audit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="reports cannot be written"):
        reports.prepared(tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (
            ("chance", 0.001, "top-1", 0.4, 0.3, 0.5, 100),
            "right for 40 of 100 rows, where a guess is right for fewer than 1 of",
        ),
        (("shuffled", 0.5, "AUC", 0.93, 0.9, 0.95, 9), "right in 93 of 100 comparisons, where a guess is right in 50 of 100"),
        (("enough", 0.8, "verdict probability", 0.97, 0.97, 0.97, 1), "sure with probability 0.97, where 0.80 is enough"),
        (("shuffled", 0.04, "token F1 (static)", 0.51, 0.4, 0.6, 90), "agreement of 0.51 in words, where 1 is every word"),
        (("shuffled", 0.02, "BLEU (static)", 0.2, 0.1, 0.3, 90), "BLEU (static) of 0.20, where a guess reaches 0.02"),
        (("shuffled", 0.31, "correlation", 0.75, 0.7, 0.8, 384), "a resemblance of 0.75, where chance reaches 0.31"),
    ],
)
def test_a_score_is_told_in_words(score: tuple[Any, ...], said: str) -> None:
    assert said in words.sure(Score.against(*score))


def test_a_probe_that_was_installed_is_told_without_words_of_its_own() -> None:
    assert "mine" in words.told("mine").asks
    assert words.told("alignment").remedy != words.told("mine").remedy


def test_what_to_do_names_each_remedy_once_and_ends_with_doing_it_again(audits: dict[str, Audit]) -> None:
    steps = words.to_do(audits["leaking"])
    assert len(steps) == len(set(steps))
    assert steps[0] == words.told(words.failing(audits["leaking"])[0].probe).remedy
    assert "Audit again" in steps[-1]
    assert any("Repeat with more rows" in step for step in words.to_do(audits["failed"]))
    assert not any("Repeat with more rows" in step for step in steps)


def strict(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these properties and no other."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT_ONLY = {"type": "string", "minLength": 1}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = strict({"text": TEXT_ONLY}, {"markdown": TEXT_ONLY})
SUPPRESSION = strict(
    {"kind": {"enum": ["inSource", "external"]}}, {"status": {"enum": ["accepted"]}, "justification": TEXT_ONLY}
)
RULE = strict(
    {
        "id": TEXT_ONLY,
        "name": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": strict({"level": LEVEL}),
        "properties": strict(
            {
                "tags": {"type": "array", "items": TEXT_ONLY, "uniqueItems": True, "maxItems": 20},
                "security-severity": {"type": "string", "pattern": r"^\d\.\d$"},
                "precision": {"enum": ["very-high", "high", "medium", "low"]},
            }
        ),
    }
)
RESULT = strict(
    {
        "ruleId": TEXT_ONLY,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {"const": "fail"},  # section 3.27.9: any other kind has level none
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {
            "type": "array",
            "minItems": 1,
            "maxItems": 10,
            "items": strict(
                {
                    "physicalLocation": strict(
                        {
                            # relative, as GitHub finds no file by another
                            "artifactLocation": strict({"uri": {"type": "string", "pattern": r"^[^/:\\]+(/[^/:\\]+)*$"}}),
                            "region": strict({"startLine": {"type": "integer", "minimum": 1}}),
                        }
                    ),
                    "logicalLocations": {
                        "type": "array",
                        "items": strict({"name": TEXT_ONLY, "fullyQualifiedName": TEXT_ONLY, "kind": TEXT_ONLY}),
                    },
                }
            ),
        },
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        "suppressions": {"type": "array", "items": SUPPRESSION, "uniqueItems": True},
        "properties": {"type": "object"},
    }
)
SARIF = strict(
    {
        "$schema": {"type": "string", "pattern": "sarif-schema-2.1.0.json$"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": strict(
                {
                    "tool": strict(
                        {
                            "driver": strict(
                                {
                                    "name": {"const": "crossvec"},
                                    "version": TEXT_ONLY,
                                    "semanticVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+"},
                                    "rules": {"type": "array", "items": RULE, "uniqueItems": True},
                                }
                            )
                        }
                    ),
                    "automationDetails": strict({"id": TEXT_ONLY}),
                    "invocations": {
                        "type": "array",
                        "items": strict(
                            {
                                "executionSuccessful": {"const": True},
                                "exitCode": {"enum": [0, 1, 3]},
                                "toolExecutionNotifications": {
                                    "type": "array",
                                    "items": strict({"level": LEVEL, "message": MESSAGE}),
                                },
                            }
                        ),
                    },
                    "results": {"type": "array", "items": RESULT},
                    "properties": {"type": "object"},
                }
            ),
        },
    }
)
"""The part of OASIS SARIF 2.1.0 that is written here, with the names and values that the standard gives, and no other key."""
