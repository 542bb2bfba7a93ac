//! Settings as classes, as django-configurations has them: which class is for production, and which variables its values come
//! from. Knows nothing of files.

use super::settings::{is_for_development, is_for_production, strings};
use super::variables::Otherwise;

/// The variable that names the class.
pub(super) const VARIABLE: &str = "DJANGO_CONFIGURATION";

/// The class for production that settings have, and that a script's own choice, if any, is not.
pub(super) fn for_production(texts: &[String], script: Option<&str>) -> Option<String> {
    if script.is_some_and(|named| !is_for_development(&named.to_lowercase())) {
        return None;
    }
    let texts = texts.iter().filter(|text| text.lines().any(|line| line.starts_with("from configurations import")));
    let mut names = texts.flat_map(|text| classes(text)).map(|class| class.name);
    names.find(|name| is_for_production(&name.to_lowercase())).map(str::to_owned)
}

/// The class that a script sets.
pub(super) fn set_by(script: &str) -> Option<&str> {
    let after = script.split(VARIABLE).nth(1)?;
    strings(after.get(1..)?).first().copied()
}

/// A text without the classes that a class of it is not made of; as it is, where it has no such class.
pub(super) fn made_of(text: &str, class: &str) -> String {
    let classes: Vec<Class<'_>> = classes(text).collect();
    let find = |name: &str| classes.iter().find(|class| class.name == name);
    let mut used: Vec<&Class<'_>> = find(class).into_iter().collect();
    if used.is_empty() {
        return text.to_owned();
    }
    let mut at = 0;
    while let Some(class) = used.get(at) {
        let bases = class.bases().filter_map(find).filter(|base| !used.contains(base)).collect::<Vec<_>>();
        used.extend(bases);
        at += 1;
    }
    let before = text.split("\nclass ").next().unwrap_or_default();
    let kept = classes.iter().filter(|class| used.contains(class)).map(|class| class.text);
    std::iter::once(before).chain(kept).collect::<Vec<_>>().join("\nclass ")
}

/// A class, from its name on.
#[derive(Debug, PartialEq, Eq)]
struct Class<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> Class<'a> {
    fn bases(&self) -> impl Iterator<Item = &'a str> {
        let list = self.text[self.name.len()..].strip_prefix('(').and_then(|rest| rest.split_once(')'));
        list.map_or("", |(list, _)| list).split(',').map(str::trim)
    }
}

fn classes(text: &str) -> impl Iterator<Item = Class<'_>> {
    text.split("\nclass ").skip(1).map(|text| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        Class { name: &text[..end], text }
    })
}

/// Whether a call makes a value that comes from a variable.
pub(super) fn is_value(call: &str) -> bool {
    call.strip_prefix("values.").is_some_and(|kind| kind.ends_with("Value"))
}

/// The variable that a value comes from, and what it is without it. `line` is all before the call.
pub(super) fn read(line: &str, call: &str, arguments: &str) -> Option<(String, Otherwise)> {
    let named = |name: &str| arguments.split(name).nth(1).map(str::trim_start);
    let name = match named("environ_name=") {
        Some(name) => strings(name).first().copied()?,
        None => line.trim().strip_suffix(call)?.trim_end().strip_suffix('=')?.trim(),
    };
    let prefix = match named("environ_prefix=") {
        Some(none) if none.starts_with("None") => "",
        Some(prefix) => strings(prefix).first().copied()?,
        None => "DJANGO",
    };
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}_{name}") };
    let default = arguments.split(',').map(str::trim).find(|part| part.starts_with("default=") || !part.contains('='));
    let default = default.map(|part| part.trim_start_matches("default=")).filter(|part| !part.is_empty());
    let is_required = call.ends_with("SecretValue") || arguments.contains("environ_required=True");
    let otherwise = if is_required { Otherwise::Fails } else { default.map_or(Otherwise::Nothing, Otherwise::of) };
    Some((name, otherwise))
}

#[cfg(test)]
mod tests {
    use super::super::variables::{Scheme, needed};
    use super::*;

    const TEXT: &str = "from configurations import Configuration, values\n\n\
        class Base(Mixin, Configuration):\n    SECRET_KEY = values.Value(None)\n    DEBUG = False\n\n\
        class Build(Base):\n    SECRET_KEY = values.Value('dummy')\n    X = values.SecretValue()\n\n\
        class Development(Base):\n    DEBUG = True\n    Y = values.SecretValue()\n\n\
        class Production(Base):\n    ALLOWED_HOSTS = values.ListValue(None)\n    HOST = values.Value(\n        environ_name=\"A_HOST\", environ_prefix=None, environ_required=True\n    )\n    \
        PORT = values.Value(5432, environ_name='PORT')\n    KEY = values.SecretValue(environ_prefix='POLLS')\n";

    #[test]
    fn the_class_for_production_takes_the_place_of_one_for_development() {
        let texts = [TEXT.to_owned()];
        let named = set_by("os.environ.setdefault('DJANGO_CONFIGURATION', 'Development')\n");
        assert_eq!(named, Some("Development"));
        assert_eq!(for_production(&texts, named).as_deref(), Some("Production"));
        assert_eq!(for_production(&texts, None).as_deref(), Some("Production"));
        assert_eq!(for_production(&texts, Some("Staging")), None);
        assert_eq!(for_production(&["class Production(Base):\n".to_owned()], None), None);
    }

    #[test]
    fn what_the_class_reads_is_needed_and_what_others_read_is_not() {
        let names =
            |text: &str| needed(text, &Scheme::new()).into_iter().map(|it| it.name).collect::<Vec<_>>().join(" ");
        let own = made_of(TEXT, "Production");
        assert!(!own.contains("class Build") && own.contains("class Base(Mixin"), "{own}");
        assert_eq!(names(&own), "DJANGO_SECRET_KEY DJANGO_ALLOWED_HOSTS A_HOST POLLS_KEY");
        assert_eq!(made_of(TEXT, "Staging"), TEXT);
    }
}
