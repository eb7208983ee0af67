"""Weights files written and read again, and each way in which a file can be wrong: one line that names it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ristn_cli.model import RISTN, RISTNConfig
from ristn_cli.weights import (
    RELEASES,
    Release,
    WeightsError,
    file_sha256,
    find_weights,
    finding,
    load_weights,
    read_metadata,
    save_weights,
)

METRICS = {"psnr_y": 25.5, "recipe": "test"}


def write_valid(path: Path, model: RISTN) -> Path:
    save_weights(model, path, metrics=METRICS)
    return path


@torch.no_grad()
def test_a_round_trip_keeps_the_network(tmp_path: Path, random_model: RISTN) -> None:
    path = write_valid(tmp_path / "a.safetensors", random_model)
    loaded = load_weights(path)
    assert loaded.config == random_model.config
    assert not loaded.training
    for name, tensor in random_model.state_dict().items():
        stored = tensor.half().float() if tensor.dim() > 1 else tensor
        assert torch.equal(loaded.state_dict()[name], stored), name
    lr = torch.rand(1, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = random_model(lr)
    torch.testing.assert_close(loaded(lr), expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
    assert list(tmp_path.iterdir()) == [path]  # no temporary file is left


def test_running_statistics_are_kept_in_float32(tmp_path: Path, tiny_model: RISTN) -> None:
    model = RISTN(replace(tiny_model.config, norm="batch"))
    with torch.no_grad():
        model(torch.rand(1, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0)))  # training mode: they move
    path = write_valid(tmp_path / "a.safetensors", model)
    loaded = load_weights(path)
    for name, buffer in model.named_buffers():
        assert torch.equal(loaded.get_buffer(name), buffer), name


def test_configuration_and_metrics_are_read_without_the_tensors(tmp_path: Path, tiny_model: RISTN) -> None:
    path = write_valid(tmp_path / "a.safetensors", tiny_model)
    assert read_metadata(path) == {"config": tiny_model.config, "metrics": METRICS}


def missing(path: Path, _: RISTN) -> None:
    """Nothing is there."""


def a_folder(path: Path, _: RISTN) -> None:
    path.mkdir()


def empty(path: Path, _: RISTN) -> None:
    path.touch()


def a_text_file(path: Path, _: RISTN) -> None:
    path.write_text("These are not the weights you are looking for.\n" * 10)


def of_something_else(path: Path, _: RISTN) -> None:
    save_file({"x": torch.zeros(3)}, path)


def of_another_version(path: Path, model: RISTN) -> None:
    config = json.dumps(model.config.to_dict() | {"wings": 2})
    save_file({"x": torch.zeros(3)}, path, metadata={"format": "ristn-1", "config": config})


def with_a_configuration_of_another_type(path: Path, _: RISTN) -> None:
    save_file({"x": torch.zeros(3)}, path, metadata={"format": "ristn-1", "config": "[1, 2]"})


def with_a_broken_configuration(path: Path, _: RISTN) -> None:
    save_file({"x": torch.zeros(3)}, path, metadata={"format": "ristn-1", "config": "{"})


def with_widths_that_are_words(path: Path, model: RISTN) -> None:
    config = json.dumps(model.config.to_dict() | {"growth": "many"})
    save_file({"x": torch.zeros(3)}, path, metadata={"format": "ristn-1", "config": config})


def with_other_tensors(path: Path, model: RISTN) -> None:
    write_valid(path, model)
    tensors = load_file(path)
    tensors.pop("reconstruction.last.bias")
    config = json.dumps(model.config.to_dict())
    save_file(tensors, path, metadata={"format": "ristn-1", "config": config})


def with_tensors_of_another_shape(path: Path, model: RISTN) -> None:
    write_valid(path, model)
    config = json.dumps(replace(model.config, growth=6).to_dict())
    save_file(load_file(path), path, metadata={"format": "ristn-1", "config": config})


def truncated(path: Path, model: RISTN) -> None:
    write_valid(path, model)
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path: Path, model: RISTN) -> None:
    write_valid(path, model)
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "no such weights file"),
        (a_folder, "is not a file"),
        (empty, "not a safetensors file"),
        (a_text_file, "not a safetensors file"),
        (truncated, "not a safetensors file"),
        (cut_in_the_header, "not a safetensors file"),
        (of_something_else, "format is None"),
        (of_another_version, "unknown key 'wings'"),
        (with_a_configuration_of_another_type, "unusable configuration"),
        (with_a_broken_configuration, "unusable configuration"),
        (with_widths_that_are_words, "unusable configuration"),
        (with_other_tensors, "reconstruction.last.bias"),
        (with_tensors_of_another_shape, "do not fit"),
    ],
)
def test_unusable_weights_are_refused_in_one_line(
    tmp_path: Path, tiny_model: RISTN, damage: Callable[[Path, RISTN], None], message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    damage(path, tiny_model)
    with pytest.raises(WeightsError, match=message) as caught:
        load_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".PKL"])
def test_pickles_are_not_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"x": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="can execute code") as caught:
        load_weights(path)
    assert str(path) in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, tiny_model: RISTN, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_valid(tmp_path / "a.safetensors", tiny_model)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_weights(tiny_model, path, metrics={})
    assert path.read_bytes() == before


def test_released_weights_are_checked_by_their_sha256(
    tmp_path: Path, tiny_model: RISTN, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_valid(tmp_path / "tiny.safetensors", tiny_model)
    monkeypatch.setattr(finding, "bundled_folder", lambda: tmp_path)
    monkeypatch.setattr(finding, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(finding, "is_offline", lambda: True)
    good = file_sha256(path)
    record = Release(
        name="tiny", sha256=good, size=path.stat().st_size, config="ristn-lite", repository="a/b", revision="v1"
    )
    for name in list(RELEASES):
        monkeypatch.delitem(RELEASES, name)
    monkeypatch.setitem(RELEASES, "tiny", record)
    monkeypatch.setitem(RELEASES, "lost", replace(record, name="lost"))
    assert find_weights("tiny") == path
    assert load_weights(find_weights("tiny")).config == tiny_model.config
    with pytest.raises(WeightsError, match=r"lost: not bundled, not in the cache"):
        find_weights("lost")
    with pytest.raises(WeightsError, match="unknown weights 'other': expected one of tiny, lost"):
        find_weights("other")
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(WeightsError, match=f"tiny.safetensors: damaged: SHA-256 .* expected {good[:12]}"):
        find_weights("tiny")


def test_the_configuration_in_a_file_is_complete(tmp_path: Path) -> None:
    with torch.device("cpu"):
        model = RISTN(
            RISTNConfig(branch_one=(1,), branch_two=(1,), lstm_layers=1, growth=2, upsampling_channels=(4, 4))
        )
    path = write_valid(tmp_path / "paper.like.safetensors", model)
    assert path.is_file()
    assert read_metadata(path)["config"] == model.config
