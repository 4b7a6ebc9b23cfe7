//! What is known of a volume, in a file beside its data: replaced as a whole, on disk when a save returns.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// Its name in the volume's directory.
const FILE: &str = "volume.json";

/// How the file is laid out; one that is newer is not touched.
const VERSION: u32 = 1;

/// No record is larger, bytes.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) created: Timestamp,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) options: BTreeMap<String, String>,
}

impl Record {
    pub(super) const fn new(
        created: Timestamp,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Self {
        Self {
            version: VERSION,
            created,
            labels,
            options,
        }
    }

    /// The one in this directory; `None` when there is none.
    pub(super) fn load(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(metadata) if metadata.len() > MAX_BYTES => {
                return Err(io::Error::other(
                    "it is too large for the record of a volume",
                ));
            }
            Err(error) => return Err(error),
            Ok(_) => fs::read(path)?,
        };
        let record: Self = serde_json::from_slice(&text)?;
        if record.version > VERSION {
            let words = format!(
                "it has layout {}, this program knows {VERSION}: it was written by a newer one",
                record.version
            );
            return Err(io::Error::other(words));
        }
        Ok(Some(record))
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let fresh = dir.join(".volume.json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(fresh, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_the_first_layout_is_still_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), None);
        let map = |key: &str| [(key.to_string(), "x".to_string())].into();
        let record = Record::new(
            Timestamp::from_nanos(1_700_000_000_000_000_000),
            map("l"),
            map("o"),
        );
        record.save(dir.path()).unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), Some(record.clone()));
        let golden = r#"{"version":1,"created":"2023-11-14T22:13:20Z","labels":{"l":"x"},"options":{"o":"x"}}"#;
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), golden);
        let newer = golden.replacen('1', "2", 1);
        fs::write(dir.path().join(FILE), newer).unwrap();
        let words = Record::load(dir.path()).unwrap_err().to_string();
        assert!(words.contains("newer"), "{words}");
    }
}
