"""The box measures itself: `/metrics` as Prometheus reads it.

The official parser reads the text, and the numbers are held against what clients were told.
"""

import os
import signal
from collections import Counter

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import allerac
from scripted import ScriptedUpstream

SECRET_WORD = "xylophonist"
STORY = f"The {SECRET_WORD} practised every evening beside the harbour, and nobody ever complained. " * 12


class Figures:
    """One scrape."""

    def __init__(self, text: str):
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def sum(self, name: str, **labels) -> float:
        wanted = [sample for sample in self.samples if sample.name == f"allerac_{name}"]
        return sum(sample.value for sample in wanted if labels.items() <= sample.labels.items())

    def counters(self) -> dict:
        """Everything that must never fall."""
        grows = [family for family in self.families.values() if family.type in ("counter", "histogram")]
        samples = [sample for family in grows for sample in family.samples]
        return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def scrape(server, key) -> Figures:
    with server.http(key) as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return Figures(answer.text)


def told(server, key, requests: int) -> Figures:
    """A scrape in which the engine has told how so many requests ended."""

    def probe():
        figures = scrape(server, key)
        return figures if figures.sum("engine_requests_ended_total") == requests else None

    return allerac.wait_for(f"the engine tells of {requests} requests", probe)


@pytest.fixture
def owner(fresh):
    return fresh.claim()


def ask(client, text=STORY, **options):
    options = {"max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": text}]} | options
    return client.chat.completions.create(model=allerac.MODEL, **options)


def stream(client, **options):
    """The usage of a streamed answer, and how many pieces with text came."""
    pieces, usage = 0, None
    for part in ask(client, stream=True, stream_options={"include_usage": True}, **options):
        usage = part.usage or usage
        pieces += bool(part.choices and part.choices[0].delta.content)
    return usage, pieces


def test_only_the_owner_may_look(fresh, owner):
    member = fresh.create_key("anna")
    codes = {None: "invalid_api_key", "nonsense": "invalid_api_key", member: "owner_only"}
    for key, code in codes.items():
        with fresh.http(key) as http:
            answer = http.get("/metrics")
        status = 403 if key == member else 401
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "allerac_" not in answer.text
    figures = scrape(fresh, owner)
    refused = {"route": "/metrics", "method": "GET"}
    assert figures.sum("http_requests_total", status="401", **refused) == 2
    assert figures.sum("http_requests_total", status="403", **refused) == 1
    # A second key of the owner's opens it, and no longer when it is revoked.
    second = fresh.create_key("olga", "--name", "prometheus", "--plan", "starter")
    scrape(fresh, second)
    fresh.cli("keys", "revoke", second.split("-")[2])
    with fresh.http(second) as http:
        assert http.get("/metrics").status_code == 401


