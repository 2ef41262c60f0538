import gzip

import pytest

from rephase.errors import CifError
from rephase.files.reading import LARGEST, decoded, file_bytes, file_text

TEXT = "_cell_length_a 5.43 # Å\nsecond\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("latin-1"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        gzip.compress(TEXT.encode()),
        gzip.compress(b"\xef\xbb\xbf" + TEXT.encode()),
    ],
    ids=["utf-8", "mark", "utf-16", "utf-16-be", "latin-1", "crlf", "cr", "gzip", "gzip of a mark"],
)
def test_text_is_the_same_however_it_is_stored(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_text(path, CifError) == TEXT


def test_bytes_that_are_no_text_are_kept():
    assert decoded(b"a\xff\x00b") == "a\xff\x00b"


def test_unreadable_files_say_why(tmp_path):
    (tmp_path / "damaged.gz").write_bytes(gzip.compress(b"abc" * 1000)[:-20])
    (tmp_path / "false.gz").write_bytes(b"\x1f\x8bno gzip at all")
    for path, reason in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "not a file"),
        (tmp_path / "damaged.gz", "gzipped, and damaged"),
        (tmp_path / "false.gz", "gzipped, and damaged"),
        (tmp_path / ("x" * 5000), "File name too long"),
        ("x\0y", "null byte"),
        (tmp_path / "damaged.gz" / "below", "Not a directory"),
    ):
        with pytest.raises(CifError, match=reason):
            file_bytes(path, CifError)


def test_a_small_file_that_unpacks_to_an_endless_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rephase.files.reading.LARGEST", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"0" * 10_000))
    with pytest.raises(CifError, match="expected at most 1,000 bytes"):
        file_bytes(tmp_path / "bomb.gz", CifError)
    assert LARGEST > 10_000


def test_messages_are_one_short_line():
    message = str(CifError("first\nsecond\x1b[31m" + "x" * 800_000 + "end"))
    assert message.startswith("first second")
    assert message.endswith("end")
    assert message.isprintable()
    assert len(message) < 2000
