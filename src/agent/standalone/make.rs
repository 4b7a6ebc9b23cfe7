//! Making a standalone container: all of it, or nothing is left.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::plan::{self, Planned, Surroundings};
use super::record::Record;
use super::supplies::{Machine, Supplies};
use super::{MakeError, Shared, Standalone, life::Phase, lock, names, work};
use crate::agent::runner::stock::HealthExec;
use crate::model::container::{ImageRef, Mount, MountSource};
use crate::model::standalone::Wanted;
use crate::model::{ContainerId, ImageConfig};

/// Names that are made up before one is given up.
const ATTEMPTS: usize = 20;

/// Holds a name for a container that is being made; one that was not made lets it go.
struct Name<'a, M, S, H> {
    shared: &'a Shared<M, S, H>,
    name: String,
    kept: bool,
}

impl<M, S, H> Drop for Name<'_, M, S, H> {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.shared.book).names.remove(&self.name);
        }
    }
}

impl<M: Machine, S: Supplies, H: HealthExec> Standalone<M, S, H> {
    /// Makes a container, which does not run yet. Goes on to its end when whoever asks goes away.
    pub async fn create(&self, wanted: Wanted) -> Result<ContainerId, MakeError> {
        let shared = self.0.clone();
        let made = self.0.tasks.spawn(async move {
            // What a daemon that stops leaves half made, the next one removes.
            let stop = shared.stop.clone();
            let made = Box::pin(shared.make(wanted));
            stop.run_until_cancelled(made).await
        });
        let made = made.await.ok().flatten();
        made.unwrap_or(Err(MakeError::Stopping))
    }

    /// Which container a name, an ID or the beginning of one stands for.
    pub fn find(&self, name: &str) -> Option<ContainerId> {
        self.0.find(name)
    }
}

impl<M, S, H> Shared<M, S, H> {
    pub(super) fn find(&self, name: &str) -> Option<ContainerId> {
        let name = name.trim_start_matches('/');
        let book = lock(&self.book);
        let named = book.names.get(name).copied();
        if let Some(id) = named.or_else(|| name.parse().ok()) {
            return book.entries.contains_key(&id).then_some(id);
        }
        let mut begin = book
            .entries
            .keys()
            .filter(|id| !name.is_empty() && id.to_string().starts_with(name));
        let first = begin.next().copied();
        first.filter(|_| begin.next().is_none())
    }

    fn reserve(&self, wanted: &str, id: ContainerId) -> Result<Name<'_, M, S, H>, MakeError> {
        let mut book = lock(&self.book);
        let name = match wanted.trim_start_matches('/') {
            "" => (0..ATTEMPTS)
                .map(names::made_up)
                .find(|name| !book.names.contains_key(name))
                .ok_or_else(|| MakeError::Invalid("no name is free".into()))?,
            name if !names::is_name(name) => {
                return Err(MakeError::Invalid(format!(
                    "Invalid container name ({wanted}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                )));
            }
            name => name.to_owned(),
        };
        if let Some(holder) = book.names.get(&name) {
            let holder = *holder;
            return Err(MakeError::NameTaken { name, holder });
        }
        book.names.insert(name.clone(), id);
        Ok(Name {
            shared: self,
            name,
            kept: false,
        })
    }
}

impl<M: Machine, S: Supplies, H: HealthExec> Shared<M, S, H> {
    async fn make(self: &Arc<Self>, mut wanted: Wanted) -> Result<ContainerId, MakeError> {
        let id = ContainerId::from_bytes(rand::random());
        let found = self.tools.supplies.image(&wanted.image).await;
        let found = found.map_err(MakeError::Supplies)?;
        let missing = || MakeError::NoSuchImage(wanted.image.clone());
        let (image, of_image) = found.ok_or_else(missing)?;
        wanted.init.get_or_insert(self.tools.init);
        let mut name = self.reserve(&wanted.name, id)?;
        wanted.name.clone_from(&name.name);
        let planned = self.plan(&wanted, (&name.name, id), (&image, &of_image))?;
        let mut record = Record::new(
            wanted,
            planned.shown.clone(),
            planned.config.clone(),
            (self.tools.clock)(),
        );
        record.health.clone_from(&planned.health);
        let volumes = planned.volumes.iter().map(|(_, volume)| volume);
        record.volumes = volumes.clone().map(|volume| volume.name.clone()).collect();
        let own = volumes.filter(|volume| volume.anonymous);
        record.anonymous = own.map(|volume| volume.name.clone()).collect();
        self.shelf.save(&record).map_err(MakeError::Disk)?;
        if let Err(error) = self.equip(&mut record, &planned, &image).await {
            self.undo(&record).await;
            return Err(error);
        }
        name.kept = true;
        info!(container = ?id, name = record.config.name, image = image.name, "container made");
        self.tools.happenings.tell_of(&record.config, "create", &[]);
        work::employ(self, record, false);
        Ok(id)
    }

    fn plan(
        &self,
        wanted: &Wanted,
        called: (&str, ContainerId),
        image: (&ImageRef, &ImageConfig),
    ) -> Result<Planned, MakeError> {
        let around = Surroundings {
            find: &|name| self.find(name),
            mounts_of: &|id| {
                let entry = self.entry(id).ok();
                entry.map_or_else(Vec::new, |entry| entry.record().mounts)
            },
        };
        plan::container(wanted, called, image, &around)
    }

    /// Its volumes, its binds, and the container itself.
    async fn equip(
        &self,
        record: &mut Record,
        planned: &Planned,
        image: &ImageRef,
    ) -> Result<(), MakeError> {
        let supplies = &self.tools.supplies;
        let id = record.config.id;
        for (at, mount) in record.config.mounts.iter().enumerate() {
            if let MountSource::Bind { path, .. } = &mount.source {
                let there = supplies.bind(path, planned.make_binds.contains(&at));
                there.await.map_err(MakeError::Supplies)?;
            }
        }
        for (at, wanted) in &planned.volumes {
            let path = supplies.volume(id, image, wanted).await;
            let path = path.map_err(MakeError::Supplies)?;
            if let Some(mount) = record.config.mounts.get_mut(*at) {
                place(mount, path);
            }
        }
        let created = self.tools.runtime.create(&record.config).await;
        created.map_err(MakeError::Runtime)?;
        record.life.phase = Phase::Created;
        self.shelf.save(record).map_err(MakeError::Disk)
    }

    /// Removes what there is of a container that was not made. What cannot be removed now goes with the next daemon.
    async fn undo(&self, record: &Record) {
        let id = record.config.id;
        let tools = &self.tools;
        let undone = async {
            let removed = tools.runtime.remove(id).await;
            removed.map_err(|error| error.to_string())?;
            let released = tools.supplies.release(id, &record.anonymous).await;
            released.map_err(|error| error.to_string())?;
            self.shelf.remove(id).map_err(|error| error.to_string())
        };
        if let Err(error) = undone.await {
            warn!(container = ?id, error, "what was left of a failed container was not removed");
        }
    }
}

/// Puts a volume's directory in its place.
fn place(mount: &mut Mount, path: PathBuf) {
    mount.source = MountSource::Bind {
        path,
        propagation: String::new(),
        non_recursive: false,
        depth: Default::default(),
    };
}
