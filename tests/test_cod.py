"""``rephase fetch-cod`` against a server on this machine: whole files or none, politely, whatever the server does."""

import re
import socket
import sys
import threading
import time
from contextlib import ExitStack, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pandas as pd
import pytest

from rephase import __version__
from rephase.cli import main
from rephase.errors import ConfigError
from rephase.formats import cod

A, B, C = "2002926", "1000041", "4300001"
# Cut after any line it is still a CIF that can be read: only its length shows that something is missing.
CIF = ("data_sample\nloop_\n_atom_site_label\n" + "".join(f"Ni{i}\n" for i in range(8000))).encode()
NEWER = CIF.replace(b"Ni", b"Co")
HALF = CIF.index(b"Ni4000\n")


class Handler(BaseHTTPRequestHandler):
    """Answers as the next step of the script says, or else as a good server does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = self.path.rsplit("/")[-1].removesuffix(".cif")
        self.server.requests.append((number, dict(self.headers), time.monotonic(), self.client_address[1]))
        steps = self.server.scripts.get(number, [])
        try:
            (steps.pop(0) if steps else serve)(self, self.server.bodies.get(number))
        except ConnectionError:  # the client has had enough
            self.close_connection = True

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, data):
        self.server.n_bytes += len(data)  # first, or a test may look before it is counted
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def etag_of(body):
    return '"newer"' if b"Co1\n" in body else '"first"'


def serve(handler, body):
    """Ranges, ETag and If-Range as in RFC 9110."""
    if body is None:
        handler.head(404, Content_Length=0)
        return
    start = range_start(handler)
    if start is None or handler.headers.get("If-Range") != etag_of(body):
        serve_all(handler, body)
    else:
        serve_part(handler, body, start)


def range_start(handler):
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    return int(found[1]) if found else None


def serve_all(handler, body):
    handler.head(200, Content_Length=len(body), ETag=etag_of(body))
    handler.send(body)


def serve_part(handler, body, start, stop=None):
    data = body[start:stop]
    content_range = f"bytes {start}-{start + len(data) - 1}/{len(body)}"
    handler.head(206, Content_Length=len(data), Content_Range=content_range, ETag=etag_of(body))
    handler.send(data)


def hang_up(handler, _):
    """Answer nothing at all."""
    handler.close_connection = True


def break_off(handler, body, **headers):
    """Promise all, send half."""
    handler.head(200, Content_Length=len(body), **(headers or {"ETag": etag_of(body)}))
    handler.send(body[:HALF])
    handler.close_connection = True


def status(code, **headers):
    return lambda handler, _: handler.head(code, Content_Length=0, **headers)


def chunked(handler, body, *, end=b"0\r\n\r\n"):
    handler.head(200, Transfer_Encoding="chunked", ETag=etag_of(body))
    handler.send(f"{len(body):x}\r\n".encode() + body + b"\r\n" + end)
    handler.close_connection = not end


@pytest.fixture
def server(monkeypatch):
    """A small COD: `bodies` by number, `scripts` of what to do first; it counts requests and bytes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.bodies, made.scripts, made.requests, made.n_bytes = {A: CIF, B: CIF}, {}, [], 0
        made.url = f"http://127.0.0.1:{made.server_port}/cod"
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    def run(*ids, **options):
        return cod.fetch_cod(ids, tmp_path, **({"base_url": server.url, "pause": 0.001} | options))

    return run


@pytest.fixture
def waits(monkeypatch):
    """How long the client meant to wait before every request; it does not."""
    seconds = []
    monkeypatch.setattr(cod.time, "sleep", seconds.append)
    return seconds


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def ranges(server):
    return [headers.get("Range") for _, headers, _, _ in server.requests]


def test_entries_come_whole_over_one_connection(server, fetch, tmp_path):
    report = fetch(A, int(B), A)
    assert report == ([A, B], [], {})
    assert files(tmp_path) == [f"{B}.cif", f"{A}.cif"]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF
    assert [number for number, *_ in server.requests] == [A, B]
    assert len({port for *_, port in server.requests}) == 1
    for _, headers, *_ in server.requests:
        assert headers["User-Agent"] == f"rephase/{__version__}"
        assert headers["Accept-Encoding"] == "identity"


