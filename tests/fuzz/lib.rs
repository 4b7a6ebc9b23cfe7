//! What the fuzz targets share: the checks, and where a fuzzer begins.

use std::path::Path;

pub mod checks;

/// Writes a target's samples into the folder that `SKEIN_FUZZ_SAMPLES` names, if it names one.
pub fn write(samples: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("SKEIN_FUZZ_SAMPLES") else {
        return;
    };
    for (number, sample) in samples().iter().enumerate() {
        let path = Path::new(&folder).join(format!("sample-{number}"));
        std::fs::write(&path, sample).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
