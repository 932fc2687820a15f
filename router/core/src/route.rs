//! Chooses where a request is computed. Local first; another server only where plan and key allow it.

use std::sync::Arc;

use crate::model::LocalModel;
use crate::registry::Registry;
use crate::upstream::{Upstream, Upstreams};

/// What a key may do, asked by the policy.
pub trait Access {
    /// Whether a local model of this many parameters may be used.
    fn allows_parameters(&self, parameters: u64) -> bool;
    /// Whether a model of this name may be used, wherever it is.
    fn allows_model(&self, model: &str) -> bool;
    /// Whether a model of this name may be used that is somebody's own: an adapter, or one that no catalogue has.
    fn allows_own_model(&self, model: &str) -> bool;
    /// Whether the box may be left for this upstream.
    fn allows_upstream(&self, upstream: &str) -> bool;
}

/// Where a request is computed.
#[derive(Debug)]
pub enum Route<'a> {
    /// On this box.
    Local(Arc<LocalModel>),
    /// On another server, under that server's name for the model.
    Upstream(&'a Arc<Upstream>, &'a str),
}

/// Nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// No such model.
    Unknown,
    /// The plan does not include a model of this size.
    TooLargeForPlan,
    /// The plan does not include a model of this name.
    NotInPlan,
    /// The plan does not include models that are somebody's own.
    OwnModel,
    /// The model is on another server, and this key may not leave the box for it.
    MayNotLeave,
}

/// Chooses where a request for a model is computed.
///
/// # Errors
/// [`NoRoute`] when it may not be computed anywhere.
pub fn route<'a>(
    model: &str,
    registry: &Registry,
    upstreams: &'a Upstreams,
    access: &impl Access,
) -> Result<Route<'a>, NoRoute> {
    if let Some(local) = registry.find(model) {
        return if !access.allows_model(&local.id) {
            Err(NoRoute::NotInPlan)
        } else if !access.allows_parameters(local.parameters) {
            Err(NoRoute::TooLargeForPlan)
        } else if local.is_own() && !access.allows_own_model(&local.id) {
            Err(NoRoute::OwnModel)
        } else {
            Ok(Route::Local(local))
        };
    }
    let mut reason = NoRoute::Unknown;
    for (upstream, name) in upstreams.serving(model) {
        if !access.allows_upstream(upstream.name()) {
            reason = NoRoute::MayNotLeave;
        } else if !access.allows_model(name) {
            reason = NoRoute::NotInPlan;
        } else {
            return Ok(Route::Upstream(upstream, name));
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_model;
    use crate::upstream::UpstreamConfig;

    struct Key {
        parameters: u64,
        upstream: &'static str,
        /// A model that is not in the plan.
        without: &'static str,
        /// Whether own models are.
        own: bool,
    }

    impl Access for Key {
        fn allows_parameters(&self, parameters: u64) -> bool {
            parameters <= self.parameters
        }
        fn allows_model(&self, model: &str) -> bool {
            model != self.without
        }
        fn allows_own_model(&self, _: &str) -> bool {
            self.own
        }
        fn allows_upstream(&self, upstream: &str) -> bool {
            upstream == self.upstream
        }
    }

    fn place(model: &str, key: &Key) -> Result<String, NoRoute> {
        let registry = Registry::test(vec![test_model("small", 1), test_model("large", 9)]);
        let upstream = |name: &str, models: &[&str]| UpstreamConfig {
            name: name.into(),
            base_url: "http://127.0.0.1:1/v1".into(),
            key: None,
            models: models.iter().map(ToString::to_string).collect(),
            aliases: [("fast".to_owned(), models[0].to_owned())].into(),
        };
        let upstreams = Upstreams::new(vec![upstream("a", &["big", "small"]), upstream("b", &["big"])]).unwrap();
        route(model, &registry, &upstreams, key).map(|route| match route {
            Route::Local(model) => format!("local {}", model.id),
            Route::Upstream(upstream, model) => format!("{} {model}", upstream.name()),
        })
    }

    #[tokio::test]
    async fn local_wins_and_leaving_needs_permission() {
        let home = Key { parameters: 5, upstream: "", without: "", own: true };
        let away = Key { parameters: 5, upstream: "b", without: "", own: true };
        let narrow = |without| Key { without, ..away };
        assert_eq!(place("small", &narrow("small")), Err(NoRoute::NotInPlan));
        // The name is the server's own: an alias is no way around.
        assert_eq!(place("fast", &narrow("big")), Err(NoRoute::NotInPlan));
        assert_eq!(place("fast", &narrow("fast")), Ok("b big".into()));
        // None of these is in the catalogue.
        assert_eq!(place("small", &Key { own: false, ..away }), Err(NoRoute::OwnModel));
        assert_eq!(place("small", &away), Ok("local small".into()));
        assert_eq!(place("large", &away), Err(NoRoute::TooLargeForPlan));
        assert_eq!(place("big", &home), Err(NoRoute::MayNotLeave));
        assert_eq!(place("big", &away), Ok("b big".into()));
        assert_eq!(place("fast", &away), Ok("b big".into()));
        assert_eq!(place("nowhere", &away), Err(NoRoute::Unknown));
    }
}
