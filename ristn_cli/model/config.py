"""Every width and depth of the network, and its named sizes."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ristn_cli.typed import build

BlockKind = Literal["rib", "ib", "rb"]
NormKind = Literal["batch", "none"]
TemporalPattern = Literal["c", "rc", "dc", "rdc"]
GateStart = Literal["uniform", "delay_line"]
FusionKind = Literal["sparse", "dense", "none"]

SCALE = 4

MOST_STAGES = 6
MOST_CHANNELS = 2048
MOST_LAYERS = 256
"""A configuration may come from a file of strangers. Even a network that is never filled takes time to describe."""


@dataclass(frozen=True, kw_only=True)
class RISTNConfig:
    """Every width and depth of the network. The defaults are the paper's ("Implementation details").

    Attributes:
        base_channels: channels that RGB is zero-padded to.
        branch_one: bottlenecks of each block of the first branch, one a stage.
        branch_two: the same for the second branch.
        block: spatial block: `rib`, or Table 1's ablations `ib` and `rb`.
        bottleneck_divisor: a bottleneck's inner width is half the block's channels divided by this, rounded down.
        norm: `batch`, or `none`.
        pattern: connections of the ConvLSTM layers: `c`, `rc`, `dc`, `rdc` (Fig. 4).
        lstm_layers: bidirectional ConvLSTM layers; 0 puts a 1x1 convolution in the place of the temporal component and
            the fusion, which is the single-image network of Table 1.
        growth: channels of each direction of a ConvLSTM layer.
        gate_kernel: 3, the paper's, or 1 for gates by 1x1 convolutions and the candidate alone by 3x3.
        dense_input: every ConvLSTM layer reads the spatial features too, not the first one alone (dense patterns).
        gate_start: initial gates, `uniform`, or `delay_line` with orthogonal maps around the temporal component.
        fusion: `sparse`, or Table 2's `dense` (DF) and `none` (NF).
        refine_bottlenecks: bottlenecks of a RIB between fusion and upsampling; 0, the paper's, leaves it out.
        upsampling_channels: maps of the two deconvolutions.
        deconvolution_kernel: 3 as the paper's text says, or 2 as its parameter count says.
        normalize_input: RGB is centred on zero and scaled to [-2, 2] before it is zero-padded.
        global_skip: add the bicubic 4x of the frame to the output; the last convolution then starts at zero.
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
        if max(stages, len(self.branch_two)) > MOST_STAGES or max(widths) > MOST_CHANNELS or max(depths) > MOST_LAYERS:
            raise ValueError(
                f"the network is too large: expected at most {MOST_STAGES} stages, {MOST_CHANNELS} channels and "
                f"{MOST_LAYERS} layers of a kind"
            )
        if stages != len(self.branch_two):
            raise ValueError(f"branches of {len(self.branch_one)} and {len(self.branch_two)} stages: expected as many")
        if self.base_channels < 4 or self.base_channels % 2:
            raise ValueError(f"base_channels {self.base_channels}: expected an even number of at least 4")
        if min(self.lstm_layers, self.refine_bottlenecks, *self.branch_one, *self.branch_two) < 0:
            raise ValueError("a component cannot have fewer than 0 layers")
        if len(self.upsampling_channels) != 2:
            raise ValueError(f"upsampling_channels {self.upsampling_channels}: expected two, one a deconvolution")
        if min(self.growth, self.bottleneck_divisor, *self.upsampling_channels) < 1:
            raise ValueError("growth, bottleneck_divisor and upsampling_channels are at least 1")
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
        """Plain values, as stored with weights."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RISTNConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: an unknown field, or a value of another type or range.
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
