//! What migrations of Django mean for a release, by what their files say: those that take something away from the code that still
//! serves, that destroy data or that keep a table locked are told of before they run, and those that a rollback leaves where they
//! are. Runs nothing, and knows of no database: of SQL it knows the words that destroy, and of Python nothing.

use crate::agent::protocol::Progress;
use crate::diagnostic::quoted;
use crate::digest::Digest;
use crate::slug::Change;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// Where a slug's tree has the application.
const SOURCE: &str = "app/src";

/// What SQL can drop without taking data away.
const WITHOUT_DATA: [&str; 12] = [
    "CONSTRAINT",
    "DEFAULT",
    "FUNCTION",
    "IDENTITY",
    "INDEX",
    "MATERIALIZED",
    "NOT",
    "POLICY",
    "PROCEDURE",
    "RULE",
    "TRIGGER",
    "VIEW",
];

/// How many migrations are told of by name.
const TOLD: usize = 8;

/// What is to be told of the migrations that a slug adds to what serves, by how those of the two differ. Of those that were applied
/// already it was told then.
pub(super) fn of_new(
    store: &Store,
    slug: &Digest,
    changes: &[Change],
    applied: &[String],
) -> Result<Vec<Progress>, StoreError> {
    let (mut told, mut opaque) = (Vec::new(), Vec::new());
    for (change, text) in new(store, slug, changes)? {
        if applied.contains(&name(change)) {
            continue;
        }
        told.extend(judge(&text).into_iter().map(|what| format!("{} {what}", name(change))));
        opaque.extend(is_opaque(&text).then(|| format!("`{}`", name(change))));
    }
    let mut all = Vec::new();
    if !told.is_empty() {
        all.push(Progress::Warning {
            message: format!("migrations that this release brings\n    {}", shortened(told).join("\n    ")),
            hint: Some(
                "what serves now goes on until the switch, with the new tables: release code that does without, and the \
                 migration after it"
                    .to_owned(),
            ),
        });
    }
    if !opaque.is_empty() {
        let names = shortened(opaque).join(", ");
        all.push(Progress::Note(format!("what these migrations do by Python or SQL is not judged: {names}")));
    }
    Ok(all)
}

/// The migration that a line of `migrate` says it has applied.
pub(super) fn applied(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Applying ")?.strip_suffix("... OK")
}

/// What to do where a table is missing, if a migration that a slug adds takes it away: by its model's name, or by SQL.
pub(super) fn that_dropped(
    store: &Store,
    slug: &Digest,
    changes: &[Change],
    table: &str,
) -> Result<Option<String>, StoreError> {
    let new = new(store, slug, changes)?;
    let found = new.iter().map(|(change, text)| (name(change), text)).find(|(name, text)| {
        let app = name.split('.').next().unwrap_or_default();
        takes_away(app, text).iter().any(|taken| taken == table)
    });
    Ok(found.map(|(name, _)| {
        format!(
            "the migration `{name}`, which this release brings, takes the table `{table}` away, and something still asks for it: take \
             that out of the code, or the migration out of the release"
        )
    }))
}

/// The tables that a migration of an application deletes, or gives to another name.
fn takes_away(app: &str, text: &str) -> Vec<String> {
    let of_operation = |(operation, rest)| {
        let call = Call::of(rest);
        let model = match operation {
            "DeleteModel" | "AlterModelTable" => call.text("name", 0),
            "RenameModel" => call.text("old_name", 0),
            "RunSQL" => return call.given("sql", 0).and_then(destroyed).unwrap_or_default(),
            _ => None,
        };
        model.map(|model| format!("{app}_{}", model.to_lowercase())).into_iter().collect()
    };
    operations(text).flat_map(of_operation).collect()
}

/// The migrations that a slug adds, each with its text. Those of packages are their authors' to write with care.
fn new<'a>(store: &Store, slug: &Digest, changes: &'a [Change]) -> Result<Vec<(&'a Change, String)>, StoreError> {
    let mut new = Vec::new();
    for change in changes.iter().filter(|change| change.from.is_none()) {
        if let Some(Entry::File { digest, .. }) = store.lookup(slug, &format!("{SOURCE}/{}", change.name))? {
            new.push((change, String::from_utf8_lossy(&store.get(&digest)?).into_owned()));
        }
    }
    Ok(new)
}

/// The first of them, and how many more there are.
fn shortened(mut told: Vec<String>) -> Vec<String> {
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    told
}

