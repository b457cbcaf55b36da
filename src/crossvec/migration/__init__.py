"""migration — move a store to another model without embedding its texts again: plan, carry across, verify, judge.

In    Store of the old model's rows; a Translator, or rows of the new model, or texts and an Encoder of the new model
Out   a Plan (nothing is written), or an Outcome: a new store with the same ids and payload, checked, and a gate
Uses  migration.plan, .transfer, .verification, .gate, .journal; stores, fitting

The old rows are never changed. The new ones are written beside them; when the gate says PASS, the application is pointed at
them, or, when that was asked for, the old name is (migration.switching).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Encoder, Step, silent
from crossvec.errors import TranslatorError, UsageError
from crossvec.fitting import ENOUGH_ROWS
from crossvec.machine import pick_device
from crossvec.migration import learning, origin, switching
from crossvec.migration.gate import Gate, Retention, deciding, judge
from crossvec.migration.journal import LISTED, Journal, fingerprint
from crossvec.migration.plan import Plan, Probe, dest_metric, estimate
from crossvec.migration.reading import Sample, sample
from crossvec.migration.transfer import refuse_gone, refuse_itself, refuse_taken, transfer
from crossvec.migration.verification import Verification, verify
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores import Store
from crossvec.stores.collection import Collection
from crossvec.stores.sampling import first_row, opened, tolerant
from crossvec.texts import Texts
from crossvec.translator import Translator

__all__ = ["MIN_RETENTION", "SAMPLE", "Evidence", "Gate", "Journal", "Outcome", "Plan", "Retention", "migrate", "plan"]

SAMPLE = 4000
"""Rows with which retention is measured, and texts that are embedded at most."""

NAMED = 10  # ids of rows left out that a note names

MIN_RETENTION = 0.8
"""The recall at 10 that the gate asks for unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a migration learns from and is judged by; at least a translator, a target or an encoder.

    `target` holds rows of the new model, of any texts. `encoder` is the new model; it embeds the texts of `texts`, matched with
    rows by id, or those in the payload field `field`, and `query_texts`. `queries` are rows (q, dx) of the old model.
    """

    translator: Translator | None = None
    target: Space | None = None
    encoder: Encoder | None = None
    texts: Texts | None = None
    field: str | None = None
    queries: Float32[np.ndarray, "q dx"] | None = None
    query_texts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a migration did: the journal, what was found in the destination afterwards, and the gate.

    `switched`: the source's name leads to the new rows now; `unswitched` says why it does not though that was asked for.
    """

    plan: Plan
    journal: Journal
    verification: Verification
    scores: dict[str, Retention]
    gate: Gate
    seconds: dict[str, float]
    resumed: int = 0
    notes: tuple[str, ...] = field(default=())
    switched: bool = False
    unswitched: str = ""

    @property
    def retention(self) -> Retention | None:
        """The retention that decided."""
        return deciding(self.scores)


def plan(
    source: Store,
    dest: Store,
    evidence: Evidence,
    *,
    rows: int = SAMPLE,
    force: bool = False,
    switch: bool = False,
    journal: Journal | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Step = silent,
    **how: Any,
) -> Plan:
    """Look at a sample of the source, fit a translator unless one is given, and tell what a migration would do.

    Nothing is written. `rows` are sampled for measuring; `how` goes to `fitting.fit`. With `journal`, that of a migration
    that was begun, the destination may hold rows. `force` goes on with rows that do not look like the translator's source.
    `switch` plans that the source's name shall lead to the new rows when the gate passes.

    Raises UsageError for an empty source, a destination that holds rows, evidence that does not suffice and rows of another
    model; for names that cannot be switched StoreError; what the stores, the encoder and `fitting.fit` raise.
    """
    if evidence.translator is None and evidence.target is None and evidence.encoder is None:
        raise UsageError(
            "there is nothing to learn the new model's space from",
            "give --translator FOLDER, or --target STORE with rows of the new model, or --encoder NAME with --texts FILE",
        )
    if evidence.encoder is not None and evidence.texts is None and evidence.field is None:
        raise UsageError("an encoder needs texts to embed", "give --texts FILE, or --text-field NAME of the payload")
    if evidence.encoder is None and evidence.query_texts:
        raise UsageError("texts of queries need the new model", "give --encoder NAME, and --texts FILE")
    if journal is None:
        refuse_itself(source, dest)  # before they are opened: some databases lock what is opened twice
    turn = switching.planned(source, dest) if switch else None
    with opened(source, dest):
        if journal is None:
            refuse_taken(source, dest)
        made = _planned(tolerant(source), dest, evidence, rows, force, journal, seed, device, progress, how)
        return replace(made, switch=turn, notes=made.notes + turn.notes) if turn else made


