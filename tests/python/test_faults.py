"""Processes are killed and clients leave in the middle of streams; every token stays accounted for.

Each test starts a server of its own, since it kills it.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

import allerac
from allerac import wait_for

# Runs for seconds: long enough to be killed in. Eight of these fit the 16,384 cells of the KV cache together.
LONG = {
    "model": allerac.MODEL, "prompt": "Once upon a time", "temperature": 1.0, "seed": 5, "max_tokens": 1500,
    "logit_bias": allerac.NEVER_END, "logprobs": 0, "stream": True,
}  # fmt: skip
SHORT = {"model": allerac.MODEL, "prompt": "1, 2, 3,", "temperature": 0, "max_tokens": 4}
PROMPT_TOKENS = 4


class Stream(threading.Thread):
    """Reads a stream in the background and counts the tokens that arrive; `logprobs` has one entry each."""

    def __init__(self, server, key, body=None):
        super().__init__(daemon=True)
        self.server, self.key, self.body = server, key, body or LONG
        self.tokens = 0
        self.events = []
        self.comments = []
        self.broke = None
        self.headers = None
        self._response = None
        self._leave = threading.Event()
        self.start()

    def run(self):
        try:
            with self.server.http(self.key) as http, http.stream("POST", "/v1/completions", json=self.body) as answer:
                self.headers = answer.headers
                for line in answer.iter_lines():
                    if line.startswith(":"):
                        self.comments.append(line)
                    if line.startswith("data: "):
                        self._note(line.removeprefix("data: "))
                    if self._leave.is_set():
                        return
        except httpx.TransportError as error:
            self.broke = error

    def _note(self, data: str):
        self.events.append(data if data == "[DONE]" else json.loads(data))
        if isinstance(self.events[-1], dict):
            for choice in self.events[-1].get("choices", []):
                self.tokens += len((choice["logprobs"] or {"tokens": []})["tokens"])

    def wait_tokens(self, count: int):
        wait_for(f"{count} tokens", lambda: self.tokens >= count or not self.is_alive(), 60)
        assert self.tokens >= count, self.events[-1:]

    def leave(self):
        """Closes the connection."""
        self._leave.set()
        self.join(timeout=20)


@pytest.fixture
def key(fresh):
    return fresh.create_key("anna")


def ask(server, key) -> httpx.Response:
    with server.http(key) as http:
        return http.post("/v1/completions", json=SHORT)


def test_the_engine_is_killed_in_the_middle_of_a_stream(fresh, key, books):
    stream = Stream(fresh, key)
    stream.wait_tokens(20)
    (engine,) = fresh.engine_pids()
    os.kill(engine, signal.SIGKILL)
    stream.join(timeout=30)
    # The client is told, in the shape of an error of the API, and not left with half an answer.
    assert stream.broke is None
    assert "[DONE]" not in stream.events
    error = stream.events[-1]["error"]
    assert (error["type"], error["code"]) == ("server_error", "engine_crashed")
    # The next request is answered by a new process.
    answer = ask(fresh, key)
    assert answer.json()["choices"][0]["text"] == " 4, "
    assert fresh.engine_pids() not in ([], [engine])
    # The half answer is charged to the token.
    assert books.settled(2) == [("failed", PROMPT_TOKENS, stream.tokens), ("completed", 8, 4)]


def test_the_engine_is_killed_before_the_first_token(fresh, key, books):
    """The request is computed again by the next process; the client only waits longer."""
    (engine,) = fresh.engine_pids()
    os.kill(engine, signal.SIGSTOP)
    long_prompt = {**SHORT, "prompt": [28] * 1000, "max_tokens": 3}
    answers = []
    with fresh.http(key) as http:
        asking = threading.Thread(target=lambda: answers.append(http.post("/v1/completions", json=long_prompt)))
        asking.start()
        time.sleep(0.3)
        os.kill(engine, signal.SIGKILL)
        asking.join(timeout=60)
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 3
    assert books.settled(1) == [("completed", 1000, 3)]


def test_the_engine_is_killed_under_eight_streams(fresh, key, books):
    streams = [Stream(fresh, key, {**LONG, "seed": seed}) for seed in range(8)]
    for stream in streams:
        stream.wait_tokens(5)
    (engine,) = fresh.engine_pids()
    os.kill(engine, signal.SIGKILL)
    for stream in streams:
        stream.join(timeout=30)
        assert stream.events[-1]["error"]["code"] == "engine_crashed"
    assert ask(fresh, key).status_code == 200
    outcomes = books.settled(9)
    assert sorted(outcomes[:8]) == sorted(("failed", PROMPT_TOKENS, stream.tokens) for stream in streams)


def test_the_engine_is_killed_again_and_again(fresh, key):
    """Waits grow with each crash, but the box comes back by itself and the router never goes."""
    for _ in range(3):
        (engine,) = wait_for("an engine", fresh.engine_pids)
        os.kill(engine, signal.SIGKILL)
        wait_for("its end", lambda dead=engine: dead not in fresh.engine_pids())
        assert ask(fresh, key).status_code == 200
    fresh.wait_ready()


def test_the_router_is_killed_in_the_middle_of_a_stream(fresh, key):
    """No token that a client saw is free, and nothing stays reserved."""
    streams = [Stream(fresh, key, {**LONG, "seed": seed}) for seed in range(3)]
    for stream in streams:
        stream.wait_tokens(25)
    engines = fresh.engine_pids()
    fresh.kill()
    for stream in streams:
        stream.join(timeout=20)
        assert stream.broke is not None
    # The engine sees its socket close, and goes.
    wait_for("the engine's end", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in engines))
    with contextlib.closing(allerac.Books(fresh.data)) as books:
        assert books.open_reservations() == 3
        books.check()
        fresh.start()
        outcomes = books.settled(3)
        assert [outcome[:2] for outcome in outcomes] == [("crashed", PROMPT_TOKENS)] * 3
        charged = sorted(tokens for _, _, tokens in outcomes)
        seen = sorted(stream.tokens for stream in streams)
        # What was on its way to a client when the process died is charged too: a handful of steps.
        assert all(0 <= cost - count <= 16 for cost, count in zip(charged, seen, strict=True)), (charged, seen)
        totals = fresh.totals()
        assert (totals["requests"], totals["completion_tokens"]) == (3, sum(charged))
        # And the box works on.
        assert ask(fresh, key).status_code == 200
        books.settled(4)


def test_the_router_is_killed_many_times(fresh, key):
    """At ever other moments of short requests: whatever was answered is in the books, once."""
    answered = 0
    with contextlib.closing(allerac.Books(fresh.data)) as books:
        for round_ in range(5):
            stop = threading.Event()

            def ask_on(stop=stop):
                nonlocal answered
                with contextlib.suppress(httpx.TransportError):
                    while not stop.is_set():
                        answered += ask(fresh, key).status_code == 200

            asking = threading.Thread(target=ask_on)
            asking.start()
            time.sleep(0.15 + 0.037 * round_)
            fresh.kill()
            stop.set()
            asking.join(timeout=20)
            fresh.start()
            assert books.open_reservations() == 0
            books.check()
            # The last answer before a kill may have been counted and not settled yet: the next start settles it.
            whole = [outcome for outcome in books.outcomes() if outcome in {("completed", 8, 4), ("crashed", 8, 4)}]
            # One more may be settled than was received: its answer was on the way.
            assert answered <= len(whole) <= answered + round_ + 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_whose_end_was_told_is_in_the_books_when_the_power_fails(fresh, key, stream):
    """The disk takes half a second for what it is told to keep; in the moment of the end the server dies, and of the file
    that counts running requests nothing was on the disk."""
    slow = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=500000"]
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", *slow, "-p", str(fresh.pid)])
    try:
        wait_for("strace", lambda: "TracerPid:\t0" not in Path(f"/proc/{fresh.pid}/status").read_text())
        with fresh.http(key) as http:
            body = SHORT | {"stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
            answer = http.post("/v1/completions", json=body)
            fresh.kill()
    finally:
        tracer.kill()
        tracer.wait()
    assert answer.status_code == 200 and (not stream or answer.text.endswith("data: [DONE]\n\n"))
    events = answer.text.split("data: ")
    told = json.loads(events[-2] if stream else answer.text)["usage"]
    (fresh.data / "inflight.bin").unlink()
    fresh.start()
    used = fresh.totals()
    assert used["requests"] == 1
    assert {name: used[name] for name in ("prompt_tokens", "completion_tokens")} == {
        "prompt_tokens": told["prompt_tokens"], "completion_tokens": 4,
    }  # fmt: skip


def test_a_client_leaves_in_the_middle_of_a_stream(fresh, key, books):
    stream = Stream(fresh, key)
    stream.wait_tokens(10)
    stream.leave()
    ((outcome, prompt, tokens),) = books.settled(1)
    assert (outcome, prompt) == ("cancelled", PROMPT_TOKENS)
    # The engine stops within a step of hearing of it; 1500 were asked for.
    assert stream.tokens <= tokens <= stream.tokens + 64


def test_a_client_leaves_before_a_whole_answer(fresh, key, books):
    with fresh.http(key) as http, pytest.raises(httpx.ReadTimeout):
        http.post("/v1/completions", json={**LONG, "stream": False}, timeout=1.0)
    ((outcome, prompt, tokens),) = books.settled(1)
    assert (outcome, prompt) == ("cancelled", PROMPT_TOKENS)
    assert 0 < tokens < 1400


def test_a_client_leaves_while_others_stay(fresh, key, books):
    """Those who leave stop costing time; the one who stays gets the same answer as alone."""
    body = {**LONG, "temperature": 0, "prompt": "1, 2, 3, 4, 5, 6, 7,", "max_tokens": 64}
    leaving = [Stream(fresh, key, {**LONG, "seed": seed}) for seed in range(7)]
    for stream in leaving:
        stream.wait_tokens(3)
    staying = Stream(fresh, key, body)
    for stream in leaving:
        stream.leave()
    staying.join(timeout=60)
    text = "".join(event["choices"][0]["text"] for event in staying.events[:-1] if event["choices"])
    assert text == " 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 2"
    outcomes = books.settled(8)
    assert sorted(outcome for outcome, _, _ in outcomes) == ["cancelled"] * 7 + ["completed"]
    assert sum(tokens for _, _, tokens in outcomes) < 7 * 700


def test_more_clients_than_sequences_wait_their_turn(fresh, key, books):
    streams = [Stream(fresh, key, {**LONG, "seed": seed, "max_tokens": 20}) for seed in range(24)]
    for stream in streams:
        stream.join(timeout=100)
    assert [(stream.tokens, stream.events[-1]) for stream in streams] == [(20, "[DONE]")] * 24
    assert books.settled(24) == [("completed", PROMPT_TOKENS, 20)] * 24


def test_the_server_ends_when_asked_to(fresh, key):
    engines = fresh.engine_pids()
    assert ask(fresh, key).status_code == 200
    assert fresh.stop() == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in engines)


def test_requests_in_flight_are_settled_when_the_server_is_asked_to_end(fresh, key, books):
    stream = Stream(fresh, key)
    stream.wait_tokens(10)
    assert fresh.stop() == 0
    stream.join(timeout=20)
    ((_, prompt, tokens),) = books.settled(1)
    assert prompt == PROMPT_TOKENS
    assert stream.tokens <= tokens


# Who waits.


def test_a_waiting_client_hears_its_place_and_a_refused_one_when_to_come_back(tmp_path):
    config = "sequences = 1\nqueue = 1\n"
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config=config) as server:
        key = server.create_key("anna")
        assert ask(server, key).status_code == 200
        streams = [Stream(server, key)]
        streams[0].wait_tokens(5)
        streams.append(Stream(server, key))
        wait_for("a comment", lambda: streams[1].comments)
        assert re.fullmatch(r": place 1 in the queue(, about \d+ s)?", streams[1].comments[0])
        refused = ask(server, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_overloaded")
        assert 5 <= int(refused.headers["retry-after"]) <= 600
        streams[0].leave()
        streams[1].wait_tokens(5)
        streams[1].leave()


def test_whoever_asks_a_lot_does_not_hold_up_the_others(fresh):
    """Eight slots: one person's twelve long answers leave room for another's at once."""
    greedy, other = fresh.create_key("greta"), fresh.create_key("otto")
    assert ask(fresh, other).status_code == 200
    streams = [Stream(fresh, greedy, {**LONG, "seed": seed}) for seed in range(12)]
    wait_for("six at work", lambda: sum(stream.tokens > 0 for stream in streams) == 6)
    began = time.monotonic()
    assert ask(fresh, other).status_code == 200
    assert time.monotonic() - began < 10
    assert sum(stream.tokens > 0 for stream in streams) == 6
    for stream in streams:
        stream.leave()


# The month's tokens.


def spend(data, user: str, tokens: int):
    """Writes usage into the books of a stopped server: nobody waits for a million tokens in a test."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(data / "ledger.db")) as database, database:
        (user_id, key_id) = database.execute(
            "SELECT users.id, keys.id FROM users JOIN keys ON keys.user_id = users.id WHERE users.name = ?", [user]
        ).fetchone()
        day, month = database.execute("SELECT strftime('%Y-%m-%d', 'now'), strftime('%Y-%m', 'now')").fetchone()
        database.execute(
            "INSERT INTO usage (request_id, key_id, user_id, key_account, model, endpoint, served_by, prompt_tokens,"
            " cached_tokens, completion_tokens, outcome, day, month, created_at, settled_at, user_charge)"
            " VALUES ('test', ?, ?, 0, 'm', 'completions', 'local', ?, 0, 0, 'completed', ?, ?, 0, 0, ?)",
            [key_id, user_id, tokens, day, month, tokens],
        )
        database.execute(
            "INSERT INTO usage_daily (month, day, key_id, model, served_by, endpoint, requests, prompt_tokens, cached_tokens,"
            " completion_tokens) VALUES (?, ?, ?, 'm', 'local', 'completions', 1, ?, 0, 0)",
            [month, day, key_id, tokens],
        )
        database.execute(
            "INSERT INTO usage_monthly (month, key_id, model, requests, prompt_tokens, cached_tokens, completion_tokens)"
            " VALUES (?, ?, 'm', 1, ?, 0, 0)",
            [month, key_id, tokens],
        )
        database.execute(
            "INSERT INTO balances (account, month, used) VALUES (?, ?, ?)", [f"user:{user_id}", month, tokens]
        )


