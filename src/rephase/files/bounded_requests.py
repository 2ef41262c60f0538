"""HTTP requests that end at a deadline, whatever the server sends until then."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx

_CONNECTED = (".connect_tcp.complete", ".start_tls.complete")


class BoundedClient:
    """A client for one request at a time, each with one deadline from the connection to the last byte.

    Timeouts of a client apply from byte to byte: a server that drips headers or repeats interim answers (100, 103)
    never exceeds them. This client cuts the connection instead.

    Parameters
    ----------
    client
        Client that makes the connections; it must not follow redirects.
    seconds
        Deadline of a request in seconds.
    """

    def __init__(self, client: httpx.Client, seconds: float):
        self.client, self.seconds = client, seconds
        self._socket: socket.socket | None = None
        self._end = 0.0

    @contextmanager
    def get(self, url: httpx.URL, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Send a GET request; the body of the answer can be read inside the context.

        Raises
        ------
        httpx.RequestError
            The server does not answer, or the connection breaks; `httpx.TimeoutException` at the deadline.
        """
        self._end = time.monotonic() + self.seconds
        timer = threading.Timer(self.seconds, self._cut)
        timer.daemon = True
        timer.start()
        extensions = {"trace": self._watch, "timeout": httpx.Timeout(self.seconds).as_dict()}
        try:
            with self.client.stream("GET", url, headers=headers, extensions=extensions) as response:
                yield response
        except httpx.RequestError as error:
            if self._is_over():
                raise self._timeout() from error
            raise
        finally:
            timer.cancel()

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end

    def _timeout(self) -> httpx.TimeoutException:
        return httpx.ReadTimeout(f"not finished after {self.seconds:g} s")

    def _watch(self, event: str, details: Mapping[str, Any]) -> None:
        """Keep the socket of a new connection; a connection made too late is not used."""
        if event.endswith(_CONNECTED):
            self._socket = details["return_value"].get_extra_info("socket")
            if self._is_over():
                raise self._timeout()

    def _cut(self) -> None:
        with suppress(OSError):
            if self._socket is not None:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