/// The migrations that stay where a slug lacks some of what serves, as an earlier one does.
pub(super) fn that_stay(target: &str, changes: &[Change]) -> Option<Progress> {
    let stay: Vec<String> = changes.iter().filter(|change| change.to.is_none()).map(name).collect();
    (!stay.is_empty()).then(|| Progress::Warning {
        message: format!("what these migrations did stays: {}", quoted(stay.iter().map(String::as_str))),
        hint: Some(format!(
            "the earlier code meets their tables, and does not know the migrations any more: to undo them, release the later code again, \
             run `pipe exec {target} -- python manage.py migrate APP NAME` with the last one that is to stay, and roll back then"
        )),
    })
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
    for what in operations(text).filter_map(|(operation, rest)| of_operation(operation, rest)) {
        if !found.contains(&what) {
            found.push(what);
        }
    }
    found
}

/// Whether a migration does what nobody can tell from its operations.
fn is_opaque(text: &str) -> bool {
    operations(text).any(|(operation, rest)| {
        let call = || Call::of(rest);
        match operation {
            "RunPython" => !call().is_noop("code"),
            "RunSQL" => !call().is_noop("sql") && call().given("sql", 0).and_then(destroyed).is_none(),
            _ => false,
        }
    })
}

/// Whatever is called in a text, in its order, each with what follows its open parenthesis.
fn operations(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.match_indices('(').filter_map(|(at, _)| {
        let before = &text[..at];
        let is_comment = before.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('#'));
        let operation = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        (!is_comment).then(|| (operation, &text[at + 1..]))
    })
}

/// What an operation means; the places of its arguments are those of Django's signatures.
fn of_operation(operation: &str, rest: &str) -> Option<String> {
    let call = || Call::of(rest);
    let text = |name: &str, place: usize, or: &str| call().text(name, place).unwrap_or(or).to_owned();
    let model = || text("model_name", 0, "a model").to_lowercase();
    let field = || text("name", 1, "something");
    Some(match operation {
        "RemoveField" => {
            format!("removes `{}` of `{}`: its data goes, and code that asks for it fails", field(), model())
        }
        "DeleteModel" => {
            format!("deletes `{}`: its data goes, and code that asks for it fails", text("name", 0, "something"))
        }
        "RunSQL" => {
            let tables = destroyed(call().given("sql", 0)?)?;
            let of = if tables.is_empty() {
                String::new()
            } else {
                format!(" of {}", quoted(tables.iter().map(String::as_str)))
            };
            format!("runs SQL that drops or deletes{of}: what that takes away is gone")
        }
        "RenameField" => {
            format!("renames `{}` of `{}`: code that asks for it fails", text("old_name", 1, "something"), model())
        }
        "RenameModel" => format!("renames `{}`: code that asks for it fails", text("old_name", 0, "something")),
        "AlterModelTable" => {
            format!("renames the table of `{}`: code that asks for it fails", text("name", 0, "something"))
        }
        "AlterField" => {
            format!("alters `{}` of `{}`: the table may be locked until all of it is rewritten", field(), model())
        }
        "AddIndex" | "AddConstraint" => {
            format!("indexes or checks `{}`: it cannot be written to until that is done", model())
        }
        "AlterUniqueTogether" | "AlterIndexTogether" => format!(
            "indexes or checks `{}`: it cannot be written to until that is done",
            text("name", 0, "something").to_lowercase()
        ),
        "AddField" if call().given("field", 2).is_none_or(is_needed) => {
            format!("adds `{}` to `{}`: code that does not know it cannot add rows", field(), model())
        }
        _ => return None,
    })
}

/// Whether a field must be given a value by whoever adds a row: the database has none by itself.
fn is_needed(field: &str) -> bool {
    !["null=True", "db_default=", "ManyToManyField", "GeneratedField"].iter().any(|word| field.contains(word))
}

/// The tables from which the SQL of an expression takes rows, columns or themselves away, as far as it says so plainly; none where it
/// takes nothing. What only happens to be dropped in the way of a change, such as an index, has no data of its own; and `ON DELETE`
/// deletes nothing now.
fn destroyed(expression: &str) -> Option<Vec<String>> {
    let sql = literals(expression).replace(',', " , ");
    // Quotes, schemas and what Python puts in belong to names.
    let belongs = |c: char| c.is_alphanumeric() || "_.\"`%{},".contains(c);
    let words: Vec<&str> = sql.split(|c: char| !belongs(c)).filter(|word| !word.is_empty()).collect();
    let upper: Vec<String> = words.iter().map(|word| word.trim_matches(['"', '`']).to_uppercase()).collect();
    let is = |at: usize, wanted: &[&str]| upper.get(at).is_some_and(|word| wanted.contains(&word.as_str()));
    let (mut altered, mut destroyed) = (Vec::new(), None);
    for (at, word) in upper.iter().enumerate() {
        let taken = match word.as_str() {
            "ALTER" if is(at + 1, &["TABLE"]) => {
                altered = tables(&words[at + 1..]);
                continue;
            }
            "DROP" if is(at + 1, &["TABLE"]) => tables(&words[at + 1..]),
            "DROP" if !is(at + 1, &WITHOUT_DATA) => altered.clone(),
            "TRUNCATE" => tables(&words[at + 1..]),
            "DELETE" if at == 0 || !is(at - 1, &["ON", "OR", "AFTER", "BEFORE"]) => tables(&words[at + 1..]),
            _ => continue,
        };
        let all = destroyed.get_or_insert_with(Vec::new);
        all.extend(taken);
    }
    if let Some(tables) = &mut destroyed {
        tables.sort();
        tables.dedup();
    }
    destroyed
}

