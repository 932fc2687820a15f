"""Money for other servers: budgets of plans and of servers, over HTTP, against a server that a script plays."""

import csv
import io
import json
import threading

import httpx
import pytest

import allerac
from scripted import ScriptedUpstream

UNIT = 1_000_000_000
# Billionths of the currency for a token: of a prompt, of a prompt that is known, of output.
INPUT, CACHED, OUTPUT = 100_000, 10_000, 200_000
# As the scripted server tells: 11 of the prompt, 5 of them known, and 7 of output.
GOOD = 6 * INPUT + 5 * CACHED + 7 * OUTPUT
MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def upstream():
    with ScriptedUpstream() as running:
        yield running


def config(upstream, more: str = "") -> str:
    price = "{ input = 100, cached_input = 10, output = 200 }"
    return f"""
        currency = "USD"
        {allerac.COMMON_CONFIG}
        [energy]
        price_per_kwh = 0.25
        [[upstream]]
        name = "far"
        base_url = "{upstream.url}/v1"
        models = ["good", "waits", "endless"]
        prices = {{ good = {price}, waits = {price}, endless = {price} }}
        {more}
    """


@pytest.fixture
def box(tmp_path, upstream):
    upstream.seen.clear()
    server = allerac.Server(allerac.data_dir(tmp_path / "data"))
    server.config.write_text(config(upstream))
    with server:
        server.owner = server.claim("olga")
        yield server


def member(box, name: str, budget: str) -> str:
    box.cli("plans", "add", f"for-{name}", "--upstream-budget", budget)
    return box.create_key(name, "--plan", f"for-{name}", "--allow-upstream", "all")


def spending(box, name: str) -> dict:
    with box.http(box.owner) as http:
        return http.get(f"/v1/admin/people/{name}").raise_for_status().json()["spending"]


def stands(limit, used, reserved=0) -> dict:
    free = None if limit is None else max(limit - used - reserved, 0)
    return {"limit_billionths": limit, "used_billionths": used, "reserved_billionths": reserved, "free_billionths": free}


def ask(http, model="good", **more) -> httpx.Response:
    return http.post("/v1/chat/completions", json={"model": model, "messages": MESSAGES, "stream": True, **more})


