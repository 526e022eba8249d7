"""The package says its types."""

import ast
import inspect
from importlib import resources

import kvfs
import pytest
from kvfs import _core


def stub():
    return ast.parse((resources.files("kvfs") / "_core.pyi").read_text())


def test_it_is_marked_as_typed():
    assert (resources.files("kvfs") / "py.typed").is_file()


def test_the_stub_has_every_class_function_and_member():
    tree = stub()
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    members = {
        node.name: {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
    for name, value in vars(_core).items():
        if inspect.isclass(value):
            own = {member for member in vars(value) if not member.startswith("_")}
            assert own <= members[name], name
        elif callable(value):
            assert name in functions


@pytest.mark.parametrize("name", sorted(set(kvfs.__all__) - {"__version__"}))
def test_everything_public_says_what_it_is(name):
    thing = getattr(kvfs, name)
    assert inspect.getdoc(thing)
    if getattr(thing, "__module__", "") == "kvfs._core" and inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{member}"
