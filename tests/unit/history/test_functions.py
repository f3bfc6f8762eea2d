"""Functions in source text: found, compared, and put into another release."""

from __future__ import annotations

import textwrap

from finetune_compat.history.functions import around, difference, functions, replaced
from finetune_compat.history.source_links import source_link

GOOD = textwrap.dedent(
    """
    import os

    class Trainer:
        @property
        def name(self):
            return "x"

        def prepare(self, model):
            if isinstance(model, str):
                return model
            return freeze(model)

    def freeze(model):
        return model
    """
)
BAD = textwrap.dedent(
    """
    import os
    from tools import again as twice

    class Trainer:
        @property
        def name(self):
            return "x"

        def prepare(self, model):
            '''Prepare.'''
            model = twice(model)
            return freeze(model)

    def freeze(model):
        return model
    """
)


class TestFunctions:
    def test_names_are_places(self) -> None:
        assert list(functions(GOOD)) == ["Trainer.name", "Trainer.prepare", "freeze"]
        assert functions(GOOD)["Trainer.name"].lines[0].strip() == "@property"
        assert functions("no python (") == {}

    def test_the_innermost_function_around_a_line(self) -> None:
        found = around("def outer():\n    def inner():\n        pass\n    inner()\n", 3)
        assert found is not None and found.name == "outer.inner"
        assert around(GOOD, 2) is None

    def test_the_difference(self) -> None:
        one, other = functions(GOOD)["Trainer.prepare"], functions(BAD)["Trainer.prepare"]
        diff = difference(one, other)
        assert "+        model = twice(model)" in diff and "-            return model" in diff
        assert difference(functions(GOOD)["freeze"], functions(BAD)["freeze"]) == ()
        assert difference(None, other)[0].startswith("+")


class TestReplaced:
    def test_only_the_function_changes(self) -> None:
        text = replaced(BAD, "Trainer.prepare", GOOD)
        assert text is not None
        assert functions(text)["Trainer.prepare"].lines == functions(GOOD)["Trainer.prepare"].lines
        assert text.replace("\n".join(functions(text)["Trainer.prepare"].lines), "") == BAD.replace(
            "\n".join(functions(BAD)["Trainer.prepare"].lines), ""
        )

    def test_names_that_only_the_donor_imports_come_along(self) -> None:
        text = replaced(GOOD, "Trainer.prepare", BAD)
        assert text is not None and "        from tools import again as twice" in text
        compile(text, "x", "exec")

    def test_nothing_to_exchange(self) -> None:
        assert replaced(GOOD, "freeze", BAD) is None
        assert replaced(GOOD, "missing", BAD) is None


def test_links_to_the_tag_of_a_release() -> None:
    assert source_link("trl/models/utils.py", "0.23.0", 5, 9) == (
        "https://github.com/huggingface/trl/blob/v0.23.0/trl/models/utils.py#L5-L9"
    )
    assert "/blob/v4.57.1/src/transformers/trainer.py" in source_link("transformers/trainer.py", "4.57.1", 1, 2)
    assert "/blob/v2.13.0/" in source_link("torch/nn/functional.py", "2.13.0+cpu", 1, 2)
    assert source_link("mine/train.py", "1.0", 1, 2) == ""
