"""canaries — made-up secrets, planted in a store to learn whether a dump came from it and whether its texts were recovered.

In    a model; later rows of a dump (n, d), or texts that somebody recovered
Out   Planted     the canaries and as many strangers, kept in a file; Sighting: which were seen again, beside strangers seen
Uses  encoders, space, metrics, leakage, scores, stores.atomic

A canary is a sentence about a thing with a name of three common words and a secret that cannot be real: bank accounts of a
country that does not exist (ZZ, ISO 3166-1), addresses at example.org (RFC 2606), telephone numbers of films (555-01..). It is
known again by its row, its secret, or the three words in one text: of so many names, one that was not planted is there by
chance once in 262,144. Strangers were made and embedded in the same way and never planted. What finds strangers too tells
nothing. No judge is asked, and no model can have learned a canary before: what is recovered was read from the vectors.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import string
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int

from crossvec import metrics
from crossvec.audit.leakage import words
from crossvec.audit.scores import LEVEL
from crossvec.encoders import Encoder
from crossvec.errors import UsageError, did_you_mean
from crossvec.space import Space, python_values
from crossvec.stores.atomic import atomically

__all__ = ["KINDS", "NEAR", "Canary", "Planted", "Seen", "Sighting", "in_rows", "in_texts", "plant", "read"]

SCHEMA = "crossvec-canaries/1"

STRANGERS = 100
"""None of them seen bounds the share of false sightings by 0.062 at the audit's level."""

NEAR = 0.95
"""Cosine from which a row is the canary's. Among 112 of them the nearest other has 0.83 (wordllama) or 0.89 (minilm). Of
unit rows int8 leaves 0.9999, noise of 0.01 a coordinate 0.98, one bit a coordinate 0.76: the last needs `near` lower."""

ADJECTIVES = """
amber ancient bitter bold brass bright bronze calm clever coral crimson curious dusty eager emerald faded famous fancy fierce
frozen gentle giant golden grand hidden hollow humble iron ivory jolly keen lemon little lively lonely lucky marble mellow
misty modest narrow noble olive orange pale patient pearl polite proud purple quiet rapid rusty scarlet silent silver simple
sleepy steady velvet violet wild winter yellow
""".split()
NOUNS = """
anchor apple arrow badger basket beaver bell bishop bottle bridge butter button camel candle castle cedar chapel cherry circle
clock cobra copper cotton cricket dolphin donkey dragon eagle engine falcon feather fiddle forest garden giraffe guitar hammer
harvest helmet honey island jacket kettle ladder lantern lizard magnet mirror monkey needle oyster paddle parrot pepper piano
pigeon pocket rabbit ribbon saddle shadow spider tiger turtle
""".split()
PLACES = """
abbey acre alley arbor arena attic avenue bakery balcony barn basin bay beach bluff bureau cabin canyon cavern cellar cliff
club coast college corner cottage court cove creek dairy depot desert dock farm ferry field ford gallery gate glen grove
harbor haven hill hotel junction lagoon lake landing lodge manor market meadow mill museum orchard palace park pier plaza
quarry ranch school station tower
""".split()

Draw = random.Random
"""Where canaries are drawn from: random.SystemRandom unless a seed is given."""


@dataclass(frozen=True)
class Canary:
    """A made-up secret. `name` are its three words, `id` that of its row; strangers have none."""

    kind: str
    text: str
    secret: str
    name: tuple[str, str, str]
    id: int | str | None = None


@dataclass(frozen=True, eq=False)
class Planted:
    """What was planted, (n, d), and what was not, (m, d), under the model `model`, on the day `day`, in `store`."""

    model: str
    store: str
    day: str
    canaries: tuple[Canary, ...]
    vectors: Float32[np.ndarray, "n d"]
    strangers: tuple[Canary, ...]
    strange: Float32[np.ndarray, "m d"]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a file that only its owner may read, all or nothing.

        Raises UsageError where there is one already, as it is the only record, and what `stores.atomic` raises.
        """
        told = {
            "schema": SCHEMA,
            "model": self.model,
            "store": self.store,
            "day": self.day,
            "canaries": [_told(*one) for one in zip(self.canaries, self.vectors, strict=True)],
            "strangers": [_told(*one) for one in zip(self.strangers, self.strange, strict=True)],
        }
        if Path(path).exists():
            raise UsageError(f"{path} holds canaries, or something else, already", "give a new name")
        with atomically(Path(path)) as part:
            part.unlink()  # made anew, because the rights of others to a file that is there would outlive a change of them
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
                out.write(json.dumps(told, indent=1) + "\n")


@dataclass(frozen=True)
class Seen:
    """A canary seen again: by its row ("vector", with the cosine), its "secret", or its "name" of three words."""

    canary: Canary
    by: Literal["vector", "secret", "name"]
    at: int | str
    cosine: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the secret not among them."""
        told = {"id": self.canary.id, "kind": self.canary.kind, "by": self.by, "at": self.at}
        return told | ({} if self.cosine is None else {"cosine": round(self.cosine, 4)})


