"""`echodiff push` as a user runs it: what is written, what goes up, what the card says."""

import json
import re
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file, save

from echodiff.files import shipped
from echodiff.frames.reader import load_frames
from echodiff.images import read_size
from echodiff.runs import Run, sha256_file

pytestmark = [
    # diffusers 0.42's sigmas hand a tensor to np.array, which numpy 2 deprecates.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
    # huggingface_hub 2.4 uploads by `data=`, which its own HTTP client deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

UNSCORED = {
    "README.md",
    "config.yaml",
    "privacy.json",
    "push.json",
    "pytorch_lora_weights.safetensors",
    "pytorch_lora_weights_kohya.safetensors",
    "run.json",
}
SCORED = UNSCORED | {"metrics.json", "sheet.png"}


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# --- The folder ---------------------------------------------------------------------------------


def test_an_unscored_run_is_a_dry_run_that_says_what_it_lacks(push, place, hub):
    (place / "runs/ours/privacy.json").unlink()
    status, out, _ = push()
    assert status == 0
    assert files_of(place / "push/hearts") == UNSCORED - {"privacy.json"}
    assert "--yes will be refused: these weights were not audited" in out
    assert "missing: scores and images: give a folder of generate.py with --generated" in out
    assert "missing: a privacy audit" in out
    assert "missing: the base model's name on the Hub" in out
    assert "nothing pushed" in out
    assert hub.requests == []
    card = (place / "push/hearts/README.md").read_text()
    assert "**Not scored**" in card
    assert "**Not audited.**" in card


def test_the_folder_holds_what_is_on_the_list_and_no_word_of_this_machine(push, place, scored):
    status, out, _ = push(*scored, "--out", "up")
    assert status == 0
    assert files_of(place / "up") == SCORED
    assert out.count("missing:") == 1  # the scores of the base alone
    texts = "".join(p.read_text() for p in (place / "up").iterdir() if p.suffix != ".png"
                    and p.suffix != ".safetensors")  # fmt: skip
    for word in (str(place), "phantom-0000", "/tmp", '"held_out"', "checkpoint_every"):
        assert word not in texts
    config = yaml.safe_load((place / "up/config.yaml").read_text())
    assert config["base"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert config["rank"] == 4
    assert not {"out", "data", "threads", "tracker"} & set(config)
    manifest = json.loads((place / "up/push.json").read_text())
    assert manifest["files"] == {
        name: sha256_file(place / "up" / name) for name in SCORED - {"push.json"}
    }
    assert Run.load(place / "up").is_finished


def test_what_lies_at_out_is_replaced_only_if_a_push_wrote_it(push, place, scored):
    assert push("--out", "up")[0] == 0
    assert push(*scored, "--out", "up")[0] == 0
    assert files_of(place / "up") == SCORED
    assert push("--out", "up")[0] == 0
    assert files_of(place / "up") == UNSCORED
    (place / "mine").mkdir()
    for out in ("up", "mine"):
        (place / out / "thesis.tex").write_text("x")
        status, _, err = push("--out", out)
        assert status == 2
        told = "holds thesis.tex, which was not written by a push or pull"
        assert err.endswith(f"--out {out}: {told}\n")
        assert (place / out / "thesis.tex").is_file()


# --- The card -----------------------------------------------------------------------------------


def test_the_card_is_rendered_from_the_run(push, place, scored, hub):
    push(*scored)
    text = (place / "push/hearts/README.md").read_text()
    card = ModelCard(text)
    assert card.data.base_model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert card.data.library_name == "diffusers"
    assert card.data.license == "creativeml-openrail-m"
    assert card.data.datasets == ["echodiff-phantom-frames"]
    assert {"echocardiography", "lora"} <= set(card.data.tags)
    scores = json.loads((place / "generated/asd-1/metrics.json").read_text())["scores"]
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
        name: score["value"] for name, score in scores.items()
    }
    for result in card.data.eval_results:
        for key in ("low", "high", "n", "n_reference", "floor"):
            assert result.metric_args.get(key) == scores[result.metric_type].get(key)
    held_out = len(Run.load(place / "runs/ours").record["held_out"])
    for said in ("Not for diagnosis", "**Weights passed: nothing was found.**",
                 "CreativeML Open RAIL-M",
                 "no medical advice and no interpretation of medical results",
                 "| 1 | ASD, four chamber view | 0, 0 |", "| 2 | LVH | 0, 1 |",
                 f"against {held_out} held-out frames", "may be shared, by its data card: **yes**",
                 "| rank | 4 |", "torch "):  # fmt: skip
        assert said in text, said
    if not huggingface_hub.__version__.startswith("1."):  # that asks huggingface.co, always
        card.validate()  # asks the hub, as its own web page would


def test_the_card_leads_with_use_limits_and_key_scores_and_folds_the_prompts(
    push, place, scored, edit
):
    prompts = place / "generated/asd-1/metadata.jsonl"
    prompts.write_text(prompts.read_text().replace("ASD, four", "</details> | ASD, four"))
    base_set = place / "generated/base-1/metadata.jsonl"
    base_set.write_text(base_set.read_text().replace("ASD, four", "</details> | ASD, four"))
    for name, value in (("asd-1", 0.43), ("base-1", 0.85)):
        metrics = json.loads((place / f"generated/{name}/metrics.json").read_text())
        share = {"value": value, "low": 0.3, "high": 0.9, "n": 8, "n_reference": 4, "real": 0.99}
        edit(place / f"generated/{name}/metrics.json", scores=metrics["scores"] | {"intact": share})
    status, out, _ = push(*scored, "--generated-base", "generated/base-1")
    assert status == 0
    assert "missing: scores of the base alone" not in out
    text = (place / "push/hearts/README.md").read_text()
    headings = re.findall(r"^## (.+)", text, re.MULTILINE)
    assert headings[:4] == ["Intended use", "Limits", "How to load", "Scores"]
    assert headings.count("Intended use") == 1
    head = text[: text.index("## How to load")]
    rows = re.findall(r"^\| (.+) \| \*\*(.+)\*\* \| (.+) \| (.+) \|$", head, re.MULTILINE)
    assert rows[0] == ("Hearts with intact anatomy", "43 %", "85 %", "99 %")
    assert rows[1][0] == "Distance, MMD² (texture)"
    assert all(re.fullmatch(r"–|−?\d+(\.\d{1,3})?", value) for value in rows[1][1:])
    assert rows[1][1] != "–" != rows[1][2]
    folded = head[head.index("<details>") : head.index("\n</details>")]
    assert r"| 1 | \</details\> \| ASD, four chamber view | 0, 0 |" in folded


def test_without_a_set_of_the_base_the_card_has_no_column_for_it(push, place, scored):
    _, out, _ = push(*scored)
    assert "missing: scores of the base alone" in out
    assert (
        "| 8 images | these weights | reference frames |"
        in (place / "push/hearts/README.md").read_text()
    )


def test_a_set_of_the_base_that_is_not_comparable_is_refused(push, place, scored, edit):
    job = place / "generated/base-1/generate.json"
    flags = (*scored, "--generated-base", "generated/base-1")
    for fields, what in (
        ({"reference": "64 phantom frames"}, "other reference"),
        ({"settings": {"steps": 3}}, "other settings"),
    ):
        kept = job.read_text()
        edit(job, **fields)
        status, _, err = push(*flags)
        assert status == 2
        assert f"--generated-base generated/base-1: has {what} than generated/asd-1" in err
        job.write_text(kept)
    status, _, err = push("--generated-base", "generated/base-1")
    assert (status, "needs --generated" in err) == (2, True)
    status, _, err = push(*scored, "--generated-base", "generated/asd-1")
    assert (status, "--generated-base generated/asd-1: was generated with other" in err) == (
        2,
        True,
    )


def test_the_card_says_at_which_scale_the_images_were_generated(push, place, scored, edit):
    job = place / "generated/asd-1/generate.json"
    settings = json.loads(job.read_text())["settings"]
    edit(job, settings=settings | {"lora_scale": 0.0, "guidance_interval": [0.25, 1], "retries": 5})
    push(*scored)
    text = (place / "push/hearts/README.md").read_text()
    assert "LoRA scale 0, guidance from 0.25 to 1 of the steps, drawn again up to 5 times" in text
    assert "\npipeline.fuse_lora(lora_scale=0)\n" in text
    assert "--weights hub:jane/hearts --lora-scale 0 --retries 5\n" in text


def test_the_code_on_the_card_runs_and_draws_what_the_run_draws(push, place, scored, hub, finished):
    import torch
    from diffusers import StableDiffusionPipeline

    assert push(*scored, "--yes")[0] == 0
    text = (place / "push/hearts/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = code.replace("stable-diffusion-v1-5/stable-diffusion-v1-5", str(finished / "base"))
    assert 'pipeline.load_lora_weights("jane/hearts"' in code
    code = code.replace(").images", ', generator=torch.manual_seed(3), output_type="np").images')
    drawn: dict = {}
    exec(code, drawn)
    pipeline = StableDiffusionPipeline.from_pretrained(str(finished / "base"), dtype=torch.float32)
    options = {"num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "np"}
    bare = pipeline("LVH", generator=torch.manual_seed(3), **options).images[0]
    pipeline.load_lora_weights(str(place / "runs/ours"),
                               weight_name="pytorch_lora_weights.safetensors")  # fmt: skip
    local = pipeline("LVH", generator=torch.manual_seed(3), **options).images[0]
    assert (drawn["image"] == local).all()
    assert (bare != local).any()


def test_the_sheet_shows_the_first_image_of_every_prompt_first(push, place, scored):
    push(*scored)
    assert read_size(place / "push/hearts/sheet.png")[1] == 4 * 260 + 4
    text = (place / "push/hearts/README.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.*) \| 0, (\d+) \|$", text, re.MULTILINE)
    assert [int(index) for _, index in rows] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_an_audit_takes_its_place_in_the_card(push, place, edit, hub):
    report = place / "runs/ours/privacy.json"
    edit(report, verdict="Weights passed: no sign of memory.")
    status, out, _ = push("--yes")
    assert status == 0
    assert "audit" not in out
    pushed = json.loads(hub.repos["model", "jane/hearts"].files["privacy.json"])
    assert pushed == json.loads(report.read_text())
    card = (place / "push/hearts/README.md").read_text()
    assert "**Weights passed: no sign of memory.** All attacks" in card
    assert "Not audited" not in card
    edit(report, weights_sha256="0" * 64)
    status, _, err = push()
    assert status == 2
    assert "is about other weights than those of the run" in err


# --- Up -----------------------------------------------------------------------------------------


def test_a_push_is_one_commit_to_a_private_repository(push, place, scored, hub):
    status, out, _ = push(*scored, "--yes")
    assert status == 0
    repo = hub.repos["model", "jane/hearts"]
    assert repo.is_private
    assert len(repo.messages) == 2
    up = place / "push/hearts"
    assert {name: (up / name).read_bytes() for name in SCORED} == {
        name: content for name, content in repo.files.items() if name != ".gitattributes"
    }
    assert out.rstrip().endswith(f"pushed: {hub.url}/jane/hearts/commit/{repo.head}")
    assert "POST /api/validate-yaml" in hub.requests

    # The same again changes nothing; another push replaces what it no longer holds.
    status, out, _ = push(*scored, "--yes")
    assert status == 0
    assert "unchanged, already pushed" in out
    assert len(repo.messages) == 2
    assert push("--yes")[0] == 0
    assert set(repo.files) == UNSCORED | {".gitattributes"}
    assert len(repo.messages) == 3


def test_public_is_public_only_when_it_was_said(push, hub):
    assert push("--yes", "--public")[0] == 0
    assert not hub.repos["model", "jane/hearts"].is_private
    status, _, err = push("--yes")
    assert status == 2
    assert "this repository is already public; --public confirms it" in err


def test_large_files_go_up_in_parts_where_the_hub_asks(push, hub, scored):
    hub.chunk_size = 5000
    assert push(*scored, "--yes")[0] == 0
    assert len(hub.puts()) > 6
    assert set(hub.repos["model", "jane/hearts"].files) > SCORED


def test_a_set_goes_up_as_a_data_set_that_datasets_opens(push, place, hub, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    status, _, _ = push("--dataset", "generated/asd-1", "--yes", repo="jane/drawn")
    assert status == 0
    frames = load_frames(place / "generated/asd-1")
    repo = hub.repos["dataset", "jane/drawn"]
    pictures = {frame.file_name for frame in frames}
    assert set(repo.files) == pictures | {
        ".gitattributes", "README.md", "metadata.jsonl", "metrics.json", "push.json", "sheet.png",
    }  # fmt: skip
    card = DatasetCard(repo.files["README.md"].decode())
    assert card.data.license == "creativeml-openrail-m"
    assert card.data.size_categories == "n<1K"
    opened = load_dataset(
        str(place / "push/drawn"), split="train", cache_dir=str(place / "datasets")
    )
    assert opened.num_rows == 8
    assert opened["text"][:2] == [frame.text for frame in frames[:2]]
    # Without RUN it is the run that the set says it was drawn with.
    assert push("--dataset", "generated/asd-1", run_dir="", repo="jane/drawn")[0] == 0


def test_ocr_stops_a_push_of_images_that_show_text(push, place, monkeypatch):
    pytest.importorskip("rapidocr", reason="needs the extra: pip install echodiff[ocr]")
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install echodiff[ocr]")
    flags = ("--dataset", "generated/asd-1", "--ocr")
    frames = load_frames(place / "generated/asd-1")
    for frame in frames[4:]:  # each is looked at for a third of a second, twice
        (place / "generated/asd-1" / frame.file_name).unlink()
    frames = frames[:4]
    rows = "".join(json.dumps(frame.to_row()) + "\n" for frame in frames)
    (place / "generated/asd-1/metadata.jsonl").write_text(rows)
    for frame in frames:  # what random weights draw may look like letters
        Image.new("L", (240, 160), 30).save(place / "generated/asd-1" / frame.file_name)
    assert push(*flags, repo="jane/drawn")[0] == 0
    shutil.rmtree(place / "push/drawn")
    image = Image.new("L", (240, 160), 30)
    ImageDraw.Draw(image).text((20, 60), "PETROVA 1961", fill=240, font=ImageFont.load_default(22))
    picture = frames[3].file_name
    image.save(place / "generated/asd-1" / picture)
    monkeypatch.setattr("echodiff.hub.push.find_text", lambda image_u8: [])
    status, out, _ = push(*flags, repo="jane/drawn")
    assert status == 1
    assert re.search(rf"stopped: {picture}: shows text at x .* \(--ocr\)", out)
    assert "PETROVA" not in out
    assert not (place / "push/drawn").exists()


def test_images_of_the_bare_base_answer_for_the_base_alone(push, place, edit):
    edit(place / "generated/asd-1/generate.json", weights="none")
    status, out, _ = push(*("--dataset", "generated/asd-1"), run_dir="", repo="jane/bare")
    assert status == 0
    assert "audit" not in out
    card = (place / "push/bare/README.md").read_text()
    assert "the bare base" in card
    assert "no frame of a patient was trained on here" in card
    edit(place / "generated/asd-1/generate.json", base="someone/something")
    assert push(*("--dataset", "generated/asd-1"), run_dir="", repo="jane/bare")[0] == 1


def test_the_demo_s_base_needs_no_name(push, place, edit):
    edit(place / "runs/ours/run.json", base="tiny")
    status, out, _ = push()
    assert status == 0
    assert "base model's name" not in out
    card = (place / "push/hearts/README.md").read_text()
    assert 'from_pretrained(str(shipped("assets/tiny")), dtype=torch.float32)' in card
    assert shipped("assets/tiny").is_dir()
    head = ModelCard(card).data
    assert head.license == "apache-2.0"
    assert head.base_model is None


# --- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        ("../../etc/passwd", "expected USER/NAME"),
        ("jane/a/b", "expected USER/NAME"),
        ("hearts", "missing user name; expected USER/NAME"),
        ("jane/he arts", "expected USER/NAME"),
        ("jane/..", "expected USER/NAME"),
        ("jane/hearts@main", "expected USER/NAME"),
    ],
)
def test_a_name_that_is_none_is_refused(push, place, hub, repo, said):
    status, _, err = push("--yes", repo=repo)
    assert status == 2
    assert err.startswith("error: --repo ")
    assert said in err
    assert err.count("\n") == 1
    assert hub.requests == []
    assert not (place / "push").exists()


def unfinished(place, edit):
    edit(place / "runs/ours/run.json", status="running")
    return "the run is running, not finished"


def without_weights(place, edit):
    (place / "runs/ours/pytorch_lora_weights.safetensors").unlink()
    return "holds no pytorch_lora_weights.safetensors"


def other_weights(place, edit):
    path = place / "runs/ours/pytorch_lora_weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    return "is not what the training wrote (its SHA-256 differs)"


def other_kohya(place, edit):
    path = place / "runs/ours/pytorch_lora_weights_kohya.safetensors"
    shutil.copy(place / "runs/ours/checkpoints/step-000001/tensors.safetensors", path)
    return "does not hold the weights of pytorch_lora_weights.safetensors"


def stronger_kohya(place, edit):
    """What the audit measured is the other file, at its own alpha."""
    path = place / "runs/ours/pytorch_lora_weights_kohya.safetensors"
    tensors = load_file(path)
    path.write_bytes(save({k: v * 9 if k.endswith("alpha") else v for k, v in tensors.items()}))
    return "does not hold the weights of pytorch_lora_weights.safetensors"


def exchanged_kohya(place, edit):
    path = place / "runs/ours/pytorch_lora_weights_kohya.safetensors"
    tensors = load_file(path)
    first, second = sorted(name for name in tensors if name.endswith("to_q.lora_up.weight"))[:2]
    path.write_bytes(save(tensors | {first: tensors[second], second: tensors[first]}))
    return "does not hold the weights of pytorch_lora_weights.safetensors"


def scored_before(place, edit):
    edit(place / "generated/asd-1/generate.json", weights_sha256="0" * 64)
    return "was generated with other weights (000000000000)"


def half_drawn(place, edit):
    edit(place / "generated/asd-1/generate.json", finished=False)
    return "is unfinished: run the same generate.py command again"


def gan_run(place, edit):
    edit(place / "runs/ours/run.json", command="train_gan")
    return "is a run of train_gan; push takes runs of train_lora.py"


def too_large(place, edit):
    path = place / "runs/ours/pytorch_lora_weights.safetensors"
    with path.open("r+b") as file:
        file.truncate(6_000_000_000)
    return "6.0 GB, above the limit of 5 GB per file"


def link_out(place, edit):
    (place / "runs/ours/samples").mkdir(exist_ok=True)
    (place / "runs/ours/samples/home").symlink_to(place)
    return "is a link that leads out of runs/ours"


def frames_gone(place, edit):
    shutil.rmtree(place / "runs/ours/frames")
    return "give their folder with --data"


def no_run(place, edit):
    shutil.rmtree(place / "runs/ours")
    return "runs/ours: no such folder"


@pytest.mark.parametrize(
    "spoil",
    [unfinished, without_weights, other_weights, other_kohya, stronger_kohya,
     exchanged_kohya, scored_before, half_drawn, gan_run,
     too_large, link_out, frames_gone, no_run],
)  # fmt: skip
def test_a_run_that_cannot_go_up_is_one_line(push, place, hub, edit, scored, spoil):
    said = spoil(place, edit)
    status, _, err = push(*scored, "--yes")
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert hub.requests == []
    assert not list(place.glob("push/**/*"))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("license: [1, 2]", "license: expected text, got [1, 2]"),
        ("tags: {a: b}", "tags: expected a list of words"),
        ("pretty_name: 7", "pretty_name: expected text, got 7"),
        ("echodiff_weights_may_be_shared: perhaps", "expected yes, no or ask, got 'perhaps'"),
    ],
)
def test_a_data_card_with_a_broken_field_is_named(push, with_card, field, said):
    data = with_card(f"---\nlicense: mit\n{field}\n---\nText.\n".replace(
        "license: mit\nlicense", "license"))  # fmt: skip
    status, _, err = push()
    assert status == 2
    assert str(data / "README.md") in err
    assert said in err


