//! Bytes that somebody else could have written, for whatever parses them: mutations of a corpus that is kept beside this crate.
//!
//! ```no_run
//! pipe_fuzz::attack("pipeline", |bytes| drop(String::from_utf8_lossy(bytes)));
//! ```
//!
//! A test calls [`attack`] with the name of its corpus and with what it tries, which may do anything with the bytes but panic. By
//! default it makes the same few mutations every time; `PIPE_FUZZ_SECONDS` says to go on for so long with others. Bytes that make
//! it panic are added to the corpus, which is tried first and as it is: so what was found once stays found.
//!
//! Knows nothing of formats, and is not told which code a mutation reaches: the corpus must hold what leads there. It is ordinary
//! stable Rust, since a fuzzer that instruments would have to compile the whole engine once more.

mod mutate;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// The mutations of each run that is not told how long to go on.
const SMOKE: u64 = 2_000;
/// The variable that says how long to go on, in seconds.
const SECONDS: &str = "PIPE_FUZZ_SECONDS";

/// Gives all of a corpus and then mutations of it to `tried`. Panics where it does, with the bytes' file.
pub fn attack(corpus: &str, tried: impl Fn(&[u8])) {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus);
    let seeds = seeds(&dir);
    for (_, seed) in &seeds {
        attempt(&dir, seed, &tried);
    }
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let until = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    let until = until.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // Without a time the mutations are the same on every machine; with one each run makes others.
    let mut mutator = Mutator::new(until.map_or(1, |_| u64::from(std::process::id()) << 20), &seeds);
    let mut count = 0;
    while until.map_or(count < SMOKE, |until| Instant::now() < until) {
        attempt(&dir, &mutator.next(), &tried);
        count += 1;
    }
}

/// The files of a corpus with their names, in order.
fn seeds(dir: &PathBuf) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("the corpus `{}`: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the corpus").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus `{}` is empty", dir.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file of the corpus"))).collect()
}

fn attempt(dir: &std::path::Path, bytes: &[u8], tried: &impl Fn(&[u8])) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| tried(bytes))) {
        // Named by content, so that what panics once more is not kept twice.
        let hash = bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let path = dir.join(format!("panics-{hash:016x}"));
        if let Err(error) = fs::write(&path, bytes) {
            panic!("{} bytes made it panic, and cannot be kept as `{}`: {error}", bytes.len(), path.display());
        }
        eprintln!("the bytes are `{}`", path.display());
        panic::resume_unwind(panic);
    }
}
