"""TensorRT's timing cache, kept per release and GPU: layers that were timed before are not timed again.

It lies in the user's cache folder, belongs to the board and not to a plan, and can be removed at any time.
"""

import os
import re
import shutil
from typing import Any, Optional

from . import files

_MOST_BYTES = 1 << 30


def place(version: "Any", capability: "Optional[str]") -> str:
    """Return where the cache of a TensorRT release, as numbers, and of a GPU is."""
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    name = "tensorrt-{}-sm{}".format(".".join(map(str, version)), capability or "")
    return os.path.join(caches, "deploycc", re.sub(r"[^A-Za-z0-9.-]", "", name) + ".timing")


def take(kept: str, copy: str) -> None:
    """Copy a cache to where a builder reads and writes it; nothing happens where there is none."""
    try:
        if os.path.isfile(kept) and os.path.getsize(kept) <= _MOST_BYTES:
            shutil.copyfile(kept, copy)
    except OSError:
        files.remove(copy)


def keep(copy: str, kept: str) -> None:
    """Keep what a builder left; a cache that cannot be kept is not a failure."""
    partial = "{}.{}{}".format(kept, os.getpid(), files.PARTIAL)
    try:
        if os.path.isfile(copy) and not os.path.islink(copy) and 0 < os.path.getsize(copy) <= _MOST_BYTES:
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            shutil.copyfile(copy, partial)
            os.replace(partial, kept)
    except OSError:
        pass
    finally:
        files.remove(partial)
