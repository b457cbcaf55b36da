"""audit — the verbs that ask what a stolen store would give away, and what defences would change.

In    a store, a reference and what else is known
Out   findings, a report, what each defence comes to; exit code 1 when something leaks, 3 when that is not known
Uses  audit, texts, encoders, report
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import engine, options, progress
from crossvec.errors import UsageError

if TYPE_CHECKING:
    from crossvec.audit import Case, Policy, Probe
    from crossvec.encoders import Encoder
    from crossvec.space import Space

INPUTS = (
    click.argument("victim"),
    click.option(
        "--reference", metavar="STORE", help="Vectors of other texts of the same kind, under a model the attacker has."
    ),
    click.option(
        "--reference-texts", metavar="FILE", help="The reference's texts; with --encoder alone they are the reference."
    ),
    click.option("--encoder", metavar="NAME", help="The reference's model: it embeds labels and documents."),
    click.option("--victim-encoder", metavar="NAME", help="The victim's model, for an attacker who has it too."),
    click.option("--pairs", metavar="FILE", help="Known pairs: two columns of ids or rows, of VICTIM and of the reference."),
    click.option("--texts", metavar="FILE", help="The victim's own texts, row by row: they score attacks and reach none."),
    click.option("--labels", metavar="FILE", help="Labels to look for: .txt, .toml or .json."),
    click.option("--label-column", metavar="NAME", help="Where VICTIM, or --texts, holds the labels of its rows."),
    click.option("--policy", metavar="FILE", help="Thresholds and waivers; crossvec.toml if it is there."),
    click.option("--quick", is_flag=True, help="Fewer rows and less effort: minutes on two cores."),
    click.option("--send-texts", is_flag=True, help="Allow that texts leave this machine, for a model behind an endpoint."),
    options.effort,
    options.seed,
    options.device,
    options.verb,
)


def inputs(command: Any) -> Any:
    """Add what both verbs are given: the victim, what the attacker knows, what the owner knows, and how to learn."""
    for option in reversed(INPUTS):
        command = option(command)
    return command


def _schema(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the JSON Schema of what an audit tells, and leave."""
    if asked:
        from crossvec.report.audit import schema

        click.echo(json.dumps(schema(), indent=2))
        context.exit()


@click.command(short_help="What would a stolen store give away?")
@inputs
@click.option("--probe", "probes", multiple=True, metavar="NAME", help="Only this probe, such as attributes; repeatable.")
@click.option("--models", metavar="FILE", help="Fingerprints of further models.")
@click.option("--defences", is_flag=True, help="Also try the usual defences, each against an attack of its own.")
@click.option("-o", "--output", metavar="FOLDER", help="Also write report.html, .json, .md, .sarif and .xml (JUnit) there.")
@click.option("--show-text", is_flag=True, help="Show recovered texts beside the true ones; else only how long they are.")
@click.option(
    "--lm", metavar="NAME", help="Language model that proposes texts for the probe inversion: a folder, or a hub's name."
)
@click.option("--download", is_flag=True, help="Allow that the model of --lm is fetched from the Hugging Face hub.")
@click.option("--budget-seconds", type=options.Finite(0), metavar="N", help="Time for the probe inversion on each rung.")
@click.option("--canaries", metavar="FILE", help="Secrets that `crossvec canary plant` put into VICTIM: are they read?")
@click.option("--judge", metavar="URL", help="Let a model behind an OpenAI-compatible API judge recovered texts; or: local.")
@click.option("--judge-model", metavar="NAME", help="Which model judges.")
@click.option(
    "--schema", is_flag=True, is_eager=True, expose_value=False, callback=_schema, help="Print the schema of the JSON."
)
def audit(defences: bool, output: str | None, show_text: bool, quick: bool, format: str, **given: Any) -> int:
    """Measure what somebody who stole only the vectors in VICTIM could learn about its texts.

    Exit code 1 when something leaks, 3 when an attack could not be carried out for sure, 0 when nothing was found.
    """
    from crossvec.audit import audit as run
    from crossvec.audit.defences import STANDARD
    from crossvec.report import audit as reports
    from crossvec.report.audit.markdown import markdown

    _check_effort(quick)
    chosen, rules = _probes(given), _policy(given["policy"])
    how = {name: given[name] for name in ("effort", "seed", "device")}
    if output:
        reports.prepared(output)
    if show_text:
        options.advise("warning: texts of the store will be shown; handle what this prints and writes as you handle the texts")
    case = _planted(_case(given), given["canaries"])
    with progress.shown() as step:
        tried = STANDARD if defences else ()
        found = run(case, probes=chosen, policy=rules, defences=tried, quick=quick, progress=step, **how)
    if output:
        for path in reports.write(found, output, show_text=show_text, policy=_from_here(given["policy"])):
            options.advise(f"wrote {path}")
    options.out(format, found.to_json(show_text), lambda: _rendered(markdown(found, show_text=show_text, narrow=True)))
    return found.exit_code


