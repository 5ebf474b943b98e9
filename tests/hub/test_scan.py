"""What must stay at home stops a push, wherever it was planted; what is harmless does not."""

import io
import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.hub.scan import Known, _identifying_keywords, scan_folder
from echodiff.images import read_gray_u8, write_image
from echodiff.published import MODEL_FILES

TOKEN = "hf_" + "aB3dE5fG7h" * 3


def config_says(value):
    def plant(place, edit):
        path = place / "runs/ours/config.yaml"
        lines = [line for line in path.read_text().splitlines() if "phantom_style" not in line]
        path.write_text("\n".join([*lines, f"phantom_style: {json.dumps(value)}"]) + "\n")

    return plant


def metrics_say(**fields):
    def plant(place, edit):
        path = place / "generated/asd-1/metrics.json"
        scores = json.loads(path.read_text())["scores"]
        name = next(iter(scores))
        scores[name] |= fields
        edit(path, scores=scores)

    return plant


def record_says(value):
    def plant(place, edit):
        path = place / "runs/ours/run.json"
        versions = json.loads(path.read_text())["versions"]
        edit(path, versions=versions | {"torch": value})

    return plant


def alarms_say(text):
    return lambda place, edit: edit(place / "generated/asd-1/metrics.json", alarms=[text])


def training_image(place, edit):
    """The pixels of a training frame in another file: compressed anew."""
    frame = load_frames(place / "runs/ours/frames")[0]
    image = Image.open(place / "runs/ours/frames" / frame.file_name)
    image.save(place / "generated/asd-1/images/000003.png", compress_level=1)


def training_image_in_colour(place, edit):
    frame = load_frames(place / "runs/ours/frames")[-1]
    image = Image.open(place / "runs/ours/frames" / frame.file_name).convert("RGB")
    image.save(place / "generated/asd-1/images/000003.png")


def training_image_changed(place, edit):
    """Larger, and through JPEG on its way."""
    frame = load_frames(place / "runs/ours/frames")[0]
    image = Image.open(place / "runs/ours/frames" / frame.file_name).convert("L")
    jpeg = io.BytesIO()
    image.resize((64, 64), Image.Resampling.BICUBIC).save(jpeg, "JPEG", quality=80)
    Image.open(jpeg).save(place / "generated/asd-1/images/000003.png")


PLANTED = {
    "token in the config": (config_says(TOKEN), "config.yaml: holds a Hugging Face token"),
    "token in the record": (record_says(TOKEN), "run.json: holds a Hugging Face token"),
    "path in the record": (record_says("/opt/conda/lib"), "a path or an address, '/opt/conda/lib'"),
    "path in an alarm": (alarms_say("see C:\\Users\\jane\\x"), "holds a path or an address"),
    "tag by its name": (alarms_say("PatientName unknown"), "holds the DICOM tag PatientName"),
    "tag as a key": (metrics_say(PatientBirthDate=""), "holds the DICOM tag PatientBirthDate"),
    "name of a person": (alarms_say("DOE^JANE"), "holds 'DOE^JANE', possibly the name of a person"),
    "training image": (training_image, "images/000003.png: is a training image, pixel by pixel"),
    "in colour": (training_image_in_colour, "is a training image, pixel by pixel"),
    "nearly": (training_image_changed, "images/000003.png: is nearly a training image"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_stops_the_push(push, place, hub, edit, scored, name):
    plant, said = PLANTED[name]
    plant(place, edit)
    status, out, _ = push(*scored, "--yes")
    assert status == 1
    assert said in out
    assert TOKEN not in out
    assert out.endswith("nothing written, nothing pushed\n")
    assert hub.requests == []
    assert not list(place.glob("push/**/*"))


def test_the_token_in_use_stops_it_whatever_it_looks_like(push, place, edit, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "opensesame")
    alarms_say("opensesame")(place, edit)
    status, out, _ = push("--generated", "generated/asd-1")
    assert status == 1
    assert "metrics.json: holds the token of this machine" in out
    assert "opensesame" not in out


def test_patients_and_files_of_the_training_are_not_named(push, place, edit, with_card):
    data = with_card(shipped("data_cards/phantom.md").read_text())
    frames = load_frames(data)
    rows = [frame.to_row() | {"patient_id": f"krd{i:04d}"} for i, frame in enumerate(frames)]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert push("--data", "frames")[0] == 0
    for word in ("krd0003", "phantom-000004"):
        alarms_say(f"look at {word} again")(place, edit)
        status, out, _ = push("--generated", "generated/asd-1", "--data", "frames")
        assert status == 1
        assert f"names a patient or a file of the training, {word!r}" in out


def test_a_data_set_is_searched_picture_by_picture(push, place, edit):
    training_image(place, edit)
    status, out, _ = push("--dataset", "generated/asd-1")
    assert status == 1
    assert "images/000003.png: is a training image" in out
    pixels = read_gray_u8(place / "generated/asd-1/images/000002.png")
    write_image(place / "generated/asd-1/images/000003.png", pixels)
    assert push("--dataset", "generated/asd-1")[0] == 0
    info = PngInfo()
    info.add_text("PatientName", "DOE^JANE")
    Image.fromarray(pixels).save(place / "generated/asd-1/images/000003.png", pnginfo=info)
    assert push("--dataset", "generated/asd-1")[0] == 0
    assert b"DOE" not in (place / "push/hearts/images/000003.png").read_bytes()


# --- Files that no command of ours would write ----------------------------------------------------


def found_in(folder):
    return {(name, message) for name, message in scan_folder(folder, MODEL_FILES, Known())}


def test_files_that_are_not_on_the_list_are_found(tmp_path):
    for name in ("optimizer.bin", "logs/events.out", "checkpoints/step-000001/state.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "README.md").symlink_to("/etc/passwd")
    found = found_in(tmp_path)
    assert ("README.md", "is a link") in found
    assert {name for name, message in found if "not one of the files" in message} == {
        "optimizer.bin", "logs/events.out", "checkpoints/step-000001/state.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": "AKIAABCDEFGHIJKLMNOP"}, "holds an AWS key (at a)"),
        ({"a": "ghp_" + "a1B2c3D4e5" * 4}, "holds a GitHub token (at a)"),
        ({"a": "https://jane:secret@hub.example/x"}, "holds a password in an address (at a)"),
        ({"a": "-----BEGIN RSA PRIVATE KEY-----"}, "holds a private key (at a)"),
        ({"a": "from ~/.cache/x"}, "holds a path or an address, '~/.cache/x' (at a)"),
        ({"a": "file:///srv/x"}, "holds a path or an address, 'file:///srv/x' (at a)"),
        ({"a": "(0010,0020) was 7"}, "holds the DICOM tag (0010,0020) (at a)"),
        ({"00100010": {"vr": "PN"}}, "holds the DICOM tag 00100010 (at 00100010)"),
        ({"a": "1.2.276.0.7230010.3.1.4.8323329"}, "possibly the uid of a person (at a)"),
        ({"a": "seen 1961-03-04"}, "holds '1961-03-04', possibly the date of a person (at a)"),
        ({"patient_name": "x"}, "has a field that identifies people or devices (at patient_name)"),
    ],
)
def test_forms_are_known_wherever_they_stand(tmp_path, value, said):
    (tmp_path / "metrics.json").write_text(json.dumps(value))
    assert any(message.endswith(said) for _, message in found_in(tmp_path))


