//! How the daemon is to run: parsed, bounded and complete before any socket opens.
//!
//! The command line gives the texts, [`Config::parse`] gives values or one error that names the option and says what
//! to do. Reads the machine's interfaces when an address is given by an interface's name, and looks for Docker's daemon.

pub mod doors;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::model::address::ParseAddressError;
use crate::model::task_spec::{DiscreteResource, GenericResource, NamedResource};
use crate::model::{AddressSpec, HostSpec};
use crate::wire::DEFAULT_PORT;
use doors::{DoorOptions, Doors};

/// The name of the API socket in the run directory.
pub const SOCKET_NAME: &str = "skein.sock";

/// The name of the socket beside it that shows the whole cluster as one Docker host.
pub const CLUSTER_SOCKET_NAME: &str = "cluster.sock";

/// Where the daemon keeps its state unless told otherwise.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/skein";

/// Where the daemon makes its socket unless told otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/skein";

/// Where the daemon listens for other nodes unless told otherwise: every address of both families, UDP. A machine
/// without IPv6 listens on IPv4 alone.
pub const DEFAULT_LISTEN: &str = "[::]:2377";

/// All engine labels together, in bytes: they are gossiped, in a message that must stay small.
const LABELS_MAX: usize = 2048;

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--data-root`.
    pub data_root: PathBuf,
    /// `--run-dir`.
    pub run_dir: PathBuf,
    /// `--listen-addr`.
    pub listen_addr: String,
    /// `--advertise-addr`.
    pub advertise_addr: Option<String>,
    /// `--label`, each `key=value` or `key`.
    pub labels: Vec<String>,
    /// `--node-generic-resource`, each `KIND=VALUE`.
    pub generic_resources: Vec<String>,
    /// `--containerd`.
    pub containerd: Option<PathBuf>,
    /// `--insecure-registry`, each `host` or `host:port`.
    pub insecure_registries: Vec<String>,
    /// How clients reach it.
    pub doors: DoorOptions,
}

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where its state is; absolute.
    pub data_root: PathBuf,
    /// Where its socket is; absolute.
    pub run_dir: PathBuf,
    /// Where it listens for other nodes, UDP, until `init` or `join` say otherwise.
    pub listen_addr: SocketAddr,
    /// What it tells others of where it is; `None` finds out.
    pub advertise_addr: Option<SocketAddr>,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// What its operator counts beside processors and memory.
    pub generic_resources: Vec<GenericResource>,
    /// The containerd to use; `None` takes the system's, or starts one.
    pub containerd: Option<PathBuf>,
    /// Registries that may speak plain HTTP, `host` or `host:port`; those on loopback always may.
    pub insecure_registries: Vec<String>,
    /// How clients reach it.
    pub doors: Doors,
}

/// Which option is wrong, and how.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A relative path, or one with `..` in it.
    #[error("--{option} {}: give an absolute path without `..`", .path.display())]
    Path {
        /// The option's name.
        option: &'static str,
        /// What was given.
        path: PathBuf,
    },
    /// Not an address.
    #[error("--{option} {text}")]
    Address {
        /// The option's name.
        option: &'static str,
        /// What was given.
        text: String,
        /// How it is wrong.
        #[source]
        source: ParseAddressError,
    },
    /// An interface without an address, or none at all.
    #[error("--{option} {text}")]
    Interface {
        /// The option's name.
        option: &'static str,
        /// What was given.
        text: String,
        /// How it is wrong.
        #[source]
        source: ResolveError,
    },
    /// An address that nobody can reach.
    #[error(
        "--advertise-addr {0}: give an address that other machines can reach, not the unspecified one"
    )]
    Unspecified(String),
    /// Not a label.
    #[error("--label {0}: give key=value, the key of letters, digits, `.`, `-`, `_` and `/`")]
    Label(String),
    /// Not a resource.
    #[error(
        "--node-generic-resource {0}: give KIND=NUMBER, or KIND=NAME once for each, the kind of letters, digits, `.`, `-` and `_`"
    )]
    Resource(String),
    /// Too many or too long resources.
    #[error(
        "--node-generic-resource: all of them together have {0} bytes, more than {LABELS_MAX}; use fewer or shorter ones"
    )]
    Resources(usize),
    /// Not a registry.
    #[error("--insecure-registry {0}: give HOST or HOST:PORT, without a scheme or a path")]
    Registry(String),
    /// Not a group's name.
    #[error("--group {0}: give the name of a group of this machine")]
    Group(String),
    /// Not an address for clients.
    #[error("--host tcp://{0}: give an IP address and a port, as in tcp://192.0.2.7:2376")]
    Tcp(String),
    /// Anybody could come in.
    #[error(
        "--host tcp://{0}: whoever reaches it is root on every machine of the cluster, so give --tlscacert, --tlscert and --tlskey, or a loopback address and --plain-on-loopback"
    )]
    PlainTcp(String),
    /// Some of the three files.
    #[error("--{0} is missing: --tlscacert, --tlscert and --tlskey belong together")]
    TlsFiles(&'static str),
    /// Nothing to use them for.
    #[error(
        "--tlscacert, --tlscert and --tlskey are for --host tcp://ADDRESS:PORT, which is missing"
    )]
    TlsWithoutHost,
    /// One key, two values.
    #[error("--label {key}: it is given as {first:?} and as {second:?}; give it once")]
    LabelConflict {
        /// The key.
        key: String,
        /// The earlier value.
        first: String,
        /// The later value.
        second: String,
    },
    /// Too many or too long labels.
    #[error(
        "--label: all labels together have {0} bytes, more than {LABELS_MAX}; use fewer or shorter ones"
    )]
    Labels(usize),
}

/// Why an interface's name means no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The kernel does not list its interfaces.
    #[error("the network interfaces cannot be listed")]
    List(#[source] nix::Error),
    /// It has no address, or does not exist.
    #[error("there is no network interface {0} with an address; `ip address` lists them")]
    NoAddress(String),
}

impl Config {
    /// Checks all options. The first that is wrong is the error.
    pub fn parse(options: Options) -> Result<Self, ConfigError> {
        let data_root = absolute("data-root", options.data_root)?;
        let run_dir = absolute("run-dir", options.run_dir)?;
        let listen_addr = address("listen-addr", &options.listen_addr, DEFAULT_PORT)?;
        let advertise_addr = match &options.advertise_addr {
            None => None,
            Some(text) => {
                let addr = address("advertise-addr", text, listen_addr.port())?;
                if addr.ip().is_unspecified() {
                    return Err(ConfigError::Unspecified(text.clone()));
                }
                Some(addr)
            }
        };
        Ok(Self {
            data_root,
            run_dir,
            listen_addr,
            advertise_addr,
            labels: labels(&options.labels)?,
            generic_resources: resources(&options.generic_resources)?,
            containerd: match options.containerd {
                Some(path) => Some(absolute("containerd", path)?),
                None => None,
            },
            insecure_registries: registries(options.insecure_registries)?,
            doors: Doors::parse(options.doors)?,
        })
    }

    /// Where the API socket is.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(SOCKET_NAME)
    }

    /// Where the socket for the whole cluster is.
    pub fn cluster_socket(&self) -> PathBuf {
        self.run_dir.join(CLUSTER_SOCKET_NAME)
    }
}

/// The address that `spec` means on this machine, with `port` when it names none. An interface with both families is
/// taken by its IPv4 address.
pub fn resolve(spec: &AddressSpec, port: u16) -> Result<SocketAddr, ResolveError> {
    let ip = match &spec.host {
        HostSpec::Ip(ip) => *ip,
        HostSpec::Interface(name) => {
            let found: Vec<IpAddr> = getifaddrs()
                .map_err(ResolveError::List)?
                .filter(|interface| interface.interface_name == *name)
                .filter_map(|interface| ip_of(&interface.address?))
                .collect();
            preferred(&found).ok_or_else(|| ResolveError::NoAddress(name.clone()))?
        }
    };
    Ok(SocketAddr::new(ip, spec.port.unwrap_or(port)))
}

/// The IP address in an interface's address, if it is one.
pub(crate) fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}

/// IPv4 before IPv6, and none that needs a scope.
fn preferred(found: &[IpAddr]) -> Option<IpAddr> {
    let usable = |ip: &&IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    };
    found
        .iter()
        .filter(usable)
        .min_by_key(|ip| ip.is_ipv6())
        .copied()
}

fn absolute(option: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    let climbs = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs(&path) {
        return Err(ConfigError::Path { option, path });
    }
    Ok(path)
}

fn registries(given: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let wrong = |text: &&String| text.is_empty() || !text.chars().all(allowed);
    match given.iter().find(wrong) {
        Some(text) => Err(ConfigError::Registry(text.clone())),
        None => Ok(given),
    }
}

fn address(option: &'static str, text: &str, port: u16) -> Result<SocketAddr, ConfigError> {
    let spec: AddressSpec = text.parse().map_err(|source| ConfigError::Address {
        option,
        text: text.into(),
        source,
    })?;
    resolve(&spec, port).map_err(|source| ConfigError::Interface {
        option,
        text: text.into(),
        source,
    })
}

fn labels(given: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut labels = BTreeMap::new();
    for text in given {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/".contains(c);
        if key.is_empty() || !key.chars().all(allowed) || value.chars().any(char::is_control) {
            return Err(ConfigError::Label(text.clone()));
        }
        if let Some(first) = labels.insert(key.to_owned(), value.to_owned())
            && first != value
        {
            return Err(ConfigError::LabelConflict {
                key: key.into(),
                first,
                second: value.into(),
            });
        }
    }
    let bytes = labels
        .iter()
        .map(|(key, value)| key.len() + value.len() + 2)
        .sum();
    if bytes > LABELS_MAX {
        return Err(ConfigError::Labels(bytes));
    }
    Ok(labels)
}

/// A kind that is given once and with a number is counted; every other value is the name of one of its kind.
fn resources(given: &[String]) -> Result<Vec<GenericResource>, ConfigError> {
    let wrong = |text: &str| ConfigError::Resource(text.to_owned());
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in given {
        let (kind, value) = text.split_once('=').ok_or_else(|| wrong(text))?;
        let is_name = !value.is_empty() && !value.contains(|c: char| c == ',' || c.is_control());
        if kind.is_empty() || !kind.chars().all(allowed) || !is_name {
            return Err(wrong(text));
        }
        let values = kinds.entry(kind).or_default();
        if values.contains(&value) {
            return Err(wrong(text));
        }
        values.push(value);
    }
    let bytes = given.iter().map(|text| text.len() + 1).sum();
    if bytes > LABELS_MAX {
        return Err(ConfigError::Resources(bytes));
    }
    let mut all = Vec::new();
    for (kind, values) in kinds {
        let numbers = values.iter().filter_map(|value| value.parse::<i64>().ok());
        let numbers: Vec<i64> = numbers.collect();
        match (numbers.as_slice(), values.as_slice()) {
            ([], names) => all.extend(names.iter().map(|name| named(kind, name))),
            ([number], [_]) if *number > 0 => all.push(counted(kind, *number)),
            (_, values) => {
                let text = values.iter().map(|value| format!("{kind}={value}"));
                return Err(wrong(&text.collect::<Vec<_>>().join(" ")));
            }
        }
    }
    Ok(all)
}

fn named(kind: &str, value: &str) -> GenericResource {
    GenericResource {
        named_resource_spec: Some(NamedResource {
            kind: kind.into(),
            value: value.into(),
        }),
        discrete_resource_spec: None,
    }
}

fn counted(kind: &str, value: i64) -> GenericResource {
    GenericResource {
        named_resource_spec: None,
        discrete_resource_spec: Some(DiscreteResource {
            kind: kind.into(),
            value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn options() -> Options {
        Options {
            data_root: DEFAULT_DATA_ROOT.into(),
            run_dir: DEFAULT_RUN_DIR.into(),
            listen_addr: DEFAULT_LISTEN.into(),
            ..Options::default()
        }
    }

    fn error_of(change: impl FnOnce(&mut Options)) -> String {
        let mut options = options();
        change(&mut options);
        let error = Config::parse(options).unwrap_err();
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn resources_are_counted_or_named() {
        let mut given = options();
        given.generic_resources = ["gpu=a", "ssd=3", "gpu=b"].map(String::from).to_vec();
        let config = Config::parse(given).unwrap();
        let wanted = [named("gpu", "a"), named("gpu", "b"), counted("ssd", 3)];
        assert_eq!(config.generic_resources, wanted);
        for wrong in [
            &["gpu"][..],
            &["=1"],
            &["gpu="],
            &["gpu=0"],
            &["gpu=-1"],
            &["gpu=1", "gpu=2"],
            &["gpu=1", "gpu=a"],
            &["gpu=a", "gpu=a"],
            &["g u=1"],
            &["gpu=a,b"],
        ] {
            let given = wrong.iter().map(|text| text.to_string()).collect();
            let said = error_of(|options| options.generic_resources = given);
            let words = "give KIND=NUMBER, or KIND=NAME once for each";
            assert!(
                said.starts_with("--node-generic-resource ") && said.contains(words),
                "{said}"
            );
        }
        let long = vec![format!("gpu={}", "x".repeat(3000))];
        let said = error_of(|options| options.generic_resources = long);
        assert!(
            said.contains("all of them together have 3005 bytes"),
            "{said}"
        );
    }

    #[test]
    fn the_defaults_are_whole() {
        let config = Config::parse(options()).unwrap();
        assert_eq!(config.socket(), Path::new("/run/skein/skein.sock"));
        assert_eq!(config.listen_addr, "[::]:2377".parse().unwrap());
        assert_eq!(config.advertise_addr, None);
    }

    #[test]
    fn ports_are_filled_in() {
        let mut given = options();
        given.listen_addr = "[::]:4000".into();
        given.advertise_addr = Some("192.0.2.7".into());
        given.labels = vec!["zone=a".into(), "ssd".into(), "zone=a".into()];
        let config = Config::parse(given).unwrap();
        assert_eq!(
            config.advertise_addr,
            Some("192.0.2.7:4000".parse().unwrap())
        );
        assert_eq!(config.labels["zone"], "a");
        assert_eq!(config.labels["ssd"], "");
    }

    #[test]
    fn an_interface_stands_for_its_address() {
        let mut given = options();
        given.listen_addr = "lo:9".into();
        let config = Config::parse(given).unwrap();
        assert_eq!(config.listen_addr, "127.0.0.1:9".parse().unwrap());
        let both = ["fe80::1", "fd00::1", "10.0.0.1"].map(|ip| ip.parse().unwrap());
        assert_eq!(preferred(&both), Some(both[2]));
        assert_eq!(preferred(&both[..2]), Some(both[1]));
        assert_eq!(preferred(&both[..1]), None);
    }

    #[test]
    fn each_error_names_its_option_and_says_what_to_do() {
        for (error, words) in [
            (
                error_of(|o| o.data_root = "data".into()),
                "--data-root data: give an absolute path",
            ),
            (
                error_of(|o| o.run_dir = "/run/../x".into()),
                "--run-dir /run/../x: give an absolute path",
            ),
            (
                error_of(|o| o.listen_addr = "0.0.0.0:0".into()),
                "--listen-addr 0.0.0.0:0: \"0\" is not a port",
            ),
            (
                error_of(|o| o.listen_addr = "everywhere".into()),
                "--listen-addr everywhere: there is no network interface everywhere",
            ),
            (
                error_of(|o| o.advertise_addr = Some("::".into())),
                "--advertise-addr ::: give an address that other machines can reach",
            ),
            (
                error_of(|o| o.containerd = Some("run/containerd.sock".into())),
                "--containerd run/containerd.sock: give an absolute path",
            ),
            (
                error_of(|o| o.insecure_registries = vec!["http://here".into()]),
                "--insecure-registry http://here: give HOST or HOST:PORT",
            ),
            (
                error_of(|o| o.labels = vec!["=a".into()]),
                "--label =a: give key=value",
            ),
            (
                error_of(|o| o.labels = vec!["a=1".into(), "a=2".into()]),
                "--label a: it is given as \"1\" and as \"2\"",
            ),
            (
                error_of(|o| o.labels = vec![format!("a={}", "x".repeat(3000))]),
                "--label: all labels together have 3003 bytes",
            ),
        ] {
            assert!(error.starts_with(words), "{error}");
        }
    }
}
