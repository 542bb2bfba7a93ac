"""Runs a command that releases, and tells how many seconds it took without these stages: `apart.py STAGE,… COMMAND…`."""

import json
import subprocess
import sys
import time

stages, command = sys.argv[1].split(","), sys.argv[2:]
started = time.perf_counter()
apart, stage, since = 0.0, None, started
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] in ("release-stage", "release-finished"):
            now = time.perf_counter()
            apart += now - since if stage in stages else 0
            stage, since = event.get("stage"), now
print(time.perf_counter() - started - apart)
sys.exit(process.returncode)
