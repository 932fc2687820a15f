"""Conversations that responses go on from: OpenAI's shapes, and everything said in its order."""

import threading

import openai
import pytest
from openai.types.conversations import Conversation, ConversationDeletedResource, ConversationItemList

import allerac

TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
BRIEF = {"model": allerac.MODEL, "max_output_tokens": 4, "temperature": 0}

# What the scripted server has.
SCRIPTED_MODELS = ["good", "calls", "fails", "endless", "thinks"]


def client_of(box, user):
    return box.client(box.create_key(user, "--plan", "pro", "--allow-upstream", "all"))


@pytest.fixture(scope="module")
def client(box):
    with client_of(box, "tina") as made:
        yield made


@pytest.fixture(scope="module")
def stranger(box):
    with client_of(box, "sue") as made:
        yield made


def say(text: str, role: str = "user") -> dict:
    return {"type": "message", "role": role, "content": text}


def items(client, conversation) -> list:
    listed = client.conversations.items.with_raw_response.list(conversation, order="asc", limit=100)
    ConversationItemList.model_validate_json(listed.content, strict=True)
    return listed.http_response.json()["data"]


def said(client, conversation) -> list[str]:
    """The words of all messages, in order."""
    messages = [item for item in items(client, conversation) if item["type"] == "message"]
    return ["".join(part["text"] for part in message["content"]) for message in messages]


def test_a_conversation_is_made_told_changed_and_forgotten(client):
    made = client.conversations.with_raw_response.create(items=[say("hi"), say("yes?", "assistant")], metadata={"a": "b"})
    body = made.http_response.json()
    assert set(body) == {"id", "object", "created_at", "metadata"}
    conversation = Conversation.model_validate(body, strict=True)
    assert conversation.id.startswith("conv_") and (body["object"], body["metadata"]) == ("conversation", {"a": "b"})
    assert client.conversations.retrieve(conversation.id) == conversation
    assert said(client, conversation.id) == ["hi", "yes?"]
    assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(conversation.id).metadata == {"c": "d"}
    assert said(client, conversation.id) == ["hi", "yes?"]
    gone = client.conversations.with_raw_response.delete(conversation.id).http_response.json()
    assert gone == {"id": conversation.id, "object": "conversation.deleted", "deleted": True}
    ConversationDeletedResource.model_validate(gone, strict=True)
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


def test_items_are_added_listed_and_taken_out(client):
    conversation = client.conversations.create().id
    added = client.conversations.items.create(conversation, items=[say(str(number)) for number in range(5)])
    ids = [item.id for item in added.data]
    assert (len(set(ids)), added.first_id, added.last_id, added.has_more) == (5, ids[0], ids[-1], False)
    newest = client.conversations.items.list(conversation, limit=2)
    assert ([item.id for item in newest.data], newest.has_more) == ([ids[4], ids[3]], True)
    assert [item.id for item in client.conversations.items.list(conversation, limit=2)] == ids[::-1]
    assert client.conversations.items.retrieve(ids[1], conversation_id=conversation).content[0].text == "1"
    assert client.conversations.items.delete(ids[1], conversation_id=conversation).id == conversation
    assert said(client, conversation) == ["0", "2", "3", "4"]
    for missing in (client.conversations.items.retrieve, client.conversations.items.delete):
        with pytest.raises(openai.NotFoundError):
            missing(ids[1], conversation_id=conversation)
    with pytest.raises(openai.ConflictError) as refused:
        client.conversations.items.create(conversation, items=[say("5"), say("6") | {"id": ids[0]}])
    assert refused.value.code == "item_exists"
    assert said(client, conversation) == ["0", "2", "3", "4"]


@pytest.mark.parametrize("named", [lambda id: id, lambda id: {"id": id}], ids=["name", "object"])
def test_a_response_goes_on_from_a_conversation_and_is_added_to_it(client, scripted, named):
    conversation = client.conversations.create(items=[say("My name is Zoe.")]).id
    first = client.responses.create(model="good", input="Hello.", instructions="Be brief.", conversation=named(conversation))
    assert first.conversation.id == conversation
    assert said(client, conversation) == ["My name is Zoe.", "Hello.", first.output_text]
    with client.responses.create(model="good", input=[say("And?")], conversation=named(conversation), stream=True) as stream:
        last = list(stream)[-1].response
    assert [message["role"] for message in scripted.seen[-1][2]["messages"]] == ["user", "user", "assistant", "user"]
    assert said(client, conversation) == ["My name is Zoe.", "Hello.", first.output_text, "And?", last.output_text]
    ids = [item["id"] for item in items(client, conversation)]
    assert len(set(ids)) == 5 and ids[2] == first.output[0].id
    assert [item.id for item in client.responses.input_items.list(last.id, order="asc")] == ids[:4]


