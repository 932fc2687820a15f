"""What somebody may keep is a limit of their plan: files, responses and batches count, uploads at once never exceed it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import allerac

MEGABYTE = 1_000_000
LIMIT = 5 * MEGABYTE


@pytest.fixture
def narrow(fresh):
    """A box with a plan of five megabytes, and anna, who has it."""
    fresh.owner = fresh.claim("olga")
    fresh.cli("plans", "add", "narrow", "--storage-gb", "0.005")
    assert "5.00 MB" in fresh.cli("plans", "list").stdout
    fresh.anna = fresh.create_key("anna", "--plan", "narrow")
    return fresh


def upload(http, megabytes: float, purpose: str = "user_data"):
    return http.post("/v1/files", files={"file": ("f", b"x" * int(megabytes * MEGABYTE))}, data={"purpose": purpose})


def storage(http) -> dict:
    return http.get("/v1/account").raise_for_status().json()["storage"]


def respond(http, **more):
    return http.post("/v1/responses", json={"model": allerac.MODEL, "input": "Hello", "max_output_tokens": 16, **more})


def test_uploads_at_once_never_exceed_the_limit_and_deleting_makes_room(narrow):
    with narrow.http(narrow.anna) as http:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: upload(http, 1), range(12)))
        kept = [answer.json()["id"] for answer in answers if answer.status_code == 200]
        refused = [answer for answer in answers if answer.status_code != 200]
        # Together they were too many; none of those refused is left behind. One after the other, four fit, with what sealing adds.
        assert len(kept) <= 4
        for answer in refused:
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_full")
            assert "of 5000000 bytes" in answer.json()["error"]["message"]
        for _ in range(4 - len(kept)):
            kept.append(upload(http, 1).raise_for_status().json()["id"])
        assert upload(http, 1).status_code == 413
        told = storage(http)
        assert told["limit_bytes"] == LIMIT and 4 * MEGABYTE < told["used_bytes"] <= LIMIT
        assert {file["id"] for file in http.get("/v1/files").json()["data"]} == set(kept)
        http.delete(f"/v1/files/{kept.pop()}").raise_for_status()
        assert storage(http)["used_bytes"] < 4 * MEGABYTE
        assert upload(http, 1).status_code == 200


def test_where_files_take_all_room_nothing_is_computed_that_could_not_be_kept(narrow):
    with narrow.http(narrow.anna) as http:
        assert respond(http).status_code == 200
        used = narrow.totals()["requests"]
        assert upload(http, 4.9).status_code == 200
        # What was said gives way to what is said: there is room for a few words.
        said = respond(http).raise_for_status().json()["id"]
        assert http.get(f"/v1/responses/{said}").status_code == 200
        narrow.cli("plans", "set", "narrow", "--storage-gb", "0.004")
        refused = respond(http)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "storage_full")
        completion = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        assert http.post("/v1/chat/completions", json={**completion, "store": True}).status_code == 413
        assert narrow.totals()["requests"] == used + 1
        # What is not kept needs no room.
        assert respond(http, store=False).status_code == 200
        assert http.post("/v1/chat/completions", json=completion).status_code == 200
        narrow.cli("plans", "set", "narrow", "--storage-gb", "none")
        assert storage(http)["limit_bytes"] is None
        assert upload(http, 4.9).status_code == 200


def test_batches_count_and_what_they_answer_comes_on_top(narrow):
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    body = {"model": allerac.MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    with narrow.http(narrow.anna) as http, narrow.http(narrow.owner) as owner:

        def allow(storage_bytes: int):
            owner.post("/v1/admin/plans/narrow", json={"storage_bytes": storage_bytes}).raise_for_status()

        lines = json.dumps({**line, "body": body}).encode()
        file = http.post("/v1/files", files={"file": ("f.jsonl", lines)}, data={"purpose": "batch"}).json()["id"]
        batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        before = storage(http)["used_bytes"]
        allow(before + 10)
        refused = http.post("/v1/batches", json=batch)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "storage_full")
        assert storage(http)["used_bytes"] == before
        allow(LIMIT)
        name = http.post("/v1/batches", json=batch).raise_for_status().json()["id"]
        allow(before)
        done = allerac.wait_for(
            "the batch", lambda: (told := http.get(f"/v1/batches/{name}").json())["status"] == "completed" and told, 60
        )
        assert http.get(f"/v1/files/{done['output_file_id']}/content").status_code == 200
        assert storage(http)["used_bytes"] > before
        assert upload(http, 0.01).status_code == 413


def test_plans_have_a_storage_limit_over_the_api(narrow):
    with narrow.http(narrow.owner) as http:
        limits = {plan["id"]: plan["limits"]["storage_bytes"] for plan in http.get("/v1/admin/plans").json()["data"]}
        gigabyte = 1_000_000_000
        assert limits == {
            "starter": 5 * gigabyte, "personal": 50 * gigabyte, "pro": 200 * gigabyte, "unlimited": None, "narrow": LIMIT,
        }  # fmt: skip
        changed = http.post("/v1/admin/plans/narrow", json={"storage_bytes": 7}).raise_for_status().json()
        assert changed["limits"]["storage_bytes"] == 7
        assert http.post("/v1/admin/plans/narrow", json={"storage_bytes": -1}).status_code == 400
        assert storage(http)["limit_bytes"] is None
