"""Download of Crystallography Open Database (COD) entries by number: one at a time, each whole or not at all."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import gemmi
import httpx
import pandas as pd

from rephase import __version__
from rephase.errors import ConfigError, check_positive
from rephase.files.bounded_requests import BoundedClient
from rephase.files.reading import decoded
from rephase.files.writing import writable_folder, write_whole

COD = "https://www.crystallography.net/cod"
LONGEST_REST = 300.0  # s; a server that asks for a longer pause gets no more requests
LONGEST_REQUEST = 86_400.0  # s
_MOST_REDIRECTS = 5
_BUSY = (429, 500, 502, 503, 504)


class FetchReport(NamedTuple):
    """The outcome for every number.

    Parameters
    ----------
    fetched, already_there
        Numbers whose ``NUMBER.cif`` was downloaded now, or was in the folder before.
    failed
        Reason for each number that could not be downloaded.
    """

    fetched: list[str]
    already_there: list[str]
    failed: dict[str, str]


def cache_folder() -> Path:
    """Folder where benchmarks and tests keep entries: ``REPHASE_CRYSTALS``, or ``~/.cache/rephase/cod`` if not set."""
    return Path(os.environ.get("REPHASE_CRYSTALS") or Path.home() / ".cache" / "rephase" / "cod")


def fetch_cod(
    ids: Iterable[str | int],
    folder: str | Path,
    *,
    base_url: str = COD,
    pause: float = 1.0,
    n_retries: int = 4,
    timeout: float = 60.0,
    max_mb: float = 50.0,
    progress: Callable[[list[str]], Iterable[str]] = iter,
) -> FetchReport:
    """Download entries of the COD as ``FOLDER/NUMBER.cif``.

    A CIF that exists is not requested again. An interrupted download continues where it stopped if the server still has
    the same version; a file gets its name when it is complete and readable. Numbers that fail are written with their
    reasons to ``FOLDER/failed.csv``, and the rest continues; but once the server has answered none of the requests for
    an entry, it gets no further ones. A redirect is followed on the same server only.

    Parameters
    ----------
    ids
        COD numbers of seven digits; each is downloaded once.
    folder
        Folder of the files; it is created if missing.
    base_url
        ``http`` or ``https`` address of a folder with files ``NUMBER.cif``.
    pause
        Seconds between requests, at most 300; doubled at every retry. A longer ``Retry-After`` takes precedence.
    n_retries
        Number of retries for an entry if the server is busy or a connection breaks.
    timeout
        Seconds for one request up to the last byte, at most a day; the retry continues from the bytes received.
    max_mb
        Largest file, in 10^6 bytes.
    progress
        Wraps the list of numbers to show progress, e.g. ``tqdm``.

    Raises
    ------
    ConfigError
        A number, the address or an option is invalid; nothing was requested.
    """
    numbers = _check_numbers(ids)
    _check_options(base_url, pause=pause, n_retries=n_retries, timeout=timeout, max_mb=max_mb)
    folder = writable_folder(folder, name="--out")
    # With compressed transfer, a partial file would be useless, and its length would differ from that of the file.
    headers = {"User-Agent": f"rephase/{__version__}", "Accept-Encoding": "identity"}
    report = FetchReport([], [], {})
    with httpx.Client(headers=headers, follow_redirects=False) as client:
        server = _Server(BoundedClient(client, timeout), pause, n_retries, int(max_mb * 1e6))
        for number in progress(numbers):
            path = folder / f"{number}.cif"
            if path.is_file() and not _fault(path):
                report.already_there.append(number)
                continue
            try:
                server.download(httpx.URL(f"{base_url.rstrip('/')}/{number}.cif"), path)
                report.fetched.append(number)
            except _Failed as failure:
                report.failed[number] = str(failure)
    _write_failures(folder / "failed.csv", report.failed)
    return report


def read_numbers(path: str | Path) -> list[str]:
    """Read COD numbers from a file, one a line; ``#`` starts a comment.

    Raises
    ------
    ConfigError
        The file cannot be read.
    """
    try:
        text = decoded(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}); give a file of COD numbers") from error
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


class _Failed(Exception):
    """An entry cannot be downloaded; the message is the reason."""


class _BrokenOff(Exception):
    """A request failed but may succeed when repeated; the message is the reason."""


@dataclass
class _Part:
    """The bytes of a file received so far, and a file beside it with the version that they belong to."""

    path: Path
    version_path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def version(self) -> str:
        """The server's name for the version; empty if there is none that can be sent back."""
        text = self.version_path.read_text(encoding="utf-8", errors="replace") if self.version_path.is_file() else ""
        return text if text.isascii() and text.isprintable() else ""

    def begin(self, version: str) -> None:
        """Start again; the old bytes are deleted first, so that they are never combined with the new version."""
        self.path.write_bytes(b"")
        self.version_path.write_text(version, encoding="utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.version_path.unlink(missing_ok=True)

    def range_headers(self) -> dict[str, str]:
        """Request the missing bytes, or the whole file if the server has a new version."""
        if not (self.size and self.version):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version}


