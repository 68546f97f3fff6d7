"""Where somebody listens: ``HOST:PORT``."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.errors import BoardError

LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that ``text`` is.

        Raises:
            BoardError: it is none.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= LAST_PORT:
            raise BoardError(f"address {text!r}: give HOST:PORT, as 192.168.0.2:9190")
        return cls(host, int(port))
