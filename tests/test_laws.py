"""test_laws — what holds for any rows, ids, payload, names and settings: laws of the public API, looked for exceptions to.

What one module promises is tested beside its examples; here are laws that run through several of them.
"""

from __future__ import annotations

import json
import math
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import orthonormal
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import crossvec
from crossvec import Frame, Space, Translator, stores
from crossvec.aligners.maps import Linear
from crossvec.audit import canaries, labels, policy
from crossvec.audit.ladder import RUNGS
from crossvec.audit.probes import names as probes
from crossvec.errors import CrossvecError, StoreError
from crossvec.space import python_values
from crossvec.stores.address import SECRETS, Address

few = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
seeds = st.integers(0, 10_000)

# Texts as they come, those that no file can hold among them: NUL, and halves of characters.
texts = st.text(max_size=8) | st.sampled_from(
    ["", "\0", "\ud800", "é", "e\u0301", " a ", "NaN", "None", "1", "true", "\ufeff", "名"]
)
ids = st.integers(-5, 5) | st.integers(-(2**70), 2**70) | texts
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def cloud(n: int, d: int, seed: int, *, unit: bool = False, shift: float = 0.3) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, d)) + shift
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True) if unit else rows).astype(np.float32)


def refused(problem: CrossvecError) -> None:
    """A refusal is for people: one sentence, perhaps another on what to do, and no words of a library's own."""
    assert str(problem) and "\n\n" not in str(problem)
    assert not any(word in str(problem) for word in ("Traceback", "object has no attribute", "0x7f"))


# Stores: what is read is what was written, to the type of every value


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are one JSON value; 1, 1.0 and True are three, and NaN is itself."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b) or (math.isnan(a) and math.isnan(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@few
@given(data=st.data(), suffix=st.sampled_from(list(stores.STORES)))
def test_any_ids_are_read_back_as_they_were_or_refused(data: st.DataObject, suffix: str) -> None:
    given_ids = data.draw(st.lists(ids, min_size=1, max_size=5, unique_by=lambda one: (type(one), one)))
    with tempfile.TemporaryDirectory() as folder:
        place = stores.open(Path(folder) / f"a{suffix}")
        try:
            place.write([Space.of(cloud(len(given_ids), 3, 0), given_ids)])
        except CrossvecError as problem:
            refused(problem)
            assert not list(Path(folder).iterdir())
            return
        assert same(python_values(place.load().ids_or_numbers()), given_ids)


