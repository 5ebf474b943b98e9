"""Made-up identifiers as people write them, by kind: what `push_leaks.py` plants into texts.

The author of the rules of the scan wrote both lists, so recall on them is optimistic. The rules
were extended by what they missed of `FORMS`. `HELD_OUT` is reported apart; it is not independent,
and its recall rose from 86 % with the latest rules.
"""

FORMS: dict[str, tuple[str, ...]] = {
    "date, German": (
        "4. {german_month} {y}", "den {d}. {german_month} {y}", "am {d}. {german_month}",
        "geb. {d}.{m}.{y}", "{d}.{german_month} {yy}", "{d:02}. {german_month} {y}, 10:15 Uhr",
    ),
    "date, American": (
        "{month} {d}th, {y}", "{mon}. {d}, {y}", "{m:02}/{d:02}/{yy}", "{m}-{d}-{y}",
        "Thursday, {month} {d}", "{d}{mon}{yy}", "{MON} {d} {y}",
    ),
    "date, Russian, as written": (
        "{d} {russian_month} {y}г.", "«{d}» {russian_month} {y} г.", "{d:02}.{m:02}.{yy}г",
        "{d:02}.{m:02}.{y}г.", "{d} {russian_month} {y} года, утром", "{d}-е {russian_month} {y}",
    ),
    "date, Kazakh, as written": (
        "{y} жылдың {d} {kazakh_month}ы", "{d}-{kazakh_month} {y} ж.", "{d:02}.{m:02}.{y} ж.",
        "{y}ж. {d} {kazakh_month}да", "{kazakh_month} айының {d}-і", "{y} ж. {kazakh_month}дың {d}",
    ),
    "date with a time": (
        "{y}-{m:02}-{d:02}T10:11:12Z", "{y}{m:02}{d:02}T101112", "{d:02}.{m:02}.{y} в 10:15",
        "{m:02}/{d:02}/{y} 10:11 AM", "{y}-{m:02}-{d:02}_10-11-12", "acq_{y}{m:02}{d:02}_101112",
    ),
    "telephone, as written": (
        "8-701-234-56-78", "87012345678", "+77012345678", "ph (415) 555-0132",
        "T: +44 (0)20 7946 0958", "0049 30 901820", "8 (7172) 70-12-34", "+1.212.555.0187",
        "212.555.0187", "Tel.: 030/901820", "моб.тел. 8 777 123 4567", "WhatsApp +7 777 123 45 67",
    ),
    "medical record": (
        "MRN: 00{digits[6]}", "MRN#{digits[6]}", "MR# 48-29-13", "Hospital No. {digits[6]}",
        "Patient ID: AB{digits[5]}", "Chart no. {digits[5]}", "Case number 2021-{digits[4]}",
        "PatID={digits[5]}", "Fallnummer {digits[6]}", "Patienten-Nr. {digits[5]}",
        "история болезни № {digits[5]}", "ИБ № {digits[5]}", "амбулаторная карта № {digits[4]}",
        "медкарта {digits[5]}", "ауру тарихы № {digits[5]}",
    ),
    "accession number": (
        "ACC 2021-0{digits[5]}", "Accession No: US21-0{digits[4]}", "Acc# 210{digits[5]}",
        "Study ID {digits[5]}", "Exam no. {digits[6]}", "Order #{digits[6]}",
        "Exam ID: E{digits[5]}",
        "accession {CAPS[2]}{digits[6]}",
    ),
    "DICOM UID, other roots": (
        "UID 2.25.{digits[36]}", "urn:oid:2.25.{digits[38]}",
        "1.3.6.1.4.1.{digits[5]}.{digits[4]}.{digits[9]}",
        "1.3.12.2.1107.5.2.{digits[5]}.{digits[8]}",
        "1.2.276.0.7230010.3.1.4.{digits[8]}.{digits[5]}",
    ),
    "file address": (
        "file:///C:/Users/{low[5]}/scan.dcm", "file://nas/echo/{low[5]}",
        "file:/home/{low[5]}/x.png",
        "vscode://file/home/{low[5]}/y", "file://localhost/srv/{low[5]}",
    ),
    "network share": (
        "\\\\nas01\\echo\\{low[5]}", "\\\\10.0.0.4\\share\\{low[5]}", "\\\\?\\C:\\echo\\{low[5]}",
        "//nas01/echo/{low[5]}", "smb:\\\\nas\\{low[5]}",
    ),
    "path, as written": (
        "C:\\Echo Data\\{low[5]}", "Z:\\{low[5]}.dcm", "/export/work/{low[5]}/x.png",
        "../../home/{low[5]}/x", "/Volumes/Backup 1/{low[5]}", "E:\\2021\\{russian}",
        "..\\..\\{low[5]}\\x.dcm",
    ),
    "secret of AWS": (
        "aws_secret_access_key = {key[40]}", "ASIA{CAPS[16]}", "AWS_SECRET_ACCESS_KEY={key[40]}",
        "AKIA{CAPS[16]}",
    ),
    "secret of Slack": (
        "xoxp-{digits[11]}-{digits[11]}-{hex[32]}", "xapp-1-A0{CAPS[8]}-{digits[12]}-{hex[64]}",
        "https://hooks.slack.com/services/T0{CAPS[8]}/B0{CAPS[8]}/{key[24]}",
    ),
    "secret of GitHub": (
        "gho_{key[36]}", "ghs_{key[36]}", "ghu_{key[36]}", "github_pat_11{key[20]}_{key[59]}",
    ),
    "secret of an AI service": (
        "sk-svcacct-{key[40]}", "sk-ant-api03-{key[80]}", "OPENAI_API_KEY=sk-{key[48]}",
        "r8_{key[37]}", "HF_TOKEN=hf_{key[34]}", "gsk_{key[52]}", "WANDB_API_KEY={hex[40]}",
    ),
    "secret of others": (
        "ya29.{key[60]}", "GOCSPX-{key[28]}", "dckr_pat_{key[27]}", "npm_{key[36]}",
        "SharedAccessSignature sig={key[43]}%3D", "Authorization: Basic {key[24]}==",
    ),
    "password, as written": (
        "pwd={key[9]}", "Passwort: {key[9]}", "pass: {key[9]}", "password is {key[10]}",
        "пароль - {key[9]}", "PASSWD={key[8]}",
    ),
    "name, English": (
        "Dr {last}", "Dr.{last}", "Prof. Dr. {last}", "Sir {first} {last}", "Nurse {last}",
        "{first} {last}, MD", "{last} {first}, M.D.", "DR {LAST}", "Sister {last}", "Mrs {last}",
    ),
    "name, German": (
        "Herr {last}", "Hr. {last}", "Fr. Dr. {last}", "Oberarzt {last}", "OA Dr. {last}",
        "Schwester {first}", "Pat.: {last}", "Herrn {first} {last}", "Patientin {last}",
        "Arzt: {last}",
    ),
    "name, Russian": (
        "д-р {russian}", "доктор {russian}", "проф. {russian}", "г-жа {russian}",
        "медсестра {russian}", "пациент: {russian} {russian_first}", "к.м.н. {russian}",
        "Ф.И.О. {russian} {russian_first}", "больная {russian}", "{russian} И. П.",
    ),
    "name, Kazakh, as written": (
        "дәрігер {kazakh}", "{kazakh} мырза", "{kazakh} ханым", "медбике {kazakh}",
        "науқас {kazakh} {kazakh_father}", "аты-жөні: {kazakh}", "профессор {kazakh}",
        "Т.А.Ә. {kazakh}",
    ),
    "name after a role": (
        "pt. {first} {last}", "patient name - {last}", "performed by: J. {last}",
        "signed: {first} {last}", "Reported by {first} {last}", "Patient: {last}, {first}",
        "sonographer: {first}", "referring physician {last}",
    ),
    "e-mail, disguised": (
        "mailto:{low[5]}@klinik.de", "{low[5]} (at) clinic.kz", "{low[5]}[at]clinic[dot]kz",
        "{low[4]}.{low[5]} at hospital dot org",
    ),
    "host, as written": (
        "pacs01.klinik.intern", "ssh {low[4]}@10.0.0.5", "192.168.1.20:104", "STORE@10.1.1.1:104",
        "gpu-07.cluster.local", "fe80::1ff:fe23:4567:890a", "2001:db8:85a3::8a2e:370:7334",
    ),
    "insurance, as written": (
        "SSN 123-45-6789", "СНИЛС 123-456-789 00", "NHS 943 476 5919", "KVNR A{digits[9]}",
        "Medicare 1EG4-TE5-MK73", "полис ОМС {digits[16]}", "passport N{digits[7]}",
        "паспорт 4509 {digits[6]}", "Versichertennummer A{digits[9]}",
    ),
    "address": (
        "14 Baker Street, London", "ул. Абая 12, кв. 5", "Hauptstraße 12, 10115 Berlin",
        "пр. Назарбаева, д. 7", "221B Elm Avenue", "Абай көшесі, 12 үй", "P.O. Box {digits[4]}",
    ),
    "age, as written": (
        "93 y/o", "91yo", "aged 94", "92 года", "93-летний", "95 жаста", "91 Jahre alt", "97 yrs",
        "возраст 94", "age: 93",
    ),
}  # fmt: skip

