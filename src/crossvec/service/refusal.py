"""refusal — an answer that says no: an HTTP status, what is wrong, and what to do about it.

In    a status, a message, a hint; or an error of crossvec
Out   {"error": {"message", "type", "param", "code"}}, the shape that OpenAI's clients read; they show the message alone
Uses  errors; starlette
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from crossvec.errors import CrossvecError

__all__ = ["Refusal"]

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """No, with a reason. `code` is one word for programs; nothing in it quotes vectors, texts or keys."""

    def __init__(self, status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.hint, self.headers = status, code, hint, dict(headers or {})

    @classmethod
    def of(cls, problem: CrossvecError) -> Refusal:
        """Return what a client is told of rows or texts that crossvec refuses."""
        return cls(422, "unusable_input", str(problem), problem.hint)

    def response(self) -> JSONResponse:
        """Return it as an answer."""
        kind = TYPES.get(self.status) or ("server_error" if self.status >= 500 else "invalid_request_error")
        told = f"{self}; {self.hint}" if self.hint else str(self)
        error = {"message": told, "type": kind, "param": None, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)
