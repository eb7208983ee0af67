"""Configuration of the network, and the named configurations."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ristn_cli.typed import build

BlockKind = Literal["rib", "ib", "rb"]
NormKind = Literal["batch", "none"]
TemporalPattern = Literal["c", "rc", "dc", "rdc"]
GateStart = Literal["uniform", "delay_line"]
FusionKind = Literal["sparse", "dense", "none"]

SCALE = 4

# A configuration may come from an untrusted weights file. Without limits, building its network could take very long.
MAX_STAGES = 6
MAX_CHANNELS = 2048
MAX_LAYERS = 256


@dataclass(frozen=True, kw_only=True)
class RISTNConfig:
    """Widths and depths of the network. The defaults are the paper's (section "Implementation details").

    Attributes:
        base_channels: channels after RGB is padded with zero channels.
        branch_one: number of bottlenecks in each block of the first branch, one value per stage.
        branch_two: the same for the second branch.
        block: spatial block: `rib`, or `ib` or `rb` for the ablations of Table 1.
        bottleneck_divisor: the inner width of a bottleneck is half of the block's channels divided by this, rounded
            down.
        norm: normalization before each activation: `batch` or `none`.
        pattern: connections of the ConvLSTM layers: `c`, `rc`, `dc` or `rdc` (Fig. 4).
        lstm_layers: number of bidirectional ConvLSTM layers. With 0, a 1x1 convolution replaces the temporal component
            and the fusion: the single-image network of Table 1.
        growth: output channels of each direction of a ConvLSTM layer.
        gate_kernel: kernel size of the gates: 3 as in the paper, or 1. With 1, only the cell input g has 3x3 kernels.
        dense_input: whether every ConvLSTM layer reads the spatial features, instead of the first layer only. Needs a
            dense pattern.
        gate_start: initialization of the gates: `uniform`, or `delay_line`, which also makes the maps around the
            temporal component orthogonal.
        fusion: `sparse`, or `dense` (DF) or `none` (NF) for the ablations of Table 2.
        refine_bottlenecks: number of bottlenecks in a RIB between fusion and upsampling. 0, the paper's value, omits
            it.
        upsampling_channels: output channels of the two deconvolutions.
        deconvolution_kernel: 3 as in the paper's text, or 2 as in its parameter count.
        normalize_input: whether RGB is mapped from [0, 1] to [-2, 2] before padding.
        global_skip: whether the bicubic 4x upscale of each frame is added to the output. The last convolution is then
            initialized to zero.
    """

    base_channels: int = 16
    branch_one: tuple[int, ...] = (6, 8, 10, 10)
    branch_two: tuple[int, ...] = (6, 6, 12, 6)
    block: BlockKind = "rib"
    bottleneck_divisor: int = 3
    norm: NormKind = "batch"
    pattern: TemporalPattern = "rdc"
    lstm_layers: int = 10
    growth: int = 16
    gate_kernel: int = 3
    dense_input: bool = False
    gate_start: GateStart = "uniform"
    fusion: FusionKind = "sparse"
    refine_bottlenecks: int = 0
    upsampling_channels: tuple[int, int] = (256, 256)
    deconvolution_kernel: int = 3
    normalize_input: bool = False
    global_skip: bool = False

    def __post_init__(self) -> None:
        stages, widths = len(self.branch_one), (self.base_channels, self.growth, *self.upsampling_channels)
        depths = (self.lstm_layers, self.refine_bottlenecks, *self.branch_one, *self.branch_two)
        if max(stages, len(self.branch_two)) > MAX_STAGES or max(widths) > MAX_CHANNELS or max(depths) > MAX_LAYERS:
            raise ValueError(
                f"the network is too large: expected at most {MAX_STAGES} stages, {MAX_CHANNELS} channels and "
                f"{MAX_LAYERS} layers in each component"
            )
        if stages != len(self.branch_two):
            raise ValueError(
                f"branch_one has {len(self.branch_one)} stages and branch_two {len(self.branch_two)}: "
                "expected the same number"
            )
        if self.base_channels < 4 or self.base_channels % 2:
            raise ValueError(f"base_channels {self.base_channels}: expected an even number, 4 or more")
        if min(self.lstm_layers, self.refine_bottlenecks, *self.branch_one, *self.branch_two) < 0:
            raise ValueError("a number of layers is negative: expected 0 or more")
        if len(self.upsampling_channels) != 2:
            raise ValueError(
                f"upsampling_channels {self.upsampling_channels}: expected two values, one for each deconvolution"
            )
        if min(self.growth, self.bottleneck_divisor, *self.upsampling_channels) < 1:
            raise ValueError("growth, bottleneck_divisor and upsampling_channels: expected values of 1 or more")
        if self.deconvolution_kernel not in (2, 3):
            raise ValueError(f"deconvolution_kernel {self.deconvolution_kernel}: expected 2 or 3")
        if self.gate_kernel not in (1, 3):
            raise ValueError(f"gate_kernel {self.gate_kernel}: expected 1 or 3")
        if self.dense_input and self.pattern not in ("dc", "rdc"):
            raise ValueError(f"dense_input needs a dense pattern, dc or rdc, not {self.pattern!r}")
        for name, kinds in (
            ("block", BlockKind),
            ("norm", NormKind),
            ("pattern", TemporalPattern),
            ("gate_start", GateStart),
            ("fusion", FusionKind),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: expected {' or '.join(get_args(kinds))}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values, as stored in weights files."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RISTNConfig":
        """Build a configuration from the result of `to_dict`.

        Raises:
            ValueError: a field is unknown, or a value has the wrong type or is out of range.
        """
        config: RISTNConfig = build(cls, values)
        return config


CONFIGS = {
    "paper": RISTNConfig(),
    "ristn": RISTNConfig(
        branch_one=(2, 3, 4),
        branch_two=(2, 2, 5),
        bottleneck_divisor=1,
        norm="none",
        lstm_layers=6,
        growth=24,
        gate_start="delay_line",
        refine_bottlenecks=10,
        upsampling_channels=(128, 64),
        deconvolution_kernel=2,
        global_skip=True,
    ),
    "ristn-lite": RISTNConfig(
        branch_one=(1, 2),
        branch_two=(1, 2),
        bottleneck_divisor=1,
        lstm_layers=3,
        growth=32,
        gate_kernel=1,
        dense_input=True,
        gate_start="delay_line",
        refine_bottlenecks=10,
        upsampling_channels=(48, 24),
        deconvolution_kernel=2,
        normalize_input=True,
        global_skip=True,
    ),
    "ristn-lite-1": RISTNConfig(
        branch_one=(1, 2),
        branch_two=(1, 2),
        bottleneck_divisor=1,
        norm="none",
        lstm_layers=4,
        growth=16,
        gate_start="delay_line",
        refine_bottlenecks=10,
        upsampling_channels=(64, 32),
        deconvolution_kernel=2,
        global_skip=True,
    ),
}
"""Networks by name. `ristn-lite-1` is that of the first `ristn-lite` and `ristn-lite-real` weights."""
