"""Energy and money: what counters say goes to requests and to the box, to the millionth of a joule, and is told everywhere."""

import csv
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import allerac

RANGE = 1_000_000_000
PRICES = """
    [energy]
    price_per_kwh = 0.36
    [[energy.times]]
    hours = "mon-sun 00:00-24:00"
    price_per_kwh = 0.18
    [energy.machine]
    price = 876.6
    years = 5
    hours_a_day = 8
"""
# Billionths of a euro for a joule, at the price of the hours, which are all.
PER_JOULE = 50
QUESTION = {"model": allerac.MODEL, "prompt": "Once upon a time", "logit_bias": allerac.NEVER_END, "temperature": 0}


class Counter:
    """A processor that counts its energy, in a tree that the server takes for `/sys`."""

    def __init__(self, root: Path, start: int):
        self.zone = root / "sys/class/powercap/intel-rapl:0"
        self.value, self.given = start, 0
        self.write("name", "package-0")
        self.write("max_energy_range_uj", str(RANGE))
        self.write("energy_uj", str(start))
        # A part of it, which is not to be counted again.
        self.write("../intel-rapl:0:0/name", "core")
        self.write("../intel-rapl:0:0/energy_uj", "5")
        self.ends = threading.Event()

    def write(self, name: str, text: str):
        path = self.zone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(text + "\n")
        new.replace(path)

    def take(self, energy_uj: int):
        self.given += energy_uj
        self.value += energy_uj
        if self.value > RANGE:
            self.value -= RANGE
        self.write("energy_uj", str(self.value))

    def run(self):
        """About a hundred watts, never the same number twice."""
        step = 0
        while not self.ends.wait(0.01):
            step += 1
            self.take(1_000_000 + step % 7)

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


def serve(folder: Path, root: Path, config: str = ""):
    root.mkdir(exist_ok=True)
    wrapper = ("env", f"ALLERAC_ENERGY_ROOT={root}")
    return allerac.Server(allerac.data_dir(folder / "data"), config=config, wrapper=wrapper)


def energies(books) -> dict[str, tuple]:
    rows = books.rows(
        "SELECT users.name, sum(energy_uj), sum(cpu_us), sum(electricity), sum(machine) FROM usage"
        " JOIN users ON users.id = user_id GROUP BY users.name"
    )
    return {name: tuple(rest) for name, *rest in rows}