def widened(value: Any, like: Any) -> Any:
    """Return a value as a column of a table gives it: numbers of one kind, and every key that a row of it has (None)."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: widened(value.get(key), it) for key, it in like.items()} | {
            k: v for k, v in value.items() if k not in like
        }
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [widened(*pair) for pair in zip(value, like, strict=True)]
    return float(value) if type(value) is int and isinstance(like, float) else value


@few
@given(
    rows=st.lists(st.dictionaries(texts, values, max_size=3), min_size=1, max_size=3),
    suffix=st.sampled_from(list(stores.STORES)),
)
def test_any_payload_is_read_back_as_it_was_or_refused(rows: list[dict[str, Any]], suffix: str) -> None:
    keys = dict.fromkeys(key for row in rows for key in row)
    tabular = suffix not in (".jsonl", ".jsonl.gz")
    assume(not tabular or not any("\ud800" <= sign <= "\udfff" for key in keys for sign in key))
    whole = [{key: row.get(key) for key in keys} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        place = stores.open(Path(folder) / f"a{suffix}")
        try:
            place.write([Space.of(cloud(len(rows), 3, 0), None, rows)])
        except CrossvecError as problem:
            refused(problem)
            assert not list(Path(folder).iterdir())
            return
        found = place.load().records()
    assert same(found, widened(whole, found) if tabular else whole)


names_of_files = st.text(st.characters(exclude_characters="\0/?"), min_size=1, max_size=12).map(lambda name: f"{name}.npy")


@few
@given(
    name=names_of_files
    | st.sampled_from(["%41.npy", "a b#c.npy", "-o.npy", "~.npy", "é.npy", "e\u0301.npy", "\n.npy", "\udcff.npy"])
)
def test_a_file_of_any_name_is_written_and_read(name: str) -> None:
    x = cloud(3, 2, 0)
    with tempfile.TemporaryDirectory() as folder:
        for place in (Path(folder) / name, f"{folder}/{name}"):
            try:
                stores.open(place).write([Space.of(x)])
            except StoreError as problem:
                refused(problem)
                continue
            assert [path.name for path in Path(folder).iterdir()] == [name]
            assert np.array_equal(stores.open(place).load().array(), x)
            assert len(stores.open(f"{place}?rows=1:3").load()) == 2


# Addresses


@few
@given(url=st.text(max_size=30) | st.from_regex(r"[a-z+-]{1,12}://[^\n]{0,30}", fullmatch=True))
def test_any_words_are_an_address_or_refused(url: str) -> None:
    try:
        address = Address.parse(url)
        stores.open(url)
    except CrossvecError as problem:
        refused(problem)
    else:
        assert address.place and "\0" not in address.place


words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
passwords = st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0x2FF), min_size=12, max_size=20)


@few
@given(scheme=st.sampled_from(list(stores.DATABASES)), secret=passwords, how=st.integers(0, 5), name=words)
@example("pgvector", "hunter2/with@slash", 0, "books")
@example("qdrant", "hunter2?with&marks", 1, "books")
@example("chroma", "00000000000?", 0, "0")
@example("qdrant", "123?456789ab", 0, "books")
@example("qdrant", "123?a=4567890", 0, "books")
@example("qdrant", "12/cd?efghijk", 0, "books")
def test_an_address_that_holds_a_secret_is_refused_and_repeats_nothing_of_it(
    scheme: str, secret: str, how: int, name: str
) -> None:
    from urllib.parse import quote

    url = (
        f"{scheme}://me:{secret}@host/{name}",
        f"{scheme}://me:{quote(secret, safe='')}@host/{name}",
        f"{scheme}://host/{name}?api_key={quote(secret, safe='')}",
        f"{scheme}://host/{name}?rows=0:9&password={quote(secret, safe='')}",
        f"{scheme}://host/{name}?Auth-Token={quote(secret, safe='')}",
        f"{scheme}://:{quote(secret, safe='')}@host/{name}",
    )[how]
    with pytest.raises(StoreError) as told:
        stores.open(url)
    said = f"{told.value} {told.value.hint} {told.value.__cause__}"
    assert secret not in said and quote(secret, safe="") not in said
    assert SECRETS.get(scheme, "environment") in said


options = st.dictionaries(words, st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3)


@few
@given(
    folder=st.lists(words | st.sampled_from(["a b", "50%", "é", "what?", "#1", "a&b=c"]), min_size=1, max_size=3),
    given_options=options.filter(lambda them: "rows" not in them),
    rows=st.none() | st.tuples(st.integers(0, 9), st.none() | st.integers(10, 99)),
)
def test_an_address_that_is_printed_is_the_address_that_was_parsed(
    folder: list[str], given_options: dict[str, str], rows: tuple[int, int | None] | None
) -> None:
    from crossvec.scale.destination import absolute, with_options

    path = Path("/", *folder, "a.npy")
    asked = {} if rows is None else {"rows": f"{rows[0]}:{'' if rows[1] is None else rows[1]}"}
    for url in (first := with_options(path, given_options | asked), absolute(first)):
        address = Address.parse(url)
        assert (Path(address.place), address.rows, dict(address.options)) == (path, rows, given_options), url


# Translating


def turned(dx: int, dy: int, seed: int, *, unit: bool = False, scale: float = 1.0) -> tuple[Translator, np.ndarray, np.ndarray]:
    """A translator by a random semi-orthogonal map, rows of its source and rows of its target."""
    x, y = cloud(40, dx, seed, unit=unit), scale * cloud(40, dy, seed + 1, unit=unit)
    weight = torch.from_numpy(orthonormal(dx, dy, np.random.default_rng(seed))).float()
    maps = Linear.of(weight), Linear.of(weight.T.contiguous())
    return Translator(*maps, Frame.of(Space.of(x)), Frame.of(Space.of(y))), x, y


sizes = st.integers(2, 9)


@few
@given(d=sizes, more=st.integers(0, 4), seed=seeds, unit=st.booleans(), scale=st.floats(1e-3, 1e3))
def test_there_and_back_is_the_identity_where_the_map_is_an_isometry(
    d: int, more: int, seed: int, unit: bool, scale: float
) -> None:
    there, x, _ = turned(d, d + more, seed, unit=unit, scale=scale)
    assert np.abs(there.inverse().translate(there.translate(x)) - x).max() < 2e-4 * np.abs(x).max()
    again = there.inverse().inverse()
    assert np.array_equal(again.translate(x), there.translate(x)) and again.card == {**there.card, **again.card}


@few
@given(dx=sizes, dy=sizes, seed=seeds, unit=st.booleans(), data=st.data())
def test_a_row_is_translated_alike_in_any_company(dx: int, dy: int, seed: int, unit: bool, data: st.DataObject) -> None:
    translator, x, _ = turned(dx, dy, seed, unit=unit)
    whole = translator.translate(x)
    order = np.array(data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=60)))
    close = 1e-5 * np.abs(whole).max()
    assert np.abs(translator.translate(x[order]) - whole[order]).max() < close
    batch = data.draw(st.integers(1, 40))
    streamed = list(translator.stream(Space.of(x, [f"r{i}" for i in range(40)]).batches(batch)))
    assert np.abs(np.concatenate([part.array() for part in streamed]) - whole).max() < close
    assert [one for part in streamed for one in part.ids or ()] == [f"r{i}" for i in range(40)]


@few
@given(d=sizes, seed=seeds, unit=st.booleans(), scale=st.floats(1e-3, 1e3), far=st.floats(-3, 3))
@example(d=2, seed=0, unit=False, scale=1 / 512, far=1.0)  # a small ball far away, whose rows have nearly one norm
def test_turning_scaling_and_shifting_the_target_does_the_same_to_every_answer(
    d: int, seed: int, unit: bool, scale: float, far: float
) -> None:
    translator, x, y = turned(d, d, seed, unit=unit)
    rng = np.random.default_rng(seed)
    turn = orthonormal(d, d, rng)
    shift = far * rng.standard_normal(d) * (not unit)  # a shift takes unit rows off their sphere
    moved = (scale * (y @ turn) + shift).astype(np.float32)
    assert isinstance(translator.forward, Linear)
    maps = Linear.of(translator.forward.weight @ torch.from_numpy(turn).float()), translator.backward
    answers = Translator(*maps, translator.source, Frame.of(Space.of(moved))).translate(x)
    expected = scale * (translator.translate(x) @ turn) + shift
    assert np.abs(answers - expected).max() < 1e-4 * (scale + np.abs(shift).max()) * np.abs(translator.translate(x)).max()


cards = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
        lambda key: key not in ("schema", "maps", "frames", "verdict", "source", "target", "versions")
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=4,
)  # fmt: skip


@few
@given(dx=sizes, dy=sizes, seed=seeds, unit=st.booleans(), card=cards, name=words)
def test_a_translator_that_was_saved_is_the_same_to_the_last_bit(
    dx: int, dy: int, seed: int, unit: bool, card: dict[str, Any], name: str
) -> None:
    translator, x, _ = turned(dx, dy, seed, unit=unit)
    made = Translator(translator.forward, translator.backward, translator.source, translator.target, card)
    with tempfile.TemporaryDirectory() as folder:
        held = Translator.load(made.save(Path(folder) / name))
    for side in ("forward", "backward"):
        tensors = getattr(made, side).tensors()
        assert all(torch.equal(it, tensors[what]) for what, it in getattr(held, side).tensors().items())
    for side in ("source", "target"):
        one, other = getattr(held, side), getattr(made, side)
        assert torch.equal(one.mean, other.mean) and (one.radius, one.norm) == (other.radius, other.norm)
    assert np.allclose(held.translate(x), made.translate(x), atol=1e-5), "products may be added up in another order"
    assert {key: held.card[key] for key in card} == card


# Scores


def ranked(queries: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """The middle of the places that each query's own row shares, by cosine, in float64."""
    norms = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, pool)]
    q, p = (
        np.divide(rows, norm, where=norm > 0, out=np.zeros_like(rows))
        for rows, norm in zip((queries, pool), norms, strict=True)
    )
    cosines = q @ p.T
    own = np.diag(cosines)[:, None]
    return 1 + (cosines > own + 1e-6).sum(1) + ((np.abs(cosines - own) <= 1e-6).sum(1) - 1) / 2