HELD_OUT: dict[str, tuple[str, ...]] = {
    "dates": (
        "vom {d}.{m:02}.{y}", "{d}. {german_month} {y} um 9 Uhr", "Study date {y}/{m}/{d}",
        "on the {d}th of {month} {y}", "{month} the {d}th {y}", "{d} {russian_month} {y}-го",
        "дата: {d:02}/{m:02}/{y}", "обследован {d:02}.{m:02}.{y}",
        "{y} жылғы {d}-ші {kazakh_month}",
        "{y}_{m:02}_{d:02}", "{d:02}{m:02}{y}", "DOB {m}/{d}/{y}", "{mon}-{d:02}-{y}",
    ),
    "numbers": (
        "+7 (727) 250-44-19", "phone number: 555-0187", "Telefon 0171 1234567", "тел.: 250-44-19",
        "call me at (212) 555 0187", "MRN-{digits[7]}", "med. record {digits[6]}", "№{digits[6]}",
        "Pat.-ID {digits[5]}", "карта №{digits[5]}", "Accession Number: {digits[8]}",
        "study no {digits[6]}", "UID: 1.2.840.113619.2.{digits[3]}.{digits[9]}.{digits[4]}",
        "ИИН {digits[12]}", "NHS number 943-476-5919", "hospital id {CAPS[2]}{digits[6]}",
    ),
    "names": (
        "Dr {first} {last}", "Prof {last}", "Miss {last}", "Mr. and Mrs. {last}", "Frau Dr. {last}",
        "Herr Prof. {last}", "Patient {first} {last}", "врач: {russian} {russian_first}",
        "Доктор {russian} А.Б.", "пациентка {russian}", "дәрігер: {kazakh}", "мырза {kazakh}",
        "{russian} {russian_first} {patronymic}", "Name: {last}", "surname {last}",
        "reviewed by Dr. {last}", "Surgeon: {last}",
    ),
    "places and secrets": (
        "C:\\Users\\{low[5]}\\Desktop\\a.dcm", "/home/{low[5]}", "\\\\server\\data\\{low[5]}",
        "file:///home/{low[5]}/a.png", "scp {low[5]}@host1:/data", "http://pacs.{low[5]}.kz/x",
        "ftp://10.0.0.1/{low[5]}", "~/Documents/{low[5]}", "token: hf_{key[34]}",
        "export AWS_SECRET_ACCESS_KEY={key[40]}", "xoxb-{digits[12]}-{digits[12]}-{key[24]}",
        "sk-proj-{key[60]}", "password: {key[8]}", "glpat-{key[20]}",
    ),
}  # fmt: skip
