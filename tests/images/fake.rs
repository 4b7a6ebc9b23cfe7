//! A registry that lies: it answers what it is told to, whatever that is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Which path is answered with which status and body.
pub(crate) type Answers = BTreeMap<String, (u16, Vec<u8>)>;

/// It, until it is dropped.
pub(crate) struct Fake {
    /// Where it listens.
    pub(crate) address: String,
    _serving: JoinSet<()>,
}

impl Fake {
    /// Answers `/v2/` and these; all else is not found.
    pub(crate) async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut serving = JoinSet::new();
        let answers = Arc::new(answers);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let answers = answers.clone();
                connections.spawn(async move { serve(client, &answers).await });
            }
        });
        Self {
            address,
            _serving: serving,
        }
    }
}

async fn serve(client: TcpStream, answers: &Answers) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while client.read_line(&mut head).await.is_ok_and(|read| read > 2) {}
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    let ok = (200, b"{}".to_vec());
    let lost = (404, Vec::new());
    let (status, body) = match path {
        "/v2/" => &ok,
        path => answers.get(path).unwrap_or(&lost),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(head.as_bytes()).await;
    let _ = client.write_all(body).await;
    let _ = client.shutdown().await;
}
