//! How clients reach the daemon: who may use its sockets, whether it stands in for Docker's, and where it listens on TCP.
//!
//! Looks whether this machine has Docker's daemon, where nobody says whether to stand in for it, and reads nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::ConfigError;

/// Where Docker's clients, and services that mount the socket, look for it.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Where programs are, besides the search path, which a service may not have.
const PROGRAMS: [&str; 5] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/snap/bin",
];

/// Whether the daemon is at [`DOCKER_SOCKET`] as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StandIn {
    /// Where Docker's daemon is not installed.
    #[default]
    Auto,
    /// Unless somebody else is there.
    Always,
    /// No.
    Never,
}

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorOptions {
    /// `--group`.
    pub group: Option<String>,
    /// `--docker-socket`.
    pub docker_socket: StandIn,
    /// `--host tcp://…`, without the scheme.
    pub tcp: Option<String>,
    /// `--tlscacert`.
    pub tls_ca: Option<PathBuf>,
    /// `--tlscert`.
    pub tls_cert: Option<PathBuf>,
    /// `--tlskey`.
    pub tls_key: Option<PathBuf>,
    /// `--plain-on-loopback`.
    pub plain_on_loopback: bool,
}

/// How clients reach the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// The group that may use the sockets; `None` takes the usual one, if the machine has it.
    pub group: Option<String>,
    /// Whether to be at [`DOCKER_SOCKET`] as well.
    pub stands_in: bool,
    /// Where to listen on TCP.
    pub tcp: Option<Tcp>,
}

/// A TCP address for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where.
    pub addr: SocketAddr,
    /// Who may come in; `None` on loopback alone.
    pub tls: Option<TlsPaths>,
}

/// Files in PEM form; absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPaths {
    /// Roots of the clients' certificates.
    pub ca: PathBuf,
    /// The server's own certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Doors {
    pub(super) fn parse(options: DoorOptions) -> Result<Self, ConfigError> {
        let group = options.group;
        if let Some(group) = &group {
            let allowed = |c: char| c.is_ascii_graphic() && !":,".contains(c);
            if group.is_empty() || !group.chars().all(allowed) {
                return Err(ConfigError::Group(group.clone()));
            }
        }
        let tls = tls(options.tls_ca, options.tls_cert, options.tls_key)?;
        let tcp = match options.tcp {
            None if tls.is_some() => return Err(ConfigError::TlsWithoutHost),
            None => None,
            Some(text) => {
                let addr: SocketAddr = text
                    .parse()
                    .map_err(|_no_address| ConfigError::Tcp(text.clone()))?;
                if tls.is_none() && !(options.plain_on_loopback && addr.ip().is_loopback()) {
                    return Err(ConfigError::PlainTcp(text));
                }
                Some(Tcp { addr, tls })
            }
        };
        Ok(Self {
            group,
            stands_in: match options.docker_socket {
                StandIn::Auto => !has_docker(),
                StandIn::Always => true,
                StandIn::Never => false,
            },
            tcp,
        })
    }
}

fn tls(
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<TlsPaths>, ConfigError> {
    match (ca, cert, key) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(cert), Some(key)) => Ok(Some(TlsPaths {
            ca: super::absolute("tlscacert", ca)?,
            cert: super::absolute("tlscert", cert)?,
            key: super::absolute("tlskey", key)?,
        })),
        (ca, cert, key) => Err(ConfigError::TlsFiles(
            [
                ("tlscacert", ca.is_none()),
                ("tlscert", cert.is_none()),
                ("tlskey", key.is_none()),
            ]
            .into_iter()
            .find_map(|(option, missing)| missing.then_some(option))
            .unwrap_or_default(),
        )),
    }
}

/// Whether this machine has Docker's daemon, running or not.
fn has_docker() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(PROGRAMS.map(PathBuf::from));
    folders
        .into_iter()
        .any(|folder| folder.join("dockerd").is_file())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn files() -> DoorOptions {
        DoorOptions {
            tcp: Some("0.0.0.0:2376".into()),
            tls_ca: Some("/ca.pem".into()),
            tls_cert: Some("/cert.pem".into()),
            tls_key: Some("/key.pem".into()),
            ..DoorOptions::default()
        }
    }

    #[test]
    fn tcp_is_for_those_with_a_certificate() {
        let doors = Doors::parse(files()).unwrap();
        let tcp = doors.tcp.unwrap();
        assert_eq!(tcp.addr, "0.0.0.0:2376".parse().unwrap());
        assert_eq!(tcp.tls.unwrap().key, Path::new("/key.pem"));
        assert_eq!(Doors::parse(DoorOptions::default()).unwrap().tcp, None);

        let plain = |addr: &str, allowed| {
            Doors::parse(DoorOptions {
                tcp: Some(addr.into()),
                plain_on_loopback: allowed,
                ..DoorOptions::default()
            })
        };
        assert!(plain("127.0.0.1:2375", true).unwrap().tcp.is_some());
        assert!(plain("[::1]:2375", true).is_ok());
        for (addr, allowed) in [("127.0.0.1:2375", false), ("0.0.0.0:2375", true)] {
            let words = plain(addr, allowed).unwrap_err().to_string();
            assert!(words.contains("is root on every machine"), "{words}");
        }
    }

    #[test]
    fn what_cannot_be_says_what_to_give() {
        let with = |change: fn(&mut DoorOptions)| {
            let mut options = files();
            change(&mut options);
            Doors::parse(options).unwrap_err().to_string()
        };
        for (words, start) in [
            (with(|o| o.tls_key = None), "--tlskey is missing"),
            (with(|o| o.tls_ca = None), "--tlscacert is missing"),
            (
                with(|o| o.tcp = None),
                "--tlscacert, --tlscert and --tlskey are for --host tcp://",
            ),
            (
                with(|o| o.tcp = Some("here".into())),
                "--host tcp://here: give an IP address",
            ),
            (
                with(|o| o.tls_cert = Some("c.pem".into())),
                "--tlscert c.pem: give an absolute path",
            ),
            (with(|o| o.group = Some("a:b".into())), "--group a:b: "),
        ] {
            assert!(words.starts_with(start), "{words}");
        }
    }
}
