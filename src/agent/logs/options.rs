//! Which options a log driver takes, in Docker's words where it refuses.
//!
//! Pure. [`check`] is asked when a service or container is accepted, and again by the logger itself, which reads the
//! same options from the container's configuration.

mod size;

use std::collections::BTreeMap;

use size::human_size;
pub use size::{Base, SizeError};

/// Where a container's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// JSON lines in a file.
    JsonFile,
    /// Binary records in a file, rotated and compressed.
    Local,
    /// Nowhere.
    None,
    /// The system's journal.
    Journald,
}

impl Driver {
    /// Every one, by name.
    pub const ALL: [Self; 4] = [Self::JsonFile, Self::Journald, Self::Local, Self::None];

    /// As Docker calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::None => "none",
            Self::Journald => "journald",
        }
    }

    /// The driver of this name; `json-file` for an empty one.
    pub fn named(name: &str) -> Option<Self> {
        let name = if name.is_empty() { "json-file" } else { name };
        Self::ALL.into_iter().find(|driver| driver.name() == name)
    }

    /// Whether what it wrote can be read back.
    pub const fn is_readable(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// When a file is full, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A file of so many bytes gets no further line; `None` for no end.
    pub max_size: Option<u64>,
    /// Files in all, with the one that is written; at least 1.
    pub max_files: u32,
    /// All files but the newest are compressed.
    pub compress: bool,
}

/// What goes along with each line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Names of labels.
    pub labels: Vec<String>,
    /// Labels whose name matches this, too.
    pub labels_regex: Option<String>,
    /// Names of variables.
    pub env: Vec<String>,
    /// Variables whose name matches this, too.
    pub env_regex: Option<String>,
    /// A template for the tag.
    pub tag: Option<String>,
}

/// Options that were understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The driver that takes them.
    pub driver: Driver,
    /// Of drivers that write files.
    pub rotation: Rotation,
    /// Of all drivers but `none`.
    pub attached: Attached,
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such driver.
    #[error("logger: no log driver named '{0}' is registered")]
    Driver(String),
    /// No such option.
    #[error("{}", unknown_words(*driver, name))]
    Unknown {
        /// Of this driver.
        driver: Driver,
        /// Its name.
        name: String,
    },
    /// Neither blocking nor not.
    #[error("logger: logging mode not supported: {0}")]
    Mode(String),
    /// A buffer where there is none.
    #[error("logger: max-buffer-size option is only supported with 'mode=non-blocking'")]
    BufferWithoutMode,
    /// No size.
    #[error("{context}{source}")]
    Size {
        /// What was looked at.
        context: String,
        /// What is wrong with it; stands in the message, as Docker has it in one line.
        source: SizeError,
    },
    /// Not a number that a file count can be, or no truth value.
    #[error("{0}")]
    Value(String),
    /// Zero or less.
    #[error("max-size must be a positive number")]
    MaxSize,
    /// No file at all.
    #[error("max-file cannot be less than 1")]
    MaxFile,
    /// Nothing would ever be compressed.
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    /// Nothing would ever be compressed, in the words of `local`.
    #[error("compression cannot be enabled when max file count is 1")]
    NothingToCompressLocally,
    /// A pattern that is none.
    #[error("invalid log opt {name}: {reason}")]
    Pattern {
        /// Of this option.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A template that is none.
    #[error("failed to parse log tag: {0}")]
    Tag(String),
}

fn unknown_words(driver: Driver, name: &str) -> String {
    match driver {
        Driver::Local => format!("unknown log opt '{name}' for log driver local"),
        Driver::JsonFile | Driver::Journald | Driver::None => {
            format!("unknown log opt '{name}' for {} log driver", driver.name())
        }
    }
}

