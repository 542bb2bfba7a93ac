//! The application in `pipelines/`, from its source to a page that is served.

use std::fs;
use std::net::TcpStream;

use pipe_tests::{Project, Said};
use serde_json::Value;

use super::small::{free_port, get};

/// The example, with an address of its own for each of its two targets.
pub(super) fn example() -> (Project, [u16; 2]) {
    let project = Project::example();
    let ports = [free_port(), free_port()];
    for (shipped, port) in ["127.0.0.1:8000", "127.0.0.1:8001"].iter().zip(ports) {
        project.edit("release.pipeline", shipped, &format!("127.0.0.1:{port}"));
    }
    (project, ports)
}

#[track_caller]
fn serves(port: u16, path: &str) -> String {
    let answer = get(port, path);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    answer
}

#[test]
fn a_run_ends_with_a_page_that_is_served_and_goes_on_being_served() {
    let (project, [staging, production]) = example();
    let end = project.run(["run", "--json"]).success().end();
    assert_eq!(end["url"], format!("http://127.0.0.1:{staging}/"));

    let page = serves(staging, "/");
    let style = page.split('"').find(|part| part.contains(".css")).expect("the page has a style sheet");
    serves(staging, style);
    serves(staging, "/admin/login/");
    let again = project.run(["run", "--json"]).success();
    assert!(again.steps("ran").is_empty());
    let unchanged = again.events().into_iter().find(|event| event["event"] == "release-unchanged");
    let unchanged = unchanged.expect("no release is made of what serves");
    assert_eq!((&unchanged["release"], &unchanged["url"]), (&1.into(), &end["url"]));

    // Promotion releases the very slug, without a build.
    project.run(["promote", "staging", "production"]).success();
    serves(production, "/");
    let short = &end["slug"].as_str().expect("a slug")["blake3:".len()..][..12];
    let story = project.run(["releases", "production"]).success().stdout;
    assert!(story.contains(short), "{story}");

    // Going back makes a new release.
    project.edit("polls/polls/views.py", "def index", "GREETING = 1\n\n\ndef index");
    let edited = project.run(["run", "--json"]).success();
    assert_ne!(edited.end()["slug"], end["slug"]);
    let ran = edited.steps("ran");
    assert!(ran.iter().all(|step| ["static", "slug"].contains(&step.as_str())), "a view was edited: {ran:?}");
    project.run(["rollback", "staging"]).success();
    let story = project.run(["releases", "staging"]).success().stdout;
    let current = story.lines().find(|line| line.contains("serves")).expect("a release that serves");
    assert!(current.trim_start().starts_with("3 ") && current.contains(short), "{story}");
    let story = project.run(["releases", "staging", "--json"]).success().stdout;
    let story: Value = serde_json::from_str(&story).expect("JSON");
    assert_eq!(
        (&story[0]["number"], &story[0]["outcome"], &story[0]["slug"]),
        (&3.into(), &"serves".into(), &end["slug"])
    );
    serves(staging, "/");

    project.run(["config", "staging", "set", "COLOUR=green"]).success();
    assert_eq!(
        project.run(["config", "staging", "--json"]).success().stdout,
        "[\n  \"COLOUR\",\n  \"SECRET_KEY\"\n]\n"
    );
    let migrated = project.run(["logs", "staging", "--process", "release", "--json"]).success().events();
    assert!(migrated.iter().any(|line| line["text"] == "Running migrations:" && line["release"] == 4), "{migrated:?}");

    // A release that does not come up changes nothing.
    project.edit("polls/mysite/wsgi.py", "import os", "import os\n\nraise SystemExit(\"not today\")");
    let said = project.run(["run"]).code(7);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert!(all.contains("not today"), "its own words: {all}");
    serves(staging, "/");

    project.run(["stop", "--all"]).success();
    assert!(TcpStream::connect(("127.0.0.1", staging)).is_err(), "it was stopped");
}

