//! Clients that behave badly: that say half of what they want, nonsense, or nothing, and that vanish.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::wait::secs;

/// What such a client says before it goes.
const SAID: [&str; 14] = [
    "",
    "GET",
    "GET / HTTP/1.1\r\nHost:",
    "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /events HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /v1.23/info HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /v1.99/info HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /tasks?filters=%7B%22nonsense%22%3A%5B%5D%7D HTTP/1.1\r\nHost: d\r\n\r\n",
    "GET /services/%00%ff%2e%2e HTTP/1.1\r\nHost: d\r\n\r\n",
    "POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"Name\":",
    "POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{}{}",
    "POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "POST /images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nno ta",
    "POST /exec/nosuch/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
];

/// So many clients, one after another, each of which says something, reads a little or nothing, and vanishes.
pub(crate) fn misbehave(socket: &Path, count: usize) {
    for (number, said) in SAID.iter().cycle().take(count).enumerate() {
        let mut stream = UnixStream::connect(socket).expect("the daemon accepts");
        let written = stream.write_all(said.as_bytes());
        // Every other one waits for the beginning of an answer.
        if written.is_ok() && number % 2 == 0 && said.ends_with("\r\n\r\n") {
            stream
                .set_read_timeout(Some(secs(10)))
                .expect("a deadline can be set");
            let mut head = [0; 12];
            let _ = stream.read_exact(&mut head);
            assert!(
                head.starts_with(b"HTTP/1.1 ") || head.iter().all(|byte| *byte == 0),
                "{:?} to {said:?}",
                String::from_utf8_lossy(&head)
            );
        }
    }
}

/// So many clients that hold a connection and say nothing.
pub(crate) fn idle(socket: &Path, count: usize) -> Vec<UnixStream> {
    let connect = |_| UnixStream::connect(socket).expect("the daemon accepts");
    (0..count).map(connect).collect()
}