def test_flags_that_say_nothing_are_refused(push, place, scored):
    for flags, said in (
        (("--accept", " "), "--accept: needs a reason"),
        ((*scored, "--dataset", "generated/asd-1"), "--generated and --dataset exclude each other"),
        (("--base-model", "/models/sd15"), "is not an id of the Hub"),
        (("--generated", "runs/ours"), "--generated runs/ours"),
    ):
        status, _, err = push(*flags)
        assert status == 2
        assert said in err
    status, _, err = push(run_dir="")
    assert status == 2
    assert "missing: RUN" in err


def test_moved_frames_are_found_by_data(push, place):
    shutil.move(place / "runs/ours/frames", place / "elsewhere")
    shutil.copy(shipped("data_cards/phantom.md"), place / "elsewhere/README.md")
    assert push("--data", "elsewhere")[0] == 0
    assert Path("push/hearts").is_dir()


def test_the_card_states_a_guarantee_of_privacy_and_none_where_the_noise_is_public(
    push, place, edit
):
    spent = {"epsilon": 7.94, "delta": 1e-5, "num_patients": 40, "num_steps": 880, "clip": 1e-4,
             "sample_rate": 0.2, "noise_multiplier": 2.451, "accountant": "prv", "unit": "patient",
             "noise": "secret", "num_parameters": 795_648}  # fmt: skip
    card = place / "push/hearts/README.md"
    edit(place / "runs/ours/run.json", differential_privacy=spent)
    assert push()[0] == 0
    assert "(epsilon, delta) = (7.94, 1e-05) for each of 40 patients" in card.read_text()
    assert Run.load(place / "push/hearts").record["differential_privacy"] == spent
    edit(place / "runs/ours/run.json", differential_privacy=spent | {"noise": "seeded"})
    assert push()[0] == 0
    assert "**No guarantee.**" in card.read_text()
    assert "(epsilon, delta)" not in card.read_text()
