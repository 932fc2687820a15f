"""What tokens are drawn from, beside llama.cpp's own server with the same parameters."""

import math

import openai
import pytest

import allerac

# Short enough that kernels for different instruction sets hardly differ.
TEXT = " a b a"
# Nothing filters but what a test asks for. The peer reports nothing where the one token ends the answer or is a
# part of a character; with this seed it is neither.
OPEN = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "logit_bias": allerac.NEVER_END, "seed": 3}


def drawn_from(client, prompt, **options):
    """The likeliest tokens of what the next token is drawn from, with their probabilities."""
    own = {name: options.pop(name) for name in ("temperature", "top_p", "logit_bias", "seed") if name in options}
    answer = client.completions.create(
        model=allerac.MODEL, prompt=prompt, max_tokens=1, logprobs=5, **own,
        extra_body=options | {"post_sampling_probs": True},
    )  # fmt: skip
    (top,) = answer.choices[0].logprobs.top_logprobs
    return {token: math.exp(logprob) for token, logprob in top.items()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 3},
        {"top_k": 3, "typical_p": 0.2},
        {"top_k": 3, "typical_p": 0.5},
        {"repeat_penalty": 1.3},
        {"repeat_penalty": 1.3, "repeat_last_n": 2},
        {"dry_multiplier": 1.5, "dry_allowed_length": 1},
        {"dry_multiplier": 1.5, "dry_allowed_length": 1, "dry_sequence_breakers": ["b"]},
        {"dry_multiplier": 1.5, "dry_allowed_length": 1, "dry_penalty_last_n": 2},
        {"dry_multiplier": 0.7, "dry_allowed_length": 0, "dry_base": 3},
        {"xtc_probability": 1, "xtc_threshold": 0.05},
        {"xtc_probability": 1, "xtc_threshold": 0.05, "top_k": 4, "temperature": 0.5},
        {"mirostat": 2, "mirostat_tau": 1.5},
        {"mirostat": 2, "mirostat_tau": 2, "temperature": 0.7},
        {"repeat_penalty": 1.1, "dry_multiplier": 0.3, "dry_allowed_length": 1, "top_k": 40, "typical_p": 0.9,
         "top_p": 0.9, "min_p": 0.02},
    ],
    ids=lambda options: ",".join(f"{name}={value}" for name, value in options.items()) or "open",
)
def test_what_is_drawn_from_agrees_with_the_peer(client, peer, options):
    prompt = peer.tokenise(TEXT, special=False)
    ours = drawn_from(client, prompt, **OPEN | options)
    answer = peer.post(
        "/completion", prompt=prompt, n_predict=1, n_probs=5, post_sampling_probs=True, **OPEN | options
    )
    theirs = {top["token"]: top["prob"] for top in answer["completion_probabilities"][0]["top_probs"]}
    theirs = {token: probability for token, probability in theirs.items() if probability > 0}
    # The fifth may be as likely as the sixth.
    assert len(ours) == len(theirs)
    for token, probability in list(theirs.items())[:4]:
        assert ours[token] == pytest.approx(probability, abs=0.01)


def test_dry_and_the_repetition_penalty_stop_repetition(client):
    def lines(**options):
        answer = client.completions.create(
            model=allerac.MODEL, prompt="One two three four five six", temperature=0, max_tokens=60, extra_body=options
        )
        return answer.choices[0].text

    assert lines().count("1234567890") >= 2
    assert lines(repeat_penalty=1.3, repeat_last_n=-1).count("1234567890") <= 1
    assert lines(dry_multiplier=4, dry_penalty_last_n=-1, dry_sequence_breakers=[]).count("1234567890") <= 1


def test_log_probabilities_are_the_models_own_unless_asked(client):
    def create(**body):
        return client.chat.completions.create(
            model=allerac.MODEL, messages=[{"role": "user", "content": "Say hello to a friend."}], max_tokens=4,
            logprobs=True, top_logprobs=5, seed=4, temperature=0.5, extra_body={"top_k": 2} | body,
        ).choices[0].logprobs.content  # fmt: skip

    own, drawn = create(), create(post_sampling_probs=True)
    assert [token.token for token in own] == [token.token for token in drawn], "it changes no choice"
    assert [len(token.top_logprobs) for token in own] == [5] * 4
    for token in drawn:
        assert len(token.top_logprobs) == 2
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) == pytest.approx(1, abs=1e-4)


def test_a_seed_repeats_an_answer_with_every_sampler_on(client):
    everything = {
        "typical_p": 0.9, "repeat_penalty": 1.1, "dry_multiplier": 0.5, "xtc_probability": 0.5, "top_k": 40,
    }  # fmt: skip

    def answer(seed, **more):
        return client.completions.create(
            model=allerac.MODEL, prompt="The cat sat on the mat. The dog", max_tokens=32, seed=seed, temperature=0.9, extra_body=everything | more
        ).choices[0].text

    assert answer(7) == answer(7)
    assert answer(7, mirostat=2) == answer(7, mirostat=2)
    assert len({answer(seed) for seed in range(4)}) > 1


def test_an_answer_is_as_long_as_it_must_be(client):
    def answer(**more):
        messages = [{"role": "user", "content": "Reply with the single word: yes"}]
        made = client.chat.completions.create(
            model=allerac.MODEL, messages=messages, max_tokens=60, temperature=0, extra_body=more
        )
        return made.usage.completion_tokens, made.choices[0].finish_reason, made.choices[0].message.content

    tokens, reason, text = answer()
    assert reason == "stop" and tokens < 50
    assert answer(min_tokens=tokens) == (tokens, reason, text)
    longer, _, more = answer(min_tokens=tokens + 5)
    assert longer >= tokens + 5 and more.startswith(text)
    assert answer(ignore_eos=True)[:2] == (60, "length")


def test_mirostat_1_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=allerac.MODEL, prompt="a", extra_body={"mirostat": 1})
    assert (caught.value.param, caught.value.code) == ("mirostat", "unsupported_parameter")
