"""The adapter: where it sits, in which precision, and that everybody reads it with its scale."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import (
    KOHYA_NAME,
    LORA_TARGETS,
    WEIGHTS_NAME,
    add_lora,
    load_lora,
    lora_parameters,
    lora_state,
    save_lora,
)
from echodiff.errors import InputError

RANK, ALPHA = 8, 16.0

SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def load_unet(base: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_base(str(base), dtype, vae=None, text_encoder=None).unet


def predict(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((2, 4, 8, 8), generator=generator)
    text = torch.randn((2, 77, 32), generator=generator)
    with torch.no_grad():
        return unet.eval()(latents, torch.tensor([10, 500]), encoder_hidden_states=text).sample


@pytest.fixture(scope="module")
def trained(
    tiny_random_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, torch.Tensor]:
    """A saved adapter of r = 8, alpha = 16 that does something, and what its UNet predicts."""
    unet = load_unet(tiny_random_base)
    add_lora(unet, rank=RANK, alpha=ALPHA, seed=3)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in lora_parameters(unet).items():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    run_dir = tmp_path_factory.mktemp("run")
    save_lora(run_dir, lora_state(unet), rank=RANK, alpha=ALPHA)
    return run_dir, predict(unet)


def test_sd15_has_128_matrices_and_795648_parameters() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
        add_lora(unet, rank=8, alpha=8.0)
    parameters = lora_parameters(unet)
    assert len(parameters) == 128
    assert sum(p.numel() for p in parameters.values()) == 795_648
    assert sum(p.numel() for p in unet.parameters() if p.requires_grad) == 795_648
    assert all(".attn2." in name for name in parameters)


def test_a_new_adapter_changes_nothing_and_is_a_function_of_the_seed(
    tiny_random_base: Path,
) -> None:
    unets = [load_unet(tiny_random_base) for _ in range(3)]
    before = predict(unets[0])
    for unet, seed in zip(unets, (5, 5, 6), strict=True):
        add_lora(unet, rank=4, alpha=4.0, seed=seed)
    assert torch.equal(predict(unets[0]), before)
    first, same, other = (lora_state(unet) for unet in unets)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adapter_is_float32_on_a_16_bit_base(tiny_random_base: Path, dtype: torch.dtype) -> None:
    unet = load_unet(tiny_random_base, dtype)
    add_lora(unet, rank=RANK, alpha=ALPHA)
    assert {p.dtype for p in lora_parameters(unet).values()} == {torch.float32}
    assert unet.conv_in.weight.dtype == dtype


def test_small_steps_move_every_entry_on_a_bf16_base(tiny_random_base: Path) -> None:
    """In bf16 a step of 1e-4 rounds to nothing for four entries in five."""
    unet = load_unet(tiny_random_base, torch.bfloat16)
    add_lora(unet, rank=RANK, alpha=ALPHA)
    parameters = [p for name, p in lora_parameters(unet).items() if "lora_A" in name]
    before = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, lr=1e-4)
    for _ in range(20):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    moved = torch.cat([(b - p.detach()).flatten() for b, p in zip(before, parameters, strict=True)])
    torch.testing.assert_close(moved, torch.full_like(moved, 20e-4), rtol=1e-2, atol=1e-6)


def test_plain_diffusers_opens_the_run_folder_with_the_right_scale(
    tiny_random_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    run_dir, expected = trained
    pipeline = load_base(str(tiny_random_base), torch.float32)
    assert not torch.allclose(predict(pipeline.unet), expected, atol=1e-3)
    pipeline.load_lora_weights(str(run_dir))
    scales = {
        value
        for module in pipeline.unet.modules()
        if hasattr(module, "scaling")
        for value in module.scaling.values()
    }
    assert scales == {2.0}
    torch.testing.assert_close(predict(pipeline.unet), expected)


def test_peft_opens_the_run_folder(
    tiny_random_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    from peft import PeftModel

    run_dir, expected = trained
    model = PeftModel.from_pretrained(load_unet(tiny_random_base), str(run_dir))
    assert model.peft_config["default"].lora_alpha == ALPHA
    torch.testing.assert_close(predict(model), expected)


@pytest.mark.parametrize("name", ["", WEIGHTS_NAME, KOHYA_NAME])
def test_our_loader_gives_what_training_had(
    tiny_random_base: Path, trained: tuple[Path, torch.Tensor], name: str
) -> None:
    run_dir, expected = trained
    pipeline = load_base(str(tiny_random_base), torch.float32)
    sha256 = load_lora(pipeline, run_dir / name)
    assert len(sha256) == 64
    torch.testing.assert_close(predict(pipeline.unet), expected)


def test_kohya_names_shapes_and_alpha(trained: tuple[Path, torch.Tensor]) -> None:
    tensors = load_file(trained[0] / KOHYA_NAME)
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_out_0"
    assert tensors[f"{stem}.lora_down.weight"].shape == (8, 32)
    assert tensors[f"{stem}.lora_up.weight"].shape == (32, 8)
    assert tensors[f"{stem}.alpha"].item() == 16.0
    assert {key.rsplit(".", 2)[-1] for key in tensors} == {"weight", "alpha"}
    assert len(tensors) == 3 * 16
    with safe_open(trained[0] / KOHYA_NAME, "pt") as opened:
        assert opened.metadata()["ss_network_dim"] == "8"


def test_files_hold_no_path_and_no_pickle(trained: tuple[Path, torch.Tensor]) -> None:
    run_dir = trained[0]
    assert sorted(p.name for p in run_dir.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        WEIGHTS_NAME,
        KOHYA_NAME,
    ]
    config = json.loads((run_dir / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] is None
    assert config["r"] == 8
    assert config["target_modules"] == sorted(LORA_TARGETS)  # peft's own order changes by process


def test_adapter_of_another_base_is_refused_before_anything_changes(
    other_random_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    pipeline = load_base(str(other_random_base), torch.float32)
    for name in (WEIGHTS_NAME, KOHYA_NAME):
        with pytest.raises(InputError, match=r"made for another base: .* size 32, .* needs 48"):
            load_lora(pipeline, trained[0] / name)
    assert not lora_parameters(pipeline.unet)


@pytest.mark.parametrize("name", ["w.bin", "w.pt", "w.ckpt", "w.pkl"])
def test_pickles_are_refused_by_name(tiny_random_base: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(InputError, match="pickle"):
        load_lora(load_base(str(tiny_random_base), torch.float32), tmp_path / name)


def test_a_pickle_in_disguise_and_other_files_are_refused(
    tiny_random_base: Path, tmp_path: Path
) -> None:
    pipeline = load_base(str(tiny_random_base), torch.float32)
    disguised = tmp_path / WEIGHTS_NAME
    disguised.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(InputError, match="not a safetensors file"):
        load_lora(pipeline, tmp_path)
    disguised.unlink()
    with pytest.raises(InputError, match="is the run finished"):
        load_lora(pipeline, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_lora(pipeline, tmp_path / "none.safetensors")
    halves = {f"unet.mid.lora_{half}.weight": torch.zeros(4, 4) for half in "AB"}
    save_file(halves, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no layer"):
        load_lora(pipeline, tmp_path / "other.safetensors")


def test_an_adapter_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    state = {"mid_block.attn2.to_q.lora_A.weight": torch.tensor([[1.0, torch.nan]])}
    with pytest.raises(InputError, match=r"run: mid_block.* holds NaN or infinity"):
        save_lora(tmp_path / "run", state, rank=1, alpha=1.0)
    assert not (tmp_path / "run").exists()
