"""Three servers over one ledger in PostgreSQL, a real one: limits and books are exact over all of them."""

import concurrent.futures
import contextlib
import json
import subprocess
import tempfile

import pytest

import allerac
from scripted import ScriptedUpstream

CHAT = {"model": "good", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, "stream": True}


@pytest.fixture(scope="module")
def postgres():
    """A server of the module's own; the address of its databases, without the name of one."""
    script = allerac.REPOSITORY / "scripts/with-postgres.sh"
    command = [str(script), "bash", "-c", 'echo "$ALLERAC_TEST_POSTGRES $ALLERAC_TEST_POSTGRES_FOLDER"; cat']
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    address, folder = running.stdout.readline().split()
    running.folder = folder
    running.address = address
    yield running
    running.stdin.close()
    running.wait(timeout=60)


@pytest.fixture
def database(postgres, monkeypatch, request):
    """An empty database that everything started from here on uses."""
    name = f"t{abs(hash(request.node.name)) % 10**9}"
    subprocess.run(["psql", f"{postgres.address}/postgres", "-qc", f"CREATE DATABASE {name}"], check=True)
    monkeypatch.setenv("ALLERAC_DATABASE", f"{postgres.address}/{name}")
    return f"{postgres.address}/{name}"


@pytest.fixture
def upstream():
    with ScriptedUpstream() as running:
        yield running


def config(upstream) -> str:
    models = '"good", "waits", "endless"'
    return f'[[upstream]]\nname = "scripted"\nbase_url = "{upstream.url}/v1"\nmodels = [{models}]\n'


@contextlib.contextmanager
def servers(folder, upstream, count=3):
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(allerac.Server(folder / f"server{number}", config=config(upstream)))
            for number in range(count)
        ]


def all_at_once(servers, key: str, count: int) -> list:
    """Requests that are all sent before the first is answered, to each server in turn."""

    def ask(number):
        with servers[number % len(servers)].http(key) as http:
            return http.post("/v1/chat/completions", json=CHAT)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def key_with(server, name: str, *limits: str) -> str:
    server.cli("plans", "add", name, "--upstreams", "true", *limits)
    return server.create_key(f"user-{name}", "--plan", name, "--allow-upstream", "all")


def verify(server) -> str:
    return server.cli("ledger", "verify").stdout


def test_limits_of_a_minute_hold_over_all_servers(database, tmp_path, upstream):
    with servers(tmp_path, upstream) as all_servers:
        key = key_with(all_servers[0], "rpm", "--requests-a-minute", "30")
        answers = all_at_once(all_servers, key, 90)
        assert sorted({answer.status_code for answer in answers}) == [200, 429]
        assert sum(answer.status_code == 200 for answer in answers) == 30
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        # Each server knows of what the others let in.
        few = key_with(all_servers[1], "atonce", "--concurrency", "2")
        with all_servers[0].http(few) as one, all_servers[1].http(few) as two, all_servers[2].http(few) as three:
            waits = {**CHAT, "model": "waits"}
            with one.stream("POST", "/v1/chat/completions", json=waits) as first:
                # A stream is closed with the iterator over it.
                lines = first.iter_lines()
                next(lines)
                with two.stream("POST", "/v1/chat/completions", json=waits) as second:
                    others = second.iter_lines()
                    next(others)
                    assert three.post("/v1/chat/completions", json=CHAT).status_code == 429
                    upstream.go_on.release(2)
                    assert "data: [DONE]" in list(others)
                assert "data: [DONE]" in list(lines)
            allerac.wait_for("a place is free", lambda: three.post("/v1/chat/completions", json=CHAT).status_code == 200)
        # 30 whole answers under the first plan, and three under the second.
        by_user = json.loads(all_servers[2].cli("usage", "--by", "user", "--json").stdout)
        assert {row["user"]: row["requests"] for row in by_user} == {"user-atonce": 3, "user-rpm": 30}
        assert "33 settled requests, 0 open" in verify(all_servers[2])


