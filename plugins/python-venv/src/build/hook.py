"""Calls one hook of a PEP 517 backend: hook, output directory, backend, and the directories that the backend is in."""

import importlib
import json
import os
import sys

hook, out, backend, *path = sys.argv[1:]
# What `-c` put first is the sources' own directory, which is no part of a backend's path unless the project says so.
sys.path[:1] = path
os.makedirs(out)

module, _, attributes = backend.partition(":")
target = importlib.import_module(module)
for attribute in filter(None, attributes.split(".")):
    target = getattr(target, attribute)

if hook.startswith("get_requires_for_"):
    requires = getattr(target, hook)(None) if hasattr(target, hook) else []
    with open(os.path.join(out, "requires.json"), "w", encoding="utf-8") as file:
        json.dump(sorted(requires), file)
else:
    getattr(target, hook)(out, None, None)
