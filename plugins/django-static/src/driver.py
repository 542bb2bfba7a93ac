"""Collects a Django project's static files; runs in the sandbox, as `python driver.py REQUEST`, once a step.

What happened is a JSON file in the collected directory: the facts about the project, or why there are none. Works with
every Python and Django that a project may have, so it uses nothing newer than Python 3.8 and Django 2.2.
"""

import difflib
import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import time
import traceback

STARTED = int(time.time())
REPORT = ".pipe-static.json"


class Refused(Exception):
    """A result that would break at run time."""


class CommandFailed(Exception):
    """A command of `before` or `after` that ended badly."""


def main(request):
    os.makedirs(os.environ.get("HOME", "/tmp"), exist_ok=True)
    os.makedirs(request["static"], exist_ok=True)
    order_everywhere(request["order"])
    os.chdir(request["directory"])
    if request["settings"]:
        os.environ["DJANGO_SETTINGS_MODULE"] = request["settings"]  # commands of `before` go by it too
    for directory in request["directories"]:
        os.makedirs(directory, exist_ok=True)
    report, status = {}, 0
    try:
        run_commands("before", request["before"])
        manage(request, report)
        settle(request["static"])  # some commands go by times
        run_commands("after", request["after"])
        sort_compressed(request["static"])
        report["warnings"] = check(request, report)
    except BaseException as error:  # noqa: B902: also SystemExit, which manage.py may raise
        if not isinstance(error, (Refused, CommandFailed)):
            print("".join(told(error)), file=sys.stderr)
        report, status = {"failure": account(error, request), "settings": os.environ.get("DJANGO_SETTINGS_MODULE")}, 1
    settle(request["static"])
    with open(os.path.join(request["static"], REPORT), "w") as file:
        json.dump(report, file, sort_keys=True)
    return status


def order_everywhere(script):
    """Gives every interpreter of the environment, this one too, ordered listings."""
    with open(os.path.join(sysconfig.get_path("purelib"), "pipe-order.pth"), "w") as file:
        file.write(f"import runpy; runpy.run_path({script!r})\n")
    runpy.run_path(script)


def run_commands(when, commands):
    for command in commands:
        print(f"$ {command}", flush=True)
        status = subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL).returncode
        if status:
            raise CommandFailed(f"`{command}` of `{when}` ended with exit code {status}")


def manage(request, report):
    """Runs `manage.py collectstatic` in this process, so that it sets up the project as it always does."""
    sys.path[0] = request["directory"]
    from django.core.management import ManagementUtility

    execute = ManagementUtility.execute

    def prepared(utility):
        if request["settings"]:
            os.environ["DJANGO_SETTINGS_MODULE"] = request["settings"]
        if prepare(request, report):
            execute(utility)

    ManagementUtility.execute = prepared
    sys.argv = [request["manage"] or "django-admin", "collectstatic", "--noinput", "--traceback"] + request["options"]
    try:
        if request["manage"]:
            runpy.run_path(request["manage"], run_name="__main__")
        else:
            ManagementUtility(sys.argv).execute()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        ManagementUtility.execute = execute
    if not report:
        raise Refused(f"`{request['manage']}` ended without running Django")


def prepare(request, report):
    """Loads the settings, gathers the facts, and says whether there is something to collect."""
    import django
    from django.conf import settings

    settings.INSTALLED_APPS  # loads them
    module = os.environ.get("DJANGO_SETTINGS_MODULE") or settings.SETTINGS_MODULE
    report.update(
        django=django.get_version(),
        settings=module,
        manage=request["manage"],
        directory=request["directory"][len(request["source"]) + 1:],
        directories=list(request["directories"]),
        wsgi=application(settings, "WSGI", module, request["directory"]),
        asgi=application(settings, "ASGI", module, request["directory"]),
        interface="asgi" if getattr(settings, "ASGI_APPLICATION", None) else "wsgi",
        static_root=settings.STATIC_ROOT and os.path.abspath(settings.STATIC_ROOT),
        static_url=settings.STATIC_URL,
        storage=None,
    )
    django.setup()
    from django.apps import apps

    if not apps.is_installed("django.contrib.staticfiles"):
        print("`django.contrib.staticfiles` is not installed: there is nothing to collect")
        return False
    if settings.STATIC_ROOT:
        link(report["static_root"], request)
    else:
        settings.STATIC_ROOT = request["static"]
    from django.contrib.staticfiles.storage import staticfiles_storage
    from django.core.files.storage import FileSystemStorage

    kind = type(staticfiles_storage._wrapped if hasattr(staticfiles_storage, "_wrapped") else staticfiles_storage)
    if kind.__name__ == "object":  # a lazy object that nothing has touched yet
        staticfiles_storage.exists
        kind = type(staticfiles_storage._wrapped)
    report["storage"] = f"{kind.__module__}.{kind.__qualname__}"
    if not issubclass(kind, FileSystemStorage):
        print(f"`{report['storage']}` keeps static files elsewhere: there is nothing to collect")
        return False
    return True


