"""The real `echodiff train-gan` at toy size: its files, its numbers, its resume, its refusals."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from echodiff.frames.reader import load_frames
from echodiff.gan.dataset import load_set
from echodiff.gan.gan_config import TrainGanConfig
from echodiff.gan.methods.cyclegan import CycleGan
from echodiff.gan.order import Order
from echodiff.gan.rates import rate_epoch, rate_factor
from echodiff.gan.trainer import TranslationTrainer, build_order
from echodiff.gan.translate import TranslateConfig
from echodiff.images import read_size
from echodiff.runs import Run, sha256_file
from echodiff.settings.command_line import parse
from echodiff.settings.fields import preset_names
from echodiff.training.streams import Stream, build_stream

TOY = ["--width", "2", "--resolution", "32", "--load-size", "36", "--pool-size", "3"]
SMALL = {"cyclegan": [*TOY, "--generator", "resnet_6"], "regression": [*TOY, "--generator", "cnn"],
         "cut": [*TOY, "--generator", "resnet_6_antialiased"]}  # fmt: skip
NETWORKS = {"cyclegan": ["D_A", "D_B", "G_A", "G_B"], "cut": ["D", "F", "G"],
            "patch_cgan": ["D", "G"], "regression": ["G"], "srgan": ["D", "G"]}  # fmt: skip
LOSSES = {
    "cyclegan": {"G_A", "G_B", "cycle_A", "cycle_B", "identity_A", "identity_B", "D_A", "D_B"},
    "cut": {"D", "G", "NCE", "NCE_identity"},
    "patch_cgan": {"G", "D_real", "D_fake", "reconstruction"},
    "regression": {"reconstruction"},
    "srgan": {"G", "D_real", "D_fake", "reconstruction"},
}


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def config_of(*words):
    return parse(TrainGanConfig, list(map(str, words)), prog="test")


# --- the run folder


def test_run_folder_has_exactly_these_files(echodiff, domains, tmp_path, capsys):
    out = tmp_path / "run"
    flags = [*SMALL["cyclegan"], "--steps", 6, "--checkpoint-every", 2, "--log-every", 2,
             "--sample-every", 3, "--checkpoint-epochs", 0]  # fmt: skip
    assert echodiff("train-gan", *domains, "--out", out, *flags) == 0
    assert files(out) == {
        "config.yaml", "run.json", "metrics.jsonl",
        *(f"{name}.safetensors" for name in NETWORKS["cyclegan"]),
        "samples/step-000003.png", "samples/step-000006.png", "samples/losses.svg",
        *(f"checkpoints/step-00000{step}/{file}" for step in (4, 6)
          for file in ("tensors.safetensors", "state.json")),
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "6 to 7 frames, 0 and 0 held out, at 32 pixels; float32" in printed
    assert "G_A.safetensors goes from source to target" in printed
    rows = Run.load(out).read_metrics()
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert set(rows[0]) == {"step", "learning_rate"} | LOSSES["cyclegan"]
    record = Run.load(out).record
    assert record["status"] == "finished"
    assert record["weights_sha256"] == sha256_file(out / "G_A.safetensors")
    assert len(record["train_source"]) == 6
    # Four columns of source, translated, reconstructed, reference, over a line of text.
    sheet = np.asarray(Image.open(out / "samples" / "step-000006.png"))
    assert sheet.ndim == 2
    assert sheet.shape[1] == 4 * 132 + 4
    assert sheet.shape[0] > 4 * 132


@pytest.mark.parametrize(("keep", "kept"), [("1", 1), ("all", 5)])
def test_keep_says_how_many_checkpoints_stay(echodiff, domains, tmp_path, keep, kept):
    out = tmp_path / "run"
    flags = [*SMALL["regression"], "--method", "regression", "--steps", 5]
    flags += ["--checkpoint-every", 1, "--keep", keep]
    assert echodiff("train-gan", *domains, "--out", out, *flags) == 0
    assert len(list((out / "checkpoints").iterdir())) == kept


def test_checkpoints_by_epochs(echodiff, domains, tmp_path):
    out = tmp_path / "run"
    flags = [*SMALL["regression"], "--method", "regression", "--epochs", 3, "--decay-epochs", 1]
    flags += ["--checkpoint-epochs", 2, "--keep", "all"]
    assert echodiff("train-gan", *domains, "--out", out, *flags) == 0
    # The larger domain has 7 pictures: 28 steps, and 14 to two epochs.
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-000014", "step-000028"]


def test_config_in_the_run_folder_gives_the_same_run(echodiff, domains, tmp_path):
    flags = [*SMALL["cut"], "--method", "cut", "--steps", 2]
    assert echodiff("train-gan", *domains, "--out", tmp_path / "a", *flags) == 0
    again = ["--config", tmp_path / "a" / "config.yaml", "--out", tmp_path / "b"]
    assert echodiff("train-gan", *again) == 0
    for name in NETWORKS["cut"]:
        one, other = (tmp_path / run / f"{name}.safetensors" for run in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()


# --- killed and resumed


class KilledError(Exception):
    pass


@pytest.mark.parametrize("method", ["cyclegan", "cut", "patch_cgan", "regression"])
def test_killed_and_resumed_is_not_killed(echodiff, domains, tmp_path, monkeypatch, capsys, method):
    flags = [*domains, *SMALL.get(method, []), "--method", method, "--steps", 7,
             "--checkpoint-every", 3, "--log-every", 2, "--batch-size", 2,
             "--epochs", 1, "--decay-epochs", 1]  # fmt: skip
    if method == "patch_cgan":
        flags = [*domains[:2], *flags[4:], "--source-kind", "mask", "--generator", "patch_cgan",
                 "--width", 2, "--resolution", 128, "--load-size", 140,
                 "--pool-size", 3]  # fmt: skip
    if method == "cut":
        flags += ["--flip-equivariance"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert echodiff("train-gan", *flags, "--out", straight) == 0
    real_log = Run.log

    def log_and_die(self, step, **values):
        real_log(self, step, **values)
        if step == 6:
            raise KilledError

    # At 6 the row is written before the checkpoint is: the newest one is that of step 3, and it
    # holds the losses of a step that no row has told yet.
    with monkeypatch.context() as patched:
        patched.setattr(Run, "log", log_and_die)
        with pytest.raises(KilledError):
            echodiff("train-gan", *flags, "--out", killed)
    assert [p.name for p in (killed / "checkpoints").iterdir()] == ["step-000003"]
    assert Run.load(killed).record["status"] == "running"
    torch.manual_seed(99)  # the process's own generator must not matter
    capsys.readouterr()
    assert echodiff("train-gan", *flags, "--out", killed) == 0
    assert "resuming from step 3" in capsys.readouterr().out
    for name in ["metrics.jsonl", *(f"{net}.safetensors" for net in NETWORKS[method])]:
        assert (straight / name).read_bytes() == (killed / name).read_bytes(), name
    last = "checkpoints/step-000006/tensors.safetensors"
    assert (straight / last).read_bytes() == (killed / last).read_bytes()
    tensors = load_file(straight / last)
    pools = {"cyclegan": {"pool.A", "pool.B"}, "patch_cgan": {"pool.pairs"}}.get(method, set())
    assert {name for name in tensors if name.startswith("pool.")} == pools
    assert all(tensors[name].any() for name in pools)


# --- rates, order, crops


def test_the_last_epoch_of_the_decay_still_learns():
    """In the published code of 2020 the last of 200 epochs had the rate 0."""
    config = config_of("--source", "a", "--target", "b", "--epochs", 100, "--decay-epochs", 100)
    factors = [rate_factor(epoch, config) for epoch in range(200)]
    assert factors[:100] == [1.0] * 100
    assert factors[100] == pytest.approx(1 - 1 / 101)
    assert factors[199] == pytest.approx(1 / 101)
    assert all(one > other for one, other in itertools.pairwise(factors[99:]))
    constant = config_of("--source", "a", "--target", "b", "--epochs", 5, "--decay-epochs", 0)
    assert [rate_factor(epoch, constant) for epoch in range(6)] == [1.0] * 6


@pytest.mark.parametrize("steps", [20, 5000])  # fewer and more than the epochs of 10 pictures make
def test_the_rate_falls_over_the_steps_that_were_asked_for(tmp_path, steps):
    config = TrainGanConfig(source=tmp_path, target=tmp_path / "b", steps=steps)
    factors = [rate_factor(rate_epoch(s, steps, 10, config), config) for s in range(steps)]
    assert factors[: steps // 2 - 1] == [1.0] * (steps // 2 - 1)
    assert factors[3 * steps // 4] == pytest.approx(0.5, abs=0.06)
    assert factors == sorted(factors, reverse=True)
    assert 0 < factors[-1] < 0.11


def test_rates_of_generator_and_discriminator_fall_together(
    echodiff, domains, tmp_path, monkeypatch
):
    seen = []
    real_step = CycleGan.step

    def spying(self, *given):
        seen.append({n: o.param_groups[0]["lr"] for n, o in self.optimizers.items()})
        return real_step(self, *given)

    monkeypatch.setattr(CycleGan, "step", spying)
    flags = [*SMALL["cyclegan"], "--epochs", 1, "--decay-epochs", 1, "--learning-rate", 1e-3,
             "--learning-rate-d", 4e-4]  # fmt: skip
    assert echodiff("train-gan", *domains, "--out", tmp_path / "run", *flags) == 0
    assert seen[0] == {"G": 1e-3, "D": 4e-4}
    assert seen[6] == seen[0]
    assert seen[7] == pytest.approx({"G": 5e-4, "D": 2e-4})
    assert len(seen) == 14
    rows = Run.load(tmp_path / "run").read_metrics()
    assert rows[-1]["learning_rate"] == pytest.approx(5e-4)


def order_of(**options):
    given = {"is_paired": False, "has_replacement": False, "slack": 4, "seed": 0}
    return Order(5, 8, **(given | options))


def taken(order, steps, count=3):
    return [order.take(step, count, build_stream(0, Stream.STEP, step)) for step in range(steps)]


def test_an_epoch_shows_every_source_and_targets_at_random():
    order = order_of()
    rows = torch.cat([rows.source for rows in taken(order, 8)])  # 24 places: three epochs of 8
    for epoch in rows.split(8):
        assert set(epoch.tolist()) == set(range(5))
    targets = torch.cat([rows.target for rows in taken(order, 300)])
    counts = torch.bincount(targets, minlength=8)
    assert int(counts.min()) > 80
    assert int(counts.max()) < 145


def test_a_step_is_drawn_the_same_whatever_came_before():
    order = order_of()
    taken(order, 7)
    again = order.take(2, 3, build_stream(0, Stream.STEP, 2))
    for one, other in zip(taken(order_of(), 3)[2], again, strict=True):
        assert torch.equal(one, other)


def test_pairs_share_their_crop_and_strangers_do_not():
    """Elsewhere picture and mask were cropped each at its own place."""
    for rows in taken(Order(6, 6, is_paired=True, has_replacement=False, slack=9, seed=0), 10):
        assert torch.equal(rows.source, rows.target)
        assert torch.equal(rows.source_corners, rows.target_corners)
    corners = torch.cat([rows.source_corners for rows in taken(order_of(), 100)])
    assert set(corners.unique().tolist()) == set(range(5))
    assert any(not torch.equal(r.source_corners, r.target_corners) for r in taken(order_of(), 5))


def test_a_batch_drawn_with_replacement_repeats_itself():
    rows = torch.stack([rows.source for rows in taken(order_of(has_replacement=True), 50)])
    assert any(len(row.unique()) < len(row) for row in rows)


def mask_flags(folder):
    return ["--source", folder, "--method", "patch_cgan", "--generator", "patch_cgan",
            "--source-kind", "mask", "--resolution", 128, "--load-size", 150,
            "--batch-size", 2]  # fmt: skip


def test_picture_and_mask_are_cropped_together_and_labels_stay_labels(write_domain, tmp_path):
    folder = write_domain(tmp_path / "echo", with_masks=True, size=64, count=8)
    # Pictures that are their masks, so that any difference of place or kind shows.
    for path in sorted((folder / "masks").iterdir()):
        labels = np.asarray(Image.open(path))
        Image.fromarray((labels * 85).astype(np.uint8)).save(folder / "images" / path.name)
    config = config_of(*mask_flags(folder))
    dataset = load_set(config)
    order = build_order(config, dataset)
    for step in range(5):
        rows = order.take(step, 4, build_stream(0, Stream.STEP, step))
        mask, image = dataset.take(rows, 128)
        assert mask.shape == image.shape == (4, 1, 128, 128)
        assert set(mask.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
        # Bicubic against nearest neighbour: alike but for the edges.
        assert float((mask / 3 - image).abs().mean()) < 0.02


def test_labels_that_are_not_asked_for_are_background(write_domain, tmp_path):
    folder = write_domain(tmp_path / "echo", with_masks=True)
    source = load_set(config_of(*mask_flags(folder), "--labels", "1,3")).source
    assert source.images_u8.unique().tolist() == [0, 1, 3]
    assert source.values == "labels"


def test_masks_as_pictures_have_the_greys_of_gilbert(domains):
    config = config_of(*domains, *TOY, "--source-kind", "mask", "--channels", 3)
    source = load_set(config).source
    assert source.images_u8.unique().tolist() == [40, 70, 130, 190]
    assert source.images_u8.shape[1] == 3


def test_pictures_that_are_not_square_are_padded_not_stretched(tmp_path, domains):
    picture = Path(domains[1]) / "images" / "0000.png"
    Image.fromarray(np.full((20, 40), 200, np.uint8)).save(picture)
    source = load_set(config_of(*domains, "--resolution", 40)).source
    assert source.images_u8[0, 0, :, 20].tolist() == [0] * 10 + [200] * 20 + [0] * 10


def test_srgan_sees_the_same_place_at_half_the_size(tmp_path, write_domain):
    folder = write_domain(tmp_path / "echo", count=8, size=64)
    config = config_of("--config", "srgan_x2", "--source", folder, "--resolution", 32,
                       "--load-size", 64)  # fmt: skip
    dataset = load_set(config)
    order = build_order(config, dataset)
    for step in range(5):
        small, large = dataset.take(order.take(step, 4, build_stream(0, Stream.STEP, step)), 32)
        assert small.shape == (4, 1, 16, 16)
        assert large.shape == (4, 1, 32, 32)
        means = torch.nn.functional.avg_pool2d(large, 2)
        # A picture shifted by one pixel would differ more than two ways to halve it.
        shifted = means.roll(1, dims=3)
        assert float((small - means).abs().mean()) < 0.5 * float((small - shifted).abs().mean())


def test_frames_that_share_a_pair_id_are_their_own_partners(tmp_path, write_domain):
    folder = write_domain(tmp_path / "echo", with_masks=True, pair_id="all-the-same")
    assert len(load_set(config_of(*mask_flags(folder))).source.frames) == 6


# --- who is kept apart


def test_held_out_patients_are_in_neither_domain(domains):
    dataset = load_set(config_of(*domains, *TOY, "--held-out-share", 0.3))
    held = {f.patient_id for f in [*dataset.held_out_source, *dataset.held_out_target]}
    trained = {f.patient_id for f in [*dataset.source.frames, *dataset.target.frames]}
    assert len(held) == 2
    assert not held & trained
    assert {f.patient_id for f in dataset.watched_source.frames} <= held


def change_rows(folder, change):
    path = Path(folder) / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for index, row in enumerate(rows):
        change(index, row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def split_after(*ends):
    """Splits of a domain's frames: train before the first end, then val, then test."""

    def change(index, row):
        row["split"] = ("train", "val", "test")[sum(index >= end for end in ends)]

    return change