@click.command(short_help="What would a defence cost, and stop?")
@inputs
@click.option("--defence", "names", multiple=True, metavar="NAME", help="Such as noise:0.02, truncate:0.5, rotate; repeatable.")
def defend(names: tuple[str, ...], quick: bool, format: str, **given: Any) -> int:
    """Try defences on the vectors in VICTIM: what a search loses, and what an attacker who knows of them still learns.

    Nothing is written. Exit code 1 when a defence that was named is broken, 3 when that is not known of one, else 0; without
    --defence the usual ones are compared, and the code is 0.
    """
    from crossvec.audit import frontier
    from crossvec.audit.defences import STANDARD, named
    from crossvec.audit.inputs import QUICK, WHOLE
    from crossvec.report.audit import markdown

    _check_effort(quick)
    chosen = tuple(map(named, names))
    how = {name: given[name] for name in ("effort", "seed", "device")} | ({"effort": "quick"} if quick else {})
    scored, max_rows = QUICK if quick else WHOLE
    rules, case = _policy(given["policy"]), _case(given)
    with progress.shown() as step:
        trials = frontier.defend(case, chosen or STANDARD, policy=rules, scored=scored, max_rows=max_rows, progress=step, **how)
    verdicts = {trial.verdict for trial in trials} if chosen else set()
    code = 1 if "broken" in verdicts else 3 if "inconclusive" in verdicts else 0
    record = {"schema": frontier.SCHEMA, "exit_code": code, "defences": [trial.to_json() for trial in trials]}
    options.out(format, record, lambda: _rendered(markdown.defences(trials)))
    return code


def _check_effort(quick: bool) -> None:
    if quick and engine.given("effort") not in (None, "quick"):
        raise UsageError("--quick and --effort say two different things", "use one of them")


def _rendered(page: str) -> Any:
    from rich.markdown import Markdown

    return Markdown(page)


def _probes(given: dict[str, Any]) -> list[Any] | None:
    """Return the probes asked for, those with settings in place of their defaults; None for all as they are."""
    from crossvec.audit.probes import create, names

    asked: Sequence[str] = given["probes"]
    set_up = {one.name: (option, one) for option, one in (("--models", _fingerprint(given)), *_inversions(given)) if one}
    if asked:
        for_probes = [(option, name) for name, (option, _) in set_up.items()]
        used = {option for option, name in for_probes if name in asked}
        for option, name in (*for_probes, *([("--canaries", "canaries")] if given["canaries"] else [])):
            if name not in asked and option not in used:
                raise UsageError(f"{option} is for the probe {name}, which is not asked for", f"add  --probe {name}")
    if not set_up:
        return list(asked) or None
    # Given as probes and not by name, as what was not asked for need not be able to run.
    chosen: list[Any] = list(asked) or [create(name) for name in names()]
    return [set_up.get(one if isinstance(one, str) else one.name, ("", one))[1] for one in chosen]


def _fingerprint(given: dict[str, Any]) -> Probe | None:
    if not given["models"]:
        return None
    from crossvec.audit.fingerprints import built_in, read
    from crossvec.audit.probes.fingerprint import Fingerprinted

    return Fingerprinted((*read(given["models"]), *built_in()))


def _inversions(given: dict[str, Any]) -> list[tuple[str, Probe | None]]:
    """Return inversion, and the probe that reads canaries in the same way, each with the option that sets it up."""
    from crossvec.audit.probes.canaries import Canaries
    from crossvec.audit.probes.inversion import Inversion

    option, made = _inversion(given)
    set_up = [(option, made)]
    if isinstance(made, Inversion) and given["canaries"]:
        set_up.append((option, Canaries(made)))
    return set_up


def _planted(case: Case, path: str | None) -> Case:
    from dataclasses import replace

    from crossvec.audit import canaries

    return replace(case, planted=canaries.read(path)) if path else case