@few
@given(grid=npst.arrays(np.int8, st.tuples(st.integers(3, 12), st.integers(2, 4)), elements=st.integers(-2, 2)), seed=seeds)
def test_ranks_with_ties_are_those_that_sorting_everything_gives(grid: np.ndarray, seed: int) -> None:
    """Whole numbers on a small grid: many rows score the same, and some lie at the mean."""
    y = grid.astype(np.float32) + 5
    assume(len(np.unique(y, axis=0)) > 1)
    x = y + np.random.default_rng(seed).integers(-1, 2, y.shape).astype(np.float32)
    assume(len(np.unique(x, axis=0)) > 1)
    same_frame = Frame.of(Space.of(y))
    still = Translator(Linear.of(torch.eye(y.shape[1])), Linear.of(torch.eye(y.shape[1])), same_frame, same_frame)
    scores = crossvec.evaluate(still, Space.of(x), Space.of(y), bootstrap=0, csls_neighbours=0)
    mean = same_frame.mean.double().numpy()
    ranks = ranked(still.translate(x).astype(np.float64) - mean, y.astype(np.float64) - mean)
    assert scores.forward.mean_rank == pytest.approx(ranks.mean(), abs=0.51 / len(y))
    assert scores.forward.foscttm == pytest.approx((ranks.mean() - 1) / (len(y) - 1), abs=0.51 / len(y))


