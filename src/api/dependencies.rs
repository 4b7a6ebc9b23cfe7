//! `/secrets` and `/configs`: list, inspect, create, update, remove. Each runs at the leader.
//!
//! Both are the same but for their limits, and for who is shown the bytes. [`super::secrets`] and [`super::configs`] say
//! which is meant.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::future::BoxFuture;

use super::backend::{ClusterView, Leader, Refusal, RefusalClass};
use super::call::Call;
use super::dto::dependency::{Created, DependencyDto};
use super::error::{Handled, created, done, json};
use super::filters::Filters;
use super::lookup::{self, LookupError};
use crate::model::{Dependency, DependencyKind, DependencySpec};

/// Longest name, characters.
const NAME_LENGTH: usize = 64;

/// The one language of templates that there is.
const TEMPLATES: &str = "golang";

/// Why a secret or a config cannot be as it says; Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum DependencyProblem {
    #[error("name must be provided")]
    NoName,
    #[error(
        "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"
    )]
    Name,
    #[error("{kind} data must be larger than 0 and less than {limit} bytes")]
    Length { kind: &'static str, limit: usize },
    #[error("unrecognized template type: {0:?}")]
    Template(String),
}

impl From<DependencyProblem> for Refusal {
    fn from(problem: DependencyProblem) -> Self {
        Self::invalid(problem.to_string())
    }
}

/// `GET /secrets` and `GET /configs`.
pub(super) fn list<'a>(
    kind: DependencyKind,
    leader: &'a dyn Leader,
    call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let known: &[&str] = match kind {
            DependencyKind::Secret => &["id", "label", "name", "names"],
            DependencyKind::Config => &["id", "label", "name"],
        };
        let filters = Filters::parse(call.params.text("filters"), known)?;
        let view = leader.view().await?;
        let all = view.state.objects.dependencies_of(kind);
        let found: Vec<DependencyDto<'_>> = all
            .filter(|one| fits(&filters, one))
            .map(|one| DependencyDto::of(one))
            .collect();
        Ok(json(&found))
    })
}

/// `GET /secrets/{id}` and `GET /configs/{id}`.
pub(super) fn inspect<'a>(
    kind: DependencyKind,
    leader: &'a dyn Leader,
    call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let found = find(kind, &view, &call.id)?;
        Ok(json(&DependencyDto::of(found)))
    })
}

/// `POST /secrets/create` and `POST /configs/create`.
pub(super) fn create<'a>(
    kind: DependencyKind,
    leader: &'a dyn Leader,
    call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let spec: DependencySpec = call.json()?;
        check_name(&spec.name)?;
        if let Some(driver) = &spec.driver {
            return Err(Refusal::new(
                RefusalClass::NotImplemented,
                format!(
                    "skein has no plugins: there is no driver {:?} of secrets, leave it out and the cluster keeps the \
                     secret",
                    driver.name
                ),
            ));
        }
        check(kind, &spec)?;
        let id = leader.create_dependency(kind, spec).await?;
        Ok(created(&Created { id: id.to_string() }))
    })
}

/// `POST /secrets/{id}/update` and `POST /configs/{id}/update`.
pub(super) fn update<'a>(
    kind: DependencyKind,
    leader: &'a dyn Leader,
    call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let version = call.params.version(kind.name())?;
        let spec: DependencySpec = call.json()?;
        let view = leader.view().await?;
        let found = find(kind, &view, &call.id)?;
        leader.update_dependency(found.id, version, spec).await?;
        Ok(done())
    })
}

/// `DELETE /secrets/{id}` and `DELETE /configs/{id}`.
pub(super) fn remove<'a>(
    kind: DependencyKind,
    leader: &'a dyn Leader,
    call: &'a Call,
) -> BoxFuture<'a, Handled> {
    Box::pin(async move {
        let view = leader.view().await?;
        let found = find(kind, &view, &call.id)?;
        leader.remove_dependency(found.id).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    })
}

/// The one that a user means by an ID, a name or the beginning of an ID.
fn find<'a>(
    kind: DependencyKind,
    view: &'a ClusterView,
    input: &str,
) -> Result<&'a Dependency, LookupError> {
    lookup::find(
        kind.name(),
        input,
        view.state.objects.dependencies_of(kind).map(AsRef::as_ref),
        |one: &Dependency| one.id.to_string(),
        |one| [one.spec.name.as_str()],
    )
}

fn fits(filters: &Filters, one: &Dependency) -> bool {
    filters.prefix("id", &one.id.to_string())
        && filters.prefix("name", &one.spec.name)
        && filters.exact("names", &one.spec.name)
        && filters.labels("label", &one.spec.labels)
}

fn check(kind: DependencyKind, spec: &DependencySpec) -> Result<(), DependencyProblem> {
    let limit = kind.too_long();
    if spec.data.is_empty() || spec.data.len() >= limit {
        let kind = kind.name();
        return Err(DependencyProblem::Length { kind, limit });
    }
    match &spec.templating {
        Some(driver) if driver.name != TEMPLATES => {
            Err(DependencyProblem::Template(driver.name.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), DependencyProblem> {
    if name.is_empty() {
        return Err(DependencyProblem::NoName);
    }
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = name.len() <= NAME_LENGTH
        && name.bytes().all(allowed)
        && ends(name.as_bytes().first())
        && ends(name.as_bytes().last());
    match fits {
        true => Ok(()),
        false => Err(DependencyProblem::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::dependency::Payload;

    #[test]
    fn names_are_dockers() {
        for name in ["a", "a.b-c_d", "0", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_name(""), Err(DependencyProblem::NoName));
        for name in ["-a", "a.", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert_eq!(check_name(name), Err(DependencyProblem::Name), "{name}");
        }
    }

    #[test]
    fn bytes_have_bounds() {
        let of = |length: usize| DependencySpec {
            data: Payload::new(vec![b'x'; length]),
            ..DependencySpec::default()
        };
        for (kind, limit) in [
            (DependencyKind::Secret, 512_000),
            (DependencyKind::Config, 1_024_000),
        ] {
            assert_eq!(check(kind, &of(1)), Ok(()));
            assert_eq!(check(kind, &of(limit - 1)), Ok(()));
            for length in [0, limit] {
                let refused = check(kind, &of(length)).unwrap_err().to_string();
                let words = format!("data must be larger than 0 and less than {limit} bytes");
                assert!(refused.ends_with(&words), "{refused}");
            }
        }
    }
}
