"""Makes the Python of this machine that of a simulated board: uname, the root of small files, GPUs of CUDA's driver."""

import json
import os
import sys
from pathlib import Path

_FOLDER = os.environ["SIMULATED_BOARD"]
_FACTS = json.loads(Path(_FOLDER, "board.json").read_text())
_UNAME = os.uname()


def _uname():
    return os.uname_result(("Linux", "board", _FACTS["kernel"], "#1 SMP PREEMPT", _FACTS["machine"]))


os.uname = _uname


class _Loader:
    """Loads a module of the agent and tells it where the board is."""

    def __init__(self, loader, change):
        self._loader, self._change = loader, change

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        self._change(module)


def _at_root(module):
    module.ROOT = _FOLDER + "/root"


def _with_gpus(module):
    module.devices = lambda: list(_FACTS["gpus"])


_CHANGES = {"deploycc_agent.system": _at_root, "deploycc_agent.gpu": _with_gpus}


class _Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name not in _CHANGES:
            return None
        for finder in sys.meta_path:
            spec = None if finder is cls else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, _CHANGES[name])
                return spec
        return None


sys.meta_path.insert(0, _Finder)
