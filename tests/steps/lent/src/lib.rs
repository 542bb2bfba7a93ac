//! `lent`: uses the WASI that it is lent, and tells what it got. It stands for the components of Python and JavaScript, which
//! bring a runtime that asks for all of WASI.

mod bindings;

use bindings::wasi::cli::{environment, stderr};
use bindings::wasi::clocks::{monotonic_clock, wall_clock};
use bindings::wasi::filesystem::preopens;
use bindings::wasi::random::random;
use pipe_sdk::{Description, Deserialize, Failure, Inputs, JsonSchema, Outputs, Port, Step};

/// An hour, in nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// Does as it is told.
struct Lent;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// What to write to standard error, if anything, before the end comes without an answer.
    #[serde(default)]
    crash: Option<String>,
}

impl Step for Lent {
    type Config = Config;

    fn describe() -> Description {
        Description::new("lent", env!("CARGO_PKG_VERSION"), "Uses the WASI that it is lent, and tells what it got")
            .output(Port::blob("told", "what it got"))
    }

    fn run(config: Config, _: Inputs) -> Result<Outputs, Failure> {
        if let Some(words) = config.crash {
            let _ = stderr::get_stderr().blocking_write_and_flush(words.as_bytes());
            panic!("told to");
        }
        let before = monotonic_clock::now();
        monotonic_clock::subscribe_duration(HOUR).block();
        let told = format!(
            "date {}\nclock {before} {}\nrandom {:?}\nenvironment {:?}\ndirectories {}\n",
            wall_clock::now().seconds,
            monotonic_clock::now(),
            random::get_random_bytes(4),
            environment::get_environment(),
            preopens::get_directories().len(),
        );
        Ok(Outputs::new().blob("told", pipe_sdk::blob(told.as_bytes())?))
    }
}

pipe_sdk::step!(Lent);
