"""What the operating system and C++ libraries raise, as diagnosed errors."""

from __future__ import annotations

import errno
import re
import resource

from deploycc.errors import DeployError

# what the user's disk answers; a missing file is not among them: every reader says itself which one it misses
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EIO})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_MEMORY = re.compile(r"bad.?alloc|can't allocate memory|[Ff]ailed to allocate memory")


def diagnose(error: Exception) -> DeployError | None:
    """Return the diagnosed form of an error, or None if it is a bug.

    Args:
        error: anything that was raised; a `DeployError` is returned as it is.
    """
    if isinstance(error, DeployError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return _disk_full(error)
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return _refused(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return _out_of_memory(error)
    return None


def _disk_full(error: OSError) -> DeployError:
    """The diagnosed form of ENOSPC."""
    return DeployError(
        "disk-full",
        "no space is left on the device; nothing was written",
        context={"file": error.filename or "-"},
        hint="free some space or choose another output folder with `output`",
    )


def _refused(error: OSError) -> DeployError:
    """The diagnosed form of a file or folder that the system does not give."""
    return DeployError(
        "file-refused",
        "a file or folder cannot be read or written",
        context={"file": error.filename or "-"},
        note=error.strerror,
    )


def _out_of_memory(error: Exception) -> DeployError:
    """The diagnosed form of a MemoryError, and of what PyTorch and C++ libraries raise instead."""
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return DeployError(
        "out-of-memory",
        "the memory does not suffice",
        context={"used": f"{peak_mib} MiB by this process"},
        note=str(error).partition("\n")[0] or None,
        hint="end other programs, or use a machine with more memory, a smaller input or smaller batches",
    )
