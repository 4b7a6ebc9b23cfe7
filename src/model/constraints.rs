//! The grammar of placement constraints, and what of a node they speak of.
//!
//! The API parses what users write and shows [`ConstraintError`]; the scheduler, the orchestrator of global services
//! and the enforcer ask [`matches_node`]. Docker's rules: keys and values are compared without regard to case, the
//! name of a label with it; what a node does not have is the empty text; an unknown key is never true.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Node, NodeStatus, Platform, Role};

/// Why a text is no constraint. The words are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It compares nothing.
    #[error("constraint expected one operator from ==, !=")]
    Operator,
    /// What stands before the operator.
    #[error("key '{0}' is invalid")]
    Key(String),
    /// What stands behind it.
    #[error("value '{0}' is invalid")]
    Value(String),
}

/// What of a node can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `node.id`.
    Id,
    /// `node.hostname`.
    Hostname,
    /// `node.ip`.
    Ip,
    /// `node.role`.
    Role,
    /// `node.platform.os`.
    Os,
    /// `node.platform.arch`.
    Arch,
    /// `node.labels.…`.
    NodeLabel(String),
    /// `engine.labels.…`.
    EngineLabel(String),
}

impl Subject {
    /// What a key names; `None` when it is nothing that there is.
    pub(crate) fn of(key: &str) -> Option<Self> {
        let label = |prefix: &str| {
            let (head, name) = key.split_at_checked(prefix.len())?;
            let named = head.eq_ignore_ascii_case(prefix) && !name.is_empty();
            named.then(|| name.to_owned())
        };
        if let Some(name) = label("node.labels.") {
            return Some(Self::NodeLabel(name));
        }
        if let Some(name) = label("engine.labels.") {
            return Some(Self::EngineLabel(name));
        }
        Some(match key.to_ascii_lowercase().as_str() {
            "node.id" => Self::Id,
            "node.hostname" => Self::Hostname,
            "node.ip" => Self::Ip,
            "node.role" => Self::Role,
            "node.platform.os" => Self::Os,
            "node.platform.arch" => Self::Arch,
            _ => return None,
        })
    }
}

/// What can be compared of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    pub(crate) hostname: String,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) role: Role,
    pub(crate) platform: Platform,
    pub(crate) node_labels: BTreeMap<String, String>,
    pub(crate) engine_labels: BTreeMap<String, String>,
}

impl Facts {
    /// Those of a node; its address is the one that it is seen at, or was last reached at.
    pub(crate) fn of(node: &Node, status: Option<&NodeStatus>) -> Self {
        let seen = status.and_then(|status| status.addr);
        let addr = seen.or_else(|| node.addresses.first().copied());
        Self {
            id: node.id.to_string(),
            hostname: node.description.hostname.clone(),
            ip: addr.map(|addr| addr.ip().to_canonical()),
            role: node.shown_role(),
            platform: node.description.platform.clone(),
            node_labels: node.spec.labels.clone(),
            engine_labels: node.description.engine_labels.clone(),
        }
    }

    /// The text that stands there; empty when the node has none.
    pub(crate) fn text(&self, subject: &Subject) -> &str {
        match subject {
            Subject::Id => &self.id,
            Subject::Hostname => &self.hostname,
            Subject::Ip => "",
            Subject::Role => match self.role {
                Role::Worker => "worker",
                Role::Manager => "manager",
            },
            Subject::Os => &self.platform.os,
            Subject::Arch => &self.platform.architecture,
            Subject::NodeLabel(name) => self.node_labels.get(name).map_or("", String::as_str),
            Subject::EngineLabel(name) => self.engine_labels.get(name).map_or("", String::as_str),
        }
    }
}

/// One constraint, `key==value` or `key!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    subject: Option<Subject>,
    equal: bool,
    value: String,
}

impl Constraint {
    /// Reads it. A key that is well formed and names nothing is no error, but is never true.
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let split = text.split_once("==").map(|parts| (parts, true));
        let split = split.or_else(|| text.split_once("!=").map(|parts| (parts, false)));
        let ((key, value), equal) = split.ok_or(ConstraintError::Operator)?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(ConstraintError::Key(key.into()));
        }
        if value.is_empty() || !value.chars().all(is_of_value) {
            return Err(ConstraintError::Value(value.into()));
        }
        Ok(Self {
            subject: Subject::of(key),
            equal,
            value: value.into(),
        })
    }

    /// Whether it holds on a node of which this is known.
    pub(crate) fn holds(&self, facts: &Facts) -> bool {
        let Some(subject) = &self.subject else {
            return false;
        };
        let same = match subject {
            Subject::Ip => match contains(&self.value, facts.ip) {
                Some(within) => within,
                None => return false,
            },
            Subject::Id
            | Subject::Hostname
            | Subject::Role
            | Subject::Os
            | Subject::Arch
            | Subject::NodeLabel(_)
            | Subject::EngineLabel(_) => self.value.eq_ignore_ascii_case(facts.text(subject)),
        };
        same == self.equal
    }
}

/// Whether a node meets all constraints of a service. One that does not parse is never met.
pub fn matches_node(constraints: &[String], node: &Node, status: Option<&NodeStatus>) -> bool {
    if constraints.is_empty() {
        return true;
    }
    let facts = Facts::of(node, status);
    let mut all = constraints.iter();
    all.all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.holds(&facts)))
}

/// A letter or an underscore, and then at least one of these, digits, `-` and `.`.
fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    let first = bytes.next();
    first.is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && key.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_of_value(one: char) -> bool {
    one.is_ascii_alphanumeric() || ":-_. \t\n\r\u{c}*()?+[]\\^$|/".contains(one)
}

/// Whether an address is, or lies in, what the text names; `None` when the text names no address and no network.
fn contains(text: &str, ip: Option<IpAddr>) -> Option<bool> {
    if let Ok(one) = text.parse::<IpAddr>() {
        return Some(ip == Some(one.to_canonical()));
    }
    let (base, bits) = text.split_once('/')?;
    let base: IpAddr = base.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let (base, width): (_, u32) = match base {
        IpAddr::V4(base) => (u128::from(base.to_bits()), 32),
        IpAddr::V6(base) => (base.to_bits(), 128),
    };
    let host = width.checked_sub(bits)?;
    let inside = |ip: u128| ip.checked_shr(host) == base.checked_shr(host);
    Some(match (ip, width) {
        (Some(IpAddr::V4(ip)), 32) => inside(ip.to_bits().into()),
        (Some(IpAddr::V6(ip)), 128) => inside(ip.to_bits()),
        (Some(_) | None, _) => false,
    })
}

#[cfg(test)]
mod tests;
