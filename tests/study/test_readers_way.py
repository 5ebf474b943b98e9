"""What a reader meets, from the invitation to the thanks, through the application's door."""

import json
from datetime import datetime, timedelta

import pytest

SCORE = "SELECT score, changed IS NOT NULL FROM rating ORDER BY id"
COUNT = "SELECT count(*) FROM rating"


def test_a_reader_goes_from_invitation_to_thanks(site, phantom):
    person = site.person("ru")
    page = person.begin()
    assert "Информация и согласие" in page
    assert "Закрыть" not in page
    assert "если закрыть вкладку или браузер" in page.lower()
    page = person.post("/consent", page, agree="yes").text
    page = person.post("/questionnaire", page, **phantom.QUESTIONNAIRE).text
    assert "Тренировка" in page
    assert "Стенки не визуализируются" in page
    page = person.rate(page, 2).text
    assert "Тренировка, сохранено" not in page
    assert "Сохранено: 0 из 8" in page
    page = person.rate(page, 5, cropped_image="1", text="=обрез", ms="4321").text
    assert "Сохранено: 1 из 8" in page
    page = person.finish(page, 3)
    assert "Спасибо" in page
    ((state, language, sequence, answers, consent),) = site.rows(
        "SELECT state, language, sequence, questionnaire, consent_sha256 FROM reader"
    )
    assert (state, language, sequence, len(consent)) == ("done", "ru", 0, 64)
    assert json.loads(answers)["experience_years"] == 10.5
    rows = site.rows("SELECT score, cropped_image, text, ms FROM rating ORDER BY id")
    assert rows[:2] == [(2, 0, "", None), (5, 1, "=обрез", 4321)]
    assert [score for score, *_ in rows[2:]] == [3] * 7


def test_a_look_at_the_link_changes_nothing_and_the_link_resumes_elsewhere(site):
    person = site.person("kk")
    before = site.rows("SELECT state, session_version, seen, language FROM reader")
    for _ in range(3):
        assert person.client.get(person.link).status_code == 200
    assert site.rows("SELECT state, session_version, seen, language FROM reader") == before
    page = person.enter()
    for _ in range(3):
        page = person.rate(page).text
    elsewhere = site.client()
    page_there = elsewhere.get(person.link).text
    person.client = elsewhere
    page_there = person.post(person.link, page_there, language="kk").text
    assert page_there.count("/image/") == page.count("/image/")
    tasks = page_there.split('name="tasks" value="')[1].split('"')[0]
    assert tasks in page
    assert person.finish(page_there)
    assert site.rows(COUNT) == [(9,)]


def test_double_click_back_and_two_tabs_give_one_rating(site):
    person = site.person()
    first = person.enter()
    second = person.rate(first, 2).text
    assert person.rate(first, 2).text == second  # the same again
    person.rate(second, 4)
    other_tab = person.rate(second, 4)
    assert other_tab.status_code == 200
    assert site.rows(SCORE) == [(2, 0), (4, 0)]
    # Back, another score, Save: what is shown as saved is what is stored, and the log has both.
    person.rate(second, 1)
    assert site.rows(SCORE) == [(2, 0), (1, 1)]
    ((detail,),) = site.rows("SELECT detail FROM event WHERE name = 'changed'")
    assert json.loads(detail)["former"] == {"score": 4}


def test_an_answer_without_a_score_or_ahead_of_the_page_is_refused(site, phantom):
    person = site.person("uz")
    page = person.enter()
    (task,) = phantom.tasks_of(page)
    answer = person.post("/rate", page, tasks=task, **{f"text-{task}": "kept"})
    assert answer.status_code == 422
    assert "1 dan 5 gacha baho tanlang" in answer.text
    assert ">kept</textarea>" in answer.text
    for score in ("0", "6", "three", "1e0", ""):
        fields = {"tasks": task, f"score-{task}": score}
        assert person.post("/rate", page, **fields).status_code == 422, score
    ((ahead,),) = site.rows("SELECT token FROM task WHERE position = 5")
    answer = person.post("/rate", page, tasks=ahead, **{f"score-{ahead}": "3"})
    assert answer.status_code == 409
    assert "eskirgan" in answer.text
    assert site.rows(COUNT) == [(0,)]


def test_a_script_is_told_saved_only_after_the_commit(site, phantom):
    person = site.person()
    page = person.enter()
    (task,) = phantom.tasks_of(page)
    form = {"csrf": phantom.csrf_of(page), "tasks": task, f"score-{task}": "3"}
    json_form = {"accept": "application/json"}
    answer = person.client.post("/rate", data=form, headers=json_form)
    assert answer.json() == {"saved": True, "next": "/rate"}
    assert site.rows(COUNT) == [(1,)]
    nothing = person.client.post("/rate", data={**form, "tasks": ""}, headers=json_form)
    assert (nothing.status_code, nothing.json()["saved"]) == (409, False)
    missing = person.client.post("/rate", data={**form, f"score-{task}": ""}, headers=json_form)
    assert missing.status_code == 422
    assert missing.json() == {"saved": False, "error": "Please choose a score from 1 to 5."}


