//! WASI is lent to components that import it, and nothing of this machine comes with it.

use std::path::Path;

use super::{Fault, RunError, Sandbox};
use crate::event::{Event, Events};
use crate::run::Build;

fn project(config: &str) -> Sandbox {
    let lent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-steps/lent.wasm");
    let text = format!("[app]\nname = \"lent\"\n[steps.lent]\nplugin = {lent:?}\nlimits = {{ time = \"1m\" }}\n");
    Sandbox::new(&format!("{text}config = {{ {config} }}\n"))
}

#[test]
fn nothing_of_this_machine_is_lent_and_no_wait_takes_time() {
    let project = project("");
    let (built, _) = project.build();
    let built = built.expect("built");
    let told = built.executed.output(0, "told").expect("given");
    let told = project.open().expect("opened").store.get(told.digest()).expect("kept");
    expect_test::expect![[r"
        date 315532801
        clock 0 3600000000000
        random [131, 6, 135, 219]
        environment []
        directories 0
    "]]
    .assert_eq(&String::from_utf8(told).expect("text"));
}

#[test]
fn what_a_component_says_before_it_crashes_is_heard() {
    let project = project(r#"crash = "ordinary\nwords""#);
    let (events, received) = Events::channel();
    let opened = project.open().expect("opened");
    let cancel = std::sync::Arc::default();
    let error = opened.build(Build::default(), &events, &cancel).map(drop).expect_err("it crashes");
    drop(events);
    assert_eq!(error.fault(), Fault::Plugin);
    assert!(matches!(error, RunError::Step { .. }), "{error}");
    let said = received.into_iter().filter_map(|stamped| match stamped.event {
        Event::StepOutput { text, .. } => Some(text),
        _ => None,
    });
    assert_eq!(said.collect::<Vec<_>>(), ["ordinary\n", "words"]);
}
