"""Values are followed as Python would compute them, and what is not known stays unknown."""

from __future__ import annotations

import pytest
from audit_builders import Decided, path_of, plain, source, value_of
from finetune_compat.audit.interpreter import DEEPEST, MOST_HELD, MOST_STEPS, Ended, Exhausted, truthy
from finetune_compat.audit.values import Const, External, Instance, Items, Model, Table, Value, const

PROGRAMS = [
    "x = 1 + 2 * 3 - 7 // 2",
    "x = -5 % 3",
    "x = 'a' + 'b'",
    "y = 3\nx = f'{y} of {y + 1}'",
    "x = [1, *[2, 3], 4]",
    "x = [1] + [2]",
    "x = {'a': 1, **{'b': 2}}",
    "x = {'a': 1} | {'a': 2}",
    "x = {'a': {'b': [1, 2]}}['a']['b'][-1]",
    "x = {}\nx['a'] = 1\nx.update(b=2)\nx.setdefault('c', 3)",
    "x = {'a': 1}.get('b', 5)",
    "x = []\nx.append(1)\nx.append(2)",
    "a, b = 1, 2\nx = [b, a]",
    "(a, b), c = (1, 2), 3\nx = [a, b, c]",
    "x = [one * 2 for one in [1, 2, 3]]",
    "x = 1 if [] else 2",
    "x = not ''",
    "x = None or 'a'",
    "x = 0 and 1",
    "x = 3 in [1, 3]",
    "x = 'a' not in {'a': 1}",
    "x = 'b' in 'abc'",
    "x = 1 < 2",
    "x = 'a' == 'b'",
    "x = None is None",
    "x = 1\nx += 2",
    "x = [1]\nx += [2]",
    "x = (y := 4) + y",
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
    "class A:\n    y = 1\n    def f(self):\n        return self.y\nx = A().f()",
    "class A:\n    def __init__(self, y):\n        self.y = y\nx = A(3).y",
    "class A:\n  def f(self):\n    return 1\nclass B(A):\n  def f(self):\n    return super().f() + 1\nx = B().f()",
    "class A:\n    @property\n    def y(self):\n        return 5\nx = A().y",
    "class A:\n    @staticmethod\n    def f(a):\n        return a\nx = A.f(5)",
    "class A:\n    def __call__(self, a):\n        return a + 1\nx = A()(1)",
    "match 2:\n    case 1:\n        x = 'a'\n    case 2:\n        x = 'b'\n    case _:\n        x = 'c'",
    "x = 1\ny = 1\ndel y",
]
"""Programs whose every value is known."""


