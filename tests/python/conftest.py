"""What the suites share: one server for all that leave it as they found it, a fresh one for the others."""

import json

import pytest

import allerac
from peer import Peer
from scripted import ScriptedUpstream


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with allerac.Server(allerac.data_dir(tmp_path_factory.mktemp("shared") / "data")) as running:
        yield running


@pytest.fixture(scope="session")
def key(server):
    return server.create_key("anna", "--name", "laptop")


@pytest.fixture(scope="session")
def client(server, key):
    with server.client(key) as made:
        yield made


@pytest.fixture
def http(server, key):
    with server.http(key) as made:
        yield made


@pytest.fixture(scope="module")
def scripted():
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def box(request, tmp_path_factory, scripted):
    """A server for one file of tests, with a scripted one behind it, of whose models it has the `SCRIPTED_MODELS` there."""
    config = f"""
        [[upstream]]
        name = "scripted"
        base_url = "{scripted.url}/v1"
        models = {json.dumps(request.module.SCRIPTED_MODELS)}
    """
    with allerac.Server(allerac.data_dir(tmp_path_factory.mktemp("box") / "data"), config=config) as running:
        yield running


@pytest.fixture
def fresh(tmp_path):
    """A server of the test's own, to be killed."""
    with allerac.Server(allerac.data_dir(tmp_path / "data")) as running:
        yield running


@pytest.fixture
def books(fresh):
    opened = allerac.Books(fresh.data)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def clients_server(tmp_path_factory):
    """A server for clients of other APIs: with other names for its model, and a scripted server behind it."""
    with ScriptedUpstream() as upstream:
        config = f"""
            [aliases]
            "gpt-4o-mini" = "{allerac.MODEL}"
            "claude-*" = "{allerac.MODEL}"
            "agent-claude" = "agent"
            "lost" = "nowhere"

            [[upstream]]
            name = "scripted"
            base_url = "{upstream.url}/v1"
            models = ["agent", "cut", "fails", "refuses", "endless", "several"]
        """
        data = allerac.data_dir(tmp_path_factory.mktemp("clients") / "data")
        with allerac.Server(data, config=config) as running:
            running.upstream = upstream
            running.home_key = running.create_key("homer", "--plan", "pro")
            running.away_key = running.create_key("tina", "--plan", "pro", "--allow-upstream", "all")
            yield running


@pytest.fixture(scope="session")
def peer():
    # One thread: with two, llama.cpp's spin barriers crawl whenever the other core is busy.
    with Peer(allerac.MODEL_FILE, threads=1, context=16384, slots=8) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the log of the servers that a failed test used."""
    report = yield
    if report.failed and report.when == "call":
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, allerac.Server):
                report.sections.append(("log of the server", value.log[-8000:]))
    return report