def test_a_used_up_plan_is_refused_by_what_a_request_may_cost(tmp_path):
    server = allerac.Server(allerac.data_dir(tmp_path / "data"), arguments=("--time-zone", "UTC"))
    with server:
        key = server.create_key("kid", "--plan", "starter")
        assert server.stop() == 0
        spend(server.data, "kid", 1_000_000 - 100)
        server.start()
        import openai

        with server.client(key) as client:
            # 8 tokens of prompt and 92 of output are just what is left; one more is not.
            with pytest.raises(openai.RateLimitError) as caught:
                client.completions.create(**{**SHORT, "max_tokens": 93})
            assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
            assert "100" in caught.value.message
            assert int(caught.value.response.headers["retry-after"]) > 0
            assert client.completions.create(**{**SHORT, "max_tokens": 92, "stop": ","}).usage.total_tokens < 20
            # What was reserved and not used is free again.
            assert client.completions.create(**SHORT).usage.total_tokens == 12
        with contextlib.closing(allerac.Books(server.data)) as books:
            books.settled(3)


def test_no_memory_for_a_model_is_said_and_takes_nothing_along(tmp_path):
    # More KV than the process may have, and not more than the machine has: else it would not be tried.
    server = allerac.Server(
        allerac.data_dir(tmp_path / "data"),
        config="sequences = 256\ncells = 327680\n",
        wrapper=("prlimit", "--as=6000000000"),
    )
    server.start(ready=False)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        http = stack.enter_context(server.http(server.create_key("anna")))
        for _ in range(2):
            refused = http.post("/v1/completions", json=SHORT)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "model_unavailable"
        assert http.get("/v1/models").status_code == 200
        assert "not enough memory for a context of" in server.log
        with contextlib.closing(allerac.Books(server.data)) as books:
            assert books.open_reservations() == 0


