"""Each training step against a plain reference step, in float64; and the bugs of others.

The references below do one thing after the other, as the papers and the published code do, with
nothing shared between passes.
"""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F

from echodiff.gan.losses import compute_adversarial, compute_patch_nce
from echodiff.gan.methods.cut import (
    LAYERS,
    Cut,
    CutDraw,
    build_projection,
    measure_features,
)
from echodiff.gan.methods.cyclegan import CycleGan
from echodiff.gan.methods.patch_cgan import PatchCgan
from echodiff.gan.methods.regression import Regression
from echodiff.gan.methods.srgan import Srgan
from echodiff.gan.networks.cnn import Cnn
from echodiff.gan.networks.generators import build_discriminator, build_generator
from echodiff.gan.networks.patch_cgan import MaskedPatchDiscriminator, MaskToEcho
from echodiff.gan.networks.srgan import SrResNet, WholeDiscriminator
from echodiff.gan.pool import ImagePool
from echodiff.training.streams import Stream, build_stream

SIDE, BATCH, STEPS = 32, 2, 3


def pictures(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*(shape or (BATCH, 1, SIDE, SIDE)), generator=generator).double() * 2 - 1


def adams(groups, rate=1e-3):
    return {
        name: torch.optim.Adam([p for net in nets for p in net.parameters()], rate, (0.5, 0.999))
        for name, nets in groups.items()
    }


def gradients(net):
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def assert_same_gradients(nets, references):
    for name, net in nets.items():
        ours, theirs = gradients(net), gradients(references[name])
        difference = (ours - theirs).norm() / theirs.norm()
        assert float(difference) < 1e-10, (name, float(difference))


class ListPool:
    """The pool of the published code: a list, one image at a time, told what to draw."""

    def __init__(self, size):
        self.size, self.images = size, []

    def query(self, images, draw):
        given = []
        for image, slot, gives_old in zip(images, draw.slot.tolist(), draw.gives_old.tolist(),
                                          strict=True):  # fmt: skip
            if self.size == 0:
                given.append(image)
            elif len(self.images) < self.size:
                self.images.append(image.clone())
                given.append(image)
            elif gives_old:
                given.append(self.images[slot].clone())
                self.images[slot] = image.clone()
            else:
                given.append(image)
        return torch.stack(given)


# --- CycleGAN


def squares(logits, goal):
    return ((logits - goal) ** 2).mean()


def reference_cyclegan_step(nets, optimizers, pools, source, target, draw, *, identity_weight):
    fake_target, fake_source = nets["G_A"](source), nets["G_B"](target)
    optimizers["G"].zero_grad()
    loss = squares(nets["D_A"](fake_target), 1) + squares(nets["D_B"](fake_source), 1)
    loss = loss + 10 * (nets["G_B"](fake_target) - source).abs().mean()
    loss = loss + 10 * (nets["G_A"](fake_source) - target).abs().mean()
    if identity_weight:
        loss = loss + identity_weight * (nets["G_A"](target) - target).abs().mean()
        loss = loss + identity_weight * (nets["G_B"](source) - source).abs().mean()
    loss.backward()
    optimizers["G"].step()

    optimizers["D"].zero_grad()
    for name, real, fake, chosen in (("D_A", target, fake_target, draw.pool_a),
                                     ("D_B", source, fake_source, draw.pool_b)):  # fmt: skip
        old = pools[name[-1]].query(fake.detach(), chosen)
        (0.5 * (squares(nets[name](real), 1) + squares(nets[name](old), 0))).backward()
    optimizers["D"].step()


def cyclegan_nets(norm="instance", generator="resnet_6", width=3):
    nets = {
        name: build_generator(generator, norm=norm, width=width, seed=seed)
        for seed, name in enumerate(("G_A", "G_B"))
    }
    nets |= {
        name: build_discriminator("patch", norm=norm, width=4, seed=seed)
        for seed, name in enumerate(("D_A", "D_B"), 2)
    }
    return {name: net.double() for name, net in nets.items()}


def cyclegan_groups(nets):
    return {"G": [nets["G_A"], nets["G_B"]], "D": [nets["D_A"], nets["D_B"]]}


