//! `requirements.txt` with digests.

use super::Project;

fn lines(text: &str) -> Vec<String> {
    Project::new(&[("requirements.txt", text)]).lines()
}

#[test]
fn every_form_of_a_locked_requirement_is_read() {
    let text = "\
--index-url https://pypi.org/simple
Django==5.2.1 \\
    --hash=sha256:bb \\
    --hash=sha256:aa
psycopg[binary]==3.2 ; python_version >= \"3.8\" and sys_platform != \"win32\" --hash=sha256:cc
colorama==0.4 ; sys_platform == 'win32' --hash=sha256:dd
one @ https://host/one-1.0-py3-none-any.whl#sha256=ee
two @ https://host/archive/two.zip#subdirectory=lib&sha256=ff
git+https://host/three.git@0123456789012345678901234567890123456789#egg=three&subdirectory=py
-e ./libs/four
-e .
";
    assert_eq!(
        lines(text),
        [
            "django 5.2.1 hashes sha256:aa sha256:bb",
            "four ? directory \"libs/four\"",
            "one ? wheel one-1.0-py3-none-any.whl https://host/one-1.0-py3-none-any.whlee",
            "psycopg 3.2 hashes sha256:cc",
            "three ? git https://host/three.git 0123 in py",
            "two ? sdist two.zip https://host/archive/two.zipff in lib",
        ]
    );
}

#[test]
fn an_index_inside_of_a_file_is_noted() {
    let files = [("requirements.txt", "-i https://pypi.org/simple\n--extra-index-url https://x/simple\n")];
    let notes = Project::new(&files).answer().expect("a lock").notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].starts_with("`--extra-index-url https://x/simple` in `requirements.txt` is not followed"));
}

#[test]
fn the_project_itself_is_installed_only_when_asked() {
    let project = || Project::new(&[("requirements.txt", "-e .\nx==1 --hash=sha256:00\n")]);
    assert_eq!(project().lines(), ["x 1 hashes sha256:00"]);
    assert_eq!(project().ask(|question| question.install_project = true).lines().len(), 2);
}

#[test]
fn weak_digests_are_refused() {
    let project = Project::new(&[("requirements.txt", "x==1 --hash=md5:00\n")]);
    assert_eq!(project.refused(), "requirements.txt:1: `md5:00` is not a digest of a strength that counts\nuse sha256");
}

#[test]
fn two_versions_of_one_package_are_refused() {
    let project = Project::new(&[("requirements.txt", "x==1 --hash=sha256:00\nX==2 --hash=sha256:11\n")]);
    assert!(project.refused().starts_with("`requirements.txt` has `x` twice for this environment: 1 and 2\n"));
}

#[test]
fn kinds_of_files_that_are_not_admitted_are_said() {
    let text = "--no-binary uwsgi\nuwsgi==2.0 --hash=sha256:aa\ndjango==5.2 --hash=sha256:bb\n";
    assert_eq!(
        Project::new(&[("requirements.txt", text)]).lines(),
        ["django 5.2 hashes sha256:bb", "uwsgi 2.0 hashes sha256:aa of Sources"]
    );
}
