"""What can be wrong with the machine: each is a clear error, and nothing is lost."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys

import httpx
import pytest

import allerac
from allerac import wait_for

ASK = {"model": allerac.MODEL, "prompt": "1, 2, 3,", "temperature": 0, "max_tokens": 4}


def fails(server, listen="127.0.0.1:0") -> tuple[int, str]:
    """The exit status of a server that cannot start, and what it says."""
    done = subprocess.run(
        server.command(listen), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert "panicked" not in done.stderr
    return done.returncode, done.stderr


def test_a_port_in_use(tmp_path):
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        status, text = fails(server, address)
    assert status == 4
    assert address in text and "in use" in text and "--listen" in text


def test_a_second_server_on_the_same_data(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data")) as first:
        status, text = fails(allerac.Server(first.data))
        assert status == 4
        assert str(first.data) in text
        assert httpx.get(f"{first.url}/healthz").status_code == 200


@pytest.mark.parametrize("place", ["a file", "under a file", "no file system"])
def test_a_data_directory_that_cannot_be_one(tmp_path, place):
    file = tmp_path / "file"
    file.write_text("")
    path = {"a file": file, "under a file": file / "data", "no file system": allerac.Path("/proc/allerac")}[place]
    server = allerac.Server(tmp_path / "unused")
    server.data = path
    status, text = fails(server)
    assert status == 5
    assert str(path) in text


def test_a_data_directory_that_is_read_only(tmp_path):
    """Permissions do not stop root, so the file system itself is read-only."""
    data = allerac.data_dir(tmp_path / "data")
    server = allerac.Server(data, wrapper=in_namespace(f'mount -t tmpfs -o ro tmpfs "{data}"'))
    status, text = fails(server)
    assert status == 5
    assert str(data) in text


@pytest.mark.parametrize(
    ("config", "mistake"),
    [
        ("listen = 5", "listen"), ("lisen = '127.0.0.1:0'", "lisen"), ("[engine]\nthreads = -1", "threads"),
        ("[engine]\nsequences = 0", "sequences"), ("[[upstream]]\nname = 'a'", "base_url"), ("=", ""),
        ("[[upstream]]\nname = 'a'\nbase_url = 'ftp://x'\nmodels = ['m']", "base_url"),
    ],
    ids=["type", "unknown", "negative", "zero", "missing", "no toml", "no url"],
)  # fmt: skip
def test_a_mistake_in_the_configuration_is_named_with_its_line(tmp_path, config, mistake):
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    server.config.write_text("# a comment\n" + config)
    status, text = fails(server)
    assert status == 2
    assert re.search(rf"{re.escape(str(server.config))}, line \d+", text), text
    assert mistake in text


def test_a_missing_configuration_file(tmp_path):
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    server.config.unlink()
    status, text = fails(server)
    assert status == 3
    assert str(server.config) in text


def blob(data):
    return data / "models/blobs" / f"sha256-{allerac.MODEL_SHA256}"


def damage(data, content: bytes | None):
    """Replaces the model's file, which is shared with other tests, by another."""
    blob(data).unlink()
    if content is not None:
        blob(data).write_bytes(content)


@pytest.mark.parametrize("kind", ["garbage", "empty", "cut", "zeros at the end"])
def test_a_damaged_model_file(tmp_path, kind):
    """The server serves on and says what is wrong; it works again once the file does."""
    data = allerac.data_dir(tmp_path / "data")
    whole = allerac.MODEL_FILE.read_bytes()
    damage(data, {
        "garbage": os.urandom(100_000), "empty": b"", "cut": whole[:50_000_000],
        "zeros at the end": whole[:4000] + bytes(1000),
    }[kind])  # fmt: skip
    server = allerac.Server(data).start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        ready = server.wait_ready(503)
        ready = wait_for("a verdict", lambda: (now := httpx.get(f"{server.url}/readyz").json())["status"] != "loading" and now)
        assert ready["status"] in {"failed", "no_model"}, ready
        assert ready["detail"]
        key = server.create_key()
        with server.http(key) as http:
            answer = http.post("/v1/completions", json=ASK)
            assert answer.status_code in {404, 503}, answer.text
            assert answer.json()["error"]["message"]
            # Where it lies is for the log, not for whoever has a key.
            assert str(data) not in answer.text
            assert server.totals()["requests"] == 0
            assert httpx.get(f"{server.url}/healthz").status_code == 200
            assert "panicked" not in server.log
            doctor = server.cli("doctor", check=False)
            assert doctor.returncode == 1
            assert allerac.MODEL in doctor.stdout
            damage(data, whole)
            answer = wait_for("an answer", lambda: (now := http.post("/v1/completions", json=ASK)).is_success and now)
            assert answer.json()["choices"][0]["text"]
        server.wait_ready()


def test_a_missing_model_file(tmp_path):
    data = allerac.data_dir(tmp_path / "data")
    damage(data, None)
    server = allerac.Server(data).start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        ready = wait_for("a verdict", lambda: (now := httpx.get(f"{server.url}/readyz")).status_code == 503 and now.json())
        assert ready["detail"]
        assert httpx.get(f"{server.url}/healthz").status_code == 200


