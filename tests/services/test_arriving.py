"""Somebody arrives on real servers: account, page, link, the client's files; and what a link gives away."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from djops.compile.vault import policy_name
from djops.errors import DjopsError
from djops.services import arriving, credentials
from djops.services.access import Servers
from djops.services.site import open_site
from djops.systems.connections import Secret
from djops.systems.links import LinkServer
from djops.systems.vault import Secrets
from tests.conftest import LabUnderTest
from tests.support.cli import PROGRAM, Run, djops, invoke
from tests.support.demo import DemoUnderTest, demo_in, run_client

LIST = "name;role;on;email\nnina;analyst;ephys;nina@example.org\nomar;viewer;imaging;omar@example.org\n"


@pytest.fixture(scope="module")
def up(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoUnderTest]:
    with demo_in(lab, tmp_path_factory.mktemp("here")) as found:
        yield found


def onboard(up: DemoUnderTest, *arguments: str | Path) -> Mapping[str, object]:
    done = invoke("onboard", *arguments, "--yes", "--json", cwd=up.site.project_file.parent)
    assert done.status == 0, done.stdout
    data: Mapping[str, object] = done.answer["data"]
    return data


@pytest.fixture(scope="module")
def brought_in(up: DemoUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two people, carried out as one change; their pages and links."""
    place = tmp_path_factory.mktemp("welcomes")
    (place / "people.csv").write_text(LIST)
    data = onboard(up, "--csv", place / "people.csv", "--pages", place / "pages", "--to", place / "links")
    assert data["edited"] is True
    return place


def again(up: DemoUnderTest, place: Path, who: str, valid: str = "1h") -> tuple[arriving.Bundle, Secret]:
    """A new page and link for somebody who is there."""
    onboard(up, who, "--pages", place / "pages", "--to", place / "links", "--valid", valid)
    link = (place / "links" / f"{who}.link").read_text().strip()
    return arriving.read_bundle(place / "pages" / who), Secret(link)


def kept(up: DemoUnderTest, who: str) -> Mapping[str, str]:
    return credentials.read(open_site(up.site.project_file), who)


def secrets_of(up: DemoUnderTest, who: str) -> list[str]:
    return [value for name, value in kept(up, who).items() if name != "database.user"]


def test_a_list_makes_accounts_pages_and_links(up: DemoUnderTest, brought_in: Path) -> None:
    people = open_site(up.site.project_file).project.people
    assert {"nina", "omar"} <= people.keys()
    for who in ("nina", "omar"):
        names = {path.name for path in (brought_in / "pages" / who).iterdir()}
        assert names == {"welcome.html", "welcome.md", "djops-welcome.json", "ca.pem"}
        link = brought_in / "links" / f"{who}.link"
        assert stat.S_IMODE(link.stat().st_mode) == 0o600


def test_nothing_secret_is_on_a_page(up: DemoUnderTest, brought_in: Path) -> None:
    for who in ("nina", "omar"):
        link = (brought_in / "links" / f"{who}.link").read_text().strip()
        for file in (brought_in / "pages" / who).iterdir():
            for secret in (link, *secrets_of(up, who)):
                assert secret not in file.read_text()


def test_the_page_says_what_she_may_and_needs_nothing_from_elsewhere(brought_in: Path) -> None:
    page = (brought_in / "pages" / "nina" / "welcome.html").read_text()
    assert "<strong>analyst</strong> on ephys: adds results and runs populate" in page
    rows = dict(re.findall(r'<tr><th scope="row">(\w+)</th><td>(.*?)</td>', page))
    assert rows.keys() == {"subject", "session", "ephys", "imaging", "analysis"}
    assert "add rows" in rows["ephys"]
    assert rows["session"].startswith("look at rows")
    assert rows["imaging"] == "nothing"
    assert "<svg" in page
    assert not re.findall(r"(?:src|href)\s*=|@import|url\((?!#)", page)
    assert "{{" not in page


