"""CSV and TSV: what a stray quote damages is named, and takes no other row with it."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.data.tables.lines import BadRow
from optkit.errors import DataError
from optkit.preprocessing.load import rows
from optkit.preprocessing.run import preprocess


def read(folder, text, name="raw.csv"):
    """(line, row or why it is none) of each row of a file with this text."""
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(n, str(r) if isinstance(r, BadRow) else r) for n, r in rows(file)]


def test_quoted_fields_may_hold_line_ends_and_blank_lines_are_none(tmp_path):
    found = read(tmp_path, '\ntext,label\n"a ""b""\n\nc",x\r\n\nd,y')
    assert found == [(3, {"text": 'a "b"\n\nc', "label": "x"}), (7, {"text": "d", "label": "y"})]


@pytest.mark.parametrize("name", ["raw.csv", "raw.tsv", "raw.jsonl"])
def test_the_mark_that_excel_writes_is_no_part_of_the_first_name(tmp_path, name):
    text = {".jsonl": '{"label": "a"}\n', ".csv": "label,text\na,x\n", ".tsv": "label\ttext\na\tx\n"}
    found = read(tmp_path, b"\xef\xbb\xbf" + text[name[3:]].encode(), name)
    assert found[0][1]["label"] == "a"


def test_a_quote_that_is_never_closed_is_an_error_that_no_flag_skips(tmp_path):
    (tmp_path / "raw.csv").write_text('text,label\nx,a\n"y,b\nz,a\nw,b\n')
    with pytest.raises(DataError, match="not closed, in the row that begins at line 3"):
        preprocess(tmp_path / "raw.csv", tmp_path / "out", skip_bad=100)
    assert not (tmp_path / "out").exists()


def test_so_is_one_that_is_longer_than_any_field(tmp_path):
    with pytest.raises(DataError, match="not closed, in the row that begins at line 2"):
        read(tmp_path, 'text,label\n"y,b\n' + "some words,a\n" * 20_000)


def test_lines_that_a_quote_joins_count_one_by_one(tmp_path):
    text = 'text,label\nx,a\n"y,b\nz,a\n"w, v",b\nu,b\n'
    found = read(tmp_path, text)
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert all("lines 3 to 5, where a quote may be left open" in found[i][1] for i in (1, 2, 3))
    with pytest.raises(DataError, match="corrupt line 4"):
        preprocess(tmp_path / "raw.csv", tmp_path / "out", skip_bad=1)


def test_joined_lines_with_as_many_columns_are_found_too(tmp_path):
    found = read(tmp_path, 'text,label\n"y,b\nz,a\n"w",b\nu,b\n')
    assert "expected after" in found[0][1]
    assert found[-1] == (5, {"text": "u", "label": "b"})


def test_a_long_document_is_one_field(tmp_path):
    assert read(tmp_path, "text,label\n" + "y" * 140_000 + ",b\n") == [
        (2, {"text": "y" * 140_000, "label": "b"})
    ]


def test_a_field_that_is_too_long_and_a_lone_carriage_return_are_bad_lines(tmp_path, request):
    limit = csv.field_size_limit(100_000)
    request.addfinalizer(lambda: csv.field_size_limit(limit))
    found = read(tmp_path, "text,label\n" + "y" * 140_000 + ",b\nx\ry,b\nz,a\n")
    assert "field limit" in found[0][1]
    assert "new-line" in found[1][1]
    assert [line for line, _ in found] == [2, 3, 4]
    assert found[2][1] == {"text": "z", "label": "a"}


def test_a_line_that_is_not_utf8_spoils_the_row_that_it_is_in(tmp_path):
    found = read(tmp_path, b'text,label\n"a\n\xff\nb",x\n\xfe\nc,y\n')
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert found[1][1] == "not UTF-8: byte 0xff"
    assert found[-1][1] == {"text": "c", "label": "y"}


@pytest.mark.parametrize("name", ["raw.csv", "raw.tsv"])
def test_a_header_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="names of the columns.*line 1: not UTF-8"):
        read(tmp_path, b"te\xffxt,label\na,b\n", name)


def test_in_tsv_a_quote_is_text_unless_a_pair_holds_the_field(tmp_path):
    found = read(tmp_path, 'text\tlabel\n"x\ta\n"a ""b"""\tb\nsay "w"\ta\nz\n\n', "raw.tsv")
    assert [row for _, row in found] == [
        {"text": '"x', "label": "a"},
        {"text": 'a "b"', "label": "b"},
        {"text": 'say "w"', "label": "a"},
        "expected 2 columns, received 1",
    ]


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1)] * 2),
        min_size=1,
    )
)
def test_what_python_writes_as_csv_is_read_back(tmp_path_factory, cells):
    file = tmp_path_factory.mktemp("csv") / "raw.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *cells])
    assert [tuple(row.values()) for _, row in rows(file)] == cells
