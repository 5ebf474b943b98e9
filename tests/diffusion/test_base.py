"""Where a base may come from, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

from echodiff.diffusion.base import (
    base_sha256,
    choose_resolution,
    find_base,
    load_base,
    num_unet_parameters,
)
from echodiff.errors import InputError


def test_folder_loads_in_the_dtype_asked_for(tiny_random_base: Path) -> None:
    pipeline = load_base(str(tiny_random_base), torch.bfloat16, vae=None, text_encoder=None)
    assert pipeline.unet.conv_in.weight.dtype == torch.bfloat16
    assert pipeline.vae is None
    assert pipeline.safety_checker is None


def test_parameters_are_counted_from_the_headers(tiny_random_base: Path) -> None:
    unet = load_base(str(tiny_random_base), torch.float32, vae=None, text_encoder=None).unet
    assert num_unet_parameters(str(tiny_random_base)) == sum(p.numel() for p in unet.parameters())


def test_hash_sees_weights_and_scheduler(tiny_random_base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_random_base, copy)
    assert base_sha256(str(copy)) == base_sha256(str(tiny_random_base))
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("0.012", "0.02"), encoding="utf-8")
    assert base_sha256(str(copy)) != base_sha256(str(tiny_random_base))


def test_resolution_is_the_bases_own_or_a_fitting_one(tiny_random_base: Path) -> None:
    pipeline = load_base(str(tiny_random_base), torch.float32, text_encoder=None)
    assert choose_resolution(pipeline, None) == 32
    assert choose_resolution(pipeline, 64) == 64
    with pytest.raises(InputError, match=r"--resolution 36: .* multiple of 8"):
        choose_resolution(pipeline, 36)


@pytest.mark.parametrize("suffix", ["ckpt", "bin", "pt", "pickle", "PKL"])
def test_pickles_are_refused_unopened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match=r"--base .*pickle"):
        find_base(str(path))


def test_folder_with_pickled_weights_only_is_refused(
    tiny_random_base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "pickled"
    shutil.copytree(tiny_random_base, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(InputError, match="--base"):
        load_base(str(copy), torch.float32)


def test_what_is_no_base_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_base(str(tmp_path / "nowhere" / "at" / "all"))
    with pytest.raises(InputError, match=r"no model_index\.json"):
        find_base(str(tmp_path))
    text = tmp_path / "notes.txt"
    text.write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        find_base(str(text))


def test_truncated_weights_are_one_line(tiny_random_base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "torn"
    shutil.copytree(tiny_random_base, copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="--base"):
        load_base(str(copy), torch.float32)


def test_hub_id_without_network_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        find_base("nobody/no-such-model")
    message = str(caught.value)
    assert "\n" not in message
    for hint in ("nobody/no-such-model", "HF_ENDPOINT", "local folder", "tiny"):
        assert hint in message


def test_single_file_without_network_names_the_folder_to_put_beside_it(
    tiny_random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    single = tmp_path / "model.safetensors"
    save_file(to_original_names(tiny_random_base), single)
    with pytest.raises(InputError) as caught:
        load_base(str(single), torch.float32)
    assert str(caught.value).startswith(f"--base {single}: ")
    assert str(caught.value).endswith(f"a diffusers folder {tmp_path / 'model'} next to it")


def to_original_names(base: Path) -> dict[str, torch.Tensor]:
    """The toy base as the one file of the original code, names as `v1-5-pruned.safetensors` has."""
    per_block = 2  # layers per block + 1: a block's resnet and its down- or upsampler
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    ends = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }

    def unet_name(name: str) -> str:
        for ours, theirs in resnet.items():
            name = name.replace(f".{ours}.", f".{theirs}.") if "resnets" in name else name
        for ours, theirs in ends.items():
            if name.startswith(ours + "."):
                return theirs + name.removeprefix(ours)
        way, block, kind, layer, rest = re.match(
            r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name
        ).groups()
        row = int(block) * per_block + int(layer)
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * per_block}.0.op.{rest.split('.')[1]}"
        if kind == "upsamplers":  # block 0 has no attention before it
            return f"output_blocks.{int(block) * per_block + 1}.1.{rest}"
        place = f"input_blocks.{row + 1}" if way == "down" else f"output_blocks.{row}"
        return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"

    def vae_name(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{2 - int(m[1])}", name)
        name = name.replace("upsamplers.0", "upsample").replace(".resnets.", ".block.")
        name = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("to_out.0", "proj_out")
        name = re.sub(r"to_([qkv])\.", r"\1.", name.replace("group_norm", "norm"))
        name = name.replace("conv_shortcut", "nin_shortcut")
        return name.replace("conv_norm_out", "norm_out")

    pipeline = load_base(str(base), torch.float32)
    tensors = {}
    for name, tensor in pipeline.unet.state_dict().items():
        tensors[f"model.diffusion_model.{unet_name(name)}"] = tensor
    for name, tensor in pipeline.vae.state_dict().items():
        is_projection = "attentions" in name and tensor.ndim == 2
        value = tensor[:, :, None, None] if is_projection else tensor
        tensors[f"first_stage_model.{vae_name(name)}"] = value
    for name, tensor in pipeline.text_encoder.state_dict().items():
        inner = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{inner}"] = tensor
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def test_single_file_loads_like_the_folder(tiny_random_base: Path, tmp_path: Path) -> None:
    single = tmp_path / "model.safetensors"
    save_file(to_original_names(tiny_random_base), single)
    shutil.copytree(
        tiny_random_base, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")
    )
    from_file = load_base(str(single), torch.float32)
    from_folder = load_base(str(tiny_random_base), torch.float32)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(from_folder, part).state_dict()
        loaded = getattr(from_file, part).state_dict()
        assert expected.keys() == loaded.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert num_unet_parameters(str(single)) == num_unet_parameters(str(tiny_random_base))


# --- What is no base for this: one line, before a folder is made ---------------------------------


def edit(file: Path, **values: object) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | values), encoding="utf-8")


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
UNET, INDEX = Path("unet/config.json"), Path("model_index.json")
WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "inpainting": (lambda b: edit(b / UNET, in_channels=9), "9 channels, as for inpainting"),
    "editing": (lambda b: edit(b / UNET, in_channels=8), "8 channels, as for editing of images"),
    "SDXL": (lambda b: edit(b / INDEX, _class_name="StableDiffusionXLPipeline",
                            text_encoder_2=["transformers", "CLIPTextModelWithProjection"]),
             "a StableDiffusionXLPipeline with two text encoders"),
    "XL UNet": (lambda b: edit(b / UNET, addition_embed_type="text_time"), "addition_embed_type"),
    "unCLIP": (lambda b: edit(b / UNET, class_embed_type="projection"), "a class or an image"),
    "LCM": (lambda b: edit(b / UNET, time_cond_proj_dim=256), "a latent consistency model"),
    "variations": (lambda b: edit(b / INDEX, _class_name="StableDiffusionImageVariationPipeline",
                                  text_encoder=[None, None]), "lacks its text_encoder"),
    "no vae": (lambda b: shutil.rmtree(b / "vae"), "lacks its vae"),
    "no tokenizer": (lambda b: shutil.rmtree(b / "tokenizer"), "lacks its tokenizer"),
    "no scheduler": (lambda b: shutil.rmtree(b / "scheduler"), "lacks its scheduler"),
    "no settings": (lambda b: (b / UNET).unlink(), "config.json: no such file"),
    "no weights": (lambda b: (b / WEIGHTS).unlink(), "no weights named"),
    "fp16 alone": (lambda b: (b / WEIGHTS).rename((b / WEIGHTS).with_suffix(".fp16.safetensors")),
                   "there is diffusion_pytorch_model.fp16.safetensors"),
    "LFS weights": (lambda b: (b / WEIGHTS).write_text(LFS), "a Git LFS pointer"),
    "LFS settings": (lambda b: (b / UNET).write_text(LFS), "not a settings file"),
    "transformer": (lambda b: edit(b / INDEX, unet=[None, None],
                                   transformer=["diffusers", "DiTTransformer2DModel"]),
                    "lacks its unet"),
    "T5": (lambda b: edit(b / INDEX, text_encoder=["transformers", "T5EncoderModel"]),
           "its text_encoder is a T5EncoderModel, not a CLIPTextModel"),
    "SD 2 text": (lambda b: edit(b / UNET, cross_attention_dim=1024),
                  "takes texts of width 1024, its text encoder gives 32"),
    "16 channels": (lambda b: edit(b / "vae/config.json", latent_channels=16), "16 latent chan"),
    "flow": (lambda b: edit(b / INDEX, scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
             "FlowMatchEulerDiscreteScheduler"),
    "sample": (lambda b: edit(b / "scheduler/scheduler_config.json", prediction_type="sample"),
               "predicts 'sample'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_text_to_image_base_is_refused_before_a_folder_is_made(
    tiny_random_base: Path, tmp_path: Path, train_script: ModuleType,
    make_frames: Callable[..., Path], name: str,
) -> None:  # fmt: skip
    change, said = CHANGES[name]
    base = shutil.copytree(tiny_random_base, tmp_path / "base")
    change(base)
    data, run_dir = make_frames("frames"), tmp_path / "run"
    with pytest.raises(InputError) as caught:
        train_script.main(["--base", str(base), "--data", str(data), "--out", str(run_dir)])
    assert str(caught.value).startswith(f"--base {base}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not run_dir.exists()


@pytest.mark.parametrize("part", ["model.diffusion_model.", "first_stage_model.", "cond_stage_"])
def test_a_single_file_must_hold_every_part(
    tiny_random_base: Path, tmp_path: Path, part: str
) -> None:
    tensors = to_original_names(tiny_random_base)
    left = {name: tensor for name, tensor in tensors.items() if not name.startswith(part)}
    save_file(left, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="lacks its"):
        num_unet_parameters(str(tmp_path / "part.safetensors"))


def test_a_single_file_for_inpainting_or_an_adapter_is_named(
    tiny_random_base: Path, tmp_path: Path
) -> None:
    tensors = to_original_names(tiny_random_base)
    first = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[first] = torch.zeros(32, 9, 3, 3)
    save_file(tensors, tmp_path / "inpainting.safetensors")
    with pytest.raises(InputError, match="9 channels, as for inpainting"):
        num_unet_parameters(str(tmp_path / "inpainting.safetensors"))
    save_file({"unet.x.lora_A.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="an adapter: give it as --weights"):
        num_unet_parameters(str(tmp_path / "lora.safetensors"))


def test_variants_beside_the_weights_are_not_counted(
    tiny_random_base: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_random_base, tmp_path / "base")
    shutil.copy(base / WEIGHTS, (base / WEIGHTS).with_suffix(".fp16.safetensors"))
    assert num_unet_parameters(str(base)) == num_unet_parameters(str(tiny_random_base))
