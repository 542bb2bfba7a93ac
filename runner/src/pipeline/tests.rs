#![expect(clippy::needless_raw_string_hashes, reason = "`expect-test` writes them")]

use std::path::Path;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::description::{PluginDescription, Port, PortKind};
use crate::diagnostic::{Colour, render};

const APP: &str = "[app]\nname = \"polls\"\n";

/// What is said of a text with an `[app]` and some steps before it.
fn refused(text: &str, expected: &Expect) {
    refused_whole(&format!("{APP}{text}"), expected);
}

fn refused_whole(text: &str, expected: &Expect) {
    let malformed = parse(Path::new("p"), text).expect_err("the text is wrong");
    expected.assert_eq(&render(&malformed.errors, Colour::Never));
}

fn good(text: &str) -> Pipeline {
    parse(Path::new("dir/p"), text).unwrap_or_else(|wrong| panic!("{}", render(&wrong.errors, Colour::Never)))
}

/// Everything that a pipeline file can say.
const EVERYTHING: &str = r#"
version = 1
platform = "linux-x86_64-gnu"
app = { name = "polls", python = "3.11" }
source = { path = "polls", exclude = ["*.log", "/docs"] }
tools = { node = "/usr/bin/node" }
npm = { registry = "https://registry.npmjs.org" }
secrets = { token = { env = "TOKEN" }, key = { file = "keys/deploy" } }

[runtime]
kind = "packages"
system = ["libpq5"]
build-system = ["gcc"]
mirror = "https://deb.debian.org/debian"
suite = "bookworm"

[index]
url = "https://pypi.org/simple"
extra = ["https://packages.example.org/simple"]
find-links = ["wheels/"]

[pools]
network = 2

[steps.lock]
plugin = "python-lock"
inputs = { project = "source" }

[steps.venv]
plugin = "./steps/venv.wasm"
inputs = { lock = "lock.lock", more = ["source", "lock"] }
config = { add = ["gunicorn"], nested = { number = 1, ratio = 0.5, on = true } }
grants = { fetch = ["index"], exec = ["python"], secrets = ["token"] }
limits = { time = "10m", memory = "2GiB" }
pool = "network"

[targets.staging]
driver = "local"
release = "venv"
env = { DEBUG = "0" }
env-file = ".env.staging"
release-commands = ["python manage.py migrate"]
data = ["media", "/srv/files"]
address = "127.0.0.1:8000"
host = "example.org"

[targets.production]
driver = "local"
promote = "staging"
"#;

#[test]
fn everything_that_a_file_can_say_is_read() {
    let pipeline = good(EVERYTHING);
    assert_eq!(pipeline.source_directory(), Path::new("dir/polls"));
    assert!(matches!(&pipeline.runtime, Runtime::Packages { system, .. } if *system[0] == "libpq5"));
    assert_eq!(pipeline.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["lock", "venv"]);
    let venv = pipeline.step("venv").expect("it is there");
    assert_eq!(*venv.plugin, PluginRef::File("./steps/venv.wasm".into()));
    let lock = |port: Option<&str>| Reference::Step { step: "lock".to_owned(), port: port.map(str::to_owned) };
    assert_eq!(*venv.inputs[0].from[0], lock(Some("lock")));
    assert_eq!(
        venv.inputs[1].from.iter().map(|from| (**from).clone()).collect::<Vec<_>>(),
        [Reference::Source, lock(None)]
    );
    assert_eq!(venv.config.value()["nested"], json!({ "number": 1, "ratio": 0.5, "on": true }));
    assert_eq!(venv.grants.fetch().chain(venv.grants.exec()).collect::<Vec<_>>(), ["index", "python"]);
    assert_eq!(venv.grants.secrets().map(ToString::to_string).collect::<Vec<_>>(), ["token"]);
    let secrets: Vec<_> = pipeline.secrets.iter().map(|secret| (secret.name.as_str(), &*secret.from)).collect();
    let (token, key) = (SecretSource::Variable("TOKEN".to_owned()), SecretSource::File("keys/deploy".into()));
    assert_eq!(secrets, [("token", &token), ("key", &key)]);
    assert_eq!(venv.limits.time.as_deref().map(Duration::as_secs), Some(600));
    assert_eq!(venv.limits.memory.as_deref(), Some(&(2 << 30)));
    let staging = pipeline.target("staging").expect("it is there");
    assert_eq!(staging.env["DEBUG"].as_str(), "0");
    assert_eq!(staging.address.as_deref().map(SocketAddr::port), Some(8000));
    let production = pipeline.target("production").expect("it is there");
    assert!(matches!(&production.origin, Origin::Promote(from) if **from == "staging"));
}

#[test]
fn little_has_to_be_said() {
    let pipeline = good("[app]\nname = \"polls\"\n[steps.a]\nplugin = \"files\"\n");
    assert_eq!(*pipeline.platform, "linux-x86_64-gnu");
    assert_eq!(pipeline.source_directory(), Path::new("dir"));
    assert!(matches!(pipeline.runtime, Runtime::Host { python: None }));
    assert_eq!(**pipeline.steps[0].config.value(), json!({}));
}

#[test]
fn a_part_of_a_config_is_found_by_its_pointer() {
    let pipeline = good(EVERYTHING);
    let config = &pipeline.step("venv").expect("it is there").config;
    let at = |span: Option<Range<usize>>| &EVERYTHING[span.expect("a place")];
    assert_eq!(at(config.span("/add/0")), "\"gunicorn\"");
    assert_eq!(at(config.key_span("/nested/ratio")), "ratio");
    assert_eq!(at(config.span("/nested/missing")), "{ number = 1, ratio = 0.5, on = true }");
    assert_eq!(at(config.key_span("")), "config");
}

#[test]
fn the_files_that_say_how_to_build_are_no_part_of_the_source() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "[app]\nname = \"a\"\n[source]\nexclude = [\"*.log\"]\n[steps.s]\nplugin = \"slug\"\n\
                [targets.t]\ndriver = \"local\"\nrelease = \"s\"\nenv-file = \".env[1]\"\n";
    let pipeline = parse(&dir.path().join("release.pipeline"), text).expect("a pipeline");
    assert_eq!(pipeline.source_exclude(), ["*.log", "/release.pipeline", "/pipe.lock", "/.env[[]1[]]"]);
    let here = |file: &str| anchored(Path::new("."), Path::new(file));
    assert_eq!(here("release.pipeline"), here("./release.pipeline"));
    assert_eq!(here("release.pipeline").as_deref(), Some("/release.pipeline"));
}

