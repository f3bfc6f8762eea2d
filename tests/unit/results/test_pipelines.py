"""The record of a watched script is read back as it was written. What is wrong with another text is one message."""

from __future__ import annotations

import dataclasses

import pipelines as p
import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.results.pipelines import read_pipeline


def test_a_record_is_read_as_it_was_written() -> None:
    seen = dataclasses.replace(p.pipeline(p.run()), read=("rows.json",), read_sha256="a" * 64, hosts=("host",))
    assert read_pipeline(seen.to_json(), "here") == seen


def test_an_older_record_has_no_list_of_files() -> None:
    seen = p.pipeline(p.run())
    text = seen.to_json().replace(',"read":null,"read_sha256":"","hosts":[]', "")
    assert "read" not in text.partition('"unknown"')[2]
    assert read_pipeline(text, "here").read is None


@pytest.mark.parametrize("text", ["", "[]", '{"schema":2}', '{"schema":1}', "\0"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(RecordsError, match="here: not a record of a watched process"):
        read_pipeline(text, "here")
