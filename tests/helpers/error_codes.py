"""The codes of errors and notes, read off the package's source: the text of ``deploycc/ERRORS.md``.

A code is the first argument of an error and the second of a `Note`. A function that hands a parameter on as a code
counts as well (``layer.error("caffe-cycle", ...)``), so its calls are read in turn. A code is written out where it is
raised: one that is computed cannot be searched for, and is refused here.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploycc import errors

ROOT = Path(errors.__file__).parent
SPELLING = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LEFT_OUT = "…"  # what is only known when the message is made
SHOWN_MESSAGES = 3
DEPTH = 3  # names in names

HEADER = f"""# Error and note codes

A test writes this file from the source. After a change: `DEPLOYCC_UPDATE_GOLDEN=1 pytest -n0 tests/test_error_codes.py`.

An error ends the command. A note goes to the report and the terminal, and the work goes on. `{LEFT_OUT}` is a name, a
number or a reason that is known only at run time. Where a code has many messages, the first {SHOWN_MESSAGES} are shown.

| exit status | meaning |
| --- | --- |
| 0 | done |
| {errors.EXIT_DIAGNOSED} | a diagnosed failure |
| {errors.EXIT_USAGE} | wrong usage |
| {errors.EXIT_BUDGET} | a budget or a regression gate was missed |
| {errors.EXIT_UNDECIDED} | the measurements cannot tell whether a gate was missed |
| {errors.EXIT_BUG} | a bug of deploycc, with its traceback |
| {errors.EXIT_INTERRUPTED} | interrupted |
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Use:
    """One place where a code is given.

    Attributes:
        code: in kebab-case.
        kind: class of the error, or ``Note``.
        module: path inside the package.
        line: in it.
        messages: as written, with `LEFT_OUT` for what is filled in; several where the code chooses one.
    """

    code: str
    kind: str
    module: str
    line: int
    messages: tuple[str, ...]


@dataclass(frozen=True)
class _Maker:
    """A class or function whose call gives a code.

    Attributes:
        kind: class of the error, or ``Note``.
        code: name of the parameter that takes the code, or None where the function always gives one code.
        message: name of the parameter that takes the message, or None where the function writes it.
        parameters: in the order of a call's arguments.
        method: it is called on an object.
        module: where its name is known; None: everywhere.
        constant: the one code that it gives.
    """

    kind: str
    code: str | None
    message: str | None
    parameters: tuple[str, ...]
    method: bool = False
    module: str | None = None
    constant: ast.expr | None = None


