"""Learn how to fine-tune: python train.py --help."""

from eosvos.config.messages import command

if __name__ == "__main__":
    command("train")
