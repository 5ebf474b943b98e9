"""Find names of people in a text: after a title or a label, or in a form that only names have.

The languages are English, German, Russian and Kazakh. There is no list of surnames, so a surname
alone in a sentence is not found.
"""

import re
from collections.abc import Iterator

from echodiff.data.check.forms import Span, find_forms

_NAME = r"(?:[A-Z]['’])?[A-ZÀ-ÞА-ЯЁӘҒҚҢӨҰҮҺІŠŽČ][^\W\d_]+(?:[-'’][^\W\d_]+)?"
_INITIAL = r"[A-ZА-ЯЁӘҒҚҢӨҰҮҺІ]\.\s?"
_FULL_NAME = rf"(?:(?:{_INITIAL}){{1,2}})?{_NAME}(?:\s{_NAME}){{0,2}}(?:\s(?:{_INITIAL}){{1,2}})?"
_TITLE = (
    r"(?:Mr|Mrs|Ms|Miss|Sir|Dame|Nurse|Sister(?!\sMary\sJoseph)|Dr|Prof|Professor|Doctor|Sr|Sra|Herrn?|Hr|Frau|Mme|DR|PROF"
    r"|Schwester|Pfleger|(?:Ober|Chef)?(?:[Aa]rzt|[Ää]rztin)|[Мм]едсестра|[Кк]\.?м\.?н|[Дд]\.?м\.?н|[Мм]едбике"
    r"|[Гг]-н|[Гг]-жа|[Гг]осподин|[Гг]оспожа|[Дд]окторa?|[Дд]-р|[Пп]роф(?:ессор)?|[Вв]рач"
    r"|[Мм]ырза|[Дд]әрігер|[Пп]рофессор)"
)
_LABEL = (
    r"(?:(?:patient(?:'s)?|full|sur|last|first|given|family|mother(?:'s)?|father(?:'s)?) ?name|name"
    r"|фамилия|имя|отчество|ф\.? ?и\.? ?о\.?|аты[- ]?жөні|тегі|есімі)"
)
_ROLE = (
    r"(?:[Pp]atient(?:in)?|PATIENT|[Pp]t|[Pp]at|[Ss]onographer|[Pp]hysician|[Cc]ardiologist|[Oo]perator|[Rr]eader|[Pp]erson"
    r"|[Пп]ациент(?:ка|а|ки|у)?|[Бб]ольн(?:ой|ая|ого)|[Рр]ебенок|[Рр]ебёнок|[Оо]ператор|[Вв]рач"
    r"|[Нн]ауқас|[Бб]ала|[Дд]әрігер)"
)
_BY = r"(?:performed|reported|read|referred|signed|reviewed|scanned|examined|acquired|annotated)"

