//! `pipe graph`.

use runner::graph::{self, Picture};

use super::file::FileArg;
use super::{Context, Failure};

/// Draws a pipeline: what flows from the source through the steps to the targets.
#[derive(Debug, clap::Args)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    file: FileArg,
    /// The form of the picture.
    #[arg(long, value_enum, default_value_t = Format::Svg)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A picture for pages and documents.
    Svg,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For other programs.
    Json,
}

pub(super) fn graph(args: &GraphArgs, context: &Context) -> Result<(), Failure> {
    let picture = Picture::of(&args.file.open_to_look(context)?.pipeline);
    context.print(match args.format {
        Format::Svg => graph::svg(&picture),
        Format::Dot => graph::dot(&picture),
        Format::Mermaid => graph::mermaid(&picture),
        Format::Json => format!("{:#}\n", picture.json()),
    })
}
