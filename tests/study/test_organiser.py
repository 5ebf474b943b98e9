"""The organiser invites, watches, pauses, closes, exports and erases; blind until the end."""

import csv
import io
import json
import re
import zipfile

import pytest

from echodiff.study.store import set_admin_password

PASSWORD = "a-password-of-the-test"


@pytest.fixture
def admin(site, phantom):
    """A logged-in client, and `act(path, **fields)` for its forms."""
    set_admin_password(site.study, PASSWORD)
    client = site.client()
    page = client.get("/admin").text
    form = {"csrf": phantom.csrf_of(page), "name": "admin", "password": PASSWORD}
    page = client.post("/admin/login", data=form)
    assert page.status_code == 200
    client.page = page.text

    def act(path, **fields):
        answer = client.post(path, data={"csrf": phantom.csrf_of(client.page), **fields})
        if 'name="csrf"' in answer.text:
            client.page = answer.text
        return answer

    client.act = act
    return client


def test_the_organiser_invites_readers_and_sees_their_progress(site, admin, phantom):
    answer = admin.act("/admin/invite", count="2", role="reader")
    links = re.findall(r"http://testserver(/invitation/[\w-]{43})<", answer.text)
    assert len(set(links)) == 2
    person = phantom.Person(site.client(), links[0], "kk")
    person.rate(person.rate(person.enter(), 2).text, 5)
    rows = phantom.visible(admin.get("/admin/rows").text)
    assert "1/8" in rows
    assert "Rating" in rows
    assert "Invited" in rows
    refused = admin.act("/admin/invite", count="2", role="reader")
    assert refused.status_code == 409
    assert "3 sequences and 2 readers; 2 more" in refused.text
    assert admin.act("/admin/invite", count="many", role="reader").status_code == 409


def test_the_organisers_refusals_are_translated(admin):
    admin.act("/language", language="ru")
    answer = admin.act("/admin/state", state="closed")
    assert answer.status_code == 409
    assert "открыть его снова будет нельзя" in answer.text


def test_nobody_else_sees_the_pages(site, phantom):
    person = site.person()
    page = person.enter()
    for place in ("/admin", "/admin/rows", "/admin/export.zip"):
        answer = person.client.get(place)
        assert answer.status_code == 403 or "/admin/login" in str(answer.url), place
    for place in ("/admin/state", "/admin/invite", f"/admin/reader/{person.token}"):
        answer = person.post(place, page, state="closed", sure="yes", action="erase", count="1")
        assert "/admin/login" in str(answer.url), place
    assert site.rows("SELECT state FROM study") == [("open",)]
    assert site.rows("SELECT count(*) FROM reader") == [(1,)]


def test_pause_stops_rating_and_nothing_is_lost(site, admin):
    person = site.person("uz")
    page = person.enter()
    admin.act("/admin/state", state="paused")
    answer = person.rate(page)
    assert answer.status_code == 409
    assert "toʻxtatib turilgan" in answer.text
    assert person.client.get("/rate").status_code == 503
    admin.act("/admin/state", state="open")
    assert person.rate(page).status_code == 200
    assert site.rows("SELECT count(*) FROM rating") == [(1,)]


def read_zip(client):
    archive = zipfile.ZipFile(io.BytesIO(client.get("/admin/export.zip").content))
    table = archive.read("ratings.csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(table))), json.loads(archive.read("study.json"))


def test_the_export_is_blind_until_the_study_is_closed(site, admin):
    person = site.person()
    person.finish(person.enter())
    rows, study = read_zip(admin)
    assert len(rows) == 8
    assert {(row["source"], row["patient"], row["truth"]) for row in rows} == {("", "", "")}
    assert "sources" not in study
    assert "cyclegan" not in admin.get("/admin").text
    admin.act("/admin/state", state="closed", sure="yes")
    rows, study = read_zip(admin)
    assert {row["source"] for row in rows} == {"real", "cyclegan", "cut", "sd"}
    assert study["sources"] == ["real", "cyclegan", "cut", "sd"]
    assert admin.act("/admin/state", state="open").status_code == 409
    assert site.rows("SELECT state FROM study") == [("closed",)]


def test_erasing_a_reader_removes_all_that_the_reader_gave(make_site, phantom):
    site = make_site(ask_names=True)
    person, other = site.person("ru"), site.person("ru")
    for one in (person, other):
        page = one.post("/consent", one.begin(), agree="yes").text
        given = {**phantom.QUESTIONNAIRE, "name": f"Имя {one.token}"}
        page = one.post("/questionnaire", page, **given).text
        for _ in range(4):
            page = one.rate(page, 5, text=f"Текст {one.token}").text
    answer = person.post("/withdraw", person.client.get("/withdraw").text, what="erase")
    assert "завершено" in answer.text
    counts = [
        site.rows(f"SELECT count(*) FROM {table}")
        for table in ("task", "rating", "reader_name", "reader")
    ]
    assert counts == [[(9,)], [(4,)], [(1,)], [(2,)]]
    row = "SELECT state, questionnaire, sequence, invitation, language FROM reader WHERE token = :t"
    assert site.rows(row, t=person.token) == [("erased", None, None, None, None)]
    assert (
        "invitation link that you were sent"
        in person.client.get("/rate", headers={"accept-language": "en"}).text
        or "ссылку-приглашение" in person.client.get("/rate").text
    )
    stored = b"".join(path.read_bytes() for path in site.folder.glob("study.sqlite*"))
    assert f"Имя {person.token}".encode() not in stored
    assert f"Текст {person.token}".encode() not in stored
    assert f"Имя {other.token}".encode() in stored


def test_the_organiser_withdraws_revokes_and_renews(site, admin):
    people = [site.person() for _ in range(3)]
    for person in people:
        person.enter()
    place = "/admin/reader/{}".format
    assert admin.act(place(people[0].token), action="withdraw").status_code == 409  # not sure
    admin.act(place(people[0].token), action="withdraw", sure="yes")
    admin.act(place(people[1].token), action="revoke")
    renewed = admin.act(place(people[2].token), action="renew")
    states = site.rows("SELECT state, invitation IS NULL FROM reader ORDER BY id")
    assert states == [("withdrawn", 1), ("practising", 1), ("practising", 0)]
    (link,) = re.findall(r"http://testserver(/invitation/[\w-]{43})<", renewed.text)
    assert link != people[2].link
    page = people[2].client.get(link).text
    page = people[2].post(link, page, language="en").text
    assert people[2].finish(page)
    assert admin.act(place("nobody"), action="revoke").status_code == 409


def test_the_login_ends(site, admin, phantom):
    copy = site.client()
    copy.cookies.set("study", admin.cookies["study"])
    assert copy.get("/admin/rows").status_code == 200
    admin.act("/admin/logout")
    assert copy.get("/admin/rows").status_code == 403
    form = {"csrf": phantom.csrf_of(admin.get("/admin/login").text), "name": "nobody"}
    assert admin.post("/admin/login", data={**form, "password": PASSWORD}).status_code == 403