@pytest.mark.parametrize("domain", [1, 3])
def test_a_split_column_of_either_folder_is_obeyed_in_both(domains, domain):
    change_rows(domains[domain], split_after(4, 5))
    dataset = load_set(config_of(*domains, *TOY))
    trained = {f.patient_id for f in [*dataset.source.frames, *dataset.target.frames]}
    # p6 is in the target alone: without a split it is trained on, as no share is held out.
    assert trained == {"p0", "p1", "p2", "p3"} | ({"p6"} if domain == 1 else set())
    assert {f.patient_id for f in dataset.held_out_source} == {"p4", "p5"}
    assert {f.patient_id for f in dataset.watched_source.frames} == {"p4"}
    assert {f.patient_id for f in dataset.watched_target.frames} == {"p4"}
    record = dataset.to_record()
    assert record["val_source"] == record["val_target"] == ["images/0004.png"]
    assert "images/0005.png" in record["test_target"]
    assert "images/0005.png" in record["held_out_target"]
    assert len(record["trained_on"]["patients"]) == len(trained)


def test_a_patient_in_two_splits_of_two_folders_is_refused(refusal, domains, tmp_path):
    change_rows(domains[1], split_after(4, 4))
    change_rows(domains[3], split_after(3, 3))
    line = refusal("train-gan", *domains, *TOY, "--steps", 1, "--out", tmp_path / "run")
    assert "patient p3 is in train and, by images/0003.png of" in line
    assert "in test: no patient may be in two splits" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda _, row: row.update(patient_id=f" {row['patient_id'].upper()}"),
        lambda _, row: row.pop("patient_id"),  # the pair_id tells whose heart it is
        lambda i, row: row.update(patient_id=f"another-{i}"),
    ],
)
@pytest.mark.parametrize("pairing", ["random", "paired"])
def test_one_patient_under_two_names_has_one_home(domains, change, pairing):
    change_rows(domains[1], split_after(3, 4))
    change_rows(domains[3], change)
    dataset = load_set(config_of(*domains, *TOY, "--pairing", pairing))
    trained = {f.pair_id for f in [*dataset.source.frames, *dataset.target.frames]}
    assert trained - {"pair-6"} == {"pair-0", "pair-1", "pair-2"}
    assert [f.pair_id for f in dataset.watched_target.frames] == ["pair-3"]


