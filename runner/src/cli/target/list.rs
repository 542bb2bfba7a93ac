//! `pipe target list`.

use std::fmt::Write as _;

use runner::release::History;
use serde_json::json;

use crate::cli::{Context, Failure};

/// Lists the targets that this machine knows, and where they are.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn list(args: &ListArgs, context: &Context) -> Result<(), Failure> {
    let mut targets = Vec::new();
    if let Some(history) = History::existing(&context.home()?)? {
        for (app, name) in history.targets()? {
            let server = history.server(&app, &name)?.map(|server| server.to_string());
            let key = history.server_key(&app, &name)?;
            targets.push((app, name, server, key));
        }
    }
    if args.json {
        let targets = targets
            .iter()
            .map(|(app, name, server, key)| json!({ "app": app, "target": name, "server": server, "server_key": key }));
        return context.print_json(&targets.collect::<Vec<_>>());
    }
    let width = targets.iter().map(|(app, name, ..)| app.len() + name.len() + 1).max().unwrap_or_default();
    let mut text = String::new();
    for (app, name, server, key) in &targets {
        let target = format!("{app}/{name}");
        let server = server.as_deref().unwrap_or("this machine");
        let row = format!("{target:<width$}  {server}  {}", key.as_deref().unwrap_or_default());
        let _ = writeln!(text, "{}", row.trim_end());
    }
    context.print(if text.is_empty() { "no target is known; `pipe run` releases\n".to_owned() } else { text })
}
