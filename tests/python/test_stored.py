"""Chat completions that are kept: told again, listed, changed and forgotten, for their owner alone."""

import openai
import pytest
from openai.types.chat import ChatCompletion

import allerac

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}]

# What the scripted server has.
SCRIPTED_MODELS = ["good", "calls", "several"]


@pytest.fixture
def client(box, request):
    with box.client(box.create_key(request.node.name[:60], "--plan", "pro", "--allow-upstream", "all")) as made:
        yield made


def ask(client, model=allerac.MODEL, **options):
    return client.chat.completions.create(
        model=model, messages=MESSAGES, **{"store": True, "max_tokens": 5, "temperature": 0} | options
    )


def test_a_kept_completion_is_told_again(client):
    made = ask(client, metadata={"topic": "tea"})
    raw = client.chat.completions.with_raw_response.retrieve(made.id)
    again = ChatCompletion.model_validate_json(raw.text, strict=True)
    assert again.model_dump() == made.model_dump() | {"metadata": {"topic": "tea"}}
    messages = client.chat.completions.messages.list(made.id).data
    assert [(message.role, message.content) for message in messages] == [
        (message["role"], message["content"]) for message in MESSAGES
    ]
    assert [message.id for message in messages] == [f"{made.id}-0", f"{made.id}-1"]


def test_a_streamed_completion_is_kept_too(client):
    chunks = list(ask(client, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert client.chat.completions.retrieve(chunks[0].id).choices[0].message.content == text


def test_what_another_server_answered_is_kept_here(client, scripted):
    made = ask(client, "calls")
    kept = client.chat.completions.retrieve(made.id)
    assert [call.id for call in kept.choices[0].message.tool_calls] == ["call_0", "call_1"]
    # That it is kept here is no affair of theirs.
    assert "store" not in scripted.seen[-1][2]
    # As many answers as were wanted, and no more than came.
    several = ask(client, "several", n=3, logprobs=True, top_logprobs=2)
    kept = client.chat.completions.retrieve(several.id)
    assert [choice.message.content for choice in kept.choices] == ["so 0", "so 1", "so 2"]
    first = kept.choices[2].logprobs.content[0]
    assert (first.token, first.logprob, [top.token for top in first.top_logprobs]) == ("so ", -0.25, ["so ", "no "])
    assert len(ask(client, "good", n=2).choices) == 1


def test_what_is_not_to_be_kept_is_not(client):
    for store in (False, None):
        made = ask(client, store=store)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(made.id)


def test_they_are_listed_a_page_at_a_time(client):
    made = [ask(client, "good", metadata={"n": str(number)}).id for number in range(5)]
    made.append(ask(client).id)
    page = client.chat.completions.list(limit=2)
    assert ([kept.id for kept in page.data], page.has_more) == (made[:2], True)
    assert [kept.id for kept in page] == made
    assert [kept.id for kept in client.chat.completions.list(order="desc", limit=4)] == made[::-1]
    assert [kept.id for kept in client.chat.completions.list(model=allerac.MODEL)] == made[5:]
    assert [kept.id for kept in client.chat.completions.list(metadata={"n": "3"})] == [made[3]]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.list(after="chatcmpl-x")


def test_metadata_changes(client):
    made = ask(client, metadata={"a": "1"})
    assert client.chat.completions.update(made.id, metadata={"b": "2"}).metadata == {"b": "2"}
    assert client.chat.completions.retrieve(made.id).metadata == {"b": "2"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.update(made.id, metadata={"b": 2})
    assert caught.value.param == "metadata.b"


def test_a_completion_is_forgotten(client):
    made = ask(client)
    deleted = client.chat.completions.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "chat.completion.deleted")
    for call in (client.chat.completions.retrieve, client.chat.completions.delete, client.chat.completions.messages.list):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_a_completion_is_its_owners_alone(box, client):
    made = ask(client)
    with box.client(box.create_key("sue")) as stranger:
        completions = stranger.chat.completions
        for call in (completions.retrieve, completions.delete, completions.messages.list):
            with pytest.raises(openai.NotFoundError):
                call(made.id)
        with pytest.raises(openai.NotFoundError):
            completions.update(made.id, metadata={})
        assert completions.list().data == []
    # Another key of the same person is not another person.
    with box.client(box.create_key("test_a_completion_is_its_owners_alone")) as same:
        assert same.chat.completions.retrieve(made.id).id == made.id


def test_they_survive_a_restart(fresh):
    with fresh.client(fresh.create_key("anna")) as client:
        made = ask(client)
    fresh.kill()
    fresh.start()
    with fresh.client(fresh.create_key("anna")) as client:
        assert client.chat.completions.retrieve(made.id).choices == made.choices
