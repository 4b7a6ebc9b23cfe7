//! What must hold for any bytes that claim to be of another replica. Test and fuzz builds only.
//!
//! The types that bytes become are this room's own, so the check is, too: the fuzz target calls it by name, and the
//! test below replays `tests/corpus/raft`.

use bytes::Bytes;

use super::command::Command;
use super::rpc::{
    Answer, Append, Appended, Ask, Candidacy, Chunk, Granted, MessageError, Request, TakeOver,
};
use super::snapshot::Image;
use super::types::{Ballot, Blob, EntryRecord, Epoch, LogRef, Members, PayloadRecord};
use crate::model::{Change, Dependency, Expect, Network, Node, NodeId, Proposal, Timestamp};

/// Tries the bytes as everything that replicas send. Panics when something is taken that does not come out again as it
/// went in.
pub fn check(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        let again = request.encode().and_then(|bytes| Request::decode(&bytes));
        assert_eq!(again.ok().as_ref(), Some(&request));
        request.speaker();
        of_ask(request.ask);
    }
    if let Ok(answer) = Answer::decode(data) {
        let again = answer.encode().and_then(|bytes| Answer::decode(&bytes));
        assert_eq!(again.ok().as_ref(), Some(&answer));
        of_answer(answer);
    }
    of_snapshot(data);
    of_command(Bytes::copy_from_slice(data));
}

/// One of each that is right in every part.
pub fn samples() -> Vec<Vec<u8>> {
    let epoch = Epoch { count: 1, id: 2 };
    let image = Image::default().encode().expect("a state can be written");
    let command = Command::of(&proposal()).expect("a proposal can be written");
    let asks = asks(&image, &command).map(|ask| Request { epoch, ask }.encode());
    let answers = answers(epoch).map(|answer| answer.encode());
    let messages = asks.into_iter().chain(answers);
    let messages = messages.map(|bytes| bytes.expect("a message can be written"));
    let others = [image.to_vec(), command.into_bytes().to_vec()];
    messages.chain(others).collect()
}

const NODE: NodeId = NodeId::from_bits(1);

const fn at(term: u64, index: u64) -> LogRef {
    LogRef {
        term,
        node: NODE,
        index,
    }
}

const fn ballot(committed: bool) -> Ballot {
    Ballot {
        term: 3,
        node: NODE,
        committed,
    }
}

fn asks(image: &Bytes, command: &Command) -> [Ask; 6] {
    let candidacy = Candidacy {
        ballot: ballot(false),
        last: Some(at(2, 4)),
        transfer: true,
    };
    let members = Members {
        voters: vec![[NODE].into()],
        learners: [NodeId::from_bits(2)].into(),
    };
    let payloads = [
        PayloadRecord::Blank,
        PayloadRecord::Command(Blob(command.clone().into_bytes())),
        PayloadRecord::Members(members),
    ];
    let entries = (5..).zip(payloads).map(|(index, payload)| EntryRecord {
        at: at(3, index),
        payload,
    });
    [
        Ask::Append(Append {
            ballot: ballot(true),
            previous: Some(at(2, 4)),
            committed: Some(at(2, 4)),
            entries: entries.collect(),
        }),
        Ask::Vote(candidacy.clone()),
        Ask::PreVote(candidacy),
        Ask::Chunk(Chunk {
            ballot: ballot(true),
            last: Some(at(2, 4)),
            offset: 0,
            total: image.len() as u64,
            data: Blob(image.clone()),
        }),
        Ask::TakeOver(TakeOver {
            ballot: ballot(true),
            to: NODE,
            last: None,
        }),
        Ask::Epoch(NODE),
    ]
}

fn answers(epoch: Epoch) -> [Answer; 9] {
    let granted = Granted {
        ballot: ballot(false),
        last: None,
        granted: true,
    };
    [
        Answer::Append(Appended::Upto(Some(at(3, 5)))),
        Answer::Append(Appended::HigherVote(ballot(false))),
        Answer::Vote(granted),
        Answer::Received(7),
        Answer::Installed(ballot(true)),
        Answer::TakeOver { accepted: true },
        Answer::Outdated(epoch),
        Answer::Failed("no".to_owned()),
        Answer::Current,
    ]
}

