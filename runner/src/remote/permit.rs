//! What each request needs: the one place where that is said, and where a request that is not named does not compile.

use super::person::Command;
use super::script::Script;
use super::wire::Call;
use crate::agent::protocol::{Failure, Request, Wish};
use crate::pipeline::is_name;
use crate::release::{Deed, Person, Role, Who};

/// The least role that may have something done.
fn least_role(asked: &Asked<'_>) -> Role {
    match asked {
        Asked::Call(call) => of_call(call),
        Asked::Command(Command::Connect | Command::Logs(_)) => Role::Viewer,
        Asked::Command(Command::Exec(_) | Command::SetUp { .. }) => Role::Admin,
    }
}

fn of_call(call: &Call) -> Role {
    match call {
        Call::Ask(request) => match request {
            Request::Hello | Request::Status | Request::Domains => Role::Viewer,
            Request::Deploy(order) => of_wish(&order.wish),
            Request::Stop { target: Some(_), .. } => Role::Deployer,
            Request::Stop { target: None, .. } | Request::Remove { .. } | Request::Succeed | Request::Retire => {
                Role::Admin
            }
        },
        Call::Release { order, .. } => of_wish(&order.wish),
        Call::Releases { .. } | Call::ConfigNames { .. } | Call::VariableNames { .. } => Role::Viewer,
        Call::Config { .. }
        | Call::Audit { .. }
        | Call::People
        | Call::AddPerson { .. }
        | Call::RemovePerson { .. } => Role::Admin,
    }
}

fn of_wish(wish: &Wish) -> Role {
    match wish {
        Wish::Slug { .. } | Wish::Back { .. } | Wish::Scale(_) | Wish::Canary(_) => Role::Deployer,
        Wish::Config(_) => Role::Admin,
    }
}

/// What somebody asks for: by the protocol, or as a command.
pub(super) enum Asked<'a> {
    Call(&'a Call),
    Command(&'a Command),
}

impl Asked<'_> {
    /// The same in words.
    pub(super) fn deed(&self) -> Deed {
        match self {
            Self::Call(Call::Ask(request)) => request.deed(),
            Self::Call(Call::Release { order, .. }) => order.deed(),
            Self::Call(Call::Releases { app, target }) => Deed::of(app, target, "see the releases"),
            Self::Call(Call::ConfigNames { app, target }) => Deed::of(app, target, "see the names of the config"),
            Self::Call(Call::VariableNames { app, target, release }) => {
                Deed::of(app, target, format!("see the names of the variables of release {release}"))
            }
            Self::Call(Call::Config { app, target }) => Deed::of(app, target, "read the config"),
            Self::Call(Call::Audit { app, target }) => Deed::of(app, target, "read the audit trail"),
            Self::Call(Call::People) => Deed::new("see the people"),
            Self::Call(Call::AddPerson { name, role, .. }) => Deed::new(format!("add {name} as {role}")),
            Self::Call(Call::RemovePerson { name }) => Deed::new(format!("remove {name}")),
            Self::Command(Command::Connect) => Deed::new("connect"),
            Self::Command(Command::Logs(_)) => Deed::new("see logs"),
            Self::Command(Command::Exec(arguments)) => Deed::new(format!("exec {}", arguments.join(" "))),
            Self::Command(Command::SetUp { script: Script::Copy, .. }) => Deed::new("put another pipe here"),
            Self::Command(Command::SetUp { script: Script::Boot, arguments }) => {
                Deed::new(format!("have {} come back after a restart", arguments.join(" ")))
            }
            Self::Command(Command::SetUp { .. }) => Deed::new("set the host up"),
        }
    }

    /// Refuses what somebody may not have done; `people` are all that there are.
    pub(super) fn permit(&self, who: &Who, people: &[Person]) -> Result<(), Failure> {
        let least = least_role(self);
        if who.role >= least {
            return Ok(());
        }
        let message =
            format!("you are `{}`, {} here, and this needs {}: {}", who.name, a(who.role), a(least), self.deed());
        let admins: Vec<String> = people
            .iter()
            .filter(|person| person.role == Role::Admin)
            .map(|person| format!("`{}`", person.name))
            .chain([format!("whoever logs in here as `{}`", crate::release::user())])
            .collect();
        let hint =
            format!("{} can change that: `pipe people TARGET add {} --role {least}`", admins.join(", or "), who.name);
        Err(Failure::usage(message).hint(hint))
    }

    /// Refuses names that no pipeline has, and that would be other places where they become paths.
    pub(super) fn check_names(&self) -> Result<(), Failure> {
        let named = match self {
            Self::Call(Call::Release { order, .. } | Call::Ask(Request::Deploy(order))) => match &order.wish {
                Wish::Slug { target, .. } if (&target.app, &target.name) != (&order.app, &order.target) => {
                    return Err(Failure::usage("the release is for another target than its settings"));
                }
                _ => order.deed().target,
            },
            other => other.deed().target,
        };
        match named {
            Some((app, target)) if !(is_name(&app) && is_name(&target)) => {
                Err(Failure::usage(format!("`{app}/{target}` cannot be the name of a target")))
            }
            _ => Ok(()),
        }
    }
}

fn a(role: Role) -> &'static str {
    match role {
        Role::Viewer => "a viewer",
        Role::Deployer => "a deployer",
        Role::Admin => "an admin",
    }
}