def application(settings, kind, settings_module, directory):
    """`package.module:name` of the WSGI or ASGI application, as settings say or as `startproject` lays it out."""
    from importlib.util import find_spec

    named = getattr(settings, f"{kind}_APPLICATION", None)
    if named:
        return ":".join(named.rsplit(".", 1))
    package, file = settings_module, kind.lower()
    while package:
        package = package.rpartition(".")[0]
        module = f"{package}.{file}" if package else file
        try:
            if find_spec(module):
                return f"{module}:application"
        except (ImportError, ValueError):
            pass
    found = []
    for path, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name.isidentifier() and name != "node_modules"]
        if f"{file}.py" in files:
            found.append(os.path.relpath(os.path.join(path, file), directory).replace(os.sep, "."))
    return f"{found[0]}:application" if len(found) == 1 else None


def link(root, request):
    """Makes STATIC_ROOT a link to where static files are in production; what is committed there moves along."""
    static = request["static"]
    if os.path.realpath(root) == os.path.realpath(static):
        return
    if os.path.commonpath([root, request["directory"]]) == root:
        raise Refused(f"STATIC_ROOT is `{root}`, which holds the project itself")
    if os.path.islink(root):
        os.remove(root)
    elif os.path.isdir(root):
        for path, _, files in os.walk(root):
            target = os.path.join(static, os.path.relpath(path, root))
            os.makedirs(target, exist_ok=True)
            for name in files:
                copy = shutil.copy(os.path.join(path, name), os.path.join(target, name), follow_symlinks=False)
                if not os.path.islink(copy):
                    os.utime(copy, (0, 0))  # `collectstatic` replaces what is older than its source
        shutil.rmtree(root)
    os.makedirs(os.path.dirname(root), exist_ok=True)
    os.symlink(static, root)


def check(request, report):
    """Refuses what would be an error 500 at run time; what may never be reached, or is only not found, becomes a warning."""
    if report["storage"] is None:
        return []
    from django.conf import settings
    from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage as storage

    def is_missing(path):
        return not storage.exists(path.partition("#")[0].partition("?")[0])

    if not isinstance(storage._wrapped, ManifestFilesMixin):
        lost = [f"`{path}` in `{template}`" for template, path, _ in sorted(set(missing_references(is_missing, request["source"])))]
        more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
        return [f"templates ask for static files that were not collected: {', '.join(lost[:8])}{more}"] if lost else []
    settings.DEBUG = False  # else the storage doesn't look at its manifest
    if not storage.hashed_files and hasattr(storage, "load_manifest"):
        loaded = storage.load_manifest()
        storage._wrapped.hashed_files = loaded[0] if isinstance(loaded, tuple) else loaded
    lost = sorted(path for path in storage.hashed_files.values() if not os.path.exists(storage.path(path)))
    if lost:
        raise Refused(f"the manifest of static files names {quote(lost)}, which was not collected")

    def is_unknown(path):
        try:
            storage.url(path)
        except ValueError:
            return True
        return False

    certain, possible = [], []
    for template, path, rendered in sorted(set(missing_references(is_unknown, request["source"]))):
        (certain if rendered else possible).append(f"`{path}` in `{template}`")
    if certain:
        raise Refused("templates ask for static files that were not collected: " + ", ".join(certain[:8]))
    return [f"{reference} was not collected: an error wherever that part is rendered" for reference in possible[:20]]


