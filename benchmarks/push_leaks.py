"""Recall and false alarms of the scan before a push, on secrets, images and captions made up here.

    python benchmarks/push_leaks.py             # images: phantoms, simulated on the spot
    python benchmarks/push_leaks.py frames/ours # images: a frames folder of several patients

Plants 10 secrets of every kind, one at a time, into a file that would go up: words, bytes that are
no pixels, and training images that were changed. Reads 2,000 clinical captions in the manner of CMC
2024, 81(3):4503-4523, and images of other patients, of which none may be stopped. Every name,
number and token here is invented. Exit status 1 where a bar is missed.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from leak_forms import FORMS, HELD_OUT
from leak_images import BYTES, CHANGES, Grey

from echodiff.anatomy import AgeGroup, Finding, View
from echodiff.captions.clinical import write_caption
from echodiff.frames.reader import load_frames
from echodiff.hub.scan import Known, scan_file, scan_folder
from echodiff.images import read_gray_u8
from echodiff.metrics.likeness.gallery import Gallery
from echodiff.metrics.likeness.threshold import choose_threshold
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.phantom.heart import contract, sample_heart
from echodiff.published import MODEL_FILES

NUM_EACH = 10
NUM_CAPTIONS = 2000
RECALL, RECALL_OF_A_KIND, FALSE_ALARMS = 0.95, 0.8, 0.01


class Frames(NamedTuple):
    """Training images (H, W) and whose they are."""

    images: list[Grey]
    patients: list[str]


NAMES = {
    "first": "John Maria Aigerim Chen Lars Fatima Diego Anna Yerlan Zoë",
    "last": "Smith Garcia Nurlanova Okafor Lindqvist O'Brien Hughes-Owen Kim Rossi Novak",
    "russian": "Иванов Петрова Сидоренко Кузнецова Ахметов Ким Волков Орлова Соколов Белова",
    "russian_first": "Иван Мария Сергей Ольга Ерлан Анна Пётр Дарья Олег Вера",
    "patronymic": "Иванович Петровна Сергеевич Олеговна Ерланович Викторовна Алексеевич Юрьевна "
    "Павлович Игоревна",
    "kazakh": "Ахметов Сейітов Оспанова Қасымов Төлеген Ерлан Айгүл Динара Нұрбол Сәуле",
    "kazakh_father": "Серікұлы Нұрланқызы Болатұлы Маратқызы Асқарұлы Ерболқызы Қанатұлы "
    "Дәуренқызы Талғатұлы Айдынқызы",
    "month": "January February March April May June July August September October November "
    "December",
    "mon": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "MON": "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC",
    "russian_month": "января февраля марта апреля мая июня июля августа сентября октября ноября "
    "декабря",
    "kazakh_month": "қаңтар ақпан наурыз сәуір мамыр маусым шілде тамыз қыркүйек қазан қараша "
    "желтоқсан",
    "roman": "I II III IV V VI VII VIII IX X XI XII",
    "title": "Dr. Mrs Prof. Mr. Frau",
    "LAST": "SMITH GARCIA OKAFOR NOVAK",
    "german_month": "Januar Februar März April Mai Juni Juli August September Oktober November "
    "Dezember",
}
"""Word lists; a template takes one of the words by its field."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABETS = {
    "digits": "123456789",
    "hex": "0123456789abcdef",
    "low": LETTERS,
    "CAPS": LETTERS.upper(),
    "key": LETTERS + LETTERS.upper() + "0123456789",
}
"""Letters of `{key[20]}`: twenty of them at random."""