def test_calls_and_their_outputs_are_in_it(client):
    conversation = client.conversations.create().id
    calls = client.responses.create(model="calls", input="Weather?", tools=[TOOL], conversation=conversation)
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls.output]
    assert len(outputs) == 2
    client.responses.create(model="good", input=outputs, conversation=conversation)
    kinds = [item["type"] for item in items(client, conversation)]
    assert kinds == ["message", "function_call", "function_call", "function_call_output", "function_call_output", "message"]


def test_what_is_not_kept_is_added_and_what_failed_is_not(client):
    conversation = client.conversations.create().id
    told = client.responses.create(**BRIEF, input="Hello.", conversation=conversation, store=False)
    assert told.status == "incomplete"
    assert said(client, conversation) == ["Hello.", told.output_text]
    with pytest.raises(openai.APIStatusError):
        client.responses.create(model="fails", input="Lost.", conversation=conversation)
    running = client.responses.create(model="endless", input="Lost.", conversation=conversation, background=True)
    assert client.responses.cancel(running.id).status == "cancelled"
    assert said(client, conversation) == ["Hello.", told.output_text]


def test_a_response_in_the_background_is_added(client):
    conversation = client.conversations.create().id
    made = client.responses.create(**BRIEF, input="Hello.", conversation=conversation, background=True)
    done = allerac.wait_for("complete", lambda: (told := client.responses.retrieve(made.id)).output and told)
    assert said(client, conversation) == ["Hello.", done.output_text]


def test_a_conversation_that_was_deleted_meanwhile_stays_so(client):
    conversation = client.conversations.create().id
    with client.responses.create(model="good", input="Hello.", conversation=conversation, stream=True) as stream:
        next(stream)
        client.conversations.delete(conversation)
        assert list(stream)[-1].type == "response.completed"
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="good", input="Hello.", conversation=conversation)
    assert missing.value.param == "conversation"


def test_nothing_that_is_added_at_once_is_lost(client):
    conversation = client.conversations.create().id
    adding = [
        threading.Thread(target=client.conversations.items.create, args=(conversation,), kwargs={"items": [say(str(n))]})
        for n in range(20)
    ]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert sorted(said(client, conversation), key=int) == [str(n) for n in range(20)]


def test_a_conversation_is_its_owners_alone(client, stranger):
    conversation = client.conversations.create(items=[say("secret")]).id
    for ask in (
        lambda: stranger.conversations.retrieve(conversation),
        lambda: stranger.conversations.delete(conversation),
        lambda: stranger.conversations.items.list(conversation),
        lambda: stranger.conversations.items.create(conversation, items=[say("mine")]),
        lambda: stranger.responses.create(model="good", input="Hello.", conversation=conversation),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert said(client, conversation) == ["secret"]


def test_what_cannot_be_honoured_is_refused_by_name(client):
    def refused(ask, param):
        with pytest.raises(openai.BadRequestError) as refusal:
            ask()
        assert refusal.value.param == param

    conversation = client.conversations.create().id
    refused(lambda: client.conversations.create(items=[say("x")] * 21), "items")
    refused(lambda: client.conversations.create(items=[{"type": "item_reference", "id": "msg_1"}]), "items[0].type")
    refused(lambda: client.conversations.items.create(conversation, items=[say("x", "king")]), "items[0].role")
    both = {"conversation": conversation, "previous_response_id": "resp_1"}
    refused(lambda: client.responses.create(model="good", input="x", **both), "previous_response_id")


def test_an_item_is_in_a_conversation_once(client):
    said = {"type": "message", "id": "msg_mine", "role": "user", "content": "Hi"}
    talk = client.conversations.create(items=[said])
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**BRIEF, conversation=talk.id, input=[said])
    assert (refused.value.param, refused.value.code) == ("input[0].id", "invalid_value")
    with pytest.raises(openai.ConflictError) as refused:
        client.conversations.items.create(talk.id, items=[said])
    assert refused.value.code == "item_exists"
    assert [item.id for item in client.conversations.items.list(talk.id)] == ["msg_mine"]
