//! `/configs`: what [`dependencies`] does, for configs.

use futures_util::future::BoxFuture;

use super::backend::Leader;
use super::call::Call;
use super::dependencies;
use super::error::Handled;
use crate::model::DependencyKind::Config;

/// `GET /configs`.
pub(super) fn list<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::list(Config, leader, call)
}

/// `GET /configs/{id}`.
pub(super) fn inspect<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::inspect(Config, leader, call)
}

/// `POST /configs/create`.
pub(super) fn create<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::create(Config, leader, call)
}

/// `POST /configs/{id}/update`.
pub(super) fn update<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::update(Config, leader, call)
}

/// `DELETE /configs/{id}`.
pub(super) fn remove<'a>(leader: &'a dyn Leader, call: &'a Call) -> BoxFuture<'a, Handled> {
    dependencies::remove(Config, leader, call)
}
