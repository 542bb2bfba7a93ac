//! What the pipeline says about the whole run, and what a step says to whoever watches.

use super::said::{EACH, MESSAGE, NAME, cut};
use super::{Host, Observation};
use crate::event::{Event, Level};
use crate::plugin::bindings::pipe::step::{context, log};

impl context::Host for Host {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let services = self.services()?;
        let value = services.context.get(&name).cloned();
        self.note(Observation::Context { name, value: value.clone() })?;
        Ok(value)
    }
}

impl log::Host for Host {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.spend(message.len() + EACH, "log", "said more", |left| &mut left.log)?;
        let services = self.services()?;
        let level = match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let message = cut(message, MESSAGE);
        services.events.send(Event::StepLog { step: services.step.clone(), level, message });
        Ok(())
    }

    fn progress(&mut self, done: u64, total: Option<u64>, unit: String) -> wasmtime::Result<()> {
        self.services()?;
        if self.progress.is_due() {
            let (services, unit) = (self.services()?, cut(unit, NAME));
            services.events.send(Event::StepProgress { step: services.step.clone(), done, total, unit });
        }
        Ok(())
    }
}
