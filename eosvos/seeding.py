"""Randomness as a function of what it is for: seeds from names and numbers, generator states kept apart."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager


def derive_seed(*parts: int | str) -> int:
    """Hash parts such as (seed, "task", iteration, slot) into a seed in [0, 2**63).

    Equal parts give equal seeds on every machine; any differing part gives an unrelated one.
    """
    digest = hashlib.sha256("\x1f".join(f"{type(part).__name__}:{part}" for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def isolated_rng(*parts: int | str, cpu_only: bool = False) -> Iterator[None]:
    """Seed torch's global generators from `parts` inside the block, and restore their states after it.

    cpu_only: only that of the CPU, for what draws from no other; to read a GPU's state is to wait for it.

    The samplers of a detector and the jitter of its proposals draw from the global generators; what they draw
    for one task or one video must depend neither on what ran before nor on the process that runs it.
    """
    import torch

    with torch.random.fork_rng(devices=() if cpu_only else range(torch.cuda.device_count())):
        (torch.default_generator if cpu_only else torch).manual_seed(derive_seed(*parts))
        yield
