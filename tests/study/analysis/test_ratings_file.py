"""Files as people have them: separators, byte order marks, gaps, and what is refused."""

import unicodedata

import numpy as np
import pytest

from echodiff.errors import InputError
from echodiff.study.analysis.ratings_file import read_ratings, read_study

HEAD = "reader,source,image,score"
ROWS = ["A,real,r1,5", "A,gan,g1,2", "B,real,r2,4", "B,gan,g2,1"]


def write(tmp_path, *lines, name="ratings.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_byte_order_marks(tmp_path, separator, encoding):
    lines = [line.replace(",", separator) for line in (HEAD, *ROWS)]
    ratings = read_ratings(write(tmp_path, *lines, encoding=encoding), real="real")
    assert ratings.readers == ("A", "B")
    assert ratings.sources == ("real", "gan")
    assert ratings.score.tolist() == [5, 2, 4, 1]
    assert ratings.source.tolist() == [0, 1, 0, 1]


def test_what_excel_adds(tmp_path):
    lines = ["sep=;", "Reader; Source ;IMAGE;Score"] + [row.replace(",", ";") for row in ROWS]
    lines[2] = "A;real;r1;5,0"
    ratings = read_ratings(write(tmp_path, *lines, "", ";;;"), real="real")
    assert ratings.score.tolist() == [5, 2, 4, 1]


def test_names_in_cyrillic_and_the_order_of_the_columns(tmp_path):
    lines = ["score,image,source,reader,text"]
    for row, reader in zip(ROWS, ("Әлия", "Әлия", "Ян", "Ян"), strict=True):
        _, source, image, score = row.split(",")
        lines.append(f'{score},{image},{source},{reader},"стенки, не видны"')
    assert read_ratings(write(tmp_path, *lines), real="real").readers == ("Ян", "Әлия")


def test_a_name_typed_on_another_system_is_the_same_name(tmp_path):
    rows = [row.replace("B,", "Андрей,", 1) for row in ROWS]
    rows[3] = unicodedata.normalize("NFD", rows[3])
    assert rows[3] != unicodedata.normalize("NFC", rows[3])
    assert read_ratings(write(tmp_path, HEAD, *rows), real="real").readers == ("A", "Андрей")


def test_real_and_generated_images_of_other_readers_are_refused(tmp_path):
    rows = ["A,real,r1,5", "A,real,r2,4", "B,gan,g1,2", "B,gan,g2,1"]
    with pytest.raises(InputError, match="no reader rated both real and generated images"):
        read_ratings(write(tmp_path, HEAD, *rows), real="real")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["A,real,r9,6"], "line 6: score 6: must be a whole number from 1 to 5"),
        (["A,real,r9,2.5"], "line 6: score 2.5: must be a whole number from 1 to 5"),
        (["A,real,r9,good"], "line 6: score good: must be"),
        (["A,real,r1,5"], "line 6: A rated r1 in line 2 already"),
        (["A,gan,r1,5"], "line 6: A rated r1 in line 2 already"),
        (["B,gan,r1,5"], "line 6: r1 is of the source gan here, and of real above"),
        ([",gan,g9,5"], "line 6: reader is empty"),
        (["A,,g9,5"], "line 6: source is empty"),
        (["A,gan,g9"], "line 6: has 3 values for 4 columns"),
    ],
)
def test_bad_rows_are_refused_with_their_line(tmp_path, rows, message):
    path = write(tmp_path, HEAD, *ROWS, *rows)
    with pytest.raises(InputError) as error:
        read_ratings(path, real="real")
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("lines", "real", "message"),
    [
        ([HEAD, *ROWS[:2]], "real", "has ratings of one reader alone"),
        ([HEAD, *ROWS], "echonet", "no rating has this source; there are gan and real"),
        ([HEAD, ROWS[0], ROWS[2]], "real", "only the source real was rated"),
        ([HEAD, *(row[:-1] + "3" for row in ROWS)], "real", "every score is 3"),
        ([HEAD], "real", "has no rows"),
        (["reader,image,score", "A,r1,5"], "real", "has no column source"),
        (["reader,source,source,score", "A,r1,2,5"], "real", "all different"),
        ([HEAD, *(row.replace("real", "").replace("gan", "") for row in ROWS)], "real",
         "the column source is empty: `echodiff study export --close` writes it"),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tmp_path, lines, real, message):
    with pytest.raises(InputError, match=message):
        read_ratings(write(tmp_path, *lines), real=real)


def test_another_encoding_is_refused(tmp_path):
    path = write(tmp_path, HEAD, "Әлия,real,r1,5".replace("Ә", "А"), encoding="cp1251")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_ratings(path, real="real")


def test_gaps_practice_and_withdrawn_readers_are_counted(tmp_path):
    lines = [HEAD + ",kind", *(row + ",main" for row in ROWS), "A,gan,g3,,main",
             "A,gan,g4,5,practice", "C,real,r5,1,main", "C,gan,g5,5,main"]  # fmt: skip
    readers = write(tmp_path, "reader,state,experience_years,weekly_readings", "A,done,12,30",
                    "B,rating,,", "C,withdrawn,3,5", name="readers.csv")  # fmt: skip
    study = read_study(write(tmp_path, *lines), real="real", readers=readers)
    assert study.ratings is not None
    assert len(study.ratings) == 4
    assert study.ratings.readers == ("A", "B")
    assert np.array_equal(study.ratings.experience_years, [12, np.nan], equal_nan=True)
    told = "; ".join(study.notes)
    assert "1 ratings of practice images are left out" in told
    assert "2 ratings of 1 readers who withdrew are left out (C)" in told
    assert "1 images of 1 readers have no score and are left out (A)" in told
    assert "1 readers have not finished (B)" in told


def test_a_reader_who_is_not_listed_is_refused(tmp_path):
    readers = write(tmp_path, "reader,state", "A,done", name="readers.csv")
    with pytest.raises(InputError, match="line 4: the reader B is not in"):
        read_ratings(write(tmp_path, HEAD, *ROWS), real="real", readers=readers)


def test_a_flat_reader_is_named(tmp_path):
    lines = [HEAD, *ROWS, "C,real,r7,3", "C,gan,g7,3"]
    study = read_study(write(tmp_path, *lines), real="real")
    assert "C gave every image the score 3" in study.notes


def test_repeats_are_no_duplicates(tmp_path):
    lines = [HEAD + ",kind,trial", *(f"{row},main,{n % 2}" for n, row in enumerate(ROWS)),
             "A,real,r1,4,repeat,7"]  # fmt: skip
    ratings = read_ratings(write(tmp_path, *lines), real="real")
    assert len(ratings) == 5
    assert len(ratings.without_repeats()) == 4
