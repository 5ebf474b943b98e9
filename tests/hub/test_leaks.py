"""Planted secrets stop a push, clinical captions do not; each in time linear in the text."""

import importlib.util
import json
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from echodiff.data.check.disclosure import find_identifiers, find_name_words
from echodiff.data.check.file_bytes import find_beyond_pixels
from echodiff.frames.reader import load_frames
from echodiff.hub.private_words import PrivateWords
from echodiff.hub.scan import Known, scan_folder
from echodiff.images import write_image
from echodiff.metrics.likeness.gallery import Gallery
from echodiff.metrics.likeness.threshold import DEFAULT_THRESHOLD, choose_threshold
from echodiff.phantom.dataset import write_phantom_frames
from echodiff.published import MODEL_FILES

# huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "push_leaks.py"


def load_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))  # of which it imports two others
    spec = importlib.util.spec_from_file_location("push_leaks", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["push_leaks"] = module
    spec.loader.exec_module(module)
    return module


with pytest.MonkeyPatch.context() as patch:
    leaks = load_benchmark(patch)
FORMS = leaks.WORDS | leaks.FORMS


def found_in(folder):
    return [message for _, message in scan_folder(folder, MODEL_FILES, Known())]


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
def test_secrets_of_every_kind_stop_a_push(kind, tmp_path):
    found = []
    for _, _, text in leaks.draw_secrets(seed=1, num_each=5, kinds=[kind], forms=FORMS):
        (tmp_path / "metrics.json").write_text(json.dumps({"alarms": [text]}))
        found.append(bool(found_in(tmp_path)))
    assert len(found) == 5
    assert sum(found) >= 4


def test_clinical_captions_do_not(tmp_path):
    captions = list(leaks.draw_captions(seed=1, num=400))
    (tmp_path / "metrics.json").write_text(json.dumps({"alarms": captions}))
    assert found_in(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Blalock-Taussig", "kg/m^2 and mm^2", "SNOMED 253366007", "thickness 11.12.10 mm",
        "split 10/10/80", "doi:10.1109/TMI.2021.3051806", "torch 2.14.1, v1.12.10",
        "may 2 mm, dec 5, in march", "Patient: Adult male", "patient with ASD", "frames 12 to 16",
        "45 51 59 68 72 84 beats", "E/A 1.2, 0.12345678901", "NYHA III 2021",
    ],
)  # fmt: skip
def test_words_of_the_clinic_are_no_identifiers(text):
    assert list(find_identifiers(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Mc" + "a" * 30, "a_", "a", "1", "1.", "A.", "12 ", "+1 ", "(0 ", "aA", "January ", "0-",
        "4 March 2021 ", "2.25.", "a@b.", "http://", "/a", "sk-", "eyJaaaaaaaaaaaaaaaaaaa-",
        "Dr. Aa", "Иванов ",
    ],
)  # fmt: skip
def test_a_long_text_takes_linear_time(text):
    def seconds(length):
        long = (text * (length // len(text) + 1))[:length]
        start = time.process_time()
        list(find_identifiers(long))
        find_name_words(long, at_least=2)
        return time.process_time() - start

    short = max(seconds(12_500), 0.005)
    assert seconds(50_000) < 9 * short  # four times the text: quadratic time would be 16 times


def test_forms_that_no_rule_was_written_for_are_found_nine_times_of_ten():
    missed = leaks.find_missed_words(leaks.HELD_OUT, seed=1, num_each=30)
    assert sum(map(len, missed.values())) <= 0.1 * 30 * len(missed)


# --- Names of this training -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("krd-0012", "look at KRD 0012 again"),
        ("krd-0012", "krd0012.png"),
        ("krd-0012", "xkrd0012x"),
        ("Иванов_0012", "ИВАНОВ0012"),
        ("Müller77", "mu\u0308ller 77"),
        ("Żeleński", "zelenski"),
        ("patient-0047115", "case no. 0047115"),
        ("PAT12345", "number 12345"),
        ("nurlanova", "see Nurlanova's scan"),
        ("study_7_frame_0031", "Study 7, frame 0031"),
    ],
)
def test_names_of_the_training_are_found_however_they_are_spelled(name, text):
    assert PrivateWords([name]).find(text) == [name]


def test_ordinary_and_short_names_are_not_searched_and_are_listed():
    words = PrivateWords(["normal", "p1", "0007", "ventricle", "krd0012"])
    assert words.unsearchable == {"normal", "p1", "0007", "ventricle"}
    assert words.find("normal heart, left ventricle, 0007, image 000012.png") == []


def test_a_push_says_which_names_it_cannot_search(push, place, edit, with_card):
    from echodiff.files import shipped

    data = with_card(shipped("data_cards/phantom.md").read_text())
    rows = [f.to_row() | {"patient_id": f"p{i}"} for i, f in enumerate(load_frames(data))]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = push("--data", "frames")
    assert status == 0
    assert "not searched for: 12 names that are short or ordinary words, such as 'p0'" in out


# --- Fields and bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics.json", '{"IVANOV^IVAN": 1}', "possibly the name of a person"),
        ("metrics.json", '{"seen": 20210304}', "possibly the date of a person"),
        ("metrics.json", '{"mrn": 12345678.0}', "possibly the number of a person"),
        ("metrics.json", '{"a": "\\u0049VANOV^IVAN"}', "possibly the name of a person"),
        ("metrics.json", '{"a": "x", "a": "y"}', "a field occurs twice"),
        ("config.yaml", "patient: x\n", "unknown field 'patient'"),
        ("config.yaml", "rank: 8  # IVANOV\n", "holds comments"),
        ("config.yaml", "rank: 8\nrank: 9\n", "a field occurs twice"),
        ("privacy.json", '{"members": ["a"]}', "unknown field 'members'"),
        ("push.json", '{"kind": "model", "by": "x"}', "unknown field 'by'"),
        ("README.md", "seen by &#73;VANOV^IVAN", "possibly the name of a person"),
        # A shipped data card has this address, as what a reader of the card needs.
        ("README.md", "---\nbase_model: https://www.ub.edu/mnms/\n---\n", "a path or an address"),
        ("README.md", "see %2Fhome%2Fjane%2Fx", "a path or an address"),
    ],
)
def test_fields_numbers_and_escapes_are_read(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    assert any(said in message for message in found_in(tmp_path))


def test_tensors_that_are_no_adapter_are_found(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({"picture": np.zeros((8, 8), np.float32)}, path)
    assert "'picture' is not a tensor of an adapter" in found_in(tmp_path)[0]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(
        ">I", zlib.crc32(kind + content))  # fmt: skip


def png(*, extra=b"", raw_tail=b"", stream_tail=b"", end=b"", colour=0):
    channels = {0: 1, 6: 4}[colour]
    raw = (b"\0" + bytes(range(4 * channels))) * 4 + raw_tail
    header = struct.pack(">IIBBBBB", 4, 4, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", zlib.compress(raw) + stream_tail) + chunk(b"IEND", b"") + end
    )  # fmt: skip


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        ({"extra": chunk(b"tEXt", b"a\0b")}, "a tEXt chunk of 3 bytes"),
        ({"extra": chunk(b"iCCP", b"x")}, "a iCCP chunk of 1 bytes"),
        ({"extra": chunk(b"prVt", b"x")}, "a prVt chunk of 1 bytes"),
        ({"extra": chunk(b"eXIf", b"x")}, "a eXIf chunk of 1 bytes"),
        ({"extra": chunk(b"gAMA", b"\0\0\0\1")}, "a gAMA chunk of 4 bytes"),
        ({"end": b"hidden"}, "6 bytes after the image"),
        ({"raw_tail": b"hidden"}, "pixel data after the last row"),
        ({"stream_tail": b"hidden"}, "6 bytes after the compressed pixels"),
    ],
)
def test_bytes_that_are_no_pixels_are_found(picture, said):
    assert said in list(find_beyond_pixels(png(**picture), is_strict=True))
    assert list(find_beyond_pixels(png(), is_strict=True)) == []