def test_partners_by_file_name_have_one_home(domains):
    for folder in (domains[1], domains[3]):
        change_rows(folder, lambda _, row: row.pop("pair_id"))
    change_rows(domains[3], lambda i, row: row.update(patient_id=f"another-{i // 2}"))
    change_rows(domains[3], split_after(2, 4))
    dataset = load_set(config_of(*domains, *TOY, "--pairing", "paired"))
    assert [f.patient_id for f in dataset.source.frames] == ["p0", "p1"]
    assert [f.patient_id for f in dataset.held_out_source] == ["p2", "p3", "p4", "p5"]
    assert [f.patient_id for f in dataset.watched_source.frames] == ["p2", "p3"]


def test_test_frames_are_never_looked_at(domains, caplog):
    change_rows(domains[1], split_after(4, 4))
    dataset = load_set(config_of(*domains, *TOY))
    assert {f.split for f in dataset.watched_source.frames} == {"train"}
    assert "no row is of split val, 4 are of test, which only final scores see" in caplog.text


def test_rows_without_a_patient_are_told_once_a_folder(domains, caplog):
    for key in ("patient_id", "pair_id"):
        change_rows(domains[3], lambda index, row, key=key: row.pop(key) if index < 3 else None)
    load_set(config_of(*domains, *TOY))
    told = [r.getMessage() for r in caplog.records if "patient_id" in r.getMessage()]
    assert len(told) == 1
    assert "echo: 3 of 7 rows have no patient_id" in told[0]
    assert "--patient-regex" in told[0]


