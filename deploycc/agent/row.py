"""Networks in a row: the first one decides which of several others the host runs after it.

No engine waits inside for a decision then, and each may be a CUDA graph; the host reads one number between the two.
"""

import itertools
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import contract_file, decoding
from .outcome import Failed
from .picture import make_input

_MOST_MISSING = 0.05  # share of the pictures that may need a second network which none of those that are run needs

Part = Callable[[Dict[str, Any]], Dict[str, Any]]  # an engine: from inputs to outputs, by name


def chain(network: "Dict[str, Any]", loaded: "List[Part]") -> "Callable[[Any], Any]":
    """Return a function from a picture tensor to the number of the second network that ran, and its outputs by name.

    Args:
        network: of the plan, with a row.
        loaded: the engines, the first network's first.

    Raises:
        Failed: from the function: the first network decides on none, or does not write what the plan says.
    """
    first, second, row, picture = loaded[0], loaded[1:], network["row"], network["input"]["name"]
    needed = {row["decision"]}.union(*(each["reads"] for each in row["second"])) - {picture}

    def run(tensor: "Any") -> "Any":
        made = dict(first({picture: tensor}))
        missing = sorted(needed - set(made))
        if missing:
            raise Failed("the first network has no output {}, which the plan names".format(missing[0]))
        number = decided(made[row["decision"]], len(second))
        made[picture] = tensor
        return number, second[number]({name: made[name] for name in row["second"][number]["reads"]})

    return run


def decided(value: "Any", count: int) -> int:
    """Return the number of the second network that a decision names.

    Args:
        value: of the first network's output, one number.
        count: of second networks.

    Raises:
        Failed: there is no such network.
    """
    import numpy

    found = numpy.asarray(value).reshape(-1)
    if found.size != 1 or not 0 <= found[0] < count or found[0] % 1:
        shown = ", ".join(map(str, found[:3].tolist()))
        raise Failed("the first network decides on second network {}, and there are {}".format(shown, count))
    return int(found[0])


def pictures(
    plan: "Dict[str, Any]", network: "Dict[str, Any]", folder: str, input_file: "Optional[str]"
) -> "List[Any]":
    """Return the tensors that a row is timed on: which second network runs depends on the picture.

    Args:
        plan: the plan.
        network: of the plan.
        folder: of the plan; pictures that it ships are taken.
        input_file: a picture tensor to take instead; where there is neither, it is random values.

    Raises:
        Failed: a file cannot be used.
    """
    contract = None if input_file is not None else contract_file.read_contract(folder)
    described = None if contract is None else contract_file.network_of(contract, network)
    if contract is None or described is None or described["smoke"] is None:
        return [make_input(plan, network["input"], input_file)]
    smoke = described["smoke"]["pictures"]
    found = contract_file.array_of(contract, folder, smoke, (None, None, None, 3), "u")
    return [decoding.prepare(contract["input"], picture) for picture in found]


def schedule(numbers: "List[int]", shares: "List[float]") -> "Iterator[int]":
    """Yield the places of pictures without an end: each second network comes as often as its share says.

    Args:
        numbers: the second network that each picture needs.
        shares: of the pictures that need each second network; empty, or too much of it is of networks that no picture
            here needs: one picture after the other.
    """
    places = {number: [at for at, each in enumerate(numbers) if each == number] for number in set(numbers)}
    wanted = {number: share for number, share in enumerate(shares) if number in places}
    total = sum(wanted.values())
    if not shares or total < (1 - _MOST_MISSING) * sum(shares):
        return itertools.cycle(range(len(numbers)))
    wanted = {number: share / total for number, share in wanted.items()}
    return _weighted(wanted, {number: itertools.cycle(places[number]) for number in wanted})


def _weighted(shares: "Dict[int, float]", places: "Dict[int, Iterator[int]]") -> "Iterator[int]":
    taken = dict.fromkeys(shares, 0)
    for count in itertools.count(1):
        number = max(sorted(shares), key=lambda each: shares[each] * count - taken[each])
        taken[number] += 1
        yield next(places[number])


def stream(run: "Callable[[Any], int]", tensors: "List[Any]", shares: "List[float]") -> "Callable[[], int]":
    """Return a function that runs the next picture and returns the number of the second network that ran.

    Args:
        run: runs a picture tensor.
        tensors: pictures; each runs once now, which tells what it needs.
        shares: see `schedule`.
    """
    places = schedule([run(tensor) for tensor in tensors], shares)
    return lambda: run(tensors[next(places)])
