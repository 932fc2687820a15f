"""Requests that come again with their `Idempotency-Key`: the same answer, charged once."""

import threading

import httpx
import pytest

import allerac

HEADER = "idempotency-key"
MESSAGES = [{"role": "user", "content": "Name a colour."}]

# What the scripted server has.
SCRIPTED_MODELS = ["good", "endless", "fails", "waits"]


@pytest.fixture(scope="module")
def books(box):
    opened = allerac.Books(box.data)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def key(box):
    return box.create_key("tina", "--plan", "pro", "--allow-upstream", "all")


@pytest.fixture
def http(box, key):
    with box.http(key) as made:
        yield made


def chat(**options):
    return {"model": allerac.MODEL, "messages": MESSAGES, "max_tokens": 6, "temperature": 1.5} | options


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/chat/completions", chat(stream=True)),
        ("/v1/chat/completions", {"model": "good", "messages": MESSAGES, "stream": True}),
        ("/v1/completions", {"model": allerac.MODEL, "prompt": "A colour:", "max_tokens": 6}),
        ("/v1/responses", {"model": allerac.MODEL, "input": "hi", "max_output_tokens": 6}),
        ("/v1/responses", {"model": allerac.MODEL, "input": "hi", "max_output_tokens": 6, "stream": True}),
    ],
)
def test_a_retry_gets_the_same_answer_and_is_charged_once(http, books, request, path, body):
    headers = {HEADER: request.node.name}
    allerac.wait_for("nothing open", lambda: books.open_reservations() == 0)
    before = books.outcomes()
    first = http.post(path, json=body, headers=headers)
    again = http.post(path, json=body, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.content == again.content
    for name in ("content-type", "x-allerac-served-by"):
        assert first.headers[name] == again.headers[name]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert len(books.settled(len(before) + 1)) == len(before) + 1
    other = http.post(path, json=body, headers={HEADER: request.node.name + "2"})
    assert other.status_code == 200
    assert "idempotent-replayed" not in other.headers


def test_another_body_with_the_key_is_refused(http):
    headers = {HEADER: "one"}
    assert http.post("/v1/chat/completions", json=chat(), headers=headers).status_code == 200
    for path, body in (("/v1/chat/completions", chat(max_tokens=7)), ("/v1/responses", chat())):
        answer = http.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_while_it_is_answered_a_retry_waits(box, key, http):
    body = {"model": "endless", "messages": MESSAGES, "stream": True}
    # The key belongs to its person: the same one of another is another.
    with box.http(box.create_key("sue")) as stranger, http.stream("POST", "/v1/chat/completions", json=body, headers={HEADER: "busy"}) as first:
        next(first.iter_lines())
        with box.http(key) as second:
            answer = second.post("/v1/chat/completions", json=body, headers={HEADER: "busy"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_key_in_use")
        assert answer.headers["retry-after"] == "1"
        assert stranger.post("/v1/chat/completions", json=chat(), headers={HEADER: "busy"}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_was_cut_off_finds_the_answer(box, key, books, stream):
    before = books.outcomes()
    body = chat(stream=stream, max_tokens=120, logit_bias=allerac.NEVER_END)
    headers = {HEADER: f"cut off {stream}"}

    def leave():
        with box.http(key) as http:
            http.timeout = 0.3
            try:
                with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
                    next(answer.iter_lines())
            except httpx.TimeoutException:
                pass

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()

    def again():
        with box.http(key) as http:
            answer = http.post("/v1/chat/completions", json=body, headers=headers)
        return answer if answer.status_code == 200 else None

    answer = allerac.wait_for("the answer", again, 60)
    assert answer.headers["idempotent-replayed"] == "true"
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.json()["usage"]["completion_tokens"] == 120
    # An answer does not wait until its charge is on the disk.
    rows = allerac.wait_for("the charge", lambda: [row for row in books.outcomes()[len(before) :] if row[2] == 120])
    assert rows == [("completed", rows[0][1], 120)]


def said(lines):
    """The lines of a stream that say something: a slow one has comments too."""
    return (line for line in lines if line and not line.startswith(":"))


def numbered(lines) -> list[tuple[int, str]]:
    """The events of a stream with their numbers."""
    lines = list(said(lines))
    numbers = [int(line.removeprefix("id: ")) for line in lines[::2]]
    return list(zip(numbers, lines[1::2], strict=True))


def test_a_stream_goes_on_after_the_last_event_that_came(box, key, http, books, scripted):
    """While it is still being made, and when it is kept; by nobody else, and charged once."""
    body, headers = {"model": "waits", "messages": MESSAGES, "stream": True}, {HEADER: "goes on"}
    path = "/v1/chat/completions"

    def charged() -> int:
        return len([row for row in books.outcomes() if row == ("completed", 11, 8)])

    before = charged()
    with http.stream("POST", path, json=body, headers=headers) as answer:
        lines = said(answer.iter_lines())
        first = numbered([next(lines) for _ in range(6)])
    assert [number for number, _ in first] == [0, 1, 2]
    assert http.post(path, json=body, headers=headers).status_code == 409
    other = http.post(path, json=body | {"n": 2}, headers=headers | {"last-event-id": "0"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    with http.stream("POST", path, json=body, headers=headers | {"last-event-id": "1"}) as answer:
        assert (answer.status_code, answer.headers["x-allerac-served-by"]) == (200, "upstream:scripted")
        lines = said(answer.iter_lines())
        again = numbered([next(lines) for _ in range(2)])
        assert again == first[2:]
        # Only now does the rest come.
        scripted.go_on.release()
        rest = numbered(lines)
    whole = first + rest
    assert [number for number, _ in whole] == list(range(len(whole)))
    assert whole[-1][1] == "data: [DONE]"
    kept = http.post(path, json=body, headers=headers | {"last-event-id": "4"})
    assert numbered(kept.text.splitlines()) == whole[5:]
    assert numbered(http.post(path, json=body, headers=headers).text.splitlines()) == whole
    assert kept.headers["idempotent-replayed"] == "true"
    allerac.wait_for("the charge", lambda: charged() == before + 1)
    # For somebody else there is nothing to go on with: it is a request of their own.
    scripted.go_on.release()
    stranger = box.create_key("stella", "--plan", "pro", "--allow-upstream", "all")
    with box.http(stranger) as theirs:
        answer = theirs.post(path, json=body, headers=headers | {"last-event-id": "4"})
    assert "idempotent-replayed" not in answer.headers
    assert len(numbered(answer.text.splitlines())) == len(whole)
    allerac.wait_for("their charge", lambda: charged() == before + 2)


def test_events_have_numbers_only_where_they_can_be_asked_for(http):
    body = chat(stream=True)
    assert "\nid:" not in "\n" + http.post("/v1/chat/completions", json=body).text
    named = http.post("/v1/messages", json=chat(stream=True, temperature=1), headers={HEADER: "numbers"}).text
    assert named.startswith("id: 0\nevent: message_start\ndata: ")


def test_a_failure_is_tried_again(http, scripted):
    headers = {HEADER: "fails"}
    body = {"model": "fails", "messages": MESSAGES}
    seen = len(scripted.seen)
    for _ in range(2):
        assert http.post("/v1/chat/completions", json=body, headers=headers).status_code == 502
    assert len(scripted.seen) == seen + 2
    refused = chat(temperature="hot")
    assert http.post("/v1/chat/completions", json=refused, headers={HEADER: "refused"}).status_code == 400
    assert http.post("/v1/chat/completions", json=chat(), headers={HEADER: "refused"}).status_code == 200


def test_a_key_that_is_none_is_refused(http):
    for value in ("", "x" * 256, "ä"):
        answer = http.post("/v1/chat/completions", json=chat(), headers={HEADER: value.encode()})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


def test_answers_survive_a_restart_and_are_sealed(fresh):
    key = fresh.create_key("anna")
    headers = {HEADER: "a-peculiar-key"}
    with fresh.http(key) as http:
        first = http.post("/v1/chat/completions", json=chat(), headers=headers)
    fresh.kill()
    fresh.start()
    with fresh.http(key) as http:
        assert http.post("/v1/chat/completions", json=chat(), headers=headers).content == first.content
    assert b"a-peculiar-key" not in (fresh.data / "objects.db").read_bytes()
