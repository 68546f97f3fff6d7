"""Where somebody listens: ``HOST:PORT``, or ``[IPV6]:PORT``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from gmpq.errors import BoardError

LAST_PORT = 65535
PORT = re.compile(r"[0-9]{1,5}")
HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that ``text`` is.

        Raises:
            BoardError: it is none.
        """
        host, _, port = text.rpartition(":")
        number = int(port) if PORT.fullmatch(port) else 0
        if not host or "/" in host or not 1 <= number <= LAST_PORT:
            raise BoardError(f"address {text!r:.80}: give HOST:PORT, as 192.168.0.2:9190")
        inside = host[1:-1] if host.startswith("[") and host.endswith("]") else ""
        if ":" in host and not inside:
            raise BoardError(f"address {text!r:.80}: write IPv6 in brackets, as [::1]:9190")
        if not is_host(inside or host) or (inside and ":" not in inside):
            raise BoardError(f"address {text!r:.80}: {host!r:.40} is no host: check its name")
        return cls(inside or host, number)


def is_host(text: str) -> bool:
    """Return whether ``text`` can be a host: an IPv6 address, or labels of at most 63 letters."""
    try:
        if ":" in text:
            return ip_address(text).version == 6
        encoded = text.encode("idna")
    except ValueError:  # UnicodeError, of empty and long labels, is one
        return False
    return HOST.fullmatch(encoded) is not None
