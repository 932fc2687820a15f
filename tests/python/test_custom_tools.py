"""Custom tools, namespaces, and what popular programs send besides, through the official client."""

import json
import re

import pytest

import allerac

NOTE = {"name": "note", "description": "Takes a note."}
REGEX = "[a-z]{2,6}\n\"[0-9]{2}\""
# As Codex writes its own: aliases, an import, and a line for each change.
PATCH = r"""
start: begin hunk+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?
hunk: "*** Add File: " filename LF add_line // so far
filename: /[a-z]{1,8}\.(py|"txt")/
add_line: "+" /[^\n]{0,12}/ LF -> line
%import common.LF
"""
PATCHED = re.compile(
    r'\*\*\* Begin Patch\n(\*\*\* Add File: [a-z]{1,8}\.(py|"txt")\n\+[^\n]{0,12}\n)+\*\*\* End Patch\n?'
)
ASK = [{"role": "user", "content": "Take a note."}]


def grammar(syntax: str, definition: str) -> dict:
    return {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}


def flat(syntax: str, definition: str) -> dict:
    return {"type": "custom", **NOTE, "format": {"type": "grammar", "syntax": syntax, "definition": definition}}


def chat(client, form: dict | None, **options):
    tool = {"type": "custom", "custom": NOTE | ({"format": form} if form else {})}
    choice = {"type": "custom", "custom": {"name": "note"}}
    return client.chat.completions.create(
        **{"model": allerac.MODEL, "messages": ASK, "tools": [tool], "tool_choice": choice, "max_tokens": 500} | options
    )


@pytest.mark.parametrize(
    ("syntax", "definition", "wanted"), [("regex", REGEX, re.compile(REGEX)), ("lark", PATCH, PATCHED)]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_text_is_of_its_grammar(client, syntax, definition, wanted, seed):
    done = chat(client, grammar(syntax, definition), seed=seed, temperature=1).choices[0]
    (call,) = done.message.tool_calls
    assert (call.type, call.custom.name) == ("custom", "note") and call.id.startswith("call_")
    if done.finish_reason != "length":
        assert wanted.fullmatch(call.custom.input), call.custom.input


def test_a_stream_tells_the_same_text(client):
    whole = chat(client, grammar("regex", REGEX), seed=3).choices[0].message.tool_calls[0].custom.input
    chunks = [chunk for chunk in chat(client, grammar("regex", REGEX), seed=3, stream=True) if chunk.choices]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (calls[0].type, calls[0].model_extra["custom"]["name"], calls[0].function) == ("custom", "note", None)
    assert "".join(call.model_extra["custom"]["input"] for call in calls) == whole and re.fullmatch(REGEX, whole)


def test_any_text_will_do(client):
    call = chat(client, None, max_tokens=100).choices[0].message.tool_calls[0]
    assert call.type == "custom" and isinstance(call.custom.input, str)


def test_a_call_and_its_answer_go_on(client):
    call = {"id": "call_1", "type": "custom", "custom": {"name": "note", "input": "milk \"and\" eggs"}}
    messages = [*ASK, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "noted"}]  # fmt: skip
    done = chat(client, None, messages=messages, tool_choice="none", max_tokens=8)
    assert done.usage.prompt_tokens > chat(client, None, tool_choice="none", max_tokens=8).usage.prompt_tokens + 10


@pytest.mark.parametrize(
    ("form", "param"),
    [
        (grammar("lark", "start: /^a$/"), "tools[0]"),
        (grammar("lark", "start: nowhere"), "tools"),
        (grammar("bnf", "x"), "tools[0].custom.format.grammar.syntax"),
        ({"type": "grammar"}, "tools[0].custom.format.grammar"),
    ],
)
def test_a_grammar_that_cannot_be_kept_to_is_refused(http, form, param):
    tool = {"type": "custom", "custom": NOTE | {"format": form}}
    body = {"model": allerac.MODEL, "messages": ASK, "tools": [tool], "tool_choice": "required"}
    answer = http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def respond(client, **options):
    return client.responses.create(
        **{"model": allerac.MODEL, "input": "Take a note.", "max_output_tokens": 500, "store": False} | options
    )


