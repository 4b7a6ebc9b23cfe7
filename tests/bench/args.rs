//! What is to be measured, and how thoroughly.

use std::path::PathBuf;

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// Fewer repeats and smaller clusters: minutes in all.
    pub(crate) quick: bool,
    /// Where JSON lines are appended.
    pub(crate) json: Option<PathBuf>,
    only: Vec<String>,
}

impl Options {
    /// Reads the arguments; `names` are the measurements that there are. The error is for the user.
    pub(crate) fn parse(
        arguments: impl Iterator<Item = String>,
        names: &[&str],
    ) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            json: None,
            only: Vec::new(),
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => {
                    let path = arguments.next().ok_or("--json needs a path")?;
                    options.json = Some(path.into());
                }
                // Cargo adds it for each benchmark.
                "--bench" => {}
                name if names.contains(&name) => options.only.push(argument),
                other => return Err(format!("`{other}` is no measurement and no option")),
            }
        }
        Ok(options)
    }

    /// Whether a measurement was asked for; all are when none is named.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// One of two sizes.
    pub(crate) fn size<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}
