//! A container's own directory: its configuration, the three files of `/etc`, and what must outlive a daemon and a
//! machine: that it was made, that it was started, how it ended.
//!
//! ```text
//! <state_dir>/<id>/config.json  hostname  hosts  resolv.conf
//!                  created      the container is whole
//!                  started.json its process was begun: written after its task exists, before it runs; on disk for
//!                               good when it is told to run
//!                  exit.json    its process has ended, and its task is settled
//!                  stdin        FIFO of a container that is given input
//! ```
//!
//! A file is complete or not there: written aside, synced where that matters, and renamed. All else in the directory
//! belongs to the logger.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::spec::texts;
use crate::model::container::Exit;
use crate::model::{ContainerConfig, ContainerId, Timestamp};

/// What is the runtime's, and goes with the container. The configuration stays: it says how its logs are read.
const OURS: [&str; 9] = [
    "created",
    "started.json",
    "exit.json",
    "hostname",
    "hosts",
    "resolv.conf",
    "stdin",
    "stdout",
    "stderr",
];

/// Begins the name of each directory of an execution.
pub(super) const EXEC_PREFIX: &str = "exec-";

/// That a process was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedMark {
    pub(super) pid: u32,
    pub(super) at: Timestamp,
    /// The boot of the machine in which it was.
    pub(super) boot: String,
    /// Where its shim listens; empty when that is not known.
    #[serde(default)]
    pub(super) shim: PathBuf,
}

/// One container's directory.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn of(state_dir: &Path, id: ContainerId) -> Self {
        Self(state_dir.join(id.to_string()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes it with all that the container's task needs to find there.
    pub(super) fn make(&self, config: &ContainerConfig) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)?;
        let machine = |path| fs::read_to_string(path).unwrap_or_default();
        let hosts = texts::hosts(config, &machine("/etc/hosts"));
        let resolv = texts::resolv_conf(config, &machine("/etc/resolv.conf"));
        for (name, text) in [
            ("hostname", texts::hostname_file(config)),
            ("hosts", hosts),
            ("resolv.conf", resolv),
        ] {
            // Bound into the container, where everybody reads them.
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o644);
            options.open(self.join(name))?.write_all(text.as_bytes())?;
        }
        self.write("config.json", config)
    }

    pub(super) fn config(&self) -> io::Result<Option<ContainerConfig>> {
        self.read("config.json")
    }

    pub(super) fn write_config(&self, config: &ContainerConfig) -> io::Result<()> {
        self.write("config.json", config)
    }

    pub(super) fn mark_created(&self) -> io::Result<()> {
        File::create(self.join("created")).map(drop)
    }

    pub(super) fn is_created(&self) -> bool {
        self.join("created").exists()
    }

    /// When it was made; the beginning of time when nothing tells.
    pub(super) fn made_at(&self) -> io::Result<Timestamp> {
        match fs::metadata(self.join("created")) {
            Ok(about) => about.modified().map(super::look::timestamp),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Timestamp::default()),
            Err(error) => Err(error),
        }
    }

    /// There for every later life of ours, and for later ones of the machine after [`Folder::sync_started`].
    pub(super) fn mark_started(&self, mark: &StartedMark) -> io::Result<()> {
        self.put("started.json", mark, false)
    }

    pub(super) fn sync_started(&self) -> io::Result<()> {
        File::open(self.join("started.json"))?.sync_data()
    }

    pub(super) fn unmark_started(&self) -> io::Result<()> {
        remove_file(&self.join("started.json"))
    }

    pub(super) fn started(&self) -> io::Result<Option<StartedMark>> {
        self.read("started.json")
    }

    /// Not synced: only a machine that is switched off could lose it, and only for the moment until it has been told
    /// and is in the ledger.
    pub(super) fn mark_exit(&self, exit: &Exit) -> io::Result<()> {
        self.put("exit.json", exit, false)
    }

    pub(super) fn exit(&self) -> io::Result<Option<Exit>> {
        self.read("exit.json")
    }

    /// Removes all that says that a process was, and the FIFOs that it was connected by.
    pub(super) fn begin_again(&self) -> io::Result<()> {
        for name in ["stdin", "stdout", "stderr", "started.json", "exit.json"] {
            remove_file(&self.join(name))?;
        }
        Ok(())
    }

    /// Removes what is the runtime's, and leaves the logs.
    pub(super) fn clear(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(EXEC_PREFIX) {
                fs::remove_dir_all(entry.path())?;
            } else if OURS.contains(&&*name) {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes all of it, the logs too.
    pub(super) fn purge(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.put(name, value, true)
    }

    fn put(&self, name: &str, value: &impl Serialize, durably: bool) -> io::Result<()> {
        let aside = self.join(&format!(".{name}"));
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        if durably {
            file.sync_data()?;
        }
        fs::rename(&aside, self.join(name))
    }

    /// `None` when it is not there, or was never complete.
    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.join(name)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Which boot of the machine this is.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
