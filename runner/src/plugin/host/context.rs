//! What the pipeline says about the whole run, and what a step says to whoever watches.

use super::{Host, Observation};
use crate::event::{Event, Level};
use crate::plugin::bindings::pipe::step::{context, log};

/// The longest message that is passed on, in bytes.
const MAX_MESSAGE: usize = 16 << 10;

impl context::Host for Host {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let services = self.services()?;
        let value = services.context.get(&name).cloned();
        self.observations.insert(Observation::Context { name, value: value.clone() });
        Ok(value)
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, mut message: String) -> wasmtime::Result<()> {
        self.spend(message.len(), "log", "said more", |left| &mut left.log)?;
        let services = self.services()?;
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE));
            message.push('…');
        }
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        services.events.send(Event::StepLog { step: services.step.clone(), level, message });
        Ok(())
    }

    fn progress(&mut self, done: u64, total: Option<u64>, unit: String) -> wasmtime::Result<()> {
        let services = self.services()?;
        services.events.send(Event::StepProgress { step: services.step.clone(), done, total, unit });
        Ok(())
    }
}
