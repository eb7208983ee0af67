"""The adversarial term: a discriminator on three consecutive frames, trained with the network."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ristn_cli.training.loss_recipe import LossRecipe
from ristn_cli.training.losses import discriminator_loss
from ristn_cli.training.processes import process_count

SLOPE = 0.2


class Discriminator(nn.Module):
    """Scores each location of three consecutive frames: above 0 for an original, below for an output.

    The first layers have full resolution, and average pooling reduces it: strides would leave a grid in the gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

        def convolution(inputs: int, outputs: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))

        self.layers = nn.Sequential(
            convolution(9, channels),
            nn.LeakyReLU(SLOPE),
            convolution(channels, channels),
            nn.LeakyReLU(SLOPE),
            nn.AvgPool2d(2),
            convolution(channels, 2 * channels),
            nn.LeakyReLU(SLOPE),
            convolution(2 * channels, 2 * channels),
            nn.LeakyReLU(SLOPE),
            nn.AvgPool2d(2),
            convolution(2 * channels, 4 * channels),
            nn.LeakyReLU(SLOPE),
            convolution(4 * channels, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, T, 3, H, W) in [0, 1] to scores (B * (T - 2), 1, H/4, W/4)."""
        triples = torch.cat([frames[:, :-2], frames[:, 1:-1], frames[:, 2:]], dim=2)
        scores: Tensor = self.layers(triples.flatten(0, 1) * 2 - 1)
        return scores


class Adversary:
    """A discriminator and its optimizer, identical in all processes of a run."""

    def __init__(self, terms: LossRecipe, *, seed: int, device: torch.device) -> None:
        self.channels = terms.discriminator_channels
        with torch.random.fork_rng(devices=[]):  # leaves the random state of the run unchanged
            torch.manual_seed(seed)
            self.discriminator = Discriminator(self.channels)
        self.discriminator.to(device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=terms.discriminator_rate, betas=(0.5, 0.99)
        )

    def term(self, sr: Tensor) -> Tensor:
        """Return the term that the network minimizes: minus the mean score of its frames (B, T, 3, H, W)."""
        scores: Tensor = self.discriminator(sr)
        return -scores.mean()

    def learn(self, real: Tensor, fake: Tensor) -> float:
        """Train the discriminator for one step on originals and outputs (B, T, 3, H, W); return its loss in this
        process.
        """
        scores = self.discriminator(torch.cat([real, fake]))
        loss = discriminator_loss(*scores.chunk(2))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        average_gradients(self.discriminator.parameters())
        self.optimizer.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes of the run."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    joined /= process_count()
    for gradient, mean in zip(
        gradients, torch.split(joined, [gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))
