"""Learn how to fine-tune: python train.py --help."""

from eosvos.commands import train

if __name__ == "__main__":
    train()
