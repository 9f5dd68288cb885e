"""The pipeline graph from its source, which is read and never run.

Schemas, tables, foreign keys and imports come from :mod:`djops.model.symbols` and
:mod:`djops.model.definitions`; what cannot be read is a finding that says what to write into
``djops.yaml`` instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from djops.errors import Where
from djops.model.definitions import ALLOWED_OPTIONS, Reference, read_definition
from djops.model.findings import Finding
from djops.model.graph import PipelineGraph, TableName
from djops.model.names import snake_case
from djops.model.symbols import (
    ClassObject,
    External,
    Function,
    Known,
    Module,
    SchemaObject,
    SourceFile,
    Symbols,
    Unknown,
    Value,
    Virtual,
)

PREFIXES = {"Manual": "", "Lookup": "#", "Imported": "_", "Computed": "__"}
PART = "Part"
MAX_TABLE_NAME = 64
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class CodecUse:
    """An attribute whose values go to an object store.

    Attributes:
        table: The table.
        attribute: The attribute.
        codec: The codec's name.
        store: The store's name; empty where the definition names none: ``<blob@>``.
        where: File and line.
    """

    table: TableName
    attribute: str
    codec: str
    store: str
    where: str


@dataclass(frozen=True)
class SourceReading:
    """What the source tells.

    Attributes:
        graph: Schemas, tables, foreign keys; imports between schemas as its ``extra``.
        findings: What could not be read, and what the client would refuse.
        codecs: Every attribute that uses an object store.
        places: File and line of each table's class.
    """

    graph: PipelineGraph
    findings: tuple[Finding, ...] = ()
    codecs: tuple[CodecUse, ...] = ()
    places: Mapping[TableName, str] = field(default_factory=dict)


def read_source(sources: Mapping[str, SourceFile], named: Mapping[str, str] | None = None) -> SourceReading:
    """Read a pipeline from its source.

    Args:
        sources: The package's modules by full name, ``my_pipeline`` and ``my_pipeline.ephys``.
        named: Schema by module, for modules whose schema's name is computed.

    Returns:
        The graph and what could not be read.

    Raises:
        PipelineError: ``E_SYNTAX`` when a module does not parse; ManyErrors when several do not.
    """
    reader = _Reader(Symbols(sources), named or {})
    return reader.read()


class _Reader:
    """Turns symbols into tables and references."""

    def __init__(self, symbols: Symbols, named: Mapping[str, str]) -> None:
        self.symbols = symbols
        self.named = named
        self.findings: list[Finding] = []
        self.codecs: list[CodecUse] = []
        self.classes: dict[ClassObject, TableName] = {}
        self.places: dict[TableName, str] = {}
        self.references: dict[TableName, set[TableName]] = {}
        self.extra: dict[str, set[str]] = {}

    def read(self) -> SourceReading:
        self._name_schemas()
        self._unreadable()
        for made, schema in self.symbols.tables:
            if schema.name is not None:
                self._add_table(made, schema.name, self._prefix(made))
        for made, table in list(self.classes.items()):
            self._read_table(made, table)
        self._read_imports()
        schemas = frozenset(one.name for one in self.symbols.schemas if one.name is not None)
        modules: dict[str, str] = {}
        for one in sorted(self.symbols.schemas, key=lambda one: (one.module, one.line)):
            if one.name is not None:
                modules.setdefault(one.name, one.module)
        graph = PipelineGraph(
            schemas=schemas,
            tables=frozenset(self.classes.values()),
            references={child: frozenset(above) for child, above in self.references.items()},
            extra={schema: frozenset(above) for schema, above in self.extra.items()},
            modules=modules,
            classes={table: _full_name(made) for made, table in self.classes.items()},
        )
        return SourceReading(graph, tuple(self.findings), tuple(self.codecs), self.places)

    def find(self, code: str, message: str, where: Where | str, hint: str) -> None:
        finding = Finding(code, message, str(where), hint)
        if finding not in self.findings:
            self.findings.append(finding)

    # -- schemas -------------------------------------------------------------------------------------

    def _name_schemas(self) -> None:
        """Give computed names from the project file; notice what it contradicts, and names used twice."""
        for schema in self.symbols.schemas:
            told = self.named.get(schema.module)
            if schema.name is None:
                schema.name = told
        for module, told in self.named.items():
            here = [one for one in self.symbols.schemas if one.module == module]
            if here and told not in {one.name for one in here}:
                where = self.symbols.where(module, here[0].line)
                message = f"djops.yaml says that {module} declares {told!r}; the code says {here[0].name!r}"
                self.find("W_SCHEMA_DIFFERS", message, where, "change the one that is wrong")
        homes: dict[str, SchemaObject] = {}
        for schema in self.symbols.schemas:
            if schema.name is None:
                continue
            first = homes.setdefault(schema.name, schema)
            if first.module != schema.module:
                where = self.symbols.where(schema.module, schema.line)
                other = self.symbols.where(first.module, first.line)
                message = f"the schema {schema.name!r} is declared here and in {other}"
                self.find("W_SHARED_SCHEMA", message, where, "keep one module per schema")

    def _unreadable(self) -> None:
        for schema in self.symbols.schemas:
            if schema.name is None:
                where = self.symbols.where(schema.module, schema.line)
                message = f"the name of this schema cannot be read: {schema.reason}"
                hint = f"write into djops.yaml: `schemas: {{NAME: {{module: {schema.module}}}}}`"
                self.find("W_UNREAD_SCHEMA", message, where, hint)
        for module, line, function in sorted(set(self.symbols.inside_functions)):
            message = f"the function {function} makes a schema, which only running it would tell"
            hint = "make it at the module's top level, or tell of it in djops.yaml with `code: false`"
            self.find("W_UNREAD_SCHEMA", message, self.symbols.where(module, line), hint)
        for made, reason in self.symbols.undecided:
            if self._tier(made) is not None:
                message = f"the schema of the table {made.name} cannot be read: {reason.reason}"
                hint = "decorate it with a schema object of this or another module"
                self.find("W_UNREAD_TABLE", message, self._place(made), hint)

    # -- tables --------------------------------------------------------------------------------------

    def _tier(self, made: ClassObject) -> str | None:
        """Return which of DataJoint's classes it derives from: ``Manual``, ..., ``Part``."""
        for one in made.ancestors():
            if isinstance(one, External) and one.name.startswith("datajoint."):
                tier = one.name.rpartition(".")[2]
                if tier in PREFIXES or tier == PART:
                    return tier
        return None

    def _prefix(self, made: ClassObject) -> str | None:
        tier = self._tier(made)
        if tier in PREFIXES:
            return PREFIXES[tier]
        message = f"{made.name} is decorated with a schema, and what kind of table it is cannot be read"
        hint = "derive it from dj.Manual, dj.Lookup, dj.Imported or dj.Computed"
        if tier == PART:
            message = f"{made.name} is a part table decorated with a schema, which DataJoint refuses"
            hint = "decorate its master only"
        self.find("W_UNREAD_TABLE", message, self._place(made), hint)
        return None

    def _add_table(self, made: ClassObject, schema: str, prefix: str | None) -> None:
        if prefix is None:
            return
        table = TableName(schema, prefix + snake_case(made.name))
        if not self._is_allowed(made, table):
            return
        self._keep(made, table)
        for part in _parts(made):
            if self._tier(part) == PART:
                name = TableName(schema, f"{table.table}__{snake_case(part.name)}")
                if self._is_allowed(part, name):
                    self._keep(part, name)

    def _is_allowed(self, made: ClassObject, table: TableName) -> bool:
        if not _CLASS_NAME.fullmatch(made.name):
            message = f"DataJoint refuses the class name {made.name!r}"
            hint = "letters and digits only, a capital first: CamelCase"
            self.find("W_CLASS_NAME", message, self._place(made), hint)
            return False
        if len(table.table) > MAX_TABLE_NAME:
            message = f"the table name of {made.name} has {len(table.table)} characters; MySQL takes 64"
            self.find("W_CLASS_NAME", message, self._place(made), "shorten the class name")
            return False
        return True

    def _keep(self, made: ClassObject, table: TableName) -> None:
        if table in self.places:
            message = f"{table} is declared here and in {self.places[table]}"
            self.find("W_SHARED_TABLE", message, self._place(made), "keep one of the two classes")
        self.classes[made] = table
        self.places.setdefault(table, str(self._place(made)))

    def _place(self, made: ClassObject) -> Where:
        return self.symbols.where(made.module, made.line)

    # -- definitions ---------------------------------------------------------------------------------

    def _definition(self, made: ClassObject) -> Known | None:
        value = made.attribute("definition")
        reason = "there is none"
        if isinstance(value, Function):
            value = self._returned(value, made)
        elif value is not None and not isinstance(value, Known | Unknown):
            value = Unknown("it is no text")
        if isinstance(value, Known) and isinstance(value.value, str):
            return value
        if isinstance(value, Unknown):
            reason = value.reason
        message = f"the definition of {made.name} cannot be read: {reason}"
        schema = self.classes[made].schema
        hint = "write it as one text, or tell what it references in djops.yaml: "
        hint += f"`schemas: {{{schema}: {{upstream: [OTHER]}}}}`"
        self.find("W_UNREAD_DEFINITION", message, self._place(made), hint)
        return None

    def _returned(self, function: Function, made: ClassObject) -> Value:
        """Evaluate a property that does nothing but return a text."""
        body = [one for one in function.node.body if not isinstance(one, ast.Expr)]
        if len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value is not None:
            return self.symbols.evaluate(body[0].value, made.module)
        return Unknown("it is computed by a method")

    def _read_table(self, made: ClassObject, table: TableName) -> None:
        definition = self._definition(made)
        if definition is None:
            if made.master is not None and made.master in self.classes:
                self.references.setdefault(table, set()).add(self.classes[made.master])
            return
        references, attributes = read_definition(str(definition.value))
        for reference in references:
            where = self._line(made, definition, reference.line)
            self._read_reference(made, table, reference, where)
        for attribute in attributes:
            if attribute.store is not None:
                where = self._line(made, definition, attribute.line)
                use = CodecUse(table, attribute.name, attribute.codec, attribute.store, str(where))
                self.codecs.append(use)
                if not attribute.store:
                    message = (
                        f"{attribute.name} : <{attribute.codec}@> names no store, and the client needs one"
                    )
                    hint = f"name it: <{attribute.codec}@main>"
                    self.find("W_BARE_CODEC", message, where, hint)

    def _line(self, made: ClassObject, definition: Known, line: int) -> Where:
        if definition.line is None:
            return self._place(made)
        home = next(
            (one for one in made.ancestors() if isinstance(one, ClassObject) and "definition" in one.names),
            made,
        )
        return self.symbols.where(home.module, definition.line + line)

    def _read_reference(
        self, made: ClassObject, table: TableName, reference: Reference, where: Where
    ) -> None:
        wrong = [option for option in reference.options if option not in ALLOWED_OPTIONS]
        if wrong:
            message = f"the foreign key option {wrong[0]!r} is none that DataJoint knows"
            self.find("W_BAD_REFERENCE", message, where, "write [nullable], [unique] or [nullable, unique]")
        found = self._referenced(made, reference.table)
        if found is made:
            message = f"{made.name} references itself, which DataJoint cannot declare"
            hint = "make a second table with two references, one of them renamed with .proj()"
            self.find("W_BAD_REFERENCE", message, where, hint)
        elif isinstance(found, Virtual):
            self.extra.setdefault(table.schema, set()).add(found.schema)
        elif isinstance(found, ClassObject) and found in self.classes:
            self.references.setdefault(table, set()).add(self.classes[found])
        else:
            reason = found.reason if isinstance(found, Unknown) else "it is no table of this pipeline"
            if isinstance(found, External):
                reason = f"{found.name} is outside of this pipeline"
            if isinstance(found, ClassObject) and self._is_in_unread_schema(found):
                reason = f"the schema of {found.name} cannot be read"
            message = f"{made.name} references `{reference.table}`: {reason}"
            hint = f"mend it, or write into djops.yaml: `schemas: {{{table.schema}: {{upstream: [OTHER]}}}}`"
            self.find("W_BAD_REFERENCE", message, where, hint)

    def _is_in_unread_schema(self, made: ClassObject) -> bool:
        top = made
        while top.master is not None:
            top = top.master
        return any(table is top and schema.name is None for table, schema in self.symbols.tables)

    def _referenced(self, made: ClassObject, text: str) -> Value:
        """Find the class that a reference names, through ``.proj(...)`` and calls."""
        try:
            node = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return Unknown("this is not an expression")
        while isinstance(node, ast.Call):
            is_projection = isinstance(node.func, ast.Attribute) and node.func.attr == "proj"
            node = node.func.value if is_projection and isinstance(node.func, ast.Attribute) else node.func
        extra: dict[str, Value] = {made.name: made, "self": made}
        if made.master is not None:
            extra |= {"master": made.master, made.master.name: made.master}
        return self.symbols.evaluate(node, made.module, extra)

    # -- imports -------------------------------------------------------------------------------------

    def _read_imports(self) -> None:
        of_module: dict[str, set[str]] = {}
        for schema in self.symbols.schemas:
            if schema.name is not None:
                of_module.setdefault(schema.module, set()).add(schema.name)
        for made, table in self.classes.items():
            of_module.setdefault(made.module, set()).add(table.schema)
        for module, mine in of_module.items():
            for value in self.symbols.imports_of(module):
                for above in self._schemas_behind(value, of_module) - mine:
                    for name in mine:
                        self.extra.setdefault(name, set()).add(above)

    def _schemas_behind(self, value: Value, of_module: Mapping[str, set[str]]) -> set[str]:
        match value:
            case Module():
                return set(of_module.get(value.name, ()))
            case ClassObject():
                return {self.classes[value].schema} if value in self.classes else set()
            case SchemaObject():
                return {value.name} if value.name is not None else set()
        return set()


def _parts(made: ClassObject) -> Iterator[ClassObject]:
    """Yield the classes nested in a class or in one it derives from."""
    seen: set[str] = set()
    for one in made.ancestors():
        if isinstance(one, ClassObject):
            for name, value in one.names.items():
                if isinstance(value, ClassObject) and value.master is not None and name not in seen:
                    seen.add(name)
                    yield value


def _full_name(made: ClassObject) -> str:
    name = made.name if made.master is None else f"{made.master.name}.{made.name}"
    return f"{made.module}.{name}"
