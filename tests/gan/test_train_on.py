"""Training on: a finished translation to more steps, networks from another one, what is refused."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from echodiff.runs import Run

NETWORKS = {"cyclegan": ["D_A", "D_B", "G_A", "G_B"], "cut": ["D", "F", "G"],
            "patch_cgan": ["D", "G"], "regression": ["G"], "srgan": ["D", "G"]}  # fmt: skip


def flags_of(method, toy_flags, domains):
    folders = domains[:2] if method in {"patch_cgan", "srgan"} else domains
    return [*folders, *toy_flags[method], "--method", method, "--checkpoint-every", 2]


@pytest.mark.parametrize("method", NETWORKS)
def test_2_then_4_steps_are_4_at_once(echodiff, toy_flags, domains, tmp_path, method):
    flags = [*flags_of(method, toy_flags, domains), "--log-every", 3, "--decay-epochs", 0]
    once, on = tmp_path / "once", tmp_path / "on"
    assert echodiff("train-gan", *flags, "--out", once, "--steps", 4) == 0
    assert echodiff("train-gan", *flags, "--out", on, "--steps", 2) == 0
    assert [row["step"] for row in Run.load(on).read_metrics()] == [2]
    assert echodiff("train-gan", *flags, "--out", on, "--steps", 4, "--continue") == 0
    for name in ["metrics.jsonl", *(f"{net}.safetensors" for net in NETWORKS[method])]:
        assert (once / name).read_bytes() == (on / name).read_bytes(), name
    assert [row["step"] for row in Run.load(on).read_metrics()] == [3, 4]
    assert Run.load(on).is_finished
    told = (on / "config.yaml").read_text()
    assert "steps: 4\n" in told
    assert "continue_: false" in told


def test_more_epochs_too(echodiff, toy_flags, domains, tmp_path):
    flags = [*flags_of("regression", toy_flags, domains), "--decay-epochs", 0]
    assert echodiff("train-gan", *flags, "--out", tmp_path / "once", "--epochs", 2) == 0
    on = ["train-gan", *flags, "--out", tmp_path / "on"]
    assert echodiff(*on, "--epochs", 1) == 0
    assert echodiff(*on, "--epochs", 2, "--continue") == 0
    for name in ("G.safetensors", "metrics.jsonl"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "on" / name).read_bytes()


def test_what_cannot_be_trained_on_exactly_is_refused_and_stays_finished(
    echodiff, refusal, toy_flags, domains, tmp_path
):
    """The rate falls over the steps that were asked for: others would have had other rates."""
    out = tmp_path / "run"
    flags = ["train-gan", *flags_of("regression", toy_flags, domains), "--out", out]
    assert echodiff(*flags, "--steps", 2) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    line = refusal(*flags, "--steps", 4, "--continue")
    assert "--continue: in a run of 4 steps, the first 2" in line
    assert "have other learning rates" in line
    assert "has 2 steps, 2 are asked for" in refusal(*flags, "--steps", 2, "--continue")
    # The same number of steps, but at other rates.
    assert "has 2 steps, 2 are" in refusal(*flags, "--steps", 2, "--epochs", 9, "--continue")
    assert "--width (2 there, 3 here)" in refusal(*flags, "--steps", 4, "--width", 3, "--continue")
    assert "--steps (2 there, 4 here)" in refusal(*flags, "--steps", 4)
    line = refusal(*flags, "--steps", 4, "--continue", "--overwrite")
    assert "--continue: takes the run of --out, and not together with --overwrite" in line
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    record = out / "run.json"
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in before if path != record)
    assert Run.load(out).is_finished


@pytest.mark.parametrize("method", NETWORKS)
def test_every_network_is_started_from_those_of_a_run(
    echodiff, toy_flags, domains, tmp_path, method
):
    flags = flags_of(method, toy_flags, domains)
    first, second = tmp_path / "first", tmp_path / "second"
    assert echodiff("train-gan", *flags, "--out", first, "--steps", 2) == 0
    # Steps of next to no size: what is saved is what was started from.
    still = ["--learning-rate", 1e-12, "--seed", 5, "--steps", 1]
    assert echodiff("train-gan", *flags, *still, "--init-from", first, "--out", second) == 0
    for net in NETWORKS[method]:
        trained, started = (load_file(run / f"{net}.safetensors") for run in (first, second))
        for key, values in trained.items():
            if "running_" not in key and "num_batches" not in key:  # statistics of batch norms
                torch.testing.assert_close(started[key], values, rtol=0, atol=1e-7)
    assert Run.load(second).record["init_sha256"]


def test_a_generator_file_starts_the_generator_alone(
    echodiff, refusal, toy_flags, domains, tmp_path
):
    flags = ["train-gan", *flags_of("cyclegan", toy_flags, domains), "--learning-rate", 1e-12]
    for seed in (1, 2):
        assert echodiff(*flags, "--out", tmp_path / str(seed), "--steps", 1, "--seed", seed) == 0
    file = tmp_path / "1" / "G_A.safetensors"
    start = [*flags, "--steps", 1, "--seed", 2, "--init-from", file]
    assert echodiff(*start, "--out", tmp_path / "on") == 0
    for net, origin in (("G_A", "1"), ("G_B", "2"), ("D_A", "2")):
        expected = load_file(tmp_path / origin / f"{net}.safetensors")
        for key, values in load_file(tmp_path / "on" / f"{net}.safetensors").items():
            torch.testing.assert_close(values, expected[key], rtol=0, atol=1e-7)
    # A published .pth holds the same weights without a word of what they are.
    torch.save(load_file(file), tmp_path / "published.pth")
    start[-1] = tmp_path / "published.pth"
    assert echodiff(*start, "--out", tmp_path / "published") == 0
    weights = [(tmp_path / run / "G_A.safetensors").read_bytes() for run in ("on", "published")]
    assert weights[0] == weights[1]


def test_weights_that_do_not_fit_are_one_line_and_leave_nothing(
    echodiff, refusal, toy_flags, domains, tmp_path
):
    first, out = tmp_path / "first", tmp_path / "run"
    flags = ["train-gan", *flags_of("regression", toy_flags, domains), "--steps", 1]
    assert echodiff(*flags, "--out", first) == 0
    new = [*flags, "--out", out, "--init-from", first]
    assert "give its --generator, --norm, --width and --channels" in refusal(*new, "--width", 3)
    cyclegan = ["train-gan", *flags_of("cyclegan", toy_flags, domains), *new[-4:]]
    assert "has the networks G, here they are D_A, D_B, G_A, G_B" in refusal(*cyclegan)
    state = load_file(first / "G.safetensors")
    state[next(iter(state))][:] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    for weights, said in (
        ("nowhere", "--init-from nowhere: no such file"),
        (domains[1], "is no run folder"),
        (tmp_path / "nan.safetensors", "--init-from"),
    ):
        assert said in refusal(*flags, "--out", out, "--init-from", weights)
    shutil.copytree(first, tmp_path / "stopped")
    Run.load(tmp_path / "stopped").update(status="running")
    start = ["--init-from", tmp_path / "stopped"]
    assert "the run is not finished" in refusal(*flags, "--out", out, *start)
    assert not out.exists()


def test_what_the_networks_started_from_have_seen_is_no_reference(
    echodiff, toy_flags, domains, write_domain, tmp_path
):
    flags = [*toy_flags["regression"], "--method", "regression", "--steps", 1]
    first, second = tmp_path / "first", tmp_path / "second"
    assert echodiff("train-gan", *domains, *flags, "--out", first) == 0
    others = []
    for flag, stripes in (("--source", 5), ("--target", 7)):
        folder = write_domain(tmp_path / flag[2:], stripes=stripes)
        path = folder / "metadata.jsonl"
        rows = path.read_text().replace('"patient_id": "', '"patient_id": "z')
        path.write_text(rows.replace("pair-", "other-"))
        others += [flag, folder]
    assert echodiff("train-gan", *others, *flags, "--out", second, "--init-from", first) == 0
    seen = [Run.load(run).record["trained_on"] for run in (first, second)]
    assert set(seen[0]["patients"]) < set(seen[1]["patients"])
    assert set(seen[0]["pixels"]) < set(seen[1]["pixels"])


def test_config_says_which_precision_auto_came_to(echodiff, toy_flags, domains, tmp_path):
    flags = [*flags_of("regression", toy_flags, domains), "--steps", 1]
    out = tmp_path / "run"
    auto = ["--mixed-precision", "auto"]
    assert echodiff("train-gan", *flags, *auto, "--out", out) == 0
    assert 'mixed_precision: "auto"  # resolved: no\n' in (out / "config.yaml").read_text()
    assert echodiff("train-gan", *flags, "--out", tmp_path / "asked") == 0
    assert 'mixed_precision: "no"\n' in (tmp_path / "asked" / "config.yaml").read_text()
    # Repeated by its file it is the same run.
    again = ["--config", out / "config.yaml", "--out", tmp_path / "again"]
    assert echodiff("train-gan", *again) == 0
    weights = [(folder / "G.safetensors").read_bytes() for folder in (out, tmp_path / "again")]
    assert weights[0] == weights[1]
