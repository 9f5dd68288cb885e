"""What the names of a pipeline's modules stand for, found without running them.

Each module's top level is followed statement by statement: imports, constants, classes, schema objects.
What depends on the world outside of the source (the environment, a settings file, a call) is
:class:`Unknown`, with the reason.
"""

from __future__ import annotations

import ast
import re
import string
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from djops.errors import DjopsError, ManyErrors, PipelineError, Where

MAX_TEXT = 1 << 20
_SHOWN = 60


@dataclass(frozen=True)
class SourceFile:
    """A module's source.

    Attributes:
        text: Its content.
        file: The file, as its user names it.
        package: Whether it is a package's ``__init__``.
    """

    text: str
    file: str
    package: bool = False


@dataclass(frozen=True)
class Known:
    """A value that is written down.

    Attributes:
        value: A text, number, tuple, list or dictionary of such.
        line: The line it begins in, when it is one literal of as many lines as its text has.
    """

    value: object
    line: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Module:
    """A module of the pipeline, by its full name."""

    name: str


@dataclass(frozen=True)
class External:
    """Something outside of the pipeline, by its full name: ``datajoint.Manual``."""

    name: str


@dataclass(frozen=True)
class Virtual:
    """A schema that the code reaches through the database: ``dj.virtual_schema("lab")``."""

    schema: str


@dataclass(frozen=True)
class Unknown:
    """Something that only running the code would tell.

    Attributes:
        reason: Why it is not known, as part of a sentence.
        later: Whether it may be known once all modules are loaded.
    """

    reason: str
    later: bool = False


@dataclass(frozen=True)
class Later:
    """A name of a module that was not bound yet when it was imported, because imports run in a circle."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method."""

    node: ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False)
class SchemaObject:
    """What ``dj.Schema(...)`` returns.

    Attributes:
        module: The module that makes it.
        line: The line where.
        name: Its name in the database, once known.
        reason: Why the name is not known.
    """

    module: str
    line: int
    name: str | None = None
    reason: str = "it is never activated"


@dataclass(eq=False)
class ClassObject:
    """A class.

    Attributes:
        name: Its name.
        module: The module that defines it.
        line: The line where.
        bases: What it derives from.
        names: What its body binds.
        master: The class it is nested in.
    """

    name: str
    module: str
    line: int
    bases: tuple[Value, ...]
    names: dict[str, Value] = field(default_factory=dict)
    master: ClassObject | None = None

    def ancestors(self) -> Iterator[Value]:
        """Yield the class and all it derives from, nearest first."""
        yield self
        for base in self.bases:
            if isinstance(base, ClassObject):
                yield from base.ancestors()
            else:
                yield base

    def attribute(self, name: str) -> Value | None:
        """Return what an attribute of the class is bound to, in it or in a class above."""
        for one in self.ancestors():
            if isinstance(one, ClassObject) and name in one.names:
                return one.names[name]
        return None


Value = Known | Module | External | Virtual | Unknown | Later | Function | SchemaObject | ClassObject
Names = dict[str, Value]


@dataclass
class _Loaded:
    """A module while it is followed."""

    name: str
    source: SourceFile
    tree: ast.Module
    names: Names = field(default_factory=dict)
    imported: list[Value] = field(default_factory=list)
    begun: bool = False


@dataclass
class _Scope:
    """Where a statement stands: in a module, or in a class of it."""

    module: _Loaded
    names: Names
    owner: ClassObject | None = None
    only_types: bool = False