def test_a_picture_in_the_alpha_channel_is_found(tmp_path):
    (tmp_path / "sheet.png").write_bytes(png(colour=6))
    assert "an alpha channel or a palette" in found_in(tmp_path)[0]
    write_image(tmp_path / "sheet.png", np.zeros((8, 8, 3), np.uint8))
    assert found_in(tmp_path) == []


def test_segments_of_a_jpeg_are_found(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("L", (16, 16), 7).save(path, comment=b"IVANOV", quality=90)
    data = path.read_bytes()
    assert list(find_beyond_pixels(data)) == ["a comment of 8 bytes"]
    Image.new("L", (16, 16), 7).save(path)
    assert list(find_beyond_pixels(path.read_bytes())) == []
    assert list(find_beyond_pixels(path.read_bytes() + b"abc")) == ["3 bytes after the image"]


@pytest.mark.parametrize("kind", leaks.BYTES)
def test_hidden_bytes_of_every_kind_stop_a_push(kind, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for i in range(3):
        name, data = leaks.BYTES[kind](image, "Dr. Smith", i)
        (tmp_path / name).write_bytes(data)
        assert found_in(tmp_path)
        (tmp_path / name).unlink()


def test_pixels_of_a_set_are_written_anew(push, place, hub):
    path = place / "generated/asd-1/images/000003.png"
    path.write_bytes(path.read_bytes() + b"hidden")
    status, _, _ = push("--dataset", "generated/asd-1", "--yes")
    assert status == 0
    sent = hub.repos["dataset", "jane/hearts"].files["images/000003.png"]
    assert b"hidden" not in sent


# --- Training images that were changed ------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Two folders of 12 frames of 128 pixels, of other patients."""
    folders = [tmp_path_factory.mktemp("phantoms") / str(seed) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        write_phantom_frames(folder, num=12, seed=seed, size=128, progress=False, workers=1)
    return [leaks.load_images(folder).images for folder in folders]


@pytest.fixture
def stopped(push, place, phantoms):
    """`stopped(images)`: a push of a set with these images, of a run on `phantoms[0]` -> the names
    of those that stop it."""
    data = place / "runs/ours/frames"
    for frame, image in zip(load_frames(data), phantoms[0], strict=True):
        write_image(data / frame.file_name, image)

    def run(images):
        frames = load_frames(place / "generated/asd-1")
        for frame, image in zip(frames, images, strict=True):
            write_image(place / "generated/asd-1" / frame.file_name, np.ascontiguousarray(image))
        _, out, _ = push("--dataset", "generated/asd-1")
        return [line.split(":")[1].strip() for line in out.splitlines() if "training image" in line]

    return run


@pytest.mark.parametrize("first", range(0, len(leaks.CHANGES), 6))
def test_changed_training_images_stop_a_push_and_no_others(stopped, phantoms, first):
    training, others = phantoms
    rng = np.random.default_rng(first)
    kinds = list(leaks.CHANGES)[first : first + 6]
    chosen = rng.choice(len(training), len(kinds), replace=False)
    changed = [
        leaks.CHANGES[kind](training[i], others, rng) for kind, i in zip(kinds, chosen, strict=True)
    ]
    names = stopped([*changed, *others[: 8 - len(changed)]])
    assert names == [f"images/{i:06d}.png" for i in range(len(changed))]


def test_the_threshold_is_that_of_the_frames_themselves():
    frames = leaks.simulate_frames(seed=2, num=24, size=64)
    gallery = Gallery(frames.images)
    threshold = choose_threshold(gallery, frames.images.__getitem__, frames.patients)
    assert 0.6 <= threshold <= 0.95
    assert threshold != DEFAULT_THRESHOLD
    unknown = [""] * len(frames.images)
    assert choose_threshold(gallery, frames.images.__getitem__, unknown) == DEFAULT_THRESHOLD
    names = np.array(frames.patients)
    same = [names == name for name in names]
    nearest = gallery.find_nearest(frames.images, same)
    assert max(match.score for match in nearest) < threshold


def test_an_image_that_shows_text_stops_a_push(push, place):
    path = place / "generated/asd-1/images/000003.png"
    image = Image.new("L", (256, 256))
    ImageDraw.Draw(image).text((20, 40), "SMITH JOHN 1961", fill=255, font_size=20)
    image.save(path)
    status, out, _ = push("--dataset", "generated/asd-1")
    assert status == 1
    assert "stopped: images/000003.png: shows text at x " in out


def test_an_image_inside_the_card_stops_a_push(push, place, with_card):
    from echodiff.files import shipped

    card = shipped("data_cards/phantom.md").read_text()
    with_card(card + "\n![](data:image/png;base64,iVBORw0KGgo=)\n")
    status, out, _ = push()
    assert status == 1
    assert "README.md: has an unexpected form (it embeds a file" in out


# --- Between the scan and the upload --------------------------------------------------------------


def test_a_file_dropped_after_the_scan_does_not_go_up(push, place, hub, monkeypatch):
    from echodiff.hub import push as command

    def drop(folder, target, message, hashes):
        (folder / "notes.txt").write_text("Dr. Smith")
        return send(folder, target, message, hashes)

    send = command.push_folder
    monkeypatch.setattr(command, "push_folder", drop)
    assert push("--yes")[0] == 0
    assert "notes.txt" not in hub.repos["model", "jane/hearts"].files


def test_a_file_changed_after_the_scan_stops_the_push(push, place, hub, monkeypatch):
    from echodiff.hub import push as command

    def change(folder, target, message, hashes):
        (folder / "README.md").write_text("Dr. Smith")
        return send(folder, target, message, hashes)

    send = command.push_folder
    monkeypatch.setattr(command, "push_folder", change)
    status, _, err = push("--yes")
    assert status == 2
    assert "README.md: changed after the scan" in err


def test_a_file_that_was_not_pushed_is_not_pulled(push, place, hub, capsys):
    from echodiff.__main__ import main

    assert push("--yes")[0] == 0
    repo = hub.repos["model", "jane/hearts"]
    repo.commit(
        repo.commits[repo.head] | {"t2i_adapter/config.json": (b"{}", False)}, "by somebody"
    )
    assert main(["pull", "jane/hearts", "--out", str(place / "pulled")]) == 2
    assert "t2i_adapter/config.json is not listed in the manifest" in capsys.readouterr().err
    assert not (place / "pulled").exists()


# --- The card -------------------------------------------------------------------------------------

HOSTILE = "ASD ```\n<script>x</script> [a](http://x) ![b](c) | `rm`\n---\nlicense: mit\n---"


def test_no_caption_name_or_licence_is_read_as_markup(push, place, edit, with_card):
    from echodiff.hub.card import _cell, _code

    cell = _cell(HOSTILE)
    assert "\n" not in cell
    for sign in ("`", "<", "[", "]", "|", "!"):
        assert cell.count(sign) == cell.count("\\" + sign)
    assert not set(_code(HOSTILE)) & set('`"\\\n')
    alarms = place / "generated/asd-1/metrics.json"
    edit(alarms, alarms=["<b>copies</b> [see](javascript:x) ```"])
    status, _, _ = push("--generated", "generated/asd-1")
    assert status == 0
    text = (place / "push/hearts/README.md").read_text()
    assert r"\<b\>copies\</b\> \[see\](javascript:x) \`\`\`" in text


def test_control_characters_do_not_reach_the_terminal(capsys):
    from echodiff.settings.command_line import report

    report("echodiff check", "frames/\x1b[2Ja\u202eb: wrong")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\u202e" not in err
