"""A backbone by torch.compile."""

import logging
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

Maps = Mapping[str, Tensor]


class CompiledEncoder:
    """Runs backbones by torch.compile.

    Backbones that differ in their weights alone, as the copies that adapt do, share what is compiled: with
    gradients and without, once for a size of images, and once more for all others. backend: that of
    torch.compile. with_gradients: whether passes that gradients are asked of are compiled, too; they then
    have no second derivatives. A forward pass that cannot be compiled runs as it is, and a line of the log
    says so; if a backward pass cannot, the error is torch's.
    """

    def __init__(
        self, backend: str | Callable[..., object] = "inductor", with_gradients: bool = True
    ) -> None:
        # All encoders of a process share it, in each precision and memory format; beyond it, passes would run
        # as they are without a word.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        self._run: Callable[[nn.Module, Tensor], Maps] = torch.compile(_run, backend=backend)
        self.with_gradients = with_gradients

    def __call__(self, backbone: nn.Module, images: Tensor) -> Maps:
        """The maps [B, C, h, w] of a backbone's input [B, 3, H, W]."""
        if torch.is_grad_enabled() and not self.with_gradients:
            return backbone(images)
        try:
            return self._run(backbone, images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).splitlines()[:2])
            _log.warning("torch.compile fails (%s): the network runs as with trainer.compile=false", reason)
            self._run = _run
            return self._run(backbone, images)


def _run(backbone: nn.Module, images: Tensor) -> Maps:
    return backbone(images)