def test_the_counts_are_those_of_the_answers(fresh, owner):
    key = fresh.create_key("anna", "--plan", "pro")
    with fresh.client(key) as client, fresh.http(key) as http:
        first = ask(client).usage
        again = ask(client).usage
        patient = ask(client, "Say hello.", service_tier="flex").usage
        urgent, pieces = stream(client, service_tier="priority", logit_bias=allerac.NEVER_END)
        two = client.completions.create(model=allerac.MODEL, prompt="1, 2, 3,", n=2, max_tokens=4).usage
        http.get("/v1/models")
        assert http.get(f"/v1/{SECRET_WORD}").status_code == 404
        assert http.post("/v1/completions", json={"model": SECRET_WORD, "prompt": "x"}).status_code == 404
        too_long = {"model": allerac.MODEL, "prompt": "x", "max_tokens": allerac.CONTEXT}
        assert http.post("/v1/completions", json=too_long).status_code == 400
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens
    figures = told(fresh, owner, 6)

    local = {"model": allerac.MODEL, "served_by": "local"}
    for kind, of in [
        ("prompt", lambda usage: usage.prompt_tokens),
        ("cached", lambda usage: usage.prompt_tokens_details.cached_tokens),
        ("completion", lambda usage: usage.completion_tokens),
    ]:
        assert figures.sum("tokens_total", kind=kind, **{"class": "chat"}, **local) == of(first) + of(again) + of(two)
        assert figures.sum("tokens_total", kind=kind, **{"class": "batch"}, **local) == of(patient)
        assert figures.sum("tokens_total", kind=kind, **{"class": "voice"}, **local) == of(urgent)
    usages = [first, again, patient, urgent, two]
    produced = sum(usage.completion_tokens for usage in usages)
    assert figures.sum("engine_output_tokens_total", model=allerac.MODEL) == produced

    chat, plain = {"endpoint": "chat.completions"}, {"endpoint": "completions"}
    assert figures.sum("requests_total", outcome="completed", **chat, **local) == 4
    assert figures.sum("requests_total", outcome="completed", **plain, **local) == 1
    assert figures.sum("requests_total", outcome="refused", **plain, **local) == 1
    assert figures.sum("requests_total") == 6, "what was not routed is no generation"
    route = {"route": "/v1/completions", "method": "POST"}
    statuses = {status: figures.sum("http_requests_total", status=status, **route) for status in ("200", "400", "404")}
    assert statuses == {"200": 1, "400": 1, "404": 1}
    assert figures.sum("http_requests_total", route="/v1/chat/completions", status="200") == 4
    assert figures.sum("http_requests_total", route="other", status="404") == 1

    # One first token for each request; each choice was queued once.
    assert figures.sum("time_to_first_token_seconds_count", **local) == 5
    assert figures.sum("request_duration_seconds_count", **local) == 5
    assert figures.sum("queue_time_seconds_count", **local) == 6
    gaps = figures.sum("inter_token_latency_seconds_count", **{"class": "voice"}, **local)
    assert pieces - 1 <= gaps <= urgent.completion_tokens - 1
    first_token = figures.sum("time_to_first_token_seconds_sum", **local)
    assert 0 < first_token < figures.sum("request_duration_seconds_sum", **local) < 120


def test_the_engine_tells_where_prompts_come_from(fresh, owner):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        first = ask(client).usage.prompt_tokens
        ask(client)
        figures = told(fresh, owner, 2)
        sources = "engine_prompt_tokens_total"
        assert figures.sum(sources, source="computed") == first
        assert figures.sum(sources, source="slot") == first
        assert figures.sum("engine_kv_cells_used", state="kept") > first
        assert figures.sum("engine_kv_cells_used", state="active") == 0
        assert figures.sum("engine_requests") == 0
        assert figures.sum("engine_step_time_seconds_count", phase="prefill") >= 1
        assert 0 < figures.sum("engine_step_time_seconds_sum", phase="decode") < 60
        assert figures.sum("engine_chunk_tokens") > 1
        assert figures.sum("model_state", state="ready", model=allerac.MODEL) == 1
        assert figures.sum("model_state") == len({sample.labels["model"] for sample in figures.samples
                                                  if sample.name == "allerac_model_state"})  # fmt: skip
    assert fresh.stop() == 0
    # What was known is on disk now; the counters begin anew with the server.
    fresh.start()
    assert scrape(fresh, owner).sum("engine_output_tokens_total") == 0
    with fresh.client(key) as client:
        ask(client)
    figures = told(fresh, owner, 1)
    assert figures.sum("engine_prompt_tokens_total", source="disk") == first
    assert figures.sum("engine_prompt_tokens_total") == first
    assert figures.sum("engine_archive_entries") == 1
    assert figures.sum("engine_archive_bytes", tier="disk") > 0 < figures.sum("engine_archive_bytes", tier="memory")


def test_nothing_of_a_person_or_a_prompt_is_told(fresh, owner):
    key = fresh.create_key("wilhelmina", "--name", "grandmother")
    with fresh.client(key) as client, fresh.http(key) as http:
        answer = ask(client, user=SECRET_WORD).choices[0].message.content
        http.get(f"/v1/models/{SECRET_WORD}")
        http.post("/v1/chat/completions", json={"model": SECRET_WORD, "messages": []})
        http.request(SECRET_WORD.upper(), f"/{SECRET_WORD}?{SECRET_WORD}")
    text = told(fresh, owner, 1).text
    words = [SECRET_WORD, "harbour", "wilhelmina", "grandmother", "olga", answer[:20]]
    parts = [part for each in (key, owner) for part in each.split("-")[2:] if len(part) > 5]
    for word in [*words, *parts, "sk-allerac", "127.0.0.1", str(fresh.data)]:
        assert word.lower() not in text.lower(), word
    names = {name for sample in Figures(text).samples for name in sample.labels}
    assert names == {
        "model", "class", "served_by", "endpoint", "outcome", "kind", "route", "method", "status", "state", "reason",
        "source", "phase", "tier", "version", "le",
    }  # fmt: skip


