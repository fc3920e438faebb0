"""Where the page listens, known before anything is loaded."""

import errno
import ipaddress
import socket

from frozen_vqa.pipeline.errors import ConfigError


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an IP address."""
    return ipaddress.ip_address(address).is_loopback


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens, or raise `ConfigError`. Port 0 is any that is free."""
    if not host.strip():
        raise ConfigError("--host is empty; give an address of this machine, such as 127.0.0.1")
    if not host.isascii() or not host.isprintable():
        raise ConfigError(f"--host {host!r} is no address; give one such as 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        where = f"--host {host:.80} --port {port}"
        why = str(error.strerror).partition(" (while")[0]  # which repeats the address
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"{where}: another program uses this port; give another --port (0: any free one)"
            ) from None
        raise ConfigError(
            f"{where}: no page can be opened there ({why}); give an address of this "
            f"machine, and a port from 1024 on"
        ) from None
