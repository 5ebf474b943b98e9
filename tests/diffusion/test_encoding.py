"""Frames and captions behind the encoders: what they become, and that it is done once."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from echodiff.diffusion.base import load_base
from echodiff.diffusion.encoding import encode_captions, encode_frames, read_image_pm1
from echodiff.frames.reader import load_frames
from echodiff.images import find_max_value


@pytest.fixture(scope="module")
def encoders(tiny_random_base: Path) -> Any:
    return load_base(str(tiny_random_base), torch.float32, unet=None)


def test_latents_and_captions_stay_with_their_frame(
    encoders: Any, toy_frames: Path, tmp_path: Path
) -> None:
    frames = load_frames(toy_frames)
    together = encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    assert together.file_names == tuple(frame.file_name for frame in frames)
    for row in (0, 3, 9):
        store = tmp_path / str(row)
        alone = encode_frames(encoders, toy_frames, [frames[row]], resolution=32, store=store)
        torch.testing.assert_close(together.latent_mean[row], alone.latent_mean[0])
        torch.testing.assert_close(together.latent_std[row], alone.latent_std[0])
        caption = together.embeddings[together.caption_index[row]]
        torch.testing.assert_close(caption, alone.embeddings[alone.caption_index[0]])
    assert together.caption_index.tolist()[6:] == [0] * 6
    assert len(together.embeddings) == 7  # six captions and the null text, each encoded once


def test_latents_are_the_posterior_scaled_for_the_unet(
    encoders: Any, toy_frames: Path, tmp_path: Path
) -> None:
    frames = load_frames(toy_frames)[:1]
    encoded = encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    image = torch.from_numpy(read_image_pm1(toy_frames / frames[0].file_name, 32))[None]
    with torch.no_grad():
        posterior = encoders.vae.encode(image).latent_dist
    scale = encoders.vae.config.scaling_factor
    torch.testing.assert_close(encoded.latent_mean, posterior.mean * scale)
    torch.testing.assert_close(encoded.latent_std, posterior.std * scale)
    assert encoded.latent_std.min() > 0


def test_captions_are_embedded_as_the_pipeline_does(encoders: Any) -> None:
    ours = encode_captions(encoders, ["four chamber view , ASD"])
    theirs, _ = encoders.encode_prompt("four chamber view , ASD", "cpu", 1, False)
    torch.testing.assert_close(ours, theirs)


def test_long_captions_are_cut_with_one_warning_that_counts(
    encoders: Any, toy_frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [
        replace(frame, text=text)
        for frame, text in zip(
            load_frames(toy_frames), ["ASD", "septum " * 500, "heart " * 80], strict=False
        )
    ]
    with caplog.at_level(logging.WARNING):
        encoded = encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    assert encoded.embeddings.shape == (4, 77, 32)
    assert [record.message for record in caplog.records] == [
        "2 of 3 captions are longer than the 77 tokens the text encoder reads: they are cut"
    ]


def test_captions_in_cyrillic_letters_are_counted_in_one_warning(
    encoders: Any, toy_frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [
        replace(frame, text=text)
        for frame, text in zip(load_frames(toy_frames), ["ASD", "ДМПП", "ГЛЖ"], strict=False)
    ]
    with caplog.at_level(logging.WARNING):
        encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    (record,) = caplog.records
    assert record.message.startswith("Cyrillic letters in 2 of 3 captions")


def test_grey_becomes_three_equal_channels_and_keeps_its_shape(tmp_path: Path) -> None:
    wide = np.full((20, 40), 255, np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = read_image_pm1(tmp_path / "wide.png", 40)
    assert image.shape == (3, 40, 40)
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()
    assert (image[0, 10:30] == 1.0).all()  # padded, not stretched
    assert (image[0, :10] == -1.0).all()
    assert (image[0, 30:] == -1.0).all()


def test_16_bit_frames_are_read_by_their_range_one_for_all(tmp_path: Path) -> None:
    for name, value in (("bright", 4000), ("dark", 1000)):
        array = np.full((32, 32), value, np.uint16)
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    max_value = find_max_value(paths)
    assert max_value == 4095
    bright, dark = (read_image_pm1(path, 32, max_value).mean() for path in paths)
    assert bright == pytest.approx(2 * 4000 / 4095 - 1, abs=0.01)
    assert dark == pytest.approx(2 * 1000 / 4095 - 1, abs=0.01)


def test_nothing_is_ever_mirrored(encoders: Any, make_frames: Callable[..., Path]) -> None:
    """Encoding reads the frame as it is; there is no augmentation to switch on."""
    folder = make_frames("one", captioned=1, null=0)
    image = np.zeros((32, 32), np.uint8)
    image[:, :8] = 255
    Image.fromarray(image).save(folder / "images/0000.png")
    read = read_image_pm1(folder / "images/0000.png", 32)
    assert read[0, 0, 0] == 1.0
    assert read[0, 0, -1] == -1.0


def test_what_was_encoded_is_not_encoded_again(
    encoders: Any, toy_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = load_frames(toy_frames)
    first = encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    expected = first.latent_mean.clone(), first.latent_std.clone(), first.embeddings.clone()
    for name, rows in (("latents", (2, 7)), ("captions", (0, 4))):
        written = np.load(tmp_path / f"{name}.npy", mmap_mode="r+")
        for row in rows:  # one cut off half-way, one not begun
            written[row].reshape(-1)[written[row].size // 2 if row == rows[0] else 0 :] = 0
        written.flush()
    encoded: list[Any] = []
    real_encode, real_text = encoders.vae.encode, encoders.text_encoder.forward
    monkeypatch.setattr(encoders.vae, "encode", lambda x: encoded.append(x) or real_encode(x))
    monkeypatch.setattr(
        encoders.text_encoder, "forward", lambda ids: encoded.append(ids) or real_text(ids)
    )
    again = encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    assert [len(batch) for batch in encoded] == [1, 1, 2]
    for tensor, value in zip(
        (again.latent_mean, again.latent_std, again.embeddings), expected, strict=True
    ):
        torch.testing.assert_close(tensor, value)


def test_files_of_other_frames_are_not_gone_on_with(
    encoders: Any, toy_frames: Path, tmp_path: Path
) -> None:
    frames = load_frames(toy_frames)
    encode_frames(encoders, toy_frames, frames, resolution=32, store=tmp_path)
    (tmp_path / "captions.npy").write_bytes(b"no numbers")
    fewer = encode_frames(encoders, toy_frames, frames[5:], resolution=32, store=tmp_path)
    assert len(fewer.latent_mean) == len(frames) - 5
    assert fewer.latent_std.min() > 0
    assert fewer.embeddings.abs().amax(dim=(1, 2)).min() > 0
