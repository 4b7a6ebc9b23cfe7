//! The volumes themselves: what there is, who uses it, and the work on it, which blocks.
//!
//! The list is locked for moments only, a volume for as long as work on it takes. Nobody waits for a volume while
//! holding the list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::record::Record;
use super::{
    ANONYMOUS, DRIVER, NewVolume, OpenError, Pruned, Volume, VolumeError, fill, mounts, names,
    options,
};
use crate::model::{ContainerId, Timestamp};

/// Where a volume's data is, in its directory. Docker's name.
const DATA: &str = "_data";

/// Where directories of the volume are shown by themselves, one directory for each container.
const SUBPATHS: &str = "_subpaths";

/// An image's content on its way into the volume.
const FILLING: &str = "_filling";

/// What begins the name of a directory that is being removed: no volume's name begins so.
const REMOVED: &str = ".removed-";

#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    volumes: Mutex<BTreeMap<String, Arc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    /// Held while something is done to the volume.
    work: Mutex<Work>,
    /// Who uses it. Locked for moments.
    users: Mutex<BTreeSet<ContainerId>>,
}

#[derive(Debug, Default)]
struct Work {
    /// Whoever still has the entry finds nothing.
    removed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    fn new(record: Record) -> Arc<Self> {
        Arc::new(Self {
            record,
            work: Mutex::new(Work::default()),
            users: Mutex::new(BTreeSet::new()),
        })
    }
}

