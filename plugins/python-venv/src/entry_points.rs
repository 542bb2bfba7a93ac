//! `entry_points.txt`: which commands a distribution has, and what they call.

/// A command: its name in `bin`, and the object that it calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint {
    pub(crate) name: String,
    pub(crate) module: String,
    /// What to call in the module, dotted.
    pub(crate) object: String,
}

/// The commands of a file, console's and those for a desktop, which are the same here; a line that names none is an error.
pub(crate) fn commands(text: &str) -> Result<Vec<EntryPoint>, String> {
    let mut commands = Vec::new();
    let mut wanted = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            wanted = matches!(section.trim(), "console_scripts" | "gui_scripts");
        } else if wanted {
            commands.push(command(line).ok_or_else(|| line.to_owned())?);
        }
    }
    Ok(commands)
}

fn command(line: &str) -> Option<EntryPoint> {
    let (name, reference) = line.split_once('=')?;
    // Extras are an old way of saying when a command works, and are no part of what it calls.
    let reference = reference.split('[').next()?.trim();
    let (module, object) = reference.split_once(':')?;
    let (name, module, object) = (name.trim(), module.trim(), object.trim());
    let dotted = |text: &str| {
        text.split('.').all(|word| {
            !word.is_empty()
                && !word.starts_with(|c: char| c.is_ascii_digit())
                && word.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
    };
    let is_name = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
    (is_name && dotted(module) && dotted(object)).then(|| EntryPoint {
        name: name.to_owned(),
        module: module.to_owned(),
        object: object.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_are_taken() {
        let text = "# a comment\n[console_scripts]\ndjango-admin = django.core.management:execute_from_command_line\n\
                    x=a.b : C.main [extra]\n\n[other]\ny = not read at all\n[ gui_scripts ]\nw = w:main\n";
        let commands = commands(text).expect("commands");
        let shown: Vec<String> =
            commands.iter().map(|command| format!("{} {} {}", command.name, command.module, command.object)).collect();
        assert_eq!(
            shown,
            ["django-admin django.core.management execute_from_command_line", "x a.b C.main", "w w main"]
        );
    }

    #[test]
    fn what_would_be_no_command_is_refused() {
        for line in ["x", "x = a", "x = a:", "../x = a:b", "x = a:b;import os", "x = a b:c", "x = a:1"] {
            assert_eq!(commands(&format!("[console_scripts]\n{line}")), Err(line.to_owned()));
        }
    }
}
