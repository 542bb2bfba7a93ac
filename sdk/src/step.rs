//! The trait that a step implements, and the macro that exports it.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::bindings::exports::pipe::step::guest;
use crate::{Blob, Description, ErrorCode, Failure, Tree};

/// A step of a pipeline.
pub trait Step {
    /// The shape of `config = { … }` in a pipeline; its doc comments are the schema's descriptions.
    type Config: DeserializeOwned + JsonSchema;

    /// What the step is called, takes and gives. The runner asks once per component, without inputs.
    fn describe() -> Description;

    /// Does the work. The same config and inputs must give the same outputs: nothing else is at hand to differ by.
    fn run(config: Self::Config, inputs: Inputs) -> Result<Outputs, Failure>;
}

/// The values that the pipeline bound to this step's input ports.
#[derive(Debug)]
pub struct Inputs(Vec<guest::Binding>);

impl Inputs {
    /// The tree at a required port.
    pub fn tree(&self, port: &str) -> Result<&Tree, Failure> {
        self.optional_tree(port).ok_or_else(|| missing(port))
    }

    /// The tree at an optional port.
    pub fn optional_tree(&self, port: &str) -> Option<&Tree> {
        self.trees(port).next()
    }

    /// The trees at a port that takes many, in the pipeline's order.
    pub fn trees(&self, port: &str) -> impl Iterator<Item = &Tree> {
        self.0.iter().filter(move |binding| binding.port == port).filter_map(|binding| match &binding.value {
            guest::Value::Tree(tree) => Some(tree),
            guest::Value::Blob(_) => None,
        })
    }

    /// The blob at a required port.
    pub fn blob(&self, port: &str) -> Result<&Blob, Failure> {
        self.optional_blob(port).ok_or_else(|| missing(port))
    }

    /// The blob at an optional port.
    pub fn optional_blob(&self, port: &str) -> Option<&Blob> {
        self.0.iter().filter(|binding| binding.port == port).find_map(|binding| match &binding.value {
            guest::Value::Blob(blob) => Some(blob),
            guest::Value::Tree(_) => None,
        })
    }
}

fn missing(port: &str) -> Failure {
    Failure::new(ErrorCode::MissingInput, format!("nothing is bound to the input `{port}`"))
}

/// The values that a step gives, by output port.
#[derive(Debug, Default)]
pub struct Outputs(Vec<guest::Binding>);

impl Outputs {
    /// No outputs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a tree.
    #[must_use]
    pub fn tree(mut self, port: &str, tree: Tree) -> Self {
        self.0.push(guest::Binding { port: port.to_owned(), value: guest::Value::Tree(tree) });
        self
    }

    /// Gives a blob.
    #[must_use]
    pub fn blob(mut self, port: &str, blob: Blob) -> Self {
        self.0.push(guest::Binding { port: port.to_owned(), value: guest::Value::Blob(blob) });
        self
    }
}

#[doc(hidden)]
pub fn describe<S: Step>() -> guest::Description {
    let schema = schemars::schema_for!(S::Config);
    S::describe().into_wit(schema.as_value().to_string())
}

#[doc(hidden)]
pub fn run<S: Step>(config: &str, inputs: Vec<guest::Binding>) -> Result<Vec<guest::Binding>, Failure> {
    let config = serde_json::from_str(config).map_err(|error| Failure::invalid(format!("config: {error}")))?;
    S::run(config, Inputs(inputs)).map(|outputs| outputs.0)
}

/// Stands for the export where there is none, so that a native build sees the step as used.
#[doc(hidden)]
pub const fn used<G: guest::Guest>() {
    let _ = G::run;
    let _ = G::describe;
}

/// Exports a type that implements [`Step`] as this crate's step.
#[macro_export]
macro_rules! step {
    ($step:ident) => {
        #[doc(hidden)]
        mod __pipe_step {
            use $crate::exports::pipe::step::guest;

            pub(crate) struct Export;

            impl guest::Guest for Export {
                fn describe() -> guest::Description {
                    $crate::__describe::<super::$step>()
                }

                fn run(
                    config: String,
                    inputs: Vec<guest::Binding>,
                ) -> Result<Vec<guest::Binding>, $crate::Failure> {
                    $crate::__run::<super::$step>(&config, inputs)
                }
            }
        }
        use __pipe_step::Export as __PipeStep;
        #[cfg(target_family = "wasm")]
        $crate::__export_step!(__PipeStep with_types_in $crate);
        #[cfg(not(target_family = "wasm"))]
        const _: () = $crate::__used::<__PipeStep>();
    };
}