def quote(names):
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"`{name}`" for name in names[:5]) + more


def missing_references(is_missing, source):
    """Literal `{% static %}` paths of the project's own templates that are missing: (template, path, whether every rendering of
    a template that the project's code names comes by it)."""
    templates, missing = own_templates(source), []
    for name, template in sorted(templates.items()):
        for path, place in references(template.nodelist, ALWAYS):
            try:
                if is_missing(path):
                    missing.append((name, path, place))
            except Exception:  # noqa: B902: a storage of the project's own
                pass
    if not missing:
        return
    named = literals(source)
    whole = set()  # named in the code, or extended by one that is
    for name in named & set(templates):
        while name in templates and name not in whole:
            whole.add(name)
            name = parent_of(templates[name])
    for name, path, place in missing:
        yield name, path, (place == ALWAYS and name in whole) or (place == BLOCK and name in named)


def own_templates(source):
    """The project's parsed templates, by the name under which Django finds them."""
    from django.template import engines
    from django.template.backends.django import DjangoTemplates

    found = {}
    for engine in (engine for engine in engines.all() if isinstance(engine, DjangoTemplates)):
        for directory in (os.path.abspath(str(directory)) for directory in engine.template_dirs):
            if not directory.startswith(source + os.sep) or "/site-packages/" in directory:
                continue
            for path, directories, files in os.walk(directory):
                directories[:] = [name for name in directories if name != "node_modules"]
                for file in (os.path.join(path, name) for name in files):
                    name = os.path.relpath(file, directory)
                    try:
                        template = engine.get_template(name).template
                    except Exception:  # noqa: B902: whatever a custom tag raises; it cannot be judged
                        continue
                    if template.origin.name == file:
                        found[name] = template
    return found


ALWAYS, BLOCK, MAYBE = range(3)


def references(nodelist, place):
    """The literal `{% static %}` paths of a parsed template, and where each is: rendered always, in a block that another
    template may replace, or somewhere that is rendered under a condition."""
    from django.template.loader_tags import BlockNode, ExtendsNode
    from django.templatetags.static import StaticNode

    for node in nodelist:
        if isinstance(node, StaticNode):
            path = getattr(node.path, "var", None)
            if isinstance(path, str) and not node.path.filters:
                yield path, place
        elif isinstance(node, ExtendsNode):  # outside of its blocks nothing is rendered
            for block in node.nodelist:
                yield from references([block], BLOCK if isinstance(block, BlockNode) else MAYBE)
        else:
            inside = max(place, BLOCK) if isinstance(node, BlockNode) else MAYBE
            for attribute in getattr(node, "child_nodelists", ()):
                yield from references(getattr(node, attribute, None) or (), inside)


def parent_of(template):
    """The name of the template that this one extends, where it says so literally."""
    from django.template.loader_tags import ExtendsNode

    for node in template.nodelist:
        if isinstance(node, ExtendsNode):
            name = getattr(node.parent_name, "var", None)
            return name if isinstance(name, str) else None
    return None


def literals(source):
    """Every string in the project's Python files, tests apart."""
    import ast

    found = set()
    for path, directories, files in os.walk(source):
        directories[:] = [name for name in directories if name not in ("tests", "node_modules") and name[0] != "."]
        for name in files:
            if not name.endswith(".py") or name.startswith("test"):
                continue
            try:
                with open(os.path.join(path, name), "rb") as file:
                    tree = ast.parse(file.read())
            except (OSError, SyntaxError, ValueError, RecursionError):
                continue
            found.update(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
                         and isinstance(node.value, str))
    return found


def sort_compressed(static):
    """Orders the manifest of django-compressor, whose threads write it as they end."""
    from django.apps import apps
    from django.conf import settings

    if not apps.is_installed("compressor"):
        return
    path = os.path.join(static, settings.COMPRESS_OUTPUT_DIR, settings.COMPRESS_OFFLINE_MANIFEST)
    if os.path.isfile(path):
        with open(path) as file:
            manifest = json.load(file)
        with open(path, "w") as file:
            json.dump(manifest, file, indent=2, sort_keys=True)


