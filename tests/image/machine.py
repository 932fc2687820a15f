"""A virtual machine that boots the image: no acceleration, so that it runs anywhere; its screen, its power switch."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from neighbour import Neighbour

OVMF = Path("/usr/share/OVMF")
START_SECONDS_MAX = 900
"""Boots take two minutes on an idle machine without acceleration, and many times that on a busy one."""

TELL_CODE = """[Unit]
Description=Tells the tests the claim code
Requires=allerac.service
After=allerac.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'echo claim-code=$(cat /run/allerac/claim-code)'
"""
"""Nobody logs in to a box. What tests want to know, a unit tells that this virtual machine's firmware brings along."""


KEYS = {" ": "spc", "\n": "ret", "-": "minus", ".": "dot"}
"""What qemu calls the keys that are no letters or digits."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def overlay(image: Path, disk: Path, size: str = "8G") -> Path:
    """A disk that begins as the image and keeps its own changes."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image), str(disk), size]
    subprocess.run(command, check=True)
    return disk


def empty(disk: Path, size: str = "8G") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), size], check=True)
    return disk


class Machine:
    """Some disks, one network card, one screen, one keyboard. A context manager that pulls the plug at its end."""

    def __init__(self, folder: Path, disk: Path, *, units: dict[str, str] | None = None):
        self.folder, self.disk = folder, disk
        self.disk_options = "serial=box"
        self.stick: Path | None = None
        """A removable disk, which is started from first."""
        self.others: dict[str, Path] = {}
        """More disks, by their serial number."""
        self.units = {"tell-code.service": TELL_CODE, **(units or {})}
        self.install_units: dict[str, str] = {}
        """Those of a start that only installs."""
        self.drop_ins: dict[str, str] = {}
        self.port = free_port()
        self.neighbour = Neighbour(free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self.serial = folder / "serial.log"
        self._process = None
        self._read_from = 0
        self._control_stream = None
        self._variables = folder / "variables.fd"
        shutil.copy(OVMF / "OVMF_VARS_4M.fd", self._variables)

    def start(self):
        self.serial.write_text("")
        self._read_from = 0
        self._control_stream = None
        (self.folder / "control").unlink(missing_ok=True)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)

    def _command(self) -> list[str]:
        return [
            "qemu-system-x86_64", "-machine", "q35,smm=off", "-accel", "tcg,thread=multi", "-cpu", "max",
            "-smp", "2", "-m", "4096", "-display", "none", "-vga", "std",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF}/OVMF_CODE_4M.fd",
            "-drive", f"if=pflash,format=raw,unit=1,file={self._variables}",
            "-drive", f"if=none,id=disk,format=qcow2,file={self.disk}",
            "-device", f"nvme,drive=disk,bootindex=1,{self.disk_options}", *self._more_disks(),
            "-netdev", f"user,id=router,hostfwd=tcp:127.0.0.1:{self.port}-:80", "-netdev", "hubport,id=a,hubid=0,netdev=router",
            "-netdev", self.neighbour.netdev("neighbour"), "-netdev", "hubport,id=b,hubid=0,netdev=neighbour",
            "-netdev", "hubport,id=card,hubid=0", "-device", "virtio-net-pci,netdev=card",
            "-device", "pcie-root-port,id=door,chassis=1,slot=1",
            "-device", "virtio-rng-pci", "-serial", f"file:{self.serial}",
            "-qmp", f"unix:{self.folder}/control,server,nowait", "-smbios", self._credentials(),
        ]  # fmt: skip

    def _more_disks(self) -> list[str]:
        """The small kernel of tests has no USB: the stick hangs on SCSI, as which Linux sees sticks in any case."""
        arguments = []
        if self.stick:
            arguments += ["-drive", f"if=none,id=stick-disk,format=qcow2,file={self.stick}", "-device", "virtio-scsi-pci"]
            arguments += ["-device", "scsi-hd,drive=stick-disk,removable=on,serial=STICK0,bootindex=0"]
        for number, (serial, disk) in enumerate(self.others.items()):
            arguments += ["-drive", f"if=none,id=other-{number},format=qcow2,file={disk}"]
            arguments += ["-device", f"nvme,drive=other-{number},serial={serial}"]
        return arguments

    def _credentials(self) -> str:
        """Units that systemd takes from the firmware, each wanted by the target of its kind of boot."""
        credentials = {f"systemd.extra-unit.{name}": text for name, text in (self.units | self.install_units).items()}
        for target, units in {"multi-user": self.units, "allerac-install": self.install_units}.items():
            credentials[f"systemd.unit-dropin.{target}.target"] = "[Unit]\nWants=" + " ".join(units) + "\n"
        credentials |= {f"systemd.unit-dropin.{name}": text for name, text in self.drop_ins.items()}
        paths = []
        for number, (name, text) in enumerate(credentials.items()):
            path = self.folder / f"credential-{number}"
            encoded = base64.b64encode(text.encode()).decode()
            path.write_text(f"io.systemd.credential.binary:{name}={encoded}")
            paths.append(f"path={path}")
        return "type=11," + ",".join(paths)

    def wait(self, what: str, done, seconds: float = START_SECONDS_MAX):
        """Waits until `done` gives something true; that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the machine stopped while we waited for {what}: {self._qemu_log()}")
            found = done()
            if found:
                return found
            time.sleep(1)
        tail = self.serial.read_text(errors="replace")[-4000:]
        raise TimeoutError(f"{what} did not come within {seconds} s; the machine said last:\n{tail}")

    def wait_http(self, path: str = "/healthz") -> httpx.Response:
        def ask():
            try:
                answer = httpx.get(self.url + path, timeout=10)
            except httpx.HTTPError:
                return None
            return answer if answer.status_code == 200 else None

        return self.wait(f"GET {path}", ask)

    def said(self) -> str:
        """What the machine said on its serial console since it was last looked away from."""
        with self.serial.open(errors="replace") as log:
            log.seek(self._read_from)
            return log.read()

    def look_away(self):
        """What was said so far does not count any more: something new is expected."""
        self._read_from = self.serial.stat().st_size

    def wait_line(self, begins: str) -> str:
        """The rest of the line of the serial console that begins so."""

        def find():
            for line in self.said().splitlines():
                if line.startswith(begins) and len(line) > len(begins):
                    return line[len(begins) :].strip()
            return None

        return self.wait(f"a line {begins!r}", find)

    def screenshot(self, path: Path):
        """What the screen shows, as a PNG."""
        self._control("screendump", filename=str(path), format="png")

    def type(self, text: str):
        """On the keyboard, small letters only."""
        for letter in text:
            self.press(KEYS.get(letter, letter))

    def press(self, *keys: str):
        """All at once."""
        self._control("send-key", keys=[{"type": "qcode", "data": key} for key in keys])
        # The keyboard's own buffer is small, and its driver slow here.
        time.sleep(0.3)

    def choose(self, entry: str, place: int):
        """In the boot menu, which counts down for five seconds: the entry at this place, the first being 0."""
        self.wait(f"the boot menu with {entry!r}", lambda: entry in self.said())
        for _ in range(place):
            self.press("down")
        self.press("ret")

    def wait_off(self, seconds: float = START_SECONDS_MAX):
        """Until it has switched itself off."""
        self._process.wait(timeout=seconds)

    def plug_in(self, stick: Path):
        """A stick with one file system, into the running machine."""
        drive = {"driver": "raw", "node-name": "stick", "read-only": True}
        self._control("blockdev-add", **drive, file={"driver": "file", "filename": str(stick), "read-only": True})
        self._control("device_add", driver="virtio-blk-pci", drive="stick", bus="door", id="stick")

    def pull_out(self):
        """The stick, once the machine let go of it."""
        self._control("device_del", id="stick")

        def gone():
            try:
                self._control("blockdev-del", **{"node-name": "stick"})
            except RuntimeError:
                return False
            return True

        self.wait("the stick to be let go of", gone)

    def press_power(self):
        """Asks the system to shut down, and waits until it has."""
        self._control("system_powerdown")
        self._process.wait(timeout=START_SECONDS_MAX)

    def cut_power(self):
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _control(self, command: str, **arguments):
        if self._control_stream is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(self.folder / "control"))
            self._control_stream = connection.makefile("rw")
            json.loads(self._control_stream.readline())
            self._control("qmp_capabilities")
        stream = self._control_stream
        stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        stream.flush()
        while "event" in (answer := json.loads(stream.readline())):
            pass
        if "error" in answer:
            raise RuntimeError(answer["error"])

    def _qemu_log(self) -> str:
        return (self.folder / "qemu.log").read_text(errors="replace")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.cut_power()


def image() -> Path:
    """The image to test: the youngest that was built."""
    folder = Path(os.environ.get("ALLERAC_IMAGES", Path(__file__).parents[2] / "target/image"))
    images = sorted(folder.glob("allerac_*.raw"), key=lambda path: path.stat().st_mtime)
    images = [path for path in images if ".usr" not in path.name and ".esp" not in path.name]
    if not images:
        raise FileNotFoundError(f"there is no image in {folder}; build one: image/build.sh --profile virtual")
    return images[-1]
