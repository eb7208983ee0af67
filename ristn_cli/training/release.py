"""From the checkpoint of a run to the network that is released, and what is to be said of its training."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ristn_cli.model import RISTN, RISTNConfig
from ristn_cli.training.journal import read_log
from ristn_cli.training.state import TrainingError, read_checkpoint


@dataclass(frozen=True)
class Trained:
    """The averaged weights of a run, for inference, and its record as `save_weights` takes it in `metrics`.

    The record: `recipe`, `iterations`, `seconds`, the `source` that it is for (`clean` or `compressed` footage),
    `start_sha256` where the run began with a file, and the validation of these very weights where the log has it.
    """

    model: RISTN
    record: dict[str, Any]


def read_trained(checkpoint: Path) -> Trained:
    """What a checkpoint holds to be released.

    Args:
        checkpoint: the file, or the folder of the run.

    Raises:
        TrainingError: not a checkpoint of `ristn train`.
    """
    path = checkpoint / "checkpoint.pt" if checkpoint.is_dir() else checkpoint
    state = read_checkpoint(path, advice="expected the checkpoint.pt of a run of ristn train")
    try:
        recipe = state["recipe"]
        config = RISTNConfig.from_dict(recipe["model"])
        if recipe["stages"][state["stage_index"]].get("part") == "spatial":
            config = replace(config, lstm_layers=0)
        model = RISTN(config)
        # AveragedModel keeps the network under `module.`, beside its count of averages.
        averaged = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
        model.load_state_dict(averaged)
        record = {
            "recipe": recipe["name"],
            "iterations": state["iteration"],
            "seconds": round(state["elapsed_seconds"]),
            "source": "compressed" if recipe.get("data", {}).get("degradation") == "real" else "clean",
        }
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: not a checkpoint of this version of ristn ({reason})") from error
    if state.get("start_sha256"):
        record["start_sha256"] = state["start_sha256"]
    return Trained(model.eval(), read_validation(path.with_name("log.jsonl"), state["iteration"]) | record)


def read_validation(log: Path, iteration: int) -> dict[str, float]:
    """The validation that a run's log has of its weights at a step; empty where it has none."""
    found = (entry for entry in read_log(log) if entry["iteration"] == iteration)
    return dict(next(found, {}).get("validation", {}))
