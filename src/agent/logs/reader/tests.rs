//! A log is read whole and in order, from its end or a time, while it is written and rotated.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::agent::logs::file::{Encoder, LogFile};
use crate::agent::logs::options::Rotation;
use crate::agent::logs::{Record, json, local, rotation};
use crate::model::Timestamp;

/// No test waits longer for a line.
const DEADLINE: Duration = Duration::from_secs(20);

struct Log {
    dir: TempDir,
    driver: Driver,
    file: Option<LogFile>,
}

impl Log {
    fn new(driver: Driver, max_size: Option<u64>, max_files: u32, compress: bool) -> Self {
        let mut log = Self {
            dir: tempfile::tempdir().unwrap(),
            driver,
            file: None,
        };
        let encoder = match driver {
            Driver::Local => Encoder::Local(local::Encoder::default()),
            _ => Encoder::Json(json::Encoder::default()),
        };
        let rotation = Rotation {
            max_size,
            max_files,
            compress,
        };
        log.file = Some(LogFile::new(log.path(), rotation, encoder));
        log
    }

    fn path(&self) -> PathBuf {
        log_path(self.dir.path(), self.driver).unwrap()
    }

    /// Writes lines `from..to`, each at the second of its number; odd ones on standard error.
    fn write(&mut self, numbers: std::ops::Range<u64>) {
        let file = self.file.as_mut().unwrap();
        for number in numbers {
            file.write(&Record {
                at: second(number),
                origin: if number % 2 == 0 {
                    Origin::Stdout
                } else {
                    Origin::Stderr
                },
                text: number.to_string().as_bytes(),
                part: None,
            });
        }
        file.flush();
    }

    /// As [`Self::write`], each line at once.
    fn trickle(&mut self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| self.write(number..number + 1));
    }

    fn close(&mut self) {
        self.file.take().unwrap().close();
    }

    fn open(&self, options: ReadOptions, ended: &CancellationToken) -> Lines {
        read(self.dir.path(), self.driver, options, ended.clone()).unwrap()
    }

    async fn numbers(&self, options: ReadOptions) -> Vec<u64> {
        let lines = self.open(options, &CancellationToken::new());
        lines.map(|line| number(&line.unwrap())).collect().await
    }
}

fn second(number: u64) -> Timestamp {
    Timestamp::from_nanos(i128::from(number) * 1_000_000_000)
}