WORDS: dict[str, tuple[str, ...]] = {
    "date in numbers": (
        "{d:02}.{m:02}.{y}", "{y}-{m:02}-{d:02}", "{m}/{d}/{y}", "{y}{m:02}{d:02}",
        "{d:02}.{m:02}.{yy}", "{y}. {m}. {d}", "{d}/{m}/{yy}", "{y}:{m:02}:{d:02} 10:11:12",
        "{d:02} {m:02} {y}", "{d:02}–{m:02}–{y}",
    ),
    "date in English": (
        "{d} {month} {y}", "{month} {d}, {y}", "the {d}th of {month}, {y}", "{d}-{mon}-{y}",
        "{d:02}{MON}{y}", "{mon} {d} '{yy}", "{y} {month} {d}", "{month} {d}th", "{d} {mon}. {y}",
        "{d} of {month}",
    ),
    "date in Russian": (
        "{d} {russian_month} {y} г.", "{d} {russian_month}", "от {d}-го {russian_month} {y} года",
        "{y} г., {d} {russian_month}", "{d} {russian_month} {yy} года",
    ),
    "date in Kazakh": (
        "{y} ж. {d} {kazakh_month}", "{d} {kazakh_month} {y} ж.", "{y} жылғы {d} {kazakh_month}",
        "{d} {kazakh_month}", "{y} жылы {d}-{kazakh_month}",
    ),
    "date with a Roman month": ("{d}.{roman}.{y}", "{d} {roman} {y}", "{d}/{roman}/{y}"),
    "telephone, international": (
        "+7 701 234 56 78", "+44 20 7946 0958", "+1 (212) 555-0187", "+49 30 901820",
        "+998 71 233 56 78", "+33 1 42 68 53 00", "+86 10 6552 9988", "+91 22 2778 2183",
        "+55 11 3322-3322", "+81 3-3201-3331",
    ),
    "telephone, national": (
        "8 (701) 234-56-78", "8 727 250 44 19", "(212) 555-0187", "020 7946 0958", "030 901820",
        "01 42 68 53 00", "8 495 123-45-67", "(415) 555 0132", "8(812)334-55-66", "0171 1234567",
    ),
    "telephone, labelled": (
        "tel. {digits[3]} {digits[2]} {digits[2]}", "phone: {digits[3]}-{digits[4]}",
        "тел. {digits[2]}-{digits[2]}-{digits[2]}", "моб. {digits[3]} {digits[4]}",
        "call {digits[3]} {digits[4]}",
    ),
    "DICOM UID": ("1.2.{digits[3]}.{digits[6]}.{digits[1]}.{digits[8]}.3",),
    "DICOM UID of a UUID": ("2.25.{digits[38]}",),
    "e-mail": ("{low[6]}.{low[4]}@clinic.kz", "{low[7]}@hospital.example", "{low[5]}@mail.ru"),
    "name, DICOM": ("{CAPS[6]}^{CAPS[4]}", "{russian}^{russian_first}", "{last}^{first}"),
    "name after a title": ("{title} {last}", "{title} {first} {last}"),
    "name after a label": (
        "Patient: {first} {last}", "patient name: {last}", "Name = {first} {last}",
        "Surname: {last}", "performed by {first} {last}",
    ),
    "name, Russian, initials": ("{russian} И.П.", "А. С. {russian}"),
    "name, Russian, in full": ("{russian} {russian_first} {patronymic}",),
    "name, Russian, after a label": (
        "пациент {russian}", "Пациентка {russian}", "врач {russian}", "ФИО: {russian}",
        "фамилия: {russian}",
    ),
    "name, Kazakh": ("{kazakh} {kazakh_father}",),
    "name, Kazakh, after a label": (
        "науқас {kazakh}", "Науқас: {kazakh}", "дәрігер {kazakh}", "аты-жөні: {kazakh}",
        "тегі: {kazakh}",
    ),
    "record number": (
        "{digits[7]}", "{digits[9]}", "MRN {digits[5]}", "№ {digits[5]}", "ИИН {digits[12]}",
        "Accession: A{digits[5]}",
    ),
    "insurance number": (
        "{digits[3]}-{digits[2]}-{digits[4]}", "{digits[3]}-{digits[3]}-{digits[3]} {digits[2]}",
        "{digits[3]} {digits[3]} {digits[4]}",
    ),
    "age above 90": ("9{d10} years old", "aged 9{d10}", "9{d10} лет", "9{d10}-year-old man",
                     "9{d10} жаста"),
    "path, Unix": ("/home/{low[5]}/frames/1.png", "/mnt/{low[5]}/x", "/Users/{low[5]}/echo"),
    "path, Windows": ("C:\\Users\\{low[6]}\\echo", "D:/hospital/{low[6]}",
                      "\\\\server\\share\\{low[6]}", "%USERPROFILE%\\{low[5]}"),
    "path, home": ("~/{low[6]}/x", "~jane/{low[6]}", "$HOME/{low[6]}", "file:///srv/{low[6]}"),
    "web address": (
        "https://pacs.clinic.kz/study/{low[8]}", "s3://{low[8]}/echo", "http://10.0.0.{d}:8080/x",
        "www.hospital-{low[4]}.org/staff", "smb://nas/{low[5]}",
    ),
    "host": ("10.{d}.{m}.{d}", "pacs{d}.hospital.local", "jane@gpu{d}:frames", "nas.{low[4]}.lan"),
    "token, Hugging Face": ("hf_{key[34]}",),
    "token, GitHub or GitLab": ("ghp_{key[36]}", "github_pat_{key[60]}", "glpat-{key[20]}"),
    "token, cloud": ("AKIA{CAPS[16]}", "AIza{key[35]}", "AccountKey={key[86]}=="),
    "token, AI service": ("sk-{key[48]}", "sk-proj-{key[40]}", "wandb: {hex[40]}"),
    "token, messenger": ("xoxb-{digits[12]}-{key[24]}", "{digits[10]}:AA{key[33]}"),
    "token, package index": (
        "pypi-AgEIcHlwaS5vcmc{key[80]}", "//registry.example/:_authToken=npm_{key[36]}",
    ),
    "JSON web token": ("eyJ{key[20]}.eyJ{key[30]}.{key[20]}",),
    "password": ("postgresql://jane:{key[10]}@db/x", "password={key[10]}", "пароль: {key[8]}",
                 "Bearer {key[30]}"),
    "DICOM tag": ("(0010,0010)", "PatientBirthDate", "(0008, 0050) 12", "ReferringPhysicianName",
                  "InstitutionName"),
}  # fmt: skip
"""Kind -> templates of secrets; every name, number and token that they make is invented."""