@pytest.mark.parametrize("pool_size", [0, 3])
@pytest.mark.parametrize("identity_weight", [0.0, 5.0])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_cyclegan_steps_as_the_reference_does(pool_size, identity_weight, norm):
    nets = cyclegan_nets(norm)
    plain = copy.deepcopy(nets)
    pools = {n: ImagePool(pool_size, (1, SIDE, SIDE), torch.float64) for n in ("A", "B")}
    method = CycleGan(nets, adams(cyclegan_groups(nets)), pools, identity_weight=identity_weight,
                      together=norm == "instance")  # fmt: skip
    optimizers = adams(cyclegan_groups(plain))
    list_pools = {n: ListPool(pool_size) for n in ("A", "B")}
    stream = build_stream(0, Stream.STEP, 0)
    gave_old = 0
    for step in range(STEPS + 1):
        source, target = pictures(2 * step), pictures(2 * step + 1)
        draw = method.sample(stream, step, BATCH)
        gave_old += int(draw.pool_a.gives_old.sum() + draw.pool_b.gives_old.sum())
        losses = method.step(source, target, draw)
        reference_cyclegan_step(plain, optimizers, list_pools, source, target, draw,
                                identity_weight=identity_weight)  # fmt: skip
        assert_same_gradients(nets, plain)
    assert gave_old or not pool_size
    assert set(losses) == {"G_A", "G_B", "cycle_A", "cycle_B", "D_A", "D_B"} | (
        {"identity_A", "identity_B"} if identity_weight else set())  # fmt: skip
    assert not any(loss.requires_grad for loss in losses.values())


def test_cyclegan_with_the_unet_steps_as_the_reference_does():
    nets = cyclegan_nets(generator="unet_256", width=2)
    plain = copy.deepcopy(nets)
    pools = {n: ImagePool(0, (1, 256, 256), torch.float64) for n in ("A", "B")}
    method = CycleGan(nets, adams(cyclegan_groups(nets)), pools)
    source, target = pictures(0, 1, 1, 256, 256), pictures(1, 1, 1, 256, 256)
    draw = method.sample(build_stream(0, Stream.STEP, 0), 0, 1)
    method.step(source, target, draw)
    reference_cyclegan_step(plain, adams(cyclegan_groups(plain)), {n: ListPool(0) for n in "AB"},
                            source, target, draw, identity_weight=5)  # fmt: skip
    assert_same_gradients(nets, plain)


class Spread(torch.nn.Module):
    """Not a network: gives back its input, or a constant, so that every term has a known value."""

    def __init__(self, value=None):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(0.0))
        self.value = value

    def forward(self, image):
        return (image if self.value is None else torch.full_like(image, self.value)) + self.shift


def known_cyclegan(**options):
    """Generators 0.5 and -0.25 everywhere, discriminators that say 3 and 2."""
    nets = {"G_A": Spread(0.5), "G_B": Spread(-0.25), "D_A": Spread(3.0), "D_B": Spread(2.0)}
    pools = {n: ImagePool(0, (1, 4, 4)) for n in ("A", "B")}
    rates = {"G": [nets["G_A"], nets["G_B"]], "D": [nets["D_A"], nets["D_B"]]}
    return CycleGan(nets, adams(rates, rate=0.0), pools, **options)


def step_on_known(method):
    source, target = torch.full((1, 1, 4, 4), 1.0), torch.full((1, 1, 4, 4), -1.0)
    return {name: float(loss) for name, loss in method.step(
        source, target, method.sample(build_stream(0, Stream.STEP, 0), 0, 1)).items()}  # fmt: skip


def test_adversarial_terms_are_squares_and_cycle_terms_absolute():
    """Elsewhere returned in one order and unpacked in another: each trained with the other's."""
    assert step_on_known(known_cyclegan()) == {
        "G_A": (3 - 1) ** 2, "G_B": (2 - 1) ** 2,
        "cycle_A": 1.25, "cycle_B": 1.5, "identity_A": 1.5, "identity_B": 1.25,
        "D_A": 0.5 * (4 + 9), "D_B": 0.5 * (1 + 4),
    }  # fmt: skip


