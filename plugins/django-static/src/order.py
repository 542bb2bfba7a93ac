"""Lists directories in order, so that what a program writes doesn't depend on how a disk keeps them.

The driver runs this first, and a `.pth` file runs it in every interpreter that a command starts.
"""

import os

_listdir, _scandir = os.listdir, os.scandir


class _Scan:
    def __init__(self, path):
        with _scandir(path) as entries:
            self._entries = iter(sorted(entries, key=lambda entry: entry.name))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._entries = iter(())


os.listdir = lambda path=".": sorted(_listdir(path))
os.scandir = lambda path=".": _Scan(path)