def test_no_model_at_all(tmp_path):
    with contextlib.ExitStack() as stack:
        server = allerac.Server(tmp_path / "data").start(ready=False)
        stack.push(server.__exit__)
        ready = server.wait_ready(503)
        assert ready["status"] == "no_model"
        assert "models pull" in server.log
        with server.http(server.create_key()) as http:
            assert http.get("/v1/models").json() == {"object": "list", "data": []}
            answer = http.post("/v1/completions", json=ASK)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_a_damaged_ledger_is_not_overwritten(tmp_path):
    data = allerac.data_dir(tmp_path / "data")
    garbage = os.urandom(8192)
    (data / "ledger.db").write_bytes(garbage)
    status, text = fails(allerac.Server(data))
    assert status != 0
    assert text.startswith("error: ")
    assert (data / "ledger.db").read_bytes() == garbage


# A full disk: a small file system in a mount namespace of its own.


def in_namespace(mounts: str) -> tuple[str, ...]:
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", "--mount", *rights, "sh", "-ec", f'{mounts}; exec "$@"', "sh")


@pytest.fixture
def small_disk(tmp_path):
    """A server whose data directory holds ten megabytes; the model's file is elsewhere."""
    data = tmp_path / "data"
    data.mkdir()
    models = allerac.data_dir(tmp_path / "elsewhere") / "models"
    mounts = f'mount -t tmpfs -o size=10m tmpfs "{data}"; mkdir "{data}/models"; mount --bind "{models}" "{data}/models"'
    server = SmallDisk(data, arguments=("--time-zone", "UTC"), wrapper=in_namespace(mounts))
    with server:
        yield server


class SmallDisk(allerac.Server):
    def enter(self) -> list[str]:
        """The command that runs another one where the server's disk is."""
        rights = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pid), "--mount", *rights]

    @property
    def inside(self) -> allerac.Path:
        """The data directory as the server sees it."""
        return allerac.Path(f"/proc/{self.pid}/root{self.data}")

    def cli(self, *arguments, check=True):
        done = subprocess.run(
            [*self.enter(), str(allerac.BINARY), *arguments, "--data-dir", str(self.data)],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def fill(self):
        with open(self.inside / "filler", "wb", buffering=0) as filler:
            for size in (65536, 4096, 512):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"x" * size)

    def empty(self):
        (self.inside / "filler").unlink()


class BooksInside(allerac.Books):
    """The books on a disk of the server's own; SQLite opens them there, in a process of its own."""

    READ = (
        "import json, sqlite3, sys; path, query, values = json.load(sys.stdin); "
        "print(json.dumps(sqlite3.connect(f'file:{path}?mode=ro', uri=True).execute(query, values).fetchall()))"
    )

    def __init__(self, server: SmallDisk):
        self._server = server

    def rows(self, query, *values):
        question = json.dumps([str(self._server.data / "ledger.db"), query, values])
        command = [*self._server.enter(), sys.executable, "-c", self.READ]
        answer = subprocess.run(command, input=question, capture_output=True, text=True, timeout=20, check=True)
        return [tuple(row) for row in json.loads(answer.stdout)]


def test_a_full_disk(small_disk):
    """Requests are refused while nothing can be written, and work again when there is room."""
    key = small_disk.create_key("anna")
    books = BooksInside(small_disk)
    with small_disk.http(key) as http:
        answered = int(http.post("/v1/completions", json=ASK).status_code == 200)
        small_disk.fill()
        # The write-ahead log has some room of its own before the disk's end is felt.
        refusal = None
        for _ in range(300):
            answer = http.post("/v1/completions", json={**ASK, "max_tokens": 1})
            if answer.status_code != 200:
                refusal = answer
                break
            answered += 1
        assert refusal is not None
        assert refusal.status_code == 503, refusal.text
        error = refusal.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "disk_full")
        assert httpx.get(f"{small_disk.url}/healthz").status_code == 200
        created = small_disk.cli("keys", "create", "--user", "bob", check=False)
        assert created.returncode == 5
        assert "full" in created.stderr
        small_disk.empty()
        again = wait_for(
            "an answer with room again",
            lambda: (answer := http.post("/v1/completions", json=ASK)).status_code == 200 and answer,
        )
        assert again.json()["choices"][0]["text"] == " 4, "
        # Every answer is in the books once; a refused request left nothing behind.
        outcomes = books.settled(answered + 1)
        assert {outcome for outcome, _, _ in outcomes} == {"completed"}


def test_a_disk_that_fills_up_during_an_answer(small_disk):
    """The answer may end in an error, but its tokens are charged once there is room."""
    key = small_disk.create_key("anna")
    books = BooksInside(small_disk)
    body = {**ASK, "prompt": "Once upon a time", "max_tokens": 300, "stream": True, "logit_bias": allerac.NEVER_END}
    with small_disk.http(key) as http:
        with http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            small_disk.fill()
            events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        last = events[-1]
        assert last == "[DONE]" or json.loads(last)["error"]["code"] == "disk_full"
        small_disk.empty()
        ((outcome, prompt, tokens),) = books.settled(1, seconds=30)
        assert prompt == 4
        assert tokens == 300 or (outcome == "failed" and tokens > 0)


def test_what_people_keep_never_takes_the_room_of_the_books(small_disk):
    with small_disk.http(small_disk.create_key("anna")) as http:
        assert http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * 100_000}).status_code == 200
        sent = http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x" * 12_000_000})
        assert (sent.status_code, sent.json()["error"]["code"]) == (503, "disk_full")
        for _ in range(20):
            assert http.post("/v1/completions", json=ASK).status_code == 200
        (kept,) = http.get("/v1/files").json()["data"]
        assert kept["bytes"] == 100_000
