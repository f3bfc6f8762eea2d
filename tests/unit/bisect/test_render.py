"""The answer of `compat bisect` as text."""

from __future__ import annotations

from dataclasses import replace

from finetune_compat.bisect.answer import BisectAnswer, Edge, ReleaseResult
from finetune_compat.bisect.lines import Changed
from finetune_compat.bisect.render import DIFF_LINES, MOST_CHARACTERS, headline, issue_text, terminal
from finetune_compat.checks.codes import CODES


def result(version: str, bad: bool | None, shown: str = "") -> ReleaseResult:
    return ReleaseResult(version, bad, shown or ("fails" if bad else "trains"), ran=True)


CHANGED = Changed("trl/a.py", "f", "https://good", "https://bad", tuple(f"+line {i}" for i in range(DIFF_LINES + 3)))
GOOD, BAD, LAST, AGAIN = result("0.19", False), result("0.20", True), result("0.23", True), result("0.24", False)
EDGES = (
    Edge(GOOD, BAD, ("0.19.1",), (), ("peft 0.16 -> 0.17",), 3, (CHANGED,) * 4),
    Edge(LAST, AGAIN, (), ("0.23.5",), (), 5),
)
ANSWER = BisectAnswer(
    package="trl",
    subject="sft-full[qwen2-full-gc]",
    condition="verdict",
    command="compat bisect ...",
    releases=12,
    bound=6,
    edges=EDGES,
    stretches=(("0.10", "0.19", False, "trains"), ("0.20", "0.23", True, "fails"), ("0.24", "0.24", False, "trains")),
    results=(result("0.10", False), GOOD, result("0.19.1", None, "cannot be solved: no"), BAD, LAST, AGAIN),
    not_looked_at=("0.11", "0.12", "0.13", "0.21", "0.23.5"),
    older="0.1 to 0.9",
    runs=9,
    sample_runs=4,
    stored=2,
    seconds=61.0,
    versions={"0.19": {"trl": "0.19", "peft": "0.16"}, "0.20": {"trl": "0.20", "peft": "0.17"}},
    run="reports/runs/x",
)


class TestTerminal:
    OUT = terminal(ANSWER)

    def test_every_edge_with_its_cost(self) -> None:
        assert "last good 0.19, first bad 0.20  (3 runs beyond the sample, at most 6)" in self.OUT
        assert "last bad 0.23, first good again 0.24  (5 runs beyond the sample, at most 6)" in self.OUT
        assert "also moved: peft 0.16 -> 0.17" in self.OUT

    def test_what_was_skipped_and_what_was_not_run(self) -> None:
        assert "skipped between them: 0.19.1" in self.OUT
        assert "skipped 0.19.1: cannot be solved: no" in self.OUT
        assert "not run between them, the bound was used up: 0.23.5" in self.OUT

    def test_neighbours_that_were_not_looked_at_are_one_span(self) -> None:
        assert "Not looked at (5): 0.11 to 0.13 (3), 0.21, 0.23.5" in self.OUT
        assert "Older releases were left out: 0.1 to 0.9" in self.OUT

    def test_long_diffs_and_many_functions_are_cut(self) -> None:
        assert self.OUT.count("... 3 more lines") == 3
        assert "1 more on the chain differ" in self.OUT

    def test_two_kinds_of_bad(self) -> None:
        assert headline(replace(EDGES[0], before=LAST)) == "bad in another way: 0.23 -> 0.20"


class TestIssue:
    def test_the_window_the_versions_the_script_and_the_line(self) -> None:
        text = issue_text(ANSWER, "train()\n")
        assert "Since 0.20 (last good release: 0.19), until 0.23, good again in 0.24." in text
        assert "| peft | 0.16 | 0.17 | - |" in text
        assert "```python\ntrain()\n```" in text
        assert "`trl/a.py::f`" in text and "[0.19](https://good), [0.20](https://bad)" in text

    def test_codes_are_explained(self) -> None:
        edge = replace(EDGES[0], after=result("0.20", True, "C104 fails, eval loss: flat"))
        assert f"- C104 checks: {CODES['C104'].title}" in issue_text(replace(ANSWER, edges=(edge,)))

    def test_a_window_that_is_open(self) -> None:
        assert "not fixed since" in issue_text(replace(ANSWER, edges=EDGES[:1]))

    def test_a_number_is_named_with_what_it_was(self) -> None:
        head = issue_text(replace(ANSWER, condition="training.eval_before")).splitlines()[0]
        edge = ANSWER.first_bad
        assert edge is not None and head.endswith(f"{edge.after.shown} ({edge.before.version}: {edge.before.shown})")

    def test_nothing_to_report(self) -> None:
        assert "No release of trl turns" in issue_text(replace(ANSWER, edges=EDGES[1:]))

    def test_modules_that_the_script_imports(self) -> None:
        """Without them, the script cannot be run."""
        long = "x = 1\n" * MOST_CHARACTERS
        text = issue_text(ANSWER, "import tiny, data\n", {"tiny.py": "WORDS = 3\n", "data.py": long})
        script = text.index("import tiny, data")
        assert script < text.index("It imports `tiny.py`:\n\n```python\nWORDS = 3\n```\n") < text.index("**Observed**")
        assert "It imports `data.py` (10,000 lines), which must be added." in text
        assert long not in text

    def test_a_fence_in_the_script_does_not_end_its_block(self) -> None:
        text = issue_text(ANSWER, 'PROMPT = """\n```python\n"""\n')
        assert '````python\nPROMPT = """\n```python\n"""\n````\n' in text
