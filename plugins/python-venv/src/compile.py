"""Compiles the files below the first argument into the directory that the second one names, always in the same order."""

import sys

del sys.path[0]  # the working directory
if sys.flags.hash_randomization:
    sys.exit("strings are hashed by chance: no two runs would write the same")

import os
import py_compile
import warnings

site, out = sys.argv[1:]
os.makedirs(out)
warnings.simplefilter("ignore")
for directory, names, files in os.walk(site):
    names.sort()
    for name in sorted(files):
        stem, extension = os.path.splitext(name)
        if extension != ".py":
            continue
        source = os.path.join(directory, name)
        cache = os.path.join(out, os.path.relpath(directory, site), "__pycache__")
        target = os.path.normpath(os.path.join(cache, f"{stem}.{sys.implementation.cache_tag}.pyc"))
        try:
            py_compile.compile(
                source, target, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
        except Exception:  # Templates, and files of other Pythons: pip passes over them too.
            pass
