"""Files and batches: what is kept of them, for whom, and that each line is answered once and charged once."""

import json
import re

import httpx
import openai
import pytest
from openai.types import Batch, FileObject

import allerac

KEYS = {
    "id", "object", "endpoint", "errors", "input_file_id", "completion_window", "status", "output_file_id",
    "error_file_id", "created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at",
    "expired_at", "cancelling_at", "cancelled_at", "request_counts", "metadata", "model", "usage",
}  # fmt: skip
OVER = {"completed", "failed", "expired", "cancelled"}
CHAT = "/v1/chat/completions"

# What the scripted server has.
SCRIPTED_MODELS = ["endless", "good"]


@pytest.fixture
def key(box, request):
    name = re.sub(r"\W", " ", request.node.name)[:60].strip()
    return box.create_key(name, "--plan", "pro", "--allow-upstream", "all")


@pytest.fixture
def client(box, key):
    with box.client(key) as made:
        yield made


def line(custom_id, body=None, **fields) -> dict:
    body = body or {"model": allerac.MODEL, "messages": [{"role": "user", "content": f"Say {custom_id}."}], "max_tokens": 4}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body} | fields


def upload(client, lines, purpose="batch", **options) -> FileObject:
    content = "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in lines) + "\n"
    return client.files.create(file=("lines.jsonl", content.encode()), purpose=purpose, **options)


def begin(client, lines, endpoint=CHAT, window="24h", **options) -> Batch:
    file = upload(client, lines)
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window, **options)


def over(client, batch, seconds=60) -> Batch:
    return allerac.wait_for("the end", lambda: (b := client.batches.retrieve(batch.id)).status in OVER and b, seconds)


def read(client, file_id) -> list[dict]:
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()] if file_id else []


# Files.


def test_a_file_is_kept_listed_and_forgotten(client):
    made = upload(client, ["a", "b"], purpose="user_data")
    assert FileObject.model_validate(made.model_dump(), strict=True)
    assert (made.bytes, made.filename, made.purpose, made.status, made.expires_at) == (
        4, "lines.jsonl", "user_data", "processed", None,
    )  # fmt: skip
    batch = upload(client, ["c"])
    assert batch.expires_at == batch.created_at + 30 * 24 * 3600
    soon = upload(client, ["d"], expires_after={"anchor": "created_at", "seconds": 3600})
    assert soon.expires_at == soon.created_at + 3600
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == b"a\nb\n"
    assert [file.id for file in client.files.list()] == [soon.id, batch.id, made.id]
    assert [file.id for file in client.files.list(purpose="user_data", order="asc")] == [made.id]
    page = client.files.list(limit=1)
    assert (page.has_more, [file.id for file in page]) == (True, [soon.id, batch.id, made.id])
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    for call in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_a_large_file_comes_back_as_it_went(box, client):
    content = bytes(range(256)) * 4096 * 3 + b"end"
    made = client.files.create(file=("large.bin", content), purpose="user_data")
    assert made.bytes == len(content)
    assert client.files.content(made.id).read() == content
    # Sealed on the disk.
    for name in ("objects.db", "objects.db-wal"):
        assert content[:1024] not in (box.data / name).read_bytes()


def test_a_file_is_its_owners_alone(box, client):
    made = upload(client, [line("a")])
    with box.client(box.create_key("sue")) as stranger:
        for call in (stranger.files.retrieve, stranger.files.delete, stranger.files.content):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        with pytest.raises(openai.NotFoundError) as caught:
            stranger.batches.create(input_file_id=made.id, endpoint=CHAT, completion_window="24h")
        assert caught.value.param == "input_file_id"
        assert stranger.files.list().data == []


@pytest.mark.parametrize(
    ("form", "files", "param"),
    [
        ({"purpose": "batch"}, None, "file"),
        ({}, {"file": b"x"}, "purpose"),
        ({"purpose": "fine-tune"}, {"file": b"x"}, "purpose"),
        ({"purpose": "batch", "colour": "red"}, {"file": b"x"}, "colour"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, {"file": b"x"}, "expires_after.seconds"),
        ({"purpose": "batch", "expires_after[anchor]": "x", "expires_after[seconds]": "1"}, {"file": b"x"}, "expires_after.anchor"),
        ({"purpose": "x" * 2000}, {"file": b"x"}, "purpose"),
    ],
)
def test_a_form_that_cannot_be_honoured_is_refused(box, client, key, form, files, param):
    with box.http(key) as http:
        files = files or {"other": (None, "x")}
        answer = http.post("/v1/files", data=form, files=files)
        if param == "file":
            assert answer.status_code == 400
        else:
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert client.files.list().data == []


