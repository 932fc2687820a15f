"""A prediction makes an answer faster and never another one."""

import allerac

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
    right = client.chat.completions.create(**QUESTION, prediction={"type": "content", "content": text})
    assert right.choices[0].message.content == text
    assert right.usage.completion_tokens == plain.usage.completion_tokens
    assert right.usage.completion_tokens_details.accepted_prediction_tokens > 40
    parts = [{"type": "text", "text": "Something else"}, {"type": "text", "text": " altogether."}]
    wrong = client.chat.completions.create(**QUESTION, prediction={"type": "content", "content": parts})
    assert wrong.choices[0].message.content == text
    assert wrong.usage.completion_tokens_details.accepted_prediction_tokens == 0
