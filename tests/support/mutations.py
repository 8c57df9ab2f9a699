"""Mutations of a function's syntax tree, for tests/remedy_table.py.

A mutation names what it changes by an identifier: `drop("is_fenced")` removes the statement that mentions `is_fenced`.
An identifier is a name or the end of a dotted one (`table.write` matches `table.write`, not `table.rewrite`), with
`()` only where it is called. A statement mentions what is in its own expressions, not in its body: an `if`, what is in
its condition. Each mutation must find exactly one thing to change, and raises ValueError if it finds none or several.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar, cast

Function = ast.FunctionDef | ast.AsyncFunctionDef
Mutation = Callable[[Function], None]
T = TypeVar("T")


def drop(mention: str) -> Mutation:
    """Remove the statement that mentions `mention`, with its body."""
    return replace(mention, "")


def replace(mention: str, code: str) -> Mutation:
    """Replace the statement that mentions `mention` with `code`."""

    def mutate(function: Function) -> None:
        block, index = _statement(function, mention)
        block[index : index + 1] = ast.parse(code).body or [ast.Pass()]

    return mutate


def insert_after(mention: str, code: str) -> Mutation:
    """Insert `code` after the statement that mentions `mention`."""

    def mutate(function: Function) -> None:
        block, index = _statement(function, mention)
        block[index + 1 : index + 1] = ast.parse(code).body

    return mutate


def append(code: str) -> Mutation:
    """Append `code` to the function's body."""

    def mutate(function: Function) -> None:
        function.body += ast.parse(code).body

    return mutate


def move(mention: str, *, before: str) -> Mutation:
    """Move the statement that mentions `mention` before the one that mentions `before`.

    Statements nested in others take along all that encloses them up to the block that encloses both.
    """

    def mutate(function: Function) -> None:
        moved, target = _path(function, mention), _path(function, before)
        depth = max(i for i, (a, b) in enumerate(zip(moved, target, strict=False)) if a[0] is b[0])
        block, source = moved[depth]
        destination = target[depth][1]
        if source <= destination:
            raise ValueError(f"{mention} is before {before} already")
        block.insert(destination, block.pop(source))

    return mutate


def condition(mention: str, expression: str) -> Mutation:
    """Replace the condition of the `if` or `while` that mentions `mention`; OLD stands for the present one."""

    def mutate(function: Function) -> None:
        statement = _only(
            (s for s in _statements(function) if isinstance(s, ast.If | ast.While) and _mentions(s.test, mention)),
            f"conditions that mention {mention}",
        )
        statement.test = _expression(expression, statement.test)

    return mutate


def value(mention: str, expression: str) -> Mutation:
    """Replace the value of the assignment or return that mentions `mention`; OLD stands for the present one."""

    def mutate(function: Function) -> None:
        block, index = _statement(function, mention)
        statement = block[index]
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return) or statement.value is None:
            raise ValueError(f"{mention}: a {type(statement).__name__} has no value")
        statement.value = _expression(expression, statement.value)

    return mutate


def call(callee: str, expression: str) -> Mutation:
    """Replace the call of `callee`; OLD stands for the present one."""

    def mutate(function: Function) -> None:
        node = _only(_calls(function, callee), f"calls of {callee}")
        _Replacing(node, _expression(expression, node)).visit(function)

    return mutate


def argument(callee: str, index: int, expression: str) -> Mutation:
    """Replace a positional argument of the call of `callee`; OLD stands for the present one."""

    def mutate(function: Function) -> None:
        node = _only(_calls(function, callee), f"calls of {callee}")
        node.args[index] = _expression(expression, node.args[index])

    return mutate


def keyword(name: str, expression: str | None) -> Mutation:
    """Replace the keyword argument `name` of a call, or remove it (None); OLD stands for the present value."""

    def mutate(function: Function) -> None:
        calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
        node, present = _only(((c, k) for c in calls for k in c.keywords if k.arg == name), f"arguments {name}")
        if expression is None:
            node.keywords.remove(present)
        else:
            present.value = _expression(expression, present.value)

    return mutate


