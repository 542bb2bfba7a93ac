//! A pipeline that is wrong is refused before anything runs, with the place, the cause and the remedy.

use pipe_tests::Project;

/// What `pipe` says of a pipeline that it refuses.
#[track_caller]
fn refused(pipeline: &str) -> String {
    let said = Project::new().pipeline(pipeline).run(["run"]).code(3);
    assert_eq!(said.stdout, "", "nothing was run");
    said.stderr
}

#[test]
fn a_syntax_error_is_underlined() {
    let said = refused("[app]\nname = polls\n");
    assert!(said.starts_with("release.pipeline:2:"), "{said}");
    assert!(said.contains("2 | name = polls\n"), "{said}");
}

#[test]
fn an_unknown_key_gets_the_nearest_name() {
    let said = refused("[app]\nname = \"a\"\n\n[steps.lock]\nplugn = \"python-lock\"\n");
    assert!(said.contains("release.pipeline:5:1:"), "{said}");
    assert!(said.contains("did you mean `plugin`?"), "{said}");
}

#[test]
fn an_unknown_plugin_gets_the_nearest_name() {
    let said = refused("[app]\nname = \"a\"\n\n[steps.lock]\nplugin = \"python-lok\"\n");
    assert!(said.contains("unknown plugin `python-lok`"), "{said}");
    assert!(said.contains("did you mean `python-lock`?"), "{said}");
}

#[test]
fn a_cycle_is_shown() {
    let step =
        |name: &str, from: &str| format!("[steps.{name}]\nplugin = \"files\"\ninputs = {{ trees = \"{from}\" }}\n");
    let said = refused(&format!("[app]\nname = \"a\"\n{}{}", step("one", "two"), step("two", "one")));
    assert!(said.contains("`one`") && said.contains("`two`"), "{said}");
    assert!(said.contains("cycle") || said.contains("each other") || said.contains("itself"), "{said}");
}

#[test]
fn a_missing_grant_is_shown_as_the_line_to_add() {
    let said = refused(
        "[app]\nname = \"a\"\n[steps.run]\nplugin = \"command\"\ninputs = { project = \"source\" }\n\
         config = { run = [\"true\"] }\n",
    );
    assert!(said.contains("grants = { exec ="), "{said}");
}

#[test]
fn an_input_of_the_wrong_kind_is_refused() {
    let said = refused(
        "[app]\nname = \"a\"\n[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n\
         [steps.slug]\nplugin = \"slug\"\ninputs = { project = \"lock\", venv = \"source\" }\n",
    );
    assert!(said.contains("blob") && said.contains("tree"), "{said}");
}

#[test]
fn several_errors_are_reported_together() {
    let said = refused("[app]\nnam = \"a\"\n\n[steps.lock]\nplugn = \"python-lock\"\n");
    assert!(said.contains("release.pipeline:2:1:"), "{said}");
    assert!(said.contains("release.pipeline:5:1:"), "{said}");
}

#[test]
fn what_plugins_say_is_reported_beside_what_is_wrong_with_the_shape() {
    let said = refused(
        "[app]\nname = \"a\"\n\n[steps.lock]\nplugin = \"python-lok\"\ninputs = { project = \"source\" }\n\n\
         [steps.some]\nplugin = \"files\"\ninputs = { tree = \"source\" }\n\n\
         [steps.run]\nplugin = \"command\"\ninputs = { project = \"source\" }\ngrnts = { exec = [\"sh\"] }\n\n\
         [targets.staging]\ndrver = \"local\"\nrelease = \"some\"\n",
    );
    let places: Vec<&str> = said.lines().filter(|line| line.starts_with("release.pipeline:")).collect();
    assert_eq!(
        places,
        [
            "release.pipeline:5:10: unknown plugin `python-lok`",
            "release.pipeline:8:8: step `some` has nothing at its input `trees`",
            "release.pipeline:10:12: `files` has no input `tree`",
            "release.pipeline:15:1: unknown key `grnts` in `steps.run`",
            "release.pipeline:18:1: unknown key `drver` in `targets.staging`",
            "release.pipeline:19:11: target `staging` cannot release what step `some` gives",
        ],
        "neither the grant nor the driver is called missing: they are misspelt\n{said}"
    );
}

