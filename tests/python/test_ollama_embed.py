"""Ollama's vectors, with its own client: the same as OpenAI's, cut where a text is too long, and what cannot be."""

import numpy
import ollama
import pytest

import allerac
from test_embeddings import MODEL, data_dir

CONTEXT = 512


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with allerac.Server(data_dir(tmp_path_factory.mktemp("embed") / "data")) as running:
        running.key = running.create_key("anna")
        yield running


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(host=server.url, headers={"authorization": f"Bearer {server.key}"})


@pytest.fixture
def http(server):
    with server.http(server.key) as made:
        yield made


def test_vectors_are_those_of_openais_api(client, server):
    texts = ["Why is the sky blue?", "", "Почему небо голубое?"]
    answer = client.embed(model=f"{MODEL}:latest", input=texts)
    assert answer.model == f"{MODEL}:latest"
    with server.client(server.key) as openai:
        expected = openai.embeddings.create(model=MODEL, input=[texts[0], texts[2]])
    ours = numpy.array(answer.embeddings)
    assert ours.shape == (3, 384)
    assert numpy.array_equal(ours[[0, 2]].astype("f4"), numpy.array([each.embedding for each in expected.data], "f4"))
    # The empty text has but the two tokens around each.
    assert answer.prompt_eval_count == expected.usage.prompt_tokens + 2
    assert 0 <= answer.load_duration < answer.total_duration
    (alone,) = client.embed(model=MODEL, input=texts[0]).embeddings
    assert alone == answer.embeddings[0]
    assert client.embeddings(model=MODEL, prompt=texts[0]).embedding == alone
    assert client.embed(model="all-minilm:l6-v2", input=texts[0]).embeddings[0] == alone


def test_nothing_asked_loads_the_model(client, http):
    assert http.post("/api/embed", json={"model": MODEL}).json()["embeddings"] == []
    assert client.embed(model=MODEL, input=[]).embeddings == []
    assert client.embeddings(model=MODEL, prompt="").embedding == []
    assert f"{MODEL}:latest" in {model.model for model in client.ps().models}


def test_a_long_text_is_cut_or_refused(client, http, server):
    before = server.totals()["prompt_tokens"]
    long, cut = "word " * 2000, "word " * (CONTEXT - 2)
    answer = client.embed(model=MODEL, input=long)
    assert answer.prompt_eval_count == CONTEXT
    assert answer.embeddings == client.embed(model=MODEL, input=cut).embeddings
    assert client.embeddings(model=MODEL, prompt=long).embedding == answer.embeddings[0]
    refused = http.post("/api/embed", json={"model": MODEL, "input": ["short", long], "truncate": False})
    assert refused.status_code == 400
    assert "`input[1]` has 2002" in refused.json()["error"]
    # What was cut was not computed, and is not charged.
    allerac.wait_for("three requests", lambda: server.totals()["prompt_tokens"] - before == 3 * CONTEXT)


def test_what_the_model_is(client):
    shown = client.show(MODEL)
    assert shown.capabilities == ["embedding"]
    assert (shown.details.format, shown.details.family, shown.template) == ("safetensors", "bert", "")
    info = shown.modelinfo
    assert (info["general.architecture"], info["bert.embedding_length"], info["bert.block_count"]) == ("bert", 384, 6)
    assert (info["bert.context_length"], info["general.parameter_count"]) == (CONTEXT, 22_713_216)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [("embed", {"model": allerac.MODEL, "input": "a"}, 400, "generates text"),
     ("embed", {"model": "nope", "input": "a"}, 404, "nope"),
     ("embed", {"input": "a"}, 400, "`model`"),
     ("embed", {"model": MODEL, "input": 5}, 400, "`input`"),
     ("embed", {"model": MODEL, "input": ["a", 5]}, 400, "`input[1]`"),
     ("embed", {"model": MODEL, "input": "a", "nonsense": 1}, 400, "`nonsense`"),
     ("embed", {"model": MODEL, "input": "a", "dimensions": 100}, 400, "`dimensions`"),
     ("embed", {"model": MODEL, "input": "a", "keep_alive": "x"}, 400, "`keep_alive`"),
     ("embeddings", {"model": MODEL, "prompt": ["a"]}, 400, "`prompt`"),
     ("embeddings", {"model": allerac.MODEL, "prompt": "a"}, 400, "generates text")],
)  # fmt: skip
def test_what_cannot_be_is_named(http, path, body, status, said):
    answer = http.post(f"/api/{path}", json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert said in answer.json()["error"]


def test_nothing_without_a_key(server):
    with server.http() as http:
        for path in ("embed", "embeddings"):
            assert http.post(f"/api/{path}", json={"model": MODEL}).status_code == 401
