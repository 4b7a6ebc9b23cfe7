//! `/secrets`: what [`dependencies`] does, for secrets.

use futures_util::future::BoxFuture;

use super::backend::Leader;
use super::call::Call;
use super::dependencies;
use super::error::Handled;
use crate::model::DependencyKind::Secret;

/// `GET /secrets`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::list(Secret, leader, call)
}

/// `GET /secrets/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::inspect(Secret, leader, call)
}

/// `POST /secrets/create`.
pub(super) fn create<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::create(Secret, leader, call)
}

/// `POST /secrets/{id}/update`.
pub(super) fn update<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::update(Secret, leader, call)
}

/// `DELETE /secrets/{id}`.
pub(super) fn remove<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::remove(Secret, leader, call)
}