fn number(line: &LogLine) -> u64 {
    std::str::from_utf8(&line.line)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

async fn next(lines: &mut Lines) -> u64 {
    let line = tokio::time::timeout(DEADLINE, lines.next()).await;
    number(&line.expect("a line in time").expect("a line").unwrap())
}

const DRIVERS: [Driver; 2] = [Driver::JsonFile, Driver::Local];

#[tokio::test]
async fn what_was_written_is_read_across_all_files() {
    for driver in DRIVERS {
        for compress in [false, true] {
            let mut log = Log::new(driver, Some(2000), 1000, compress);
            log.trickle(0..500);
            log.close();
            assert!(rotation::parts(&log.path()).unwrap().len() > 2);
            let all: Vec<u64> = (0..500).collect();
            assert_eq!(log.numbers(ReadOptions::default()).await, all);
            for tail in [0, 1, 7, 100, 499, 500, 501, u64::MAX] {
                let expected = &all[500 - tail.min(500) as usize..];
                let options = ReadOptions {
                    tail: Some(tail),
                    ..ReadOptions::default()
                };
                assert_eq!(
                    log.numbers(options).await,
                    expected,
                    "{driver:?} {compress} {tail}"
                );
            }
        }
    }
}

#[tokio::test]
async fn streams_and_times_choose() {
    for driver in DRIVERS {
        let mut log = Log::new(driver, Some(500), 100, true);
        log.trickle(0..100);
        log.close();
        let options = ReadOptions {
            since: Some(second(40)),
            until: Some(second(50)),
            stdout: false,
            ..ReadOptions::default()
        };
        assert_eq!(log.numbers(options.clone()).await, [41, 43, 45, 47, 49]);
        let tail = ReadOptions {
            tail: Some(55),
            ..options
        };
        assert_eq!(
            log.numbers(tail).await,
            [45, 47, 49],
            "counted before chosen"
        );
    }
}

#[tokio::test]
async fn a_log_that_is_not_there_is_empty_and_none_cannot_be_read() {
    let log = Log::new(Driver::JsonFile, None, 1, false);
    fs::remove_file(log.path()).unwrap();
    assert_eq!(log.numbers(ReadOptions::default()).await, [0; 0]);
    let options = ReadOptions::default();
    let refused = read(
        log.dir.path(),
        Driver::None,
        options,
        CancellationToken::new(),
    );
    let words = "configured logging driver does not support reading";
    assert_eq!(refused.unwrap_err().to_string(), words);
}

#[tokio::test]
async fn a_follower_sees_what_comes_through_rotations_and_ends_with_the_container() {
    for driver in DRIVERS {
        for (max_files, compress) in [(1000, false), (1000, true)] {
            let mut log = Log::new(driver, Some(700), max_files, compress);
            log.write(0..5);
            let ended = CancellationToken::new();
            let options = ReadOptions {
                follow: true,
                tail: Some(2),
                ..ReadOptions::default()
            };
            let mut lines = log.open(options, &ended);
            assert_eq!(next(&mut lines).await, 3);
            assert_eq!(next(&mut lines).await, 4);
            for from in (5..200).step_by(15) {
                log.trickle(from..from + 15);
                for expected in from..from + 15 {
                    assert_eq!(next(&mut lines).await, expected);
                }
            }
            log.write(200..201);
            log.close();
            ended.cancel();
            assert_eq!(next(&mut lines).await, 200);
            let end = tokio::time::timeout(DEADLINE, lines.next()).await;
            assert!(end.expect("it ends in time").is_none());
        }
    }
}

#[tokio::test]
async fn a_follower_that_fell_behind_loses_nothing_that_is_kept() {
    let mut log = Log::new(Driver::JsonFile, Some(2000), 1000, true);
    log.write(0..3);
    let ended = CancellationToken::new();
    let mut lines = log.open(
        ReadOptions {
            follow: true,
            ..ReadOptions::default()
        },
        &ended,
    );
    for expected in 0..3 {
        assert_eq!(next(&mut lines).await, expected);
    }
    // The file that it is in becomes an old one, and is compressed and gone under its name.
    log.trickle(3..400);
    log.close();
    assert!(rotation::parts(&log.path()).unwrap().len() > 2);
    for expected in 3..400 {
        assert_eq!(next(&mut lines).await, expected);
    }
}

#[tokio::test]
async fn a_follower_begins_before_the_log_does() {
    for driver in DRIVERS {
        let mut log = Log::new(driver, None, 1, false);
        fs::remove_file(log.path()).unwrap();
        let path = log.path();
        log.file = None;
        let ended = CancellationToken::new();
        let mut lines = log.open(
            ReadOptions {
                follow: true,
                ..ReadOptions::default()
            },
            &ended,
        );
        let write = async {
            let encoder = match driver {
                Driver::Local => Encoder::Local(local::Encoder::default()),
                _ => Encoder::Json(json::Encoder::default()),
            };
            let rotation = Rotation {
                max_size: None,
                max_files: 1,
                compress: false,
            };
            log.file = Some(LogFile::new(path, rotation, encoder));
            log.write(0..1);
        };
        let (first, ()) = tokio::join!(next(&mut lines), write);
        assert_eq!(first, 0);
    }
}

#[tokio::test]
async fn what_is_no_record_is_passed_over() {
    for driver in DRIVERS {
        let mut log = Log::new(driver, None, 1, false);
        log.write(0..2);
        let good = fs::read(log.path()).unwrap();
        for junk in [
            &b"\0\0\0\0\0\0\0\0\n"[..],
            b"{\"log\":\n",
            b"\n\n",
            b"\0\0\0\x05hello\0\0\0\x06\n",
        ] {
            fs::write(log.path(), [&good, junk, &good].concat()).unwrap();
            let seen = log.numbers(ReadOptions::default()).await;
            assert_eq!(seen, [0, 1, 0, 1], "{driver:?} {junk:?}");
        }
    }
}

#[tokio::test]
async fn a_tail_does_not_read_the_whole_file() {
    for driver in DRIVERS {
        let mut log = Log::new(driver, None, 1, false);
        log.write(0..10);
        let file = fs::OpenOptions::new()
            .append(true)
            .open(log.path())
            .unwrap();
        // A hole of a terabyte before the end would take minutes to read.
        let size = file.metadata().unwrap().len();
        let end = fs::read(log.path()).unwrap();
        if file.set_len(1 << 40).is_err() {
            eprintln!("skipped: the file system has no files of a terabyte");
            return;
        }
        let mut file = &file;
        io::Write::write_all(&mut file, b"\n").unwrap();
        io::Write::write_all(&mut file, &end).unwrap();
        assert!(file.metadata().unwrap().len() > size + (1 << 40) - 1);
        let options = ReadOptions {
            tail: Some(3),
            ..ReadOptions::default()
        };
        let seen = tokio::time::timeout(DEADLINE, log.numbers(options)).await;
        assert_eq!(seen.expect("in time"), [7, 8, 9]);
    }
}

#[tokio::test]
async fn a_log_that_another_emptied_is_followed_on() {
    let mut log = Log::new(Driver::JsonFile, None, 1, false);
    log.write(0..10);
    let ended = CancellationToken::new();
    let mut lines = log.open(
        ReadOptions {
            follow: true,
            ..ReadOptions::default()
        },
        &ended,
    );
    for expected in 0..10 {
        assert_eq!(next(&mut lines).await, expected);
    }
    fs::OpenOptions::new()
        .write(true)
        .open(log.path())
        .unwrap()
        .set_len(0)
        .unwrap();
    log.write(3..4);
    assert_eq!(next(&mut lines).await, 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reading_beside_a_writer_loses_nothing(
        chunks in prop::collection::vec(1_u64..60, 1..12),
        max_size in 200_u64..3000,
        compress: bool,
        local: bool,
    ) {
        let driver = if local { Driver::Local } else { Driver::JsonFile };
        let total: u64 = chunks.iter().sum();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(async {
            let mut log = Log::new(driver, Some(max_size), 10_000, compress);
            let ended = CancellationToken::new();
            let options = ReadOptions { follow: true, ..ReadOptions::default() };
            let lines = log.open(options, &ended);
            let writer = std::thread::spawn(move || {
                let mut from = 0;
                for chunk in chunks {
                    log.trickle(from..from + chunk);
                    from += chunk;
                }
                log.close();
                ended.cancel();
                log
            });
            let seen: Vec<u64> = lines.map(|line| number(&line.unwrap())).collect().await;
            drop(writer.join());
            seen
        });
        prop_assert_eq!(seen, (0..total).collect::<Vec<_>>());
    }
}
