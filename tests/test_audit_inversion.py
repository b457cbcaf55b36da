"""test_audit_inversion — texts from vectors: what engines find without the answer, and that none of it is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import encoding
import numpy as np
import pytest
from conftest import make_world

from crossvec import encoders
from crossvec.audit import Case, Recovered, audit
from crossvec.audit.inputs import centred, remembering
from crossvec.audit.inversion import ENGINES, Budget, Inverter, Known, create
from crossvec.audit.inversion.ngrams import NGrams
from crossvec.audit.inversion.static import Averaging
from crossvec.audit.inversion.words import Vocabulary, join, split
from crossvec.audit.inversion.writers import Hint, Writer, causal
from crossvec.audit.ladder import Rung, Stage
from crossvec.audit.leakage import words
from crossvec.audit.probes.inversion import Inversion
from crossvec.encoders import Around, Encoder
from crossvec.encoders.cache import Cached
from crossvec.errors import UsageError
from crossvec.fitting import fit
from crossvec.space import Space

ENOUGH = 600.0
WHO = "Josefina Marcelino Frederick Margaret Winston Abraham Beatrice Leopold Napoleon Charlotte".split()
DID = "painted visited inherited described abandoned purchased restored photographed".split()
WHAT = "castle railway cathedral bridge orchestra newspaper hospital submarine vineyard telescope".split()
WHERE = "Spain Norway Bolivia Kenya Japan Canada Vienna Lisbon Chicago Sydney".split()
FAST: dict[str, dict[str, Any]] = {
    "static": {},
    "retrieval": {"rounds": 6},
    "language": {"beams": 3, "lucky": 1, "choices": 6, "stages": 2, "length": 8},
}


def told(n: int, seed: int) -> list[str]:
    """Sentences whose parts are drawn independently, so that no two of them need say the same."""
    rng = np.random.default_rng(seed)
    parts = [[str(one) for one in rng.choice(names, n)] for names in (WHO, DID, WHAT, WHERE, WHO)]
    return [f"{a} {b} the old {c} in {d} with {e}." for a, b, c, d, e in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def model() -> Encoder:
    pytest.importorskip("wordllama")
    return encoders.open("wordllama")


@pytest.fixture(scope="module")
def known(model: Encoder) -> Known:
    texts = told(300, 1)
    return Known.of(model, model.encode(texts), texts)


@dataclass
class Counting(Around):
    """An encoder that counts what it was asked."""

    encoder: Encoder
    asked: int = 0

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Any = None) -> np.ndarray:
        self.asked += len(texts)
        return self.encoder.encode(texts)


def stage_of(model: Encoder, texts: Sequence[str], truths: Sequence[str] | None, rung: Rung | None = None) -> Stage:
    """What an attacker sees who stole the rows of `texts` and has the model and texts of its own; `truths` are the owner's."""
    reference = told(200, 2)
    rows = model.encode(reference)
    space = Space.of(model.encode(list(texts)), name="stolen")
    case = Case(space, Space.of(rows), reference, encoder=model, own_encoder=model, texts=truths)
    case = remembering(case)
    split_ = replace(case, texts=None).split(1000, 0)
    return Stage(rung or Rung("encoder"), case, split_, rows, np.arange(200), case.own_encoder, 0)


def recall(truths: Sequence[str], guesses: Sequence[str]) -> float:
    pairs = [(set(words(truth)), set(words(guess))) for truth, guess in zip(truths, guesses, strict=True)]
    return float(np.mean([len(truth & guess) / len(truth) for truth, guess in pairs]))


def near(known: Known, texts: Sequence[str], targets: np.ndarray) -> np.ndarray:
    return np.einsum("sd,sd->s", known.directions(texts), targets)


@pytest.mark.parametrize("which", ["wordllama", "wordllama?dim=64", "static"])
def test_a_static_encoders_row_is_the_sum_of_its_tokens_vectors(which: str, tmp_path: Path) -> None:
    pytest.importorskip("model2vec" if which == "static" else "wordllama")
    it = encoders.open(f"static:{encoding.save_static(tmp_path)}" if which == "static" else which)
    assert isinstance(it, Averaging)
    texts = ["cat sat mat", "dog", "sea sea a 17"]
    sums = np.stack([it.table()[tokens].sum(0) for tokens in it.tokens(texts)])
    rows = it.encode(texts)
    assert it.table().shape == (len(it.pieces()), it.dim)
    np.testing.assert_allclose(
        sums / np.linalg.norm(sums, axis=1, keepdims=True), rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-5
    )


