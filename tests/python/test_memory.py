"""What the box knows of prompts outlives their place in the engine: in memory, on disk, and over a restart."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import allerac

STORY = "The lighthouse keeper climbed the spiral stairs every evening with a brass lamp and a book. " * 15
SYSTEM = "You are the assistant of a small bakery. Answer in one sentence, and never mention the weather. " * 8


def ask(client, text, system=None, **options):
    messages = [{"role": "user", "content": text}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    options = {"max_tokens": 8, "temperature": 0} | options
    return client.chat.completions.create(model=allerac.MODEL, messages=messages, **options)


def cached(answer) -> int:
    return answer.usage.prompt_tokens_details.cached_tokens


def test_a_prompt_is_known_after_a_restart(fresh):
    key, other = fresh.create_key("anna"), fresh.create_key("berta")
    with fresh.client(key) as client:
        begun = time.monotonic()
        first = ask(client, STORY)
        cold = time.monotonic() - begun
        assert cached(first) == 0
    for stop in [fresh.stop, lambda: (fresh.kill(), wait_for_engines(fresh))]:
        stop()
        fresh.start()
        with fresh.client(key) as client:
            begun = time.monotonic()
            again = ask(client, STORY)
            warm = time.monotonic() - begun
        assert cached(again) == again.usage.prompt_tokens
        assert again.choices[0].message.content == first.choices[0].message.content
        # Eight tokens of answer take most of it.
        assert warm < cold / 2, f"{warm:.3f} s instead of {cold:.3f} s"
    with fresh.client(other) as client:
        assert cached(ask(client, STORY)) == 0, "another person's timing tells nothing"


def wait_for_engines(server):
    """A router that is killed leaves its engines to write what they know."""
    file = next((server.data / "kv").iterdir())

    def is_free():
        return not any(os.path.samefile(f"/proc/{pid}/fd/{fd}", file) for pid, fd in open_files())

    allerac.wait_for("the engine ends", is_free)


def open_files():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.path.exists(f"/proc/{pid}/fd/{fd}"):
                    yield pid, fd
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue


def test_nobody_else_can_read_what_is_kept(fresh):
    with fresh.client(fresh.create_key("anna")) as client:
        ask(client, STORY)
    fresh.stop()
    assert (fresh.data / "box.key").stat().st_mode & 0o777 == 0o600
    assert (fresh.data / "kv").stat().st_mode & 0o777 == 0o700
    (file,) = (fresh.data / "kv").iterdir()
    assert file.name == f"sha256-{allerac.MODEL_SHA256}.kv"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size > 1_000_000


def test_a_damaged_file_and_a_lost_key_cost_time_and_nothing_else(fresh):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        first = ask(client, STORY)
    fresh.stop()
    (file,) = (fresh.data / "kv").iterdir()
    whole = file.read_bytes()
    for damage in [whole[: len(whole) // 2], whole[:5000] + b"\0" * 5000 + whole[10_000:], b"", b"nonsense" * 10_000]:
        file.write_bytes(damage)
        fresh.start()
        with fresh.client(key) as client:
            again = ask(client, STORY)
        assert (cached(again), again.choices[0].message.content) == (0, first.choices[0].message.content)
        fresh.stop()
    (fresh.data / "box.key").unlink()
    fresh.start()
    with fresh.client(key) as client:
        assert cached(ask(client, STORY)) == 0


def test_the_folder_may_go_while_it_runs(fresh):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        ask(client, STORY)
        shutil.rmtree(fresh.data / "kv")
        assert cached(ask(client, STORY)) > 0
    assert fresh.stop() == 0
    fresh.start()
    with fresh.client(key) as client:
        assert cached(ask(client, STORY)) == 0


@pytest.fixture
def common(tmp_path):
    config = f"common_prompts = [{SYSTEM!r}]\n"
    with allerac.Server(allerac.data_dir(tmp_path / "data"), config=config) as running:
        yield running


def test_a_common_prompt_is_shared_and_nothing_else(common):
    anna, berta, clara = (common.client(common.create_key(name)) for name in ["anna", "berta", "clara"])
    first = ask(anna, "What do you sell?", SYSTEM)
    assert cached(first) == 0
    second = ask(berta, "Are you open?", SYSTEM)
    assert 0 < cached(second) < second.usage.prompt_tokens - 5
    # The same question of somebody else: no more is known of it than the common beginning.
    assert cached(ask(clara, "What do you sell?", SYSTEM)) == cached(second)
    assert cached(ask(berta, "Are you open?", SYSTEM + "Be kind.")) < cached(second)
    # What is not marked is not shared.
    ask(anna, "What do you sell?", STORY)
    assert cached(ask(berta, "What do you sell?", STORY)) == 0


def test_what_can_wait_waits_for_the_others(fresh):
    key = fresh.create_key("anna")
    with fresh.client(key) as client:
        options = {"max_tokens": 300, "temperature": 0, "logit_bias": allerac.NEVER_END}
        patient = {**options, "service_tier": "flex", "stream": True}
        streams = [ask(client, f"Tell story {number}.", **patient) for number in range(8)]
        ends = {}

        def read(number):
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streams[number] if chunk.choices)
            ends[number] = time.monotonic()
            return text

        with ThreadPoolExecutor() as pool:
            texts = [pool.submit(read, number) for number in range(8)]
            # All slots are taken, and yet it begins at once.
            urgent = ask(client, "Say hello.", **options | {"max_tokens": 40})
            end = time.monotonic()
            assert urgent.service_tier == "default"
            texts = [text.result() for text in texts]
        assert sum(other > end for other in ends.values()) >= 7, "the urgent one is first"
        # Pausing changed nothing.
        alone = ask(client, "Tell story 7.", **options)
        assert texts[7] == alone.choices[0].message.content


def test_the_tier_is_said(fresh):
    starter = fresh.create_key("child", "--plan", "starter")
    with fresh.client(fresh.create_key("anna")) as anna, fresh.client(starter) as child:
        for wanted, given in [("auto", "default"), ("flex", "flex"), ("priority", "priority")]:
            assert ask(anna, "Hi.", service_tier=wanted).service_tier == given
        assert ask(child, "Hi.", service_tier="priority").service_tier == "default"
        chunks = list(ask(anna, "Hi.", service_tier="flex", stream=True))
        assert {chunk.service_tier for chunk in chunks} == {"flex"}
