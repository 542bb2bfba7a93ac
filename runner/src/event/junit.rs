//! Reads the reports of test runners: JUnit's XML, in all the shapes that pytest, Django's runners, Jest, Go and others give it.

use super::{TestCase, TestOutcome};

/// The longest message of a test that is kept, in bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// The most tests that are read of one report.
const MOST_TESTS: usize = 50_000;

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not text.
    #[error("the test report is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    /// Not XML.
    #[error("the test report is not XML")]
    Xml(#[from] roxmltree::Error),
    /// Some other XML.
    #[error("the test report has `<{0}>` at its root, and JUnit's has `<testsuites>` or `<testsuite>`")]
    Root(String),
}

/// The tests of a report, in its order.
pub fn read(bytes: &[u8]) -> Result<Vec<TestCase>, ReportError> {
    let text = std::str::from_utf8(bytes)?.trim_start_matches('\u{feff}');
    // Some runners write a declaration of the document's type; entities of it are expanded within the reader's limits only.
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(text, options)?;
    let root = document.root_element();
    if !matches!(root.tag_name().name(), "testsuites" | "testsuite") {
        return Err(ReportError::Root(root.tag_name().name().to_owned()));
    }
    let cases = root.descendants().filter(|node| node.tag_name().name() == "testcase");
    Ok(cases.take(MOST_TESTS).map(case).collect())
}

fn case(node: roxmltree::Node<'_, '_>) -> TestCase {
    let attribute = |name| node.attribute(name).unwrap_or_default().to_owned();
    let child = |name: &str| node.children().find(|child| child.tag_name().name() == name);
    let (outcome, why) =
        [("error", TestOutcome::Error), ("failure", TestOutcome::Failed), ("skipped", TestOutcome::Skipped)]
            .into_iter()
            .find_map(|(name, outcome)| Some((outcome, Some(child(name)?))))
            .unwrap_or((TestOutcome::Passed, None));
    // Some runners say the file of the suite only.
    let file = node.attribute("file").or_else(|| node.parent()?.attribute("file"));
    TestCase {
        group: attribute("classname"),
        name: attribute("name"),
        outcome,
        elapsed_ms: node.attribute("time").and_then(milliseconds).unwrap_or(0),
        message: why.and_then(message),
        file: file.filter(|file| !file.is_empty()).map(str::to_owned),
        line: node.attribute("line").and_then(|line| line.parse().ok()),
    }
}

/// What a test says of its failure: the text, which mostly begins with the attribute's.
fn message(why: roxmltree::Node<'_, '_>) -> Option<String> {
    let short = why.attribute("message").unwrap_or_default().trim();
    let long = why.text().unwrap_or_default().trim();
    let mut message = match (short, long) {
        ("", "") => return None,
        (short, "") => short.to_owned(),
        (short, long) if long.starts_with(short) => long.to_owned(),
        (short, long) => format!("{short}\n{long}"),
    };
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    Some(message)
}

/// A time in seconds, such as `0.012` or `1,234.5`.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.replace(',', "").parse().ok()?;
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(time.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn the_report_of_pytest_is_read() {
        let tests = read(
            br#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0"
            failures="1" skipped="1" tests="3" time="0.031"><testcase classname="polls.tests.Poll" name="test_new"
            file="polls/tests.py" line="7" time="0.0124" /><testcase classname="polls.tests.Poll" name="test_old" time="0.001">
            <failure message="AssertionError: 1 != 2">AssertionError: 1 != 2
at line 3</failure></testcase><testcase classname="polls" name="test_js" time="0"><skipped message="no node">why</skipped>
            </testcase></testsuite></testsuites>"#,
        )
        .expect("a report");
        let outcomes: Vec<_> = tests.iter().map(|test| test.outcome).collect();
        assert_eq!(outcomes, [TestOutcome::Passed, TestOutcome::Failed, TestOutcome::Skipped]);
        assert_eq!(
            (tests[0].elapsed_ms, tests[0].file.as_deref(), tests[0].line),
            (12, Some("polls/tests.py"), Some(7))
        );
        assert_eq!(tests[1].message.as_deref(), Some("AssertionError: 1 != 2\nat line 3"));
        assert_eq!(tests[2].message.as_deref(), Some("no node\nwhy"));
    }

    #[test]
    fn what_is_no_report_is_said_to_be_none() {
        assert!(matches!(read(b"<html/>"), Err(ReportError::Root(root)) if root == "html"));
        assert!(matches!(read(b"ok 1 - it works"), Err(ReportError::Xml(_))));
        assert!(matches!(read(b"\xff"), Err(ReportError::Text(_))));
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \
                    \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\"><!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\"><!ENTITY e \
                    \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\">]><testsuite>&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;</testsuite>";
        assert!(matches!(read(bomb.as_bytes()), Err(ReportError::Xml(_))), "entities are not expanded without end");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text in "(<|>|/|&|\"|testsuite|testcase| |time=\"|failure|[a-z]|\\PC){0,60}") {
            let _ = read(text.as_bytes());
        }
    }
}