def test_a_static_models_own_vectors_of_words_it_knows_give_those_words_back(known: Known) -> None:
    texts = told(20, 7)
    found = create("static").invert(known.directions(texts), known, budget=Budget(ENOUGH))
    assert recall(texts, found) > 0.85
    assert recall(texts, found[1:] + found[:1]) < 0.6, "what all texts share does not pass for what one says"


def test_words_come_back_without_any_text_of_the_attackers_own(model: Encoder) -> None:
    texts = told(60, 7)
    alone = Known.of(model, model.encode(texts))
    assert not alone.texts
    found = create("static").invert(alone.directions(texts), alone, budget=Budget(ENOUGH))
    other = recall(texts, found[1:] + found[:1])
    assert recall(texts, found) > other + 0.15


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_keeps_the_contract_and_finds_more_than_another_rows_text(engine: str, known: Known) -> None:
    it = create(engine, **FAST[engine])
    assert isinstance(it, Inverter)
    assert it.lacks(known) == ""
    texts = told(24, 3)
    targets, steps = known.directions(texts), []
    found = it.invert(targets, known, budget=Budget(ENOUGH), seed=4, progress=lambda _, part: steps.append(part))
    assert len(found) == len(texts)
    assert steps[-1] == 1.0
    assert recall(texts, found) > recall(texts, found[1:] + found[:1]) + 0.2
    assert near(known, found, targets).mean() > 0.3
    assert found == it.invert(targets, known, budget=Budget(ENOUGH), seed=4), "the same seed gives the same texts"
    assert it.invert(targets[:0], known, budget=Budget(ENOUGH)) == []


def test_edits_bring_a_text_no_further_from_its_target(known: Known) -> None:
    targets = known.directions(told(24, 3))
    _, nearest = known.nearest(targets, 1)
    before = near(known, [known.texts[i] for i in nearest[:, 0]], targets)
    after = near(known, create("retrieval").invert(targets, known, budget=Budget(ENOUGH)), targets)
    assert (after >= before - 1e-6).all()
    assert after.mean() > before.mean() + 0.1


def test_more_stages_of_a_beam_search_bring_no_text_further_away(known: Known) -> None:
    targets = known.directions(told(12, 3))
    one, three = (
        near(
            known,
            create("language", **{**FAST["language"], "stages": n}).invert(targets, known, budget=Budget(ENOUGH)),
            targets,
        )
        for n in (1, 3)
    )
    assert (three >= one - 1e-6).all()
    assert three.mean() > one.mean()


def test_a_budget_that_is_spent_stops_the_search(known: Known) -> None:
    targets = known.directions(told(24, 3))
    counting = Counting(known.encoder)
    watched = replace(known, encoder=counting)
    _, nearest = known.nearest(targets, 1)
    found = create("retrieval").invert(targets, watched, budget=Budget(0.0))
    assert found == [join(split(known.texts[i])) for i in nearest[:, 0]], "it has looked up, and edited nothing"
    assert create("language").invert(targets, watched, budget=Budget(0.0)) == [""] * 24
    assert create("static").invert(targets, known, budget=Budget(0.0)) == [""] * 24
    assert counting.asked <= len(targets)


def test_how_far_targets_are_off_is_told_from_how_near_their_nearest_texts_are(known: Known) -> None:
    world = make_world(n=10, m=2000, pool=200)
    near_, mean = centred(world.y), world.y.mean(0)
    there = replace(known, texts=["a text"] * 2000, near=near_, mean=mean, spread=1.0)
    noise = centred(np.random.default_rng(0).standard_normal((200, 2000)).astype(np.float32) @ near_, 0.0)
    true = centred(world.eval_y, mean)
    believed = [
        there.fidelity(centred((c * true + (1 - c * c) ** 0.5 * noise).astype(np.float32), 0.0), 0) for c in (0.3, 0.6, 0.9)
    ]
    assert believed == sorted(believed)
    assert believed[1:] == pytest.approx([0.6, 0.9], abs=0.15)  # in few dimensions noise alone comes near to something


