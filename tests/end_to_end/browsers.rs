//! What a person sees who has a page open while a release comes.

use pipe_tests::Browser;

use super::example::example;

/// What a page asked for and was not given, as far as it has asked.
const MISSING: &str = "return performance.getEntriesByType('resource')
    .filter(entry => entry.responseStatus != 200).map(entry => entry.name)";
/// How wide the style sheet has the page.
const WIDTH: &str = "return getComputedStyle(document.body).maxWidth";
/// Loads a part of the page that was not needed before, as bundlers' programs do.
const LATE: &str = "return (await import(document.body.dataset.late)).version";

#[test]
fn a_page_that_was_open_before_a_release_still_finds_its_parts_and_the_next_one_has_the_new_ones() {
    let (project, [staging, _]) = example();
    project.edit(
        "polls/polls/templates/polls/base.html",
        "<body>",
        "<body data-late=\"{% static 'polls/late.js' %}\">",
    );
    project.write("polls/polls/static/polls/late.js", "export const version = 'one'\n");
    project.run(["run"]).success();

    let browser = Browser::start();
    let url = format!("http://127.0.0.1:{staging}/");
    browser.open(&url);
    assert_eq!((browser.run(WIDTH), browser.run(MISSING)), ("672px".into(), serde_json::json!([])));

    project.edit("polls/polls/static/polls/style.css", "max-width: 42rem", "max-width: 40rem");
    project.write("polls/polls/static/polls/late.js", "export const version = 'two'\n");
    project.run(["run"]).success();

    assert_eq!(browser.run(LATE), "one");
    assert_eq!((browser.run(WIDTH), browser.run(MISSING)), ("672px".into(), serde_json::json!([])));
    browser.open(&url);
    assert_eq!((browser.run(WIDTH), browser.run(MISSING)), ("640px".into(), serde_json::json!([])));
    assert_eq!(browser.run(LATE), "two");
    project.run(["stop", "--all"]).success();
}