class _Letters:
    """`{key[20]}` in a template: that many letters of an alphabet."""

    def __init__(self, rng: np.random.Generator, alphabet: str) -> None:
        self._rng, self._alphabet = rng, alphabet

    def __getitem__(self, length: int) -> str:
        return "".join(self._rng.choice(list(self._alphabet), length))


def fill(template: str, rng: np.random.Generator) -> str:
    """A secret of a template."""
    year = int(rng.integers(1950, 2026))
    fields: dict[str, object] = {name: rng.choice(words.split()) for name, words in NAMES.items()}
    fields |= {name: _Letters(rng, alphabet) for name, alphabet in ALPHABETS.items()}
    fields |= {"y": year, "yy": f"{year % 100:02}", "d10": int(rng.integers(1, 10))}
    fields |= {"m": int(rng.integers(1, 13)), "d": int(rng.integers(1, 29))}
    return template.format(**fields)


_AROUND = ("ASD, secundum, {}, 4-chamber position", "{}", "scan of {}; heart cavities not dilated",
           "({}) LVH, walls thickened", "ДМПП, {}, полости не расширены")  # fmt: skip


def draw_secrets(
    seed: int = 0,
    num_each: int = NUM_EACH,
    kinds: Iterable[str] = tuple(WORDS),
    forms: Mapping[str, tuple[str, ...]] = WORDS,
) -> Iterator[tuple[str, str, str]]:
    """(kind, secret, caption that holds it), `num_each` of every kind."""
    for kind in kinds:
        templates = forms[kind]
        rng = np.random.default_rng([seed, *kind.encode()])
        for i in range(num_each):
            secret = fill(templates[i % len(templates)], rng)
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
    "high pass: 100 Hz, wall filter low, gain {c} dB, 6 Fr catheter in the RA, Sister Mary Joseph",
    "study of {b} patients, case 3 of {c}, exam repeated twice, order of the slices reversed",
    "pat. with VSD, pt. stable, basic echocardiography, age {e} yrs, name of the view: apical",
    "Nurse-led follow-up, sir, passport view; token count 77, secretion, MR {d}/{e} grade",
)
_GERMAN_CAPTIONS = (
    "Vorhofseptumdefekt {d} mm, Herzhöhlen nicht dilatiert, Septum intakt, Kind {e} Jahre alt",
    "LV-Hypertrophie, Septum {e} mm, Hinterwand {f} mm, EF {a} % nach Simpson, EDV {b} ml",
    "Patientin in Linksseitenlage, Bildqualität gut, apikaler Vierkammerblick, Enddiastole",
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
    templates = [*_ENGLISH, *_GERMAN_CAPTIONS, *_RUSSIAN_CAPTIONS, *_KAZAKH_CAPTIONS]
    findings = list(Finding)
    for i in range(num):
        rng = np.random.default_rng([seed, i])
        if i % 2:
            chosen = [f for f in findings if rng.random() < 0.2]
            age_group = AgeGroup.CHILD if rng.random() < 0.3 else AgeGroup.ADULT
            heart = sample_heart(rng, chosen, age_group=age_group)
            heart = contract(heart, rng) if rng.random() < 0.5 else heart
            yield write_caption(heart, View.A4C, rng)
        else:
            ranges = {"a": (20, 75), "b": (50, 220), "c": (15, 60), "d": (5, 13), "e": (10, 19)}
            ranges["f"] = (6, 12)
            values = {name: rng.integers(*bounds) for name, bounds in ranges.items()}
            yield templates[int(rng.integers(len(templates)))].format(**values)


def find_missed_words(
    forms: Mapping[str, tuple[str, ...]], seed: int, num_each: int = NUM_EACH
) -> dict[str, list[str]]:
    """Kind -> secrets that a scan of a file with them did not find."""
    missed: dict[str, list[str]] = {kind: [] for kind in forms}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "metrics.json"
        for kind, secret, text in draw_secrets(seed, num_each, kinds=forms, forms=forms):
            path.write_text(json.dumps({"alarms": [text]}, ensure_ascii=False), encoding="utf-8")
            if not list(scan_file(path, Known())):
                missed[kind].append(secret)
    return missed


def find_false_alarms() -> dict[str, str]:
    """Caption -> what a scan takes for an identifier in it."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "metrics.json"
        for caption in draw_captions():
            path.write_text(json.dumps({"alarms": [caption]}, ensure_ascii=False), encoding="utf-8")
            if messages := list(scan_file(path, Known())):
                found[caption] = messages[0]
    return found


def find_missed_bytes(frames: Frames, seed: int = 0) -> dict[str, list[str]]:
    """Kind -> files with something hidden that a scan of their folder did not find."""
    missed: dict[str, list[str]] = {kind: [] for kind in BYTES}
    for kind, hide in BYTES.items():
        rng = np.random.default_rng([seed, *kind.encode()])
        for i in range(NUM_EACH):
            image = frames.images[int(rng.integers(len(frames.images)))]
            words = fill("Dr. {last}, {d:02}.{m:02}.{y}", rng)
            with tempfile.TemporaryDirectory() as scratch:
                name, data = hide(image, words, i)
                (Path(scratch) / name).write_bytes(data)
                if not scan_folder(Path(scratch), MODEL_FILES, Known()):
                    missed[kind].append(f"{name} ({i})")
    return missed


def find_missed_images(
    frames: Frames, others: Sequence[Grey], seed: int = 0
) -> tuple[dict[str, list[str]], int, int]:
    """Changed training images that are not told from others, by kind of change; how many of
    `others` are taken for training images; how many of the frames for those of another patient."""
    gallery = Gallery(frames.images)
    threshold = choose_threshold(gallery, frames.images.__getitem__, frames.patients)
    missed: dict[str, list[str]] = {}
    for kind, change in CHANGES.items():
        rng = np.random.default_rng([seed, *kind.encode()])
        chosen = rng.choice(len(frames.images), NUM_EACH, replace=False)
        changed = [np.ascontiguousarray(change(frames.images[i], others, rng)) for i in chosen]
        scores = [match.score for match in gallery.find_nearest(changed)]
        missed[kind] = [
            f"{frames.patients[i]} ({score:.2f} < {threshold:.2f})"
            for i, score in zip(chosen, scores, strict=True)
            if score < threshold
        ]
    names = np.array(frames.patients)
    alarms = sum(match.score >= threshold for match in gallery.find_nearest(others))
    same = [names == name for name in names]
    crossed = sum(match.score >= threshold for match in gallery.find_nearest(frames.images, same))
    return missed, alarms, crossed


def simulate_frames(seed: int, num: int, size: int = 256) -> Frames:
    """`num` frames of phantoms of size x size pixels, two of each patient."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "phantoms"
        write_phantom_frames(folder, num=num, seed=seed, size=size, progress=False, workers=1)
        return load_images(folder)


def load_images(folder: Path) -> Frames:
    """Images and patients of a frames folder."""
    rows = load_frames(folder)
    images = [read_gray_u8(folder / row.file_name) for row in rows]
    return Frames(images, [str(row.patient_id or "") for row in rows])


def report(title: str, missed: Mapping[str, list[str]], num_each: int = NUM_EACH) -> bool:
    """Print recall by kind; whether it is above the bars."""
    for kind, names in missed.items():
        print(f"{kind:36} {num_each - len(names):3} of {num_each}  {'; '.join(names[:3])}")
    shares = [1 - len(names) / num_each for names in missed.values()]
    print(f"{title}: recall {np.mean(shares):.1%} of {num_each * len(shares)} of {len(shares)} "
          f"kinds, lowest of a kind {min(shares):.0%}\n")  # fmt: skip
    return bool(np.mean(shares) >= RECALL and min(shares) >= RECALL_OF_A_KIND)


def main() -> int:
    """Print recall by kind and the false alarms; 1 where a bar is missed."""
    if sys.argv[1:]:  # a frames folder of real images, of several patients
        frames = load_images(Path(sys.argv[1]))
        others = simulate_frames(seed=1, num=100).images
    else:
        frames = simulate_frames(seed=0, num=120)
        others = simulate_frames(seed=1, num=100).images
    is_good = report("words", find_missed_words(WORDS, seed=0) | find_missed_words(FORMS, seed=0))
    missed = find_missed_words(HELD_OUT, seed=0, num_each=3 * NUM_EACH)
    report("further words, by the same author", missed, 3 * NUM_EACH)
    is_good &= report("bytes", find_missed_bytes(frames))
    missed, alarms, crossed = find_missed_images(frames, others)
    is_good &= report("changed training images", missed)
    print(f"false alarms: {alarms} of {len(others)} images of nobody, {crossed} of "
          f"{len(frames.images)} frames held against other patients'")  # fmt: skip
    false = find_false_alarms()
    for caption, message in false.items():
        print(f"false alarm: {message} in {caption!r}")
    print(f"false alarms: {len(false)} of {NUM_CAPTIONS} captions")
    is_good &= max(alarms / len(others), crossed / len(frames.images)) <= FALSE_ALARMS
    return int(not (is_good and len(false) <= FALSE_ALARMS * NUM_CAPTIONS))


if __name__ == "__main__":
    sys.exit(main())
