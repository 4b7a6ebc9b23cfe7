//! An update of a service that was acknowledged took effect, and its spec is what the service is until another update is
//! asked for or the leader takes it back because its tasks fail; one that was refused took none.
//!
//! An update names the version that it changes, so what it did is the version that came next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::history::{Answer, Ask, Entry, Record};
use crate::cluster::store::Changed;
use crate::model::{Service, ServiceId, ServiceSpec};

/// Every version of a service that any replica applied.
type Versions = BTreeMap<ServiceId, BTreeMap<u64, Arc<Service>>>;

/// An update that was asked for.
struct Asked<'r> {
    service: ServiceId,
    /// What it changes.
    version: u64,
    /// What the service is to be; `None` is what it was before.
    spec: Option<&'r ServiceSpec>,
}

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let versions = versions(records);
    let (mut asked, mut answers) = (BTreeMap::new(), BTreeMap::new());
    for record in records {
        match &record.entry {
            Entry::Asked(number, Ask::Update(service, version, spec)) => {
                let update = Asked {
                    service: *service,
                    version: *version,
                    spec: spec.as_deref(),
                };
                asked.insert(*number, update);
            }
            Entry::Answered(number, answer) => {
                answers.insert(*number, answer);
            }
            _ => {}
        }
    }
    let mut broken = Vec::new();
    for (number, update) in &asked {
        let same =
            |other: &&Asked<'_>| (other.service, other.version) == (update.service, update.version);
        let alone = asked.values().filter(same).count() == 1;
        match answers.get(number) {
            Some(Answer::Written(_)) if !update.is_done(&versions) => broken.push(format!(
                "#{number}: an update of {} was acknowledged, and never was",
                update.service
            )),
            Some(Answer::Refused(why)) if alone && update.is_done(&versions) => {
                broken.push(format!(
                    "#{number}: an update of {} was refused ({why}), and is",
                    update.service
                ));
            }
            _ => {}
        }
    }
    for (id, versions) in &versions {
        for (old, new) in versions.values().zip(versions.values().skip(1)) {
            let known = asked
                .values()
                .any(|update| update.service == *id && update.makes(old, new));
            if let Some(what) = unasked(old, new, known) {
                let version = new.meta.version;
                broken.push(format!("service {id} {what} in version {version}"));
            }
        }
    }
    broken
}

fn versions(records: &[Record]) -> Versions {
    let mut versions = Versions::new();
    for record in records {
        if let Entry::Applied(_, event) = &record.entry
            && let Changed::Service { id, new, .. } = &event.changed
            && let Some(new) = new
        {
            let known = versions.entry(*id).or_default();
            known.insert(new.meta.version, new.clone());
        }
    }
    versions
}

impl Asked<'_> {
    /// Whether what came after the version that it changes is its work.
    fn is_done(&self, versions: &Versions) -> bool {
        let Some(versions) = versions.get(&self.service) else {
            return false;
        };
        let mut next = versions.range(self.version + 1..);
        let (old, new) = (versions.get(&self.version), next.next());
        old.zip(new)
            .is_some_and(|(old, (_, new))| self.makes(old, new))
    }

    /// Whether it makes `new` of `old`.
    fn makes(&self, old: &Service, new: &Service) -> bool {
        let previous = old.previous.as_ref().map(|previous| &previous.spec);
        // What the leader takes back has nothing to go back to.
        let by_leader = new.previous.is_none();
        old.meta.version == self.version
            && new.spec_version == old.spec_version + 1
            && self.spec.or(previous) == Some(&new.spec)
            && !by_leader
    }
}

/// What has become of a service that nobody asked for, if anything has; `known` is what somebody did.
fn unasked(old: &Service, new: &Service, known: bool) -> Option<&'static str> {
    if new.spec_version < old.spec_version {
        return Some("went back");
    }
    if new.spec_version == old.spec_version {
        return (new.spec != old.spec).then_some("changed without an update");
    }
    let goes_back = new
        .update
        .as_ref()
        .is_some_and(|update| update.state.is_rollback());
    let previous = old.previous.as_ref().map(|previous| &previous.spec);
    let taken_back = goes_back && previous == Some(&new.spec);
    (!known && !taken_back).then_some("was updated by nobody")
}
