"""The first words to a board: a few lines of Python that take the agent, keep it by its digest, and become it.

They go to the board as one word of letters, digits and brackets, which every login shell takes as it is. What differs
from board to board follows on standard input.
"""

from __future__ import annotations

import shlex

GREETING = b"deploycc-agent "

# The login folder must not be searched for modules. An option would say so too, but Python 2, which is to hear that it
# is too old, refuses to start with it.
_NOTHING_FROM_HERE = "[path.remove('') for path in [__import__('sys').path] if '' in path]"

_SOURCE = """
import hashlib, json, os, sys
def say(text):
    os.write(1, ("deploycc-agent " + text + chr(10)).encode("ascii"))
if sys.version_info < (3, 5):
    say("python " + sys.version.split()[0])
    sys.exit(3)
def take(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, min(size - len(data), 1 << 16))
        if not piece:
            sys.exit(4)
        data += piece
    return data
line = b""
while not line.endswith(bytes([10])):
    line += take(1)
asked = json.loads(line.decode("ascii"))
path = None
try:
    root = os.path.abspath(os.path.expanduser(asked["store"]))
    folder = os.path.join(root, "agents")
    path = os.path.join(folder, asked["sha256"] + ".pyz")
    os.makedirs(root, 0o700, exist_ok=True)
    os.makedirs(folder, 0o700, exist_ok=True)
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    if hashlib.sha256(data).hexdigest() != asked["sha256"]:
        say("need")
        data = take(asked["size"])
        partial = path + "." + str(os.getpid())
        try:
            with open(partial, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        finally:
            if os.path.exists(partial):
                os.remove(partial)
    if "UTF-8" not in os.environ.get("LC_ALL", os.environ.get("LANG", "")).upper():
        os.environ["LC_ALL"] = "C.UTF-8"
except OSError as error:
    say("error " + json.dumps([error.errno, error.strerror, error.filename or path]))
    sys.exit(5)
say("ready")
os.execv(sys.executable, [sys.executable, path, "serve", root])
"""


def command(python: str) -> str:
    """Return what the login shell of a board is asked to run.

    Args:
        python: the board's Python, a name or a path.
    """
    source = f"__import__('binascii').unhexlify('{_SOURCE.encode('ascii').hex()}')"
    program = f"{_NOTHING_FROM_HERE} and 0 or eval(compile({source}, 'agent', 'exec'))"
    return " ".join(map(shlex.quote, [python, "-c", program]))
