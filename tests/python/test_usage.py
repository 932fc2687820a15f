"""What was used, as files and over OpenAI's API: the same numbers as in the books."""

import csv
import datetime
import io
import json
import re
import time

import httpx
import openai
import pyarrow.parquet
import pytest
from test_embeddings import MODEL as ENCODER
from test_embeddings import data_dir
from scripted import ScriptedUpstream
from test_faults import SHORT

import allerac

# Prompt and answer of SHORT.
SHORT_TOKENS = (8, 4)
ENCODED = "A text of some words."


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """Anna asks three times and encodes once, Kim asks once with one key and once with another."""
    arguments = ("--time-zone", "America/St_Johns")
    with allerac.Server(data_dir(tmp_path_factory.mktemp("usage") / "data"), arguments=arguments) as server:
        server.owner_key = server.claim("olga")
        server.began = int(time.time())
        anna, kim, ide = server.create_key("anna"), server.create_key("kim"), server.create_key("kim", "--name", 'a "b", c')
        server.ids = {key: key.split("-")[2] for key in (anna, kim, ide)}
        server.keys = anna, kim, ide
        for key in (anna, anna, anna, kim, ide):
            with server.client(key) as client:
                client.completions.create(**SHORT)
        with server.client(anna) as client:
            server.encoded = client.embeddings.create(model=ENCODER, input=ENCODED).usage.prompt_tokens
        books = allerac.Books(server.data)
        books.settled(6)
        books.close()
        yield server


@pytest.fixture
def usage(box):
    client = openai.OpenAI(base_url=f"{box.url}/v1", api_key="unused", admin_api_key=box.owner_key, max_retries=0)
    return client.admin.organization.usage


def results(page) -> list[dict]:
    return [result.model_dump() for bucket in page.data for result in bucket.results]


def test_openais_own_client_reads_the_same_numbers_as_the_books(box, usage):
    page = usage.completions(start_time=box.began)
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)
    (result,) = results(page)
    prompt, completion = SHORT_TOKENS
    assert result["object"] == "organization.usage.completions.result"
    assert (result["input_tokens"], result["output_tokens"], result["num_model_requests"]) == (5 * prompt, 5 * completion, 5)
    assert result["input_cached_tokens"] == box.totals()["cached_tokens"]
    assert {result[name] for name in ("user_id", "api_key_id", "model", "project_id", "batch")} == {None}
    (encoded,) = results(usage.embeddings(start_time=box.began))
    assert (encoded["input_tokens"], encoded["num_model_requests"]) == (box.encoded, 1)


def test_it_is_told_apart_and_filtered(box, usage):
    anna, kim, ide = (box.ids[key] for key in box.keys)
    for width in ("1m", "1h", "1d"):
        asked = {"start_time": box.began, "bucket_width": width}
        by_user = results(usage.completions(**asked, group_by=["user_id"]))
        counts = {}
        for result in by_user:
            counts[result["user_id"]] = counts.get(result["user_id"], 0) + result["num_model_requests"]
        assert counts == {"anna": 3, "kim": 2}, width
        by_all = results(usage.completions(**asked, group_by=["user_id", "api_key_id", "model"]))
        keys = {(result["user_id"], result["api_key_id"], result["model"]) for result in by_all}
        assert keys == {("anna", anna, allerac.MODEL), ("kim", kim, allerac.MODEL), ("kim", ide, allerac.MODEL)}
        some = results(usage.completions(**asked, api_key_ids=[ide, anna], user_ids=["kim"]))
        assert sum(result["num_model_requests"] for result in some) == 1
        assert results(usage.completions(**asked, models=["nobody"])) == []


def test_days_are_the_owners_and_empty_ones_are_there(box, usage):
    day = 86_400
    page = usage.completions(start_time=box.began - 2 * day, end_time=box.began + day, limit=31)
    spans = [(bucket.start_time, bucket.end_time) for bucket in page.data]
    # Newfoundland is three and a half hours behind.
    assert all(start % day == 12_600 and end - start == day for start, end in spans) and len(spans) in (3, 4)
    assert all(before[1] == after[0] for before, after in zip(spans, spans[1:]))
    assert spans[0][0] <= box.began - 2 * day < spans[0][1]
    assert sum(bool(bucket.results) for bucket in page.data) == 1


