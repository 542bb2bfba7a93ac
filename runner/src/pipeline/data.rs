//! What a target keeps, by its name: a directory, or the file of a database.

/// How the files of databases are called.
const DATABASES: [&str; 3] = [".sqlite3", ".sqlite", ".db"];

/// Whether what a target keeps is a database, and so a file.
pub(crate) fn is_database(path: &str) -> bool {
    DATABASES.iter().any(|suffix| path.ends_with(suffix))
}
