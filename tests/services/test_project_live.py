"""What the source reader tells, against what the real client declares in the real database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from djops.compile.sql import quote_identifier
from djops.model.graph import PipelineGraph
from djops.services import access, project, schemas
from djops.services.project import Loaded, load_project
from djops.services.site import Site, open_site
from djops.systems.mysql import Mysql
from tests.conftest import LabUnderTest
from tests.support.cli import invoke
from tests.support.repository import HEAD, repository

MODULES = {
    "names": 'PREFIX = "livetest_"\nKEY = "animal : varchar(16)"\n',
    "base": """\
import datajoint as dj

class Curated(dj.Computed):
    definition = '''
    -> Raw2
    ---
    quality : float64
    '''
    class Note(dj.Part):
        definition = '''
        -> master
        note : int32
        '''
    def make(self, key): ...
""",
    "animal": """\
import datajoint as dj
from .names import KEY, PREFIX
schema = dj.Schema(PREFIX + "animal")

@schema
class Species(dj.Lookup):
    definition = "species : varchar(16)"

@schema
class Animal(dj.Manual):
    definition = f'''
    {KEY}
    ---
    -> Species
    '''
    class Weight(dj.Part):
        definition = '''
        -> master
        weight : float64
        ---
        -> [nullable] Animal.proj(mother="animal")
        '''
""",
    "raw": """\
import datajoint as dj
from . import animal as a
from .animal import Animal
from . import names
from .base import Curated
schema = dj.Schema()
schema.activate(f"{names.PREFIX}raw-data")

@schema
class Raw2(dj.Imported):
    definition = '''
    # everything -> about it
    -> a.Animal
    -> [unique] a.Animal.Weight  # the one
    ---
    -> [nullable, unique] Animal.proj(father='animal')
    arrow = "->" : varchar(8)  # -> nothing
    index (arrow)
    '''
    def make(self, key): ...

@schema
class HTTPLog(dj.Manual):
    definition = '''
    -> Raw2
    '''

@schema
class Checked(Curated):
    pass
""",
}


@dataclass(frozen=True)
class Declared:
    loaded: Loaded
    site: Site
    live: PipelineGraph


@pytest.fixture(scope="module")
def declared(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Declared]:
    name = load_project(lab.project_file).project
    head = HEAD.replace("my_lab", name)
    file = repository(tmp_path_factory.mktemp("live"), head=head, modules=MODULES)
    loaded = project.load(file)
    site = open_site(file)
    with access.opened(loaded) as (servers, wanted):
        try:
            schemas.require_power(servers, wanted)
            schemas.declare(site, wanted)
            yield Declared(loaded, site, project.live_graph(loaded))
        finally:
            for schema in reversed(loaded.graph.order):
                servers.mysql.query(f"DROP DATABASE IF EXISTS {quote_identifier(schema)}")


def test_everything_could_be_read(declared: Declared) -> None:
    assert [one.code for one in declared.loaded.findings] == []


def test_the_reader_sees_what_the_client_declares(declared: Declared) -> None:
    graph, live = declared.loaded.graph, declared.live
    assert graph.schemas == live.schemas == {"livetest_animal", "livetest_raw-data"}
    assert {one for one in live.tables if one.tier.holds_data} == graph.tables
    assert {one: live.references.get(one, frozenset()) for one in graph.tables} == {
        one: graph.references.get(one, frozenset()) for one in graph.tables
    }
    assert project.compare(declared.loaded, live) == ()


def test_graph_live_tells_what_somebody_changed(declared: Declared) -> None:
    file = declared.loaded.project_file
    assert invoke("graph", "--live", "-C", file.parent).status == 0
    database = Mysql(declared.site.mysql)
    try:
        database.query("CREATE TABLE `livetest_animal`.`by_hand` (x INT PRIMARY KEY)")
        run = invoke("graph", "--live", "-C", file.parent, "--json")
    finally:
        database.query("DROP TABLE IF EXISTS `livetest_animal`.`by_hand`")
        database.close()
    assert run.status == 2
    [finding] = run.answer["data"]["findings"]
    assert finding["code"] == "W_NOT_IN_CODE"
    assert "livetest_animal.by_hand" in finding["message"]
    assert "pipe.animal" in finding["message"]
    assert Path(file).is_file()
