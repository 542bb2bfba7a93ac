//! What requests are in words.

use super::protocol::{Answer, CanaryWish, ConfigChange, Order, Request, Wish};
use crate::release::{Deed, Ending, How, Who};

impl Request {
    /// Who asks, where that is for a change.
    pub(crate) fn who(&self) -> Option<&Who> {
        match self {
            Self::Deploy(order) => Some(&order.who),
            Self::Stop { who, .. } | Self::Remove { who, .. } => Some(who),
            Self::Hello | Self::Status | Self::Domains | Self::Succeed | Self::Retire => None,
        }
    }

    /// What is asked for.
    pub(crate) fn deed(&self) -> Deed {
        match self {
            Self::Hello | Self::Status => Deed::new("see what runs"),
            Self::Domains => Deed::new("see the domains"),
            Self::Deploy(order) => order.deed(),
            Self::Stop { target: Some((app, target)), .. } => Deed::of(app, target, "stop"),
            Self::Stop { target: None, .. } => Deed::new("stop all targets"),
            Self::Remove { app, target, data: false, .. } => Deed::of(app, target, "remove"),
            Self::Remove { app, target, data: true, .. } => Deed::of(app, target, "remove with its data"),
            Self::Succeed | Self::Retire => Deed::new("end the agent"),
        }
    }
}

impl Answer {
    /// What came of a change, and the release that it made; none where nothing was changed.
    pub(crate) fn ending(&self) -> Option<(Ending, Option<u64>)> {
        Some(match self {
            Self::Released { number, .. } | Self::Canary { number, .. } | Self::TakenBack { number } => {
                (Ending::Done, Some(*number))
            }
            Self::Kept | Self::Stopped(_) | Self::Removed(_) => (Ending::Done, None),
            Self::NotReleased(failure) if failure.cancelled => (Ending::Cancelled, failure.number),
            Self::NotReleased(failure) => (Ending::Failed(failure.message.clone()), failure.number),
            Self::Failed(message) => (Ending::Failed(message.clone()), None),
            Self::Unchanged { .. }
            | Self::Hello { .. }
            | Self::Status(_)
            | Self::Domains(_)
            | Self::Retiring
            | Self::Refused(_) => return None,
        })
    }
}

impl Order {
    /// What is asked for.
    pub(crate) fn deed(&self) -> Deed {
        let (what, slug) = match &self.wish {
            Wish::Slug { slug, how, canary, .. } => {
                let some = canary.map(|portion| format!(", to {portion} of the clients")).unwrap_or_default();
                (format!("{}{some}", of_how(how)), Some(slug.id))
            }
            Wish::Back { number } => (format!("roll back to {number}"), None),
            Wish::Config(ConfigChange { values, is_import }) => {
                let names = |is_set: bool| {
                    let of_kind = values.iter().filter(move |(_, value)| value.is_some() == is_set);
                    let verb = match (is_set, is_import) {
                        (true, true) => "import",
                        (true, false) => "set",
                        (false, _) => "unset",
                    };
                    of_kind.map(move |(name, _)| format!("{verb} {name}"))
                };
                (format!("config {}", names(true).chain(names(false)).collect::<Vec<_>>().join(" ")), None)
            }
            Wish::Scale(formation) => (format!("scale {formation}"), None),
            Wish::Canary(CanaryWish::Portion(portion)) => (format!("canary {portion}"), None),
            Wish::Canary(CanaryWish::Finish) => ("canary finish".to_owned(), None),
            Wish::Canary(CanaryWish::Abort) => ("canary abort".to_owned(), None),
        };
        Deed { slug, ..Deed::of(&self.app, &self.target, what) }
    }
}

fn of_how(how: &How) -> String {
    match how {
        How::Run => "run".to_owned(),
        How::Promote { from, number } => format!("promote {from} {number}"),
        How::Release | How::Rollback { .. } | How::Config { .. } | How::Scale { .. } => "release".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_is_told_apart_from_what_is_set() {
        let told = |is_import| {
            let values =
                [("A", Some("1")), ("B", None)].map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
            let wish = Wish::Config(ConfigChange { values: values.into(), is_import });
            Order { app: "demo".into(), target: "staging".into(), wish, who: Who::here() }.deed().what
        };
        assert_eq!([false, true].map(told), ["config set A unset B", "config import A unset B"]);
    }
}
