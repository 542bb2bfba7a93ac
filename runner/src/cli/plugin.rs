//! `pipe plugin`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner::description::{Port, PortKind};
use runner::diagnostic;
use runner::plugin::{Plugin, Plugins, builtins};
use serde_json::{Value, json};

use super::failure::Kind;
use super::{Context, Failure};

/// Shows the steps that pipelines can be made of.
#[derive(Debug, clap::Args)]
pub(super) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PluginCommand {
    /// Lists the built-in plugins.
    List {
        /// As JSON, all that `inspect` says of each.
        #[arg(long)]
        json: bool,
    },
    /// Shows what a plugin takes, gives and asks for, without running it on anything.
    Inspect {
        /// A built-in plugin, or a component's file.
        #[arg(value_hint = clap::ValueHint::FilePath)]
        plugin: String,
        /// As JSON, with the schema of the config.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn plugin(args: &PluginArgs, context: &Context) -> Result<(), Failure> {
    let plugins = Plugins::open(&context.home()?, &context.store()?)?;
    match &args.command {
        PluginCommand::List { json } => list(&plugins, *json, context),
        PluginCommand::Inspect { plugin, json } => {
            let plugin = find(&plugins, plugin)?;
            if *json { context.print_json(&described(&plugin)?) } else { context.print(inspected(&plugin, context)) }
        }
    }
}

fn list(plugins: &Plugins, json: bool, context: &Context) -> Result<(), Failure> {
    let plugins = builtins().iter().map(|builtin| Ok(plugins.load(builtin.name, builtin.bytes)?));
    let plugins = plugins.collect::<Result<Vec<_>, Failure>>()?;
    if json {
        let all = plugins.iter().map(|plugin| described(plugin)).collect::<Result<Vec<_>, _>>()?;
        return context.print_json(&all);
    }
    let mut out = String::new();
    for plugin in plugins {
        let name = context.paint.bold(&format!("{:<14}", plugin.description.name));
        let _ = writeln!(out, "{name} {}", plugin.description.summary);
    }
    context.print(out)
}

fn described(plugin: &Plugin) -> Result<Value, Failure> {
    let mut value = json!({ "digest": plugin.digest });
    let fields = serde_json::to_value(&plugin.description).map_err(|error| Failure::of(Kind::Internal, &error))?;
    if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
        value.extend(fields);
    }
    Ok(value)
}

fn find(plugins: &Plugins, name: &str) -> Result<Arc<Plugin>, Failure> {
    if let Some(builtin) = builtins().iter().find(|builtin| builtin.name == name) {
        return Ok(plugins.load(name, builtin.bytes)?);
    }
    let path = PathBuf::from(name);
    if path.extension().is_none() && !name.contains('/') {
        let failure = Failure::new(Kind::Usage, format!("there is no built-in plugin `{name}`"));
        let near = diagnostic::nearest(name, builtins().iter().map(|builtin| builtin.name));
        return Err(match near {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("`pipe plugin list` names them; a file is named by its path: `./my-step.wasm`"),
        });
    }
    Ok(plugins.load(name, read(&path)?)?)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::of(Kind::Usage, &error).about(format!("cannot read the plugin `{}`", path.display())))
}

fn inspected(plugin: &Plugin, context: &Context) -> String {
    let description = &plugin.description;
    let paint = context.paint;
    let mut out = String::new();
    let title = paint.bold(&format!("{} {}", description.name, description.version));
    let _ = writeln!(out, "{title}\n{}\n{}", description.summary, paint.dim(&plugin.digest.to_string()));
    ports(&mut out, "inputs", &description.inputs);
    ports(&mut out, "outputs", &description.outputs);
    let grants = if description.capabilities.is_empty() {
        "nothing beyond its inputs".to_owned()
    } else {
        description.capabilities.join(", ")
    };
    let _ = writeln!(out, "\nasks for\n  {grants}");
    settings(&mut out, &description.config_schema);
    out
}

fn ports(out: &mut String, title: &str, ports: &[Port]) {
    if ports.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for port in ports {
        let kind = match port.kind {
            PortKind::Blob => "blob",
            PortKind::Tree => "tree",
        };
        let many = if port.many { ", several" } else { "" };
        let optional = if port.required { "" } else { ", optional" };
        let _ = writeln!(out, "  {:<16} {}  ({kind}{many}{optional})", port.name, port.doc);
    }
}

/// The settings of a config schema: names, and the first paragraph of what each is for.
fn settings(out: &mut String, schema: &serde_json::Value) {
    let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) else { return };
    let _ = writeln!(out, "\nconfig");
    for (name, property) in properties {
        let doc = property["description"].as_str().unwrap_or_default();
        let doc = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let _ = writeln!(out, "  {name:<16} {doc}");
    }
}
