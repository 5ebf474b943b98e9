"""Sources whose images a run draws for the study: a LoRA, and a GAN."""

import json
from pathlib import Path

import pytest

from echodiff.__main__ import main
from echodiff.errors import InputError
from echodiff.frames.reader import load_frames
from echodiff.runs import Run
from echodiff.study.init_config import StudyInitConfig
from echodiff.study.plan import load_plan
from echodiff.study.sampling import _ask_generation, _prompts, choose_inputs

SMALL = ["--images", "3", "--shared", "1", "--repeats", "0", "--readers", "2", "--pool", "4",
         "--practice", "1", "--size", "56"]  # fmt: skip


@pytest.fixture
def run_init(tmp_path, fresh_accelerate):
    def run(*flags):
        fresh_accelerate()
        return main(["study", "init", str(tmp_path / "study"), *map(str, flags), *SMALL])

    return run


@pytest.mark.slow
# Diffusers' solver hands a tensor to numpy.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_lora_draws_for_the_captions_of_the_real_frames(
    run_init, train_lora, write_fans, tmp_path, capsys
):
    real = write_fans(tmp_path / "real", 8, seed=1, size=64)
    trained = write_fans(tmp_path / "trained", 6, seed=2, size=64)
    run = tmp_path / "lora"
    train_lora("--data", trained, "--resolution", 64, "--max-steps", 1, "--out", run)
    flags = [f"--source=real={real}", f"--source=sd=run:{run}", "--steps", 2, "--batch-size", 4]
    assert run_init(*flags) == 0
    plan = load_plan(tmp_path / "study")
    origins = [image.origin for image in plan.images if image.source == "sd"]
    assert len(origins) == 5
    assert all(origin.startswith("drawn/sd/frames/images/") for origin in origins)
    captions = {frame.text for frame in load_frames(real)}
    drawn = load_frames(tmp_path / "study" / "drawn" / "sd" / "frames")
    assert {frame.prompt for frame in drawn} <= captions
    # The same images serve another study of the same run.
    capsys.readouterr()
    assert run_init(*flags, "--overwrite", "--title", "Another") == 0
    assert "sd: drawn before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_gan_translates_frames_that_its_training_has_not_seen(
    run_init, write_fans, tmp_path, capsys, fresh_accelerate
):
    real = write_fans(tmp_path / "real", 8, seed=1, size=64)
    split = ["train"] * 4 + ["test"] * 6
    source = write_fans(tmp_path / "source", 10, seed=2, size=64, split=split)
    target = write_fans(tmp_path / "target", 10, seed=3, size=64, split=split,
                        patient="p2-{index}")  # fmt: skip
    run = tmp_path / "gan"
    toy = ["--method", "cyclegan", "--generator", "resnet_6", "--width", 2, "--resolution", 64,
           "--load-size", 64, "--pool-size", 3, "--steps", 1, "--threads", 1]  # fmt: skip
    fresh_accelerate()
    words = ["train-gan", "--source", source, "--target", target, *toy, "--out", run]
    assert main([*map(str, words)]) == 0
    sources = [f"--source=real={real}", f"--source=gan=run:{run}"]
    capsys.readouterr()
    assert run_init(*sources) == 2
    assert "--gan-input: gan is a run of train-gan" in capsys.readouterr().err
    assert run_init(*sources, "--gan-input", source) == 0
    chosen = choose_inputs(Run.load(run), "gan", source, 6, 0)
    assert {Path(frame.file_name).stem for frame in chosen} == {f"{i:04d}" for i in range(4, 10)}
    drawn = tmp_path / "study" / "drawn" / "gan"
    assert {f.split for f in load_frames(drawn / "frames")} == {"test"}
    record = json.loads((drawn / "request.json").read_text("utf-8"))
    assert record["input"] == str(source)


def test_prompts_of_another_encoding_are_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    config = StudyInitConfig(
        study=tmp_path, source=("real=a", "sd=run:b"), prompt_file=path
    )  # fmt: skip
    path.write_text("heart\n", "utf-8-sig")
    assert _prompts(config) == ["heart"]
    path.write_bytes("сердце".encode("cp1251"))
    with pytest.raises(InputError, match=r"--prompt-file .*prompts.txt: is not UTF-8 text"):
        _prompts(config)


def test_retries_are_handed_on_and_an_old_request_stays_the_same(write_fans, tmp_path):
    real = write_fans(tmp_path / "real", 8, seed=1, size=64)
    run = Run.create(tmp_path / "run", command="train_lora", config={})
    run.finish(weights_sha256="0" * 64)
    for retries, told in ((0, []), (3, ["--retries", "3"])):
        config = StudyInitConfig(
            study=tmp_path / "study", source=(f"real={real}", f"sd=run:{run.run_dir}"),
            retries=retries,
        )  # fmt: skip
        flags = _ask_generation(config, "sd", run, 4).record["flags"]
        assert [word for word in flags if word in ("--retries", "3")] == told
