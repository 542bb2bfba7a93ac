//! Which script of a `package.json` builds what visitors see, by its name and by what it runs.

use serde_json::Value;

/// What people call the script that builds for production, the surest first.
const USUAL: &[&str] = &["build:prod", "build:production", "build-prod", "production", "build"];
/// What else begins the names of scripts that build.
const BUILDS: &[&str] = &["build", "bundle", "compile", "css", "dist", "prod", "production", "sass", "scss", "webpack"];
/// Programs that build.
const BUILDERS: &[&str] = &[
    "esbuild",
    "gulp",
    "lessc",
    "mix",
    "node-sass",
    "parcel",
    "postcss",
    "rollup",
    "sass",
    "@tailwindcss/cli",
    "tailwindcss",
    "vite",
    "vue-cli-service",
    "webpack",
];
/// Words in the names of those that do something else, or the same for developers.
const OTHERWISE: &[&str] = &[
    "check",
    "clean",
    "debug",
    "dev",
    "development",
    "doc",
    "docs",
    "extract",
    "format",
    "install",
    "lint",
    "local",
    "preview",
    "serve",
    "start",
    "storybook",
    "styleguide",
    "test",
    "tests",
    "watch",
];
/// Words in the names of those for production, where others have the same name without.
const PRODUCTION: &[&str] = &["prod", "production"];

/// What is known of the script that builds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Building {
    /// It is this one.
    By(String),
    /// It may be one of these, in order of names.
    Perhaps(Vec<String>),
}

/// The script of a `package.json` by one of the usual names.
pub(super) fn usual(manifest: &Value) -> Option<String> {
    let scripts = manifest.get("scripts")?.as_object()?;
    USUAL.iter().find(|name| scripts.contains_key(**name)).map(|&name| name.to_owned())
}

/// The script that builds. One by a name of its own is only that where nothing else may be, and where it `is_served`: where
/// what it runs names a place that Django serves.
pub(super) fn building(manifest: &Value, is_served: impl Fn(&str) -> bool) -> Building {
    if let Some(script) = usual(manifest) {
        return Building::By(script);
    }
    let scripts = manifest.get("scripts").and_then(Value::as_object).into_iter().flatten();
    let scripts = scripts.filter_map(|(name, command)| Some((name.as_str(), command.as_str()?)));
    let mut found: Vec<(&str, &str)> = scripts.filter(|(name, command)| builds(name, command)).collect();
    found.sort_unstable();
    if found.iter().any(|(name, _)| has_word(name, PRODUCTION)) {
        found.retain(|(name, _)| has_word(name, PRODUCTION));
    }
    let all = found.clone();
    found.retain(|(name, _)| !all.iter().any(|other| is_part(name, *other)));
    match found[..] {
        [(name, command)] if is_served(command) => Building::By(name.to_owned()),
        _ => Building::Perhaps(found.into_iter().map(|(name, _)| name.to_owned()).collect()),
    }
}

/// The program that a command builds with.
pub(super) fn builder(command: &str) -> Option<&str> {
    programs(command).find(|program| BUILDERS.contains(program))
}

/// The words of a command, programs of packages without their place.
fn programs(command: &str) -> impl Iterator<Item = &str> {
    let words = command.split_whitespace().map(|word| word.trim_start_matches("./"));
    words.map(|word| word.trim_start_matches("node_modules/.bin/"))
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split([':', '-', '_', '.'])
}

fn has_word(name: &str, known: &[&str]) -> bool {
    words(name).any(|word| known.contains(&word))
}

/// Whether a script builds something, and not again whenever a file changes.
fn builds(name: &str, command: &str) -> bool {
    let is_named = words(name).next().is_some_and(|word| BUILDS.contains(&word));
    (is_named || builder(command).is_some())
        && !has_word(name, OTHERWISE)
        && !programs(command).any(|word| matches!(word, "--watch" | "-w" | "watch" | "serve"))
}

/// Whether another script does what this one does, and more: it runs this one, or has the name that this one's begins with.
fn is_part(name: &str, (other, command): (&str, &str)) -> bool {
    let runs = |word: &str| word == name || word.strip_prefix("npm:") == Some(name);
    let begins = name.strip_prefix(other).is_some_and(|rest| rest.starts_with([':', '-']));
    name != other && (begins || command.split_whitespace().any(runs))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(scripts: &Value) -> Building {
        building(&json!({ "scripts": scripts }), |command| command.contains("static/"))
    }

    fn by(name: &str) -> Building {
        Building::By(name.to_owned())
    }

    fn perhaps(names: &[&str]) -> Building {
        Building::Perhaps(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn the_usual_names_need_no_evidence() {
        assert_eq!(
            found(&json!({ "build": "x", "build:prod": "x -p", "css": "sass a static/b.css" })),
            by("build:prod")
        );
    }

    #[test]
    fn the_only_one_that_builds_is_it_where_it_writes_for_django() {
        assert_eq!(
            found(&json!({ "build:css:sass": "sass a.scss static/a.css", "lint": "eslint ." })),
            by("build:css:sass")
        );
        assert_eq!(found(&json!({ "styles": "npx @tailwindcss/cli -i a -o app/static/b.css" })), by("styles"));
        assert_eq!(found(&json!({ "css": "sass a.scss b.css" })), perhaps(&["css"]));
        assert_eq!(found(&json!({ "css": "sass a static/b.css", "js": "webpack" })), perhaps(&["css", "js"]));
        assert_eq!(
            found(&json!({ "js": "webpack --watch", "test": "vite build static/", "x": "echo static/" })),
            perhaps(&[])
        );
    }

    #[test]
    fn of_several_the_one_for_production_and_the_one_that_runs_the_others_is_taken() {
        let webpack = json!({ "webpack:build": "webpack -o static/x", "webpack:build:prod": "webpack -p -o static/x" });
        assert_eq!(found(&webpack), by("webpack:build:prod"));
        let parts = json!({ "bundle": "node bundle.js static/", "bundle:css": "node bundle.js --css", "bundle:js": "node bundle.js" });
        assert_eq!(found(&parts), by("bundle"));
        let all = json!({ "dist": "npm run sass && npm run js && cp x static/", "sass": "sass a b", "js": "webpack" });
        assert_eq!(found(&all), by("dist"));
    }
}
