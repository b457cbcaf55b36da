"""test_audit_leakage — what counts as read: laws of the measures, and that they neither miss a leak nor see one in noise."""

from __future__ import annotations

import random
from math import log2

import numpy as np
import pytest
from encoding import vector
from hypothesis import given
from hypothesis import strategies as st

from crossvec.audit.leakage import bits, entities, measures, numbers, others, words
from crossvec.audit.scores import Score
from crossvec.errors import UsageError

NAMES = "Abara Bergström Castellano Dubois Eriksen Fitzgerald Grünwald Haddad Ivanova Jansen Kowalski Lindqvist".split()
SENTENCE = "On the {} the patient {} paid {} euros for the {} of the {} at the clinic in {}."
THINGS = "treatment surgery therapy room medicine bandage scan visit test dinner".split()


class Hashed:
    """An encoder of the tests' own: the sum of its words' random vectors."""

    name, version, dim = "hashed", "", 32

    def encode(self, texts: list[str], *, query: bool = False, progress: object = None) -> np.ndarray:
        return np.stack(
            [sum((vector(word, self.dim) for word in text.lower().split()), np.zeros(self.dim)) for text in texts]
        ).astype(np.float32)


def documents(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        SENTENCE.format(
            f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.{rng.randint(1950, 2020)}",
            rng.choice(NAMES) + str(rng.randint(0, 99)) + "son",
            rng.randint(100, 99999),
            rng.choice(THINGS),
            rng.choice(THINGS),
            rng.choice(NAMES) + "burg",
        )
        for _ in range(n)
    ]


def scored(truths: list[str], guesses: list[str], **more: object) -> dict[str, Score]:
    return {score.name.split(" of ")[0]: score for score in measures(truths, guesses, **more)}


def test_a_text_recovered_word_for_word_scores_one_and_all_its_bits() -> None:
    texts = documents(60)
    found = scored(texts, texts, encoder=Hashed())
    for name in ("token F1", "BLEU", "word recall", "entity recall", "number recall", "cosine", "identified"):
        assert found[name].value == pytest.approx(1, abs=1e-6), name
        assert found[name].lift_low > 0, name
    assert found["bits"].value == pytest.approx(log2(32))


def test_nothing_recovered_scores_nothing() -> None:
    found = scored(documents(60), [""] * 60, encoder=Hashed())
    assert all(score.value == 0 for name, score in found.items() if name != "identified")
    assert found["identified"].value == pytest.approx(1 / 32)
    assert all(score.lift_low <= 0 for score in found.values())


def test_words_in_another_order_are_leaked_and_order_is_what_bleu_adds() -> None:
    texts = documents(60)
    mixed = [" ".join(random.Random(row).sample(text.split(), len(text.split()))) for row, text in enumerate(texts)]
    found = scored(texts, mixed)
    assert found["token F1"].value == pytest.approx(1)
    assert found["BLEU"].value < 0.3
    assert found["identified"].value > 0.9


def test_names_are_found_again_without_capitals_and_numbers_in_another_notation() -> None:
    texts = [f"Yesterday {name} sent 12,500 euros to {name.lower()}@example.org." for name in NAMES]
    told = [f"12500 from {name.lower()} at {name.lower()}@example.org" for name in NAMES]
    found = scored(texts, told)
    assert found["entity recall"].value == found["number recall"].value == 1
    assert found["number recall"].chance == 1  # every text names the same sum: knowing it tells nothing
    assert found["number recall"].lift == 0


def test_guesses_of_other_documents_seldom_look_like_a_leak() -> None:
    texts = documents(400)
    alarms = 0
    for seed in range(8):
        rows = random.Random(seed).sample(range(400), 60)
        f1 = scored([texts[row] for row in rows[:30]], [texts[row] for row in rows[30:]], seed=seed)["token F1"]
        assert f1.value > 0.4  # the sentence itself; a rate without a control would call this a leak
        alarms += f1.lift_low > 0
    assert alarms <= 1  # 1 in 200 is promised; more than 1 of 8 happens once in a thousand


def test_the_headline_gates_alone_and_stands_first() -> None:
    texts = documents(30)
    scores = measures(texts, texts, encoder=Hashed())
    assert [score.name for score in scores] == [
        "token F1",
        "BLEU",
        "word recall",
        "entity recall",
        "number recall",
        "cosine",
        "identified of 30",
        "bits",
    ]
    assert [score.gates for score in scores] == [True] + [False] * 7
    assert all("shuffled" in score.controls and score.low <= score.value <= score.high for score in scores)


