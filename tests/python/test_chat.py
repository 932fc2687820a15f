"""`POST /v1/chat/completions` through the official Python client."""

import math

import openai
import pytest

import allerac

HELLO = [{"role": "user", "content": "Say hello to a friend."}]


def create(client, **options):
    return client.chat.completions.create(**{"model": allerac.MODEL, "messages": HELLO, "max_tokens": 12} | options)


def test_an_answer_has_every_field_of_the_schema(client):
    raw = create(client.with_raw_response, temperature=0)
    body = raw.http_response.json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"}
    assert (body["object"], body["model"]) == ("chat.completion", allerac.MODEL)
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert set(choice["message"]) >= {"role", "content", "refusal"}
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert (choice["message"]["role"], choice["message"]["refusal"]) == ("assistant", None)
    usage = body["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert set(usage["prompt_tokens_details"]) >= {"cached_tokens", "audio_tokens"}
    assert set(usage["completion_tokens_details"]) >= {"reasoning_tokens", "audio_tokens"}
    assert raw.headers["x-allerac-served-by"] == "local"
    assert body["id"] == f"chatcmpl-{raw.headers['x-request-id']}"


def test_what_is_left_open_is_as_the_model_recommends(client):
    """`models.toml` says temperature 0.2 and top_p 0.9 for this one."""
    texts = [
        create(client, seed=3, max_tokens=40, **said).choices[0].message.content
        for said in ({}, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 2, "top_p": 1})
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_stream_adds_up_to_the_answer(client):
    whole = create(client, temperature=0, max_tokens=40)
    chunks = list(
        create(client, temperature=0, max_tokens=40, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    finishes = [part.choices[0].finish_reason for part in parts]
    assert finishes == [None] * (len(parts) - 1) + [whole.choices[0].finish_reason]
    assert [part.usage for part in parts] == [None] * len(parts)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (
        whole.usage.prompt_tokens, whole.usage.completion_tokens,
    )  # fmt: skip


def test_a_stream_is_what_openai_sends(http):
    body = {"model": allerac.MODEL, "messages": HELLO, "max_tokens": 3, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert '"usage"' not in "".join(lines)


def test_the_stream_helper_of_the_client_works(client):
    question = [{"role": "user", "content": "List the months of the year."}]
    with client.chat.completions.stream(model=allerac.MODEL, messages=question, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "stop"
    assert "".join(event.delta for event in events if event.type == "content.delta") == final.choices[0].message.content


def test_log_probabilities(client):
    answer = create(client, temperature=0, logprobs=True, top_logprobs=4)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens == 12
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    for token in tokens:
        assert bytes(token.bytes).decode() == token.token
        values = [top.logprob for top in token.top_logprobs]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        # Greedy: the token is the likeliest.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, values[0])
        assert sum(map(math.exp, values)) <= 1 + 1e-4


def test_log_probabilities_agree_with_the_peer(client, peer):
    """The model's own distribution, as llama.cpp computes it."""
    prompt = peer.tokenise(peer.render(HELLO), special=True)
    theirs = peer.greedy(prompt, 1, alternatives=3)["completion_probabilities"][0]["top_logprobs"]
    ours = create(client, temperature=0, max_tokens=1, logprobs=True, top_logprobs=3).choices[0].logprobs.content[0]
    assert [top.bytes for top in ours.top_logprobs] == [top["bytes"] for top in theirs]
    # Kernels for other instruction sets add in another order; 0.1 is 10 % of a probability.
    assert [top.logprob for top in ours.top_logprobs] == pytest.approx([top["logprob"] for top in theirs], abs=0.1)


def test_several_choices(client):
    answer = create(client, n=3, temperature=1.5, seed=1, max_tokens=16)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    assert 3 <= answer.usage.completion_tokens <= 48


def test_several_choices_streamed(client):
    texts = {0: "", 1: ""}
    for chunk in create(client, n=2, temperature=1.5, seed=1, max_tokens=16, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    whole = create(client, n=2, temperature=1.5, seed=1, max_tokens=16)
    assert texts == {choice.index: choice.message.content for choice in whole.choices}


def test_a_seed_repeats_an_answer(client):
    def sample(seed):
        return create(client, seed=seed, temperature=1.2, max_tokens=24).choices[0].message.content

    assert sample(7) == sample(7)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_without_a_seed_answers_differ(client):
    answers = {create(client, temperature=1.5, max_tokens=16).choices[0].message.content for _ in range(4)}
    assert len(answers) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_answer_before_it(client, stream):
    """The stop string spans tokens: `3, 4` is several."""
    answer = client.completions.create(
        model=allerac.MODEL, prompt="1, 2, 3, 4, 5, 6, 7,", temperature=0, max_tokens=64, stop=["1, 12", "never"],
        stream=stream,
    )  # fmt: skip
    if stream:
        chunks = list(answer)
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
        finish = chunks[-1].choices[0].finish_reason
    else:
        text, finish = answer.choices[0].text, answer.choices[0].finish_reason
    assert (text, finish) == (" 8, 9, 10, 1", "stop")


def test_a_ban_is_kept(client, peer):
    top = create(client, temperature=0, max_tokens=1, logprobs=True, top_logprobs=2).choices[0].logprobs.content[0]
    best, second = (one.token for one in top.top_logprobs)
    (banned,) = peer.tokenise(best, special=False)
    answer = create(client, temperature=0, max_tokens=1, logit_bias={str(banned): -100})
    assert answer.choices[0].message.content == second


def test_a_bias_decides(client):
    # 28 is `,` in this vocabulary.
    answer = create(client, temperature=0, max_tokens=3, logit_bias={"28": 100})
    assert answer.choices[0].message.content == ",,,"


def test_penalties_stop_repetition(client):
    prompt = "One two three four five six"
    plain = client.completions.create(model=allerac.MODEL, prompt=prompt, temperature=0, max_tokens=40)
    varied = client.completions.create(
        model=allerac.MODEL, prompt=prompt, temperature=0, max_tokens=40, frequency_penalty=2, presence_penalty=2
    )
    assert plain.choices[0].text.count("1234567890") >= 2
    assert varied.choices[0].text.count("1234567890") <= 1


def test_narrow_sampling_is_greedy(client):
    greedy = create(client, temperature=0).choices[0].message.content
    for narrow in ({"extra_body": {"top_k": 1}}, {"top_p": 1e-6}, {"extra_body": {"min_p": 1.0}}):
        assert create(client, temperature=2.0, seed=3, **narrow).choices[0].message.content == greedy


def test_both_names_of_the_token_limit(client):
    assert create(client, max_tokens=5, temperature=0).usage.completion_tokens == 5
    answer = create(client, max_tokens=openai.omit, max_completion_tokens=5, temperature=0)
    assert answer.usage.completion_tokens == 5


def test_a_conversation_reaches_the_template(client, peer):
    messages = [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": [{"type": "text", "text": "Pick a colour."}]},
        {"role": "assistant", "content": "Red"},
        {"role": "user", "content": "Größe? 😀"},
    ]
    flat = [*messages]
    flat[1] = {"role": "user", "content": "Pick a colour."}
    answer = create(client, messages=messages, max_tokens=1)
    assert answer.usage.prompt_tokens == len(peer.tokenise(peer.render(flat), special=True))


def test_a_name_for_the_end_user_changes_nothing(client):
    assert create(client, temperature=0, user="u-1").choices[0].message.content == (
        create(client, temperature=0).choices[0].message.content
    )


def test_async_clients_share_the_box(server, key):
    import asyncio

    async def ask(index: int):
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=allerac.MODEL, messages=HELLO, max_tokens=8 + index, temperature=0, stream=True,
                stream_options={"include_usage": True}, logit_bias=allerac.NEVER_END,
            )  # fmt: skip
            return [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]

    async def main():
        return await asyncio.gather(*(ask(index) for index in range(12)))

    assert asyncio.run(main()) == [[8 + index] for index in range(12)]
