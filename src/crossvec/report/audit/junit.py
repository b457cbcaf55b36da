"""junit — an audit as JUnit XML: a suite for each rung, a case for each question, red exactly where the exit code is not 0.

In    Audit
Out   XML text; no text of the victim
Uses  audit, report.audit.words

A finding that fails the policy is a failure. An attack that could not be carried out for sure is an error, told once on the
rung's own case `translator`, as CI must not show green what is not known; the questions it leaves open are skipped. A question
whose attack was broken off before it found anything is an error too.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from crossvec.audit import Audit
from crossvec.audit.ladder import Rung
from crossvec.report.audit import words
from crossvec.report.audit.words import Outcome

__all__ = ["junit"]


def junit(it: Audit) -> str:
    """Return the whole report."""
    store = words.clean(it.store["name"] or "store")
    root = Xml.Element("testsuites", name=f"crossvec audit of {store}", time=f"{it.seconds:.3f}")
    outcomes = words.outcomes(it)
    for rung in it.rungs:
        suite = Xml.SubElement(root, "testsuite", name=f"{store}: {rung.name}", time=f"{rung.seconds:.3f}")
        for case in (*_attacker(it, rung), *(_question(one) for one in outcomes if one.rung == rung.name)):
            case.set("classname", f"crossvec.audit.{rung.name}")
            suite.append(case)
        _count(suite)
    _count(root)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _attacker(it: Audit, rung: Rung) -> Iterator[Xml.Element]:
    """Yield a case for how the rung's attacker reads the rows: an error unless it can be believed, or where there is none."""
    unread = it.unread and rung.name == "vectors"
    if rung.translator is None and rung.status == "aligned" and not unread:
        return
    case = Xml.Element("testcase", name="translator", time=f"{rung.seconds:.3f}")
    if unread:
        Xml.SubElement(case, "error", type="unread", message="no attack that reads the vectors came to a score")
    elif rung.status != "aligned":
        told = f"the translator is {rung.status}: what an attacker could read is not known"
        if rung.translator is None:
            lie = "nothing shows that the rows" if rung.unwitnessed else "not all of the rows"
            told = f"{lie} lie where the named model puts their texts: what an attacker could read is not known"
        Xml.SubElement(case, "error", type=rung.status, message=told).text = words.MORE
    yield case


def _question(one: Outcome) -> Xml.Element:
    case = Xml.Element("testcase", name=words.clean(one.probe), time="0")
    if one.state == "not run":
        Xml.SubElement(case, "skipped", message=words.clean(f"not measured: needs {one.needs}"))
    elif one.state == "unknown":
        if one.reading and one.reading.unfinished:
            Xml.SubElement(case, "error", type="unfinished", message=words.clean(one.reading.unfinished))
        else:
            Xml.SubElement(case, "skipped", message="not known: the translator was not sure")
    elif one.state == "told":
        Xml.SubElement(case, "system-out").text = "told in the report, and not scored"
    elif one.finding:
        found, told = one.finding, words.told(one.probe)
        message = words.clean(f"{told.leaks} {words.sure(found.score)}")
        if one.state == "leaks":
            Xml.SubElement(case, "failure", type=found.severity, message=message).text = told.remedy
        else:
            why = "below the policy's severity" if found.waiver is None else f"accepted: {found.waiver.reason}"
            Xml.SubElement(case, "system-out").text = words.clean(f"{found.severity}, {why}. {message}")
    return case


def _count(suite: Xml.Element) -> None:
    for name, path in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f".//{path}"))))
