"""Folded form: the function of the trained network by other operations; ablations run the trained form."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ristn_cli.model import CONFIGS, RISTN, RISTNConfig, folded, fused
from ristn_cli.model.folded import FoldedRISTN, inference_form
from ristn_cli.model.ristn import bicubic_upsample

SMALL = RISTNConfig(branch_one=(1, 2), branch_two=(2, 1), lstm_layers=3, growth=4, upsampling_channels=(8, 8))

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "lite": {
        "norm": "none",
        "refine_bottlenecks": 2,
        "global_skip": True,
        "deconvolution_kernel": 2,
        "gate_start": "delay_line",
    },
    "normalised refine": {"refine_bottlenecks": 1},
    "gates by 1x1": {"gate_kernel": 1},
    "dense input": {"dense_input": True, "normalize_input": True},
    "dense input, gates by 1x1": {"dense_input": True, "gate_kernel": 1},
    "dense fusion": {"fusion": "dense"},
}

ABLATIONS: dict[str, dict[str, Any]] = {
    "c": {"pattern": "c"},
    "rc": {"pattern": "rc", "gate_kernel": 1},
    "dc": {"pattern": "dc", "dense_input": True},
    "no fusion": {"fusion": "none"},
    "ib": {"block": "ib"},
    "rb": {"block": "rb"},
    "image network": {"lstm_layers": 0},
}


@torch.no_grad()
def trained(config: RISTNConfig, *, positive: bool = False) -> RISTN:
    """A network in which every value matters, normalisation's statistics included; its scales may be positive alone."""
    torch.manual_seed(0)
    model = RISTN(config).eval()
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.6 / parameter[0].numel() ** 0.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.normal_()
            if positive:
                module.weight.abs_().add_(0.1)
            module.bias.normal_()
    return model


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("is_fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("positive", [True, False], ids=["positive scales", "any scales"])
@torch.inference_mode()
def test_equals_the_trained_network(
    fields: dict[str, Any], is_fused: bool, positive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of taps outside the frame are right too: frames of one and two pixels are all border."""
    if not is_fused:
        monkeypatch.setattr(fused, "can_fuse", lambda x: False)
    model = trained(replace(SMALL, **fields), positive=positive)
    form = FoldedRISTN(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for shape in ((2, 3, 3, 7, 9), (1, 1, 3, 1, 1), (1, 4, 3, 2, 3), (1, 2, 3, 20, 1)):
        lr = torch.rand(shape)
        middle = shape[1] // 2
        for keep in (slice(None), slice(middle, middle + 1)):
            expected = model(lr, keep)
            torch.testing.assert_close(form(lr, keep), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("fields", ABLATIONS.values(), ids=ABLATIONS)
@torch.inference_mode()
def test_ablations_run_a_copy_of_the_trained_form(fields: dict[str, Any]) -> None:
    model = trained(replace(SMALL, **fields))
    lr = torch.rand(1, 3, 3, 7, 6)
    expected = model(lr, slice(1, 2))
    form = inference_form(model)
    assert isinstance(form, RISTN)
    assert torch.equal(form(lr, slice(1, 2)), expected)
    form.to(torch.bfloat16)
    assert torch.equal(model(lr, slice(1, 2)), expected)
    torch.testing.assert_close(form(lr, slice(1, 2)), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", CONFIGS)
def test_named_networks_are_folded(name: str) -> None:
    with torch.device("meta"):
        assert folded.can_fold(RISTN(CONFIGS[name]).config)


@pytest.fixture
def probe_again() -> Iterator[None]:
    """The fused operators are called once in a process; here again, and by the next test too."""
    fused.has_fused_operators.cache_clear()
    yield
    fused.has_fused_operators.cache_clear()


class Gone:
    """Stands for an operator that a version of PyTorch lacks."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def refuse(*_: Any) -> Any:
    raise RuntimeError("expected at most 12 arguments but received 14")


def forget_activation(x: Any, weight: Any, bias: Any, padding: Any, *_: Any) -> Any:
    return nn.functional.conv2d(x, weight, bias, padding=padding)


class AddNothing:
    """Stands for an operator that computes something else."""

    def binary(self, *_: Any) -> None:
        return None


@pytest.mark.usefixtures("probe_again")
@pytest.mark.parametrize(
    ("name", "stand_in"),
    [
        ("_convolution_pointwise", refuse),
        ("_convolution_pointwise", forget_activation),
        ("_convolution_pointwise_", Gone()),
        ("_convolution_pointwise_", AddNothing()),
    ],
    ids=["other arguments", "other values", "gone", "no sum"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_where_a_fused_operator_does_not_work_the_public_ones_compute(
    name: str, stand_in: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "ONEDNN_TYPES", frozenset({torch.float32, torch.bfloat16}))
    model = trained(SMALL)
    lr = torch.rand(1, 2, 3, 9, 8)
    form = FoldedRISTN(model).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with monkeypatch.context() as without:
        without.setattr(fused, "can_fuse", lambda x: False)
        expected = form(lr)
    monkeypatch.setattr(torch.ops.mkldnn, name, stand_in)
    assert torch.equal(form(lr), expected)
    assert not fused.has_fused_operators(dtype)


@pytest.mark.usefixtures("probe_again")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN here")  # type: ignore[no-untyped-call]
@torch.inference_mode()
def test_the_fused_operators_are_called_once_and_work(monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[bool] = []
    operator = torch.ops.mkldnn._convolution_pointwise

    def count(x: torch.Tensor, *others: Any) -> Any:
        probes.append(x.shape == (1, 2, 3, 3))
        return operator(x, *others)

    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", count)
    form = FoldedRISTN(trained(SMALL)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for _ in range(2):
        form(torch.rand(1, 2, 3, 9, 8))
    assert probes.count(True) == 1
    assert len(probes) > 1


@pytest.mark.parametrize("has_instructions", [True, False])
def test_onednn_types_are_those_that_onednn_reports(monkeypatch: pytest.MonkeyPatch, has_instructions: bool) -> None:
    for name in ("_is_mkldnn_bf16_supported", "_is_mkldnn_fp16_supported"):
        monkeypatch.setattr(torch.ops.mkldnn, name, lambda: has_instructions)
    halves = {torch.bfloat16, torch.float16} if has_instructions else set()
    assert fused.onednn_types() == {torch.float32, *halves}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("positive", [True, False], ids=["positive scales", "any scales"])
@torch.inference_mode()
def test_without_half_precision_values_are_kept_in_it_and_computed_in_float32(
    fields: dict[str, Any], positive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What convolutions and sums make is rounded once, as by instructions for half precision."""
    monkeypatch.setattr(fused, "ONEDNN_TYPES", frozenset({torch.float32}))
    model = trained(replace(SMALL, **fields), positive=positive)
    lr = torch.rand(1, 3, 3, 9, 8)
    form = FoldedRISTN(model).to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with Convolutions() as convolutions:
        made = form(lr, slice(1, 2))
    assert convolutions.types == {torch.float32}
    torch.testing.assert_close(made, model(lr, slice(1, 2)), rtol=0.05, atol=0.05)


class Convolutions(TorchDispatchMode):
    """The types of the images that convolutions are called with; what is 3x3 is a kernel, or the taps at a border."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "conv" in str(func):
            self.types |= {value.dtype for value in args if isinstance(value, torch.Tensor) and value.shape[-1] > 3}
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def test_a_cpu_without_onednn_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "ONEDNN_TYPES", frozenset())
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", lambda *_: pytest.fail("oneDNN is called"))
    model = trained(SMALL)
    lr = torch.rand(1, 2, 3, 9, 8)
    form = FoldedRISTN(model).to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(form(lr), model(lr), rtol=0.05, atol=0.05)


@torch.inference_mode()
def test_strips_give_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(SMALL)
    lr = torch.rand(1, 2, 3, 37, 6)
    whole = FoldedRISTN(model)(lr)
    monkeypatch.setattr(folded, "STRIP_VALUES", 1)  # eight rows
    torch.testing.assert_close(FoldedRISTN(model)(lr), whole, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_input_and_network_are_left_as_they_were() -> None:
    model = trained(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lr = torch.rand(1, 2, 3, 8, 8)
    copy = lr.clone()
    FoldedRISTN(model)(lr)
    assert torch.equal(lr, copy)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.inference_mode()
def test_bfloat16_is_near_float32() -> None:
    """Above 50 dB for values in [0, 1]; the released weights on real frames are tested with the engine."""
    model = trained(replace(SMALL, **VARIANTS["lite"]))
    lr = torch.rand(1, 5, 3, 24, 24)
    with torch.no_grad():
        model.reconstruction.last.weight.mul_(0.1)  # details are small against the frame, as trained weights have them
    half = FoldedRISTN(model).to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    error = (half(lr) - model(lr)).square().mean()
    assert -10 * torch.log10(error) > 50


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_runs_on_meta(name: str, dtype: torch.dtype) -> None:
    """Shapes and types as on a GPU, for the real sizes, without computing."""
    model = RISTN(CONFIGS[name])
    form = FoldedRISTN(model).to("meta", dtype)
    out = form(torch.empty(2, 7, 3, 45, 80, device="meta"), slice(2, 5))
    assert out.shape == (2, 3, 3, 180, 320)
    assert out.dtype == torch.float32


@torch.inference_mode()
def test_cells_and_the_skip_stay_in_float32() -> None:
    model = trained(replace(SMALL, **VARIANTS["lite"]))
    with torch.no_grad():
        model.reconstruction.last.weight.zero_()
        assert model.reconstruction.last.bias is not None
        model.reconstruction.last.bias.zero_()
    half = FoldedRISTN(model).to(torch.bfloat16)
    lr = torch.rand(1, 2, 3, 6, 6)
    assert torch.equal(half(lr)[0], bicubic_upsample(lr[0]))  # which bfloat16 could not hold
    direction = half.features.layers[0].directions[0]  # type: ignore[union-attr,index]
    hidden = torch.empty(1, direction.hidden, 3, 3, dtype=torch.bfloat16)
    cell = direction.step([torch.randn(1, 4 * direction.hidden, 3, 3).bfloat16()], None, hidden)
    assert cell.dtype == torch.float32


def test_folding_works_on_a_copy_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding needs float64, which some devices lack, and must not move a network that is in use."""
    brought: list[nn.Module] = []
    monkeypatch.setattr(RISTN, "cpu", lambda network: brought.append(network) or nn.Module.cpu(network))
    model = RISTN(SMALL)
    FoldedRISTN(model)
    assert len(brought) == 1
    assert brought[0] is not model