/// The meaning of `options` for the driver named `driver`; of an empty name, for `json-file`.
pub fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<LogOptions, OptionError> {
    let known = Driver::named(driver);
    if known == Some(Driver::None) {
        return Ok(LogOptions {
            driver: Driver::None,
            rotation: Rotation {
                max_size: None,
                max_files: 1,
                compress: false,
            },
            attached: Attached::default(),
        });
    }
    check_mode(options)?;
    let driver = known.ok_or_else(|| OptionError::Driver(driver.into()))?;
    for name in options.keys() {
        let takes = match name.as_str() {
            "mode" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex"
            | "tag" => true,
            "max-size" | "max-file" | "compress" => driver != Driver::Journald,
            _ => false,
        };
        if !takes {
            return Err(OptionError::Unknown {
                driver,
                name: name.clone(),
            });
        }
    }
    Ok(LogOptions {
        driver,
        rotation: rotation(driver, options)?,
        attached: attached(options)?,
    })
}

/// Output is taken from the container without delay and dropped rather than waited for in either mode, so the mode
/// and its buffer change nothing; they are held to Docker's rules all the same.
fn check_mode(options: &BTreeMap<String, String>) -> Result<(), OptionError> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(OptionError::Mode(mode.into()));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(OptionError::BufferWithoutMode);
        }
        human_size(size, Base::Binary).map_err(|source| OptionError::Size {
            context: "error parsing option max-buffer-size: ".into(),
            source,
        })?;
    }
    Ok(())
}

fn rotation(driver: Driver, options: &BTreeMap<String, String>) -> Result<Rotation, OptionError> {
    let local = driver == Driver::Local;
    let before = |name: &str, value: &str| {
        if local {
            format!("invalid value for {name}: {value}: ")
        } else {
            String::new()
        }
    };
    let max_size = match options.get("max-size") {
        None => local.then_some(20 << 20),
        Some(text) => {
            let size = human_size(text, Base::Decimal).map_err(|source| OptionError::Size {
                context: before("max-size", text),
                source,
            })?;
            // Docker's `local` takes zero for "no end".
            match size {
                0 if local => None,
                0 => return Err(OptionError::MaxSize),
                size => Some(size),
            }
        }
    };
    let max_files = match options.get("max-file") {
        None => {
            if local {
                5
            } else {
                1
            }
        }
        Some(text) => match text.parse::<i64>() {
            Ok(count) if count < 1 => return Err(OptionError::MaxFile),
            Ok(count) => u32::try_from(count).unwrap_or(u32::MAX),
            Err(_) => {
                let context = before("max-file", text);
                return Err(OptionError::Value(format!(
                    "{context}strconv.Atoi: parsing {text:?}: invalid syntax"
                )));
            }
        },
    };
    let compress = match options.get("compress").map(String::as_str) {
        None => local,
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => true,
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => false,
        Some(text) => {
            let context = if local {
                "invalid boolean value for compress: "
            } else {
                ""
            };
            return Err(OptionError::Value(format!(
                "{context}strconv.ParseBool: parsing {text:?}: invalid syntax"
            )));
        }
    };
    if compress && local && max_files < 2 {
        return Err(OptionError::NothingToCompressLocally);
    }
    if compress && !local && (max_files < 2 || max_size.is_none()) {
        return Err(OptionError::NothingToCompress);
    }
    Ok(Rotation {
        max_size,
        max_files,
        compress,
    })
}