def own(books) -> tuple:
    return books.rows("SELECT coalesce(sum(energy_uj), 0), coalesce(sum(electricity), 0) FROM own_energy")[0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A box on which anna and kim asked at once, and which then rested; stopped and started again."""
    folder = tmp_path_factory.mktemp("energy")
    counter = Counter(folder / "root", RANGE - 5_000_000)
    with serve(folder, folder / "root", PRICES) as server:
        server.counter, server.owner = counter, server.claim("olga")
        keys = [server.create_key("anna"), server.create_key("kim")]
        server.began = int(time.time())
        with counter:
            time.sleep(0.3)
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(ask, server, key, tokens) for key, tokens in zip(keys, (400, 100))]
                [future.result() for future in asked]
            time.sleep(0.5)
        # What the books lack is written when the server ends.
        assert server.stop() == 0
        server.books = allerac.Books(server.data)
        server.start()
        yield server
        server.books.close()


def ask(server, key: str, tokens: int):
    with server.client(key) as client:
        client.completions.create(**QUESTION, max_tokens=tokens)


def test_what_requests_and_the_box_took_is_what_was_measured(measured):
    took, (own_energy, own_cost) = energies(measured.books), own(measured.books)
    assert own_energy + sum(energy for energy, *_ in took.values()) == measured.counter.given
    assert measured.counter.value < measured.counter.given, "the counter went round"
    assert took["anna"][0] > took["kim"][0] > 1_000_000 and own_energy > 10_000_000
    for energy, cpu, electricity, machine in took.values():
        assert abs(electricity - energy * PER_JOULE / 1e6) <= 1
        assert cpu > 0 and machine > 0
    assert abs(own_cost - own_energy * PER_JOULE / 1e6) <= 2
    measured.cli("ledger", "verify")


def test_the_command_line_tells_it(measured):
    rows = {row["user"]: row for row in json.loads(measured.cli("usage", "--by", "user", "--json").stdout)}
    assert {name: (row["energy_uj"], row["cpu_us"], row["electricity"], row["machine"]) for name, row in rows.items()} == energies(
        measured.books
    )
    told = measured.cli("usage", "--by", "month,user").stdout
    assert "KWH" in told and "EUR" in told
    assert "while nothing was computed, the box took 0.0000" in told
    exported = list(csv.DictReader(io.StringIO(measured.cli("usage", "export").stdout)))
    assert sum(int(row["energy_uj"]) for row in exported) == sum(energy for energy, *_ in energies(measured.books).values())
    assert all(int(row["electricity"]) > 0 and int(row["machine"]) > 0 and int(row["cpu_us"]) > 0 for row in exported)


def test_the_api_tells_it(measured):
    took, (own_energy, own_cost) = energies(measured.books), own(measured.books)
    with measured.http(measured.owner) as http:
        told = http.get("/v1/admin/usage").raise_for_status().json()
        assert told["energy"]["counters"] == ["package-0"] and told["currency"] == "eur"
        assert told["energy"]["own_kwh"] == pytest.approx(own_energy / 3.6e12)
        for row in told["used"]:
            energy, cpu, electricity, machine = took[row["user"]]
            assert row["energy_kwh"] == pytest.approx(energy / 3.6e12)
            assert row["cpu_seconds"] == pytest.approx(cpu / 1e6)
            assert row["cost"] == pytest.approx((electricity + machine) / 1e9)
        costs = sum(electricity + machine for _, _, electricity, machine in took.values())

        def amounts(**params):
            asked = {"start_time": measured.began, **params}
            buckets = http.get("/v1/organization/costs", params=asked).raise_for_status().json()["data"]
            return [(result["line_item"], result["amount"]["value"]) for bucket in buckets for result in bucket["results"]]

        assert amounts() == [(None, pytest.approx((costs + own_cost) / 1e9))]
        by_item = amounts(group_by="line_item")
        assert by_item == [(allerac.MODEL, pytest.approx(costs / 1e9)), ("box", pytest.approx(own_cost / 1e9))]
        of_kim = (took["kim"][2] + took["kim"][3]) / 1e9
        assert amounts(user_ids="kim") == [(None, pytest.approx(of_kim))]


def test_metrics_count_it(tmp_path):
    counter = Counter(tmp_path / "root", 0)
    with serve(tmp_path, tmp_path / "root") as server:
        owner = server.claim("olga")
        with counter:
            ask(server, owner, 50)

            def metrics() -> str:
                with server.http(owner) as http:
                    return http.get("/metrics").text

            line = f'allerac_energy_joules_total{{used_by="requests",model="{allerac.MODEL}"}} '
            text = allerac.wait_for("the energy of the request", lambda: (text := metrics()) and line in text and text)
        joules = float(text.split(line)[1].split()[0])
        books = allerac.Books(server.data)
        assert joules == pytest.approx(energies(books)["olga"][0] / 1e6)
        assert f'allerac_request_cpu_seconds_total{{model="{allerac.MODEL}"}}' in text
        books.close()


def test_without_a_counter_it_is_said_and_processors_are_told(tmp_path):
    with serve(tmp_path, tmp_path / "root") as server:
        owner = server.claim("olga")
        ask(server, owner, 50)
        books = allerac.Books(server.data)
        cpu = allerac.wait_for("the time of processors", lambda: energies(books)["olga"][1])
        assert (energies(books)["olga"], own(books)) == ((0, cpu, 0, 0), (0, 0))
        told = server.cli("usage").stdout
        assert "CPU SECONDS" in told and "KWH" not in told
        assert "this machine has no counter of energy that is known here; shown is the time of processors" in told
        with server.http(owner) as http:
            energy = http.get("/v1/admin/usage").json()["energy"]
            assert energy == {"counters": [], "unreadable": [], "own_kwh": 0.0, "own_cost": 0.0}
        books.close()
