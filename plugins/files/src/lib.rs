//! x
use pipe_sdk::{Description, Failure, Inputs, Outputs, Port, Step, TreeBuilder};

/// Copies its input and adds a greeting.
struct Greet;

#[derive(pipe_sdk::Deserialize, pipe_sdk::JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// Whom to greet.
    name: String,
}

impl Step for Greet {
    type Config = Config;
    fn describe() -> Description {
        Description::new("greet", "0.1.0", "Adds a greeting to a tree")
            .input(Port::tree("project", "the tree to add to"))
            .output(Port::tree("out", "the tree with `greeting.txt`"))
    }
    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let project = inputs.tree("project")?;
        let builder = TreeBuilder::new(Some(project));
        let text = pipe_sdk::blob(format!("hello {}\n", config.name).as_bytes())?;
        builder.put_file("greeting.txt", &text, false)?;
        Ok(Outputs::new().tree("out", TreeBuilder::finish(builder)?))
    }
}
pipe_sdk::step!(Greet);