def test_what_is_no_form_is_refused(box, key):
    with box.http(key) as http:
        for content, kind in ((b"{}", "application/json"), (b"--x\r\n", "multipart/form-data; boundary=x"), (b"", "multipart/form-data")):
            answer = http.post("/v1/files", content=content, headers={"content-type": kind})
            assert answer.status_code == 400, answer.text
    assert httpx.post(f"{box.url}/v1/files", content=b"").status_code == 401


def test_a_file_that_is_too_large_is_refused(box, client, key):
    with box.http(key) as http:
        boundary = b'--x\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'

        def content():
            yield boundary
            for _ in range(130):
                yield bytes(1024 * 1024)

        headers = {"content-type": "multipart/form-data; boundary=x"}
        try:
            assert http.post("/v1/files", content=content(), headers=headers).status_code == 413
        except httpx.WriteError:
            pass  # it stopped listening
    assert client.files.list().data == []


# Batches.


def test_a_batch_answers_every_line(box, client, key):
    names = [f"line-{number}" for number in range(6)]
    made = begin(client, [line(name) for name in names], metadata={"a": "b"})
    assert made.status == "validating"
    assert KEYS <= made.model_dump().keys()
    done = over(client, made)
    assert Batch.model_validate(json.loads(done.model_dump_json()), strict=True)
    assert (done.status, done.error_file_id, done.metadata, done.model) == ("completed", None, {"a": "b"}, allerac.MODEL)
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (6, 6, 0)
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    lines = read(client, done.output_file_id)
    assert [entry["custom_id"] for entry in lines] == names
    assert all(entry["response"]["status_code"] == 200 and entry["error"] is None for entry in lines)
    assert all(entry["response"]["body"]["object"] == "chat.completion" for entry in lines)
    assert len({entry["id"] for entry in lines}) == 6
    assert done.usage.output_tokens == sum(entry["response"]["body"]["usage"]["completion_tokens"] for entry in lines) == 24
    # At idle priority.
    assert {entry["response"]["body"]["service_tier"] for entry in lines} == {"flex"}
    file = client.files.retrieve(done.output_file_id)
    assert (file.purpose, file.expires_at) == ("batch_output", file.created_at + 30 * 24 * 3600)
    rows = [row for row in box.usage() if row["key"] in key]
    allerac.wait_for("six charged", lambda: sum(row["requests"] for row in box.usage() if row["key"] in key) == 6)
    assert rows


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"prompt": "1, 2,", "max_tokens": 3}, "text_completion"),
        ("/v1/responses", {"input": "hi", "max_output_tokens": 3}, "response"),
    ],
)
def test_other_endpoints_have_batches_too(client, endpoint, body, kind):
    body = {"model": allerac.MODEL} | body
    done = over(client, begin(client, [line("a", body, url=endpoint)], endpoint))
    (entry,) = read(client, done.output_file_id)
    assert (entry["custom_id"], entry["response"]["body"]["object"]) == ("a", kind)
    assert done.usage.output_tokens == 3
    if kind == "response":
        assert client.responses.retrieve(entry["response"]["body"]["id"]).status == "incomplete"


def test_lines_that_fail_are_in_the_file_of_errors(client):
    good = line("good")
    unknown = line("unknown", {"model": "gpt-9", "messages": good["body"]["messages"]})
    wrong = line("wrong", good["body"] | {"temperature": "hot"})
    streamed = line("streamed", good["body"] | {"stream": True})
    done = over(client, begin(client, [unknown, good, wrong, streamed]))
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 1, 3)
    assert [entry["custom_id"] for entry in read(client, done.output_file_id)] == ["good"]
    errors = {entry["custom_id"]: entry["response"] for entry in read(client, done.error_file_id)}
    told = {name: (entry["status_code"], entry["body"]["error"]["param"]) for name, entry in errors.items()}
    assert told == {"unknown": (404, "model"), "wrong": (400, "temperature"), "streamed": (400, "stream")}