def test_what_is_there_is_not_asked_for_again(server, fetch):
    fetch(A)
    assert fetch(A, B) == ([B], [A], {})
    assert [number for number, *_ in server.requests] == [A, B]


def test_a_damaged_file_is_not_taken_for_one_that_is_there(fetch, tmp_path):
    (tmp_path / f"{A}.cif").write_bytes(b"")
    assert fetch(A).fetched == [A]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def test_an_entry_that_is_missing_is_recorded_and_the_rest_goes_on(server, fetch, tmp_path):
    assert fetch(A, C, B) == ([A, B], [], {C: "HTTP 404 Not Found"})
    assert len(server.requests) == 3
    table = pd.read_csv(tmp_path / "failed.csv", dtype=str)
    assert table.to_dict("records") == [{"id": C, "reason": "HTTP 404 Not Found"}]
    server.bodies[C] = CIF
    assert fetch(A, C, B) == ([C], [A, B], {})
    assert not (tmp_path / "failed.csv").exists()


def test_requests_keep_the_pause(server, fetch):
    fetch(A, C, B, pause=0.03)
    times = [at for _, _, at, _ in server.requests]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.03


def test_a_busy_server_is_asked_again(server, fetch, tmp_path):
    server.scripts[A] = [status(503, Retry_After=0), status(429, Retry_After="soon")]
    assert fetch(A) == ([A], [], {})
    assert len(server.requests) == 3
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("value", [lambda: "70", lambda: formatdate(time.time() + 70, usegmt=True)])
def test_retry_after_is_honoured(server, fetch, waits, code, value):
    server.scripts[A] = [status(code, Retry_After=value())]
    assert fetch(A).fetched == [A]
    assert waits[1] == pytest.approx(69, abs=2)


def test_a_server_that_wants_to_be_left_alone_is(server, fetch, waits):
    server.scripts[A] = [status(503, Retry_After=10**6)]
    failed = fetch(A, B).failed
    assert list(failed) == [A, B]
    assert all("the server asks for a pause" in reason for reason in failed.values())
    assert len(server.requests) == 1
    assert max(waits) <= 1


def test_retries_wait_twice_as_long_each_and_end(server, fetch, waits, tmp_path):
    server.scripts[A] = [status(500)] * 9
    report = fetch(A, B, pause=1.0, n_retries=3)
    assert report == ([B], [], {A: "given up after 4 requests: HTTP 500 Internal Server Error"})
    assert waits == pytest.approx([0, 2, 4, 8, 16], abs=0.5)
    assert files(tmp_path) == [f"{B}.cif", "failed.csv"]


