//! Native programs, as far as the pipeline grants them.

use wasmtime::component::Resource;

use super::{Blob, Code, Command, Failure, Host, Observation, Outcome, RUNTIME_OF_PROGRAMS, Tree};
use crate::description::{is_granted, program_name};
use crate::exec::{self, Found};
use crate::plugin::bindings::pipe::step::exec as wit;

impl Host {
    fn command(&mut self, command: &Resource<Command>) -> wasmtime::Result<&mut exec::Command> {
        self.count()?;
        Ok(&mut self.table.get_mut(command)?.0)
    }

    fn check_grant(&mut self, command: &exec::Command) -> Result<(), Failure> {
        let services = self.services()?;
        if is_granted(&command.program, services.grants.exec.iter().map(String::as_str)) {
            return Ok(());
        }
        let name = program_name(&command.program);
        Err(Failure::new(Code::Denied, format!("the pipeline does not let step `{}` run `{name}`", services.step))
            .hint(format!("add `grants = {{ exec = [\"{name}\"] }}` to `[steps.{}]`", services.step)))
    }

    fn run_commands(&mut self, commands: Vec<Resource<Command>>) -> Result<Vec<Resource<Outcome>>, Failure> {
        let commands = commands
            .into_iter()
            .map(|command| Ok(self.table.delete(command)?.0))
            .collect::<Result<Vec<_>, Failure>>()?;
        for command in &commands {
            self.check_grant(command)?;
            check_words(command)?;
        }
        let services = self.services()?.clone();
        // What programs see besides their mounts is seen by the step that runs them.
        let value = services.context.get(RUNTIME_OF_PROGRAMS).cloned();
        self.observations.insert(Observation::Context { name: RUNTIME_OF_PROGRAMS.to_owned(), value });
        for (name, secret) in services.secrets.iter() {
            self.observations.insert(Observation::Secret { name: name.to_owned(), mac: *secret.mac() });
        }
        let outcomes = services.executor.run_all(&commands, &services)?;
        outcomes.into_iter().map(|outcome| Ok(self.table.push(Outcome(outcome))?)).collect()
    }
}

/// Refuses what no program can be given.
fn check_words(command: &exec::Command) -> Result<(), Failure> {
    let exec::Command { program, args, env, .. } = command;
    let refused = |what: String| Err(Failure::new(Code::InvalidConfig, format!("`{program}` cannot be given {what}")));
    if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return refused(format!(
            "a variable of the name {name:?}: a name is not empty, and holds no `=` and no NUL byte"
        ));
    }
    if let Some((name, _)) = env.iter().find(|(_, value)| value.contains('\0')) {
        return refused(format!("the variable `{name}`: its value holds a NUL byte"));
    }
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => refused(format!("its argument {}: it holds a NUL byte", index + 1)),
        None => Ok(()),
    }
}

impl wit::Host for Host {
    fn run(&mut self, command: Resource<Command>) -> Result<Resource<Outcome>, Failure> {
        let mut outcomes = self.run_commands(vec![command])?;
        outcomes.pop().ok_or_else(|| Failure::new(Code::Internal, "a command gave no outcome"))
    }

    fn run_all(&mut self, commands: Vec<Resource<Command>>) -> Result<Vec<Resource<Outcome>>, Failure> {
        self.run_commands(commands)
    }
}

impl wit::HostCommand for Host {
    fn new(&mut self, program: String) -> wasmtime::Result<Resource<Command>> {
        self.count()?;
        self.hold(&program)?;
        Ok(self.table.push(Command(exec::Command::new(program)))?)
    }

    fn arg(&mut self, command: Resource<Command>, value: String) -> wasmtime::Result<()> {
        self.hold(&value)?;
        self.command(&command)?.args.push(value);
        Ok(())
    }

    fn env(&mut self, command: Resource<Command>, name: String, value: String) -> wasmtime::Result<()> {
        self.hold(&name)?;
        self.hold(&value)?;
        self.command(&command)?.env.insert(name, value);
        Ok(())
    }

    fn cwd(&mut self, command: Resource<Command>, path: String) -> wasmtime::Result<()> {
        self.command(&command)?.cwd = path;
        Ok(())
    }

    fn mount(&mut self, command: Resource<Command>, path: String, content: Resource<Tree>) -> wasmtime::Result<()> {
        let tree = self.table.get(&content)?;
        let (digest, origin) = (tree.digest, tree.origin.clone());
        self.observe_content(&origin, digest)?;
        self.hold(&path)?;
        self.command(&command)?.mounts.push((path, digest));
        Ok(())
    }

    fn collect(&mut self, command: Resource<Command>, path: String) -> wasmtime::Result<()> {
        self.hold(&path)?;
        self.command(&command)?.collect.push(path);
        Ok(())
    }

    fn collect_written(&mut self, command: Resource<Command>, path: String) -> wasmtime::Result<()> {
        self.hold(&path)?;
        self.command(&command)?.collect_written.push(path);
        Ok(())
    }

    fn stdin(&mut self, command: Resource<Command>, content: Resource<Blob>) -> wasmtime::Result<()> {
        let blob = self.table.get(&content)?;
        let (digest, origin) = (blob.digest, blob.origin.clone());
        self.observe_content(&origin, digest)?;
        self.command(&command)?.stdin = Some(digest);
        Ok(())
    }

    fn drop(&mut self, command: Resource<Command>) -> wasmtime::Result<()> {
        self.table.delete(command)?;
        Ok(())
    }
}

impl wit::HostOutcome for Host {
    fn exit_code(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<i32> {
        Ok(self.table.get(&outcome)?.0.exit_code)
    }

    fn stdout(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<Resource<Blob>> {
        let digest = self.table.get(&outcome)?.0.stdout;
        Ok(self.table.push(Blob { digest, origin: None, reader: None })?)
    }

    fn stderr(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<Resource<Blob>> {
        let digest = self.table.get(&outcome)?.0.stderr;
        Ok(self.table.push(Blob { digest, origin: None, reader: None })?)
    }

    fn tree(&mut self, outcome: Resource<Outcome>, path: String) -> Result<Option<Resource<Tree>>, Failure> {
        match self.table.get(&outcome)?.0.collected.get(&path) {
            Some(Found::Tree(digest)) => Ok(Some(self.table.push(Tree { digest: *digest, origin: None })?)),
            _ => Ok(None),
        }
    }

    fn file(&mut self, outcome: Resource<Outcome>, path: String) -> Result<Option<Resource<Blob>>, Failure> {
        match self.table.get(&outcome)?.0.collected.get(&path) {
            Some(Found::File(digest)) => {
                Ok(Some(self.table.push(Blob { digest: *digest, origin: None, reader: None })?))
            }
            _ => Ok(None),
        }
    }

    fn written(&mut self, outcome: Resource<Outcome>, path: String) -> Result<Option<Resource<Tree>>, Failure> {
        let digest = self.table.get(&outcome)?.0.written.get(&path).copied();
        digest.map(|digest| Ok(self.table.push(Tree { digest, origin: None })?)).transpose()
    }

    fn drop(&mut self, outcome: Resource<Outcome>) -> wasmtime::Result<()> {
        self.table.delete(outcome)?;
        Ok(())
    }
}