def test_pairs_meet_by_pair_id(domains, caplog):
    dataset = load_set(config_of(*domains, *TOY, "--pairing", "paired", "--held-out-share", 0.2))
    pairs = zip(dataset.source.frames, dataset.target.frames, strict=True)
    assert all(ours.pair_id == theirs.pair_id for ours, theirs in pairs)
    assert len(dataset.source.frames) == 5
    assert "1 frames without a partner are left out" in caplog.text


# --- bad input: one line, status 2, nothing half-written


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (
            ["--generator", "unet_256", "--resolution", "128", "--load-size", "128"],
            "--generator unet_256: 128 x 128 pixels: this generator takes sides that are multiples",
        ),
        (["--resolution", "30"], "--resolution 30"),
        (["--load-size", "20"], "--load-size 20"),
        (["--method", "cut"], "--generator resnet_6 with --norm instance: cut takes"),
        (["--method", "cut", "--generator", "resnet_9_antialiased", "--norm", "batch"], "--norm"),
        (["--generator", "patch_cgan"], "--generator patch_cgan"),
        (["--channels", "2"], "--channels"),
        (["--keep", "0"], "--keep 0"),
        (["--keep", "some"], "--keep"),
        (["--learning-rate", "0"], "--learning-rate 0"),
        (["--beta1", "1"], "--beta1 1"),
        (["--labels", "77"], "--labels: 77 is no label"),
        (["--flip", "true"], "--flip is unknown"),
        (["--tracker", "nobody"], "--tracker nobody"),
        (["--target", "nowhere"], "nowhere: no such folder"),
        (["--method", "patch_cgan"], "--target: --method patch_cgan takes --source alone"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(refusal, domains, tmp_path, flags, named):
    out = tmp_path / "run"
    line = refusal("train-gan", *domains, *SMALL["cyclegan"], "--out", out, *flags)
    assert named in line
    assert not out.exists()


def test_one_folder_is_no_two_domains(refusal, domains, tmp_path):
    out = ["--out", tmp_path / "run"]
    assert "--target is missing" in refusal("train-gan", *domains[:2], *out)
    assert "missing: --source" in refusal("train-gan", *domains[2:], *out)
    same = ["--source", domains[1], "--target", domains[1]]
    assert "each domain needs a folder of its own" in refusal("train-gan", *same, *out)
    path = Path(domains[1]) / "metadata.jsonl"
    path.write_text(path.read_text().replace('"pseudo"', '"mr"', 3))
    line = refusal("train-gan", *domains, *out)
    assert f"{domains[1]}: mixes mr and pseudo" in line
    assert not (tmp_path / "run").exists()


def test_a_domain_needs_two_images(write_domain, refusal, domains, tmp_path):
    one = write_domain(tmp_path / "one", count=1)
    line = refusal("train-gan", *domains[:2], "--target", one, "--out", tmp_path / "run", *TOY)
    assert f"--target {one}: 1 frame to train on" in line
    (one / "metadata.jsonl").write_text("")
    shutil.rmtree(one / "images")
    line = refusal("train-gan", *domains[:2], "--target", one, "--out", tmp_path / "run", *TOY)
    assert f"{one / 'metadata.jsonl'}: no frames" in line
    assert not (tmp_path / "run").exists()


def test_domains_with_nothing_in_common_are_refused(write_domain, refusal, domains, tmp_path):
    large = write_domain(tmp_path / "large", size=200)
    out = ["--out", tmp_path / "run", *TOY]
    line = refusal("train-gan", *domains[:2], "--target", large, *out)
    assert "images of 40 and of 200 pixels have nothing in common" in line
    colour = write_domain(tmp_path / "colour", colour=True)
    line = refusal("train-gan", *domains[:2], "--target", colour, *out, "--channels", 3)
    assert "--source is grey and --target in colour" in line
    assert not (tmp_path / "run").exists()


def test_batch_norm_of_one_value_is_refused(refusal, domains, tmp_path):
    flags = [*mask_flags(domains[1]), "--batch-size", 1, "--out", tmp_path / "run"]
    assert "--batch-size 1: at --resolution 128 the batch norm" in refusal("train-gan", *flags)
    assert not (tmp_path / "run").exists()


def test_missing_masks_and_partners_are_named(refusal, domains, tmp_path):
    out = ["--out", tmp_path / "run"]
    line = refusal("train-gan", *mask_flags(domains[3]), *out)
    assert f"{domains[3]}/images/0000.png: has no mask" in line
    path = Path(domains[3]) / "metadata.jsonl"
    path.write_text(path.read_text().replace("pair-", "other-"))
    line = refusal("train-gan", *domains, "--pairing", "paired", *SMALL["cyclegan"], *out)
    assert "no frame has the pair_id of one in" in line


def test_a_loss_that_is_no_number_names_step_and_images(refusal, domains, tmp_path, monkeypatch):
    real_step = CycleGan.step

    def step_with_a_hole(self, source, target, draw):
        losses = real_step(self, source, target, draw)
        bad.append(len(bad))
        return losses | ({"cycle_A": losses["cycle_A"] * torch.nan} if len(bad) == 3 else {})

    bad = []
    monkeypatch.setattr(CycleGan, "step", step_with_a_hole)
    out = tmp_path / "run"
    line = refusal("train-gan", *domains, *SMALL["cyclegan"], "--out", out, "--checkpoint-every", 2,
                   "--log-every", 50)  # fmt: skip
    assert "step 3: cycle_A is nan on pseudo: images/" in line
    assert "; echo: images/" in line
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-000002"]
    assert Run.load(out).record["status"] == "running"


def test_a_finished_or_another_run_is_refused(echodiff, refusal, domains, tmp_path):
    flags = [*domains, *SMALL["regression"], "--method", "regression", "--steps", 1,
             "--out", tmp_path / "run"]  # fmt: skip
    assert echodiff("train-gan", *flags) == 0
    before = (tmp_path / "run" / "G.safetensors").read_bytes()
    assert "is a finished run; --overwrite starts anew" in refusal("train-gan", *flags)
    assert "is another run" in refusal("train-gan", *flags, "--seed", 1)
    assert (tmp_path / "run" / "G.safetensors").read_bytes() == before
    assert echodiff("train-gan", *flags, "--seed", 1, "--overwrite") == 0
    assert (tmp_path / "run" / "G.safetensors").read_bytes() != before


# --- presets


PRESETS = preset_names(TrainGanConfig)


def preset_flags(name, domains):
    """A preset, its folders, and the sizes of a toy: the flags that let it run in a second."""
    words = ["--config", name, *domains, "--steps", 2, "--width", 2, "--batch-size", 2,
             "--checkpoint-every", 0, "--num-samples", 2]  # fmt: skip
    if name.startswith("patch_cgan"):
        return [*words[:4], *words[6:], "--resolution", 128, "--load-size", 128]
    if name == "srgan_x2":
        return [*words[:4], *words[6:], "--resolution", 32, "--load-size", 36]
    if name == "cyclegan_cmc2024":
        return [*words, "--batch-size", 1]
    return [*words, "--resolution", 32, "--load-size", 36]


def test_these_are_the_presets():
    assert PRESETS == [
        "cnn_paired", "cnn_random_pairs", "cut_cmc2024", "cyclegan_cmc2024", "cyclegan_ct_to_mr",
        "cyclegan_echo_to_mr", "fastcut", "patch_cgan_la", "patch_cgan_lv", "patch_cgan_lv_la",
        "patch_cgan_lv_myo", "patch_cgan_lv_myo_la", "srgan_x2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_every_line_of_a_preset_says_whose_it_is(name):
    path = Path(__file__).parents[2] / "echodiff" / "presets" / f"{name}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    assert len(settings) == len(yaml.safe_load(path.read_text(encoding="utf-8")))
    for line in settings:
        assert line.split("#")[1].strip().startswith(("paper", "code", "ours")), line


def test_presets_hold_the_figures_of_the_papers():
    def preset(name):
        target = [] if name.startswith(("patch_cgan", "srgan")) else ["--target", "b"]
        return config_of("--config", name, "--source", "a", *target)

    config = preset("cyclegan_cmc2024")
    assert (config.generator, config.learning_rate, config.epochs) == ("unet_256", 1e-5, 2000)
    assert (config.decay_epochs, config.checkpoint_epochs) == (0, 5)
    # Elsewhere 0.5, the published share of the cycle weight, became the weight.
    assert (config.cycle_weight, config.identity_weight) == (10.0, 0.5 * 10.0)
    config = preset("cut_cmc2024")
    assert (config.method, config.batch_size, config.learning_rate) == ("cut", 32, 1e-5)
    assert (config.nce_weight, config.identity_nce) == (1.0, True)
    config = preset("fastcut")
    assert (config.nce_weight, config.identity_nce, config.epochs) == (10.0, False, 150)
    assert not any(preset(name).flip_equivariance for name in PRESETS)
    subsets = {"lv": (1,), "la": (3,), "lv_myo": (1, 2), "lv_la": (1, 3), "lv_myo_la": (1, 2, 3)}
    for name, labels in subsets.items():
        config = preset(f"patch_cgan_{name}")
        assert tuple(config.labels) == labels
        assert (config.learning_rate, config.learning_rate_d) == (1.3e-4, 1.5e-4)
        assert (config.steps, config.batch_size, config.load_size) == (100_000, 8, 256)
        # The paper weighs the adversarial term by 0.01 beside the absolute error.
        assert config.reconstruction_weight == 1 / 0.01
    config = preset("cyclegan_echo_to_mr")
    assert (config.norm, config.epochs, config.learning_rate) == ("batch", 50, 2e-4)
    assert config.held_out_share == pytest.approx(0.3)
    config = preset("cyclegan_ct_to_mr")
    assert (config.generator, config.epochs) == ("resnet_6", 500)
    assert preset("cnn_random_pairs").pairing == "random"
    assert preset("cnn_paired").pairing == "paired"
    assert {preset(name).channels for name in PRESETS} == {1}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_and_translates(echodiff, domains, tmp_path, name):
    run, out = tmp_path / "run", tmp_path / "translated"
    assert echodiff("train-gan", *preset_flags(name, domains), "--out", run) == 0
    method = config_of("--config", run / "config.yaml").method
    assert sorted(p.stem for p in run.glob("*.safetensors")) == NETWORKS[method]
    (row,) = Run.load(run).read_metrics()
    expected = LOSSES[method] - ({"NCE_identity"} if name == "fastcut" else set())
    assert set(row) - {"step", "learning_rate"} == expected
    assert echodiff("translate", run, domains[1], "--out", out) == 0
    assert len(list((out / "images").iterdir())) == 6
    if method == "srgan":
        assert read_size(out / "images" / "0000.png") == (80, 80)
        assert load_frames(out)[0].spacing_mm == 1.0  # 2 mm at half the side
        assert read_size(out / "masks" / "0000.png") == (80, 80)
    sheet = np.asarray(Image.open(run / "samples" / "step-000002.png"))
    assert sheet.ndim == (3 if name.startswith("patch_cgan") else 2)  # masks are in colour


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "gan.md", *(ROOT / "echodiff" / "presets").glob("*.yaml")]


@pytest.mark.parametrize(
    ("command", "config", "at_least"),
    [("train-gan", TrainGanConfig, 14), ("translate", TranslateConfig, 2)],
)
def test_commands_on_the_page_and_in_the_presets_are_real(command, config, at_least):
    lines = [line.lstrip("# ") for page in PAGES for line in page.read_text("utf-8").splitlines()]
    found = [line.split()[2:] for line in lines if line.startswith(f"echodiff {command} ")]
    for words in found:
        assert parse(config, words, prog="docs")
    assert len(found) >= at_least


def test_weights_that_are_not_finite_are_not_kept(echodiff, domains, tmp_path, monkeypatch, capsys):
    """The losses of a step are those before its update, which may still spoil the weights."""
    take = TranslationTrainer.run

    def spoil(self, step):
        losses = take(self, step)
        if step == 1:
            with torch.no_grad():
                self._method.nets["G_A"].model[1].weight[0, 0, 0, 0] = float("inf")
        return losses

    monkeypatch.setattr(TranslationTrainer, "run", spoil)
    out = tmp_path / "run"
    flags = [*domains, *SMALL["cyclegan"], "--out", out, "--steps", 2, "--checkpoint-every", 1]
    assert echodiff("train-gan", *flags) == 2
    error = capsys.readouterr().err
    assert "run, step 2: net.G_A.model.1.weight holds NaN or infinity" in error
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-000001"]
