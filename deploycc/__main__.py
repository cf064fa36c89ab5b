"""``python -m deploycc``."""

from deploycc.cli import entry

if __name__ == "__main__":
    entry()
