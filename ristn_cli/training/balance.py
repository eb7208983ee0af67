"""Terms of the loss that have a share of the gradient instead of a weight: features and the discriminator's verdict."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from ristn_cli.model import RISTN
from ristn_cli.training.adversary import Adversary
from ristn_cli.training.features import FeatureNetwork, feature_distance
from ristn_cli.training.loss_recipe import LossRecipe
from ristn_cli.training.processes import process_count

SMOOTHING = 0.95
"""Decay of the averaged norms of gradients."""


class BalancedTerms:
    """Weighs terms by the norms of their gradients at the network's last convolution, averaged over the steps.

    Attributes:
        norms: by term the averaged norm: `error` of all terms with fixed weights, `features`, `adversarial`.
        adversary: the discriminator, if the stage has one.
    """

    def __init__(
        self,
        terms: LossRecipe,
        model: RISTN,
        features: FeatureNetwork | None,
        *,
        seed: int,
        before: "BalancedTerms | None" = None,
    ) -> None:
        """Attach to a network.

        Args:
            terms: of the stage.
            model: it is run once before each `combine`.
            features: needed for a share of `features`.
            seed: of the run.
            before: of the stage that this one continues: its averages, and its discriminator if it fits, go on.
        """
        self.terms = terms
        self.features = features
        self.seed = seed
        self.norms: dict[str, float] = {}
        self.adversary: Adversary | None = None
        if before is not None:
            before.detach()
            self.norms = before.norms
        if terms.adversarial:
            old = before.adversary if before is not None else None
            if old is not None and old.channels == terms.discriminator_channels:
                self.adversary = old
                for group in old.optimizer.param_groups:
                    group["lr"] = terms.discriminator_rate
            else:
                device = next(model.parameters()).device
                self.adversary = Adversary(terms, seed=seed, device=device)
        self.last = model.reconstruction.last
        self.last_input: Tensor | None = None
        self.hook = self.last.register_forward_pre_hook(self._remember)

    def _remember(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.last_input = inputs[0].detach()

    def detach(self) -> None:
        """Leave the network alone."""
        self.hook.remove()

    def combine(self, error: Tensor, sr: Tensor, target: Tensor, *, iteration: int, step: int) -> Tensor:
        """Gradient of the whole loss in the output, and one step of the discriminator.

        Args:
            error: the terms with fixed weights, of `sr`.
            sr: (B, T, 3, H, W) without the border that does not count, a leaf that needs a gradient.
            target: likewise, without.
            iteration: of the run: which part of which frames the terms see depends on it and the seed alone.
            step: of the stage.
        """
        parts = {"error": torch.autograd.grad(error, sr)[0]}
        rng = np.random.default_rng([self.seed, iteration, 2])
        top, left = rng.integers(0, self.terms.largest_offset + 1, 2)
        height, width = (side - self.terms.largest_offset for side in sr.shape[-2:])
        seen, wanted = (frames[..., top : top + height, left : left + width] for frames in (sr, target))
        if self.features is not None and self.terms.features:
            frames = sr.shape[1]
            chosen = rng.permutation(frames)[: self.terms.feature_frames].tolist()
            distance = feature_distance(self.features, seen[:, chosen], wanted[:, chosen])
            parts["features"] = torch.autograd.grad(distance, sr, retain_graph=self.adversary is not None)[0]
        if self.adversary is not None and step >= self.terms.adversarial_after:
            parts["adversarial"] = torch.autograd.grad(self.adversary.term(seen), sr)[0]
        self._average_norms(parts)
        gradient = parts["error"]
        for name, share in (("features", self.terms.features), ("adversarial", self.terms.adversarial)):
            if name in parts:
                gradient = gradient + share * self.norms["error"] / max(self.norms[name], 1e-12) * parts[name]
        if self.adversary is not None:
            self.adversary.learn(wanted, seen.detach())
        return gradient

    @torch.no_grad()
    def _average_norms(self, parts: dict[str, Tensor]) -> None:
        """Take the norms of gradients in the last convolution's weights into their averages."""
        assert self.last_input is not None
        inputs = self.last_input.float()  # (T * B, C, 4H, 4W)

        def gradient_in_weights(part: Tensor) -> Tensor:
            border = (inputs.shape[-1] - part.shape[-1]) // 2
            outputs = F.pad(part.transpose(0, 1).flatten(0, 1), [border] * 4)
            shape = self.last.weight.shape
            weight: Tensor = conv2d_weight(inputs, shape, outputs, padding=1)  # type: ignore[no-untyped-call]
            return weight

        weights = torch.stack([gradient_in_weights(part) for part in parts.values()])
        self.last_input = None
        if dist.is_initialized():
            dist.all_reduce(weights)
            weights /= process_count()
        for name, norm in zip(parts, weights.flatten(1).norm(dim=1).tolist(), strict=True):
            old = self.norms.get(name, norm)
            self.norms[name] = SMOOTHING * old + (1 - SMOOTHING) * norm

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        return {"norms": self.norms, "adversary": self.adversary.state_dict() if self.adversary else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.norms = dict(state["norms"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