# Clients that leave, at each phase.


def raw_request(key: str, body: dict) -> tuple[bytes, bytes]:
    data = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    ).encode()
    return head, data


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_leaves_at_any_phase(fresh, key, books, stream):
    """In the middle of headers and body, right after them, while its answer begins and while it runs: nothing stays
    set aside, no place stays taken, and what was computed is charged."""
    host, port = fresh.url.removeprefix("http://").split(":")
    head, data = raw_request(key, {**LONG, "stream": stream, "max_tokens": 300})
    assert ask(fresh, key).status_code == 200
    whole = head + data
    for sent, wait in [
        (head[:20], 0), (head[:-2], 0), (head, 0), (head + data[:-1], 0),
        (whole, 0), (whole, 0.005), (whole, 0.02), (whole, 0.05), (whole, 0.2), (whole, 0.6),
    ]:  # fmt: skip
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            time.sleep(wait)
    wait_for("nothing set aside", lambda: books.open_reservations() == 0, 60)
    # One more goes through, in its time and for its cost, when all of the others are settled.
    assert ask(fresh, key).status_code == 200
    wait_for("all settled", lambda: books.open_reservations() == 0, 60)
    books.check()
    outcomes = books.outcomes()
    assert [outcome for outcome in outcomes if outcome[0] == "completed"] == [("completed", 8, 4)] * 2
    cancelled = [outcome for outcome in outcomes if outcome[0] != "completed"]
    assert len(cancelled) <= 6
    assert all(outcome == "cancelled" and prompt == PROMPT_TOKENS for outcome, prompt, _ in cancelled)
    assert fresh.cli("ledger", "verify").returncode == 0


def test_a_client_leaves_while_it_waits_in_the_queue(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config="sequences = 1\nqueue = 4\n") as server:
        key = server.create_key("anna")
        first = Stream(server, key)
        first.wait_tokens(3)
        waiting = [Stream(server, key) for _ in range(3)]
        wait_for("three in the queue", lambda: all(stream.comments for stream in waiting))
        for stream in waiting:
            stream.leave()
        first.leave()
        with contextlib.closing(allerac.Books(server.data)) as books:
            # Those who never began cost nothing.
            ((outcome, prompt, _),) = books.settled(1)
            assert (outcome, prompt) == ("cancelled", PROMPT_TOKENS)