def test_a_server_that_is_not_there(fetch, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        report = fetch(A, n_retries=1, base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert report.failed[A].startswith("given up after 2 requests: ")
    assert files(tmp_path) == ["failed.csv"]


def test_a_server_that_does_not_answer_is_not_asked_for_the_rest(server, fetch, waits):
    server.scripts[A] = [hang_up] * 3
    report = fetch(A, B, C, n_retries=2)
    assert report.failed[A].startswith("given up after 3 requests: ")
    assert report.failed[B] == report.failed[C] == "not requested: the server does not answer; try again later"
    assert [number for number, *_ in server.requests] == [A] * 3


def test_a_server_that_answers_once_in_a_while_is_asked_for_the_rest(server, fetch, waits):
    server.scripts[A] = [hang_up, status(503), hang_up]
    report = fetch(A, B, n_retries=2)
    assert list(report.failed) == [A]
    assert report.fetched == [B]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ".cache/rephase/cod"), ("crystals", "crystals")],
    ids=["unset", "set"],
)
def test_entries_are_kept_where_the_environment_says(monkeypatch, tmp_path, value, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REPHASE_CRYSTALS", str(tmp_path / value) if value else "")
    assert cod.cache_folder() == tmp_path / expected


def test_a_download_that_breaks_off_goes_on_where_it_was(server, fetch, tmp_path):
    server.scripts[A] = [break_off]
    assert fetch(A) == ([A], [], {})
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert server.requests[1][1]["If-Range"] == '"first"'
    assert server.n_bytes == len(CIF)
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF
    assert files(tmp_path) == [f"{A}.cif"]


def test_a_later_run_goes_on_as_well(server, fetch, tmp_path):
    server.scripts[A] = [break_off]
    assert A in fetch(A, n_retries=0).failed
    assert files(tmp_path) == [f"{A}.part", f"{A}.part.version", "failed.csv"]
    inode = (tmp_path / f"{A}.part").stat().st_ino
    assert fetch(A).fetched == [A]
    assert (tmp_path / f"{A}.cif").stat().st_ino == inode  # renamed when it was whole, not copied
    assert server.n_bytes == len(CIF)
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF
    assert files(tmp_path) == [f"{A}.cif"]


def test_a_server_may_send_less_than_was_asked_for(server, fetch, tmp_path):
    server.scripts[A] = [break_off, lambda handler, body: serve_part(handler, body, HALF, HALF + 500)]
    assert fetch(A).fetched == [A]
    assert ranges(server) == [None, f"bytes={HALF}-", f"bytes={HALF + 500}-"]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def test_a_date_names_a_version_too(server, fetch, tmp_path):
    date = "Mon, 06 Jan 2025 10:00:00 GMT"

    def rest(handler, body):
        content_range = f"bytes {HALF}-{len(body) - 1}/{len(body)}"
        handler.head(206, Content_Length=len(body) - HALF, Content_Range=content_range, Last_Modified=date)
        handler.send(body[HALF:])

    server.scripts[A] = [lambda handler, body: break_off(handler, body, Last_Modified=date), rest]
    assert fetch(A).fetched == [A]
    assert server.requests[1][1]["If-Range"] == date
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


@pytest.mark.parametrize("headers", [{"ETag": 'W/"first"'}, {"X_Nothing": "said"}], ids=["weak", "none"])
def test_without_a_version_nothing_is_resumed(server, fetch, tmp_path, headers):
    server.scripts[A] = [lambda handler, body: break_off(handler, body, **headers)]
    assert fetch(A).fetched == [A]
    assert ranges(server) == [None, None]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def test_a_damaged_note_of_the_version_starts_again(server, fetch, tmp_path):
    (tmp_path / f"{A}.part").write_bytes(NEWER[:HALF])
    (tmp_path / f"{A}.part.version").write_bytes(b"\0\0\xff")
    assert fetch(A).fetched == [A]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def test_a_server_without_ranges_starts_again(server, fetch, tmp_path):
    server.scripts[A] = [break_off, serve_all]
    assert fetch(A).fetched == [A]
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def is_now_newer(server, *steps):
    """Break off, change the file, then the steps."""

    def change(handler, body):
        break_off(handler, body)
        server.bodies[A] = NEWER

    server.scripts[A] = [change, *steps]


def test_two_versions_are_not_glued_together(server, fetch, tmp_path):
    is_now_newer(server)
    assert fetch(A).fetched == [A]
    assert (tmp_path / f"{A}.cif").read_bytes() == NEWER


def test_a_server_that_ignores_if_range_glues_nothing_either(server, fetch, tmp_path):
    is_now_newer(server, lambda handler, body: serve_part(handler, body, range_start(handler)))
    assert fetch(A).fetched == [A]
    assert ranges(server) == [None, f"bytes={HALF}-", None]
    assert (tmp_path / f"{A}.cif").read_bytes() == NEWER


@pytest.mark.parametrize(
    "answer",
    [
        lambda handler, body: serve_part(handler, body, HALF - 5),
        lambda handler, body: handler.head(206, Content_Length=0, ETag=etag_of(body)),
        status(416),
    ],
    ids=["other start", "no range", "not satisfiable"],
)
def test_an_answer_that_does_not_continue_the_part_starts_again(server, fetch, tmp_path, answer):
    server.scripts[A] = [break_off, answer]
    assert fetch(A).fetched == [A]
    assert ranges(server) == [None, f"bytes={HALF}-", None]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html><p>data_ not found</p></html>", b"", b"# nothing\n", CIF[3:]])
def test_what_is_no_cif_is_not_kept(server, fetch, tmp_path, body):
    server.bodies[A] = body
    report = fetch(A, B)
    assert report.fetched == [B]
    assert report.failed[A].startswith("not a CIF (")
    assert files(tmp_path) == [f"{B}.cif", "failed.csv"]
    assert len(server.requests) == 2


def test_a_file_shorter_than_promised_never_becomes_a_cif(server, fetch, tmp_path):
    def promise_more(handler, body):
        handler.head(200, Content_Length=len(body) + 100)
        handler.send(body)
        handler.close_connection = True

    server.scripts[A] = [promise_more] * 9
    assert fetch(A, n_retries=2).failed[A].startswith("given up after 3 requests: ")
    assert len(server.requests) == 3
    assert not list(tmp_path.glob("*.cif"))


def test_chunks_have_an_end_of_their_own(server, fetch, tmp_path):
    server.scripts = {A: [chunked], B: [lambda handler, body: chunked(handler, body, end=b"")] * 9}
    report = fetch(A, B, n_retries=0)
    assert report.fetched == [A]
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF
    assert B in report.failed
    assert not (tmp_path / f"{B}.cif").exists()


def test_a_file_of_unknown_length_is_refused(server, fetch, tmp_path):
    def until_the_end(handler, body):
        handler.head(200, Connection="close")
        handler.send(body)

    server.scripts[A] = [until_the_end]
    assert "does not state the length" in fetch(A).failed[A]
    assert files(tmp_path) == ["failed.csv"]


def test_a_file_that_is_too_large_is_dropped(server, fetch, tmp_path):
    server.scripts[A] = [break_off]
    fetch(A, n_retries=0)
    assert fetch(A, max_mb=0.04).failed == {A: f"larger than 0.04 MB ({len(CIF)} bytes)"}
    assert files(tmp_path) == ["failed.csv"]
    assert len(server.requests) == 2


def test_a_file_without_end_is_dropped(server, fetch, tmp_path):
    n_pieces = 1000

    def endless(handler, _):
        handler.head(200, Transfer_Encoding="chunked")
        for _ in range(n_pieces):
            handler.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        handler.close_connection = True

    server.scripts[A] = [endless]
    assert fetch(A, max_mb=0.1).failed == {A: "larger than 0.1 MB"}
    assert server.n_bytes < n_pieces * 0x10000
    assert files(tmp_path) == ["failed.csv"]
    assert len(server.requests) == 1


def test_a_body_that_drips_is_broken_off_and_goes_on(server, fetch, tmp_path):
    n_drops = 0

    def drip(handler, body):
        nonlocal n_drops
        handler.head(200, Content_Length=len(body), ETag=etag_of(body))
        while n_drops < 200:
            handler.send(body[n_drops : n_drops + 1])
            n_drops += 1
            time.sleep(0.01)

    server.scripts[A] = [drip]
    assert fetch(A, timeout=0.1, n_retries=50).fetched == [A]
    assert n_drops < 200
    assert ranges(server)[1] is not None
    assert (tmp_path / f"{A}.cif").read_bytes() == CIF


def test_a_redirection_is_followed_on_the_web_only(server, fetch):
    server.scripts = {
        A: [status(301, Location=f"/cod/{B}.cif")],
        C: [status(301, Location="file:///etc/hostname")] * 2,
    }
    report = fetch(A, C, n_retries=1)
    assert report.fetched == [A]
    assert "unsupported protocol" in report.failed[C]


@pytest.mark.parametrize(
    "place",
    [
        "http://localhost:{port}/cod/1000041.cif",
        "http://127.0.0.1:1/1000041.cif",
        "//example.org/1000041.cif",
        "ftp://127.0.0.1:{port}/1000041.cif",
    ],
    ids=["host", "port", "host without protocol", "protocol"],
)
def test_a_redirection_to_another_server_is_refused_by_name(server, fetch, place):
    server.scripts[A] = [status(302, Location=place.format(port=server.server_port))]
    reason = fetch(A).failed[A]
    assert "redirected to " in reason
    assert "1000041.cif, which is not followed: " in reason
    assert [number for number, *_ in server.requests] == [A]


def test_requests_that_are_redirected_keep_the_pause_and_end(server, fetch):
    server.scripts[A] = [status(307, Location=f"/cod/{A}.cif")] * 99
    assert "redirected more than 5 times" in fetch(A, pause=0.03).failed[A]
    times = [at for _, _, at, _ in server.requests]
    assert len(times) == 6
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.03


@pytest.fixture
def sender(monkeypatch):
    """A server that sends a beginning, then one piece for ever, every 20 ms; it gives its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    is_over = threading.Event()

    def send(listener, beginning, piece):
        while not is_over.is_set():
            with suppress(OSError), listener.accept()[0] as connection:
                connection.sendall(beginning)
                while not is_over.wait(0.02):
                    connection.sendall(piece)

    with ExitStack() as stack:

        def start(beginning, piece):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(0.1)
            thread = threading.Thread(target=send, args=(listener, beginning, piece))
            thread.start()
            stack.callback(thread.join)
            stack.callback(is_over.set)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Many: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\ndata_x\n", b"#"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n#\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["nothing", "a long header", "many headers", "100", "103", "a body", "chunks", "an extension of a chunk"],
)
def test_a_request_ends_whatever_a_server_drips(sender, fetch, beginning, piece):
    start = time.monotonic()
    failed = fetch(A, base_url=sender(beginning, piece), timeout=0.3, n_retries=1).failed
    assert failed[A] == "given up after 2 requests: not finished after 0.3 s"
    assert 0.6 <= time.monotonic() - start < 3


@pytest.mark.parametrize("number", ["200292", "20029266", "20029a6", "٢٠٠٢٩٢٦", "../2926", "2002926\n", ""])
def test_a_wrong_number_stops_before_the_first_request(server, fetch, number):
    with pytest.raises(ConfigError, match=re.escape(f"COD number {number!r}: expected seven digits, e.g. 2002926; ")):
        fetch(A, number)
    assert not server.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "file:///etc"}, "address 'file:///etc': expected http:// or https://"),
        ({"base_url": "http://"}, "address 'http://': expected"),
        ({"base_url": "http://a:b:c"}, "address 'http://a:b:c': expected"),
        ({"base_url": "crystallography.net/cod"}, "expected http:// or https:// and a host; give one such as https://"),
        ({"pause": 0}, "pause = 0: expected a number above 0"),
        ({"pause": 301}, "pause = 301: expected at most 300 s"),
        ({"timeout": float("inf")}, "timeout = inf: expected a number above 0"),
        ({"timeout": 1e9}, "timeout = 1000000000.0: expected at most 86400 s"),
        ({"max_mb": 0}, "max_mb = 0: expected a number above 0"),
        ({"n_retries": -1}, "n_retries = -1: expected 0 or more"),
    ],
)
def test_a_wrong_option_stops_before_the_first_request(server, fetch, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        fetch(A, **options)
    assert not server.requests


def test_nothing_to_fetch_is_a_mistake(fetch):
    with pytest.raises(ConfigError, match="no COD number"):
        fetch()


def test_progress_sees_every_number(fetch):
    seen = []
    fetch(A, C, A, progress=lambda numbers: seen.extend(numbers) or numbers)
    assert seen == [A, C]


@pytest.fixture
def command(monkeypatch, capsys, server, tmp_path):
    """Run ``rephase fetch-cod`` in this process; its status, and what it printed on either stream."""

    def run(*arguments):
        options = ["--out", str(tmp_path / "out"), "--url", server.url, "--pause", "0.001"]
        monkeypatch.setattr(sys, "argv", ["rephase", "fetch-cod", *options, *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


def test_the_command_sums_up(command, tmp_path):
    (tmp_path / "numbers.txt").write_text(f"# wanted\n{A}  # nickel\n\n{B}\n")
    code, printed, complaints = command("--list", str(tmp_path / "numbers.txt"))
    assert code == 0, complaints
    assert files(tmp_path / "out") == [f"{B}.cif", f"{A}.cif"]
    assert printed.splitlines()[:3] == ["fetched: 2", "already there: 0", "failed: 0"]

    code, printed, complaints = command(A, C)
    assert code == 1
    assert printed.splitlines()[:3] == ["fetched: 0", "already there: 1", "failed: 1"]
    assert f"failed: {C}: HTTP 404 Not Found" in complaints


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["12"], "ConfigError: COD number '12': expected seven digits"),
        ([], "ConfigError: no COD number"),
        ([A, "--list", "none.txt"], "ConfigError: none.txt: cannot be read (No such file or directory); give"),
        ([A, "--url", "ftp://127.0.0.1"], "ConfigError: address 'ftp://127.0.0.1': expected http"),
        ([A, "--timeout", "0"], "ConfigError: timeout = 0.0: expected a number above 0"),
        ([A, "--out", __file__], "ConfigError: --out "),
    ],
)
def test_a_mistake_is_one_line(command, server, arguments, message):
    code, _, complaints = command(*arguments)
    assert code == 2
    assert complaints.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in complaints
    assert not server.requests