def settle(static):
    """Takes the time of this run out of what was written."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "315532801"))
    for path, _, files in os.walk(static):
        for name in files:
            name = os.path.join(path, name)
            if os.path.islink(name):
                continue
            if name.endswith(".gz"):
                forget_gzip_time(name)
            os.utime(name, (epoch, epoch))


def forget_gzip_time(name):
    """Zeroes a gzip header's time where this run has written it."""
    with open(name, "r+b") as file:
        header = file.read(10)
        written = int.from_bytes(header[4:8], "little")
        checked = len(header) == 10 and header[3] & 2  # a checksum over the header
        if header[:2] == b"\x1f\x8b" and not checked and STARTED <= written <= time.time() + 1:
            file.seek(4)
            file.write(bytes(4))


def told(error):
    """The traceback, without the frames of this driver and of the import system."""
    told = traceback.TracebackException.from_exception(error)
    noise = ("<frozen", __file__)
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(noise)
                     and "/importlib/" not in frame.filename]
    return told.format()


def in_environ(frame):
    return frame.name == "__getitem__" and frame.filename.endswith(("/os.py", "<frozen os>"))


def missing(error, frames):
    """What an error about a file means: the program that could not be started, or the path, and whether its directory is there."""
    if not isinstance(error, OSError) or not error.filename:
        return {}
    name = os.fsdecode(error.filename) if not isinstance(error.filename, int) else ""
    if frames and frames[-1].filename.endswith("/subprocess.py"):
        return {"program": name}
    path = os.path.abspath(name)
    return {"path": path, "beside": os.path.isdir(os.path.dirname(path))}


def like(module, directory):
    """The module of the project whose name is nearest to one that is not there; settings come before others."""
    settings, others = [], []
    for path, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name.isidentifier() and name not in ("node_modules", "migrations")]
        parts = os.path.relpath(path, directory).split(os.sep) if path != directory else []
        for name in (name[:-3] for name in files if name.endswith(".py") and name not in ("__init__.py", "manage.py")):
            is_settings = "settings" in name or "settings" in parts[-1:]
            (settings if is_settings else others).append(".".join(parts + [name]))
        if "__init__.py" in files and parts[-1:] == ["settings"]:
            settings.append(".".join(parts))
    near = (difflib.get_close_matches(module, sorted(names), n=1) for names in (settings, others))
    # One package less or more is further than that, and yet what was meant where there is only one.
    return next((names[0] for names in near if names), settings[0] if len(settings) == 1 else None)


def own_file(module, request):
    """Where the project would have a module that is not there, if the package around it is the project's."""
    parts = (module or "").split(".")
    around = os.path.join(request["directory"], *parts[:-1])
    if len(parts) < 2 or not os.path.isdir(around):
        return None
    return os.path.relpath(os.path.join(around, parts[-1] + ".py"), request["source"])


def account(error, request):
    """What went wrong, for the step to explain."""
    source, settings = request["source"], os.environ.get("DJANGO_SETTINGS_MODULE") or ""
    module = getattr(error, "name", None) if isinstance(error, ImportError) else None
    lost = isinstance(error, ModuleNotFoundError) and module and (settings + ".").startswith(module + ".")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(source + os.sep)]
    kind = type(error)
    return {
        "type": "refused" if kind is Refused else "command" if kind is CommandFailed else kind.__name__,
        "message": str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error),
        "variable": str(error.args[0]) if isinstance(error, KeyError) and in_environ(frames[-1]) else None,
        "module": module,
        "own": own_file(module, request) if isinstance(error, ModuleNotFoundError) else None,
        "settings": settings if lost else None,
        "like": like(settings, request["directory"]) if lost else None,
        **missing(error, frames),
        "file": os.path.relpath(own[-1].filename, source) if own else None,
        "line": own[-1].lineno if own else None,
    }


if __name__ == "__main__":
    with open(sys.argv[1]) as request:
        request = json.load(request)
    sys.exit(main(request))