def test_lines_that_are_none_fail_the_batch(client):
    lines = [line("a"), "{", line("a"), line("b", url="/v1/responses"), line("c", method="GET"), '{"custom_id": "d"}', ""]
    done = over(client, begin(client, lines))
    assert (done.status, done.output_file_id) == ("failed", None)
    told = [(error.line, error.code, error.param) for error in done.errors.data]
    assert told == [
        (2, "invalid_json", None), (3, "duplicate_custom_id", "custom_id"), (4, "invalid_value", "url"),
        (5, "invalid_value", "method"), (6, "missing_required_parameter", "method"),
    ]  # fmt: skip
    empty = over(client, begin(client, [""]))
    assert (empty.status, empty.errors.data[0].code) == ("failed", "empty_file")


def test_a_batch_that_is_cancelled_says_so_of_each_line(client):
    endless = {"model": "endless", "messages": [{"role": "user", "content": "hi"}]}
    lines = [line("quick"), *(line(f"slow-{number}", endless) for number in range(5))]
    made = begin(client, lines)
    allerac.wait_for("one line", lambda: client.batches.retrieve(made.id).request_counts.completed == 1)
    cancelled = client.batches.cancel(made.id)
    assert cancelled.status in ("cancelling", "cancelled")
    assert cancelled.cancelling_at is not None
    done = over(client, made)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("cancelled", 1, 5)
    assert [entry["custom_id"] for entry in read(client, done.output_file_id)] == ["quick"]
    errors = read(client, done.error_file_id)
    assert [entry["custom_id"] for entry in errors] == [f"slow-{number}" for number in range(5)]
    assert all(entry["error"]["code"] == "batch_cancelled" and entry["response"] is None for entry in errors)
    # Again changes nothing.
    assert client.batches.cancel(made.id).cancelled_at == done.cancelled_at


def test_a_batch_whose_time_is_over_expires(client):
    endless = {"model": "endless", "messages": [{"role": "user", "content": "hi"}]}
    done = over(client, begin(client, [line("quick"), line("slow", endless)], window="3s"))
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("expired", 1, 1)
    (entry,) = read(client, done.error_file_id)
    assert (entry["custom_id"], entry["error"]["code"]) == ("slow", "batch_expired")


def test_batches_are_listed_and_their_owners_alone(box, client):
    made = [over(client, begin(client, [line("a")])).id for _ in range(3)]
    page = client.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == (made[:0:-1], True)
    assert [batch.id for batch in page] == made[::-1]
    with box.client(box.create_key("sue")) as stranger:
        for call in (stranger.batches.retrieve, stranger.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                call(made[0])
        assert stranger.batches.list().data == []


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"colour": "red"}, "colour"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
def test_a_batch_that_cannot_be_honoured_is_refused(box, client, key, options, param):
    file = upload(client, [line("a")])
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"} | options
    with box.http(key) as http:
        answer = http.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_file_for_something_else_is_no_batch(client):
    file = upload(client, [line("a")], purpose="user_data")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert caught.value.param == "input_file_id"


def test_lines_beyond_the_quota_fail_by_name(box):
    key = box.create_key("poor", "--plan", "starter")
    huge = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    with box.client(key) as client:
        import sqlite3

        database = sqlite3.connect(box.data / "ledger.db", timeout=10)
        (account,) = database.execute("SELECT 'user:' || id FROM users WHERE name = 'poor'").fetchone()
        client.chat.completions.create(model=allerac.MODEL, messages=huge["messages"], max_tokens=1)
        allerac.wait_for("settled", lambda: database.execute("SELECT used FROM balances WHERE account = ?", [account]).fetchone()[0])
        # The month is nearly used up: one usage row stands for all that was.
        month = database.execute("SELECT month FROM balances WHERE account = ?", [account]).fetchone()[0]
        database.execute("UPDATE balances SET used = 1000000 WHERE account = ? AND month = ?", [account, month])
        database.commit()
        done = over(client, begin(client, [line("a", huge)]))
        (entry,) = read(client, done.error_file_id)
        assert (entry["response"]["status_code"], entry["response"]["body"]["error"]["code"]) == (429, "insufficient_quota")
        database.execute(
            "UPDATE balances SET used = (SELECT sum(prompt_tokens + completion_tokens) FROM usage JOIN users ON users.id = user_id "
            "WHERE users.name = 'poor') WHERE account = ? AND month = ?", [account, month],
        )  # fmt: skip
        database.commit()
        database.close()


