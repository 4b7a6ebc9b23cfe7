//! The name of this daemon on its machine, made at the first start and kept with its data: `<data-root>/instance`.
//!
//! Two daemons on one machine must never share a namespace of containerd, nor one daemon's past with another's: what
//! runs containers knows them by namespace and ID alone. So the name goes with the data, not with the node's identity,
//! which changes with each cluster.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rand::Rng;

/// What every name begins with; `ctr namespaces ls` shows whose it is.
const PREFIX: &str = "skein-";

/// The name cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {verb}", .path.display())]
pub struct InstanceError {
    path: PathBuf,
    verb: &'static str,
    #[source]
    source: io::Error,
}

/// This daemon's namespace in containerd: `skein-` and eight hexadecimal digits. Durable on return.
pub fn namespace(data_root: &Path) -> Result<String, InstanceError> {
    let path = data_root.join("instance");
    let failed = |verb| {
        let path = path.clone();
        move |source| InstanceError { path, verb, source }
    };
    match std::fs::read_to_string(&path) {
        Ok(text) if is_name(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {
            let damaged = io::Error::new(io::ErrorKind::InvalidData, "it holds no name");
            return Err(failed("used")(damaged));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    let name = format!("{PREFIX}{:08x}", rand::rng().random::<u32>());
    let write = || {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(data_root)?.sync_all()
    };
    write().map_err(failed("written"))?;
    Ok(name)
}

fn is_name(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX).unwrap_or_default();
    digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_with_its_data() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = namespace(one.path()).unwrap();
        assert!(is_name(&name), "{name}");
        assert_eq!(namespace(one.path()).unwrap(), name);
        assert_ne!(namespace(other.path()).unwrap(), name);
    }

    #[test]
    fn a_damaged_name_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("instance"), "../x").unwrap();
        let error = namespace(root.path()).unwrap_err().to_string();
        assert!(error.ends_with("instance cannot be used"), "{error}");
    }
}
