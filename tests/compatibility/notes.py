"""Why tests fail that do, by the suite and the test. A failure without a line here is one to look into."""

NOTES: dict[tuple[str, str], str] = {}
