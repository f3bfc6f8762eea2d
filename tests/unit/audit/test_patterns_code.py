"""Single calls, imports and functions."""

from __future__ import annotations

from pathlib import Path

from audit_builders import HEAD, examined, hits, one, releases


class TestArguments:
    def test_a_removed_argument_has_its_new_name(self, tmp_path: Path) -> None:
        """From the signatures of both releases."""
        text = HEAD + "SFTConfig('out', max_seq_length=8)\n"
        finding = one(examined(tmp_path, text), "removed-argument")
        assert finding.why == "SFTConfig of TRL 0.22.2 with Transformers 4.56.0 has no max_seq_length: use max_length"
        assert hits(examined(tmp_path, text, releases(trl="0.19.1", transformers="4.54.1"))) == []

    def test_an_argument_that_no_release_had_is_not_told(self, tmp_path: Path) -> None:
        """It may be one of the project's own class."""
        assert hits(examined(tmp_path, HEAD + "SFTConfig('out', my_own=8)\n")) == []

    def test_code_that_asks_for_the_release_is_believed(self, tmp_path: Path) -> None:
        """It is read with that release."""
        text = (
            HEAD + "import trl\nfrom packaging.version import Version\n"
            "if Version(trl.__version__) < Version('0.20'):\n    SFTConfig('out', max_seq_length=8)\n"
        )
        assert hits(examined(tmp_path, text)) == []

    def test_a_removed_name_in_a_try_is_not_told(self, tmp_path: Path) -> None:
        """The script is ready for both."""
        name = "from trl import DataCollatorForCompletionOnlyLM\n"
        assert [pattern for pattern, *_ in hits(examined(tmp_path, name))] == ["removed-name"]
        assert hits(examined(tmp_path, f"try:\n    {name}except ImportError:\n    pass\n")) == []
