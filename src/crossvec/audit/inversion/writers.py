"""writers — contract: a language model as a search for texts sees it; and any causal model of the library transformers as one.

In    drafts (lists of tokens), hints (what the search has found so far, and texts near the target)
Out   Writer      tokens that may follow each draft
Uses  transformers (the extra `inversion`), torch

The model is read from a folder or from what was downloaded before; the network is used only after `download=True`. Weights
must be safetensors, and code that a model brings along is not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from crossvec.errors import MissingExtraError, UsageError

__all__ = ["Causal", "Draft", "Hint", "Writer", "causal"]

Draft = tuple[int, ...]
"""The tokens of a text that is being written."""

AT_ONCE = 64  # drafts in one forward pass
SHOWN = 2  # texts of a hint that a prompt shows


@dataclass(frozen=True)
class Hint:
    """What a writer is told about one target: texts like the one looked for, the best first."""

    texts: tuple[str, ...]


@runtime_checkable
class Writer(Protocol):
    """A language model that proposes; it is not told the target."""

    def text(self, draft: Draft) -> str:
        """Return a draft as text."""
        ...

    def proposals(self, drafts: Sequence[Draft], hints: Sequence[Hint], k: int) -> list[list[int]]:
        """Return up to k tokens that may follow each draft, the likeliest first."""
        ...


class Causal:
    """A causal language model, asked for a text like those of the hint."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.banned = sorted(set(tokenizer.all_special_ids) | set(_breaks(tokenizer)))
        self.takes = set(signature(model.forward).parameters)  # not every model counts places, or cuts its answer short
        self._prompt = lru_cache(maxsize=4096)(self._asked)

    def text(self, draft: Draft) -> str:
        return str(self.tokenizer.decode(list(draft), skip_special_tokens=True)).strip()

    def proposals(self, drafts: Sequence[Draft], hints: Sequence[Hint], k: int) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(drafts), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            found += self._likeliest([self._prompt(h) + d for d, h in zip(drafts[part], hints[part], strict=True)], k)
        return found

    def _likeliest(self, rows: list[Draft], k: int) -> list[list[int]]:
        import torch

        width = max(len(row) for row in rows)
        # Filled up on the left, so that the last place of every row is the one to be continued.
        tokens = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            wanted = {"attention_mask": mask, "position_ids": places, "use_cache": False, "logits_to_keep": 1}
            given = {name: value for name, value in wanted.items() if name in self.takes}
            logits = self.model(input_ids=tokens, **given).logits[:, -1, : len(self.tokenizer)].float()
            logits[:, self.banned] = -torch.inf
            likely = logits.topk(min(k, logits.shape[1] - len(self.banned)), dim=1).indices
        return [list(map(int, row)) for row in likely.tolist()]

    def _asked(self, hint: Hint) -> Draft:
        """Return the tokens of the prompt; never none, as a model needs something to continue."""
        told = "\n".join(hint.texts[:SHOWN])
        prompt = f"Write a sentence similar to this: {told}" if told else "Tell me a story."
        if self.tokenizer.chat_template:
            asked = [{"role": "user", "content": prompt}]
            written = self.tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
            return tuple(self.tokenizer(written, add_special_tokens=False)["input_ids"])
        tokens = self.tokenizer(f"{prompt}\n")["input_ids"]
        return tuple(tokens) or (self.tokenizer.eos_token_id or 0,)


@lru_cache(maxsize=1)
def causal(name: str, download: bool = False, device: str = "auto") -> Causal:
    """Load a causal model from a folder, or by the name it has on the Hugging Face hub.

    Raises MissingExtraError without transformers, and UsageError where the model is not here, or cannot be used.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError(
            f"the language model {name} needs transformers, which is not installed", "pip install 'crossvec[inversion]'"
        ) from None
    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    where: dict[str, Any] = {"local_files_only": not download, "trust_remote_code": False}
    library: Any = logging
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **where)
        model: Any = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True, dtype="auto", **where)
    except Exception as problem:  # transformers, safetensors and the hub's client each have errors of their own
        told = " ".join(str(problem).split())[:200]
        hint = "name a folder with config.json, model.safetensors and a tokenizer, or a model that was downloaded before"
        raise UsageError(f"the language model {name} cannot be loaded: {told}", hint) from None
    finally:
        if shown:
            library.enable_progress_bar()
    return Causal(model.to(place).eval(), tokenizer)


def _breaks(tokenizer: Any) -> list[int]:
    """Return the tokens that begin a new line: what follows one is no longer the text."""
    return [number for number in range(len(tokenizer)) if "\n" in str(tokenizer.decode([number]))]
