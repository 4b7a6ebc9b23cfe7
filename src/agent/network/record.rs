//! What is known of each container that this node has wired, on disk: so that a daemon that begins anew goes on with it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::plane::{Attachment, Endpoint};
use crate::model::{ContainerId, ServiceId};

/// One container's place in the networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Its name.
    pub(super) name: String,
    /// Of which service.
    pub(super) service: Option<ServiceId>,
    /// Its places in networks of the cluster; the first has the way out.
    pub(super) attachments: Vec<Attachment>,
    /// Its address in the node's own network, when it is in no other.
    pub(super) local: Option<IpAddr>,
    /// The name servers that it is to ask for names of elsewhere; the machine's when empty.
    pub(super) servers: Vec<IpAddr>,
    /// It takes traffic.
    pub(super) serving: bool,
}

impl Record {
    /// The address that published ports of this node alone lead to.
    pub(super) fn primary(&self) -> Option<IpAddr> {
        let first = self.attachments.first();
        first.map_or(self.local, |one| one.addresses.first().copied())
    }

    /// Every address of it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let attached = self.attachments.iter().flat_map(|one| &one.addresses);
        attached.copied().chain(self.local)
    }

    /// As others are told of it.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            service: self.service,
            name: self.name.clone(),
            attachments: self.attachments.clone(),
        }
    }
}

/// The records of all containers, one file each.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    all: BTreeMap<ContainerId, Record>,
}

impl Records {
    /// Those that are there. A file that makes no sense is left out, with a line in the log.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match serde_json::from_slice(&std::fs::read(entry.path())?) {
                Ok(record) => {
                    all.insert(id, record);
                }
                Err(error) => {
                    tracing::warn!(container = %id, %error, "what was noted of its network cannot be read");
                }
            }
        }
        Ok(Self { folder, all })
    }

    /// All of them.
    pub(super) fn all(&self) -> &BTreeMap<ContainerId, Record> {
        &self.all
    }

    /// One.
    pub(super) fn get(&self, container: ContainerId) -> Option<&Record> {
        self.all.get(&container)
    }

    /// Notes one, on disk first.
    pub(super) fn put(&mut self, container: ContainerId, record: Record) -> io::Result<()> {
        if self.all.get(&container) != Some(&record) {
            write(&self.folder.join(container.to_string()), &record)?;
            self.all.insert(container, record);
        }
        Ok(())
    }

    /// Forgets one. Good when it is not there.
    pub(super) fn remove(&mut self, container: ContainerId) -> io::Result<Option<Record>> {
        match std::fs::remove_file(self.folder.join(container.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(self.all.remove(&container))
    }
}

/// Writes a value as JSON in place of what is there, all or nothing. It outlives the process, and not the machine: what
/// it tells of is gone then as well.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&text)?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (
            ContainerId::from_bytes([1; 32]),
            ContainerId::from_bytes([2; 32]),
        );
        let record = Record {
            name: "web.1".into(),
            local: Some([172, 17, 0, 2].into()),
            serving: true,
            ..Record::default()
        };
        let mut records = Records::open(folder.path().into()).unwrap();
        records.put(one, record.clone()).unwrap();
        records.put(two, record.clone()).unwrap();
        assert_eq!(records.remove(two).unwrap(), Some(record.clone()));
        assert_eq!(records.remove(two).unwrap(), None);
        std::fs::write(folder.path().join(two.to_string()), "{").unwrap();
        let again = Records::open(folder.path().into()).unwrap();
        assert_eq!(again.all(), &BTreeMap::from([(one, record)]));
    }
}
