"""Encoders of one GGUF file, which llama.cpp computes: against BERT in numpy, and against llama.cpp's own server."""

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy
import pytest
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

import allerac
import bert_gguf
from bert import Bert, WordPiece, read_safetensors
from peer import Peer
from test_embeddings import EMBEDDING_DATA, TEXTS, cosine, model_files, rerank, tiny_reranker

MODEL, RERANKER, SILENT, CAUSAL = "minilm-gguf", "tiny-reranker-gguf", "no-encoder", "causal"
# llama.cpp spells out a word that BERT's own tokeniser takes for unknown because of its length, and drops the vowel
# signs of Indian scripts with the accents.
COMMON = [text for text in TEXTS if "x" * 101 not in text and "हिन्दी" not in text]


def install(data, file, name, kind):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    shutil.copy(file, data / f"models/blobs/sha256-{digest}")
    (data / f"models/installed/{name}.toml").write_text(
        f'version = 1\nkind = "{kind}"\nsha256 = "{digest}"\nparameters = 1000\ninstalled_at = 0\n'
    )


@pytest.fixture(scope="module")
def files():
    return model_files(EMBEDDING_DATA)


@pytest.fixture(scope="module")
def made(tmp_path_factory, files):
    """A server with both kinds of encoders, and a model that is none but installed as one; and the reranker in numpy."""
    folder = tmp_path_factory.mktemp("gguf")
    data = allerac.data_dir(folder / "data")
    weights, config = read_safetensors(files["model.safetensors"]), json.loads(files["config.json"].read_text())
    bert_gguf.write(folder / "minilm.gguf", weights, config, files["tokenizer.json"], gguf.PoolingType.MEAN)
    install(data, folder / "minilm.gguf", MODEL, "embedding")
    tiny = tiny_reranker(folder, files["tokenizer.json"])
    bert_gguf.write(folder / "tiny.gguf", tiny.weights, tiny.config, files["tokenizer.json"], gguf.PoolingType.RANK)
    install(data, folder / "tiny.gguf", RERANKER, "reranker")
    bert_gguf.write(folder / "none.gguf", weights, config, files["tokenizer.json"], gguf.PoolingType.NONE)
    install(data, folder / "none.gguf", SILENT, "embedding")
    install(data, causal(folder / "causal.gguf"), CAUSAL, "embedding")
    with allerac.Server(data) as server:
        yield server, tiny


def causal(path):
    """A model that looks back only, made to give the vector of its last token, as the large embedding models do."""
    reader = gguf.GGUFReader(allerac.MODEL_FILE)
    pooling = MetadataDetails(gguf.GGUFValueType.UINT32, gguf.PoolingType.LAST.value)
    copy_with_new_metadata(reader, gguf.GGUFWriter(path, "llama"), {"llama.pooling_type": pooling}, [])
    return path


@pytest.fixture(scope="module")
def http(made):
    with made[0].http(made[0].create_key("anna")) as client:
        yield client


@pytest.fixture(scope="module")
def tokeniser(files):
    return WordPiece(files["tokenizer.json"])


def embed(http, texts, model=MODEL):
    answer = http.post("/v1/embeddings", json={"model": model, "input": texts})
    assert answer.status_code == 200, answer.text
    return [numpy.array(item["embedding"]) for item in answer.json()["data"]]


@pytest.fixture(scope="module")
def alone(http):
    return [embed(http, text)[0] for text in TEXTS]


def test_vectors_are_those_of_the_model(http, files, tokeniser, alone):
    bert = Bert(read_safetensors(files["model.safetensors"]), json.loads(files["config.json"].read_text()))
    for text, vector in zip(TEXTS, alone):
        assert vector.shape == (384,) and abs(numpy.linalg.norm(vector) - 1) < 1e-6
        if text in COMMON:
            assert cosine(vector, bert.embedding(tokeniser.tokens(text))) >= 0.9999, text
    longest = "sky " * 510
    assert cosine(embed(http, longest)[0], bert.embedding(tokeniser.tokens(longest))) >= 0.9999


