//! Conversations with containers: what is typed goes in, what is said comes out, until they end it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::logs::write;
use crate::cli::client::Client;
use crate::cli::client::frames::{Frames, Output};
use crate::cli::client::stream::{Ask, Conversation};
use crate::cli::terminal::{self, Raw};

/// A piece of what is typed or said.
const PIECE: usize = 32 << 10;

/// How often the size is told again while what has the terminal is not there yet.
const SIZE_TRIES: u32 = 10;

/// What a conversation is like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// What is typed goes in.
    pub(super) input: bool,
    /// The container has a terminal: bytes as they are.
    pub(super) tty: bool,
}

/// Talks until the container ends it. `resize` is where the terminal's size goes.
pub(super) async fn talk(
    client: &Client,
    conversation: Conversation,
    manner: Manner,
    resize: &str,
) -> anyhow::Result<()> {
    let raw = match manner.tty && manner.input && terminal::is_typed() {
        true => Some(Raw::enter()?),
        false => None,
    };
    let (mut from, mut to) = tokio::io::split(conversation.io);
    let typed = async {
        if manner.input {
            // The container may end it at any time; whoever listens tells.
            let _ = type_in(&mut to).await;
        }
        std::future::pending::<()>().await;
    };
    let sized = async {
        if manner.tty {
            follow_size(client, resize).await;
        }
        std::future::pending::<()>().await;
    };
    let done = tokio::select! {
        done = listen(&mut from, manner.tty) => done,
        () = typed => Ok(()),
        () = sized => Ok(()),
    };
    drop(raw);
    done
}

async fn listen(from: &mut (impl AsyncReadExt + Unpin), tty: bool) -> anyhow::Result<()> {
    let (mut frames, mut piece) = (Frames::default(), vec![0; PIECE]);
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        if tty {
            if write(Output::Out, &piece[..length]).is_err() {
                return Ok(());
            }
            continue;
        }
        frames.push(&piece[..length]);
        while let Some((output, frame)) = frames.next()? {
            if output == Output::Daemon {
                anyhow::bail!("{}", String::from_utf8_lossy(&frame).trim().to_owned());
            }
            if write(output, &frame).is_err() {
                return Ok(());
            }
        }
    }
}

async fn type_in(to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    let mut input = tokio::io::stdin();
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece).await? {
            0 => return to.shutdown().await,
            length => to.write_all(&piece[..length]).await?,
        }
        to.flush().await?;
    }
}

/// Tells the terminal's size now and whenever it changes.
async fn follow_size(client: &Client, resize: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    for wait in 0..SIZE_TRIES {
        if tell_size(client, resize).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10 << wait.min(5))).await;
    }
    while changes.recv().await.is_some() {
        tell_size(client, resize).await;
    }
}

/// Whether it was heard. A terminal without a size has nothing to tell.
async fn tell_size(client: &Client, resize: &str) -> bool {
    let Some((rows, columns)) = terminal::size() else {
        return true;
    };
    let target = format!("{resize}?h={rows}&w={columns}");
    client.open(Ask::post(target)).await.is_ok()
}
