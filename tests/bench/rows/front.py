"""The front beside nginx: the same process behind both, asked by wrk in turn, over connections that stay open."""

import atexit
import os
import re
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench import REPOSITORY, Bench, output
from row import AtMost, Case, Row, row

CLIENTS = 64
SECONDS = 4

# What answers: another nginx, so that what is measured is what stands before it. A page of an ordinary size.
UPSTREAM = """
daemon off;
pid /tmp/nginx.pid;
worker_processes 1;
error_log stderr;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen 127.0.0.1:PORT;
        default_type text/html;
        location / { return 200 "PAGE"; }
    }
}
""".replace("PAGE", "<p>hello</p>" * 200)

PIPELINE = """
[app]
name = "fronted"

[source]
path = "src"

[steps.venv]
plugin = "files"
inputs = { trees = "source" }
config = { include = ["bin/**"], empty = true }

[steps.slug]
plugin = "slug"
inputs = { project = "source", venv = "venv" }

[steps.slug.config.processes]
web = "sed s/PORT/$PORT/ upstream.conf >/tmp/upstream.conf && exec /usr/sbin/nginx -e stderr -c /tmp/upstream.conf"

[targets.bench]
driver = "local"
release = "slug"
"""

# As whoever cares sets it up: as many workers as processors, and connections to the process that stay open.
PEER = """
daemon off;
pid {directory}/nginx.pid;
worker_processes auto;
error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream application {{ server 127.0.0.1:{upstream}; keepalive {clients}; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Served:
    """An application behind both: the directory of its pipeline, and the port of its nginx."""

    name: str
    port: int


PAGE = Served("front", 18_080)
DJANGO = Served("front-django", 18_081)


def per_request(said: str) -> float:
    """Seconds a request, of all clients together: the inverse of requests a second."""
    return 1 / float(found(r"Requests/sec:\s+([\d.]+)", said)[1])


def p99(said: str) -> float:
    number, unit = found(r"99%\s+([\d.]+)(us|ms|s)\b", said).groups()
    return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def found(pattern: str, said: str) -> re.Match:
    match = re.search(pattern, said)
    if match is None or "Socket errors" in said or "Non-2xx" in said:
        raise SystemExit(f"wrk says:\n{said}")
    return match


def write(root: Path, what: Served) -> None:
    if what == DJANGO:
        # The example, on an address that is free.
        shutil.copytree(REPOSITORY / "pipelines/polls", root / "polls", dirs_exist_ok=True)
        pipeline = (REPOSITORY / "pipelines/release.pipeline").read_text().split("# Never built")[0]
        pipeline = re.sub(r"(?m)^address = .*\n", "", pipeline)
    else:
        (root / "src").mkdir(exist_ok=True)
        (root / "src/upstream.conf").write_text(UPSTREAM)
        pipeline = PIPELINE
    (root / "release.pipeline").write_text(pipeline)


@cache
def served(bench: Bench, what: Served) -> str:
    """Releases the application to a target, and gives the address of its front; it ends with the bench."""
    bench.from_debian("nginx")
    root, env = bench.directory(f"work/{what.name}"), bench.home(what.name)
    write(root, what)
    output([str(bench.pipe), "run"], root, env)
    atexit.register(output, [str(bench.pipe), "stop", "--all"], root, env)
    state = sqlite3.connect(Path(env["PIPE_HOME"]) / "agent/state.db")
    ((address, upstream),) = state.execute("SELECT address, port FROM targets JOIN processes")
    by_nginx(bench, what, upstream)
    return address


def by_nginx(bench: Bench, what: Served, upstream: int) -> None:
    directory = bench.directory(f"work/{what.name}/nginx")
    os.chmod(directory, 0o777)
    config = directory / "nginx.conf"
    config.write_text(PEER.format(directory=directory, upstream=upstream, port=what.port, clients=CLIENTS))
    command = [bench.from_debian("nginx"), "-e", str(directory / "error.log"), "-c", str(config)]
    peer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    atexit.register(peer.terminate)
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{what.port}/").read()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nginx does not answer: see {directory}/error.log")


def cases(bench: Bench, what: Served) -> list[Case]:
    wrk = bench.from_debian("wrk")
    command = [wrk, "--latency", "--timeout", "20s", "-t", "1", "-c", str(CLIENTS), "-d", f"{SECONDS}s"]
    places = {"pipe": served(bench, what), "nginx": f"127.0.0.1:{what.port}"}
    here = bench.directory("work")
    return [Case(name, [*command, f"http://{address}/"], here) for name, address in places.items()]


@row("front: a request, of 64 clients that stay connected")
def throughput(bench: Bench) -> Row:
    return Row([replace(case, told=per_request) for case in cases(bench, PAGE)], [AtMost(1 / 0.9, "nginx")])


@row("front: the 99th percentile of 64 clients that stay connected")
def latency(bench: Bench) -> Row:
    return Row([replace(case, told=p99) for case in cases(bench, PAGE)], [AtMost(1, "nginx", more=1e-3)])


@row("front: the same before gunicorn and Django")
def django(bench: Bench) -> Row:
    return Row([replace(case, told=per_request) for case in cases(bench, DJANGO)], [AtMost(1 / 0.9, "nginx")])