def test_a_response_calls_a_custom_tool(client):
    tool = flat("regex", REGEX)
    done = respond(client, tools=[tool], tool_choice={"type": "custom", "name": "note"})
    (call,) = done.output
    assert (call.type, call.name, call.status) == ("custom_tool_call", "note", "completed")
    assert re.fullmatch(REGEX, call.input) and call.id.startswith("ctc_") and done.tools[0].format.definition == REGEX


def test_its_events_are_those_of_openai(client):
    events = list(respond(client, tools=[flat("regex", REGEX)], tool_choice="required", parallel_tool_calls=False, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:3] == ["created", "in_progress", "output_item.added"]
    assert kinds[-3:] == ["custom_tool_call_input.done", "output_item.done", "completed"]
    assert set(kinds[3:-3]) == {"custom_tool_call_input.delta"}
    item = events[-1].response.output[0]
    assert "".join(event.delta for event in events[3:-3]) == events[-3].input == item.input
    assert re.fullmatch(REGEX, item.input) and all(event.item_id == item.id for event in events[3:-2])


def test_what_it_answered_goes_on(client):
    items = [
        {"role": "user", "content": "Note milk."},
        {"type": "custom_tool_call", "call_id": "c", "name": "note", "input": "milk"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "noted"}]},
    ]
    done = respond(client, input=items, tools=[flat("regex", REGEX)], max_output_tokens=16)
    assert done.usage.input_tokens > respond(client, input="Note milk.", max_output_tokens=16).usage.input_tokens + 10


def test_tools_of_a_namespace_are_called_by_it(client):
    schema = {"type": "object", "properties": {"path": {"enum": ["a", "b"]}}, "required": ["path"]}
    inner = [{"type": "function", "name": "read", "description": "Reads.", "parameters": schema}]
    space = {"type": "namespace", "name": "mcp__files", "description": "Files.", "tools": inner}
    done = respond(client, tools=[space], tool_choice="required", parallel_tool_calls=False)
    (call,) = done.output
    assert (call.type, call.name, call.namespace) == ("function_call", "read", "mcp__files")
    assert json.loads(call.arguments)["path"] in ("a", "b")
    assert (done.tools[0].type, done.tools[0].name) == ("namespace", "mcp__files")
    again = [{"role": "user", "content": "Read."}, call.model_dump(),
             {"type": "function_call_output", "call_id": call.call_id, "output": "text"}]  # fmt: skip
    assert respond(client, input=again, tools=[space], max_output_tokens=16).output


def test_what_openai_would_run_is_left_alone(client, http):
    """Codex offers these whatever it talks to. The answer tells which tools the model was really offered."""
    offered = [{"type": "web_search", "external_web_access": False}, {"type": "image_generation", "output_format": "png"}]
    done = respond(client, tools=offered, max_output_tokens=16, extra_body={"client_metadata": {"session": "x"}})
    assert (done.tools, done.output[0].type) == ([], "message")
    body = {"model": allerac.MODEL, "input": "hi", "tools": offered, "tool_choice": "required"}
    answer = http.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")


def test_words_of_other_apis_are_taken(client):
    """`cache_control` comes from programs that send the same conversation to Anthropic's models."""
    cached = {"cache_control": {"type": "ephemeral"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": None}} | cached
    call = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."} | cached]},
        {"role": "user", "content": "hi"} | cached,
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None,
         "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "ok"} | cached]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "so?"}]},
    ]  # fmt: skip
    done = client.chat.completions.create(model=allerac.MODEL, messages=messages, tools=[tool], tool_choice="none", max_tokens=4, logit_bias=allerac.NEVER_END)
    assert done.usage.completion_tokens == 4