def test_cycle_weighs_10_and_identity_5_of_the_generator_loss():
    """Elsewhere the published 0.5, a share of the cycle weight, is taken for the weight itself."""
    method = known_cyclegan()
    step_on_known(method)
    # d/dshift of G_A, which lies below its target: adversarial 2 * (3 - 1) does not reach it (the
    # discriminator is a constant); cycle of B pulls by 10, identity by 5, both towards -1.
    assert float(method.nets["G_A"].shift.grad) == pytest.approx(10 + 5)
    method = known_cyclegan(identity_weight=0.0)
    step_on_known(method)
    assert float(method.nets["G_A"].shift.grad) == pytest.approx(10)


def test_the_discriminator_loss_is_halved():
    method = known_cyclegan()
    step_on_known(method)
    # Half of d/dshift of (3 - 1)^2 + 3^2.
    assert float(method.nets["D_A"].shift.grad) == pytest.approx(0.5 * (2 * 2 + 2 * 3))


def test_the_log_loss_is_there_too():
    logits = torch.tensor([[0.3, -2.0]]).double()
    real = compute_adversarial(logits, is_real=True, kind="log")
    assert float(real) == pytest.approx(float(-torch.log(torch.sigmoid(logits)).mean()))
    fake = compute_adversarial(logits, is_real=False, kind="log")
    assert float(fake) == pytest.approx(float(-torch.log(1 - torch.sigmoid(logits)).mean()))
    losses = step_on_known(known_cyclegan(adversarial="log"))
    assert losses["G_A"] == pytest.approx(0.048587, rel=1e-4)


# --- CUT


def reference_nce(nets, source, output, places, is_flipped):
    """Features of both pictures by passes of their own; positives beside the row, -10 in it."""
    queries, keys = nets["G"].encode(output, LAYERS), nets["G"].encode(source, LAYERS)
    if is_flipped:
        queries = [query.flip(3) for query in queries]
    total = 0
    for query, key in zip(nets["F"](queries, places), nets["F"](keys, places), strict=True):
        key = key.detach()
        positive = (query * key).sum(2, keepdim=True)
        negative = query @ key.transpose(1, 2)
        negative = negative.masked_fill(torch.eye(negative.shape[1], dtype=bool)[None], -10.0)
        logits = torch.cat([positive, negative], dim=2).flatten(0, 1) / 0.07
        total = total + F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    return total / len(LAYERS)


def reference_cut_step(nets, optimizers, source, target, draw, *, nce_weight, identity_nce):
    seen = [image.flip(3) if draw.is_flipped else image for image in (source, target)]
    fake = nets["G"](seen[0])
    optimizers["D"].zero_grad()
    (0.5 * (squares(nets["D"](fake.detach()), 0) + squares(nets["D"](target), 1))).backward()
    optimizers["D"].step()
    optimizers["G"].zero_grad()
    optimizers["F"].zero_grad()
    nce = nce_weight * reference_nce(nets, source, fake, draw.source_places, draw.is_flipped)
    if identity_nce:
        same = nets["G"](seen[1])
        other = reference_nce(nets, target, same, draw.target_places, draw.is_flipped)
        nce = 0.5 * (nce + nce_weight * other)
    # Gradients of D here are not used: they are taken off before the next update.
    kept = [p.grad.clone() for p in nets["D"].parameters()]
    (squares(nets["D"](fake), 1) + nce).backward()
    for parameter, gradient in zip(nets["D"].parameters(), kept, strict=True):
        parameter.grad = gradient
    optimizers["G"].step()
    optimizers["F"].step()


def cut_parts():
    generator = build_generator("resnet_6_antialiased", width=3, seed=0).double()
    sizes = measure_features(generator, 1, SIDE)
    # As published the weights are so small that all logits agree: let there be something to tell.
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter *= 20
    discriminator = build_discriminator("patch_antialiased", width=4, seed=1).double()
    nets = {"G": generator, "D": discriminator, "F": build_projection(sizes, seed=2).double()}
    with torch.no_grad():
        for parameter in nets["F"].parameters():
            parameter *= 20
    return nets, sizes


def groups_of(nets):
    return {name: [net] for name, net in nets.items()}