#[test]
fn a_config_that_the_plugin_does_not_know_is_refused() {
    let said = refused(
        "[app]\nname = \"a\"\n[steps.lock]\nplugin = \"python-lock\"\ninputs = { project = \"source\" }\n\
         config = { extrs = [\"x\"] }\n",
    );
    assert!(said.contains("release.pipeline:6:"), "{said}");
    assert!(said.contains("did you mean `extras`?"), "{said}");
}

#[test]
fn what_could_only_fail_once_it_runs_is_refused_before() {
    for (config, place, cause) in [
        ("run = \"true\"", "6:18", "`run.config.run` runs `sh`, which step `run` is not granted"),
        ("run = []", "6:18", "`run.config.run` is empty"),
        ("run = [\"bash\"], cwd = \"../..\"", "6:34", "`run.config.cwd` leads out of the project, to `/`"),
        (
            "run = [\"bash\"], collect = \"../../etc\"",
            "6:38",
            "`run.config.collect` leads out of the project, to `/etc`",
        ),
        (
            "run = [\"bash\"], collect = [\"/etc\"]",
            "6:39",
            "`run.config.collect.0` leads out of the project, to `/etc`",
        ),
        ("run = [\"bash\"], include = [\"[\"]", "6:39", "`run.config.include.0` is no glob"),
    ] {
        let said = refused(&format!(
            "[app]\nname = \"a\"\n[steps.run]\nplugin = \"command\"\ngrants = {{ exec = [\"bash\"] }}\nconfig = {{ {config} }}\n"
        ));
        assert!(said.starts_with(&format!("release.pipeline:{place}: {cause}\n")), "{config}: {said}");
    }
    for config in ["exclude = [\"[\"]", "rename = [{ from = \"a[\", to = \"b\" }]"] {
        let said = refused(&format!(
            "[app]\nname = \"a\"\n[steps.some]\nplugin = \"files\"\ninputs = {{ trees = \"source\" }}\nconfig = {{ {config} }}\n"
        ));
        assert!(said.contains("is no glob") && said.contains("unclosed character class"), "{config}: {said}");
    }
}

#[test]
fn a_missing_file_leads_to_init() {
    let said = Project::new().run(["run", "release.pipeline"]).code(3);
    assert!(said.stderr.contains("`release.pipeline`"), "{}", said.stderr);
    assert!(said.stderr.contains("pipe init"), "{}", said.stderr);
}

#[test]
fn a_byte_that_is_no_text_has_a_place() {
    let project = Project::new();
    std::fs::write(project.path().join("release.pipeline"), b"[app]\nname = \"a\xff\"\n").expect("written");
    let said = project.run(["run"]).code(3);
    assert!(said.stderr.starts_with("release.pipeline:2:10: this byte is no UTF-8"), "{}", said.stderr);
}

#[test]
fn what_fails_because_of_a_line_of_the_pipeline_names_that_line() {
    let text = "[app]\nname = \"a\"\n[tools]\nnode = \"/nowhere/node\"\n[steps.a]\nplugin = \"files\"\ninputs = { trees = \"source\" }\nconfig = { include = [\"**\"] }\n";
    let project = Project::new().pipeline(text);
    for command in ["run", "plan"] {
        let said = project.run([command]).code(5);
        let expected = "error: release.pipeline:4:8: the tool `node` is not at `/nowhere/node`";
        assert!(said.stderr.starts_with(expected), "{}", said.stderr);
    }
    let env_file = "[steps.s]\nplugin = \"slug\"\ninputs = { project = \"source\", venv = \"a\" }\n\
                    [targets.t]\ndriver = \"local\"\nrelease = \"s\"\nenv-file = \".env.none\"\n";
    let with_target = Project::new().pipeline(&(text.replace("[tools]\nnode = \"/nowhere/node\"\n", "") + env_file));
    let said = with_target.run(["run"]).code(3);
    assert!(said.stderr.starts_with("error: release.pipeline:13:12: cannot read `./.env.none`"), "{}", said.stderr);
    let said = project.run(["run", "--json"]).code(5);
    let error = said.events().into_iter().find(|event| event["event"] == "error").expect("an error");
    assert_eq!(error["place"]["line"], 4);
}