def test_company_changes_no_more_than_rounding(http, alone):
    for vector, single in zip(embed(http, TEXTS), alone):
        assert numpy.abs(vector - single).max() <= 1e-3 and cosine(vector, single) >= 0.99999


def test_more_texts_than_one_step_takes_come_in_their_order(http, alone):
    many = [TEXTS[place % 3] for place in range(200)]
    for place, vector in enumerate(embed(http, many)):
        assert cosine(vector, alone[place % 3]) >= 0.99999


def test_requests_at_once_get_their_own_vectors(http, alone):
    turned = [TEXTS[place:] + TEXTS[:place] for place in range(len(TEXTS))]
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        found = list(pool.map(lambda texts: embed(http, texts), turned))
    for place, answer in enumerate(found):
        for vector, single in zip(answer, alone[place:] + alone[:place]):
            assert cosine(vector, single) >= 0.99999


def test_usage_counts_each_token_and_tokens_are_taken_as_they_are(http, tokeniser, alone):
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": COMMON}).json()
    assert answer["usage"]["prompt_tokens"] == sum(len(tokeniser.tokens(text)) for text in COMMON)
    assert cosine(embed(http, tokeniser.tokens(TEXTS[0]))[0], alone[0]) >= 0.99999


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": [30522]}, "input", "invalid_prompt"),
        ({"input": ["a", "sky " * 511]}, "input[1]", "context_length_exceeded"),
        ({"input": "a", "dimensions": 256}, "dimensions", "unsupported_value"),
        ({"input": "a", "model": RERANKER}, "model", "model_not_supported"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused_by_name(http, body, param, code):
    answer = http.post("/v1/embeddings", json={"model": MODEL, **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)


def test_a_reranker_looks_at_query_and_document_together(made, http, tokeniser):
    _, bert = made
    query, documents = "why is the sky blue", ["because it is", "bread", "the sky, the sky!", "größe"]
    pairs = [tokeniser.tokens(query) + tokeniser.tokens(document)[1:] for document in documents]
    # llama.cpp takes both texts for the first kind, whatever the model was trained with.
    scores = [bert.score(pair, None) for pair in pairs]
    answer = rerank(http, model=RERANKER, query=query, documents=documents)
    assert [result["index"] for result in answer["results"]] == sorted(range(4), key=lambda place: -scores[place])
    for result in answer["results"]:
        assert abs(result["relevance_score"] - scores[result["index"]]) < 1e-3
    assert answer["usage"]["total_tokens"] == sum(map(len, pairs))


def test_a_file_that_makes_no_vectors_is_refused_with_the_reason(made, http):
    answer = http.post("/v1/embeddings", json={"model": SILENT, "input": "a"})
    assert answer.status_code == 503, answer.text
    assert "cannot encode texts: it does not say how the vectors of tokens become one" in made[0].log


def test_a_model_that_looks_back_only_gives_what_llama_cpp_itself_does(tmp_path, http):
    texts = [*TEXTS[:4], "A long text. " * 150]
    with Peer(causal(tmp_path / "causal.gguf"), threads=2, context=2048, slots=1, embeds=True) as peer:
        wanted = [numpy.array(peer.post("/v1/embeddings", input=text)["data"][0]["embedding"]) for text in texts]
    for text, vector, reference in zip(texts, embed(http, texts, CAUSAL), wanted):
        assert cosine(vector, reference) >= 0.999, text


def test_ollama_is_told_what_the_model_is(http):
    answer = http.post("/api/embed", json={"model": MODEL, "input": TEXTS[:2]})
    assert [len(vector) for vector in answer.json()["embeddings"]] == [384, 384]
    shown = http.post("/api/show", json={"model": MODEL}).json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["model_info"]["bert.embedding_length"] == 384