impl Shelf {
    pub(super) fn open(root: PathBuf) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Read { path, source }
        };
        fs::create_dir_all(&root).map_err(failed(&root))?;
        // The mount table has real paths.
        let root = root.canonicalize().map_err(failed(&root))?;
        let mut volumes = BTreeMap::new();
        for entry in fs::read_dir(&root).map_err(failed(&root))? {
            let dir = entry.map_err(failed(&root))?.path();
            let Some(name) = dir.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if name.starts_with(REMOVED) {
                if let Err(error) = sweep(&dir) {
                    warn!(path = %dir.display(), %error, "a removed volume is still on disk");
                }
            } else if names::check(name).is_ok() {
                match Record::load(&dir).map_err(failed(&dir))? {
                    Some(record) => {
                        volumes.insert(name.to_string(), Entry::new(record));
                    }
                    // A crash in the middle of making it: nobody was told of it.
                    None => {
                        drop(fs::remove_dir(dir.join(DATA)).and_then(|()| fs::remove_dir(&dir)))
                    }
                }
            }
        }
        let volumes = Mutex::new(volumes);
        Ok(Self { root, volumes })
    }

    pub(super) fn hold(&self, users: &BTreeMap<ContainerId, BTreeSet<String>>) {
        let volumes = lock(&self.volumes);
        for (container, names) in users {
            for entry in names.iter().filter_map(|name| volumes.get(name)) {
                lock(&entry.users).insert(*container);
            }
        }
    }

    pub(super) fn restore(&self, users: &BTreeMap<ContainerId, BTreeSet<String>>) {
        let volumes = lock(&self.volumes).clone();
        for (name, entry) in volumes {
            let work = lock(&entry.work);
            let holders = users.iter().filter(|(_, held)| held.contains(&name));
            lock(&entry.users).extend(holders.map(|(id, _)| *id));
            let is_free = lock(&entry.users).is_empty();
            let dir = self.root.join(&name);
            if is_free
                && !entry.record.options.is_empty()
                && let Err(error) = mounts::undo(&dir.join(DATA))
            {
                warn!(volume = %name, %error, "a volume that nobody uses is still mounted");
            }
            for container in fs::read_dir(dir.join(SUBPATHS))
                .into_iter()
                .flatten()
                .flatten()
            {
                let held =
                    |id: &ContainerId| container.file_name().to_str() == Some(&id.to_string());
                if !lock(&entry.users).iter().any(held)
                    && let Err(error) = sweep(&container.path())
                {
                    warn!(volume = %name, %error, "a part of a volume is still mounted");
                }
            }
            drop(work);
        }
    }

    pub(super) fn create(&self, new: NewVolume, now: Timestamp) -> Result<Volume, VolumeError> {
        let NewVolume {
            mut name,
            driver,
            options,
            mut labels,
        } = new;
        if name.is_empty() {
            name = names::random();
            labels.insert(ANONYMOUS.into(), String::new());
        }
        names::check(&name).map_err(|words| VolumeError::Name {
            name: name.clone(),
            words,
        })?;
        if !driver.is_empty() && driver != DRIVER {
            return Err(VolumeError::Driver { name, driver });
        }
        let mut volumes = lock(&self.volumes);
        if !volumes.contains_key(&name) {
            options::plan(&options).map_err(|words| VolumeError::Options {
                name: name.clone(),
                words,
            })?;
            let record = Record::new(now, labels, options);
            let dir = self.root.join(&name);
            let made = fs::create_dir_all(dir.join(DATA)).and_then(|()| record.save(&dir));
            made.map_err(file(&name, "it cannot be made"))?;
            volumes.insert(name.clone(), Entry::new(record));
            info!(volume = %name, "volume made");
        }
        Ok(self.describe(&name, &volumes[&name]))
    }

    pub(super) fn inspect(&self, name: &str) -> Result<Volume, VolumeError> {
        let entry = self.entry(name)?;
        Ok(self.describe(name, &entry))
    }

    pub(super) fn list(&self) -> Vec<Volume> {
        let volumes = lock(&self.volumes).clone();
        let all = volumes.iter();
        all.map(|(name, entry)| self.describe(name, entry))
            .collect()
    }

    pub(super) fn size(&self, name: &str) -> Result<u64, VolumeError> {
        let entry = self.entry(name)?;
        let data = self.data(name);
        let mounted = !entry.record.options.is_empty();
        if mounted {
            return Ok(0);
        }
        fill::size(&data).map_err(file(name, "its size cannot be told"))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let entry = self.entry(name)?;
        let mut work = lock(&entry.work);
        if work.removed {
            return Err(VolumeError::NoSuch(name.into()));
        }
        let users: Vec<String> = lock(&entry.users).iter().map(ToString::to_string).collect();
        if !users.is_empty() {
            return Err(VolumeError::InUse {
                name: name.into(),
                users: users.join(", "),
            });
        }
        // Of a random name: one of this name may still be on its way out.
        let gone = self.root.join(format!("{REMOVED}{}", names::random()));
        let dir = self.root.join(name);
        // A directory in which something is mounted could be emptied through the mount.
        let unmounted =
            mounts::undo(&self.data(name)).and_then(|()| match mounts::below(&dir)?.first() {
                None => Ok(()),
                Some(mounted) => Err(io::Error::other(format!(
                    "{} is mounted",
                    mounted.display()
                ))),
            });
        unmounted.map_err(file(name, "it cannot be unmounted"))?;
        let mut volumes = lock(&self.volumes);
        let renamed = fs::rename(&dir, &gone);
        renamed.map_err(file(name, "it cannot be removed"))?;
        volumes.remove(name);
        work.removed = true;
        drop((volumes, work));
        info!(volume = %name, "volume removed");
        // It is gone for everyone; what cannot be deleted is tried again at the next start.
        if let Err(error) = sweep(&gone) {
            warn!(volume = %name, %error, "a removed volume is still on disk");
        }
        Ok(())
    }

    pub(super) fn prune(&self, chosen: impl Fn(&Volume) -> bool) -> Pruned {
        let mut pruned = Pruned::default();
        for volume in self.list() {
            if !volume.users.is_empty() || !chosen(&volume) {
                continue;
            }
            let bytes = self.size(&volume.name).unwrap_or_default();
            match self.remove(&volume.name) {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.names.push(volume.name);
                }
                // Someone took it meanwhile, or another removed it.
                Err(VolumeError::InUse { .. } | VolumeError::NoSuch(_)) => {}
                Err(error) => warn!(volume = %volume.name, %error, "volume not pruned"),
            }
        }
        pruned
    }

    pub(super) fn mount(&self, name: &str, container: ContainerId) -> Result<PathBuf, VolumeError> {
        let data = self.data(name);
        self.work(name, |entry| {
            let plan =
                options::plan(&entry.record.options).map_err(|words| VolumeError::Options {
                    name: name.into(),
                    words,
                })?;
            let mounted = mounts::is_mounted(&data);
            let mounted = mounted.map_err(file(name, "the mount table cannot be read"))?;
            if let Some(plan) = plan.filter(|_| !mounted) {
                mounts::apply(plan, &data).map_err(|words| VolumeError::Mount {
                    target: data.clone(),
                    words,
                })?;
            }
            lock(&entry.users).insert(container);
            Ok(data.clone())
        })
    }

    pub(super) fn subpath(
        &self,
        name: &str,
        container: ContainerId,
        subpath: &Path,
    ) -> Result<PathBuf, VolumeError> {
        let failed = |reason| VolumeError::Subpath {
            path: subpath.into(),
            reason,
        };
        self.work(name, |entry| {
            self.must_hold(name, entry, container)?;
            let dir = fill::open_within(&self.data(name), subpath).map_err(failed)?;
            let shown = self
                .root
                .join(name)
                .join(SUBPATHS)
                .join(container.to_string());
            fs::create_dir_all(&shown).map_err(failed)?;
            let number = fs::read_dir(&shown).map_err(failed)?.count();
            let shown = shown.join(number.to_string());
            fs::create_dir(&shown).map_err(failed)?;
            mounts::show(dir.as_raw_fd(), &shown).map_err(failed)?;
            Ok(shown)
        })
    }

    pub(super) fn is_empty(&self, name: &str, container: ContainerId) -> Result<bool, VolumeError> {
        self.work(name, |entry| {
            self.must_hold(name, entry, container)?;
            fill::is_empty(&self.data(name)).map_err(file(name, "it cannot be read"))
        })
    }

    pub(super) fn of_path(&self, path: &Path) -> Option<String> {
        let name = path.strip_prefix(&self.root).ok()?.iter().next()?;
        let name = name.to_str()?;
        lock(&self.volumes)
            .contains_key(name)
            .then(|| name.to_owned())
    }

    pub(super) fn fill(
        &self,
        name: &str,
        container: ContainerId,
        rootfs: &Path,
        target: &Path,
    ) -> Result<(), VolumeError> {
        let data = self.data(name);
        self.work(name, |entry| {
            self.must_hold(name, entry, container)?;
            let failed = file(name, "the image's content cannot be copied into it");
            let source = match fill::open_within(rootfs, target) {
                Ok(source) => source,
                // The image has nothing there, or a file.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            };
            let alone = lock(&entry.users).len() == 1;
            let filled = fill::is_empty(&data).and_then(|empty| {
                if !empty {
                    return Ok(());
                }
                if !alone || !entry.record.options.is_empty() {
                    return fill::copy(&source, &data);
                }
                // All of it or nothing: a crash within leaves a volume that is still empty.
                let filling = self.root.join(name).join(FILLING);
                if filling.exists() {
                    fs::remove_dir_all(&filling)?;
                }
                fs::create_dir(&filling)?;
                fill::copy(&source, &filling)?;
                fs::rename(&filling, &data)
            });
            filled.map_err(failed)
        })
    }

    pub(super) fn unmount(&self, name: &str, container: ContainerId) -> Result<(), VolumeError> {
        let done = self.work(name, |entry| {
            let failed = || file(name, "it cannot be unmounted");
            let shown = self
                .root
                .join(name)
                .join(SUBPATHS)
                .join(container.to_string());
            sweep(&shown).map_err(failed())?;
            let mut users = lock(&entry.users).clone();
            users.remove(&container);
            if users.is_empty() {
                mounts::undo(&self.data(name)).map_err(failed())?;
            }
            *lock(&entry.users) = users;
            Ok(())
        });
        match done {
            Err(VolumeError::NoSuch(_)) => Ok(()),
            done => done,
        }
    }

    fn must_hold(
        &self,
        name: &str,
        entry: &Entry,
        container: ContainerId,
    ) -> Result<(), VolumeError> {
        if lock(&entry.users).contains(&container) {
            return Ok(());
        }
        let why = io::Error::other(format!("{} does not hold it", container.short()));
        Err(file(name, "only who holds it may use it")(why))
    }

    /// Does something to a volume, alone.
    fn work<T>(
        &self,
        name: &str,
        work: impl FnOnce(&Entry) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        let entry = self.entry(name)?;
        let held = lock(&entry.work);
        if held.removed {
            return Err(VolumeError::NoSuch(name.into()));
        }
        work(&entry)
    }

    fn entry(&self, name: &str) -> Result<Arc<Entry>, VolumeError> {
        let entry = lock(&self.volumes).get(name).cloned();
        entry.ok_or_else(|| VolumeError::NoSuch(name.into()))
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join(DATA)
    }

    fn describe(&self, name: &str, entry: &Entry) -> Volume {
        Volume {
            name: name.into(),
            mountpoint: self.data(name),
            created: entry.record.created,
            labels: entry.record.labels.clone(),
            options: entry.record.options.clone(),
            users: lock(&entry.users).clone(),
        }
    }
}

fn file(name: &str, doing: &'static str) -> impl Fn(io::Error) -> VolumeError + use<> {
    let name = name.to_string();
    move |source| VolumeError::File {
        name: name.clone(),
        doing,
        source,
    }
}

/// Undoes every mount in a directory and removes it with all that is in it; good when there is none.
fn sweep(dir: &Path) -> io::Result<()> {
    for mounted in mounts::below(dir)?.iter().rev() {
        mounts::undo(mounted)?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