def _inversion(given: dict[str, Any]) -> tuple[str, Probe | None]:
    """Return the first option that sets up the probe inversion, and the probe; None where no option does."""
    for option, needed in (("download", "lm"), ("judge_model", "judge")):
        if given[option] and not given[needed]:
            raise UsageError(
                f"--{option.replace('_', '-')} says something of --{needed}, which is not given", f"add  --{needed}"
            )
    first = next((name for name in ("lm", "budget_seconds", "judge") if given[name] is not None), None)
    if first is None:
        return "", None
    from crossvec.audit import judge
    from crossvec.audit.judging import JudgedInversion
    from crossvec.audit.probes.inversion import Inversion

    settings = {"device": given["device"], "download": given["download"], "model": given["lm"]}
    if given["budget_seconds"] is not None:
        settings["budget_seconds"] = given["budget_seconds"]
    option = f"--{first.replace('_', '-')}"
    if not given["judge"]:
        return option, Inversion(**settings)
    url = None if given["judge"] == "local" else given["judge"]
    who = judge.open(url, model=given["judge_model"] or "", send_texts=given["send_texts"], seed=given["seed"])
    return option, JudgedInversion(**settings, judge=who)


def _from_here(policy: str | None) -> str:
    """Return the policy's path as code scanning wants it, from the folder that the audit runs in."""
    from crossvec.audit.policy import FILE

    path, here = Path(policy or FILE).resolve(), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _policy(path: str | None) -> Policy | None:
    from crossvec.audit import policy as policies

    # What is there and cannot be read is refused: the audit would else be held to another policy than the one that is there.
    return policies.read(path) if path else policies.read(policies.FILE) if os.path.lexists(policies.FILE) else None


def _case(given: dict[str, Any]) -> Case:
    """Read everything that the command line names; refuse what cannot be used."""
    from crossvec.audit import Case
    from crossvec.audit import labels as labelling
    from crossvec.cli import pairs as files
    from crossvec.space import Space

    reference, reference_texts, pairs, texts, labels, label_column = (
        given[name] for name in ("reference", "reference_texts", "pairs", "texts", "labels", "label_column")
    )
    encoder, victim_encoder = (
        _model(given[name], given["send_texts"], given["device"]) for name in ("encoder", "victim_encoder")
    )
    stolen = options.opened(given["victim"])
    known, known_texts = (options.opened(reference) if reference else None), None
    if reference_texts:
        known_texts, _ = _texts(reference_texts)
        if known is None and encoder is None:
            raise UsageError("texts of a reference need its vectors, or a model", "give --reference STORE or --encoder NAME")
        if known is None and encoder is not None:
            known = Space.of(encoder.encode(known_texts), name=reference_texts)
    elif known is not None:
        known_texts = _own_texts(known)
        if known_texts is not None and not all(known_texts):
            row = known_texts.index("")
            options.advise(f"note: row {row} of the reference has no text, so that the texts of the others are not used either")
            known_texts = None
    if pairs and known is None:
        raise UsageError("--pairs name rows of a reference", "give it with --reference")
    own, records = _texts(texts) if texts else (_own_texts(stolen), {})
    wanted = labelling.read(labels) if labels else None
    column = label_column or (wanted.column if wanted else None)
    if label_column and wanted is None:
        raise UsageError("--label-column says where labels are, and none are looked for", "name them with --labels FILE")
    return Case(
        stolen,
        known,
        known_texts,
        files.read(pairs, stolen, known)[0] if pairs and known is not None else None,
        encoder,
        victim_encoder,
        wanted,
        own,
        _truth(stolen, records, column) if column else None,
    )


def _model(name: str | None, send_texts: bool, device: str) -> Encoder | None:
    if name is None:
        return None
    from crossvec import encoders

    return encoders.open(name, send_texts=send_texts, device=device)


def _texts(path: str) -> tuple[list[str], dict[str, list[Any]]]:
    """Return a file's texts, and its other columns."""
    from crossvec import texts as files

    told: list[str] = []
    records: list[dict[str, Any]] = []
    for batch in files.open(path).read():
        told += batch.texts
        records += batch.payload or []
    columns = sorted({name for record in records for name in record})
    return told, {name: [record.get(name) for record in records] for name in columns}


def _own_texts(space: Space) -> list[str] | None:
    """Return the texts in a store's payload, under one of the usual names, "" for a row without; None where all are."""
    from crossvec.space import python_values
    from crossvec.texts import TEXT_NAMES

    for name in TEXT_NAMES:
        if name in space.columns:
            values = python_values(space.columns[name])
            told = [value if isinstance(value, str) and value.strip() else "" for value in values]
            return told if any(told) else None
    return None


def _truth(stolen: Space, records: dict[str, list[Any]], column: str) -> list[frozenset[str]]:
    from crossvec.audit.labels import names_in
    from crossvec.space import python_values

    found = {**{name: python_values(values) for name, values in stolen.columns.items()}, **records}
    if column not in found:
        raise UsageError(f"neither the store nor the texts have a column {column!r}", f"there are {', '.join(found) or 'none'}")
    return [names_in(_unpacked(value)) for value in found[column]]


def _unpacked(value: Any) -> Any:
    """Return a list that a text format had to write as JSON; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
