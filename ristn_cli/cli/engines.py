"""The engines of a command, one per set of weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ristn_cli.cli.effects import STREAM
from ristn_cli.cli.workers import Devices

if TYPE_CHECKING:
    from ristn_cli.job.options import UpscaleOptions
    from ristn_cli.video import VideoInfo
    from ristn_cli.weights import ModelChoice


class Engines(AbstractContextManager["Engines"]):
    """The engines of a command, one per set of weights, kept until its end.

    Args:
        open_named: opens the engine of weights by name or path; called once per name.
        model: name of released weights, path of a file, or `auto` to choose released weights for each source.
        options: how to read sources.
    """

    def __init__(
        self,
        open_named: Callable[[str], AbstractContextManager[Devices]],
        model: str,
        options: UpscaleOptions,
    ) -> None:
        self._open, self._model, self._options = open_named, model, options
        self._opened: dict[str, Devices] = {}
        self._stack = ExitStack()
        self._networks: dict[str, str] = {}
        self._probed: dict[Path, VideoInfo] = {}
        self.is_unusable = False
        """Whether the engine cannot be opened, for a reason that affects every source."""

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def _is_chosen(self) -> bool:
        """Whether the weights depend on the source."""
        return self._model == "auto"

    def probe(self, source: Path) -> VideoInfo:
        """Return the description of a source, and keep the last two. Raises VideoError if it cannot be read."""
        from ristn_cli.video import probe

        if source not in self._probed:
            options = self._options
            found = probe(source, rate=options.image_rate, video_stream=options.video_stream)
            self._probed = dict([*self._probed.items()][-1:]) | {source: found}
        return self._probed[source]

    def choose(self, source: Path) -> ModelChoice:
        """Return the weights for a source and the reason. Raises VideoError if it cannot be read."""
        from ristn_cli.weights import CLEAN_MODEL, ModelChoice, choose_model

        if not self._is_chosen:
            return ModelChoice(self._model, "it was asked for")
        if source == STREAM:
            return ModelChoice(CLEAN_MODEL, "the bit rate of standard input is unknown")
        found = self.probe(source)
        file_bytes = 0 if found.is_image_sequence else found.path.stat().st_size
        return choose_model(found, file_bytes, removes_grain=self._options.grain > 0)

    def open(self, choice: ModelChoice) -> Devices:
        """Return the engine with these weights. Other open engines keep only their weights in memory."""
        from ristn_cli.weights import WeightsError

        for name, devices in self._opened.items():
            if name != choice.name:
                devices.upscaler.rest()
        if choice.name not in self._opened:
            try:
                self._opened[choice.name] = self._stack.enter_context(self._open(choice.name))
            except Exception as error:
                self.is_unusable = not (isinstance(error, WeightsError) and self._is_chosen)
                raise
        return self._opened[choice.name]

    def network_of(self, source: Path) -> str:
        """Return the fingerprint of the network for a source, without opening the engine."""
        from ristn_cli.engine.upscaler import fingerprint
        from ristn_cli.weights import WeightsError, find_weights, load_weights

        name = self.choose(source).name
        if name not in self._networks:
            try:
                self._networks[name] = fingerprint(load_weights(find_weights(name)))
            except WeightsError:
                self.is_unusable = not self._is_chosen
                raise
        return self._networks[name]
