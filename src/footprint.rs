//! How much memory this program keeps: the code that it goes on using, not all that its start needed, and what it has
//! allocated, not what it has given back.
//!
//! What a process has touched once stays mapped, and the kernel maps what lies around it as well. A daemon goes through
//! most of its code while it starts, and then runs for months on a small part of it. Run beside the daemon by the
//! command that starts it. Nothing depends on it: code that was let go and is needed after all comes back from the
//! kernel's cache of the file, at a fault a piece. And of freed memory the allocator returns only what lies at the end of
//! each of its heaps: one small piece above it keeps the megabytes in which an image was made or a snapshot installed.

use std::convert::Infallible;
use std::fs;
use std::future;
use std::io;
use std::iter;
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// Where this program's own file is found.
const PROGRAM: &str = "/proc/self/exe";

/// By then a daemon has started, and mostly joined its cluster.
const FIRST: Duration = Duration::from_secs(20);

/// By then one has that was busy, or joined late.
const SECOND: Duration = Duration::from_secs(60);

/// What a command or an hour of work needed is let go within this.
const EVERY: Duration = Duration::from_secs(600);

/// Lets go of what is not used, again and again. Ends never.
pub(crate) async fn keep_small() -> Infallible {
    let pauses = [FIRST, SECOND].into_iter().chain(iter::repeat(EVERY));
    for pause in pauses {
        tokio::time::sleep(pause).await;
        return_freed();
        if let Err(error) = let_go() {
            tracing::debug!(%error, "more of the program stays in memory than is used");
        }
    }
    future::pending().await
}

/// Returns the whole pages of freed memory to the kernel, wherever they lie. Takes some milliseconds.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no safe call reaches the allocator")]
fn return_freed() {
    // SAFETY: it may be called at any time from any thread, and touches only memory that nobody has allocated.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Other allocators see to it themselves.
#[cfg(not(target_env = "gnu"))]
fn return_freed() {}

fn let_go() -> io::Result<()> {
    let program = fs::read_link(PROGRAM)?;
    for (start, length) in unchanged(&program, &fs::read_to_string("/proc/self/smaps")?) {
        unmap(start, length)?;
    }
    Ok(())
}

/// Where parts of the program's file lie that nobody may write to and nobody has written to. Nothing else will do: of data,
/// also of such as is only read by now, the file has not what was written since.
fn unchanged(program: &Path, listed: &str) -> Vec<(NonZeroUsize, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for line in listed.lines() {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            last = part_of(program, line);
        } else if first == "Anonymous:" && line.ends_with(" 0 kB") {
            found.extend(last.take());
        }
    }
    found
}

/// A part of the program that is not written to, when the line begins what is said of one.
fn part_of(program: &Path, line: &str) -> Option<(NonZeroUsize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if !["r-xp", "r--p"].contains(&rights) || Path::new(path) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some((NonZeroUsize::new(start)?, end.checked_sub(start)?))
}

#[expect(unsafe_code, reason = "no safe call says how memory will be used")]
fn unmap(start: NonZeroUsize, length: usize) -> nix::Result<()> {
    let start = NonNull::with_exposed_provenance(start);
    // SAFETY: this is as it is in the program's file, which cannot be written to while the program runs: what is dropped is
    // read from there again.
    unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_let_go() {
        let of = |rights: &str, path: &str, written: &str| {
            let listed = format!(
                "5600001000-5600003000 {rights} 00001000 fe:00 77    {path}\nSize: 8 kB\nRss: 8 kB\nAnonymous:   {written} kB\n"
            );
            unchanged(Path::new("/usr/bin/skein"), &listed)
        };
        let start = NonZeroUsize::new(0x56_0000_1000).unwrap();
        assert_eq!(of("r-xp", "/usr/bin/skein", "0"), [(start, 0x2000)]);
        assert_eq!(of("r--p", "/usr/bin/skein", "0"), [(start, 0x2000)]);
        // Addresses were put into it at the start.
        assert_eq!(of("r--p", "/usr/bin/skein", "4"), []);
        assert_eq!(of("rw-p", "/usr/bin/skein", "0"), []);
        assert_eq!(of("r-xp", "/usr/bin/other", "0"), []);
        let two = "5600001000-5600003000 r-xp 00001000 fe:00 77    /usr/bin/skein\n\
                   7f00-7f10 r--p 0 00:00 0 [vvar]\nAnonymous: 0 kB\n";
        assert_eq!(unchanged(Path::new("/usr/bin/skein"), two), []);
        assert_eq!(unchanged(Path::new("/usr/bin/skein"), ""), []);
    }

    #[test]
    fn this_program_goes_on_with_less_of_it() {
        let before = mapped_of_files();
        // Others run beside this and map theirs again.
        let less = (0..20).any(|_| {
            let_go().unwrap();
            mapped_of_files() < before
        });
        assert!(less, "{before} kB were mapped before");
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn memory_that_was_freed_below_something_small_goes_back() {
        const PIECE: usize = 64 << 10;
        let pieces: Vec<Vec<u8>> = (0..512).map(|_| vec![7; PIECE]).collect();
        let last = Box::new([7u8; 64]);
        drop(pieces);
        let before = resident("RssAnon:");
        // Others run beside this and allocate meanwhile.
        let less = (0..20).any(|_| {
            return_freed();
            resident("RssAnon:") + 8 * 1024 < before
        });
        let given_back = resident("RssAnon:") < 32 * 1024;
        assert!(less || given_back, "{before} kB were resident before");
        drop(last);
    }

    fn mapped_of_files() -> u64 {
        resident("RssFile:")
    }

    fn resident(what: &str) -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(what));
        let kib = line.unwrap().trim().trim_end_matches("kB").trim();
        kib.parse().unwrap()
    }
}