def without_operands(mention: str) -> Mutation:
    """Remove all operands that mention `mention` from the one `and` or `or` that has some."""

    def mutate(function: Function) -> None:
        operation = _only(
            (
                node
                for node in ast.walk(function)
                if isinstance(node, ast.BoolOp) and any(_mentions(operand, mention) for operand in node.values)
            ),
            f"boolean operations with {mention}",
        )
        operation.values = [operand for operand in operation.values if not _mentions(operand, mention)]
        if len(operation.values) < 2:
            raise ValueError(f"{mention}: fewer than two other operands")

    return mutate


def mutated(source: str, qualname: str, mutation: Mutation) -> str:
    """Apply a mutation to the function of that qualified name in a module's source.

    Raises ValueError if the function does not exist, or the mutation does not apply exactly once or changes nothing.
    """
    module = ast.parse(source)
    function = _function(module, qualname)
    before = ast.dump(function)
    mutation(function)
    if ast.dump(function) == before:
        raise ValueError(f"{qualname}: the mutation changes nothing")
    return ast.unparse(ast.fix_missing_locations(module))


def _function(module: ast.Module, qualname: str) -> Function:
    scope: ast.Module | ast.ClassDef | Function = module
    for name in qualname.split("."):
        scope = _only(
            (
                node
                for node in scope.body
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
            ),
            f"definitions of {qualname}",
        )
    if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
        raise ValueError(f"{qualname} is not a function")
    return scope


def _only(found: Iterable[T], what: str) -> T:
    candidates = list(found)
    if len(candidates) != 1:
        raise ValueError(f"{len(candidates)} {what}, not one")
    return candidates[0]


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements directly in a node: its body, else branch, exception handlers, and so on."""
    for _, field in ast.iter_fields(node):
        if isinstance(field, list) and field:
            if isinstance(field[0], ast.stmt):
                yield field
            elif isinstance(field[0], ast.excepthandler | ast.match_case):
                for part in field:
                    yield from _blocks(part)


def _paths(node: ast.AST) -> Iterator[list[tuple[list[ast.stmt], int]]]:
    """Each statement below a node as its path: (block, index in it) from the outermost block to its own."""
    for block in _blocks(node):
        for index, statement in enumerate(block):
            here = (block, index)
            yield [here]
            for path in _paths(statement):
                yield [here, *path]


def _statements(function: Function) -> Iterator[ast.stmt]:
    for path in _paths(function):
        block, index = path[-1]
        yield block[index]


def _path(function: Function, mention: str) -> list[tuple[list[ast.stmt], int]]:
    """The path of the statement that mentions `mention` in its own expressions."""
    paths = (path for path in _paths(function) if _mentions_itself(path[-1][0][path[-1][1]], mention))
    return _only(paths, f"statements that mention {mention} in {function.name}")


def _statement(function: Function, mention: str) -> tuple[list[ast.stmt], int]:
    return _path(function, mention)[-1]


def _mentions_itself(statement: ast.stmt, mention: str) -> bool:
    """Whether a statement mentions an identifier outside the statements nested in it."""
    children = (
        child
        for child in ast.iter_child_nodes(statement)
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)
    )
    return any(_mentions(child, mention) for child in children)


def _mentions(node: ast.AST, mention: str) -> bool:
    return any(_is_named(part, mention) for part in ast.walk(node))


def _is_named(node: ast.AST, mention: str) -> bool:
    if mention.endswith("()"):
        return isinstance(node, ast.Call) and _is_named(node.func, mention.removesuffix("()"))
    last = mention.rpartition(".")[2]
    if isinstance(node, ast.Name):
        return node.id == mention
    return isinstance(node, ast.Attribute) and node.attr == last and f".{ast.unparse(node)}".endswith(f".{mention}")


def _calls(function: Function, callee: str) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _is_named(node.func, callee):
            yield node


def _expression(text: str, old: ast.expr) -> ast.expr:
    """The expression in `text`, with `old` in the place of each OLD."""
    tree = ast.parse(text, mode="eval").body
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "OLD"]
    for node in named:
        tree = cast(ast.expr, _Replacing(node, old).visit(tree))
    return tree


class _Replacing(ast.NodeTransformer):
    """Replaces one node by another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else cast(ast.AST, super().visit(node))
