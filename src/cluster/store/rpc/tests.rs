//! What replicas say to each other, and what none of them can have said.

use proptest::prelude::*;

use super::*;
use crate::cluster::store::fixtures::{id, put};
use crate::cluster::store::types::Members;

fn at(term: u64, index: u64) -> LogRef {
    LogRef {
        term,
        node: id(1),
        index,
    }
}

fn ballot(term: u64, committed: bool) -> Ballot {
    Ballot {
        term,
        node: id(1),
        committed,
    }
}

fn command(term: u64, index: u64) -> EntryRecord {
    let command = Command::of(&put(index)).unwrap();
    EntryRecord {
        at: at(term, index),
        payload: PayloadRecord::Command(Blob(command.into_bytes())),
    }
}

fn append() -> Append {
    Append {
        ballot: ballot(3, true),
        previous: Some(at(2, 4)),
        committed: Some(at(2, 4)),
        entries: vec![command(2, 5), command(3, 6)],
    }
}

#[test]
fn messages_come_back_as_they_went() {
    let request = Request {
        epoch: Epoch { count: 1, id: 2 },
        ask: Ask::Append(append()),
    };
    let bytes = request.encode().unwrap();
    assert_eq!(Request::decode(&bytes).unwrap(), request);
    let answer = Answer::Append(Appended::HigherVote(ballot(4, false)));
    assert_eq!(Answer::decode(&answer.encode().unwrap()).unwrap(), answer);
}

#[test]
fn another_version_is_named() {
    let answer = Answer::Received(1).encode().unwrap();
    let mut other = answer.clone();
    other[0] = 9;
    assert!(matches!(
        Answer::decode(&other),
        Err(MessageError::Version(9))
    ));
    assert!(matches!(
        Answer::decode(&[]),
        Err(MessageError::Impossible(_))
    ));
}

#[test]
fn openraft_sees_the_same_entries() {
    let openraft = append().into_openraft().unwrap();
    assert_eq!(Append::of(openraft), append());
}

#[test]
fn impossible_entries_never_reach_openraft() {
    let refused = |change: fn(&mut Append)| {
        let mut append = append();
        change(&mut append);
        assert!(append.into_openraft().is_err());
    };
    refused(|append| append.ballot.committed = false);
    refused(|append| append.entries[1].at.index = 8);
    refused(|append| append.previous = None);
    refused(|append| append.previous = Some(at(2, 5)));
    refused(|append| append.entries[1].at.term = 1);
    refused(|append| append.ballot.term = 2);
    refused(|append| append.entries[0].payload = PayloadRecord::Command(Blob(vec![9, 9].into())));
    refused(|append| {
        append.entries[0].payload = PayloadRecord::Members(Members {
            voters: vec![Default::default()],
            learners: [id(1)].into(),
        });
    });
}

#[test]
fn terms_and_indices_beyond_all_measure_are_refused() {
    let refused = |ask| {
        let epoch = Epoch::default();
        let bytes = Request { epoch, ask }.encode().unwrap();
        assert!(matches!(
            Request::decode(&bytes),
            Err(MessageError::Impossible(_))
        ));
    };
    refused(Ask::Append(Append {
        previous: Some(at(2, u64::MAX)),
        ..append()
    }));
    refused(Ask::Vote(Candidacy {
        ballot: ballot(u64::MAX, false),
        last: None,
        transfer: false,
    }));
    let answer = Answer::Append(Appended::HigherVote(ballot(u64::MAX, false)));
    assert!(Answer::decode(&answer.encode().unwrap()).is_err());
}

#[test]
fn impossible_answers_never_reach_openraft() {
    let (previous, last) = (Some(at(2, 4).into()), Some(at(2, 9).into()));
    let upto = |index| Appended::Upto(Some(at(2, index)));
    assert!(upto(6).into_openraft(previous, last).is_ok());
    assert!(upto(10).into_openraft(previous, last).is_err());
    assert!(upto(3).into_openraft(previous, last).is_err());
    assert!(Appended::Conflict.into_openraft(previous, last).is_ok());
    assert!(Appended::Conflict.into_openraft(None, last).is_err());
}

#[test]
fn who_leads_already_does_not_run() {
    let candidacy = Candidacy {
        ballot: ballot(3, true),
        last: None,
        transfer: false,
    };
    assert!(candidacy.into_openraft().is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Answer::decode(&bytes);
        if let Ok(Request { ask: Ask::Append(append), .. }) = Request::decode(&bytes) {
            let _ = append.into_openraft();
        }
    }

    /// Damage to a real message is refused, or decodes to something that openraft may see.
    #[test]
    fn no_flipped_message_panics(at: prop::sample::Index, bits: u8) {
        let request = Request { epoch: Epoch::default(), ask: Ask::Append(append()) };
        let mut bytes = request.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(Request { ask: Ask::Append(append), .. }) = Request::decode(&bytes) {
            let _ = append.into_openraft();
        }
    }
}
