//! Which service publishes which port. Pure.
//!
//! A port of the whole cluster has one service. One that tasks publish on their own machines may have several, which
//! are then kept apart by the scheduler.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ServiceId;
use crate::model::plane::{Protocol, Published};

/// Numbers that are chosen where none is asked for, as Docker's.
pub(super) const FIRST: u16 = 30_000;

/// The last of them.
pub(super) const LAST: u16 = 32_767;

/// The ports in use.
#[derive(Debug)]
pub(super) struct Ports {
    users: BTreeMap<(Protocol, u16), BTreeSet<(ServiceId, bool)>>,
    by_service: BTreeMap<ServiceId, Vec<Published>>,
    /// Where to go on: what was given back is the last to be given again.
    next: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            users: BTreeMap::new(),
            by_service: BTreeMap::new(),
            next: FIRST,
        }
    }
}

impl Ports {
    /// A service publishes these, and no others. True when something was given back.
    pub(super) fn put(&mut self, service: ServiceId, ports: &[Published]) -> bool {
        let known = self.by_service.get(&service).map_or(&[][..], |it| it);
        if known == ports {
            return false;
        }
        let old = self.by_service.remove(&service).unwrap_or_default();
        for port in &old {
            let key = (port.protocol, port.published);
            if let Some(users) = self.users.get_mut(&key) {
                users.remove(&(service, port.host));
                if users.is_empty() {
                    self.users.remove(&key);
                }
            }
        }
        for port in ports {
            let users = self.users.entry((port.protocol, port.published));
            users.or_default().insert((service, port.host));
        }
        if !ports.is_empty() {
            self.by_service.insert(service, ports.to_vec());
        }
        !old.is_empty()
    }

    /// Another service that keeps this one from a port.
    pub(super) fn taken(
        &self,
        service: ServiceId,
        protocol: Protocol,
        number: u16,
        host: bool,
    ) -> Option<ServiceId> {
        let users = self.users.get(&(protocol, number))?.iter();
        let mut others = users.filter(|(user, on_host)| *user != service && !(host && *on_host));
        others.next().map(|(user, _)| *user)
    }

    /// A number that nobody has, nor is in `own`; `None` when there is none.
    pub(super) fn choose(&mut self, protocol: Protocol, own: &[Published]) -> Option<u16> {
        let all = (self.next..=LAST).chain(FIRST..self.next);
        let mut free = all.filter(|number| {
            !self.users.contains_key(&(protocol, *number))
                && !own
                    .iter()
                    .any(|port| (port.protocol, port.published) == (protocol, *number))
        });
        let found = free.next()?;
        self.next = if found == LAST { FIRST } else { found + 1 };
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(published: u16, host: bool) -> Published {
        Published {
            protocol: Protocol::Tcp,
            target: 80,
            published,
            host,
        }
    }

    #[test]
    fn a_port_of_the_cluster_has_one_service() {
        let (a, b) = (ServiceId::from_bits(1), ServiceId::from_bits(2));
        let mut ports = Ports::default();
        ports.put(a, &[port(80, false), port(81, true)]);
        let taken = |ports: &Ports, number, host| ports.taken(b, Protocol::Tcp, number, host);
        assert_eq!(taken(&ports, 80, false), Some(a));
        assert_eq!(taken(&ports, 80, true), Some(a));
        assert_eq!(taken(&ports, 81, false), Some(a));
        assert_eq!(taken(&ports, 81, true), None);
        assert_eq!(ports.taken(a, Protocol::Tcp, 80, false), None);
        assert_eq!(ports.taken(b, Protocol::Udp, 80, false), None);
        assert!(ports.put(a, &[]));
        assert_eq!(taken(&ports, 80, false), None);
        assert!(!ports.put(a, &[]));
    }

    #[test]
    fn numbers_go_round_until_none_is_left() {
        let mut ports = Ports::default();
        let mut own: Vec<Published> = Vec::new();
        while let Some(number) = ports.choose(Protocol::Tcp, &own) {
            own.push(port(number, false));
        }
        assert_eq!(own.len(), usize::from(LAST - FIRST) + 1);
        assert_eq!((own[0].published, own[1].published), (FIRST, FIRST + 1));
        assert_eq!(ports.choose(Protocol::Udp, &own), Some(FIRST));
        let given_back = own.remove(100).published;
        assert_eq!(ports.choose(Protocol::Tcp, &own), Some(given_back));
    }
}