@pytest.mark.parametrize(
    ("nce_weight", "identity_nce", "flip_equivariance"),
    [(1.0, True, False), (10.0, False, True), (1.0, True, True), (2.0, False, False)],
)
def test_cut_steps_as_the_reference_does(nce_weight, identity_nce, flip_equivariance):
    nets, sizes = cut_parts()
    plain = copy.deepcopy(nets)
    options = {"nce_weight": nce_weight, "identity_nce": identity_nce}
    method = Cut(nets, adams(groups_of(nets)), feature_sizes=sizes, num_patches=40,
                 flip_equivariance=flip_equivariance, **options)  # fmt: skip
    optimizers = adams(groups_of(plain))
    stream = build_stream(2, Stream.STEP, 0)
    flips = []
    for step in range(STEPS):
        source, target = pictures(2 * step), pictures(2 * step + 1)
        draw = method.sample(stream, step, BATCH)
        flips.append(draw.is_flipped)
        losses = method.step(source, target, draw)
        reference_cut_step(plain, optimizers, source, target, draw, **options)
        assert_same_gradients(nets, plain)
    assert len(set(flips)) == (2 if flip_equivariance else 1)
    assert set(losses) == {"D", "G", "NCE"} | ({"NCE_identity"} if identity_nce else set())


def test_patch_places_are_drawn_without_replacement_and_anew():
    nets, sizes = cut_parts()
    assert sizes == [(1, 38 * 38), (6, 32 * 32), (12, 16 * 16), (12, 8 * 8), (12, 8 * 8)]
    method = Cut(nets, {}, feature_sizes=sizes)
    stream = build_stream(0, Stream.STEP, 0)
    draws = [method.sample(stream, step, 1) for step in range(2)]
    assert [len(places) for places in draws[0].source_places] == [256, 256, 256, 64, 64]
    for draw in draws:
        for (_, positions), *both in zip(sizes, draw.source_places, draw.target_places,
                                         strict=True):  # fmt: skip
            for places in both:
                assert len(places.unique()) == len(places)
                assert int(places.max()) < positions
    first = [draws[0].source_places[0], draws[0].target_places[0], draws[1].source_places[0]]
    assert len({tuple(places.tolist()) for places in first}) == 3
    # Every position is as likely as any other: here with 256 of 1024, 100 times.
    counts = torch.zeros(1024)
    for step in range(100):
        counts[method.sample(stream, step, 1).source_places[1]] += 1
    assert float(counts.mean()) == 25
    assert float(counts.std()) == pytest.approx((100 * 0.25 * 0.75) ** 0.5, rel=0.1)


def test_patch_nce_of_clear_answers_is_nothing_and_of_none_the_log_of_their_number():
    vectors = torch.eye(8).double()[None]
    assert float(compute_patch_nce([vectors], [vectors], 0.07)) < 1e-5
    same = torch.ones(2, 8, 4).double() / 2
    assert float(compute_patch_nce([same], [same], 0.07)) == pytest.approx(8**0 * 2.0794415)
    # Keys of another image are no negatives.
    both = torch.cat([vectors, vectors])
    assert float(compute_patch_nce([both], [both], 0.07)) < 1e-5


def test_cuts_discriminator_loss_is_halved():
    nets, sizes = cut_parts()
    method = Cut(nets, adams(groups_of(nets), rate=0.0), feature_sizes=sizes)
    source, target = pictures(0), pictures(1)
    losses = method.step(source, target, method.sample(build_stream(0, Stream.STEP, 0), 0, BATCH))
    with torch.no_grad():
        whole = squares(nets["D"](nets["G"](source)), 0) + squares(nets["D"](target), 1)
    assert float(losses["D"]) == pytest.approx(0.5 * float(whole))


# --- the pool


def test_the_pool_fills_up_and_then_exchanges_half():
    pool = ImagePool(5, (1, 1, 1))
    stream = build_stream(0, Stream.STEP, 0)
    images = torch.arange(1.0, 2001.0).view(-1, 1, 1, 1)
    given = []
    for step in range(500):
        draw = pool.sample(stream, step * 4, 4)
        given.append(pool.exchange(images[step * 4 : step * 4 + 4], draw).flatten())
    given = torch.cat(given)
    assert torch.equal(given[:5], images[:5].flatten())
    is_old = given != images.flatten()
    assert 0.46 < float(is_old[5:].float().mean()) < 0.54
    # Nothing is given out twice but what filled the pool, and nothing that was not given in.
    values, counts = given.unique(return_counts=True)
    assert set(values[counts > 1].tolist()) <= set(range(1, 6))
    assert set(given.tolist()) | set(pool.images.flatten().tolist()) >= set(range(1, 2001))


