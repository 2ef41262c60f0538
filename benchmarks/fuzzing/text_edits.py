"""Changes of bytes, lines and columns; each function takes the content of a file and returns changed content."""

import gzip
import re
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from random import Random

Edit = Callable[[Path, Random], None]
"""Function that changes a file in place, with random numbers only from the generator."""

TOKENS = [
    *(b"nan", b"inf", b"-", b"?", b".", b"0", b"-1", b"1e999", b"-1e308", b"99999999", b"-1001", b" ", b"\n", b"\0"),
    *(b"'", b'"', b";", b"_", b"#", b"\\", b"<", b"{", b"[", b"&x;", b"$", b",", b"\t", b"\r", b"\xff", b"\xc3\xbc"),
    *(b"loop_\n", b"data_x\n", b"   0   0   0\n", b"CELL ", b"SYMM ", b"=\n ", b"__import__('os')", b"1/0", b"1e20"),
]
VALUES = [
    *("nan", "-inf", "0", "-1", "1e308", "1e999", "-0.0001", "99999999999999999999", "1.234(5)", "1.2(34567890123)"),
    *("٣", "１２", "1_000", "0x10", "1,5", "1.5D+03", "--1", "+", "''", '""', "?", ".", "none", "true", "x" * 5000),
    *("9" * 5000, "1e-400", "½", "H" * 300, "<img src=x onerror=alert(1)>", "../../x", "2026-11-27", "C1'", "\ufeff1"),
]
ENDLESS = gzip.compress(b"\n" * 2**20) * 1024
"""Compressed data that unpack to a gigabyte."""
_FIELD = re.compile(rb"[^\s,;]+")


def _at(content: bytes, random: Random) -> int:
    return random.randrange(len(content) + 1)


def insert_token(content: bytes, random: Random) -> bytes:
    """Insert a token that has a meaning for some reader, anywhere."""
    start = _at(content, random)
    return content[:start] + random.choice(TOKENS) + content[start:]


def overwrite(content: bytes, random: Random) -> bytes:
    """Replace a few bytes by a token or by noise."""
    start, length = _at(content, random), random.randint(1, 60)
    new = random.choice(TOKENS) if random.random() < 0.5 else random.randbytes(random.randint(1, 4))
    return content[:start] + new + content[start + length :]


def delete(content: bytes, random: Random) -> bytes:
    """Delete a few bytes."""
    start = _at(content, random)
    return content[:start] + content[start + random.randint(1, 60) :]


def repeat(content: bytes, random: Random) -> bytes:
    """Repeat a few bytes three times."""
    start, length = _at(content, random), random.randint(1, 60)
    return content[:start] + content[start : start + length] * 3 + content[start + length :]


def flip_bit(content: bytes, random: Random) -> bytes:
    """Flip one bit."""
    if not content:
        return content
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite_number(content: bytes, random: Random) -> bytes:
    """Replace an integer of four or eight bytes in a binary header."""
    size = random.choice((4, 8))
    start = random.randrange(0, max(1, min(len(content), 2048) - size), 4)
    number = random.choice((0, 1, 2, 255, 65_535, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1))
    return content[:start] + (number % 256**size).to_bytes(size, "little") + content[start + size :]


def change_digit(content: bytes, random: Random) -> bytes:
    """Replace one digit."""
    places = [found.start() for found in re.finditer(rb"\d", content)]
    if not places:
        return content
    place = random.choice(places)
    return content[:place] + b"%d" % random.randrange(10) + content[place + 1 :]


def cut(content: bytes, random: Random) -> bytes:
    """Cut off the end."""
    return content[: _at(content, random)]


