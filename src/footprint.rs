//! How much of this program is mapped: the parts that it uses, and no more.
//!
//! For each page that is touched the kernel maps those around it as well, which spares a short run a few faults and
//! has one that goes on for months hold most of a large program. Called once by each command that stays. Nothing
//! depends on it: it advises.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::mman::{MmapAdvise, madvise};

/// Where this program's own file is found.
const PROGRAM: &str = "/proc/self/exe";

/// Has only the pages of this program mapped that are used from now on. The file is read ahead as a whole instead, so
/// that a disk which seeks slowly is not asked for each page.
pub(crate) fn map_what_is_used() -> io::Result<()> {
    let program = fs::read_link(PROGRAM)?;
    posix_fadvise(
        File::open(PROGRAM)?,
        0,
        0,
        PosixFadviseAdvice::POSIX_FADV_WILLNEED,
    )?;
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some((start, length)) = part_of(&program, line) {
            advise(start, length)?;
        }
    }
    Ok(())
}

/// Where a part of the program lies in memory that nothing writes to, when the line names one.
fn part_of(program: &Path, line: &str) -> Option<(NonZeroUsize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if !rights.starts_with("r-") || Path::new(path) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some((NonZeroUsize::new(start)?, end.checked_sub(start)?))
}

#[expect(unsafe_code, reason = "no safe call says how memory will be used")]
fn advise(start: NonZeroUsize, length: usize) -> nix::Result<()> {
    let start = std::ptr::NonNull::with_exposed_provenance(start);
    // SAFETY: the advice changes what is read ahead, and nothing that is read.
    unsafe { madvise(start, length, MmapAdvise::MADV_RANDOM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_writes_to_is_a_part() {
        let of = |line: &str| part_of(Path::new("/usr/bin/skein"), line);
        let code = "5600001000-5600003000 r-xp 00001000 fe:00 77    /usr/bin/skein";
        let start = NonZeroUsize::new(0x56_0000_1000).unwrap();
        assert_eq!(of(code), Some((start, 0x2000)));
        assert!(of(&code.replace("r-xp", "r--p")).is_some());
        assert_eq!(of(&code.replace("r-xp", "rw-p")), None);
        assert_eq!(of(&code.replace("skein", "other")), None);
        assert_eq!(of("7f00-7f10 r--p 0 00:00 0 [vvar]"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn this_program_goes_on() {
        map_what_is_used().unwrap();
    }
}