/// The tables that a statement names behind its verb, where they are plain names.
fn tables(words: &[&str]) -> Vec<String> {
    let is_filler = |word: &&str| ["TABLE", "FROM", "IF", "EXISTS", "ONLY"].contains(&word.to_uppercase().as_str());
    let mut rest = words.iter().skip_while(|word| is_filler(word));
    let mut tables = Vec::new();
    while let Some(word) = rest.next() {
        let name = word.replace(['"', '`'], "");
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.') {
            break;
        }
        tables.push(name);
        if rest.next() != Some(&",") {
            break;
        }
    }
    tables
}

/// What a call is given.
struct Call<'a> {
    /// The values that are given by their place, and those by their name.
    placed: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Call<'a> {
    /// A call, of which the parenthesis is open already.
    fn of(text: &'a str) -> Self {
        let mut call = Self { placed: Vec::new(), named: Vec::new() };
        let (mut depth, mut begin, mut at) = (0_u32, 0, 0);
        while let Some(c) = text[at..].chars().next() {
            if let Some(length) = literal(&text[at..]).map(|(length, _)| length).or_else(|| comment(&text[at..])) {
                at += length;
                continue;
            }
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth == 0 => break,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    call.take(&text[begin..at]);
                    begin = at + 1;
                }
                _ => {}
            }
            at += c.len_utf8();
        }
        call.take(&text[begin..at]);
        call
    }

    fn take(&mut self, argument: &'a str) {
        let mut argument = argument.trim();
        while let Some(length) = comment(argument) {
            argument = argument[length..].trim_start();
        }
        let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match argument.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            _ if argument.is_empty() => {}
            Some((name, value)) if is_name(name) => self.named.push((name, value)),
            _ => self.placed.push(argument),
        }
    }

    /// The expression that an argument of this name or place is given.
    fn given(&self, name: &str, place: usize) -> Option<&'a str> {
        let named = self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        named.or_else(|| self.placed.get(place).copied())
    }

    /// The same, where it is a text.
    fn text(&self, name: &str, place: usize) -> Option<&'a str> {
        literal(self.given(name, place)?).map(|(_, text)| text)
    }

    /// Whether it does nothing but in reverse: `RunPython.noop`.
    fn is_noop(&self, name: &str) -> bool {
        self.given(name, 0).is_some_and(|expression| expression.rsplit('.').next() == Some("noop"))
    }
}

/// The text in quotes that Python begins with, and how long it is with them.
fn literal(python: &str) -> Option<(usize, &str)> {
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| python.starts_with(quote))?;
    let inner = &python[quote.len()..];
    let is_escaped = |at: usize| inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    // What is closed nowhere ends with the text.
    let end = inner.match_indices(quote).map(|(at, _)| at).find(|at| !is_escaped(*at)).unwrap_or(inner.len());
    Some(((quote.len() * 2 + end).min(python.len()), &inner[..end]))
}

/// How long the comment is that Python begins with.
fn comment(python: &str) -> Option<usize> {
    python.starts_with('#').then(|| python.find('\n').unwrap_or(python.len()))
}