def test_what_the_pool_keeps_is_a_copy():
    pool = ImagePool(1, (1, 1, 1))
    image = torch.ones(1, 1, 1, 1)
    given = pool.exchange(image, pool.sample(build_stream(0, Stream.STEP, 0), 0, 1))
    image.fill_(7)
    given.fill_(8)
    assert float(pool.images) == 1


# --- patch-cGAN


def masks(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, (BATCH, 1, 128, 128), generator=generator).double()


def reference_patch_cgan_step(nets, optimizers, source, target):
    def judge(image, mask):
        return nets["D"](torch.cat([image, mask], 1))

    optimizers["D"].zero_grad()
    squares(judge(target, source), 1).backward()
    optimizers["D"].step()
    nets["G"].eval()
    with torch.no_grad():
        fake = nets["G"](source)
    nets["G"].train()
    optimizers["D"].zero_grad()
    squares(judge(fake, source), 0).backward()
    optimizers["D"].step()
    kept = [p.grad.clone() for p in nets["D"].parameters()]
    optimizers["G"].zero_grad()
    image = nets["G"](source)
    (squares(judge(image, source), 1) + 100 * (image - target).abs().mean()).backward()
    for parameter, gradient in zip(nets["D"].parameters(), kept, strict=True):
        parameter.grad = gradient
    optimizers["G"].step()


def patch_cgan_nets():
    return {"G": MaskToEcho(width=2).double(), "D": MaskedPatchDiscriminator(width=2).double()}


def test_patch_cgan_steps_as_the_reference_does():
    nets = patch_cgan_nets()
    plain = copy.deepcopy(nets)
    method = PatchCgan(nets, adams(groups_of(nets)), {"pairs": ImagePool(0, (2, 128, 128))})
    optimizers = adams(groups_of(plain))
    for step in range(STEPS):
        source, target = masks(step), pictures(step, BATCH, 1, 128, 128) / 2 + 0.5
        method.step(source, target, method.sample(build_stream(0, Stream.STEP, 0), step, BATCH))
        reference_patch_cgan_step(plain, optimizers, source, target)
        assert_same_gradients(nets, plain)


def test_an_old_fake_is_judged_beside_its_own_mask():
    """Elsewhere an old fake from the pool was joined with the mask of the current step."""
    seen = []

    class Watched(Spread):
        def forward(self, pair):
            seen.append(pair.detach())
            return super().forward(pair[:, :1])

    class Copy(Spread):
        """Draws ten times its mask, so that a fake tells which mask it belongs to."""

        def forward(self, mask):
            return 10 * mask + self.shift

    nets = {"G": Copy(), "D": Watched()}
    pools = {"pairs": ImagePool(2, (2, 4, 4))}
    method = PatchCgan(nets, adams(groups_of(nets), rate=0.0), pools)
    stream = build_stream(0, Stream.STEP, 0)
    num_old = 0
    for step in range(20):
        mask = torch.full((1, 1, 4, 4), float(step))
        draw = method.sample(stream, step, 1)
        method.step(mask, mask / 100, draw)
        fake_pair = seen[-2]  # real pair, fake pair, the generator's
        assert torch.equal(fake_pair[:, :1], 10 * fake_pair[:, 1:])
        num_old += int(fake_pair[0, 1, 0, 0] != step)
    assert num_old > 3


def test_patch_cgan_has_the_published_sizes():
    with torch.device("meta"):
        generator, discriminator = MaskToEcho(), MaskedPatchDiscriminator()
    moving = sum(b.numel() for n, b in generator.named_buffers() if "running" in n)
    assert sum(p.numel() for p in generator.parameters()) == 44_647_378
    assert moving == 8_832
    moving = sum(b.numel() for n, b in discriminator.named_buffers() if "running" in n)
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_505
    assert moving == 1_792