_FORMS = tuple(
    re.compile(form, flags)
    for form, flags in (
        # DOE^JANE, as DICOM writes names, but not mm^2 or kg^m
        (
            r"(?<![^\W\d_])[^\W\d_]{2,64}\^[^\W\d_]{1,64}"
            r"|(?<![^\W\d_])[A-ZА-ЯЁ][^\W\d_]{1,63}\^(?!\w)",
            0,
        ),
        (rf"\b{_TITLE}\b(?:[.:]\s{{0,2}}|\s{{1,2}}){_FULL_NAME}", 0),
        (rf"(?<!\w){_NAME}\s{_NAME},?\s(?:MD|M\.D\.|PhD|FACC|FASE|RDCS|RN)(?!\w)", 0),
        (rf"(?<!\w){_NAME}\s(?:мырза|ханым)(?!\w)", 0),
        (
            rf"(?<!\w){_LABEL}(?:\s{{0,2}}[:=]|\s[-–])\s{{0,2}}(?:[^\W\d_]['’])?[^\W\d_]{{2,64}}"
            rf"(?:\s{_NAME}){{0,2}}",
            re.IGNORECASE,
        ),
        (rf"\b{_ROLE}\.?(?:\s{{0,2}}[:=]\s{{0,2}}|\s){_FULL_NAME}", 0),
        (rf"\b(?i:{_BY})(?:\sby:?|:)\s{_FULL_NAME}", 0),
        # Иванов И.И. and И.И. Иванов, with both initials
        (r"\b[А-ЯЁӘҒҚҢӨҰҮҺІ][а-яёәғқңөұүһі]{2,30}\s[А-ЯЁӘҒҚҢӨҰҮҺІ]\.\s?[А-ЯЁӘҒҚҢӨҰҮҺІ]\.", 0),
        (r"\b[А-ЯЁӘҒҚҢӨҰҮҺІ]\.\s?[А-ЯЁӘҒҚҢӨҰҮҺІ]\.\s?[А-ЯЁӘҒҚҢӨҰҮҺІ][а-яёәғқңөұүһі]{2,30}", 0),
        # patronymics, which occur only in names
        (
            r"\b(?:[А-ЯЁ][а-яё]{1,25}(?:[оеё]вич|[оеи]вн|иничн)(?:а|у|е|ой|ом|ем|ы)?"
            r"|[А-ЯЁӘҒҚҢӨҰҮҺІ][а-яёәғқңөұүһі]{1,25}(?:ұлы|улы|қызы|кызы)(?:на|ның|н)?"
            r"|[A-Z][a-z]{1,25}(?:[oe]vich|[oe]vna|uly|ulı|qyzy|qızı|kyzy))\b",
            0,
        ),
    )
)  # fmt: skip

_EPONYMS = frozenset(
    re.findall(
        r"[^\W\d_]+",
        """amplatz austin bachmann barlow beck bentall bernoulli bland blalock botallo botal
        brock brugada carpentier carvallo chagas chiari corrigan damus danon david digeorge doppler
        down duchenne duke ebstein edwards eisenmenger eustachian eustachius fabry fallot flint
        fontan friedreich garland gerbode glenn gore hancock hill his holt hounsfield jatene
        janeway jones kawasaki kaye koch kommerell konno kussmaul libman loeffler lutembacher
        mahaim marfan mcconnell mustard noonan norwood oram osler parkinson patau pompe potts
        purkinje quincke rastelli roger ross roth sacks scimitar senning shiley shone simpson
        stansel starr swan taussig tei teichholz thebesian todaro turner uhl valsalva waterston
        white wilkins williams wolff yacoub björk
        фалло боталлов эйзенменгер эбштейн симпсон тейхольц марфан допплер вальсальва росс
        фонтен гленн мастард сеннинг растелли бернулли""",
    )
)
"""People after whom diseases, signs, operations and devices are named."""
_NO_NAMES = frozenset(
    re.findall(
        r"[^\W\d_]+",
        """adult apical asd atrial atrium boy child echo echocardiogram enlarged female girl heart
        healthy infant in left lv lvh male man mitral newborn no normal position quality right rv
        septa septum supine the unchanged unknown ventricle view vsd with woman walls lateral
        motion movement prone rest stress sinus rhythm stable age sex weight height bsa history
        presents presented was is has had not
        взрослый ребенок ребёнок мужчина женщина мальчик девочка норма нормальный левый правый
        сердце перегородка дефект лежа на в с без эхокардиография функциональной ультразвуковой
        ересек ер әйел қыз ұл жүрек""",
    )
)
"""Words that may follow `Patient:` and are not names."""


def find_people(text: str) -> Iterator[Span]:
    """Yield start and end of every name in `text`, including its title or label."""
    return find_forms(text, _FORMS, _is_person)


_LEADS = re.compile(rf"^(?:{_TITLE}\b[.:]?|{_ROLE}\b\.?\s?[:=]?|(?i:{_BY})(?:\sby:?|:))\s*")


def _is_person(found: str) -> bool:
    """Whether the words after the title are a name, not just eponyms or a term of the field."""
    is_led = _LEADS.match(found)
    words = re.findall(r"[^\W\d_]{2,}", found[is_led.end() :] if is_led else found)
    if not is_led:
        return True
    lowered = [word.lower() for word in words]
    return bool(lowered) and lowered[0] not in _NO_NAMES and not set(lowered) <= _EPONYMS