def test_counters_never_fall_when_an_engine_is_killed(fresh, owner):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        usage = ask(client).usage
        before = told(fresh, owner, 1)
        (engine,) = fresh.engine_pids()
        os.kill(engine, signal.SIGKILL)
        crashed = allerac.wait_for("the crash is counted", lambda: died(fresh, owner))
        assert_none_fell(before, crashed)
        fresh.wait_ready()
        more = ask(client, "Say hello.").usage
    after = told(fresh, owner, 2)
    assert_none_fell(crashed, after)
    produced = usage.completion_tokens + more.completion_tokens
    assert after.sum("engine_output_tokens_total") == produced == after.sum("tokens_total", kind="completion")
    assert after.sum("engine_crashes_total") == 1
    assert after.sum("model_state", state="ready") == 1


def died(server, key) -> Figures | None:
    figures = scrape(server, key)
    return figures if figures.sum("engine_crashes_total") == 1 else None


def assert_none_fell(before: Figures, after: Figures):
    now = after.counters()
    assert {name: (value, now.get(name)) for name, value in before.counters().items() if now.get(name, -1) < value} == {}


def test_a_request_that_fails_and_one_whose_client_leaves_are_counted(fresh, owner):
    key = fresh.create_key("anna")
    endless = {"max_tokens": 1500, "logit_bias": allerac.NEVER_END}
    with fresh.client(key) as client:
        running = ask(client, stream=True, **endless)
        next(iter(running))
        assert scrape(fresh, owner).sum("requests_in_flight") == 1
        running.close()
        allerac.wait_for("the engine is free", lambda: scrape(fresh, owner).sum("requests_in_flight") == 0)
        with pytest.raises(Exception, match="engine"):
            for count, _ in enumerate(ask(client, stream=True, **endless)):
                if count == 5:
                    os.kill(fresh.engine_pids()[0], signal.SIGKILL)
    figures = scrape(fresh, owner)
    outcomes = Counter()
    for sample in figures.samples:
        if sample.name == "allerac_requests_total":
            outcomes[sample.labels["outcome"]] += sample.value
    assert outcomes == {"cancelled": 1, "failed": 1}
    assert figures.sum("request_duration_seconds_count") == 0


def test_what_leaves_the_box_is_measured_too(tmp_path):
    with ScriptedUpstream() as upstream:
        config = f'[[upstream]]\nname = "away"\nbase_url = "{upstream.url}/v1"\nmodels = ["good", "fails"]\n'
        with allerac.Server(allerac.data_dir(tmp_path / "data"), config=config) as server:
            owner = server.claim()
            key = server.create_key("tina", "--plan", "pro", "--allow-upstream", "away")
            with server.client(key) as client:
                messages = [{"role": "user", "content": "hello"}]
                list(client.chat.completions.create(model="good", messages=messages, stream=True))
                with pytest.raises(Exception, match="status 500"):
                    client.chat.completions.create(model="fails", messages=messages)
            figures = scrape(server, owner)
    away = {"model": "good", "served_by": "upstream:away", "class": "chat"}
    tokens = {kind: figures.sum("tokens_total", kind=kind, **away) for kind in ("prompt", "cached", "completion")}
    assert tokens == {"prompt": 11, "cached": 5, "completion": 7}
    assert figures.sum("requests_total", outcome="completed", **away) == 1
    assert figures.sum("time_to_first_token_seconds_count", **away) == 1
    assert figures.sum("inter_token_latency_seconds_count", **away) == 2
    assert figures.sum("requests_total", outcome="refused", model="fails") == 1
    assert figures.sum("http_requests_total", status="502") == 1