def test_her_link_becomes_files_that_work(up: DemoUnderTest, brought_in: Path, tmp_path: Path) -> None:
    page, link = brought_in / "pages" / "nina", brought_in / "links" / "nina.link"
    with link.open() as given:
        done = subprocess.run(
            [PROGRAM, "welcome", "-", "--page", page, "--to", tmp_path / "work", "--json"],
            stdin=given, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout
    data = json.loads(done.stdout)["data"]
    assert data["database"] == {
        "works": True, "tls": "TLSv1.3", "schemas": ["ephys", "session", "subject"]
    }  # fmt: skip
    assert data["stores"] == {"main": True}
    for secret in (link.read_text().strip(), *secrets_of(up, "nina")):
        assert secret not in done.stdout + done.stderr
    files = list((tmp_path / "work" / ".secrets").iterdir())
    assert {path.name: path.read_text() for path in files} == kept(up, "nina")
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    first = run_client(tmp_path / "work", up.source, ["-c", "\n".join(data["query"])])
    assert "subject_id" in first
    # The same link again: somebody was there before.
    late = invoke("welcome", link, "--page", page, "--to", tmp_path / "late", "--json", cwd=tmp_path)
    assert (late.status, late.answer["errors"][0]["code"]) == (1, "E_LINK_USED")
    assert not (tmp_path / "late").exists()
    check = invoke("onboard", "--check", "--json", cwd=up.site.project_file.parent)
    told = {one["who"]: one for one in check.answer["data"]["links"]}
    assert (check.status, told["nina"]["state"], told["nina"]["alarming"]) == (2, "used", True)
    assert len(told["nina"]["opened"]) == 1
    assert told["nina"]["refused"][0].endswith("from 127.0.0.1")
    assert (told["omar"]["state"], told["omar"]["opened"]) == ("unused", [])


def test_the_way_without_djops(up: DemoUnderTest, brought_in: Path, tmp_path: Path) -> None:
    _, link = again(up, brought_in, "omar")
    for file in (brought_in / "pages" / "omar").iterdir():
        (tmp_path / file.name).write_text(file.read_text())
    page = (tmp_path / "welcome.md").read_text()
    script = page.partition("## Without djops")[2].partition("```sh\n")[2].partition("```")[0]
    script = script.replace(".venv/bin/python", sys.executable)
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=tmp_path, env=environment, input=f"{link.reveal()}\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"creation_path":"djops/data/demo_lab/people/omar"' in done.stdout
    assert "omar@" in done.stdout
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / ".secrets").iterdir()}
    assert (modes, stat.S_IMODE((tmp_path / ".secrets").stat().st_mode)) == ({0o600}, 0o700)
    assert not (tmp_path / "answer.json").exists()
    assert link.reveal() not in done.stdout + done.stderr


@contextlib.contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect the command lines of all processes while something runs."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(entry.read_bytes().decode(errors="replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join(120)


def test_nothing_secret_is_in_a_command_line_or_a_log(
    up: DemoUnderTest, brought_in: Path, tmp_path: Path
) -> None:
    with command_lines() as seen:
        _, link = again(up, brought_in, "omar")
        file = brought_in / "links" / "omar.link"
        done = djops("welcome", file, "--page", brought_in / "pages" / "omar", "--to", tmp_path, cwd=tmp_path)
        assert done.status == 0, done.stderr
        assert djops("doctor", cwd=tmp_path).status == 0
    secrets = [link.reveal(), *secrets_of(up, "omar")]
    assert any("client_probe" in line for line in seen), "the watcher saw what ran"
    assert not [line for line in seen if any(secret in line for secret in secrets)]
    logs = [path for path in up.site.lab.rglob("*") if path.suffix in (".log", ".jsonl", ".err")]
    assert any(path.name == "audit.log" for path in logs)
    for path in logs:
        text = path.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), path