@few
@given(n=st.integers(2, 40), d=sizes, noise=st.floats(0, 2), seed=seeds, k=st.integers(1, 60))
def test_scores_do_not_depend_on_the_order_of_pairs_and_lie_in_their_ranges(
    n: int, d: int, noise: float, seed: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    translator, _, _ = turned(d, d, seed)
    x = cloud(n, d, seed)
    y = translator.translate(x) + noise * rng.standard_normal((n, d)).astype(np.float32)
    order = rng.permutation(n)
    one, other = (
        crossvec.evaluate(translator, Space.of(x[rows]), Space.of(y[rows]), k=k, bootstrap=50) for rows in (np.arange(n), order)
    )
    for a, b in ((one.forward, other.forward), (one.backward, other.backward), (one.inverse, other.inverse)):
        assert a is not None and b is not None
        assert a.top == pytest.approx(b.top, abs=1e-9) and a.mean_rank == pytest.approx(b.mean_rank, abs=1e-9)
        assert (a.cosine, a.cosine_centred) == pytest.approx((b.cosine, b.cosine_centred), abs=1e-5)
        assert 0 <= a.foscttm <= 1 and 1 <= a.mean_rank <= n and max(abs(a.cosine), abs(a.cosine_centred)) < 1 + 1e-5
        assert all(a.top[low] <= a.top[high] for low, high in zip(sorted(a.top), sorted(a.top)[1:], strict=False))
        assert all(share == 1 for few_or_all, share in a.top.items() if few_or_all >= n)
        told = a.to_json()
        assert all(low - 1e-9 <= told[what] <= high + 1e-9 for what, (low, high) in a.intervals.items())
    json.dumps(one.to_json(), allow_nan=False)


# What may be asked of any rows at all


odd_clouds = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.one_of(
        st.floats(-2, 2, width=32),
        st.floats(-(2.0**60), 2.0**60, width=32),
        st.sampled_from([0.0, 1.0, 1e-20, -1e-20, 1e18, 1e-38, float("nan"), float("inf")]).map(
            lambda value: np.float32(value)
        ),
    ),
)


@few
@given(x=odd_clouds)
def test_any_rows_are_described_in_finite_numbers_or_refused(x: np.ndarray) -> None:
    try:
        told = crossvec.inspect(Space.of(x)).to_json()
    except CrossvecError as problem:
        refused(problem)
    else:
        json.dumps(told, allow_nan=False)


@few
@given(x=odd_clouds, y=odd_clouds)
def test_any_two_clouds_are_compared_in_finite_numbers_or_refused(x: np.ndarray, y: np.ndarray) -> None:
    try:
        told = crossvec.compare(Space.of(x), Space.of(y), trial=False).to_json()
    except CrossvecError as problem:
        refused(problem)
    else:
        json.dumps(told, allow_nan=False)


