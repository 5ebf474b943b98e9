"""`echodiff study invite`, `password` and `export`: what they print, write and refuse."""

import csv
import json

import pytest

from echodiff.__main__ import main
from echodiff.study.columns import RATING_COLUMNS, READER_COLUMNS


def invited(folder, capsys, *flags):
    assert main(["study", "invite", str(folder), *flags]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_export_writes_one_row_per_rating_in_three_formats(site, capsys, tmp_path):
    import pyarrow.parquet as pq

    people = [site.person("kk"), site.person("ru")]
    people[0].finish(people[0].enter(), 4)
    page = people[1].enter()
    page = people[1].rate(page, 1).text
    people[1].rate(page, 2, possible_pathology="1", text="=1+1", ms="1500",
                   display='{"zoom": 2, "brightness": 1.25}')  # fmt: skip
    out = tmp_path / "out"
    command = ["study", "export", str(site.folder), "--out", str(out)]
    assert main(command) == 0
    assert "9 ratings of 2 readers" in (told := capsys.readouterr().out)
    assert "source, patient, truth are left empty" in told
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--close"]) == 0
    with (out / "ratings.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(RATING_COLUMNS)
    assert [row["trial"] for row in rows] == [*map(str, range(1, 9)), "1"]
    last = rows[-1]
    assert last["text"] == "'=1+1"
    assert (last["score"], last["possible_pathology"], last["cropped_image"]) == ("2", "1", "0")
    assert (last["ms"], last["zoom"], last["brightness"]) == ("1500", "2.0", "1.25")
    plan = json.loads((site.folder / "plan.json").read_text("utf-8"))
    source = {image["token"]: image["source"] for image in plan["images"]}
    assert all(row["source"] == source[row["image"]] for row in rows)
    table = pq.read_table(out / "ratings.parquet").to_pylist()
    assert table == json.loads((out / "ratings.json").read_text("utf-8"))
    assert table[-1]["text"] == "=1+1"
    readers = json.loads((out / "readers.json").read_text("utf-8"))
    assert list(readers[0]) == list(READER_COLUMNS)
    assert [row["state"] for row in readers] == ["done", "rating"]
    assert [row["num_ratings"] for row in readers] == [8, 1]
    assert readers[0]["weekly_readings"] == 40
    codebook = json.loads((out / "codebook.json").read_text("utf-8"))
    assert codebook == {"ratings": RATING_COLUMNS, "readers": READER_COLUMNS}


def test_invitations_are_printed_once_and_fit_the_plan(site, capsys):
    links = invited(site.folder, capsys, "--num", "2", "--url", "https://study.example.org/")
    assert len(links) == 2
    assert all(link.startswith("https://study.example.org/invitation/") for _, link in links)
    assert main(["study", "invite", str(site.folder), "--num", "2"]) == 2
    assert "3 sequences and 2 readers" in capsys.readouterr().err


def test_a_password_is_generated_or_read_and_never_short(site, capsys, tmp_path):
    assert main(["study", "password", str(site.folder)]) == 0
    first = capsys.readouterr().out.split()[-1]
    assert main(["study", "password", str(site.folder)]) == 0
    assert capsys.readouterr().out.split()[-1] != first
    short = tmp_path / "short"
    short.write_text("admin\n")
    assert main(["study", "password", str(site.folder), "--file", str(short)]) == 2
    assert "10 characters" in capsys.readouterr().err
    from echodiff.study.password import read_password

    marked = tmp_path / "marked"
    marked.write_text("a-long-password\n", encoding="utf-8-sig")  # as Windows' Notepad saves it
    assert read_password(marked) == "a-long-password"


def test_a_study_is_not_closed_if_the_export_cannot_be_written(site, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    command = ["study", "export", str(site.folder), "--out", str(tmp_path / "file"), "--close"]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert site.rows("SELECT state FROM study") == [("open",)]


def test_a_plan_that_was_changed_does_not_hide_the_readers(site, capsys):
    site.person()
    plan = site.folder / "plan.json"
    plan.write_text(plan.read_text("utf-8").replace("Study of hearts", "A study of hearts"))
    assert main(["study", "invite", str(site.folder)]) == 2
    assert "plan.json: was changed after" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    assert site.rows("SELECT count(*) FROM study") == [(1,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [("Соглашение".encode("cp1251"), "is not UTF-8"), (b"\xef\xbb\xbf \r\n", "is empty")],
)
def test_a_consent_text_that_cannot_be_shown_is_refused_at_the_start(site, capsys, text, message):
    (site.folder / "consent.ru.txt").write_bytes(text)
    assert main(["study", "serve", str(site.folder), "--port", "0"]) == 2
    assert f"consent.ru.txt: {message}" in (error := capsys.readouterr().err)
    assert error.count("\n") == 1


def test_languages_without_a_consent_text_of_the_study_are_named(site, capsys):
    from echodiff.study.serve import ServeConfig, announce, bound_socket

    config = ServeConfig(study=site.folder, port=0)
    for language in ("ru", "kk"):
        (site.folder / f"consent.{language}.txt").write_text("Text", "utf-8")
        with bound_socket(config) as listening:
            announce(site.study, config, listening)
        others = "en, kk, uz" if language == "ru" else "en, uz"
        assert f"the consent text of {others} is the shipped one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "nowhere"], "not a study folder"),
        (["serve", "STUDY", "--workers", "2"], "served by one process"),
        (["serve", "STUDY", "--database", "mysql://x/y"], "--database"),
        (["serve", "STUDY", "--database", "sqlite://"], "in memory would be lost"),
        (["serve", "STUDY", "--port", "70000"], "--port"),
        (["serve", "STUDY", "--database", "postgresql://u@127.0.0.1:1/x"], "--database"),
        (["invite", "STUDY", "--url", "example.org"], "--url"),
        (["export", "STUDY", "--out", "o", "--database", "nonsense"], "--database"),
    ],
)
def test_bad_input_gets_one_line(site, capsys, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [str(site.folder) if word == "STUDY" else word for word in words]
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_whose_lengths_tell_the_source_are_refused(site, capsys):
    image = next((site.folder / "images").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    assert main(["study", "invite", str(site.folder)]) == 2
    assert "lengths tell the source" in capsys.readouterr().err
    image.unlink()
    assert main(["study", "invite", str(site.folder)]) == 2
    assert "is missing" in capsys.readouterr().err


def test_a_study_is_stored_whole_or_refused(phantom, tmp_path):
    from echodiff.errors import InputError
    from echodiff.study.folder import create_study
    from echodiff.study.plan import load_plan

    plan = phantom.make_plan(tmp_path / "made")
    create_study(tmp_path / "study", plan)
    again = load_plan(tmp_path / "study")
    assert again.config == plan.config
    assert again.sequences == plan.sequences
    assert [image.token for image in again.images] == [image.token for image in plan.images]
    assert (tmp_path / "study" / "plan.json").stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="holds a study already"):
        create_study(tmp_path / "study", plan)
    plan.images[0].file.write_bytes(plan.images[1].file.read_bytes())
    with pytest.raises(InputError, match="its hash differs"):
        create_study(tmp_path / "other", plan)
    assert not (tmp_path / "other" / "plan.json").exists()
