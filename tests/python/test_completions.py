"""`POST /v1/completions` and `/v1/models` through the official Python client."""

import openai
import pytest

import allerac

COUNT = {"model": allerac.MODEL, "prompt": "1, 2, 3, 4, 5, 6, 7,", "temperature": 0, "max_tokens": 9}


def test_an_answer_has_every_field_of_the_schema(client):
    raw = client.completions.with_raw_response.create(**COUNT)
    body = raw.http_response.json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage", "system_fingerprint"}
    assert (body["object"], body["model"]) == ("text_completion", allerac.MODEL)
    assert body["choices"] == [{"text": " 8, 9, 10", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (20, 9)
    assert raw.headers["x-allerac-served-by"] == "local"


def test_a_stream_adds_up_to_the_answer(client):
    chunks = list(client.completions.create(**COUNT, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert "".join(part.choices[0].text for part in parts) == " 8, 9, 10"
    assert [part.choices[0].finish_reason for part in parts][-1] == "length"
    assert (last.choices, last.usage.total_tokens) == ([], 29)


def test_log_probabilities(client):
    logprobs = client.completions.create(**COUNT, logprobs=2).choices[0].logprobs
    assert logprobs.tokens == [" ", "8", ",", " ", "9", ",", " ", "1", "0"]
    assert [offset - logprobs.text_offset[0] for offset in logprobs.text_offset] == list(range(9))
    assert [len(top) for top in logprobs.top_logprobs] == [2] * 9
    for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top[token] == value == max(top.values())


def test_several_prompts_and_choices(client):
    answer = client.completions.create(**COUNT | {"prompt": ["1, 2, 3,", "A, B, C,"], "n": 2, "max_tokens": 2})
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert (texts[0], texts[2]) == (texts[1], texts[3])
    assert texts[0] == " 4"


def test_choices_are_bounded_over_all_prompts(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**COUNT | {"prompt": ["1, 2, 3,"] * 6, "n": 3})
    assert caught.value.param == "n"


def test_models_are_listed(client):
    models = client.models.list().data
    assert [model.id for model in models] == [allerac.MODEL]
    assert models[0].object == "model"
    assert models[0].created > 1_600_000_000
    assert client.models.retrieve(allerac.MODEL) == models[0]


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-9")
    assert caught.value.code == "model_not_found"