def test_a_log_in_s_token_fetches_the_files_again(
    up: DemoUnderTest, brought_in: Path, tmp_path: Path
) -> None:
    def welcome(option: str, secret: str) -> Run:
        place = ("--page", str(brought_in / "pages" / "omar"), "--to", str(tmp_path))
        done = subprocess.run(
            [PROGRAM, "welcome", option, "-", *place, "--json"],
            input=f"{secret}\n", capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        return Run(done.returncode, done.stdout, done.stderr)

    def token_of(who: str) -> str:
        with Secrets(up.site.secrets) as session:
            asked = {"policies": [policy_name("demo_lab", who)]}
            made = session.request("POST", "auth/token/create/djops-principal", asked) or {}
        return str(made["auth"]["client_token"])

    for option, secret, code in (("--token", token_of("nina"), "E_LOGIN"), ("--login", "x", "E_NO_LOGIN")):
        assert welcome(option, secret).answer["errors"][0]["code"] == code
        assert not (tmp_path / ".secrets").exists()
    for _ in range(2):  # unlike a link, which is used up
        done = welcome("--token", token_of("omar"))
        assert (done.status, done.answer["data"]["database"]["works"]) == (0, True), done.stdout
    assert {path.name: path.read_text() for path in (tmp_path / ".secrets").iterdir()} == kept(up, "omar")


def test_a_newer_link_ends_the_older(up: DemoUnderTest, brought_in: Path, tmp_path: Path) -> None:
    bundle, old = again(up, brought_in, "omar")
    _, new = again(up, brought_in, "omar")
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(bundle, old, tmp_path / "old")
    assert caught.value.code == "E_LINK_USED"
    assert arriving.arrive(bundle, new, tmp_path / "new").view.failure is None


def test_a_link_that_somebody_opened_and_wrapped_again_is_not_used(
    up: DemoUnderTest, brought_in: Path, tmp_path: Path
) -> None:
    bundle, link = again(up, brought_in, "omar")
    stolen = LinkServer(bundle.address, bundle.authority).open(link)
    with Servers(up.site) as servers:
        wrapped = servers.secrets._send("POST", "sys/wrapping/wrap", {"data": dict(stolen)}, wrap=600) or {}
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(bundle, Secret(wrapped["wrap_info"]["token"]), tmp_path / "x")
    assert caught.value.code == "E_LINK_OPENED"
    assert not (tmp_path / "x").exists()


def test_somebody_elses_link_is_not_used(up: DemoUnderTest, brought_in: Path, tmp_path: Path) -> None:
    _, omars = again(up, brought_in, "omar")
    bundle = arriving.read_bundle(brought_in / "pages" / "nina")
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(bundle, omars, tmp_path / "x")
    assert caught.value.code == "E_LINK_OPENED"


def test_a_link_whose_time_is_over(up: DemoUnderTest, brought_in: Path, tmp_path: Path) -> None:
    bundle, link = again(up, brought_in, "omar")
    LinkServer(bundle.address, bundle.authority).open(link)
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(bundle, link, tmp_path / "x", now=bundle.until)
    assert caught.value.code == "E_LINK_ENDED"


def test_files_of_something_else_do_not_use_the_link_up(
    up: DemoUnderTest, brought_in: Path, tmp_path: Path
) -> None:
    bundle, link = again(up, brought_in, "omar")
    (tmp_path / "datajoint.json").write_text("{}")
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(bundle, link, tmp_path)
    assert caught.value.code == "E_EXISTS"
    assert arriving.arrive(bundle, link, tmp_path, force=True).written.principal == "omar"


@pytest.mark.parametrize("beginning", arriving.TOKEN_BEGINNINGS)
def test_a_link_in_the_command_line_is_refused_without_repeating_it(brought_in: Path, beginning: str) -> None:
    link = f"{beginning}0123456789abcdef"
    done = invoke("welcome", link, "--json", cwd=brought_in / "pages" / "nina")
    assert done.answer["errors"][0]["code"] == "E_LINK_SHOWN"
    assert link not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "wrong", ["", "[]", "{}", '{"secrets": ["../x"]}', '{"who": 1, "until": "never"}', "not JSON"]
)
def test_a_file_that_djops_did_not_write(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "djops-welcome.json").write_text(wrong)
    with pytest.raises(DjopsError) as caught:
        arriving.read_bundle(tmp_path)
    assert caught.value.code in ("E_WELCOME_FILE", "E_STATE")


def test_without_the_files_or_with_some_of_them(brought_in: Path, tmp_path: Path) -> None:
    with pytest.raises(DjopsError) as caught:
        arriving.read_bundle(tmp_path)
    assert caught.value.code == "E_WELCOME_FILE"
    (tmp_path / "djops-welcome.json").write_bytes(
        (brought_in / "pages" / "nina" / "djops-welcome.json").read_bytes()
    )
    with pytest.raises(DjopsError) as caught:
        arriving.arrive(arriving.read_bundle(tmp_path), Secret("s.x"), tmp_path)
    assert "certificate" in caught.value.message


def test_what_is_refused_before_anything_happens(up: DemoUnderTest, tmp_path: Path) -> None:
    before = up.site.project_file.read_text()
    for arguments, code in (
        (["zoe", "analyst", "ephys"], "E_USAGE"),  # --json would show the link
        (["zoe", "analyst", "--to", "x"], "E_USAGE"),
        (["--to", "x"], "E_USAGE"),
        (["zoe", "analyst", "ephis", "--to", "x"], "E_UNKNOWN_SCHEMA"),
        (["zoe", "analyst", "ephys", "--to", "x", "--valid", "1y"], "E_USAGE"),
        (["zoe", "analyst", "ephys", "--to", "x", "--csv", "y"], "E_USAGE"),
        (["zoe", "--reason", "why", "--to", "x"], "E_USAGE"),
    ):
        done = invoke("onboard", *arguments, "--yes", "--json", cwd=up.site.project_file.parent)
        assert (done.status, done.answer["errors"][0]["code"]) == (1, code), arguments
    asked = invoke(
        "onboard", "zoe", "analyst", "ephys", "--to", "x", "--json", cwd=up.site.project_file.parent
    )
    assert asked.answer["errors"][0]["code"] == "E_CONFIRM"
    assert up.site.project_file.read_text() == before


