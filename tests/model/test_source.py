"""The pipeline read from its source: cases in tests/data/source, and the client as the judge of names."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from djops.errors import DjopsError, ManyErrors, PipelineError
from djops.model.definitions import read_definition
from djops.model.names import snake_case
from djops.model.source import PREFIXES, SourceReading, read_source
from djops.model.symbols import SourceFile

CASES = sorted((Path(__file__).parent.parent / "data" / "source").glob("*.yaml"))


def package(files: dict[str, str]) -> dict[str, SourceFile]:
    found = {}
    for name, text in files.items():
        parts = ["pipe", *name.removesuffix(".py").split("/")]
        is_package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if is_package else parts)] = SourceFile(text, name, is_package)
    return found


def read(**files: str) -> SourceReading:
    return read_source(package({f"{name}.py": text for name, text in files.items()}))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    data: dict[str, Any] = yaml.load(case.read_text(), Loader=yaml.BaseLoader)
    reading = read_source(package(data["files"]), data.get("named", {}))
    graph = reading.graph
    assert graph.schemas == set(data["schemas"])
    found = {str(one): sorted(str(p) for p in graph.references.get(one, ())) for one in graph.tables}
    assert found == {name: sorted(above) for name, above in data.get("tables", {}).items()}
    if "extra" in data:
        assert {k: sorted(v) for k, v in graph.extra.items()} == {
            k: sorted(v) for k, v in data["extra"].items()
        }
    if "codecs" in data:
        assert [f"{u.where} {u.attribute} {u.codec} {u.store}" for u in reading.codecs] == data["codecs"]
    told = [f"{one.code} {one.where} {one.message} {one.hint}" for one in reading.findings]
    assert len(told) == len(data["findings"]), told
    for wanted in data["findings"]:
        code, place, fragment = (*wanted.split(" ", 2), "")[:3]
        assert any(line.startswith(f"{code} {place} ") and fragment in line for line in told), (wanted, told)


HEAD = 'import datajoint as dj\nschema = dj.Schema("lab")\n'


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("x = (\n", "a.py:1"),
        ("def f(:\n", "a.py:1"),
        ("ok = 1\n\tif:\n", "a.py:2"),
        ("x = '\n", "a.py:1"),
        ("\x00", "a.py"),
        ("x = " + "(" * 500 + ")" * 500, "a.py"),
        ("x = " + "-" * 100_000 + "1", "a.py"),
        ("\ud800", "a.py"),
    ],
)
def test_what_does_not_parse_is_an_error_with_its_line(text: str, where: str) -> None:
    with pytest.raises(PipelineError) as caught:
        read(a=text)
    assert caught.value.code == "E_SYNTAX"
    assert (caught.value.where or "").startswith(where)


def test_all_modules_that_do_not_parse_are_told() -> None:
    with pytest.raises(ManyErrors) as caught:
        read(a="x = (", b="y = )", c="z = 1")
    assert [error.where for error in caught.value.flatten()] == ["a.py:1", "b.py:1"]


def test_nothing_is_run_and_nothing_grows() -> None:
    bomb = "\n".join(["a = 'x' * 10 ** 9", f"b = {'x' * 60!r}", *["b = b + b"] * 60, "schema = dj.Schema(b)"])
    reading = read(a="import datajoint as dj\nraise SystemExit\n" + bomb)
    assert [one.code for one in reading.findings] == ["W_UNREAD_SCHEMA"]
    assert "bounds" in reading.findings[0].message
    assert read(a=HEAD + "x = '{:>999999999}'.format(1)\ny = f'{1:>999999999}'\nz = '%999999999d' % 1").graph


def test_deep_expressions_are_an_error_or_read() -> None:
    long = "+".join(["'a'"] * 5000)
    with pytest.raises(PipelineError):
        read(a=f"import datajoint as dj\nschema = dj.Schema({long})")


def test_lines_of_a_definition_are_exact() -> None:
    reading = read(
        a=HEAD
        + "@schema\nclass A(dj.Manual):\n    definition = '''\n    a : int\n    ---\n    b : <blob@>\n    '''"
    )
    assert reading.findings[0].where == "a.py:8"


FRAGMENTS = st.sampled_from(
    [
        "import datajoint as dj", "from . import a, b", "from .a import *", "from .b import X as Y",
        "from ..z import q",
        "schema = dj.Schema('s')", "schema = dj.Schema()", "schema.activate('t')", "schema = dj.Schema(X)",
        "@schema\nclass A(dj.Manual):\n    definition = '-> B'",
        "@schema\nclass B(A):\n    class P(dj.Part): pass",
        "class B(B): pass", "X = f'{X}'", "X += X", "if X:\n    X = 1\nelse:\n    X = '2'", "A = schema(A)",
        "try:\n    X = 's'\nexcept E:\n    Y = X", "del X", "X, Y = Y, X", "A.definition", "X = {X: Y}[Y]",
        "for X in Y: pass", "with X: Y = 's'", "def f(a):\n    schema.activate(a)",
        "X = X if Y else dj.Schema('u')",
        "class C(C.D):\n    C = C", "X = lambda: X", "X = Y.Z.format(*X)", "import pipe.a as X",
        "X = '%s' % X",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(FRAGMENTS, max_size=12), st.lists(FRAGMENTS, max_size=12))
def test_any_code_is_read_or_refused_clearly(first: list[str], second: list[str]) -> None:
    try:
        read(a="\n".join(first), b="\n".join(second))
    except DjopsError as error:
        assert error.code == "E_SYNTAX"


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("->[] :#'\"<>@=abc\n.()~&"), max_size=60))
def test_any_definition_is_read(text: str) -> None:
    reading = read(a=HEAD + f"@schema\nclass A(dj.Manual):\n    definition = {text!r}")
    assert len(reading.graph.tables) == 1


# -- the client's own code as the judge --------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["Session", "MultiModalAnalysis", "HTTPLog", "Probe2X", "A", "AB1", "X9y"])
def test_table_names_are_the_clients(name: str) -> None:
    import datajoint as dj

    for tier, prefix in PREFIXES.items():
        made = type(name, (getattr(dj, tier),), {})
        assert prefix + snake_case(name) == getattr(made, "table_name")  # noqa: B009  its metaclass has it


@settings(deadline=None)
@given(st.from_regex(r"[A-Z][A-Za-z0-9]{0,20}", fullmatch=True))
def test_snake_case_is_the_clients(name: str) -> None:
    from datajoint.utils import from_camel_case

    assert snake_case(name) == from_camel_case(name)


LINES = [
    "-> Parent", "->Parent", "-> [nullable] a.Parent", "-> [unique, nullable] a.b.Parent",
    "->[unique]Parent # x",
    "-> Parent.proj(old='new', c=\"d\")", "-> master", "a = '->' : int32", "# -> Parent", "---", "----- -> x",
    "index (a, b)", "unique index (a)", "a : <blob@main>", "a : <blob>", "a = null : <npy@main> # c",
    "a:<blob@x>", "a : varchar(8) # <blob@y>", "a : enum('<blob@z>', 'b')", "a_1 = 3 : int32",
    "a : < hash@x >",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_lines_mean_what_they_mean_to_the_client(line: str) -> None:
    from datajoint.codecs import parse_type_spec
    from datajoint.declare import attribute_parser, foreign_key_parser, is_foreign_key

    references, attributes = read_definition(line)
    ignored = line.startswith(("#", "---"))
    assert bool(references) == (is_foreign_key(line) and not ignored)
    if references:
        parsed = foreign_key_parser.parse_string(line)
        assert list(references[0].options) == [option.lower() for option in parsed.options]
        theirs = ast.dump(ast.parse(parsed.ref_table.strip(), mode="eval"))
        assert ast.dump(ast.parse(references[0].table, mode="eval")) == theirs
    elif not ignored and "index" not in line:
        parsed = attribute_parser.parse_string(line + "#", parse_all=True)
        spec = parsed.type.strip()
        wanted = [(parsed.name, *parse_type_spec(spec))] if spec.startswith("<") else []
        assert [(one.name, one.codec, one.store) for one in attributes] == wanted
