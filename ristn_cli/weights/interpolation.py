"""Loads chosen weights, and interpolates between two sets of weights of one network."""

import torch

from ristn_cli.model import RISTN
from ristn_cli.weights.choice import ModelChoice
from ristn_cli.weights.files import load_weights
from ristn_cli.weights.finding import find_weights
from ristn_cli.weights.records import DIAL, WeightsError


def load_choice(choice: ModelChoice) -> RISTN:
    """Load the network of a choice as `load_weights` does.

    Raises:
        WeightsError: weights cannot be found or read, or those of `DIAL` do not belong to one network.
    """
    model = load_weights(find_weights(choice.name))
    return interpolate(model, load_weights(find_weights(DIAL[1])), choice.detail) if choice.detail else model


@torch.no_grad()
def interpolate(first: RISTN, second: RISTN, detail: float) -> RISTN:
    """Return `first` with each tensor replaced by (1 - detail) * first + detail * second.

    The networks in between are usable if one was trained from the other: then details grow steadily.

    Args:
        first: weights for a detail of 0; changed.
        second: weights for a detail of 1.
        detail: share of `second`, from 0 to 1.

    Raises:
        WeightsError: the networks have different configurations.
    """
    if first.config != second.config:
        raise WeightsError("weights of different networks cannot be interpolated")
    others = second.state_dict()
    for name, tensor in first.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(others[name], detail)
    first.detail = detail
    return first