def _planned(
    source: Store,
    dest: Store,
    evidence: Evidence,
    rows: int,
    force: bool,
    journal: Journal | None,
    seed: int,
    device: str,
    progress: Step,
    how: dict[str, Any],
) -> Plan:
    told = source.describe()
    given = evidence.translator
    if evidence.encoder is not None:
        learning.check_encoder(evidence.encoder, given, None if given else evidence.target)
    progress("reading a sample", 0.0)
    drawn = sample(source, max(rows, ENOUGH_ROWS) if given is None and evidence.target else 2 * rows, seed, evidence.field)
    if given is not None:
        origin.check_dim(given, drawn.vectors, told.url)  # before any text is paid for
    learn, held_out = _truths(drawn, evidence, rows, seed, progress)
    translator = given
    if translator is None:
        translator = learning.learned(drawn, evidence.target, learn, told.name, progress, seed=seed, device=device, **how)
    doubts = origin.look(translator, drawn.vectors, told.url)
    if doubts.foreign and not force:
        raise TranslatorError(
            f"{told.url}: {doubts.notes[0]}", "use a translator fitted on this store's model; --force goes on all the same"
        )
    new_queries = None
    if evidence.query_texts and evidence.encoder is not None:
        new_queries = evidence.encoder.encode(list(evidence.query_texts), query=True)
    probe = _probe(drawn, held_out, rows, (told.metric, dest_metric(dest, told)), evidence.queries, new_queries, seed)
    translator = translator.to(pick_device(device))
    seconds, size = estimate(drawn, told.rows, translator)
    everything = np.ones(len(probe.sample), bool)
    worth: list[tuple[int, Retention]] = []
    if learn is not None and held_out is not None and len(learn) > 1:
        progress("measuring what pairs are worth", 0.9)
        worth = learning.worth(drawn, learn, held_out, probe.metrics[1], seed)
    notes = []
    if drawn.bad:
        bad = f"{len(drawn.bad):,} of the rows looked at have no usable vector, such as row {drawn.bad[0]:,}"
        notes.append(f"{bad}: they are left out, and listed")
    return Plan(
        told,
        str(getattr(getattr(dest, "address", None), "url", dest)),
        probe.metrics[1],
        translator,
        probe,
        seconds,
        size,
        probe.score(translator, translator.translate(probe.sample.vectors), everything),
        doubts.notes,
        tuple(notes),
        tuple(worth),
        int(translator.card.get("pairs", 0)),
        journal.rows_written if journal else 0,
        source.column if isinstance(source, Collection) else "",
    )


def _truths(
    drawn: Sample, evidence: Evidence, rows: int, seed: int, progress: Step
) -> tuple[learning.Truth | None, learning.Truth | None]:
    """Return what there is to learn from and what is held out to measure with; never the same rows."""
    if evidence.encoder is None:
        return None, None
    if evidence.translator is None:
        truth = learning.embedded(drawn, evidence.texts, evidence.encoder, rows, (), seed, progress)
        order = np.random.default_rng(seed).permutation(len(truth))
        learn, held_out = (truth.take(np.sort(half)) for half in np.array_split(order, 2))
        return learn, held_out
    seen = evidence.translator.card.get(learning.SEEN, ())
    return None, learning.embedded(drawn, evidence.texts, evidence.encoder, rows, seen, seed, progress)


