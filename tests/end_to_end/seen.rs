//! What is told of a run: events that fit their schema, traces, reports, annotations, and which step goes first.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipe_tests::Project;
use serde_json::Value;

/// A step that runs a script.
fn step(name: &str, script: &str, more: &str) -> String {
    format!(
        "[steps.{name}]\nplugin = \"command\"\ninputs = {{ project = \"source\" }}\n\
         config = {{ run = {script:?} }}\ngrants = {{ exec = [\"sh\"] }}\n{more}\n"
    )
}

fn pipeline(steps: &[String]) -> String {
    format!("[app]\nname = \"seen\"\n\n{}", steps.join("\n"))
}

const RUN: [&str; 3] = ["run", "--no-release", "--json"];

/// The names in events of one kind, in their order.
fn names(events: &[Value], kind: &str) -> Vec<String> {
    let of_kind = events.iter().filter(|event| event["event"] == kind);
    of_kind.map(|event| event["step"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_event_fits_the_schema() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runner/events.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).expect("a schema")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema of JSON schema");
    let project = Project::new().file("a.txt", "a");
    let mut kinds = std::collections::BTreeSet::new();
    let mut check = |events: &[Value]| {
        for event in events {
            let wrong: Vec<String> = schema.iter_errors(event).map(|error| error.to_string()).collect();
            assert_eq!(wrong, [""; 0], "{event}");
            kinds.insert(event["event"].as_str().unwrap_or_default().to_owned());
        }
    };
    project.write("release.pipeline", &pipeline(&[step("good", "echo said", ""), step("bad", "exit 3", "")]));
    check(&project.run(["run", "--no-release", "--json", "--keep-going"]).code(1).events());
    check(&project.run(["run", "--no-release", "--json", "--keep-going"]).code(1).events());
    project.write("release.pipeline", "[app]\nname = 3\n");
    check(&project.run(RUN).code(3).events());
    let expected =
        ["error", "program-finished", "run-finished", "run-started", "step-finished", "step-output", "step-started"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_pipeline_that_is_wrong_is_an_event_with_its_place() {
    let project = Project::new().pipeline("[app]\nname = 3\n");
    let events = project.run(RUN).code(3).events();
    let error = events.iter().find(|event| event["event"] == "error").expect("an error");
    assert_eq!(
        (&error["fault"], &error["place"]["line"], &error["place"]["column"]),
        (&"pipeline".into(), &2.into(), &8.into())
    );
}

#[test]
fn a_failed_step_says_whose_fault_it_is_and_where_it_stands() {
    let events = Project::new().pipeline(&pipeline(&[step("bad", "exit 3", "")])).run(RUN).code(1).events();
    let failed = events.iter().find(|event| event["event"] == "step-finished").expect("it ended");
    assert_eq!(failed["failure"]["fault"], "step");
    assert_eq!(failed["failure"]["place"], serde_json::json!({ "file": "release.pipeline", "line": 4, "column": 8 }));
}

#[test]
fn the_step_with_the_longest_way_goes_first() {
    let slow = step("slow", "test -f slow && sleep 0.5; cat edited", "");
    let project = Project::new()
        .file("edited", "1")
        .file("slow", "")
        .pipeline(&pipeline(&[step("quick", "cat edited", ""), slow]));
    let one = ["run", "--no-release", "--json", "--jobs", "1"];
    assert_eq!(names(&project.run(one).success().events(), "step-started"), ["quick", "slow"], "nothing is known yet");
    project.write("edited", "2");
    assert_eq!(names(&project.run(one).success().events(), "step-started"), ["slow", "quick"]);
}

#[test]
fn steps_of_a_pool_wait_for_each_other_and_others_do_not() {
    let steps: Vec<String> = (0..4)
        .map(|number| {
            step(
                &format!("s{number}"),
                &format!("sleep 0.3; : {number}"),
                if number < 3 { "pool = \"db\"" } else { "" },
            )
        })
        .collect();
    let project = Project::new().pipeline(&format!("[pools]\ndb = 1\n{}", pipeline(&steps)));
    project.run(["run", "--no-release", "--jobs", "4"]).success();
    let events = project.run(["runs", "show", "--json"]).success().events();
    let time = |kind: &str, step: &str| {
        let event = events.iter().find(|event| event["event"] == kind && event["step"] == step).expect("it is told");
        event["at"].as_u64().expect("a time")
    };
    let ran = |step: &str| (time("step-started", step), time("step-finished", step));
    let mut pooled = [ran("s0"), ran("s1"), ran("s2")];
    pooled.sort_unstable();
    assert!(pooled.windows(2).all(|two| two[0].1 <= two[1].0), "{pooled:?}");
    assert!(ran("s3").0 < pooled[0].1, "the step without a pool did not wait");
    let afters = events.iter().filter(|event| event["event"] == "step-started" && event["after"].is_string());
    assert_eq!(afters.count(), 2, "two had to wait");
}

#[test]
fn a_step_that_fails_and_then_passes_with_the_same_key_is_flaky() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // What a program sees is in its key, all but the clock. A machine that is too slow to fail in time gets more of it.
    let (project, passes) = (2..16)
        .map(|power| now() + 2_u64.pow(power))
        .map(|passes| {
            (
                Project::new().pipeline(&pipeline(&[step("early", &format!("test $(date +%s) -ge {passes}"), "")])),
                passes,
            )
        })
        .find(|(project, _)| !project.command().args(RUN).output().expect("pipe runs").status.success())
        .expect("a power is high enough");
    while now() < passes {
        thread::sleep(Duration::from_millis(100));
    }
    let said = project.run(RUN).success();
    assert_eq!(names(&said.events(), "step-flaky"), ["early"]);
    let shown = project.run(["runs", "show"]).success().stdout;
    assert!(shown.contains("early        flaky: ") && shown.ends_with("\nflaky early\n"), "{shown}");
}

#[test]
fn nothing_is_released_while_a_step_fails() {
    let tests = step("tests", "exit 1", "");
    let target = "[steps.slug]\nplugin = \"slug\"\ninputs = { project = \"source\", venv = \"built\" }\n\
                  config = { processes = { web = \"true\" } }\n\n\
                  [targets.staging]\ndriver = \"local\"\nrelease = \"slug\"\n";
    let project = Project::new().pipeline(&pipeline(&[tests, step("built", "true", ""), target.to_owned()]));
    let said = project.run(["run", "--json", "--keep-going"]).code(1);
    assert_eq!(
        (said.steps("ran"), said.steps("failed")),
        (vec!["built".to_owned(), "slug".to_owned()], vec!["tests".to_owned()])
    );
    assert!(!said.stdout.contains("release-started"), "{}", said.stdout);
}

#[test]
fn a_run_is_a_junit_report() {
    let steps = [step("good", "true", ""), step("bad", "echo '<broken>' >&2; exit 3", "")];
    let project = Project::new().pipeline(&pipeline(&steps));
    project.run(["run", "--no-release", "--keep-going", "--junit", "report.xml"]).code(1);
    let xml = fs::read_to_string(project.path().join("report.xml")).expect("a report");
    assert!(xml.contains("<testsuite name=\"seen\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{xml}");
    assert!(xml.contains("&lt;broken&gt;"), "{xml}");
    let said = project.run(["run", "--no-release", "--junit", "nowhere/report.xml"]).code(5);
    assert!(said.stderr.contains("cannot write `nowhere/report.xml`"), "{}", said.stderr);
}

#[test]
fn tests_in_a_collected_report_are_told_of_also_where_they_failed() {
    let report = "<testsuite><testcase classname='polls' name='one' time='0.1'/>\
                  <testcase classname='polls' name='two' file='polls/tests.py' line='7'><failure message='1 != 2'/>\
                  </testcase></testsuite>";
    let pipeline = "[app]\nname = \"seen\"\n[steps.tests]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
                    config = { run = \"cp prepared out.xml; exit 1\", collect = \"out.xml\" }\ngrants = { exec = [\"sh\"] }\n";
    let project = Project::new().file("prepared", report).file("polls/tests.py", "").pipeline(pipeline);
    let said = project.run(["run", "--no-release", "--json", "--junit", "../junit.xml"]).code(1);
    let events = said.events();
    let tests = events.iter().find(|event| event["event"] == "step-tests").expect("tests");
    let told: Vec<_> = tests["tests"].as_array().expect("a list").iter().map(|test| &test["outcome"]).collect();
    assert_eq!(told, ["passed", "failed"]);
    let xml = fs::read_to_string(project.path().join("../junit.xml")).expect("a report");
    assert!(xml.contains("<testsuite name=\"tests\" tests=\"2\" failures=\"1\""), "{xml}");
    let mut command = project.command();
    command.args(["run", "--no-release"]).env("GITHUB_ACTIONS", "true").env("GITHUB_WORKSPACE", project.path());
    let text = String::from_utf8(command.output().expect("pipe runs").stdout).expect("text");
    assert!(text.contains("::error file=polls/tests.py,line=7,title=polls.two (tests)::1 != 2\n"), "{text}");
    assert!(text.contains("  tests        2 tests, 1 failed\n               polls.two 1 != 2\n"), "{text}");
}

#[test]
fn ci_services_get_annotations_and_folds() {
    let steps = [step("good", "echo well; echo ::error::no", ""), step("bad", "exit 3", "")];
    let project = Project::new().pipeline(&pipeline(&steps));
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = project.command();
        command.args(["run", "--no-release", "--keep-going", "--jobs", "1"]).args(args);
        let output = command.envs(variables.iter().copied()).output().expect("pipe runs");
        String::from_utf8(output.stdout).expect("text")
    };
    let root = project.path().display().to_string();
    let text = run(&[("GITHUB_ACTIONS", "true"), ("GITHUB_WORKSPACE", &root)], &[]);
    assert!(text.contains("::group::output of good\n  | well\n  | ::error::no\n::endgroup::\n"), "{text}");
    let place = fs::read_to_string(project.path().join("release.pipeline")).expect("a pipeline");
    let line = place.lines().position(|line| line == "[steps.bad]").expect("the step") + 1;
    let annotation = format!("::error file=release.pipeline,line={line},col=8,title=step bad failed::`exit 3` ended");
    assert!(text.contains(&annotation), "{text}");
    project.write("release.pipeline", &pipeline(&[step("other", "echo well", ""), step("bad", "exit 3", "")]));
    let text = run(&[("GITLAB_CI", "true"), ("CI_PROJECT_DIR", &root)], &["--code-quality", "../quality.json"]);
    assert!(text.contains(":pipe_other[collapsed=true]\r\x1b[0Koutput of other\n  | well\n"), "{text}");
    let quality = fs::read_to_string(project.path().join("../quality.json")).expect("a report");
    let quality: Value = serde_json::from_str(&quality).expect("JSON");
    assert_eq!(quality[0]["location"], serde_json::json!({ "path": "release.pipeline", "lines": { "begin": line } }));
    assert_eq!((quality.as_array().map(Vec::len), &quality[0]["severity"]), (Some(1), &"critical".into()));
}

/// The path, the headers and the body of a request.
type Taken = (String, BTreeMap<String, String>, Value);

/// A server that takes one request and answers `{}`.
fn collector() -> (String, thread::JoinHandle<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            line.trim().to_owned()
        };
        let path = line().split(' ').nth(1).expect("a path").to_owned();
        let headers: BTreeMap<String, String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()))
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
            .collect();
        let mut body = vec![0; headers["content-length"].parse().expect("a length")];
        reader.read_exact(&mut body).expect("a body");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            .expect("answered");
        (path, headers, serde_json::from_slice(&body).expect("JSON"))
    });
    (address, served)
}

