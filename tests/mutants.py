"""Modules with one deliberate mistake in them, to see whether tests notice."""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def mutant(name: str, right: str, wrong: str) -> Iterator[ModuleType]:
    """The module `name`, made anew from its source with `right`, which must be there once, replaced by `wrong`."""
    origin = importlib.import_module(name)
    with open(origin.__file__, encoding="utf-8") as file:
        source = file.read()
    assert source.count(right) == 1, f"{name} has {source.count(right)} times: {right}"
    alias = f"{name}_mutant"
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(alias, loader=None))
    # Dataclasses look their module up by name.
    sys.modules[alias] = made
    try:
        exec(compile(source.replace(right, wrong), f"<{alias}>", "exec"), vars(made))
        yield made
    finally:
        del sys.modules[alias]
