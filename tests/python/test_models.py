"""Models that come and go while the server runs: fetched, copied, removed, in and out of memory."""

import contextlib
import datetime
import json
import os
import re
import shutil
import subprocess
import threading
import time
import tomllib

import httpx
import ollama
import pytest

import allerac
import index
from allerac import wait_for
from test_start import SmallDisk, in_namespace

EMBEDDING = "all-minilm-l6-v2"
ASK = {"model": allerac.MODEL, "prompt": "1, 2, 3,", "temperature": 0, "max_tokens": 4}
# Contexts so small that two models fit where one usually does.
SMALL = "context = 1024\ncells = 2048\nsequences = 2\nkv_memory_mib = 64\n"
SIZE = 98_362_432


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    with index.Index(tmp_path_factory.mktemp("index"), index.CHAT, index.EMBEDDING) as running:
        yield running


@pytest.fixture
def shop(packages, monkeypatch):
    """The index, well-behaved, as the only one that pip knows."""
    for name, value in packages.environment.items():
        monkeypatch.setenv(name, value)
    packages.faults, packages.ranges, packages.bytes_a_second = [], [], None
    packages.downloading = threading.Semaphore(0)
    return packages


@pytest.fixture
def empty(tmp_path, shop):
    """A server without a model, and its owner's client."""
    server = allerac.Server(tmp_path / "data").start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        server.owner = server.claim()
        yield server


@pytest.fixture
def own(tmp_path):
    """A server with both models, of small contexts, and its owner's key."""
    with allerac.Server(both(tmp_path / "data"), config=SMALL) as server:
        server.owner = server.claim()
        yield server


def both(data):
    allerac.data_dir(data)
    shutil.copytree(index.EMBEDDING_DATA.parent, data / "models", copy_function=allerac.link_or_copy, dirs_exist_ok=True)
    return data


def client(server, key=None) -> ollama.Client:
    return ollama.Client(host=server.url, headers={"authorization": f"Bearer {key or server.owner}"})


def listed(server) -> set[str]:
    with server.http(server.owner) as http:
        return {model["id"] for model in http.get("/v1/models").json()["data"]}


def blobs(server) -> set[str]:
    return {path.name for path in (server.data / "models/blobs").iterdir()}


def loaded(server) -> dict[str, ollama.ProcessResponse.Model]:
    return {model.model.removesuffix(":latest"): model for model in client(server).ps().models}


def embed(server, **options):
    return client(server).embed(model=EMBEDDING, input="hello", **options)


def complete(server, **fields) -> httpx.Response:
    with server.http(server.owner) as http:
        return http.post("/v1/completions", json=ASK | fields)


# Fetched.


