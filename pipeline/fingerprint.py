"""Fingerprints of the project's own code, so that TFX's cache sees an edit and re-runs what depends on it, no more.

TFX keys its cache by inputs and properties; code reached through a dotted name is invisible to it. Every stage that
runs code of ours therefore carries the fingerprint of its entry module in its properties.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import pathlib

PACKAGES = ("amen_tf", "pipeline", "schemas", "serving", "benchmarks")
# A stage's result depends on these as much as on our own code.
LIBRARIES = ("tensorflow", "tf-keras", "tensorflow-transform", "tfx", "tfx-bsl", "apache-beam")


def fingerprint(*modules: str) -> str:
    """A hash over the source of `modules`, of every module of ours that they import, and the libraries' versions.

    Args:
      modules: dotted names, such as `pipeline.trainers.base`.

    Returns:
      16 hexadecimal digits; the same for the same sources, whatever the folder they lie in.

    Raises:
      ValueError: one of `modules` is no module of ours, so that nothing would be seen of it.
    """
    absent = [name for name in modules if _source(name) is None]
    if absent:
        raise ValueError(f"expected modules of {', '.join(PACKAGES)}, got {', '.join(absent)}")
    sources: dict[str, bytes] = {}
    queue = list(modules)
    while queue:
        name = queue.pop()
        path = None if name in sources else _source(name)
        if path is None:
            continue
        # The parsed tree leaves out comments and layout, which decide nothing.
        tree = ast.parse(path.read_bytes())
        sources[name] = ast.dump(tree).encode()
        queue += _imports(tree)
        queue += [name.rpartition(".")[0]] if "." in name else []
    digest = hashlib.sha256(" ".join(importlib.metadata.version(library) for library in LIBRARIES).encode())
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + sources[name] + b"\0")
    return digest.hexdigest()[:16]


def _source(name: str) -> pathlib.Path | None:
    """The source file of a module of ours; None for others, and for names that are no module (a class, say).

    Nothing is imported, as `find_spec` would do with the parents of a dotted name.
    """
    package, *rest = name.split(".")
    found = importlib.util.find_spec(package) if package in PACKAGES else None
    if found is None or found.origin is None:
        return None
    path = pathlib.Path(found.origin).parent.joinpath(*rest)
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _imports(tree: ast.AST) -> list[str]:
    """Every name that an import statement anywhere in the module could mean."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
