"""Statements, functions and modules are followed as Python would run them."""

from __future__ import annotations

import pytest
from audit_builders import computed, followed, path_of, plain, source, value_of
from finetune_compat.audit.interpreter import DEEPEST, Ended
from finetune_compat.audit.values import External, Model, Value

PROGRAMS = [
    "x = 1\nx += 2",
    "x = [1]\nx += [2]",
    "x = 0\nfor one in [1, 2, 3]:\n    x = x + one",
    "x = 0\nfor one in [1, 2, 3]:\n    x = one\n    continue\n    x = 9",
    "if 1 > 2:\n    x = 1\nelif 'a':\n    x = 2\nelse:\n    x = 3",
    "def f(a, b=2, *c, d=4, **e):\n    return [a, b, c, d, e]\nx = f(1, 5, 6, 7, d=8, g=9)",
    "def f(a, b=2, *, d=4):\n    return [a, b, d]\nx = f(b=1, a=3)",
    "def f(**options):\n    return options\nx = f(**{'a': 1}, b=2)",
    "def f(a):\n    if a:\n        return 1\n    return 2\nx = [f(0), f(1)]",
    "def f():\n    pass\nx = f()",
    "x = (lambda a: a + 1)(2)",
    "x = 1\ndef f():\n    global x\n    x = 2\nf()",
    "def f():\n    y = 1\n    def g():\n        nonlocal y\n        y = 2\n    g()\n    return y\nx = f()",
    "x = 1\ndef f():\n    x = 2\nf()",
    "def f():\n    return y\ny = 1\nx = f()\ny = 2",
    "try:\n    x = 1\n    raise ValueError\nexcept ValueError:\n    x = 2",
    "try:\n    x = 1\nexcept ValueError:\n    x = 2\nelse:\n    x = 3\nfinally:\n    y = x",
    "match 2:\n    case 1:\n        x = 'a'\n    case 2:\n        x = 'b'\n    case _:\n        x = 'c'",
    "x = 1\ny = 1\ndel y",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


class TestModules:
    @pytest.mark.parametrize(
        "program",
        [
            "import other\nx = other.y",
            "import other as o\nx = o.y",
            "from other import y as x",
            "from other import f\nx = f()",
            "from other import *\nx = y",
        ],
    )
    def test_a_module_of_the_project_is_followed(self, program: str) -> None:
        """Its functions see its own names."""
        path = path_of(other="y = 5\ndef f():\n    return y\n")
        assert plain(value_of(program + "\ny = 6\n" if "f()" in program else program, path=path)) == 5

    def test_a_module_is_followed_once(self) -> None:
        """As Python imports it."""
        path = path_of(other="import elsewhere\nelsewhere.call()\n")
        value_of("import other\nfrom other import y\n", path=path)
        assert [name for name, _ in path.calls] == ["elsewhere.call"]

    def test_modules_that_import_each_other(self) -> None:
        """The second one sees what is there so far."""
        path = path_of(one="y = 1\nimport two\n", two="from one import y\nz = y\n")
        assert plain(value_of("import two\nx = two.z\n", path=path)) == 1

    def test_the_name_of_the_script_is_main(self) -> None:
        """Of a module it is its own."""
        assert plain(value_of("x = __name__")) == "__main__"
        assert plain(value_of("import other\nx = other.y", path=path_of(other="y = __name__"))) == "other"

    def test_names_of_libraries_are_recorded(self) -> None:
        """With whether the script is ready for their absence."""
        path = path_of()
        value_of(
            "from trl import SFTTrainer\ntry:\n    from trl import Gone as x\nexcept ImportError:\n    x = None\n",
            path=path,
        )
        assert [(package, name, guarded) for package, name, _, guarded in path.imports] == [
            ("trl", "SFTTrainer", False),
            ("trl", "Gone", True),
        ]

    def test_a_name_that_is_imported_has_its_full_name(self) -> None:
        """Also in a package that is imported whole."""
        for program in ("from trl import SFTTrainer as x", "import trl\nx = trl.SFTTrainer"):
            found = value_of(program)
            assert isinstance(found, External) and found.name == "trl.SFTTrainer"


class TestEnds:
    @pytest.mark.parametrize("end", ["raise ValueError", "exit()", "import sys\nsys.exit(1)", "quit()"])
    def test_a_path_ends_where_the_script_does(self, end: str) -> None:
        """What follows is not reached."""
        path = path_of()
        with pytest.raises(Ended):
            path.run(source(f"{end}\nimport elsewhere\nelsewhere.call()\n"))
        assert all(name != "elsewhere.call" for name, _ in path.calls)

    def test_a_function_that_calls_itself_ends(self) -> None:
        """Its result is unknown."""
        assert plain(value_of("def f(n):\n    return f(n - 1)\nx = f(1)")) is Value

    def test_calls_are_followed_to_a_depth(self) -> None:
        """Deeper ones are unknown."""
        chain = "def f0():\n    return 1\n" + "".join(
            f"def f{number}():\n    return f{number - 1}()\n" for number in range(1, DEEPEST + 1)
        )
        assert plain(value_of(f"{chain}x = f{DEEPEST - 1}()\n")) == 1
        assert plain(value_of(f"{chain}x = f{DEEPEST}()\n")) is Value


def test_arguments_of_a_function_that_nothing_calls_are_unknown() -> None:
    """Its defaults may be replaced."""
    path = path_of()
    module = path.run(source("import elsewhere\ndef main(a, b=2):\n    elsewhere.call(a, b)\n"))
    function = module.scope.find("main")
    path.enter(function)  # type: ignore[arg-type]
    ((_, given),) = path.calls
    assert [(plain(one), one.default) for one in given.positional] == [(Value, False), (2, True)]


LOOP = "from transformers import AutoModel\nx = AutoModel.from_pretrained('m')\n"


@pytest.mark.parametrize(
    ("loop", "frozen"),
    [
        ("for p in x.parameters():\n    p.requires_grad = False\n", True),
        ("for p in x.parameters():\n    p.requires_grad_(False)\n", True),
        ("for n, p in x.named_parameters():\n    p.requires_grad = False\n", True),
        ("for n, p in x.named_parameters():\n    if 'lora' not in n:\n        p.requires_grad = False\n", False),
        ("for p in x.head.parameters():\n    p.requires_grad = True\n", False),
        ("for p in x.parameters():\n    p.requires_grad = False\nx.requires_grad_(True)\n", False),
        ("for p in x.parameters():\n    p.requires_grad = True\n", False),
    ],
)
def test_gradients_are_switched_in_a_loop(loop: str, frozen: bool) -> None:
    """A condition leaves some of them as they are."""
    found = value_of(LOOP + loop)
    assert isinstance(found, Model)
    assert (found.frozen is not None) is frozen
