//! Whatever stands in a lock is an answer or a problem, and never the end of the step.

use super::Project;
use crate::wheel::WheelName;

const PROJECT: &str = r#"
[project]
name = "app"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["six ; sys_platform == 'linux'"]

[tool.poetry.dependencies]
python = "^3.11"
six = "*"
"#;

/// Asks for a lock of these bytes, alone and beside a project.
fn attack(corpus: &str, file: &str) {
    pipe_fuzz::attack(corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for files in [&[(file, &*text)][..], &[(file, &*text), ("pyproject.toml", PROJECT)]] {
            drop(Project::new(files).answer());
            drop(Project::new(files).ask(|question| question.path = Some(file.to_owned())).answer());
        }
    });
}

#[test]
fn any_text_is_a_lock_of_uv_or_refused() {
    attack("uv-lock", "uv.lock");
}

#[test]
fn any_text_is_a_lock_of_poetry_or_refused() {
    attack("poetry-lock", "poetry.lock");
}

#[test]
fn any_text_is_a_pylock_or_refused() {
    attack("pylock", "pylock.toml");
}

#[test]
fn any_text_is_a_lock_of_pipenv_or_refused() {
    attack("pipfile-lock", "Pipfile.lock");
}

#[test]
fn any_text_is_requirements_or_refused() {
    attack("requirements", "requirements.txt");
}

#[test]
fn any_text_is_the_name_of_a_wheel_or_refused() {
    pipe_fuzz::attack("wheel-name", |bytes| {
        for name in String::from_utf8_lossy(bytes).lines() {
            if let Ok(wheel) = WheelName::parse(name) {
                drop(wheel.tags().collect::<Vec<_>>());
            }
        }
    });
}