fn attached(options: &BTreeMap<String, String>) -> Result<Attached, OptionError> {
    let names = |name: &str| {
        let list = options.get(name).map_or("", String::as_str);
        let names = list.split(',').filter(|name| !name.is_empty());
        names.map(String::from).collect()
    };
    let pattern = |name: &'static str| {
        let Some(text) = options.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match super::attributes::pattern(text) {
            Ok(_) => Ok(Some(text.clone())),
            Err(error) => Err(OptionError::Pattern {
                name,
                reason: error.to_string(),
            }),
        }
    };
    let tag = options.get("tag").filter(|tag| !tag.is_empty()).cloned();
    if let Some(tag) = &tag {
        super::attributes::check_tag(tag).map_err(OptionError::Tag)?;
    }
    Ok(Attached {
        labels: names("labels"),
        labels_regex: pattern("labels-regex")?,
        env: names("env"),
        env_regex: pattern("env-regex")?,
        tag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(driver: &str, options: &[(&str, &str)]) -> Result<LogOptions, String> {
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        check(driver, &options.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_dockers() {
        for (driver, max_size, max_files, compress) in [
            ("", None, 1, false),
            ("json-file", None, 1, false),
            ("local", Some(20 << 20), 5, true),
            ("journald", None, 1, false),
        ] {
            let rotation = Rotation {
                max_size,
                max_files,
                compress,
            };
            assert_eq!(checked(driver, &[]).unwrap().rotation, rotation, "{driver}");
        }
        assert_eq!(
            checked("none", &[("anything", "x")]).unwrap().driver,
            Driver::None
        );
    }

    #[test]
    fn what_is_given_is_taken() {
        let options = checked(
            "json-file",
            &[
                ("max-size", "10m"),
                ("max-file", "3"),
                ("compress", "true"),
                ("labels", "a,b"),
                ("env-regex", "^(os|customer)"),
                ("tag", "{{.Name}}/{{.ID}}"),
                ("mode", "non-blocking"),
                ("max-buffer-size", "4m"),
            ],
        )
        .unwrap();
        let rotation = Rotation {
            max_size: Some(10_000_000),
            max_files: 3,
            compress: true,
        };
        assert_eq!(options.rotation, rotation);
        assert_eq!(options.attached.labels, ["a", "b"]);
        assert_eq!(
            options.attached.env_regex.as_deref(),
            Some("^(os|customer)")
        );
    }

    /// Driver, option, value, and the words that refuse it.
    const REFUSALS: [(&str, &str, &str, &str); 14] = [
        (
            "syslog",
            "tag",
            "x",
            "logger: no log driver named 'syslog' is registered",
        ),
        (
            "json-file",
            "foo",
            "1",
            "unknown log opt 'foo' for json-file log driver",
        ),
        (
            "journald",
            "max-size",
            "1m",
            "unknown log opt 'max-size' for journald log driver",
        ),
        (
            "local",
            "foo",
            "1",
            "unknown log opt 'foo' for log driver local",
        ),
        (
            "json-file",
            "mode",
            "fast",
            "logger: logging mode not supported: fast",
        ),
        (
            "json-file",
            "max-buffer-size",
            "1m",
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        ("json-file", "max-size", "big", "invalid size: 'big'"),
        (
            "json-file",
            "max-size",
            "0",
            "max-size must be a positive number",
        ),
        (
            "local",
            "max-size",
            "5q",
            "invalid value for max-size: 5q: invalid suffix: 'q'",
        ),
        (
            "json-file",
            "max-file",
            "0",
            "max-file cannot be less than 1",
        ),
        (
            "json-file",
            "max-file",
            "two",
            "strconv.Atoi: parsing \"two\": invalid syntax",
        ),
        (
            "json-file",
            "compress",
            "yes",
            "strconv.ParseBool: parsing \"yes\": invalid syntax",
        ),
        (
            "json-file",
            "compress",
            "true",
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ),
        (
            "local",
            "max-file",
            "1",
            "compression cannot be enabled when max file count is 1",
        ),
    ];

    #[test]
    fn refusals_have_dockers_words() {
        for (driver, name, value, words) in REFUSALS {
            assert_eq!(checked(driver, &[(name, value)]).unwrap_err(), words);
        }
        for (name, value) in [
            ("labels-regex", "("),
            ("tag", "{{.Nonsense}}"),
            ("tag", "{{.ID"),
        ] {
            let words = checked("json-file", &[(name, value)]).unwrap_err();
            assert!(words.contains(name) || words.contains("log tag"), "{words}");
        }
    }
}
