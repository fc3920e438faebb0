"""Small faults in a module: one operator, constant, condition, call or handler changes at a time.

Messages, annotations and decorators are left alone.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
LEFT_ALONE = {"annotation", "returns", "decorator_list", "type_params"}


@dataclass(frozen=True)
class Mutant:
    """One fault: bytes `start` to `end` of a module's `original` become `new`."""

    module: str
    line: int
    start: int
    end: int
    new: str
    original: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The line."""
        return self.original.splitlines()[self.line - 1].decode().strip()

    @property
    def change(self) -> str:
        """What became what, in one line."""
        return f"{' '.join(self.original[self.start : self.end].decode().split())} → {self.new}"

    def __str__(self) -> str:
        return f"{self.module}:{self.line} `{self.text}` `{self.change}`"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("module", "line", "text", "change")
        return {name: getattr(self, name) for name in names}

    def source(self) -> bytes:
        """Return the module with the fault."""
        return self.original[: self.start] + self.new.encode() + self.original[self.end :]


def find_mutants(module: str, original: bytes) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    starts = [0]
    for line in original.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = set()
    for first, last, new in _walk(ast.parse(original)):
        start = starts[first.lineno - 1] + first.col_offset
        end = starts[(last.end_lineno or 0) - 1] + (last.end_col_offset or 0)
        found.add(Mutant(module, first.lineno, start, end, new, original))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.new))


Place = ast.expr | ast.stmt
Change = tuple[Place, Place, str]
"""From the first of two nodes to the end of the second, this is the new text."""


def _walk(node: ast.AST) -> Iterator[Change]:
    yield from _changes(node)
    if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    for name, value in ast.iter_fields(node):
        if name in LEFT_ALONE:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.expr():
            for changed in _changed(node):
                yield node, node, f"({ast.unparse(changed)})"
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield node, node, "pass"
        case ast.Return(value=ast.expr() as value):
            if not (isinstance(value, ast.Constant) and value.value is None):
                yield node, node, "return None"
        case ast.AugAssign(op=op) if type(op) in SWAPS:
            yield node, node, ast.unparse(ast.AugAssign(node.target, _swapped(op), node.value))
        case ast.ExceptHandler(body=body):
            if not (isinstance(body[0], ast.Raise) and body[0].exc is None):
                yield body[0], body[-1], "raise"
    if isinstance(node, ast.Try) and node.finalbody:
        yield node.finalbody[0], node.finalbody[-1], "pass"
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.comprehension):
        tests = node.ifs if isinstance(node, ast.comprehension) else [node.test]
        for test in tests:
            if not isinstance(test, ast.Compare | ast.Constant):
                yield test, test, f"(not ({ast.unparse(test)}))"


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    """Yield an expression with one thing changed, in each way."""
    match node:
        case ast.Compare(left, ops, values):
            for index, op in enumerate(ops):
                yield ast.Compare(left, [*ops[:index], _swapped(op), *ops[index + 1 :]], values)
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield ast.BinOp(left, _swapped(op), right)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(_swapped(op), values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float() as value):
            yield ast.Constant(value / 2 if value else 1.0)
        case ast.Call(function, arguments, keywords):
            for index, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    others = [*keywords[:index], *keywords[index + 1 :]]
                    yield ast.Call(function, arguments, others)


def _swapped(op: ast.AST) -> Any:
    return SWAPS[type(op)]()