def test_the_last_tokens_of_a_month_are_given_once(database, tmp_path, upstream):
    with servers(tmp_path, upstream) as all_servers:
        key = key_with(all_servers[0], "month", "--tokens-a-month", "100")
        answers = all_at_once(all_servers, key, 60)
        given = sum(answer.status_code == 200 for answer in answers)
        # What `good` says it used: 18 tokens a time.
        user = json.loads(all_servers[1].cli("users", "list", "--json").stdout)[0]
        assert 1 <= given <= 5
        assert (user["used"], user["reserved"], user["free"]) == (18 * given, 0, 100 - 18 * given)
        assert {answer.status_code for answer in answers} == {200, 429}


def test_a_server_that_dies_settles_its_own_when_it_is_back(database, tmp_path, upstream):
    with servers(tmp_path, upstream, 2) as [dies, stays]:
        key = key_with(dies, "plain")
        with dies.http(key) as http, http.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "model": "endless", "max_tokens": 2000}
        ) as answer:
            lines = answer.iter_lines()
            for _ in range(20):
                next(lines)
            dies.kill()
            with contextlib.suppress(Exception):
                list(lines)
        assert stays.http(key).post("/v1/chat/completions", json=CHAT).status_code == 200
        assert "1 settled requests, 1 open" in verify(stays)
        with allerac.Server(dies.data, config=config(upstream)):
            assert "2 settled requests, 0 open" in verify(stays)
        crashed = [row for row in stays.usage() if row["model"] == "endless"]
        assert crashed[0]["completion_tokens"] >= 10


def test_a_ledger_moves_to_a_server_and_backs_up_from_there(database, tmp_path, upstream, monkeypatch):
    address = database
    monkeypatch.delenv("ALLERAC_DATABASE")
    with allerac.Server(tmp_path / "box", config=config(upstream)) as box:
        key = key_with(box, "plain")
        assert box.http(key).post("/v1/chat/completions", json=CHAT).status_code == 200
        before = box.usage()
        running = box.cli("ledger", "move", address, check=False)
        assert running.returncode != 0 and "uses" in running.stderr
        box.stop()
    box.cli("ledger", "move", address)
    again = box.cli("ledger", "move", address, check=False)
    assert again.returncode != 0 and "books in that database already" in again.stderr

    monkeypatch.setenv("ALLERAC_DATABASE", address)
    with allerac.Server(tmp_path / "other", config=config(upstream)) as other:
        assert other.usage() == before
        assert other.http(key).post("/v1/chat/completions", json=CHAT).status_code == 200
        monkeypatch.setenv("ALLERAC_BACKUP_PASSPHRASE", "four words are enough")
        other.cli("backup", "create", "--to", str(tmp_path / "box.age"))
        refused = other.cli("backup", "restore", str(tmp_path / "box.age"), check=False)
        assert refused.returncode != 0 and "ledger move" in refused.stderr
    monkeypatch.delenv("ALLERAC_DATABASE")
    with tempfile.TemporaryDirectory() as empty:
        allerac.cli("backup", "restore", str(tmp_path / "box.age"), "--data-dir", empty)
        assert "2 settled requests, 0 open" in allerac.cli("ledger", "verify", "--data-dir", empty).stdout


def test_a_database_that_is_away_is_said_and_waited_for(database, postgres, tmp_path, upstream):
    with servers(tmp_path, upstream, 1) as [server]:
        key = key_with(server, "plain")
        with server.http(key) as http:
            assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
            subprocess.run(["bash", f"{postgres.folder}/stop.sh"], check=True)
            away = http.post("/v1/chat/completions", json=CHAT)
            assert (away.status_code, away.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert postgres.address.split("@")[1] not in away.text
            subprocess.run(["bash", f"{postgres.folder}/restart.sh"], check=True)
            allerac.wait_for("it goes on", lambda: http.post("/v1/chat/completions", json=CHAT).status_code == 200)
        assert "2 settled requests, 0 open" in verify(server)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nonsense", "address cannot be read"),
        ("postgres://anna:secret@127.0.0.1:1/books", "cannot be reached"),
        ("postgres://anna:secret@db.example/books?sslmode=maybe", "address cannot be read"),
    ],
)
def test_an_address_that_leads_nowhere_is_said_without_its_password(tmp_path, monkeypatch, address, told):
    monkeypatch.setenv("ALLERAC_DATABASE", address)
    done = allerac.cli("keys", "list", "--data-dir", str(tmp_path), check=False)
    assert done.returncode != 0
    assert told in done.stderr and "secret" not in done.stderr + done.stdout, done.stderr
