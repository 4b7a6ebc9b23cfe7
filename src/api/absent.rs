//! Objects of kinds that are not kept in this version: secrets, configs and networks of the cluster.
//!
//! What is listed is what there is, so that clients that only look (`docker stack deploy`, `docker stack rm`) go on;
//! what would make one is refused. The machine's network and no network are there, as in Docker.

use axum::http::Method;
use axum::response::Response;
use futures_util::future::BoxFuture;

use super::backend::{Leader, Refusal, RefusalClass};
use super::call::Call;
use super::dto::network::NetworkDto;
use super::error::{Handled, json};
use super::filters::Filters;
use super::lookup::{self, LookupError};
use super::services::surroundings::{HOST, NONE};

/// A kind of object of which there are none.
#[derive(Clone, Copy, Debug)]
struct Kind {
    one: &'static str,
    many: &'static str,
}

const SECRET: Kind = Kind {
    one: "secret",
    many: "secrets",
};

const CONFIG: Kind = Kind {
    one: "config",
    many: "configs",
};

impl Kind {
    fn answer<'a>(self, call: &'a Call) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            if !call.id.is_empty() {
                return Err(Refusal::from(LookupError::NotFound {
                    kind: self.one,
                    input: call.id.clone(),
                }));
            }
            if call.method != Method::GET {
                return Err(not_kept(self.many));
            }
            Filters::parse(
                call.params.text("filters"),
                &["id", "label", "name", "names"],
            )?;
            Ok(json::<[(); 0]>(&[]))
        })
    }
}

fn not_kept(kinds: &str) -> Refusal {
    Refusal::new(
        RefusalClass::NotImplemented,
        format!("skein keeps no {kinds} in this version: none can be made"),
    )
}

/// `GET /plugins`.
pub(super) async fn plugins() -> Response {
    json::<[(); 0]>(&[])
}

/// Everything of `/secrets`.
pub(super) fn secrets<'a>(_leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    SECRET.answer(call)
}

/// Everything of `/configs`.
pub(super) fn configs<'a>(_leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    CONFIG.answer(call)
}

/// What `GET /networks` filters by.
const NETWORK_FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// `GET /networks`.
pub(super) fn networks<'a>(_leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let filters = Filters::parse(call.params.text("filters"), NETWORK_FILTERS)?;
        let fits = |network: &NetworkDto| {
            filters.contained("name", network.name)
                && filters.prefix("id", network.name)
                && filters.exact("driver", network.driver())
                && filters.exact("scope", "local")
                && filters.exact("type", "builtin")
                && filters.labels("label", &network.labels)
                && !filters
                    .values("dangling")
                    .any(|wanted| matches!(wanted, "true" | "1"))
        };
        let found: Vec<NetworkDto> = [HOST, NONE]
            .into_iter()
            .map(|name| NetworkDto::of(name, false))
            .filter(fits)
            .collect();
        Ok(json(&found))
    })
}

/// `GET /networks/{id}` and `DELETE`.
pub(super) fn network<'a>(_leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let of_cluster = call.params.text("scope") == "swarm";
        let known = [HOST, NONE].map(|name| NetworkDto::of(name, of_cluster));
        let found = lookup::find(
            "network",
            &call.id,
            known.iter(),
            |network| network.name.to_owned(),
            |network| [network.name],
        )?;
        if call.method == Method::DELETE {
            return Err(Refusal::new(
                RefusalClass::Forbidden,
                format!(
                    "{} is a pre-defined network and cannot be removed",
                    found.name
                ),
            ));
        }
        Ok(json(found))
    })
}

/// `POST /networks/create`.
pub(super) fn create_network<'a>(
    _leader: &'a dyn Leader,
    _call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        Err(Refusal::new(
            RefusalClass::NotImplemented,
            "skein makes no networks in this version: attach services to the network \"host\", or to none",
        ))
    })
}