def test_the_same_seed_gives_the_same_scores() -> None:
    texts = documents(40)
    half = [text[: len(text) // 2] for text in texts]
    assert measures(texts, half, seed=3) == measures(texts, half, seed=3)
    assert measures(texts, half, seed=3) != measures(texts, half, seed=4)


def test_a_measure_speaks_of_the_truths_in_which_it_has_something_to_find() -> None:
    texts = ["so it goes " + "on and " * row for row in range(12)] + documents(15)
    found = scored(texts, texts)
    assert (found["token F1"].n, found["number recall"].n, found["entity recall"].n) == (27, 15, 15)
    assert "number recall" not in scored(texts[:20], texts[:20])


def test_a_guess_that_an_encoder_cannot_tell_from_the_truth_need_not_leak_its_words() -> None:
    """The cosine is told and not counted: a synonym for the encoder is no word of the text."""
    texts = documents(40)

    class Blind(Hashed):
        def encode(self, texts: list[str], *, query: bool = False, progress: object = None) -> np.ndarray:
            return np.ones((len(texts), self.dim), np.float32)

    found = scored(texts, ["qqq"] * 40, encoder=Blind())
    assert found["cosine"].value == pytest.approx(1)
    assert found["cosine"].lift == pytest.approx(0)
    assert found["token F1"].value == 0
    assert found["bits"].value == 0


@pytest.mark.parametrize(
    ("truths", "guesses", "says"),
    [
        ([], [], "0 recovered texts"),
        (["one text"], ["one text"], "1 recovered text say"),
        (documents(12), [""] * 11, "11 guesses for 12 texts"),
        (["", " ", "…"] * 10, [""] * 30, "hold a word"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_words(truths: list[str], guesses: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        measures(truths, guesses)
    assert refused.value.hint


def test_the_bits_are_fanos() -> None:
    assert bits(1.0, 32) == 5
    assert bits(1 / 32, 32) == bits(0.0, 32) == 0
    assert bits(1.0, 1) == 0
    by_hand = 2 + (0.75 * log2(0.75) + 0.25 * log2(0.25)) - 0.25 * log2(3)
    assert bits(0.75, 4) == pytest.approx(by_hand)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 64))
def test_more_right_answers_never_prove_fewer_bits(a: float, b: float, k: int) -> None:
    assert bits(min(a, b), k) <= bits(max(a, b), k) + 1e-12
    assert 0 <= bits(a, k) <= log2(k) + 1e-12


@given(st.integers(2, 40), st.integers(0, 3), st.data())
def test_every_deal_gives_each_row_another_row_and_never_the_same_twice(n: int, seed: int, data: st.DataObject) -> None:
    deals = others(n, data.draw(st.integers(1, n - 1)), seed)
    together = np.vstack([np.arange(n), deals])
    assert all(len(set(column)) == len(column) for column in together.T)
    assert all(sorted(deal) == list(range(n)) for deal in deals)


@given(st.text(max_size=60))
def test_words_and_entities_take_any_text(text: str) -> None:
    assert all(word == word.casefold() for word in words(text))
    assert sum(numbers(text).values()) <= len(text)
    assert all(name == name.casefold() for name in entities(text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The boss met Angela Merkel's aide.", {"angela", "merkel"}),
        ("Monday came. Nobody saw Dr. Ng or J. Lo.", {"dr", "ng", "lo"}),
        ("NASA said so; McCartney and the A380 too.", {"nasa", "mccartney", "a380"}),
        ("From: Bob <Bob.Jones@corp.com>, see https://a.b/c.", {"bob", "bob.jones@corp.com", "https://a.b/c"}),
        ('He said, "The dog barks." Cats do not.', set()),
        ("ask @vera_k\nTomorrow", {"@vera_k"}),
    ],
)
def test_what_looks_like_a_name(text: str, names: set[str]) -> None:
    assert set(entities(text)) == names


def test_what_looks_like_a_number() -> None:
    assert set(numbers("On 2024-05-01 at 10:30, $1,234,567.50 for 3.")) == {"2024-05-01", "10:30", "1234567.50", "3"}


def test_texts_without_blanks_between_words_have_words_too() -> None:
    assert set(words("東京タワー 333m")) == {"東", "京", "タ", "ワ", "ー", "333m"}
