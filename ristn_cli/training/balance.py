"""Loss terms that have a share of the gradient instead of a weight: features and the discriminator."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from ristn_cli.evaluation.features import FeatureNetwork, feature_distance
from ristn_cli.model import RISTN
from ristn_cli.training.adversary import Adversary
from ristn_cli.training.loss_recipe import LossRecipe
from ristn_cli.training.losses import to_images
from ristn_cli.training.processes import process_count

SMOOTHING = 0.95
"""Decay of the averaged gradient norms."""


class BalancedTerms:
    """Scales terms by the norms of their gradients at the network's last convolution, averaged over the steps.

    Attributes:
        norms: averaged gradient norm of `error` (all terms with fixed weights), `features` and `adversarial`.
        adversary: the discriminator, or None.
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
        """Register a hook on the network.

        Args:
            terms: `[loss]` of the stage.
            model: the network. It must run once before each `combine`.
            features: feature network; required if `terms.features` is above 0.
            seed: seed of the run.
            before: terms of the stage that this one continues. Its averages and, if it fits, its discriminator are
                kept.
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
        self.hook.remove()

    def combine(self, error: Tensor, sr: Tensor, target: Tensor, *, iteration: int, step: int) -> Tensor:
        """Return the gradient of the whole loss with respect to the output, and train the discriminator for one step.

        Args:
            error: the terms with fixed weights, computed from `sr`.
            sr: output (B, T, 3, H, W) without the border without loss; a leaf tensor that requires a gradient.
            target: target of the same shape.
            iteration: step of the run. With the seed, it determines the crop and the frames that the terms read.
            step: step of the stage.
        """
        parts = {"error": torch.autograd.grad(error, sr)[0]}
        rng = np.random.default_rng([self.seed, iteration, 2])
        top, left = rng.integers(0, self.terms.largest_offset + 1, 2)
        height, width = (side - self.terms.largest_offset for side in sr.shape[-2:])
        seen, wanted = (frames[..., top : top + height, left : left + width] for frames in (sr, target))
        if self.features is not None and self.terms.features:
            frames = sr.shape[1]
            chosen = rng.permutation(frames)[: self.terms.feature_frames].tolist()
            distance = feature_distance(self.features, to_images(seen[:, chosen]), to_images(wanted[:, chosen]))
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
        """Update the averaged norms of the gradients with respect to the last convolution's weights."""
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
        return {"norms": self.norms, "adversary": self.adversary.state_dict() if self.adversary else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.norms = dict(state["norms"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