def test_a_request_is_paid_to_the_billionth_and_refused_before_the_server_is_asked(box, upstream):
    key = member(box, "anna", "0.01")
    with box.http(key) as http:
        assert ask(http, max_tokens=7).headers["x-allerac-served-by"] == "upstream:far"
        assert spending(box, "anna") == stands(UNIT // 100, GOOD)
        asked = len(upstream.seen)
        # Without a bound an answer may be long, and dear.
        refused = ask(http)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["type"]) == (429, "insufficient_quota", "insufficient_quota")
        assert "0.00795 of the 0.01 USD a month that your plan has for other servers are left" in error["message"]
        assert refused.headers["x-should-retry"] == "false" and 0 < int(refused.headers["retry-after"]) <= 31 * 86_400
        refused = http.post("/v1/messages", json={"model": "good", "messages": MESSAGES, "max_tokens": 4096})
        assert (refused.status_code, refused.json()["error"]["type"]) == (402, "billing_error")
        assert http.post("/api/chat", json={"model": "good", "messages": MESSAGES}).status_code == 429
        assert len(upstream.seen) == asked
        # What this box computes costs nothing of it.
        short = {"model": allerac.MODEL, "messages": MESSAGES, "max_tokens": 2}
        assert http.post("/v1/chat/completions", json=short).headers["x-allerac-served-by"] == "local"
        assert http.get("/v1/account").json()["person"]["spending"] == stands(UNIT // 100, GOOD)
    box.cli("ledger", "verify")


def test_an_answer_is_bound_where_money_is_and_passes_as_it_is_elsewhere(box, upstream):
    with box.http(member(box, "anna", "5")) as http:
        ask(http)
        assert upstream.seen[-1][2]["max_completion_tokens"] == 4096 and "max_tokens" not in upstream.seen[-1][2]
        http.post("/v1/completions", json={"model": "good", "prompt": "Hi", "stream": True})
        assert upstream.seen[-1][2]["max_tokens"] == 4096
        ask(http, max_tokens=9)
        assert upstream.seen[-1][2]["max_tokens"] == 9 and "max_completion_tokens" not in upstream.seen[-1][2]
    with box.http(member(box, "kim", "none")) as http:
        ask(http)
        assert not {"max_tokens", "max_completion_tokens"} & set(upstream.seen[-1][2])
    assert spending(box, "kim") == stands(None, GOOD)


def test_a_plan_is_changed_over_the_api_and_forgets_nothing(box):
    key = member(box, "anna", "5")
    with box.http(key) as http, box.http(box.owner) as owner:
        ask(http, max_tokens=7)
        limits = owner.post("/v1/admin/plans/for-anna", json={"upstream_budget_billionths": 2_000_000}).json()["limits"]
        assert limits["upstream_budget_billionths"] == 2_000_000
        assert spending(box, "anna") == stands(2_000_000, GOOD)
        assert ask(http, max_tokens=7).status_code == 429
        for wrong in (-1, 1.5, "5", 10**15 + 1):
            refused = owner.post("/v1/admin/plans/for-anna", json={"upstream_budget_billionths": wrong})
            assert refused.status_code == 400, wrong
        owner.post("/v1/admin/plans/for-anna", json={"upstream_budget_billionths": None}).raise_for_status()
        assert ask(http, max_tokens=7).status_code == 200
    assert spending(box, "anna") == stands(None, 2 * GOOD)


def test_a_server_has_a_budget_of_its_own_for_all_together(box, upstream):
    box.stop()
    box.config.write_text(config(upstream, "budget_a_month = 0.004"))
    box.start()
    keys = [member(box, name, "5") for name in ("anna", "kim")]
    with box.http(keys[0]) as http:
        assert ask(http, max_tokens=7).status_code == 200
    with box.http(keys[1]) as http:
        refused = ask(http, max_tokens=7)
        assert refused.status_code == 429
        assert "everybody together has for the server far" in refused.json()["error"]["message"]
        assert http.get("/v1/admin/upstreams").status_code == 403
    with box.http(box.owner) as http:
        (far,) = http.get("/v1/admin/upstreams").raise_for_status().json()["data"]
        price = {"input_billionths": INPUT, "cached_input_billionths": CACHED, "output_billionths": OUTPUT}
        assert far["prices"] == [{"model": name, **price} for name in ("endless", "good", "waits")]
        assert (far["id"], far["currency"], far["models"]) == ("far", "usd", ["good", "waits", "endless"])
        assert far["spending"] == stands(4_000_000, GOOD)
    table = box.cli("usage", "upstreams").stdout.splitlines()
    assert table[1].split() == ["far", "0.00205", "0.00", "0.00195", "0.004", "USD"]
    assert spending(box, "kim") == stands(5 * UNIT, 0)


def test_of_many_that_race_exactly_those_that_fit_reach_the_server(box, upstream):
    # What one may cost: its prompt is estimated by its bytes, three for a token.
    prompt = -(-len(json.dumps(MESSAGES, separators=(",", ":"))) // 3)
    most = prompt * INPUT + 7 * OUTPUT
    key = member(box, "anna", f"{3 * most + most - 1:010d}"[:-9] + "." + f"{4 * most - 1:010d}"[-9:])
    answers = []

    def one():
        with box.http(key) as http:
            answers.append(ask(http, model="waits", max_tokens=7).status_code)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    allerac.wait_for("three to get through", lambda: len(upstream.seen) == 3 and answers.count(429) == 9)
    assert spending(box, "anna") == stands(4 * most - 1, 0, 3 * most)
    for _ in range(3):
        upstream.go_on.release()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 3 + [429] * 9
    # It told 11 and 8, one more than was asked for: it is believed.
    assert spending(box, "anna") == stands(4 * most - 1, 3 * (11 * INPUT + 8 * OUTPUT))
    box.cli("ledger", "verify")


def test_a_server_that_is_killed_owes_what_was_counted(box, upstream):
    key = member(box, "anna", "5")
    with box.http(key) as http, http.stream("POST", "/v1/chat/completions", json={
        "model": "waits", "messages": MESSAGES, "stream": True, "max_tokens": 500,
    }) as answer:  # fmt: skip
        words = (line for line in answer.iter_lines() if "word" in line)
        for _ in range(3):
            next(words)
        assert spending(box, "anna")["reserved_billionths"] > 500 * OUTPUT
        box.kill()
    upstream.go_on.release()
    box.start()
    prompt = -(-len(json.dumps(MESSAGES, separators=(",", ":"))) // 3)
    # Three events, and the bytes of eighteen letters.
    assert spending(box, "anna") == stands(5 * UNIT, prompt * INPUT + 5 * OUTPUT)
    box.cli("ledger", "verify")


def test_exports_and_costs_show_what_was_spent(box):
    with box.http(member(box, "anna", "5")) as http:
        ask(http, max_tokens=7)
    (row,) = csv.DictReader(io.StringIO(box.cli("usage", "export").stdout))
    assert (row["served_by"], int(row["cost"])) == ("upstream:far", GOOD)
    with box.http(box.owner) as http:
        page = http.get("/v1/organization/costs", params={"start_time": int(row["created_at"])}).json()
        (cost,) = [result for bucket in page["data"] for result in bucket["results"]]
        assert cost["amount"] == {"value": pytest.approx(GOOD / UNIT, abs=1e-12), "currency": "usd"}


def test_owning_is_compared_with_renting(box, upstream):
    with box.http(member(box, "anna", "5")) as http:
        ask(http, max_tokens=7)
    assert "no machine is named" in box.cli("usage", "owning").stdout
    box.stop()
    machine = """
        [[owning]]
        name = "rack"
        price = 2000
        years = 4
        watts = 450
        idle_watts = 50
        prompt_tokens_a_second = 2000
        output_tokens_a_second = 400
        models = ["good"]
    """
    box.config.write_text(config(upstream, machine))
    box.start()
    (told,) = json.loads(box.cli("usage", "owning", "--json").stdout)
    with box.http(box.owner) as http:
        owning = http.get("/v1/admin/usage/owning").raise_for_status().json()
        assert http.get("/v1/admin/usage/owning?month=1999-01").status_code == 400
    (same,) = owning["machines"]
    # A moment lies between the two.
    assert 0 <= same["seconds"] - told["seconds"] <= 60
    seconds, busy_us = same["seconds"], 6 * 1_000_000 // 2000 + 7 * 1_000_000 // 400
    energy_uj = busy_us * 450 + (seconds * 1_000_000 - busy_us) * 50
    assert same == {
        "name": "rack", "seconds": seconds, "busy_seconds": 0, "machines": 1, "rented_billionths": GOOD,
        "price_share_billionths": 2000 * UNIT * seconds // (4 * 31_557_600),
        "electricity_billionths": energy_uj * UNIT // 4 // 3_600_000_000_000, "is_cheaper": False, "paid_back_days": None,
    }  # fmt: skip
    assert "renting was cheaper" in box.cli("usage", "owning").stdout


def test_budgets_that_cannot_be_are_refused_with_the_reason(box, upstream):
    for more, word in [("budget_a_month = -1", "no price"), ("budget_a_month = 0.0000001", "no price"), ('budget_a_month = "5"', "budget_a_month")]:
        box.config.write_text(config(upstream, more))
        done = allerac.cli("doctor", "--config", str(box.config), "--data-dir", str(box.data), check=False)
        assert word in done.stdout, done.stdout
    for wrong in ("-1", "1e3", "0.0000000001"):
        assert box.cli("plans", "set", "pro", f"--upstream-budget={wrong}", check=False).returncode == 2