fn attribute<'v>(span: &'v Value, key: &str) -> &'v Value {
    let attributes = span["attributes"].as_array().expect("a list");
    &attributes.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

#[test]
fn a_run_is_a_trace_below_what_started_it() {
    let (address, served) = collector();
    let project = Project::new().pipeline(&pipeline(&[step("good", "true", ""), step("bad", "exit 3", "")]));
    let mut command = project.command();
    command.args(["run", "--no-release", "--keep-going", "--jobs", "1"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &address).env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b");
    command.env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(command.output().expect("pipe runs").status.code(), Some(1));
    let (path, headers, body) = served.join().expect("served");
    assert_eq!(
        (path.as_str(), headers["content-type"].as_str(), headers["x-team"].as_str()),
        ("/v1/traces", "application/json", "a b")
    );
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    let root = named("RUN seen");
    assert_eq!(root["parentSpanId"], "00f067aa0ba902b7");
    assert!(spans.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"), "{spans:?}");
    assert_eq!(attribute(root, "cicd.pipeline.result")["stringValue"], "failure");
    let (good, bad) = (named("good"), named("bad"));
    assert_eq!((&good["parentSpanId"], &bad["parentSpanId"]), (&root["spanId"], &root["spanId"]));
    assert_eq!(attribute(good, "cicd.pipeline.task.run.result")["stringValue"], "success");
    assert_eq!(
        (attribute(bad, "error.type")["stringValue"].as_str(), &bad["status"]["code"]),
        (Some("step"), &2.into())
    );
    let programs: Vec<&Value> = spans.iter().filter(|span| span["name"] == "sh").collect();
    let parents: Vec<&Value> = programs.iter().map(|span| &span["parentSpanId"]).collect();
    assert_eq!(parents, [&good["spanId"], &bad["spanId"]]);
    assert_eq!(attribute(programs[1], "process.exit.code")["intValue"], "3");
}

#[test]
fn a_collector_that_is_gone_costs_a_warning_and_not_the_run() {
    let project = Project::new().pipeline(&pipeline(&[step("good", "true", "")]));
    let said = project.run(["run", "--no-release", "--otlp", "http://127.0.0.1:9"]).success();
    assert!(said.stderr.contains("warning: the trace was not sent to http://127.0.0.1:9/v1/traces"), "{}", said.stderr);
    project.run(["run", "--otlp", "collector:4318"]).code(2);
}

#[test]
fn a_store_that_was_carried_elsewhere_has_all_that_it_had() {
    let steps = [step("one", "mkdir -p out; cat a.txt > out/b", ""), step("two", "cat a.txt", "")];
    let project = Project::new().file("a.txt", "a").file("b/c.txt", "c").pipeline(&pipeline(&steps));
    project.run(RUN).success();
    // Another job: another checkout with other inodes and times, and a home from an archive of the store alone.
    let elsewhere = Project::new().file("b/c.txt", "c").file("a.txt", "a").pipeline(&pipeline(&steps));
    let archive = project.path().join("../home.tar");
    let tar = |args: &[&std::ffi::OsStr]| std::process::Command::new("tar").args(args).status().expect("tar runs");
    let exclude = ["--exclude=store/pool".as_ref(), "--exclude=store/tmp".as_ref()];
    let home = project.home();
    let pack =
        ["-C".as_ref(), home.as_os_str(), "-cf".as_ref(), archive.as_os_str(), "store".as_ref(), "runs".as_ref()];
    assert!(tar(&[&exclude[..], &pack[..]].concat()).success());
    let other = elsewhere.home();
    fs::create_dir_all(&other).expect("a home");
    assert!(tar(&["-C".as_ref(), other.as_os_str(), "-xmf".as_ref(), archive.as_os_str()]).success());
    let said = elsewhere.run(RUN).success();
    assert_eq!((said.steps("cached"), said.steps("ran")), (vec!["one".to_owned(), "two".to_owned()], Vec::new()));
}
