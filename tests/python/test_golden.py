"""Greedy decoding gives the very tokens of an independent llama.cpp, streamed or not, alone or in company.

`golden.json` holds the tokens as literals, so that a change shows even when both programs change alike;
`make_golden.py` says how its prompts were chosen. The API speaks text, so tokens are compared by their
bytes (`logprobs`): in this vocabulary no two ordinary tokens have the same bytes.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import allerac

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
GREEDY = {"model": allerac.MODEL, "temperature": 0}

each_prompt = pytest.mark.parametrize("golden", GOLDEN, ids=[one["name"] for one in GOLDEN])


@each_prompt
def test_the_peer_agrees(peer, golden):
    """llama.cpp's own server renders, tokenises and continues as recorded."""
    prompt = peer.tokenise_prompt(golden["prompt"])
    assert prompt == golden["prompt_ids"]
    answer = peer.greedy(prompt, golden["max_tokens"])
    assert answer["tokens"][: len(golden["ids"])] == golden["ids"]
    assert answer["content"] == text(golden)


@each_prompt
def test_alone(client, golden):
    assert whole(client, golden) == expected(golden)


@each_prompt
def test_streamed(client, golden):
    assert streamed(client, golden) == expected(golden)


@pytest.mark.parametrize("ask", ["whole", "streamed", "mixed"])
def test_in_company(client, ask):
    """Eight at a time share one batch, and each gets what it gets alone."""

    def run(index: int):
        golden = GOLDEN[index]
        stream = ask == "streamed" or (ask == "mixed" and index % 2 == 0)
        return (streamed if stream else whole)(client, golden)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(run, range(8)))
    assert answers == [expected(golden) for golden in GOLDEN]


def test_in_the_company_of_longer_prompts_and_sampling(client):
    """A prompt of a thousand tokens is computed in pieces between the steps of the others."""

    def neighbour(index: int):
        client.completions.create(
            model=allerac.MODEL, prompt=f"Neighbour {index}. " + "All work and no play. " * 150,
            max_tokens=48, temperature=1.0, seed=index,
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        neighbours = [pool.submit(neighbour, index) for index in range(4)]
        answers = list(pool.map(lambda golden: streamed(client, golden), GOLDEN[:4]))
        for one in neighbours:
            one.result()
    assert answers == [expected(golden) for golden in GOLDEN[:4]]


def test_a_prompt_of_token_ids_is_taken_as_it_is(client):
    golden = GOLDEN[0]
    answer = client.completions.create(
        **GREEDY, prompt=golden["prompt_ids"], max_tokens=golden["max_tokens"], logprobs=0
    )
    assert answer.choices[0].text == text(golden)
    assert answer.usage.prompt_tokens == len(golden["prompt_ids"])


def is_chat(golden) -> bool:
    return isinstance(golden["prompt"], list)


def text(golden) -> str:
    return b"".join(map(bytes.fromhex, golden["bytes"])).decode()


def expected(golden) -> dict:
    return {
        "text": text(golden),
        "tokens": [bytes.fromhex(token) for token in golden["bytes"]] if is_chat(golden) else None,
        "finish_reason": golden["finish_reason"],
        "prompt_tokens": len(golden["prompt_ids"]),
        "completion_tokens": len(golden["ids"]),
    }


def whole(client, golden) -> dict:
    if is_chat(golden):
        answer = client.chat.completions.create(
            **GREEDY, messages=golden["prompt"], max_tokens=golden["max_tokens"], logprobs=True
        )
        content = answer.choices[0].message.content
        tokens = [bytes(token.bytes) for token in answer.choices[0].logprobs.content]
    else:
        answer = client.completions.create(**GREEDY, prompt=golden["prompt"], max_tokens=golden["max_tokens"])
        content, tokens = answer.choices[0].text, None
    return result(content, tokens, answer.choices[0].finish_reason, answer.usage)


def streamed(client, golden) -> dict:
    options = {**GREEDY, "max_tokens": golden["max_tokens"], "stream": True, "stream_options": {"include_usage": True}}
    pieces, tokens, finish, usage = [], [], None, None
    if is_chat(golden):
        for chunk in client.chat.completions.create(**options, messages=golden["prompt"], logprobs=True):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                tokens += [bytes(token.bytes) for token in (choice.logprobs.content if choice.logprobs else [])]
                finish = choice.finish_reason or finish
    else:
        tokens = None
        for chunk in client.completions.create(**options, prompt=golden["prompt"]):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.text)
                finish = choice.finish_reason or finish
    return result("".join(pieces), tokens, finish, usage)


def result(content, tokens, finish, usage) -> dict:
    return {
        "text": content,
        "tokens": tokens,
        "finish_reason": finish,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
    }