def test_a_model_is_fetched_and_used_at_once(empty, shop):
    assert listed(empty) == set()
    parts = list(client(empty).pull("SmolLM2:135m", stream=True))
    assert parts[0].status == "pulling manifest"
    assert [part.status for part in parts[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    fetching = [part for part in parts if part.digest]
    assert {part.digest for part in fetching} == {f"sha256:{allerac.MODEL_SHA256}"}
    assert {part.status for part in fetching} == {f"pulling {allerac.MODEL_SHA256[:12]}"}
    done = [part.completed for part in fetching]
    assert done == sorted(done)
    assert all(SIZE < part.total < SIZE + 10_000 for part in fetching)
    assert shop.ranges == [0]
    # It is there at once, for every API, without a restart.
    assert listed(empty) == {allerac.MODEL}
    assert [model.model for model in client(empty).list().models] == [f"{allerac.MODEL}:latest"]
    assert complete(empty).json()["choices"][0]["text"] == " 4, "
    assert client(empty).generate(model="smollm2:135m", prompt="hi", options={"num_predict": 2}).done
    with empty.http(empty.owner) as http:
        assert f'allerac_model_state{{model="{allerac.MODEL}",state="ready"}} 1' in http.get("/metrics").text
    # What is here is not fetched again.
    assert client(empty).pull(allerac.MODEL).status == "success"
    assert shop.ranges == [0]


def test_a_second_pull_joins_the_first(empty, shop):
    shop.bytes_a_second = 60_000_000
    ends = []

    def pull(stream):
        got = client(empty).pull(allerac.MODEL, stream=stream)
        ends.append([part.status for part in got][-1] if stream else got.status)

    threads = [threading.Thread(target=pull, args=(stream,)) for stream in (True, False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ends == ["success"] * 3
    assert shop.ranges == [0]


def test_a_cut_connection_is_taken_up(empty, shop):
    shop.faults = [30_000_000, 20_000_000]
    assert client(empty).pull(allerac.MODEL).status == "success"
    assert shop.ranges == [0, 30_000_000, 50_000_000]


def test_a_wrong_file_is_never_installed(empty, shop):
    shop.faults = ["wrong"]
    with pytest.raises(ollama.ResponseError, match="sha256") as caught:
        client(empty).pull(allerac.MODEL)
    assert caught.value.status_code == 502
    assert listed(empty) == set()
    with pytest.raises(ollama.ResponseError, match="sha256"):
        shop.faults = ["wrong"]
        list(client(empty).pull(allerac.MODEL, stream=True))
    # Nothing wrong is built upon.
    assert client(empty).pull(allerac.MODEL).status == "success"
    assert shop.ranges == [0, 0, 0]
    assert empty.cli("models", "list", "--installed").stdout.count(allerac.MODEL) == 1


def begin(server, bytes_here=10_000_000):
    """Orders the model and leaves once so much of it is there."""
    with server.http(server.owner) as http, http.stream("POST", "/api/pull", json={"model": allerac.MODEL}) as answer:
        for line in answer.iter_lines():
            if json.loads(line).get("completed", 0) > bytes_here:
                return


def downloads(server) -> list[dict]:
    with server.http(server.owner) as http:
        return http.get("/v1/admin/downloads").json()["data"]


def test_a_download_goes_on_without_whoever_ordered_it(empty, shop):
    shop.bytes_a_second = 20_000_000
    begin(empty)
    (running,) = downloads(empty)
    assert (running["id"], running["status"]) == (allerac.MODEL, "fetching")
    assert 10_000_000 < running["completed"] < running["total"]
    wait_for("the model", lambda: listed(empty) == {allerac.MODEL}, 30)
    wait_for("its end", lambda: [(one["id"], one["status"]) for one in downloads(empty)] == [(allerac.MODEL, "done")])
    assert shop.ranges == [0]
    assert list((empty.data / "models/orders").iterdir()) == []


def test_a_download_that_is_cancelled_keeps_what_came(empty, shop):
    shop.bytes_a_second = 20_000_000
    begin(empty)
    with empty.http(empty.owner) as http:
        # Who looks on hears of it.
        with http.stream("POST", "/api/pull", json={"model": allerac.MODEL}) as answer:
            lines = answer.iter_lines()
            next(lines)
            path = f"/v1/admin/downloads/{allerac.MODEL}"
            assert http.delete(path).status_code == 204
            assert "was cancelled" in list(lines)[-1]
        assert http.delete(path).status_code == 404
    assert [one["status"] for one in downloads(empty)] == ["cancelled"]
    part = next((empty.data / "models/partial").glob("*.whl.part"))
    size = part.stat().st_size
    assert 10_000_000 < size < SIZE
    assert list((empty.data / "models/orders").iterdir()) == []
    shop.bytes_a_second = None
    assert client(empty).pull(allerac.MODEL).status == "success"
    assert shop.ranges == [0, size]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_download_goes_on_after_a_restart(empty, shop, how):
    shop.bytes_a_second = 20_000_000
    begin(empty)
    empty.stop() if how == "stopped" else empty.kill()
    shop.bytes_a_second = None
    empty.start(ready=False)
    wait_for("the model", lambda: listed(empty) == {allerac.MODEL}, 30)
    first, then = shop.ranges
    assert first == 0 and 10_000_000 < then < SIZE
    wait_for("the end of the order", lambda: list((empty.data / "models/orders").iterdir()) == [])


def test_a_full_disk_is_said_beforehand_and_the_model_fetched_when_there_is_room(tmp_path, shop):
    data = tmp_path / "data"
    data.mkdir()
    server = SmallDisk(data, wrapper=in_namespace(f'mount -t tmpfs -o size=60m tmpfs "{data}"')).start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        server.owner = server.claim()
        with pytest.raises(ollama.ResponseError, match="needs 98362432 bytes of disk space") as caught:
            client(server).pull(allerac.MODEL)
        assert caught.value.status_code == 503
        assert listed(server) == set()
        subprocess.run([*server.enter(), "mount", "-o", "remount,size=400m", str(data)], check=True)
        assert client(server).pull(allerac.MODEL).status == "success"
        # That there is no room was known before anything was fetched.
        assert shop.ranges == [0]
        assert complete(server).json()["choices"][0]["text"] == " 4, "


def test_what_the_catalogue_does_not_have(empty):
    for name in ("llama3.2", "smollm2", "nope:1b", "../etc"):
        with pytest.raises(ollama.ResponseError, match=f"there is {allerac.MODEL}, {EMBEDDING}") as caught:
            client(empty).pull(name, stream=False)
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as caught:
        list(client(empty).pull("nope", stream=True))
    assert caught.value.status_code == 404


# By another process.


def test_what_another_process_does_is_noticed(empty, shop):
    empty.cli("models", "pull", EMBEDDING)
    wait_for("the new model", lambda: listed(empty) == {EMBEDDING})
    assert len(embed(empty).embeddings[0]) == 384
    assert len(blobs(empty)) == 5
    removed = empty.cli("models", "rm", EMBEDDING).stdout
    assert "the server frees its disk space" in removed
    wait_for("its end", lambda: listed(empty) == set())
    wait_for("its files' end", lambda: blobs(empty) == set())
    with pytest.raises(ollama.ResponseError) as caught:
        embed(empty)
    assert caught.value.status_code == 404
    # The same again.
    empty.cli("models", "pull", EMBEDDING)
    wait_for("the model again", lambda: listed(empty) == {EMBEDDING})
    assert len(embed(empty).embeddings[0]) == 384


def test_a_pull_waits_for_that_of_another_process(empty, shop):
    shop.bytes_a_second = 40_000_000
    cli = subprocess.Popen([str(allerac.BINARY), "models", "pull", allerac.MODEL, "--data-dir", str(empty.data)], stderr=subprocess.DEVNULL)
    assert shop.downloading.acquire(timeout=30)
    parts = [part.status for part in client(empty).pull(allerac.MODEL, stream=True)]
    assert cli.wait(30) == 0
    assert "waiting for another process that fetches it" in parts
    assert parts[-1] == "success"
    assert shop.ranges == [0]


@pytest.mark.parametrize("how", ["the API", "the command line"])
def test_what_runs_on_a_removed_model_ends_well(own, how):
    body = ASK | {"max_tokens": 300, "stream": True, "logit_bias": allerac.NEVER_END, "stream_options": {"include_usage": True}}
    with own.http(own.owner) as http, http.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        if how == "the API":
            assert client(own).delete(allerac.MODEL).status == "success"
        else:
            own.cli("models", "rm", allerac.MODEL)
        wait_for("its end", lambda: listed(own) == {EMBEDDING})
        assert complete(own).status_code == 404
        # Its file stays for as long as it is in use.
        assert f"sha256-{allerac.MODEL_SHA256}" in blobs(own)
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert events[-1]["usage"]["completion_tokens"] == 300
    wait_for("its files' end", lambda: f"sha256-{allerac.MODEL_SHA256}" not in blobs(own))
    assert loaded(own) == {}
    assert not list((own.data / "kv").iterdir())
    with pytest.raises(ollama.ResponseError) as caught:
        client(own).delete(allerac.MODEL)
    assert caught.value.status_code == 404


def test_files_that_a_killed_server_left_are_removed(tmp_path):
    data = allerac.data_dir(tmp_path / "data")
    (data / "models/blobs/sha256-0000").write_bytes(b"of a model that was removed")
    with allerac.Server(data):
        wait_for("its end", lambda: [path.name for path in (data / "models/blobs").iterdir()] == [f"sha256-{allerac.MODEL_SHA256}"])


# By another name.


def test_a_copy_is_the_same_model_by_another_name(own):
    mine = client(own)
    assert mine.copy(allerac.MODEL, "My-Chat:v2").status == "success"
    assert mine.copy(f"{allerac.MODEL}:latest", "gpt-4o:latest").status == "success"
    assert listed(own) == {allerac.MODEL, EMBEDDING, "My-Chat:v2", "gpt-4o"}
    said = [complete(own, model=name).json()["choices"][0]["text"] for name in (allerac.MODEL, "My-Chat:v2", "gpt-4o")]
    assert said == [" 4, "] * 3
    assert len(own.engine_pids()) == 1
    shown = mine.show("gpt-4o")
    assert (shown.details.family, shown.capabilities) == ("smollm2", ["completion"])
    # The files belong to all of its names.
    mine.delete(allerac.MODEL)
    assert listed(own) == {EMBEDDING, "My-Chat:v2", "gpt-4o"}
    assert complete(own, model="gpt-4o").json()["choices"][0]["text"] == " 4, "
    own.stop()
    own.start()
    assert complete(own, model="My-Chat:v2").json()["choices"][0]["text"] == " 4, "
    mine = client(own)
    mine.delete("My-Chat:v2")
    mine.delete("gpt-4o:latest")
    wait_for("its files' end", lambda: f"sha256-{allerac.MODEL_SHA256}" not in blobs(own))


@pytest.mark.parametrize(
    ("source", "destination", "status"),
    [("nope", "a", 404), (allerac.MODEL, "../a", 400), (allerac.MODEL, "", 400), (allerac.MODEL, "a/b", 400),
     (allerac.MODEL, "x" * 200, 400), (allerac.MODEL, EMBEDDING, 409), (allerac.MODEL, allerac.MODEL, 409)],
)  # fmt: skip
def test_what_cannot_be_copied(own, source, destination, status):
    with own.http(own.owner) as http:
        answer = http.post("/api/copy", json={"source": source, "destination": destination})
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert listed(own) == {allerac.MODEL, EMBEDDING}


# In and out of memory.


def test_how_long_a_model_stays(own):
    mine = client(own)
    wait_for("the default model", lambda: set(loaded(own)) == {allerac.MODEL})
    assert loaded(own)[allerac.MODEL].expires_at.year == 9999
    generate = lambda keep: mine.generate(model=allerac.MODEL, prompt="hi", options={"num_predict": 2}, keep_alive=keep)  # noqa: E731
    generate("5m")
    rest = lambda: loaded(own)[allerac.MODEL].expires_at - datetime.datetime.now(datetime.UTC)  # noqa: E731
    wait_for("the end of the request", lambda: 290 < rest().total_seconds() <= 300)
    generate(-1)
    wait_for("the end of the request", lambda: loaded(own)[allerac.MODEL].expires_at.year == 9999)
    (pid,) = own.engine_pids()
    # What is said of its size is what the kernel says.
    status = allerac.Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
    assert abs(loaded(own)[allerac.MODEL].size - resident) < 30_000_000
    assert mine.generate(model=allerac.MODEL, keep_alive=0).done_reason == "unload"
    assert loaded(own) == {}
    wait_for("the end of its process", lambda: own.engine_pids() == [])
    # The box is ready all the same: it is loaded again when it is asked.
    assert httpx.get(f"{own.url}/readyz").json()["status"] == "ready"
    generate("600ms")
    assert set(loaded(own)) == {allerac.MODEL}
    wait_for("the end of its time", lambda: loaded(own) == {}, 5)
    generate(0)
    wait_for("the end of its time", lambda: loaded(own) == {}, 5)


def test_a_model_in_use_is_not_unloaded(own):
    mine = client(own)
    options = {"num_predict": 200, "logit_bias": allerac.NEVER_END}
    with own.http(own.owner) as http:
        body = ASK | {"max_tokens": 300, "stream": True, "logit_bias": allerac.NEVER_END}
        with http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert mine.generate(model=allerac.MODEL, keep_alive=0).done_reason == "unload"
            assert set(loaded(own)) == {allerac.MODEL}, options
            assert [line for line in lines if line][-1] == "data: [DONE]"
    wait_for("its end", lambda: loaded(own) == {}, 5)


def test_idle_models_go_when_configured(tmp_path):
    with allerac.Server(both(tmp_path / "data"), config=f'{SMALL}[models]\nidle_minutes = 0\npinned = ["{EMBEDDING}"]\n') as server:
        server.owner = server.claim()
        embed(server)
        assert complete(server).is_success
        wait_for("the end of what is not pinned", lambda: set(loaded(server)) == {EMBEDDING})
        assert client(server).generate(model=allerac.MODEL, keep_alive="1m").done_reason == "load"
        assert set(loaded(server)) == {allerac.MODEL, EMBEDDING}


def test_models_swap_within_their_memory(tmp_path):
    """Memory for one of two: each comes when it is asked, and what was known of a prompt is known again."""
    text = " ".join(f"word{number}" for number in range(150))
    with allerac.Server(both(tmp_path / "data"), config=f"{SMALL}kv_disk_mib = 256\n[models]\nmemory_mib = 450\n") as server:
        server.owner = server.claim()
        first = complete(server, prompt=text).json()
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        for _ in range(2):
            assert len(embed(server).embeddings[0]) == 384
            assert set(loaded(server)) == {EMBEDDING}
            again = complete(server, prompt=text).json()
            assert again["choices"][0]["text"] == first["choices"][0]["text"]
            assert set(loaded(server)) == {allerac.MODEL}
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 300
        wait_for("one engine", lambda: len(server.engine_pids()) == 1)
        assert server.process.poll() is None
        # Counters do not fall when an engine goes.
        with server.http(server.owner) as http:
            metrics = http.get("/metrics").text
        produced = next(line for line in metrics.splitlines() if line.startswith(f'allerac_engine_output_tokens_total{{model="{allerac.MODEL}"'))
        assert float(produced.split()[-1]) == 12


def test_who_waits_for_memory_gets_it_from_a_model_in_use(tmp_path):
    """A model that is always asked gives way, in between two requests, and comes back."""
    with allerac.Server(both(tmp_path / "data"), config=f"{SMALL}[models]\nmemory_mib = 450\n") as server:
        server.owner = server.claim()
        ended = threading.Event()
        failures = []

        def ask():
            while not ended.is_set():
                answer = complete(server, max_tokens=40, logit_bias=allerac.NEVER_END)
                if not answer.is_success:
                    failures.append(answer.text)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        assert len(embed(server).embeddings[0]) == 384
        assert time.monotonic() - began < 30
        assert complete(server).is_success
        ended.set()
        for thread in threads:
            thread.join(60)
        assert failures == []


def test_a_model_that_is_too_large_is_refused(tmp_path):
    # With 90 MiB of KV the chat model takes about 300 MiB; the encoder takes 270.
    config = "context = 2048\ncells = 4096\nsequences = 2\nkv_memory_mib = 64\n[models]\nmemory_mib = 285\n"
    server = allerac.Server(both(tmp_path / "data"), config=config).start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        server.owner = server.claim()
        answer = complete(server)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "insufficient_memory")
        assert "models may have 285 MiB" in answer.json()["error"]["message"]
        assert len(embed(server).embeddings[0]) == 384


def test_a_model_that_cannot_be_loaded_is_left_alone_until_its_file_changes(tmp_path):
    data = both(tmp_path / "data")
    blob = data / f"models/blobs/sha256-{allerac.MODEL_SHA256}"
    whole = allerac.MODEL_FILE.read_bytes()
    blob.unlink()
    blob.write_bytes(whole[:50_000_000])
    server = allerac.Server(data, config=SMALL).start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        server.owner = server.claim()
        wait_for("the failure", lambda: httpx.get(f"{server.url}/readyz").json()["status"] == "failed")
        for _ in range(3):
            answer = complete(server)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_unavailable")
            assert int(answer.headers["retry-after"]) >= 5
        # It was not even tried.
        assert server.log.count("a model is loaded") == 1
        # Others work.
        assert len(embed(server).embeddings[0]) == 384
        blob.unlink()
        blob.write_bytes(whole)
        assert complete(server).json()["choices"][0]["text"] == " 4, "
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "ready"


def test_a_record_that_nobody_can_read_is_left_out(own):
    (own.data / "models/installed/broken.toml").write_text("version = 9")
    client(own).copy(allerac.MODEL, "other")
    assert listed(own) == {allerac.MODEL, EMBEDDING, "other"}
    assert tomllib.loads((own.data / "models/installed/other.toml").read_text())["model"] == allerac.MODEL
    assert os.path.exists(own.data / "models/installed/broken.toml")


# Waiting.


def comments(server, **fields) -> tuple[list[str], str]:
    """The comments of a stream, and what it said."""
    body = ASK | {"stream": True} | fields
    with server.http(server.owner) as http, http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line]
    text = "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines if line.startswith("data: {"))
    return [line for line in lines if line.startswith(":")], text


def test_who_waits_for_a_model_hears_for_how_long(tmp_path):
    """An engine that takes 7 seconds to begin: what is said of it comes from how long it took before."""
    slow = tmp_path / "slow-engine"
    slow.write_text(f'#!/bin/sh\nsleep 7\nexec "{allerac.BINARY.parent / "allerac-engine"}" "$@"\n')
    slow.chmod(0o755)
    server = allerac.Server(both(tmp_path / "data"), config=f'{SMALL}binary = "{slow}"\n').start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.push(server.__exit__)
        server.owner = server.claim()
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "loading"
        said, text = comments(server)
        assert text == " 4, "
        assert said[0].startswith(": the model is being loaded")
        client(server).generate(model=allerac.MODEL, keep_alive=0)
        wait_for("its end", lambda: server.engine_pids() == [])
        said, text = comments(server)
        assert text == " 4, "
        first = re.fullmatch(r": the model is being loaded, about (\d) s", said[0])
        assert first and 2 <= int(first[1]) <= 4, said
        # What is not streamed waits as well, and says how long it took.
        client(server).generate(model=allerac.MODEL, keep_alive=0)
        wait_for("its end", lambda: server.engine_pids() == [])
        answer = client(server).generate(model=allerac.MODEL, prompt="hi", options={"num_predict": 2})
        assert answer.load_duration > 7e9


def test_who_waits_for_memory_hears_it(tmp_path):
    with allerac.Server(both(tmp_path / "data"), config=f"{SMALL}[models]\nmemory_mib = 450\n") as server:
        server.owner = server.claim()
        ended = threading.Event()

        def ask():
            while not ended.is_set():
                client(server).embed(model=EMBEDDING, input=["word " * 200] * 20)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for("the embedding model", lambda: set(loaded(server)) == {EMBEDDING}, 30)
        said, text = comments(server)
        ended.set()
        for thread in threads:
            thread.join(60)
        assert (said[0], text) == (": other models have the memory", " 4, ")
