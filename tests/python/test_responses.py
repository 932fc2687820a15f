"""The Responses API: OpenAI's shapes and events, kept responses, and what runs in the background."""

import json
import threading

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseItemList, ResponseStreamEvent
from pydantic import TypeAdapter

import allerac

EVENT = TypeAdapter(ResponseStreamEvent)
TOOL = {
    "type": "function", "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip
# What OpenAI's document requires of a response, beside what the client's own types insist on.
REQUIRED = {
    "id", "object", "created_at", "status", "completed_at", "error", "incomplete_details", "instructions", "metadata",
    "model", "output", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "background",
    "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "reasoning",
    "safety_identifier", "service_tier", "store", "text", "top_logprobs", "truncation", "usage", "user",
}  # fmt: skip

# What the scripted server has.
SCRIPTED_MODELS = ["good", "thinks", "calls", "mixes", "endless", "cut", "fails", "refuses", "several"]


@pytest.fixture(scope="module")
def key(box):
    return box.create_key("tina", "--plan", "pro", "--allow-upstream", "all")


@pytest.fixture
def client(box, key):
    with box.client(key) as made:
        yield made


@pytest.fixture
def http(box, key):
    with box.http(key) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(box):
    with box.client(box.create_key("sue", "--plan", "pro", "--allow-upstream", "all")) as made:
        yield made


def checked(response: dict) -> Response:
    """A response that has every key, and types that are right without being coerced."""
    assert REQUIRED <= response.keys(), REQUIRED - response.keys()
    return Response.model_validate(response, strict=True)


def create(http, model=allerac.MODEL, **options) -> Response:
    body = {"model": model, "input": "List the months of the year.", "temperature": 0} | options
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    return checked(answer.json())


def events_of(lines) -> list[dict]:
    """The events of a stream, each valid and with the name that its line says."""
    events, name = [], None
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert event["type"] == name
            EVENT.validate_python(event, strict=True)
            if "response" in event:
                checked(event["response"])
            events.append(event)
    return events


def stream(http, model=allerac.MODEL, **options) -> list[dict]:
    body = {"model": model, "input": "List the months of the year.", "temperature": 0, "stream": True} | options
    with http.stream("POST", "/v1/responses", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        events = events_of(answer.iter_lines())
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def kinds(events) -> list[str]:
    """The types of events, each run of deltas as one."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for place, name in enumerate(names) if place == 0 or not (name.endswith("delta") and names[place - 1] == name)]


# Shapes.


def test_a_response_has_every_field(http):
    response = create(http, instructions="You are a helpful assistant.", metadata={"a": "b"}, max_output_tokens=300, user="u")
    assert response.status == "completed"
    assert response.completed_at >= response.created_at
    assert response.id.startswith("resp_")
    (message,) = response.output
    assert message.id.startswith("msg_")
    assert (message.role, message.status, message.content[0].annotations) == ("assistant", "completed", [])
    assert response.output_text == message.content[0].text != ""
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert (response.instructions, response.metadata, response.user) == ("You are a helpful assistant.", {"a": "b"}, "u")
    assert (response.temperature, response.max_output_tokens, response.store) == (0.0, 300, True)


def test_the_answer_is_that_of_a_chat_completion(client, http):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]
    chat = client.chat.completions.create(model=allerac.MODEL, messages=messages, temperature=0, max_tokens=20)
    response = create(http, input=messages[1:], instructions="Be brief.", max_output_tokens=20)
    assert response.output_text == chat.choices[0].message.content
    assert (response.usage.input_tokens, response.usage.output_tokens) == (
        chat.usage.prompt_tokens, chat.usage.completion_tokens,
    )  # fmt: skip


def test_the_events_come_in_order(http):
    events = stream(http)
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    final = events[-1]["response"]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    done = next(event for event in events if event["type"] == "response.output_text.done")
    assert text == done["text"] == final["output"][0]["content"][0]["text"]
    assert final["output"] == [next(e["item"] for e in events if e["type"] == "response.output_item.done")]
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert events[0]["response"]["usage"] is None


def test_an_answer_that_is_cut_is_incomplete(http):
    options = {"max_output_tokens": 3, "input": "Tell a long story."}
    response = create(http, **options)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (response.output[0].status, response.completed_at) == ("incomplete", None)
    assert stream(http, **options)[-1]["type"] == "response.incomplete"


def test_log_probabilities_come_with_the_text(http):
    options = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 5}
    response = create(http, **options)
    logprobs = response.output[0].content[0].logprobs
    assert len(logprobs) == response.usage.output_tokens
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)
    deltas = [event for event in stream(http, **options) if event["type"] == "response.output_text.delta"]
    assert sum(len(event["logprobs"]) for event in deltas) == len(logprobs)


def test_log_probabilities_come_from_other_servers_too(http, scripted):
    response = create(http, "several", include=["message.output_text.logprobs"], top_logprobs=2)
    (entry,) = response.output[0].content[0].logprobs
    assert (entry.token, entry.logprob, [top.token for top in entry.top_logprobs]) == ("so ", -0.25, ["so ", "no "])
    sent = scripted.seen[-1][2]
    assert (sent["logprobs"], sent["top_logprobs"], "n" in sent) == (True, 2, False)


def test_an_answer_of_a_schema_is_of_the_schema(client):
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "name": "s", "schema": schema, "strict": True}}
    response = client.responses.create(model=allerac.MODEL, input="What is 2+2?", text=form, max_output_tokens=200)
    assert json.loads(response.output_text).keys() == {"sum"}
    assert response.text.format.name == "s"


# Thoughts and calls.


def test_the_oldest_turns_are_left_out_where_the_client_wants_that(http):
    """As if they had not been sent: the first that is too long, and the answer to it."""
    said = ["word " * 5000, "A lot.", "Say hello.", "Hello.", "And again."]
    talk = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    told = {"instructions": "Be brief.", "max_output_tokens": 8, "temperature": 0}
    refused = http.post("/v1/responses", json={"model": allerac.MODEL, "input": talk} | told)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    cut, short = create(http, input=talk, truncation="auto", **told), create(http, input=talk[2:], **told)
    assert (cut.truncation, short.truncation) == ("auto", "disabled")
    assert (cut.output_text, cut.usage.input_tokens) == (short.output_text, short.usage.input_tokens)
    alone = http.post("/v1/responses", json={"model": allerac.MODEL, "input": talk[:1], "truncation": "auto"})
    assert alone.json()["error"]["code"] == "context_length_exceeded"


def test_thoughts_are_items_of_their_own(http):
    response = create(http, "thinks")
    thought, message = response.output
    assert (thought.type, thought.summary, thought.content[0].text) == ("reasoning", [], "two and two")
    assert (message.content[0].text, response.usage.output_tokens_details.reasoning_tokens) == ("four", 3)
    events = stream(http, "thinks")
    assert kinds(events)[2:7] == [
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
    ]  # fmt: skip


def test_a_wanted_summary_tells_the_thought(http):
    response = create(http, "thinks", reasoning={"effort": "low", "summary": "auto"})
    assert response.output[0].summary[0].text == "two and two"
    assert response.reasoning.effort == "low"
    assert kinds(stream(http, "thinks", reasoning={"summary": "auto"}))[2:7] == [
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done",
    ]  # fmt: skip


def test_a_sealed_thought_comes_back(http, scripted, stranger):
    response = create(http, "thinks", store=False, include=["reasoning.encrypted_content"])
    thought = response.output[0].model_dump(exclude={"content"})
    assert "two and two" not in thought["encrypted_content"]
    again = [thought, {"role": "assistant", "content": "four"}, {"role": "user", "content": "sure?"}]
    create(http, "good", input=again, store=False)
    assert scripted.seen[-1][2]["messages"][0]["reasoning_content"] == "two and two"
    with pytest.raises(openai.BadRequestError) as caught:
        stranger.responses.create(model="good", input=again)
    assert (caught.value.code, caught.value.param) == ("invalid_encrypted_content", "input[0].encrypted_content")


def test_tools_are_called_and_their_outputs_go_back(client, scripted):
    first = client.responses.create(model="calls", input="Weather in Köln and Bonn?", tools=[TOOL])
    calls = first.output
    assert [(call.type, call.name, json.loads(call.arguments)) for call in calls] == [
        ("function_call", "get_weather", {"city": "Köln"}), ("function_call", "get_weather", {"city": "Bonn"}),
    ]  # fmt: skip
    assert all(call.id.startswith("fc_") for call in calls)
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls]
    second = client.responses.create(model="good", input=outputs, previous_response_id=first.id, tools=[TOOL])
    assert second.output_text == "word0 word1 word2 "
    sent = scripted.seen[-1][2]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent["messages"][1]["tool_calls"]] == [call.call_id for call in calls]
    assert sent["tools"][0]["function"]["name"] == "get_weather"
    # The same by sending all items back.
    items = [{"role": "user", "content": "Weather in Köln and Bonn?"}, *calls, *outputs]
    client.responses.create(model="good", input=items, tools=[TOOL], store=False)
    assert scripted.seen[-1][2]["messages"] == sent["messages"]


@pytest.mark.parametrize("model", ["calls", "mixes"])
def test_streamed_calls_arrive_whole(http, model):
    events = stream(http, model, tools=[TOOL])
    arguments = [item["arguments"] for item in events[-1]["response"]["output"]]
    assert [json.loads(text)["city"] for text in arguments] == ["Köln", "Bonn"]
    for place in (0, 1):
        deltas = [e["delta"] for e in events if e["type"].endswith("arguments.delta") and e["output_index"] == place]
        assert "".join(deltas) == arguments[place]
    if model == "calls":
        call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
        assert kinds(events) == ["created", "in_progress", *call, *call, "completed"]


def test_a_choice_of_tools_reaches_the_model(http, scripted):
    other = TOOL | {"name": "other"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "other"}]}
    response = create(http, "good", tools=[TOOL, other], tool_choice=allowed, parallel_tool_calls=False)
    assert [tool.name for tool in response.tools] == ["get_weather", "other"]
    sent = scripted.seen[-1][2]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["other"]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("required", False)


# Kept responses.


def test_a_chain_of_responses_is_one_conversation(client, http, scripted):
    first = create(http, "good", input="one", instructions="Be first.")
    second = create(http, "good", input="two", previous_response_id=first.id, instructions="Be second.")
    third = create(http, "good", input="three", previous_response_id=second.id)
    said = [(m["role"], m["content"]) for m in scripted.seen[-1][2]["messages"]]
    answer = ("assistant", "word0 word1 word2 ")
    # Instructions are not carried on.
    assert said == [("user", "one"), answer, ("user", "two"), answer, ("user", "three")]
    items = client.responses.input_items.list(third.id, order="asc", limit=2)
    texts = [item.content[0].text for item in items]
    assert texts == ["one", answer[1], "two", answer[1], "three"]
    raw = http.get(f"/v1/responses/{third.id}/input_items", params={"limit": 2}).json()
    page = ResponseItemList.model_validate(raw, strict=True)
    assert (page.has_more, page.data[0].content[0].text, page.first_id) == (True, "three", page.data[0].id)
    # A chain does not break where a response of it is deleted.
    client.responses.delete(first.id)
    create(http, "good", input="four", previous_response_id=third.id)


def test_a_kept_response_is_told_again_and_forgotten(client, http):
    made = create(http)
    assert http.get(f"/v1/responses/{made.id}").json() == json.loads(made.model_dump_json(exclude_unset=True))
    client.responses.delete(made.id)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        create_by(client, previous_response_id=made.id)
    assert caught.value.param == "previous_response_id"


def create_by(client, **options):
    return client.responses.create(**({"model": "good", "input": "hi"} | options))


def test_what_is_not_to_be_kept_is_not(client, http):
    made = create(http, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_response_is_its_owners_alone(client, stranger):
    made = create_by(client)
    item = made.output[0].id
    assert client.responses.create(model="good", input=[{"type": "item_reference", "id": item}]).status == "completed"
    for call in (stranger.responses.retrieve, stranger.responses.delete, stranger.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.NotFoundError):
        list(stranger.responses.input_items.list(made.id))
    with pytest.raises(openai.NotFoundError):
        create_by(stranger, previous_response_id=made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        create_by(stranger, input=[{"type": "item_reference", "id": item}])
    assert caught.value.param == "input[0].id"
    assert client.responses.retrieve(made.id).id == made.id


def test_references_are_bounded(client, http):
    item = {"type": "item_reference", "id": create_by(client).output[0].id}
    create(http, "good", input=[item] * 64)
    answer = http.post("/v1/responses", json={"model": "good", "input": [item] * 65})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


def test_what_was_said_is_sealed_on_the_disk(box, client):
    secret = "a very peculiar sentence about marmalade"
    made = create_by(client, input=secret)
    for name in ("objects.db", "objects.db-wal", "ledger.db", "ledger.db-wal"):
        assert secret.encode() not in (box.data / name).read_bytes()
        assert b"word0 word1" not in (box.data / name).read_bytes()
    assert secret not in box.log
    client.responses.delete(made.id)


def test_tokens_are_counted_before(client, http):
    counted = client.responses.input_tokens.count(model=allerac.MODEL, input="List the months of the year.")
    assert counted.input_tokens == create(http).usage.input_tokens


# Background.


def test_a_response_in_the_background_completes(client):
    made = create_by(client, background=True)
    assert made.status == "queued"
    done = allerac.wait_for("completion", lambda: (r := client.responses.retrieve(made.id)).status == "completed" and r)
    assert done.output_text == "word0 word1 word2 "
    # To cancel what is complete changes nothing.
    assert client.responses.cancel(made.id).status == "completed"


def test_a_stream_goes_on_where_it_was_left(client, http):
    body = {"model": "endless", "input": "hi", "background": True, "stream": True}
    first = []
    with http.stream("POST", "/v1/responses", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                first.append(json.loads(line.removeprefix("data: ")))
            if len(first) == 12:
                break
    assert kinds(first)[:3] == ["created", "queued", "in_progress"]
    made = first[0]["response"]["id"]
    assert client.responses.retrieve(made).status == "in_progress"
    last = first[-1]["sequence_number"]
    rest = []
    for event in client.responses.retrieve(made, stream=True, starting_after=last):
        rest.append(event)
        if len(rest) == 5:
            assert client.responses.cancel(made).status == "cancelled"
    assert [event.sequence_number for event in rest] == list(range(last + 1, last + 1 + len(rest)))
    assert rest[-1].response.status == "cancelled"
    # Also once it is over, and by the header that browsers send.
    path, params = f"/v1/responses/{made}", {"stream": "true"}
    lines = http.get(path, params=params).text.splitlines()
    whole = events_of(lines)
    assert whole[: len(first)] == first
    headers = {"last-event-id": str(last)}
    assert events_of(http.get(path, params=params, headers=headers).text.splitlines()) == whole[last + 1 :]


def test_a_client_that_leaves_ends_what_is_not_in_the_background(box, http, scripted):
    while scripted.abandoned.acquire(blocking=False):
        pass
    with http.stream("POST", "/v1/responses", json={"model": "endless", "input": "hi", "stream": True}) as answer:
        next(answer.iter_lines())
    assert scripted.abandoned.acquire(timeout=20)


def test_what_runs_in_the_background_is_its_owners_alone(client, stranger):
    made = create_by(client, model="endless", background=True)
    for call in (stranger.responses.retrieve, stranger.responses.cancel, stranger.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    with pytest.raises(openai.NotFoundError):
        list(stranger.responses.retrieve(made.id, stream=True))
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_nobody_fills_the_background(client, stranger):
    made = [create_by(client, model="endless", background=True) for _ in range(16)]
    with pytest.raises(openai.APIStatusError) as caught:
        create_by(client, model="endless", background=True)
    assert caught.value.status_code == 503
    create_by(stranger, background=True)
    for response in made:
        client.responses.cancel(response.id)


def test_a_failure_in_the_background_is_told(client):
    made = create_by(client, model="fails", background=True)
    done = allerac.wait_for("failure", lambda: (r := client.responses.retrieve(made.id)).status == "failed" and r)
    assert (done.error.code, "secret" in done.error.message) == ("server_error", False)


def test_a_stream_that_breaks_off_fails(http):
    events = stream(http, "cut")
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"


LONG = {"model": allerac.MODEL, "input": "Tell a story.", "background": True, "extra_body": {"logit_bias": allerac.NEVER_END}}


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_a_box_was_at_in_the_background_is_begun_again(fresh, books, end):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        kept = client.responses.create(model=allerac.MODEL, input="My name is Zoe.", max_output_tokens=4)
        before = {**LONG, "previous_response_id": kept.id, "max_output_tokens": 400, "metadata": {"a": "b"}}
        events = iter(client.responses.create(**before, stream=True))
        seen = [next(events) for _ in range(20)]
        id = seen[0].response.id
        getattr(fresh, end)()
    fresh.start()
    with fresh.client(key) as client:
        made = client.responses.retrieve(id)
        assert made.status in ("queued", "in_progress")
        assert (made.created_at, made.metadata) == (seen[0].response.created_at, {"a": "b"})
        again = list(client.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number))
        # All of the second run, and nothing of the first.
        assert [event.type for event in again[:3]] == ["response.created", "response.queued", "response.in_progress"]
        numbers = [event.sequence_number for event in again]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] > seen[-1].sequence_number
        done = client.responses.retrieve(id)
        assert again[-1].response == done
        text = "".join(event.delta for event in again if event.type == "response.output_text.delta")
        assert (done.status, done.output_text, done.usage.output_tokens) == ("incomplete", text, 400)
        items = client.responses.input_items.list(id, order="asc").data
        assert [item.content[0].text for item in items] == ["My name is Zoe.", kept.output_text, "Tell a story."]
        # What is complete is not begun again.
        fresh.stop()
    fresh.start()
    with fresh.client(key) as client:
        assert client.responses.retrieve(id) == done
        assert list(client.responses.retrieve(id, stream=True)) == again
    # One charge for both runs: that of the last.
    usage = (done.usage.input_tokens, done.usage.output_tokens)
    assert [row[1:] for row in books.settled(2)] == [(kept.usage.input_tokens, 4), usage]


def test_what_runs_again_can_be_cancelled_and_is_not_begun_for_ever(fresh, books):
    key = fresh.create_key("anna")
    options = LONG | {"max_output_tokens": 3000}
    with fresh.client(key) as client:
        made = [client.responses.create(**options).id for _ in range(2)]
    fresh.kill()
    fresh.start()
    with fresh.client(key) as client:
        assert client.responses.cancel(made[0]).status == "cancelled"
    for _ in range(2):
        fresh.kill()
        fresh.start()
    with fresh.client(key) as client:
        assert client.responses.retrieve(made[0]).status == "cancelled"
        failed = client.responses.retrieve(made[1])
        assert (failed.status, failed.error.code) == ("failed", "server_error")
        assert "stopped 3 times" in failed.error.message
    assert books.open_reservations() == 0
    books.check()


def test_what_may_not_run_any_more_is_not_begun_again(fresh):
    key, other = fresh.create_key("anna"), fresh.create_key("anna", "--name", "other")
    with fresh.client(key) as client:
        made = client.responses.create(**LONG, max_output_tokens=3000)
    fresh.kill()
    fresh.cli("keys", "revoke", key.split("-")[2])
    fresh.start()
    with fresh.client(other) as client:
        failed = client.responses.retrieve(made.id)
        assert (failed.status, failed.output) == ("failed", [])
        assert "revoked" in failed.error.message


def test_what_was_complete_when_the_box_was_killed_can_be_gone_on_from(fresh):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        kept = client.responses.create(model=allerac.MODEL, input="hi", max_output_tokens=4)
    fresh.kill()
    fresh.start()
    with fresh.client(key) as client:
        assert client.responses.retrieve(kept.id).output_text == kept.output_text
        again = client.responses.create(
            model=allerac.MODEL, input="again", previous_response_id=kept.id, max_output_tokens=4
        )
        assert again.previous_response_id == kept.id


def test_a_damaged_row_costs_only_itself(fresh):
    import sqlite3

    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        made = [client.responses.create(model=allerac.MODEL, input="hi", max_output_tokens=2).id for _ in range(2)]
        fresh.stop()
        database = sqlite3.connect(fresh.data / "objects.db")
        database.execute("UPDATE objects SET head = zeroblob(length(head)) WHERE id = ?", [made[0]])
        database.commit()
        database.close()
    fresh.start()
    with fresh.client(key) as client:
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made[0])
        assert client.responses.retrieve(made[1]).id == made[1]
        client.responses.delete(made[0])


# What cannot be honoured.


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": ""}]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,%%"}]}]}, "input"),
        ({"input": [{"role": "wizard", "content": ""}]}, "input[0].role"),
        ({"input": []}, "input"),
        ({"conversation": {"name": "x"}}, "conversation.id"),
        ({"truncation": "often"}, "truncation"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "x", "format": {"type": "xml"}}]}, "tools[0].format.type"),
        ({"background": True, "store": False}, "background"),
        ({"include": ["x"]}, "include[0]"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "nothing"}}}}, "text.format.schema"),
        ({"max_output_tokens": 10**9}, "input"),
        ({"stop": "x"}, "stop"),
    ],
)
def test_a_refusal_names_the_field(http, options, param):
    body = {"model": allerac.MODEL, "input": "hi"} | options
    answer = http.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_a_query_that_cannot_be_honoured_is_refused(client, http):
    made = create_by(client).id
    for query, param in (
        ("stream=maybe", "stream"), ("starting_after=-1", "starting_after"), ("x=1", "x"), ("stream=true", "stream"),
    ):  # fmt: skip
        answer = http.get(f"/v1/responses/{made}?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order")):
        answer = http.get(f"/v1/responses/{made}/input_items?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert http.get(f"/v1/responses/{made}/input_items?after=msg_0").status_code == 404
    assert http.post(f"/v1/responses/{made}/cancel").status_code == 400


def test_a_connection_goes_on_after_a_stream(box, key):
    with box.http(key) as http:
        stream(http)
        before = http._transport._pool.connections
        stream(http)
        assert len(http._transport._pool.connections) == len(before) == 1


def test_it_needs_a_key(box):
    for method, path in (("POST", ""), ("GET", "/resp_1"), ("DELETE", "/resp_1"), ("GET", "/resp_1/input_items")):
        assert httpx.request(method, f"{box.url}/v1/responses{path}", json={}).status_code == 401


def test_many_at_once_are_kept_apart(box, client):
    made, threads = {}, []

    def run(number):
        made[number] = create_by(client, input=f"number {number}").id

    for number in range(12):
        threads.append(threading.Thread(target=run, args=[number]))
        threads[-1].start()
    for thread in threads:
        thread.join()
    for number, response in made.items():
        (item,) = client.responses.input_items.list(response)
        assert item.content[0].text == f"number {number}"
