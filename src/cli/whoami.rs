//! `skein whoami`: a web server that says who answers. The sample image runs it; nobody needs to call it by hand.
//!
//! Answers every request with plain lines: host name, addresses, node and task where the environment names them, the
//! client's address, and the request as it came. As the first process of a container it ends on SIGTERM by itself.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// How long a client may take to say what it wants.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The variables that name the node and the task, where the service's template sets them.
const NAMED: [(&str, &str); 2] = [("Node", "SKEIN_NODE"), ("Task", "SKEIN_TASK")];

/// Say who answers, over HTTP
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct WhoamiArgs {
    /// Where to listen
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    port: u16,
}

/// Serves until it is told to stop.
pub(super) fn run(args: &WhoamiArgs) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(args.port))
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = match TcpListener::bind(any).await {
        Ok(listener) => listener,
        // A machine without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", port))
            .await
            .with_context(|| format!("port {port} cannot be listened on"))?,
    };
    let tracker = TaskTracker::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    tracker.spawn(serve_one(stream, client));
                }
                // Too many files are open, say: it passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

async fn serve_one(stream: TcpStream, client: SocketAddr) {
    let answer = service_fn(move |request: Request<Incoming>| async move {
        let text = describe(&request, client);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT);
    // A client that goes away is its own affair.
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

/// The lines for a request.
fn describe<B>(request: &Request<B>, client: SocketAddr) -> String {
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let mut text = format!("Hostname: {}\n", hostname.to_string_lossy());
    for address in addresses() {
        line(&mut text, "IP", &address.to_string());
    }
    for (name, variable) in NAMED {
        if let Ok(value) = std::env::var(variable) {
            line(&mut text, name, &value);
        }
    }
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    line(&mut text, "RemoteAddr", &client.to_string());
    let _ = writeln!(
        text,
        "{} {} {:?}",
        request.method(),
        request.uri(),
        request.version()
    );
    let mut headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                title(name.as_str()),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    headers.sort_by_key(|(name, value)| (name != "Host", name.clone(), value.clone()));
    for (name, value) in headers {
        line(&mut text, &name, &value);
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name}: {value}");
}

/// A header's name as people write it: `x-forwarded-for` is `X-Forwarded-For`.
fn title(name: &str) -> String {
    let word = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

/// The addresses of this machine, or container.
fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    interfaces
        .filter_map(|interface| ip(interface.address?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_described_as_it_came() {
        let request = Request::get("/some/path?x=1")
            .header("x-forwarded-for", "10.0.0.9")
            .header("host", "here")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        let text = describe(&request, "[::ffff:10.1.2.3]:5000".parse().unwrap());
        assert!(text.starts_with("Hostname: "), "{text}");
        assert!(text.contains("\nIP: 127.0.0.1\n"), "{text}");
        let end = "RemoteAddr: 10.1.2.3:5000\nGET /some/path?x=1 HTTP/1.1\nHost: here\nAccept: */*\nX-Forwarded-For: 10.0.0.9\n";
        assert!(text.ends_with(end), "{text}");
    }
}
