"""Recall and false alarms of the scan before a push, on secrets and captions made up on the spot.

    python benchmarks/push_leaks.py

Plants 10 secrets of every kind, one at a time, into a file that would go up, and reads 2,000
clinical captions in the manner of CMC 2024, 81(3):4503-4523, of which none tells who a patient is.
Every name, number and token here is invented. Exit status 1 where a bar is missed.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from echodiff.anatomy import Finding, View
from echodiff.hub.scan import Known, scan_file
from echodiff.phantom.captions import write_caption
from echodiff.phantom.heart import contract, sample_heart

NUM_EACH = 10
NUM_CAPTIONS = 2000
RECALL, RECALL_OF_A_KIND, FALSE_ALARMS = 0.95, 0.8, 0.01

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRST = ["John", "Maria", "Aigerim", "Chen", "Lars", "Fatima", "Diego", "Anna", "Yerlan", "Zoë"]
LAST = ["Smith", "Garcia", "Nurlanova", "Okafor", "Lindqvist", "O'Brien", "Hughes-Owen", "Kim",
        "Rossi", "Novak"]  # fmt: skip
RUSSIAN = ["Иванов", "Петрова", "Сидоренко", "Кузнецова", "Ахметов", "Ким", "Волков", "Орлова",
           "Соколов", "Белова"]  # fmt: skip
RUSSIAN_FIRST = ["Иван", "Мария", "Сергей", "Ольга", "Ерлан", "Анна", "Пётр", "Дарья", "Олег", "Вера"]
PATRONYMIC = ["Иванович", "Петровна", "Сергеевич", "Олеговна", "Ерланович", "Викторовна",
              "Алексеевич", "Юрьевна", "Павлович", "Игоревна"]  # fmt: skip
KAZAKH = ["Серікұлы", "Нұрланқызы", "Болатұлы", "Маратқызы", "Асқарұлы", "Ерболқызы", "Қанатұлы",
          "Дәуренқызы", "Талғатұлы", "Айдынқызы"]  # fmt: skip
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December"]  # fmt: skip
RUSSIAN_MONTHS = ["января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа",
                  "сентября", "октября", "ноября", "декабря"]  # fmt: skip
ROMAN = ["I", "II", "III", "IV", "VI", "VII", "VIII", "IX", "X", "XII"]
KAZAKH_MONTHS = ["қаңтар", "ақпан", "наурыз", "сәуір", "мамыр", "маусым", "шілде", "тамыз",
                 "қыркүйек", "қазан", "қараша", "желтоқсан"]  # fmt: skip
TELEPHONES = ["+7 701 234 56 78", "+44 20 7946 0958", "+1 (212) 555-0187", "+49 30 901820",
              "+998 71 233 56 78", "+33 1 42 68 53 00", "+86 10 6552 9988", "+91 22 2778 2183",
              "+55 11 3322-3322", "+81 3-3201-3331"]  # fmt: skip
NATIONAL = ["8 (701) 234-56-78", "8 727 250 44 19", "(212) 555-0187", "020 7946 0958",
            "030 901820", "01 42 68 53 00", "8 495 123-45-67", "(415) 555 0132", "8(812)334-55-66",
            "0171 1234567"]  # fmt: skip

Draw = Callable[[np.random.Generator, int], str]


def _letters(rng: np.random.Generator, length: int, alphabet: str = LETTERS + "0123456789") -> str:
    return "".join(rng.choice(list(alphabet), length))


def _day(rng: np.random.Generator) -> tuple[int, int, int]:
    return int(rng.integers(1950, 2026)), int(rng.integers(1, 13)), int(rng.integers(1, 29))


def _numeric_date(rng: np.random.Generator, i: int) -> str:
    year, month, day = _day(rng)
    return [
        f"{day:02}.{month:02}.{year}", f"{year}-{month:02}-{day:02}", f"{month}/{day}/{year}",
        f"{year}{month:02}{day:02}", f"{day:02}.{month:02}.{year % 100:02}", f"{year}. {month}. {day}",
        f"{day}/{month}/{year % 100:02}", f"{year}:{month:02}:{day:02} 10:11:12",
        f"{day:02} {month:02} {year}", f"{day:02}–{month:02}–{year}",
    ][i % 10]  # fmt: skip


def _english_date(rng: np.random.Generator, i: int) -> str:
    year, month, day = _day(rng)
    name = MONTHS[month - 1]
    return [
        f"{day} {name} {year}", f"{name} {day}, {year}", f"the {day}th of {name}, {year}",
        f"{day}-{name[:3]}-{year}", f"{day:02}{name[:3].upper()}{year}", f"{name[:3]} {day} '{year % 100:02}",
        f"{year} {name} {day}", f"{name} {day}th", f"{day} {name[:3]}. {year}", f"{day} of {name}",
    ][i % 10]  # fmt: skip


def _russian_date(rng: np.random.Generator, i: int) -> str:
    year, month, day = _day(rng)
    name = RUSSIAN_MONTHS[month - 1]
    return [f"{day} {name} {year} г.", f"{day} {name}", f"от {day}-го {name} {year} года",
            f"{year} г., {day} {name}", f"{day} {name} {year % 100:02} года"][i % 5]  # fmt: skip


def _kazakh_date(rng: np.random.Generator, i: int) -> str:
    year, month, day = _day(rng)
    name = KAZAKH_MONTHS[month - 1]
    return [f"{year} ж. {day} {name}", f"{day} {name} {year} ж.", f"{year} жылғы {day} {name}",
            f"{day} {name}", f"{year} жылы {day}-{name}"][i % 5]  # fmt: skip


def _label_name(rng: np.random.Generator, i: int) -> str:
    first, last = FIRST[i % 10], LAST[(i * 3) % 10]
    return [f"Patient: {first} {last}", f"patient name: {last}", f"Name = {first} {last}",
            f"Surname: {last}", f"performed by {first} {last}"][i % 5]  # fmt: skip


WORDS: dict[str, Draw] = {
    "date in numbers": _numeric_date,
    "date in English": _english_date,
    "date in Russian": _russian_date,
    "date in Kazakh": _kazakh_date,
    "date with a Roman month": lambda rng, i: f"{1 + i}.{ROMAN[i % 10]}.20{10 + i}",
    "telephone, international": lambda rng, i: TELEPHONES[i % 10],
    "telephone, national": lambda rng, i: NATIONAL[i % 10],
    "telephone, labelled": lambda rng, i: f"{['tel.', 'phone:', 'тел.', 'моб.', 'call'][i % 5]} {rng.integers(200, 999)} {rng.integers(10, 99)} {rng.integers(10, 99)}",
    "DICOM UID": lambda rng, i: f"1.2.{rng.integers(100, 999)}.{rng.integers(10**5, 10**6)}.{rng.integers(1, 9)}.{rng.integers(10**8)}.{i}",
    "DICOM UID of a UUID": lambda rng, i: f"2.25.{_letters(rng, 38, '123456789')}",
    "e-mail": lambda rng, i: f"{FIRST[i % 10].lower()}.{_letters(rng, 6)}@{['clinic.kz', 'hospital.example', 'mail.ru', 'nhs.uk'][i % 4]}",
    "name, DICOM": lambda rng, i: [f"{LAST[i % 10].upper()}^{FIRST[i % 10].upper()}", f"{RUSSIAN[i % 10]}^{RUSSIAN_FIRST[i % 10]}"][i % 2],
    "name after a title": lambda rng, i: f"{['Dr.', 'Mrs', 'Prof.', 'Mr.', 'Frau'][i % 5]} {LAST[i % 10]}",
    "name after a label": _label_name,
    "name, Russian, initials": lambda rng, i: [f"{RUSSIAN[i % 10]} {RUSSIAN_FIRST[i % 10][0]}.{PATRONYMIC[i % 10][0]}.", f"{RUSSIAN_FIRST[i % 10][0]}. {PATRONYMIC[i % 10][0]}. {RUSSIAN[i % 10]}"][i % 2],
    "name, Russian, in full": lambda rng, i: f"{RUSSIAN[i % 10]} {RUSSIAN_FIRST[i % 10]} {PATRONYMIC[i % 10]}",
    "name, Russian, after a label": lambda rng, i: f"{['пациент', 'Пациентка', 'врач', 'ФИО:', 'фамилия:'][i % 5]} {RUSSIAN[i % 10]}",
    "name, Kazakh": lambda rng, i: f"{['Ахметов', 'Ерлан', 'Айгүл', 'Динара', 'Нұрбол'][i % 5]} {KAZAKH[i % 10]}",
    "name, Kazakh, after a label": lambda rng, i: f"{['науқас', 'Науқас:', 'дәрігер', 'аты-жөні:', 'тегі:'][i % 5]} {['Ахметов', 'Сейітов', 'Оспанова', 'Қасымов', 'Төлеген'][i % 5]}",
    "record number": lambda rng, i: [f"{rng.integers(10**6, 10**9)}", f"MRN {rng.integers(1000, 99999)}", f"№ {rng.integers(1000, 99999)}", f"ИИН {rng.integers(10**11, 10**12)}", f"Accession: A{rng.integers(1000, 99999)}"][i % 5],
    "insurance number": lambda rng, i: [f"{rng.integers(100, 999)}-{rng.integers(10, 99)}-{rng.integers(1000, 9999)}", f"{rng.integers(100, 999)}-{rng.integers(100, 999)}-{rng.integers(100, 999)} {rng.integers(10, 99)}", f"{rng.integers(100, 999)} {rng.integers(100, 999)} {rng.integers(1000, 9999)}"][i % 3],
    "age above 90": lambda rng, i: [f"{91 + i} years old", f"aged {91 + i}", f"{91 + i} лет", f"{91 + i}-year-old man", f"{91 + i} жаста"][i % 5],
    "path, Unix": lambda rng, i: f"/{['home', 'mnt', 'data', 'srv', 'Users'][i % 5]}/{_letters(rng, 5)}/frames/{i:04}.png",
    "path, Windows": lambda rng, i: [f"C:\\Users\\{_letters(rng, 6)}\\echo", f"D:/hospital/{_letters(rng, 6)}", f"\\\\server\\share\\{_letters(rng, 6)}", f"%USERPROFILE%\\{_letters(rng, 5)}"][i % 4],
    "path, home": lambda rng, i: [f"~/{_letters(rng, 6)}/x", f"~jane/{_letters(rng, 6)}", f"$HOME/{_letters(rng, 6)}", f"file:///srv/{_letters(rng, 6)}"][i % 4],
    "web address": lambda rng, i: [f"https://pacs.clinic.kz/study/{_letters(rng, 8)}", f"s3://{_letters(rng, 8)}/echo", f"http://10.0.0.{i}:8080/x", f"www.hospital-{_letters(rng, 4)}.org/staff", f"smb://nas/{_letters(rng, 5)}"][i % 5],
    "host": lambda rng, i: [f"10.{rng.integers(255)}.{rng.integers(255)}.{rng.integers(255)}", f"pacs{i}.hospital.local", f"jane@gpu{i}:frames/x", f"nas.{_letters(rng, 4)}.lan"][i % 4],
    "token, Hugging Face": lambda rng, i: "hf_" + _letters(rng, 34, LETTERS + LETTERS.upper()),
    "token, GitHub or GitLab": lambda rng, i: [f"ghp_{_letters(rng, 36)}", f"github_pat_{_letters(rng, 60)}", f"glpat-{_letters(rng, 20)}"][i % 3],
    "token, cloud": lambda rng, i: [f"AKIA{_letters(rng, 16, LETTERS.upper())}", f"AIza{_letters(rng, 35)}", f"AccountKey={_letters(rng, 86)}=="][i % 3],
    "token, AI service": lambda rng, i: [f"sk-{_letters(rng, 48)}", f"sk-proj-{_letters(rng, 40)}", f"wandb: {_letters(rng, 40, '0123456789abcdef')}"][i % 3],
    "token, messenger": lambda rng, i: [f"xoxb-{rng.integers(10**11, 10**12)}-{_letters(rng, 24)}", f"{rng.integers(10**9, 10**10 - 1)}:AA{_letters(rng, 33)}"][i % 2],
    "token, package index": lambda rng, i: [f"pypi-AgEIcHlwaS5vcmc{_letters(rng, 80)}", f"//registry.example/:_authToken=npm_{_letters(rng, 36)}"][i % 2],
    "JSON web token": lambda rng, i: f"eyJ{_letters(rng, 20)}.eyJ{_letters(rng, 30)}.{_letters(rng, 20)}",
    "password": lambda rng, i: [f"postgresql://jane:{_letters(rng, 10)}@db/x", f"password={_letters(rng, 10)}", f"пароль: {_letters(rng, 8)}", f"Bearer {_letters(rng, 30)}"][i % 4],
    "DICOM tag": lambda rng, i: ["(0010,0010)", "PatientBirthDate", "(0008, 0050) 12", "ReferringPhysicianName", "InstitutionName"][i % 5],
}  # fmt: skip
"""Kind -> a secret of it, from a generator and its number among those of its kind."""

_AROUND = ("ASD, secundum, {}, 4-chamber position", "{}", "scan of {}; heart cavities not dilated",
           "({}) LVH, walls thickened", "ДМПП, {}, полости не расширены")  # fmt: skip


def draw_secrets(seed: int = 0, num_each: int = NUM_EACH) -> Iterator[tuple[str, str, str]]:
    """(kind, secret, caption that holds it), `num_each` of every kind in `WORDS`."""
    for kind, draw in WORDS.items():
        rng = np.random.default_rng([seed, *kind.encode()])
        for i in range(num_each):
            secret = draw(rng, i)
            yield kind, secret, _AROUND[int(rng.integers(len(_AROUND)))].format(secret)


_ENGLISH = (
    "ASD, without upper margin, with intact (unchanged, without defects) LVH, heart cavities not "
    "dilated, right and left side unchanged, 4-chamber position, echocardiogram of the child",
    "EF {a} %, EDV {b} ml, ESV {c} ml, wall thickness {d}.{e}.{f} mm",
    "septum {d}.{e} mm, posterior wall {f}.{e} mm, LV mass index {b} g/m^2, RWT 0.{c}",
    "status after Blalock-Taussig shunt, Dr. Blalock-Taussig operation, Glenn and Fontan planned",
    "SNOMED 253366007, atrial septal defect, ICD-10 Q21.1, gradient {c} mm Hg",
    "TAPSE {e} mm, E/A 1.{f}, E/e' {d}, deceleration time {b} ms, heart rate {b} bpm",
    "normal heart, no pericardial effusion, aortic root {c} mm, LA volume index {c} ml/m2",
    "Patient in left lateral position, image quality moderate, frames 1-{b}, depth {e} cm",
    "Tetralogy of Fallot, VSD {d} mm, overriding aorta {a} %, pulmonary stenosis",
    "Simpson biplane EF {a} %, GLS -{e}.{f} %, NYHA III, mild MR, moderate TR, MS excluded",
    "Marfan syndrome, sinus of Valsalva {c} mm, Z-score 2.{f}, age {e} years, 1/2/3 leaflets seen",
    "Version 2.14.1, seed {b}, guidance 7.5, 12 of 25 steps, 70/15/15, learning rate 9e-4",
    "Adult, male, {a} years, BSA 1.{c} m^2, sinus rhythm {b} bpm, 12 lead ECG recorded",
    "primum ASD {d}x{e} mm, may need repair; march of contraction from apex to base, dec time {b}",
    "Kawasaki disease, LMCA {d} mm, RCA {e} mm, LAD {f} mm; 45 51 59 68 72 beats",
    "Eisenmenger complex, RV pressure {b}/{c} mm Hg, 3 of 17 segments akinetic, grade II",
)  # fmt: skip
_RUSSIAN_CAPTIONS = (
    "ДМПП вторичный, {d} мм, полости сердца не расширены, перегородка интактна, ребёнок {e} лет",
    "Гипертрофия ЛЖ, МЖП {e} мм, ЗСЛЖ {f} мм, ФВ {a} % по Симпсону, КДО {b} мл",
    "Тетрада Фалло, ДМЖП {d} мм, стеноз лёгочной артерии, градиент {c} мм рт. ст.",
    "Пациент в положении на левом боку, качество изображения хорошее, апикальная позиция",
    "Сердце без изменений, клапаны не изменены, 4-камерная позиция, конец диастолы",
)
_KAZAKH_CAPTIONS = (
    "Жүрекше аралық перде ақауы {d} мм, қуыстар кеңеймеген, төрт камералы көрініс",
    "Сол қарынша қабырғасы қалыңдаған {e} мм, лақтыру фракциясы {a} %, бала {f} жас",
    "Қалыпты жүрек, перделер бүтін, қақпақшалар өзгермеген, диастола соңы",
)


def draw_captions(seed: int = 0, num: int = NUM_CAPTIONS) -> Iterator[str]:
    """Captions that tell nobody's name: half of the phantom's, half of templates with numbers."""
    templates = [*_ENGLISH, *_ENGLISH, *_RUSSIAN_CAPTIONS, *_KAZAKH_CAPTIONS]
    findings = list(Finding)
    for i in range(num):
        rng = np.random.default_rng([seed, i])
        if i % 2:
            chosen = frozenset(f for f in findings if rng.random() < 0.3)
            heart = sample_heart(rng, chosen, is_child=bool(rng.random() < 0.3))
            heart = contract(heart, rng) if rng.random() < 0.5 else heart
            yield write_caption(heart, View.A4C, rng)
        else:
            values = dict(a=rng.integers(20, 75), b=rng.integers(50, 220), c=rng.integers(15, 60),
                          d=rng.integers(5, 13), e=rng.integers(10, 19), f=rng.integers(6, 12))  # fmt: skip
            yield templates[int(rng.integers(len(templates)))].format(**values)


def main() -> int:
    """Print recall by kind and the false alarms; 1 where a bar is missed."""
    found: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "metrics.json"

        def stops(text: str) -> list[str]:
            path.write_text(json.dumps({"alarms": [text]}, ensure_ascii=False), encoding="utf-8")
            return list(scan_file(path, Known()))

        for kind, secret, text in draw_secrets():
            is_found = bool(stops(text))
            found.setdefault(kind, []).append(is_found)
            if not is_found:
                print(f"missed: {kind}: {secret!r} in {text!r}")
        alarms = [(text, messages) for text in draw_captions() if (messages := stops(text))]
    for text, messages in dict(alarms).items():
        print(f"false alarm: {messages[0]} in {text!r}")
    for kind, hits in found.items():
        print(f"{kind:32} {sum(hits):3} of {len(hits)}")
    hits = [hit for of_kind in found.values() for hit in of_kind]
    lowest = min(float(np.mean(of_kind)) for of_kind in found.values())
    print(
        f"recall {np.mean(hits):.1%} of {len(hits)} secrets of {len(found)} kinds, lowest of a kind "
        f"{lowest:.0%}; false alarms {len(alarms)} of {NUM_CAPTIONS} captions"
    )
    is_good = np.mean(hits) >= RECALL and lowest >= RECALL_OF_A_KIND
    return int(not (is_good and len(alarms) <= FALSE_ALARMS * NUM_CAPTIONS))


if __name__ == "__main__":
    sys.exit(main())
