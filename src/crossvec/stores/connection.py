"""connection — how a database is reached: its client imported when needed, opened once, errors told without secrets.

In    Address                     the secret comes from the environment, never from the address
Out   Connected.session()         a client that stays open while anyone uses it
Uses  errors, stores.address
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, cast

from crossvec.errors import CrossvecError, MissingExtraError, StoreError
from crossvec.stores.address import SECRETS, Address


@dataclass(frozen=True)
class Connected(ABC):
    """A place that is reached through a client library."""

    address: Address
    format: ClassVar[str]
    module: ClassVar[str]  # what the client library is imported as
    extra: ClassVar[str]  # the extra of crossvec that installs it

    @abstractmethod
    def _connect(self) -> Any:
        """Open the database and return its client."""

    def _close(self, client: Any) -> None:
        client.close()

    def _shared(self) -> Hashable:
        """Tell which stores use one client: those that open the same files, where a database locks them."""
        return id(self)

    def server(self) -> Hashable:
        """Tell which server this is, so that stores can share a client that may be used by several at once."""
        place = self.address.place.rpartition("/")[0]
        return place, *((name, self.address.options.get(name)) for name in ("tls", "tenant", "database")), self.secret()

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        """Return message and hint for what the client raises for a user's mistake; None for anything else."""
        return None

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Keep the database open over several calls, and close it after the last of those that share it."""
        key = (type(self), self._shared())
        with _lock:
            if key not in _open:
                with self._telling():
                    _open[key] = [self._connect(), 0, {}]
            held = _open[key]
            held[1] += 1
        try:
            yield held[0]
        finally:
            with _lock:
                held[1] -= 1
                if not held[1]:
                    del _open[key]
                    self._close(held[0])

    def known(self) -> dict[str, Any]:
        """Return what was found out in this session, for those who share it to remember; only within a session."""
        return cast(dict[str, Any], _open[type(self), self._shared()][2])

    def client_library(self, module: str = "") -> Any:
        """Import the client; raises MissingExtraError with the install line when it is not installed."""
        try:
            return import_module(module or self.module)
        except ModuleNotFoundError as error:
            hint = f"pip install 'crossvec[{self.extra}]'"
            raise MissingExtraError(f"{self.format} needs the package {error.name or self.module}", hint) from None

    def tls(self) -> bool:
        """Tell whether to encrypt: as the option `tls` says, and else when a secret would travel to another machine."""
        asked = self.address.options.get("tls", "")
        if asked not in ("", "yes", "no"):
            raise StoreError(f"tls={asked} is not possible for {self.address.url}", "use tls=yes or tls=no")
        here = self.address.split()[0].rpartition("@")[2] in ("localhost", "127.0.0.1", "::1")
        return asked == "yes" if asked else self.secret() is not None and not here

    def secret(self) -> str | None:
        """Return the database's secret from its environment variable, None when it is not set."""
        return os.environ.get(SECRETS.get(self.address.scheme, "")) or None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what the client raises for a user's mistake into a StoreError that says what to do, without the secret."""
        try:
            yield
        except CrossvecError:
            raise
        except Exception as error:
            told, secret = self._explain(error) or self._told(error), self.secret()
            if told is None and (secret is None or secret not in str(error)):
                raise
            message, hint = told or (f"{self.format} fails with {type(error).__name__}: {error}", "the answer above says why")
            # Not chained: the client's own error may hold the request, and the request the secret.
            raise StoreError(message.replace(secret, "…") if secret else message, hint) from None

    def _told(self, error: Exception) -> tuple[str, str] | None:
        """Return message and hint for what any client may raise when a server is not there, or is another."""
        if isinstance(error, (ConnectionError, TimeoutError, PermissionError)):
            return f"{self.address.url} cannot be reached: {error}", "is the database running there?"
        if isinstance(error, ValueError) and self.address.split()[0]:  # what is read as JSON, and is none
            return f"{self.address.url} does not answer as {self.format} does: {error}", f"does {self.format} listen there?"
        return None


_open: dict[tuple[type[Connected], Hashable], list[Any]] = {}  # client, number of users, what is known; by who shares it
_lock = threading.RLock()