def test_guesses_are_neither_remembered_nor_cached(model: Encoder, tmp_path: Path) -> None:
    remembered = remembering(Case(Space.of(model.encode(told(30, 1))), own_encoder=Cached(model, tmp_path))).own_encoder
    assert remembered is not None
    assert Known.of(remembered, model.encode(["a", "b"])).encoder is model


def test_an_engine_says_what_it_lacks(known: Known) -> None:
    bare = replace(known, texts=[], encoder=Counting(known.encoder))
    assert "static encoder" in create("static").lacks(bare)
    assert "texts" in create("retrieval").lacks(bare)
    assert "texts" in create("language").lacks(bare)
    with pytest.raises(UsageError, match="statik") as refused:
        create("statik")
    assert "did you mean static?" in refused.value.hint


def test_the_engines_of_the_probe_do_not_see_the_victims_texts(model: Encoder) -> None:
    texts = told(24, 7)
    probe = Inversion(("static", "retrieval"), documents=10, budget_seconds=ENOUGH)
    honest, misled = (probe.measure(stage_of(model, texts, truths)) for truths in (texts, texts[::-1]))
    assert [one.text for one in honest.recovered] == [one.text for one in misled.recovered]
    assert [one.truth for one in honest.recovered] != [one.truth for one in misled.recovered]


def test_the_right_texts_are_a_finding_and_another_rows_texts_score_chance(model: Encoder) -> None:
    texts = told(24, 7)
    probe = Inversion(("static",), documents=24, budget_seconds=ENOUGH)
    right = probe.measure(stage_of(model, texts, texts)).scores
    wrong = probe.measure(stage_of(model, texts, texts[1:] + texts[:1])).scores
    assert right[0].name == "token F1 (static)"
    assert right[0].gates
    assert right[0].lift_low > 0.1
    assert wrong[0].lift_low <= 0
    assert {"word recall (static)", "entity recall (static)"} <= {score.name for score in right}


def test_untranslated_and_true_rows_are_inverted_too_as_controls(model: Encoder) -> None:
    texts = told(40, 7)
    stolen, reference = Space.of(model.encode(texts)[:, ::-1].copy()), Space.of(model.encode(told(200, 2)))
    rung = Rung("domain", fit(stolen, reference, "identity"))
    stage = stage_of(model, texts, texts, rung)
    found = Inversion(("static",), documents=20, budget_seconds=ENOUGH).measure(stage)
    top = found.scores[0]
    assert top.controls["ideal"] > 0.6
    assert set(top.controls) == {"shuffled", "naive", "ideal"}
    line = found.details["cosine_reached"][0]
    assert line["engine"] == "static"
    assert line["finished"]
    assert {"attack", "naive", "ideal"} <= set(line)


def test_recovered_text_leaves_an_audit_only_when_it_is_asked_for(model: Encoder) -> None:
    texts = told(30, 7)
    case = Case(Space.of(model.encode(texts)), own_encoder=model, texts=texts)
    it = audit(case, probes=[Inversion(documents=10, budget_seconds=ENOUGH)], quick=True)
    found = it.readings["encoder", "inversion"].recovered
    assert len(found) == 10
    assert all(one.truth == texts[one.row] for one in found)
    told_, shown = json.dumps(it.to_json()), it.to_json(show_text=True)
    rare = {word for word in (*WHO, *WHAT, *WHERE)}
    assert not [word for word in rare if word in told_ or word in repr(it)]
    assert '"[redacted: ' in told_
    lines = next(one["recovered"] for one in shown["readings"] if one["probe"] == "inversion")
    assert [line["text"] for line in lines] == [one.text for one in found]
    assert Recovered(3, "static", "one", None).to_json() == {
        "row": 3,
        "engine": "static",
        "text": "[redacted: 1 word]",
        "truth": None,
    }


def test_without_the_owners_texts_there_are_texts_and_no_scores(model: Encoder) -> None:
    found = Inversion(("static",), documents=10, budget_seconds=ENOUGH).measure(stage_of(model, told(24, 7), None))
    assert found.scores == ()
    assert {one.truth for one in found.recovered} == {None}


@pytest.mark.parametrize("wrong", [{"documents": 3}, {"budget_seconds": -1.0}, {"engines": ("oracle",)}])
def test_settings_that_are_not_possible_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        Inversion(**wrong)
    assert refused.value.hint


@pytest.mark.parametrize("text", ["A cat (the old one), sat: 3.5 m away!", "It's 8 May 1927", ""])
def test_words_and_marks_join_to_the_text_they_were_split_from(text: str) -> None:
    assert join(split(text)) == text


