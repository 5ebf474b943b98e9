"""An annotator writes one text for one frame, and it is in the frames folder."""

import json

import pytest


@pytest.fixture
def frames(make_frames):
    return make_frames("frames", null=3, captioned=1)


def rows_of(folder):
    lines = (folder / "metadata.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_texts_go_to_the_frames_folder_one_by_one(make_site, frames):
    before = rows_of(frames)
    site = make_site(frames=frames)
    person = site.person("ru", role="annotator")
    page = person.begin()
    assert "Опишите сердце" in page
    names = [row["file_name"] for row in before]
    for name in names:
        assert name not in page
    number = next(n for n, row in enumerate(before) if not row["text"])
    assert person.client.get(f"/captions/{number + 1}.png").headers["content-type"] == "image/png"
    text = "Позиция четырёх камер,\n перегородки интактны"
    page = person.post(f"/captions/{number + 1}", page, caption=text).text
    after = rows_of(frames)
    assert after[number] == {
        **before[number],
        "text": "Позиция четырёх камер, перегородки интактны",
    }
    assert [row for n, row in enumerate(after) if n != number] == [
        row for n, row in enumerate(before) if n != number
    ]
    assert f"Описание кадра {number + 1} сохранено" in page
    assert site.rows("SELECT file_name, text FROM caption") == [
        (names[number], "Позиция четырёх камер, перегородки интактны")
    ]
    other = site.person(role="annotator")
    other.post(f"/captions/{number + 1}", other.begin(), caption="Four chambers")
    details = [json.loads(d) for (d,) in site.rows("SELECT detail FROM event WHERE name='caption'")]
    assert [detail["former"] for detail in details] == ["", after[number]["text"]]
    after = rows_of(frames)
    assert person.post(f"/captions/{number + 2}", page, caption=" ").status_code == 422
    assert person.post("/captions/99", page, caption="x").status_code == 404
    assert rows_of(frames) == after


def test_readers_and_strangers_see_no_frame(make_site, frames):
    site = make_site(frames=frames)
    reader = site.person()
    reader.enter()
    for client in (reader.client, site.client()):
        for place in ("/captions", "/captions/1", "/captions/1.png"):
            assert client.get(place).status_code == 404