class Symbols:
    """All names of all modules.

    Args:
        sources: The modules by full name.

    Attributes:
        tables: Every class that a schema decorates, with the schema, in the order of the code.
        schemas: Every schema object.
        undecided: Classes whose decorator could not be read.

    Raises:
        PipelineError: ``E_SYNTAX`` when a module does not parse; ManyErrors when several do not.
    """

    def __init__(self, sources: Mapping[str, SourceFile]) -> None:
        self.sources = sources
        self.tables: list[tuple[ClassObject, SchemaObject]] = []
        self.schemas: list[SchemaObject] = []
        self.undecided: list[tuple[ClassObject, Unknown]] = []
        self.inside_functions: list[tuple[str, int, str]] = []
        self._modules: dict[str, _Loaded] = {}
        self._all_loaded = False
        self._unnamed: list[tuple[SchemaObject, ast.Call, _Scope]] = []
        errors: list[DjopsError] = []
        for name, source in sorted(sources.items()):
            try:
                self._modules[name] = _Loaded(name, source, parse_module(source))
            except PipelineError as error:
                errors.append(error)
        if errors:
            raise ManyErrors(errors) if len(errors) > 1 else errors[0]
        for name in self._modules:
            self._run(name)
        self._all_loaded = True
        for schema, node, scope in self._unnamed:
            self._name(schema, node, scope)
        for module in self._modules.values():
            self._look_into_functions(module)

    def where(self, module: str, line: int | None) -> Where:
        """Return a line of a module as a place."""
        return Where(self.sources[module].file, line)

    def names_of(self, module: str) -> Mapping[str, Value]:
        """Return what a module binds."""
        return self._modules[module].names

    def imports_of(self, module: str) -> Iterator[Value]:
        """Yield what a module imports at its top level, beyond what only type checkers see."""
        for value in self._modules[module].imported:
            yield self._settle(value)

    def evaluate(self, node: ast.expr, module: str, extra: Mapping[str, Value] | None = None) -> Value:
        """Find what an expression stands for once all modules are loaded.

        Args:
            node: The expression.
            module: The module whose names it uses.
            extra: Names that come before the module's.
        """
        loaded = self._modules[module]
        return self._settle(self._value(node, _Scope(loaded, {**loaded.names, **(extra or {})})))

    # -- statements ----------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        module = self._modules[name]
        if module.begun:
            return
        module.begun = True
        parent = name.rpartition(".")[0]
        if parent in self._modules:
            self._run(parent)
        try:
            self._block(module.tree.body, _Scope(module, module.names))
        except RecursionError as error:
            raise PipelineError(
                "an expression is nested too deeply to be read",
                where=module.source.file,
                code="E_SYNTAX",
                hint="split it",
            ) from error

    def _block(self, body: list[ast.stmt], scope: _Scope) -> None:
        for statement in body:
            self._statement(statement, scope)

    def _statement(self, node: ast.stmt, scope: _Scope) -> None:
        match node:
            case ast.Import() | ast.ImportFrom():
                self._import(node, scope)
            case ast.Assign():
                value = self._value(node.value, scope)
                for target in node.targets:
                    self._bind(target, value, scope)
            case ast.AnnAssign(value=ast.expr() as given):
                self._bind(node.target, self._value(given, scope), scope)
            case ast.AugAssign(target=ast.Name() as target):
                sum_ = ast.copy_location(
                    ast.BinOp(ast.Name(target.id, ast.Load()), node.op, node.value), node
                )
                self._bind(target, self._value(ast.fix_missing_locations(sum_), scope), scope)
            case ast.ClassDef():
                self._class(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                scope.names[node.name] = Function(node)
            case ast.Expr():
                self._value(node.value, scope)
            case ast.If():
                self._if(node, scope)
            case ast.Try() | ast.TryStar():
                self._try(node, scope)
            case ast.With() | ast.AsyncWith():
                self._block(node.body, scope)
            case ast.For() | ast.AsyncFor() | ast.While():
                for name in _names_bound(node):
                    scope.names[name] = Unknown(f"`{name}` changes in the loop of line {node.lineno}")
            case ast.Delete():
                for target in node.targets:
                    scope.names.pop(getattr(target, "id", ""), None)
            case _:
                pass

    def _bind(self, target: ast.expr, value: Value, scope: _Scope) -> None:
        if isinstance(target, ast.Name):
            scope.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            parts = value.value if isinstance(value, Known) and isinstance(value.value, tuple | list) else ()
            for index, element in enumerate(target.elts):
                fits = len(parts) == len(target.elts)
                part = Known(parts[index]) if fits else Unknown(f"`{_text(target)}` is taken apart")
                self._bind(element, part, scope)

    def _import(self, node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                scope.names[alias.asname or top] = self._module(top)
                self._note_import(self._module(alias.name), scope)
            return
        base = self._module(_absolute(node, scope.module))
        for alias in node.names:
            if alias.name == "*":
                self._import_all(base, scope)
                continue
            value = self._member(base, alias.name)
            scope.names[alias.asname or alias.name] = value
            self._note_import(value, scope)
            if value != Module(f"{base.name}.{alias.name}"):
                self._note_import(base, scope)

    def _import_all(self, base: Module | External, scope: _Scope) -> None:
        if isinstance(base, Module):
            names = self._modules[base.name].names
            scope.names.update({name: value for name, value in names.items() if not name.startswith("_")})
            self._note_import(base, scope)
        elif base.name == "datajoint":
            for name in ("Schema", "schema", "Manual", "Lookup", "Imported", "Computed", "Part"):
                scope.names[name] = External(f"datajoint.{name}")

    def _note_import(self, value: Value, scope: _Scope) -> None:
        if not scope.only_types and isinstance(value, Module | ClassObject | SchemaObject | Later):
            scope.module.imported.append(value)

    def _module(self, name: str) -> Module | External:
        if name not in self._modules:
            return External(name)
        self._run(name)
        return Module(name)

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        bases = tuple(self._settle(self._value(base, scope)) for base in node.bases)
        made = ClassObject(node.name, scope.module.name, node.lineno, bases, master=scope.owner)
        scope.names[node.name] = made
        inner = _Scope(scope.module, _Nested(scope.names, made.names), made, scope.only_types)
        self._block(node.body, inner)
        _inherit_nested(made)
        for decorator in reversed(node.decorator_list):
            self._decorate(self._settle(self._value(decorator, scope)), made)

    def _decorate(self, decorator: Value, made: ClassObject) -> None:
        if isinstance(decorator, SchemaObject):
            self.tables.append((made, decorator))
        elif isinstance(decorator, Unknown):
            self.undecided.append((made, decorator))

    def _if(self, node: ast.If, scope: _Scope) -> None:
        test = _text(node.test)
        if test.rpartition(".")[2] == "TYPE_CHECKING":
            self._block(node.body, _Scope(scope.module, scope.names, scope.owner, only_types=True))
            self._block(node.orelse, scope)
        elif not test.startswith("__name__ =="):
            self._branches([node.body, node.orelse], scope, node.lineno)

    def _try(self, node: ast.Try | ast.TryStar, scope: _Scope) -> None:
        self._block(node.body, scope)
        self._block(node.orelse, scope)
        for handler in node.handlers:
            names, made = dict(scope.names), list(self.schemas)
            self._block(handler.body, _Scope(scope.module, names, scope.owner, scope.only_types))
            for name, value in names.items():
                if name not in scope.names:
                    scope.names[name] = value
            kept = list(scope.names.values())
            self.schemas = [one for one in self.schemas if one in made or one in kept]
        self._block(node.finalbody, scope)

    def _branches(self, bodies: list[list[ast.stmt]], scope: _Scope, line: int) -> None:
        """Follow each branch; what they bind differently is known no more."""
        before = dict(scope.names)
        ends: list[Names] = []
        for body in bodies:
            names = dict(before)
            self._block(body, _Scope(scope.module, names, scope.owner, scope.only_types))
            ends.append(names)
        for name in sorted({name for end in ends for name in end}):
            found = [end[name] for end in ends if name in end]
            if any(value is not before.get(name) for value in found):
                scope.names[name] = self._either(name, found, line)

    def _either(self, name: str, found: list[Value], line: int) -> Value:
        first = found[0]
        if all(value == first for value in found) or isinstance(first, ClassObject | Module | External):
            return first
        reason = f"`{name}` depends on the condition of line {line}"
        made = [value for value in found if isinstance(value, SchemaObject)]
        if not made:
            return Unknown(reason)
        self.schemas = [one for one in self.schemas if one not in made]
        whole = SchemaObject(made[0].module, made[0].line, reason=reason)
        self.tables = [(table, whole if schema in made else schema) for table, schema in self.tables]
        self.schemas.append(whole)
        return whole

    # -- expressions ---------------------------------------------------------------------------------

    def _settle(self, value: Value) -> Value:
        seen = set()
        while isinstance(value, Later):
            if value in seen:
                return Unknown(f"`{value.name}` is imported in a circle")
            seen.add(value)
            names = self._modules[value.module].names
            missing = Unknown(f"{value.module} does not define `{value.name}`", later=True)
            value = names.get(value.name) or missing
        return value

    def _member(self, base: Value, name: str) -> Value:
        base = self._settle(base)
        match base:
            case Module():
                names = self._modules[base.name].names
                if name in names:
                    return names[name]
                full = f"{base.name}.{name}"
                return self._module(full) if full in self._modules else Later(base.name, name)
            case External():
                return self._module(f"{base.name}.{name}")
            case Virtual():
                return Virtual(base.schema)
            case ClassObject():
                return base.attribute(name) or Unknown(f"{base.name} has no `{name}` that can be read")
            case SchemaObject() if name == "database" and base.name is not None:
                return Known(base.name)
            case Unknown():
                return base
        return Unknown(f"`{name}` is only known when the code runs")

    def _value(self, node: ast.expr, scope: _Scope) -> Value:
        match node:
            case ast.Constant(value=str() | int() | float() | None as given):
                whole = isinstance(given, str) and _is_one_literal(node, given)
                return Known(given, node.lineno if whole else None)
            case ast.Name():
                if node.id in scope.names:
                    return scope.names[node.id]
                return (
                    External(node.id) if node.id in ("str",) else Unknown(f"`{node.id}` is not defined here")
                )
            case ast.Attribute():
                return self._member(self._value(node.value, scope), node.attr)
            case ast.JoinedStr():
                return self._joined(node, scope)
            case ast.BinOp():
                return self._operation(node, scope)
            case ast.Tuple() | ast.List() | ast.Dict():
                return self._collection(node, scope)
            case ast.Subscript():
                return self._item(node, scope)
            case ast.Call():
                return self._call(node, scope)
            case ast.IfExp():
                both = [self._value(node.body, scope), self._value(node.orelse, scope)]
                return self._either(_text(node), both, node.lineno)
        return _at_run_time(node)

    def _joined(self, node: ast.JoinedStr, scope: _Scope) -> Value:
        parts: list[str] = []
        for part in node.values:
            plain = part
            if isinstance(part, ast.FormattedValue):
                if part.format_spec is not None or part.conversion not in (-1, ord("s")):
                    return _at_run_time(part)
                plain = part.value
            value = self._settle(self._value(plain, scope))
            if not isinstance(value, Known) or not isinstance(value.value, str | int | float):
                return value if isinstance(value, Unknown) else _at_run_time(plain)
            parts.append(str(value.value))
        text = "".join(parts)
        return _bounded(text, node.lineno if _is_one_literal(node, text) else None)

    def _operation(self, node: ast.BinOp, scope: _Scope) -> Value:
        left, right = (self._settle(self._value(side, scope)) for side in (node.left, node.right))
        for side in (left, right):
            if isinstance(side, Unknown):
                return side
        if isinstance(left, Known) and isinstance(right, Known):
            if isinstance(node.op, ast.Add) and isinstance(left.value, str) and isinstance(right.value, str):
                return _bounded(left.value + right.value)
            if isinstance(node.op, ast.Mod) and isinstance(left.value, str):
                return _percent(left.value, right.value) or _at_run_time(node)
            if isinstance(left.value, int) and isinstance(right.value, int):
                return _number(node.op, left.value, right.value) or _at_run_time(node)
        return _at_run_time(node)

    def _collection(self, node: ast.Tuple | ast.List | ast.Dict, scope: _Scope) -> Value:
        if isinstance(node, ast.Dict):
            keys = [None if key is None else self._settle(self._value(key, scope)) for key in node.keys]
            values = [self._settle(self._value(value, scope)) for value in node.values]
            pairs = [
                (key.value, value.value)
                for key, value in zip(keys, values, strict=True)
                if isinstance(key, Known) and isinstance(value, Known)
            ]
            simple = all(isinstance(key, str | int) for key, _ in pairs)
            return Known(dict(pairs)) if simple else _at_run_time(node)
        items = [self._settle(self._value(element, scope)) for element in node.elts]
        known = [item.value for item in items if isinstance(item, Known)]
        return Known(tuple(known)) if len(known) == len(items) else _at_run_time(node)

    def _item(self, node: ast.Subscript, scope: _Scope) -> Value:
        base, key = self._settle(self._value(node.value, scope)), self._settle(self._value(node.slice, scope))
        if isinstance(base, Known) and isinstance(key, Known):
            if isinstance(base.value, dict) and isinstance(key.value, str | int) and key.value in base.value:
                return Known(base.value[key.value])
            if isinstance(base.value, tuple) and isinstance(key.value, int):
                inside = -len(base.value) <= key.value < len(base.value)
                return Known(base.value[key.value]) if inside else _at_run_time(node)
        return _at_run_time(node)

    def _call(self, node: ast.Call, scope: _Scope) -> Value:
        if isinstance(node.func, ast.Attribute):
            owner = self._settle(self._value(node.func.value, scope))
            if isinstance(owner, SchemaObject) and node.func.attr == "activate":
                self._name(owner, node, scope)
                return Known(None)
            if isinstance(owner, Known) and isinstance(owner.value, str):
                arguments = [self._settle(self._value(argument, scope)) for argument in node.args]
                unknown = next((one for one in arguments if isinstance(one, Unknown)), None)
                values = [one.value for one in arguments if isinstance(one, Known)]
                given = {} if node.func.attr != "format" else self._keywords(node, scope)
                if unknown is None and len(values) == len(node.args) and given is not None:
                    return _text_method(owner.value, node.func.attr, values, given) or _at_run_time(node)
                return unknown or _at_run_time(node)
        return self._called(self._settle(self._value(node.func, scope)), node, scope)

    def _called(self, function: Value, node: ast.Call, scope: _Scope) -> Value:
        if isinstance(function, SchemaObject) and node.args:
            made = self._settle(self._value(node.args[0], scope))
            if isinstance(made, ClassObject):
                self._decorate(function, made)
            return made
        if not isinstance(function, External):
            return _at_run_time(node)
        if function.name in SCHEMA_MAKERS:
            return self._make_schema(node, scope)
        if function.name in VIRTUAL_MAKERS:
            position, keyword = VIRTUAL_MAKERS[function.name]
            named = _argument(node, position, keyword)
            value = self._settle(self._value(named, scope)) if named is not None else None
            if isinstance(value, Known) and isinstance(value.value, str):
                return Virtual(value.value)
        if function.name in SAME_TEXT and node.args:
            return self._value(node.args[0], scope)
        return _at_run_time(node)

    def _keywords(self, node: ast.Call, scope: _Scope) -> dict[str, object] | None:
        found = {}
        for keyword in node.keywords:
            value = self._settle(self._value(keyword.value, scope))
            if keyword.arg is None or not isinstance(value, Known):
                return None
            found[keyword.arg] = value.value
        return found

    def _make_schema(self, node: ast.Call, scope: _Scope) -> SchemaObject:
        made = SchemaObject(scope.module.name, node.lineno)
        self.schemas.append(made)
        self._name(made, node, scope)
        return made

    def _name(self, schema: SchemaObject, node: ast.Call, scope: _Scope) -> None:
        """Give a schema object the name that a call says."""
        named = _argument(node, 0, "schema_name")
        value = self._settle(self._value(named, scope)) if named is not None else Known(None)
        if isinstance(value, Known) and isinstance(value.value, str) and value.value:
            schema.name = schema.name or value.value
        elif value != Known(None):
            schema.reason = value.reason if isinstance(value, Unknown) else _reason(node)
            if isinstance(value, Unknown) and value.later and not self._all_loaded:
                self._unnamed.append((schema, node, scope))

    # -- functions -----------------------------------------------------------------------------------

    def _look_into_functions(self, module: _Loaded) -> None:
        """Notice schemas that are made or activated only when a function runs."""
        scope = _Scope(module, module.names)
        for function in _functions(module.tree):
            parameters = {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
            inner = _Scope(module, {k: v for k, v in scope.names.items() if k not in parameters})
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                self._look_at_call(call, function, inner)

    def _look_at_call(
        self, call: ast.Call, function: ast.FunctionDef | ast.AsyncFunctionDef, scope: _Scope
    ) -> None:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "activate":
            schema = self._settle(self._value(call.func.value, scope))
            if isinstance(schema, SchemaObject) and schema.name is None:
                self._name(schema, call, scope)
                if schema.name is None:
                    schema.reason = f"it is activated by the function {function.name}, line {call.lineno}"
        elif isinstance(call.func, ast.Name | ast.Attribute):
            made = self._settle(self._value(call.func, scope))
            if isinstance(made, External) and made.name in SCHEMA_MAKERS:
                self.inside_functions.append((scope.module.name, call.lineno, function.name))


SCHEMA_MAKERS = frozenset({"datajoint.Schema", "datajoint.schema", "datajoint.schemas.Schema"})
VIRTUAL_MAKERS = {
    "datajoint.virtual_schema": (0, "schema_name"),
    "datajoint.VirtualModule": (1, "schema_name"),
    "datajoint.create_virtual_module": (1, "schema_name"),
    "datajoint.schemas.VirtualModule": (1, "schema_name"),
}
SAME_TEXT = frozenset({"textwrap.dedent", "inspect.cleandoc", "str"})


class _Nested(dict[str, Value]):
    """The names of a class body: its own, then those around it; what is bound goes to its own."""

    def __init__(self, outer: Names, own: Names) -> None:
        super().__init__(outer)
        self.own = own

    def __setitem__(self, key: str, value: Value) -> None:
        super().__setitem__(key, value)
        self.own[key] = value


def parse_module(source: SourceFile) -> ast.Module:
    """Parse one module.

    Args:
        source: The module.

    Raises:
        PipelineError: ``E_SYNTAX`` with the line and Python's own message.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source.text.removeprefix("\ufeff"), source.file)
    except SyntaxError as error:
        line, message = error.lineno, error.msg
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        line, message = None, str(error) or "it is nested too deeply"
    raise PipelineError(
        f"this is not Python: {message}",
        where=Where(source.file, line),
        code="E_SYNTAX",
        hint="mend it, and try `python -m py_compile` on it",
    )


def _inherit_nested(made: ClassObject) -> None:
    """Give a class its own copies of the classes nested in those it derives from: each has one master."""
    for one in list(made.ancestors())[1:]:
        for name, value in one.names.items() if isinstance(one, ClassObject) else ():
            if isinstance(value, ClassObject) and value.master is one and name not in made.names:
                made.names[name] = replace(value, master=made)


def _absolute(node: ast.ImportFrom, module: _Loaded) -> str:
    """Return the full name of the module that ``from ... import`` names."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    drop = node.level - (1 if module.source.package else 0)
    base = parts[: max(0, len(parts) - drop)]
    return ".".join([*base, *([node.module] if node.module else [])])


def _names_bound(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            yield one.id


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _argument(node: ast.Call, position: int, keyword: str) -> ast.expr | None:
    if len(node.args) > position and not isinstance(node.args[position], ast.Starred):
        return node.args[position]
    return next((one.value for one in node.keywords if one.arg == keyword), None)


def _is_one_literal(node: ast.expr, text: str) -> bool:
    return (node.end_lineno or node.lineno) - node.lineno == text.count("\n")


def _text(node: ast.expr) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _reason(node: ast.expr) -> str:
    return f"`{_text(node)}` is only known when the code runs"


def _at_run_time(node: ast.expr) -> Unknown:
    return Unknown(_reason(node))


def _bounded(text: str, line: int | None = None) -> Known | Unknown:
    return Known(text, line) if len(text) <= MAX_TEXT else Unknown("a text grows without bounds")


_METHODS: Mapping[str, Callable[..., str]] = {
    "lower": str.lower, "upper": str.upper, "strip": str.strip, "lstrip": str.lstrip, "rstrip": str.rstrip,
    "replace": str.replace, "removeprefix": str.removeprefix, "removesuffix": str.removesuffix,
}  # fmt: skip


def _text_method(
    text: str, method: str, arguments: list[object], keywords: Mapping[str, object]
) -> Known | Unknown | None:
    """Apply a text's method, or return ``None`` for one that is not followed."""
    if method == "format":
        return _format(text, arguments, keywords)
    if method == "join" and len(arguments) == 1 and isinstance(arguments[0], tuple):
        parts = arguments[0]
        return _bounded(text.join(parts)) if all(isinstance(part, str) for part in parts) else None
    if method in _METHODS and all(isinstance(one, str) and len(one) <= _SHOWN for one in arguments):
        try:
            return _bounded(_METHODS[method](text, *arguments))
        except TypeError:
            return None
    return None


def _format(text: str, arguments: list[object], keywords: Mapping[str, object]) -> Known | Unknown | None:
    """Fill a template whose fields are plain names or numbers."""
    parts: list[str] = []
    count = 0
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            parts.append(literal)
            if name is None:
                continue
            if spec or conversion:
                return None
            key, count = (str(count), count + 1) if name == "" else (name, count)
            value = arguments[int(key)] if key.isdecimal() else keywords[key]
            if not isinstance(value, str | int | float):
                return None
            parts.append(str(value))
    except (ValueError, KeyError, IndexError):
        return None
    return _bounded("".join(parts))


def _number(operator: ast.operator, left: int, right: int) -> Known | None:
    """Calculate with small whole numbers, as in ``varchar({2 * LENGTH})``."""
    if max(abs(left), abs(right)) > MAX_TEXT:
        return None
    match operator:
        case ast.Add():
            return Known(left + right)
        case ast.Sub():
            return Known(left - right)
        case ast.Mult():
            return Known(left * right)
    return None


def _percent(text: str, value: object) -> Known | Unknown | None:
    """Fill a template of ``%s`` and ``%d``."""
    values = list(value) if isinstance(value, tuple) else [value]
    if re.sub(r"%[sd%]", "", text).count("%") or len(re.findall(r"%[sd]", text)) != len(values):
        return None
    if not all(isinstance(one, str | int | float) for one in values):
        return None
    try:
        return _bounded(text % tuple(values))
    except (TypeError, ValueError):
        return None
