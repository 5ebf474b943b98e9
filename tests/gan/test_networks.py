"""Networks have the published sizes and key names, and take the pictures they say they take."""

import pytest
import torch

from echodiff.gan.networks.generators import PatchProjection, build_discriminator, build_generator
from echodiff.gan.networks.layers import BlurDown, BlurUp, InstanceNorm

# Counted on the published code, grey and RGB.
PUBLISHED = [
    ("unet_256", "instance", 54_403_457, 54_409_603, 32),
    ("unet_256", "batch", 54_407_809, 54_413_955, 82),
    ("unet_128", "instance", 41_819_521, 41_825_667, 28),
    ("resnet_6", "instance", 7_825_153, 7_837_699, 36),
    ("resnet_9", "instance", 11_365_633, 11_378_179, 48),
    ("resnet_9", "batch", 11_370_881, 11_383_427, 140),
    ("resnet_9_antialiased", "instance", 11_365_633, 11_378_179, 52),
    ("resnet_6_antialiased", "instance", 7_825_153, 7_837_699, 40),
]


def num_parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("name", "norm", "grey", "rgb", "num_keys"), PUBLISHED)
def test_generators_have_the_published_sizes(name, norm, grey, rgb, num_keys):
    with torch.device("meta"):
        nets = [build_generator(name, channels, norm=norm) for channels in (1, 3)]
    assert [num_parameters(net) for net in nets] == [grey, rgb]
    assert len(nets[0].state_dict()) == num_keys


@pytest.mark.parametrize(
    ("name", "norm", "grey", "rgb", "keys"),
    [
        ("patch", "instance", 2_762_689, 2_764_737, 10),
        ("patch", "batch", 2_763_585, 2_765_633, 22),
        ("patch_antialiased", "instance", 2_762_689, 2_764_737, 13),
    ],
)
def test_discriminators_have_the_published_sizes(name, norm, grey, rgb, keys):
    with torch.device("meta"):
        nets = [build_discriminator(name, channels, norm=norm) for channels in (1, 3)]
    assert [num_parameters(net) for net in nets] == [grey, rgb]
    assert len(nets[0].state_dict()) == keys


def test_the_projection_has_the_published_size():
    assert num_parameters(PatchProjection([1, 128, 256, 256, 256])) == 559_872
    net = PatchProjection([3, 128, 256, 256, 256])
    assert num_parameters(net) == 560_384
    assert list(net.state_dict()) == [
        f"mlp_{i}.{layer}.{kind}" for i in range(5) for layer in (0, 2)
        for kind in ("weight", "bias")
    ]  # fmt: skip


def stems(net):
    return list(dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict()))


def test_key_names_are_the_published_ones():
    with torch.device("meta"):
        assert stems(build_generator("resnet_6")) == [
            "model.1", "model.4", "model.7",
            *(f"model.{i}.conv_block.{j}" for i in range(10, 16) for j in (1, 5)),
            "model.16", "model.19", "model.23",
        ]  # fmt: skip
        assert stems(build_generator("resnet_9"))[-3:] == ["model.19", "model.22", "model.26"]
        antialiased = [
            "model.1", "model.4", "model.7", "model.8", "model.11",
            *(f"model.{i}.conv_block.{j}" for i in range(12, 21) for j in (1, 5)),
            "model.21", "model.22", "model.25", "model.26", "model.30",
        ]  # fmt: skip
        net = build_generator("resnet_9_antialiased")
        assert stems(net) == antialiased
        assert [key for key in net.state_dict() if key.endswith("filt")] == [
            f"model.{i}.filt" for i in (7, 11, 21, 25)
        ]
        unet = list(build_generator("unet_256").state_dict())
        deepest = "model.model.1" + ".model.3" * 6
        assert unet[0] == "model.model.0.weight"
        assert unet[2] == "model.model.1.model.1.weight"
        assert unet[4] == "model.model.1.model.3.model.1.weight"
        assert f"{deepest}.model.1.weight" in unet
        assert f"{deepest}.model.3.bias" in unet
        assert unet[-2:] == ["model.model.3.weight", "model.model.3.bias"]
        assert stems(build_discriminator("patch")) == [f"model.{i}" for i in (0, 2, 5, 8, 11)]
        assert stems(build_discriminator("patch_antialiased")) == [
            f"model.{i}" for i in (0, 2, 3, 6, 7, 10, 11, 14)
        ]


def test_initialisation_is_the_published_one():
    net = build_generator("resnet_6", width=32, norm="batch")
    weights = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim == 4])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.01)
    assert float(net.model[2].weight.detach().mean()) == pytest.approx(1, abs=0.02)
    assert float(net.model[2].weight.detach().std()) == pytest.approx(0.02, rel=0.4)
    assert not net.model[23].bias.any()
    block = build_generator("resnet_6_antialiased", width=32).model[12].conv_block[1].weight
    # Xavier: variance 2 / (fan in + fan out), here both 128 * 9, times the gain squared.
    assert float(block.detach().std()) == pytest.approx(0.02 * (128 * 9) ** -0.5, rel=0.02)