def listed(value: object) -> object:
    """The same with lists for tuples."""
    if isinstance(value, list | tuple):
        return [listed(one) for one in value]
    return {key: listed(one) for key, one in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    names: dict[str, object] = {}
    exec(program, names)  # noqa: S102 - a program of this file
    decisions = Decided()
    assert plain(value_of(program, path=path_of(decisions))) == listed(names["x"])
    assert decisions.asked == []


@pytest.mark.parametrize(
    "program",
    [
        "from elsewhere import y\nx = y + 1",
        "import elsewhere\nx = elsewhere.y['a']",
        "x = {'a': 1}['b']",
        "x = [1][5]",
        "x = 1 / 0",
        "x = 10 ** 10 ** 10",
        "x = 'a' * 10",
        "x = 'a' - 'b'",
        "a, b = [1, 2, 3]\nx = a",
        "x = 'a' < 1",
        f"x = 0x{'f' * 5000}",
        f"y = 0x{'f' * 5000}\nx = f'{{y}}'",
        "x = 'a'\n" + "x = f'{x}{x}'\n" * 20,
    ],
)
def test_what_is_not_known_is_no_value(program: str) -> None:
    """Neither an error of the script, nor a number that is too large, ends the audit."""
    assert plain(value_of(program)) is Value


def test_an_unknown_item_leaves_the_rest_known() -> None:
    """And a table says that there may be more."""
    found = value_of("import elsewhere\nx = {'a': 1, **elsewhere.options()}")
    assert isinstance(found, Table)
    assert (plain(found.items["a"]), found.open) == (1, True)
    listed_ = value_of("import elsewhere\nx = [1, *elsewhere.more()]")
    assert isinstance(listed_, Items)
    assert (plain(listed_.items[0]), listed_.open) == (1, True)


@pytest.mark.parametrize("line", ["x = x + x", "x += x", "x = [*x, *x]", "x = f(*x, *x)"])
def test_a_list_that_doubles_has_an_end(line: str) -> None:
    """Forty such lines would fill any memory."""
    found = value_of("def f(*items):\n    return items\nx = [1]\n" + f"{line}\n" * 18)
    assert isinstance(found, Items)
    assert (len(found.items), found.open) == (MOST_HELD, True)


class TestConditions:
    PROGRAM = "import sys\nx = 1 if sys.argv else 2\n"

    @pytest.mark.parametrize(("way", "x"), [(True, 1), (False, 2)])
    def test_an_unknown_one_is_decided_outside(self, way: bool, x: int) -> None:
        """With its text and its file."""
        decisions = Decided(way)
        assert plain(value_of(self.PROGRAM, path=path_of(decisions))) == x
        assert decisions.asked == [("train.py: sys.argv", True, False)]

    def test_a_default_is_tried_first(self) -> None:
        """The command line may say otherwise."""
        decisions = Decided()
        program = (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lora', action='store_true')\n"
            "args = p.parse_args()\nif args.lora:\n    x = 1\n"
        )
        value_of(program, path=path_of(decisions))
        assert decisions.asked == [("train.py: args.lora", False, True)]

    def test_each_part_of_a_condition_is_one(self) -> None:
        """`not` is none."""
        decisions = Decided()
        value_of("import a\nif a.b and not a.c or a.d:\n    x = 1\n", path=path_of(decisions))
        assert [key for key, *_ in decisions.asked] == ["train.py: a.b", "train.py: a.c", "train.py: a.d"]

    @pytest.mark.parametrize(
        ("value", "truth"),
        [
            (Const(0), False),
            (Const("a"), True),
            (Items([]), False),
            (Items([], open=True), None),
            (Items([Value()], open=True), True),
            (Table({}), False),
            (Value(), None),
            (External("trl.SFTTrainer"), None),
        ],
    )
    def test_what_counts_as_true(self, value: Value, truth: bool | None) -> None:
        """As in Python, where it is known."""
        assert truthy(value) is truth


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

    def test_a_long_path_is_given_up(self) -> None:
        """An audit ends in time."""
        path = path_of()
        with pytest.raises(Exhausted):
            path.run(source("x = 1\n" * MOST_STEPS))
        assert path.steps == MOST_STEPS + 1


class TestObjects:
    def test_fields_of_a_dataclass_are_defaults(self) -> None:
        """Those of a base first; what is given replaces them."""
        program = (
            "from dataclasses import dataclass, field\n"
            "@dataclass\nclass A:\n    a: int = 1\n    b: int = field(default=2)\n"
            "@dataclass\nclass B(A):\n    c: int = 3\nx = B(c=4)\n"
        )
        found = value_of(program)
        assert isinstance(found, Instance)
        assert {name: (const(one), one.default) for name, one in found.attributes.items()} == {
            "a": (1, True),
            "b": (2, True),
            "c": (4, False),
        }

    def test_arguments_of_a_function_that_nothing_calls_are_unknown(self) -> None:
        """Its defaults may be replaced."""
        path = path_of()
        module = path.run(source("import elsewhere\ndef main(a, b=2):\n    elsewhere.call(a, b)\n"))
        function = module.scope.find("main")
        path.enter(function)  # type: ignore[arg-type]
        ((_, given),) = path.calls
        assert [(plain(one), one.default) for one in given.positional] == [(Value, False), (2, True)]

    def test_a_method_of_a_library_that_is_replaced_is_recorded(self) -> None:
        """It may do anything then."""
        path = path_of()
        value_of("import trl\ndef f(self): ...\ntrl.SFTTrainer.training_step = f\n", path=path)
        ((_, name, _, place),) = path.patched
        assert (name, place.line) == ("training_step", 3)


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
