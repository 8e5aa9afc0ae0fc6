"""Learn how to fine-tune: python train.py --help."""

if __name__ == "__main__":
    # Ctrl-C shall be quiet while the rest is imported, which takes a second.
    from eosvos.processes import leave, take_signals_alone

    take_signals_alone(leave)

import hydra
from omegaconf import DictConfig

from eosvos.run.checks import prepare
from eosvos.run.messages import user_errors
from eosvos.run.schema import register


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    """Check the configuration, which takes no torch, then train."""
    with user_errors():
        videos = prepare(cfg)
        from eosvos.run.train import train

        train(cfg, videos)


if __name__ == "__main__":
    register()
    with user_errors():
        main()
