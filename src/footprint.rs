//! How much of this program's code is in its memory: the parts that it goes on using, not all that its start needed.
//!
//! What a process has touched once stays mapped, and the kernel maps what lies around it as well. A daemon goes through
//! most of its code while it starts, and then runs for months on a small part of it. Run beside the daemon by the
//! command that starts it. Nothing depends on it: code that was let go and is needed after all comes back from the
//! kernel's cache of the file, at a fault a piece.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// Where this program's own file is found.
const PROGRAM: &str = "/proc/self/exe";

/// By then a daemon has started, and mostly joined its cluster.
const FIRST: Duration = Duration::from_secs(20);

/// What a command or an hour of work needed is let go within this.
const EVERY: Duration = Duration::from_secs(600);

/// Lets go of the code that is not used, again and again. Ends never.
pub(crate) async fn keep_small() -> Infallible {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        if let Err(error) = let_go() {
            tracing::debug!(%error, "more of the program stays in memory than is used");
        }
        pause = EVERY;
    }
}

fn let_go() -> io::Result<()> {
    let program = fs::read_link(PROGRAM)?;
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, length)) = code_of(&program, line) {
            unmap(start, length)?;
        }
    }
    Ok(())
}

/// Where the program's code lies, when the line names a part of it. Nothing else will do: of data, also of such as is
/// only read by now, the file has not what was written since.
fn code_of(program: &Path, line: &str) -> Option<(NonZeroUsize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if rights != "r-xp" || Path::new(path) != program {
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
    // SAFETY: this is code as it is in the program's file, which cannot be written to while the program runs: what is
    // dropped is read from there again.
    unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_let_go() {
        let of = |line: &str| code_of(Path::new("/usr/bin/skein"), line);
        let code = "5600001000-5600003000 r-xp 00001000 fe:00 77    /usr/bin/skein";
        let start = NonZeroUsize::new(0x56_0000_1000).unwrap();
        assert_eq!(of(code), Some((start, 0x2000)));
        // Read-only data may have been written to before: addresses are put into it at the start.
        assert_eq!(of(&code.replace("r-xp", "r--p")), None);
        assert_eq!(of(&code.replace("r-xp", "rw-p")), None);
        assert_eq!(of(&code.replace("r-xp", "rwxp")), None);
        assert_eq!(of(&code.replace("skein", "other")), None);
        assert_eq!(of("7f00-7f10 r--p 0 00:00 0 [vvar]"), None);
        assert_eq!(of(""), None);
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

    fn mapped_of_files() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("RssFile:"));
        let kib = line.unwrap().trim().trim_end_matches("kB").trim();
        kib.parse().unwrap()
    }
}
