//! What requests are in words.

use super::protocol::{CanaryWish, Order, Request, Wish};
use crate::release::{Deed, How};

impl Request {
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

impl Order {
    /// What is asked for.
    pub(crate) fn deed(&self) -> Deed {
        let (what, slug) = match &self.wish {
            Wish::Slug { slug, how, canary, .. } => {
                let some = canary.map(|portion| format!(", to {portion} of the clients")).unwrap_or_default();
                (format!("{}{some}", of_how(how)), Some(slug.id))
            }
            Wish::Back { number } => (format!("roll back to {number}"), None),
            Wish::Config(changes) => {
                let names = |is_set: bool| {
                    let of_kind = changes.iter().filter(move |(_, value)| value.is_some() == is_set);
                    let verb = if is_set { "set" } else { "unset" };
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
