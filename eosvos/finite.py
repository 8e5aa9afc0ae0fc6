"""Whether numbers are still numbers."""

from collections.abc import Iterable

import torch
from torch import Tensor


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no value of the tensors [...], of any shapes, is infinite or NaN; asked of a GPU once."""
    return bool(torch.stack(torch._foreach_norm(list(tensors))).isfinite().all())