# The set-up, looked at by the person herself


@pytest.fixture(scope="module")
def settled(up: DemoUnderTest, brought_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Omar's own directory, a repository with the pipeline's code."""
    place = tmp_path_factory.mktemp("omar")
    bundle, link = again(up, brought_in, "omar")
    for file in (brought_in / "pages" / "omar").iterdir():
        (place / file.name).write_text(file.read_text())
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    arriving.arrive(bundle, link, place)
    return place


def codes(place: Path) -> dict[str, str]:
    done = invoke("doctor", "--json", cwd=place)
    assert done.status == (2 if done.answer["data"]["findings"] else 0), done.stdout
    return {one["code"]: f"{one['where']} {one['message']}" for one in done.answer["data"]["findings"]}


def test_who_am_i(settled: Path) -> None:
    told = invoke("whoami", "--json", cwd=settled).answer["data"]
    assert told["account"] == "omar@%"
    assert told["roles"] == ["imaging:viewer"]
    assert told["tls"] == "TLSv1.3"
    assert told["may"] == {"imaging": ["read"], "session": ["read"], "subject": ["read"]}
    assert (list(told["stores"]), told["powers"], told["failure"]) == (["main"], [], None)
    assert "imaging  read" in invoke("whoami", cwd=settled).stdout


def test_a_good_set_up_has_no_findings(settled: Path) -> None:
    assert codes(settled) == {}


def test_everything_that_is_wrong_is_named(settled: Path, up: DemoUnderTest) -> None:
    folder, password = settled / ".secrets", settled / ".secrets" / "database.password"
    secret = password.read_text()
    try:
        (folder / "storage.access_key").write_text("x")
        (settled / "dj_local_conf.json").write_text("{}")
        (settled / "stray.py").write_text(f'x = "<blob@>"\np = "{secret}"\n')
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "add", "stray.py"], cwd=settled, check=True)
        subprocess.run(["git", *identity, "commit", "-qm", "x"], cwd=settled, check=True)
        (settled / "stray.py").write_text('x = "<blob@>"\n')
        (settled / ".gitignore").rename(settled / "gitignore")
        password.chmod(0o644)
        (folder / "stores.main.secret_key").rename(folder / "stores.main.secret")
        found = codes(settled)
        assert found.keys() == {
            "W_IGNORED", "W_MODE", "W_GIT", "W_NO_SECRETS", "W_STORE", "W_CODEC"
        }  # fmt: skip
        assert found["W_CODEC"].startswith(f"{settled / 'stray.py'}:1 ")
        shown = invoke("doctor", cwd=settled)
        assert secret not in shown.stdout + shown.stderr
        assert "stands in the history" in shown.stdout
    finally:
        (folder / "storage.access_key").unlink()
        (settled / "dj_local_conf.json").unlink()
        (settled / "gitignore").rename(settled / ".gitignore")
        shutil.rmtree(settled / ".git")  # what was planted there is found by the search of the whole run
        (folder / "stores.main.secret").rename(folder / "stores.main.secret_key")
        password.chmod(0o600)


def test_rights_that_are_not_as_the_page_says(settled: Path) -> None:
    page = settled / "djops-welcome.json"
    text = page.read_text()
    told = json.loads(text)
    told["rights"] |= {"imaging": ["read", "insert"], "subject": []}
    page.write_text(json.dumps(told))
    try:
        done = invoke("doctor", "--json", cwd=settled)
    finally:
        page.write_text(text)
    found = [one["message"] for one in done.answer["data"]["findings"] if one["code"] == "W_RIGHTS"]
    assert [message.partition(" than")[0] for message in found] == [
        "you may less with imaging", "you may more with subject"
    ]  # fmt: skip


def test_a_password_that_is_not_taken(settled: Path) -> None:
    password = settled / ".secrets" / "database.password"
    kept_text = password.read_text()
    password.write_text("wrong")
    try:
        assert "W_DATABASE" in codes(settled)
        assert invoke("whoami", cwd=settled).status == 2
    finally:
        password.write_text(kept_text)


def test_without_anything(tmp_path: Path) -> None:
    assert {"W_NO_SETTINGS", "W_DATABASE"} <= codes(tmp_path).keys()