@dataclass
class _Server:
    """A server that gets one request at a time, and none before `next_request` (s, monotonic clock).

    It `is_silent` once it has answered none of the requests for an entry; then it gets no further ones.
    """

    client: BoundedClient
    pause: float
    n_retries: int
    max_bytes: int
    next_request: float = 0.0
    n_answers: int = 0
    is_silent: bool = False

    def download(self, url: httpx.URL, path: Path) -> None:
        """Download a CIF, with retries; it appears at `path` when it is complete."""
        if self.is_silent:
            raise _Failed("not requested: the server does not answer; try again later")
        n_answers = self.n_answers
        part = _Part(path.with_suffix(".part"), path.with_suffix(".part.version"))
        for attempt in range(self.n_retries + 1):
            try:
                self._request(url, part)
                break
            except (_BrokenOff, httpx.RequestError) as error:
                reason = str(error) or type(error).__name__
                self._rest(min(self.pause * 2 ** (attempt + 1), LONGEST_REST))
        else:
            self.is_silent = self.n_answers == n_answers
            raise _Failed(f"given up after {self.n_retries + 1} requests: {reason}")
        if fault := _fault(part.path):
            part.drop()
            raise _Failed(fault)
        part.path.replace(path)
        part.drop()

    def _request(self, url: httpx.URL, part: _Part) -> None:
        """Send one request, follow its redirects, and append the bytes received to the part."""
        place = url
        for _ in range(_MOST_REDIRECTS + 1):
            with self._answer(place, part.range_headers()) as response:
                if response.next_request is not None:
                    place = _same_server(url, response.next_request.url)
                    continue
                self._check_status(response, part)
                total = self._begin(response, part)
                self._receive(response, part)
            if total not in (None, part.size):
                raise _BrokenOff(f"received {part.size} bytes of {total}")
            return
        raise _Failed(f"redirected more than {_MOST_REDIRECTS} times, at last to {str(place)[:200]}")

    @contextmanager
    def _answer(self, url: httpx.URL, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Wait for the pause to end, then give the answer; the next pause starts when the answer has been read."""
        delay = self.next_request - time.monotonic()
        if delay > LONGEST_REST:
            raise _Failed(f"not requested: the server asks for a pause of {delay:.0f} s; fetch again later")
        time.sleep(max(delay, 0.0))
        try:
            with self.client.get(url, headers) as response:
                self.n_answers += 1
                yield response
        finally:
            self._rest(self.pause)

    def _rest(self, seconds: float) -> None:
        self.next_request = max(self.next_request, time.monotonic() + seconds)

    def _check_status(self, response: httpx.Response, part: _Part) -> None:
        code = response.status_code
        reason = f"HTTP {code} {httpx.codes.get_reason_phrase(code)}".strip()
        if code in _BUSY:
            self._rest(_retry_after(response))
            raise _BrokenOff(reason)
        if code == 416 or (code == 206 and not _continues(response, part)):
            part.drop()  # nothing can be appended to it
            raise _BrokenOff(f"{reason}, which does not continue the partial file")
        if code not in (200, 206):
            raise _Failed(reason)

    def _begin(self, response: httpx.Response, part: _Part) -> int | None:
        """Return the length of the whole file (None: sent in chunks with an end mark); a new file starts empty."""
        total = _total_size(response)
        if total is not None and total > self.max_bytes:
            part.drop()
            raise _Failed(f"larger than {self.max_bytes / 1e6:g} MB ({total} bytes)")
        if response.status_code == 200:
            part.begin(_version(response))
        return total

    def _receive(self, response: httpx.Response, part: _Part) -> None:
        size = part.size
        with part.path.open("ab") as file:
            for chunk in response.iter_raw():
                size += len(chunk)
                if size > self.max_bytes:
                    break
                file.write(chunk)
        if size > self.max_bytes:
            part.drop()
            raise _Failed(f"larger than {self.max_bytes / 1e6:g} MB")


def _same_server(asked: httpx.URL, place: httpx.URL) -> httpx.URL:
    """Return the target of a redirect if it is on the same server, possibly by https."""
    ways = [(asked.scheme, asked.port), ("https", asked.port)]
    shown = str(place)[:200]
    if place.scheme not in ("http", "https"):
        raise _Failed(f"redirected to {shown}, which is not followed: unsupported protocol")
    if place.host != asked.host or (place.scheme, place.port) not in ways:
        raise _Failed(f"redirected to {shown}, which is not followed: another server than {asked.host}; give --url")
    return place


def _version(response: httpx.Response) -> str:
    """Exact name of this version (RFC 9110, 13.1.5): a strong ETag, or else the date; empty if there is neither."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
    return "" if version.startswith("W/") else version


def _content_range(response: httpx.Response) -> tuple[int, int]:
    """First byte of a partial answer, and length of the whole file; (-1, -1) if the answer does not state them."""
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _continues(response: httpx.Response, part: _Part) -> bool:
    """Whether a partial answer starts where the part ends and has the same version."""
    return _content_range(response)[0] == part.size and _version(response) == part.version != ""


def _total_size(response: httpx.Response) -> int | None:
    if response.status_code == 206:
        return _content_range(response)[1]
    if "chunked" in response.headers.get("Transfer-Encoding", ""):
        return None
    if "Content-Length" not in response.headers:
        raise _Failed(
            "the server does not state the length of the file, so rephase cannot check whether it is complete"
        )
    return int(response.headers["Content-Length"])


def _retry_after(response: httpx.Response) -> float:
    """Pause in seconds that the server asks for, as a number or a date; 0 if it does not ask."""
    value = response.headers.get("Retry-After", "0")
    try:
        return float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _fault(path: Path) -> str | None:
    """Reason why a file is not a CIF; None if it is one. The file is parsed as data and never evaluated."""
    try:
        blocks = gemmi.cif.read_string(path.read_bytes())
    except (ValueError, RuntimeError) as error:
        return f"not a CIF ({error})"
    return None if len(blocks) else "not a CIF (no data block)"


def _check_numbers(ids: Iterable[str | int]) -> list[str]:
    numbers = list(dict.fromkeys(str(number) for number in ids))
    wrong = [number for number in numbers if not re.fullmatch("[0-9]{7}", number)]
    if wrong:
        raise ConfigError(
            f"COD number {wrong[0]!r}: expected seven digits, e.g. 2002926; correct {len(wrong)} of {len(numbers)}, "
            "nothing was downloaded"
        )
    if not numbers:
        raise ConfigError("no COD number: expected at least one, e.g. 2002926; give numbers or --list FILE")
    return numbers


def _check_options(base_url: str, *, pause: float, n_retries: int, timeout: float, max_mb: float) -> None:
    if not _is_web_address(base_url):
        raise ConfigError(f"address {base_url!r}: expected http:// or https:// and a host; give one such as {COD}")
    check_positive("pause", pause, remedy="give seconds, e.g. 1", error=ConfigError)
    check_positive("timeout", timeout, remedy="give seconds, e.g. 60", error=ConfigError)
    if timeout > LONGEST_REQUEST:
        raise ConfigError(f"timeout = {timeout}: expected at most {LONGEST_REQUEST:g} s; give seconds, e.g. 60")
    check_positive("max_mb", max_mb, remedy="give the largest file in MB, e.g. 50", error=ConfigError)
    if pause > LONGEST_REST:
        raise ConfigError(f"pause = {pause}: expected at most {LONGEST_REST:g} s; give seconds, e.g. 1")
    if n_retries < 0:
        raise ConfigError(f"n_retries = {n_retries}: expected 0 or more; give a count, e.g. 4")


def _is_web_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def _write_failures(path: Path, failed: dict[str, str]) -> None:
    if failed:
        write_whole(path, pd.DataFrame(failed.items(), columns=["id", "reason"]).to_csv(index=False))
    else:
        path.unlink(missing_ok=True)