@dataclass(frozen=True)
class Sighting:
    """What was seen in one place: canaries of `planted`, and how many of `strangers`, who cannot be there.

    `untold` says why nothing can be told of this place; "" where it can.
    """

    place: str
    looked_at: int
    seen: tuple[Seen, ...]
    planted: int
    strangers_seen: int
    strangers: int
    untold: str = ""

    @property
    def verdict(self) -> Literal["found", "not found", "unknown"]:
        """Return found where canaries are seen, and strangers are not, or surely less often."""
        if self.untold:
            return "unknown"
        if not self.seen or not self.strangers_seen:
            return "found" if self.seen else "not found"
        least = metrics.wilson(float(len(self.seen)), self.planted, LEVEL)[0]
        return "found" if least > self.false_high else "unknown"

    @property
    def false_high(self) -> float:
        """Return how many canaries, as a share, might be seen where none is: the upper bound that the strangers allow."""
        return metrics.wilson(float(self.strangers_seen), self.strangers, LEVEL)[1]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "place": self.place,
            "verdict": self.verdict,
            "looked_at": self.looked_at,
            "planted": self.planted,
            "seen": [one.to_json() for one in self.seen],
            "control": {"seen": self.strangers_seen, "of": self.strangers, "high": round(self.false_high, 4)},
            "untold": self.untold,
        }


