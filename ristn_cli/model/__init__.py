"""The RISTN network, one file for each component of the paper. Knows torch only: no files and no video."""

from ristn_cli.model.config import CONFIGS, SCALE, RISTNConfig
from ristn_cli.model.ristn import RISTN, bicubic_upsample, count_macs

__all__ = ["CONFIGS", "RISTN", "SCALE", "RISTNConfig", "bicubic_upsample", "count_macs"]
