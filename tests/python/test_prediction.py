"""A prediction makes an answer faster and never another one."""

import allerac

# Whether guesses pay is measured: where they hardly do, as on few cores, they are tried now and then only.
TRIES_MAX = 60
QUESTION = {
    "model": allerac.MODEL,
    "messages": [{"role": "user", "content": "Tell a story about a lighthouse, a fox and the sea."}],
    "temperature": 0,
    "max_tokens": 120,
}


def test_a_prediction_changes_no_answer(client):
    plain = client.chat.completions.create(**QUESTION)
    text = plain.choices[0].message.content
    details = plain.usage.completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (0, 0)
    accepted = 0
    for _ in range(TRIES_MAX):
        right = client.chat.completions.create(**QUESTION, prediction={"type": "content", "content": text})
        assert right.choices[0].message.content == text
        assert right.usage.completion_tokens == plain.usage.completion_tokens
        accepted = right.usage.completion_tokens_details.accepted_prediction_tokens
        if accepted > 20:
            break
    assert accepted > 20
    parts = [{"type": "text", "text": "Something else"}, {"type": "text", "text": " altogether."}]
    wrong = client.chat.completions.create(**QUESTION, prediction={"type": "content", "content": parts})
    assert wrong.choices[0].message.content == text
    assert wrong.usage.completion_tokens_details.accepted_prediction_tokens == 0
