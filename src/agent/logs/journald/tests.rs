//! What the journal is sent, seen by a socket in its place.

use super::*;
use crate::agent::logs::Part;
use crate::model::Timestamp;

fn subject() -> Subject {
    Subject {
        id: "0123456789abcdef".repeat(4),
        name: "web".into(),
        labels: [("com.x-y".into(), "two\nlines".into())].into(),
        ..Subject::default()
    }
}

fn record(text: &[u8]) -> Record<'_> {
    Record {
        at: Timestamp::from_nanos(1_700_000_000_000_000_000),
        origin: Origin::Stderr,
        text,
        part: None,
    }
}

fn received(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn a_message_has_dockers_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = UnixDatagram::bind(&path).unwrap();
    let attached = Attached {
        labels: vec!["com.x-y".into()],
        tag: Some("{{.Name}}!".into()),
        ..Attached::default()
    };
    let mut journal = Journal::new(&path, &subject(), &attached);
    journal.write(&Record {
        part: Some(Part {
            id: 1,
            ordinal: 2,
            last: false,
        }),
        ..record(b"hello")
    });
    let expected = format!(
        "MESSAGE=hello\nPRIORITY=3\nSYSLOG_TIMESTAMP=2023-11-14T22:13:20Z\nCONTAINER_PARTIAL_MESSAGE=true\n\
         CONTAINER_PARTIAL_ID=0000000000000001\nCONTAINER_PARTIAL_ORDINAL=2\nCONTAINER_PARTIAL_LAST=false\n\
         CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL={}\nCONTAINER_NAME=web\nCONTAINER_TAG=web!\nIMAGE_NAME=\n\
         SYSLOG_IDENTIFIER=web!\nCOM_X_Y\n\u{9}\0\0\0\0\0\0\0two\nlines\n",
        subject().id
    );
    assert_eq!(String::from_utf8(received(&server)).unwrap(), expected);
}

#[test]
fn a_journal_that_is_away_loses_lines_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut journal = Journal::new(&path, &subject(), &Attached::default());
    journal.write(&record(b"1"));
    journal.write(&record(b"2"));
    let server = UnixDatagram::bind(&path).unwrap();
    journal.write(&record(b"3"));
    let note = String::from_utf8(received(&server)).unwrap();
    assert!(
        note.starts_with("MESSAGE=skein: 2 lines were lost here: journald: No such file"),
        "{note}"
    );
    assert!(received(&server).starts_with(b"MESSAGE=3\n"));
}

#[test]
fn a_message_too_large_for_a_datagram_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = UnixDatagram::bind(&path).unwrap();
    let huge = Attached {
        labels: vec!["huge".into()],
        ..Attached::default()
    };
    let mut subject = subject();
    subject.labels.insert("huge".into(), "x".repeat(2 << 20));
    Journal::new(&path, &subject, &huge).write(&record(b"x"));
    assert_eq!(received(&server), b"");
}

#[test]
fn field_names_are_made_fit() {
    for (name, expected) in [("com.x-1", "COM_X_1"), ("__a", "A"), ("ä", ""), ("_", "")] {
        assert_eq!(field_name(name), expected);
    }
}