@few
@given(x=odd_clouds, y=odd_clouds, rows=odd_clouds)
def test_any_rows_are_translated_to_finite_ones_or_refused(x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
    try:
        frames = Frame.of(Space.of(x)), Frame.of(Space.of(y))
        weight = torch.from_numpy(orthonormal(x.shape[1], y.shape[1], np.random.default_rng(0))).float()
        translator = Translator(Linear.of(weight), Linear.of(weight.T.contiguous()), *frames)
        answers = translator.translate(rows)
    except CrossvecError as problem:
        refused(problem)
    else:
        assert answers.shape == (len(rows), y.shape[1]) and np.isfinite(answers).all()


@few
@given(
    x=odd_clouds, y=odd_clouds, pairs=st.none() | st.lists(st.lists(st.integers(-2, 14), min_size=1, max_size=3), max_size=4)
)
def test_a_fit_of_any_rows_is_refused_in_words(unchecked: None, x: np.ndarray, y: np.ndarray, pairs: Any) -> None:
    """Twelve rows are too few for anything."""
    with pytest.raises(CrossvecError) as told:
        crossvec.fit(Space.of(x), Space.of(y), "procrustes" if pairs else "auto", pairs=pairs)
    refused(told.value)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3) | odd_clouds
    | st.sampled_from([np.float32(1), np.array(None), np.ones((1, 2), "M8[s]"), np.array([["a"]]), np.zeros((2, 2), complex)]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@few
@given(array=junk, given_ids=st.none() | junk, payload=st.none() | junk)
def test_anything_at_all_is_a_space_or_refused(unchecked: None, array: Any, given_ids: Any, payload: Any) -> None:
    try:
        space = Space.of(array, given_ids, payload)
    except CrossvecError as problem:
        refused(problem)
    else:
        assert np.isfinite(space.array()).all() and len(space.records()) == len(space)


@few
@given(rows=junk)
def test_anything_at_all_is_translated_or_refused(unchecked: None, rows: Any) -> None:
    translator, _, _ = turned(3, 2, 0)
    try:
        assert translator.translate(rows).shape[1] == 2
    except CrossvecError as problem:
        refused(problem)


# Files of an audit


days = st.dates(date(2000, 1, 1), date(2100, 1, 1))
plain_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)


@few
@given(
    fail_on=st.sampled_from(policy.SEVERITIES),
    thresholds=st.dictionaries(st.sampled_from(probes()), st.floats(0, 1, exclude_max=True)),
    waivers=st.lists(
        st.tuples(st.sampled_from(probes()), st.none() | st.sampled_from(list(RUNGS)), plain_texts, days), max_size=3
    ),
)
def test_a_policy_is_read_as_it_was_written(fail_on: Any, thresholds: dict[str, float], waivers: list[Any]) -> None:
    lines = [
        "[audit]",
        f'fail_on = "{fail_on}"',
        "[audit.thresholds]",
        *(f"{name} = {it!r}" for name, it in thresholds.items()),
    ]
    for probe, rung, reason, until in waivers:
        lines += ["[[audit.waivers]]", f'probe = "{probe}"', f"reason = {json.dumps(reason, ensure_ascii=False)}"]
        lines += [f"until = {until.isoformat()}", *([f'rung = "{rung}"'] if rung else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crossvec.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        held = policy.read(path)
    assert (held.fail_on, dict(held.thresholds)) == (fail_on, thresholds)
    assert [(it.probe, it.rung, it.reason, it.until) for it in held.waivers] == waivers


@few
@given(
    names=st.lists(plain_texts.map(str.strip), min_size=2, max_size=5, unique=True),
    column=st.none() | plain_texts,
    k=st.just(1),
)
def test_labels_are_read_as_they_were_written(names: list[str], column: str | None, k: int) -> None:
    made = labels.Labels.of(names, k=k, column=column)
    told = {"k": k, "label": [{"name": name, "sentences": list(made.sentences[name])} for name in names]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.json"
        path.write_text(json.dumps(told | ({"column": column} if column else {})), encoding="utf-8")
        held = labels.read(str(path))
    assert (held.names, held.k, held.column) == (names, k, column)
    assert all(tuple(held.sentences[name]) == tuple(made.sentences[name]) for name in names)


@few
@given(
    told=st.lists(st.tuples(plain_texts, plain_texts, st.integers(-(2**60), 2**60) | plain_texts), min_size=1, max_size=4),
    d=sizes,
    seed=seeds,
)
def test_canaries_are_read_as_they_were_written(told: list[tuple[str, str, Any]], d: int, seed: int) -> None:
    made = tuple(canaries.Canary("password", text, secret, ("a", "b", "c"), one) for text, secret, one in told)
    rows = cloud(len(made), d, seed)
    planted = canaries.Planted("model", "store", "2026-11-22", made, rows, made, -rows)
    with tempfile.TemporaryDirectory() as folder:
        planted.write(Path(folder) / "canaries.json")
        held = canaries.read(Path(folder) / "canaries.json")
    assert (held.canaries, held.strangers, held.model, held.store, held.day) == (made, made, "model", "store", "2026-11-22")
    assert np.array_equal(held.vectors, rows) and np.array_equal(held.strange, -rows)