#[test]
fn a_page_that_makes_its_style_sheet_when_it_is_asked_for_is_served_with_it() {
    let (project, [staging, _]) = example();
    let making = "    from django.conf import settings
    from django.http import HttpResponse

    made = settings.STATIC_ROOT / \"CACHE\" / \"made.0123456789ab.css\"
    made.parent.mkdir(exist_ok=True)
    made.write_text(\"body { color: green }\")
    return HttpResponse('<link rel=\"stylesheet\" href=\"/static/CACHE/made.0123456789ab.css\">')
";
    let view = "    return render(request, \"polls/index.html\", {\"questions\": Question.objects.published()})\n";
    project.edit("polls/polls/views.py", view, making);
    let slug = project.run(["run", "--json"]).success().end()["slug"].clone();
    let page = serves(staging, "/");
    let style = page.split('"').find(|part| part.contains(".css")).expect("the page has a style sheet");
    assert!(serves(staging, style).ends_with("\r\n\r\nbody { color: green }"));
    assert_eq!(project.run(["run", "--json"]).success().end()["slug"], slug);
    serves(staging, style);
}

#[test]
fn static_files_that_templates_ask_for_and_nobody_has_are_told() {
    let (project, _) = example();
    let told = |said: Said| {
        let all = said.stdout + &said.stderr;
        let lost = "templates ask for static files that were not collected: `lost.css` in `polls/base.html`";
        assert!(all.contains(lost), "{all}");
    };
    let base = "polls/polls/templates/polls/base.html";
    project.edit(base, "{% load static %}", "{% load static %}{% static 'lost.css' %}");
    // The storage would raise an error when the page is rendered.
    told(project.run(["run", "--no-release"]).code(1));
    let (strict, plain) = ("whitenoise.storage.CompressedManifest", "django.contrib.staticfiles.storage.");
    project.edit("polls/mysite/settings.py", strict, plain);
    told(project.run(["run", "--no-release"]).success());
}

#[test]
fn what_django_thinks_of_a_release_is_told_before_it_gets_requests() {
    let (project, [staging, _]) = example();
    let told = |project: &Project| {
        let said = project.run(["run"]).success();
        said.stdout + &said.stderr
    };
    project.edit("release.pipeline", "generate = [\"SECRET_KEY\"]  ", "env = { SECRET_KEY = \"short\" }  ");
    let first = told(&project);
    assert!(first.contains("`manage.py check --deploy` says") && first.contains("(security.W009)"), "{first}");
    assert!(!first.contains("(security.W004)"), "the target has no TLS: {first}");
    assert!(!first.contains("that no migration has"), "{first}");
    // What the target has run is not asked about again.
    project.run(["config", "staging", "set", "A=1"]).success();
    let again = project.run(["config", "staging", "set", "A=2"]).success();
    assert!(!(again.stdout + &again.stderr).contains("check --deploy"));

    project.edit(
        "polls/polls/models.py",
        "    votes =",
        "    note = models.CharField(max_length=9, default=\"\")\n    votes =",
    );
    // Its page asks for a column that no migration makes.
    project.edit("release.pipeline", "data = [\"data\"]     ", "health = \"/admin/login/\"\ndata = [\"data\"]     ");
    let changed = told(&project);
    assert!(changed.contains("models have changes that no migration has: `polls`"), "{changed}");
    serves(staging, "/admin/login/");
    project.edit("polls/polls/views.py", "def index", "GREETING = 1\n\n\ndef index");
    project.edit("release.pipeline", "health = ", "preflight = false\nhealth = ");
    let silent = told(&project);
    assert!(!silent.contains("check --deploy") && !silent.contains("that no migration has"), "{silent}");
    project.run(["stop", "--all"]).success();
}

#[test]
fn what_an_application_raises_and_does_not_write_is_shown() {
    let (project, _) = example();
    project.edit(
        "polls/polls/views.py",
        "    return render(request, \"polls/index.html\"",
        "    raise LookupError(request.headers[\"Host\"] + \"'s\")\n    return render(request, \"polls/index.html\"",
    );
    project.edit("release.pipeline", "data = [\"data\"]     ", "health = \"/?it's=1\"\ndata = [\"data\"]     ");
    let said = project.run(["run"]).code(7);
    let told = said.stdout + &said.stderr;
    assert!(told.contains("`GET /?it's=1` is answered with 500"), "{told}");
    assert!(told.contains("polls/views.py") && told.contains("LookupError: 127.0.0.1"), "{told}");
    assert!(told.contains("asked for the page once more"), "{told}");
    project.run(["stop", "--all"]).success();
}

#[test]
fn two_builds_in_two_directories_give_the_same_bytes() {
    let (project, _) = example();
    let said = project.run(["verify"]).success();
    assert!(said.stdout.contains("two builds gave the same bytes"), "{}", said.stdout);
}

#[test]
fn an_exported_slug_is_the_same_file_every_time_and_has_an_attestation() {
    let (project, _) = example();
    let id =
        project.run(["run", "--no-release", "--json"]).success().end()["slug"].as_str().expect("a slug").to_owned();
    let files = ["one.tar.zst", "two.tar.zst"].map(|file| {
        let said = project.run(["slug", "export", &id, "-o", file]).success().stdout;
        assert!(said.starts_with("wrote ") && said.contains(&format!("{file}.intoto.json")), "{said}");
        fs::read(project.path().join(file)).expect("the file was written")
    });
    assert!(!files[0].is_empty() && files[0] == files[1]);
    let attestation = fs::read(project.path().join("one.tar.zst.intoto.json")).expect("an attestation");
    let attestation: Value = serde_json::from_slice(&attestation).expect("JSON");
    assert_eq!(attestation["_type"], "https://in-toto.io/Statement/v1");
}

#[test]
fn a_project_without_a_pipeline_gets_one() {
    let (project, _) = example();
    let in_project = |args: &[&str]| project.run_in("polls", args).success();
    in_project(&["run", "--no-release"]);
    in_project(&["init"]);
    let said = in_project(&["run", "--no-release", "--json"]);
    assert!(said.steps("cached").iter().any(|step| step == "venv"), "what `init` writes is what was used without it");
}