def test_bytes_behind_a_picture_or_a_tensor_are_found(tmp_path, finished):
    weights = "pytorch_lora_weights.safetensors"
    data = (finished / "runs/ours" / weights).read_bytes()
    write_image(tmp_path / "sheet.png", np.zeros((8, 8), np.uint8))
    (tmp_path / weights).write_bytes(data)
    assert found_in(tmp_path) == set()
    (tmp_path / weights).write_bytes(data + b"hidden")
    with (tmp_path / "sheet.png").open("ab") as file:
        file.write(b"hidden")
    messages = {message for _, message in found_in(tmp_path)}
    assert messages == {
        "has an unexpected form (it holds bytes outside its tensors)",
        "has an unexpected form (it carries more than pixels: 6 bytes after the image)",
    }
    (tmp_path / weights).write_bytes(data.replace(b'"format"', b'"/h/me/x"'))
    (tmp_path / "sheet.png").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 20)
    messages = {message for _, message in found_in(tmp_path)}
    assert "is a DICOM file" in messages


def test_a_token_in_the_header_of_the_weights_is_found(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "pytorch_lora_weights.safetensors"
    name = "unet.mid_block.to_q.lora_A.weight"
    save_file({name: np.zeros((2, 2), np.float32)}, path, {"by": TOKEN, "at": "/home/jane/run"})
    messages = {message for _, message in found_in(tmp_path)}
    assert messages == {
        "holds a Hugging Face token (at metadata.by)",
        "holds a path or an address, '/home/jane/run' (at metadata.at)",
    }  # fmt: skip


@pytest.mark.parametrize(
    "card", sorted(shipped("data_cards").glob("*.md")), ids=lambda card: card.stem
)
def test_no_shipped_data_card_stops_a_push(tmp_path, card):
    shutil.copy(card, tmp_path / "README.md")
    assert found_in(tmp_path) == set()


@pytest.mark.parametrize(
    "text",
    [
        "and/or, 4/5, https://huggingface.co/a/b/c and doi:10.1038/s41586-020-2145-8",
        "SHA-256 51dc40fab677fab8b14e45f40928a31034403effbc04689c54bfebf7e742f70c",
        "SHA-256 `123456789012`, the base SHA-256 739436794712",
        "Stable Diffusion, AutoencoderKL, StableDiffusionPipeline, CLIPTextModel",
        "learning rate 0.0022, 15,385,379 of 1.000.000; versions 2.14.1, seed 0",
        "`pipeline.load_lora_weights(\"jane/hearts\")`, docs/phantom.md, runs/hearts",
    ],
)  # fmt: skip
def test_what_a_card_says_of_itself_is_no_secret(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert found_in(tmp_path) == set()


def test_a_seed_may_look_like_a_date(push, place):
    path = place / "runs/ours/config.yaml"
    config = yaml.safe_load(path.read_text()) | {"seed": 20210304}
    path.write_text(yaml.safe_dump(config))
    assert push()[0] == 0


def test_the_shipped_keywords_are_all_that_pydicom_knows():
    from pydicom.datadict import DicomDictionary
    from pydicom.tag import Tag

    from echodiff.data.dicom.identifiers import is_identifying

    known = {
        keyword
        for number, (vr, _, _, _, keyword) in DicomDictionary.items()
        if keyword and is_identifying(Tag(number), vr, keyword, "")
    }
    assert len(known) > 1800
    assert known <= _identifying_keywords()
