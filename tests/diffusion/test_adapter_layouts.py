"""Adapters of others: each layer changes by alpha / rank * up @ down, or one line says why not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from echodiff.diffusion.base import load_base
from echodiff.diffusion.lora import load_lora
from echodiff.errors import InputError

ATTENTION = ("attn1.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
OTHERS = ("ff.net.0.proj", "proj_in", "proj_out", "resnets.0.conv1", "time_emb_proj",
          "downsamplers.0.conv")  # fmt: skip
TEXT = ("q_proj", "v_proj", "out_proj", "fc1")

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor, float]]
"""Layer to `down`, `up` and alpha."""


def make_pairs(network: Any, ends: tuple[str, ...], *, are_alike: bool, seed: int = 0) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    pairs: Pairs = {}
    layers = [(n, m) for n, m in network.named_modules() if n.endswith(ends)]
    for index, (name, module) in enumerate(layers):
        rank = 4 if are_alike else (2, 4, 8, 1)[index % 4]
        alpha = 2.0 if are_alike else (1.0, 4.0, 4.0)[index % 3]
        out, width, *kernel = module.weight.shape
        one = (1, 1) if kernel else ()
        down = 0.2 * torch.randn((rank, width, *kernel), generator=generator)
        pairs[name] = (down, 0.2 * torch.randn((out, rank, *one), generator=generator), alpha)
    assert pairs
    return pairs


def kohya(pairs: Pairs, prefix: str = "lora_unet_") -> dict[str, torch.Tensor]:
    state = {}
    for name, (down, up, alpha) in pairs.items():
        stem = prefix + name.replace(".", "_")
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up,
                  f"{stem}.alpha": torch.tensor(alpha)}  # fmt: skip
    return state


def named(pairs: Pairs, form: str) -> dict[str, torch.Tensor]:
    """`form` has {layer} and {half}, which is A or B."""
    return {
        form.format(layer=name, half=half): tensor
        for name, (down, up, _) in pairs.items()
        for half, tensor in (("A", down), ("B", up))
    }


def lora_AB(pairs: Pairs) -> dict[str, torch.Tensor]:  # noqa: N802
    return named(pairs, "unet.{layer}.lora_{half}.weight")


def up_and_down(pairs: Pairs) -> dict[str, torch.Tensor]:
    words = {"A": "down", "B": "up"}
    return {
        f"unet.{name}.lora.{words[half]}.weight": tensor
        for name, (down, up, _) in pairs.items()
        for half, tensor in (("A", down), ("B", up))
    }


def processors(pairs: Pairs) -> dict[str, torch.Tensor]:
    """The first layout of diffusers: `....attn2.processor.to_q_lora.down.weight`."""
    return {
        key.replace(".attn1.", ".attn1.processor.").replace(".attn2.", ".attn2.processor.")
        .replace(".to_out.0.lora", ".to_out_lora").replace(".lora.", "_lora."): tensor
        for key, tensor in up_and_down(pairs).items()
    }  # fmt: skip


def without_prefix(pairs: Pairs) -> dict[str, torch.Tensor]:
    """As `unet.save_attn_procs` wrote it."""
    return {key.removeprefix("unet."): tensor for key, tensor in processors(pairs).items()}


def changes(pipeline: Any, before: dict[str, torch.Tensor], pairs: Pairs, part: str) -> list[float]:
    """For every layer: how much of what should be added was added; 1.0 is right."""
    state = getattr(pipeline, part).state_dict()
    shares = []
    for name, (down, up, scale) in pairs.items():
        wanted = scale * (up.flatten(1) @ down.flatten(1)).view(before[f"{name}.weight"].shape)
        found = state[f"{name}.weight"] - before[f"{name}.weight"]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        shares.append(float((found * wanted).sum() / (wanted * wanted).sum()))
    untouched = {f"{name}.weight" for name in pairs}
    for key, value in state.items():
        assert key in untouched or torch.equal(value, before[key]), key
    return shares


def scaled(pairs: Pairs, has_alpha: bool) -> Pairs:
    """The same with alpha / rank in the place of alpha."""
    return {name: (down, up, alpha / down.shape[0] if has_alpha else 1.0)
            for name, (down, up, alpha) in pairs.items()}  # fmt: skip


@pytest.fixture
def pipeline(tiny_random_base: Path) -> Any:
    return load_base(str(tiny_random_base), torch.float32)


def predict(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn((2, 4, 8, 8), generator=generator)
    text = torch.randn((2, 77, 32), generator=generator)
    with torch.no_grad():
        return unet.eval()(latents, torch.tensor([10, 500]), encoder_hidden_states=text).sample


LAYOUTS: dict[str, tuple[Callable[[Pairs], dict[str, torch.Tensor]], tuple[str, ...], bool]] = {
    "kohya": (kohya, ATTENTION, True),
    "LoCon": (kohya, ATTENTION + OTHERS, True),
    "diffusers": (lora_AB, ATTENTION + OTHERS, False),
    "diffusers, up and down": (up_and_down, ATTENTION, False),
    "attention processors": (processors, ATTENTION, False),
    "attention processors alone": (without_prefix, ATTENTION, False),
}


@pytest.mark.parametrize("are_alike", [True, False], ids=["one rank", "ranks differ"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layer_gets_its_own_alpha_over_rank(
    pipeline: Any, tmp_path: Path, layout: str, are_alike: bool
) -> None:
    write, ends, has_alpha = LAYOUTS[layout]
    pairs = make_pairs(pipeline.unet, ends, are_alike=are_alike)
    save_file(write(pairs), tmp_path / "a.safetensors")
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    load_lora(pipeline, tmp_path / "a.safetensors")
    shares = changes(pipeline, before, scaled(pairs, has_alpha), "unet")
    assert shares == pytest.approx([1.0] * len(pairs), abs=1e-3)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name[-5:] != "alone"])
def test_what_plain_diffusers_opens_gives_what_it_gives_there(
    pipeline: Any, tiny_random_base: Path, tmp_path: Path, layout: str
) -> None:
    write, ends, _ = LAYOUTS[layout]
    pairs = make_pairs(pipeline.unet, ends, are_alike=True)
    save_file(write(pairs), tmp_path / "a.safetensors")
    plain = load_base(str(tiny_random_base), torch.float32)
    base = predict(plain.unet)
    plain.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    assert not torch.allclose(predict(plain.unet), base, atol=1e-3)
    load_lora(pipeline, tmp_path / "a.safetensors")
    torch.testing.assert_close(predict(pipeline.unet), predict(plain.unet), rtol=1e-3, atol=1e-4)


# peft takes the one axis of its own `lora_bias` for a sign of missing shards.
@pytest.mark.filterwarnings("ignore:Adapter 'default'. .* invalid shape")
@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_folder_of_peft_gives_what_it_gives_in_peft(
    pipeline: Any, tiny_random_base: Path, tmp_path: Path, use_rslora: bool
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(
        r=4, lora_alpha=6, target_modules=["to_out.0", "ff.net.0.proj", "conv1"],
        rank_pattern={"attn2.to_out.0": 2}, alpha_pattern={"attn2.to_out.0": 7, "conv1": 3},
        use_rslora=use_rslora, lora_bias=True,
    )  # fmt: skip
    unet = load_base(str(tiny_random_base), torch.float32).unet
    model = get_peft_model(unet, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(str(tmp_path / "adapter"))
    assert isinstance(model, PeftModel)
    first = load_lora(pipeline, tmp_path / "adapter")
    torch.testing.assert_close(predict(pipeline.unet), predict(model), rtol=1e-3, atol=1e-4)

    # Another alpha is another model, though the weights are the same file.
    settings = tmp_path / "adapter" / "adapter_config.json"
    edited = json.loads(settings.read_text(encoding="utf-8")) | {"lora_alpha": 1}
    settings.write_text(json.dumps(edited), encoding="utf-8")
    assert load_lora(pipeline, tmp_path / "adapter") != first


def test_the_text_encoder_is_changed_too(
    pipeline: Any, tiny_random_base: Path, tmp_path: Path
) -> None:
    pairs = make_pairs(pipeline.text_encoder, TEXT, are_alike=False)
    unet = make_pairs(pipeline.unet, ATTENTION, are_alike=True)
    # With the name that the layers have in files, and had before transformers 5.
    state = kohya(unet) | kohya(pairs, "lora_te_text_model_")
    save_file(state, tmp_path / "kohya.safetensors")
    before = {key: value.clone() for key, value in pipeline.text_encoder.state_dict().items()}
    load_lora(pipeline, tmp_path / "kohya.safetensors")
    changes(pipeline, before, scaled(pairs, True), "text_encoder")

    for form in ("text_encoder.text_model.{layer}.lora_{half}.weight",
                 "text_encoder.{layer}.lora_{half}.weight"):  # fmt: skip
        pipeline = load_base(str(tiny_random_base), torch.float32)
        save_file(lora_AB(unet) | named(pairs, form), tmp_path / "diffusers.safetensors")
        load_lora(pipeline, tmp_path / "diffusers.safetensors")
        changes(pipeline, before, scaled(pairs, False), "text_encoder")


def test_older_layouts_of_the_text_encoder(pipeline: Any, tmp_path: Path) -> None:
    pairs = make_pairs(pipeline.text_encoder, TEXT, are_alike=True)
    state = {}
    for name, (down, up, _) in pairs.items():
        stem = f"text_encoder.text_model.{name}.lora_linear_layer"
        for long, short in (("q_proj", "to_q"), ("v_proj", "to_v"), ("out_proj", "to_out")):
            stem = stem.replace(f".{long}.lora_linear_layer", f".{short}_lora")
        state |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    save_file(state, tmp_path / "old.safetensors")
    before = {key: value.clone() for key, value in pipeline.text_encoder.state_dict().items()}
    load_lora(pipeline, tmp_path / "old.safetensors")
    changes(pipeline, before, scaled(pairs, False), "text_encoder")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_formats_of_files(pipeline: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    pairs = make_pairs(pipeline.unet, ATTENTION, are_alike=False)
    rounded = {n: (d.to(dtype).float(), u.to(dtype).float(), a) for n, (d, u, a) in pairs.items()}
    state = {key: tensor.to(dtype) for key, tensor in kohya(pairs).items()}
    save_file(state, tmp_path / "a.safetensors")
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    load_lora(pipeline, tmp_path / "a.safetensors")
    changes(pipeline, before, scaled(rounded, True), "unet")


def test_a_1x1_convolution_may_be_stored_as_a_matrix(pipeline: Any, tmp_path: Path) -> None:
    pairs = make_pairs(pipeline.unet, ("proj_in", "attn2.to_q"), are_alike=True)
    turned: Pairs = {
        n: (d.flatten(1), u.flatten(1), a) if d.ndim == 4 else (d[..., None, None],
                                                              u[..., None, None], a)
        for n, (d, u, a) in pairs.items()
    }  # fmt: skip
    save_file(kohya(turned), tmp_path / "a.safetensors")
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    load_lora(pipeline, tmp_path / "a.safetensors")
    changes(pipeline, before, scaled(pairs, True), "unet")


# --- What is refused, with its true reason ------------------------------------------------------

STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
DOWN, UP = f"{STEM}.lora_down.weight", f"{STEM}.lora_up.weight"
PAIR = {DOWN: torch.ones(4, 32), UP: torch.ones(32, 4)}
WIDE = {key.replace("to_q", "to_k"): value for key, value in PAIR.items()}
WIDE_DOWN = DOWN.replace("to_q", "to_k")
REFUSED = {
    "LoHa": ({f"{STEM}.hada_w1_a": torch.ones(32, 4)}, "a LoHa adapter"),
    "LoKr": ({f"{STEM}.lokr_w1": torch.ones(4, 4)}, "a LoKr adapter"),
    "DoRA": (PAIR | {f"{STEM}.dora_scale": torch.ones(32, 1)}, "a DoRA adapter"),
    "DoRA of peft": ({"unet.x.lora_magnitude_vector": torch.ones(4)}, "a DoRA adapter"),
    "Tucker": (PAIR | {f"{STEM}.lora_mid.weight": torch.ones(4, 4, 3, 3)}, "a Tucker core"),
    "textual inversion": ({"emb_params": torch.ones(2, 768)}, "a textual inversion"),
    "a token": ({"<heart>": torch.ones(768)}, "a textual inversion"),
    "a base": ({"model.diffusion_model.out.2.bias": torch.ones(4)}, "give it as --base"),
    "a UNet": ({"down_blocks.0.resnets.0.conv1.bias": torch.ones(4)}, "give it as --base"),
    "nothing": ({"scale": torch.ones(4)}, "holds no LoRA matrices"),
    "a norm": (PAIR | {f"{STEM}.diff_b": torch.ones(4)}, "diff_b is not a LoRA matrix"),
    "NaN": (PAIR | {UP: torch.full((32, 4), torch.nan)}, f"{UP} holds NaN or infinity"),
    "infinite": (PAIR | {DOWN: torch.full((4, 32), torch.inf)}, f"{DOWN} holds NaN or infinity"),
    "NaN in alpha": (PAIR | {f"{STEM}.alpha": torch.tensor(torch.nan)}, "alpha holds NaN"),
    "no partner": ({DOWN: torch.ones(4, 32)}, "its `up` matrix is missing"),
    "two ranks": (PAIR | {UP: torch.ones(32, 2)}, "different ranks, 4 and 2"),
    "SD 2": (WIDE | {WIDE_DOWN: torch.ones(4, 1024)}, "another base (Stable Diffusion 2.x)"),
    "SDXL widths": (WIDE | {WIDE_DOWN: torch.ones(4, 2048)}, "base (Stable Diffusion XL)"),
    "SDXL names": ({key.replace("down_blocks", "input_blocks"): value
                    for key, value in PAIR.items()}, "Stable Diffusion XL"),
    "SDXL text": ({key.replace("unet", "te2"): v for key, v in PAIR.items()}, "Diffusion XL"),
    "Flux": ({key.replace("down_blocks", "double_blocks"): v for key, v in PAIR.items()}, "Flux"),
    "twice": (PAIR | {"unet." + STEM[10:] + ".lora_A.weight": torch.ones(4, 32)}, "there twice"),
    "a kernel": ({DOWN: torch.ones(4, 32, 3, 3), UP: torch.ones(32, 4, 1, 1)}, "kernel of (3, 3)"),
    "peft alone": ({"base_model.model.x.lora_A.weight": torch.ones(4, 4)}, "adapter_config.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_reason_is_named_and_nothing_changes(pipeline: Any, tmp_path: Path, name: str) -> None:
    state, said = REFUSED[name]
    before = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    file = tmp_path / "a.safetensors"
    save_file({key: value.clone() for key, value in state.items()}, file)
    with pytest.raises(InputError) as caught:
        load_lora(pipeline, file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    after = pipeline.unet.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


CONTENTS = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>login</html>", "a web page, not the weights"),
    "empty": (b"", "empty: download it again"),
    "pickle": (b"PK\x03\x04rest of a .pth", "a pickle under another name"),
}


@pytest.mark.parametrize("name", [*CONTENTS, "cut short"])
def test_files_that_are_no_weights_are_named(pipeline: Any, tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.safetensors"
    if name == "cut short":
        save_file({key: value.clone() for key, value in PAIR.items()}, file)
        content, said = file.read_bytes()[:-100], "cut short: download it again"
    else:
        content, said = CONTENTS[name]
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_lora(pipeline, file)
    assert str(caught.value).startswith(f"{file}: not a safetensors file: ")
    assert said in str(caught.value)


def test_an_adapter_of_peft_that_is_no_lora_is_named(pipeline: Any, tmp_path: Path) -> None:
    key = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"
    state = {f"{key}.lora_A.weight": torch.ones(4, 32), f"{key}.lora_B.weight": torch.ones(32, 4)}
    save_file(state, tmp_path / "adapter_model.safetensors")
    for settings, said in (
        ({"peft_type": "LOHA"}, "of type LOHA"),
        ({"peft_type": "LORA", "use_dora": True, "lora_alpha": 4}, "a DoRA adapter"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
        with pytest.raises(InputError, match=said):
            load_lora(pipeline, tmp_path)