@dataclass(frozen=True)
class _Call:
    """A call, with the module and the function that it is in."""

    module: str
    node: ast.Call
    inside: Function | None

    @property
    def name(self) -> str:
        """What is called, without the object before the dot."""
        function = self.node.func
        return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")

    def argument(self, maker: _Maker, name: str | None) -> ast.expr | None:
        """The argument that a parameter gets."""
        given = dict(zip(maker.parameters, self.node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in self.node.keywords if keyword.arg}
        return given.get(name or "")


def kinds() -> dict[str, int]:
    """Classes of errors, the base first, each with its exit status."""
    classes = [errors.DeployError]
    for parent in classes:
        classes += parent.__subclasses__()  # the list grows while it is read
    return {kind.__name__: kind.exit_code for kind in classes if kind.__module__ == errors.__name__}


def package_sources() -> dict[str, str]:
    """The source of every module of the package, by its path inside it."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(ROOT.rglob("*.py"))
        if path.name != "errors.py"
    }


def find_uses(sources: Mapping[str, str]) -> list[Use]:
    """Return every use of a code, in the order of codes.

    Raises:
        ValueError: a code is computed, or not in kebab-case.
    """
    calls = [call for module, source in sources.items() for call in _calls(module, ast.parse(source))]
    makers: dict[str, list[_Maker]] = {kind: [_Maker(kind, "code", "message", ("code", "message"))] for kind in kinds()}
    makers["Note"] = [_Maker("Note", "code", "reason", ("node", "code", "reason"))]
    classes = set(makers)
    _add_functions(makers, calls)
    uses = set[Use]()
    for call in calls:
        for maker in _makers_of(call, makers):
            code = maker.constant or call.argument(maker, maker.code)
            messages = tuple(_texts(call.argument(maker, maker.message), call))
            for choice in _choices(code):
                if isinstance(choice, ast.Constant) and SPELLING.fullmatch(str(choice.value)):
                    uses.add(Use(str(choice.value), maker.kind, call.module, call.node.lineno, messages))
                elif call.name in classes and not _handed_on(choice, call.inside):
                    raise ValueError(f"{call.module}:{call.node.lineno}: write out the code, in kebab-case")
    return sorted(uses)


def _calls(module: str, tree: ast.Module) -> Iterator[_Call]:
    """Every call of a module, in the order of the source."""
    waiting: list[tuple[ast.AST, Function | None]] = [(tree, None)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, ast.Call):
            yield _Call(module, node, inside)
        inside = node if isinstance(node, Function) else inside
        waiting += [(child, inside) for child in ast.iter_child_nodes(node)][::-1]


def _add_functions(makers: dict[str, list[_Maker]], calls: list[_Call]) -> None:
    """Add each function that hands a parameter on as the code or as the message, at any distance."""
    grown = True
    while grown:
        grown = False
        for call in calls:
            for maker in _makers_of(call, makers):
                new = _function_as_maker(call, maker)
                known = makers.setdefault(call.inside.name, []) if new and call.inside else []
                if new and new not in known:
                    known.append(new)
                    grown = True


def _function_as_maker(call: _Call, maker: _Maker) -> _Maker | None:
    parameters = _parameters(call.inside)
    code, message = maker.constant or call.argument(maker, maker.code), call.argument(maker, maker.message)
    takes_code = code.id if isinstance(code, ast.Name) and code.id in parameters else None
    takes_message = message.id if isinstance(message, ast.Name) and message.id in parameters else None
    if call.inside is None or (takes_code is None and (takes_message is None or not isinstance(code, ast.Constant))):
        return None
    method = parameters[:1] == ["self"]
    return _Maker(
        maker.kind,
        takes_code,
        takes_message,
        tuple(parameters[method:]),
        method,
        call.module if call.inside.name.startswith("_") else None,
        None if takes_code else code,
    )


def _makers_of(call: _Call, makers: Mapping[str, list[_Maker]]) -> list[_Maker]:
    """What a call makes; also of a parameter that takes a class of errors."""
    named = call.node.func
    if isinstance(named, ast.Name) and call.inside is not None:
        for parameter in call.inside.args.args:
            if parameter.arg != named.id or parameter.annotation is None:
                continue
            if kind := re.fullmatch(r"type\[(\w+)\]", ast.unparse(parameter.annotation)):
                return makers.get(kind.group(1), [])
    return [
        maker
        for maker in makers.get(call.name, ())
        if maker.module in (None, call.module) and (not maker.method or isinstance(named, ast.Attribute))
    ]


def _parameters(function: Function | None) -> list[str]:
    return [] if function is None else [argument.arg for argument in function.args.args]


def _choices(code: ast.expr | None) -> list[ast.expr | None]:
    return [*_choices(code.body), *_choices(code.orelse)] if isinstance(code, ast.IfExp) else [code]


def _handed_on(code: ast.expr | None, inside: Function | None) -> bool:
    """Return whether a code that is not written out comes from a parameter or from another note."""
    if isinstance(code, ast.Name):
        return code.id in _parameters(inside)
    return isinstance(code, ast.Attribute) and code.attr == "code"


def _texts(message: ast.expr | None, call: _Call) -> list[str]:
    """What a message may read; none where nothing of it is written in the code."""
    texts = [re.sub(rf"{LEFT_OUT}(\s*{LEFT_OUT})+", LEFT_OUT, text) for text in _spelled(message, call, 0)]
    return [text for text in texts if text.strip(LEFT_OUT + " :")]


def _spelled(part: ast.expr | None, call: _Call, depth: int) -> list[str]:
    """Every text that an expression may be, a name read as the value that it was given last before the call."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        return [part.value]
    if isinstance(part, ast.IfExp):
        return [*_spelled(part.body, call, depth), *_spelled(part.orelse, call, depth)]
    if isinstance(part, ast.JoinedStr):
        return _joined([_spelled(value, call, depth) for value in part.values])
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add):
        return _joined([_spelled(side, call, depth) for side in (part.left, part.right)])
    if isinstance(part, ast.FormattedValue):
        return _spelled(part.value, call, depth)
    if isinstance(part, ast.Name) and call.inside is not None and depth < DEPTH:
        given = [
            node.value
            for node in ast.walk(call.inside)
            if isinstance(node, ast.Assign)
            and node.lineno < call.node.lineno
            and [ast.unparse(target) for target in node.targets] == [part.id]
        ]
        if given:
            return _spelled(max(given, key=lambda value: value.lineno), call, depth + 1)
    return [LEFT_OUT]


def _joined(parts: list[list[str]]) -> list[str]:
    """Every way to join one text of each part; what is filled in stays out where there are too many."""
    ways = math.prod(len(texts) for texts in parts)
    parts = parts if ways <= SHOWN_MESSAGES else [texts if len(texts) == 1 else [LEFT_OUT] for texts in parts]
    return ["".join(texts) for texts in itertools.product(*parts)]


def as_markdown(uses: Iterable[Use]) -> str:
    """The whole of ``ERRORS.md``."""
    by_kind: dict[bool, dict[str, list[Use]]] = {False: defaultdict(list), True: defaultdict(list)}
    for use in uses:
        by_kind[use.kind == "Note"][use.code].append(use)
    statuses = kinds()
    lines = [HEADER, "## Errors", "", "| code | class | exit status | message | raised in |", "| --- " * 5 + "|"]
    for code, places in by_kind[False].items():
        classes = sorted({use.kind for use in places})
        status = ", ".join(dict.fromkeys(str(statuses[kind]) for kind in classes))
        lines.append(f"| `{code}` | {', '.join(classes)} | {status} | {_messages(places)} | {_modules(places)} |")
    lines += ["", "## Notes", "", "| code | reason | made in |", "| --- " * 3 + "|"]
    lines += [f"| `{code}` | {_messages(places)} | {_modules(places)} |" for code, places in by_kind[True].items()]
    return "\n".join(lines) + "\n"


def _messages(places: Iterable[Use]) -> str:
    texts = list(dict.fromkeys(re.sub(r"([|*<])", r"\\\1", text) for use in places for text in use.messages))
    more = len(texts) - SHOWN_MESSAGES
    return "<br>".join([*texts[:SHOWN_MESSAGES], *([f"and {more} more"] if more > 0 else [])]) or LEFT_OUT


def _modules(places: Iterable[Use]) -> str:
    return ", ".join(f"`{module}`" for module in dict.fromkeys(use.module for use in places))