def test_pages_follow_each_other(box, usage):
    begin = box.began - 100 * 3600
    asked = {"start_time": begin, "end_time": box.began + 3600, "bucket_width": "1h", "limit": 30}
    buckets, page = [], usage.completions(**asked)
    while True:
        assert len(page.data) <= 30
        buckets += page.data
        if not page.has_more:
            break
        page = usage.completions(**asked, page=page.next_page)
    assert len(buckets) in (101, 102)
    assert len({bucket.start_time for bucket in buckets}) == len(buckets)
    assert sum(result.num_model_requests for bucket in buckets for result in bucket.results) == 5


def test_what_cannot_be_asked_is_refused_by_name(box):
    with box.http(box.owner_key) as http:
        for query, param in [
            ("", "start_time"), ("start_time=x", "start_time"), ("start_time=-1", "start_time"),
            ("start_time=5&end_time=5", "end_time"), ("start_time=5&bucket_width=1w", "bucket_width"),
            ("start_time=5&limit=32", "limit"), ("start_time=5&bucket_width=1m&limit=1441", "limit"),
            ("start_time=5&group_by=project_id", "group_by"), ("start_time=5&page=x", "page"),
            ("start_time=5&page=page_4", "page"), ("start_time=5&project_ids=x", "project_ids"),
            ("start_time=5&" + "&".join(["models=m"] * 65), "query"),
        ]:  # fmt: skip
            answer = http.get(f"/v1/organization/usage/completions?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query
        # A name that is a piece of SQL is a name.
        query = {"start_time": 5, "users": "x", "user_ids": "' OR 1=1 --"}
        query.pop("users")
        assert all(bucket["results"] == [] for bucket in http.get("/v1/organization/usage/completions", params=query).json()["data"])
    for path in ("completions", "embeddings"):
        with box.http(box.keys[0]) as http:
            assert http.get(f"/v1/organization/usage/{path}?start_time=5").status_code == 403
        assert httpx.get(f"{box.url}/v1/organization/usage/{path}?start_time=5").status_code == 401


def test_every_request_is_a_row_of_the_csv_and_of_the_parquet_file(box, tmp_path):
    text = box.cli("usage", "export").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    expected = [("anna", "completions")] * 3 + [("kim", "completions")] * 2 + [("anna", "embeddings")]
    assert [(row["user"], row["endpoint"]) for row in rows] == expected
    assert rows[4]["key_name"] == 'a "b", c' and rows[4]["key"] == box.ids[box.keys[2]]
    assert [(int(row["prompt_tokens"]), int(row["completion_tokens"])) for row in rows[:5]] == [SHORT_TOKENS] * 5
    file = tmp_path / "usage.parquet"
    assert box.cli("usage", "export", "--format", "parquet", "--output", str(file)).stdout == f"{file}: 6 requests\n"
    table = pyarrow.parquet.read_table(file).to_pylist()
    for row, known in zip(table, rows, strict=True):
        assert row["created_at"] == datetime.datetime.fromtimestamp(int(known["created_at"]), datetime.UTC)
        assert {name: str(row[name]) for name in known if not name.endswith("_at")} == {
            name: value for name, value in known.items() if not name.endswith("_at")
        }
    again = box.cli("usage", "export", "--output", str(file), check=False)
    assert again.returncode == 4 and "is there already" in again.stderr


def test_the_same_files_come_over_the_api(box):
    export = "/v1/admin/usage/export"
    with box.http(box.owner_key) as http:
        answer = http.get(export).raise_for_status()
        assert answer.text == box.cli("usage", "export").stdout
        assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        parquet = http.get(export, params={"format": "parquet"}).raise_for_status().content
        table = pyarrow.parquet.read_table(io.BytesIO(parquet)).to_pylist()
        assert [row["request_id"] for row in table] == [row["request_id"] for row in rows]
        of_kim = csv.DictReader(io.StringIO(http.get(export, params={"user": "kim"}).text))
        assert [row["user"] for row in of_kim] == ["kim", "kim"]
        none = http.get(export, params={"start_time": 0, "end_time": box.began - 1}).text
        assert none == answer.text.splitlines()[0] + "\n"
        for query in ("format=xml", "start_time=5&end_time=5", "start_time=-1", "month=2026-11"):
            assert http.get(f"{export}?{query}").status_code == 400, query
    with box.http(box.keys[0]) as http:
        assert http.get(export).status_code == 403


def test_exports_have_a_begin_and_an_end(box):
    today = datetime.datetime.now(datetime.UTC).date()
    rows = lambda *arguments: box.cli("usage", "export", *arguments).stdout.count("\n") - 1
    assert rows("--from", str(today - datetime.timedelta(days=2)), "--to", str(today + datetime.timedelta(days=2))) == 6
    assert rows("--to", str(today - datetime.timedelta(days=2))) == 0
    assert rows("--from", str(today + datetime.timedelta(days=2))) == 0
    for wrong in (["--from", "tomorrow"], ["--from", "2026-02-02", "--to", "2026-02-02"]):
        assert box.cli("usage", "export", *wrong, check=False).returncode == 2


def test_months_are_summed_by_whom(box):
    rows = json.loads(box.cli("usage", "--by", "month,user", "--json").stdout)
    assert [(row["user"], row["requests"]) for row in rows] == [("anna", 4), ("kim", 2)]
    assert all(re.fullmatch(r"\d{4}-\d\d", row["month"]) for row in rows)
    assert json.loads(box.cli("usage", "--by", "month", "--month", "2020-01", "--json").stdout) == []


def test_what_other_servers_take_is_counted_at_the_price_of_then(tmp_path):
    def config(prices: str) -> str:
        return f"""
            [[upstream]]
            name = "scripted"
            base_url = "{upstream.url}/v1"
            models = ["good"]
            aliases = {{ helper = "good" }}
            prices = {{ {prices} }}
        """

    with ScriptedUpstream() as upstream:
        server = allerac.Server(allerac.data_dir(tmp_path / "data"), config=config("good = { input = 2.5, output = 10.125 }, helper = { input = 1, output = 0 }"))
        with server:
            owner = server.claim("olga")
            key = server.create_key("tina", "--plan", "pro", "--allow-upstream", "all")
            began = int(time.time())

            def ask(model: str):
                asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
                with server.client(key) as client:
                    list(client.chat.completions.create(**asked, stream=True))

            ask("good")
            ask(allerac.MODEL)
            books = allerac.Books(server.data)
            assert books.settled(2)[0][1:] == (11, 7)
            cost = 11 * 2500 + 7 * 10125
            # Another price does not change what was.
            server.stop()
            server.config.write_text('currency = "USD"\n' + allerac.COMMON_CONFIG + config("good = { input = 0, output = 0.001 }"))
            server.start()
            ask("good")
            books.settled(3)
            more = 7
            assert [row[0] for row in books.rows("SELECT cost FROM usage ORDER BY id")] == [cost, 0, more]
            books.close()
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", admin_api_key=owner, max_retries=0)
            costs = client.admin.organization.usage.costs
            (result,) = results(costs(start_time=began))
            assert result["object"] == "organization.costs.result"
            assert result["amount"]["currency"] == "usd"
            assert result["amount"]["value"] == pytest.approx((cost + more) / 1e9, abs=1e-12)
            items = results(costs(start_time=began, group_by=["line_item"], limit=180))
            amounts = {item["line_item"]: round(item["amount"]["value"] * 1e9) for item in items}
            assert amounts == {"good": cost + more, allerac.MODEL: 0}
            server.cli("ledger", "verify")
    for wrong, word in [("good = { input = -1, output = 1 }", "no price"), ("good = { input = 0.0001, output = 1 }", "no price"),
                        ("nobody = { input = 1, output = 1 }", "not in this upstream's models")]:  # fmt: skip
        server.config.write_text(config(wrong))
        done = allerac.cli("doctor", "--config", str(server.config), "--data-dir", str(server.data), check=False)
        assert word in done.stdout, done.stdout
