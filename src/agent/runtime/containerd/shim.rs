//! The shim of one container, spoken to without containerd: how its process ended, and that it is to go.
//!
//! A containerd from 1.7 on takes a shim whose process ended while it was away for a leak, and removes it with all that
//! it knew. So whoever waits for a container waits at its shim, whatever becomes of containerd. And when
//! whoever asked containerd to delete a task did not live to hear the answer, containerd forgets the task and leaves its
//! shim. So who removes the container sees to it that there is none. The rest is containerd's.
//!
//! The protocol is ttrpc: frames of a header of ten bytes (length, stream, kind, flags) and a message.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The names of the shim's service, the older first.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Kinds of frames.
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// The first stream of a client.
const STREAM: u32 = 1;

/// The longest answer that is read, bytes.
const ANSWER_LIMIT: u32 = 64 << 10;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// What `Wait` and `Shutdown` are asked with.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    id: String,
}

/// How a process ended, as its shim says.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ended {
    #[prost(uint32, tag = "1")]
    pub(super) status: u32,
    #[prost(message, optional, tag = "2")]
    pub(super) at: Option<prost_types::Timestamp>,
}

/// Where the shim of a container's first process listens; empty when that cannot be found out. The shim is the parent,
/// and works in the directory where containerd has written it down.
pub(super) fn address(pid: u32) -> PathBuf {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let Some(parent) = parent.map(str::trim).filter(|parent| *parent != "0") else {
        return PathBuf::new();
    };
    let bundle = PathBuf::from(format!("/proc/{parent}/cwd"));
    let address = fs::read_to_string(bundle.join("address")).or_else(|_| started(&bundle));
    let address = address.unwrap_or_default();
    address
        .trim()
        .strip_prefix("unix://")
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// The address in what newer shims say when they start.
fn started(bundle: &Path) -> io::Result<String> {
    let text = fs::read(bundle.join("bootstrap.json"))?;
    let said: serde_json::Value = serde_json::from_slice(&text)?;
    Ok(said["address"].as_str().unwrap_or_default().to_owned())
}

/// Waits until the first process of the container has ended.
pub(super) async fn wait(address: &Path, id: &str) -> io::Result<Ended> {
    let answer = ask(address, "Wait", id).await?;
    Ended::decode(&*answer).map_err(invalid)
}

/// Asks a shim to go, which it does when it has no task. An error when there is none.
pub(super) async fn shut_down(address: &Path, id: &str) -> io::Result<()> {
    ask(address, "Shutdown", id).await.map(drop)
}

async fn ask(address: &Path, method: &str, id: &str) -> io::Result<Vec<u8>> {
    let mut outcome = Err(io::ErrorKind::Unsupported.into());
    for service in SERVICES {
        outcome = ask_service(address, service, method, id).await;
        if !matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::Unsupported) {
            break;
        }
    }
    outcome
}

async fn ask_service(address: &Path, service: &str, method: &str, id: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(address).await?;
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: Named { id: id.to_owned() }.encode_to_vec(),
    };
    stream.write_all(&frame(&request)).await?;
    loop {
        let length = stream.read_u32().await?;
        let number = stream.read_u32().await?;
        let kind = stream.read_u8().await?;
        let _flags = stream.read_u8().await?;
        if length > ANSWER_LIMIT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; usize::try_from(length).unwrap_or(0)];
        stream.read_exact(&mut answer).await?;
        if (number, kind) == (STREAM, RESPONSE) {
            return parse(&answer);
        }
    }
}

fn invalid(error: prost::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn frame(request: &Request) -> Vec<u8> {
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a name and an ID are short");
    let mut frame = Vec::with_capacity(10 + message.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&STREAM.to_be_bytes());
    frame.extend_from_slice(&[REQUEST, 0]);
    frame.extend_from_slice(&message);
    frame
}

fn parse(answer: &[u8]) -> io::Result<Vec<u8>> {
    /// The code of a service or method that is not there.
    const UNIMPLEMENTED: i32 = 12;
    let answer = Response::decode(answer).map_err(invalid)?;
    match answer.status {
        Some(status) if status.code == UNIMPLEMENTED => Err(io::ErrorKind::Unsupported.into()),
        Some(status) if status.code != 0 => Err(io::Error::other(status.message)),
        _ => Ok(answer.payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_the_form_that_shims_read() {
        let request = Request {
            service: "s".into(),
            method: "m".into(),
            payload: vec![7],
        };
        let expected = [
            0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 0x0a, 1, b's', 0x12, 1, b'm', 0x1a, 1, 7,
        ];
        assert_eq!(frame(&request), expected);
    }

    #[test]
    fn answers_are_told_apart() {
        let answer = |code, status| {
            let ended = Ended { status, at: None };
            let status = Status {
                code,
                message: "words".into(),
            };
            let response = Response {
                status: Some(status),
                payload: ended.encode_to_vec(),
            };
            parse(&response.encode_to_vec())
        };
        let ended = Ended::decode(&*answer(0, 42).unwrap()).unwrap();
        assert_eq!(ended.status, 42);
        let kind = |code| answer(code, 0).unwrap_err().kind();
        assert_eq!(kind(12), io::ErrorKind::Unsupported);
        assert_eq!(kind(5), io::ErrorKind::Other);
        let noise = parse(&[0xff, 0xff]).unwrap_err();
        assert_eq!(noise.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_process_without_a_shim_has_no_address() {
        assert_eq!(address(std::process::id()), PathBuf::new());
        assert_eq!(address(u32::MAX), PathBuf::new());
    }

    #[tokio::test]
    async fn a_shim_that_is_not_there_is_an_error() {
        let nowhere = wait(Path::new("/no/such/socket"), "id").await;
        assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
