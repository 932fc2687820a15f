"""Requests that leave the box: to a real llama.cpp server, and to one that misbehaves.

`tests/js/upstream.test.js` does the same with tools, against aimock.
"""

import contextlib
import socket

import openai
import pytest

import allerac
from peer import Peer
from scripted import Handler, ScriptedUpstream

MESSAGES = [{"role": "user", "content": "List the months of the year."}]
BAD_WAYS = [name for name in vars(Handler) if not name.startswith(("_", "do_")) and name not in {
    "protocol_version", "log_message", "answer", "begin_stream", "event", "words",
}]  # fmt: skip


@pytest.fixture(scope="module")
def scripted():
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def llama():
    with Peer(allerac.MODEL_FILE, threads=1, context=4096, slots=2) as running:
        yield running


@pytest.fixture(scope="module")
def nobody():
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def away(tmp_path_factory, scripted, llama, nobody):
    """A server with three upstreams."""
    folder = tmp_path_factory.mktemp("away")
    (folder / "scripted.key").write_text("sk-upstream-secret\n")
    models = ", ".join(f'"{name.replace("_", "-")}"' for name in BAD_WAYS)
    config = f"""
        [[upstream]]
        name = "llama"
        base_url = "{llama.url}/v1"
        models = ["their-model", "{allerac.MODEL}"]
        aliases = {{ big = "their-model" }}

        [[upstream]]
        name = "scripted"
        base_url = "{scripted.url}/v1/"
        key_file = "{folder / "scripted.key"}"
        models = [{models}]

        [[upstream]]
        name = "gone"
        base_url = "{nobody}"
        models = ["vanished"]
    """
    with allerac.Server(allerac.data_dir(folder / "data"), config=config) as running:
        yield running


@pytest.fixture(scope="module")
def traveller(away):
    """A key that may leave for everything."""
    return away.create_key("tina", "--plan", "pro", "--allow-upstream", "all")


@pytest.fixture
def client(away, traveller):
    with away.client(traveller) as made:
        yield made


@pytest.fixture
def books(away):
    opened = allerac.Books(away.data)
    yield opened
    opened.close()


def ask(client, model, **options):
    return client.chat.completions.create(model=model, messages=MESSAGES, **{"max_tokens": 40} | options)


def charged(books, before):
    """What was settled since, once nothing is open any more."""
    return books.settled(len(before) + 1)[len(before) :]


def charged_or_nothing(books, before):
    """How the requests since then ended, and their output; none when they were not charged at all."""
    allerac.wait_for("nothing open", lambda: books.open_reservations() == 0)
    books.check()
    return [(outcome, completion) for outcome, _, completion in books.outcomes()[len(before) :]]


# Who may leave.


def test_no_key_leaves_by_default(away, scripted):
    seen = len(scripted.seen)
    with away.client(away.create_key("homer", "--plan", "pro")) as homer:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            ask(homer, "good")
        assert (caught.value.code, caught.value.param) == ("upstream_not_allowed", "model")
        assert [model.id for model in homer.models.list()] == [allerac.MODEL]
    assert len(scripted.seen) == seen


def test_a_key_leaves_only_for_what_it_names(away):
    with away.client(away.create_key("lea", "--plan", "pro", "--allow-upstream", "llama")) as lea:
        assert ask(lea, "big").choices[0].message.content
        with pytest.raises(openai.PermissionDeniedError):
            ask(lea, "good")
        listed = {model.id for model in lea.models.list()}
    assert listed == {allerac.MODEL, "their-model", "big"}


def test_a_plan_without_upstreams_gives_no_such_key(away):
    made = away.cli("keys", "create", "--user", "pam", "--plan", "personal", "--allow-upstream", "llama", check=False)
    assert made.returncode == 4
    assert "plan" in made.stderr
    assert made.stdout == ""


def test_what_the_box_has_is_computed_here(client):
    """The upstream offers a model of the same name."""
    answer = ask(client.with_raw_response, allerac.MODEL, max_tokens=2)
    assert answer.headers["x-allerac-served-by"] == "local"


def test_an_unknown_model_goes_nowhere(client):
    with pytest.raises(openai.NotFoundError):
        ask(client, "gpt-9")


# A real server.