fn proposal() -> Proposal {
    let node = Node {
        id: NodeId::from_bits(5),
        ..Node::default()
    };
    Proposal {
        at: Timestamp::default(),
        changes: vec![
            Change::PutNode(Expect::Version(1), Box::new(node)),
            Change::RemoveNode(Expect::Absent, NodeId::from_bits(6)),
            Change::PutDependency(Expect::Absent, Box::<Dependency>::default()),
            Change::PutNetwork(Expect::Absent, Box::<Network>::default()),
        ],
    }
}

fn of_ask(ask: Ask) {
    match ask {
        Ask::Append(append) => {
            let taken: Result<_, MessageError> = append.clone().into_openraft();
            if let Ok(taken) = taken {
                let prev = taken.prev_log_id.map(|id| id.index);
                let last = taken.entries.last().map(|entry| entry.log_id.index);
                assert!(last.is_none() || prev.is_none_or(|prev| Some(prev) < last));
                assert!(prev.max(last).is_none_or(|index| index < u64::MAX / 2));
                assert_eq!(Append::of(taken), append);
            }
        }
        Ask::Vote(candidacy) | Ask::PreVote(candidacy) => {
            if let Ok(taken) = candidacy.clone().into_openraft() {
                assert_eq!(Candidacy::of(taken), candidacy);
            }
        }
        Ask::Chunk(chunk) => of_snapshot(&chunk.data.0),
        Ask::TakeOver(take_over) => {
            let taken = take_over.clone().into_openraft();
            assert_eq!(TakeOver::of(&taken), take_over);
        }
        Ask::Epoch(_) => {}
    }
}

fn of_answer(answer: Answer) {
    match answer {
        Answer::Append(appended) => {
            for previous in [None, Some(at(3, 4).into())] {
                let last = Some(at(3, 9).into());
                if let Ok(taken) = appended.clone().into_openraft(previous, last) {
                    assert_eq!(Appended::of(taken), appended);
                }
            }
        }
        Answer::Vote(granted) => {
            assert_eq!(Granted::of(granted.clone().into_openraft()), granted);
        }
        Answer::Received(_)
        | Answer::Installed(_)
        | Answer::TakeOver { .. }
        | Answer::Outdated(_)
        | Answer::Current
        | Answer::Failed(_) => {}
    }
}

fn of_snapshot(data: &[u8]) {
    if let Ok(image) = Image::decode(data) {
        let again = image.encode().map(|bytes| Image::decode(&bytes));
        assert_eq!(again.ok().and_then(Result::ok), Some(image));
    }
}

fn of_command(bytes: Bytes) {
    let command = Command::from_bytes(bytes);
    if let Ok(proposal) = command.proposal() {
        assert!(command.is_known());
        let again = Command::of(&proposal).map(|command| command.proposal());
        assert_eq!(again.ok().and_then(Result::ok), Some(proposal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_holds() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/raft");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
        assert!(!files.is_empty(), "the corpus is empty: scripts/fuzz raft");
        for file in files {
            let path = file.unwrap().path();
            let outcome = std::panic::catch_unwind(|| check(&std::fs::read(&path).unwrap()));
            assert!(outcome.is_ok(), "{} breaks a promise", path.display());
        }
    }

    #[test]
    fn the_samples_are_right_in_every_part() {
        for sample in samples() {
            check(&sample);
            let is_one = Request::decode(&sample).is_ok()
                || Answer::decode(&sample).is_ok()
                || Image::decode(&sample).is_ok()
                || Command::from_bytes(sample.clone().into())
                    .proposal()
                    .is_ok();
            assert!(is_one, "{sample:?}");
        }
    }
}
