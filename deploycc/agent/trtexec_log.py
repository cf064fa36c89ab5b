"""What trtexec says while it works: its release, the GPU, whether it ended well, and why not.

The forms are those of TensorRT 5 to 11; logs of real boards are in the tests.
"""

import re
from typing import Any, Optional

_BANNER = re.compile(r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.\w+(?: \[TensorRT v(\d+)\])?(?: \[b(\d+)\])?")
_TIME = re.compile(r"^\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] ")
_DEVICE = re.compile(r"\[I\] Selected Device: (.+)$")
_CAPABILITY = re.compile(r"\[I\] Compute Capability: (\d+\.\d+)$")
_ERROR = re.compile(r"\[E\]|^(?:Error|Internal Error)\[\d+\]|^(?:ERROR|FATAL): ")
_NO_CAUSE = re.compile(  # the last words of every failure: they never say why
    r"Engine set up failed|Building engine failed|Engine could not be created|Failed to create engine|"
    r"Error occurred during inference|Inference set up failed|Failed to parse onnx file|Parsing model failed|"
    r"Failed to create network|Network set up failed|Assertion enginePtr != nullptr failed"
)
_NODE_IN_BUILD = re.compile(r"for node (\S.*?)\.\)")
_NODE_IN_PARSER = re.compile(r'(?:^|\s)name: "([^"]*)"')
_TYPE_IN_PARSER = re.compile(r'(?:^|\s)op_type: "([^"]*)"')
_NODE_NUMBER = re.compile(r"While parsing node number (\d+) \[(\w+)")
_AVERAGE = re.compile(r"Average over \d+ runs is ([\d.]+) ms")
_NOT_LOADED = re.compile(r"[Dd]eseriali[sz]")

_KEPT_ERRORS = 40
_SHOWN_ERRORS = 3
_SHOWN_CHARACTERS = 800


def version_of(number: str) -> "Any":
    """Return (8, 2, 1) for ``8201``: thousands up to TensorRT 9, from 10.0 on ten thousands (``100300`` is 10.3.0)."""
    value = int(number)
    major = 1000 if value < 10000 else 10000
    return value // major, value % major // 100, value % 100


class Log:
    """Reads a log line by line.

    Attributes:
        version: TensorRT's release as numbers; None where the banner does not name it (up to 7.x).
        build: number of the build, which banners name from 10.4 on.
        device, compute_capability: of the GPU; None where they are not said.
        ended: ``PASSED`` or ``FAILED``; None where the program said neither.
        averages_ms: times of the lines that TensorRT 3 to 5 print, one for each average.
    """

    def __init__(self) -> None:
        """Start with nothing read."""
        self.version = None  # type: Any
        self.build = None  # type: Optional[int]
        self.device = None  # type: Optional[str]
        self.compute_capability = None  # type: Optional[str]
        self.ended = None  # type: Optional[str]
        self.averages_ms = []  # type: Any
        self._errors = []  # type: Any
        self._last = ""
        self._node = {}  # type: Any
        self._in_node = False

    def read(self, line: str) -> None:
        """Take the next line."""
        line = _TIME.sub("", line.strip())
        if not line:
            return
        self._last = line
        banner = _BANNER.match(line)
        if banner:
            if banner.group(1) != "RUNNING":
                self.ended = banner.group(1)
            if banner.group(2):
                self.version = version_of(banner.group(2))
            if banner.group(3):
                self.build = int(banner.group(3))
            return
        for pattern, name in ((_DEVICE, "device"), (_CAPABILITY, "compute_capability")):
            found = pattern.search(line)
            if found:
                setattr(self, name, found.group(1).strip())
        average = _AVERAGE.search(line)
        if average:
            self.averages_ms.append(float(average.group(1)))
        self._read_node(line)
        if _ERROR.search(line) and not self._in_node and "--- End node ---" not in line:
            if len(self._errors) < _KEPT_ERRORS and line not in self._errors:
                self._errors.append(line)

    def _read_node(self, line: str) -> None:
        """Take what the parser says of the node that it refuses, or the builder of its layer; the first one counts."""
        if "--- Begin node ---" in line:
            self._in_node = True
        elif "--- End node ---" in line:
            self._in_node = False
        patterns = {"layer": _NODE_IN_BUILD, "number": _NODE_NUMBER}
        if self._in_node:
            patterns = {"name": _NODE_IN_PARSER, "type": _TYPE_IN_PARSER}
        for key, pattern in patterns.items():
            found = pattern.search(line)
            if found:
                self._node.setdefault(key, found.group(1))
                if key == "number":
                    self._node.setdefault("type", found.group(2))

    def node(self) -> "Optional[str]":
        """The node or layer that the failure is about; None where none is named."""
        facts = self._node
        if "layer" in facts:
            return str(facts["layer"])
        name = facts.get("name") or ("number " + facts["number"] if "number" in facts else "")
        if not name:
            return None
        return "{} ({})".format(name, facts["type"]) if facts.get("type") else str(name)

    def cause(self) -> str:
        """The first errors that say why; where there is none, the last line."""
        telling = [line for line in self._errors if not _NO_CAUSE.search(line)]
        shown = "; ".join((telling or self._errors)[:_SHOWN_ERRORS]) or self._last or "it said nothing"
        return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."

    def engine_does_not_load(self) -> bool:
        """Whether it said so; trtexec 10.13 with --skipInference prints PASSED all the same."""
        return any(_NOT_LOADED.search(line) for line in self._errors)