/// All texts of an expression, one after the other.
fn literals(expression: &str) -> String {
    let (mut all, mut at) = (String::new(), 0);
    while let Some(c) = expression[at..].chars().next() {
        match literal(&expression[at..]) {
            Some((length, text)) => {
                all.push_str(&text.replace("\\n", " ").replace("\\t", " "));
                all.push(' ');
                at += length;
            }
            None => at += comment(&expression[at..]).unwrap_or(c.len_utf8()),
        }
    }
    all
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
            "renames `a` of `question`: code that asks for it fails",
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
    fn arguments_by_their_place_are_named() {
        for (text, told) in [
            ("RenameModel('Thing', 'gadget')", "renames `Thing`: code that asks for it fails"),
            (
                "RemoveField(\"Gadget\", \"old\")",
                "removes `old` of `gadget`: its data goes, and code that asks for it fails",
            ),
            (
                "DeleteModel(  # no longer of use\n 'Gadget')",
                "deletes `Gadget`: its data goes, and code that asks for it fails",
            ),
            ("RenameField('gadget', 'a, b)', 'c')", "renames `a, b)` of `gadget`: code that asks for it fails"),
            (
                "AddField('gadget', 'size', models.IntegerField(default=0))",
                "adds `size` to `gadget`: code that does not know it cannot add rows",
            ),
            (
                "AlterField('gadget', 'size', field=models.BigIntegerField())",
                "alters `size` of `gadget`: the table may be locked until all of it is rewritten",
            ),
            (
                "AddConstraint('gadget', models.UniqueConstraint(fields=['a'], name='x'))",
                "indexes or checks `gadget`: it cannot be written to until that is done",
            ),
            (
                "AlterUniqueTogether('gadget', {('a', 'b')})",
                "indexes or checks `gadget`: it cannot be written to until that is done",
            ),
            ("AlterModelTable('gadget', 'things')", "renames the table of `gadget`: code that asks for it fails"),
        ] {
            assert_eq!(judge(&format!("operations = [migrations.{text}]")), [told], "{text}");
        }
        assert!(judge("AddField('gadget', 'size', models.IntegerField(null=True))").is_empty());
    }

    #[test]
    fn sql_that_destroys_is_told() {
        for (sql, tables) in [
            ("sql=\"DELETE FROM core_gadget\"", " of `core_gadget`"),
            ("\"DROP TABLE IF EXISTS x\"", " of `x`"),
            ("'drop table public.\"Gadget\" , `y` cascade'", " of `public.Gadget` and `y`"),
            ("'truncate core_gadget'", " of `core_gadget`"),
            ("[(\"UPDATE x SET a = %s\", [1]), (\"delete from x where a = ')'\", [])]", " of `x`"),
            ("[\"SELECT 1\", \"ALTER TABLE x DROP COLUMN y\", \"DELETE FROM x\"]", " of `x`"),
            ("\"ALTER TABLE ONLY x ADD a int, DROP y\"", " of `x`"),
            ("\"\"\"\n    -- it's over\n    DROP TABLE x;\n\"\"\", reverse_sql=migrations.RunSQL.noop", " of `x`"),
            ("'SELECT 1;\\nDROP TABLE x'", " of `x`"),
            ("reverse_sql='SELECT 1', sql='DROP TABLE x'", " of `x`"),
            ("'DROP SCHEMA old'", ""),
            ("f'DROP TABLE {name}'", ""),
            ("'DELETE FROM %s' % name", ""),
            ("'DROP TABLE ' + name", ""),
        ] {
            let told = format!("runs SQL that drops or deletes{tables}: what that takes away is gone");
            let text = format!("operations = [migrations.RunSQL({sql}), migrations.RunSQL({sql})]");
            assert_eq!((judge(&text), is_opaque(&text)), (vec![told], false), "{sql}");
        }
    }

    #[test]
    fn what_else_is_done_by_sql_or_python_is_opaque() {
        for operation in [
            "RunPython(fill)",
            "RunPython(code=drop, reverse_code=migrations.RunPython.noop)",
            "RunSQL('CREATE INDEX i ON x (a)', 'DROP TABLE x')",
            "RunSQL(sql='ALTER TABLE x ALTER a DROP NOT NULL', reverse_sql='DELETE FROM x')",
            "RunSQL('ALTER TABLE x ADD FOREIGN KEY (y) REFERENCES y ON DELETE CASCADE')",
            "RunSQL('SELECT drop_all, deleted FROM x')",
            "RunSQL(DROP)",
        ] {
            assert!(judge(operation).is_empty() && is_opaque(operation), "{operation}");
        }
        for operation in [
            "RunPython(migrations.RunPython.noop)",
            "RunSQL(RunSQL.noop, 'DROP')",
            "# RunPython(fill)",
            "CreateModel('x')",
        ] {
            assert!(judge(operation).is_empty() && !is_opaque(operation), "{operation}");
        }
    }

    #[test]
    fn tables_that_are_taken_away_are_known_by_their_models_or_by_sql() {
        let text =
            "DeleteModel(name='Choice'), RenameModel('Vote', 'Ballot'), RunSQL('DROP TABLE old'), CreateModel('New')";
        assert_eq!(takes_away("polls", text), ["polls_choice", "polls_vote", "old"]);
        assert_eq!(applied("  Applying polls.0003_votes... OK"), Some("polls.0003_votes"));
        assert_eq!(applied("  Applying polls.0003_votes...Traceback (most recent call last):"), None);
    }

    #[test]
    fn migrations_are_called_as_django_calls_them() {
        let change = |name: &str| Change { name: name.into(), from: None, to: None };
        assert_eq!(name(&change("web/polls/migrations/0003_votes.py")), "polls.0003_votes");
    }
}