def encode(content: bytes, random: Random) -> bytes:
    """Change the encoding, the compression or the line ends."""
    text = content.decode("utf-8", errors="replace")
    return random.choice(
        [
            b"\xef\xbb\xbf" + content,
            text.encode("utf-16"),
            text.replace("e", "é").encode("latin-1", errors="replace"),
            gzip.compress(content),
            gzip.compress(content)[: len(content) // 3],
            ENDLESS,
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            content.upper(),
            content.replace(b" ", b"\xc2\xa0"),
            b"",
            b"\n" * 3,
        ]
    )


def _lines(change: Callable[[list[bytes], Random], None]) -> Callable[[bytes, Random], bytes]:
    @wraps(change)
    def edit(content: bytes, random: Random) -> bytes:
        lines = content.splitlines(keepends=True)
        if lines:
            change(lines, random)
        return b"".join(lines)

    return edit


@_lines
def repeat_line(lines: list[bytes], random: Random) -> None:
    """Repeat a line, often a tag, beside itself or elsewhere."""
    lines.insert(random.randrange(len(lines) + 1), random.choice(lines))


@_lines
def delete_lines(lines: list[bytes], random: Random) -> None:
    """Delete one line or a few."""
    start = random.randrange(len(lines))
    del lines[start : start + random.choice((1, 1, 1, 4))]


@_lines
def move_line(lines: list[bytes], random: Random) -> None:
    """Move a line elsewhere."""
    line = lines.pop(random.randrange(len(lines)))
    lines.insert(random.randrange(len(lines) + 1), line)


@_lines
def change_value(lines: list[bytes], random: Random) -> None:
    """Replace a field of a line by another value: huge, negative, empty, or with digits of another script."""
    row = random.randrange(len(lines))
    if fields := list(_FIELD.finditer(lines[row])):
        field = random.choice(fields)
        new = random.choice(VALUES).encode()
        lines[row] = lines[row][: field.start()] + new + lines[row][field.end() :]


def _columns(change: Callable[[list[bytes], int, int], list[bytes]]) -> Callable[[bytes, Random], bytes]:
    """Apply a change to the fields of one row, or to the same fields in every row with as many fields."""

    @wraps(change)
    def edit(content: bytes, random: Random) -> bytes:
        lines = content.split(b"\n")
        row = random.randrange(len(lines))
        n = len(lines[row].split())
        if n < 2:
            return content
        one, other, is_every = random.randrange(n), random.randrange(n), random.random() < 0.7
        for number, line in enumerate(lines):
            if (number == row or is_every) and len(fields := line.split()) == n:
                lines[number] = b" ".join(change(fields, one, other))
        return b"\n".join(lines)

    return edit


@_columns
def swap_columns(fields: list[bytes], one: int, other: int) -> list[bytes]:
    """Swap two columns."""
    fields[one], fields[other] = fields[other], fields[one]
    return fields


@_columns
def repeat_column(fields: list[bytes], one: int, other: int) -> list[bytes]:
    """Repeat a column."""
    return [*fields[:one], fields[other], *fields[one:]]


@_columns
def delete_column(fields: list[bytes], one: int, other: int) -> list[bytes]:
    """Delete a column."""
    return [*fields[:one], *fields[one + 1 :]]


def nest(content: bytes, random: Random) -> bytes:
    """Insert brackets, tags or blocks nested thousands deep, or one long line."""
    start, n = _at(content, random), random.choice((50, 2000, 100_000))
    opened = random.choice((b"[", b"{a: ", b"(", b"<a>", b'{"a":', b"- ", b"save_x\n", b"x" * 10, b"\n"))
    return content[:start] + opened * n + content[start:]


def enlarge(content: bytes, random: Random) -> bytes:
    """Repeat the content a hundred times."""
    return content * min(100, 1 + 2_000_000 // (len(content) + 1))


BYTES = (insert_token, overwrite, overwrite_number, delete, repeat, flip_bit, change_digit, cut)
TEXT = (*(repeat_line, delete_lines, move_line, change_value, change_value, swap_columns), repeat_column, delete_column)
RARE = (encode, nest, enlarge)


def edit_content(changes: Sequence[Callable[[bytes, Random], bytes]], path: Path, random: Random) -> None:
    """Apply one of several changes to the content of a file."""
    path.write_bytes(random.choice(changes)(path.read_bytes(), random))


edit_bytes, edit_text, edit_rarely = (partial(edit_content, changes) for changes in (BYTES, TEXT, RARE))
TEXT_EDITS: tuple[Edit, ...] = (*(edit_bytes,) * 8, *(edit_text,) * 10, edit_rarely)
