//! Chains of other programs that drop what passes through the machine, as Docker's and ufw's do.
//!
//! What one table accepts is dropped by the next all the same, so that packets of containers would be lost without a word.
//! Each such chain is given two rules at its head that let pass what comes from a container or the tunnel, and what goes to
//! one: this room's own table says what of it may. They bear a comment by which they are found again and taken away.

use std::io;

use super::change::{NEW_RULE, TABLE};
use super::rule::{Rule, Verdict};
use super::wire::{Attrs, Batch, CREATE, INET, IPV4, Item, Socket};

/// What the names of all cables of containers begin with, and the tunnel's, too.
pub(super) const CABLES: &str = "sk";

/// Kinds of messages.
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;

/// Of all families.
const ANY: u8 = 0;

/// Where packets pass through the machine.
const FORWARD: [u8; 4] = [0, 0, 0, 2];

/// What becomes of those that no rule is for.
const DROP: [u8; 4] = [0; 4];

/// A rule's comment as the kernel keeps it: its kind, its length, its text.
const COMMENT: &[u8] = b"\x00\x06skein\x00";

/// A chain of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    family: u8,
    table: Vec<u8>,
    name: Vec<u8>,
}

impl Chain {
    fn write(&self, it: &mut Attrs) {
        it.put(1, &self.table).put(2, &self.name);
    }
}

/// Has containers' packets pass all such chains. Says which did not let them so far.
pub(super) fn open(socket: &Socket) -> io::Result<Vec<String>> {
    let chains = socket.list(GET_CHAIN, ANY)?;
    let mut closed: Vec<Chain> = chains.iter().filter_map(dropping).collect();
    if closed.is_empty() {
        return Ok(Vec::new());
    }
    for (open, _) in own(socket)? {
        closed.retain(|chain| *chain != open);
    }
    for chain in &closed {
        let mut batch = Batch::new(chain.family);
        let passes = [
            Rule::default().came_by_some(CABLES),
            Rule::default().leaves_by_some(CABLES),
        ];
        for rule in passes {
            // Without a word on its place it is the first.
            batch.add(NEW_RULE, CREATE, |it| {
                chain.write(it);
                rule.then(Verdict::Accept).write(4, it);
                it.put(7, COMMENT);
            });
        }
        socket.commit(batch)?;
    }
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .to_owned()
    };
    let named = closed
        .iter()
        .map(|chain| format!("{} in table {}", text(&chain.name), text(&chain.table)));
    Ok(named.collect())
}

/// Takes away what [`open`] has put into them.
pub(super) fn close(socket: &Socket) -> io::Result<()> {
    for (chain, handle) in own(socket)? {
        let mut batch = Batch::new(chain.family);
        batch.add(DELETE_RULE, 0, |it| {
            chain.write(it);
            it.put(3, &handle);
        });
        match socket.commit(batch) {
            // Its owner was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// A chain that packets of IPv4 pass, and that drops those that no rule is for.
fn dropping(item: &Item) -> Option<Chain> {
    let drops = item.attr(5)? == DROP;
    let hook = item.nested(4)?;
    let passed = hook.attr(1)? == FORWARD;
    let chain = Chain {
        family: item.family,
        table: item.attr(1)?.to_owned(),
        name: item.attr(3)?.to_owned(),
    };
    (drops && passed && [INET, IPV4].contains(&item.family)).then_some(chain)
}

/// Rules of ours in others' chains, each with its number there.
fn own(socket: &Socket) -> io::Result<Vec<(Chain, Vec<u8>)>> {
    let rules = socket.list(GET_RULE, ANY)?;
    let read = |item: &Item| {
        let chain = Chain {
            family: item.family,
            table: item.attr(1)?.to_owned(),
            name: item.attr(2)?.to_owned(),
        };
        let ours = item.attr(7)? == COMMENT;
        let elsewhere = chain.table.strip_suffix(&[0]) != Some(TABLE.as_bytes());
        (ours && elsewhere).then_some((chain, item.attr(3)?.to_owned()))
    };
    Ok(rules.iter().filter_map(read).collect())
}
