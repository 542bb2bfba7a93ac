//! What migrations of Django mean for a release, by what their files say: those that take something away from the code that still
//! serves, that destroy data or that keep a table locked are told of before they run, and those that a rollback leaves where they
//! are. Runs nothing, and knows of no database: what is done by SQL or by Python is the author's.

use crate::agent::protocol::Progress;
use crate::diagnostic::quoted;
use crate::digest::Digest;
use crate::slug::{self, Change, SlugError};
use crate::store::Store;
use crate::tree::Entry;

/// Where a slug's tree has the application.
const SOURCE: &str = "app/src";

/// How many migrations are told of by name.
const TOLD: usize = 8;

/// What is to be told of the migrations that a slug adds to what serves.
pub(super) fn of_new(store: &Store, serving: &Digest, slug: &Digest) -> Result<Option<Progress>, SlugError> {
    let mut told = Vec::new();
    for change in slug::diff(store, serving, slug)?.migrations.iter().filter(|change| change.from.is_none()) {
        // Those of packages are their authors' to write with care.
        let Some(Entry::File { digest, .. }) = store.lookup(slug, &format!("{SOURCE}/{}", change.name))? else {
            continue;
        };
        let text = String::from_utf8_lossy(&store.get(&digest)?).into_owned();
        told.extend(judge(&text).into_iter().map(|what| format!("{} {what}", name(change))));
    }
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    Ok((!told.is_empty()).then(|| Progress::Warning {
        message: format!("migrations that this release brings\n    {}", told.join("\n    ")),
        hint: Some(
            "what serves now goes on until the switch, with the new tables: release code that does without, and the migration \
             after it"
                .to_owned(),
        ),
    }))
}

/// The migrations that stay where a target goes back to an earlier slug.
pub(super) fn that_stay(
    store: &Store,
    target: &str,
    serving: &Digest,
    goal: &Digest,
) -> Result<Option<Progress>, SlugError> {
    let changes = slug::diff(store, serving, goal)?.migrations;
    let stay: Vec<String> = changes.iter().filter(|change| change.to.is_none()).map(name).collect();
    Ok((!stay.is_empty()).then(|| Progress::Warning {
        message: format!("what these migrations did stays: {}", quoted(stay.iter().map(String::as_str))),
        hint: Some(format!(
            "the earlier code meets their tables; `pipe exec {target} -- python manage.py migrate` undoes them, where they can be"
        )),
    }))
}

/// As Django calls it: `polls.0003_votes`.
fn name(change: &Change) -> String {
    let path = change.name.trim_end_matches(".py");
    let (app, migration) = path.rsplit_once("/migrations/").unwrap_or(("", path));
    format!("{}.{migration}", app.rsplit('/').next().unwrap_or(app)).trim_start_matches('.').to_owned()
}

/// What is worth a word of a migration's operations, in their order.
fn judge(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('(') {
        let operation = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let is_comment = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('#'));
        rest = after;
        if !is_comment {
            found.extend(of_operation(operation, arguments(after)));
        }
    }
    found
}

fn of_operation(operation: &str, arguments: &str) -> Option<String> {
    let model = || named(arguments, "model_name").unwrap_or("a model").to_lowercase();
    let name = || named(arguments, "name").unwrap_or("something");
    let from = || named(arguments, "old_name").unwrap_or("something");
    Some(match operation {
        "RemoveField" => {
            format!("removes `{}` of `{}`: its data goes, and code that asks for it fails", name(), model())
        }
        "DeleteModel" => format!("deletes `{}`: its data goes, and code that asks for it fails", name()),
        "RenameField" => format!("renames `{}` of `{}`: code that asks for it fails", from(), model()),
        "RenameModel" => format!("renames `{}`: code that asks for it fails", from()),
        "AlterModelTable" => format!("renames the table of `{}`: code that asks for it fails", name()),
        "AlterField" => {
            format!("alters `{}` of `{}`: the table may be locked until all of it is rewritten", name(), model())
        }
        "AddIndex" | "AddConstraint" | "AlterUniqueTogether" | "AlterIndexTogether" => {
            let model = if operation.starts_with("Add") { model() } else { name().to_lowercase() };
            format!("indexes or checks `{model}`: it cannot be written to until that is done")
        }
        "AddField" if is_needed(arguments) => {
            format!("adds `{}` to `{}`: code that does not know it cannot add rows", name(), model())
        }
        _ => return None,
    })
}

/// Whether a field must be given a value by whoever adds a row: the database has none by itself.
fn is_needed(arguments: &str) -> bool {
    !["null=True", "db_default=", "ManyToManyField", "GeneratedField"].iter().any(|word| arguments.contains(word))
}

/// What is between parentheses, of which the first is open already.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The text that an argument of a name is given.
fn named<'a>(arguments: &'a str, name: &str) -> Option<&'a str> {
    let is_its_begin = |before: &str| !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let given = format!("{name}=");
    let (at, _) = arguments.match_indices(&given).find(|(at, _)| is_its_begin(&arguments[..*at]))?;
    let value = &arguments[at + given.len()..];
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    value[1..].split(quote).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_take_away_or_lock_are_told_and_others_are_not() {
        let text = r#"
class Migration(migrations.Migration):
    dependencies = [("polls", "0001_initial")]
    operations = [
        migrations.CreateModel(name="Vote", fields=[("id", models.AutoField(primary_key=True))]),
        migrations.RemoveField(model_name="question", name="text"),
        # migrations.DeleteModel(name="Choice"),
        migrations.DeleteModel(
            name='Choice',
        ),
        migrations.RenameField("question", old_name="a", new_name="b"),
        migrations.AddField(model_name="question", name="votes", field=models.IntegerField(default=0)),
        migrations.AddField(model_name="question", name="seen", field=models.DateField(null=True)),
        migrations.AlterField(model_name="question", name="slug", field=models.CharField(max_length=9)),
        migrations.AddIndex(model_name="question", index=models.Index(fields=["votes"], name="votes_i")),
        AddIndexConcurrently(model_name="question", index=models.Index(fields=["votes"], name="votes_c")),
        migrations.RunPython(forwards, migrations.RunPython.noop),
    ]
"#;
        let told = [
            "removes `text` of `question`: its data goes, and code that asks for it fails",
            "deletes `Choice`: its data goes, and code that asks for it fails",
            "renames `a` of `a model`: code that asks for it fails",
            "adds `votes` to `question`: code that does not know it cannot add rows",
            "alters `slug` of `question`: the table may be locked until all of it is rewritten",
            "indexes or checks `question`: it cannot be written to until that is done",
        ];
        assert_eq!(judge(text), told);
        assert_eq!(
            judge("RemoveField("),
            ["removes `something` of `a model`: its data goes, and code that asks for it fails"]
        );
        for len in 0..text.len() {
            let _ = judge(&text[len..]);
        }
    }

    #[test]
    fn migrations_are_called_as_django_calls_them() {
        let change = |name: &str| Change { name: name.into(), from: None, to: None };
        assert_eq!(name(&change("web/polls/migrations/0003_votes.py")), "polls.0003_votes");
    }
}
