"""What a run of a suite came to, read from the JUnit files that pytest and node write."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, in a line."""
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def applicable(self) -> int:
        return len(self.passed) + len(self.failed)

    def __str__(self):
        return f"{len(self.passed)} of {self.applicable}"


def read(file: Path) -> Outcome:
    outcome = Outcome()
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        name = case.get("name")
        kinds = {child.tag: child for child in case}
        if "skipped" in kinds:
            outcome.left_out[name] = line(kinds["skipped"])
        elif "failure" in kinds or "error" in kinds:
            outcome.failed[name] = line(kinds.get("failure", kinds.get("error")))
        else:
            outcome.passed.append(name)
    return outcome


def line(element) -> str:
    text = (element.get("message") or "").strip()
    if text in ("", "[object Object]"):
        text = (element.text or "").strip()
    # pytest marks what is expected to fail like this; it is reported as skipped.
    return " ".join(text.split())[:300]