def test_seeds_tell_networks_apart_and_the_global_generator_does_not():
    torch.manual_seed(1)
    one = build_generator("resnet_6", width=4, seed=5).model[1].weight
    torch.manual_seed(2)
    assert torch.equal(one, build_generator("resnet_6", width=4, seed=5).model[1].weight)
    assert not torch.equal(one, build_generator("resnet_6", width=4, seed=6).model[1].weight)


@pytest.mark.parametrize(
    ("name", "side"),
    [("unet_256", 256), ("unet_128", 128), ("resnet_6", 20), ("resnet_9_antialiased", 20)],
)
@torch.no_grad()
def test_pictures_keep_their_size_and_lie_in_minus_one_to_one(name, side):
    net = build_generator(name, 3, width=2)
    image = torch.rand(1, 3, side, 2 * side) * 2 - 1
    output = net(image)
    assert output.shape == image.shape
    assert float(output.abs().max()) <= 1


@pytest.mark.parametrize(
    ("name", "side", "multiple"), [("unet_256", 128, 256), ("unet_256", 384, 256),
                                   ("unet_128", 112, 128), ("resnet_9", 30, 4)]
)  # fmt: skip
def test_other_sizes_are_one_clear_line(name, side, multiple):
    with pytest.raises(ValueError, match=f"{side} x {side} pixels: .* multiples of {multiple}$"):
        build_generator(name, width=2)(torch.zeros(1, 1, side, side))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="resnet_7: no generator; one of unet_256"):
        build_generator("resnet_7")
    with pytest.raises(ValueError, match="pixel: no discriminator; one of patch"):
        build_discriminator("pixel")


@torch.no_grad()
def test_a_patch_is_70_pixels_wide():
    net = build_discriminator("patch", width=2)
    assert net(torch.zeros(1, 1, 256, 256)).shape == (1, 1, 30, 30)
    assert build_discriminator("patch_antialiased", width=2)(torch.zeros(1, 1, 256, 256)).shape == (
        1, 1, 30, 30)  # fmt: skip
    # Without norms, which see the whole picture, a logit knows 70 pixels and no more.
    plain = torch.nn.Sequential(*(m for m in net.model if not isinstance(m, InstanceNorm)))
    for parameter in plain.parameters():
        parameter.fill_(0.1)
    image = torch.zeros(1, 1, 256, 256)
    image[0, 0, 128, 128] = 1
    changed = (plain(image) - plain(torch.zeros_like(image))).abs()[0, 0].amax(0) > 0
    # Logits are 8 pixels apart: 70 pixels hold one pixel 8 or 9 times.
    assert int(changed.sum()) in (8, 9)


@torch.no_grad()
def test_blurs_keep_a_flat_picture_flat_and_its_place():
    flat = torch.full((1, 2, 12, 12), 0.7)
    torch.testing.assert_close(BlurDown(2)(flat), flat[..., :6, :6])
    torch.testing.assert_close(BlurUp(2)(flat), flat.repeat(1, 1, 2, 2))
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    torch.testing.assert_close(BlurDown(1)(ramp)[0, 0, 4, 1:], torch.arange(2.0, 16.0, 2.0))
    # Doubled pixels lie a quarter of a pixel to either side.
    expected = torch.arange(16.0).repeat_interleave(2) + torch.tensor([-0.25, 0.25]).repeat(16)
    torch.testing.assert_close(BlurUp(1)(ramp)[0, 0, 9, 2:-2], expected[2:-2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_instance_norm_keeps_the_layout_and_agrees_with_itself(dtype):
    image = (torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 3 + 5).to(dtype)
    first = InstanceNorm()(image)
    last = InstanceNorm()(image.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.dtype == first.dtype == dtype
    torch.testing.assert_close(first, last)


def test_features_are_those_on_the_way_to_the_output():
    net = build_generator("resnet_9_antialiased", width=4).double()
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    layers = (0, 4, 8, 12, 16)
    output, features = net.with_features(image, layers)
    assert torch.equal(output, net(image))
    assert [tuple(f.shape[1:]) for f in features] == [
        (1, 38, 38), (8, 32, 32), (16, 16, 16), (16, 8, 8), (16, 8, 8)
    ]  # fmt: skip
    for one, other in zip(features, net.encode(image, layers), strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_last_layers_stay_in_float32_under_bf16():
    image = torch.rand(1, 1, 256, 256)
    for net in (build_generator("unet_256", width=2), build_generator("resnet_6", width=2),
                build_discriminator("patch", width=2)):  # fmt: skip
        with torch.autocast("cpu", torch.bfloat16):
            assert net(image).dtype == torch.float32


def test_instance_norm_takes_a_gradient_of_any_layout():
    """torch 2.14's own, on a CPU, mixes up channels where the gradient is channels-last."""
    image = torch.randn(2, 8, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = image.clone().requires_grad_()
        InstanceNorm()(leaf).backward((image**2).contiguous(memory_format=layout))
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