def test_a_key_that_was_revoked_asks_no_more(box, client, key):
    endless = {"model": "endless", "messages": [{"role": "user", "content": "hi"}]}
    made = begin(client, [*(line(f"slow-{n}", endless) for n in range(4)), line("late")])
    allerac.wait_for("in progress", lambda: client.batches.retrieve(made.id).status == "in_progress")
    client.batches.cancel(made.id)
    box.cli("keys", "revoke", key.split("-")[2])
    with pytest.raises(openai.AuthenticationError):
        client.batches.retrieve(made.id)


# Faults.


@pytest.mark.parametrize("moment", [1, 4, 9])
def test_a_box_that_is_killed_goes_on_and_charges_each_line_once(fresh, books, moment):
    """Killed in the middle, twice: no line is lost, none is answered twice, none is charged twice."""
    key = fresh.create_key("anna")
    names = [f"line-{number}" for number in range(12)]
    body = {"model": allerac.MODEL, "max_tokens": 40, "logit_bias": allerac.NEVER_END}
    lines = [line(name, body | {"messages": [{"role": "user", "content": f"Count from {name}."}]}) for name in names]
    with fresh.client(key) as client:
        made = begin(client, lines)
        allerac.wait_for("some lines", lambda: client.batches.retrieve(made.id).request_counts.completed >= moment, 60)
    for _ in range(2):
        fresh.kill()
        fresh.start()
    with fresh.client(key) as client:
        done = over(client, made, 120)
        assert (done.status, done.request_counts.completed) == ("completed", 12)
        answered = read(client, done.output_file_id)
    assert [entry["custom_id"] for entry in answered] == names
    costs = sorted((entry["response"]["body"]["usage"]["prompt_tokens"], 40) for entry in answered)
    # One row a line, for the answer that was kept: what a crash lost is not charged.
    charged = sorted((prompt, completion) for _, prompt, completion in books.settled(12))
    assert charged == costs
    assert {outcome for outcome, *_ in books.outcomes()} <= {"completed", "crashed"}


def test_a_batch_waits_for_the_box_to_start_again_and_to_be_asked(fresh):
    """Stopped properly, a batch goes on too; what its lines say is only theirs."""
    key = fresh.create_key("anna")
    body = {"model": allerac.MODEL, "max_tokens": 60, "logit_bias": allerac.NEVER_END}
    lines = [line(f"n{n}", body | {"messages": [{"role": "user", "content": "a marmalade sentence"}]}) for n in range(8)]
    with fresh.client(key) as client:
        made = begin(client, lines)
        allerac.wait_for("a line", lambda: client.batches.retrieve(made.id).request_counts.completed >= 1, 60)
    assert fresh.stop() == 0
    assert b"marmalade" not in (fresh.data / "objects.db").read_bytes()
    assert b"marmalade" not in (fresh.data / "ledger.db").read_bytes()
    fresh.start()
    with fresh.client(key) as client:
        done = over(client, made, 120)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 8, 0)


def test_others_come_before_a_batch(box, client):
    """While a batch runs, a chat begins at once."""
    body = {"model": allerac.MODEL, "max_tokens": 300, "logit_bias": allerac.NEVER_END}
    lines = [line(f"n{n}", body | {"messages": [{"role": "user", "content": f"Tell story {n}."}]}) for n in range(4)]
    made = begin(client, lines)
    allerac.wait_for("in progress", lambda: client.batches.retrieve(made.id).status == "in_progress")
    with box.client(box.create_key("sue")) as other:
        other.chat.completions.create(model=allerac.MODEL, messages=[{"role": "user", "content": "hi"}], max_tokens=3)
    assert client.batches.retrieve(made.id).status == "in_progress"
    client.batches.cancel(made.id)
    over(client, made)
