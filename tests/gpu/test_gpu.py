"""The checks of `tools/gpu_check.py` as tests on a real GPU, with the smallest sizes; elsewhere others stand in."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "tools"))
gpu_check = importlib.import_module("gpu_check")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: PyTorch sees none")


@pytest.mark.parametrize("name", [check.name for check in gpu_check.CHECKS])
def test_on_the_gpu(name: str, tmp_path: Path) -> None:
    gpu_check.main(["--output", str(tmp_path), "--tiny", "--only", name])
    (check,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["checks"]
    failures = [row for row in check["rows"] if row["verdict"] == "FAIL"]
    assert not failures, check["log"]
    if check["verdict"] == "skipped":
        pytest.skip(check["rows"][0]["figure"])
