"""`POST /v1/completions` and `/v1/models` through the official Python client."""

from types import SimpleNamespace

import gguf
import openai
import pytest
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

import allerac
from test_gguf_encoders import install

COUNT = {"model": allerac.MODEL, "prompt": "1, 2, 3, 4, 5, 6, 7,", "temperature": 0, "max_tokens": 9}


def joined(parts):
    """Log probabilities of all parts."""
    parts = [part for part in parts if part]
    names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    return SimpleNamespace(**{name: sum((getattr(part, name) for part in parts), []) for name in names})


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


def test_an_echo_is_the_prompt_and_what_follows(client, peer):
    plain = client.completions.create(**COUNT)
    tokens = peer.tokenise(COUNT["prompt"], special=False)
    assert len(tokens) == plain.usage.prompt_tokens
    for prompt in (COUNT["prompt"], tokens):
        echoed = client.completions.create(**COUNT | {"prompt": prompt, "echo": True})
        assert echoed.choices[0].text == COUNT["prompt"] + plain.choices[0].text
        assert echoed.choices[0].logprobs is None
        assert (echoed.usage.prompt_tokens, echoed.usage.completion_tokens) == (20, 9)
        parts = list(client.completions.create(**COUNT | {"prompt": prompt, "echo": True}, stream=True))
        assert parts[0].choices[0].text == COUNT["prompt"]
        assert "".join(part.choices[0].text for part in parts) == echoed.choices[0].text
    batch = {"prompt": ["A, B,", "größer"], "n": 2, "max_tokens": 1, "echo": True}
    texts = [choice.text for choice in client.completions.create(**COUNT | batch).choices]
    assert [text[:5] for text in texts] == ["A, B,", "A, B,", "größe", "größe"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_echo_says_how_likely_the_prompt_was(client, peer, stream):
    """Beside what the model says of each token where it is the next one."""
    tokens = peer.tokenise(COUNT["prompt"], special=False)
    answer = client.completions.create(**COUNT | {"prompt": tokens, "echo": True, "logprobs": 2, "max_tokens": 2}, stream=stream)
    logprobs = joined(part.choices[0].logprobs for part in answer) if stream else answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == COUNT["prompt"] + " 8"
    assert (logprobs.token_logprobs[0], logprobs.top_logprobs[0]) == (None, None)
    assert logprobs.text_offset == [len("".join(logprobs.tokens[:place])) for place in range(len(logprobs.tokens))]
    for place in range(1, len(tokens)):
        bias = {str(tokens[place]): 100}
        one = {"prompt": tokens[:place], "max_tokens": 1, "logprobs": 2, "logit_bias": bias}
        next_one = client.completions.create(**COUNT | one).choices[0].logprobs
        assert next_one.tokens[0] == logprobs.tokens[place]
        assert logprobs.token_logprobs[place] == pytest.approx(next_one.token_logprobs[0], abs=0.05)
        assert list(logprobs.top_logprobs[place]) == list(next_one.top_logprobs[0])
    # Known by now, and yet computed: what is known has no scores.
    again = client.completions.create(**COUNT | {"prompt": tokens, "echo": True, "logprobs": 0, "max_tokens": 1})
    assert again.usage.prompt_tokens_details.cached_tokens == 0
    assert again.choices[0].logprobs.token_logprobs[1:20] == logprobs.token_logprobs[1:20]


def test_a_long_prompt_is_scored_in_pieces_as_it_is_whole(client, peer):
    """Beside llama.cpp's own server, which knows the next token only."""
    prompt = "The cat sat on the mat, and the dog sat on the cat. " * 12
    options = {"model": allerac.MODEL, "prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = client.completions.create(**options)
    logprobs, tokens = answer.choices[0].logprobs, peer.tokenise(prompt, special=False)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (prompt, "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokens), 0)
    assert len(logprobs.tokens) == len(tokens) > 150
    for place in (1, 63, 64, 65, 127, 128, 150, len(tokens) - 1):
        (theirs,) = peer.greedy(tokens[:place], 1, alternatives=1)["completion_probabilities"][0]["top_logprobs"]
        assert logprobs.top_logprobs[place] == {theirs["token"]: pytest.approx(theirs["logprob"], abs=0.1)}


@pytest.mark.parametrize("tokens", [0, 2])
def test_choices_share_the_scores_of_their_prompt(client, tokens):
    """It is computed once for all of them, and said with each."""
    options = COUNT | {"echo": True, "logprobs": 1, "max_tokens": tokens, "prompt": [COUNT["prompt"], "A, B, C,"]}
    alone = client.completions.create(**options)
    answer = client.completions.create(**options, n=3)
    assert [choice.index for choice in answer.choices] == list(range(6))
    for choice in answer.choices:
        first = alone.choices[choice.index // 3]
        assert choice.text.startswith(options["prompt"][choice.index // 3])
        assert (choice.text, choice.logprobs) == (first.text, first.logprobs)
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    parts = list(client.completions.create(**options, n=3, stream=True))
    for index in range(6):
        own = [part.choices[0] for part in parts if part.choices and part.choices[0].index == index]
        assert "".join(choice.text for choice in own) == answer.choices[index].text
        assert joined(choice.logprobs for choice in own) == joined([answer.choices[index].logprobs])


def test_nothing_but_a_prompt(client):
    answer = client.completions.create(**COUNT | {"max_tokens": 0})
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("", "length")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 0)


def test_nothing_but_a_prompt_may_fill_the_context(tmp_path):
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config="context = 256\n") as server:
        with server.client(server.create_key("anna")) as client:
            full = client.completions.create(**COUNT | {"prompt": [5] * 256, "max_tokens": 0, "echo": True})
            assert full.usage.total_tokens == 256
            for tokens, answer in [(257, 0), (256, 1)]:
                with pytest.raises(openai.BadRequestError) as caught:
                    client.completions.create(**COUNT | {"prompt": [5] * tokens, "max_tokens": answer})
                assert caught.value.code == "context_length_exceeded"


# A vocabulary has these or not; what else of it nobody uses stands for them here.
GAP = {"fim_pre": 4, "fim_suf": 5, "fim_mid": 6}


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    """A server whose model has tokens for a gap, as models for code have."""
    folder = tmp_path_factory.mktemp("gap")
    data = allerac.data_dir(folder / "data")
    names = {f"tokenizer.ggml.{name}_token_id": MetadataDetails(gguf.GGUFValueType.UINT32, token) for name, token in GAP.items()}
    copy_with_new_metadata(gguf.GGUFReader(allerac.MODEL_FILE), gguf.GGUFWriter(folder / "gap.gguf", "llama"), names, [])
    install(data, folder / "gap.gguf", "gap", "chat")
    with allerac.Server(data) as running:
        yield running


def test_a_gap_is_filled_between_prompt_and_suffix(filler, peer):
    with filler.client(filler.create_key("anna", "--plan", "unlimited")) as coder:
        before, after = "def add(a, b):", "return total"
        gap = {"model": "gap", "temperature": 0, "max_tokens": 8}
        tokens = [GAP["fim_pre"], *peer.tokenise(before, special=False), GAP["fim_suf"], *peer.tokenise(after, special=False), GAP["fim_mid"]]
        expected = coder.completions.create(**gap, prompt=tokens)
        answer = coder.completions.create(**gap, prompt=before, suffix=after)
        assert answer.usage.prompt_tokens == expected.usage.prompt_tokens == len(tokens)
        assert answer.choices[0].text == expected.choices[0].text
        echoed = coder.completions.create(**gap, prompt=[before, before], suffix=after, echo=True)
        assert [choice.text for choice in echoed.choices] == [before + answer.choices[0].text] * 2
        with pytest.raises(openai.BadRequestError) as caught:
            coder.completions.create(**gap, prompt=[1, 2], suffix=after)
        assert caught.value.param == "suffix"
        with filler.http(coder.api_key) as http:
            options = {"temperature": 0, "num_predict": 8}
            body = {"model": "gap", "prompt": before, "suffix": after, "stream": False, "options": options}
            told = http.post("/api/generate", json=body).json()
            assert (told["response"], told["prompt_eval_count"]) == (answer.choices[0].text, len(tokens))


def test_a_model_without_tokens_for_a_gap_says_so(client):
    with pytest.raises(openai.BadRequestError, match="fill in") as caught:
        client.completions.create(**COUNT, suffix="the end")
    assert (caught.value.param, caught.value.code) == ("suffix", "unsupported_value")


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