#[test]
fn what_is_no_toml_is_refused_with_all_its_places() {
    refused_whole(
        "[app\nname = polls\n[steps]\na = [1,\n",
        &expect![[r#"
        p:1:5: unclosed table, expected `]`
          |
        1 | [app
          |     ^

        p:4:8: unclosed array, expected `]`
          |
        4 | a = [1,
          |        ^
    "#]],
    );
}

#[test]
fn mistakes_in_toml_that_are_made_most_are_told_with_their_remedy() {
    refused_whole(
        "a = \"grep \\d\"\nb = \"\\u12\"\nc = polls\nd = \"polls\n",
        &expect![[r#"
            p:1:12: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`
              |
            1 | a = "grep \d"
              |            ^
              = hint: write `\\` for a backslash, or put the text in single quotes, where it is a character like any other: '…'

            p:2:10: too few unicode value digits, expected unicode hexadecimal value
              |
            2 | b = "\u12"
              |          ^
              = hint: after `\u` come four hexadecimal digits, after `\U` eight; write `\\` for a backslash itself

            p:3:5: string values must be quoted, expected literal string
              |
            3 | c = polls
              |     ^^^^^
              = hint: put the text in quotes: "…"

            p:4:11: invalid basic string, expected `"`
              |
            4 | d = "polls
              |           ^
              = hint: end the text with `"`; one of several lines is in triple quotes: """…"""
        "#]],
    );
}

#[test]
fn names_that_are_there_twice_are_refused() {
    refused(
        "name = \"again\"\n[steps.a]\nplugin = \"x\"\n[steps.a]\nplugin = \"y\"\n",
        &expect![[r#"
        p:3:1: `name` is there twice
          |
        3 | name = "again"
          | ^^^^
          = hint: give one of the two another name, or remove it

        p:6:8: `a` is there twice
          |
        6 | [steps.a]
          |        ^
          = hint: give one of the two another name, or remove it

        p:7:1: `plugin` is there twice
          |
        7 | plugin = "y"
          | ^^^^^^
          = hint: give one of the two another name, or remove it
    "#]],
    );
}

#[test]
fn unknown_keys_are_met_with_the_nearest_name() {
    refused_whole(
        "vresion = 1\n[app]\nname = \"a\"\npyhton = \"3.11\"\n[steps.a]\nplugin = \"x\"\nconfg = {}\ncolour = 1\n[steps.a.limits]\ntme = \"1s\"\n",
        &expect![[r#"
            p:1:1: unknown key `vresion`
              |
            1 | vresion = 1
              | ^^^^^^^
              = hint: did you mean `version`?

            p:4:1: unknown key `pyhton` in `app`
              |
            4 | pyhton = "3.11"
              | ^^^^^^
              = hint: did you mean `python`?

            p:7:1: unknown key `confg` in `steps.a`
              |
            7 | confg = {}
              | ^^^^^
              = hint: did you mean `config`?

            p:8:1: unknown key `colour` in `steps.a`
              |
            8 | colour = 1
              | ^^^^^^
              = hint: known here: `plugin`, `inputs`, `config`, `grants`, `limits` and `pool`

            p:10:1: unknown key `tme` in `steps.a.limits`
               |
            10 | tme = "1s"
               | ^^^
               = hint: did you mean `time`?
        "#]],
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_with_a_remedy() {
    refused_whole(
        "platform = 1\n[app]\nname = \"a\"\npython = 3.11\n[source]\nexclude = \"*.log\"\n[steps.a]\nplugin = [\"x\"]\nconfig = \"y\"\n\
         inputs = { p = 1 }\n[targets]\nt = 1\n",
        &expect![[r#"
            p:1:12: `platform` takes a string, not an integer
              |
            1 | platform = 1
              |            ^ expected a string
              = hint: write it in quotes: `"1"`

            p:4:10: `app.python` takes a string, not a float
              |
            4 | python = 3.11
              |          ^^^^ expected a string
              = hint: write it in quotes: `"3.11"`

            p:6:11: `source.exclude` takes a list, not a string
              |
            6 | exclude = "*.log"
              |           ^^^^^^^ expected a list
              = hint: write it in brackets: `["*.log"]`

            p:8:10: `steps.a.plugin` takes a string, not a list
              |
            8 | plugin = ["x"]
              |          ^^^^^ expected a string

            p:9:10: `steps.a.config` takes a table, not a string
              |
            9 | config = "y"
              |          ^^^ expected a table

            p:10:16: `steps.a.inputs.p` takes the name of a step, or a list of names, not an integer
               |
            10 | inputs = { p = 1 }
               |                ^ expected the name of a step, or a list of names

            p:12:5: `targets.t` takes a table, not an integer
               |
            12 | t = 1
               |     ^ expected a table
        "#]],
    );
}

#[test]
fn what_must_be_there_is_asked_for_with_an_example() {
    refused_whole(
        "[steps.a]\n[targets.t]\n",
        &expect![[r#"
        p:1:1: the pipeline has no `app`
          |
        1 | [steps.a]
          | ^
          = hint: add a section
                  [app]
                  name = "my-app"
                  python = "3.11"

        p:1:8: `steps.a` has no `plugin`
          |
        1 | [steps.a]
          |        ^
          = hint: add `plugin = "…"`: a built-in step, or the path of a `.wasm` file

        p:2:10: `targets.t` has no `driver`
          |
        2 | [targets.t]
          |          ^
          = hint: add `driver = "local"`

        p:2:10: `targets.t` has no `release`
          |
        2 | [targets.t]
          |          ^
          = hint: add `release = "…"`, the step whose slug runs here
                  or `promote = "…"`, the target whose slug runs here after it
    "#]],
    );
}

#[test]
fn versions_platforms_and_pythons_that_are_not_known_are_refused() {
    refused_whole(
        "version = 2\nplatform = \"linux-x86-64-gnu\"\n[app]\nname = \"a\"\npython = \"3.11.4\"\n",
        &expect![[r#"
            p:1:11: version 2 of the pipeline language is not known here
              |
            1 | version = 2
              |           ^ expected 1
              = hint: a newer `pipe` may read it

            p:2:12: unknown platform `linux-x86-64-gnu`
              |
            2 | platform = "linux-x86-64-gnu"
              |            ^^^^^^^^^^^^^^^^^^
              = hint: did you mean `linux-x86_64-gnu`?

            p:5:10: `3.11.4` is not a version of Python
              |
            5 | python = "3.11.4"
              |          ^^^^^^^^ such as "3.11"
              = hint: leave out the patch level: `"3.11"`
        "#]],
    );
}

#[test]
fn names_that_cannot_be_are_refused_with_one_that_can() {
    refused_whole(
        "[app]\nname = \"My App\"\n[steps.\"a.b\"]\nplugin = \"x\"\n[steps.source]\nplugin = \"Python Lock\"\n[tools]\nNode = \"/n\"\n",
        &expect![[r#"
            p:2:8: `My App` cannot be the name of an application
              |
            2 | name = "My App"
              |        ^^^^^^^^
              = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
              = hint: `my-app` would do

            p:3:8: `a.b` cannot be the name of a step
              |
            3 | [steps."a.b"]
              |        ^^^^^
              = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
              = hint: `a-b` would do

            p:5:8: a step cannot be called `source`
              |
            5 | [steps.source]
              |        ^^^^^^
              = hint: as an input, `source` stands for the source directory; give the step another name

            p:6:10: `Python Lock` names no plugin
              |
            6 | plugin = "Python Lock"
              |          ^^^^^^^^^^^^^
              = hint: name a built-in step, or the path of a `.wasm` file

            p:8:1: `Node` cannot be the name of a tool
              |
            8 | Node = "/n"
              | ^^^^
              = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
              = hint: `node` would do
        "#]],
    );
}

#[test]
fn runtimes_take_the_keys_of_their_kind_only() {
    refused(
        "[runtime]\nkind = \"archive\"\nsuite = \"bookworm\"\nsha256 = \"12\"\n",
        &expect![[r#"
        p:3:2: `runtime` has no `url`
          |
        3 | [runtime]
          |  ^^^^^^^
          = hint: add `url = "https://…"`

        p:5:1: `runtime.suite` is of no use to a runtime of the kind `archive`
          |
        5 | suite = "bookworm"
          | ^^^^^
          = hint: it belongs to `kind = "packages"`

        p:6:10: a sha256 is 64 lower-case hex digits
          |
        6 | sha256 = "12"
          |          ^^^^
    "#]],
    );
    refused(
        "[runtime]\nkind = \"hosts\"\n",
        &expect![[r#"
        p:4:8: unknown runtime `hosts`
          |
        4 | kind = "hosts"
          |        ^^^^^^^
          = hint: did you mean `host`?
    "#]],
    );
}

#[test]
fn numbers_without_a_unit_and_out_of_bounds_are_refused_with_what_would_do() {
    refused_whole(
        "[app]\nname = \"a\"\n[pools]\nnet = 0\n[steps.a]\nplugin = \"x\"\npool = \"net\"\n\
         limits = { memory = 5, time = 5, handles = 99999999999999999999 }\n",
        &expect![[r#"
            p:4:7: `pools.net` must be more than nothing
              |
            4 | net = 0
              |       ^

            p:8:21: `steps.a.limits.memory` takes a string, not an integer
              |
            8 | limits = { memory = 5, time = 5, handles = 99999999999999999999 }
              |                     ^ expected a string
              = hint: write it with a unit, in quotes: such as `"512MiB"`

            p:8:31: `steps.a.limits.time` takes a string, not an integer
              |
            8 | limits = { memory = 5, time = 5, handles = 99999999999999999999 }
              |                               ^ expected a string
              = hint: write it with a unit, in quotes: such as `"10m"`

            p:8:44: `steps.a.limits.handles` must be at most 18446744073709551615
              |
            8 | limits = { memory = 5, time = 5, handles = 99999999999999999999 }
              |                                            ^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
}

#[test]
fn limits_and_grants_that_say_nothing_are_refused() {
    refused(
        "[steps.a]\nplugin = \"x\"\nlimits = { time = \"10\", memory = \"2G\" }\n\
         grants = { fetch = [\"indx\"], exec = [\"/usr/bin/python\"] }\n",
        &expect![[r#"
            p:5:19: `10` is not a time
              |
            5 | limits = { time = "10", memory = "2G" }
              |                   ^^^^ such as "90s", "10m" or "1h30m"

            p:5:34: `2G` is not a size
              |
            5 | limits = { time = "10", memory = "2G" }
              |                                  ^^^^ such as "512MiB" or "2GiB"

            p:6:21: unknown source to fetch from `indx`
              |
            6 | grants = { fetch = ["indx"], exec = ["/usr/bin/python"] }
              |                     ^^^^^^
              = hint: did you mean `index`?

            p:6:38: `/usr/bin/python` is not the name of a program
              |
            6 | grants = { fetch = ["indx"], exec = ["/usr/bin/python"] }
              |                                      ^^^^^^^^^^^^^^^^^
              = hint: grant the file's name alone, such as `python`, without its directory or version
        "#]],
    );
}

#[test]
fn secrets_that_are_read_nowhere_or_granted_to_nothing_are_refused() {
    refused(
        "[secrets]\nToken = { env = \"T\" }\na = {}\nb = { env = \"B\", file = \"b\" }\nc = { env = \"A=B\" }\nd = \"text\"\n\
         [steps.s]\nplugin = \"x\"\ngrants = { secrets = [\"tken\"] }\n",
        &expect![[r#"
            p:4:1: `Token` cannot be the name of a secret
              |
            4 | Token = { env = "T" }
              | ^^^^^
              = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
              = hint: `token` would do

            p:5:1: `secrets.a` has no `env`
              |
            5 | a = {}
              | ^
              = hint: add `env = "…"`, the variable that holds it
                      or `file = "…"`, the file that it is in

            p:6:18: a secret is read either by `env` or by `file`
              |
            6 | b = { env = "B", file = "b" }
              |                  ^^^^
              = hint: keep one of the two

            p:7:13: `A=B` cannot be the name of a variable
              |
            7 | c = { env = "A=B" }
              |             ^^^^^

            p:8:5: `secrets.d` takes a table, not a string
              |
            8 | d = "text"
              |     ^^^^^^ expected a table

            p:11:23: unknown secret `tken`
               |
            11 | grants = { secrets = ["tken"] }
               |                       ^^^^^^
               = hint: declare it:
                       [secrets]
                       tken = { env = "…" }
        "#]],
    );
    refused(
        "[secrets]\npypi-token = { env = \"T\" }\n[steps.s]\nplugin = \"x\"\ngrants = { secrets = [\"pipy-token\"] }\n",
        &expect![[r#"
            p:7:23: unknown secret `pipy-token`
              |
            7 | grants = { secrets = ["pipy-token"] }
              |                       ^^^^^^^^^^^^
              = hint: did you mean `pypi-token`?
        "#]],
    );
    refused(
        "[steps.s]\nplugin = \"x\"\ngrants = { secrets = [\"pypi-token\"] }\n",
        &expect![[r#"
        p:5:23: unknown secret `pypi-token`
          |
        5 | grants = { secrets = ["pypi-token"] }
          |                       ^^^^^^^^^^^^
          = hint: declare it:
                  [secrets]
                  pypi-token = { env = "…" }
    "#]],
    );
}

#[test]
fn references_that_name_nothing_are_refused() {
    refused(
        "[steps.a]\nplugin = \"x\"\ninputs = { a = \"source.tree\", b = \"\", c = \"a.b.c\", d = [\"a\", 1] }\n",
        &expect![[r#"
            p:5:16: `source` has no ports
              |
            5 | inputs = { a = "source.tree", b = "", c = "a.b.c", d = ["a", 1] }
              |                ^^^^^^^^^^^^^ expected `source`, a step's name, or `step.port`

            p:5:35: this names no value
              |
            5 | inputs = { a = "source.tree", b = "", c = "a.b.c", d = ["a", 1] }
              |                                   ^^ expected `source`, a step's name, or `step.port`

            p:5:43: this names no value
              |
            5 | inputs = { a = "source.tree", b = "", c = "a.b.c", d = ["a", 1] }
              |                                           ^^^^^^^ expected `source`, a step's name, or `step.port`

            p:5:62: `steps.a.inputs.d[]` takes a string, not an integer
              |
            5 | inputs = { a = "source.tree", b = "", c = "a.b.c", d = ["a", 1] }
              |                                                              ^ expected a string
              = hint: write it in quotes: `"1"`
        "#]],
    );
}

#[test]
fn plugins_must_be_named_or_pinned() {
    refused(
        "[steps.a]\nplugin = \"oci://example.org/step:1\"\n[steps.b]\nplugin = \"My Plugin\"\n",
        &expect![[r#"
        p:4:10: an image must be pinned by its digest
          |
        4 | plugin = "oci://example.org/step:1"
          |          ^^^^^^^^^^^^^^^^^^^^^^^^^^
          = hint: write `oci://…@sha256:` and the 64 hex digits of the digest

        p:6:10: `My Plugin` names no plugin
          |
        6 | plugin = "My Plugin"
          |          ^^^^^^^^^^^
          = hint: name a built-in step, or the path of a `.wasm` file
    "#]],
    );
}

#[test]
fn addresses_and_patterns_that_cannot_be_are_refused() {
    refused(
        "[index]\nurl = \"pypi.org\"\n[source]\nexclude = [\"a{b\"]\n",
        &expect![[r#"
        p:4:7: `pypi.org` is not an address
          |
        4 | url = "pypi.org"
          |       ^^^^^^^^^^ such as "https://…"

        p:6:12: this pattern cannot be read: error parsing glob 'a{b': unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
          |
        6 | exclude = ["a{b"]
          |            ^^^^^
    "#]],
    );
}

#[test]
fn numbers_that_json_cannot_say_are_refused_in_a_config() {
    refused(
        "[steps.a]\nplugin = \"x\"\nconfig = { ratio = inf }\n",
        &expect![[r#"
        p:5:20: this is not a finite number
          |
        5 | config = { ratio = inf }
          |                    ^^^
    "#]],
    );
}

#[test]
fn a_name_that_cannot_be_is_one_error_wherever_it_is_used() {
    refused(
        "[steps.Out]\nplugin = \"files\"\n[targets.a]\ndriver = \"local\"\nrelease = \"Out\"\n",
        &expect![[r#"
            p:3:8: `Out` cannot be the name of a step
              |
            3 | [steps.Out]
              |        ^^^
              = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
              = hint: `out` would do
        "#]],
    );
}

#[test]
fn a_target_on_another_machine_says_where_and_one_on_this_machine_does_not() {
    refused(
        "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"ssh\"\nrelease = \"slug\"\n\
         [targets.b]\ndriver = \"local\"\nserver = \"ssh://web\"\nrelease = \"slug\"\n\
         [targets.c]\ndriver = \"ssh\"\nserver = \"deploy@web\"\nrelease = \"slug\"\n",
        &expect![[r#"
            p:5:10: `targets.a` has no `server`
              |
            5 | [targets.a]
              |          ^
              = hint: add `server = "ssh://user@host"`, where it is

            p:10:1: a target of the driver `local` is on this machine
               |
            10 | server = "ssh://web"
               | ^^^^^^
               = hint: write `driver = "ssh"`, or take `server` out

            p:14:10: `deploy@web` is not the address of a host
               |
            14 | server = "deploy@web"
               |          ^^^^^^^^^^^^ it does not begin with `ssh://`
               = hint: such as `ssh://deploy@example.org` or `ssh://example.org:2222`
        "#]],
    );
    let pipeline = good(&format!(
        "{APP}[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"ssh\"\nserver = \"ssh://a@web:22/srv\"\nrelease = \"slug\"\n"
    ));
    let target = pipeline.target("a").expect("a target");
    assert_eq!(target.driver, Driver::Ssh);
    assert_eq!(target.server.as_ref().map(ToString::to_string).as_deref(), Some("ssh://a@web:22/srv"));
}

#[test]
fn domains_and_their_certificates_are_checked() {
    refused(
        "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"local\"\nrelease = \"slug\"\n\
         domains = [\"https://a.org\"]\ntls = \"acne\"\n\
         [targets.b]\ndriver = \"local\"\nrelease = \"slug\"\ntls = \"acme\"\n\
         [targets.c]\ndriver = \"ssh\"\nserver = \"ssh://web\"\nrelease = \"slug\"\ndomains = [\"c.org\"]\n\
         tls = { certificate = \"full.pem\", key = \"/etc/key.pem\" }\n\
         [targets.d]\ndriver = \"local\"\nrelease = \"slug\"\ndomains = [\"d.org\"]\ntls = { acme = \"http://ca\" }\n\
         [targets.e]\ndriver = \"local\"\nrelease = \"slug\"\ndomains = [\"e.org\"]\ntls = { certificate = \"e.pem\" }\n",
        &expect![[r#"
            p:8:12: `https://a.org` is not a domain
              |
            8 | domains = ["https://a.org"]
              |            ^^^^^^^^^^^^^^^ such as "example.org"
              = hint: without a scheme, a port or a path

            p:9:7: `tls` cannot be `acne`
              |
            9 | tls = "acne"
              |       ^^^^^^
              = hint: write `tls = "acme"`
                      or `tls = { certificate = "fullchain.pem", key = "privkey.pem" }`

            p:13:7: `tls` is for domains, and the target has none
               |
            13 | tls = "acme"
               |       ^^^^^^
               = hint: add `domains = ["example.org"]`

            p:19:23: `full.pem` is on the target's host, which has no directory of this pipeline
               |
            19 | tls = { certificate = "full.pem", key = "/etc/key.pem" }
               |                       ^^^^^^^^^^
               = hint: name it from the root: "/etc/letsencrypt/live/example.org/fullchain.pem"

            p:24:16: `http://ca` is not the address of an authority
               |
            24 | tls = { acme = "http://ca" }
               |                ^^^^^^^^^^^ such as "https://ca.example.org/acme/directory"
               = hint: or `letsencrypt`

            p:29:7: certificates come either from `acme` or from a `certificate` and its `key`
               |
            29 | tls = { certificate = "e.pem" }
               |       ^^^^^^^^^^^^^^^^^^^^^^^^^
               = hint: write `tls = "acme"`
                       or `tls = { certificate = "fullchain.pem", key = "privkey.pem" }`
        "#]],
    );
    for tls in
        ["\"acme\"", "{ acme = \"letsencrypt\", email = \"a@a.org\" }", "{ certificate = \"a.pem\", key = \"a.key\" }"]
    {
        let text = format!(
            "{APP}[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"local\"\nrelease = \"slug\"\n\
             domains = [\"a.org\"]\ntls = {tls}\nhttps = \"[::]:8443\"\n"
        );
        assert!(good(&text).targets[0].tls.is_some());
    }
}

#[test]
fn targets_of_branches_are_checked() {
    let target = "driver = \"local\"\nrelease = \"slug\"\n";
    refused(
        &format!(
            "[steps.slug]\nplugin = \"slug\"\n[targets.a]\n{target}branch = \"x/*\"\naddress = \"127.0.0.1:80\"\n\
             domains = [\"a.org\"]\n[targets.b]\n{target}branch = \"\"\nexpires = \"soon\"\ndomains = [\"{{branch}}.org\"]\n"
        ),
        &expect![[r#"
            p:9:11: each of its branches has a target, and they cannot all listen here
              |
            9 | address = "127.0.0.1:80"
              |           ^^^^^^^^^^^^^^
              = hint: take `address` out: each is given one; or name `domains`

            p:10:12: each of its branches has a target, and they cannot all have this domain
               |
            10 | domains = ["a.org"]
               |            ^^^^^^^
               = hint: such as `{branch}.a.org`

            p:14:10: `` is not a branch
               |
            14 | branch = ""
               |          ^^ such as "main" or "feature/*"

            p:15:11: `soon` is not a time
               |
            15 | expires = "soon"
               |           ^^^^^^ such as "90s", "10m" or "1h30m"

            p:16:12: `{branch}.org` is not a domain
               |
            16 | domains = ["{branch}.org"]
               |            ^^^^^^^^^^^^^^ such as "example.org"
               = hint: without a scheme, a port or a path
        "#]],
    );
    let text = format!(
        "{APP}[steps.slug]\nplugin = \"slug\"\n[targets.a]\n{target}branch = \"x/*\"\ndomains = [\"{{branch}}.a.org\"]\n\
         expires = \"7d\"\n[targets.b]\n{target}branch = \"main\"\n"
    );
    let pipeline = good(&text);
    let [many, one] = [&pipeline.targets[0], &pipeline.targets[1]];
    let target = many.on("x/Y").expect("it is for that");
    assert!(target.name.starts_with("a-x-y-") && target.domains[0].starts_with("x-y-"), "{:?}", target.name);
    let target = many.on("x/y").expect("it is for that");
    assert_eq!((target.name.as_str(), target.domains[0].as_str()), ("a-x-y", "x-y.a.org"));
    assert_eq!(target.branch.as_ref().map(|branch| branch.as_str()), Some("x/y"));
    assert_eq!(one.on("main").expect("it is for that").name.as_str(), "b");
    assert!(one.on("x/y").is_none() && many.on("main").is_none());
}

#[test]
fn what_every_process_is_given_is_not_made_up() {
    let target = "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"local\"\nrelease = \"slug\"\n";
    refused(
        &format!("{target}generate = [\"SECRET_KEY\", \"PORT\", \"A-B\"]\n"),
        &expect![[r#"
        p:8:27: `PORT` is not to be made up: every process is given one
          |
        8 | generate = ["SECRET_KEY", "PORT", "A-B"]
          |                           ^^^^^^
          = hint: name secret keys: `generate = ["SECRET_KEY"]`

        p:8:35: `A-B` cannot be the name of a variable
          |
        8 | generate = ["SECRET_KEY", "PORT", "A-B"]
          |                                   ^^^^^
          = hint: letters, digits and `_`, not starting with a digit
    "#]],
    );
    let pipeline = good(&format!("{APP}{target}generate = [\"SECRET_KEY\"]\n"));
    assert_eq!(pipeline.targets[0].generate[0].as_str(), "SECRET_KEY");
}

#[test]
fn limits_of_targets_are_checked() {
    let target = "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"local\"\nrelease = \"slug\"\n";
    refused(
        &format!("{target}limits = {{ body = \"1\", answer = \"never\", memory = \"much\", disk = \"1GiB\" }}\n"),
        &expect![[r#"
            p:8:19: `1` is not a size
              |
            8 | limits = { body = "1", answer = "never", memory = "much", disk = "1GiB" }
              |                   ^^^ such as "512MiB" or "2GiB"

            p:8:33: `never` is not a time
              |
            8 | limits = { body = "1", answer = "never", memory = "much", disk = "1GiB" }
              |                                 ^^^^^^^ such as "90s", "10m" or "1h30m"

            p:8:51: `much` is not a size
              |
            8 | limits = { body = "1", answer = "never", memory = "much", disk = "1GiB" }
              |                                                   ^^^^^^ such as "512MiB" or "2GiB"

            p:8:59: unknown key `disk` in `targets.a.limits`
              |
            8 | limits = { body = "1", answer = "never", memory = "much", disk = "1GiB" }
              |                                                           ^^^^
              = hint: known here: `body`, `memory`, `answer`, `release` and `start`
        "#]],
    );
    let pipeline =
        good(&format!("{APP}{target}limits = {{ body = \"2 GiB\", release = \"1h30m\", memory = \"512MB\" }}\n"));
    let limits = &pipeline.targets[0].limits;
    assert_eq!(limits.body.as_deref(), Some(&(2 << 30)));
    assert_eq!(limits.release.as_deref(), Some(&Duration::from_mins(90)));
    assert_eq!(limits.memory.as_deref(), Some(&512_000_000));
    assert!(limits.answer.is_none());
}

#[test]
fn times_that_never_come_are_refused() {
    refused(
        "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"local\"\nrelease = \"slug\"\n[targets.a.cron]\n\
         one = \"python a.py\"\ntwo = \"61 * * * * true\"\nthree = \"0 0 30 2 * true\"\nFour = \"@daily true\"\n",
        &expect![[r#"
            p:9:7: `python a.py` does not begin with a time
              |
            9 | one = "python a.py"
              |       ^^^^^^^^^^^^^ such as "17 4 * * * python manage.py clearsessions"
              = hint: write minute, hour, day, month and weekday, or `@hourly`, `@daily`, `@weekly` or `@monthly`, and then the command

            p:10:7: `61` is not a minute of a schedule: 0 to 59, or `*`, with `,`, `-` and `/`
               |
            10 | two = "61 * * * * true"
               |       ^^^^^^^^^^^^^^^^^ such as "17 4 * * * python manage.py clearsessions"
               = hint: `*/10` is every tenth, `1-5` from one to another, `mon,thu` several

            p:11:9: `0 0 30 2 *` never comes
               |
            11 | three = "0 0 30 2 * true"
               |         ^^^^^^^^^^^^^^^^^ such as "17 4 * * * python manage.py clearsessions"
               = hint: no month has that day

            p:12:1: `Four` cannot be the name of a cron entry
               |
            12 | Four = "@daily true"
               | ^^^^
               = hint: a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most
               = hint: `four` would do
        "#]],
    );
}

#[test]
fn data_hides_nothing_that_processes_need() {
    let of = |data: &str| {
        format!(
            "[steps.s]\nplugin = \"files\"\n[targets.t]\ndriver = \"local\"\nrelease = \"s\"\ndata = [\"{data}\"]\n"
        )
    };
    refused(
        &of("/app"),
        &expect![[r#"
            p:8:9: `/app` cannot be kept: it would hide `/app/venv`, which processes need
              |
            8 | data = ["/app"]
              |         ^^^^^^ such as "media"
              = hint: a directory or an SQLite file, relative to `/app/src`, without `..`; or a place of the application's own, such as `/srv/media`
        "#]],
    );
    let is_taken = |path: &str| parse(Path::new("p"), &format!("{APP}{}", of(path))).is_ok();
    for path in [
        "/",
        "/app",
        "/app/",
        "/app/src",
        "/app/venv",
        "/app/static/css",
        "/etc",
        "/usr",
        "/usr/share/x",
        "/proc",
        "/opt",
        "/tmp",
        "~/media",
    ] {
        assert!(!is_taken(path), "{path}");
    }
    for path in [
        "media",
        "/app/src/media",
        "/app/media",
        "/app/data",
        "/data",
        "/srv/media",
        "/var/lib/x",
        "/opt/x",
        "/etc.d",
        "/tmp/x",
    ] {
        assert!(is_taken(path), "{path}");
    }
}

#[test]
fn targets_are_checked_as_far_as_they_go() {
    refused(
        "[steps.slug]\nplugin = \"slug\"\n[targets.a]\ndriver = \"lcal\"\nrelease = \"slgu\"\naddress = \"8000\"\n\
         host = \"https://example.org\"\ndata = [\"../up\"]\nenv = { \"A-B\" = \"1\", C = 1 }\n\
         [targets.b]\ndriver = \"local\"\npromote = \"c\"\n[targets.c]\ndriver = \"local\"\npromote = \"b\"\n\
         [targets.d]\ndriver = \"local\"\npromote = \"aa\"\n[targets.e]\ndriver = \"local\"\npromote = \"a\"\nrelease = \"slug\"\n\
         [targets.f]\ndriver = \"local\"\nrelease = [\"true\"]\n",
        &expect![[r#"
            p:6:10: unknown driver `lcal`
              |
            6 | driver = "lcal"
              |          ^^^^^^
              = hint: did you mean `local`?

            p:7:11: unknown step `slgu`
              |
            7 | release = "slgu"
              |           ^^^^^^
              = hint: did you mean `slug`?

            p:8:11: `8000` is not an address to listen at
              |
            8 | address = "8000"
              |           ^^^^^^ such as "127.0.0.1:8000"

            p:9:8: `https://example.org` is not a domain
              |
            9 | host = "https://example.org"
              |        ^^^^^^^^^^^^^^^^^^^^^ such as "example.org"
              = hint: without a scheme, a port or a path

            p:10:9: `../up` is not a place that can be kept
               |
            10 | data = ["../up"]
               |         ^^^^^^^ such as "media"
               = hint: a directory or an SQLite file, relative to `/app/src`, without `..`; or a place of the application's own, such as `/srv/media`

            p:11:9: `A-B` cannot be the name of a variable
               |
            11 | env = { "A-B" = "1", C = 1 }
               |         ^^^^^
               = hint: letters, digits and `_`, not starting with a digit

            p:11:26: `targets.a.env.C` takes a string, not an integer
               |
            11 | env = { "A-B" = "1", C = 1 }
               |                          ^ expected a string
               = hint: write it in quotes: `"1"`

            p:17:11: targets are promoted from each other in a cycle: `b` → `c` → `b`
               |
            17 | promote = "b"
               |           ^^^
               = hint: take one of these names out of where it is used

            p:20:11: unknown target `aa`
               |
            20 | promote = "aa"
               |           ^^^^
               = hint: did you mean `a`?

            p:23:1: a target takes its slugs either by `release` or by `promote`
               |
            23 | promote = "a"
               | ^^^^^^^
               = hint: keep one of the two

            p:27:11: `targets.f.release` takes the name of a step, not a list
               |
            27 | release = ["true"]
               |           ^^^^^^^^ expected the step whose slug runs here
               = hint: commands that run before the switch are `release-commands`
        "#]],
    );
}

#[test]
fn a_pool_that_nobody_made_is_refused() {
    refused(
        "[pools]\ndatabase = 1\nnone = 0\n[steps.a]\nplugin = \"files\"\npool = \"databse\"\n",
        &expect![[r#"
            p:5:8: `pools.none` must be more than nothing
              |
            5 | none = 0
              |        ^

            p:8:8: unknown pool `databse`
              |
            8 | pool = "databse"
              |        ^^^^^^^^^
              = hint: did you mean `database`?
        "#]],
    );
    refused(
        "[steps.a]\nplugin = \"files\"\npool = \"db\"\n",
        &expect![[r#"
            p:5:8: unknown pool `db`
              |
            5 | pool = "db"
              |        ^^^^
              = hint: say how many of its steps run at one time
                      [pools]
                      db = 1
        "#]],
    );
}

fn port(name: &str, kind: PortKind) -> Port {
    Port { name: name.to_owned(), kind, required: true, many: false, doc: format!("the {name}") }
}

fn plugins() -> Vec<PluginDescription> {
    let plugin = |name: &str, capabilities: &[&str], inputs: Vec<Port>, outputs: Vec<Port>| PluginDescription {
        name: name.to_owned(),
        version: "1".to_owned(),
        summary: String::new(),
        config_schema: json!({ "type": "object", "additionalProperties": false }),
        inputs,
        outputs,
        capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(),
    };
    let (tree, blob) = (PortKind::Tree, PortKind::Blob);
    let optional = |port| Port { required: false, ..port };
    let mut venv = plugin(
        "python-venv",
        &["exec", "fetch"],
        vec![port("lock", blob), optional(port("project", tree))],
        vec![port("venv", tree)],
    );
    venv.config_schema = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["mode"],
        "properties": {
            "add": { "type": "array", "items": { "type": "string" } },
            "bytecode": { "type": ["boolean", "null"] },
            "mode": { "$ref": "#/$defs/Mode", "description": "How packages are laid out." },
            "options": { "anyOf": [{ "$ref": "#/$defs/Options" }, { "type": "null" }] },
        },
        "$defs": {
            "Mode": { "enum": ["merge", "copy"] },
            "Options": { "type": "object", "properties": { "level": { "type": "integer", "minimum": 1 } }, "additionalProperties": false },
        },
    });
    let many = Port { many: true, ..port("trees", tree) };
    vec![
        plugin("python-lock", &[], vec![port("project", tree)], vec![port("lock", blob)]),
        venv,
        plugin("files", &[], vec![many], vec![port("out", tree)]),
    ]
}

fn checked(text: &str) -> Result<check::Wiring, String> {
    let pipeline = good(&format!("{APP}{text}"));
    let plugins = plugins();
    let describe = |step: &Step| {
        let PluginRef::BuiltIn(name) = &*step.plugin else { return None };
        plugins.iter().find(|plugin| plugin.name == *name)
    };
    check::check(&pipeline, describe).map_err(|errors| render(&errors, Colour::Never))
}

fn misfit(text: &str, expected: &Expect) {
    expected.assert_eq(&checked(text).expect_err("it does not fit"));
}

#[test]
fn a_pipeline_that_fits_is_wired_in_the_order_of_its_inputs() {
    let text = "
        [steps.out]\nplugin = \"files\"\ninputs = { trees = [\"venv\", \"source\"] }
        [steps.venv]\nplugin = \"python-venv\"\ninputs = { lock = \"lock.lock\" }\nconfig = { mode = \"copy\" }
        grants = { fetch = [\"index\"], exec = [\"python\"] }
        [steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n";
    let wiring = checked(text).expect("it fits");
    assert_eq!(wiring.order, [2, 1, 0]);
    let output = |step, port: &str| check::BoundValue::Output { step, port: port.to_owned() };
    let values: Vec<_> = wiring.bindings[0].iter().map(|binding| binding.value.clone()).collect();
    assert_eq!(values, [output(1, "venv"), check::BoundValue::Source]);
    assert_eq!(wiring.bindings[1], [check::Binding { port: "lock".to_owned(), value: output(2, "lock") }]);
}

#[test]
fn inputs_that_do_not_fit_the_ports_are_refused() {
    misfit(
        "[steps.lock]\nplugin = \"python-lock\"\ninputs = { projct = \"source\" }\n\
         [steps.more]\nplugin = \"python-lock\"\ninputs = { project = [\"source\", \"source\"] }\n\
         [steps.kind]\nplugin = \"python-lock\"\ninputs = { project = \"lock\" }\n\
         [steps.port]\nplugin = \"files\"\ninputs = { trees = [\"kind.lok\", \"nobody\", \"lck\"] }\n\
         [steps.none]\nplugin = \"files\"\ninputs = { trees = [] }\n",
        &expect![[r#"
            dir/p:3:8: step `lock` has nothing at its input `project`
              |
            3 | [steps.lock]
              |        ^^^^ `python-lock` needs a tree: the project
              = hint: add to its inputs: `project = "source"`

            dir/p:5:12: `python-lock` has no input `projct`
              |
            5 | inputs = { projct = "source" }
              |            ^^^^^^
              = hint: did you mean `project`?

            dir/p:8:33: the input `project` of `python-lock` takes one value only
              |
            8 | inputs = { project = ["source", "source"] }
              |                                 ^^^^^^^^

            dir/p:11:22: the input `project` takes a tree, but `lock.lock` is a blob
               |
            11 | inputs = { project = "lock" }
               |                      ^^^^^^ expected a tree: the project

            dir/p:14:21: step `kind` has no output `lok`
               |
            14 | inputs = { trees = ["kind.lok", "nobody", "lck"] }
               |                     ^^^^^^^^^^
               = hint: did you mean `lock`?

            dir/p:14:33: unknown step `nobody`
               |
            14 | inputs = { trees = ["kind.lok", "nobody", "lck"] }
               |                                 ^^^^^^^^
               = hint: known here: `lock`, `more`, `kind`, `none` and `source`

            dir/p:14:43: unknown step `lck`
               |
            14 | inputs = { trees = ["kind.lok", "nobody", "lck"] }
               |                                           ^^^^^
               = hint: did you mean `lock`?

            dir/p:15:8: step `none` has nothing at its input `trees`
               |
            15 | [steps.none]
               |        ^^^^ `files` needs a tree: the trees
               = hint: add to its inputs: `trees = "…"`
        "#]],
    );
}

#[test]
fn a_step_that_nobody_wrote_is_met_with_the_nearest_name_or_the_source() {
    misfit(
        "[steps.a]\nplugin = \"files\"\ninputs = { trees = [\"sorce\", \"other\"] }\n",
        &expect![[r#"
            dir/p:5:21: unknown step `sorce`
              |
            5 | inputs = { trees = ["sorce", "other"] }
              |                     ^^^^^^^
              = hint: did you mean `source`?

            dir/p:5:30: unknown step `other`
              |
            5 | inputs = { trees = ["sorce", "other"] }
              |                              ^^^^^^^
              = hint: known here: `source`
        "#]],
    );
}

#[test]
fn cycles_are_named() {
    misfit(
        "[steps.a]\nplugin = \"files\"\ninputs = { trees = \"b\" }\n\
         [steps.b]\nplugin = \"files\"\ninputs = { trees = [\"source\", \"c\"] }\n\
         [steps.c]\nplugin = \"files\"\ninputs = { trees = \"b.out\" }\n",
        &expect![[r#"
            dir/p:11:20: steps need each other in a cycle: `b` → `c` → `b`
               |
            11 | inputs = { trees = "b.out" }
               |                    ^^^^^^^
               = hint: take one of these names out of where it is used
        "#]],
    );
}

#[test]
fn grants_that_are_missing_or_of_no_use_are_named() {
    misfit(
        "[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\ngrants = { fetch = [\"index\"] }\n\
         [steps.venv]\nplugin = \"python-venv\"\ninputs = { lock = \"lock\" }\nconfig = { mode = \"copy\" }\ngrants = { exec = [\"uv\"] }\n",
        &expect![[r#"
            dir/p:6:20: `python-lock` does not ask for `fetch`
              |
            6 | grants = { fetch = ["index"] }
              |                    ^^^^^^^^^
              = hint: take this grant out

            dir/p:8:10: `python-venv` needs the grant `fetch`, and step `venv` has none
              |
            8 | plugin = "python-venv"
              |          ^^^^^^^^^^^^^ it fetches files by their digest
              = hint: to allow it, write
                      grants = { fetch = ["index"], exec = ["uv"] }
        "#]],
    );
}

#[test]
fn a_secret_that_no_program_could_see_is_refused() {
    misfit(
        "[secrets]\ntoken = { env = \"TOKEN\" }\n[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n\
         grants = { secrets = [\"token\"] }\n\
         [steps.venv]\nplugin = \"python-venv\"\ninputs = { lock = \"lock\" }\nconfig = { mode = \"copy\" }\n\
         grants = { secrets = [\"token\"], exec = [\"uv\"] }\n",
        &expect![[r#"
            dir/p:8:22: `python-lock` runs no programs, and only programs see secrets
              |
            8 | grants = { secrets = ["token"] }
              |                      ^^^^^^^^^
              = hint: take this grant out

            dir/p:10:10: `python-venv` needs the grant `fetch`, and step `venv` has none
               |
            10 | plugin = "python-venv"
               |          ^^^^^^^^^^^^^ it fetches files by their digest
               = hint: to allow it, write
                       grants = { fetch = ["index"], exec = ["uv"], secrets = ["token"] }
        "#]],
    );
}

#[test]
fn a_config_is_held_against_its_plugins_schema() {
    let venv = "[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\nconfig = { x = 1 }\n\
                [steps.venv]\nplugin = \"python-venv\"\ninputs = { lock = \"lock\" }\ngrants = { fetch = [\"index\"], exec = [\"python\"] }\n";
    misfit(
        &format!(
            "{venv}config = {{ ad = [], add = [1], bytecode = \"yes\", mode = \"mrge\", options = {{ level = 0, lvel = 1 }} }}\n"
        ),
        &expect![[r#"
            dir/p:6:12: unknown key `x` in `lock.config` of `python-lock`
              |
            6 | config = { x = 1 }
              |            ^
              = hint: this plugin has no settings here

            dir/p:11:12: unknown key `ad` in `venv.config` of `python-venv`
               |
            11 | config = { ad = [], add = [1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |            ^^
               = hint: did you mean `add`?

            dir/p:11:28: `venv.config.add.0` takes a string, not a number
               |
            11 | config = { ad = [], add = [1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |                            ^ expected a string

            dir/p:11:43: `venv.config.bytecode` takes a boolean, not a string
               |
            11 | config = { ad = [], add = [1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |                                           ^^^^^ expected a boolean

            dir/p:11:57: `venv.config.mode` cannot be `mrge`
               |
            11 | config = { ad = [], add = [1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |                                                         ^^^^^^
               = hint: did you mean `merge`?

            dir/p:11:85: `venv.config.options.level`: 0 is less than the minimum of 1
               |
            11 | … = [1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |                                                               ^

            dir/p:11:88: unknown key `lvel` in `venv.config.options` of `python-venv`
               |
            11 | …[1], bytecode = "yes", mode = "mrge", options = { level = 0, lvel = 1 } }
               |                                                               ^^^^
               = hint: did you mean `level`?
        "#]],
    );
    misfit(
        venv,
        &expect![[r#"
        dir/p:6:12: unknown key `x` in `lock.config` of `python-lock`
          |
        6 | config = { x = 1 }
          |            ^
          = hint: this plugin has no settings here

        dir/p:7:8: `venv.config` has no `mode`, which `python-venv` needs
          |
        7 | [steps.venv]
          |        ^^^^
          = hint: `mode`: How packages are laid out.
    "#]],
    );
    misfit(
        &format!("{venv}config = {{ mode = \"copy\", options = 1 }}\n"),
        &expect![[r#"
        dir/p:6:12: unknown key `x` in `lock.config` of `python-lock`
          |
        6 | config = { x = 1 }
          |            ^
          = hint: this plugin has no settings here

        dir/p:11:37: `venv.config.options` takes a table, not a number
           |
        11 | config = { mode = "copy", options = 1 }
           |                                     ^ expected a table
    "#]],
    );
}

/// A step of a plugin whose schema says all that one can say beyond JSON.
fn of_command(config: &str) -> Result<check::Wiring, String> {
    let path = json!({ "type": "string", "x-path": { "from": "/cwd", "made": ["/directories"] } });
    let plugin = PluginDescription {
        config_schema: json!({
            "type": "object",
            "properties": {
                "run": { "description": "What to run.", "anyOf": [
                    { "type": "string", "minLength": 1, "x-program": "sh" },
                    { "type": "array", "minItems": 1, "prefixItems": [{ "type": "string", "x-program": true }] },
                ] },
                "cwd": { "type": "string", "x-path": {} },
                "collect": { "anyOf": [path, { "type": "array", "items": path }] },
                "directories": { "type": "array", "items": { "type": "string" } },
                "include": { "type": "array", "items": { "type": "string", "format": "glob" } },
            },
        }),
        capabilities: vec!["exec".to_owned()],
        inputs: Vec::new(),
        ..plugins().remove(0)
    };
    let text = format!(
        "[steps.a]\nplugin = \"command\"\ngrants = {{ exec = [\"bash\", \"npm\"] }}\nconfig = {{ {config} }}\n"
    );
    let pipeline = good(&format!("{APP}{text}"));
    check::check(&pipeline, |_| Some(&plugin)).map_err(|errors| render(&errors, Colour::Never))
}

#[test]
fn what_a_schema_says_beyond_json_is_checked_before_anything_runs() {
    let refused =
        |config: &str, expected: &Expect| expected.assert_eq(&of_command(config).expect_err("it does not fit"));
    refused(
        "run = \"true\"",
        &expect![[r#"
        dir/p:6:18: `a.config.run` runs `sh`, which step `a` is not granted
          |
        6 | config = { run = "true" }
          |                  ^^^^^^
          = hint: to allow it, write
                  exec = ["bash", "npm", "sh"]
    "#]],
    );
    refused(
        "run = [\"/usr/bin/python3.11\", \"x\"]",
        &expect![[r#"
        dir/p:6:19: `a.config.run.0` runs `python`, which step `a` is not granted
          |
        6 | config = { run = ["/usr/bin/python3.11", "x"] }
          |                   ^^^^^^^^^^^^^^^^^^^^^
          = hint: to allow it, write
                  exec = ["bash", "npm", "python"]
    "#]],
    );
    refused(
        "run = []",
        &expect![[r#"
            dir/p:6:18: `a.config.run` is empty
              |
            6 | config = { run = [] }
              |                  ^^
              = hint: `run`: What to run.
        "#]],
    );
    refused(
        "run = \"\"",
        &expect![[r#"
            dir/p:6:18: `a.config.run` is empty
              |
            6 | config = { run = "" }
              |                  ^^
              = hint: `run`: What to run.
        "#]],
    );
    refused(
        "include = [\"a\", \"[\"]",
        &expect![[r#"
        dir/p:6:28: `a.config.include.1` is no glob
          |
        6 | config = { include = ["a", "["] }
          |                            ^^^ unclosed character class; missing ']'
          = hint: a `\` before a character makes it stand for itself
    "#]],
    );
    for leaving in ["../*", "/*", "a/../*"] {
        let error = of_command(&format!("include = [{leaving:?}]")).expect_err(leaving);
        assert!(error.contains("none leads out of it"), "{error}");
    }
    refused(
        "cwd = \"../..\"",
        &expect![[r#"
        dir/p:6:18: `a.config.cwd` leads out of the project, to `/`
          |
        6 | config = { cwd = "../.." }
          |                  ^^^^^^^ expected a path in `/app/src`
    "#]],
    );
    refused(
        "cwd = \"ui\", collect = \"../../etc\"",
        &expect![[r#"
        dir/p:6:34: `a.config.collect` leads out of the project, to `/app/etc`
          |
        6 | config = { cwd = "ui", collect = "../../etc" }
          |                                  ^^^^^^^^^^^ expected a path in `/app/src`
          = hint: name a directory elsewhere in `directories`, and it is there
    "#]],
    );
    refused(
        "collect = [\"a\", \"/out/a\"], directories = [\"/outer\"]",
        &expect![[r#"
        dir/p:6:28: `a.config.collect.1` leads out of the project, to `/out/a`
          |
        6 | config = { collect = ["a", "/out/a"], directories = ["/outer"] }
          |                            ^^^^^^^^ expected a path in `/app/src`
          = hint: name a directory elsewhere in `directories`, and it is there
    "#]],
    );
    for good in [
        "run = [\"bash\", \"-c\", \"true\"]",
        "run = [\"/usr/bin/npm\"], cwd = \"ui\", collect = \"../static/./x\"",
        "cwd = \"/app/src/ui\", collect = [\"a\", \"/out/a\", \"/data\", \"/app/src\"], directories = [\"/out\", \"../../data\"]",
        "include = [\"**/*.{py,html}\", \"[a-z]\"]",
    ] {
        assert_eq!(of_command(good).err(), None, "{good}");
    }
}

#[test]
fn only_a_slug_can_be_released() {
    misfit(
        "[steps.all]\nplugin = \"files\"\ninputs = { trees = \"source\" }\n[targets.t]\ndriver = \"local\"\nrelease = \"all\"\n",
        &expect![[r#"
            dir/p:8:11: target `t` cannot release what step `all` gives
              |
            8 | release = "all"
              |           ^^^^^ expected a step that gives a slug
              = hint: one with `plugin = "slug"` does, of a project and its environment
        "#]],
    );
    misfit(
        "[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n[targets.t]\ndriver = \"local\"\nrelease = \"lock\"\n",
        &expect![[r#"
            dir/p:8:11: target `t` cannot release what step `lock` gives
              |
            8 | release = "lock"
              |           ^^^^^^ expected a step that gives a slug
              = hint: one with `plugin = "slug"` does, of a project and its environment
        "#]],
    );
}

#[test]
fn an_unknown_plugin_is_met_with_the_nearest_name() {
    let pipeline = good(&format!("{APP}[steps.a]\nplugin = \"pyton-lock\"\n"));
    let error = check::unknown_plugin(&pipeline, &pipeline.steps[0], ["python-lock", "files"]);
    expect![[r#"
        dir/p:4:10: unknown plugin `pyton-lock`
          |
        4 | plugin = "pyton-lock"
          |          ^^^^^^^^^^^^
          = hint: did you mean `python-lock`?
          = hint: a plugin of your own is named by its path: `plugin = "./my-step.wasm"`
    "#]]
    .assert_eq(&error.render(Colour::Never));
}

#[test]
fn the_schema_for_editors_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/pipeline.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).expect("JSON"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &current).expect("the schema can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == current, "pipelines/pipeline.schema.json is not current: run this test with UPDATE_EXPECT=1");
}

#[test]
fn the_schema_knows_what_the_parser_knows() {
    let as_json = |text: &str| serde_json::to_value(text.parse::<toml::Table>().expect("TOML")).expect("JSON");
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(&as_json(EVERYTHING)).map(|error| error.to_string()).collect();
    assert_eq!(errors, [""; 0]);
    for wrong in ["colour = 1", "[app]\nname = \"A\"", "[targets.t]\ndriver = \"local\"", "[runtime]\nkind = \"x\""] {
        assert!(!validator.is_valid(&as_json(wrong)), "{wrong}");
    }
    // Whatever the schema allows in a table, the parser asks for: a number is never right, and never unknown.
    let schema = schema();
    for (table, definition) in [
        ("app", "App"),
        ("source", "Source"),
        ("index", "Index"),
        ("npm", "Npm"),
        ("secrets.a", "Secret"),
        ("steps.a", "Step"),
        ("targets.a", "Target"),
    ] {
        for key in schema["$defs"][definition]["properties"].as_object().expect("properties").keys() {
            let malformed = parse(Path::new("p"), &format!("[{table}]\n{key} = 1\n")).expect_err("a number");
            assert!(malformed.errors.iter().all(|error| !error.message.contains("unknown key")), "{table}.{key}");
        }
    }
}

#[test]
fn any_bytes_are_a_pipeline_or_have_places_that_are_wrong() {
    pipe_fuzz::attack("pipeline", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        match parse(Path::new("dir/p"), &text) {
            Err(malformed) => assert!(!render(&malformed.errors, Colour::Always).is_empty()),
            Ok(pipeline) => {
                let described = plugins();
                if let Err(errors) = check::check(&pipeline, |_| described.first()) {
                    assert!(!render(&errors, Colour::Never).is_empty());
                }
            }
        }
    });
}

#[test]
fn any_bytes_are_a_plugins_description_or_none() {
    let pipeline = good(&format!(
        "{APP}[steps.a]\nplugin = \"x\"\ninputs = {{ trees = \"source\" }}\nconfig = {{ looks = [{{ path = \"a\" }}], to = \"A\" }}\n"
    ));
    pipe_fuzz::attack("description", |bytes| {
        if let Ok(description) = serde_json::from_slice::<PluginDescription>(bytes) {
            drop(check::check(&pipeline, |_| Some(&description)));
        }
    });
}

#[test]
fn variables_that_no_process_can_be_given_are_refused() {
    let text = format!(
        "[app]\nname = \"a\"\n[steps.slug]\nplugin = \"slug\"\n[targets.t]\ndriver = \"local\"\nrelease = \"slug\"\n\
         [targets.t.env]\nA = \"a\\u0000b\"\nB = \"{}\"\n2FA = \"1\"\n",
        "x".repeat(131_070)
    );
    let told: Vec<String> = parse("p".as_ref(), &text)
        .expect_err("refused")
        .errors
        .iter()
        .map(|error| format!("{} {}", &text[error.span.clone()], error.message))
        .collect();
    assert_eq!(
        told,
        [
            "A the value of `A` has a NUL byte in it, which no process can be given",
            "B `B` is 131072 bytes long with its value: no process can be given more than 131071 in one variable",
            "2FA `2FA` cannot be the name of a variable",
        ]
    );
}