def plant(
    count: int,
    encoder: Encoder,
    ids: Callable[[int, Draw], Sequence[int | str]],
    *,
    kinds: Sequence[str] = (),
    seed: int | None = None,
    store: str = "",
    unit: bool = False,
) -> Planted:
    """Make `count` canaries of these kinds (all unless given), one kind after the other, with their rows and strangers.

    `ids` gives as many ids as it is asked for. `unit` scales rows to length 1, where a store's rows are. With a seed anybody
    can make them again: it is for tests. Raises UsageError for kinds there are not, and what the encoder raises.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"there is no kind of canary {kind!r}", did_you_mean(kind, KINDS))
    draw = random.SystemRandom() if seed is None else random.Random(seed)
    made = _made(count + STRANGERS, list(kinds) or list(KINDS), draw)
    rows = encoder.encode([one.text for one in made])
    if wordless := int((np.linalg.norm(rows, axis=1) == 0).sum()):
        told = f"{encoder.name} gives no row for {wordless} of {len(rows)} canaries: it knows none of their words"
        raise UsageError(told, "canaries are in English; name the model that made the store's vectors")
    if unit:
        rows = _unit(rows)
    numbered = zip(made[:count], ids(count, draw), strict=True)
    canaries = tuple(Canary(one.kind, one.text, one.secret, one.name, given) for one, given in numbered)
    return Planted(encoder.name, store, date.today().isoformat(), canaries, rows[:count], tuple(made[count:]), rows[count:])


def whole_numbers(count: int, draw: Draw) -> list[int]:
    """Return ids that no counter has reached, and that every database and JSON hold without loss."""
    return draw.sample(range(1 << 52, 1 << 53), count)


def names_of_rows(count: int, draw: Draw) -> list[str]:
    """Return ids such as other rows may have: random UUIDs."""
    return [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(count)]


def rows_of(planted: Planted, store: Space) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """Return which canaries a store holds, and in which rows: by their ids, or by row numbers where a store has no ids."""
    names = range(len(store)) if store.ids is None else store.ids
    row_of = {str(name): row for row, name in enumerate(names)}
    held = [(number, row_of[str(one.id)]) for number, one in enumerate(planted.canaries) if str(one.id) in row_of]
    which, rows = np.array(held, np.int64).reshape(-1, 2).T
    return which, rows


def in_rows(planted: Planted, spaces: Iterable[Space], place: str, near: float = NEAR) -> Sighting:
    """Look for the canaries among rows: one is seen where a row's cosine with it is `near` or more.

    Rows cut short are compared by the coordinates that are left. Rows of more dimensions, or none, tell nothing. Rows that were
    rotated, or translated to another model, are not known again.
    """
    own, strange = planted.vectors, planted.strange
    best, at = np.full(len(own), -1.0, np.float32), [0] * len(own)
    false, looked, untold = np.full(len(strange), -1.0, np.float32), 0, ""
    for space in spaces:
        if space.dim > own.shape[1]:
            untold = f"its rows have {space.dim:,} dimensions, and the canaries' {own.shape[1]:,}: another model's"
            break
        if not len(space):
            continue
        looked += len(space)
        rows, given = _unit(space.array()), python_values(space.ids_or_numbers())
        cosines = _unit(own[:, : space.dim]) @ rows.T
        nearest = cosines.argmax(1)
        for number, (row, cosine) in enumerate(zip(nearest, cosines.max(1), strict=True)):
            if cosine > best[number]:
                best[number], at[number] = cosine, given[row]
        false = np.maximum(false, (_unit(strange[:, : space.dim]) @ rows.T).max(1))
    if not looked and not untold:
        untold = "it has no rows"
    seen = tuple(
        Seen(canary, "vector", row, float(cosine))
        for canary, row, cosine in zip(planted.canaries, at, best, strict=True)
        if cosine >= near and not untold
    )
    return Sighting(place, looked, seen, len(own), int((false >= near).sum()), len(strange), untold)


def in_texts(planted: Planted, texts: Sequence[str], place: str) -> Sighting:
    """Look for the canaries in texts that were recovered: for their secrets, or all words of a name in one text."""
    looked = [(_bare(text), words(text).keys()) for text in texts]

    def seen(canary: Canary) -> Seen | None:
        secret, name = _bare(canary.secret), set(canary.name)
        for number, (bare, _) in enumerate(looked):
            if secret in bare:
                return Seen(canary, "secret", number)
        for number, (_, said) in enumerate(looked):
            if name <= said:
                return Seen(canary, "name", number)
        return None

    found = tuple(one for one in map(seen, planted.canaries) if one is not None)
    false = sum(seen(one) is not None for one in planted.strangers)
    untold = "" if any(bare for bare, _ in looked) else "it has no texts"
    return Sighting(place, len(texts), found, len(planted.canaries), false, len(planted.strangers), untold)


def read(path: str | os.PathLike[str]) -> Planted:
    """Read a file that `Planted.write` has written; raises UsageError that says what is wrong with it."""
    hint = "name the file that `crossvec canary plant` has written"
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise UsageError(f"{path} is written as {told['schema']!r}, not {SCHEMA}", hint)
        sides = [[_canary(one) for one in told[side]] for side in ("canaries", "strangers")]
        (canaries, vectors), (strangers, strange) = ((*zip(*side, strict=True),) for side in sides)
        rows, strange_rows = np.stack(vectors), np.stack(strange)
        if rows.shape[1] != strange_rows.shape[1] or not np.isfinite(rows).all():
            raise ValueError("rows of one dimension are wanted")
        return Planted(told["model"], told["store"], told["day"], canaries, rows, strangers, strange_rows)
    except OSError as problem:
        raise UsageError(f"cannot read the canaries in {path}: {problem.strerror or problem}", "check the path") from None
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise UsageError(f"{path} is no file of canaries: {problem!r}", hint) from None


def _made(count: int, kinds: Sequence[str], draw: Draw) -> list[Canary]:
    """Return canaries of which no two share a name or a secret."""
    made: dict[tuple[str, str, str], Canary] = {}
    secrets: set[str] = set()
    while len(made) < count:
        kind = kinds[len(made) % len(kinds)]
        name = draw.choice(ADJECTIVES), draw.choice(NOUNS), draw.choice(PLACES)
        sentence, secret = KINDS[kind]
        given = secret(name, draw)
        if name not in made and given not in secrets:
            secrets.add(given)
            made[name] = Canary(kind, sentence.format(name=" ".join(name), secret=given), given, name)
    return list(made.values())


def _password(_name: tuple[str, str, str], draw: Draw) -> str:
    signs = string.ascii_letters + string.digits
    return "-".join("".join(draw.choice(signs) for _ in range(4)) for _ in range(4))


def _account(_name: tuple[str, str, str], draw: Draw) -> str:
    return "ZZ" + " ".join([f"{draw.randrange(100):02}", *(f"{draw.randrange(10_000):04}" for _ in range(4))])


def _address(name: tuple[str, str, str], draw: Draw) -> str:
    return f"{'.'.join(name)}.{draw.randrange(10_000):04}@example.org"


def _telephone(_name: tuple[str, str, str], draw: Draw) -> str:
    return f"+1 {draw.randrange(200, 1000)} 555 01{draw.randrange(100):02}"


KINDS: dict[str, tuple[str, Callable[[tuple[str, str, str], Draw], str]]] = {
    "password": ("The password of the {name} archive is {secret}.", _password),
    "iban": ("Please transfer the deposit of the {name} to the account {secret}.", _account),
    "email": ("The manager of the {name} answers letters at {secret}.", _address),
    "phone": ("Call the night desk of the {name} at {secret}.", _telephone),
}
"""Sentence and secret of each kind."""


def _bare(text: str) -> str:
    """Return a text's letters and digits, small: what is left of a secret however it is spaced and hyphenated."""
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def _unit(rows: Float32[np.ndarray, "k d"]) -> Float32[np.ndarray, "k d"]:
    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _told(canary: Canary, row: Float32[np.ndarray, " d"]) -> dict[str, Any]:
    return {
        "id": canary.id,
        "kind": canary.kind,
        "text": canary.text,
        "secret": canary.secret,
        "name": list(canary.name),
        "vector": base64.b64encode(row.astype("<f4").tobytes()).decode(),
    }


def _canary(told: dict[str, Any]) -> tuple[Canary, Float32[np.ndarray, " d"]]:
    first, second, third = map(str, told["name"])
    row = np.frombuffer(base64.b64decode(told["vector"], validate=True), "<f4").astype(np.float32)
    given = told["id"]
    if not row.size or not str(told["secret"]) or not isinstance(given, (int, str, type(None))):
        raise ValueError("a canary has a row, a secret and an id")
    return Canary(str(told["kind"]), str(told["text"]), str(told["secret"]), (first, second, third), given), row
