"""Functions in source text: found, compared, and put into another release."""

from __future__ import annotations

import textwrap

from finetune_compat.history.functions import around, changes, difference, exchanged, functions

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


class TestExchanged:
    def test_only_the_function_changes(self) -> None:
        texts = exchanged(GOOD, BAD, "Trainer.prepare")
        assert texts is not None
        _, repaired = texts
        assert functions(repaired)["Trainer.prepare"].lines == functions(GOOD)["Trainer.prepare"].lines
        assert without(repaired, "Trainer.prepare") == without(BAD, "Trainer.prepare")

    def test_names_that_only_the_donor_imports_come_along(self) -> None:
        texts = exchanged(GOOD, BAD, "Trainer.prepare")
        assert texts is not None and "        from tools import again as twice" in texts[0]
        assert "import again" not in texts[1].replace("from tools import again as twice\n\nclass", "")
        compile(texts[0], "x", "exec")

    def test_one_change_of_a_function(self) -> None:
        one = "def f(x):\n    a = 1\n    b = 2\n    return x\n"
        other = "def f(x):\n    a = 10\n    b = 2\n    return -x\n"
        assert exchanged(one, other, "f", 1) == (one.replace("a = 1", "a = 10"), other.replace("a = 10", "a = 1"))
        assert exchanged(one, other, "f", 2) == (one.replace("n x", "n -x"), other.replace("n -x", "n x"))
        assert exchanged(one, other, "f", 3) is None

    def test_a_change_that_is_no_python_alone(self) -> None:
        one = "def f(x):\n    a = 1\n    return x\n"
        other = "def f(x):\n    try:\n        a = 1\n        return x\n    finally:\n        pass\n"
        assert exchanged(one, other, "f") is not None
        assert exchanged("def f():\n  a = (\n  1,\n  2)\n", "def f():\n  a = [\n  1,\n  2]\n", "f", 1) is None

    def test_nothing_to_exchange(self) -> None:
        assert exchanged(BAD, GOOD, "freeze") is None
        assert exchanged(BAD, GOOD, "missing") is None


def without(source: str, name: str) -> str:
    return source.replace("\n".join(functions(source)[name].lines), "")


def test_changes_are_counted_as_they_are_exchanged() -> None:
    one, other = (functions(text)["f"] for text in ("def f():\n  a\n  b\n  c\n", "def f():\n  A\n  b\n"))
    assert changes(one, other) == (("-  a", "+  A"), ("-  c",))
    assert changes(one, one) == ()
