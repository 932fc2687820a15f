"""From a stick onto the machine's own disk: asked on the screen, or by a file on the stick; whatever comes in between."""

import shutil
import subprocess
import time

import httpx
import pytest

from machine import Machine, empty, image, overlay
from test_boot import TELL_BOOKS, books, chat

TELL_SCREEN_ALWAYS = """[Unit]
Description=Tells the tests what the screen shows, over and over
After=allerac-install.service
[Service]
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'while sleep 2; do echo screen=$(tr -cd "[:print:]" < /dev/vcs1 | tr -s " "); done'
"""
INSTALL_SECONDS_MAX = 1800
LARGE_SECTORS = "logical_block_size=4096,physical_block_size=4096"


def seeded(folder, seed: str):
    """A stick with an `allerac-install.toml`."""
    raw, file = folder / "seeded.raw", folder / "allerac-install.toml"
    subprocess.run(["cp", "--sparse=always", str(image()), str(raw)], check=True)
    file.write_text(seed)
    # The boot partition is the first, and begins at one mebibyte.
    subprocess.run(["mcopy", "-i", f"{raw}@@1M", str(file), "::/"], check=True)
    return overlay(raw, folder / "seeded.qcow2")


def photos(folder):
    """A disk with somebody's file system."""
    raw = folder / "photos.raw"
    with raw.open("wb") as disk:
        disk.truncate(8 * 2**30)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "photos", str(raw)], check=True)
    return overlay(raw, folder / "photos.qcow2"), raw


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A machine with an empty disk, one with somebody's photos, and a stick."""
    folder = tmp_path_factory.mktemp("box")
    machine = Machine(folder, empty(folder / "disk.qcow2"), units={"tell-books.service": TELL_BOOKS})
    machine.disk_options = "serial=EMPTY0"
    machine.install_units = {"tell-screen.service": TELL_SCREEN_ALWAYS}
    machine.spent = []
    yield machine
    machine.cut_power()
    shutil.rmtree(folder)


def screen(machine, *texts: str) -> str:
    """Waits until the screen shows all of this."""

    def look():
        shown = [line for line in machine.said().splitlines() if line.startswith("screen=")]
        return shown[-1] if shown and all(text in shown[-1] for text in texts) else None

    return machine.wait(f"the screen to show {texts}", look, INSTALL_SECONDS_MAX)


def claim(machine) -> str:
    machine.wait_http("/readyz")
    code = machine.wait_line("claim-code=")
    answer = httpx.post(f"{machine.url}/claim", json={"code": code, "owner": "olga"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]


def starts_nothing(machine):
    """The firmware finds nothing on any disk."""
    machine.start()
    machine.wait("the firmware to give up", lambda: "No bootable option or device was found" in machine.said(), 600)
    machine.cut_power()


@pytest.fixture(scope="module")
def key(box, tmp_path_factory):
    """The owner's key of the box after it was installed from the screen."""
    folder = tmp_path_factory.mktemp("stick")
    foreign, untouched = photos(folder)
    box.stick = overlay(image(), folder / "stick.qcow2")
    box.others = {"PHOTOS0": foreign}
    began = time.monotonic()
    box.start()
    box.choose("Install on a disk", 1)
    shown = screen(box, "Type the serial number")
    print(f"\nthe stick asked where to install {time.monotonic() - began:.0f} s after it was switched on")
    assert "not possible: the system runs from it" in shown
    assert 'serial number PHOTOS0 holds ext4 "photos"' in shown and "serial number EMPTY0 empty" in shown
    box.type("stick0\n")
    screen(box, "Nothing was changed: /dev/sda will not be written: the system runs from it.")
    box.type("photos0\n")
    screen(box, 'This disk holds ext4 "photos". All of it would be lost.', "Type erase photos0")
    box.type("yes\n")
    screen(box, "Nothing was changed.")
    began = time.monotonic()
    box.type("empty0\n")
    screen(box, "Done. Press Enter")
    print(f"it was installed in {time.monotonic() - began:.0f} s")
    box.type("\n")
    box.wait_off()
    subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", str(foreign), str(untouched)], check=True)
    box.stick, box.others = None, {}
    began = time.monotonic()
    box.start()
    key = claim(box)
    print(f"the disk served {time.monotonic() - began:.0f} s after it was switched on without the stick")
    return key


def test_a_stick_installs_where_the_screen_was_told_and_nowhere_else(box, key):
    """The models came along: it answers without having fetched anything."""
    chat(box, key)
    box.press_power()


def test_a_power_cut_while_it_is_replaced_keeps_what_the_box_remembers(box, key, tmp_path):
    box.stick = seeded(tmp_path, 'version = 1\nserial = "EMPTY0"\npreserve = true\n')
    box.start()
    box.wait("the installation to be half done", lambda: "    50 %" in box.said(), INSTALL_SECONDS_MAX)
    box.cut_power()
    stick, box.stick = box.stick, None
    starts_nothing(box)
    box.stick = stick
    began = time.monotonic()
    box.start()
    box.wait("the installation", lambda: "the installation is done" in box.said(), INSTALL_SECONDS_MAX)
    box.wait_off()
    print(f"\nthe second try was done, and the machine off, {time.monotonic() - began:.0f} s after it was switched on")
    box.stick = None
    box.start()
    box.wait_http("/readyz")
    assert books(box) == (len(box.spent), sum(box.spent))
    chat(box, key)
    box.press_power()


def test_a_box_is_not_erased_by_a_seed_that_does_not_say_so(box, key, tmp_path):
    """The stick serves instead, and says on itself why."""
    box.stick = seeded(tmp_path, 'version = 1\nserial = "EMPTY0"\n')
    box.start()
    refusal = "holds a box, version 0.0.0; say whether its keys, people and models are kept or erased"
    box.wait("the refusal", lambda: refusal in box.said())
    box.wait_http("/readyz")
    assert httpx.get(f"{box.url}/claim", timeout=60).json()["claimed"] is False
    box.press_power()
    box.stick = None


def test_a_disk_of_large_sectors(tmp_path):
    machine = Machine(tmp_path, empty(tmp_path / "disk.qcow2"))
    machine.disk_options = f"serial=LARGE0,{LARGE_SECTORS}"
    machine.stick = seeded(tmp_path, 'version = 1\nserial = "LARGE0"\nthen = "power-off"\n')
    machine.spent = []
    began = time.monotonic()
    with machine:
        machine.wait("the installation", lambda: "the installation is done" in machine.said(), INSTALL_SECONDS_MAX)
        machine.wait_off()
        print(f"\nwithout anybody: installed and off after {time.monotonic() - began:.0f} s")
        machine.stick = None
        machine.start()
        chat(machine, claim(machine))


def test_the_boot_menu_makes_a_box_forget_everything(box, key):
    """Its keys and its ledger are gone, and whoever stands before it may claim it; the system and its models stay."""
    box.start()
    box.choose("Factory reset", 2)
    new_key = claim(box)
    old = httpx.get(f"{box.url}/v1/models", headers={"Authorization": f"Bearer {key}"}, timeout=60)
    assert old.status_code == 401, old.text
    assert books(box) == (0, 0)
    box.spent.clear()
    chat(box, new_key)
    # Once is enough: the next start is one like any other.
    box.press_power()
    box.start()
    box.wait_http("/readyz")
    chat(box, new_key)
    box.press_power()