def test_words_of_near_texts_are_expected_more(known: Known) -> None:
    vocabulary = Vocabulary.of(known)
    target = known.directions(["Leopold painted the old submarine in Kenya with Leopold."])
    near_, wide = (next(iter(vocabulary.expected(target, local))) for local in (0.8, 0.0))
    assert near_.sum() == pytest.approx(vocabulary.usual_length, rel=1e-6)
    number = vocabulary.numbers["submarine"]
    assert near_[number] > 3 * wide[number]


def test_a_model_of_n_grams_proposes_what_followed() -> None:
    it = NGrams(["the cat sat on the mat", "the cat ran", "a dog sat down"])
    assert isinstance(it, Writer)

    def after(text: str, hint: str = "") -> list[str]:
        draft = tuple(it.numbers[word] for word in text.split())
        return [it.words[token] for token in it.proposals([draft], [Hint((hint,) if hint else ())], 3)[0]]

    assert set(after("the cat")[:2]) == {"sat", "ran"}
    assert after("the cat", "a cat ran home")[0] == "ran", "texts near the target count for more"
    assert after("ran")[0] != "a", "no words reach from one text into the next"
    assert it.text((it.numbers["cat"], it.numbers["ran"])) == "cat ran"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with random weights: one layer, a token a word."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    atoms = ["[UNK]", "</s>", *sorted({word for text in told(100, 1) for word in split(text)}), "Write", "similar", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(atoms))}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("causal")
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=256, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_any_causal_model_of_a_folder_can_propose(tiny: Path, known: Known) -> None:
    it = create("language", model=str(tiny), **{**FAST["language"], "choices": 20, "stages": 1})
    targets = known.directions(told(6, 3))
    found = it.invert(targets, known, budget=Budget(ENOUGH))
    assert found == it.invert(targets, known, budget=Budget(ENOUGH))
    assert near(known, found, targets).mean() > 0.2
    writer = causal(str(tiny))
    special = set(writer.tokenizer.all_special_ids)
    assert not special & set(writer.proposals([()], [Hint(("a",))], 40)[0]), "marks of the model's own are no text"


def test_proposals_do_not_depend_on_what_else_is_asked(tiny: Path) -> None:
    writer = causal(str(tiny))
    short, long = Hint(("Leopold painted",)), Hint(("Leopold painted the old submarine in Kenya with Leopold",))
    both = writer.proposals([(5,), (5, 6, 7)], [short, long], 4)
    assert both == [writer.proposals([(5,)], [short], 4)[0], writer.proposals([(5, 6, 7)], [long], 4)[0]]


def test_a_model_that_is_not_here_or_is_pickled_is_refused(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    with pytest.raises(UsageError, match="cannot be loaded"):
        causal(str(tmp_path / "missing"))
    for file in tiny.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(tiny / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be loaded") as refused:
        causal(str(tmp_path))
    assert "safetensors" in refused.value.hint


def test_getting_ready_takes_no_rows_time(known: Known) -> None:
    @dataclass(frozen=True)
    class Slow:
        name = "slow"

        def lacks(self, known: Known) -> str:
            return ""

        def invert(self, targets: np.ndarray, known: Known, *, budget: Budget, **_: Any) -> list[str]:
            asked.append(len(targets))
            budgets.append(budget.seconds)
            return ["a"] * len(targets)

    asked: list[int] = []
    budgets: list[float] = []
    probe = Inversion(documents=10, budget_seconds=90.0)
    targets = known.directions(told(5, 3))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Inversion, "_engines", lambda _self: [Slow()])
        (written,) = probe.written(known, {"attack": targets[:3], "naive": targets[:4], "ideal": targets}, 0)
    assert asked == [0, 5, 4, 3], "the attack comes last"
    assert budgets[1:] == sorted(budgets[1:]), "and has the time that its controls have left"
    assert all(written.finished.values())
    assert probe.cut_short([written.to_json()]) == ""


def test_an_attack_without_time_says_so(model: Encoder) -> None:
    texts = told(30, 7)
    found = Inversion(("static",), documents=20, budget_seconds=0.0).measure(stage_of(model, texts, texts))
    assert "0 seconds were not enough for static" in found.unfinished
    assert "--budget-seconds" in found.unfinished