@pytest.mark.parametrize("model", ["their-model", "big"])
def test_an_answer_of_a_real_server(client, books, model):
    before = books.outcomes()
    raw = ask(client.with_raw_response, model, temperature=0)
    answer = raw.parse()
    assert raw.headers["x-allerac-served-by"] == "upstream:llama"
    assert answer.choices[0].message.content.startswith("The months of the year are: January,")
    usage = answer.usage
    assert charged(books, before) == [("completed", usage.prompt_tokens, usage.completion_tokens)]
    assert books.rows("SELECT served_by, model FROM usage ORDER BY id DESC LIMIT 1") == [
        ("upstream:llama", "their-model")
    ]


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_stream_of_a_real_server(client, books, wants_usage):
    before = books.outcomes()
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(ask(client, "big", temperature=0, stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("The months of the year are: January,")
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == wants_usage
    ((outcome, prompt, completion),) = charged(books, before)
    # The box knows the usage also when the client did not ask for it.
    assert (outcome, prompt) == ("completed", 37)
    assert completion == (usages[0].completion_tokens if wants_usage else 32)


def test_a_plain_completion_of_a_real_server(client):
    raw = client.completions.with_raw_response.create(model="big", prompt="1, 2, 3,", max_tokens=4, temperature=0)
    assert raw.parse().choices[0].text == " 4, "
    assert raw.headers["x-allerac-served-by"] == "upstream:llama"


def test_fields_that_we_do_not_honour_pass_on(client, scripted):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    list(ask(client, "good", stream=True, tools=tools, extra_body={"guided_json": {"a": 1}}))
    path, headers, body = scripted.seen[-1]
    assert path == "/v1/chat/completions"
    assert (body["tools"], body["guided_json"], body["model"]) == (tools, {"a": 1}, "good")
    # Its own key goes along, and nothing of the client's.
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["authorization"] == "Bearer sk-upstream-secret"
    assert "sk-allerac" not in str(headers)
    assert not any(name.startswith("x-stainless") for name in lower)


# Misbehaviour.


def test_reported_usage_is_what_is_charged(client, books):
    before = books.outcomes()
    chunks = list(ask(client, "good", stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * 4
    assert charged(books, before) == [("completed", 11, 7)]


def test_without_reported_usage_tokens_are_counted(client, books):
    before = books.outcomes()
    list(ask(client, "no-usage", stream=True))
    ((outcome, prompt, completion),) = charged(books, before)
    assert (outcome, completion) == ("completed", 9)  # 36 bytes of text
    assert prompt > 5


@pytest.mark.parametrize("way", ["cut", "reset"])
def test_a_stream_cut_off_ends_with_an_error(away, traveller, books, way):
    before = books.outcomes()
    body = {"model": way, "messages": MESSAGES, "stream": True}
    with away.http(traveller) as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert "word0" in lines[0]
    assert "upstream_error" in lines[-1]
    ((outcome, prompt, completion),) = charged(books, before)
    assert outcome == "failed"
    assert prompt > 0
    assert completion == 6  # 24 bytes of text came through


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["vanished", "fails", "nonsense", "wants-another-key", "moves-away"])
def test_a_server_that_is_of_no_use(client, books, scripted, model, stream):
    before, seen = books.outcomes(), len(scripted.seen)
    with pytest.raises(openai.APIStatusError) as caught:
        list(ask(client, model, stream=stream))
    assert caught.value.status_code == 502
    # Also where it failed: the prompt may have left the box.
    name = "gone" if model == "vanished" else "scripted"
    assert caught.value.response.headers["x-allerac-served-by"] == f"upstream:{name}"
    assert (caught.value.type, caught.value.code) == ("upstream_error", "upstream_error")
    assert "secret" not in caught.value.message
    assert "sk-" not in caught.value.message
    # A redirect is not followed: a prompt goes to the configured address and to no other.
    assert len(scripted.seen) - seen == (model != "vanished")
    assert charged_or_nothing(books, before) in ([], [("failed", 0)])


def test_a_refusal_passes_on(client, books):
    before = books.outcomes()
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(client, "refuses")
    assert "tools are not for this model" in caught.value.message
    assert books.settled(len(before)) == before


def test_an_event_without_end_is_cut(client, books, scripted):
    before = books.outcomes()
    with pytest.raises(openai.APIError):
        list(ask(client, "endless-line", stream=True))
    assert scripted.abandoned.acquire(timeout=20)
    charged(books, before)


def test_a_client_that_leaves_ends_the_upstreams_work(client, books, scripted):
    before = books.outcomes()
    stream = ask(client, "endless", stream=True)
    for _, _chunk in zip(range(10), stream, strict=False):
        pass
    stream.close()
    assert scripted.abandoned.acquire(timeout=20)
    ((outcome, _, completion),) = charged(books, before)
    assert outcome == "cancelled"
    assert 10 <= completion < 1000


def test_the_box_goes_on_when_its_upstreams_do_not(client):
    with contextlib.suppress(openai.APIStatusError):
        ask(client, "vanished")
    assert ask(client, allerac.MODEL, max_tokens=3).usage.completion_tokens == 3