def migrate(
    source: Store,
    dest: Store,
    planned: Plan,
    path: Path,
    *,
    least: float = MIN_RETENTION,
    batch: int = BATCH_ROWS,
    progress: Step = silent,
) -> Outcome:
    """Carry out a plan, or go on with it where its journal at `path` stands; check what was written, and judge it.

    Raises UnfinishedError when it was interrupted or a store failed: the same call goes on.
    """
    with opened(source, dest):
        outcome = _migrate(tolerant(source), dest, planned, path, least, batch, progress)
        if planned.switch is None:
            return outcome
        if outcome.gate != "PASS":
            return replace(outcome, unswitched=f"the gate says {outcome.gate}")
        why = switching.carry_out(source, planned.switch, outcome.journal, path, outcome.verification.rows)
        return replace(outcome, switched=not why, unswitched=why)


def _migrate(source: Store, dest: Store, planned: Plan, path: Path, least: float, batch: int, progress: Step) -> Outcome:
    journal = begun(path, planned)
    refuse_gone(dest, journal, path)
    resumed = journal.rows_written if isinstance(dest, Collection) or journal.state != "writing" else 0
    started = time.perf_counter()
    if journal.state == "writing":
        transfer(source, dest, planned.translator, journal, path, planned.source, batch, progress)
    carried = time.perf_counter() - started
    found, rows, there = verify(source, dest, planned.translator, journal, planned.probe.sample, first_row(source), progress)
    scores = planned.probe.score(planned.translator, rows, there)
    gate = judge(deciding(scores), least, planned.trusted) if found.good else "FAIL"
    journal.state = "done"
    journal.save(path)
    seconds = {"transfer": round(carried, 3), "verify": round(time.perf_counter() - started - carried, 3)}
    return Outcome(planned, journal, found, scores, gate, seconds, resumed, _notes(planned, journal))


def begun(path: Path, planned: Plan) -> Journal:
    """Return the journal at `path` when it is this migration's, or a new one.

    Raises UsageError when it is another's.
    """
    told = planned.source
    fresh = Journal(told.url, planned.dest, fingerprint(planned.translator), source_rows=told.rows, source_size=told.size)
    held = Journal.load(path)
    if held is None:
        return fresh
    held.check(path, fresh)
    return held


def _notes(planned: Plan, journal: Journal) -> tuple[str, ...]:
    notes = []
    if named := [skip for skip in journal.skipped if skip.get("id") is not None]:
        some = ", ".join(repr(skip["id"]) for skip in named[:NAMED]) + (" …" if journal.skipped_rows > NAMED else "")
        notes.append(f"left out, by id: {some} ({named[0]['reason']}); all are listed in the journal, up to {LISTED:,}")
    if journal.rows_read != planned.source.rows and planned.source.exact:
        notes.append(
            f"the source held {planned.source.rows:,} rows when it was described, and {journal.rows_read:,} were read:"
            " rows were added or deleted meanwhile"
        )
    return tuple(notes)


def _probe(
    drawn: Sample,
    held_out: learning.Truth | None,
    rows: int,
    metrics: tuple[str | None, str | None],
    old_queries: np.ndarray | None,
    new_queries: np.ndarray | None,
    seed: int,
) -> Probe:
    """Return what retention is measured with: the rows held out, and others up to `rows`."""
    wanted = held_out.at if held_out is not None else np.empty(0, np.int64)
    others = np.setdiff1d(np.arange(len(drawn)), wanted)
    more = np.random.default_rng(seed).permutation(others)[: max(0, rows - len(wanted))]
    at = np.sort(np.concatenate([wanted, more]))
    truth = None
    if held_out is not None:
        truth = replace(held_out, at=np.searchsorted(at, held_out.at))
    return Probe(drawn.take(at), truth, metrics, old_queries, new_queries, seed)