@torch.no_grad()
def test_patch_cgan_has_a_bottleneck_of_2_and_16_by_16_patches():
    generator = MaskToEcho(width=2).eval()
    bottleneck = torch.nn.Sequential(*generator.model[:20])(torch.zeros(1, 1, 256, 256))
    assert bottleneck.shape == (1, 16, 2, 2)
    image = generator(torch.zeros(1, 1, 256, 256))
    assert image.shape == (1, 1, 256, 256)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    logits = MaskedPatchDiscriminator(width=2)(torch.zeros(2, 2, 256, 256))
    assert logits.shape == (2, 1, 16, 16)


# --- the baseline


def test_regression_descends_on_the_absolute_error():
    net = Cnn(norm="instance", width=4).double()
    method = Regression({"G": net}, adams({"G": [net]}))
    source, target = pictures(0), pictures(1)
    plain = copy.deepcopy(net)
    error = (plain(source) - target).abs().mean()
    error.backward()
    losses = method.step(source, target, None)
    assert_same_gradients({"G": net}, {"G": plain})
    assert float(losses["reconstruction"]) == pytest.approx(float(error.detach()))


# --- SRGAN


def reference_srgan_step(nets, optimizers, source, target):
    def log_loss(logits, is_real):
        return -torch.log(torch.sigmoid(logits if is_real else -logits)).mean()

    fake = nets["G"](source)
    optimizers["D"].zero_grad()
    (log_loss(nets["D"](target), True) + log_loss(nets["D"](fake.detach()), False)).backward()
    optimizers["D"].step()
    kept = [p.grad.clone() for p in nets["D"].parameters()]
    optimizers["G"].zero_grad()
    adversarial = log_loss(nets["D"](fake), True)
    (adversarial + 1000 * ((fake - target) ** 2).mean()).backward()
    for parameter, gradient in zip(nets["D"].parameters(), kept, strict=True):
        parameter.grad = gradient
    optimizers["G"].step()


def test_srgan_steps_as_the_reference_does():
    nets = {
        "G": SrResNet(width=3, num_blocks=2).double(),
        "D": WholeDiscriminator(width=2).double(),
    }
    plain = copy.deepcopy(nets)
    method = Srgan(nets, adams(groups_of(nets)))
    optimizers = adams(groups_of(plain))
    for step in range(STEPS):
        source, target = pictures(step, BATCH, 1, 16, 16), pictures(step + 9)
        method.step(source, target, None)
        reference_srgan_step(plain, optimizers, source, target)
        assert_same_gradients(nets, plain)


# --- bf16


def test_bf16_steps_are_near_those_in_float32():
    found = []
    for autocast in (None, functools.partial(torch.autocast, "cpu", torch.bfloat16)):
        nets = {name: net.float() for name, net in cyclegan_nets(width=8).items()}
        pools = {n: ImagePool(0, (1, SIDE, SIDE)) for n in ("A", "B")}
        options = {} if autocast is None else {"autocast": autocast}
        method = CycleGan(nets, adams(cyclegan_groups(nets), 1e-5), pools, **options)
        for step in range(2):
            draw = method.sample(build_stream(0, Stream.STEP, 0), step, BATCH)
            losses = method.step(pictures(0).float(), pictures(1).float(), draw)
        found.append(torch.stack(list(losses.values())))
        assert all(loss.dtype == torch.float32 for loss in losses.values())
    torch.testing.assert_close(*found, rtol=0.03, atol=0.01)
    assert not torch.equal(*found)


def test_every_network_of_cut_learns_under_bf16():
    """Keys are projected without gradients first: what autocast keeps of that must not stay so."""
    found = []
    for options in ({}, {"autocast": functools.partial(torch.autocast, "cpu", torch.bfloat16)}):
        nets, sizes = cut_parts()
        nets = {name: net.float() for name, net in nets.items()}
        method = Cut(nets, adams(groups_of(nets)), feature_sizes=sizes, **options)
        draw = method.sample(build_stream(0, Stream.STEP, 0), 0, BATCH)
        method.step(pictures(0).float(), pictures(1).float(), draw)
        assert all(p.grad is not None for net in nets.values() for p in net.parameters())
        weights = [p.grad.flatten() for p in nets["F"].parameters() if p.ndim == 2]
        found.append(torch.cat(weights))
    assert float((found[1] - found[0]).norm() / found[0].norm()) < 0.1


def test_cut_draw_is_plain_values():
    assert CutDraw._fields == ("source_places", "target_places", "is_flipped")