def test_the_questionnaire_names_what_is_missing(site, phantom):
    person = site.person("ru")
    page = person.post("/consent", person.begin(), agree="yes").text
    wrong = {**phantom.QUESTIONNAIRE, "experience_years": "-3", "age_band": "", "gender": "?"}
    answer = person.post("/questionnaire", page, **wrong)
    assert answer.status_code == 422
    text = phantom.visible(answer.text)
    for message in ("от 0 до 70", "ответьте на этот вопрос", "выберите один из"):
        assert message in text
    assert 'value="врач высшей категории"' in answer.text
    assert site.rows("SELECT state FROM reader") == [("consented",)]


def test_names_are_kept_apart_and_the_age_band_comes_from_the_birth_date(make_site, phantom):
    site = make_site(ask_names=True, ask_birth_date=True)
    person = site.person()
    page = person.post("/consent", person.begin(), agree="yes").text
    given = {**phantom.QUESTIONNAIRE, "name": "Айгүл Сериккызы", "birth_date": "1990-02-03"}
    assert person.post("/questionnaire", page, **given).status_code == 200
    assert site.rows("SELECT name, birth_date FROM reader_name") == [
        ("Айгүл Сериккызы", "1990-02-03")
    ]
    ((answers,),) = site.rows("SELECT questionnaire FROM reader")
    assert "1990" not in answers
    assert json.loads(answers)["age_band"] in {"35-44", "45-54"}


def test_a_grid_of_several_images_is_stored_at_once(make_site, phantom):
    site = make_site(images_per_page=4, practice=2)
    person = site.person()
    page = person.enter()
    assert len(phantom.tasks_of(page)) == 2  # practice is a page of its own
    page = person.rate(page).text
    assert len(phantom.tasks_of(page)) == 4
    page = person.rate(page, 4).text
    assert "Saved: 4 of 8" in page
    assert person.finish(page)
    assert site.rows(COUNT) == [(10,)]


def test_the_structured_reading_and_the_diagnosis_are_stored(make_site, phantom):
    site = make_site(
        design="diagnosis", diagnoses=("normal", "lv_hypertrophy"), structured_reading=True,
        practice=0,
    )  # fmt: skip
    person = site.person("ru")
    page = person.enter()
    assert "Гипертрофия левого желудочка" in page
    (task,) = phantom.tasks_of(page)
    answer = person.rate(page, 4)
    assert answer.status_code == 422
    assert "Выберите заключение" in answer.text
    person.rate(page, 4, diagnosis="lv_hypertrophy", atrial_septum="defect", valves="normal")
    ((structured,),) = site.rows("SELECT structured FROM rating")
    assert json.loads(structured) == {
        "diagnosis": "lv_hypertrophy", "atrial_septum": "defect", "valves": "normal",
    }  # fmt: skip
    assert task


def test_a_second_sitting_waits_for_the_washout(phantom, tmp_path, make_site):
    site = make_site(practice=0, per_source=1, readers=1, sittings=2, washout_days=14)
    # The plan of the phantom has one sitting: move half of the reader's tasks to a second one.
    person = site.person()
    page = person.enter()
    from sqlalchemy import text

    with site.study.database.begin() as connection:
        connection.execute(text("UPDATE task SET sitting = 2 WHERE position >= 2"))
    page = person.rate(page).text
    assert "preload" not in page  # the images of the second sitting are not seen before it
    page = person.rate(page).text
    ((last,),) = site.rows("SELECT max(created) FROM rating")
    opens = datetime.fromisoformat(last) + timedelta(days=14, minutes=1)
    assert f"The second sitting opens on {opens:%Y-%m-%d %H:%M} UTC." in page
    ((task,),) = site.rows("SELECT token FROM task WHERE position = 2")
    form = {"csrf": phantom.csrf_of(page), "tasks": task, f"score-{task}": "3"}
    assert person.client.post("/rate", data=form).status_code == 409
    with site.study.database.begin() as connection:
        connection.execute(text("UPDATE rating SET created = '2020-01-01 00:00:00.000000'"))
    assert phantom.tasks_of(person.client.get("/rate").text) == [task]


def test_sequences_are_balanced_over_those_who_finish(site):
    people = [site.person() for _ in range(3)]
    for person in people:
        person.enter()
    numbers = site.rows("SELECT sequence FROM reader ORDER BY id")
    assert numbers == [(0,), (1,), (2,)]
    page = people[1].client.get("/withdraw").text
    assert people[1].post("/withdraw", page, what="withdraw").status_code == 200
    late = site.person()
    late.enter()
    assert site.rows("SELECT sequence FROM reader ORDER BY id")[-1] == (1,)
    with pytest.raises(ValueError, match="3 sequences and 3 readers"):
        site.person()


def test_the_study_has_its_own_consent_text(phantom, tmp_path, make_site):
    made = tmp_path / "study"
    made.mkdir()
    text = "Первый абзац.\r\n \r\nВторой абзац."
    (made / "consent.ru.txt").write_bytes(text.encode("utf-8-sig"))
    page = make_site().person("ru").begin()
    assert "<p>Первый абзац.</p>" in page
    assert "<p>Второй абзац.</p>" in page
