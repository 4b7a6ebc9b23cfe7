//! What is written comes back whole, across rotations, torn ends and disks that are full.

use std::fs;
use std::path::Path;

use super::*;
use crate::agent::logs::LogLine;

fn encoder(local: bool) -> Encoder {
    if local {
        Encoder::Local(local::Encoder::default())
    } else {
        Encoder::Json(json::Encoder::default())
    }
}

fn rotation(max_size: Option<u64>, max_files: u32, compress: bool) -> Rotation {
    Rotation {
        max_size,
        max_files,
        compress,
    }
}

fn write_numbers(log: &mut LogFile, numbers: std::ops::Range<u32>) {
    for number in numbers {
        log.write(&Record {
            at: Timestamp::from_nanos(number.into()),
            origin: Origin::Stdout,
            text: number.to_string().as_bytes(),
            part: None,
        });
    }
}

fn lines(path: &Path, local: bool) -> Vec<LogLine> {
    let bytes = fs::read(path).unwrap();
    if !local {
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        return lines
            .map(|line| json::decode(line).expect("every line is whole"))
            .collect();
    }
    let mut rest = bytes.as_slice();
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (line, used) = local::decode(rest).expect("every record is whole");
        lines.push(line);
        rest = &rest[used..];
    }
    lines
}

fn numbers(path: &Path, local: bool) -> Vec<u32> {
    let lines = lines(path, local);
    let number = |line: &LogLine| std::str::from_utf8(&line.line).unwrap().trim().parse();
    lines.iter().map(|line| number(line).unwrap()).collect()
}

#[test]
fn a_full_file_gives_way_to_a_new_one() {
    for local in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep").join("x.log");
        let mut log = LogFile::new(path.clone(), rotation(Some(1000), 3, false), encoder(local));
        write_numbers(&mut log, 0..100);
        log.close();
        let mut seen = Vec::new();
        for path in [
            rotation::older(&path, 2),
            rotation::older(&path, 1),
            path.clone(),
        ] {
            let size = fs::metadata(&path).unwrap().len();
            assert!(
                size < 1100,
                "at most one record more than the limit: {size}"
            );
            seen.extend(numbers(&path, local));
        }
        assert_eq!(seen.last(), Some(&99));
        assert!(
            seen.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{seen:?}"
        );
        assert_eq!(rotation::parts(&path).unwrap().len(), 2);
    }
}

#[test]
fn older_files_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut log = LogFile::new(path.clone(), rotation(Some(1000), 5, true), encoder(false));
    write_numbers(&mut log, 0..60);
    log.close();
    let parts = rotation::parts(&path).unwrap();
    assert!(!parts.is_empty());
    assert!(
        parts.values().all(|forms| forms.squeezed && !forms.plain),
        "{parts:?}"
    );
}

#[test]
fn a_torn_end_is_cut_off() {
    for local in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let endless = rotation(None, 1, false);
        let mut log = LogFile::new(path.clone(), endless, encoder(local));
        write_numbers(&mut log, 0..3);
        log.close();
        let whole = fs::read(&path).unwrap();
        for torn in 0..whole.len() {
            fs::write(&path, &whole[..torn]).unwrap();
            let mut log = LogFile::new(path.clone(), endless, encoder(local));
            write_numbers(&mut log, 7..8);
            log.close();
            let seen = numbers(&path, local);
            assert_eq!(seen.last(), Some(&7), "cut at {torn}");
            assert!(seen.len() < 4);
            assert!(
                seen[..seen.len() - 1]
                    .iter()
                    .enumerate()
                    .all(|(n, seen)| n == *seen as usize)
            );
        }
    }
}

#[test]
fn what_cannot_be_written_is_counted_and_told() {
    for local in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        // A directory in the file's place: nothing can be opened there.
        fs::create_dir(&path).unwrap();
        let mut log = LogFile::new(path.clone(), rotation(None, 1, false), encoder(local));
        write_numbers(&mut log, 0..5);
        log.flush();
        write_numbers(&mut log, 5..7);
        log.flush();
        fs::remove_dir(&path).unwrap();
        write_numbers(&mut log, 7..9);
        log.close();
        let lines = lines(&path, local);
        assert_eq!(lines.len(), 3);
        let note = String::from_utf8(lines[0].line.to_vec()).unwrap();
        assert!(
            note.starts_with("skein: 7 lines were lost here: Is a directory"),
            "{note}"
        );
        assert_eq!(lines[0].stream, Origin::Stderr);
        assert_eq!(lines[2].line, "8\n");
    }
}
